"""Losses as pure functions: what the models and the training loop minimise.

`caption_loss` is the paper's cross-entropy (section 3.2.3, equation 11); `self_critical_loss` its second stage
(equations 12-14, after Rennie et al. 2017); `answer_loss` that of question answering (after Teney et al. 2018).
"""

import torch
from torch.nn import functional as F

IGNORED_LABEL = -100  # transformers' mark for a position without a label


def smoothed_cross_entropy(
    log_probs: torch.Tensor, labels: torch.Tensor, *, label_smoothing: float = 0.0
) -> torch.Tensor:
    """-log p(label), or with smoothing s the divergence from (1 - s) on the label and s / (V - 1) on each other word.

    log_probs (N, V), labels (N,) -> (N,). The smoothed form holds the target's own (constant) entropy, as
    ruotianluo's LabelSmoothing does, so that it is 0 for a perfect model.
    """
    picked = log_probs.gather(-1, labels[:, None]).squeeze(-1)  # (N,)
    if not label_smoothing:
        return -picked
    words = log_probs.shape[-1]
    other = label_smoothing / (words - 1)
    kept = torch.tensor(1.0 - label_smoothing, dtype=log_probs.dtype)
    spread = torch.tensor(other, dtype=log_probs.dtype)
    entropy = torch.special.entr(kept) + (words - 1) * torch.special.entr(spread)
    cross = -(1.0 - label_smoothing - other) * picked - other * log_probs.sum(dim=-1)
    return cross - entropy.to(cross.device)


def caption_loss(
    log_probs: torch.Tensor,
    labels: torch.Tensor,
    *,
    label_smoothing: float = 0.0,
    num_items_in_batch: torch.Tensor | int | None = None,
) -> torch.Tensor:
    """Cross-entropy of the next word: the sum over words, divided by their number (or by `num_items_in_batch`).

    log_probs (N, V); labels (N,), -100 where no word is scored. Returns a scalar; 0 where none is.
    """
    scored = labels != IGNORED_LABEL
    losses = smoothed_cross_entropy(log_probs, labels.clamp(min=0), label_smoothing=label_smoothing)  # (N,)
    count = scored.sum().clamp(min=1) if num_items_in_batch is None else num_items_in_batch
    return losses.masked_fill(~scored, 0.0).sum() / count


def self_critical_loss(log_probs: torch.Tensor, rewards: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """-sum of reward x log p over the sampled words, divided by their number (Rennie et al. 2017; equation 14).

    log_probs (N, T): log-probability of each sampled word; rewards (N,) or (N, T): score minus its baseline; mask
    (N, T) bool: True for every word up to and with the end token. Returns a scalar.
    """
    if rewards.dim() == 1:
        rewards = rewards[:, None]
    mask = mask.to(log_probs.dtype)
    return -(rewards.to(log_probs.dtype) * log_probs * mask).sum() / mask.sum().clamp(min=1)


def answer_loss(
    logits: torch.Tensor, labels: torch.Tensor, *, num_items_in_batch: torch.Tensor | int | None = None
) -> torch.Tensor:
    """Binary cross-entropy of every answer: the sum over answers, a mean over questions (Teney et al. 2018, eq. 5).

    logits, labels (N, A), labels the soft scores in 0..1. Returns a scalar; the sum over questions is divided by
    `num_items_in_batch` where that is given.
    """
    total = F.binary_cross_entropy_with_logits(logits.float(), labels.float(), reduction="sum")
    return total / (len(logits) if num_items_in_batch is None else num_items_in_batch)
