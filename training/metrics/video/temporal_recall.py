"""Recall of moments at n windows and an IoU (Gao et al. 2017, TALL): Charades-STA, ActivityNet Captions, TACoS.

    windows of each query, with scores + the true span --kept_windows, n best--> R@n,IoU=m, mIoU

Equal to TALL's `main.py`: of windows that overlap, the one with the highest score is kept, and the overlap that two
kept ones may have depends on the IoU asked for. Q queries, W windows of a query.
"""

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np

from training.metrics.box_arrays import threshold_names, with_hundredfold

from .spans import check_inside, check_seconds, hull_iou, joined_spans, temporal_iou

RECALL_AT = (1, 5, 10)
THRESHOLDS = (0.1, 0.3, 0.5, 0.7)
NMS_MARGIN = 0.05
CELLS_AT_ONCE = 1 << 20  # windows of the queries that are scored together, which bounds the memory
SLACK_SECONDS = 2.0  # a predicted window may reach so far out of its clip


def temporal_grounding_recall(
    windows: Sequence[Any],
    gt: Sequence[Any],
    *,
    scores: Sequence[Any] | None = None,
    at: Sequence[int] = RECALL_AT,
    thresholds: Sequence[float] = THRESHOLDS,
    nms_margin: float | None = NMS_MARGIN,
    durations: Sequence[float] | None = None,
) -> dict[str, Any]:
    """R@n,IoU=m: the share of queries with a window of IoU >= m among the n best, and the mean IoU of the best window.

    Args:
        windows: for each query its windows, (W, 2) starts and ends in seconds; W may differ, and be 0 (a miss).
        gt: (Q, 2) the true span of each query, in the same order.
        scores: for each query (W,) the score of each window, higher is better, of equal ones the later first; None:
            windows stand with the best first.
        at: the numbers of windows n.
        thresholds: the IoU m, above 0 and up to 1.
        nms_margin: before the n best are taken, windows that overlap a better one by more than m - `nms_margin` are
            left out; None leaves none out.
        durations: (Q,) seconds of each query's clip, to check the spans against.

    Returns:
        `r1_iou_50` ... for every n and m, and `mean_iou` of the windows with the highest score (0 where it lies apart),
        in 0..1 and times 100 as `..._x100`. `per_item`: for the same names a number of each query.

    Raises:
        ValueError: for no query, different numbers of queries or scores, a span that is not two finite numbers, starts
            after it ends or (with durations) lies outside of its clip (predicted ones by more than 2 s), one side in
            seconds and the other in 0..1, an n below 1, and a threshold that is none.

    >>> found = temporal_grounding_recall([[[0, 10], [4, 9]]], [[4, 10]], scores=[[0.9, 0.8]], at=[1, 2])
    >>> found["r1_iou_50"], found["r1_iou_70"], found["mean_iou"]
    (1.0, 0.0, 0.6)
    """
    if not at or any(n < 1 for n in at):
        raise ValueError(f"at is {list(at)}; give at least one number of windows, from 1")
    names = {n: threshold_names(thresholds, f"r{n}_iou") for n in at}
    true, flat, counts = _checked(windows, gt, durations)
    ranks = _scores(scores, counts)
    items: dict[str, list[np.ndarray]] = {name: [] for name in chain(*names.values(), ["mean_iou"])}
    for part in _parts(counts):
        own, there = _padded(flat, counts, part), _padded_mask(counts[part])  # (q, W, 2), (q, W)
        order = _best_first(_padded(ranks, counts, part), there)
        ordered = np.take_along_axis(own, order[..., None], axis=1)
        there = np.take_along_axis(there, order, axis=1)
        overlap = np.where(there, hull_iou(ordered, true[part][:, None]), -1.0)
        items["mean_iou"].append(overlap[:, 0].clip(min=0))
        for place, threshold in enumerate(names[at[0]].values()):
            max_iou = 1.0 if nms_margin is None else threshold - nms_margin
            kept = kept_windows(ordered, there, max_iou=max_iou, most=max(at))  # (q, max(at))
            hits = (np.take_along_axis(overlap, kept.clip(min=0), axis=1) >= threshold) & (kept >= 0)
            for n in at:
                items[list(names[n])[place]].append(hits[:, :n].any(axis=1).astype(float))
    per_item = {name: np.concatenate(parts) for name, parts in items.items()}
    figures = with_hundredfold({name: float(values.mean()) for name, values in per_item.items()})
    return figures | {"per_item": {name: values.tolist() for name, values in per_item.items()}}


def kept_windows(windows: np.ndarray, there: np.ndarray, *, max_iou: float, most: int) -> np.ndarray:
    """Temporal non-maximum suppression of all queries at once, up to the `most` best windows of each.

    Args:
        windows: (Q, W, 2), the best first.
        there: (Q, W) bool, False where a query has no further window.
        max_iou: windows that overlap a better kept one by more are left out.

    Returns:
        (Q, most) int: the kept windows' places, the best first; -1 where there are no more.

    >>> kept_windows(np.array([[[0.0, 9], [1, 9], [8, 20]]]), np.ones((1, 3), bool), max_iou=0.5, most=4).tolist()
    [[0, 2, -1, -1]]
    """
    alive, rows = there.copy(), np.arange(len(windows))
    kept = np.full((len(windows), most), -1)
    for rank in range(most):
        if not alive.any():
            break
        best = alive.argmax(axis=1)
        kept[:, rank] = np.where(alive.any(axis=1), best, -1)
        alive[rows, best] = False
        alive &= temporal_iou(windows[rows, best][:, None], windows) <= max_iou
    return kept


def _checked(
    windows: Sequence[Any], gt: Sequence[Any], durations: Sequence[float] | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True spans (Q, 2), windows of all queries (N, 2) and the number of each query's (Q,)."""
    if not len(gt) or len(windows) != len(gt):
        raise ValueError(f"{len(windows)} queries have windows and {len(gt)} a true span: give both of at least one")
    true, ones = joined_spans([[span] for span in gt], "gt")
    flat, counts = joined_spans(windows, "windows")
    check_seconds(flat, true)
    if durations is not None:
        seconds = np.asarray(durations, dtype=np.float64)
        if seconds.shape != (len(true),) or not (np.isfinite(seconds) & (seconds > 0)).all():
            raise ValueError(f"durations must be the seconds of the clips of all {len(true)} queries, above 0")
        check_inside(true, ones, seconds, what="gt")
        check_inside(flat, counts, seconds, what="windows", slack_seconds=SLACK_SECONDS)
    return true, flat, counts


def _scores(scores: Sequence[Any] | None, counts: np.ndarray) -> np.ndarray:
    """The scores of all windows (N,)."""
    if scores is None:
        return np.concatenate([np.zeros(0), *(-np.arange(count, dtype=np.float64) for count in counts)])
    parts = [np.asarray(own, dtype=np.float64).reshape(-1) for own in scores]
    if len(parts) != len(counts):
        raise ValueError(f"{len(parts)} queries have scores and {len(counts)} windows: give both of the same")
    wrong = next((i for i, part in enumerate(parts) if len(part) != counts[i]), None)
    if wrong is not None:
        raise ValueError(f"query {wrong} has {len(parts[wrong])} scores for {counts[wrong]} windows: give one a window")
    joined = np.concatenate([np.zeros(0), *parts])
    if not np.isfinite(joined).all():
        raise ValueError("a score is not a finite number; was the model trained with such numbers?")
    return joined


def _parts(counts: np.ndarray) -> list[slice]:
    """Runs of queries whose padded windows are at most `CELLS_AT_ONCE`, or a single query."""
    runs, first, widest = [], 0, 0
    for place, count in enumerate(counts.tolist()):
        if place > first and max(widest, count) * (place + 1 - first) > CELLS_AT_ONCE:
            runs.append(slice(first, place))
            first, widest = place, 0
        widest = max(widest, count)
    return [*runs, slice(first, len(counts))]


def _padded_mask(counts: np.ndarray) -> np.ndarray:
    """(q, W) bool, True = real; at least one column."""
    return np.arange(max(int(counts.max()), 1)) < counts[:, None]


def _padded(values: np.ndarray, counts: np.ndarray, part: slice) -> np.ndarray:
    """The values (N, ...) of a run of queries as (q, W, ...), 0 where a query has no further one."""
    ends = counts.cumsum()
    mask = _padded_mask(counts[part])
    padded = np.zeros((*mask.shape, *values.shape[1:]))
    padded[mask] = values[ends[part.start] - counts[part.start] : ends[part.stop - 1]]
    return padded


def _best_first(scores: np.ndarray, there: np.ndarray) -> np.ndarray:
    """The order of each query's windows (q, W) by falling score, of equal ones the later first; padding last."""
    rising = np.argsort(np.where(there, scores, -np.inf), axis=1, kind="stable")
    return rising[:, ::-1]
