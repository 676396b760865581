"""The scores of answers that are read: the metrics of each data set, by kind of question, and of those that are copied.

answers, rows of READING_FEATURES --reading_scores--> metrics, domains, per_item
"""

import json
from collections.abc import Callable, Sequence
from typing import Any

from datasets import Dataset

from training.metrics.reading import anls, chartqa_relaxed_accuracy, stvqa_accuracy, textvqa_accuracy
from training.metrics.vqa.exact_match import exact_match_accuracy, mean

Metric = Callable[..., dict[str, Any]]  # (predictions, people's answers) -> "per_item" among others
METRICS: dict[str, Metric] = {
    "reading_exact_match": exact_match_accuracy,
    "anls": anls,
}
OWN_METRICS: dict[str, dict[str, Metric]] = {  # format of the data -> those that belong to it, beside METRICS
    "textvqa": {"textvqa_accuracy": textvqa_accuracy},
    "vizwiz_vqa": {"textvqa_accuracy": textvqa_accuracy},
    "chartqa": {"chartqa_relaxed_accuracy": chartqa_relaxed_accuracy},
    "scenes": {"chartqa_relaxed_accuracy": chartqa_relaxed_accuracy},  # some are of charts
    "stvqa": {"stvqa_accuracy": stvqa_accuracy},
}
FIGURES = {
    "reading_exact_match": "exact match",
    "textvqa_accuracy": "TextVQA's accuracy",
    "anls": "ANLS",
    "stvqa_accuracy": "ST-VQA's accuracy",
    "chartqa_relaxed_accuracy": "ChartQA's relaxed accuracy",
}


def metrics_of(format: str) -> dict[str, Metric]:
    """The metrics of data of a format, by the names of `FIGURES`."""
    return {**METRICS, **OWN_METRICS.get(format, {})}


def reading_scores(
    predictions: Sequence[str], rows: Dataset, *, format: str
) -> tuple[dict[str, float], dict[str, dict[str, float]], dict[str, list[float]]]:
    """The metrics of answers to the questions of `rows`, in their order.

    Returns:
        metrics in 0..1 and as `..._x100`; domains: kind of question -> its metrics `..._x100` and how many `questions`
        there are, and where the rows say whether their answer is written in the image (`details`), those of "copied"
        and "not copied"; per_item: metric -> 0..1 of each question, NaN where it has no answers.
    """
    answers = rows["answers"][:]
    per_item = {name: list(metric(predictions, answers)["per_item"]) for name, metric in metrics_of(format).items()}
    metrics: dict[str, float] = {}
    for name, values in per_item.items():
        metrics |= {name: mean(values), f"{name}_x100": round(100 * mean(values), 2)}
    domains = {}
    for kind, places in kinds_of_questions(rows).items():
        own = {f"{name}_x100": round(100 * mean(values[i] for i in places), 2) for name, values in per_item.items()}
        domains[kind] = {**own, "questions": len(places)}
    return metrics, domains, per_item


def kinds_of_questions(rows: Dataset) -> dict[str, list[int]]:
    """kind -> the places of its questions, where there are several kinds; those that say so, as copied or not."""
    kinds: dict[str, list[int]] = {}
    for place, kind in enumerate(rows["question_type"][:]):
        kinds.setdefault(kind or "other", []).append(place)
    found = dict(sorted(kinds.items())) if len(kinds) > 1 else {}
    for place, details in enumerate(rows["details"][:]):
        copied = json.loads(details).get("copied") if details else None
        if copied is not None:
            found.setdefault("copied" if copied else "not copied", []).append(place)
    return found
