"""`updown ground`: what the pipeline finds, pictures, JSON, and mistakes in one sentence."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from transformers import pipeline

from tests import tiny
from training import cli

TEXT = "a brown dog runs through the grass"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_tiny_grounding(tmp_path_factory.mktemp("grounder"))


@pytest.fixture
def image(tmp_path: Path) -> Path:
    tiny.tiny_image(3).save(tmp_path / "dog.png")
    return tmp_path / "dog.png"


def run(*arguments: Any) -> int:
    return cli.main(["ground", *(str(argument) for argument in arguments)])


def lines_of(found: list[dict[str, Any]]) -> list[str]:
    lines = []
    for phrase in found:
        lines.append(phrase["phrase"])
        for one in phrase["boxes"]:
            x1, y1, x2, y2 = one["box"].values()
            lines.append(f"  {one['score']:.3f} at {x1},{y1} to {x2},{y2} pixels")
    return lines


def test_it_says_what_the_pipeline_finds(model: Path, image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ground = pipeline("phrase-grounding", model=str(model))
    assert run(image, "the brown dog", "--model", model) == 0
    assert capsys.readouterr().out.splitlines() == lines_of(ground(str(image), "the brown dog"))
    picture, written = image.with_name("found.png"), image.with_name("found.json")
    more = ["--phrase", "a brown dog", "--phrase", "the grass", "--top-k", 2, "--draw", picture, "--json", written]
    assert run(image, TEXT, "--model", model, *more) == 0
    found = ground(str(image), TEXT, phrases=["a brown dog", "the grass"], top_k=2)
    assert capsys.readouterr().out.splitlines() == [*lines_of(found), f"  drawn: {picture}"]
    assert json.loads(written.read_text()) == json.loads(json.dumps(found))
    assert max(Image.open(picture).size) == 1000
    assert run(image, TEXT, "--model", model, "--phrases") == 0
    named = ground(str(image), TEXT, phrases=["a brown dog", "the grass"])
    assert capsys.readouterr().out.splitlines() == lines_of(named)


def test_mistakes_take_one_sentence(
    model: Path, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.png").write_bytes(b"no image")
    answers = tiny.save_tiny_fusion_vqa(tmp_path / "answers")
    blind = tiny.save_tiny_grounding(tmp_path / "blind", vision_config=None, region_feature_size=96)
    for arguments, message in (
        ([image, TEXT, "--phrase", "a cat", "--model", model], "the phrase 'a cat' is not in 'a brown dog"),
        ([image, " ", "--model", model], "the text is empty"),
        ([image, TEXT, "--model", model, "--draw", tmp_path / "found.xyz"], "name it with the ending"),
        ([tmp_path / "absent.png", TEXT, "--model", model], "absent.png"),
        ([tmp_path / "broken.png", TEXT, "--model", model], "broken.png"),
        ([image, TEXT, "--model", answers], "but UpDownFusionForGrounding (type 'updown_fusion') is wanted"),
        ([image, TEXT, "--model", blind], "no detector of its own"),
        ([image, "it is there", "--phrases", "--model", model], "no noun was found in 'it is there'"),
    ):
        assert run(*arguments) == 2, message
        said = capsys.readouterr()
        assert message in said.err and said.err.count("\n") == 1 and not said.out
