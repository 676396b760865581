"""Photo against text: contrastive losses (ITC), matching (ITM), and the negatives that matching is trained on.

Radford et al. 2021 for ITC; Li et al. 2021 (ALBEF) for its momentum form, for ITM and for negatives drawn by ITC
similarity. P photos and N texts of a batch, over all processes; text n belongs to photo `owners[n]`. Embeddings come
at length 1: nothing is normalised here. losses_updown.py passes all of it on.
"""

import torch
from torch.nn import functional as F


def at_least_float32(tensor: torch.Tensor) -> torch.Tensor:
    """float16 and bfloat16 become float32, float32 and float64 stay."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def contrastive_loss(
    logits: torch.Tensor, positives: torch.Tensor, *, soft_targets: torch.Tensor | None = None
) -> torch.Tensor:
    """Cross-entropy of queries over keys, a mean over the queries that have a positive key (InfoNCE, Oord et al. 2018).

    logits (Q, K), -inf for a key that takes no part; positives (Q, K) bool. The targets are spread evenly over a
    query's positives, or are `soft_targets` (Q, K). Returns a scalar, 0 where no query has a positive.

    >>> positives = torch.tensor([[True, True, False], [False, False, False]])
    >>> round(contrastive_loss(torch.zeros(2, 3), positives).item(), 4)  # ln 3, of the first query alone
    1.0986
    """
    logits, asked = at_least_float32(logits), positives.any(dim=1)  # (Q, K), (Q,)
    targets = _even_targets(positives, dtype=logits.dtype) if soft_targets is None else soft_targets
    log_probs = logits.masked_fill(~asked[:, None], 0.0).log_softmax(dim=1)  # (Q, K)
    losses = -(targets * log_probs.masked_fill(targets == 0, 0.0)).sum(dim=1)  # 0 x -inf would be NaN
    return losses.masked_fill(~asked, 0.0).sum() / asked.sum().clamp(min=1)


def itc_loss(
    image_embeds: torch.Tensor,
    text_embeds: torch.Tensor,
    *,
    temperature: torch.Tensor | float,
    owners: torch.Tensor | None = None,
) -> torch.Tensor:
    """Symmetric InfoNCE of photos and texts: the mean of photo to text and text to photo.

    Args:
        image_embeds: (P, E), each of length 1 (they are not normalised here).
        text_embeds: (N, E), each of length 1.
        temperature: what similarities are divided by; learned and clamped to 0.001 .. 0.5 by the model.
        owners: (N,) int64, the photo of each text. All texts of a photo are its positives, the target spread evenly
            over them; a text has the one photo. A photo without a text, or a text whose owner is no row of
            `image_embeds`, is only a negative of the others. Without `owners` text n belongs to photo n.

    Returns:
        A scalar, float64 for float64 embeddings, else float32.

    Raises:
        ValueError: no `owners`, and not as many texts as photos.

    >>> embeds = torch.eye(2)
    >>> round(itc_loss(embeds, embeds, temperature=1.0).item(), 4)  # ln(1 + 1/e)
    0.3133
    """
    photos = torch.arange(len(image_embeds), device=image_embeds.device)
    if owners is None and len(text_embeds) != len(photos):
        raise ValueError(f"{len(photos)} photos but {len(text_embeds)} texts: name the photo of each text in owners")
    positives = photos[:, None] == (photos if owners is None else owners)[None, :]  # (P, N)
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
    """ITC against keys of a slowly moving copy of the model and a queue of earlier ones (ALBEF, equations 1 and 5-6).

    Args:
        image_embeds, text_embeds: (P, E) and (N, E), each of length 1: the queries, which alone get gradients.
        image_keys, text_keys: (K, E) and (M, E) of length 1: the copy's embeddings of the batch, then the queue. Leave
            out places of the queue that nothing has filled yet.
        image_ids, text_ids, image_key_ids, text_key_ids: (P,), (N,), (K,), (M,) int64: the photo that each is, or
            belongs to. Equal ids are positives; a query without any is left out.
        temperature: as in `itc_loss`.
        momentum_image_embeds, momentum_text_embeds: (P, E) and (N, E): the copy's embeddings of the queries.
        alpha: 0..1, the share of the targets that is the copy's own softmax; the rest lies evenly on the positives.

    Returns:
        A scalar: the mean of photo to text and text to photo.

    Raises:
        ValueError: an alpha above 0 without the copy's embeddings.
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
    """Whether photo and text belong together: binary cross-entropy, a mean over pairs; 0 where there is none.

    logits (B,) log-odds, or (B, 2) for the 2-way softmax with column 1 = they do; labels (B,) bool or 0 and 1.

    Raises:
        ValueError: logits of another shape.

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


@torch.no_grad()
def hard_negatives(
    similarity: torch.Tensor,
    owners: torch.Tensor,
    *,
    temperature: torch.Tensor | float,
    generator: torch.Generator | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """A wrong photo for each text and a wrong text for each photo, the likelier the more similar (ALBEF, section 3.2).

    similarity (P, N) of unit-length embeddings, owners (N,) int64. Drawn from softmax(similarity / temperature) with
    matches at 0, by the largest of logits plus Gumbel noise: that is the same distribution, and nothing underflows
    however unlike the wrong ones are. Drawn on the generator's device.

    Returns:
        photo_of_text (N,) and text_of_photo (P,) int64; -1 where all there is belongs together, as in a batch of one
        photo.
    """
    logits = similarity.float() / torch.as_tensor(temperature, device=similarity.device).float()  # (P, N)
    logits = logits.clamp(min=torch.finfo(logits.dtype).min)  # a similarity of -inf still comes before a match
    photos = torch.arange(len(logits), device=logits.device)
    logits = logits.masked_fill(photos[:, None] == owners[None, :], -torch.inf)
    return _drawn(logits.T, generator), _drawn(logits, generator)


def random_negatives(
    num_photos: int, owners: torch.Tensor, *, generator: torch.Generator | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """As `hard_negatives`, every wrong photo and every wrong text being as likely as another.

    >>> random_negatives(2, torch.tensor([0, 1, 1]))[0]
    tensor([1, 0, 0])
    """
    alike = torch.zeros(num_photos, len(owners), device=owners.device)
    return hard_negatives(alike, owners, temperature=1.0, generator=generator)


def _drawn(logits: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
    """One column of each row (Q, K), drawn from the row's softmax -> (Q,); -1 where a row holds nothing but -inf."""
    if not logits.numel():
        return torch.full((len(logits),), -1, device=logits.device)
    waits = torch.empty(logits.shape, device=logits.device if generator is None else generator.device)
    noise = -waits.exponential_(generator=generator).clamp(min=torch.finfo(waits.dtype).tiny).log()
    best, column = (logits + noise.to(logits.device)).max(dim=1)
    return column.masked_fill(best == -torch.inf, -1)


def _similarity(queries: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    """(Q, E), (K, E) -> (Q, K), never in half precision: divided by 0.001, its rounding would be whole units."""
    with torch.autocast(queries.device.type, enabled=False):
        return at_least_float32(queries) @ at_least_float32(keys).T


def _even_targets(positives: torch.Tensor, *, dtype: torch.dtype) -> torch.Tensor:
    """(Q, K) bool -> rows that sum to 1 over the positives, or are 0."""
    return positives.to(dtype) / positives.sum(dim=1, keepdim=True).clamp(min=1)
