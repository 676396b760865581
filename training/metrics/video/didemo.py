"""DiDeMo (Hendricks et al. 2017): which of 21 segments of a video a sentence is about, as four people chose.

    segments of each sentence, the best first + people's segments --didemo--> Rank@1, Rank@5, mIoU

Equal to `utils/eval.py` of LisaAnne/LocalizingMoments. A segment [start, end] is of pieces of 5 s, both inclusive: of
the six pieces of 30 s there are 21. N sentences, S segments, P people.
"""

from collections.abc import Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from training.metrics.box_arrays import with_hundredfold

from .spans import joined_spans, owner_of

PIECES = 6
SEGMENTS = tuple([(piece, piece) for piece in range(PIECES)] + list(combinations(range(PIECES), 2)))
AGREEING = 3  # of the people, those that fit the prediction best
RANKS = (1, 5)
MOST_PIECES = 1000


def didemo(ranked_segments: Sequence[Any], times: Sequence[Any]) -> dict[str, Any]:
    """Rank@1, Rank@5 and mean IoU, of each sentence those of the three people who fit the prediction best.

    Args:
        ranked_segments: for each sentence its segments, (S, 2) integers, the best first; one that people chose must
            stand in it, so rank all 21 (`SEGMENTS`, or those of a shorter video).
        times: for each sentence the segments that people chose, (P, 2); four, of some seven.

    Returns:
        `rank1`, `rank5`: the share of sentences whose mean of the three best ranks is at most 1 or 5; `miou`: the mean
        of the three best IoUs of the first segment. In 0..1, and times 100 as `..._x100`. `per_item`: for the same
        names a number of each sentence, and `avg_rank`, the mean of the three best ranks, from 1.

    Segments apart have an IoU of 0. Of a segment that is ranked twice the first place counts.

    Raises:
        ValueError: for no sentence, different numbers of sentences, segments that are not two whole numbers from 0 or
            start after they end, none at all, and a chosen segment that is not ranked.

    >>> found = didemo([[[0, 0], [0, 1], [1, 1]]], [[[0, 0], [0, 1], [0, 1], [1, 1]]])
    >>> found["rank1"], found["rank5"], found["per_item"]["avg_rank"], round(found["miou"], 4)
    (0.0, 1.0, [1.6666666666666667], 0.6667)
    """
    if not len(times) or len(ranked_segments) != len(times):
        raise ValueError(f"{len(ranked_segments)} sentences have segments and {len(times)} people's: give both")
    ranked, chosen = _joined(ranked_segments, "ranked_segments"), _joined(times, "times")
    first = ranked.segments[ranked.starts()][chosen.owners()]  # of each chosen segment, the one ranked first
    best_ranks = np.sort(_padded(_ranks(ranked, chosen), chosen), axis=1)[:, :AGREEING]
    best_overlaps = -np.sort(_padded(-inclusive_iou(first, chosen.segments), chosen), axis=1)[:, :AGREEING]
    counts = np.minimum(chosen.counts, AGREEING)
    agreeing = np.arange(AGREEING) < counts[:, None]
    avg_rank = np.where(agreeing, best_ranks, 0).sum(axis=1) / counts
    items = {f"rank{k}": (avg_rank <= k).astype(float) for k in RANKS}
    items["miou"] = np.where(agreeing, best_overlaps, 0).sum(axis=1) / counts
    figures = with_hundredfold({name: float(values.mean()) for name, values in items.items()})
    items["avg_rank"] = avg_rank
    return figures | {"per_item": {name: values.tolist() for name, values in items.items()}}


def inclusive_iou(segments: np.ndarray, others: np.ndarray) -> np.ndarray:
    """IoU of segments (..., 2) and (..., 2) of whole pieces, both ends inclusive; the union is the hull.

    >>> inclusive_iou(np.array([0, 1]), np.array([[1, 3], [2, 3]])).tolist()
    [0.25, 0.0]
    """
    shared = np.minimum(segments[..., 1], others[..., 1]) + 1 - np.maximum(segments[..., 0], others[..., 0])
    hull = np.maximum(segments[..., 1], others[..., 1]) + 1 - np.minimum(segments[..., 0], others[..., 0])
    return shared.clip(min=0) / hull


class _Segments(NamedTuple):
    """Segments of all sentences (M, 2) int, sentence after sentence, and the number of each (N,)."""

    segments: np.ndarray
    counts: np.ndarray

    def starts(self) -> np.ndarray:
        """The place of each sentence's first segment, (N,)."""
        return self.counts.cumsum() - self.counts

    def owners(self) -> np.ndarray:
        """The sentence of each segment, (M,)."""
        return np.repeat(np.arange(len(self.counts)), self.counts)

    def keys(self) -> np.ndarray:
        """A number of each segment that only equal ones of the same sentence share, (M,)."""
        return (self.owners() * MOST_PIECES + self.segments[:, 0]) * MOST_PIECES + self.segments[:, 1]


def _joined(items: Sequence[Any], what: str) -> _Segments:
    spans, counts = joined_spans(items, what)
    if not counts.all():
        raise ValueError(f"{what}[{int((counts == 0).argmax())}] has no segment; give at least one")
    wrong = ((spans % 1 != 0) | (spans < 0) | (spans >= MOST_PIECES)).any(axis=1)
    if wrong.any():
        place = int(wrong.argmax())
        raise ValueError(
            f"{what}[{owner_of(place, counts)}] has the segment {spans[place].tolist()}; give the numbers of its first "
            "and last piece of 5 s, from 0, not seconds"
        )
    return _Segments(spans.astype(np.int64), counts)


def _ranks(ranked: _Segments, chosen: _Segments) -> np.ndarray:
    """The rank of each chosen segment, (M,), from 1."""
    keys, first = np.unique(ranked.keys(), return_index=True)
    wanted = chosen.keys()
    places = np.searchsorted(keys, wanted).clip(max=len(keys) - 1)
    absent = keys[places] != wanted
    if absent.any():
        place = int(absent.argmax())
        owner = int(chosen.owners()[place])
        raise ValueError(
            f"ranked_segments[{owner}] does not rank {chosen.segments[place].tolist()}, which people chose; rank all "
            f"segments of the video, {len(SEGMENTS)} of six pieces"
        )
    return first[places] - ranked.starts()[chosen.owners()] + 1


def _padded(values: np.ndarray, chosen: _Segments) -> np.ndarray:
    """Values of the chosen segments (M,) as (N, P), P at least 3, infinity for padding."""
    there = np.arange(max(int(chosen.counts.max()), AGREEING)) < chosen.counts[:, None]
    padded = np.full(there.shape, np.inf)
    padded[there] = values
    return padded
