"""Region phrases of Visual Genome (Krishna et al. 2017) as captions of the whole image, for pretraining.

    region_descriptions.json --read_genome_regions--> rows of training/data/captions/rows.py

LXMERT, UNITER, ALBEF and VinVL pretrain on them so: 5.4 million phrases of 108,077 images. About half of these images
are COCO's too, val and test included, so whoever scores on COCO leaves those out.
"""

import warnings
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa

from training.data.captions.columns import joined_captions, joined_dataset
from training.data.files import PathLike, all_texts, id_text, read_json, read_lines, records
from training.data.json_stream import stream_records
from training.data.splits import listed_splits, split_name, wanted_splits

SCORED_SPLITS = ("val", "test")
IMAGES_A_CHUNK = 1000


def read_genome_regions(
    region_descriptions: PathLike,
    *,
    per_image: int | None = None,
    seed: int = 0,
    exclude: PathLike | Sequence[PathLike] | None = None,
    image_data: PathLike | None = None,
    split_lists: PathLike | Mapping[str, PathLike] | None = None,
    images: PathLike | None = None,
    split: str | None = None,
    file_split: str | None = None,
) -> datasets.Dataset:
    """Visual Genome's `region_descriptions.json`, `[{"id", "regions": [{"phrase"}]}]`: an image's phrases, in its
    order.

    Args:
        region_descriptions: the file, read one image at a time.
        per_image: so many of an image's phrases at most, drawn by `seed`; None takes all (50 on average).
        seed: another seed draws other phrases; what is drawn of an image depends on no other image.
        exclude: files that name COCO images to be left out: Karpathy's `dataset_coco.json` (those of `SCORED_SPLITS`),
            a COCO file (all its `images`), or a text list with a COCO file name or id first in each line.
        image_data: `image_data.json`, which gives an image's `coco_id`; `exclude` needs it.
        split_lists: the folder with `train.txt`, `val.txt` and `test.txt`, or list files by split, with an image name
            first in each line; images in no list are left out. Without lists every image is of `file_split`, or train.
        images: the folder that holds `VG_100K` and `VG_100K_2`, or the images themselves.
        split: keep only this split.

    Left out with a warning: phrases that are blank, as some of the official file are, and images without any.

    Raises:
        ValueError: naming file and image, for what is no such file, an image that stands twice, and where nothing is
            left; and as `find_images`.
        NoSuchSplitError: where the lists have no such split.
    """
    if per_image is not None and per_image < 1:
        raise ValueError(f"per_image is {per_image}; give a number above 0, or leave it out for all phrases")
    split_of = None if split_lists is None else listed_splits(split_lists)
    only = split_name(file_split or "train", region_descriptions)
    present = {only} if split_of is None else set(split_of.values())
    wanted = present if split is None else wanted_splits(split, present=present, source=region_descriptions)
    left_out = frozenset[str]() if exclude is None else _genome_ids(_coco_ids(exclude), image_data)
    splits: dict[str, str] = {}
    ids: list[pa.Array] = []
    texts: list[pa.Array] = []
    phrases_of: list[tuple[str, list[str]]] = []
    for image_id, phrases in _images(region_descriptions):
        word = only if split_of is None else split_of.get(image_id)
        if image_id in left_out or word not in wanted:
            continue
        if image_id in splits:
            raise ValueError(f"{region_descriptions}: the image {image_id!r} stands in it twice")
        splits[image_id] = word
        phrases_of.append((image_id, _drawn(phrases, per_image, image_id=image_id, seed=seed)))
        if len(phrases_of) == IMAGES_A_CHUNK:
            _move(phrases_of, ids, texts)
    _move(phrases_of, ids, texts)
    if not sum(map(len, texts)):
        raise ValueError(f"{region_descriptions} holds no phrase of the images asked for; are the lists of its ids?")
    joined = joined_captions(pa.chunked_array(ids), pa.chunked_array(texts), images=images)
    return joined_dataset(joined, split_of=splits)


def _images(path: PathLike) -> Iterator[tuple[str, list[str]]]:
    """Each image's id and phrases; what has no phrase is counted and told at the end."""
    blank = empty = 0
    for number, image in enumerate(stream_records(path)):
        image_id = _image_id(image, place=f"{path}: record {number}")
        regions = records(image, "regions", f"{path}: the image {image_id}")
        written = [_phrase(region, place=f"{path}: a region of the image {image_id}") for region in regions]
        phrases = [phrase for phrase in written if phrase]
        blank += len(written) - len(phrases)
        empty += not phrases
        if phrases:
            yield image_id, phrases
    if blank or empty:
        warnings.warn(
            f"{path}: {blank} phrases are blank and {empty} images have none, they are left out", stacklevel=3
        )


def _image_id(image: dict[str, Any], *, place: str) -> str:
    image_id = image.get("image_id", image.get("id"))
    if image_id is None:
        raise ValueError(f"{place} has neither 'image_id' nor 'id': {str(image)[:120]}")
    return id_text(image_id)


def _phrase(region: dict[str, Any], *, place: str) -> str:
    phrase = region.get("phrase")
    if not isinstance(phrase, str) or not all_texts([phrase]):
        raise ValueError(f"{place} has no 'phrase' of text: {str(region)[:120]}")
    return phrase.strip()


def _drawn(phrases: list[str], per_image: int | None, *, image_id: str, seed: int) -> list[str]:
    """The phrases to keep, in their order."""
    if per_image is None or len(phrases) <= per_image:
        return phrases
    draw = np.random.default_rng((seed, zlib.crc32(image_id.encode())))
    return [phrases[i] for i in np.sort(draw.permutation(len(phrases))[:per_image])]


def _move(phrases_of: list[tuple[str, list[str]]], ids: list[pa.Array], texts: list[pa.Array]) -> None:
    """Moves the phrases that wait as Python objects to where they are Arrow text."""
    rows = [(image_id, phrase) for image_id, phrases in phrases_of for phrase in phrases]
    ids.append(pa.array([image_id for image_id, _ in rows], pa.large_string()))
    texts.append(pa.array([phrase for _, phrase in rows], pa.large_string()))
    phrases_of.clear()


def _coco_ids(exclude: PathLike | Sequence[PathLike]) -> frozenset[str]:
    """The COCO ids that the files name."""
    paths = [exclude] if isinstance(exclude, str | Path) or not isinstance(exclude, Sequence) else exclude
    found = frozenset(
        coco_id for path in paths for coco_id in (_json_ids(path) if Path(path).suffix == ".json" else _list_ids(path))
    )
    if not found:
        raise ValueError(f"exclude={exclude} names no COCO image; is it cut short?")
    return found


def _json_ids(path: PathLike) -> Iterator[str]:
    for image in records(read_json(path), "images", path):
        if "cocoid" in image and image.get("split") not in SCORED_SPLITS:
            continue
        coco_id = image.get("cocoid", image.get("id"))
        if type(coco_id) not in (int, float):
            raise ValueError(f"{path}: an image has neither 'cocoid' nor 'id': {str(image)[:120]}")
        yield id_text(coco_id)


def _list_ids(path: PathLike) -> Iterator[str]:
    """`val2014/COCO_val2014_000000011169.jpg 11169`, `000000011169.jpg` and `11169` all name the image 11169."""
    for number, line in enumerate(read_lines(path), start=1):
        digits = Path(line.split()[0]).stem.rpartition("_")[2]
        if not digits.isdecimal():
            raise ValueError(f"{path}, line {number}: expected a COCO file name or id first, found {line[:60]!r}")
        yield str(int(digits))


def _genome_ids(coco_ids: frozenset[str], image_data: PathLike | None) -> frozenset[str]:
    """The Visual Genome ids of COCO images."""
    if image_data is None:
        raise ValueError("exclude= names images by COCO's ids; give image_data=image_data.json to look them up")
    found, known = set(), False
    for number, image in enumerate(stream_records(image_data)):
        known = known or image.get("coco_id") is not None
        if id_text(image.get("coco_id")) in coco_ids:
            found.add(_image_id(image, place=f"{image_data}: record {number}"))
    if not known:
        raise ValueError(f"{image_data} gives no image a 'coco_id', so none could be left out; is it another file?")
    return frozenset(found)
