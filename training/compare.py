"""Compares evaluated models, with confidence intervals of their differences: `updown compare`.

Reads the `evaluation.json` and `item_scores.json` that `updown evaluate` wrote. For every metric that is a mean over
items (CIDEr over images, accuracy over questions, recall over queries) the difference to the first model gets a 95 %
interval by a paired bootstrap over the items (Efron and Tibshirani 1993; Koehn 2004). CIDEr's document frequencies are
those of the whole split in every sample.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from training.data.files import read_json
from training.metrics.bootstrap import bootstrap_means, interval_x100
from training.metrics.item_scores import ItemScores, read_item_scores

CHIEF_METRICS = ("accuracy", "cider_d", "rsum")  # the first of these that was measured is shown in the table


def compare_models(folders: Mapping[str, str | Path], *, seed: int = 0) -> list[dict[str, Any]]:
    """Compare the evaluations of several models with that of the first.

    Args:
        folders: name -> folder of each model.
        seed: of the bootstrap.

    Returns:
        For each model `name`, `dataset`, `metrics` (x100), `command` and, if both models have scores of items,
        `differences`: metric -> `difference_x100` to the first model and its `interval_x100` (95 %). Those of the chief
        metric, `compared`, are also keys of the row.

    Raises:
        ValueError: for fewer than two models, a folder that was not evaluated, and models that were evaluated on
            different questions or images.
    """
    if len(folders) < 2:
        raise ValueError("there is nothing to compare: give at least two folders")
    found = {name: read_evaluation(Path(folder)) for name, folder in folders.items()}
    first, (evaluation, reference) = next(iter(found.items()))
    rows = []
    for name, (other, scores) in found.items():
        if other["dataset"] != evaluation["dataset"]:
            raise ValueError(
                f"{name} was evaluated on {described(other)} and {first} on {described(evaluation)}: "
                "evaluate both on the same (updown evaluate)"
            )
        keys = ("dataset", "metrics", "command")
        row: dict[str, Any] = {"name": name, **{key: other[key] for key in keys if key in other}}
        shared = [metric for metric in reference if metric in scores] if name != first else []
        if shared:
            differences = {
                metric: difference(scores[metric], reference[metric], seed=seed, names=(name, first))
                for metric in shared
            }
            chief = next((metric for metric in CHIEF_METRICS if metric in differences), shared[0])
            row |= {"compared": chief, **differences[chief], "differences": differences}
        rows.append(row)
    return rows


def read_evaluation(folder: Path) -> tuple[dict[str, Any], ItemScores]:
    """A folder's evaluation, and its item scores by metric (empty if it has none)."""
    if not (folder / "evaluation.json").is_file():
        raise ValueError(f"{folder} holds no evaluation.json: run updown evaluate with --save or --output FOLDER first")
    return read_json(folder / "evaluation.json"), read_item_scores(folder)


def difference(
    scores: Mapping[str, Sequence[Any]], reference: Mapping[str, Sequence[Any]], *, seed: int, names: Sequence[str]
) -> dict[str, Any]:
    """The difference of two means over the same items (x100) and its 95 % interval.

    Raises `ValueError` for different items or weights (numbers of queries per item).
    """
    places = {item: place for place, item in enumerate(scores["ids"])}
    if set(places) != set(reference["ids"]) or len(places) != len(reference["ids"]):
        raise ValueError(
            f"{' and '.join(names)} were evaluated on different questions or images: evaluate both on the same split"
        )
    order = [places[item] for item in reference["ids"]]
    if "own_weights" in reference:
        return difference_of_ratios(scores, reference, order=order, seed=seed)
    weights = np.array(reference.get("weights", [1] * len(order)), dtype=float)
    if [scores.get("weights", [1] * len(order))[place] for place in order] != weights.tolist():
        raise ValueError(f"{' and '.join(names)} were scored on different captions: evaluate both on the same split")
    gains = np.array(scores["values"], dtype=float)[order] - np.array(reference["values"], dtype=float)
    means = bootstrap_means(gains, seed=seed, weights=weights)
    mean = float((gains * weights).sum() / weights.sum())
    return {"difference_x100": round(100 * mean, 2), "interval_x100": interval_x100(means)}


def difference_of_ratios(
    scores: Mapping[str, Sequence[Any]], reference: Mapping[str, Sequence[Any]], *, order: Sequence[int], seed: int
) -> dict[str, Any]:
    """The difference of two ratios of sums (x100), each by its model's own weights, and its 95 % interval.

    order: the place in `scores` of each item of the reference.
    """
    ratios, means = [], []
    for entry, places in ((scores, list(order)), (reference, list(range(len(order))))):
        values, weights = (np.array(entry[name], dtype=float)[places] for name in ("values", "own_weights"))
        ratios.append(float((values * weights).sum() / weights.sum()) if weights.any() else float("nan"))
        means.append(bootstrap_means(values, seed=seed, weights=weights))  # of the same items for both
    return {
        "difference_x100": round(100 * (ratios[0] - ratios[1]), 2),
        "interval_x100": interval_x100(means[0] - means[1]),
    }


def described(evaluation: Mapping[str, Any]) -> str:
    """The name, split and size of an evaluation's data."""
    dataset = evaluation["dataset"]
    numbers = [
        f"{value} {name.removeprefix('num_').replace('photos', 'images').replace('_', ' ')}"
        for name, value in dataset.items()
        if name.startswith("num_")
    ]
    return f"{dataset['name']} {dataset['split']} ({', '.join(numbers)})"


def table(rows: Sequence[Mapping[str, Any]], *, names: Mapping[str, str] | None = None) -> str:
    """The comparison as a Markdown table of the metrics that all models have; `names`: metric -> label.

    The last column is the difference of the chief metric, which is named if there are several metrics.
    """
    shared = [metric for metric in rows[0]["metrics"] if all(metric in row["metrics"] for row in rows)]
    titles = [(names or {}).get(metric, metric) for metric in shared]
    chief = next((row["compared"] for row in rows if len(row.get("differences", {})) > 1), "")
    chief_label = f" of {(names or {}).get(f'{chief}_x100', f'{chief}_x100')}" if chief else ""
    lines = [["model", *titles, f"difference{chief_label} (95 % interval)"], ["---"] * (len(shared) + 2)]
    for row in rows:
        gain = shown(row) if "difference_x100" in row else ""
        lines.append([row["name"], *(f"{row['metrics'][metric]:.2f}" for metric in shared), gain])
    return markdown(lines)


def differences_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """A Markdown table of every metric's difference to the first model and its interval; "" for a single metric."""
    others = [row for row in rows if len(row.get("differences", {})) > 1]
    metrics = list(dict.fromkeys(metric for row in others for metric in row["differences"]))
    if not metrics:
        return ""
    lines = [[f"difference to {rows[0]['name']}", *(row["name"] for row in others)], ["---"] * (len(others) + 1)]
    for metric in metrics:
        cells = [shown(row["differences"][metric]) if metric in row["differences"] else "" for row in others]
        lines.append([f"{metric}_x100", *cells])
    return markdown(lines)


def shown(found: Mapping[str, Any]) -> str:
    """A difference and its interval as text.

    >>> shown({"difference_x100": 2.4, "interval_x100": [-0.4, 5.1]})
    '+2.40 (-0.40 to +5.10)'
    """
    low, high = found["interval_x100"]
    return f"{found['difference_x100']:+.2f} ({low:+.2f} to {high:+.2f})"


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table of the cells."""
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
