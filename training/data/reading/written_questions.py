"""Questions of your own with their OCR words, in one JSON file that needs no image.

a list of questions --read_written_questions--> rows of training/data/reading/rows.py
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets

from processors.words_updown import Word, checked_words, words_of_rows
from training.data.files import PathLike, id_text, read_json
from training.data.questions.rows import in_chunks, vqa_split
from training.data.reading.rows import reading_dataset


def read_written_questions(
    *, annotations: PathLike, images: PathLike | None = None, split: str | None = None, file_split: str = ""
) -> datasets.Dataset:
    """A JSON file of your own: a list of questions with their OCR words.

    Args:
        annotations: `[{"question": "what is written?", "answers": ["stop"], "image_id": "7", "words": [{"text": "STOP",
            "box": [0.1, 0.2, 0.4, 0.3], "score": 0.9}]}, ...]`, the box xyxy in 0..1 of the image's width and height,
            words in reading order; `image` names the file in the folder `images`, by default the image's id. Of a
            question may be left out `question_id` (its place in the file), `answers` (hidden), `question_type` (none),
            `words` (those that another question tells of the image, else none), a word's `score` (1) and `split`
            (`file_split`, else train).
        images: their folder; None for models that read words alone, whose rows have no image.
        split: `"train"` or `"train+val"` keeps these, None keeps all.
        file_split: the split of questions that name none.

    Returns:
        Rows of `READING_FEATURES`.

    Raises:
        ValueError: for a file that cannot be read so, a missing split or image, a word without text or box, and an
            image whose words differ from question to question.
    """
    records = read_json(annotations)
    if not isinstance(records, list) or not records or not all(isinstance(record, Mapping) for record in records):
        raise ValueError(f"{annotations} is no list of questions: give objects with question, image_id and words")
    words = words_of_images(records, annotations)
    rows = _rows(records, annotations, file_split=file_split)
    return reading_dataset(in_chunks(rows), images=images, words=words, split=split, source=annotations)


def words_of_images(records: Sequence[Mapping[str, Any]], source: PathLike) -> dict[str, list[Word]]:
    """image id -> its words, [] where no question tells any; `ValueError` naming the question as above."""
    told: dict[str, list[Any]] = {}
    for place, record in enumerate(records):
        image_id, words = _image_id(record, place, source), record.get("words") or []
        if not isinstance(words, list) or not all(isinstance(word, Mapping) for word in words):
            raise ValueError(
                f'{_name(place, source)} has the words {words!r:.60}: give a list of {{"text": ..., "box": [...]}}'
            )
        if words and told.setdefault(image_id, []) not in ([], words):
            raise ValueError(f"{_name(place, source)} has other words of the image {image_id} than a question before")
        told[image_id] = words or told.get(image_id, [])
        try:
            words_of_rows(words)
        except ValueError as error:
            raise ValueError(f"{_name(place, source)}: {error}") from error
    return {
        image_id: checked_words(words_of_rows(words), source=f"{source}: {image_id}")
        for image_id, words in told.items()
    }


def _rows(records: Sequence[Mapping[str, Any]], source: PathLike, *, file_split: str) -> Iterator[dict[str, Any]]:
    for place, record in enumerate(records):
        question, answers = record.get("question"), record.get("answers") or []
        image_id = _image_id(record, place, source)
        if not isinstance(question, str) or not question.strip():
            raise ValueError(f"{_name(place, source)} lacks a question: give it as text")
        if not isinstance(answers, list) or not all(isinstance(answer, str) for answer in answers):
            raise ValueError(f"{_name(place, source)} has the answers {answers!r:.60}: give a list of texts")
        yield {
            "question_id": id_text(record.get("question_id", place)),
            "image_id": image_id,
            "name": str(record.get("image", image_id)),
            "question": question.strip(),
            "answers": answers,
            "answer": answers[0] if answers else "",
            "question_type": str(record.get("question_type") or ""),
            "split": vqa_split(str(record.get("split") or file_split or "train"), source),
        }


def _image_id(record: Mapping[str, Any], place: int, source: PathLike) -> str:
    if record.get("image_id") is None:
        raise ValueError(f"{_name(place, source)} lacks image_id: give it as text")
    return id_text(record["image_id"])


def _name(place: int, source: PathLike) -> str:
    return f"question {place} of {Path(source).name}"
