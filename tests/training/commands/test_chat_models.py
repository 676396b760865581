"""Who answers in a dialogue: each question by itself, or after all that was said; regions are made once."""

from pathlib import Path

import pytest
from transformers import pipeline

from tests import tiny
from training.commands.chat_models import (
    DialogueChooser,
    Questioner,
    Turn,
    load_speaker,
    pointing_word,
    read_candidates,
)

QUESTIONS = ["is there a brown dog?", "how many men?", "where is it?"]
CANDIDATES = ["yes", "no", "at the table"]


def counting(source: object) -> list[int]:
    calls: list[int] = []
    source.register_forward_hook(lambda *_: calls.append(1))  # type: ignore[attr-defined]
    return calls


def test_a_question_answerer_reads_each_question_by_itself(tmp_path: Path) -> None:
    folder = tiny.save_tiny_vqa(tmp_path)
    speaker = load_speaker(tiny.tiny_image(), model=str(folder))
    assert isinstance(speaker, Questioner) and "by itself" in speaker.note and not speaker.reads_history
    calls, history = counting(speaker.pipeline.model.region_source), []
    for question in QUESTIONS:
        history.append(speaker.reply(question, history))
        assert history[-1].turns_read == 0 and len(calls) == 1  # the image's regions are made once
    vqa = pipeline("visual-question-answering", model=str(folder))
    for turn in history:
        assert turn.answers == vqa(tiny.tiny_image(), turn.question)
        assert turn.answer == turn.answers[0]["answer"]
    few = tmp_path / "few.txt"
    few.write_text("yes\nno\nyes\n")
    ranked = load_speaker(tiny.tiny_image(), model=str(folder), candidates=few).reply(QUESTIONS[0], [])
    assert {one["answer"] for one in ranked.answers} == {"yes", "no"}


def test_a_model_of_dialogues_reads_what_was_said(tmp_path: Path) -> None:
    """The caption, questions and answers in turn; the same question is answered otherwise after another turn."""
    folder = tiny.save_tiny_multiple_choice(tmp_path / "chooser", choice_attention="shared")
    (tmp_path / "answers.txt").write_text("\n".join(CANDIDATES))
    options = {"model": str(folder), "candidates": tmp_path / "answers.txt", "caption": "a dog runs"}
    speaker = load_speaker(tiny.tiny_image(), **options)  # type: ignore[arg-type]
    assert isinstance(speaker, DialogueChooser) and speaker.reads_history
    calls, history = counting(speaker.pipeline.model.region_source), [Turn("a ball?", [{"answer": "no", "score": 1.0}])]
    turn = speaker.reply(QUESTIONS[2], history)
    choose = pipeline("visual-multiple-choice", model=str(folder))
    texts = ["a dog runs", "a ball?", "no", QUESTIONS[2]]
    found = choose(tiny.tiny_image(), texts, choices=CANDIDATES, kind="round")
    assert [one["answer"] for one in turn.answers] == found["labels"] and turn.turns_read == 1
    assert [one["score"] for one in turn.answers] == pytest.approx(found["scores"], abs=1e-6)
    alone = speaker.reply(QUESTIONS[2], [])
    assert [one["score"] for one in alone.answers] != pytest.approx(found["scores"], abs=1e-6) and len(calls) == 1


def test_a_caption_is_written_where_none_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    captioner, image = tiny.save_tiny_captioner(tmp_path / "captioner"), tiny.tiny_image()
    monkeypatch.setattr(
        "training.commands.chat_models.load_captioner", lambda _: pipeline("image-to-text", model=str(captioner))
    )
    folder = tiny.save_tiny_multiple_choice(tmp_path / "chooser")
    (tmp_path / "answers.json").write_text('["yes", "no"]')
    speaker = load_speaker(image, model=str(folder), candidates=tmp_path / "answers.json")
    expected = pipeline("image-to-text", model=str(captioner))(image)[0]["generated_text"]
    assert isinstance(speaker, DialogueChooser) and speaker.caption == expected and speaker.candidates == ["yes", "no"]


def test_what_does_not_go_together_is_refused(tmp_path: Path) -> None:
    image, vqa = tiny.tiny_image(), str(tiny.save_tiny_vqa(tmp_path / "vqa"))
    chooser = str(tiny.save_tiny_multiple_choice(tmp_path / "chooser"))
    (tmp_path / "answers.txt").write_text("yes\nno\n")
    with pytest.raises(ValueError, match="--caption begins a dialogue, which this model does not read"):
        load_speaker(image, model=vqa, caption="a dog")
    with pytest.raises(ValueError, match="chooses among given answers: name a file .* with --candidates"):
        load_speaker(image, model=chooser)
    (tmp_path / "one.txt").write_text("yes\nyes\n")
    with pytest.raises(ValueError, match="name a file of two or more, one a line, with --candidates"):
        load_speaker(image, model=chooser, candidates=tmp_path / "one.txt")
    with pytest.raises(ValueError, match="--caption is empty"):
        load_speaker(image, model=chooser, candidates=tmp_path / "answers.txt", caption=" ")
    with pytest.raises(ValueError, match="this model shows no attention for an answer"):
        load_speaker(image, model=chooser, candidates=tmp_path / "answers.txt", draws=True)
    with pytest.raises(ValueError, match="UpDownForVisualQuestionAnswering .* is wanted"):
        load_speaker(image, model=str(tiny.save_tiny_captioner(tmp_path / "captioner")))


@pytest.mark.parametrize("content", ["", "\n \n", '{"a": 1}', "[]", '["a", 1]', '[" "]'])
def test_files_without_answers_are_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / ("answers.json" if content[:1] in "[{" and content else "answers.txt")
    path.write_text(content)
    with pytest.raises(ValueError, match="holds no list of answers"):
        read_candidates(path)


def test_words_that_point_back() -> None:
    asked = ["Is IT red?", "what is his name?", "an item?", "how many of those?", "is the site wet?"]
    assert [pointing_word(question) for question in asked] == ["it", "his", "", "those", ""]
