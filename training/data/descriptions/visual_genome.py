"""Region descriptions of Visual Genome (Krishna et al. 2017) as dense captions, with the splits of DenseCap.

    region_descriptions.json, image_data.json, densecap_splits.json --read_genome_descriptions--> rows of boxes

`training/data/captions/visual_genome.py` reads the same phrases as captions of the whole image, `training/data/boxes/
visual_genome.py` objects and attributes.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np

from training.data.boxes.rows import (
    ImageListing,
    LeftOut,
    check_sizes,
    clip_boxes,
    dataset_of,
    image_size,
    keep_images,
    pixel_boxes,
)
from training.data.boxes.visual_genome import REGION_BOX, genome_splits, image_sizes, listed_images
from training.data.descriptions.rows import DESCRIPTION_FEATURES, description_row
from training.data.files import PathLike, id_text, records
from training.data.json_stream import stream_records

DESCRIPTIONS, IMAGES = "region_descriptions.json", "image_data.json"


def read_genome_descriptions(
    annotations: PathLike,
    *,
    images: PathLike | None = None,
    split_lists: PathLike | Mapping[str, PathLike] | None = None,
    split: str | None = None,
    file_split: str | None = None,
) -> datasets.Dataset:
    """Visual Genome's `region_descriptions.json`, versions 1.0 to 1.4: a row an image, its boxes with their phrases.

    Args:
        annotations: the folder with `region_descriptions.json`, read one image at a time, and `image_data.json`.
        images: the folder that holds `VG_100K` and `VG_100K_2`, or the images themselves; None gives rows without.
        split_lists: DenseCap's `densecap_splits.json`, `{"train": [image ids], "val": ..., "test": ...}`; or the folder
            with `train.txt`, `val.txt` and `test.txt`, or such files by split. Images in no list are left out.
        split: keep only these splits.
        file_split: the split of every image, where there are no lists; by default train.

    Returns:
        Rows of `DESCRIPTION_FEATURES` in the file's order. Left out, with one warning that counts: regions without a
        phrase or a usable box (`clip_boxes`), images without any, and those of the lists that the files do not hold.

    Raises:
        ValueError: naming file and image, for what is no such file, an image that stands twice or in two lists, and
            where no region is left.
    """
    folder = Path(annotations)
    left_out = LeftOut(folder / DESCRIPTIONS)
    sizes = image_sizes(folder / IMAGES)
    split_of = dict.fromkeys(sizes, file_split or "train") if split_lists is None else genome_splits(split_lists)
    listed = listed_images(list(sizes), images=images, split_of=split_of, left_out=left_out)
    if sizes and not listed:
        raise ValueError(f"none of the {len(sizes)} images of {folder / IMAGES} is in the lists {split_lists}")
    kept = {image.image_id: image for image in keep_images(listed, split=split, source=folder / IMAGES)}
    own = {
        image: image_size(image, width=sizes[image_id][0], height=sizes[image_id][1], source=folder / IMAGES)
        for image_id, image in kept.items()
    }
    check_sizes(own, source=folder / IMAGES)
    rows = dataset_of(_rows(folder / DESCRIPTIONS, kept, own, left_out), DESCRIPTION_FEATURES)
    if not len(rows):
        raise ValueError(
            f"{folder / DESCRIPTIONS} describes no region of the images asked for; are the lists of its ids?"
        )
    left_out.warn()
    return rows


def _rows(
    path: Path,
    kept: Mapping[str, ImageListing],
    sizes: Mapping[ImageListing, tuple[int, int]],
    left_out: LeftOut,
) -> Iterator[dict[str, Any]]:
    seen: set[str] = set()
    for number, record in enumerate(stream_records(path)):
        regions = records(record, "regions", f"{path}: record {number}")
        image_id = _image_id(record, regions, place=f"{path}: record {number}")
        if image_id not in kept:
            continue
        if image_id in seen:
            raise ValueError(f"{path}: the image {image_id!r} stands in it twice")
        seen.add(image_id)
        image = kept[image_id]
        described = list(_described(regions, size=sizes[image], place=f"the image {image_id} of {path}"))
        if len(described) < len(regions):
            lost = len(regions) - len(described)
            left_out.add("regions without a phrase or a usable box", f"of image {image_id}", count=lost)
        if described:
            yield description_row(image, described=described)
        else:
            left_out.add("images without a described region", f"image {image_id}")
    unseen = [image_id for image_id in kept if image_id not in seen]
    if unseen:
        left_out.add("images that the file does not hold", f"image {unseen[0]}", count=len(unseen))


def _image_id(record: dict[str, Any], regions: Sequence[dict[str, Any]], *, place: str) -> str:
    image_id = record.get("image_id", record.get("id"))
    if image_id is None and regions:
        image_id = regions[0].get("image_id")
    if image_id is None:
        raise ValueError(f"{place} has neither 'image_id' nor 'id': {str(record)[:120]}")
    return id_text(image_id)


def _described(
    regions: Sequence[dict[str, Any]], *, size: tuple[int, int], place: str
) -> Iterator[tuple[np.ndarray, list[str]]]:
    sides = pixel_boxes([[region.get(key) for key in REGION_BOX] for region in regions], source=place, place="regions")
    boxes, usable = clip_boxes(sides, sizes=np.asarray(size, dtype=np.float64))
    for region, box, fits in zip(regions, boxes, usable, strict=True):
        phrase = region.get("phrase")
        if isinstance(phrase, str) and phrase.strip() and fits:
            yield box, [phrase]
