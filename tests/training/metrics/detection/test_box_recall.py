"""Recall of boxes by regions: by hand, against a slow twin, and what is refused."""

from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset

from training.metrics.detection.box_recall import best_overlaps, box_recall, frequency_groups, size_groups

LEFT, RIGHT, WHOLE = [0.0, 0.0, 0.5, 1.0], [0.5, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 1.0]
TINY = [0.9, 0.9, 0.95, 0.95]


def naive_recall(
    predictions: list[dict[str, Any]], rows: list[dict[str, Any]], *, most: int, min_iou: float
) -> tuple[int, int]:
    """How many boxes are reached, and how many there are, box by box."""
    reached = total = 0
    for prediction, row in zip(predictions, rows, strict=True):
        regions = [box for _, box in sorted(zip(prediction["scores"], prediction["boxes"], strict=True), key=surest)]
        for box, crowd in zip(row["boxes"], row["crowd"], strict=True):
            total += not crowd
            reached += not crowd and any(naive_overlap(box, other) >= min_iou for other in regions[:most])
    return reached, total


def surest(pair: tuple[float, Any]) -> float:
    return -pair[0]


def naive_overlap(box: list[float], other: list[float]) -> float:
    width = min(box[2], other[2]) - max(box[0], other[0])
    height = min(box[3], other[3]) - max(box[1], other[1])
    shared = max(width, 0) * max(height, 0)
    areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (box, other)]
    return shared / (sum(areas) - shared)


def random_boxes(generator: np.random.Generator, count: int) -> list[list[float]]:
    corners = generator.random((count, 2, 2))
    return np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1).tolist()


@pytest.mark.parametrize("seed", range(5))
def test_recall_equals_the_slow_twin(seed: int) -> None:
    generator = np.random.default_rng(seed)
    counts = generator.integers(0, 7, (30, 2))
    counts[0, 0] = 3
    rows = [{"boxes": random_boxes(generator, n), "crowd": (generator.random(n) < 0.2).tolist()} for n, _ in counts]
    rows[0]["crowd"] = np.array([False, True, False])
    predictions = [
        {"boxes": random_boxes(generator, m), "scores": generator.permutation(m).tolist()} for _, m in counts
    ]
    for min_iou in (0.1, 0.5):
        found = box_recall(predictions, rows, at=[1, 3, 50], min_iou=min_iou)
        for most in (1, 3, 50):
            reached, total = naive_recall(predictions, rows, most=most, min_iou=min_iou)
            assert found["all"]["num_boxes"] == total
            assert found["all"][f"recall_{most}_x100"] == pytest.approx(100 * reached / total, abs=1e-12)
        per_image = zip(found["per_item"]["recall_3"], found["per_item"]["num_boxes"], strict=True)
        assert sum(value * count for value, count in per_image if count) == pytest.approx(
            naive_recall(predictions, rows, most=3, min_iou=min_iou)[0]
        )


def test_the_first_regions_are_the_surest_or_those_that_come_first() -> None:
    rows = [{"boxes": [LEFT]}]
    boxes = np.array([RIGHT, LEFT])
    assert box_recall([{"boxes": boxes}], rows, at=[1, 2])["all"]["recall_1_x100"] == 0
    assert box_recall([{"boxes": boxes}], rows, at=[1, 2])["all"]["recall_2_x100"] == 100
    surer = {"boxes": torch.from_numpy(boxes), "scores": torch.tensor([0.1, 0.2])}
    assert box_recall([surer], rows, at=[1])["all"]["recall_1_x100"] == 100
    equal = {"boxes": boxes, "scores": [0.5, 0.5]}
    assert box_recall([equal], rows, at=[1])["all"]["recall_1_x100"] == 0


def test_one_region_may_reach_several_boxes_and_half_is_enough() -> None:
    rows = [{"boxes": [LEFT, RIGHT, WHOLE]}]
    found = box_recall([{"boxes": [WHOLE]}], rows, at=[10])
    assert found["all"]["recall_10_x100"] == 100  # LEFT and RIGHT overlap it by exactly 0.5
    stricter = box_recall([{"boxes": [WHOLE]}], rows, at=[10], min_iou=0.51)
    assert stricter["all"]["recall_10_x100"] == pytest.approx(100 / 3)


def test_groups_and_images_without_regions() -> None:
    rows = Dataset.from_list([{"boxes": [LEFT, TINY], "crowd": [False, False]}, {"boxes": [RIGHT], "crowd": [False]}])
    groups = {"type": [[["people", "animals"], []], [["people"]]], "size": size_groups(list(rows))}
    found = box_recall([{"boxes": [LEFT]}, {"boxes": []}], rows, at=[1], groups=groups)
    assert {name: (own["num_boxes"], own["recall_1_x100"]) for name, own in found["type"].items()} == {
        "people": (2, 50),
        "animals": (1, 100),
    }
    assert {name: own["num_boxes"] for name, own in found["size"].items()} == {"large": 2, "small": 1}
    assert found["type"]["animals"]["recall_1_interval_x100"] == [100, 100]
    assert found["all"]["num_images"] == 2


def test_an_interval_is_over_images_not_over_boxes() -> None:
    """100 images, half of them with all of their nine boxes reached: the error is that of 100 coins, not of 900."""
    rows = [{"boxes": [LEFT] * 9}] * 100
    predictions = [{"boxes": [LEFT if number % 2 else TINY]} for number in range(100)]
    low, high = box_recall(predictions, rows, at=[1])["all"]["recall_1_interval_x100"]
    assert (low, high) == pytest.approx((50 - 1.96 * 5, 50 + 1.96 * 5), abs=1.5)


def test_overlaps_without_boxes_or_regions() -> None:
    none = np.zeros((0, 4))
    assert best_overlaps(none, np.array([LEFT]), at=[1]).shape == (0, 1)
    assert best_overlaps(np.array([LEFT]), none, at=[1, 5]).tolist() == [[0, 0]]
    assert best_overlaps(np.array([LEFT]), np.array([[0.2, 0.2, 0.2, 0.2]]), at=[1]).tolist() == [[0]]


def test_frequency_is_that_of_the_commonest_name() -> None:
    counts = {"dog": 1000, "ape": 19, "animal": 20, "one": 1}
    names = [[["ape"], ["ape", "animal"], ["dog"], ["unicorn"], ["one"], []]]
    assert frequency_groups(names, counts) == [[["1-19"], ["20-99"], ["1000+"], ["0"], ["1-19"], []]]


@pytest.mark.parametrize(
    ("prediction", "options", "message"),
    [
        ({"boxes": [[0, 0, 640, 480]]}, {}, "in 0..1"),
        ({"boxes": [[0.5, 0, 0.4, 1]]}, {}, "x1 <= x2"),
        ({"boxes": [[0, 0, float("nan"), 1]]}, {}, "in 0..1"),
        ({"boxes": [LEFT], "scores": [float("nan")]}, {}, "one finite number for each of 1 boxes"),
        ({"boxes": [LEFT], "scores": [0.1, 0.2]}, {}, "one finite number for each of 1 boxes"),
        ({"boxes": [[0, 1]]}, {}, "have shape"),
        ({"scores": []}, {}, "has no 'boxes'"),
        ({"boxes": [LEFT]}, {"at": []}, "give at least one"),
        ({"boxes": [LEFT]}, {"at": [0]}, "from 1"),
        ({"boxes": [LEFT]}, {"min_iou": 0}, "above 0"),
        ({"boxes": [LEFT]}, {"groups": {"type": [[["a"]]]}}, "groups 'type' do not fit"),
    ],
)
def test_what_cannot_be_scored_is_refused(prediction: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        box_recall([prediction], [{"boxes": [LEFT, RIGHT]}], **options)


def test_rows_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="1 predictions but 2 rows"):
        box_recall([{"boxes": []}], [{"boxes": [LEFT]}] * 2)
    with pytest.raises(ValueError, match="no box to reach"):
        box_recall([{"boxes": [LEFT]}], [{"boxes": [LEFT], "crowd": [True]}])
    with pytest.raises(ValueError, match="crowd has 2 values"):
        box_recall([{"boxes": [LEFT]}], [{"boxes": [LEFT], "crowd": [True, False]}])
