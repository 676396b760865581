"""How context, regions and candidates of multiple choice lie in the passes of a transformer.

    full:    [CLS] context [SEP] candidate [SEP] r_1 .. r_R                     a pass for each of N x C candidates
    shared:  [CLS] context r_1 .. r_R [SEP] candidate [SEP] [SEP] candidate ..  a pass an item: context and regions see
                                                                                no candidate, a candidate sees them and
                                                                                itself, as if it followed the context

`modeling_multiple_choice.py` runs the passes. N items, T words of a context, C candidates of U words each, R regions,
E width of embeddings; B passes of L tokens that score G candidates each.
"""

from typing import NamedTuple

import torch

from .compat_updown import is_traced

REGION_TYPE = 1  # as in the fusion model


class Words(NamedTuple):
    """Embedded words: embeds (..., T, E), mask (..., T) bool, and their token types (..., T)."""

    embeds: torch.Tensor
    mask: torch.Tensor
    kinds: torch.Tensor


class Layout(NamedTuple):
    """The passes: embeds (B, L, E), seen (B, 1, L or 1, L) bool, positions and kinds (B, L), and how much of each state
    goes into the vector of each candidate, readers (B, G, L). Regions stand at `regions` of the L tokens."""

    embeds: torch.Tensor
    seen: torch.Tensor
    positions: torch.Tensor
    kinds: torch.Tensor
    readers: torch.Tensor
    regions: slice


def lay_out_full(
    context: Words, choices: Words, regions: torch.Tensor, region_mask: torch.Tensor, *, start: int
) -> Layout:
    """A pass for each candidate, scored by its first token; B = N x C, G = 1.

    context (N, T), choices (N, C, U), regions (N, R, E), region_mask (N, R); start: the position of the first word.
    """
    num_choices = choices.mask.shape[1]
    own = Words(*(part.flatten(0, 1) for part in choices))  # (N x C, U, ..)
    given = Words(*(part.repeat_interleave(num_choices, dim=0) for part in context))
    regions, region_mask = (part.repeat_interleave(num_choices, dim=0) for part in (regions, region_mask))
    mask = torch.cat([given.mask, own.mask, region_mask], dim=1)  # (B, L)
    words = mask[:, : -region_mask.shape[1]]
    first = words.to(torch.uint8).argmax(dim=1)
    readers = torch.nn.functional.one_hot(first, mask.shape[1])[:, None]
    placed = places(words, start=start)
    kinds = torch.full_like(region_mask, REGION_TYPE, dtype=torch.long)
    return Layout(
        embeds=torch.cat([given.embeds, own.embeds, regions], dim=1),
        seen=mask[:, None, None],
        positions=torch.cat([placed, torch.full_like(kinds, start)], dim=1),
        kinds=torch.cat([given.kinds, own.kinds, kinds], dim=1),
        readers=readers.to(regions.dtype),
        regions=slice(words.shape[1], mask.shape[1]),
    )


def lay_out_shared(
    context: Words, choices: Words, regions: torch.Tensor, region_mask: torch.Tensor, *, start: int
) -> Layout:
    """A pass for each item, its candidates one after the other without padding between them; B = N, G = C.

    Arguments as for `lay_out_full`. A candidate is scored by the mean of its states.
    """
    items, num_choices, most = choices.mask.shape
    flat = choices.mask.flatten(1)  # (N, C x U)
    longest = flat.shape[1] if is_traced() else max(int(flat.sum(dim=1).max()), 1)
    order = flat.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :longest]  # (N, K), the words first
    real = flat.gather(1, order)
    owner = (order // most).masked_fill(~real, -1)  # whose word it is
    embeds = choices.embeds.flatten(1, 2)
    packed = embeds.gather(1, order[..., None].expand(-1, -1, embeds.shape[-1]))  # (N, K, E)
    ends = start + context.mask.sum(dim=1)  # (N,), where candidates begin
    inside = (choices.mask.cumsum(dim=2) - 1).clamp(min=0).flatten(1).gather(1, order)
    known = torch.cat([context.mask, region_mask], dim=1)  # (N, T + R)
    before = known.shape[1]
    mask = torch.cat([known, real], dim=1)
    same = owner[:, :, None] == owner[:, None]  # (N, K, K)
    seen = torch.cat([known, torch.zeros_like(real)], dim=1)[:, None].repeat(1, mask.shape[1], 1)
    seen[:, before:, before:] = same & real[:, None]
    belongs = owner[:, None] == torch.arange(num_choices, device=owner.device)[:, None]  # (N, C, K)
    share = belongs.to(regions.dtype) / belongs.sum(dim=2, keepdim=True).clamp(min=1)
    kinds = torch.full_like(region_mask, REGION_TYPE, dtype=torch.long)
    words = context.mask.shape[1]
    return Layout(
        embeds=torch.cat([context.embeds, regions, packed], dim=1),
        seen=seen[:, None],
        positions=torch.cat(
            [places(context.mask, start=start), torch.full_like(kinds, start), ends[:, None] + inside], dim=1
        ),
        kinds=torch.cat([context.kinds, kinds, choices.kinds.flatten(1).gather(1, order)], dim=1),
        readers=torch.cat([share.new_zeros(items, num_choices, before), share], dim=2),
        regions=slice(words, before),
    )


LAYOUTS = {"full": lay_out_full, "shared": lay_out_shared}


def places(mask: torch.Tensor, *, start: int) -> torch.Tensor:
    """Where each word stands, (N, T), padding left out of the count; mask (N, T).

    >>> places(torch.tensor([[True, True, False, True]]), start=0).tolist()
    [[0, 1, 1, 2]]
    """
    return start + (mask.cumsum(dim=1) - 1).clamp(min=0)


def link_shares(links: torch.Tensor, region_mask: torch.Tensor) -> torch.Tensor:
    """Regions that each word is linked to, links (N, T, K), -1 for none -> the share of each, (N, T, R) float32.

    Raises `ValueError` for a link to a region that is not there; region_mask (N, R).

    >>> link_shares(torch.tensor([[[0, 2], [-1, -1], [1, -1]]]), torch.ones(1, 3).bool())[0].tolist()
    [[0.5, 0.0, 0.5], [0.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    """
    num_regions = region_mask.shape[1]
    if links.dim() != 3 or links.is_floating_point() or len(links) != len(region_mask):
        raise ValueError(
            f"links of words to regions have shape {tuple(links.shape)}, but must be ({len(region_mask)} items, words, "
            "regions of a word): whole numbers, -1 for none"
        )
    links = links.to(region_mask.device)
    linked = links >= 0
    if not (is_traced() or links.is_meta):
        inside = links < num_regions
        real = region_mask[:, None].expand(-1, links.shape[1], -1).gather(2, links.clamp(0, num_regions - 1))
        wrong = (linked & ~(inside & real)) | (links < -1)
        if bool(wrong.any()):
            item, word, place = wrong.nonzero()[0].tolist()
            raise ValueError(
                f"word {word} of item {item} is linked to region {int(links[item, word, place])}, but its image has "
                f"{int(region_mask[item].sum())} regions: link it to one of these, or to none (-1)"
            )
    target = links.masked_fill(~linked, num_regions)
    counts = torch.zeros(*links.shape[:2], num_regions + 1, device=links.device)
    counts = counts.scatter_add(2, target, torch.ones_like(target, dtype=counts.dtype))[..., :num_regions]
    return counts / counts.sum(dim=2, keepdim=True).clamp(min=1)
