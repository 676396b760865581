"""Windows that are the same for every sentence: what moment retrieval is worth without a look at clip or words.

    true spans of the training split, as parts of their clips --prior_windows | middle_window--> windows (W, 2), 0..1

Many data sets have their moments at much the same places, and a model may have learnt no more than these (Otani et al.
2020, "Uncovering hidden challenges in query-based video moment retrieval"). N sentences, S segments of equal length of
a clip, W windows.
"""

from collections.abc import Sequence

import numpy as np

from .spans import temporal_iou

SENTENCES_AT_ONCE = 1024  # whose overlaps with all windows are in memory together


def grid_windows(segments: int) -> np.ndarray:
    """Every run of segments of a clip as parts of it, (S (S + 1) / 2, 2), by their starts, the shorter first.

    Raises `ValueError` for no segment.

    >>> grid_windows(2).tolist()
    [[0.0, 0.5], [0.0, 1.0], [0.5, 1.0]]
    """
    if segments < 1:
        raise ValueError(f"segments is {segments}: give into how many parts, 1 or more, clips are cut")
    first, last = np.triu_indices(segments)
    return np.stack([first, last + 1], axis=1) / segments


def middle_window(spans: Sequence[np.ndarray]) -> np.ndarray:
    """The window (1, 2) in the middle of the clip, as long as spans are on average; spans: (n, 2) a sentence, 0..1.

    >>> middle_window([np.array([[0.0, 0.2]]), np.array([[0.5, 0.9]])]).round(2).tolist()
    [[0.35, 0.65]]
    """
    whole = np.concatenate(spans)
    half = float((whole[:, 1] - whole[:, 0]).mean()) / 2
    return np.array([[0.5 - half, 0.5 + half]])


def prior_windows(spans: Sequence[np.ndarray], *, segments: int, most: int, min_iou: float = 0.5) -> np.ndarray:
    """The windows of the grid that find most sentences, (most, 2) or all of them: the first one finds more than any
    other window, each further one most of those sentences that none before it finds; of equal ones the earlier and
    shorter. min_iou: with any of a sentence's spans (n, 2), 0..1 of the clip, from which it is found.

    >>> spans = [np.array([[0.0, 0.5]]), np.array([[0.0, 0.4]]), np.array([[0.5, 1.0]])]
    >>> prior_windows(spans, segments=2, most=2, min_iou=0.6).tolist()
    [[0.0, 0.5], [0.5, 1.0]]
    """
    windows = grid_windows(segments)
    starts = range(0, len(spans), SENTENCES_AT_ONCE)
    found = np.concatenate([found_by(windows, spans[i : i + SENTENCES_AT_ONCE], min_iou=min_iou) for i in starts])
    chosen: list[int] = []
    missed, free = np.ones(len(spans), dtype=bool), np.ones(len(windows), dtype=bool)
    for _ in range(min(most, len(windows))):
        counts = np.where(free, found[missed].sum(axis=0), -1)
        chosen.append(int(counts.argmax()))
        free[chosen[-1]] = False
        missed &= ~found[:, chosen[-1]]
    return windows[chosen]


def found_by(windows: np.ndarray, spans: Sequence[np.ndarray], *, min_iou: float) -> np.ndarray:
    """Whether each window (W, 2) has an IoU of `min_iou` or more with a span of each sentence, (N, W) bool."""
    counts = np.array([len(own) for own in spans])
    enough = temporal_iou(np.concatenate(spans)[:, None], windows[None]) >= min_iou  # (P, W)
    return np.logical_or.reduceat(enough, np.concatenate([[0], counts.cumsum()[:-1]]), axis=0)
