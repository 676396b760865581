"""Word-region alignment by optimal transport: how cheaply a text's words are carried onto an image's regions.

    cost c_ij = 1 - cos(word i, region j);  T = argmin <T, C> over plans with even marginals;  distance = <T, C>

UNITER's WRA (Chen et al. 2020, section 3.2). The plan is found by IPOT (Xie et al. 2018), proximal steps of one
Sinkhorn iteration each, and gets no gradient: the states of words and regions learn through the cost alone.
"""

import torch
from torch.nn import functional as F

from .losses_updown import at_least_float32

SMALLEST_LENGTH = 1e-5  # of a state, below which it is divided by this instead
BETA, ITERATIONS = 0.5, 50  # UNITER's
PADDED = 1e4  # added where a word or region is padding, so that nothing is divided by 0


def transport_distance(
    word_states: torch.Tensor,
    region_states: torch.Tensor,
    word_mask: torch.Tensor,
    region_mask: torch.Tensor,
    *,
    beta: float = BETA,
    iterations: int = ITERATIONS,
) -> torch.Tensor:
    """The cost of carrying each row's words onto its regions, (N,), 0 (all alike) to 2 (all opposite).

    word_states (N, T, H), region_states (N, R, H); word_mask (N, T), region_mask (N, R) bool, True = real: every row
    has a word and a region. In float32, or float64 for float64 states, also under autocast.

    >>> states = torch.eye(2)[None]  # two words and two regions, each word one region
    >>> mask = torch.ones(1, 2, dtype=torch.bool)
    >>> round(transport_distance(states, states.flip(1), mask, mask, iterations=200).item(), 4)
    0.0
    """
    with torch.autocast(word_states.device.type, enabled=False):
        words, regions = (
            F.normalize(at_least_float32(states).masked_fill(~mask[..., None], 0.0), dim=-1, eps=SMALLEST_LENGTH)
            for states, mask in ((word_states, word_mask), (region_states, region_mask))
        )
        cost = 1 - words @ regions.transpose(1, 2)  # (N, T, R); what stands at padding is never in the plan
        plan = transport_plan(cost, word_mask, region_mask, beta=beta, iterations=iterations)
        return (plan * cost).sum(dim=(1, 2))


@torch.no_grad()
def transport_plan(
    cost: torch.Tensor,
    word_mask: torch.Tensor,
    region_mask: torch.Tensor,
    *,
    beta: float = BETA,
    iterations: int = ITERATIONS,
) -> torch.Tensor:
    """IPOT: cost (N, T, R) -> how much of each word goes to each region, (N, T, R), 0 on padding, 1 in all of a row.

    beta: the step of each of the `iterations`, larger is slower and smoother. After each step the words' shares are
    exactly 1 / T, the regions' 1 / R as nearly as it has converged.
    """
    real = (word_mask[:, :, None] & region_mask[:, None, :]).to(cost.dtype)
    num_words, num_regions = (mask.sum(dim=1, keepdim=True).to(cost.dtype) for mask in (word_mask, region_mask))
    no_word, no_region = (PADDED * (~mask).to(cost.dtype) for mask in (word_mask, region_mask))
    kernel = torch.exp(-cost / beta) * real
    plan = real
    of_words = word_mask.to(cost.dtype) / num_words  # (N, T)
    for _ in range(iterations):
        step = kernel * plan
        of_regions = 1 / (num_regions * torch.einsum("ntr,nt->nr", step, of_words) + no_region)
        of_words = 1 / (num_words * torch.einsum("ntr,nr->nt", step, of_regions) + no_word)
        plan = of_words[:, :, None] * step * of_regions[:, None, :]
    return plan * real


def word_region_alignment_loss(distances: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Distances of right pairs less those of wrong ones, over the number of all; UNITER adds 0.1 of it to matching.

    distances (N,), labels (N,) 1 for right pairs, 0 for wrong ones -> a scalar.

    >>> word_region_alignment_loss(torch.tensor([0.2, 0.9, 0.8]), torch.tensor([1, 0, 0])).item()
    -0.5
    """
    return torch.where(labels.bool(), distances, -distances).sum() / max(len(distances), 1)
