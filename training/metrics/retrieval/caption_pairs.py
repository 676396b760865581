"""Accuracy on pairs of a right and a subtly wrong caption of one image: SugarCrepe, VALSE, FOIL.

    scores of right and of wrong captions + kinds --pair_accuracy--> accuracy of each kind, with intervals over images

A pair is right where the right caption has the higher score (Hsieh et al. 2023); equal scores are wrong, as there, and
are counted. Chance is 50 %.
"""

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from training.metrics.bootstrap import bootstrap_means, interval_x100

__all__ = ["pair_accuracy"]


def pair_accuracy(
    right: ArrayLike, wrong: ArrayLike, *, kinds: Sequence[str], images: Sequence[Hashable], seed: int = 0
) -> dict[str, Any]:
    """How often the right caption has the higher score, of all pairs and of each kind.

    Args:
        right, wrong: (N,) scores of each pair's two captions for its image, higher is more similar.
        kinds: (N,) such as "swap_obj".
        images: (N,) the image of each pair; the bootstrap draws images, each with its pairs.
        seed: of the bootstrap.

    Returns:
        `all` and under `kinds` each kind: `accuracy_x100`, `interval_x100` (95 %), `num_pairs`, `num_images`,
        `num_ties`. `mean_of_kinds_x100`, where every kind counts the same. `per_item`: whether each pair is right.

    Raises:
        ValueError: for no pair, unequal lengths, or a score that is NaN.

    >>> found = pair_accuracy([0.9, 0.2, 0.5], [0.1, 0.4, 0.5], kinds=["add", "add", "swap"], images=[7, 7, 8])
    >>> found["kinds"]["add"]["accuracy_x100"], found["kinds"]["swap"]["num_ties"], found["mean_of_kinds_x100"]
    (50.0, 1, 25.0)
    """
    ours, theirs = (np.asarray(scores, dtype=np.float64) for scores in (right, wrong))
    counts = {"right": len(ours), "wrong": len(theirs), "kinds": len(kinds), "images": len(images)}
    if len(set(counts.values())) > 1 or not len(ours):
        raise ValueError(f"a pair needs two scores, a kind and an image, but there are {counts}")
    if np.isnan(ours).any() or np.isnan(theirs).any():
        raise ValueError(f"pair {int((np.isnan(ours) | np.isnan(theirs)).argmax())} has a score that is no number")
    owners = np.unique([str(image) for image in images], return_inverse=True)[1]
    hits, ties = ours > theirs, ours == theirs
    named = np.array(kinds)
    by_kind = {
        kind: _accuracy(*(values[named == kind] for values in (hits, ties, owners)), seed=seed)
        for kind in dict.fromkeys(kinds)
    }
    return {
        "all": _accuracy(hits, ties, owners, seed=seed),
        "kinds": by_kind,
        "mean_of_kinds_x100": float(np.mean([own["accuracy_x100"] for own in by_kind.values()])),
        "per_item": hits.tolist(),
    }


def _accuracy(hits: np.ndarray, ties: np.ndarray, owners: np.ndarray, *, seed: int) -> dict[str, Any]:
    images, places, counts = np.unique(owners, return_inverse=True, return_counts=True)
    shares = np.bincount(places, weights=hits) / counts  # (images,)
    return {
        "accuracy_x100": 100 * float(hits.mean()),
        "interval_x100": interval_x100(bootstrap_means(shares, seed=seed, weights=counts.astype(float))),
        "num_pairs": len(hits),
        "num_images": len(images),
        "num_ties": int(ties.sum()),
    }
