"""Photos and the questions about them, as they are given to a pipeline: in pairs, lists, rows, data sets or streams.

The first hop of `pipeline_vqa`: whatever was given -> `AskedPhoto`s, checked -> a batch in which each photo stands once
and each question says which photo it is about.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset

from .pipeline_photos import (
    batch_photos,
    is_many_photos,
    is_one_photo,
    join_photos,
    naming_photo,
    stored_photo,
    with_undecoded_photos,
)

ROW_COLUMNS = ("image", "question", "choices")


@dataclass(frozen=True)
class Question:
    """A question, its answers to choose from (their rows in the vocabulary where that scores them), and its place.

    `place` counts the questions of one call from 0, for messages; None where there is but one.
    """

    text: str
    place: int | None = None
    choices: tuple[str, ...] = ()
    answer_ids: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """What messages call it."""
        return "the question" if self.place is None else f"question {self.place}"


@dataclass(frozen=True)
class AskedPhoto:
    """A photo and everything that is asked about it; `place` is its first question's, None where there is one photo."""

    photo: Any
    questions: tuple[Question, ...]
    place: int | None = None


class AskedPhotos(Dataset):
    """A sequence of rows, or of photos with one question or a list of one each, as a torch data set."""

    def __init__(self, rows: Any, question: str | list[str] | None = None):
        self.rows, self.question = rows, question

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> AskedPhoto:
        with naming_photo(index):
            row = self.rows[index]
        if isinstance(row, AskedPhoto):
            return row
        return asked_photo(row, self.question[index] if isinstance(self.question, list) else self.question, place=index)


def question_list(question: Any) -> Any:
    """Questions in a list, whatever sequence they come in; a single one as it is."""
    if isinstance(question, str | bytes | Mapping) or not (
        hasattr(question, "__len__") and hasattr(question, "__getitem__")
    ):
        return question
    return [question[place] for place in range(len(question))]


def check_lengths(photos: Any, question: Any) -> None:
    """Raises `ValueError` where each photo should have its question, but there are more of the ones or the others."""
    if isinstance(question, list) and len(question) != len(photos):
        raise ValueError(
            f"{len(photos)} photos and {len(question)} questions: give a question for each photo, or one for all"
        )


def merged(rows: Sequence[AskedPhoto]) -> tuple[list[AskedPhoto], list[int]]:
    """Rows that ask about the same photo as one, and which row each of their questions was, one after another."""
    photos: dict[Any, list[int]] = {}
    for place, row in enumerate(rows):
        same = row.photo if isinstance(row.photo, str | bytes | os.PathLike) else id(row.photo)
        photos.setdefault(same, []).append(place)
    asked = [
        replace(rows[places[0]], questions=tuple(question for place in places for question in rows[place].questions))
        for places in photos.values()
    ]
    return asked, [place for places in photos.values() for place in places]


def batch_rows(batch: Any, question: Any = None) -> Sequence:
    """The rows of one batch of a DataLoader, or of `dataset[:3]`: photos where there is a `question` about them.

    Raises `ValueError` where its columns have different lengths.
    """
    if question is not None or not isinstance(batch, Mapping) or not is_many_photos(batch.get("image")):
        return batch_photos(batch)
    columns = {name: batch[name] for name in ROW_COLUMNS if batch.get(name) is not None}
    number = len(columns["image"])
    if isinstance(columns.get("question"), str):
        columns["question"] = [columns["question"]] * number
    odd = next((name for name, values in columns.items() if len(values) != number), None)
    if odd is not None:
        raise ValueError(f"the rows have {number} photos and {len(columns[odd])} of {odd}: give each photo its own")
    return [{name: values[row] for name, values in columns.items()} for row in range(number)]


def asked_stream(rows: Any, question: Any) -> Any:
    """What comes lazily: a data set or stream of rows, or of photos with their questions; None for a single photo."""
    if is_one_photo(rows):
        return None
    if isinstance(rows, DataLoader):
        rows = (row for batch in rows for row in batch_rows(batch, question))
    of_columns = hasattr(rows, "cast_column")
    if of_columns:
        rows = rows_of_columns(rows, with_question=question is None)
    if isinstance(rows, Iterator | IterableDataset):
        if isinstance(question, list):
            raise TypeError("a stream of photos takes one question: stream rows of image and question instead")
        return (asked_photo(row, question, place=place) for place, row in enumerate(rows))
    if not of_columns and not isinstance(rows, Sequence | Dataset):
        return None
    check_lengths(rows, question)
    return AskedPhotos(rows, question)


def rows_of_columns(rows: Any, *, with_question: bool) -> Any:
    """A `datasets.Dataset` (or a streamed one) with its photos undecoded, whatever their column is called."""
    rows, column = with_undecoded_photos(rows)
    names = rows.column_names or [column, "question"]
    if with_question and "question" not in names:
        raise ValueError(f"none of the columns {names} is called question: rename the one that holds the questions")
    if column != "image":
        rows = rows.rename_column(column, "image")
    wanted = ROW_COLUMNS if with_question else ("image",)
    rows = rows.select_columns([name for name in wanted if name == "image" or name in names])
    return rows if hasattr(rows, "__len__") else iter(rows)


def asked_photo(row: Any, question: Any = None, *, place: int | None = None) -> AskedPhoto:
    """A photo and a question, or a row of both, checked.

    Raises `TypeError` or `ValueError` that says which question it is where there are many.
    """
    name, choices = Question("", place).name, None
    if question is None:
        if not isinstance(row, Mapping) or "question" not in row:
            raise TypeError(
                f"{name} is missing: ask vqa(image=..., question='...'), or give rows {{'image': ..., 'question': ...}}"
            )
        question, choices = row["question"], row.get("choices")
        row = row.get("image")
        if row is None:
            raise ValueError(f"{name} has no photo: its image is missing or empty")
    if not isinstance(question, str):
        raise TypeError(f"{name} is a {type(question).__name__}, not text")
    if not question.strip():
        raise ValueError(f"{name} is empty: ask something, such as 'what is it?'")
    choices = checked_choices(choices, name=f"the choices of {name}") if choices is not None and len(choices) else ()
    if place is None:
        return AskedPhoto(stored_photo(row), (Question(question, None, choices),))
    with naming_photo(place):
        return AskedPhoto(stored_photo(row), (Question(question, place, choices),), place)


def checked_choices(choices: Any, *, name: str) -> tuple[str, ...]:
    """Answers to choose from; `ValueError` for none, for one that is no text or empty, or for one given twice."""
    if isinstance(choices, str) or not isinstance(choices, Sequence) or not len(choices):
        raise ValueError(f"{name} must be a list of one answer or more to choose from, not {choices!r}")
    texts = tuple(text.strip() if isinstance(text, str) else text for text in choices)
    for place, text in enumerate(texts):
        if not isinstance(text, str) or not text:
            raise ValueError(f"{name} hold {choices[place]!r}, which is no answer: give texts")
        if text in texts[:place]:
            raise ValueError(f"{name} hold {text!r} twice: give each answer once")
    return texts


def join_asked(items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Photos with their questions -> one batch; neighbours that are the same photo become one.

    `photos` as `join_photos` has them, `questions` of all (N), and `photo_index` (N,), which photo each asks about.
    """
    photos: list[Mapping[str, torch.Tensor]] = []
    photo_index: list[int] = []
    for item in items:
        if not photos or not is_same_photo(photos[-1], item["photo"]):
            photos.append(item["photo"])
        photo_index += [len(photos) - 1] * len(item["questions"])
    return {
        "photos": join_photos(photos),
        "photo_index": torch.tensor(photo_index),
        "questions": [question for item in items for question in item["questions"]],
    }


def is_same_photo(first: Mapping[str, torch.Tensor], second: Mapping[str, torch.Tensor]) -> bool:
    """Whether two photos are equal, pixel for pixel."""
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
