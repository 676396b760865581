"""Referring expressions: how well the box, or the mask, given for each expression covers the true one.

    one box per expression + the true boxes --refexp_iou--> accuracy at overlaps, mean and overall IoU
    one mask per expression + the true masks --refexp_mask_iou--> precision at overlaps, mean and overall IoU

Ranked boxes are scored by `phrase_recall` (`phrases.py`), which an expression is to as well as a phrase.
"""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any, Literal, get_args

import numpy as np

from training.metrics.box_arrays import (
    SHARES,
    BoxFormat,
    area,
    check_units,
    joined_boxes,
    share_of,
    shared_and_joint_area,
    threshold_names,
    with_hundredfold,
)

BOX_THRESHOLDS = (0.25, 0.5, 0.6, 0.7, 0.8, 0.9)
MASK_THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)
Variant = Literal["plain", "mattnet"]


def refexp_iou(
    predictions: Sequence[Any],
    references: Sequence[Any],
    *,
    box_format: BoxFormat = "xyxy",
    variant: Variant = "plain",
    thresholds: Sequence[float] = BOX_THRESHOLDS,
) -> dict[str, Any]:
    """Accuracy of referring expressions' boxes at several overlaps, and their mean and overall IoU.

    Args:
        predictions: one box per expression; one without area counts as a miss.
        references: the true box of each expression, in the same order.
        box_format: of both: `xyxy`, `xywh` (RefCOCO's own) or `xcycwh`; in pixels or in 0..1.
        variant: `plain` IoU (MDETR's `box_iou`), or MAttNet's, which takes the last pixel as part of a box (x + w - 1)
            and an overlap at most one pixel wide or high for none; boxes are then in pixels.
        thresholds: the least IoU of a hit; an IoU equal to it is one.

    Returns:
        `accuracy_25` ... `accuracy_90`, the share of expressions with at least so much IoU; `mean_iou`; `overall_iou`,
        the sum of intersections over the sum of unions; `generalized_accuracy_25` ... by generalized IoU (Rezatofighi
        et al. 2019; the same in both variants), which MDETR's evaluator thresholds. Each is in 0..1 and is there times
        100 as `..._x100`. `per_item`: `iou` in 0..1 and `generalized_iou` in -1..1 of each expression.

    Raises:
        ValueError: for different numbers of boxes or none, a box that is not four finite numbers, a true box without
            area, one side in pixels and the other in 0..1, and an unknown variant, format or threshold.

    >>> scores = refexp_iou([[0, 0, 4, 4], [0, 0, 4, 2]], [[0, 0, 4, 4], [0, 0, 4, 4]])
    >>> scores["accuracy_50"], scores["accuracy_60"], scores["mean_iou"]
    (1.0, 0.5, 0.75)
    """
    if variant not in get_args(Variant):
        raise ValueError(f"variant is {variant!r}; choose {' or '.join(get_args(Variant))}")
    plain, generalized = (threshold_names(thresholds, stem) for stem in ("accuracy", "generalized_accuracy"))
    boxes, true = _one_each(predictions, references, box_format)
    shared, joint = shared_and_joint_area(boxes, true)
    hull = area(np.concatenate([np.minimum(boxes[:, :2], true[:, :2]), np.maximum(boxes[:, 2:], true[:, 2:])], axis=1))
    generalized_iou = share_of(shared, joint) - share_of(hull - joint, hull)
    if variant == "mattnet":
        shared, joint = _inclusive_areas(boxes, true)
    iou = share_of(shared, joint)
    figures = _figures(iou, shared, joint, plain)
    figures |= {name: float((generalized_iou >= least).mean()) for name, least in generalized.items()}
    return with_hundredfold(figures) | {"per_item": {"iou": iou.tolist(), "generalized_iou": generalized_iou.tolist()}}


def refexp_mask_iou(
    predictions: Iterable[Any], references: Iterable[Any], *, thresholds: Sequence[float] = MASK_THRESHOLDS
) -> dict[str, Any]:
    """Referring segmentation: precision at several overlaps (P@X), mean and overall IoU of masks.

    Args:
        predictions: one mask (H, W) per expression, bool or 0 and 1; one without a pixel counts as a miss. Masks are
            taken one by one, so a generator does.
        references: the true mask of each expression, in the same order and of the same size.
        thresholds: the least IoU of a hit; an IoU equal to it is one.

    Returns:
        `precision_50` ... `precision_90` (P@0.5 ... P@0.9), the share of expressions with at least so much IoU;
        `mean_iou`; `overall_iou` (oIoU, or cIoU), the sum of intersections over the sum of unions. Each is in 0..1 and
        is there times 100 as `..._x100`. `per_item`: `iou` of each expression.

    Raises:
        ValueError: for different numbers of masks or none, masks of different sizes or of other values than 0 and 1,
            and a true mask without a pixel.

    >>> scores = refexp_mask_iou([[[1, 1, 0]]], [[[1, 1, 1]]])
    >>> round(scores["mean_iou"], 4), scores["precision_60"], scores["precision_70"]
    (0.6667, 1.0, 0.0)
    """
    names = threshold_names(thresholds, "precision")
    counts = []
    for number, (predicted, true) in enumerate(itertools.zip_longest(predictions, references)):
        if predicted is None or true is None:
            raise ValueError(f"expression {number} has no predicted or no true mask; give one of each per expression")
        found, wanted = as_mask(predicted, f"predictions[{number}]"), as_mask(true, f"references[{number}]")
        if found.shape != wanted.shape:
            raise ValueError(
                f"predictions[{number}] is a mask of {_size(found)} pixels but the true one has {_size(wanted)}; "
                "resize it to the image"
            )
        if not wanted.any():
            raise ValueError(f"references[{number}] marks no pixel; leave the expression out or repair its mask")
        counts.append((np.count_nonzero(found & wanted), np.count_nonzero(found | wanted)))
    if not counts:
        raise ValueError("there are no masks to score; give one per expression")
    shared, joint = np.array(counts, dtype=np.float64).T
    iou = shared / joint
    return with_hundredfold(_figures(iou, shared, joint, names)) | {"per_item": {"iou": iou.tolist()}}


def _figures(iou: np.ndarray, shared: np.ndarray, joint: np.ndarray, names: dict[str, float]) -> dict[str, float]:
    figures = {name: float((iou >= least).mean()) for name, least in names.items()}
    return figures | {"mean_iou": float(iou.mean()), "overall_iou": float(shared.sum() / joint.sum())}


def _one_each(predictions: Sequence[Any], references: Sequence[Any], box_format: BoxFormat) -> list[np.ndarray]:
    """The predicted and true boxes (P, 4) of P expressions, checked."""
    if len(predictions) != len(references) or not len(references):
        raise ValueError(
            f"{len(predictions)} predicted boxes but {len(references)} true ones; give one of each per expression"
        )
    sides = []
    for boxes, what, has_area in ((predictions, "predictions", False), (references, "references", True)):
        empty = next((number for number, box in enumerate(boxes) if box is None or not np.size(box)), None)
        if empty is not None:
            raise ValueError(f"{what}[{empty}] is no box; give four numbers, a predicted 0, 0, 0, 0 being a miss")
        sides.append(joined_boxes([[box] for box in boxes], what, box_format=box_format, has_area=has_area)[0])
    check_units(*sides)
    return sides


def _inclusive_areas(boxes: np.ndarray, true: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """MAttNet's areas of intersection and union; ValueError for boxes in 0..1."""
    if true.max() <= SHARES[1]:
        raise ValueError(f"the true boxes go to {true.max():.4g}; give MAttNet's variant boxes in pixels")
    sides = np.minimum(boxes[:, 2:], true[:, 2:]) - np.maximum(boxes[:, :2], true[:, :2])
    shared = np.where((sides > 1).all(axis=1), sides.prod(axis=1), 0.0)
    return shared, area(boxes) + area(true) - shared


def as_mask(mask: Any, what: str) -> np.ndarray:
    """A mask (height, width) as bool; `ValueError` naming `what` for another shape, or values other than 0 and 1."""
    array = np.asarray(mask)
    if array.ndim != 2:
        raise ValueError(f"{what} has the shape {array.shape}; give a mask of height x width")
    if array.dtype == bool:
        return array
    marked = array == 1
    if not (marked | (array == 0)).all():
        raise ValueError(f"{what} holds other values than 0 and 1; threshold it, or divide by 255")
    return marked


def _size(mask: np.ndarray) -> str:
    return " x ".join(map(str, mask.shape))
