"""Scores of single items of a split, whose means are the metrics: `item_scores.json`, for `updown compare`.

    {"cider_d": {"ids": ["7", "9"], "values": [0.42, 1.3]},
     "t2i_r1": {"ids": ["7", "9"], "values": [0.4, 0.2], "weights": [5, 5]}}

Items are what a bootstrap resamples: images, or questions. The captions of one image depend on each other, so the item
is the image, with the captions' mean score and their number (`weights`). A ratio of sums such as CHAIRi, of all objects
named, has `own_weights`: what an item counts with one model may differ from what it counts with another. Metrics that
are neither (BLEU, METEOR, average precision of boxes, WUPS over answers that are not scored one by one) are not in the
file.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from training.data.files import read_json, write_json

ITEM_SCORES = "item_scores.json"
DIGITS = 6

ItemScores = dict[str, dict[str, list[Any]]]


def item_scores(
    ids: Sequence[str], values: Sequence[float], *, owners: Sequence[int] | np.ndarray | None = None
) -> dict[str, Any]:
    """One metric's entry of the file; items without a score (NaN) are left out.

    Args:
        ids: of the items.
        values: one score per item or, with `owners`, one per query.
        owners: the index of the item that each query belongs to.

    >>> item_scores(["a", "b"], [1.0, 0.0, 0.5], owners=[0, 0, 1])
    {'ids': ['a', 'b'], 'values': [0.5, 0.5], 'weights': [2, 1]}
    """
    if owners is not None:
        counts = np.bincount(owners, minlength=len(ids))
        sums = np.bincount(owners, weights=np.asarray(values, dtype=float), minlength=len(ids))
        kept = np.flatnonzero(counts).tolist()
        return {
            "ids": [str(ids[i]) for i in kept],
            "values": [round(float(sums[i] / counts[i]), DIGITS) for i in kept],
            "weights": [int(counts[i]) for i in kept],
        }
    kept = [i for i, value in enumerate(values) if not math.isnan(value)]
    return {"ids": [str(ids[i]) for i in kept], "values": [round(float(values[i]), DIGITS) for i in kept]}


def write_item_scores(folder: Path, items: Mapping[str, Any]) -> None:
    """Write the item scores to a folder; if there are none, delete the file of an earlier evaluation."""
    path = folder / ITEM_SCORES
    if items:
        write_json(path, dict(items), indent=None)
    else:
        path.unlink(missing_ok=True)


def read_item_scores(folder: Path) -> ItemScores:
    """The item scores in a folder; without that file, the `accuracy` in its `predictions.json`; else {}.

    Raises `ValueError` for a file of another layout.
    """
    path, predictions = folder / ITEM_SCORES, folder / "predictions.json"
    if path.is_file():
        content = read_json(path)
        if not isinstance(content, dict) or not all(map(is_entry, content.values())):
            raise ValueError(f"{path} holds no scores of items: write it again with updown evaluate")
        return content
    rows = read_json(predictions) if predictions.is_file() else []
    scored = [row for row in rows if isinstance(row, dict) and {"question_id", "accuracy"} <= {*row}]
    if not scored:
        return {}
    return {"accuracy": item_scores([row["question_id"] for row in scored], [row["accuracy"] for row in scored])}


def is_entry(entry: Any) -> bool:
    """Whether a value is one metric's entry: an id, a value and optionally a weight per item."""
    optional = {"weights", "own_weights"}
    if not isinstance(entry, dict) or not {"ids", "values"} <= {*entry} <= {"ids", "values", *optional}:
        return False
    return all(isinstance(column, list) and len(column) == len(entry["ids"]) for column in entry.values())
