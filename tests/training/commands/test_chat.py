"""`updown chat`: asked by arguments, piped and typed; history, JSON, pictures, and a clean end."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from transformers import pipeline

from tests import tiny
from training import cli
from training.commands import chat

QUESTIONS = ["Is there a brown dog?", "where is it?"]
NOTE = "Each question is read by itself: the model has not learnt to read what was said before."
POINTING = '(the model does not know what "it" was before: name it, as in "what colour is the dog?")'


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_tiny_vqa(tmp_path_factory.mktemp("vqa"))


@pytest.fixture
def image(tmp_path: Path) -> Path:
    tiny.tiny_image(3).save(tmp_path / "dog.png")
    return tmp_path / "dog.png"


class Typed(io.StringIO):
    """Standard input at a terminal."""

    def isatty(self) -> bool:
        return True


def run(*arguments: Any) -> int:
    return cli.main(["chat", *(str(argument) for argument in arguments)])


def answers_of(model: Path, image: Path, question: str) -> list[dict[str, Any]]:
    return pipeline("visual-question-answering", model=str(model))(str(image), question)


def shown(answers: list[dict[str, Any]], *, sure: float) -> str:
    if answers[0]["score"] >= sure:
        return f"{answers[0]['answer']} ({answers[0]['score']:.2f})"
    return "not sure: " + ", ".join(f"{one['answer']} ({one['score']:.2f})" for one in answers[:3])


@pytest.mark.parametrize("sure", [0.0, 1.0])
def test_questions_of_arguments_are_answered_in_turn(model: Path, image: Path, sure: float, capsys: Any) -> None:
    asked = [part for question in QUESTIONS for part in ("--ask", question)]
    assert run(image, *asked, "--model", model, "--sure", sure) == 0
    first, second = (shown(answers_of(model, image, question), sure=sure) for question in QUESTIONS)
    expected = [NOTE, QUESTIONS[0], f"  {first}", POINTING, QUESTIONS[1], f"  {second}"]
    assert capsys.readouterr().out.splitlines() == expected


def test_json_is_a_line_an_answer_and_nothing_else(model: Path, image: Path, capsys: Any) -> None:
    asked = [part for question in QUESTIONS for part in ("--ask", question)]
    assert run(image, *asked, "--model", model, "--json", "--sure", 0.5) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    for number, (question, line) in enumerate(zip(QUESTIONS, lines, strict=True), start=1):
        answers = answers_of(model, image, question)
        best = answers[0]
        assert line["turn"] == number and line["question"] == question and line["turns_read"] == 0
        assert line["answer"] == best["answer"] and line["score"] == pytest.approx(best["score"], abs=1e-4)
        assert line["sure"] is (best["score"] >= 0.5) and len(line["answers"]) == 5


def test_piped_questions_go_on_after_a_mistake(
    model: Path, image: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    lines = ["", QUESTIONS[0], "cat.png", "/history", "/what", "/forget", "/history", QUESTIONS[1], "/quit", "not read"]
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(lines)))
    assert run(image, "--model", model, "--sure", 0) == 1
    said = capsys.readouterr()
    first, second = (answers_of(model, image, question)[0] for question in QUESTIONS)
    assert said.out.splitlines() == [
        NOTE,
        *(QUESTIONS[0], f"  {first['answer']} ({first['score']:.2f})"),
        f"{QUESTIONS[0]} {first['answer']}",  # /history; it is empty after /forget
        *(QUESTIONS[1], f"  {second['answer']} ({second['score']:.2f})"),  # and nothing was before
    ]
    assert "updown chat: cat.png is an image, not a question" in said.err and "there is no command /what" in said.err


def test_typed_questions_end_with_the_input(
    model: Path, image: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr("sys.stdin", Typed(f"{QUESTIONS[0]}\n/help\ncat.png\n"))
    assert run(image, "--model", model, "--sure", 0) == 0
    said = capsys.readouterr()
    best = answers_of(model, image, QUESTIONS[0])[0]
    assert f"> {best['answer']} ({best['score']:.2f})" in said.out  # behind the prompt, the question is not repeated
    assert said.out.splitlines()[:2] == [NOTE, chat.HELP] and said.out.endswith("\n")
    assert chat.HELP in said.err and "cat.png is an image" in said.err


def test_an_interrupt_ends_without_a_traceback(
    model: Path, image: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr("sys.stdin", Typed(""))
    monkeypatch.setattr("builtins.input", interrupted)
    assert run(image, "--model", model) == 130
    said = capsys.readouterr()
    assert said.out.splitlines() == [NOTE, chat.HELP, ""] and said.err == ""


def interrupted(prompt: str) -> str:
    raise KeyboardInterrupt


def test_a_dialogue_with_a_model_that_reads_it(image: Path, tmp_path: Path, capsys: Any) -> None:
    folder = tiny.save_tiny_multiple_choice(tmp_path / "chooser")
    (tmp_path / "answers.txt").write_text("yes\nno\nred\n")
    more = ["--candidates", tmp_path / "answers.txt", "--caption", "a dog runs", "--json"]
    assert run(image, "--model", folder, *more, *[part for text in QUESTIONS for part in ("--ask", text)]) == 0
    first, second = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    choose = pipeline("visual-multiple-choice", model=str(folder))
    texts = ["a dog runs", QUESTIONS[0], first["answer"], QUESTIONS[1]]
    found = choose(str(image), texts, choices=["yes", "no", "red"], kind="round")
    assert second["answer"] == found["labels"][0] and second["turns_read"] == 1 and first["turns_read"] == 0
    assert run(image, "--model", folder, *more[:4], "--ask", QUESTIONS[1]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("The model reads the caption and the turns before") and lines[1] == "caption: a dog runs"


def test_pictures_are_drawn(model: Path, image: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    drawn: list[tuple[str, str]] = []
    monkeypatch.setattr(
        "modeling_updown.draw_answer", lambda _, answers, *, question, path: drawn.append((question, path.name))
    )
    picture = image.with_name("look.png")
    assert run(image, "--ask", QUESTIONS[0], "--model", model, "--draw", picture) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"  drawn: {picture}"
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(QUESTIONS)))
    assert run(image, "--model", model, "--draw", picture) == 0
    expected = [(QUESTIONS[0], "look.png"), (QUESTIONS[0], "look_1.png"), (QUESTIONS[1], "look_2.png")]
    assert drawn == expected


def test_mistakes_take_one_sentence(
    model: Path, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    for arguments, message in (
        ([image, "--ask", " ", "--model", model], "the question is empty"),
        ([image, "--ask", "a.png", "--model", model], "a.png is an image, not a question"),
        (["gone.png", "--model", model], "there is no image at gone.png"),
        ([image, "--model", model, "--draw", tmp_path / "a.xyz"], "name it with the ending"),
        ([image, "--model", model, "--candidates", tmp_path / "gone.txt"], "cannot read"),
        ([image, "--model", model, "--caption", "a dog"], "--caption begins a dialogue"),
        ([image, "--model", model, "--regions", model], "this model owns the region source that it was trained on"),
    ):
        monkeypatch.setattr("sys.stdin", io.StringIO(""))
        assert run(*arguments) == 2, message
        assert message in capsys.readouterr().err
    monkeypatch.setattr("sys.stdin", io.StringIO("a" * 3000))
    assert run(image, "--model", model) == 2
    assert "a question has more than 2000 characters: ask something shorter" in capsys.readouterr().err
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"what \xff is it?\n"), encoding="utf-8"))
    assert run(image, "--model", model) == 2
    assert "no utf-8 text (byte 5): save them as UTF-8" in capsys.readouterr().err
    for wrong in ("2", "a", "nan"):
        with pytest.raises(SystemExit):
            run(image, "--sure", wrong)
        assert f"'{wrong}' is not a number in 0..1" in capsys.readouterr().err


def test_a_byte_order_mark_and_windows_line_ends_are_no_part_of_a_question(
    model: Path, image: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"\ufeff{QUESTIONS[0]}\r\n\r\n"))
    assert run(image, "--model", model, "--json") == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["question"] == QUESTIONS[0]
