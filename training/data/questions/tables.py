"""Anyone's questions: a CSV, TSV, JSON or JSONL table beside a folder of images, and any data set of the Hub.

    table + images --read_table_questions | read_folder--> rows of training/data/questions/rows.py
    datasets.load_dataset(...) --read_hub--> the same rows

Which column is which is known by its usual names, or told with `columns={"question": "Frage", ...}`.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa

from training.data.files import PathLike, check_image_names, id_text, image_paths, read_table
from training.data.json_stream import stream_records
from training.data.questions.coco import file_word
from training.data.questions.rows import (
    VQA_FEATURES,
    question_table,
    split_in,
    vqa_dataset,
    vqa_split,
    vqa_splits,
    with_images,
)
from training.data.splits import NoSuchSplitError

TABLE_NAMES = tuple(
    f"{stem}.{ending}" for stem in ("metadata", "questions", "vqa") for ending in ("jsonl", "json", "csv", "tsv")
)
# Our name of each column, and the names it goes by elsewhere.
USUAL_NAMES = {
    "image": ("image", "file_name", "image_name", "filename"),
    "image_id": ("image_id", "imageId"),
    "question_id": ("question_id", "questionId"),
    "question": ("question",),
    "answers": ("answers", "direct_answers"),
    "answer": ("answer", "multiple_choice_answer"),
    "question_type": ("question_type",),
    "answer_type": ("answer_type",),
    "choices": ("choices", "multiple_choices"),
    "correct_choice": ("correct_choice", "correct_choice_idx"),
    "split": ("split",),
    "details": ("details",),
}
LIST_MARK = "|"


def read_table_questions(
    table: PathLike,
    *,
    images: PathLike | None = None,
    split: str | None = None,
    file_split: str | None = None,
    columns: Mapping[str, str] | None = None,
) -> datasets.Dataset:
    """A table with a question in each row.

    Args:
        table: a CSV or TSV with a header, a JSONL, or a JSON list of objects.
        images: the image folder, to which the table's image names are relative; None for rows without images.
        split: keep only this split.
        file_split: the split of rows that name none; by default what the file's name says, else train.
        columns: your name for any column of `USUAL_NAMES`, `{"question": "Frage"}`.

    The table needs `question`, `image` (or `file_name`, ...) and, but for questions nobody answered yet, `answers` (a
    list, or text with `|` between them) or one `answer`. `choices` are a list or text with `|`; `correct_choice` counts
    from 0, and without it the `answer` tells. Without `question_id` the id is the number of the row, from 1; without
    `image_id` it is the image's name. Numbers are taken as their text.
    """
    rows = list(stream_records(table)) if Path(table).suffix == ".json" else read_table(table)
    if not rows:
        raise ValueError(f"{table} holds no row")
    present = list(dict.fromkeys(key for row in rows for key in row))
    chosen = _chosen_columns(present, columns or {}, table)
    if "image" not in chosen:
        raise ValueError(f"{table} has no column for the image's name; it has {', '.join(present)}{_CURE}")
    word = file_word(table, file_split)
    ours = {name: [row.get(theirs) for row in rows] for name, theirs in chosen.items()}
    names = [_text(name) for name in ours.pop("image")]
    nameless = next((i for i, name in enumerate(names) if not isinstance(name, str) or not name), None)
    if nameless is not None:
        raise ValueError(f"{table}, row {nameless + 1} names no image: {str(rows[nameless])[:120]}")
    image_ids = ours.get("image_id") or [None] * len(rows)
    return vqa_dataset(
        [
            {
                **_as_columns(ours, num_rows=len(rows)),
                "image_id": [name if i in (None, "") else id_text(i) for i, name in zip(image_ids, names, strict=True)],
                "split": [own or word for own in ours.get("split") or [None] * len(rows)],
                "name": names,
            }
        ],
        images=images,
        split=split,
        source=table,
        find_images=image_paths,
    )


def read_folder(
    folder: PathLike,
    *,
    table: PathLike | None = None,
    images: PathLike | None = None,
    split: str | None = None,
    file_split: str | None = None,
    columns: Mapping[str, str] | None = None,
) -> datasets.Dataset:
    """Your own images: a folder, and a table of questions in it (one of `TABLE_NAMES`) or elsewhere (`table`).

    Args:
        images: where the images lie if not in `folder`.

    The others are those of `read_table_questions`.
    """
    if not os.path.isdir(folder):
        raise ValueError(f"there is no folder {folder}")
    path = table if table is not None else _table_in(folder)
    return read_table_questions(
        path, images=folder if images is None else images, split=split, file_split=file_split, columns=columns
    )


def read_hub(
    path: str,
    *,
    name: str | None = None,
    revision: str | None = None,
    data_dir: str | None = None,
    data_files: str | list[str] | dict[str, str] | None = None,
    columns: Mapping[str, str] | None = None,
    images: PathLike | None = None,
    split: str | None = None,
) -> datasets.Dataset:
    """Any data set `datasets.load_dataset` reads: a Hub id, or `imagefolder`, `parquet`, ... on local files.

    Args:
        path, name, revision, data_dir, data_files: passed to `datasets.load_dataset`.
        columns: your name for any column of `USUAL_NAMES`. Answers may be a list of texts or of objects with `answer`.
        images: the image folder, where the column `image` holds names of files.
        split: keep only this split; `validation` and `dev` are called val.

    Without `question_id` and `image_id` both are `<split>-<row number>`: every row counts as an image of its own.
    """
    loaded = datasets.load_dataset(path, name=name, revision=revision, data_dir=data_dir, data_files=data_files)
    split_of = {key: split_in(str(key)) or vqa_split(str(key), path) for key in loaded}
    wanted = vqa_splits(split, path) if split else set(split_of.values())
    if not wanted & set(split_of.values()):
        raise NoSuchSplitError(
            f"{path} has no question of the split {split!r}; it has {', '.join(sorted(set(split_of.values())))}"
        )
    parts = [
        _hub_split(loaded[key], split=word, columns=columns or {}, images=images)
        for key, word in split_of.items()
        if word in wanted
    ]
    return datasets.concatenate_datasets(parts)


_CURE = ' (name yours with columns={"image": ..., "question": ..., "answers": ...})'


def _chosen_columns(present: Sequence[str], columns: Mapping[str, str], source: PathLike) -> dict[str, str]:
    """Their column of each of ours that is there; ValueError for a column named that is not, or no question."""
    unknown = [name for name in columns if name not in USUAL_NAMES]
    absent = [theirs for theirs in columns.values() if theirs not in present]
    if unknown or absent:
        fault = f"{unknown[0]!r} is none of {', '.join(USUAL_NAMES)}" if unknown else f"there is no {absent[0]!r}"
        raise ValueError(f"columns of {source}: {fault}; the table has {', '.join(present)}")
    usual = {
        name: next((candidate for candidate in names if candidate in present), None)
        for name, names in USUAL_NAMES.items()
    }
    chosen = {name: theirs for name, theirs in {**usual, **columns}.items() if theirs is not None}
    if "question" not in chosen:
        raise ValueError(f"{source} has no column question; it has {', '.join(present)}{_CURE}")
    return chosen


def _as_columns(ours: Mapping[str, Sequence[Any]], *, num_rows: int) -> dict[str, list[Any]]:
    """Values as `question_table` takes them: texts, lists of texts, whole numbers; what is blank is empty."""
    columns: dict[str, list[Any]] = {"question_id": [str(i) for i in range(1, num_rows + 1)]}
    for name, values in ours.items():
        if name in ("answers", "choices"):
            columns[name] = [_texts(value) for value in values]
        elif name == "correct_choice":
            columns[name] = [_whole_number(value) for value in values]
        else:
            as_text = id_text if name in ("question_id", "image_id") else _text
            columns[name] = ["" if value is None else as_text(value) for value in values]
    if "question_id" in ours:
        columns["question_id"] = [i or str(row) for row, i in enumerate(columns["question_id"], start=1)]
    if "answers" not in columns and "answer" in columns:
        columns["answers"] = [[answer] if answer else [] for answer in columns["answer"]]
    return columns


def _texts(value: Any) -> Any:
    """A list of texts from a list (of texts, numbers or objects with `answer`) or from text with `|` in it."""
    if value is None or value == "":
        return []
    if isinstance(value, str):
        return [part.strip() for part in value.split(LIST_MARK)]
    if isinstance(value, list):
        return [_text(part.get("answer") if isinstance(part, dict) else part) for part in value]
    return [_text(value)]


def _text(value: Any) -> Any:
    """A number as its text; all else as it is."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _whole_number(value: Any) -> Any:
    """The row of a choice; what is none stays as it is, for `question_table` to report."""
    if value is None or value == "":
        return -1
    return int(value) if isinstance(value, str) and value.strip().lstrip("-").isdecimal() else value


def _table_in(folder: PathLike) -> Path:
    found = [Path(folder) / name for name in TABLE_NAMES if (Path(folder) / name).is_file()]
    if len(found) != 1:
        fault = f"holds {', '.join(path.name for path in found)}" if found else "has no table of questions"
        raise ValueError(f"{folder} {fault}; pass table=..., or put exactly one of {', '.join(TABLE_NAMES)} into it")
    return found[0]


def _hub_split(
    part: datasets.Dataset, *, split: str, columns: Mapping[str, str], images: PathLike | None
) -> datasets.Dataset:
    """One split of a Hub data set under our columns; its images stay undecoded where they are."""
    chosen = _chosen_columns(part.column_names, columns, "the data set")
    ours = {name: _values(part, theirs) for name, theirs in chosen.items() if name not in ("image", "split")}
    made = [f"{split}-{row}" for row in range(len(part))]
    table = question_table(
        [
            {
                "question_id": made,
                "image_id": made,
                **_as_columns({"question_id": made, **ours}, num_rows=len(part)),
                "split": [split] * len(part),
                "name": [str(row) for row in range(len(part))],
            }
        ],
        split=None,
        source="the data set",
    )
    no_images = pa.nulls(len(table), VQA_FEATURES.arrow_schema.field("image").type)
    if "image" not in chosen:
        return with_images(table, no_images)
    kept = part.select_columns(chosen["image"]).select([int(row) for row in table["name"].to_pylist()])
    if images is not None:
        names = [str(name) for name in kept[chosen["image"]]]
        return _found_images(table, image_paths(names, images))
    cure = "write names relative to it, or name the images' folder in images="
    check_image_names(kept, chosen["image"], cure=cure)
    if chosen["image"] != "image":
        kept = kept.rename_column(chosen["image"], "image")
    words = with_images(table, no_images).remove_columns("image")
    rows = datasets.concatenate_datasets([words, kept.cast_column("image", datasets.Image())], axis=1)
    return rows.select_columns(list(VQA_FEATURES))


def _found_images(table: pa.Table, paths: Sequence[str | None]) -> datasets.Dataset:
    kind = VQA_FEATURES.arrow_schema.field("image").type
    found = pa.array([path is not None for path in paths])
    images = pa.array([{"bytes": None, "path": path} for path in paths if path is not None], kind)
    return with_images(table.filter(found), images)


def _values(part: datasets.Dataset, name: str) -> list[Any]:
    """A column, with class labels as their names."""
    feature = part.features[name]
    values = part[name][:]
    return feature.int2str(values) if isinstance(feature, datasets.ClassLabel) else values
