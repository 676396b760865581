"""How well masks of found objects cover the true ones: COCO's average precision of masks, and their mean IoU.

    masks of an image --encode_masks--> run lengths --mask_scores, paired_overlaps--> figures
    polygons of rows --true_masks--> run lengths

Masks are kept as COCO's run lengths (a hundred bytes each), in which `pycocotools` compares them. R regions of an
image, M true objects.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from training.data.polygons import rasterise
from training.metrics.box_arrays import share_of, shared_and_joint_area
from training.metrics.detection.average_precision import run_coco
from training.metrics.detection.scored_rows import Record, Records, paired, predicted_objects, true_of_row
from training.metrics.grounding.refexp import as_mask

Rle = dict[str, Any]  # COCO's run lengths: `size` (height, width) and `counts`


def encode_masks(masks: Any) -> list[Rle]:
    """Masks (R, height, width), bool or 0 and 1, as run lengths; `ValueError` for other values."""
    from pycocotools.mask import encode  # imported here, so that `updown --help` is fast

    found = [as_mask(mask, f"masks[{number}]") for number, mask in enumerate(masks)]
    return [encode(np.asfortranarray(mask.astype(np.uint8))) for mask in found]


def true_masks(row: Record) -> list[Rle | None]:
    """The mask of each object of a row in the row's `width` and `height`; None of a crowd or where none is known.

    Raises `ValueError` for a row without `polygons`, or with those of other boxes.
    """
    if row.get("polygons") is None:
        raise ValueError(f"the image {row.get('image_id')!r} has no polygons; read the data with their masks")
    polygons, crowd = row["polygons"], row.get("crowd") or [False] * len(row["boxes"])
    if len(polygons) != len(row["boxes"]):
        raise ValueError(
            f"the image {row.get('image_id')!r} has {len(row['boxes'])} boxes, but polygons of {len(polygons)}"
        )
    height, width = int(row["height"]), int(row["width"])
    return [
        encode_masks([rasterise(own, height=height, width=width)])[0] if own and not in_crowd else None
        for own, in_crowd in zip(polygons, crowd, strict=True)
    ]


def mask_scores(predictions: Records, rows: Records, *, num_classes: int) -> dict[str, Any]:
    """COCO's average precision of masks, for predictions on rows of `training.data.boxes.rows`, in the same order.

    Args:
        predictions: one dict per image: `masks`, of R regions in the row's `width` and `height`, as run lengths or
            (R, height, width); `scores` (R,) and `object_ids` (R,) from 1 to `num_classes`. Optionally `image_id`,
            which must be the row's.
        rows: as `detection_scores` has them, with `polygons`. An object without polygons, and a crowd, is neither
            missed nor is a mask inside its box wrong.
        num_classes: object ids are 1..num_classes.

    Returns:
        `mask_map`, `mask_map_50`, `mask_map_75`, 0..1, and each times 100 under `..._x100`; -1 if there is no mask to
        find.

    Raises:
        ValueError: for predictions and rows that do not match, masks of other sizes than their image, scores that are
            no numbers, ids out of range.

    >>> row = {"image_id": "7", "width": 4, "height": 2, "boxes": [[0, 0, 0.5, 1]], "object_ids": [2],
    ...        "polygons": [[[0, 0, 0.5, 0, 0.5, 1, 0, 1]]]}
    >>> found = {"masks": [[[1, 1, 1, 0], [1, 1, 0, 0]]], "scores": [0.9], "object_ids": [2]}
    >>> scores = mask_scores([found], [row], num_classes=2)
    >>> round(scores["mask_map_50"], 2), round(scores["mask_map"], 2)
    (1.0, 0.7)
    """
    found: list[dict[str, Any]] = []
    truth: list[dict[str, Any]] = []
    sizes: dict[int, dict[str, int]] = {}
    for image, (what, prediction, row) in enumerate(paired(predictions, rows), start=1):
        sizes[image] = {"height": int(row["height"]), "width": int(row["width"])}
        masks = _masks_of(prediction, row, what)
        ids, confidences = predicted_objects(prediction, len(masks), num_classes=num_classes, what=what)
        found += [
            {"image_id": image, "category_id": int(own), "segmentation": mask, "score": float(score), "iscrowd": 0}
            for mask, own, score in zip(masks, ids, confidences, strict=True)
        ]
        true, crowd = true_of_row(image, row, "object_ids", num_classes)
        for own, mask, box, in_crowd in zip(true.classes, true_masks(row), row["boxes"], crowd, strict=True):
            ignored = bool(in_crowd) or mask is None
            shown = mask if mask is not None else encode_masks([_filled(box, **sizes[image])])[0]
            truth.append({"image_id": image, "category_id": int(own), "segmentation": shown, "iscrowd": int(ignored)})
    for record in (*found, *truth):
        record["area"] = float(_area(record["segmentation"]))
    scores = run_coco(found, truth, image_ids=sizes, category_ids=range(1, num_classes + 1), sizes=sizes)
    named = {f"mask_{name}": scores[name] for name in ("map", "map_50", "map_75")}
    return named | {f"{name}_x100": 100 * value if value >= 0 else -1.0 for name, value in named.items()}


def nearest_overlaps(predictions: Records, rows: Records) -> list[float]:
    """The mask IoU of each true object that has polygons with the region whose box overlaps its box most.

    Args:
        predictions: as `mask_scores`, and `mask_boxes` (R, 4) xyxy in 0..1, of the masks. Their classes do not matter.
        rows: as `mask_scores`.

    Returns 0..1 for each such object of all rows, in their order; 0 where no box overlaps its own. Raises `ValueError`
    as `mask_scores`.
    """
    overlaps = []
    for what, prediction, row in paired(predictions, rows):
        masks = _masks_of(prediction, row, what)
        boxes = np.asarray(prediction["mask_boxes"], dtype=np.float64).reshape(-1, 4)
        if len(boxes) != len(masks):
            raise ValueError(f"{what} has {len(masks)} masks but {len(boxes)} mask_boxes; give one of each per region")
        for mask, box in zip(true_masks(row), row["boxes"], strict=True):
            if mask is not None:
                of_boxes = share_of(*shared_and_joint_area(boxes, np.asarray(box, dtype=np.float64)))
                best = int(of_boxes.argmax()) if len(of_boxes) and of_boxes.max() > 0 else None
                overlaps.append(0.0 if best is None else _overlap(masks[best], mask))
    return overlaps


def paired_overlaps(masks: Sequence[Sequence[Rle]], rows: Records) -> list[float]:
    """The IoU of the masks made inside true boxes, one for each box of each row, with the true masks that are known."""
    overlaps = []
    for what, prediction, row in paired([{"masks": own} for own in masks], rows):
        found, true = _masks_of(prediction, row, what), true_masks(row)
        if len(found) != len(true):
            raise ValueError(f"{what} has {len(found)} masks for {len(true)} true boxes; give one of each")
        overlaps += [_overlap(one, other) for one, other in zip(found, true, strict=True) if other is not None]
    return overlaps


def box_overlaps(rows: Records) -> list[float]:
    """The IoU of each known true mask with its whole box: what a mask head has to beat."""
    masks = [
        encode_masks([_filled(box, height=int(row["height"]), width=int(row["width"])) for box in row["boxes"]])
        for row in rows
    ]
    return paired_overlaps(masks, rows)


def _masks_of(prediction: Record, row: Record, what: str) -> list[Rle]:
    """A prediction's masks as run lengths; `ValueError` for masks of another size than the row's image."""
    masks = list(prediction["masks"])
    encoded = masks if all(isinstance(mask, dict) for mask in masks) else encode_masks(masks)
    size = [int(row["height"]), int(row["width"])]
    wrong = next((mask for mask in encoded if [int(side) for side in mask["size"]] != size), None)
    if wrong is not None:
        raise ValueError(
            f"{what} has masks of {' x '.join(map(str, wrong['size']))} pixels but its image has "
            f"{' x '.join(map(str, size))}; paste them into the image"
        )
    return encoded


def _filled(box: Sequence[float], *, height: int, width: int) -> np.ndarray:
    left, top, right, bottom = box
    return rasterise([[left, top, right, top, right, bottom, left, bottom]], height=height, width=width)


def _overlap(mask: Rle, other: Rle) -> float:
    """IoU of two masks of one size; 0 where both are empty."""
    from pycocotools.mask import iou

    return max(0.0, float(np.nan_to_num(iou([mask], [other], [0])[0, 0])))


def _area(mask: Rle) -> int:
    from pycocotools.mask import area

    return int(area(mask))
