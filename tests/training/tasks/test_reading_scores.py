"""The scores of answers that are read, against the functions that equal the official evaluators."""

import json

import pytest
from datasets import Dataset

from training.metrics.reading import anls, chartqa_relaxed_accuracy, stvqa_accuracy, textvqa_accuracy
from training.tasks.reading_scores import FIGURES, METRICS, OWN_METRICS, metrics_of, reading_scores

ANSWERS = [["1/8/93"], ["100"], ["Main Street", "main st"], ["yes"]]
SAID = ["1/8/98", "104", "main street", "no"]


def rows_of(kinds: list[str], copied: list[bool | None]) -> Dataset:
    details = ["" if own is None else json.dumps({"copied": own}) for own in copied]
    return Dataset.from_dict({"answers": ANSWERS, "question_type": kinds, "details": details})


def test_metrics_are_those_of_the_official_evaluators() -> None:
    rows = rows_of([""] * 4, [None] * 4)
    metrics, domains, items = reading_scores(SAID, rows, format="chartqa")
    assert metrics["anls"] == anls(SAID, ANSWERS)["anls"] and items["anls"] == anls(SAID, ANSWERS)["per_item"]
    assert metrics["chartqa_relaxed_accuracy"] == chartqa_relaxed_accuracy(SAID, ANSWERS)["accuracy"] == 0.5
    assert metrics["reading_exact_match_x100"] == 25 and domains == {}
    metrics, _, _ = reading_scores(SAID, rows, format="stvqa")
    assert metrics["stvqa_accuracy"] == stvqa_accuracy(SAID, ANSWERS)["accuracy"]
    assert "chartqa_relaxed_accuracy" not in metrics
    metrics, _, _ = reading_scores(SAID, rows.map(lambda row: {"answers": row["answers"] * 5}), format="textvqa")
    assert metrics["textvqa_accuracy"] == textvqa_accuracy(SAID, [own * 5 for own in ANSWERS])["accuracy"] > 0


def test_kinds_of_questions_and_copied_answers_are_told_apart() -> None:
    rows = rows_of(["date", "value", "", ""], [True, True, True, False])
    _, domains, _ = reading_scores(SAID, rows, format="scenes")
    exact = {kind: (own["reading_exact_match_x100"], own["questions"]) for kind, own in domains.items()}
    assert exact == {"date": (0, 1), "value": (0, 1), "other": (50, 2), "copied": (33.33, 3), "not copied": (0, 1)}
    assert domains["value"]["chartqa_relaxed_accuracy_x100"] == 100
    assert domains["date"]["anls_x100"] == pytest.approx(83.33)


def test_every_metric_has_a_figure() -> None:
    known = {name for format in ("", *OWN_METRICS) for name in metrics_of(format)}
    assert known == set(FIGURES) and set(METRICS) < known
