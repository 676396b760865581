"""The row of a data set of reading: a question about an image, its answers, and the image's OCR words.

a reader of such rows --> datasets.Dataset of `READING_FEATURES` --training/tasks/reading.py--> inputs
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import datasets

from processors.ocr_batching_updown import checked_word
from training.data.files import PathLike, id_text, image_paths, listed, read_json
from training.data.splits import split_name, wanted_splits

READING_FEATURES = datasets.Features(
    {
        "question_id": datasets.Value("string"),
        "image_id": datasets.Value("string"),
        "image": datasets.Image(),
        "question": datasets.Value("string"),
        "answers": datasets.List(datasets.Value("string")),
        "words": datasets.List(
            {
                "text": datasets.Value("string"),
                "box": datasets.List(datasets.Value("float32")),
                "score": datasets.Value("float32"),
            }
        ),
        "split": datasets.Value("string"),
    }
)


def read_written_questions(
    *, annotations: PathLike, images: PathLike | None = None, split: str | None = None, file_split: str = ""
) -> datasets.Dataset:
    """Rows of `READING_FEATURES` from a JSON file of your own: a list of questions with their OCR words.

    Args:
        annotations: `[{"question": "what is written?", "answers": ["stop"], "image_id": "7", "words": [{"text": "STOP",
            "box": [0.1, 0.2, 0.4, 0.3], "score": 0.9}]}, ...]`, the box xyxy in 0..1 of the image's width and height,
            words in reading order; `image` names the file in the folder `images`, by default the image's id. Of a
            question may be left out `question_id` (its place in the file), `answers` (hidden), `words` (none), a word's
            `score` (1) and `split` (`file_split`, else train).
        images: their folder; None for models that read words alone, whose rows have no image.
        split: `"train"` or `"train+val"` keeps these, None keeps all.
        file_split: the split of questions that name none.

    Raises:
        ValueError: for a file that cannot be read so, a missing split or image, and a word without text or box.
    """
    records = read_json(annotations)
    if not isinstance(records, list) or not all(isinstance(record, Mapping) for record in records):
        raise ValueError(f"{annotations} is no list of questions: give objects with question, image_id and words")
    rows = [written_row(record, place, annotations, file_split) for place, record in enumerate(records)]
    if split is not None:
        present = {row["split"] for row in rows}
        wanted = wanted_splits(split, present=present, source=annotations)
        rows = [row for row in rows if row["split"] in wanted]
    if images is not None:
        paths = image_paths([row["image"] for row in rows], images)
        rows = [{**row, "image": path} for row, path in zip(rows, paths, strict=True) if path is not None]
    else:
        rows = [{**row, "image": None} for row in rows]
    if not rows:
        raise ValueError(f"{annotations} has no question")
    columns = {name: [row[name] for row in rows] for name in READING_FEATURES}
    return datasets.Dataset.from_dict(columns, features=READING_FEATURES)


def written_row(record: Mapping[str, Any], place: int, source: PathLike, file_split: str) -> dict[str, Any]:
    """The row of a question; `ValueError` naming it where it cannot be read."""
    name = f"question {place} of {Path(source).name}"
    question, image_id = record.get("question"), record.get("image_id")
    answers, words = record.get("answers", []), record.get("words", [])
    if not isinstance(question, str) or not question.strip() or image_id is None:
        raise ValueError(f"{name} lacks {'image_id' if image_id is None else 'a question'}: give both as text")
    if not isinstance(answers, list) or not all(isinstance(answer, str) for answer in answers):
        raise ValueError(f"{name} has the answers {answers!r:.60}: give a list of texts")
    if not isinstance(words, list) or not all(isinstance(word, Mapping) for word in words):
        raise ValueError(f'{name} has the words {words!r:.60}: give a list of {{"text": ..., "box": [...]}}')
    try:
        for number, word in enumerate(words):
            checked_word(word, number=number)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    return {
        "question_id": id_text(record.get("question_id", place)),
        "image_id": id_text(image_id),
        "image": str(record.get("image", image_id)),
        "question": question.strip(),
        "answers": answers,
        "words": [{"text": word["text"], "box": word["box"], "score": float(word.get("score", 1.0))} for word in words],
        "split": split_name(str(record.get("split") or file_split or "train"), source),
    }


def check_words(rows: datasets.Dataset) -> None:
    """`ValueError` for rows without a column of OCR words."""
    if "words" not in rows.column_names:
        raise ValueError(
            f"the data have no OCR words, only {listed(rows.column_names)}: name a format that reads them, or set "
            "reading.words to regions and name a store with region_texts"
        )
