"""Open sets: average precision of names held out of training beside the others, and known against unknown boxes.

    detections + rows --open_set_scores--> AP of known and of novel names (each a mean over the names with boxes)
    scores of boxes by known names --known_unknown_auroc--> how well they tell boxes of known names from others

The protocol of Zareian et al. 2021 (OVR-CNN), "generalized": names of both parts compete for every box. N boxes.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from training.metrics.bootstrap import interval_x100
from training.metrics.detection.average_precision import detection_scores
from training.metrics.detection.scored_rows import Records

__all__ = ["known_unknown_auroc", "open_set_scores"]

FIGURES = ("map", "map_50")
SAMPLES = 1000


def open_set_scores(
    predictions: Records, rows: Records, *, known: Sequence[int], novel: Sequence[int]
) -> dict[str, float | int]:
    """COCO's average precision of known names, of novel ones and of all.

    Args:
        predictions, rows: as `detection_scores` takes them; ids are 1 .. number of names. Boxes of other names are none
            of the rows', so what is found there is a mistake.
        known, novel: the ids of both parts, none in both.

    Returns:
        `known_map`, `known_map_50`, `novel_map`, ..., `all_map_50`, each a mean over the names of that part with boxes,
        in 0..1, or -1 where it has none; each times 100 under `..._x100`; `known_names`, `novel_names`, `all_names`: so
        many names have boxes.

    Raises:
        ValueError: for ids that are in both parts or not 1 .. n, and what `detection_scores` raises.

    >>> row = {"image_id": "7", "width": 200, "height": 100, "boxes": [[0, 0, 0.5, 1]], "object_ids": [2]}
    >>> found = {"boxes": [[0, 0, 0.5, 0.9]], "scores": [0.9], "object_ids": [2]}
    >>> scores = open_set_scores([found], [row], known=[1], novel=[2])
    >>> round(scores["novel_map_50_x100"], 1), scores["known_map_50"], scores["known_names"]
    (100.0, -1.0, 0)
    """
    ids = sorted([*known, *novel])
    if ids != list(range(1, len(ids) + 1)):
        raise ValueError(f"the ids of known and novel names are {ids}: give 1 .. {len(ids)}, each in one part")
    per_class = detection_scores(predictions, rows, num_classes=len(ids))["per_class"]
    found: dict[str, float | int] = {}
    for part, own in (("known", known), ("novel", novel), ("all", ids)):
        present = [per_class[number] for number in own if per_class[number]["map"] >= 0]
        found[f"{part}_names"] = len(present)
        for name in FIGURES:
            mean = float(np.mean([figures[name] for figures in present])) if present else -1.0
            found |= {f"{part}_{name}": mean, f"{part}_{name}_x100": 100 * mean if present else -1.0}
    return found


def known_unknown_auroc(
    scores: Sequence[float] | np.ndarray,
    is_known: Sequence[bool] | np.ndarray,
    *,
    images: Sequence[int] | np.ndarray | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """The chance that a box of a known name has a higher score than one of an unknown name; ties count half.

    Args:
        scores: (N,), of each box the highest similarity to any known name.
        is_known: (N,), whether the box is of a known name.
        images: (N,), the number of each box's image, over which the interval is drawn; by default each box by itself.
        seed: of the bootstrap.

    Returns:
        `auroc` (0..1; 0.5 is chance), `auroc_x100`, `auroc_interval_x100` (95 %), `num_known`, `num_unknown`.

    Raises:
        ValueError: for arrays of different lengths, scores that are not finite, and without boxes of both kinds.

    >>> known_unknown_auroc([0.9, 0.4, 0.4, 0.1], [True, True, False, False])["auroc"]
    0.875
    """
    values, known = np.asarray(scores, dtype=np.float64), np.asarray(is_known, dtype=bool)
    owners = np.arange(len(values)) if images is None else np.unique(np.asarray(images), return_inverse=True)[1]
    if values.ndim != 1 or known.shape != values.shape or owners.shape != values.shape:
        raise ValueError(f"{values.shape} scores, {known.shape} of is_known, {owners.shape} images: give one a box")
    if not np.isfinite(values).all():
        raise ValueError("the scores hold a number that is not finite")
    if known.all() or not known.any():
        kind = "unknown" if known.all() else "known"
        raise ValueError(f"there is no box of {kind} names: name some that the data have boxes of")
    ranks = np.unique(values, return_inverse=True)[1]
    share = _share_won(ranks, known, np.ones(len(values)))
    generator, num_images = np.random.default_rng(seed), int(owners.max()) + 1
    drawn = []
    for _ in range(SAMPLES):
        chosen = generator.integers(num_images, size=num_images)
        times = np.bincount(chosen, minlength=num_images)  # of each image
        drawn.append(_share_won(ranks, known, times[owners]))
    counts = {"num_known": int(known.sum()), "num_unknown": int((~known).sum())}
    return {"auroc": share, "auroc_x100": 100 * share, "auroc_interval_x100": interval_x100(np.array(drawn)), **counts}


def _share_won(ranks: np.ndarray, known: np.ndarray, weights: np.ndarray) -> float:
    """The weighted share of pairs of a known and an unknown box that the known one wins; NaN without any."""
    of_known = np.bincount(ranks, weights=weights * known)  # by rank
    of_unknown = np.bincount(ranks, weights=weights * ~known, minlength=len(of_known))
    pairs = of_known.sum() * of_unknown.sum()
    below = np.cumsum(of_unknown) - of_unknown
    return float((of_known * (below + of_unknown / 2)).sum() / pairs) if pairs else float("nan")
