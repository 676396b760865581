"""Winoground's text, image and group score (Thrush et al. 2022): are two captions and two images told apart?

    scores (N, 2 captions, 2 images) + kinds --winoground--> the three scores, of all and of each kind, with intervals

    text:  caption 0 fits image 0 better than caption 1 does, and caption 1 fits image 1 better than caption 0 does
    image: image 0 fits caption 0 better than image 1 does, and image 1 fits caption 1 better than image 0 does
    group: both

Equal scores are wrong, as in the authors' code. Chance is 25, 25 and 16.7 %.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from training.metrics.bootstrap import bootstrap_means, interval_x100

__all__ = ["CHANCE_X100", "winoground"]

CHANCE_X100 = {"text": 25.0, "image": 25.0, "group": 100 / 6}


def winoground(scores: ArrayLike, *, kinds: Sequence[str], seed: int = 0) -> dict[str, Any]:
    """The three scores of N examples.

    Args:
        scores: (N, 2, 2), of each caption (first) with each image (second), higher is more similar; caption 0 belongs
            to image 0, caption 1 to image 1.
        kinds: (N,) such as "Object" and "Relation".
        seed: of the bootstrap over examples.

    Returns:
        `all` and under `kinds` each kind: `text_x100`, `image_x100`, `group_x100`, each with its 95 % interval under
        `text_interval_x100` ..., `num_examples` and `num_ties` (with two equal scores that are compared). `per_item`:
        of each example whether `text`, `image` and `group` are right.

    Raises:
        ValueError: for no example, another shape, another number of kinds, or a score that is NaN.

    >>> found = winoground([[[0.9, 0.1], [0.2, 0.8]], [[0.9, 0.8], [0.2, 0.7]]], kinds=["Object", "Both"])
    >>> found["all"]["text_x100"], found["all"]["image_x100"], found["kinds"]["Both"]["group_x100"]
    (50.0, 100.0, 0.0)
    """
    given = np.asarray(scores, dtype=np.float64)
    if given.ndim != 3 or given.shape[1:] != (2, 2) or not len(given) or len(kinds) != len(given):
        raise ValueError(
            f"scores have shape {given.shape} for {len(kinds)} kinds, but must be (examples, 2 captions, 2 images), "
            "with a kind for each example"
        )
    if np.isnan(given).any():
        raise ValueError(f"example {int(np.isnan(given).any(axis=(1, 2)).argmax())} has a score that is no number")
    captions = np.stack([given[:, 0, 0] - given[:, 1, 0], given[:, 1, 1] - given[:, 0, 1]])  # of each image (2, N)
    images = np.stack([given[:, 0, 0] - given[:, 0, 1], given[:, 1, 1] - given[:, 1, 0]])  # of each caption (2, N)
    text, image = (captions > 0).all(axis=0), (images > 0).all(axis=0)
    right: dict[str, Any] = {"text": text, "image": image, "group": text & image}
    ties = (np.concatenate([captions, images]) == 0).any(axis=0)
    named = np.array(kinds)
    return {
        "all": _figures(right, ties, np.ones(len(named), dtype=bool), seed=seed),
        "kinds": {kind: _figures(right, ties, named == kind, seed=seed) for kind in dict.fromkeys(kinds)},
        "per_item": {name: hits.tolist() for name, hits in right.items()},
    }


def _figures(right: dict[str, Any], ties: np.ndarray, own: np.ndarray, *, seed: int) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for name, hits in right.items():
        figures[f"{name}_x100"] = 100 * float(hits[own].mean())
        figures[f"{name}_interval_x100"] = interval_x100(bootstrap_means(hits[own].astype(float), seed=seed))
    return figures | {"num_examples": int(own.sum()), "num_ties": int(ties[own].sum())}
