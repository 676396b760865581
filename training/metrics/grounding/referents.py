"""Whether an expression means anything in the image: how well a score tells those that do from those that do not.

a score of each expression + whether it has a referent --referent_auc--> area under the ROC curve
"""

from collections.abc import Sequence

import numpy as np


def referent_auc(scores: Sequence[float], has_referent: Sequence[bool]) -> float:
    """The area under the ROC curve: how likely an expression with a referent scores higher than one without.

    Args:
        scores: of each expression, higher where it rather has one; finite.
        has_referent: of each expression, in the same order.

    Returns:
        0..1; chance is 0.5, and two equal scores count as half.

    Raises:
        ValueError: for different numbers, a score that is not finite, and where all or none have a referent.

    >>> referent_auc([0.9, 0.4, 0.4, 0.1], [True, True, False, False])
    0.875
    """
    values, there = np.asarray(scores, dtype=np.float64), np.asarray(has_referent, dtype=bool)
    if values.shape != there.shape or values.ndim != 1 or not np.isfinite(values).all():
        raise ValueError(f"{values.shape} scores and {there.shape} marks; give a finite score and a mark an expression")
    num_with, num_without = int(there.sum()), int((~there).sum())
    if not num_with or not num_without:
        raise ValueError("expressions with and without a referent are needed to tell them apart; give some of both")
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (counts.cumsum() - (counts - 1) / 2)[places]  # from 1, the mean of equal ones
    won = ranks[there].sum() - num_with * (num_with + 1) / 2
    return float(won / (num_with * num_without))
