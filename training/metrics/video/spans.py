"""Spans of time as one checked array, and how much spans overlap; float64, start and end.

    lists of spans --joined_spans--> spans of all items (N, 2), number of each item's (P,)
    spans, others --temporal_iou | hull_iou--> overlaps

N spans, P items (queries). A span is [start, end] in seconds from the clip's beginning, or in any other unit that both
sides share.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from training.metrics.box_arrays import share_of

SHARE, SECONDS = 1.0, 2.0  # spans that end by SHARE are parts of the clip where others go beyond SECONDS


def joined_spans(
    items: Sequence[Any], what: str, *, columns: int = 2, names: Sequence[str] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The spans of all items in one array.

    Args:
        items: for each item its spans, (n, columns) numbers of which the first two are start and end; an item may have
            none.
        what: what the spans are, for errors.
        columns: 3 for spans with a score.
        names: of the items, for errors; by default their numbers.

    Returns:
        Spans (N, columns) float64, item after item, and the number of each item's spans (P,).

    Raises:
        ValueError: for spans of another form, numbers that are not finite, and a span that starts after it ends.

    >>> joined_spans([[[0, 2.5], [1, 3]], []], "windows")[1]
    array([2, 0])
    """
    parts = [_numbers(spans, item_name(what, number, names), columns) for number, spans in enumerate(items)]
    counts = np.array([len(part) for part in parts], dtype=np.int64)
    spans = np.concatenate([np.zeros((0, columns)), *parts])
    for wrong, fault in (
        (~np.isfinite(spans).all(axis=1), "holds no finite number; was the model trained with such numbers?"),
        (spans[:, 0] > spans[:, 1], "starts after it ends; give start and end in this order"),
    ):
        if wrong.any():
            place = int(wrong.argmax())
            item = item_name(what, owner_of(place, counts), names)
            raise ValueError(f"{item} has the span {spans[place].tolist()}, which {fault}")
    return spans, counts


def item_name(what: str, number: int, names: Sequence[str] | None) -> str:
    """An item as errors call it.

    >>> item_name("windows", 3, None), item_name("windows", 0, ["q7"])
    ('windows[3]', 'windows of q7')
    """
    return f"{what}[{number}]" if names is None else f"{what} of {names[number]}"


def owner_of(place: int, counts: np.ndarray) -> int:
    """The item that the span number `place` of all belongs to."""
    return int(np.searchsorted(counts.cumsum(), place, side="right"))


def check_inside(
    spans: np.ndarray,
    counts: np.ndarray,
    durations: np.ndarray,
    *,
    what: str,
    names: Sequence[str] | None = None,
    slack_seconds: float = 0.0,
) -> None:
    """ValueError for a span that reaches out of its clip by more than `slack_seconds`.

    Args:
        spans: (N, 2 or more), item after item, as `joined_spans` gives them.
        counts: (P,) the number of each item's.
        durations: (P,) seconds of each item's clip.
        what, names: as for `joined_spans`.
    """
    ends = np.repeat(durations, counts)
    wrong = (spans[:, 0] < -slack_seconds) | (spans[:, 1] > ends + slack_seconds)
    if wrong.any():
        place = int(wrong.argmax())
        start, end = spans[place, :2]
        raise ValueError(
            f"{item_name(what, owner_of(place, counts), names)} has the span {start:g} to {end:g}, outside of its clip "
            f"of {ends[place]:g} seconds; are spans and durations both in seconds, and of the same clips?"
        )


def check_seconds(predicted: np.ndarray, true: np.ndarray) -> None:
    """ValueError where one of two sets of spans (N, 2) and (M, 2) is in 0..1 of the clip and the other in seconds."""
    if not len(predicted) or not len(true):
        return
    last = predicted[:, 1].max(), true[:, 1].max()
    if min(last) <= SHARE and max(last) > SECONDS:
        raise ValueError(
            f"predicted spans end at {last[0]:g} at the latest, but true ones at {last[1]:g}; give both in seconds"
        )


def temporal_iou(spans: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of spans (..., 2) and (..., 2), which broadcast; 0 where both are without length.

    >>> temporal_iou(np.array([0.0, 10]), np.array([[5, 15], [20, 30]])).round(4).tolist()
    [0.3333, 0.0]
    """
    sides = np.minimum(spans[..., 1], others[..., 1]) - np.maximum(spans[..., 0], others[..., 0])
    shared = sides.clip(min=0)
    lengths = (spans[..., 1] - spans[..., 0]) + (others[..., 1] - others[..., 0])
    return share_of(shared, lengths - shared)


def hull_iou(spans: np.ndarray, others: np.ndarray) -> np.ndarray:
    """TALL's `calculate_IoU`: the signed intersection over the hull, below 0 for spans apart (the gap between them).

    Equal to `temporal_iou` for spans that meet.

    >>> hull_iou(np.array([0.0, 10]), np.array([[5, 15], [20, 30]])).round(4).tolist()
    [0.3333, -0.3333]
    """
    shared = np.minimum(spans[..., 1], others[..., 1]) - np.maximum(spans[..., 0], others[..., 0])
    return share_of(shared, np.maximum(spans[..., 1], others[..., 1]) - np.minimum(spans[..., 0], others[..., 0]))


def _numbers(spans: Any, what: str, columns: int) -> np.ndarray:
    try:
        array = np.asarray(spans, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{what} holds no spans of {columns} numbers ({error}); give a list of them") from error
    array = array.reshape(0, columns) if array.size == 0 and array.ndim else array
    if array.ndim != 2 or array.shape[1] != columns:
        raise ValueError(f"{what} has spans of shape {array.shape}; give a list of spans, {columns} numbers each")
    return array
