"""VizWiz's answerability: average precision by hand, against a slow twin with ties, and what is refused."""

import math
import random

import pytest

from training.metrics.reading import answerability


def slow_average_precision(scores: list[float], answerable: list[int]) -> float:
    """Of each distinct threshold the precision, weighed by what the recall gained."""
    total = sum(label == 0 for label in answerable)
    area, recall = 0.0, 0.0
    for threshold in sorted({1 - score for score in scores}, reverse=True):
        kept = [label for score, label in zip(scores, answerable, strict=True) if 1 - score >= threshold]
        now = kept.count(0) / total
        area, recall = area + (now - recall) * kept.count(0) / len(kept), now
    return area


def test_by_hand() -> None:
    # from the least answerable: 0.1 (right), 0.4 (wrong), 0.6 (right): (1/2) 1 + (1/2) (2/3)
    found = answerability([0.4, 0.1, 0.6], [1, 0, 0])
    assert found["average_precision"] == pytest.approx(5 / 6) and found["average_precision_x100"] == pytest.approx(
        250 / 3
    )
    assert found["f1"] == pytest.approx(2 * 1 / (2 + 2)) and found["chance"] == pytest.approx(2 / 3)


def test_it_equals_a_loop_over_thresholds() -> None:
    draw = random.Random(0)
    for _ in range(200):
        scores = [draw.choice((0.0, 0.25, 0.5, 0.75, 1.0)) for _ in range(draw.randrange(1, 12))]
        labels = [draw.randrange(2) for _ in scores]
        found = answerability(scores, labels)["average_precision"]
        assert math.isnan(found) if all(labels) else found == pytest.approx(slow_average_precision(scores, labels))


def test_one_score_for_all_is_chance() -> None:
    found = answerability([0.3] * 5, [1, 0, 1, 1, 0])
    assert found["average_precision"] == found["chance"] == 0.4


def test_what_cannot_be_scored_is_refused() -> None:
    with pytest.raises(ValueError, match="2 scores for 1 questions"):
        answerability([0.1, 0.2], [1])
    with pytest.raises(ValueError, match="0 scores for 0 questions"):
        answerability([], [])
    for strange in (1.5, -0.1, math.nan):
        with pytest.raises(ValueError, match=r"values outside 0\.\.1"):
            answerability([strange], [1])
    with pytest.raises(ValueError, match="values other than 0 and 1"):
        answerability([0.5], [2])
