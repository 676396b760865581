"""Captions made of what a detector saw: "brown dog, green grass, tree". Weak supervision for images without any words.

    region store with object_ids + names of a detector's config.json --read_tags--> rows of data/captions/rows.py

Oscar (Li et al. 2020) and VinVL (Zhang et al. 2021) feed a detector's object tags as text beside the regions; here such
a list of tags stands where a caption would. It says no more than the detector knows, its mistakes included.
"""

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import torch

from training.data.captions.columns import joined_captions, joined_dataset
from training.data.files import PathLike, read_json
from training.data.splits import listed_splits, wanted_splits
from training.regions.store import RegionStore

IMAGES_A_BATCH = 256
NAMES = {"object_ids": "id2label", "attribute_ids": "attribute_id2label"}  # where a detector's config names the ids
SCORES = {"object_ids": "region_scores", "attribute_ids": "attribute_scores"}
NONE = 0  # the id of the background, and of no attribute


def read_tags(
    regions: PathLike,
    *,
    detector: PathLike,
    most_tags: int = 20,
    object_threshold: float = 0.2,
    attribute_threshold: float = 0.2,
    images: PathLike | None = None,
    split: str | None = None,
    split_lists: Mapping[str, PathLike] | None = None,
) -> datasets.Dataset:
    """A caption for each image of a region store: its objects with their attributes, the surest first, each once.

    Args:
        regions: a region store with `object_ids`, and `attribute_ids` where there should be attributes.
        detector: the folder, or the `config.json`, of the detector that made it: `id2label`, `attribute_id2label`.
        most_tags: so many tags an image at most.
        object_threshold: 0..1, regions with a lower `region_scores` are passed over (where the store has scores).
        attribute_threshold: 0..1, an attribute with lower `attribute_scores` is not named.
        images: the image folder, searched by `find_images` for the store's ids; None gives rows without images.
        split: keep only this split.
        split_lists: list files by split, `{"train": ...}`, an id of the store a line; images in no list are left out.
            By default every image is train.

    Images without a tag are left out with a warning.

    Raises:
        ValueError: for a store without `object_ids`, a config without names, an id that the config does not name, a
            number that is no threshold, and where no image has a tag; and as `find_images`.
        NoSuchSplitError: where the lists have no such split.
    """
    if most_tags < 1 or not 0 <= object_threshold <= 1 or not 0 <= attribute_threshold <= 1:
        raise ValueError(
            f"most_tags is {most_tags} and the thresholds {object_threshold} and {attribute_threshold}; give a number "
            "above 0, and thresholds in 0..1"
        )
    store = RegionStore(regions)
    if "object_ids" not in store.column_names:
        raise ValueError(
            f"the store {regions} keeps {', '.join(store.column_names)} but no object_ids; extract it with a detector"
        )
    split_of = (
        dict.fromkeys(store.image_ids, "train") if split_lists is None else listed_splits(split_lists, id_of=str.strip)
    )
    present = set(split_of.values())
    wanted = present if split is None else wanted_splits(split, present=present, source=regions)
    rows = [row for row, image_id in enumerate(store.image_ids) if split_of.get(image_id) in wanted]
    names = {ids: _names(detector, key) for ids, key in NAMES.items() if ids in store.column_names}
    thresholds = {"object_ids": object_threshold, "attribute_ids": attribute_threshold}
    captions = list(_captions(store, rows, names=names, thresholds=thresholds, most_tags=most_tags))
    if not any(captions):
        raise ValueError(f"none of the {len(rows)} images asked for of {regions} has a tag; lower object_threshold")
    if not all(captions):
        warnings.warn(f"{regions}: {captions.count('')} images have no tag and are left out", stacklevel=2)
    tagged = [(store.image_ids[row], caption) for row, caption in zip(rows, captions, strict=True) if caption]
    ids, texts = (pa.chunked_array([pa.array(column, pa.large_string())]) for column in zip(*tagged, strict=True))
    return joined_dataset(joined_captions(ids, texts, images=images), split_of=split_of)


def _captions(
    store: RegionStore,
    rows: Sequence[int],
    *,
    names: Mapping[str, Mapping[int, str]],
    thresholds: Mapping[str, float],
    most_tags: int,
) -> Iterator[str]:
    """The caption of each image of the store, "" where nothing was seen."""
    wanted = [*names, *(SCORES[ids] for ids in names if SCORES[ids] in store.column_names)]
    for start in range(0, len(rows), IMAGES_A_BATCH):
        batch = store.batch(rows[start : start + IMAGES_A_BATCH], columns=wanted)
        mask = batch["region_mask"]  # (B, R)
        sure = {ids: (batch[SCORES[ids]] >= thresholds[ids]) & mask if SCORES[ids] in batch else mask for ids in names}
        seen = {ids: batch[ids].where(sure[ids], torch.tensor(NONE, dtype=batch[ids].dtype)) for ids in names}
        surest = (
            batch["region_scores"].argsort(dim=1, descending=True, stable=True) if "region_scores" in batch else None
        )
        ordered = {
            ids: (values if surest is None else values.gather(1, surest)).tolist() for ids, values in seen.items()
        }
        for image, objects in enumerate(ordered["object_ids"]):
            attributes = ordered["attribute_ids"][image] if "attribute_ids" in ordered else [NONE] * len(objects)
            yield _caption(objects, attributes, names=names, most_tags=most_tags, store=store)


def _caption(
    objects: Sequence[int],
    attributes: Sequence[int],
    *,
    names: Mapping[str, Mapping[int, str]],
    most_tags: int,
    store: RegionStore,
) -> str:
    """The tags of an image's regions, in their order and each once, with commas between them."""
    tags: dict[str, None] = {}
    for object_id, attribute_id in zip(objects, attributes, strict=True):
        if object_id == NONE:
            continue
        try:
            words = [names["attribute_ids"][attribute_id]] if attribute_id != NONE else []
            words.append(names["object_ids"][object_id])
        except KeyError as error:
            raise ValueError(
                f"the store {store.folder} holds the id {error}, which the detector's config does not name; is it the "
                "config of the detector that made the store?"
            ) from error
        tags.setdefault(" ".join(words))
        if len(tags) == most_tags:
            break
    return ", ".join(tags)


def _names(detector: PathLike, key: str) -> dict[int, str]:
    """Names by id, as a saved config has them: `{"0": "background", "1": "dog"}`."""
    path = Path(detector) / "config.json" if os.path.isdir(detector) else Path(detector)
    content: Any = read_json(path)
    found = content.get(key) if isinstance(content, dict) else None
    if not isinstance(found, dict) or not all(
        number.isdecimal() and isinstance(name, str) for number, name in found.items()
    ):
        raise ValueError(f'{path} has no {key!r} such as {{"1": "dog"}}; give the config.json of a detector')
    return {int(number): name for number, name in found.items()}
