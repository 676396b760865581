"""SNLI-VE (Xie et al. 2019) and e-SNLI-VE (Do et al. 2020), and SNLI itself, whose premises are captions of Flickr30k.

    snli_ve_train.jsonl | esnlive_train.csv | snli_1.0_train.jsonl --read_snli_ve | read_esnlive--> rows of `rows.py`

The hypothesis of each pair is the statement, and its premise becomes the image that it is a caption of.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets

from training.data.files import PathLike, read_json_lines, read_table
from training.data.splits import split_name
from training.data.statements.rows import ENTAILMENT, Statement, file_word, first_key, statement_dataset

IMAGES = ("Flickr30K_ID", "Flickr30kID", "image", "captionID")  # of SNLI alone the caption names its image
TEXTS = ("sentence2", "hypothesis")
LABELS = ("gold_label", "label")
IMAGE_SUFFIX = re.compile(r"\.(?:jpe?g|png|webp)$", flags=re.IGNORECASE)


def read_snli_ve(
    annotations: PathLike,
    *,
    images: PathLike | None = None,
    split: str | None = None,
    file_split: str | None = None,
    split_column: str | None = None,
) -> datasets.Dataset:
    """SNLI-VE's JSONL, or SNLI's own.

    Args:
        annotations: one pair a line: `sentence2` (or `hypothesis`), `gold_label` (or `label`), and the image's
            `Flickr30K_ID` (or `image`, a file's name); SNLI names it by the `captionID`, "2248275918.jpg#2".
        images: the image folder, with `2248275918.jpg`; None for rows without images, of which words alone are left.
        split: keep only this split.
        file_split: the split of every row; by default the one that the file's name speaks of.
        split_column: the key that says the split of each row, where one file holds several.

    Returns:
        Rows of `STATEMENT_FEATURES`; `statement_id` is the `pairID`, else the number of the line.

    Raises:
        ValueError: naming file and line, for a line without image, hypothesis or class; as `statement_dataset`.
    """
    given = read_json_lines(annotations)
    return _rows(given, annotations, images, split=split, file_split=file_split, split_column=split_column)


def read_esnlive(
    annotations: PathLike,
    *,
    images: PathLike | None = None,
    split: str | None = None,
    file_split: str | None = None,
) -> datasets.Dataset:
    """e-SNLI-VE's CSV: SNLI-VE's pairs with labels corrected by people; explanations are not read.

    Columns `pairID`, `Flickr30kID`, `hypothesis`, `gold_label`. Arguments, rows and errors as for `read_snli_ve`.
    """
    given = read_table(annotations)
    return _rows(given, annotations, images, split=split, file_split=file_split, split_column=None)


def _rows(
    given: Sequence[Mapping[str, Any]],
    source: PathLike,
    images: PathLike | None,
    *,
    split: str | None,
    file_split: str | None,
    split_column: str | None,
) -> datasets.Dataset:
    word = file_word(source, file_split)
    statements = []
    for number, record in enumerate(given, start=1):
        place = f"{source}: record {number}"
        own = word if split_column is None else split_name(first_key(record, [split_column], place=place), place)
        statements.append(
            Statement(
                statement_id=str(record.get("pairID") or f"{own}-{number}"),
                names=(image_name(first_key(record, IMAGES, place=place)),),
                text=first_key(record, TEXTS, place=place),
                label=first_key(record, LABELS, place=place),
                split=own,
            )
        )
    return statement_dataset(statements, labels=ENTAILMENT, images=images, split=split, source=source)


def image_name(text: Any) -> str:
    """The name of an image's file from its Flickr id, its name, or the id of a caption of it.

    >>> image_name("2248275918"), image_name("2248275918.jpg#2"), image_name("1007_b5.jpg")
    ('2248275918.jpg', '2248275918.jpg', '1007_b5.jpg')
    """
    name = str(text).partition("#")[0]
    return name if IMAGE_SUFFIX.search(name) else f"{Path(name)}.jpg"
