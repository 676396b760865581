"""The loss of answers that are read, and what they are learnt from, as pure functions (Hu et al. 2020, section 3.4).

Shapes: N answers, S steps, V entries of the vocabulary, W OCR words. The numbers of an answer are those of its entries
of the vocabulary, and V + w for a copy of OCR word w.
"""

import torch
from torch.nn import functional as F

from .losses_updown import IGNORED_LABEL, at_least_float32


def reading_loss(logits: torch.Tensor, targets: torch.Tensor, step_mask: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy of every entry and OCR word, summed over them and over the steps of `step_mask`, divided by
    the number of these steps in the batch, at least 1.

    logits, targets (N, S, V + W), targets in 0..1, step_mask (N, S), True = learnt. Each entry is right or wrong by
    itself, so several may be right at a step. In float32, or float64 for float64 logits.

    >>> logits, targets = torch.zeros(1, 2, 3), torch.tensor([[[1.0, 0, 0], [0, 0, 0]]])
    >>> round(reading_loss(logits, targets, torch.tensor([[True, False]])).item(), 4)  # 3 log 2
    2.0794
    """
    scores = at_least_float32(logits)
    each = F.binary_cross_entropy_with_logits(scores, targets.to(scores.dtype), reduction="none").sum(dim=-1)
    mask = step_mask.to(each.dtype)
    return (each * mask).sum() / mask.sum().clamp(min=1)


def targets_of(labels: torch.Tensor, *, size: int) -> torch.Tensor:
    """Labels (N, S), the numbers of each answer, -100 where nothing is learnt, as 0 and 1 (N, S, size), float32.

    >>> targets_of(torch.tensor([[2, -100]]), size=3).tolist()
    [[[0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]]
    """
    learnt = labels != IGNORED_LABEL
    return F.one_hot(labels.masked_fill(~learnt, 0), size).float() * learnt[..., None]


def steps_before(labels: torch.Tensor, *, start: int) -> torch.Tensor:
    """What was predicted before each step of labels (N, S): `start`, then the labels one step later, 0 for -100.

    >>> steps_before(torch.tensor([[7, 2, -100, -100]]), start=1).tolist()
    [[1, 7, 2, 0]]
    """
    earlier = labels[:, :-1].masked_fill(labels[:, :-1] == IGNORED_LABEL, 0)
    return F.pad(earlier, (1, 0), value=start)
