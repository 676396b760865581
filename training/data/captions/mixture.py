"""Several caption data sets as one, for pretraining: COCO, Visual Genome, Conceptual Captions and SBU in UNITER.

    parts, each with the options of load_captions --read_mixture--> their rows in one data set, one row an image

As training/data/questions/mixture.py, for rows of images: parts that share images share rows.
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from training.data.captions.rows import CAPTION_FEATURES
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

# Formats whose data sets call the same image by the same id, whatever the file.
IMAGE_IDS = {"coco": "coco", "visual_genome_regions": "visual_genome"}
PART_KEYS = ("format", "name", "splits", "share", "limit", "repeat", "image_ids")


@dataclass
class _Part:
    """A part of a mixture: its number from 1, rows, what the recipe says of it, name, and whose image ids it has."""

    number: int
    table: pa.Table
    options: Mapping[str, Any]
    name: str
    image_ids: str


def read_mixture(
    parts: Sequence[Mapping[str, Any]],
    *,
    formats: Formats,
    images: PathLike | None = None,
    split: str | None = None,
    seed: int = 0,
) -> datasets.Dataset:
    """Several caption data sets as one, in the order of the parts.

    Args:
        parts: the options of `load_captions` of each, `{"format": "karpathy", ...}`, and beside them, each optional:
            `name` (of the part, by default the format's), `splits` (`["train"]`: it takes part in these alone), `share`
            (0..1 of its images, drawn by `seed`), `limit` (so many images at most), `repeat` (so many times its
            images to train on stand in the mixture) and `image_ids`.
        formats: the function of each format.
        images: the image folder of the parts that name none.
        split: keep only this split; parts that do not have it are passed over.
        seed: another seed draws other shares.

    An empty `domain` becomes the part's name. Image ids get `image_ids` (by default the part's name) and a dash before
    them wherever a part's images are not those of the first part, whatever split is read, so that regions stored under
    an id never belong to another image: `cc3m-12` behind COCO's image 12. Parts with the same `image_ids`, a word of
    yours, are on the same images: an image of several stands once, with the captions of all.

    Raises:
        ValueError: naming the part, for what its reader raises, an unknown key, a share, limit or repeat that is none,
            and for an image that two parts have in different splits.
        NoSuchSplitError: where no part has the split.
    """
    if not isinstance(parts, Sequence) or not parts or not all(isinstance(p, Mapping) and "format" in p for p in parts):
        raise ValueError('parts of a mixture is a list of data sets, [{"format": "karpathy", ...}, ...]')
    names = part_names(parts)
    image_ids = [
        str(p.get("image_ids", IMAGE_IDS.get(p["format"], name))) for p, name in zip(parts, names, strict=True)
    ]
    loaded = []
    where: Any = {"formats": formats, "images": images, "split": split}
    for number, options in enumerate(parts, start=1):
        try:
            check_draw(options)
            rows = part_rows(options, kind="caption", part_keys=PART_KEYS, splits_in=splits_of_images, **where)
        except ValueError as error:
            raise ValueError(f"part {number} of the mixture ({options['format']}): {error}") from error
        if rows is not None:
            table = drawn(_table(rows), options, rng=np.random.default_rng((seed, number)))
            loaded.append(_Part(number, table, options, names[number - 1], image_ids[number - 1]))
    if not loaded:
        raise NoSuchSplitError(f"no part of the mixture has the split {split!r}")
    named = [_named(part, first_image_ids=image_ids[0]) for part in loaded]
    table = pa.concat_tables(
        repeated(table, part.options) for table, part in zip(_joined(named, loaded), loaded, strict=True)
    )
    return datasets.Dataset(
        table, info=datasets.DatasetInfo(features=CAPTION_FEATURES), fingerprint=secrets.token_hex(8)
    )


def _table(rows: datasets.Dataset) -> pa.Table:
    """The columns of `CAPTION_FEATURES`, images undecoded."""
    undecoded = rows.select_columns(list(CAPTION_FEATURES)).cast_column("image", datasets.Image(decode=False))
    return undecoded.with_format("arrow")[:].cast(CAPTION_FEATURES.arrow_schema)


def _named(part: _Part, *, first_image_ids: str) -> pa.Table:
    """The part's rows with ids that only the same image has in other parts, and with its name for an empty domain."""
    table = part.table
    domain = pc.if_else(pc.equal(table["domain"], ""), part.name, table["domain"])
    ids = table["image_id"]
    if part.image_ids != first_image_ids:
        ids = pc.binary_join_element_wise(f"{part.image_ids}-", ids, "")
    return with_column(with_column(table, "domain", domain), "image_id", ids)


def _joined(tables: Sequence[pa.Table], parts: Sequence[_Part]) -> list[pa.Table]:
    """The tables without the images of earlier ones, to whose captions theirs are added."""
    found = list(tables)
    for image_ids in {part.image_ids for part in parts}:
        sharing = [number for number, part in enumerate(parts) if part.image_ids == image_ids]
        if len(sharing) > 1:
            joined = _joined_images([tables[number] for number in sharing], [parts[number] for number in sharing])
            for number, table in zip(sharing, joined, strict=True):
                found[number] = table
    return found


def _joined_images(tables: Sequence[pa.Table], parts: Sequence[_Part]) -> list[pa.Table]:
    """`_joined` for parts on the same images.

    An image in different splits would be trained on and scored: ValueError.
    """
    home_of: dict[str, tuple[int, int]] = {}  # image id -> table and row
    added: list[dict[int, list[str]]] = [{} for _ in tables]  # table -> row -> captions of later parts
    kept = []
    for number, table in enumerate(tables):
        new = np.ones(len(table), dtype=bool)
        for row, image_id in enumerate(table["image_id"].to_pylist()):
            home, place = home_of.setdefault(image_id, (number, row))
            if home == number:
                continue
            first, again = tables[home]["split"][place].as_py(), table["split"][row].as_py()
            if first != again:
                raise ValueError(
                    f"the image {image_id!r} is {first} in part {parts[home].number} of the mixture "
                    f"({parts[home].name}) and {again} in part {parts[number].number} ({parts[number].name}); leave it "
                    "out of one of them, or read one split"
                )
            new[row] = False
            added[home].setdefault(place, []).extend(table["captions"][row].as_py())
        kept.append(new)
    return [
        _with_captions(table, more).filter(pa.array(new)) for table, more, new in zip(tables, added, kept, strict=True)
    ]


def _with_captions(table: pa.Table, added: Mapping[int, list[str]]) -> pa.Table:
    if not added:
        return table
    captions = table["captions"].to_pylist()
    for row, texts in added.items():
        captions[row] = captions[row] + texts
    return with_column(table, "captions", pa.array(captions, table.schema.field("captions").type))
