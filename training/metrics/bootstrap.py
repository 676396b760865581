"""Confidence intervals of means by the bootstrap over items (Efron and Tibshirani 1993): images, questions, words.

values of items, weights --bootstrap_means--> means of samples --interval_x100--> 95 % interval
"""

import numpy as np

__all__ = ["SAMPLES", "bootstrap_means", "interval_x100"]

SAMPLES = 2000
DRAWS_AT_ONCE = 1 << 18  # bounds the memory
PERCENTILES = (2.5, 97.5)


def bootstrap_means(
    values: np.ndarray, *, seed: int, samples: int = SAMPLES, weights: np.ndarray | None = None
) -> np.ndarray:
    """The means (samples,) of bootstrap samples: N of the values (N,), drawn with replacement.

    weights (N,): of each value in the means, not below 0; equal by default. A sample without any weight is NaN. The
    same seed and N draw the same samples, so that the means of two models are paired.

    >>> bootstrap_means(np.ones(5), seed=0, samples=2).tolist()
    [1.0, 1.0]
    """
    generator = np.random.default_rng(seed)
    weights = np.ones(len(values)) if weights is None else weights
    weighted, means = values * weights, []
    at_once = max(1, DRAWS_AT_ONCE // len(values))
    for first in range(0, samples, at_once):
        drawn = generator.integers(len(values), size=(min(at_once, samples - first), len(values)))
        totals = weights[drawn].sum(axis=1)
        sums = weighted[drawn].sum(axis=1)
        means.append(np.divide(sums, totals, out=np.full(len(drawn), np.nan), where=totals > 0))
    return np.concatenate(means)


def interval_x100(means: np.ndarray) -> list[float]:
    """The 95 % interval of the means (samples,) of bootstrap samples, times 100: its lower and upper end.

    Samples that are NaN are left out.

    >>> interval_x100(np.array([0.5, 0.5]))
    [50.0, 50.0]
    """
    return (100 * np.nanpercentile(means, PERCENTILES)).round(2).tolist()
