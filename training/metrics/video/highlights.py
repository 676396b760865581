"""Highlight detection (Lei et al. 2021, QVHighlights): which clips of a video people found worth watching.

    a score of each clip of 2 s + three people's ratings, 0..4 --highlight_scores--> mAP and HIT@1 at three ratings

Equal to moment_detr's `standalone_eval/eval.py`, whose average precision is scikit-learn's precision-recall curve,
interpolated, and its mean over the recalls that occur. Q queries, C clips, A = 3 people, L = 3 least ratings.
"""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from training.data.files import listed

CLIP_SECONDS = 2
PEOPLE, MOST_RATING = 3, 4
LONGEST_SECONDS = 86_400  # bounds the memory
LEAST_RATINGS = {"fair": 2, "good": 3, "very_good": 4}  # of a clip that counts as a highlight


def highlight_scores(
    predictions: Sequence[Mapping[str, Any]], ground_truth: Sequence[Mapping[str, Any]]
) -> dict[str, list[float]]:
    """Average precision and HIT@1 of every query.

    Args:
        predictions: for each query `pred_saliency_scores`, a number for each clip of 2 s.
        ground_truth: of the same queries in the same order `qid`, `duration` in seconds, `relevant_clip_ids` (n,) and
            `saliency_scores` (n, 3), the ratings 0..4 of these clips by three people; other clips are rated 0.

    Returns:
        `hl_map_fair`, `hl_map_good`, `hl_map_very_good`: average precision of the clips that a person rated so or
        higher, its mean over the people, Q numbers in 0..1; `hit1_fair` ...: 1.0 where at least one person rated the
        clip with the highest score (of equal ones the first) so.

    Clips with equal scores form one point of the curve. Where nobody rated a clip so, average precision is 0. As
    officially, scores of clips that the video does not have are ignored by the average precision (by HIT@1 they are
    misses), and clips without a score get 0, which a warning tells.

    Raises:
        ValueError: for a query without these fields or without a score, scores that are not finite, ratings that are
            not three a clip and in 0..4, and a clip outside of the video.
    """
    names = [f"the query {record['qid']}" for record in ground_truth]
    given = [_saliency(*pair) for pair in zip(predictions, names, strict=True)]
    ratings = [clip_ratings(*pair) for pair in zip(ground_truth, names, strict=True)]
    _warn_of_lengths(given, ratings, names)
    lengths = np.array([len(own) for own in ratings])
    mask = np.arange(lengths.max()) < lengths[:, None]  # (Q, C)
    scores, rated = np.full(mask.shape, -np.inf), np.zeros((*mask.shape, PEOPLE))
    scores[mask] = np.concatenate([_of_length(own, count) for own, count in zip(given, lengths.tolist(), strict=True)])
    rated[mask] = np.concatenate(ratings)
    first = np.array([own.argmax() for own in given])
    best = np.take_along_axis(rated, first.clip(max=mask.shape[1] - 1)[:, None, None], axis=1)[:, 0].max(axis=1)
    figures: dict[str, np.ndarray] = {}
    for name, least in LEAST_RATINGS.items():
        figures[f"hl_map_{name}"] = curve_precision(scores, rated >= least).mean(axis=1)
        figures[f"hit1_{name}"] = ((best >= least) & (first < lengths)).astype(float)
    return {name: values.tolist() for name, values in figures.items()}


def curve_precision(scores: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """moment_detr's `get_ap` of many rankings: the mean interpolated precision over the recalls that occur.

    Args:
        scores: (Q, C), -inf for padding, which must not be positive.
        positive: (Q, C, A) bool.

    Returns:
        (Q, A) in 0..1; 0 where nothing is positive.

    >>> curve_precision(np.array([[0.9, 0.8, 0.1]]), np.array([[[True], [False], [True]]])).round(4).tolist()
    [[0.8333]]
    """
    order = np.argsort(-scores, axis=1, kind="stable")
    ordered = np.take_along_axis(scores, order, axis=1)  # (Q, C)
    ends = np.ones(ordered.shape, dtype=bool)  # of runs of equal scores
    ends[:, :-1] = ordered[:, 1:] < ordered[:, :-1]
    found = np.take_along_axis(positive, order[..., None], axis=1).cumsum(axis=1)  # (Q, C, A)
    precision = np.where(ends[..., None], found / np.arange(1, scores.shape[1] + 1)[:, None], 0)
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    at_ends = np.maximum.accumulate(np.where(ends[..., None], found, 0), axis=1)
    before = np.concatenate([np.zeros_like(at_ends[:, :1]), at_ends[:, :-1]], axis=1)
    steps = ends[..., None] & (found > before)
    counts = steps.sum(axis=1)
    return np.divide((precision * steps).sum(axis=1), counts, out=np.zeros(counts.shape), where=counts > 0)


def clip_ratings(record: Mapping[str, Any], what: str) -> np.ndarray:
    """The ratings of all clips of a video, (C, 3), 0 where nobody rated; errors as those of `highlight_scores`."""
    lacking = [key for key in ("duration", "relevant_clip_ids", "saliency_scores") if record.get(key) is None]
    if lacking:
        raise ValueError(
            f"{what} has no {', '.join(lacking)}; take a file with the truth, such as highlight_val_release.jsonl"
        )
    count = int(duration_of(record, what) / CLIP_SECONDS)
    clips = np.asarray(record["relevant_clip_ids"])
    if clips.ndim != 1 or (clips.size and clips.dtype.kind not in "iu"):
        raise ValueError(f"relevant_clip_ids of {what} must be a list of whole numbers")
    outside = (clips < 0) | (clips >= count)
    if outside.any():
        raise ValueError(
            f"{what} rates the clip {clips[outside][0]}, outside of its video of {record['duration']} s, which has "
            f"{count} clips of 2 s"
        )
    rated = _ratings(record["saliency_scores"])
    if rated.shape != (len(clips), PEOPLE) or not ((rated >= 0) & (rated <= MOST_RATING)).all():
        raise ValueError(f"saliency_scores of {what} must be three people's ratings 0..4 of each of {len(clips)} clips")
    whole = np.zeros((count, PEOPLE))
    whole[clips.astype(np.int64)] = rated
    return whole


def duration_of(record: Mapping[str, Any], what: str) -> float:
    """The seconds of a query's video; ValueError where they are none."""
    seconds = record.get("duration")
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= LONGEST_SECONDS:
        raise ValueError(f"{what} has the duration {seconds!r}; give seconds, above 0 and up to {LONGEST_SECONDS}")
    return float(seconds)


def _ratings(given: Any) -> np.ndarray:
    """Numbers (n, 3); of another shape where they are none."""
    try:
        rated = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError):
        return np.empty((0, 0))
    return rated if rated.size else np.zeros((0, PEOPLE))


def _saliency(record: Mapping[str, Any], name: str) -> np.ndarray:
    given = record.get("pred_saliency_scores")
    if given is None:
        raise ValueError(f"the prediction of {name} has no pred_saliency_scores; give them to all queries, or to none")
    scores = np.asarray(given, dtype=np.float64)
    if scores.ndim != 1 or not scores.size or not np.isfinite(scores).all():
        raise ValueError(f"pred_saliency_scores of {name} must be finite numbers, one for each clip of 2 s")
    return scores


def _of_length(scores: np.ndarray, count: int) -> np.ndarray:
    """The first `count` scores, 0 for those that are lacking."""
    return np.concatenate([scores[:count], np.zeros(max(0, count - len(scores)))])


def _warn_of_lengths(given: Sequence[np.ndarray], ratings: Sequence[np.ndarray], names: Sequence[str]) -> None:
    wrong = [name for name, own, true in zip(names, given, ratings, strict=True) if len(own) != len(true)]
    if wrong:
        warnings.warn(
            f"{len(wrong)} of {len(given)} queries have another number of saliency scores than clips of 2 s "
            f"({listed(wrong)}); as officially, clips without a score get 0 and others are ignored",
            stacklevel=4,
        )
