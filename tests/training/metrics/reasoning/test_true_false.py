"""Statements by a threshold: figures by hand, the best threshold and the area under the ROC curve by brute force."""

import numpy as np
import pytest

from training.metrics.reasoning.true_false import area_under_roc, best_threshold, true_false


def test_figures_by_hand() -> None:
    scores, labels = [0.9, 0.4, 0.6, 0.1, 0.5], [True, True, False, False, True]
    found = true_false(scores, labels, threshold=0.5, kinds=["on", "on", "on", "in", "in"], images=[1, 1, 2, 2, 2])
    assert found["per_item"] == [True, False, False, True, False]  # a score at the threshold is not above it
    whole = found["all"]
    assert whole["accuracy_x100"] == 40 and whole["num_statements"] == 5 and whole["num_images"] == 2
    assert whole["true_x100"] == pytest.approx(100 / 3) and whole["false_x100"] == 50
    assert whole["balanced_x100"] == pytest.approx((100 / 3 + 50) / 2)
    assert whole["roc_x100"] == pytest.approx(100 * 4 / 6)  # .9 > .6, .1; .4 > .1; .5 > .1
    assert found["kinds"]["in"]["accuracy_x100"] == 50 and found["threshold"] == 0.5
    assert whole["interval_x100"] == [33.33, 50.0]  # either image alone: 1 of 2, 1 of 3


def test_one_side_alone_has_no_balance() -> None:
    found = true_false([0.9, 0.1], [True, True], threshold=0.0, kinds=["a", "a"], images=[0, 1])["all"]
    assert found["true_x100"] == 100 and found["false_x100"] is found["balanced_x100"] is found["roc_x100"] is None


@pytest.mark.parametrize("seed", range(30))
def test_threshold_and_area_are_those_of_brute_force(seed: int) -> None:
    """With many equal scores."""
    draw = np.random.default_rng(seed)
    scores = draw.integers(0, 6, 15) / 2
    labels = draw.random(15) < 0.5
    tried = [scores.min() - 1, *(np.unique(scores)[:-1] + 0.25), scores.max() + 1]
    accuracies = [((scores > one) == labels).mean() for one in tried]
    best = best_threshold(scores, labels.tolist())
    assert ((scores > best) == labels).mean() == max(accuracies)
    assert best <= tried[int(np.argmax(accuracies))] + 0.25
    pairs = [(a > b) + 0.5 * (a == b) for a in scores[labels] for b in scores[~labels]]
    assert area_under_roc(scores, labels.tolist()) == (pytest.approx(np.mean(pairs)) if pairs else None)


def test_thresholds_beyond_all_scores() -> None:
    assert best_threshold([0.5, 0.7], [True, True]) == -0.5
    assert best_threshold([0.5, 0.7], [False, False]) == 1.7
    assert best_threshold([0.5, 0.5, 0.5], [True, False, False]) == 1.5  # equal scores are not told apart


def test_mistakes_are_named() -> None:
    more = {"kinds": ["a"], "images": [1]}
    with pytest.raises(ValueError, match="give one of each a statement"):
        true_false([], [], threshold=0, kinds=[], images=[])
    with pytest.raises(ValueError, match="give one of each a statement"):
        true_false([0.1], [True, False], threshold=0, **more)
    with pytest.raises(ValueError, match="statement 0 has a score that is no number"):
        true_false([float("nan")], [True], threshold=0, **more)
    with pytest.raises(ValueError, match="the threshold is no number"):
        true_false([0.1], [True], threshold=float("nan"), **more)
    with pytest.raises(ValueError, match="1 scores for 2 kinds and 1 images"):
        true_false([0.1], [True], threshold=0, kinds=["a", "b"], images=[1])
