"""`updown describe`: what the pipeline says, pictures, JSON, and mistakes in one sentence."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from transformers import pipeline

from tests import tiny
from training import cli
from training.shipped import DEMO_FOLDER


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_tiny_dense_captioner(tmp_path_factory.mktemp("describer"))


@pytest.fixture
def image(tmp_path: Path) -> Path:
    tiny.tiny_image(3).save(tmp_path / "dog.png")
    return tmp_path / "dog.png"


def run(*arguments: Any) -> int:
    return cli.main(["describe", *(str(argument) for argument in arguments)])


def lines_of(found: list[dict[str, Any]]) -> list[str]:
    lines = []
    for one in found:
        x1, y1, x2, y2 = one["box"].values()
        lines.append(f"{one['score']:.3f} {one['text']} at {x1},{y1} to {x2},{y2} pixels")
    return lines


def test_it_says_what_the_pipeline_says(model: Path, image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    describe = pipeline("dense-captioning", model=str(model))
    assert run(image, "--model", model) == 0
    assert capsys.readouterr().out.splitlines() == lines_of(describe(str(image), top_k=10))
    picture, written = image.with_name("described.png"), image.with_name("described.json")
    more = ["--top-k", 4, "--num-beams", 2, "--nms-iou", 1, "--draw", picture, "--json", written]
    assert run(image, "--model", model, *more) == 0
    found = describe(str(image), top_k=4, num_beams=2, nms_iou=1.0)
    assert len(found) == 4
    assert capsys.readouterr().out.splitlines() == [*lines_of(found), f"  drawn: {picture}"]
    assert json.loads(written.read_text()) == json.loads(json.dumps(found))
    assert max(Image.open(picture).size) == 1000


def test_mistakes_take_one_sentence(
    model: Path, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.png").write_bytes(b"no image")
    captioner = tiny.save_tiny_captioner(tmp_path / "captioner")
    blind = tiny.save_tiny_dense_captioner(tmp_path / "blind", vision_config=None, region_feature_size=96)
    for arguments, message in (
        ([image, "--model", model, "--draw", tmp_path / "found.xyz"], "name it with the ending"),
        ([tmp_path / "absent.png", "--model", model], "absent.png"),
        ([tmp_path / "broken.png", "--model", model], "broken.png"),
        ([image, "--model", captioner], "but UpDownForDenseCaptioning (type 'updown_captioning') is wanted"),
        ([image, "--model", blind], "no region source of its own"),
    ):
        assert run(*arguments) == 2, message
        said = capsys.readouterr()
        assert message in said.err and said.err.count("\n") == 1 and not said.out
    with pytest.raises(SystemExit):
        run(image, "--model", model, "--nms-iou", "2")
    assert "'2' is no overlap above 0 and up to 1" in capsys.readouterr().err


def test_the_published_model_tells_what_is_on_the_beach(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(DEMO_FOLDER / "riders.jpg", "--top-k", 2) == 0
    assert [line.partition(" at ")[0] for line in capsys.readouterr().out.splitlines()] == [
        "0.654 the beach",
        "0.642 a brown horse",
    ]
