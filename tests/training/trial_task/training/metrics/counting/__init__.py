"""Metrics of counts."""

from collections.abc import Sequence

import numpy as np


def count_scores(predictions: Sequence[float], references: Sequence[int]) -> dict[str, float]:
    """The mean absolute error of counts, and the share that is right once rounded, also x100.

    >>> count_scores([1.2, 3.9], [1, 3])
    {'count_error': 0.55, 'count_accuracy': 0.5, 'count_accuracy_x100': 50.0}
    """
    error = np.abs(np.asarray(predictions) - np.asarray(references))
    right = float((np.rint(predictions) == np.asarray(references)).mean())
    return {"count_error": float(error.mean()), "count_accuracy": right, "count_accuracy_x100": 100 * right}
