"""Losses of moment retrieval as pure functions: which spans are meant, where they lie, how salient each step is.

    label      - w_c log p(c), a mean over queries: w = 1 for the matched ones, less for the background
    span       L1 of centre and width, and 1 - gIoU, or cross-entropy of the bins of start and end
    saliency   relu(margin + s_- - s_+) of a step that is meant and one that is not
    alignment  - mean of the matched queries' similarity with the words + log sum exp over all queries
    map        binary cross-entropy of IoU scaled to 0..1, a mean over segments (2D-TAN, Zhang et al. 2020, eq. 3)

The first four are Moment-DETR's (Lei et al. 2021, section 4.2), whose numbers these are. N sentences, Q queries, S
steps, T words, P pairs; matched queries are numbers of row and query, (K,) each. They compute in float32, or float64
for float64 inputs; where nothing is matched they are 0.
"""

import torch
from torch.nn import functional as F

from .losses_updown import at_least_float32
from .moment_matching_updown import cheapest_pairs
from .moment_spans_updown import generalized_span_iou, span_iou, start_end

FOREGROUND, BACKGROUND = 0, 1

Matched = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # row, query and true span of each pair, (K,) each


def span_costs(spans: torch.Tensor, wanted: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What it costs to take each predicted span for each true one, by L1 and by gIoU, both (N, Q, M).

    spans (N, Q, 2), wanted (N, M, 2): centres and widths.

    >>> [costs.tolist() for costs in span_costs(torch.tensor([[[0.5, 1.0]]]), torch.tensor([[[0.25, 0.5]]]))]
    [[[[0.75]]], [[[-0.5]]]]
    """
    distance = torch.cdist(spans, wanted.to(spans.dtype), p=1)
    return distance, -generalized_span_iou(start_end(spans), start_end(wanted.to(spans.dtype)))


def bin_costs(bins: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """What it costs to take each query for each true span, by the probability of its bins, (N, Q, M) in -2..0.

    bins (N, Q, 2, W): logits of start and end; wanted (N, M, 2) int64: the true bins.
    """
    chances = bins.softmax(dim=-1)
    index = wanted[:, None].expand(-1, bins.shape[1], -1, -1)  # (N, Q, M, 2)
    found = [chances[:, :, side].gather(-1, index[..., side]) for side in (0, 1)]
    return -(found[0] + found[1])


@torch.no_grad()
def match_queries(costs: torch.Tensor, there: torch.Tensor) -> Matched:
    """The cheapest pairs of each sentence's queries and true spans, one to one; spans beyond Q queries are left over.

    costs (N, Q, M); there (N, M) bool: the true spans that there are. Raises `ValueError` for costs that are not
    finite.

    >>> costs = torch.tensor([[[3.0, 0.0], [1.0, 0.0]]])
    >>> [side.tolist() for side in match_queries(costs, torch.tensor([[True, False]]))]
    [[0], [1], [0]]
    """
    rows, queries, spans = [], [], []
    for number, (own, real) in enumerate(zip(at_least_float32(costs).cpu(), there.cpu(), strict=True)):
        places = real.nonzero().flatten()
        found, columns = cheapest_pairs(own[:, places])
        rows.append(torch.full_like(found, number))
        queries.append(found)
        spans.append(places[columns])
    row, query, span = (torch.cat(parts).to(costs.device) for parts in (rows, queries, spans))
    return row, query, span


def label_loss(logits: torch.Tensor, matched: Matched, *, background_weight: float) -> torch.Tensor:
    """Cross-entropy of foreground (matched) and background, each query by its class's weight, a mean over N x Q.

    The mean divides by the queries, not by the sum of their weights. logits (N, Q, 2) -> a scalar.

    >>> pair = (torch.tensor([0]), torch.tensor([1]), torch.tensor([0]))
    >>> round(label_loss(torch.zeros(1, 2, 2), pair, background_weight=0.5).item(), 4)  # ln 2 x 1.5 / 2
    0.5199
    """
    row, query, _ = matched
    classes = torch.full(logits.shape[:2], BACKGROUND, dtype=torch.long, device=logits.device)
    classes[row, query] = FOREGROUND
    wide = at_least_float32(logits)
    weights = torch.where(classes == FOREGROUND, 1.0, background_weight).to(wide.dtype)
    losses = F.cross_entropy(wide.flatten(0, 1), classes.flatten(), reduction="none")
    return (losses * weights.flatten()).sum() / max(len(losses), 1)


def span_losses(spans: torch.Tensor, wanted: torch.Tensor, matched: Matched) -> dict[str, torch.Tensor]:
    """`span`, the L1 of centre and width, a mean over both and over pairs, and `giou`, 1 - gIoU, a mean over pairs.

    spans (N, Q, 2), wanted (N, M, 2): centres and widths.

    >>> pair = (torch.tensor([0]), torch.tensor([0]), torch.tensor([0]))
    >>> found = span_losses(torch.tensor([[[0.5, 1.0]]]), torch.tensor([[[0.25, 0.5]]]), pair)
    >>> {name: loss.item() for name, loss in found.items()}
    {'span': 0.375, 'giou': 0.5}
    """
    row, query, span = matched
    found = at_least_float32(spans[row, query])
    true = wanted[row, span].to(found.dtype)
    count = max(len(found), 1)
    overlap = generalized_span_iou(start_end(found)[:, None], start_end(true)[:, None]).flatten()  # (K,)
    return {"span": (found - true).abs().sum() / (2 * count), "giou": (1 - overlap).sum() / count}


def bin_loss(bins: torch.Tensor, wanted: torch.Tensor, matched: Matched) -> torch.Tensor:
    """Cross-entropy of the true bins of start and end, a mean over both and over pairs.

    bins (N, Q, 2, W): logits; wanted (N, M, 2) int64 -> a scalar.
    """
    row, query, span = matched
    found, true = at_least_float32(bins[row, query]), wanted[row, span]  # (K, 2, W), (K, 2)
    return F.cross_entropy(found.flatten(0, 1), true.flatten(), reduction="sum") / max(true.numel(), 1)


def saliency_loss(scores: torch.Tensor, pairs: torch.Tensor, *, margin: float) -> torch.Tensor:
    """Hinge of pairs of steps, the first of which is to score higher by the margin: twice its mean over all pairs.

    scores (N, S); pairs (N, P, 2) int64, -1 in place of pairs that are not there -> a scalar.

    >>> saliency_loss(torch.tensor([[0.0, 1.0]]), torch.tensor([[[0, 1], [1, 0]]]), margin=0.5).item()  # 2 x 1.5 / 2
    1.5
    """
    there = (pairs >= 0).all(dim=-1)
    wide = at_least_float32(scores)
    found = wide.gather(1, pairs.clamp(min=0).flatten(1)).view(pairs.shape)
    hinge = F.relu(margin + found[..., 1] - found[..., 0]).masked_fill(~there, 0)
    return 2 * hinge.sum() / there.sum().clamp(min=1)


def alignment_loss(
    queries: torch.Tensor,
    words: torch.Tensor,
    word_mask: torch.Tensor,
    matched: Matched,
    *,
    temperature: float,
    padding: bool = False,
) -> torch.Tensor:
    """Contrast of matched queries with the others by their similarity with all words of the sentence.

    queries (N, Q, E), words (N, T, E), both of length 1; word_mask (N, T) bool. padding: sum the similarities of
    padding words as well, as Moment-DETR's code does. A mean over the sentences that have a matched query -> a scalar.
    """
    row, query, _ = matched
    similar = torch.einsum("nqe,nte->nqt", at_least_float32(queries), at_least_float32(words))
    similar = similar if padding else similar.masked_fill(~word_mask[:, None], 0)
    logits = similar.sum(dim=-1) / temperature  # (N, Q)
    taken = torch.zeros_like(logits, dtype=torch.bool)
    taken[row, query] = True
    positive = logits.masked_fill(~taken, 0).sum(dim=1) / taken.sum(dim=1).clamp(min=1)
    losses = logits.logsumexp(dim=1) - positive
    learnt = taken.any(dim=1)
    return losses.masked_fill(~learnt, 0).sum() / learnt.sum().clamp(min=1)


def scaled_overlaps(
    segments: torch.Tensor, wanted: torch.Tensor, there: torch.Tensor, *, lowest: float, highest: float
) -> torch.Tensor:
    """The largest IoU of each segment with a true span, 0 up to `lowest`, 1 from `highest`, linear between: (N, K).

    segments (N, K, 2), wanted (N, M, 2): starts and ends; there (N, M) bool.

    >>> segments, wanted = torch.tensor([[[0.0, 4.0], [0.0, 3.0], [4.0, 8.0]]]), torch.tensor([[[0.0, 4.0]]])
    >>> scaled_overlaps(segments, wanted, torch.tensor([[True]]), lowest=0.5, highest=1.0).tolist()
    [[1.0, 0.5, 0.0]]
    """
    overlaps = span_iou(segments, wanted.to(segments.dtype))[0].masked_fill(~there[:, None], 0)
    best = overlaps.amax(dim=-1) if wanted.shape[1] else torch.zeros_like(segments[..., 0])
    return ((best - lowest) / (highest - lowest)).clamp(0, 1)


def map_loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy of the segments' scores (N, K) with `scaled_overlaps` (N, K), a mean over all.

    >>> round(map_loss(torch.zeros(1, 2), torch.tensor([[1.0, 0.5]])).item(), 4)  # ln 2
    0.6931
    """
    wide = at_least_float32(logits)
    return F.binary_cross_entropy_with_logits(wide, targets.to(wide.dtype))
