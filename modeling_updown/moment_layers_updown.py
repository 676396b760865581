"""The transformer of set prediction: DETR's encoder and decoder over the steps of a clip and the words of a sentence.

    x = x + Attention(x + pos, x + pos, x);  x = x + W_2 ReLU(W_1 x)             (Carion et al. 2020, figure 10)

Positions join queries and keys in every layer and never values. Each sum is normalised after it, or each branch before
it (`config.moment_pre_norm`). What differs from `torch.nn.Transformer`: positions, and the attention is returned.
"""

import torch
from torch import nn
from torch.nn import functional as F

from .configuration_moments_updown import MomentConfig
from .losses_updown import at_least_float32

PERIOD = 10_000  # of the slowest wave


def sine_positions(positions: torch.Tensor, size: int) -> torch.Tensor:
    """Numbers (...) as sines (even places) and cosines (odd places) of `size` / 2 periods, (..., size).

    >>> sine_positions(torch.tensor([0.0]), 4).tolist()
    [[0.0, 1.0, 0.0, 1.0]]
    """
    exponents = 2 * (torch.arange(size, device=positions.device) // 2) / size
    angles = at_least_float32(positions)[..., None] / PERIOD**exponents  # (..., size)
    return torch.stack([angles[..., 0::2].sin(), angles[..., 1::2].cos()], dim=-1).flatten(-2)


class InputProjection(nn.Module):
    """LayerNorm, dropout, linear, ReLU, as many times as `config.moment_input_layers`; no ReLU after the last."""

    def __init__(self, config: MomentConfig, *, size: int):
        super().__init__()
        width, count = config.moment_hidden_size, config.moment_input_layers
        sizes = [size] + [width] * (count - 1)
        self.norms = nn.ModuleList(nn.LayerNorm(own) for own in sizes)
        self.linears = nn.ModuleList(nn.Linear(own, width) for own in sizes)
        self.dropout = config.moment_input_dropout

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """(..., size) -> (..., moment_hidden_size)"""
        last = len(self.linears) - 1
        for number, (norm, linear) in enumerate(zip(self.norms, self.linears, strict=True)):
            vectors = linear(F.dropout(norm(vectors), self.dropout, self.training))
            vectors = vectors if number == last else vectors.relu()
        return vectors


class MomentAttention(nn.Module):
    """Multi-head attention (Vaswani et al. 2017) that returns its weights, a mean over heads."""

    def __init__(self, config: MomentConfig):
        super().__init__()
        width = config.moment_hidden_size
        self.heads, self.dropout = config.moment_num_heads, config.moment_dropout
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.output = nn.Linear(width, width)

    def forward(
        self, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """queries (N, Q, H) over keys and values (N, L, H), where mask (N, L) is True -> (N, Q, H), (N, Q, L)"""
        parts = (self.query(queries), self.key(keys), self.value(values))
        query, key, value = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)  # (N, heads, ..)
        scores = at_least_float32(query @ key.transpose(-1, -2)) / query.shape[-1] ** 0.5  # (N, heads, Q, L)
        if mask is not None:
            scores = scores.masked_fill(~mask[:, None, None], float("-inf"))
        weights = scores.softmax(dim=-1).to(value.dtype)
        found = F.dropout(weights, self.dropout, self.training) @ value
        return self.output(found.transpose(1, 2).flatten(2)), weights.mean(dim=1)


class MomentLayer(nn.Module):
    """What encoder and decoder layers share: the feed-forward part, and where norms stand."""

    def __init__(self, config: MomentConfig, *, norms: int):
        super().__init__()
        width = config.moment_hidden_size
        self.pre_norm, self.dropout = config.moment_pre_norm, config.moment_dropout
        self.wide = nn.Linear(width, config.moment_ffn_size)  # W_1
        self.narrow = nn.Linear(config.moment_ffn_size, width)  # W_2
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(norms))

    def before(self, states: torch.Tensor, place: int) -> torch.Tensor:
        """What a branch reads of the states."""
        return self.norms[place](states) if self.pre_norm else states

    def joined(self, states: torch.Tensor, branch: torch.Tensor, place: int) -> torch.Tensor:
        """States with what a branch made of them."""
        states = states + F.dropout(branch, self.dropout, self.training)
        return states if self.pre_norm else self.norms[place](states)

    def feed_forward(self, states: torch.Tensor) -> torch.Tensor:
        """The last branch of a layer, (N, L, H) -> (N, L, H)"""
        place = len(self.norms) - 1
        hidden = F.dropout(self.wide(self.before(states, place)).relu(), self.dropout, self.training)
        return self.joined(states, self.narrow(hidden), place)


class MomentEncoderLayer(MomentLayer):
    """Self-attention over steps and words, then the feed-forward part."""

    def __init__(self, config: MomentConfig):
        super().__init__(config, norms=2)
        self.attention = MomentAttention(config)

    def forward(self, states: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """states, positions (N, L, H), mask (N, L) bool -> (N, L, H); padding is masked as a key alone"""
        read = self.before(states, 0)
        placed = read + positions
        found, _ = self.attention(placed, placed, read, mask)
        return self.feed_forward(self.joined(states, found, 0))


class MomentDecoderLayer(MomentLayer):
    """Attention of the queries over each other, then over steps and words, then the feed-forward part."""

    def __init__(self, config: MomentConfig):
        super().__init__(config, norms=3)
        self.own, self.other = MomentAttention(config), MomentAttention(config)

    def forward(
        self,
        states: torch.Tensor,
        query_positions: torch.Tensor,
        memory: torch.Tensor,
        mask: torch.Tensor,
        positions: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """states, query_positions (N, Q, H) over memory, positions (N, L, H) -> (N, Q, H) and weights (N, Q, L)"""
        read = self.before(states, 0)
        placed = read + query_positions
        states = self.joined(states, self.own(placed, placed, read)[0], 0)
        placed = self.before(states, 1) + query_positions
        found, weights = self.other(placed, memory + positions, memory, mask)
        return self.feed_forward(self.joined(states, found, 1)), weights
