"""Objects with several right names -> detections and boxes of one name each, which COCO's average precision takes.

    probabilities --detections_of_probs--> detections --cover--> with covering names --settle--> renamed or taken away
    object_ids, other_object_ids, covered --names_of_boxes--> TrueNames

Two rules, for names in the sense of ids:

1. A name covers others ("person": man, skier). A detection of a covered name is one of the covering name as well: the
   probabilities of a region are added up, and of such detections that overlap by more than `nms_iou` the surest stays.
   A box with a covered name is a box of the covering name as well. (Open Images' rule for its hierarchy, Kuznetsova et
   al. 2020, section 3.4, for two levels.)
2. A box may have other right names beside its object ("man": guy), and each of them finds it. A detection that says the
   object or another right name, and overlaps the box by at least 0.5, counts as a detection of each name that the box
   is of (its object, and what covers one of its right names) and that is not found yet. A detection that finds nothing
   is a mistake only where it repeats a name that the box is of and that a detection has said before; else it is taken
   away, as is one that says another right name of a crowd it lies in.

   Detections come in the order of their scores, of equal ones those first that say what a box is of. Each belongs to
   one box: of those on which it is no mistake or, if it says another right name, finds something, the one that it
   overlaps most.

Shapes: R detections of an image, M true boxes, C objects; boxes are xyxy in pixels, without +1 as COCO has them.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torchvision.ops import batched_nms

__all__ = ["FoundObjects", "TrueNames", "check_covered", "cover", "detections_of_probs", "names_of_boxes", "settle"]

SAME_BOX_IOU = 0.5
LOWEST_SCORE = 1e-3  # of a pair of a region and an object; below, nothing is detected
Covered = Mapping[int, Sequence[int]]


class FoundObjects(NamedTuple):
    """Detections of an image: boxes (R, 4), object ids (R,) from 1, scores (R,)."""

    boxes: np.ndarray
    ids: np.ndarray
    scores: np.ndarray


class TrueNames(NamedTuple):
    """The names of an image's M boxes: `said`, the sets of each box's object and its other right names; `right`, the
    sets of the names that it is a box of: its object and what covers one of those.
    """

    said: list[set[int]]
    right: list[set[int]]


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
    >>> names.said, names.right
    ([{2, 3}, {1}], [{2, 5}, {1}])
    """
    said = [{int(own), *map(int, more)} for own, more in zip(object_ids, others, strict=True)]
    right = [
        {int(own), *(above for above, finer in covered.items() if names & set(finer))}
        for own, names in zip(object_ids, said, strict=True)
    ]
    return TrueNames(said, right)


def detections_of_probs(
    boxes: np.ndarray, probs: np.ndarray, covered: Covered, *, most: int, nms_iou: float
) -> FoundObjects:
    """The surest `most` pairs of a region and an object that suppression within each object leaves, the surest first.

    Pairs of a score below `LOWEST_SCORE` are not counted.

    boxes (R, 4); probs (R, C + 1), background first: those of covered names are added to the covering one's.

    >>> found = detections_of_probs(np.array([[0.0, 0, 9, 9]]), np.array([[0.1, 0.6, 0.3, 0]]), {3: [1, 2]}, most=2,
    ...                             nms_iou=0.5)
    >>> found.ids.tolist(), found.scores.round(2).tolist()
    ([3, 1], [0.9, 0.6])
    """
    scores = np.array(probs, dtype=np.float64)
    for own, finer in covered.items():
        scores[:, own] = probs[:, [own, *finer]].sum(axis=1, dtype=np.float64)
    regions, columns = np.nonzero(scores[:, 1:] >= LOWEST_SCORE)
    pairs = FoundObjects(boxes[regions], columns + 1, scores[regions, columns + 1])
    return pick(suppressed(pairs, nms_iou=nms_iou), slice(0, most))


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
    """The detections after rule 2, the surest first: some once more under another name, some taken away.

    boxes (M, 4), crowd (M,) bool: of the image's true boxes, whose names are `names`.
    """
    if names.said == names.right or not len(found.ids):  # one name a box
        return found
    says = found.ids.tolist()
    close = overlaps(found.boxes, boxes, crowd)  # (R, M)
    close[close < SAME_BOX_IOU] = 0
    right, said = (
        np.array([[i in own for own in sets] for i in says]) & (close > 0) for sets in (names.right, names.said)
    )
    left = [set() if in_crowd else set(own) for own, in_crowd in zip(names.right, crowd.tolist(), strict=True)]
    lent: list[set[int]] = [set() for _ in left]  # names of which only a detection of another name has found the box
    stays = np.asarray(right.any(axis=1))
    kept: list[tuple[int, int]] = []  # the number of a detection, and the name that it counts as
    for number in np.lexsort((~stays, -found.scores)).tolist():
        name = says[number]
        if stays[number]:
            open_ones = [name in own | other for own, other in zip(left, lent, strict=True)]
            box = best_box(close[number], right[number] & open_ones)
        else:
            box = best_box(close[number], said[number] & [bool(own) for own in left])
        if (stays[number] or not said[number].any()) and (box is None or name in left[box]):
            kept.append((number, name))
        if box is None:
            continue
        left[box].discard(name)
        lent[box].discard(name)
        if said[number, box]:
            kept += [(number, other) for other in sorted(left[box])]
            lent[box] |= left[box]
            left[box].clear()
    numbers = np.array([number for number, _ in kept], dtype=np.int64)
    return FoundObjects(found.boxes[numbers], np.array([name for _, name in kept], np.int64), found.scores[numbers])


def best_box(close: np.ndarray, allowed: np.ndarray) -> int | None:
    """The place of the allowed box (M,) that is overlapped most, the first of equal ones; None where none is."""
    return int(np.where(allowed, close, -1).argmax()) if allowed.any() else None


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
