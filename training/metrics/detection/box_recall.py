"""Recall of true boxes by regions: the share of boxes that one of an image's first K regions covers well enough.

    regions of each image + rows --best_overlaps--> each box's highest IoU among the first K --box_recall--> recalls

It asks where a region source looks, not what it names: classes play no part, and one region may reach several boxes
(recall of proposals as in Hosang et al. 2016, without a one-to-one matching). IoU does not change where an image is
stretched, so boxes in 0..1 need no sizes.

Rows are those of `training.data.boxes.rows`; P images, N boxes of an image, R regions, K numbers of regions.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from modeling_updown.boxes_updown import pairwise_iou
from training.metrics.bootstrap import bootstrap_means, interval_x100

__all__ = ["RECALL_AT", "best_overlaps", "box_recall", "frequency_groups", "size_groups"]

RECALL_AT = (10, 36, 100)
MIN_IOU = 0.5
# COCO's limits of 32 and 96 pixels squared, as shares of its commonest image of 640 x 480
SIZE_LIMITS = {"small": 32**2 / (640 * 480), "medium": 96**2 / (640 * 480), "large": math.inf}
FREQUENCY_LIMITS = (1, 20, 100, 1000)  # training boxes of a class
BOX_SLACK = 1e-3  # by which a box may reach outside of 0..1

Record = Mapping[str, Any]
Groups = Mapping[str, Sequence[Sequence[Iterable[str]]]]


def box_recall(
    predictions: Sequence[Record],
    rows: Sequence[Record],
    *,
    at: Sequence[int] = RECALL_AT,
    min_iou: float = MIN_IOU,
    groups: Groups | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """The share of true boxes that one of the first K regions of their image overlaps by at least `min_iou`.

    Args:
        predictions: one dict per image: `boxes` (R, 4) xyxy 0..1 and, optional, `scores` (R,): then the first are the
            surest (of equal ones the first given), else those that come first. Fewer than K regions are all of them.
        rows: in the same order, `boxes` (N, 4) and, optional, `crowd`: boxes of crowds do not count.
        at: the numbers of regions K.
        min_iou: above 0, at most 1.
        groups: kind of group -> for each image and each of its boxes the names of the groups that it belongs to, maybe
            none: `{"type": [[["people"], ["scene", "other"]], ...]}`.
        seed: of the bootstrap.

    Returns:
        Under `all`, and under each kind of group by the group's name: `num_boxes`, `num_images` with such boxes,
        `recall_K_x100` for each K and `recall_K_interval_x100`, its 95 % interval by a bootstrap over images.
        `per_item`: for each `recall_K`, each image's recall (P,), NaN where it has no box, and `num_boxes` (P,).

    Raises:
        ValueError: for predictions or groups that do not fit the rows, boxes outside of 0..1, scores that are not
            numbers, K below 1, and rows without any box.

    >>> rows = [{"boxes": [[0, 0, 0.5, 1], [0.5, 0, 1, 1]]}]
    >>> found = box_recall([{"boxes": [[0, 0, 0.5, 0.8], [0, 0, 1, 1]], "scores": [0.2, 0.9]}], rows, at=[1, 2])
    >>> found["all"]["recall_1_x100"], found["all"]["num_boxes"]
    (100.0, 2)
    """
    check_limits(at, min_iou)
    if len(predictions) != len(rows):
        raise ValueError(f"{len(predictions)} predictions but {len(rows)} rows; pass one per image, in the same order")
    kept = [_counted(row, f"rows[{number}]") for number, row in enumerate(rows)]
    hits = [
        best_overlaps(boxes[counted], _ranked(prediction, f"predictions[{number}]"), at=at) >= min_iou
        for number, (prediction, (boxes, counted)) in enumerate(zip(predictions, kept, strict=True))
    ]
    owners = np.repeat(np.arange(len(rows)), [len(part) for part in hits])  # (boxes of all images,)
    if not len(owners):
        raise ValueError("the rows hold no box to reach")
    found = np.concatenate(hits)  # (boxes of all images, K)
    result: dict[str, Any] = {"all": _recalls(found, owners, at=at, seed=seed)}
    for kind, members in (groups or {}).items():
        names = _names_of_boxes(members, kept, kind)
        present = dict.fromkeys(name for own in names for name in own)
        chosen = {name: np.array([name in own for own in names]) for name in present}
        result[kind] = {name: _recalls(found[own], owners[own], at=at, seed=seed) for name, own in chosen.items()}
    counts = np.bincount(owners, minlength=len(rows))
    sums = np.stack([np.bincount(owners, weights=column, minlength=len(rows)) for column in found.T])  # (K, P)
    with np.errstate(invalid="ignore"):
        shares = sums / counts
    result["per_item"] = {f"recall_{k}": own.tolist() for k, own in zip(at, shares, strict=True)}
    result["per_item"]["num_boxes"] = counts.tolist()
    return result


def best_overlaps(boxes: np.ndarray, regions: np.ndarray, *, at: Sequence[int]) -> np.ndarray:
    """The highest IoU of each box with the first K regions, for each K of `at`; 0 where there is no region.

    boxes (N, 4), regions (R, 4), the best first -> (N, K).

    >>> best_overlaps(np.array([[0, 0, 1, 1]]), np.array([[0, 0, 0.5, 1], [0, 0, 1, 1]]), at=[1, 2]).tolist()
    [[0.5, 1.0]]
    """
    best = np.zeros((len(boxes), len(at)))
    if len(boxes) and len(regions):
        overlaps = pairwise_iou(*(torch.as_tensor(part, dtype=torch.float64) for part in (boxes, regions))).numpy()
        highest = np.maximum.accumulate(overlaps, axis=1)  # (N, R)
        best[:] = highest[:, [min(k, len(regions)) - 1 for k in at]]
    return best


def size_groups(rows: Sequence[Record]) -> list[list[list[str]]]:
    """Whether each box is small (less than 1/300 of the image's area), medium (less than 3/100) or large.

    COCO's limits are 32 and 96 pixels squared; of its commonest image, 640 x 480, they are these shares.

    >>> size_groups([{"boxes": [[0, 0, 0.05, 0.05], [0, 0, 0.1, 0.1], [0, 0, 1, 1]]}])
    [[['small'], ['medium'], ['large']]]
    """
    return [[[_size_of(box)] for box in row["boxes"]] for row in rows]


def frequency_groups(
    names: Sequence[Sequence[Sequence[str]]], training_counts: Mapping[str, int]
) -> list[list[list[str]]]:
    """How often the commonest of each box's names stands at a training box: "0", "1-19", "20-99", "100-999", "1000+".

    names: for each image and each of its boxes, its names; a box without a name belongs to no group.

    >>> frequency_groups([[["dog"], ["ape", "animal"], []]], {"dog": 1500, "animal": 20})
    [[['1000+'], ['20-99'], []]]
    """
    labels = frequency_labels()
    return [
        [
            [labels[int(np.searchsorted(FREQUENCY_LIMITS, max(training_counts.get(n, 0) for n in own), side="right"))]]
            if own
            else []
            for own in image
        ]
        for image in names
    ]


def frequency_labels() -> list[str]:
    """The names of `frequency_groups`, the rarest first."""
    first, *rest = FREQUENCY_LIMITS
    pairs = zip(FREQUENCY_LIMITS, rest, strict=False)
    return [f"0-{first - 1}" if first > 1 else "0", *(f"{low}-{high - 1}" for low, high in pairs), f"{rest[-1]}+"]


def check_limits(at: Sequence[int], min_iou: float) -> None:
    """`ValueError` for no number of regions, one below 1, or an overlap that is no share."""
    if not at or any(k < 1 for k in at) or len(set(at)) < len(at):
        raise ValueError(f"the numbers of regions are {list(at)}; give at least one, each once and from 1")
    if not 0 < min_iou <= 1:
        raise ValueError(f"min_iou is {min_iou}; give an overlap above 0 and up to 1")


def _recalls(found: np.ndarray, owners: np.ndarray, *, at: Sequence[int], seed: int) -> dict[str, Any]:
    """The figures of some boxes: whether each was reached (n, K), and its image (n,)."""
    images, places, counts = np.unique(owners, return_inverse=True, return_counts=True)
    figures: dict[str, Any] = {"num_boxes": len(owners), "num_images": len(images)}
    for k, column in zip(at, found.T, strict=True):
        shares = np.bincount(places, weights=column) / counts  # (images with such boxes,)
        figures[f"recall_{k}_x100"] = 100 * float(column.mean())
        means = bootstrap_means(shares, seed=seed, weights=counts.astype(float))
        figures[f"recall_{k}_interval_x100"] = interval_x100(means)
    return figures


def _counted(row: Record, what: str) -> tuple[np.ndarray, np.ndarray]:
    """The boxes of a row (N, 4), and which of them count (N,)."""
    boxes = _shares(row["boxes"], f"{what}['boxes']")
    given = row.get("crowd")
    crowd = np.zeros(len(boxes), dtype=bool) if given is None else np.asarray(given, dtype=bool)
    if crowd.shape != (len(boxes),):
        raise ValueError(f"{what}: crowd has {len(crowd)} values, but there are {len(boxes)} boxes; give one per box")
    return boxes, ~crowd


def _ranked(prediction: Record, what: str) -> np.ndarray:
    """An image's regions (R, 4), the surest first."""
    if "boxes" not in prediction:
        raise ValueError(f"{what} has no 'boxes'; it has {', '.join(sorted(prediction)) or 'nothing'}")
    boxes = _shares(prediction["boxes"], f"{what}['boxes']")
    if prediction.get("scores") is None:
        return boxes
    scores = np.asarray(prediction["scores"], dtype=np.float64)
    if scores.shape != (len(boxes),) or not np.isfinite(scores).all():
        raise ValueError(f"{what}['scores'] must be one finite number for each of {len(boxes)} boxes")
    return boxes[np.argsort(-scores, kind="stable")]


def _names_of_boxes(
    members: Sequence[Sequence[Iterable[str]]], kept: Sequence[tuple[np.ndarray, np.ndarray]], kind: str
) -> list[set[str]]:
    """The groups of every box that counts; `ValueError` where there is not one entry per box."""
    if [len(own) for own in members] != [len(boxes) for boxes, _ in kept]:
        raise ValueError(f"the groups {kind!r} do not fit the rows: give names for each box of each row")
    return [
        {names} if isinstance(names, str) else set(names)
        for own, (_, counted) in zip(members, kept, strict=True)
        for names, counts in zip(own, counted, strict=True)
        if counts
    ]


def _shares(boxes: Any, what: str) -> np.ndarray:
    """Boxes (N, 4) as float64; `ValueError` for those that are no xyxy in 0..1."""
    array = np.asarray(boxes, dtype=np.float64)
    array = array.reshape(0, 4) if array.size == 0 else array
    if array.ndim != 2 or array.shape[1] != 4:
        raise ValueError(f"{what} have shape {array.shape}; give x1, y1, x2, y2 for each")
    inside = ((array >= -BOX_SLACK) & (array <= 1 + BOX_SLACK)).all(axis=1)
    outside = ~inside | (array[:, 2:] < array[:, :2]).any(axis=1)
    if outside.any():
        row = int(outside.argmax())
        raise ValueError(f"{what} hold {array[row].tolist()} at {row}; give x1 <= x2 and y1 <= y2 in 0..1 of the image")
    return array


def _size_of(box: Sequence[float]) -> str:
    area = (box[2] - box[0]) * (box[3] - box[1])
    return next(name for name, limit in SIZE_LIMITS.items() if area < limit)
