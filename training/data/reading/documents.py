"""Questions about documents and charts: DocVQA, InfographicVQA, SROIE's receipts and ChartQA in their official files.

    files + image folder + words --read_*--> rows of training/data/reading/rows.py

DocVQA (Mathew et al. 2021), InfographicVQA (Mathew et al. 2022), SROIE (Huang et al. 2019), whose four key fields are
asked for, and ChartQA (Masry et al. 2022), whose human and augmented questions are files of their own.
"""

import csv
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import datasets
from PIL import Image

from processors.word_spaces_updown import line_words
from processors.words_updown import Word, checked_words
from training.data.files import PathLike, read_json, read_text, records
from training.data.questions.coco import file_word
from training.data.questions.rows import as_paths, field, id_field, in_chunks, joined, official_image_paths, vqa_split
from training.data.reading.rows import reading_dataset
from training.data.reading.scene_text import WordsPath

RECEIPT_QUESTIONS = {
    "company": "what is the name of the company?",
    "date": "what is the date?",
    "address": "what is the address?",
    "total": "what is the total?",
}
RECEIPT_SPLITS = ("train",) * 7 + ("val",) + ("test",) * 2  # by the last digit of the receipt's number
QUADRILATERAL = 8  # numbers of a line of SROIE before its text
IMAGE_ENDINGS = (".jpg", ".jpeg", ".png")
CHART_PEOPLE = ("human", "augmented")
LONGEST_TABLE = 2**16  # characters


def read_docvqa(
    questions: PathLike | Sequence[PathLike],
    *,
    images: PathLike | None = None,
    words: WordsPath | None = None,
    split: str | None = None,
    file_split: str | None = None,
) -> datasets.Dataset:
    """DocVQA's and InfographicVQA's question files: `{"data": [{"questionId", "question", "image", "answers"}]}`.

    Args:
        questions: `train_v1.0.json`, `infographicsVQA_val_v1.0.json`, ..., or several; test files hide the answers.
        images: the folder of the images, or that of their folder `documents`.
        words: the folder `ocr_results` of Microsoft's Read (DocVQA) or of Textract (InfographicVQA), a file an image,
            or anything else that `open_words` takes; an image's id is its name without the ending.
        split: keep only this split.
        file_split: the split of the whole file; by default each record's `data_split`, else the file's
            `dataset_split`, else its name.

    Returns:
        Rows of `READING_FEATURES`; `question_type` is the first of DocVQA's `question_types`, `details` holds them all.
    """
    paths = as_paths(questions)
    rows = (row for path in paths for row in _document_rows(path, file_split=file_split))
    return reading_dataset(
        in_chunks(rows), images=images, words=words, split=split, source=joined(paths), find_images=official_image_paths
    )


def read_chartqa(
    questions: PathLike | Sequence[PathLike],
    *,
    images: PathLike | None = None,
    tables: PathLike | None = None,
    words: WordsPath | None = None,
    split: str | None = None,
    file_split: str | None = None,
) -> datasets.Dataset:
    """ChartQA: `{train,val,test}_{human,augmented}.json`, `[{"imgname", "query", "label"}]`.

    Args:
        questions: the file, or several; `human` or `augmented` in its name is the `question_type`.
        images: the folder `png`.
        tables: the folder `tables` with the numbers of each chart, `IMAGE.csv`; `details` holds the `table`, a list of
            rows, of the charts that have one.
        words: what `open_words` takes; an image's id is its name without the ending.
        split: keep only this split.
        file_split: the split of the whole file; by default the one that its name speaks of.
    """
    paths = as_paths(questions)
    if tables is not None and not os.path.isdir(tables):
        raise ValueError(f"there is no folder of tables {tables}")
    rows = (row for path in paths for row in _chart_rows(path, file_split=file_split, tables=tables))
    return reading_dataset(in_chunks(rows), images=images, words=words, split=split, source=joined(paths))


def read_sroie(
    folder: PathLike,
    *,
    split: str | None = None,
    words: WordsPath | None = None,
    by_word: bool = True,
    fields: Sequence[str] = tuple(RECEIPT_QUESTIONS),
) -> datasets.Dataset:
    """SROIE's receipts: `img/ID.jpg`, `key/ID.json` with the key fields, `box/ID.csv` with the lines of text.

    Args:
        folder: the folder of these three.
        split: keep only this split. The data set has none with answers, so the last digit of the receipt's number
            decides: 0 to 6 train, 7 val, 8 and 9 test.
        words: words of another OCR in place of the given lines, as `open_words` takes them.
        by_word: give words, whose boxes are shares of their line's; False: whole lines.
        fields: which key fields are asked for.

    Returns:
        Rows of `READING_FEATURES`, one a receipt and field: `question_type` is the field.

    Raises:
        ValueError: for an unknown field, a folder without receipts, and lines that are no quadrilateral and text.
    """
    odd = [name for name in fields if name not in RECEIPT_QUESTIONS]
    if odd or not fields:
        raise ValueError(f"fields are {list(fields)}; choose some of {', '.join(RECEIPT_QUESTIONS)}")
    keys = sorted((Path(folder) / "key").glob("*.json"))
    if not keys:
        raise ValueError(f"{folder} has no key/*.json: name the folder with img, key and box")
    given: Any = words
    if words is None:
        given = {path.stem: receipt_words(Path(folder), path.stem, by_word=by_word) for path in keys}
    rows = (row for path in keys for row in _receipt_rows(path, fields=fields))
    return reading_dataset(in_chunks(rows), images=Path(folder) / "img", words=given, split=split, source=str(folder))


def receipt_words(folder: Path, name: str, *, by_word: bool) -> list[Word]:
    """The lines, or words, of a receipt in 0..1 of its image, whose header alone is read."""
    path = folder / "box" / f"{name}.csv"
    found = [place for ending in IMAGE_ENDINGS if (place := folder / "img" / f"{name}{ending}").is_file()]
    if not found:
        raise ValueError(f"{path}: there is no image img/{name}.jpg, whose size its boxes need")
    with Image.open(found[0]) as image:
        width, height = image.size
    lines = []
    for number, line in enumerate(read_text(path).splitlines() if path.is_file() else [], start=1):
        *sides, text = line.split(",", QUADRILATERAL)
        if not line.strip():
            continue
        if len(sides) != QUADRILATERAL or not all(side.strip().lstrip("-").isdecimal() for side in sides):
            raise ValueError(f"{path}, line {number} is no quadrilateral of eight numbers and a text: {line[:80]}")
        values = list(map(int, sides))
        corners = tuple((values[i] / width, values[i + 1] / height) for i in range(0, QUADRILATERAL, 2))
        lines.append(Word(text, corners))
    words = [word for line in lines for word in line_words(line)] if by_word else lines
    return checked_words(words, source=str(path))


def receipt_split(name: str) -> str:
    """The split of a receipt by the last digit of its number: 0 to 6 train, 7 val, 8 and 9 test.

    >>> [receipt_split(name) for name in ("005", "017", "028")]
    ['train', 'val', 'test']
    """
    digits = [one for one in name if one.isdecimal()]
    return RECEIPT_SPLITS[int(digits[-1]) if digits else 0]


def _receipt_rows(path: Path, *, fields: Sequence[str]) -> Iterator[dict[str, Any]]:
    content = read_json(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds no object with the key fields: {str(content)[:120]}")
    for name in fields:
        value = content.get(name)
        if isinstance(value, str) and value.strip():
            yield {
                "question_id": f"{path.stem}-{name}",
                "image_id": path.stem,
                "name": _image_name(path),
                "question": RECEIPT_QUESTIONS[name],
                "answers": [value.strip()],
                "answer": value.strip(),
                "question_type": name,
                "split": receipt_split(path.stem),
            }


def _image_name(key: Path) -> str:
    """The name of a receipt's image by that of its key fields."""
    folder = key.parent.parent / "img"
    names = [f"{key.stem}{ending}" for ending in IMAGE_ENDINGS]
    return next((name for name in names if (folder / name).is_file()), names[0])


def _document_rows(path: PathLike, *, file_split: str | None) -> Iterator[dict[str, Any]]:
    content = read_json(path)
    listed = records(content, "data", path)
    of_file = content.get("dataset_split")
    for number, record in enumerate(listed):
        place = f"{path}: record {number}"
        name = str(record.get("image_local_name") or field(record, "image", place=place))
        word = file_split or record.get("data_split") or of_file or file_word(path, None)
        kinds = record.get("question_types") or []
        yield {
            "question_id": id_field(record, "questionId", place=place),
            "image_id": PurePosixPath(name).stem,
            "name": name,
            "question": field(record, "question", place=place),
            "answers": record.get("answers") or [],
            "question_type": str(kinds[0]) if kinds else "",
            "split": vqa_split(str(word), path),
            "details": json.dumps({"question_types": kinds}, ensure_ascii=False) if kinds else "",
        }


def _chart_rows(path: PathLike, *, file_split: str | None, tables: PathLike | None) -> Iterator[dict[str, Any]]:
    word = vqa_split(file_word(path, file_split), path)
    kind = next((kind for kind in CHART_PEOPLE if kind in Path(path).stem.lower()), "")
    listed = read_json(path)
    if not isinstance(listed, list):
        raise ValueError(f"{path} holds a {type(listed).__name__}, not a list of questions; is it of another format?")
    for number, record in enumerate(listed):
        place = f"{path}: record {number}"
        if not isinstance(record, Mapping):
            raise ValueError(f"{place} is no object: {str(record)[:120]}")
        name = str(field(record, "imgname", place=place))
        label = record.get("label")
        answers = [] if label is None else [str(one) for one in (label if isinstance(label, list) else [label])]
        table = [] if tables is None else chart_table(Path(tables) / f"{PurePosixPath(name).stem}.csv")
        yield {
            "question_id": f"{word}-{kind}-{number}" if kind else f"{word}-{number}",
            "image_id": PurePosixPath(name).stem,
            "name": name,
            "question": field(record, "query", place=place),
            "answers": answers,
            "answer": answers[0] if answers else "",
            "question_type": kind,
            "split": word,
            "details": json.dumps({"table": table}, ensure_ascii=False) if table else "",
        }


def chart_table(path: Path) -> list[list[str]]:
    """The rows of a chart's table, the header first; [] where there is none, `ValueError` for one too long to keep."""
    if not path.is_file():
        return []
    text = read_text(path)
    if len(text) > LONGEST_TABLE:
        raise ValueError(f"{path} has {len(text)} characters; a chart's table has at most {LONGEST_TABLE}")
    return [row for row in csv.reader(io.StringIO(text)) if row]
