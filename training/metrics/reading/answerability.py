"""VizWiz's second task: can the question be answered from the image at all (Gurari et al. 2018)?"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from training.metrics.box_arrays import with_hundredfold

THRESHOLD = 0.5


def answerability(answerable_scores: Sequence[float], answerable: Sequence[int | bool]) -> dict[str, Any]:
    """Average precision and F1 of finding the questions that cannot be answered, equal to VizWiz's evaluation.

    Questions of the same score are one step of the curve, as in scikit-learn's `average_precision_score`.

    Args:
        answerable_scores: (N,) confidences, 0..1, that a question can be answered.
        answerable: (N,) 1 where it can, 0 where it cannot.

    Returns:
        `average_precision` and `f1` (of scores below 0.5), in 0..1 and as `..._x100`; `chance`, the average precision
        of one score for all: the share of questions without an answer. NaN where every question has one.

    Raises:
        ValueError: for no question, different lengths, scores outside 0..1 or labels other than 0 and 1.

    >>> found = answerability([0.9, 0.2, 0.6], [1, 0, 0])
    >>> found["average_precision"], round(found["f1"], 3), round(found["chance"], 3)
    (1.0, 0.667, 0.667)
    """
    if len(answerable_scores) != len(answerable) or not len(answerable):
        raise ValueError(
            f"{len(answerable_scores)} scores for {len(answerable)} questions; give one of each per question"
        )
    scores, labels = np.asarray(answerable_scores, dtype=np.float64), np.asarray(answerable, dtype=np.float64)
    if not ((scores >= 0) & (scores <= 1)).all():
        raise ValueError("answerable_scores have values outside 0..1; give the probability of being answerable")
    if not np.isin(labels, (0, 1)).all():
        raise ValueError("answerable has values other than 0 and 1; give 1 where a question can be answered, else 0")
    wanted, confidence = labels == 0, 1.0 - scores
    figures = {
        "average_precision": _stepwise_precision(confidence, wanted),
        "f1": _f1(confidence > THRESHOLD, wanted),
        "chance": float(wanted.mean()) if wanted.any() else math.nan,
    }
    return with_hundredfold(figures)


def _stepwise_precision(confidence: np.ndarray, wanted: np.ndarray) -> float:
    """sum over distinct scores of (recall's step) x precision, the best score first; NaN without a wanted one."""
    if not wanted.any():
        return math.nan
    order = np.argsort(-confidence, kind="stable")
    last_of_score = np.append(np.diff(confidence[order]) != 0, True)
    hits = np.cumsum(wanted[order])[last_of_score]
    precision = hits / (np.flatnonzero(last_of_score) + 1)
    return float((np.diff(hits, prepend=0) * precision).sum() / wanted.sum())


def _f1(predicted: np.ndarray, wanted: np.ndarray) -> float:
    if not wanted.any():
        return math.nan
    return float(2 * (predicted & wanted).sum() / (predicted.sum() + wanted.sum()))
