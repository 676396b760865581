"""`updown entail`: what the pipelines judge, JSON, and mistakes in one sentence."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import pipeline

from tests import tiny
from training import cli
from training.shipped import DEMO_FOLDER

TEXTS = ["a brown dog runs", "two men ride a wave"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_tiny_entailment(tmp_path_factory.mktemp("entailment"))


@pytest.fixture
def image(tmp_path: Path) -> Path:
    for number in range(2):
        tiny.tiny_image(number).save(tmp_path / f"{number}.png")
    return tmp_path / "0.png"


def run(*arguments: Any) -> int:
    return cli.main(["entail", *(str(argument) for argument in arguments)])


def lines_of(found: list[dict[str, Any]]) -> list[str]:
    lines = []
    for one in found:
        pairs = zip(one["labels"], one["scores"], strict=True)
        lines += [one["sequence"], *(f"  {label:<28} {score:.3f}" for label, score in pairs)]
    return lines


def test_it_says_what_the_pipeline_judges(model: Path, image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = pipeline("visual-entailment", model=str(model))(str(image), TEXTS)
    written = image.with_name("found.json")
    assert run(image, *TEXTS, "--model", model, "--json", written) == 0
    assert capsys.readouterr().out.splitlines() == lines_of(found) and len(lines_of(found)) == 8
    assert json.loads(written.read_text()) == found


def test_a_statement_about_two_images(image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs = tiny.save_tiny_pairs(tmp_path / "pairs")
    images = [str(image), str(image.with_name("1.png"))]
    found = pipeline("visual-reasoning", model=str(pairs))(images, TEXTS[:1])
    assert run(images[0], TEXTS[0], "--with", images[1], "--model", pairs) == 0
    assert capsys.readouterr().out.splitlines() == lines_of(found)
    assert run(images[0], TEXTS[0], "--model", pairs) == 2
    said = capsys.readouterr().err
    assert "1 images are given, but this UpDownFusionForImagePairs reads 2 together" in said and "by --with" in said
    assert run(*images, TEXTS[0], "--model", pairs) == 2
    assert f"{images[1]} is an image, not a statement: name a further image by --with" in capsys.readouterr().err


def test_mistakes_take_one_sentence(model: Path, image: Path, tmp_path: Path, capsys: Any) -> None:
    answers = tiny.save_tiny_fusion_vqa(tmp_path / "answers")
    for arguments, message in (
        ([image, " ", "--model", model], "a statement is empty"),
        (["gone.png", "a dog", "--model", model], "there is no image at gone.png"),
        ([image, "a dog", "--model", answers], "UpDownFusionForVisualEntailment (type 'updown_fusion') is wanted"),
        ([image, "a dog", "--model", tmp_path / "absent"], "there is no model folder"),
        ([image, "a dog", "--model", model, "--json", tmp_path], "is a folder"),
        ([image, "a dog", "--with", image, "--model", model], "2 images are given"),
        ([image, "gone.png", "--model", model], "gone.png is an image, not a statement"),
        ([image, "a dog", "--model", model, "--regions", model], "this model owns the region source"),
    ):
        assert run(*arguments) == 2, message
        said = capsys.readouterr()
        assert message in said.err and said.err.count("\n") == 1 and not said.out


@pytest.mark.parametrize(("name", "label"), [("riders", "entailment"), ("skier", "contradiction")])
def test_the_published_model_looks_at_the_image(name: str, label: str, capsys: pytest.CaptureFixture[str]) -> None:
    statements = ["people ride horses on the beach", "the people are asleep in bed"]
    assert run(DEMO_FOLDER / f"{name}.jpg", *statements) == 0
    lines = capsys.readouterr().out.splitlines()
    likeliest = {line: lines[place + 1].split()[0] for place, line in enumerate(lines) if line in statements}
    assert likeliest == dict(zip(statements, (label, "contradiction"), strict=True))
