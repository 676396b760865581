"""Which images training may mirror: those whose texts do not tell left from right.

The one place that knows the words; every task whose recipe has `regions.flips` asks it.
"""

import re
from collections.abc import Iterable, Sequence

import numpy as np

SIDES = re.compile(r"\b(?:left|right)", re.IGNORECASE)  # words that a mirrored image makes wrong


def tell_sides(texts: Iterable[Sequence[str]]) -> np.ndarray:
    """For each image or question, whether one of its texts tells left from right, (N,) bool.

    >>> tell_sides([["a dog", "A dog to the LEFT"], ["the copyright"], ["the rightmost"], []]).tolist()
    [True, False, True, False]
    """
    return np.array([bool(SIDES.search("\n".join(each))) for each in texts], dtype=bool)
