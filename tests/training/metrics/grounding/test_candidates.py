"""The accuracy among candidates against a slow twin, and what is refused."""

import numpy as np
import pytest

from training.metrics.grounding.candidates import candidate_accuracy, candidate_scores


def slow_iou(one: list[float], other: list[float]) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(width, 0) * max(height, 0)
    return shared / (sum((b[2] - b[0]) * (b[3] - b[1]) for b in (one, other)) - shared)


def boxes(draw: np.random.Generator, number: int) -> np.ndarray:
    corners = draw.random((number, 2)) * 0.6
    return np.concatenate([corners, corners + 0.1 + 0.3 * draw.random((number, 2))], axis=1)


def test_scores_equal_a_slow_twins() -> None:
    draw = np.random.default_rng(0)
    for number in range(1, 12):
        regions, candidates, scores = boxes(draw, number), boxes(draw, 4), draw.random(number)
        slow = [
            max(score * slow_iou(region, one) for region, score in zip(regions.tolist(), scores, strict=True))
            for one in candidates.tolist()
        ]
        np.testing.assert_allclose(candidate_scores(regions, scores, candidates), slow, atol=1e-12)


def test_of_given_boxes_the_best_scored_one_is_chosen() -> None:
    draw = np.random.default_rng(1)
    for _ in range(50):
        regions, scores = boxes(draw, 6), draw.random(6)
        assert candidate_scores(regions, scores, regions).argmax() == scores.argmax()
    assert candidate_scores(np.zeros((0, 4)), np.zeros(0), regions).tolist() == [0.0] * 6


def test_accuracy_and_chance() -> None:
    four = [[i, 0, i + 1, 1] for i in range(4)]
    twins = [four[0], four[0], four[1]]  # the same box twice: either is right
    found = candidate_accuracy(
        [[0.1, 0.9, 0.2, 0.3], [0.5, 0.5, 0.5, 0.4], [0, 0, 0, 0], [0.1, 0.3, 0.2]],
        [four, four, four, twins],
        [[four[1]], [four[0]], [four[0]], [four[0]]],
    )
    assert found["per_item"]["candidate_accuracy"] == [1.0, 1.0, 0.0, 1.0]
    assert found["candidate_accuracy"] == 0.75 and found["candidate_accuracy_x100"] == 75
    assert found["chance"] == pytest.approx((3 * 0.25 + 2 / 3) / 4)


@pytest.mark.parametrize(
    ("scores", "candidates", "true", "message"),
    [
        ([], [], [], "give one of each per expression"),
        ([[1]], [[[0, 0, 1, 1]]], [], "1 lists of scores, 1 of candidates and 0 of true boxes"),
        ([[1, 2]], [[[0, 0, 1, 1]]], [[[0, 0, 1, 1]]], "expression 0 has 2 scores, 1 candidates"),
        ([[1]], [[[0, 0, 1, 1]]], [[[0, 0, 1, 0.5]]], "true boxes that are among them"),
        ([[1]], [[[0, 0, 1, 1]]], [[]], "true boxes that are among them"),
        ([[1]], [[[0, 0, 0, 1]]], [[[0, 0, 0, 1]]], "give finite xyxy with a positive width and height"),
    ],
)
def test_mistakes_are_named(scores: list, candidates: list, true: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        candidate_accuracy(scores, candidates, true)
