"""Several evaluated models side by side, and whether their differences are more than luck: `updown compare`.

Reads the `evaluation.json` and `predictions.json` that `updown evaluate` left in each model's folder. Where predictions
carry their own accuracy (answers do), the difference to the first model gets a 95 % interval by a paired bootstrap over
the questions (Efron and Tibshirani 1993; Koehn 2004).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from training.data.files import read_json

SAMPLES = 2000


def compare_models(folders: Mapping[str, str | Path], *, seed: int = 0) -> list[dict[str, Any]]:
    """What the evaluations of several models say, each against the first.

    Args:
        folders: a name for each model -> its folder.
        seed: of the bootstrap.

    Returns:
        For each model `name`, `dataset`, `metrics` (x100), `command`, and where both have accuracies `difference_x100`
        to the first and its `interval_x100` (95 %).

    Raises:
        ValueError: for fewer than two models, a folder that was not evaluated, and models that were evaluated on
            different questions.
    """
    if len(folders) < 2:
        raise ValueError("there is nothing to compare: give two folders or more")
    found = {name: read_evaluation(Path(folder)) for name, folder in folders.items()}
    first, (evaluation, reference) = next(iter(found.items()))
    rows = []
    for name, (other, accuracies) in found.items():
        if other["dataset"] != evaluation["dataset"]:
            raise ValueError(
                f"{name} was evaluated on {described(other)} and {first} on {described(evaluation)}: "
                "evaluate both on the same (updown evaluate)"
            )
        told = ("dataset", "metrics", "command")
        row: dict[str, Any] = {"name": name, **{key: other[key] for key in told if key in other}}
        if name != first and reference and accuracies:
            row |= difference(accuracies, reference, seed=seed, names=(name, first))
        rows.append(row)
    return rows


def read_evaluation(folder: Path) -> tuple[dict[str, Any], dict[str, float]]:
    """A folder's evaluation, and the accuracy of each prediction by its question; empty where it has none."""
    if not (folder / "evaluation.json").is_file():
        raise ValueError(f"{folder} holds no evaluation.json: run updown evaluate first")
    evaluation = read_json(folder / "evaluation.json")
    path = folder / "predictions.json"
    predictions = read_json(path) if path.is_file() else []
    return evaluation, {
        str(found["question_id"]): found["accuracy"] for found in predictions if {"question_id", "accuracy"} <= {*found}
    }


def difference(
    accuracies: Mapping[str, float], reference: Mapping[str, float], *, seed: int, names: Sequence[str]
) -> dict[str, Any]:
    """The mean difference of accuracies (x100) and its 95 % interval; `ValueError` for different questions."""
    if set(accuracies) != set(reference):
        raise ValueError(f"{' and '.join(names)} answered different questions: evaluate both on the same split")
    differences = np.array([accuracies[question] - reference[question] for question in reference])
    means = bootstrap_means(differences, seed=seed)
    low, high = np.percentile(100 * means, [2.5, 97.5]).round(2).tolist()
    return {"difference_x100": round(100 * differences.mean().item(), 2), "interval_x100": [low, high]}


def bootstrap_means(values: np.ndarray, *, seed: int, samples: int = SAMPLES) -> np.ndarray:
    """The means of so many samples of the values (N,), each of N drawn with replacement: (samples,).

    >>> bootstrap_means(np.ones(5), seed=0, samples=2).tolist()
    [1.0, 1.0]
    """
    draw = np.random.default_rng(seed)
    return np.array([values[draw.integers(len(values), size=len(values))].mean() for _ in range(samples)])


def described(evaluation: Mapping[str, Any]) -> str:
    """The data of an evaluation in a few words."""
    dataset = evaluation["dataset"]
    numbers = [f"{value} {name.removeprefix('num_')}" for name, value in dataset.items() if name.startswith("num_")]
    return f"{dataset['name']} {dataset['split']} ({', '.join(numbers)})"


def table(rows: Sequence[Mapping[str, Any]], *, names: Mapping[str, str] | None = None) -> str:
    """The comparison as a Markdown table, with the metrics that all models have, called as `names` says."""
    shared = [metric for metric in rows[0]["metrics"] if all(metric in row["metrics"] for row in rows)]
    titles = [(names or {}).get(metric, metric) for metric in shared]
    lines = [["model", *titles, "difference (95 % interval)"], ["---"] * (len(shared) + 2)]
    for row in rows:
        gain = ""
        if "difference_x100" in row:
            low, high = row["interval_x100"]
            gain = f"{row['difference_x100']:+.2f} ({low:+.2f} to {high:+.2f})"
        lines.append([row["name"], *(f"{row['metrics'][metric]:.2f}" for metric in shared), gain])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
