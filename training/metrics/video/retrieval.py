"""Retrieval of videos by text and of text by videos (Bain et al. 2021, frozen-in-time): R@K, ranks, geometric mean.

    similarity of texts and videos --video_retrieval--> t2v_r1 ... v2t_geometric_mean

Equal to `model/metric.py` of m-bain/frozen-in-time, which CLIP4Clip and MMT share: of equal scores the right video
comes first for a text, while a video's text gets the mean of the places that equal ones share. N texts, V videos.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from training.metrics.retrieval import retrieval_scores

RECALL_AT = (1, 5, 10, 50)
AVERAGED = (1, 5, 10)
RULES = {"t2v": ("t2i", "optimistic"), "v2t": ("i2t", "average")}


def video_retrieval(sims: ArrayLike, *, queries_per_video: int | Sequence[int] | None = None) -> dict[str, Any]:
    """R@1, R@5, R@10, R@50, median and mean rank, and the geometric mean of the first three, both ways.

    Args:
        sims: (N, V) the similarity of every text (row) to every video (column), higher is more alike; the texts of one
            video stand together, in the order of the videos.
        queries_per_video: the number of texts of each video: one for all, or one a video (which may be 0; such a video
            is a candidate only). None: N / V.

    Returns:
        For text to video `t2v_` and video to text `v2t_`: `r1`, `r5`, `r10`, `r50` and `geometric_mean` (of the first
        three; 0 where one of them is), in 0..1 and times 100 as `..._x100`; `median_rank` and `mean_rank`, from 1
        (half ranks occur). `per_item`: `t2v_rank`, `t2v_r1` ... (N numbers each) and `v2t_...` (V, NaN without texts).

    Raises:
        ValueError: for scores of another shape or NaN ones, and numbers of texts that do not add up to N.

    >>> scores = video_retrieval([[0.9, 0.1], [0.5, 0.5]])
    >>> scores["t2v_r1"], scores["v2t_r1"], scores["v2t_median_rank"]
    (1.0, 1.0, 1.0)
    """
    table = np.asarray(sims)
    if table.ndim != 2 or not table.size:
        raise ValueError(f"sims have shape {table.shape}; give a row for each text and a column for each video")
    unknown = np.argwhere(np.isnan(table))
    if len(unknown):
        raise ValueError(f"sims{unknown[0].tolist()} is NaN; was the model trained with such numbers?")
    owners = np.repeat(np.arange(table.shape[1]), _text_counts(table.shape, queries_per_video))
    found: dict[str, Any] = {}
    items: dict[str, list[float]] = {}
    for name, (direction, ties) in RULES.items():
        scores = retrieval_scores(table.T, owners, ties=ties, recall_at=RECALL_AT)
        recalls = {f"r{k}": scores[f"{direction}_r{k}"] for k in RECALL_AT}
        shares = recalls | {"geometric_mean": math.prod(recalls[f"r{k}"] for k in AVERAGED) ** (1 / len(AVERAGED))}
        ranks = {key: scores[f"{direction}_{key}"] for key in ("median_rank", "mean_rank")}
        found |= {f"{name}_{key}": value for key, value in (shares | ranks).items()}
        found |= {f"{name}_{key}_x100": 100 * value for key, value in shares.items()}
        items |= {f"{name}_{key}": scores["per_item"][f"{direction}_{key}"] for key in ("rank", *recalls)}
    return found | {"per_item": items}


def _text_counts(shape: tuple[int, int], given: int | Sequence[int] | None) -> np.ndarray:
    """The number of texts of each video, (V,)."""
    num_texts, num_videos = shape
    if given is None and num_texts % num_videos:
        raise ValueError(
            f"{num_texts} texts are no whole number for each of {num_videos} videos (rows are texts): give "
            "queries_per_video, one number a video"
        )
    counts = np.asarray(num_texts // num_videos if given is None else given)
    counts = np.full(num_videos, counts) if counts.ndim == 0 else counts
    if counts.dtype.kind not in "iu" or counts.shape != (num_videos,) or counts.min() < 0:
        raise ValueError(f"queries_per_video must be a whole number, or one for each of {num_videos} videos, 0 or more")
    if counts.sum() != num_texts:
        raise ValueError(f"queries_per_video add up to {counts.sum()}, but there are {num_texts} texts (rows of sims)")
    return counts
