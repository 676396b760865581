"""How fast Visual Genome's average precision is at 1,600 classes, against the same rules in plain Python.

    python -m tests.benchmarks.detection_metrics

Prints detections a second for both from the same lists (as they stand in the official files) and for ours from arrays
(as predictions come), their ratios, and the seconds that it takes at the size of Visual Genome's test split.
"""

import itertools
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from training.metrics.detection.average_precision import LabelledBoxes, vg_average_precision, vg_detection

CLASSES, TRUE_AN_IMAGE, FOUND_AN_IMAGE = 1600, 20, 300
SIDE_PIXELS = 500
IMAGES, FULL_IMAGES = 500, 5000


def naive_average_precisions(
    images: Sequence[Mapping[str, Any]], found: Mapping[int, list[list[Any]]], *, column: str, num_classes: int
) -> list[float]:
    """The average precision of classes 1 .. num_classes - 1, straight from the rules, one detection at a time.

    As the official evaluator does, it goes through all images for each class.
    """
    precisions = []
    for label in range(1, num_classes):
        boxes = {image["id"]: boxes_of_class(image["boxes"], image[column], label) for image in images}
        precisions.append(naive_class_precision(found.get(label, []), boxes))
    return precisions


def boxes_of_class(boxes: list[list[float]], labels: list[Any], wanted: int) -> list[list[float]]:
    """The boxes whose label, a class or a list of classes, is or holds the one that is wanted."""
    return [
        box
        for box, label in zip(boxes, labels, strict=True)
        if label == wanted or (isinstance(label, list) and wanted in label)
    ]


def naive_class_precision(found: list[list[Any]], boxes: Mapping[str, list[list[float]]]) -> float:
    num_boxes = sum(map(len, boxes.values()))
    if not num_boxes or not found:
        return 0.0
    taken: set[tuple[str, int]] = set()
    points = [(0.0, 0.0)]
    for rank, (image_id, _, *box) in enumerate(sorted(found, key=lambda entry: -entry[1]), start=1):
        overlaps = [naive_overlap(box, other) for other in boxes.get(image_id, [])]
        if overlaps and max(overlaps) > 0.5:
            taken.add((image_id, overlaps.index(max(overlaps))))
        points.append((len(taken) / num_boxes, len(taken) / rank))
    area, best = 0.0, 0.0
    for (before, _), (recall, precision) in reversed(list(itertools.pairwise(points))):
        best = max(best, precision)
        area += (recall - before) * best
    return area


def naive_overlap(box: Sequence[float], other: Sequence[float]) -> float:
    width = min(box[2], other[2]) - max(box[0], other[0]) + 1
    height = min(box[3], other[3]) - max(box[1], other[1]) + 1
    shared = max(width, 0) * max(height, 0)
    areas = [(b[2] - b[0] + 1) * (b[3] - b[1] + 1) for b in (box, other)]
    return shared / (sum(areas) - shared)


def random_boxes(generator: np.random.Generator, count: int) -> np.ndarray:
    """Boxes xyxy (count, 4) in whole pixels."""
    corner = generator.integers(0, SIDE_PIXELS - 60, (count, 2))
    return np.concatenate([corner, corner + generator.integers(5, 60, (count, 2))], axis=1).astype(np.float64)


def random_boxes_of_images(
    generator: np.random.Generator, images: int, *, num_classes: int
) -> tuple[LabelledBoxes, LabelledBoxes, np.ndarray]:
    """Ground truth, detections (most of them near a true box) and their scores; some classes are frequent."""
    total = images * TRUE_AN_IMAGE
    classes = 1 + np.minimum(generator.pareto(0.6, total) * 5, num_classes - 1).astype(np.int64)
    truth = LabelledBoxes(np.repeat(np.arange(images), TRUE_AN_IMAGE), classes, random_boxes(generator, total))
    near = np.repeat(np.arange(total), FOUND_AN_IMAGE // TRUE_AN_IMAGE)
    moved = truth.boxes[near] + generator.integers(-4, 5, (len(near), 4))
    moved[:, 2:] = np.maximum(moved[:, 2:], moved[:, :2])
    wrong = generator.random(len(near)) < 0.4
    labels = np.where(wrong, generator.integers(1, num_classes + 1, len(near)), classes[near])
    # no two of a class are as sure as each other, so that no order of equals has to be agreed on
    return truth, LabelledBoxes(truth.images[near], labels, moved), generator.permutation(len(near)) / len(near)


def as_files(
    truth: LabelledBoxes, detections: LabelledBoxes, scores: np.ndarray, *, num_images: int
) -> tuple[list[dict[str, Any]], dict[int, list[list[Any]]]]:
    """The same as the lists that `vg_detection` takes."""
    images: list[dict[str, Any]] = [
        {"id": str(n), "boxes": [], "classes": [], "attributes": []} for n in range(num_images)
    ]
    for image, label, box in zip(*(values.tolist() for values in truth), strict=True):
        images[image]["boxes"].append(box)
        images[image]["classes"].append(label)
        images[image]["attributes"].append([])
    found: dict[int, list[list[Any]]] = defaultdict(list)
    columns = zip(*(values.tolist() for values in detections), scores.tolist(), strict=True)
    for image, label, box, score in columns:
        found[label].append([str(image), score, *box])
    return images, found


def best_seconds(work: Callable[[], object], *, repeats: int) -> float:
    """The shortest of several runs, in seconds of this process's time."""
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    return min(seconds)


def main() -> None:
    generator = np.random.default_rng(0)
    truth, detections, scores = random_boxes_of_images(generator, IMAGES, num_classes=CLASSES)
    images, found = as_files(truth, detections, scores, num_images=IMAGES)
    ours = partial(
        vg_detection, images, found, attribute_detections={}, num_classes=CLASSES + 1, num_attributes=400 + 1
    )
    naive = partial(naive_average_precisions, images, found, column="classes", num_classes=CLASSES + 1)
    per_class = ours()["object"]["per_class"]
    assert np.allclose([values["ap"] for values in per_class.values()], naive(), atol=1e-12)
    fast, slow = (len(scores) / best_seconds(work, repeats=3) for work in (ours, naive))
    print(f"from lists {fast:,.0f} detections/s, plain Python {slow:,.0f} detections/s, ratio {fast / slow:.1f}")
    arrays = partial(vg_average_precision, detections, scores, truth=truth, num_classes=CLASSES)
    bare = len(scores) / best_seconds(arrays, repeats=3)
    print(f"from arrays {bare:,.0f} detections/s, ratio {bare / slow:.1f}")
    truth, detections, scores = random_boxes_of_images(generator, FULL_IMAGES, num_classes=CLASSES)
    full = best_seconds(partial(vg_average_precision, detections, scores, truth=truth, num_classes=CLASSES), repeats=1)
    print(f"{FULL_IMAGES:,} images, {CLASSES:,} classes, {len(scores):,} detections from arrays: {full:.1f} s")


if __name__ == "__main__":
    main()
