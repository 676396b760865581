"""Found moments -> the figures of their data set, for `training/tasks/moments.py`.

    FoundMoment of every sentence + rows of `training/data/clips/rows.py` --moment_figures--> figures, scores of items

DiDeMo ranks segments, QVHighlights is scored by its own evaluator, all others by R@n at IoUs (TALL's).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from training.data.clips.moments import didemo_pieces
from training.metrics.item_scores import ItemScores, item_scores
from training.metrics.video.didemo import SEGMENTS, didemo
from training.metrics.video.highlights import CLIP_SECONDS, LEAST_RATINGS
from training.metrics.video.spans import temporal_iou
from training.metrics.video.temporal_map import temporal_grounding_map
from training.metrics.video.temporal_recall import temporal_grounding_recall

PIECE_SECONDS = 5.0  # of DiDeMo
SAME = 1 - 1e-3  # IoU from which a window is a segment
RECALL = {
    **{f"r{n}_iou_{m}": f"R@{n} of moments at IoU 0.{m // 10}" for n in (1, 5) for m in (30, 50, 70)},
    "mean_span_iou": "mean IoU of moments",
}
RANKED = {"rank1": "Rank@1", "rank5": "Rank@5", "didemo_miou": "mean IoU with three people's segments"}
EVALUATED = {
    "map": "mAP",
    "map_50": "AP50",
    "map_75": "AP75",
    **{name: RECALL[name] for name in ("r1_iou_50", "r1_iou_70")},
    **{f"map_{length}": f"mAP of {length} moments" for length in ("short", "middle", "long")},
    **{f"hl_map_{least}": f"mAP of highlights, {least.replace('_', ' ')}" for least in LEAST_RATINGS},
    **{f"hit1_{least}": f"HIT@1 of highlights, {least.replace('_', ' ')}" for least in LEAST_RATINGS},
}
FIGURES = {**RECALL, **RANKED, **EVALUATED}
Row = Mapping[str, Any]
Figures = tuple[dict[str, float], ItemScores]


class FoundMoment(NamedTuple):
    """What is found for a sentence: windows (n, 3), starts and ends in seconds and scores, the best first; the saliency
    of each step (C,) and its bounds (C, 2) in seconds, None where a model says none."""

    windows: np.ndarray
    saliency: np.ndarray | None
    steps: np.ndarray


def figures_of(format: str) -> dict[str, str]:
    """The figures of a data format by name, the first of which picks the best model, and what a card calls them.

    >>> list(figures_of("didemo"))
    ['rank1', 'rank5', 'didemo_miou']
    """
    return {"didemo": RANKED, "qvhighlights": EVALUATED}.get(format, RECALL)


def moment_figures(found: Sequence[FoundMoment], rows: Sequence[Row], *, format: str) -> Figures:
    """The figures in 0..1 and, as `..._x100`, times 100, and the scores of sentences.

    rows: of the same sentences, with their true spans. Figures that the rows have nothing for are left out.
    """
    score: Callable[..., Figures] = {"didemo": _ranked, "qvhighlights": _evaluated}.get(format, _recalled)
    figures, items = score(found, rows)
    kept = {name: value for name, value in figures.items() if not math.isnan(value)}
    return {**kept, **{f"{name}_x100": 100 * value for name, value in kept.items()}}, items


def windows_inside(windows: np.ndarray, duration: float | None) -> np.ndarray:
    """Windows (n, 3) cut at the end of their clip, where its duration is known."""
    if duration is None:
        return windows
    return np.concatenate([windows[:, :2].clip(max=duration), windows[:, 2:]], axis=1)


def clip_saliency(found: FoundMoment, duration: float) -> list[float]:
    """The saliency of each whole clip of 2 s of a video, as many as are scored: that of the step at its middle.

    >>> steps = np.array([[0.0, 3.0], [3.0, 6.0]])
    >>> clip_saliency(FoundMoment(np.zeros((0, 3)), np.array([0.5, -1.0]), steps), 6.0)
    [0.5, -1.0, -1.0]
    """
    assert found.saliency is not None  # asked for of models that say it alone
    middles = CLIP_SECONDS * (np.arange(max(1, int(duration / CLIP_SECONDS))) + 0.5)
    places = np.searchsorted(found.steps[:, 0], middles, side="right") - 1
    return found.saliency[places.clip(min=0)].tolist()


def ranked_segments(windows: np.ndarray) -> list[tuple[int, int]]:
    """DiDeMo's 21 segments, the best first: by the score of the window that is the segment, else by the largest product
    of a window's score and its IoU with the segment; of equal ones the shorter and earlier first.

    >>> ranked_segments(np.array([[5.0, 10.0, 0.9], [0.0, 30.0, 0.8]]))[:2]
    [(1, 1), (0, 5)]
    """
    segments = PIECE_SECONDS * (np.array(SEGMENTS, dtype=float) + np.array([0, 1]))  # (21, 2)
    iou = temporal_iou(segments[:, None], windows[None, :, :2])  # (21, n)
    shared = (iou * windows[None, :, 2]).max(axis=1, initial=0.0)
    own = np.where(iou >= SAME, windows[None, :, 2], -1.0).max(axis=1, initial=-1.0)
    order = np.argsort(-np.where(own >= 0, own, shared), kind="stable")
    return [SEGMENTS[place] for place in order.tolist()]


def _ranked(found: Sequence[FoundMoment], rows: Sequence[Row]) -> Figures:
    scores = didemo([ranked_segments(own.windows) for own in found], [didemo_pieces(row["spans"]) for row in rows])
    names = {"rank1": "rank1", "rank5": "rank5", "miou": "didemo_miou"}
    ids = [row["moment_id"] for row in rows]
    items = {names[name]: item_scores(ids, scores["per_item"][name]) for name in names}
    return {ours: scores[theirs] for theirs, ours in names.items()}, items


def _evaluated(found: Sequence[FoundMoment], rows: Sequence[Row]) -> Figures:
    scores = temporal_grounding_map(
        [{"qid": row["moment_id"], **submitted(own, row)} for own, row in zip(found, rows, strict=True)],
        [
            {
                "qid": row["moment_id"],
                "duration": row["duration_seconds"],
                "relevant_windows": row["spans"],
                "relevant_clip_ids": row["relevant_clip_ids"],
                "saliency_scores": row["saliency_scores"],
            }
            for row in rows
        ],
    )
    names = {"r1_50": "r1_iou_50", "r1_70": "r1_iou_70"}
    own = {names.get(name, name): value for name, value in scores.items() if isinstance(value, float)}
    ids = scores["per_item"]["qid"]
    items = {names.get(name, name): item_scores(ids, v) for name, v in scores["per_item"].items() if name != "qid"}
    kept = {name: item for name, item in items.items() if name in EVALUATED}
    return {name: own[name] for name in EVALUATED if name in own}, kept


def submitted(found: FoundMoment, row: Row) -> dict[str, Any]:
    """What QVHighlights' evaluator reads of a sentence."""
    said: dict[str, Any] = {"pred_relevant_windows": windows_inside(found.windows, row["duration_seconds"]).tolist()}
    if found.saliency is not None:
        said["pred_saliency_scores"] = clip_saliency(found, row["duration_seconds"])
    return said


def _recalled(found: Sequence[FoundMoment], rows: Sequence[Row]) -> Figures:
    """R@n of the true span that the best window overlaps most, where a sentence has several."""
    windows = [windows_inside(own.windows, row["duration_seconds"]) for own, row in zip(found, rows, strict=True)]
    true = [_nearest(own, np.array(row["spans"])) for own, row in zip(windows, rows, strict=True)]
    scores = temporal_grounding_recall(
        [own[:, :2].tolist() for own in windows],
        [span.tolist() for span in true],
        scores=[own[:, 2].tolist() for own in windows],
        at=(1, 5),
        thresholds=(0.3, 0.5, 0.7),
    )
    names = {"mean_iou": "mean_span_iou"}
    ids = [row["moment_id"] for row in rows]
    items = {names.get(name, name): item_scores(ids, values) for name, values in scores["per_item"].items()}
    own_figures = {names.get(name, name): value for name, value in scores.items() if name != "per_item"}
    return {name: own_figures[name] for name in RECALL}, items


def _nearest(windows: np.ndarray, spans: np.ndarray) -> np.ndarray:
    """The true span (2,) that the first window (n, 3) overlaps most; the first where there is no window."""
    if not len(windows):
        return spans[0]
    return spans[int(temporal_iou(windows[0, :2], spans).argmax())]
