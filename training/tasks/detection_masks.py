"""Masks in the detection task: what a detector's mask head learns of the rows, and how its masks are scored.

polygons of a row --mirrored_objects, mask_labels--> true_masks --detector--> region_masks --pasted--> run lengths
run lengths of a split --mask_metrics--> figures (`training/metrics/detection/masks.py`)
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from huggingface_hub.errors import StrictDataclassError

from modeling_updown.configuration_masks_updown import MASK_FIELDS
from modeling_updown.masks_updown import UNKNOWN, paste_masks
from training.data.polygons import mirrored_polygons, rasterise
from training.metrics.detection.masks import (
    Rle,
    box_overlaps,
    encode_masks,
    mask_scores,
    nearest_overlaps,
    paired_overlaps,
)

ALONE = "masks"  # the objective that trains the mask head and nothing else
POINTS_A_CELL = 2  # of a true mask, a side of each cell that is learnt
FIGURES = {
    "mask_iou": "mean IoU of masks, each object's found by its box",
    "mask_iou_given": "mean IoU of masks in true boxes",
    "mask_iou_box": "mean IoU of true boxes as masks",
    "mask_map": "mAP of masks",
    "mask_map_50": "AP50 of masks",
    "mask_map_75": "AP75 of masks",
}


def masked_rows(rows: Dataset) -> list[int]:
    """The numbers of the rows that have the polygons of an object."""
    found, start = [], 0
    for batch in rows.select_columns(["polygons"]).iter(batch_size=1000):
        found += [start + place for place, own in enumerate(batch["polygons"]) if any(own)]
        start += len(batch["polygons"])
    return found


def add_mask_head(model: Any, fields: Mapping[str, Any]) -> None:
    """Give a saved detector without masks the head that a recipe's `model` section asks for; `ValueError` for fields
    that the config does not take.
    """
    if not fields.get("mask_head") or model.masks is not None:
        return
    try:
        model.add_masks(**{name: fields[name] for name in MASK_FIELDS if name in fields})
    except StrictDataclassError as error:
        raise ValueError(f"model: {' '.join(str(error).split())}") from error


def prepare_masks(model: Any, rows: Dataset, *, objective: str, asked: bool) -> int:
    """Freeze the parts of a detector as its masks ask; cells a side of the true masks to learn, 0 where none is learnt.

    Args:
        model: a detector, unfrozen.
        rows: those it learns from.
        objective: of the recipe; `ALONE` trains the mask head and nothing else.
        asked: whether the recipe asks for masks.

    Raises:
        ValueError: masks are to be learnt without a head for them, or without any true mask.
    """
    if model.masks is None:
        if objective == ALONE:
            raise ValueError("train.objective is masks, which this detector has none of: set model.mask_head to true")
        return 0
    learnt = bool(masked_rows(rows))
    if not learnt and (asked or objective == ALONE):
        raise ValueError(
            "masks are to be learnt, but no object of the data has one: set masks to true where data is read from COCO "
            "files with polygons, or leave model.mask_head out"
        )
    if objective == ALONE:
        model.unfreeze_masks()
    elif not learnt:  # several processes wait for a gradient of the rest
        model.masks.requires_grad_(False)
    return POINTS_A_CELL * model.config.mask_size if learnt else 0


def mirrored_objects(objects: Mapping[str, Any]) -> dict[str, Any]:
    """The `polygons` of an image's objects, of the image mirrored left to right."""
    return {"polygons": [mirrored_polygons(own) for own in objects["polygons"]]} if "polygons" in objects else {}


def mask_labels(objects: Sequence[Mapping[str, Any]], *, most: int, size: int) -> torch.Tensor:
    """Images' objects as the detector's `true_masks` (P, most, size, size) int8: 0 and 1, -1 where there is no mask.

    objects: of each image `boxes` (N, 4), `object_ids` (N,), -1 for a crowd, and `polygons`, N lists.
    """
    masks = torch.full((len(objects), most, size, size), UNKNOWN, dtype=torch.int8)
    for place, part in enumerate(objects):
        for row, (box, own) in enumerate(zip(part["boxes"], part["polygons"], strict=True)):
            if own and part["object_ids"][row] > 0:
                masks[place, row] = torch.from_numpy(rasterise(own, height=size, width=size, box=box))
    return masks


def pasted(masks: torch.Tensor, boxes: torch.Tensor, row: Mapping[str, Any]) -> list[Rle]:
    """Masks (R, M, M) inside boxes (R, 4) in 0..1 as run lengths in the width and height of their row."""
    whole = paste_masks(masks.float().cpu(), boxes.float().cpu(), height=row["height"], width=row["width"])
    return encode_masks(whole.numpy())


def mask_metrics(found: Sequence[Mapping[str, Any]], truth: Dataset, *, num_classes: int) -> dict[str, float]:
    """The figures of `FIGURES` of a split, 0..1, and each times 100 under `..._x100`; -1 if there is no mask to find.

    Args:
        found: of each row `masks` with `mask_boxes`, `scores` and `object_ids` of the detections, and `true_masks`,
            made inside the true boxes.
        truth: the rows.
        num_classes: 0 leaves out average precision, where classes mean something else to the detector.
    """
    overlaps = {
        "mask_iou": nearest_overlaps(found, truth),
        "mask_iou_given": paired_overlaps([part["true_masks"] for part in found], truth),
        "mask_iou_box": box_overlaps(truth),
    }
    metrics = {name: float(np.mean(values)) if values else -1.0 for name, values in overlaps.items()}
    metrics |= {f"{name}_x100": 100 * value if value >= 0 else -1.0 for name, value in metrics.items()}
    return metrics | (mask_scores(found, truth, num_classes=num_classes) if num_classes else {})
