"""Questions about text in photos: TextVQA, TextCaps, ST-VQA, OCR-VQA and VizWiz-VQA in their official files.

    question file + image folder + words --read_*--> rows of training/data/reading/rows.py

TextVQA (Singh et al. 2019), TextCaps (Sidorov et al. 2020), whose captions answer one fixed question, ST-VQA (Biten et
al. 2019), OCR-VQA (Mishra et al. 2019) and VizWiz-VQA (Gurari et al. 2018), where some questions have no answer.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import datasets

from training.data.files import PathLike, id_text, read_json, read_text, records
from training.data.json_stream import stream_members, stream_records
from training.data.questions.coco import file_word
from training.data.questions.rows import (
    as_paths,
    field,
    id_field,
    in_chunks,
    joined,
    official_image_paths,
    vqa_split,
)
from training.data.reading.rows import reading_dataset

WordsPath = PathLike | Sequence[PathLike]
CAPTION_QUESTION = "what does the image show?"
OCRVQA_SPLITS = {1: "train", 2: "val", 3: "test"}
UNANSWERABLE = "unanswerable"


def read_textvqa(
    questions: PathLike | Sequence[PathLike],
    *,
    images: PathLike | None = None,
    words: WordsPath | None = None,
    split: str | None = None,
    file_split: str | None = None,
) -> datasets.Dataset:
    """TextVQA: `TextVQA_0.5.1_{train,val,test}.json`, ten answers a question, which the test file hides.

    Args:
        questions: the file, or several.
        images: the folder with `IMAGE_ID.jpg`, with or without sub-folders (`train_images`, `test_images`).
        words: Rosetta's `TextVQA_Rosetta_OCR_v0.2_*.json`, or anything else that `open_words` takes.
        split: keep only this split.
        file_split: the split of the whole file; by default each record's `set_name`, else the file's name.

    Returns:
        Rows of `READING_FEATURES`.
    """
    paths = as_paths(questions)
    rows = (row for path in paths for row in _textvqa_rows(path, file_split=file_split))
    return _of_photos(rows, images=images, words=words, split=split, source=joined(paths))


def read_textcaps(
    captions: PathLike | Sequence[PathLike],
    *,
    images: PathLike | None = None,
    words: WordsPath | None = None,
    split: str | None = None,
    file_split: str | None = None,
    question: str = CAPTION_QUESTION,
) -> datasets.Dataset:
    """TextCaps: `TextCaps_0.1_{train,val,test}.json`; a row is an image, its answers are the captions.

    Args:
        captions: the file, or several.
        words: as for `read_textvqa`, whose images and words these are.
        question: that of every row.

    The other arguments are those of `read_textvqa`.
    """
    paths = as_paths(captions)
    rows = (row for path in paths for row in _textcaps_rows(path, file_split=file_split, question=question))
    return _of_photos(rows, images=images, words=words, split=split, source=joined(paths))


def read_stvqa(
    questions: PathLike | Sequence[PathLike],
    *,
    images: PathLike | None = None,
    words: WordsPath | None = None,
    split: str | None = None,
    file_split: str | None = None,
) -> datasets.Dataset:
    """ST-VQA: `train_task_{1,2,3}.json` and `test_task_{1,2,3}.json`.

    Args:
        questions: the file of a task, or several.
        images: the folder of the sub-folders that the records' `file_path` names (`coco-text`, `icdar`, ...).
        words: Amazon's, or Rosetta's as MMF has them; an image's id is its path without the ending.
        split: keep only this split.
        file_split: the split of the whole file; by default each record's `set_name`, else the file's name.

    Returns:
        Rows of `READING_FEATURES`. In task 1 the `choices` are the question's own dictionary; task 2 has one dictionary
        for all, which `read_stvqa_dictionary` reads; task 3 has none. `details` holds the `task`.
    """
    paths = as_paths(questions)
    rows = [row for path in paths for row in _stvqa_rows(path, file_split=file_split)]
    if not any(row["choices"] for row in rows):
        for row in rows:
            del row["choices"]
    return reading_dataset(in_chunks(rows), images=images, words=words, split=split, source=joined(paths))


def read_stvqa_dictionary(path: PathLike) -> list[str]:
    """The words that answers of ST-VQA's task 2 are made of: a text file with a word a line, or the task's JSON.

    Raises `ValueError` for a file without a dictionary.
    """
    if Path(path).suffix != ".json":
        found: Any = [line.strip() for line in read_text(path).split("\n")]
    else:
        content = read_json(path)
        found = content.get("dictionary") if isinstance(content, dict) else content
    words = list(dict.fromkeys(word for word in found or [] if isinstance(word, str) and word))
    if not words:
        raise ValueError(f"{path} holds no dictionary: give a text file with a word a line, or the file of task 2")
    return words


def read_ocrvqa(
    annotations: PathLike,
    *,
    images: PathLike | None = None,
    words: WordsPath | None = None,
    split: str | None = None,
) -> datasets.Dataset:
    """OCR-VQA: `dataset.json`, covers of books with several questions and one answer each.

    Args:
        annotations: the file of all splits.
        images: the folder with `IMAGE_ID` and the ending of the cover's address (.jpg).
        words: what `open_words` takes.
        split: keep only this split.
    """
    rows = _ocrvqa_rows(annotations)
    return _of_photos(rows, images=images, words=words, split=split, source=str(annotations))


def read_vizwiz_vqa(
    annotations: PathLike | Sequence[PathLike],
    *,
    images: PathLike | None = None,
    words: WordsPath | None = None,
    split: str | None = None,
    file_split: str | None = None,
) -> datasets.Dataset:
    """VizWiz-VQA: `train.json`, `val.json`, `test.json`, a question an image, asked by people who are blind.

    Args:
        annotations: the file, or several.
        images: the folder with its images.
        words: what `open_words` takes.
        split: keep only this split.
        file_split: the split of the whole file; by default the one that its name speaks of.

    Returns:
        Rows of `READING_FEATURES` with the ten answers, "unanswerable" among them; `answer_type` is the file's, and
        `details` holds `answerable`, 1 or 0, where the file says it: the labels of `answerability`.
    """
    paths = as_paths(annotations)
    rows = (row for path in paths for row in _vizwiz_rows(path, file_split=file_split))
    return _of_photos(rows, images=images, words=words, split=split, source=joined(paths))


def _of_photos(rows: Any, **options: Any) -> datasets.Dataset:
    return reading_dataset(in_chunks(rows), find_images=official_image_paths, **options)


def _textvqa_rows(path: PathLike, *, file_split: str | None) -> Iterator[dict[str, Any]]:
    for place, record in _data(path):
        image_id = id_field(record, "image_id", place=place)
        yield {
            "question_id": id_field(record, "question_id", place=place),
            "image_id": image_id,
            "name": f"{image_id}.jpg",
            "question": field(record, "question", place=place),
            "answers": record.get("answers") or [],
            "split": _split_of(record, path, file_split),
        }


def _textcaps_rows(path: PathLike, *, file_split: str | None, question: str) -> Iterator[dict[str, Any]]:
    seen: set[str] = set()
    for place, record in _data(path):
        image_id = id_field(record, "image_id", place=place)
        if image_id in seen:  # the training file has a record a caption, each with all of the image's
            continue
        seen.add(image_id)
        own = record.get("reference_strs") or ([record["caption_str"]] if record.get("caption_str") else [])
        yield {
            "question_id": image_id,
            "image_id": image_id,
            "name": f"{image_id}.jpg",
            "question": question,
            "answers": own,
            "split": _split_of(record, path, file_split),
        }


def _stvqa_rows(path: PathLike, *, file_split: str | None) -> Iterator[dict[str, Any]]:
    content = read_json(path)
    task = id_text(content.get("task_id") or "") if isinstance(content, dict) else ""
    for number, record in enumerate(records(content, "data", path)):
        place = f"{path}: record {number}"
        name = str(record.get("file_path") or field(record, "file_name", place=place))
        yield {
            "question_id": id_field(record, "question_id", place=place),
            "image_id": str(PurePosixPath(name).with_suffix("")),
            "name": name,
            "question": field(record, "question", place=place),
            "answers": record.get("answers") or [],
            "choices": record.get("dictionary") or [],
            "split": _split_of(record, path, file_split),
            "details": json.dumps({"task": task}) if task else "",
        }


def _ocrvqa_rows(path: PathLike) -> Iterator[dict[str, Any]]:
    for image_id, record in stream_members(path):
        place = f"{path}: {image_id}"
        if not isinstance(record, dict):
            raise ValueError(f"{place} is no object: {str(record)[:120]}")
        asked, answers = (field(record, key, place=place) for key in ("questions", "answers"))
        number = record.get("split")
        if number not in OCRVQA_SPLITS or len(asked) != len(answers):
            raise ValueError(
                f"{place} has {len(asked)} questions, {len(answers)} answers and the split {number!r}: every question "
                "has an answer, and the splits are 1, 2 and 3"
            )
        ending = PurePosixPath(str(record.get("imageURL", "")).split("?")[0]).suffix or ".jpg"
        for row, (question, answer) in enumerate(zip(asked, answers, strict=True)):
            yield {
                "question_id": f"{image_id}-{row}",
                "image_id": id_text(image_id),
                "name": f"{image_id}{ending}",
                "question": question,
                "answers": [str(answer)],
                "answer": str(answer),
                "split": OCRVQA_SPLITS[number],
            }


def _vizwiz_rows(path: PathLike, *, file_split: str | None) -> Iterator[dict[str, Any]]:
    word = vqa_split(file_word(path, file_split), path)
    for number, record in enumerate(stream_records(path)):
        place = f"{path}: record {number}"
        name = str(field(record, "image", place=place))
        people = record.get("answers") or []
        answerable = record.get("answerable")
        yield {
            "question_id": PurePosixPath(name).stem,
            "image_id": PurePosixPath(name).stem,
            "name": name,
            "question": field(record, "question", place=place),
            "answers": [one.get("answer") if isinstance(one, dict) else one for one in people],
            "answer": UNANSWERABLE if answerable == 0 else "",
            "answer_type": str(record.get("answer_type") or ""),
            "split": word,
            "details": "" if answerable is None else json.dumps({"answerable": int(answerable)}),
        }


def _data(path: PathLike) -> Iterator[tuple[str, dict[str, Any]]]:
    """(place, record) of each record of the list `data`; `ValueError` for a file without one."""
    number = -1
    for key, record in stream_members(path, inside=("data",)):
        if key != "data":
            continue
        number += 1
        if not isinstance(record, dict):
            raise ValueError(f"{path}: record {number} of data is no object: {str(record)[:120]}")
        yield f"{path}: record {number}", record
    if number < 0:
        raise ValueError(f"{path} has no list 'data' with a record; is it the file of another format?")


def _split_of(record: Mapping[str, Any], path: PathLike, file_split: str | None) -> str:
    """The split of a record: the one given, else its `set_name`, else what the file's name speaks of."""
    return vqa_split(file_split or record.get("set_name") or file_word(path, None), path)
