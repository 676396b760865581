"""`updown ask`: the pipeline's answers, choices, pictures of where it looked, and mistakes in one sentence."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from transformers import pipeline

from tests import tiny
from tests.modeling_updown.test_pipeline_regions import ANSWERS, answerer, lxmert, tokenizer
from training import cli
from training.data.knowledge import Knowledge
from training.search.knowledge import FactSearch

QUESTIONS = ["Is there a brown dog?", "how many men?"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny question answerer of two glimpses."""
    return tiny.save_tiny_vqa(tmp_path_factory.mktemp("vqa"), num_glimpses=2)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    tiny.tiny_image(3).save(tmp_path / "dog.png")
    return tmp_path / "dog.png"


def run(*arguments: Any) -> int:
    return cli.main(["ask", *(str(argument) for argument in arguments)])


def lines_of(answers: list[dict[str, Any]]) -> list[str]:
    return [f"  {answer['answer']:<28} {answer['score']:.3f}" for answer in answers]


def test_help_shows_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        run("--help")
    assert stopped.value.code == 0 and "example:\n  updown ask dogs.jpg" in capsys.readouterr().out


def test_it_says_what_the_pipeline_says(model: Path, image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vqa = pipeline("visual-question-answering", model=str(model))
    assert run(image, *QUESTIONS, "--model", model) == 0
    expected = [line for text in QUESTIONS for line in (text, *lines_of(vqa(str(image), text)))]
    assert capsys.readouterr().out.splitlines() == expected
    assert run(image, QUESTIONS[0], "--model", model, "--top-k", 2) == 0
    assert capsys.readouterr().out.splitlines() == expected[:3]


def test_choices_are_ranked(model: Path, image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vqa = pipeline("visual-question-answering", model=str(model))
    expected = [QUESTIONS[0], *lines_of(vqa(str(image), QUESTIONS[0], choices=["Yes", "no", "At the table"]))]
    for choices in (["Yes, no,At the table"], ["Yes", "no", "At the table"]):
        assert run(image, QUESTIONS[0], "--model", model, "--choices", *choices) == 0
        assert capsys.readouterr().out.splitlines() == expected


def test_pictures_are_written(model: Path, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(image, QUESTIONS[0], "--model", model, "--draw", tmp_path / "look.png") == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"  drawn: {tmp_path / 'look.png'}"
    with Image.open(tmp_path / "look.png") as picture:
        assert picture.width == 4 * 374  # image, two glimpses, answers
    assert run(image, *QUESTIONS, "--model", model, "--draw", tmp_path / "more.png") == 0
    assert {path.name for path in tmp_path.glob("*.png")} == {"dog.png", "look.png", "more_1.png", "more_2.png"}


def test_a_question_of_unknown_words_is_answered_with_a_note(
    model: Path, image: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(image, "zebra?", "--model", model, "--top-k", 1) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert [record.getMessage().split(",")[0] for record in caplog.records if record.levelname == "WARNING"] == [
        "the question ('zebra?') has no word of the model's vocabulary"
    ]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["{image}", " "], "the question is empty: ask something"),
        (["{image}", "is it?", ""], "question 1 is empty"),
        (["gone.jpg", "is it?"], "there is no image at gone.jpg"),
        (["{image}", "is it?", "--choices", "yes,cat"], "the question: the choices 'cat' are not among the 6 answers"),
        (["{image}", "is it?", "--choices", "yes,,no"], "choices hold '', which is not an answer"),
        (["{image}", "is it?", "--choices", "yes,no,yes"], "choices hold 'yes' twice"),
    ],
)
def test_mistakes_end_in_one_sentence(
    arguments: list[str], sentence: str, model: Path, image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*(argument.format(image=image) for argument in arguments), "--model", model) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.startswith(f"updown ask: {sentence}") and shown.err.count("\n") == 1


def test_wrong_usage(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, sentence in (
        ([image], "the following arguments are required: QUESTION"),
        ([image, "is it?", "--top-k", "0"], "'0' is not a whole number above 0"),
    ):
        with pytest.raises(SystemExit):
            run(*arguments)
        assert sentence in capsys.readouterr().err


def test_models_that_answer_no_questions(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    captioner = tiny.save_tiny_captioner(tmp_path / "captioner")
    capsys.readouterr()
    assert run(image, "is it?", "--model", captioner) == 2
    expected = (
        f"updown ask: {captioner} holds a model of type 'updown_captioning' (UpDownForImageCaptioning), but "
        "UpDownForVisualQuestionAnswering (type 'updown_vqa') or UpDownFusionForVisualQuestionAnswering (type "
        "'updown_fusion') or UpDownPrefixLMForVisualQuestionAnswering (type 'updown_prefix_lm') is wanted: name a "
        "folder of that kind\n"
    )
    assert capsys.readouterr().err == expected
    monkeypatch.setattr("training.commands.ask.TRAINED_VQA", str(tmp_path / "absent"))
    assert run(image, "is it?") == 2
    assert (
        "absent is absent, since an installed package contains only the captioner: name a model"
        in capsys.readouterr().err
    )


def test_lxmert_asks_with_one_of_our_detectors(image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """transformers' own model in a folder, a detector in another, and the answers in a file."""
    model, detector = lxmert(), tiny.tiny_detector(score_threshold=0.6)
    model.save_pretrained(tmp_path / "lxmert")
    tokenizer().save_pretrained(tmp_path / "lxmert")
    detector.save_pretrained(tmp_path / "detector")
    tiny.tiny_question_processor().image_processor.save_pretrained(tmp_path / "detector")
    (tmp_path / "answers.json").write_text(json.dumps({"no": 1, "yes": 0, "red": 2}))
    command = (image, "is it red?", "--model", tmp_path / "lxmert")
    given = ("--regions", tmp_path / "detector", "--answers", tmp_path / "answers.json")
    assert run(*command, *given) == 0
    expected = answerer(lxmert(), detector, answers=ANSWERS)(str(image), "is it red?")
    assert capsys.readouterr().out.splitlines() == ["is it red?", *lines_of(expected)]
    assert run(*command) == 2 and "(updown ask: --regions)" in capsys.readouterr().err
    assert run(*command, *given[:2]) == 2 and "(updown ask: --answers)" in capsys.readouterr().err
    (tmp_path / "answers.json").write_text(json.dumps("yes"))
    assert run(*command, *given) == 2 and "the option --answers should name the words" in capsys.readouterr().err


def test_knowledge_stands_beside_each_question(image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As many of the nearest sentences as the model learnt with, of a model that writes."""
    writes = tiny.save_tiny_prefix_vqa(tmp_path / "writes", knowledge_sentences=1)
    retrieval = tiny.save_tiny_retrieval(tmp_path / "retrieval")
    (tmp_path / "facts.txt").write_text("a brown dog\ntwo men ride a wave\n")
    given = ("--model", writes, "--top-k", 2, "--knowledge", tmp_path / "facts.txt", "--knowledge-model", retrieval)
    assert run(image, *QUESTIONS, *given) == 0
    beside = FactSearch(Knowledge(str(tmp_path / "facts.txt"), str(retrieval), 1)).nearest(QUESTIONS)
    vqa = pipeline("visual-question-answering", model=str(writes))
    answers = [vqa(str(image), text, knowledge=own, top_k=2) for text, own in zip(QUESTIONS, beside, strict=True)]
    expected = [line for text, own in zip(QUESTIONS, answers, strict=True) for line in (text, *lines_of(own))]
    assert capsys.readouterr().out.splitlines() == expected
    never = tiny.save_tiny_prefix_vqa(tmp_path / "never")
    capsys.readouterr()
    assert run(image, QUESTIONS[0], "--model", never, *given[2:]) == 0
    assert "the model learnt without sentences of knowledge" in capsys.readouterr().err
    (tmp_path / "facts.txt").write_text("")
    assert run(image, *QUESTIONS, *given) == 2
    assert "facts.txt holds no sentence: write one a line" in capsys.readouterr().err
    assert run(image, QUESTIONS[0], "--knowledge-model", retrieval) == 2
    assert "--knowledge-model finds sentences of --knowledge, which is not given" in capsys.readouterr().err
    assert run(image, QUESTIONS[0], *given[:-1], tmp_path / "gone") == 2
    assert "there is no model folder" in capsys.readouterr().err
