"""Losses of grounding as pure functions: which regions a phrase speaks of, and where its box lies.

    o_kr = the largest IoU of region r and the true boxes of phrase k; a region is the phrase's from an IoU of t on
    best region    -log softmax(s_k)_best                            one region a phrase (UNITER, Chen et al. 2020)
    overlap        KL(q_k || softmax(s_k)), q_kr ~ o_kr, 0 below t   all its regions (after VisualBERT, Li et al. 2019)
    each region    binary cross-entropy of o_kr >= t                 each region by itself (VL-BERT, Su et al. 2020)
    box            smooth L1 of the regression to the true box       the detector's (Girshick 2015)

Shapes: N texts, K phrases each, R regions, M true boxes a phrase; boxes are xyxy in 0..1, -1 in place of true boxes
that are not there. Each loss is a mean over the phrases that have a true box, or over all phrases for `each region`; a
phrase that no region overlaps by t adds 0 to the others. Padding is removed before any arithmetic, so it may hold NaN.
They compute in float32, or float64 for float64 inputs.
"""

from collections.abc import Sequence

import torch
from torch.nn import functional as F

from .boxes_updown import encode_boxes, pairwise_iou
from .losses_updown import at_least_float32


@torch.no_grad()
def phrase_overlaps(
    region_boxes: torch.Tensor, true_boxes: torch.Tensor, region_mask: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The largest IoU of each region with the true boxes of each phrase, and which of these it is, both (N, K, R).

    region_boxes (N, R, 4), true_boxes (N, K, M, 4), region_mask (N, R) bool; 0 for padding and for phrases without a
    true box.

    >>> regions = torch.tensor([[[0, 0, 1, 1], [0, 0, 0.5, 1]]])
    >>> true = torch.tensor([[[[0, 0, 0.5, 1], [0, 0, 1, 1]], [[0.5, 0, 1, 1], [-1, -1, -1, -1]]]])
    >>> [numbers.tolist() for numbers in phrase_overlaps(regions, true, torch.tensor([[True, True]]))]
    [[[[1.0, 1.0], [0.5, 0.0]]], [[[1, 0], [0, 0]]]]
    """
    boxes = at_least_float32(region_boxes).masked_fill(~region_mask[..., None], 0)
    overlaps = pairwise_iou(boxes[:, None], true_boxes.to(boxes.dtype))  # (N, K, R, M)
    there = has_box(true_boxes)[:, :, None]
    best, which = overlaps.masked_fill(~there, 0).max(dim=-1)
    return best.masked_fill(~region_mask[:, None], 0), which


def has_box(true_boxes: torch.Tensor) -> torch.Tensor:
    """True boxes (..., M, 4) -> (..., M) bool, False for the -1 in place of one that is not there."""
    return (true_boxes >= 0).all(dim=-1)


def best_region_loss(
    logits: torch.Tensor,
    overlaps: torch.Tensor,
    region_mask: torch.Tensor,
    *,
    learnt: torch.Tensor,
    lowest_iou: float = 0.5,
) -> torch.Tensor:
    """Cross-entropy of the region with the largest IoU, where that is at least `lowest_iou`.

    logits, overlaps (N, K, R), region_mask (N, R) bool, learnt (N, K) bool: the phrases that have a true box. Of equal
    regions the first counts. Returns a scalar.

    >>> overlaps, mask = torch.tensor([[[0.2, 0.8], [0.4, 0.3]]]), torch.tensor([[True, True]])
    >>> learnt = torch.tensor([[True, True]])
    >>> round(best_region_loss(torch.zeros(1, 2, 2), overlaps, mask, learnt=learnt).item(), 4)  # ln 2 / 2
    0.3466
    """
    log_probs, own = region_log_probs(logits, region_mask, learnt), overlaps[learnt]  # (L, R)
    highest, best = own.max(dim=-1)
    losses = -log_probs.gather(-1, best[:, None]).squeeze(-1)
    return mean_of_phrases(losses, highest >= lowest_iou)


def overlap_loss(
    logits: torch.Tensor,
    overlaps: torch.Tensor,
    region_mask: torch.Tensor,
    *,
    learnt: torch.Tensor,
    lowest_iou: float = 0.5,
) -> torch.Tensor:
    """Divergence of the scores' softmax from the IoUs of `lowest_iou` and over, scaled to sum to 1.

    Arguments as for `best_region_loss`. Returns a scalar.

    >>> overlaps, mask = torch.tensor([[[0.8, 0.8, 0.1, 0.0]]]), torch.ones(1, 4).bool()
    >>> learnt = torch.tensor([[True]])
    >>> round(overlap_loss(torch.zeros(1, 1, 4), overlaps, mask, learnt=learnt).item(), 4)  # ln 4 - ln 2
    0.6931
    """
    log_probs = region_log_probs(logits, region_mask, learnt)
    own = overlaps[learnt].to(log_probs.dtype)
    own = own.masked_fill(own < lowest_iou, 0)
    total = own.sum(dim=-1, keepdim=True)
    wanted = own / total.clamp(min=torch.finfo(own.dtype).tiny)  # (L, R)
    losses = torch.xlogy(wanted, wanted) - wanted * log_probs.masked_fill(wanted == 0, 0)  # 0 x -inf would be NaN
    return mean_of_phrases(losses.sum(dim=-1), total.squeeze(-1) > 0)


def each_region_loss(
    logits: torch.Tensor,
    overlaps: torch.Tensor,
    region_mask: torch.Tensor,
    *,
    learnt: torch.Tensor,
    lowest_iou: float = 0.5,
) -> torch.Tensor:
    """Binary cross-entropy of every region, a sum over regions: 1 where its IoU is at least `lowest_iou`.

    Arguments as for `best_region_loss`, but learnt (N, K): every phrase that is there; one without a true box teaches
    that no region is meant. Returns a scalar.

    >>> overlaps, mask = torch.tensor([[[0.8, 0.1]]]), torch.tensor([[True, True]])
    >>> round(each_region_loss(torch.zeros(1, 1, 2), overlaps, mask, learnt=torch.tensor([[True]])).item(), 4)  # 2 ln 2
    1.3863
    """
    places = learnt[..., None] & region_mask[:, None]  # (N, K, R)
    scores = at_least_float32(logits[places])
    wanted = (overlaps[places] >= lowest_iou).to(scores.dtype)
    total = F.binary_cross_entropy_with_logits(scores, wanted, reduction="sum")
    return total / learnt.sum().clamp(min=1)


def box_loss(
    deltas: torch.Tensor,
    region_boxes: torch.Tensor,
    true_boxes: torch.Tensor,
    region_mask: torch.Tensor,
    *,
    learnt: torch.Tensor,
    weights: Sequence[float],
    lowest_iou: float = 0.5,
) -> torch.Tensor:
    """Smooth L1 of the regression from each region of a phrase to its best true box: a sum over the four numbers, a
    mean over the phrase's regions, then over the phrases.

    Args:
        deltas: (N, K, R, 4), as `encode_boxes` with `weights` has them.
        region_boxes: (N, R, 4).
        true_boxes: (N, K, M, 4).
        region_mask: (N, R) bool.
        learnt: (N, K) bool, the phrases that have a true box.
        weights: by which shifts and growths are multiplied, such as [10, 10, 5, 5].
        lowest_iou: regions with a true box of less are not the phrase's.

    Returns a scalar, 0 where no region overlaps a true box.

    >>> same = torch.tensor([[[0.0, 0.0, 0.5, 0.5]]])
    >>> given = {"learnt": torch.tensor([[True]]), "weights": [10, 10, 5, 5]}
    >>> box_loss(torch.ones(1, 1, 1, 4), same, same[:, None], torch.tensor([[True]]), **given).item()  # 4 x 1/2
    2.0
    """
    overlaps, which = phrase_overlaps(region_boxes, true_boxes, region_mask)
    own = learnt[..., None] & region_mask[:, None] & (overlaps >= lowest_iou)  # (N, K, R)
    text, phrase, region = own.nonzero(as_tuple=True)  # (Q,)
    found = at_least_float32(deltas[text, phrase, region])
    boxes, wanted = region_boxes[text, region], true_boxes[text, phrase, which[text, phrase, region]]
    targets = encode_boxes(boxes.to(found.dtype), wanted.to(found.dtype), weights=weights)
    losses = F.smooth_l1_loss(found, targets, reduction="none").sum(dim=-1)  # (Q,)
    share = 1 / own.sum(dim=-1).clamp(min=1).to(losses.dtype)  # (N, K)
    return (losses * share[text, phrase]).sum() / learnt.sum().clamp(min=1)


def region_log_probs(logits: torch.Tensor, region_mask: torch.Tensor, learnt: torch.Tensor) -> torch.Tensor:
    """logits (N, K, R) of the L learnt phrases -> the log-probability of each region (L, R), -inf for padding."""
    rows = region_mask[:, None].expand(-1, learnt.shape[1], -1)[learnt]  # (L, R)
    return at_least_float32(logits[learnt]).masked_fill(~rows, float("-inf")).log_softmax(dim=-1)


def mean_of_phrases(losses: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
    """losses (L,) of phrases, 0 where counted (L,) is False -> their mean, 0 where there are none."""
    return losses.masked_fill(~counted, 0).sum() / max(len(losses), 1)
