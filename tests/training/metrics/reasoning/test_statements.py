"""Accuracy of entailment is the golden one; accuracy and consistency of pairs equal a slow twin."""

import json
import random

import pytest

from tests.shared_files import shared
from training.metrics.reasoning import nlvr2, snli_ve


def test_snli_ve_is_the_golden_figure() -> None:
    data = json.loads(shared("golden/metrics/snli_ve.json").read_text())
    given, expected = data["inputs"], data["expected"]
    scores = snli_ve(given["pred"], given["gold"])
    assert scores["accuracy"] == pytest.approx(expected["accuracy"], abs=1e-6)
    assert scores["per_class"] == expected["per_class"] and len(scores["per_item"]) == 300
    assert scores["accuracy_x100"] == pytest.approx(100 * sum(scores["per_item"]) / 300)


def test_consistency_counts_sentences_that_are_right_throughout() -> None:
    draw = random.Random(0)
    groups = [str(draw.randrange(30)) for _ in range(100)]
    true = [draw.choice(["true", "false"]) for _ in groups]
    found = [label if draw.random() < 0.8 else "True" for label in true]
    scores = nlvr2(found, true, groups=groups)
    right = [one.lower() == other for one, other in zip(found, true, strict=True)]
    whole = [all(hit for hit, own in zip(right, groups, strict=True) if own == group) for group in set(groups)]
    assert scores["accuracy"] == pytest.approx(sum(right) / 100)
    assert scores["consistency"] == pytest.approx(sum(whole) / len(whole))
    assert sum(scores["per_group"].values()) == sum(whole) and scores["per_item"] == list(map(float, right))


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="1 predictions for 2 statements"):
        snli_ve(["neutral"], ["neutral", "neutral"])
    with pytest.raises(ValueError, match="0 predictions for 0 statements"):
        snli_ve([], [])
    with pytest.raises(ValueError, match="1 groups for 2 statements"):
        nlvr2(["true", "true"], ["true", "false"], groups=["a"])
