"""Spans of time: their forms, how they overlap, which of many are kept, and how they are ranked.

A span is (start, end) or (centre, width), of numbers in one unit: seconds, or shares of a clip in 0..1. Equal to
`span_utils.py` of jayleicn/moment_detr but for two empty spans at one place, whose overlaps are 0 here and NaN there.
"""

import torch

from .losses_updown import at_least_float32


def start_end(spans: torch.Tensor) -> torch.Tensor:
    """(centre, width) (..., 2) -> (start, end).

    >>> start_end(torch.tensor([[0.5, 0.5]])).tolist()
    [[0.25, 0.75]]
    """
    centre, width = spans.unbind(-1)
    return torch.stack([centre - width / 2, centre + width / 2], dim=-1)


def centre_width(spans: torch.Tensor) -> torch.Tensor:
    """(start, end) (..., 2) -> (centre, width).

    >>> centre_width(torch.tensor([[0.25, 0.75]])).tolist()
    [[0.5, 0.5]]
    """
    start, end = spans.unbind(-1)
    return torch.stack([(start + end) / 2, end - start], dim=-1)


def span_overlap(spans: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """How long each span (..., K, 2) overlaps each other one (..., M, 2), starts and ends: (..., K, M), 0 for none.

    >>> span_overlap(torch.tensor([[0.0, 4.0]]), torch.tensor([[2.0, 6.0], [5.0, 6.0]])).tolist()
    [[2.0, 0.0]]
    """
    start = torch.maximum(spans[..., :, None, 0], others[..., None, :, 0])
    end = torch.minimum(spans[..., :, None, 1], others[..., None, :, 1])
    return (end - start).clamp(min=0)


def span_iou(spans: torch.Tensor, others: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """IoU and union of each span (..., K, 2) with each other one (..., M, 2), both (..., K, M).

    >>> [numbers.tolist() for numbers in span_iou(torch.tensor([[0.0, 4.0]]), torch.tensor([[2.0, 6.0]]))]
    [[[0.3333333432674408]], [[6.0]]]
    """
    overlap = span_overlap(spans, others)
    lengths, other_lengths = spans[..., 1] - spans[..., 0], others[..., 1] - others[..., 0]
    union = lengths[..., :, None] + other_lengths[..., None, :] - overlap
    return overlap / union.clamp(min=torch.finfo(union.dtype).tiny), union


def generalized_span_iou(spans: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Generalised IoU (Rezatofighi et al. 2019) of each span with each other one, (..., K, M) in -1..1.

    IoU less the share of the hull of both that neither covers.

    >>> generalized_span_iou(torch.tensor([[0.0, 1.0]]), torch.tensor([[3.0, 4.0]])).tolist()
    [[-0.5]]
    """
    iou, union = span_iou(spans, others)
    start = torch.minimum(spans[..., :, None, 0], others[..., None, :, 0])
    end = torch.maximum(spans[..., :, None, 1], others[..., None, :, 1])
    hull = (end - start).clamp(min=0)
    return iou - (hull - union) / hull.clamp(min=torch.finfo(hull.dtype).tiny)


def kept_spans(spans: torch.Tensor, *, max_iou: float) -> torch.Tensor:
    """Non-maximum suppression of spans (K, 2), the best first: which are kept, rising places (n,) int64.

    A span that overlaps a better kept one by an IoU above `max_iou` is left out.

    >>> kept_spans(torch.tensor([[0.0, 9.0], [1.0, 9.0], [8.0, 20.0]]), max_iou=0.5).tolist()
    [0, 2]
    """
    overlaps = (span_iou(spans, spans)[0] > max_iou).cpu()
    alive = torch.ones(len(spans), dtype=torch.bool)
    for place in range(len(spans)):
        if alive[place]:
            alive[place + 1 :] &= ~overlaps[place, place + 1 :]
    return alive.nonzero().flatten().to(spans.device)


def rounded_spans(spans: torch.Tensor, durations: torch.Tensor, *, seconds: float) -> torch.Tensor:
    """Spans in seconds (..., 2), each end at the nearest multiple of `seconds`, halves at the even one, in its clip.

    durations (...): of the clips. QVHighlights' windows are multiples of 2 s.

    >>> rounded_spans(torch.tensor([[1.1, 4.9]]), torch.tensor([10.0]), seconds=2).tolist()
    [[2.0, 4.0]]
    """
    return torch.minimum((spans / seconds).round() * seconds, durations[..., None])


def ranked_spans(
    spans: torch.Tensor, scores: torch.Tensor, *, max_iou: float | None = None, most: int | None = None
) -> torch.Tensor:
    """The spans (K, 2) of one sentence with their scores (K,) as rows [start, end, score], the best first, (n, 3).

    Of equal scores the first stands first. max_iou: of `kept_spans`, None keeps all; most: how many at most.

    >>> spans = torch.tensor([[0.0, 2.0], [4.0, 8.0]])
    >>> ranked_spans(spans, torch.tensor([0.25, 0.5])).tolist()
    [[4.0, 8.0, 0.5], [0.0, 2.0, 0.25]]
    """
    order = scores.argsort(descending=True, stable=True)
    spans, scores = at_least_float32(spans)[order], at_least_float32(scores)[order]
    if max_iou is not None:
        kept = kept_spans(spans, max_iou=max_iou)
        spans, scores = spans[kept], scores[kept]
    return torch.cat([spans, scores[:, None]], dim=-1)[:most]
