"""The area under the ROC curve against all pairs, and what is refused."""

import numpy as np
import pytest

from training.metrics.grounding.referents import referent_auc


@pytest.mark.parametrize("digits", [1, 6])  # with many equal scores, and without
def test_it_equals_the_share_of_pairs_in_order(digits: int) -> None:
    draw = np.random.default_rng(0)
    for number in (2, 7, 60):
        scores, there = draw.random(number).round(digits), np.arange(number) % 3 > 0
        pairs = [(a > b) + 0.5 * (a == b) for a in scores[there] for b in scores[~there]]
        assert referent_auc(scores.tolist(), there.tolist()) == pytest.approx(np.mean(pairs), abs=1e-12)


def test_ends_and_chance() -> None:
    assert referent_auc([2, 1], [True, False]) == 1 and referent_auc([1, 2], [True, False]) == 0
    assert referent_auc([0.3] * 5, [True, True, False, False, True]) == 0.5


@pytest.mark.parametrize(
    ("scores", "there", "message"),
    [
        ([0.1, 0.2], [True, True], "with and without a referent are needed"),
        ([], [], "with and without"),
        ([0.1], [True, False], "give a finite score and a mark an expression"),
        ([0.1, float("nan")], [True, False], "give a finite score"),
    ],
)
def test_mistakes_are_named(scores: list, there: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        referent_auc(scores, there)
