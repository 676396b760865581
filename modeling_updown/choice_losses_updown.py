"""Losses of multiple choice: pure functions of scores (N, C) of C candidates for each of N items.

labels are numbers (N,), the right candidate of each item, -100 where it is hidden, or shares (N, C) in 0..1, how right
people found each one (dense annotation), an item without any being left out. mask (N, C), True = a candidate.
"""

import torch
from torch.nn import functional as F

from .losses_updown import IGNORED_LABEL


def best_choice_loss(logits: torch.Tensor, labels: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """-log p(right candidate), p being a softmax over an item's candidates; a mean over the items that have labels.

    Shares are scaled to sum to 1. Returns a scalar, 0 where no item has a label.

    >>> scores, all_there = torch.zeros(2, 4), torch.ones(2, 4, dtype=torch.bool)
    >>> round(best_choice_loss(scores, torch.tensor([3, -100]), all_there).item(), 4)  # ln 4
    1.3863
    """
    targets, learnt = choice_targets(labels, mask)
    log_probs = logits.float().masked_fill(~mask, float("-inf")).log_softmax(dim=-1)
    each = -(targets * log_probs.masked_fill(targets == 0, 0)).sum(dim=-1) / targets.sum(dim=-1).clamp(min=1e-6)
    return each.masked_fill(~learnt, 0).sum() / learnt.sum().clamp(min=1)


def each_choice_loss(scores: torch.Tensor, labels: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of "wrong" and "right" for every candidate by itself, a mean over those of items with labels.

    scores (N, C, 2): of being wrong and of being right (UNITER's VCR). Returns a scalar, 0 where no item has a label.

    >>> round(each_choice_loss(torch.zeros(1, 3, 2), torch.tensor([0]), torch.ones(1, 3).bool()).item(), 4)  # ln 2
    0.6931
    """
    targets, learnt = choice_targets(labels, mask)
    log_probs = scores.float().log_softmax(dim=-1)
    each = -(targets * log_probs[..., 1] + (1 - targets) * log_probs[..., 0])
    counted = mask & learnt[:, None]
    return each.masked_fill(~counted, 0).sum() / counted.sum().clamp(min=1)


def choice_targets(labels: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Labels as above -> how right each candidate is (N, C) float32, and which items are learnt (N,) bool.

    Labels that name no candidate must have been refused before (`check_labels`).
    """
    if labels.dim() == 2:
        shares = labels.float().masked_fill(~mask, 0)
        return shares, (shares > 0).any(dim=-1)
    learnt = labels != IGNORED_LABEL
    chosen = labels.masked_fill(~learnt, 0)
    targets = F.one_hot(chosen, mask.shape[1]).float() * learnt[:, None]
    return targets, learnt


def check_labels(labels: torch.Tensor, mask: torch.Tensor) -> None:
    """`ValueError` for labels of another shape, that name no candidate of their item, or shares that are not in 0..1.

    mask (N, C): the candidates that are there.
    """
    items, candidates = mask.shape
    if labels.dim() == 2 and labels.shape == mask.shape and labels.is_floating_point():
        if bool(((labels < 0) | (labels > 1)).any()):
            raise ValueError("labels as shares must be in 0..1: how right people found each candidate")
        return
    if labels.shape != (items,) or labels.is_floating_point():
        raise ValueError(
            f"labels have shape {tuple(labels.shape)}, but must be ({items},), the number of the right candidate of "
            f"each item (-100: hidden), or ({items}, {candidates}) of floats in 0..1, how right each one is"
        )
    learnt = labels != IGNORED_LABEL
    named = (labels >= 0) & (labels < candidates)
    there = mask.gather(1, labels.clamp(0, candidates - 1)[:, None].to(mask.device)).squeeze(1)
    wrong = learnt & ~(named & there)
    if bool(wrong.any()):
        item = int(wrong.nonzero()[0])
        raise ValueError(
            f"the label of item {item} is {int(labels[item])}, but it has {int(mask[item].sum())} candidates: give a "
            "number from 0, or -100 where it is hidden"
        )
