"""Several detection data sets as one: people's boxes of one with those of COCO and of a teacher, say.

    parts, each with the options of load_detection --read_mixture--> their rows in one DetectionData, one row an image

As training/data/captions/mixture.py, for images with boxes: ids of objects and attributes mean the same in every part.
"""

import secrets
from collections.abc import Mapping, Sequence
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from training.data.boxes.rows import DETECTION_FEATURES, DetectionData
from training.data.files import Formats, PathLike
from training.data.mixture_parts import (
    check_draw,
    drawn,
    part_names,
    part_rows,
    repeated,
    splits_of_images,
    with_column,
)
from training.data.splits import NoSuchSplitError

PART_KEYS = ("format", "name", "splits", "share", "limit", "repeat")


def read_mixture(
    parts: Sequence[Mapping[str, Any]],
    *,
    formats: Formats,
    vocabulary: PathLike | None = None,
    images: PathLike | None = None,
    split: str | None = None,
    seed: int = 0,
) -> DetectionData:
    """Several detection data sets as one, in the order of the parts.

    Args:
        parts: the options of `load_detection` of each, `{"format": "coco", ...}`, and beside them, each optional:
            `name` (of the part, by default the format's), `splits` (`["train"]`: it takes part in these alone), `share`
            (0..1 of its images, drawn by `seed`), `limit` (so many images at most) and `repeat` (so many times its
            images to train on stand in the mixture).
        formats: the function of each format.
        vocabulary: the vocabulary of the parts that name none.
        images: the image folder of the parts that name none.
        split: keep only this split; parts that do not have it are passed over.
        seed: another seed draws other shares.

    Image ids get the part's name and a dash before them in every part but the first, whatever split is read:
    `coco-12`. Parts on the same images are no mixture: join them in one part, as `coco` and `flickr30k_entities` can.

    Raises:
        ValueError: naming the part, for what its reader raises, an unknown key, a share, limit or repeat that is none,
            and for parts whose names of objects or attributes differ.
        NoSuchSplitError: where no part has the split.
    """
    if not isinstance(parts, Sequence) or not parts or not all(isinstance(p, Mapping) and "format" in p for p in parts):
        raise ValueError('parts of a mixture is a list of data sets, [{"format": "coco", ...}, ...]')
    names = part_names(parts)
    loaded: dict[int, DetectionData] = {}
    tables = []
    where: Any = {"formats": formats, "images": images, "split": split, "vocabulary": vocabulary}
    for number, options in enumerate(parts, start=1):
        try:
            check_draw(options)
            data = part_rows(options, kind="detection", part_keys=PART_KEYS, splits_in=splits_of_images, **where)
        except ValueError as error:
            raise ValueError(f"part {number} of the mixture ({options['format']}): {error}") from error
        if data is not None:
            loaded[number] = data
            table = drawn(_table(data.rows), options, rng=np.random.default_rng((seed, number)))
            tables.append(repeated(_with_own_ids(table, "" if number == 1 else names[number - 1]), options))
    if not loaded:
        raise NoSuchSplitError(f"no part of the mixture has the split {split!r}")
    _check_names(loaded, names)
    info = datasets.DatasetInfo(features=DETECTION_FEATURES)
    rows = datasets.Dataset(pa.concat_tables(tables), info=info, fingerprint=secrets.token_hex(8))
    first = next(iter(loaded.values()))
    covered = {own: ids for data in loaded.values() for own, ids in data.covered.items()}
    return DetectionData(rows, first.object_names, first.attribute_names, covered)


def _table(rows: datasets.Dataset) -> pa.Table:
    """The columns of `DETECTION_FEATURES`, images undecoded."""
    undecoded = rows.select_columns(list(DETECTION_FEATURES)).cast_column("image", datasets.Image(decode=False))
    return undecoded.with_format("arrow")[:].cast(DETECTION_FEATURES.arrow_schema)


def _with_own_ids(table: pa.Table, name: str) -> pa.Table:
    if not name:
        return table
    return with_column(table, "image_id", pc.binary_join_element_wise(f"{name}-", table["image_id"], ""))


def _check_names(loaded: Mapping[int, DetectionData], names: Sequence[str]) -> None:
    """`ValueError` where an id means one thing in one part and another in the next."""
    (first, ours), *others = loaded.items()
    for number, theirs in others:
        for kind, one, other in (
            ("objects", ours.object_names, theirs.object_names),
            ("attributes", ours.attribute_names, theirs.attribute_names),
        ):
            if one != other:
                place = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), None)
                place = min(len(one), len(other)) if place is None else place
                found = [repr(own[place]) if place < len(own) else "none" for own in (one, other)]
                raise ValueError(
                    f"the {kind} of part {first} of the mixture ({names[first - 1]}) are not those of part {number} "
                    f"({names[number - 1]}): number {place + 1} is {found[0]} and {found[1]}; give both the same "
                    "vocabulary"
                )
