"""Open sets: AP of two parts against COCO's own of each name, AUROC against all pairs, and mistakes."""

import numpy as np
import pytest

from training.metrics.detection.average_precision import detection_scores
from training.metrics.detection.open_set import known_unknown_auroc, open_set_scores


def brute_force(scores: list[float], known: list[bool]) -> float:
    """The slow twin: every pair."""
    pairs = [
        (a > b) + (a == b) / 2
        for a, first in zip(scores, known, strict=True)
        for b, second in zip(scores, known, strict=True)
        if first and not second
    ]
    return sum(pairs) / len(pairs)


@pytest.mark.parametrize("seed", range(6))
def test_auroc_is_the_share_of_pairs(seed: int) -> None:
    draw = np.random.default_rng(seed)
    scores = draw.integers(0, 12, size=40) / 7 if seed % 2 else draw.normal(size=40)  # with ties, and without
    known = draw.random(40) < 0.6
    found = known_unknown_auroc(scores, known, images=draw.integers(0, 9, size=40))
    assert found["auroc"] == pytest.approx(brute_force(scores.tolist(), known.tolist()), abs=1e-12)
    low, high = found["auroc_interval_x100"]
    assert low <= found["auroc_x100"] <= high and 5 < high - low < 70
    assert (found["num_known"], found["num_unknown"]) == (known.sum(), 40 - known.sum())


def test_auroc_at_its_ends() -> None:
    assert known_unknown_auroc([3.0, 2.0, 1.0], [True, True, False])["auroc"] == 1
    assert known_unknown_auroc([1.0, 2.0, 3.0], [True, True, False])["auroc"] == 0
    same = known_unknown_auroc([0.5] * 5, [True, False, False, True, True])
    assert same["auroc"] == 0.5 and same["auroc_interval_x100"] == [50, 50]


def test_the_interval_is_drawn_over_images() -> None:
    """Boxes of one image go together: ten copies of each change nothing."""
    draw = np.random.default_rng(3)
    scores, known = draw.normal(size=30), np.arange(30) % 2 == 0
    once = known_unknown_auroc(scores, known, seed=1)
    tenfold = known_unknown_auroc(np.repeat(scores, 10), np.repeat(known, 10), images=np.repeat(range(30), 10), seed=1)
    assert tenfold["auroc"] == pytest.approx(once["auroc"], abs=1e-12)
    assert tenfold["auroc_interval_x100"] == once["auroc_interval_x100"]


@pytest.mark.parametrize(
    ("scores", "known", "message"),
    [
        ([0.5, 0.4], [True, True], "no box of unknown names"),
        ([0.5, 0.4], [False, False], "no box of known names"),
        ([0.5, float("nan")], [True, False], "not finite"),
        ([0.5, 0.4], [True], "give one a box"),
    ],
)
def test_mistakes_of_auroc(scores: list[float], known: list[bool], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        known_unknown_auroc(scores, known)


def scene(seed: int) -> tuple[dict, dict]:
    """An image with true boxes of the names 1, 2 and 4 of five, and detections of all: some near, some anywhere."""
    draw = np.random.default_rng(seed)
    corners = draw.random((4, 2)) * 0.5
    boxes = np.concatenate([corners, corners + 0.3], axis=1)
    row = {"image_id": str(seed), "width": 200, "height": 100, "boxes": boxes.tolist(), "object_ids": [1, 2, 4, 4]}
    found = np.concatenate([boxes, boxes + draw.normal(size=(4, 4)) * 0.02, draw.random((4, 2)).repeat(2, axis=1)])
    found[:, 2:] = np.maximum(found[:, 2:], found[:, :2])
    ids = [1, 3, 4, 4, *draw.integers(1, 6, size=8)]
    return {"boxes": found, "scores": draw.random(12), "object_ids": ids}, row


def test_average_precision_of_each_part_is_the_mean_of_its_names() -> None:
    found, rows = zip(*(scene(seed) for seed in range(5)), strict=True)
    scores = open_set_scores(found, rows, known=[1, 2, 3], novel=[4, 5])
    of_name = detection_scores(found, rows, num_classes=5)["per_class"]
    assert scores["known_map_50"] == pytest.approx(np.mean([of_name[i]["map_50"] for i in (1, 2)]), abs=1e-12)
    assert scores["novel_map"] == pytest.approx(of_name[4]["map"], abs=1e-12) and of_name[4]["map"] > 0
    assert scores["all_map_50_x100"] == pytest.approx(100 * np.mean([of_name[i]["map_50"] for i in (1, 2, 4)]))
    assert [scores[f"{part}_names"] for part in ("known", "novel", "all")] == [2, 1, 3]


def test_a_part_without_boxes_and_ids_that_are_none() -> None:
    found, row = scene(0)
    row["object_ids"] = [1, 2, 1, 2]
    scores = open_set_scores([found], [row], known=[1, 2, 3], novel=[4, 5])
    assert scores["novel_names"] == 0 and scores["novel_map_x100"] == scores["novel_map_50"] == -1
    for known, novel in (([1, 2], [2, 3]), ([1], [3]), ([0, 1], [2])):
        with pytest.raises(ValueError, match="each in one part"):
            open_set_scores([found], [row], known=known, novel=novel)
