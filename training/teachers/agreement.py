"""How well a teacher's boxes agree with real ones: the best score threshold, and COCO's average precision."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torchvision.ops import box_convert

from modeling_updown.boxes_updown import pairwise_iou
from training.metrics.detection import coco_detection

MATCHING_IOU = 0.5

Annotations = Sequence[Mapping[str, Any]]


def best_threshold(made: Annotations, real: Annotations) -> dict[str, float]:
    """The score threshold at which made boxes agree best with real ones, by F1 over all boxes.

    In the order of their scores, made boxes are matched with the free real box of their class that they overlap most,
    by an IoU of at least 0.5. Real crowds are left out.

    Args:
        made, real: annotations of the same images (image_id, category_id, bbox xywh), the made ones with a score.

    Returns:
        threshold, precision, recall, f1.

    Raises:
        ValueError: if there are no real boxes, or no made ones.

    >>> box = {"image_id": 1, "category_id": 1, "bbox": [0, 0, 10, 10]}
    >>> best_threshold([{**box, "score": 0.9}, {**box, "score": 0.4}], [box])["threshold"]
    0.9
    """
    truths: dict[tuple[str, Any], list[Sequence[float]]] = defaultdict(list)
    for note in real:
        if not note.get("iscrowd"):
            truths[str(note["image_id"]), note["category_id"]].append(note["bbox"])
    total, ranked = sum(map(len, truths.values())), sorted(made, key=lambda note: -note["score"])
    if not total or not ranked:
        raise ValueError("there is no box to compare; give made and real boxes of the same images")
    hits = _hits(ranked, truths)
    correct, count = hits.cumsum(), np.arange(1, len(ranked) + 1)
    f1 = 2 * correct / (count + total)
    best = int(f1.argmax())
    return {
        "threshold": float(ranked[best]["score"]),
        "precision": float(correct[best] / count[best]),
        "recall": float(correct[best] / total),
        "f1": float(f1[best]),
    }


def average_precision(
    made: Annotations, real: Annotations, *, images: Annotations, categories: Annotations
) -> dict[str, float]:
    """COCO's average precision x100 of made boxes: `ap` (mean over overlaps 0.50 .. 0.95) and `ap50`.

    Args:
        made, real: annotations, the made ones with a score; the best 100 per image and class count, so make them with a
            low threshold.
        images: the images to score, with their id; ids as numbers or as text are the same.
        categories: the classes by id.

    Raises:
        ValueError: for annotations of other images or classes.
    """
    listed = [{"id": str(image["id"])} for image in images]
    found, truth = ([{**note, "image_id": str(note["image_id"])} for note in notes] for notes in (made, real))
    scores = coco_detection(found, truth, images=listed, categories=categories)
    return {"ap": scores["map_x100"], "ap50": scores["map_50_x100"]}


def _hits(ranked: Annotations, truths: Mapping[tuple[str, Any], list[Sequence[float]]]) -> np.ndarray:
    """(N,) bool: whether each made box, the best first, gets a real one. Images and classes do not compete."""
    places: dict[tuple[str, Any], list[int]] = defaultdict(list)
    for place, note in enumerate(ranked):
        places[str(note["image_id"]), note["category_id"]].append(place)
    hits = np.zeros(len(ranked), dtype=bool)
    for key in places.keys() & truths.keys():
        found, real = (
            box_convert(torch.tensor(boxes).double(), "xywh", "xyxy")
            for boxes in ([ranked[place]["bbox"] for place in places[key]], truths[key])
        )
        overlaps = pairwise_iou(found, real).numpy()  # (found, real)
        for place, row in zip(places[key], overlaps, strict=True):
            best = row.argmax()
            if row[best] >= MATCHING_IOU:
                hits[place] = True
                overlaps[:, best] = -1  # taken
    return hits
