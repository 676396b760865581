"""Moments of a clip without a model of moments: how well each frame fits a sentence, and spans of frames that fit best.

    frames --Embedder--> vectors (F, E); sentence --> vector (E,)   --cosine--> scores (F,) --best_spans--> spans

The zero-shot baseline of moment retrieval by a model of images and texts: nothing in it was learnt from clips.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from training.search.embedding import Embedder

SAME_SCORE = 1e-6  # scores that differ by less are equal, as far as float32 tells


def frame_scores(embedder: Embedder, frames: Sequence[Any], sentence: str) -> np.ndarray:
    """The cosine (F,) of each frame, an image, with a sentence."""
    text = embedder.text_vectors([sentence])[0]  # (E,)
    step = embedder.batch_size
    parts = [
        embedder.regions_vectors(embedder.regions(frames[start : start + step])) @ text
        for start in range(0, len(frames), step)
    ]
    return np.concatenate(parts)


def best_spans(scores: np.ndarray, seconds: np.ndarray, *, end: float, most: int = 1) -> list[dict[str, float]]:
    """The spans in which scores are the highest above the clip's mean, the best first; spans do not overlap.

    Each frame lasts until the next one. The best span is the run of frames with the largest sum of (score - mean) x
    duration, where the mean is over time: a frame below the mean is only taken in between better ones. The next is the
    best run among the rest, as long as it is above the mean. Where all scores are equal, it is the whole clip.

    Args:
        scores, seconds: (F,) of the frames, in the order of time.
        end: seconds at which the last frame disappears.
        most: how many spans at most.

    Returns:
        Mappings of `start` and `end` in seconds and `score`, the mean score over the span.

    >>> best_spans(np.array([0.1, 0.5, 0.6, 0.1]), np.arange(4.0), end=4.0)
    [{'start': 1.0, 'end': 3.0, 'score': 0.55}]
    >>> [span["end"] for span in best_spans(np.full(4, 0.2), np.arange(4.0), end=4.0, most=3)]
    [4.0]
    """
    ends = np.append(seconds[1:], max(end, float(seconds[-1])))
    lengths = ends - seconds
    lengths = lengths if lengths.sum() > 0 else np.ones_like(lengths)  # a single frame at the clip's end
    excess = scores.astype(np.float64) - np.average(scores, weights=lengths)
    excess[np.abs(excess) < SAME_SCORE] = 0.0
    gains = excess * lengths
    found: list[dict[str, float]] = []
    while len(found) < most:
        run = best_run(gains)
        if run is None:
            break
        first, last = run
        weights = lengths[first : last + 1]
        score = (
            np.average(scores[first : last + 1], weights=weights) if weights.sum() else scores[first : last + 1].mean()
        )
        found.append({"start": float(seconds[first]), "end": float(ends[last]), "score": round(float(score), 6)})
        gains[first : last + 1] = -np.inf
    if not found:
        score = round(float(np.average(scores, weights=lengths)), 6)
        found = [{"start": float(seconds[0]), "end": float(ends[-1]), "score": score}]
    return found


def best_run(gains: np.ndarray) -> tuple[int, int] | None:
    """The first and last place of the run with the largest sum, the first of equal ones; None where none is above 0.

    >>> best_run(np.array([1.0, -2.0, 3.0, -1.0, 2.0, -5.0])), best_run(np.array([-1.0, 0.0]))
    ((2, 4), None)
    """
    best, found, total, first = 0.0, None, 0.0, 0
    for place, gain in enumerate(gains.tolist()):
        if total <= 0:
            total, first = 0.0, place
        total += gain
        if total > best:
            best, found = total, (first, place)
    return found
