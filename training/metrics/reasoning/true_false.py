"""Statements that are true or false, by a score and a threshold: accuracy of each side, the area under the ROC curve.

    scores, labels --best_threshold (of a validation split)--> threshold
    scores, labels, threshold --true_false--> accuracy with its interval over images, of true and of false statements

VSR (Liu et al. 2023) is scored so, FOIL's classification (Shekhar et al. 2017), and VALSE (Parcalabescu et al. 2022),
which calls the accuracy of true ones p_c, of foils p_f, and the mean of both acc. A statement is held to be true where
its score is above the threshold. Chance is 50 %.
"""

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from training.metrics.bootstrap import bootstrap_means, interval_x100

__all__ = ["area_under_roc", "best_threshold", "true_false"]


def true_false(
    scores: ArrayLike,
    labels: Sequence[bool],
    *,
    threshold: float,
    kinds: Sequence[str],
    images: Sequence[Hashable],
    seed: int = 0,
) -> dict[str, Any]:
    """How often statements are judged right.

    Args:
        scores: (N,), higher is more likely true.
        labels: (N,), whether each is true.
        threshold: above which a score says true.
        kinds: (N,) such as "in front of".
        images: (N,) the image of each; the bootstrap draws images, each with its statements.
        seed: of the bootstrap.

    Returns:
        `all` and under `kinds` each kind: `accuracy_x100`, `interval_x100` (95 %), `true_x100` and `false_x100`, the
        accuracy of true and of false statements (None where there are none), `balanced_x100`, the mean of these two
        (None without one of them), `roc_x100` (`area_under_roc`, None likewise), `num_statements`, `num_images`.
        `threshold`. `per_item`: whether each is judged right.

    Raises:
        ValueError: for no statement, unequal lengths, or a score or threshold that is NaN.

    >>> found = true_false([0.9, 0.2, 0.6], [True, True, False], threshold=0.5, kinds=["on"] * 3, images=[1, 2, 2])
    >>> found["all"]["true_x100"], found["all"]["false_x100"], found["all"]["roc_x100"]
    (50.0, 0.0, 50.0)
    """
    values, truth = _checked(scores, labels)
    if len(kinds) != len(values) or len(images) != len(values):
        raise ValueError(f"{len(values)} scores for {len(kinds)} kinds and {len(images)} images: give one for each")
    if np.isnan(threshold):
        raise ValueError("the threshold is no number")
    hits, owners = (values > threshold) == truth, np.unique([str(image) for image in images], return_inverse=True)[1]
    named = np.array(kinds)
    each = {kind: named == kind for kind in dict.fromkeys(kinds)}
    whole = np.ones(len(values), dtype=bool)
    return {
        "all": _figures(values, truth, hits, owners, whole, seed=seed),
        "kinds": {kind: _figures(values, truth, hits, owners, own, seed=seed) for kind, own in each.items()},
        "threshold": float(threshold),
        "per_item": hits.tolist(),
    }


def best_threshold(scores: ArrayLike, labels: Sequence[bool]) -> float:
    """The threshold with the highest accuracy: midway between two neighbouring scores, or beyond all; the lowest of
    equally good ones.

    Raises `ValueError` as `true_false`.

    >>> best_threshold([0.1, 0.4, 0.6, 0.9], [False, False, True, True])
    0.5
    """
    values, truth = _checked(scores, labels)
    order = np.argsort(values, kind="stable")
    ranked, right = values[order], truth[order]
    # with a threshold after the first k, false ones among these and true ones after them are judged right
    hits = np.concatenate([[0], np.cumsum(~right)]) + np.concatenate([[right.sum()], right.sum() - np.cumsum(right)])
    apart = np.concatenate([[True], ranked[1:] > ranked[:-1], [True]])  # equal scores are not told apart
    best = int(np.where(apart, hits, -1).argmax())
    if best == 0:
        return float(ranked[0] - 1)
    return float(ranked[-1] + 1 if best == len(ranked) else (ranked[best - 1] + ranked[best]) / 2)


def area_under_roc(scores: ArrayLike, labels: Sequence[bool]) -> float | None:
    """The share of pairs of a true and a false statement whose true one has the higher score, equal ones counted half.

    None without a true or without a false statement. Raises `ValueError` as `true_false`.

    >>> area_under_roc([0.9, 0.5, 0.5, 0.1], [True, True, False, False])
    0.875
    """
    values, truth = _checked(scores, labels)
    positive, negative = values[truth], np.sort(values[~truth])
    if not len(positive) or not len(negative):
        return None
    below = np.searchsorted(negative, positive, side="left")
    up_to = np.searchsorted(negative, positive, side="right")
    return float((below + up_to).sum() / 2 / (len(positive) * len(negative)))


def _checked(scores: ArrayLike, labels: Sequence[bool]) -> tuple[np.ndarray, np.ndarray]:
    values, truth = np.asarray(scores, dtype=np.float64), np.asarray(labels, dtype=bool)
    if values.ndim != 1 or values.shape != truth.shape or not len(values):
        raise ValueError(f"scores have shape {values.shape} and labels {truth.shape}: give one of each a statement")
    if np.isnan(values).any():
        raise ValueError(f"statement {int(np.isnan(values).argmax())} has a score that is no number")
    return values, truth


def _figures(
    values: np.ndarray, truth: np.ndarray, hits: np.ndarray, owners: np.ndarray, own: np.ndarray, *, seed: int
) -> dict[str, Any]:
    images, places, counts = np.unique(owners[own], return_inverse=True, return_counts=True)
    shares = np.bincount(places, weights=hits[own]) / counts  # (images,)
    sides = [hits[own & side] for side in (truth, ~truth)]
    true, false = (100 * float(side.mean()) if len(side) else None for side in sides)
    area = area_under_roc(values[own], truth[own].tolist())
    return {
        "accuracy_x100": 100 * float(hits[own].mean()),
        "interval_x100": interval_x100(bootstrap_means(shares, seed=seed, weights=counts.astype(float))),
        "true_x100": true,
        "false_x100": false,
        "balanced_x100": None if true is None or false is None else (true + false) / 2,
        "roc_x100": None if area is None else 100 * area,
        "num_statements": int(own.sum()),
        "num_images": len(images),
    }
