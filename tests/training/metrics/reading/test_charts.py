"""ChartQA's relaxed accuracy: the reference's numbers and what its rules mean by hand."""

import json

import pytest

from tests.shared_files import shared
from training.metrics.reading import chartqa_relaxed_accuracy


def test_every_question_is_the_references() -> None:
    data = json.loads(shared("golden/metrics/chartqa_relaxed_accuracy.json").read_text(encoding="utf-8"))
    targets, predictions = zip(*data["inputs"]["target_prediction"], strict=True)
    found = chartqa_relaxed_accuracy(predictions, targets)
    assert found["per_item"] == [float(right) for right in data["expected"]["correct"]]
    assert found["accuracy_x100"] == pytest.approx(data["expected"]["relaxed_accuracy_pct_over_valid"], abs=1e-6)


@pytest.mark.parametrize(
    ("prediction", "target", "right"),
    [
        ("105", "100", True),
        ("95", "100", True),
        ("105.1", "100", False),
        ("-95", "-100", True),
        ("100", "-100", False),
        ("12%", "0.12", True),
        ("0.0", "0", False),  # a target of 0 is compared as text
        ("0", "0", True),
        ("1e3", "1000", True),
        ("1_000", "1000", True),
        ("1,000", "1000", False),
        ("nan", "nan", False),
        ("inf", "inf", False),
        ("Yes ", "yes", False),  # blanks count
        ("YES", "yes", True),
        ("%", "%", True),
    ],
)
def test_the_rules_by_hand(prediction: str, target: str, right: bool) -> None:
    assert chartqa_relaxed_accuracy([prediction], [target])["accuracy"] == right


def test_one_of_several_targets_is_enough_and_the_tolerance_can_be_set() -> None:
    assert chartqa_relaxed_accuracy(["7"], [["8", "7.1"]])["accuracy"] == 1
    assert chartqa_relaxed_accuracy(["99", "100"], ["100", "100"], tolerance=0)["per_item"] == [0, 1]
    with pytest.raises(ValueError, match="tolerance is -1"):
        chartqa_relaxed_accuracy(["1"], ["1"], tolerance=-1)
    with pytest.raises(ValueError, match="2 predictions but answers to 1 questions"):
        chartqa_relaxed_accuracy(["1", "2"], ["1"])
