"""Losses as pure functions: what the models and the training loop minimise.

`caption_loss` is the paper's cross-entropy (section 3.2.3, equation 11); `self_critical_loss` its second stage
(equations 12-14, after Rennie et al. 2017); `answer_loss` that of question answering (after Teney et al. 2018).
Pretraining has `mlm_loss` (masked words), `mrc_ce_loss`, `mrc_kl_loss` and `mrfr_loss` (masked regions),
`prefix_lm_loss`, `qa_loss` (questions), and of image and text `itc_loss` (Radford et al. 2021), `momentum_itc_loss`
and `itm_loss` (ALBEF, Li et al. 2021).

Those of pretraining are plain means. Positions without a label are removed before any arithmetic, so a padded region
may hold NaN, and without any label the loss is 0 with gradients of 0. They compute in float32, or float64 for float64
inputs, also under autocast.

`gather_rows` gathers the embeddings of all processes before `itc_loss`.
"""

from typing import Any

import torch
from torch import distributed
from torch.nn import functional as F

IGNORED_LABEL = -100  # transformers' label of positions that the loss ignores


def smoothed_cross_entropy(
    log_probs: torch.Tensor, labels: torch.Tensor, *, label_smoothing: float = 0.0
) -> torch.Tensor:
    """-log p(label), or with smoothing s the divergence from (1 - s) on the label and s / (V - 1) on each other word.

    log_probs (N, V), labels (N,) -> (N,). The smoothed form includes the (constant) entropy of the target, as in
    ruotianluo's LabelSmoothing, so that it is 0 for a perfect model.
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

    log_probs (N, V); labels (N,), -100 for ignored positions. Returns a scalar; 0 if all are ignored.
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


def class_loss(
    logits: torch.Tensor,
    labels: torch.Tensor,
    *,
    problem_type: str,
    num_items_in_batch: torch.Tensor | int | None = None,
) -> torch.Tensor:
    """The loss of rows that each have one class, a soft score of every class, or a number; a mean over rows.

    Args:
        logits: (N, C).
        labels: (N,) int64, -100 where a row has none, or (N, C), the scores in 0..1; of a regression (N,) or (N, C).
        problem_type: transformers' word: `single_label_classification`, cross-entropy; `multi_label_classification`,
            `answer_loss` (UNITER's of visual entailment); `regression`, the squared error, a mean over C.
        num_items_in_batch: what the sum over rows is divided by, where it is given.

    >>> loss = class_loss(torch.zeros(2, 3), torch.tensor([1, -100]), problem_type="single_label_classification")
    >>> round(loss.item(), 4)  # ln 3
    1.0986
    """
    if problem_type == "multi_label_classification":
        return answer_loss(logits, labels, num_items_in_batch=num_items_in_batch)
    if problem_type == "regression":
        total = F.mse_loss(logits.float(), labels.float().view_as(logits), reduction="sum") / logits.shape[1]
        rows: Any = len(logits)
    else:
        total = F.cross_entropy(logits.float(), labels, reduction="sum", ignore_index=IGNORED_LABEL)
        rows = (labels != IGNORED_LABEL).sum().clamp(min=1)
    return total / (rows if num_items_in_batch is None else num_items_in_batch)


def mlm_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Masked language modelling: -log p(word), a mean over the masked word pieces (Devlin et al. 2019).

    logits (N, T, V); labels (N, T) int64, the true piece where it was masked and -100 elsewhere. Returns a scalar, 0
    where nothing is masked.

    >>> round(mlm_loss(torch.zeros(1, 2, 4), torch.tensor([[3, -100]])).item(), 4)  # ln 4
    1.3863
    """
    scored = labels != IGNORED_LABEL
    chosen = at_least_float32(logits[scored])  # (M, V): ignored positions are not converted to float32
    return F.cross_entropy(chosen, labels[scored], reduction="sum") / scored.sum().clamp(min=1)


def prefix_lm_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """-log p(w_t | image, w_<t) by teacher forcing, a mean over the words of all captions (not over captions).

    logits (N, T, V), labels (N, T) int64 as in transformers: the input ids, with -100 on the prefix and the padding.
    The shift is done here: the logits at t predict the label at t + 1. Returns a scalar.

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

    Of attributes it is LXMERT's third objective of masked regions (`mra_ce`): `attribute_probs`, index 0 = none.

    Args:
        logits: (B, R, C), as many classes as `object_probs`, index 0 = background; or one fewer, without background.
        object_probs: (B, R, C) the detector's distribution, index 0 = background. A constant: it gets no gradient.
        mask: (B, R) bool, True = masked, and so predicted.
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

    Arguments, returned scalar and errors are those of `mrc_ce_loss`, for attributes (`mra_kl`) too; with
    `average_classes` it is UNITER's figure, 1 of C of the divergence.
    Where `logits` have no background, q is rescaled to sum to 1 without it.

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


def qa_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Question answering in pretraining: cross-entropy of the answers, a mean over questions with a known answer.

        -sum_a q_a log softmax(logits)_a        q_a = labels_a / sum_b labels_b

    LXMERT (Tan and Bansal 2019, section 3.1.3) draws one answer of each question by its score and learns that; this is
    the expectation of its loss. Answers compete here; those of `answer_loss` do not.

    Args:
        logits: (M, A) a score of every answer.
        labels: (M, A) soft scores, 0 or more; a row of zeros where no answer is known. Constants: they get no gradient.

    Returns:
        A scalar, 0 where no question has a known answer.

    >>> labels = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.6, 0.6, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    >>> round(qa_loss(torch.zeros(3, 4), labels).item(), 4)  # ln 4
    1.3863
    """
    known = labels.sum(dim=-1) > 0
    scores = at_least_float32(labels[known].detach())
    shares = scores / scores.sum(dim=-1, keepdim=True)  # (K, A)
    return -(shares * at_least_float32(logits[known]).log_softmax(dim=-1)).sum() / known.sum().clamp(min=1)


# -- image against text: P images and N texts of a batch, over all processes; text n belongs to image `owners[n]`.
# Embeddings come at length 1: nothing is normalised here.


def contrastive_loss(
    logits: torch.Tensor, positives: torch.Tensor, *, soft_targets: torch.Tensor | None = None
) -> torch.Tensor:
    """Cross-entropy of queries over keys, a mean over the queries that have a positive key (InfoNCE, Oord et al. 2018).

    logits (Q, K), -inf for an ignored key; positives (Q, K) bool. The targets are uniform over a query's positives, or
    are `soft_targets` (Q, K). Returns a scalar, 0 if no query has a positive.

    >>> positives = torch.tensor([[True, True, False], [False, False, False]])
    >>> round(contrastive_loss(torch.zeros(2, 3), positives).item(), 4)  # ln 3, of the first query alone
    1.0986
    """
    logits, has_positive = at_least_float32(logits), positives.any(dim=1)  # (Q, K), (Q,)
    targets = _even_targets(positives, dtype=logits.dtype) if soft_targets is None else soft_targets
    log_probs = logits.masked_fill(~has_positive[:, None], 0.0).log_softmax(dim=1)  # (Q, K)
    losses = -(targets * log_probs.masked_fill(targets == 0, 0.0)).sum(dim=1)  # 0 x -inf would be NaN
    return losses.masked_fill(~has_positive, 0.0).sum() / has_positive.sum().clamp(min=1)


def itc_loss(
    image_embeds: torch.Tensor,
    text_embeds: torch.Tensor,
    *,
    temperature: torch.Tensor | float,
    owners: torch.Tensor | None = None,
) -> torch.Tensor:
    """Symmetric InfoNCE of images and texts: the mean of image to text and text to image.

    Args:
        image_embeds: (P, E), each of length 1 (they are not normalised here).
        text_embeds: (N, E), each of length 1.
        temperature: the divisor of similarities; learned and clamped to 0.001 .. 0.5 by the model.
        owners: (N,) int64, the image of each text. All texts of an image are its positives, with uniform targets; a
            text has one positive image. An image without a text, or a text whose owner is not a row of `image_embeds`,
            is only a negative of the others. Without `owners` text n belongs to image n.

    Returns:
        A scalar, float64 for float64 embeddings, else float32.

    Raises:
        ValueError: without `owners`, if the numbers of texts and images differ.

    >>> embeds = torch.eye(2)
    >>> round(itc_loss(embeds, embeds, temperature=1.0).item(), 4)  # ln(1 + 1/e)
    0.3133
    """
    images = torch.arange(len(image_embeds), device=image_embeds.device)
    if owners is None and len(text_embeds) != len(images):
        raise ValueError(f"{len(images)} images but {len(text_embeds)} texts: name the image of each text in owners")
    positives = images[:, None] == (images if owners is None else owners)[None, :]  # (P, N)
    logits = _similarity(image_embeds, text_embeds) / temperature  # (P, N)
    return 0.5 * (contrastive_loss(logits, positives) + contrastive_loss(logits.T, positives.T))


def momentum_itc_loss(
    image_embeds: torch.Tensor,
    text_embeds: torch.Tensor,
    *,
    image_keys: torch.Tensor,
    text_keys: torch.Tensor,
    image_ids: torch.Tensor,
    text_ids: torch.Tensor,
    image_key_ids: torch.Tensor,
    text_key_ids: torch.Tensor,
    temperature: torch.Tensor | float,
    momentum_image_embeds: torch.Tensor | None = None,
    momentum_text_embeds: torch.Tensor | None = None,
    alpha: float = 0.0,
) -> torch.Tensor:
    """ITC against keys of a momentum copy of the model and a queue of earlier ones (ALBEF, equations 1 and 5-6).

    Args:
        image_embeds, text_embeds: (P, E) and (N, E), each of length 1: the queries, which alone get gradients.
        image_keys, text_keys: (K, E) and (M, E) of length 1: the copy's embeddings of the batch, then the queue,
            without its empty places.
        image_ids, text_ids, image_key_ids, text_key_ids: (P,), (N,), (K,), (M,) int64: the id of each one's image.
            Equal ids are positives; a query without positives is ignored.
        temperature: as in `itc_loss`.
        momentum_image_embeds, momentum_text_embeds: (P, E) and (N, E): the copy's embeddings of the queries.
        alpha: 0..1, the share of the copy's softmax in the targets; the rest is uniform over the positives.

    Returns:
        A scalar: the mean of image to text and text to image.

    Raises:
        ValueError: for an alpha above 0 without the copy's embeddings.
    """
    sides = (
        (image_embeds, momentum_image_embeds, text_keys, image_ids[:, None] == text_key_ids[None, :]),
        (text_embeds, momentum_text_embeds, image_keys, text_ids[:, None] == image_key_ids[None, :]),
    )
    losses = []
    for queries, teacher, keys, positives in sides:
        logits = _similarity(queries, keys.detach()) / temperature
        targets = _even_targets(positives, dtype=logits.dtype)
        if alpha:
            if teacher is None:
                raise ValueError("alpha is above 0: give momentum_image_embeds and momentum_text_embeds, or alpha=0")
            with torch.no_grad():
                softened = (_similarity(teacher, keys) / temperature).softmax(dim=1)
            targets = alpha * softened + (1 - alpha) * targets
        losses.append(contrastive_loss(logits, positives, soft_targets=targets))
    return 0.5 * (losses[0] + losses[1])


def itm_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Image-text matching: binary cross-entropy, a mean over pairs; 0 without pairs.

    logits (B,) of a match, or (B, 2) for the 2-way softmax with column 1 = match; labels (B,) bool or 0 and 1.

    Raises:
        ValueError: for logits of another shape.

    >>> round(itm_loss(torch.zeros(3), torch.tensor([1, 0, 0])).item(), 4)  # ln 2
    0.6931
    """
    if logits.shape not in (labels.shape, (*labels.shape, 2)):
        raise ValueError(
            f"logits have shape {tuple(logits.shape)} and labels {tuple(labels.shape)}: "
            "give one log-odds, or two scores, for each label"
        )
    logits = at_least_float32(logits)
    if logits.dim() == labels.dim():
        total = F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype), reduction="sum")
    else:
        total = F.cross_entropy(logits, labels.long(), reduction="sum")
    return total / max(len(labels), 1)


def _masked_objects(
    logits: torch.Tensor, object_probs: torch.Tensor, mask: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, bool]:
    """The masked regions' logits and probabilities, both (M, classes), and whether logits count background."""
    classes, known = logits.shape[-1], object_probs.shape[-1]
    if known not in (classes, classes + 1):
        raise ValueError(
            f"logits have {classes} classes but the detector's probabilities {known}: give the model as many as the "
            "detector knows, background (or no attribute) included"
        )
    return at_least_float32(logits[mask]), at_least_float32(object_probs[mask].detach()), known == classes


def _mean_of_regions(losses: torch.Tensor, mask: torch.Tensor, *, weights: torch.Tensor | None = None) -> torch.Tensor:
    """losses (M,) of the masked regions -> their mean, 0 if M is 0."""
    if weights is not None:
        losses = losses * weights[mask].detach()
    return losses.sum() / max(len(losses), 1)


def _similarity(queries: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    """(Q, E), (K, E) -> (Q, K), not in half precision, whose rounding error divided by 0.001 would be whole units."""
    with torch.autocast(queries.device.type, enabled=False):
        return at_least_float32(queries) @ at_least_float32(keys).T


def _even_targets(positives: torch.Tensor, *, dtype: torch.dtype) -> torch.Tensor:
    """(Q, K) bool -> uniform targets over the positives of each row, 0 without positives."""
    return positives.to(dtype) / positives.sum(dim=1, keepdim=True).clamp(min=1)


def at_least_float32(tensor: torch.Tensor) -> torch.Tensor:
    """float16 and bfloat16 become float32; float32 and float64 are unchanged."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


# -- gathering the rows of all processes, with gradients, between the encoders and the ITC loss, which so uses
# every pair of a large batch. Without `torch.distributed`, or with one process, each function returns its argument.


def gather_rows(tensor: torch.Tensor) -> torch.Tensor:
    """The rows of every process, in the order of the processes: (n, ...) -> (all n, ...); n may differ by process.

    Every process gets the same rows and so computes the same loss L over the whole batch. In the backward pass a row's
    gradient is the sum of its gradients on all processes. If process k calls backward on c_k x L, the sum of a
    parameter's gradients over the processes is therefore (sum of c_k) x dL, dL being the gradient of the whole batch in
    one process, both for the encoders before the gather and for a temperature used after it. So

    - `total = L * n_k` on each process, gradients summed and divided by the sum of n_k (as the training loop does),
    - or `L` on each process under DistributedDataParallel, which averages,

    both give dL exactly, without a factor of the number of processes.

    Every process must call it, equally often and in the same order, with the same trailing shape, type and
    `requires_grad`, and must use the result in its backward pass: both passes are collective, and a missing process
    blocks the others.
    """
    if not _has_others():
        return tensor
    return _GatherRows.apply(tensor, _rows_of_processes(len(tensor), tensor.device))


def gather_owners(owners: torch.Tensor, num_images: int) -> torch.Tensor:
    """The owners of all processes' texts, as rows of `gather_rows(image_embeds)`: (n,) int64 -> (all n,).

    owners: the row of each text's image among the `num_images` of the same process; negative for a text without an
    image, which stays negative.
    """
    if not _has_others():
        return owners
    shifted = owners + first_row(num_images, device=owners.device)
    return gather_rows(torch.where(owners < 0, owners, shifted))


def unique_image_rows(image_ids: torch.Tensor, text_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The first row of each image, (M,), and the index among them of each text's image, (N,); -1 without a row.

    image_ids (P,), text_ids (N,): gathered ids. Without it, an image that several processes have would be a negative of
    its own texts.

    >>> unique_image_rows(torch.tensor([7, 3, 7]), torch.tensor([3, 7, 7, 5]))
    (tensor([1, 0]), tensor([ 0,  1,  1, -1]))
    """
    ids, place = image_ids.unique(return_inverse=True)
    numbers = torch.arange(len(image_ids), device=image_ids.device)
    rows = torch.full_like(ids, len(image_ids)).scatter_reduce(0, place, numbers, "amin")
    same = text_ids[:, None] == ids[None, :]  # (N, M)
    return rows, torch.where(same.any(dim=1), same.long().argmax(dim=1), -1)


def first_row(num_rows: int, *, device: torch.device | str = "cpu") -> int:
    """The first of this process's rows in `gather_rows` of a tensor of `num_rows` rows here; 0 without other processes.

    device: one on which the processes can communicate (the GPU under NCCL). Collective, like `gather_rows`.
    """
    if not _has_others():
        return 0
    return sum(_rows_of_processes(num_rows, device)[: distributed.get_rank()])


def _has_others() -> bool:
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


def _rows_of_processes(num_rows: int, device: torch.device | str) -> list[int]:
    """The number of rows of every process."""
    counts = [torch.zeros(1, dtype=torch.long, device=device) for _ in range(distributed.get_world_size())]
    distributed.all_gather(counts, torch.tensor([num_rows], device=device))
    return torch.cat(counts).tolist()


class _GatherRows(torch.autograd.Function):
    """torch's all_gather needs equally many rows on every process, and its gradient is not defined under gloo."""

    @staticmethod
    def forward(ctx: Any, tensor: torch.Tensor, counts: list[int]) -> torch.Tensor:
        """Pads every process's rows to the largest number, gathers, and removes the padding."""
        ctx.counts = counts
        padded = tensor.new_zeros(max(counts), *tensor.shape[1:])
        padded[: len(tensor)] = tensor
        gathered = [torch.empty_like(padded) for _ in counts]
        distributed.all_gather(gathered, padded)
        return torch.cat([rows[:count] for rows, count in zip(gathered, counts, strict=True)])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        """The sum over processes of the gradients of this process's rows."""
        total = gradient.to(torch.promote_types(gradient.dtype, torch.float32), copy=True).contiguous()
        distributed.all_reduce(total)  # in float32: half precision would round each addition
        start = sum(ctx.counts[: distributed.get_rank()])
        return total[start : start + ctx.counts[distributed.get_rank()]].to(gradient.dtype), None
