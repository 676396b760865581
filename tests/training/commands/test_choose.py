"""`updown choose`: what the pipeline ranks, boxes, dialogues, JSON, and mistakes in one sentence."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import pipeline

from modeling_updown.choice_words_updown import KIND_TYPES
from tests import tiny
from training import cli
from training.commands.choose import KINDS

CHOICES = ["a dog", "two men", "at the table"]
BOXED = ("--box", " a = 0, 0, 9, 9")
GIVEN = [part for choice in CHOICES for part in ("--choice", choice)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_tiny_multiple_choice(tmp_path_factory.mktemp("chooser"), region_links=True)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    tiny.tiny_image(3).save(tmp_path / "dog.png")
    return tmp_path / "dog.png"


def run(*arguments: Any) -> int:
    return cli.main(["choose", *(str(argument) for argument in arguments)])


def lines_of(question: str, found: dict[str, Any]) -> list[str]:
    pairs = zip(found["labels"], found["scores"], strict=True)
    return [question, *(f"  {label:<28} {score:.3f}" for label, score in pairs)]


def test_it_says_what_the_pipeline_ranks(model: Path, image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    choose = pipeline("visual-multiple-choice", model=str(model))
    written = image.with_name("found.json")
    assert run(image, "what is there?", *GIVEN, "--model", model, "--top-k", 2, "--json", written) == 0
    found = choose(str(image), "what is there?", choices=CHOICES, top_k=2)
    assert capsys.readouterr().out.splitlines() == lines_of("what is there?", found)
    assert json.loads(written.read_text()) == found
    asked = "is [dog1] brown?"
    assert run(image, asked, *GIVEN, "--model", model, "--box", "dog1=0,0,20,15.5") == 0
    boxed = choose(str(image), asked, choices=CHOICES, boxes={"dog1": (0, 0, 20, 15.5)})
    assert capsys.readouterr().out.splitlines() == lines_of(asked, boxed)
    before = ["--before", "a dog", "--before", "is it brown?", "--before", "yes", "--kind", "round"]
    assert run(image, "where?", *before, *GIVEN, "--model", model) == 0
    told = choose(str(image), ["a dog", "is it brown?", "yes", "where?"], choices=CHOICES, kind="round")
    assert capsys.readouterr().out.splitlines() == lines_of("where?", told)
    assert set(KINDS) == {*KIND_TYPES}


def test_mistakes_take_one_sentence(model: Path, image: Path, tmp_path: Path, capsys: Any) -> None:
    answers = tiny.save_tiny_fusion_vqa(tmp_path / "answers")
    for arguments, message in (
        ([image, " ", *GIVEN, "--model", model], "a text is empty"),
        ([image, "what?", "--choice", "a", "--choice", "a", "--model", model], "choices hold 'a' twice"),
        ([image, "what?", "--choice", "a, b", "--model", model], "there is one answer, of which nothing is chosen"),
        ([image, "[a]?", *GIVEN, *BOXED, "--box", "a=0,0,8,8", "--model", model], "--box a is given twice"),
        ([image, "is a here?", *GIVEN, *BOXED, "--model", model], "--box a is named in no text: write [a] in brackets"),
        ([image, "[a]?", *GIVEN, "--box", "[a]=0,0,9,9", "--model", model], "--box a=X1,Y1,X2,Y2, or leave it out"),
        ([image, "what?", *GIVEN, "--model", model, "--regions", model], "this model owns the region source"),
        ([image, "[dog1]?", *GIVEN, "--model", model], "the tag [dog1], which names no region"),
        (["gone.png", "what?", *GIVEN, "--model", model], "there is no image at gone.png"),
        (
            [image, "what?", *GIVEN, "--model", answers],
            "UpDownFusionForMultipleChoice (type 'updown_fusion') is wanted",
        ),
    ):
        assert run(*arguments) == 2, message
        said = capsys.readouterr()
        assert message in said.err and said.err.count("\n") == 1 and not said.out
    for wrong in ("dog1", "dog1=1,2,3", "=1,2,3,4", "dog1=a,2,3,4"):
        with pytest.raises(SystemExit):
            run(image, "what?", *GIVEN, "--model", model, "--box", wrong)
        assert f"'{wrong}' is no NAME=X1,Y1,X2,Y2" in capsys.readouterr().err
