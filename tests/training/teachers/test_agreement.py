"""Agreement with real boxes: the hits of a slow loop, the best threshold, and COCO's average precision."""

from typing import Any

import numpy as np
import pytest

from training.teachers.agreement import average_precision, best_threshold


def overlap(first: list[float], second: list[float]) -> float:
    """The IoU of two boxes xywh."""
    width = min(first[0] + first[2], second[0] + second[2]) - max(first[0], second[0])
    height = min(first[1] + first[3], second[1] + second[3]) - max(first[1], second[1])
    shared = max(width, 0) * max(height, 0)
    return shared / (first[2] * first[3] + second[2] * second[3] - shared)


def slowly_best(made: list[dict[str, Any]], real: list[dict[str, Any]]) -> dict[str, float]:
    """The same figures one box at a time."""
    free = [note for note in real if not note.get("iscrowd")]
    total, correct, best = len(free), 0, {"f1": -1.0}
    for count, note in enumerate(sorted(made, key=lambda note: -note["score"]), start=1):
        rivals = [n for n in free if (n["image_id"], n["category_id"]) == (note["image_id"], note["category_id"])]
        nearest = max(rivals, key=lambda other: overlap(note["bbox"], other["bbox"]), default=None)
        if nearest is not None and overlap(note["bbox"], nearest["bbox"]) >= 0.5:
            free.remove(nearest)
            correct += 1
        f1 = 2 * correct / (count + total)
        if f1 > best["f1"]:
            figures = {"threshold": note["score"], "precision": correct / count, "recall": correct / total}
            best = {**figures, "f1": f1}
    return best


@pytest.mark.parametrize("seed", range(5))
def test_the_best_threshold_is_that_of_a_slow_loop(seed: int) -> None:
    draw = np.random.default_rng(seed)
    real = [
        {
            "image_id": int(draw.integers(4)),
            "category_id": int(draw.integers(1, 3)),
            "bbox": [*draw.uniform(0, 20, 2).tolist(), *draw.uniform(5, 20, 2).tolist()],
            "iscrowd": int(draw.random() < 0.1),
        }
        for _ in range(40)
    ]
    made = [{**real[int(draw.integers(40))], "score": score} for score in draw.random(70).tolist()]
    for note in made:
        note["bbox"] = [side + move for side, move in zip(note["bbox"], draw.uniform(-2, 2, 4).tolist(), strict=True)]
    assert best_threshold(made, real) == pytest.approx(slowly_best(made, real))


def test_average_precision_of_ids_as_numbers_and_text() -> None:
    box = {"image_id": 7, "category_id": 3, "bbox": [10, 10, 50, 50]}
    near = {**box, "image_id": "7", "bbox": [10, 10, 50, 36], "score": 0.9}  # an IoU of 0.72: right at 5 of 10 overlaps
    figures = average_precision([near], [box], images=[{"id": "7"}], categories=[{"id": 3}])
    assert figures == pytest.approx({"ap": 50.0, "ap50": 100.0})
    with pytest.raises(ValueError, match="category_id 4"):
        average_precision([{**near, "category_id": 4}], [box], images=[{"id": 7}], categories=[{"id": 3}])
