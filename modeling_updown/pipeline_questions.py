"""The inputs of the question pipeline: images and questions as pairs, lists, rows, data sets or streams.

The first step of `pipeline_vqa`: any input -> checked `ImageQuestions` -> a batch with each image once, and the index
of its image for each question.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset

from .pipeline_clips import join_media
from .pipeline_images import (
    are_several_images,
    batch_images,
    image_errors,
    is_single_image,
    stored_image,
    with_undecoded_images,
)

ROW_COLUMNS = ("image", "question", "choices", "knowledge")


@dataclass(frozen=True)
class Question:
    """A question, the answers to choose from (with their rows in the vocabulary if it scores them), the sentences
    beside it, and its place.

    `place` is the index of the question in one call, for messages; None if it is the only one.
    """

    text: str
    place: int | None = None
    choices: tuple[str, ...] = ()
    answer_ids: tuple[int, ...] = ()
    knowledge: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The question's name in messages."""
        return "the question" if self.place is None else f"question {self.place}"


@dataclass(frozen=True)
class ImageQuestions:
    """An image and all questions about it; `place` is that of its first question, None for a single image."""

    image: Any
    questions: tuple[Question, ...]
    place: int | None = None


class ImageQuestionRows(Dataset):
    """A sequence of rows, or of images with one question or a list of one each, as a torch data set."""

    def __init__(self, rows: Any, question: str | list[str] | None = None):
        self.rows, self.question = rows, question

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> ImageQuestions:
        with image_errors(index):
            row = self.rows[index]
        if isinstance(row, ImageQuestions):
            return row
        return checked_questions(
            row, self.question[index] if isinstance(self.question, list) else self.question, place=index
        )


def question_list(question: Any) -> Any:
    """Any sequence of questions as a list; a single question unchanged."""
    if isinstance(question, str | bytes | Mapping) or not (
        hasattr(question, "__len__") and hasattr(question, "__getitem__")
    ):
        return question
    return [question[place] for place in range(len(question))]


def check_lengths(images: Any, question: Any) -> None:
    """Raises `ValueError` if a list of questions has another length than the images."""
    if isinstance(question, list) and len(question) != len(images):
        raise ValueError(
            f"{len(images)} images and {len(question)} questions: give a question for each image, or one for all"
        )


def merged(rows: Sequence[ImageQuestions]) -> tuple[list[ImageQuestions], list[int]]:
    """Rows with the same image merged into one, and the original row of each of their questions, concatenated."""
    images: dict[Any, list[int]] = {}
    for place, row in enumerate(rows):
        same = row.image if isinstance(row.image, str | bytes | os.PathLike) else id(row.image)
        images.setdefault(same, []).append(place)
    merged_rows = [
        replace(rows[places[0]], questions=tuple(question for place in places for question in rows[place].questions))
        for places in images.values()
    ]
    return merged_rows, [place for places in images.values() for place in places]


def batch_rows(batch: Any, question: Any = None) -> Sequence:
    """The rows of one batch of a DataLoader, or of `dataset[:3]`; images alone if there is a `question` about them.

    Raises `ValueError` if its columns have different lengths.
    """
    if question is not None or not isinstance(batch, Mapping) or not are_several_images(batch.get("image")):
        return batch_images(batch)
    columns = {name: batch[name] for name in ROW_COLUMNS if batch.get(name) is not None}
    number = len(columns["image"])
    if isinstance(columns.get("question"), str):
        columns["question"] = [columns["question"]] * number
    odd = next((name for name, values in columns.items() if len(values) != number), None)
    if odd is not None:
        raise ValueError(f"the rows have {number} images and {len(columns[odd])} of {odd}: give one for each image")
    return [{name: values[row] for name, values in columns.items()} for row in range(number)]


def question_stream(rows: Any, question: Any) -> Any:
    """A data set or stream of rows, or of images and questions, as lazy `ImageQuestions`; None for a single image."""
    if is_single_image(rows):
        return None
    if isinstance(rows, DataLoader):
        rows = (row for batch in rows for row in batch_rows(batch, question))
    of_columns = hasattr(rows, "cast_column")
    if of_columns:
        rows = rows_of_columns(rows, with_question=question is None)
    if isinstance(rows, Iterator | IterableDataset):
        if isinstance(question, list):
            raise TypeError("a stream of images takes one question: stream rows of image and question instead")
        return (checked_questions(row, question, place=place) for place, row in enumerate(rows))
    if not of_columns and not isinstance(rows, Sequence | Dataset):
        return None
    check_lengths(rows, question)
    return ImageQuestionRows(rows, question)


def rows_of_columns(rows: Any, *, with_question: bool) -> Any:
    """A `datasets.Dataset` (or a streamed one) with undecoded images in the column `image`."""
    rows, column = with_undecoded_images(rows)
    names = rows.column_names or [column, "question"]
    if with_question and "question" not in names:
        raise ValueError(f"none of the columns {names} is called question: rename the one that holds the questions")
    if column != "image":
        rows = rows.rename_column(column, "image")
    wanted = ROW_COLUMNS if with_question else ("image",)
    rows = rows.select_columns([name for name in wanted if name == "image" or name in names])
    return rows if hasattr(rows, "__len__") else iter(rows)


def checked_questions(row: Any, question: Any = None, *, place: int | None = None) -> ImageQuestions:
    """An image and a question, or a row of both, checked.

    Raises `TypeError` or `ValueError`, which names one of several questions.
    """
    name, choices, knowledge = Question("", place).name, None, None
    if question is None:
        if not isinstance(row, Mapping) or "question" not in row:
            raise TypeError(
                f"{name} is missing: ask vqa(image=..., question='...'), or give rows {{'image': ..., 'question': ...}}"
            )
        question, choices, knowledge = row["question"], row.get("choices"), row.get("knowledge")
        row = {"video": row["video"]} if row.get("video") is not None else row.get("image")
        if row is None:
            raise ValueError(f"{name} has no image: its image is missing or empty")
    if not isinstance(question, str):
        raise TypeError(f"{name} is a {type(question).__name__}, not text")
    if not question.strip():
        raise ValueError(f"{name} is empty: ask something, such as 'what is it?'")
    choices = checked_choices(choices, name=f"the choices of {name}") if choices is not None and len(choices) else ()
    sentences = checked_knowledge(knowledge, name=f"the knowledge of {name}")
    asked = Question(question, place, choices, knowledge=sentences)
    if isinstance(row, Mapping) and row.get("video") is not None:
        return ImageQuestions(row, (asked,), place)
    if place is None:
        return ImageQuestions(stored_image(row), (asked,))
    with image_errors(place):
        return ImageQuestions(stored_image(row), (asked,), place)


def checked_knowledge(knowledge: Any, *, name: str) -> tuple[str, ...]:
    """The sentences beside a question, none where None is given; raises `ValueError` for what is no list of texts."""
    if knowledge is None:
        return ()
    if isinstance(knowledge, str) or not isinstance(knowledge, Sequence):
        raise ValueError(f"{name} must be a list of sentences, not {str(knowledge)[:80]!r}")
    strange = next((text for text in knowledge if not isinstance(text, str) or not text.strip()), None)
    if strange is not None:
        raise ValueError(
            f"{name} holds {strange!r:.80}, which is no sentence: give texts (those of each of several questions stand "
            "in rows of image, question and knowledge)"
        )
    return tuple(text.strip() for text in knowledge)


def checked_choices(choices: Any, *, name: str) -> tuple[str, ...]:
    """Answers to choose from; raises `ValueError` for none, for one that is empty or not text, or a repeated one."""
    if isinstance(choices, str) or not isinstance(choices, Sequence) or not len(choices):
        raise ValueError(f"{name} must be a list of one answer or more to choose from, not {choices!r}")
    texts = tuple(text.strip() if isinstance(text, str) else text for text in choices)
    for place, text in enumerate(texts):
        if not isinstance(text, str) or not text:
            raise ValueError(f"{name} hold {choices[place]!r}, which is not an answer: give texts")
        if text in texts[:place]:
            raise ValueError(f"{name} hold {text!r} twice: give each answer once")
    return texts


def join_questions(items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Images with their questions -> one batch; equal neighbouring images become one.

    Returns `photos` as `join_media`, all `questions` (N), and `image_index` (N,), the image of each question.
    """
    images: list[Mapping[str, torch.Tensor]] = []
    image_index: list[int] = []
    for item in items:
        if not images or not is_same_image(images[-1], item["photo"]):
            images.append(item["photo"])
        image_index += [len(images) - 1] * len(item["questions"])
    return {
        "photos": join_media(images),
        "image_index": torch.tensor(image_index),
        "questions": [question for item in items for question in item["questions"]],
    }


class KeptRegions:
    """The regions of the images that were asked about last, for the next question about these."""

    def __init__(self) -> None:
        self.pixels: dict[str, torch.Tensor] = {}
        self.regions: Any = None

    def of(self, pixels: Mapping[str, torch.Tensor], make: Callable[[dict[str, torch.Tensor]], Any]) -> Any:
        """What is kept of the same pixels, else what `make` makes of them, which is kept from now on.

        >>> kept, pixels = KeptRegions(), {"pixel_values": torch.zeros(1, 3, 2, 2)}
        >>> kept.of(pixels, len), kept.of(dict(pixels), str), kept.of({"pixel_values": torch.ones(1, 3, 2, 2)}, type)
        (1, 1, <class 'dict'>)
        """
        if not self.pixels or not is_same_image(self.pixels, pixels):
            self.regions = make(dict(pixels))
            self.pixels = dict(pixels)
        return self.regions


def is_same_image(first: Mapping[str, torch.Tensor], second: Mapping[str, torch.Tensor]) -> bool:
    """Whether two images are equal, pixel for pixel."""
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
