"""Losses as pure functions: what the models and the training loop minimise.

`caption_loss` is the paper's cross-entropy (section 3.2.3, equation 11); `self_critical_loss` its second stage
(equations 12-14, after Rennie et al. 2017); `answer_loss` that of question answering (after Teney et al. 2018).
Pretraining has `mlm_loss` (masked words), `mrc_ce_loss`, `mrc_kl_loss` and `mrfr_loss` (masked regions),
`prefix_lm_loss`, and from contrastive_losses_updown.py `itc_loss`, `momentum_itc_loss` and `itm_loss` (photo and text).

Those of pretraining are plain means. What takes no part is left out before any arithmetic, so a padded region may hold
NaN, and where nothing takes part the loss is 0 with gradients of 0. They compute in float32, in float64 where given
that, whatever autocast says.
"""

import torch
from torch.nn import functional as F

from .contrastive_losses_updown import (
    at_least_float32,
    contrastive_loss,
    hard_negatives,
    itc_loss,
    itm_loss,
    momentum_itc_loss,
    random_negatives,
)

__all__ = [
    "IGNORED_LABEL",
    "answer_loss",
    "caption_loss",
    "contrastive_loss",
    "hard_negatives",
    "itc_loss",
    "itm_loss",
    "mlm_loss",
    "momentum_itc_loss",
    "mrc_ce_loss",
    "mrc_kl_loss",
    "mrfr_loss",
    "prefix_lm_loss",
    "random_negatives",
    "self_critical_loss",
    "smoothed_cross_entropy",
]

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


def mlm_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Masked language modelling: -log p(word), a mean over the masked word pieces (Devlin et al. 2019).

    logits (N, T, V); labels (N, T) int64, the true piece where it was masked and -100 elsewhere. Returns a scalar, 0
    where nothing is masked.

    >>> round(mlm_loss(torch.zeros(1, 2, 4), torch.tensor([[3, -100]])).item(), 4)  # ln 4
    1.3863
    """
    scored = labels != IGNORED_LABEL
    chosen = at_least_float32(logits[scored])  # (M, V): what is not scored is never widened to float32
    return F.cross_entropy(chosen, labels[scored], reduction="sum") / scored.sum().clamp(min=1)


def prefix_lm_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """-log p(w_t | photo, w_<t) by teacher forcing, a mean over the words of all captions (not over captions).

    logits (N, T, V), labels (N, T) int64 as transformers has them: the input ids, with -100 on the prefix and the
    padding; the shift happens here, the logits at t are scored on the label at t + 1. Returns a scalar.

    >>> labels = torch.tensor([[-100, -100, 2, 0]])  # two regions, two words
    >>> round(prefix_lm_loss(torch.zeros(1, 4, 4), labels).item(), 4)  # ln 4
    1.3863
    """
    return mlm_loss(logits[:, :-1], labels[:, 1:])


def mrc_ce_loss(
    logits: torch.Tensor,
    object_probs: torch.Tensor,
    mask: torch.Tensor,
    *,
    average_classes: bool = False,
    weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """Masked region classification: -log p of the class the detector finds most probable, background left out.

    Args:
        logits: (B, R, C), as many classes as `object_probs`, index 0 = background; or one fewer, without background.
        object_probs: (B, R, C) the detector's distribution, index 0 = background. A constant: it gets no gradient.
        mask: (B, R) bool, True = masked, and so asked for.
        average_classes: divide by the number of classes of `logits`.
        weights: (B, R), by which each region's loss is multiplied, such as the detector's confidence.

    Returns:
        A scalar: the sum over masked regions divided by their number, with `weights` too. LXMERT's figure is this with
        every region in `mask`, the confidences as `weights`, divided by 0.15.

    Raises:
        ValueError: the numbers of classes do not fit.

    >>> probs = torch.tensor([[[0.7, 0.2, 0.1]]])  # background, dog, cat: the class is dog
    >>> round(mrc_ce_loss(torch.zeros(1, 1, 3), probs, torch.tensor([[True]])).item(), 4)  # ln 3
    1.0986
    """
    logits, object_probs, has_background = _masked_objects(logits, object_probs, mask)
    labels = object_probs[:, 1:].argmax(dim=-1) + int(has_background)  # (M,)
    losses = F.cross_entropy(logits, labels, reduction="none")
    return _mean_of_regions(losses, mask, weights=weights) / (logits.shape[-1] if average_classes else 1)


def mrc_kl_loss(
    logits: torch.Tensor,
    object_probs: torch.Tensor,
    mask: torch.Tensor,
    *,
    average_classes: bool = False,
    weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """Masked region classification with soft labels: sum over classes of q log(q / p), q the detector's distribution.

    Arguments, returned scalar and errors are those of `mrc_ce_loss`; with `average_classes` it is UNITER's figure, 1 of
    C of the divergence. Where `logits` have no background, q is rescaled to sum to 1 without it.

    >>> probs = torch.tensor([[[0.0, 0.5, 0.5]]])
    >>> round(mrc_kl_loss(torch.zeros(1, 1, 3), probs, torch.tensor([[True]])).item(), 4)  # ln 3 - ln 2
    0.4055
    """
    logits, q, has_background = _masked_objects(logits, object_probs, mask)
    if not has_background:
        q = q[:, 1:] / q[:, 1:].sum(dim=-1, keepdim=True).clamp(min=torch.finfo(q.dtype).tiny)
    losses = (torch.xlogy(q, q) - q * logits.log_softmax(dim=-1)).sum(dim=-1)  # (M,)
    return _mean_of_regions(losses, mask, weights=weights) / (logits.shape[-1] if average_classes else 1)


def mrfr_loss(
    predicted: torch.Tensor, target: torch.Tensor, mask: torch.Tensor, *, average_width: bool = True
) -> torch.Tensor:
    """Masked region feature regression: the squared distance to the detector's own feature, a mean over masked regions.

    predicted, target (B, R, D), mask (B, R) bool with True = masked. The square is averaged over the width D as
    UNITER does, or summed over it with `average_width=False` (the formula). `target` is a constant.

    >>> mrfr_loss(torch.full((1, 1, 4), 3.0), torch.zeros(1, 1, 4), torch.tensor([[True]])).item()
    9.0
    """
    apart = at_least_float32(predicted[mask]) - at_least_float32(target[mask].detach())  # (M, D)
    losses = apart.square().sum(dim=-1)
    return _mean_of_regions(losses, mask) / (predicted.shape[-1] if average_width else 1)


def _masked_objects(
    logits: torch.Tensor, object_probs: torch.Tensor, mask: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, bool]:
    """The masked regions' logits and probabilities, both (M, classes), and whether logits count background."""
    classes, known = logits.shape[-1], object_probs.shape[-1]
    if known not in (classes, classes + 1):
        raise ValueError(
            f"logits have {classes} classes but object_probs {known}: give the model as many object classes as the "
            "detector knows, background included"
        )
    return at_least_float32(logits[mask]), at_least_float32(object_probs[mask].detach()), known == classes


def _mean_of_regions(losses: torch.Tensor, mask: torch.Tensor, *, weights: torch.Tensor | None = None) -> torch.Tensor:
    """losses (M,) of the masked regions -> their mean, 0 where M is 0."""
    if weights is not None:
        losses = losses * weights[mask].detach()
    return losses.sum() / max(len(losses), 1)
