"""Dense captioning's mean average precision (Johnson et al. 2016), over overlaps of boxes and METEOR of captions.

    true boxes --merge_true_boxes--> boxes with several reference captions each
    detections, the surest first --best true box, METEOR--> hits at 5 overlaps x 6 METEORs --densecap_map--> mAP

Equal to the official Lua (`eval/eval_utils.lua` and `densecap/box_utils.lua` of jcjohnson/densecap), with METEOR in
Python (`training/metrics/captioning/meteor.py`). Its boxes are centre and size in pixels, and its pixels inclusive, so
that a box is as wide as its size says: IoU is the plain one, in any unit. D detections of all images.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from training.metrics.box_arrays import (
    BoxFormat,
    check_units,
    joined_boxes,
    share_of,
    shared_and_joint_area,
    with_hundredfold,
)
from training.metrics.captioning.meteor import meteor_scores, meteor_statistics
from training.metrics.captioning.meteor_resources import MeteorResources

MIN_OVERLAPS = (0.3, 0.4, 0.5, 0.6, 0.7)
MIN_METEORS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25)
ANY_METEOR = -1.0
MERGED_FROM = 0.7
# The official loop adds 0.01 up to 1, which it oversteps: 100 points of recall, with the sums' error.
RECALL_POINTS = np.cumsum([0.0, *[0.01] * 99])


class _Detections(NamedTuple):
    """The detections (D,) in the official order: image after image, the surest first."""

    image: np.ndarray
    score: np.ndarray
    overlap: np.ndarray
    first: np.ndarray
    captions: list[str]
    references: list[list[str]]


def densecap_map(
    predictions: Sequence[Mapping[str, Any]],
    references: Sequence[Mapping[str, Any]],
    *,
    box_format: BoxFormat = "xyxy",
    resources: MeteorResources | None = None,
) -> dict[str, Any]:
    """Mean average precision of captioned boxes over five overlaps and six METEORs.

    Args:
        predictions: for each image `boxes` (n, 4), `scores` (n,), the higher the surer, and `captions`, n texts; n may
            be 0.
        references: for each image, in the same order, `boxes` (m, 4) and `captions`, one per box; m may be 0.
        box_format: of both: `xyxy`, `xywh` or `xcycwh` (the official one); in pixels or in 0..1.
        resources: METEOR's data; by default `MeteorResources.find()`.

    Returns:
        `map` and `detmap` (without regard to captions), in 0..1 and times 100 as `..._x100`; `ap_breakdown`, the
        average precision at each overlap and METEOR (`ov0.3_score0.05`), and `det_breakdown` at each overlap (`ov0.3`);
        `npos`, the number of true boxes after merging;
        `per_detection`: lists of `image` (from 0), `score`, `overlap` with its true box, `first` (whether none before
        took this box), `num_references` and `meteor` (0 without overlap), image after image and the surest first.

    As officially: true boxes that overlap by 0.7 are merged (`merge_true_boxes`); a detection belongs to the true box
    it overlaps most, and only the surest of a box can be right; METEOR must be above its threshold, so above 0 for
    `score0`; a detection that overlaps nothing takes the image's last true box; recall 1 is not looked at. Where the
    official code fails: an image without detections only misses its boxes, in one without true boxes every detection
    is wrong, and equal scores keep their order.

    Raises:
        ValueError: for different numbers of images or none, an image whose boxes, scores and captions do not fit each
            other, a score or box that is not a finite number, a caption that is not text, a true box without area, one
            side in pixels and the other in 0..1, and no true box at all.
        OSError: METEOR's data are absent, see `MeteorResources.find`.

    Example:
        found = {"boxes": [[10, 10, 90, 60]], "scores": [1.5], "captions": ["a brown dog"]}
        truth = {"boxes": [[12, 10, 90, 64]], "captions": ["a dog that runs"]}
        densecap_map([found], [truth])["map_x100"]
    """
    detections, npos = _matched(predictions, references, box_format)
    meteors = _meteors(detections, resources)
    return _precisions(detections, meteors, npos) | {
        "npos": npos,
        "per_detection": {
            "image": detections.image.tolist(),
            "score": detections.score.tolist(),
            "overlap": detections.overlap.tolist(),
            "first": detections.first.tolist(),
            "num_references": [len(texts) for texts in detections.references],
            "meteor": meteors.tolist(),
        },
    }


def merge_true_boxes(boxes: np.ndarray, *, min_iou: float = MERGED_FROM) -> list[np.ndarray]:
    """Which true boxes (m, 4) are taken for one: groups of indices, each box in one group.

    The box that most others overlap by `min_iou` (itself too; of equal ones the first) makes a group with them, and so
    on with those left. A group's box is the mean of its boxes, its references all their captions.

    >>> [own.tolist() for own in merge_true_boxes(np.array([[0.0, 0, 9, 9], [20, 0, 29, 9], [0, 0, 9, 8]]))]
    [[0, 2], [1]]
    """
    close = share_of(*shared_and_joint_area(boxes[:, None], boxes[None])) >= min_iou  # (m, m)
    groups = []
    while close.any():
        own = np.flatnonzero(close[close.sum(axis=1).argmax()])
        groups.append(own)
        close[own], close[:, own] = False, False
    return groups


def average_precision(hits: np.ndarray, npos: int) -> float:
    """The mean over 100 points of recall of the best precision from there on.

    hits: (D,) bool, whether each detection is right, the surest first; npos: the number of true boxes.

    >>> average_precision(np.array([True, False, True]), 2)
    0.83...
    """
    if not len(hits):
        return 0.0
    right = hits.cumsum()
    precision = right / np.arange(1, len(hits) + 1)
    best_from = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)  # (D + 1,)
    return float(best_from[np.searchsorted(right / npos, RECALL_POINTS)].mean())


def _matched(
    predictions: Sequence[Mapping[str, Any]], references: Sequence[Mapping[str, Any]], box_format: BoxFormat
) -> tuple[_Detections, int]:
    """The detections in the official order with their true boxes, and the number of true boxes after merging."""
    if len(predictions) != len(references) or not len(references):
        raise ValueError(
            f"{len(predictions)} predictions but {len(references)} references; give one of each per image, in the "
            "same order"
        )
    boxes, counts = _boxes(predictions, "predictions", ("boxes", "scores", "captions"), box_format)
    true, true_counts = _boxes(references, "references", ("boxes", "captions"), box_format)
    if not len(true):
        raise ValueError("no image has a true box; give images with captioned boxes")
    check_units(boxes, true)
    parts = np.split(boxes, counts.cumsum()[:-1]), np.split(true, true_counts.cumsum()[:-1])
    images, npos = [], 0
    for found, wanted, prediction, reference in zip(*parts, predictions, references, strict=True):
        groups = merge_true_boxes(wanted)
        npos += len(groups)
        merged = np.array([wanted[own].mean(axis=0) for own in groups]).reshape(-1, 4)
        texts = [[reference["captions"][place] for place in own] for own in groups]
        scores = np.asarray(prediction["scores"], dtype=np.float64)
        order = np.argsort(-scores, kind="stable")
        overlap, place, first = _taken(found[order], merged)
        captions = [prediction["captions"][number] for number in order]
        near = [texts[own] if covered > 0 else [] for own, covered in zip(place, overlap, strict=True)]
        images.append((scores[order], overlap, first, captions, near))
    scores, overlaps, firsts, captions, near = zip(*images, strict=True)
    return (
        _Detections(
            image=np.repeat(np.arange(len(counts)), counts),
            score=np.concatenate(scores),
            overlap=np.concatenate(overlaps),
            first=np.concatenate(firsts),
            captions=[text for own in captions for text in own],
            references=[texts for own in near for texts in own],
        ),
        npos,
    )


def _precisions(detections: _Detections, meteors: np.ndarray, npos: int) -> dict[str, Any]:
    """Average precision at each overlap and METEOR, and the means."""
    order = np.argsort(-detections.score, kind="stable")
    overlap, first, meteor = detections.overlap[order], detections.first[order], meteors[order]
    precisions = {
        (least_overlap, least_meteor): average_precision(
            first & (overlap >= least_overlap) & (meteor > least_meteor), npos
        )
        for least_overlap in MIN_OVERLAPS
        for least_meteor in (ANY_METEOR, *MIN_METEORS)
    }
    of_captions = {f"ov{o:g}_score{m:g}": value for (o, m), value in precisions.items() if m != ANY_METEOR}
    of_boxes = {f"ov{o:g}": precisions[o, ANY_METEOR] for o in MIN_OVERLAPS}
    means = {"map": float(np.mean(list(of_captions.values()))), "detmap": float(np.mean(list(of_boxes.values())))}
    return with_hundredfold(means) | {"ap_breakdown": of_captions, "det_breakdown": of_boxes}


def _taken(boxes: np.ndarray, true: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each box's overlap with its true box, the place of that, and whether the box is its first: three times (n,)."""
    if not len(true) or not len(boxes):
        return np.zeros(len(boxes)), np.zeros(len(boxes), dtype=int), np.zeros(len(boxes), dtype=bool)
    overlaps = share_of(*shared_and_joint_area(boxes[:, None], true[None]))  # (n, m)
    best = overlaps.max(axis=1)
    place = np.where(best > 0, overlaps.argmax(axis=1), len(true) - 1)
    first = np.zeros(len(boxes), dtype=bool)
    first[np.unique(place, return_index=True)[1]] = True
    return best, place, first


def _meteors(detections: _Detections, resources: MeteorResources | None) -> np.ndarray:
    """METEOR (D,) of each detection's caption against its true box's; 0 where it overlaps none."""
    meteors = np.zeros(len(detections.captions))
    near = [number for number, texts in enumerate(detections.references) if texts]
    if near:
        captions = [detections.captions[number] for number in near]
        references = [detections.references[number] for number in near]
        meteors[near] = meteor_scores(meteor_statistics(captions, references, resources or MeteorResources.find()))
    return meteors


def _boxes(
    items: Sequence[Mapping[str, Any]], what: str, fields: Sequence[str], box_format: BoxFormat
) -> tuple[np.ndarray, np.ndarray]:
    """The boxes of all images (N, 4) and the number of each image's (P,), checked with what belongs to them."""
    for number, item in enumerate(items):
        lacking = [key for key in fields if item.get(key) is None]
        if lacking:
            raise ValueError(f"{what}[{number}] has no {' and no '.join(lacking)}; give {', '.join(fields)}")
        sizes = {len(item[key]) for key in fields}
        if len(sizes) > 1:
            told = ", ".join(f"{len(item[key])} {key}" for key in fields)
            raise ValueError(f"{what}[{number}] has {told}; give one of each per box")
        strange = [text for text in item["captions"] if not isinstance(text, str)]
        if strange:
            raise ValueError(f"{what}[{number}] has a caption that is {strange[0]!r:.60}; give text")
        if "scores" in fields:
            _check_scores(item["scores"], f"{what}[{number}]")
    return joined_boxes([item["boxes"] for item in items], what, box_format=box_format, has_area=what == "references")


def _check_scores(scores: Any, what: str) -> None:
    try:
        finite = bool(np.isfinite(np.asarray(scores, dtype=np.float64)).all())
    except (TypeError, ValueError):
        finite = False
    if not finite:
        raise ValueError(f"{what} has a score that is no finite number; every detection needs one")
