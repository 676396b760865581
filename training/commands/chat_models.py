"""Who answers in `updown chat`: a model that reads each question by itself, or one that learnt dialogues.

    question, the turns before --Questioner | DialogueChooser--> scored answers, and how many turns were read

Nothing stands in for what a model has not learnt: a question answerer gets no history, and the dialogue says so.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from training.commands.ask import load_answerer
from training.commands.caption import describe, load_captioner
from training.commands.shared import TRAINED_VQA, load_pipeline, model_folder
from training.data.files import read_json, read_lines

CHOOSER = "UpDownFusionForMultipleChoice"
CHOICE_TASK = "visual-multiple-choice"
NUM_ANSWERS = 5
# words that may stand for what an earlier turn named
POINTING = re.compile(
    r"\b(it|its|he|she|him|her|his|hers|they|them|their|theirs|that one|this one|those|these)\b", re.I
)


@dataclass(frozen=True)
class Turn:
    """A question, its scored answers, the best first (`answer`, `score` in 0..1), and how many turns before it the
    model was given."""

    question: str
    answers: list[dict[str, Any]] = field(repr=False)
    turns_read: int = 0

    @property
    def answer(self) -> str:
        """The best answer."""
        return str(self.answers[0]["answer"])


class Questioner:
    """A question answerer, which reads each question by itself, whatever was said before.

    pipeline: `visual-question-answering`; candidates: the answers to choose from, () for all that the model knows.
    """

    note = "Each question is read by itself: the model has not learnt to read what was said before."
    reads_history = False

    def __init__(self, pipeline: Any, image: Any, *, candidates: Sequence[str] = (), regions: bool = False):
        self.pipeline, self.image = pipeline, image
        self.options: dict[str, Any] = {"top_k": NUM_ANSWERS}
        self.options |= {"choices": list(candidates)} if candidates else {}
        self.options |= {"return_regions": True} if regions else {}

    def reply(self, question: str, history: Sequence[Turn]) -> Turn:
        """The answers to a question; the turns before it are not given to the model."""
        return Turn(question, self.pipeline(self.image, question, **self.options))


class DialogueChooser:
    """A model of multiple choice, which reads the caption and all turns before a question, as in visual dialogue.

    pipeline: `visual-multiple-choice`; candidates: the answers that every question is answered with.
    """

    note = "The model reads the caption and the turns before a question; its scores compare the given answers."
    reads_history = True

    def __init__(self, pipeline: Any, image: Any, *, caption: str, candidates: Sequence[str]):
        self.pipeline, self.image, self.caption, self.candidates = pipeline, image, caption, candidates

    def reply(self, question: str, history: Sequence[Turn]) -> Turn:
        """The candidates that fit the question best, after the caption and the turns before it."""
        texts = [self.caption]
        for turn in history:
            texts += [turn.question, turn.answer]
        found = self.pipeline(
            self.image,
            [*texts, question],
            choices=list(self.candidates),
            kind="round",
            top_k=NUM_ANSWERS,
        )
        pairs = zip(found["labels"], found["scores"], strict=True)
        return Turn(question, [{"score": score, "answer": label} for label, score in pairs], len(history))


def load_speaker(
    image: Any,
    *,
    model: str | None,
    regions: str | None = None,
    candidates: Path | None = None,
    caption: str | None = None,
    draws: bool = False,
) -> Questioner | DialogueChooser:
    """Who answers about an image: by the class of the saved model, the trained question answerer by default.

    Args:
        regions: a detector for a model without one.
        candidates: a file of the answers to choose from, see `read_candidates`.
        caption: what a dialogue begins with; None has the trained captioner write it.
        draws: whether attention is drawn, which only question answerers show.

    Raises:
        ValueError: for a model of another task, and where a model of multiple choice lacks candidates, has an empty
            caption or shall draw.
    """
    from training.saved_models import saved_class

    folder = model_folder(model, default=TRAINED_VQA)
    given = [] if candidates is None else read_candidates(candidates)
    if saved_class(folder) != CHOOSER:
        if caption is not None:
            raise ValueError("--caption begins a dialogue, which this model does not read: leave it out")
        return Questioner(
            load_answerer(model, regions=regions, keep_regions=True), image, candidates=given, regions=draws
        )
    if len(given) < 2:
        raise ValueError(
            "this model chooses among given answers: name a file of two or more, one a line, with --candidates"
        )
    if caption is not None and not caption.strip():
        raise ValueError("--caption is empty: say what the image shows, or leave it out")
    if draws:
        raise ValueError("this model shows no attention for an answer: leave --draw out")
    chooser = load_pipeline(CHOICE_TASK, folder, regions=regions, keep_regions=True)
    said = describe(load_captioner(None), image)["generated_text"] if caption is None else caption
    return DialogueChooser(chooser, image, caption=said, candidates=given)


def read_candidates(path: Path) -> list[str]:
    """The answers of a file, each once: a JSON list of texts, or one a line; raises `ValueError` for others."""
    found: Any = read_json(path) if path.suffix == ".json" else read_lines(path)
    if not isinstance(found, list) or not found or not all(isinstance(text, str) and text.strip() for text in found):
        raise ValueError(f"{path} holds no list of answers: write one a line, or a JSON list of texts")
    return list(dict.fromkeys(text.strip() for text in found))


def pointing_word(question: str) -> str:
    """The first word of a question that may stand for what an earlier turn named; "" where there is none.

    >>> pointing_word("What colour is it?"), pointing_word("is there a cat?")
    ('it', '')
    """
    found = POINTING.search(question)
    return found.group().lower() if found else ""
