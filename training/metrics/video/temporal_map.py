"""Moment retrieval and highlight detection on QVHighlights (Lei et al. 2021): mAP over IoUs, R@1, mAP and HIT@1.

    ten windows of each query, with scores + true windows --temporal_grounding_map--> mAP, R1, and of lengths
    a score of each clip of 2 s + people's ratings        -------------------------> `highlights.py`

Equal to `standalone_eval/eval.py` of jayleicn/moment_detr, which takes the benchmark's submission files. Q queries,
W windows, G true windows, M IoU thresholds.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from training.metrics.box_arrays import with_hundredfold

from .highlights import CLIP_SECONDS, LEAST_RATINGS, duration_of, highlight_scores
from .matched_ids import matched_predictions
from .spans import check_inside, check_seconds, hull_iou, joined_spans, temporal_iou

IOU_THRESHOLDS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
MOST_WINDOWS = 10
WINDOWS, SALIENCY = "pred_relevant_windows", "pred_saliency_scores"
LENGTHS = {"short": (0, 10), "middle": (10, 30), "long": (30, 150)}  # seconds of a true window: above, up to
ITEM_IOUS = (0.5, 0.7)
DIGITS = 2  # of the official report

Scored = Mapping[str, tuple[np.ndarray, np.ndarray]]  # of "full" and each range: average precision (Q, M), IoU (Q,)


class _Moments(NamedTuple):
    """Windows of all queries, padded: (Q, W, 2), bool (Q, W), and true ones (Q, G, 2), bool (Q, G)."""

    windows: np.ndarray
    there: np.ndarray
    true: np.ndarray
    true_there: np.ndarray
    first: np.ndarray  # (Q, 2), the window listed first; NaN where a query has none


def temporal_grounding_map(
    predictions: Sequence[Mapping[str, Any]], ground_truth: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """QVHighlights' figures of moment retrieval and, where predictions have saliency scores, of highlight detection.

    Args:
        predictions: of each query, in any order, `qid`, `pred_relevant_windows` (n, 3), starts, ends (seconds) and
            scores, and `pred_saliency_scores`, one a clip of 2 s; either of the two may be absent from all queries.
        ground_truth: `qid`, `duration` (seconds), `relevant_windows` (m, 2), m at least 1, `relevant_clip_ids` and
            `saliency_scores`, as in `highlight_val_release.jsonl`.

    Returns:
        `map`, the mean average precision over IoUs 0.5, 0.55 ... 0.95, `map_50`, `map_75`, `r1_50` ... `r1_95`, the
        share of queries whose first window has so much IoU with a true one, and `map_short` (true windows up to 10 s),
        `map_middle` (up to 30 s), `map_long` (up to 150 s), NaN where no query has such a window; `hl_map_fair`,
        `hit1_fair`, `..._good`, `..._very_good` (`highlights.py`). All in 0..1, and times 100 as `..._x100`.
        `metrics`: the official report, percentages of two decimals under its own names (`brief`, `full`, `short` ...,
        `HL-min-Fair` ...); `ap_per_query`: qid -> average precision at each IoU; `per_item`: `qid` and, in that order,
        `map`, `r1_50`, `r1_70`, `hl_map_...`, `hit1_...` of each query.

    As officially: the first ten windows as they are listed count, ordered by score (of equal ones the earlier first);
    a true window is found once, by the best window that has no better one left (of two equal overlaps the later);
    R@1 takes the window listed first, whatever its score; figures of lengths leave out the other true windows of a
    query, but no predicted one. Where the official code fails or leaves a query out, a query without a window is a
    miss.

    Raises:
        ValueError: for ids that do not match or stand twice, a window that starts after it ends, is no three finite
            numbers, or reaches out of its video (predicted ones by more than a clip of 2 s), a query without a true
            window or duration, and as `highlight_scores`.

    >>> truth = [{"qid": 1, "duration": 150, "relevant_windows": [[10, 20], [40, 60]]}]
    >>> found = [{"qid": 1, "pred_relevant_windows": [[10, 20, 0.9], [90, 100, 0.8], [42, 60, 0.7]]}]
    >>> scores = temporal_grounding_map(found, truth)
    >>> scores["map_50"].__round__(4), scores["map_short"], scores["map_middle"].__round__(4), scores["r1_50"]
    (0.8333, 1.0, 0.3, 1.0)
    """
    ordered = matched_predictions(predictions, ground_truth, key="qid")
    parts = [key for key in (WINDOWS, SALIENCY) if any(key in record for record in ordered)]
    if not parts:
        raise ValueError(f"predictions have neither {WINDOWS} nor {SALIENCY}; give at least one of them")
    qids = [str(record["qid"]) for record in ground_truth]
    figures: dict[str, float] = {}
    items: dict[str, list[Any]] = {"qid": qids}
    report: dict[str, Any] = {"brief": {}}
    precisions: dict[str, list[float]] = {}
    if WINDOWS in parts:
        scored = _scored_by_length(_moments(ordered, ground_truth))
        figures, report = _moment_figures(scored), _moment_report(scored)
        items |= _moment_items(*scored["full"])
        precisions = dict(zip(qids, scored["full"][0].tolist(), strict=True))
    if SALIENCY in parts:
        rated = highlight_scores(ordered, ground_truth)
        figures |= {name: float(np.mean(values)) for name, values in rated.items()}
        items |= rated
        _add_highlights(report, figures)
    return with_hundredfold(figures) | {"metrics": report, "ap_per_query": precisions, "per_item": items}


def window_precision(moments: _Moments) -> np.ndarray:
    """Average precision of each query at each IoU, (Q, M): interpolated, as ActivityNet's detection has it."""
    windows, true = moments.windows, moments.true
    thresholds = np.array(IOU_THRESHOLDS)
    iou = np.where(moments.true_there[:, None], temporal_iou(windows[:, :, None], true[:, None]), -1.0)  # (Q, W, G)
    taken = np.zeros((len(true), len(thresholds), true.shape[1]), dtype=bool)  # (Q, M, G)
    hits = np.zeros((len(true), len(thresholds), windows.shape[1]))  # (Q, M, W)
    for place in range(windows.shape[1]):
        own = iou[:, None, place]  # (Q, 1, G)
        free = (own >= thresholds[:, None]) & ~taken & moments.there[:, place, None, None]
        best = free.shape[2] - 1 - np.where(free, own, -1.0)[..., ::-1].argmax(axis=2, keepdims=True)
        hit = free.any(axis=2)
        hits[..., place] = hit
        np.put_along_axis(taken, best, np.take_along_axis(taken, best, axis=2) | hit[..., None], axis=2)
    positives = moments.true_there.sum(axis=1)[:, None, None]
    misses = (moments.there[:, None] & (hits == 0)).cumsum(axis=2)
    recall = hits.cumsum(axis=2) / positives
    found = recall * positives  # not hits.cumsum: officially too, a division and a product lie between
    precision = np.divide(found, found + misses, out=np.zeros(found.shape), where=found + misses > 0)
    precision = np.maximum.accumulate(precision[..., ::-1], axis=2)[..., ::-1]
    return (np.diff(recall, axis=2, prepend=0) * precision).sum(axis=2)


def first_iou(moments: _Moments) -> np.ndarray:
    """IoU of the window listed first with the true one it overlaps most, (Q,); 0 where a query has no window."""
    overlaps = np.where(moments.true_there, temporal_iou(moments.first[:, None], moments.true), -1.0)
    best = np.take_along_axis(moments.true, overlaps.argmax(axis=1)[:, None, None], axis=1)[:, 0]
    return np.nan_to_num(hull_iou(moments.first, best), nan=0.0).clip(min=0)


def _moments(predictions: Sequence[Mapping[str, Any]], ground_truth: Sequence[Mapping[str, Any]]) -> _Moments:
    names = [f"the query {record['qid']}" for record in ground_truth]
    given: list[Any] = [record.get(WINDOWS) for record in predictions]
    lacking = next((name for name, own in zip(names, given, strict=True) if not isinstance(own, list)), None)
    if lacking is not None:
        raise ValueError(f"the prediction of {lacking} has no list {WINDOWS}; give one to all queries, or to none")
    flat, counts = joined_spans([own[:MOST_WINDOWS] for own in given], WINDOWS, columns=3, names=names)
    true, true_counts = joined_spans(
        [record.get("relevant_windows", []) for record in ground_truth], "relevant_windows", names=names
    )
    if not true_counts.all():
        raise ValueError(
            f"{names[int((true_counts == 0).argmax())]} has no relevant_windows; take a file with the truth, such as "
            "highlight_val_release.jsonl"
        )
    durations = np.array([duration_of(*pair) for pair in zip(ground_truth, names, strict=True)])
    check_seconds(flat[:, :2], true)
    check_inside(true, true_counts, durations, what="relevant_windows", names=names)
    check_inside(flat, counts, durations, what=WINDOWS, names=names, slack_seconds=CLIP_SECONDS)
    windows, there = _padded(flat, counts)
    first = np.where(there[:, :1], windows[:, 0, :2], np.nan)
    order = np.argsort(np.where(there, -windows[..., 2], np.inf), axis=1, kind="stable")
    ordered = np.take_along_axis(windows, order[..., None], axis=1)[..., :2]
    return _Moments(ordered, np.take_along_axis(there, order, axis=1), *_padded(true, true_counts), first)


def _padded(flat: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows (N, ...) of all queries -> (Q, n, ...) and which of them are real (Q, n), n at least 1."""
    there = np.arange(max(int(counts.max()), 1)) < counts[:, None]
    padded = np.zeros((*there.shape, *flat.shape[1:]))
    padded[there] = flat
    return padded, there


def _of_length(moments: _Moments, bounds: tuple[int, int]) -> _Moments:
    """The queries with true windows longer than the first bound and up to the second, and these windows alone."""
    lengths = moments.true[..., 1] - moments.true[..., 0]
    kept = moments.true_there & (lengths > bounds[0]) & (lengths <= bounds[1])
    rows = kept.any(axis=1)
    return _Moments(moments.windows[rows], moments.there[rows], moments.true[rows], kept[rows], moments.first[rows])


def _scored_by_length(moments: _Moments) -> Scored:
    ranges = {name: _of_length(moments, bounds) for name, bounds in LENGTHS.items()} | {"full": moments}
    return {name: (window_precision(own), first_iou(own)) for name, own in ranges.items()}


def _moment_items(precision: np.ndarray, iou: np.ndarray) -> dict[str, list[float]]:
    recalls = {f"r1_{100 * m:.6g}": (iou >= m).astype(float).tolist() for m in ITEM_IOUS}
    return {"map": precision.mean(axis=1).tolist(), **recalls}


def _moment_figures(scored: Scored) -> dict[str, float]:
    precision, iou = scored["full"]
    at = precision.mean(axis=0)
    figures = {"map": float(at.mean()), "map_50": float(at[0]), "map_75": float(at[IOU_THRESHOLDS.index(0.75)])}
    figures |= {f"r1_{100 * m:.6g}": float((iou >= m).mean()) for m in IOU_THRESHOLDS}
    return figures | {f"map_{name}": float(_mean(scored[name][0]).mean()) for name in LENGTHS}


def _moment_report(scored: Scored) -> dict[str, Any]:
    """The official report of every range of lengths, and its brief."""
    report: dict[str, Any] = {}
    for name, (precision, iou) in scored.items():
        at = _mean(precision)  # (M,)
        reached = _mean(iou[:, None] >= np.array(IOU_THRESHOLDS))
        maps = {str(m): _percent(value) for m, value in zip(IOU_THRESHOLDS, at, strict=True)}
        recalls = {str(m): _percent(value) for m, value in zip(IOU_THRESHOLDS, reached, strict=True)}
        report[name] = {"MR-mAP": maps | {"average": _percent(at.mean())}, "MR-R1": recalls}
    return {"brief": _brief(report), **report}


def _brief(report: Mapping[str, Any]) -> dict[str, float]:
    full = report["full"]
    brief = {f"MR-full-R1@{m}": full["MR-R1"][m] for m in ("0.5", "0.7")}
    brief |= {"MR-full-mAP": full["MR-mAP"]["average"]} | {
        f"MR-full-mAP@{m}": full["MR-mAP"][m] for m in ("0.5", "0.75")
    }
    return brief | {f"MR-{name}-mAP": report[name]["MR-mAP"]["average"] for name in ("long", "middle", "short")}


def _add_highlights(report: dict[str, Any], figures: Mapping[str, float]) -> None:
    """The official report of highlight detection, added to that of moment retrieval."""
    for name in LEAST_RATINGS:
        own = {"HL-mAP": _percent(figures[f"hl_map_{name}"]), "HL-Hit1": _percent(figures[f"hit1_{name}"])}
        title = f"HL-min-{name.title().replace('_', '')}"
        report[title] = own
        report["brief"] |= {f"{title}-{key.removeprefix('HL-')}": value for key, value in own.items()}


def _mean(values: np.ndarray) -> np.ndarray:
    """(Q, ...) -> (...): the mean over queries, NaN where there is none."""
    return values.mean(axis=0) if len(values) else np.full(values.shape[1:], np.nan)


def _percent(share: float) -> float:
    return round(float(100 * share), DIGITS)
