"""Referring segmentation: the mask of a phrase is that of its best region, scored by the polygons of its true boxes.

    region_masks of the best region + its box --paste_masks--> mask of the image --refexp_mask_iou--> figures
    polygons of a phrase --rasterise--> true mask of the image

Masks are compared in the pixels of each image as its file has them (`training/metrics/grounding/refexp.py`).
"""

import io
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from datasets import Dataset

from modeling_updown.masks_updown import paste_masks
from training.data.boxes.rows import size_in_file
from training.data.polygons import Polygons, rasterise
from training.metrics.grounding.refexp import MASK_THRESHOLDS, refexp_mask_iou
from training.regions.clips import ClipStore
from training.regions.extract import ImageRegions, undecoded

COLUMN = "region_masks"
FIGURES = {
    "mask_mean_iou": "mean IoU of masks",
    "mask_overall_iou": "overall IoU of masks",
    **{f"mask_precision_{round(100 * least)}": f"masks' P@{least:g}" for least in MASK_THRESHOLDS},
    "mask_mean_iou_box": "mean IoU of the boxes of these masks, filled",
    "mask_overall_iou_box": "overall IoU of the boxes of these masks, filled",
}
OF_BOXES = "_box"  # what the names of figures of filled boxes end with, which masks are to beat


class PhraseMask(NamedTuple):
    """The mask (M, M) of a phrase's best region, 0..1, inside that region's box (4,), xyxy in 0..1."""

    mask: np.ndarray
    box: np.ndarray


class MaskedPhrase(NamedTuple):
    """A phrase with a true mask: its polygons, what was found of it (None where it was cut off its sentence), and the
    row of its image.
    """

    found: PhraseMask | None
    polygons: Polygons
    owner: int


def has_masks(rows: Dataset) -> bool:
    """Whether a phrase of the rows has a true mask."""
    return any(
        any(any(phrase["polygons"]) for own in phrases for phrase in own)
        for batch in rows.select_columns(["phrases"]).iter(batch_size=1000)
        for phrases in batch["phrases"]
    )


def read_masks(images: ImageRegions, rows: Dataset) -> bool:
    """Have the masks of regions read beside their features where the rows have true ones to score them by, and the
    store has them; pixels need nothing, since a region source makes its masks. Says whether the store is read for them.
    """
    store = images.stores.get(False)
    if store is None or COLUMN not in store.column_names or COLUMN in images.columns or not has_masks(rows):
        return False
    images.columns[COLUMN] = "which referring segmentation scores"
    return True


def best_mask(output: Any, owner: int, region: int) -> PhraseMask | None:
    """The mask of a region by its number among all of an image, or None where regions have no masks."""
    if output.region_masks is None:
        return None
    mask, box = output.region_masks[owner, region], output.region_boxes[owner, region]
    return PhraseMask(mask.float().cpu().numpy(), box.float().cpu().numpy())


def mask_figures(phrases: Sequence[MaskedPhrase], rows: Dataset, images: ImageRegions) -> dict[str, float]:
    """The figures of `FIGURES`, 0..1, of phrases whose boxes have polygons; {} where none has, or no region a mask.

    A phrase that was cut off its sentence is a miss. A true mask without a pixel of its image is left out, with a
    warning. Raises `ValueError` where the size of an image is not known.
    """
    masked = [phrase for phrase in phrases if phrase.polygons]
    if not masked or all(phrase.found is None for phrase in masked):
        return {}
    sizes = {owner: image_size(rows, owner, images) for owner in dict.fromkeys(phrase.owner for phrase in masked)}
    seen = [phrase for phrase in masked if _true(phrase, sizes).any()]
    if len(seen) < len(masked):
        warnings.warn(f"{len(masked) - len(seen)} of {len(masked)} true masks have no pixel: left out", stacklevel=2)
    if not seen:
        return {}
    figures: dict[str, float] = {}
    for ending, shown in (("", seen), (OF_BOXES, [filled(phrase) for phrase in seen])):
        scores = refexp_mask_iou(_predicted(shown, sizes), (_true(phrase, sizes) for phrase in seen))
        figures |= {f"mask_{name}{ending}": value for name, value in scores.items()}
    return {name: figures[name] for name in FIGURES}


def filled(phrase: MaskedPhrase) -> MaskedPhrase:
    """A phrase whose mask is all of its region's box."""
    if phrase.found is None:
        return phrase
    return phrase._replace(found=phrase.found._replace(mask=np.ones_like(phrase.found.mask)))


def _true(phrase: MaskedPhrase, sizes: dict[int, tuple[int, int]]) -> np.ndarray:
    width, height = sizes[phrase.owner]
    return rasterise(phrase.polygons, height=height, width=width)


def _predicted(phrases: Sequence[MaskedPhrase], sizes: dict[int, tuple[int, int]]) -> Iterator[np.ndarray]:
    for phrase in phrases:
        width, height = sizes[phrase.owner]
        if phrase.found is None:
            yield np.zeros((height, width), dtype=bool)
        else:
            mask, box = (torch.from_numpy(part)[None] for part in phrase.found)
            yield paste_masks(mask, box, height=height, width=width)[0].numpy()


def image_size(rows: Dataset, row: int, images: ImageRegions) -> tuple[int, int]:
    """Width and height of a row's image in pixels, by its file, else as the store of its regions has it."""
    found = undecoded(rows.select([row]))[0]
    image, image_id = found["image"] or {}, found["image_id"]
    if image.get("bytes") is not None:
        return size_in_file(io.BytesIO(image["bytes"]))
    if image.get("path"):
        return size_in_file(image["path"])
    store = images.stores.get(False)
    name = images.names[False].get(image_id, image_id)
    if store is not None and not isinstance(store, ClipStore) and name in store:
        height, width = store[name].get("image_size", torch.zeros(2)).tolist()
        if height and width:
            return int(width), int(height)
    raise ValueError(
        f"the size of the image {image_id!r} is not known, which its masks are compared in: name the folder of images "
        "in data.images"
    )
