"""Region descriptions of Visual Genome (Krishna et al. 2017) as expressions: 5.4 million phrases, each with a box.

    region_descriptions.json, image_data.json + split lists --read_genome_phrases--> rows of phrases/rows.py

A description need not tell its region from the others: "man is wearing sneakers" may be true of two.
"""

import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import datasets
import numpy as np

from training.data.boxes.rows import LeftOut
from training.data.boxes.visual_genome import REGION_BOX, genome_splits, image_sizes
from training.data.files import PathLike, all_texts, id_text, records
from training.data.json_stream import stream_records
from training.data.phrases.expressions import Expression, ExpressionImage, expression_rows
from training.data.splits import split_name, wanted_splits


def read_genome_phrases(
    annotations: PathLike,
    *,
    images: PathLike | None = None,
    split_lists: PathLike | Mapping[str, PathLike] | None = None,
    split: str | None = None,
    file_split: str | None = None,
    per_image: int | None = None,
    seed: int = 0,
) -> datasets.Dataset:
    """Visual Genome's region descriptions, a row an image.

    Args:
        annotations: the folder of `region_descriptions.json` and `image_data.json`, each read as a stream.
        images: the folder that holds `VG_100K` and `VG_100K_2`, or the images themselves; None gives rows without
            images.
        split_lists: the JSON of lists of image ids by split, as DenseCap's `densecap_splits.json`; or the folder with
            `train.txt`, `val.txt` and `test.txt`, or list files by split. Images in no list are left out; without lists
            every image is of `file_split`, by default train.
        split: keep only these splits.
        per_image: so many descriptions of an image at most, drawn by `seed`; None takes all (50 on average).

    Returns:
        Rows of `PHRASE_FEATURES`. Left out, with one warning that counts: images that `image_data.json` does not hold,
        and what `expression_rows` leaves out.

    Raises:
        ValueError: naming file and image, for what is no such file, and as `expression_rows`.
        NoSuchSplitError: where the lists have no such split.
    """
    if per_image is not None and per_image < 1:
        raise ValueError(f"per_image is {per_image}; give a number above 0, or leave it out for all descriptions")
    path = Path(annotations) / "region_descriptions.json"
    split_of = None if split_lists is None else genome_splits(split_lists)
    only = split_name(file_split or "train", path)
    present = {only} if split_of is None else set(split_of.values())
    wanted = present if split is None else wanted_splits(split, present=present, source=path)
    left_out = LeftOut(path)
    sizes = image_sizes(Path(annotations) / "image_data.json")
    found = []
    for image_id, regions in _regions(path):
        word = only if split_of is None else split_of.get(image_id)
        if word not in wanted:
            continue
        if image_id not in sizes:
            left_out.add("images that image_data.json does not hold", f"image {image_id}")
            continue
        chosen = _drawn(regions, per_image, image_id=image_id, seed=seed)
        own = [Expression(region["phrase"], [region.get(key) for key in REGION_BOX]) for region in chosen]
        found.append(ExpressionImage(image_id, f"{image_id}.jpg", str(word), *sizes[image_id], own))
    return expression_rows(found, folder=images, source=path, left_out=left_out)


def _regions(path: Path) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The id and regions of each image; ValueError where one stands in the file twice, or has no text."""
    seen: set[str] = set()
    for number, record in enumerate(stream_records(path)):
        image_id = _image_id(record, f"{path}: record {number}")
        if image_id in seen:
            raise ValueError(f"{path}: the image {image_id!r} stands in it twice")
        seen.add(image_id)
        regions = records(record, "regions", f"{path}: the image {image_id}")
        strange = next((r for r in regions if not all_texts([r.get("phrase")])), None)
        if strange is not None:
            raise ValueError(f"{path}: a region of the image {image_id} has no 'phrase' of text: {str(strange)[:120]}")
        yield image_id, regions


def _image_id(record: Mapping[str, Any], place: str) -> str:
    image_id = record.get("image_id", record.get("id"))
    if image_id is None:
        raise ValueError(f"{place} has neither 'image_id' nor 'id': {str(record)[:120]}")
    return id_text(image_id)


def _drawn(regions: list[dict[str, Any]], most: int | None, *, image_id: str, seed: int) -> list[dict[str, Any]]:
    """The regions to keep, in their order."""
    if most is None or len(regions) <= most:
        return regions
    draw = np.random.default_rng((seed, zlib.crc32(image_id.encode())))
    return [regions[i] for i in np.sort(draw.permutation(len(regions))[:most])]
