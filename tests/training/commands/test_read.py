"""`updown read` and `updown ask --read`, by a stand-in OCR engine and by words that are brought."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import modeling_updown
from modeling_updown import word_in_box
from tests import tiny
from training import cli
from training.commands import read
from training.data.reading.word_layouts import open_words

BOX = [0.1, 0.2, 0.6, 0.5]


class StandIn:
    """An engine that reads the width of an image; of one that is 13 wide it says it cannot."""

    def __init__(self, **_: Any) -> None:
        self.images = 0

    def __call__(self, image: Image.Image) -> list[Any]:
        self.images += 1
        if image.size[0] == 13:
            raise RuntimeError("the engine failed on an image")
        return [] if image.size[0] == 14 else [word_in_box("STOP", BOX, score=0.9), word_in_box("12", (0, 0.6, 1, 1))]

    def fingerprint(self) -> dict[str, Any]:
        return {"engine": "stand-in"}


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    made = StandIn()
    monkeypatch.setattr(modeling_updown, "open_ocr", lambda name: made, raising=False)
    return made


def image(folder: Path, name: str = "sign", width: int = 100) -> Path:
    path = folder / f"{name}.png"
    Image.new("RGB", (width, 50), "white").save(path)
    return path


def run(*arguments: Any) -> int:
    return cli.main([str(argument) for argument in arguments])


def test_words_are_printed_drawn_and_written(
    tmp_path: Path, engine: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    path, picture, file = image(tmp_path), tmp_path / "words.png", tmp_path / "words.json"
    assert run("read", path, "--draw", picture, "--json", file) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{path}: 2 words",
        f"  {'STOP':<28} 0.900 at 10,10 to 60,25 pixels",
        f"  {'12':<28} 1.000 at 0,30 to 100,50 pixels",
        f"  drawn: {picture}",
    ]
    assert Image.open(picture).size[0] >= 100
    [word, _] = json.loads(file.read_text())[str(path)]
    assert word == {"text": "STOP", "box": BOX, "score": 0.9}


def test_images_that_cannot_be_read_are_named(
    tmp_path: Path, engine: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [image(tmp_path, "a", 13), image(tmp_path, "b", 14)]
    assert run("read", *paths, "--draw", tmp_path / "out.png") == 1
    told = capsys.readouterr()
    assert "skipped" in told.err and "the engine failed" in told.err and f"{paths[1]}: 0 words" in told.out
    assert not list(tmp_path.glob("out*"))


def test_words_are_kept_for_training_and_not_read_again(tmp_path: Path, engine: StandIn) -> None:
    paths = [image(tmp_path, "a"), image(tmp_path, "b", 14)]
    for _ in range(2):
        assert run("read", *paths, "--output", tmp_path / "words") == 0
    assert engine.images == 2
    words = open_words(tmp_path / "words")
    assert [word.text for word in words["a"]] == ["STOP", "12"] and words["b"] == []


@pytest.mark.parametrize("content", [[{"text": "GO", "box": BOX}], {"sign": [{"text": "GO", "box": BOX}], "other": []}])
def test_words_that_are_brought_need_no_engine(
    tmp_path: Path, content: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own.json").write_text(json.dumps(content))
    assert run("read", image(tmp_path), "--words", tmp_path / "own.json") == 0
    assert f"  {'GO':<28} 1.000 at 10,10 to 60,25 pixels" in capsys.readouterr().out


def test_questions_are_answered_from_brought_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tiny.save_tiny_reading(tmp_path / "model", reading_objects=False)
    (tmp_path / "own.json").write_text(json.dumps([{"text": "two dogs", "box": BOX}]))
    question = "how many dogs?"
    command = ["ask", image(tmp_path), question, "--read", "--model", model, "--words", tmp_path / "own.json"]
    assert run(*command, "--draw", tmp_path / "look.png") == 0
    first, second, *_ = capsys.readouterr().out.splitlines()
    assert first == question and second.startswith("  ")


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (["ask", "IMAGE", "what?", "--read"], "needs --model"),
        (["ask", "IMAGE", "what?", "--words", "own.json"], "give --read as well"),
        (["ask", "IMAGE", "what?", "--read", "--top-k", "2"], "--top-k is not for --read"),
        (["read", "IMAGE", "--words", "own.json", "--engine", "tesseract"], "leave --engine out"),
        (["read", "IMAGE", "IMAGE", "--output", "words"], "two images are called sign"),
        (["read", "IMAGE", "--output", "words", "--json", "x.json"], "leave --words, --draw and --json out"),
    ],
)
def test_mistakes_are_named(
    tmp_path: Path, engine: StandIn, command: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = image(tmp_path)
    assert run(*(str(path) if part == "IMAGE" else part for part in command)) == 2
    assert told in capsys.readouterr().err


def test_the_engines_are_those_of_the_processors() -> None:
    from processors.ocr_updown import ENGINES

    assert tuple(ENGINES) == read.ENGINES
