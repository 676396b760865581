"""Objects with several right names -> detections and boxes of one name each, which COCO's average precision takes.

    probabilities --detections_of_probs--> detections --cover--> with covering names --settle--> renamed or taken away
    object_ids, other_object_ids, covered --names_of_boxes--> TrueNames

Two rules, for names in the sense of ids:

1. A name covers others ("person": man, skier). A detection of a covered name is one of the covering name as well: the
   probabilities of a region are added up, and of such detections that overlap by more than `nms_iou` the surest stays.
   A box with a covered name is a box of the covering name as well. (Open Images' rule for its hierarchy, Kuznetsova et
   al. 2020, section 3.4, for two levels.)
2. A box may have other right names beside its object ("man": guy). A detection of such a name that overlaps the box by
   at least 0.5 counts as one of the box's object, unless a surer one has found the box: then it is taken away. So any
   right name finds the box, once, and none is wrong. The overlapping box is the one that it overlaps most of those not
   found yet. In a crowd such a detection is taken away. A detection that overlaps a box of which it says the object, or
   a name that covers it, by 0.5 or more stays what it is.

Shapes: R detections of an image, M true boxes, C objects; boxes are xyxy in pixels, without +1 as COCO has them.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torchvision.ops import batched_nms

__all__ = ["FoundObjects", "TrueNames", "check_covered", "cover", "detections_of_probs", "names_of_boxes", "settle"]

SAME_BOX_IOU = 0.5
Covered = Mapping[int, Sequence[int]]


class FoundObjects(NamedTuple):
    """Detections of an image: boxes (R, 4), object ids (R,) from 1, scores (R,)."""

    boxes: np.ndarray
    ids: np.ndarray
    scores: np.ndarray


class TrueNames(NamedTuple):
    """The names of an image's M boxes: `objects` (M,), the object of each; `right`, the sets of names that each is a
    box of: its object and what covers one of its names; `others`, the sets of its other right names.
    """

    objects: np.ndarray
    right: list[set[int]]
    others: list[set[int]]


def check_covered(covered: Covered, *, num_classes: int) -> None:
    """`ValueError` for ids out of 1..`num_classes`, a name that covers itself, or one that stands twice."""
    for own, finer in covered.items():
        ids = [own, *finer]
        if any(not 1 <= i <= num_classes for i in ids) or len(set(ids)) < len(ids):
            raise ValueError(
                f"covered: {own} covers {list(finer)}; give ids from 1 to {num_classes}, each once and not its own"
            )


def names_of_boxes(
    object_ids: Sequence[int] | np.ndarray, others: Sequence[Sequence[int]], covered: Covered
) -> TrueNames:
    """The names of boxes by their object, their other right names (M lists), and what covers what.

    >>> names = names_of_boxes([2, 1], [[3], []], {5: [2, 3]})
    >>> names.right, names.others
    ([{2, 5}, {1}], [{3}, set()])
    """
    right, rest = [], []
    for own, more in zip(object_ids, others, strict=True):
        names = {int(own), *map(int, more)}
        right.append({int(own), *(above for above, finer in covered.items() if names & set(finer))})
        rest.append(names - right[-1])
    return TrueNames(np.asarray(object_ids, dtype=np.int64), right, rest)


def detections_of_probs(
    boxes: np.ndarray, probs: np.ndarray, covered: Covered, *, most: int, nms_iou: float
) -> FoundObjects:
    """The surest `most` pairs of a region and an object, of equal ones the first, after suppression in each object.

    boxes (R, 4); probs (R, C + 1), background first: those of covered names are added to the covering one's.

    >>> found = detections_of_probs(np.array([[0.0, 0, 9, 9]]), np.array([[0.1, 0.6, 0.3, 0]]), {3: [1, 2]}, most=2,
    ...                             nms_iou=0.5)
    >>> found.ids.tolist(), found.scores.round(2).tolist()
    ([3, 1], [0.9, 0.6])
    """
    scores = np.array(probs, dtype=np.float64)
    for own, finer in covered.items():
        scores[:, own] = probs[:, [own, *finer]].sum(axis=1, dtype=np.float64)
    ranks = scores[:, 1:].ravel()  # (R * C,)
    order = np.argsort(-ranks, kind="stable")[:most]
    order = order[ranks[order] > 0]
    regions, ids = order // (probs.shape[1] - 1), order % (probs.shape[1] - 1) + 1
    return suppressed(FoundObjects(boxes[regions], ids, ranks[order]), nms_iou=nms_iou)


def cover(found: FoundObjects, covered: Covered, *, nms_iou: float) -> FoundObjects:
    """The detections, and those of covered names as ones of the covering names too, as sure; for regions of which only
    one name is known. Of a covering name's detections that overlap by more than `nms_iou` the surest stays.
    """
    parts = [found]
    for own, finer in covered.items():
        places = np.flatnonzero(np.isin(found.ids, finer))
        parts.append(FoundObjects(found.boxes[places], np.full(len(places), own), found.scores[places]))
    together = FoundObjects(*(np.concatenate(values) for values in zip(*parts, strict=True)))
    covering = np.isin(together.ids, list(covered))
    kept, plain = suppressed(pick(together, covering), nms_iou=nms_iou), pick(together, ~covering)
    return FoundObjects(*(np.concatenate(values) for values in zip(plain, kept, strict=True)))


def settle(found: FoundObjects, boxes: np.ndarray, names: TrueNames, crowd: np.ndarray) -> FoundObjects:
    """The detections after rule 2, renamed, taken away, or as they are, the surest first.

    boxes (M, 4), crowd (M,) bool: of the image's true boxes, whose names are `names`.
    """
    if not any(names.others) or not len(found.ids):
        return found
    says = found.ids.tolist()
    close = overlaps(found.boxes, boxes, crowd)  # (R, M)
    close[close < SAME_BOX_IOU] = -1
    right = np.array([[i in own for own in names.right] for i in says])
    other = np.array([[i in own for own in names.others] for i in says])
    ids, kept, free = found.ids.copy(), np.ones(len(says), dtype=bool), ~crowd
    stays = np.asarray((right & (close > 0)).any(axis=1))
    order = np.lexsort((~stays, -found.scores))  # the surest first, of equal ones those that stay
    for place in order.tolist():
        if stays[place]:
            of_object = free & right[place] & (names.objects == says[place])
            free[best_of(close[place], of_object)] = False
            continue
        near = other[place] & (close[place] > 0)
        box = best_of(close[place], near & free)
        ids[place] = names.objects[box][0] if len(box) else ids[place]
        kept[place] = len(box) > 0 or not near.any()
        free[box] = False
    return pick(FoundObjects(found.boxes, ids, found.scores), order[kept[order]])


def best_of(close: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """The place of the box overlapped most of those that are close and allowed, (1,), or none, (0,)."""
    places = np.flatnonzero(allowed & (close > 0))
    return places[[close[places].argmax()]] if len(places) else places


def overlaps(boxes: np.ndarray, others: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """IoU (R, M) of boxes (R, 4) and (M, 4); of a crowd (M,) the share of the first box that lies in it."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    shared = np.clip(np.minimum(boxes[:, None, 2:], others[None, :, 2:]) - low, 0, None).prod(axis=-1)  # (R, M)
    own, area = ((part[:, 2:] - part[:, :2]).prod(axis=1) for part in (boxes, others))
    whole = np.where(crowd[None], own[:, None], own[:, None] + area[None] - shared)
    return np.divide(shared, whole, out=np.zeros_like(shared), where=whole > 0)


def suppressed(found: FoundObjects, *, nms_iou: float) -> FoundObjects:
    """The detections that no surer one of their object overlaps by more than `nms_iou`, the surest first."""
    numbers = (torch.from_numpy(np.ascontiguousarray(part, dtype=np.float64)) for part in (found.boxes, found.scores))
    kept = batched_nms(*numbers, torch.from_numpy(found.ids.astype(np.int64)), nms_iou)
    return pick(found, kept.numpy())


def pick(found: FoundObjects, chosen: Any) -> FoundObjects:
    """Some of the detections, by number or by mask."""
    return FoundObjects(*(values[chosen] for values in found))
