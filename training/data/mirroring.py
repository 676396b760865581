"""Which images training may mirror, those whose texts do not tell left from right, and where boxes are then.

The one place that knows the words and turns the boxes; every task whose recipe has `regions.flips` asks it.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

SIDES = re.compile(r"\b(?:left|right)", re.IGNORECASE)  # words that a mirrored image makes wrong


def tell_sides(texts: Iterable[Sequence[str]]) -> np.ndarray:
    """For each image or question, whether one of its texts tells left from right, (N,) bool.

    >>> tell_sides([["a dog", "A dog to the LEFT"], ["the copyright"], ["the rightmost"], []]).tolist()
    [True, False, True, False]
    """
    return np.array([bool(SIDES.search("\n".join(each))) for each in texts], dtype=bool)


def mirrored_boxes(boxes: Any) -> Any:
    """Boxes (..., 4) xyxy in 0..1, an array or tensor, of the image mirrored left to right; a copy.

    >>> mirrored_boxes(np.array([[0.0, 0.0, 0.25, 1.0]])).tolist()
    [[0.75, 0.0, 1.0, 1.0]]
    """
    turned = boxes[..., [2, 1, 0, 3]]
    turned[..., ::2] = 1 - turned[..., ::2]
    return turned
