"""Vectors of a clip's frames -> one vector of the clip, for retrieval (CLIP4Clip, Luo et al. 2021, section 3.3).

    mean          v = mean_f z_f                              ("parameter-free", meanP)
    attention     v = sum_f softmax_f(w . z_f) z_f
    transformer   z'_f = z_f + T(z + W_t time)_f,  v = mean_f z'_f      ("sequential", seqTransf)

z_f has length 1, and so has v. CLIP4Clip's third type, "tight" (tightTransf), reads words and frames in one
transformer: that is what the fusion model's matching (`match`) does with the regions of all frames.
"""

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from .configuration_time_updown import TIME_SIZES
from .time_updown import region_times


class TemporalLayer(nn.Module):
    """A transformer layer over frames, normalised before attention and before the two linear layers."""

    def __init__(self, size: int, *, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.norm_before_attention = nn.LayerNorm(size)
        self.attention_in = nn.Linear(size, 3 * size)  # queries, keys, values
        self.attention_out = nn.Linear(size, size)
        self.norm_before_layers = nn.LayerNorm(size)
        self.layer_in = nn.Linear(size, 4 * size)
        self.layer_out = nn.Linear(4 * size, size)

    def forward(self, states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """states (P, F, E), mask (P, F) bool -> (P, F, E); what stands on padding reaches no frame."""
        heads = self.attention_in(self.norm_before_attention(states)).unflatten(-1, (3, self.num_heads, -1))
        query, key, value = heads.permute(2, 0, 3, 1, 4)  # (P, heads, F, E / heads) each
        seen = F.scaled_dot_product_attention(query, key, value, attn_mask=mask[:, None, None])
        states = states + self.attention_out(seen.transpose(1, 2).flatten(2))
        return states + self.layer_out(F.gelu(self.layer_in(self.norm_before_layers(states))))


class ClipPooling(nn.Module):
    """Pools the frames of each clip as `config.clip_pooling` says; see the module's docstring.

    Example:

    >>> from types import SimpleNamespace
    >>> pooling = ClipPooling(SimpleNamespace(clip_pooling="mean", projection_size=2))
    >>> frames, mask = torch.eye(2)[None], torch.ones(1, 2).bool()
    >>> pooling(frames, mask, torch.zeros(1, 2)).square().round(decimals=4).tolist()
    [[0.5, 0.5]]
    """

    def __init__(self, config: Any):
        super().__init__()
        size, self.kind = config.projection_size, config.clip_pooling
        self.frame_score: nn.Linear | None = None
        if self.kind == "attention":
            self.frame_score = nn.Linear(size, 1, bias=False)  # w
        elif self.kind == "transformer":
            self.time_kind = config.time_embedding or "relative"  # frames have an order here in any case
            self.of_times = nn.Linear(TIME_SIZES[self.time_kind], size)  # W_t
            self.layers = nn.ModuleList(
                TemporalLayer(size, num_heads=config.clip_heads) for _ in range(config.clip_layers)
            )

    def forward(self, frames: torch.Tensor, mask: torch.Tensor, seconds: torch.Tensor) -> torch.Tensor:
        """frames (P, F, E) of length 1, mask (P, F) bool: True = a frame, seconds (P, F) -> (P, E) of length 1."""
        if self.kind == "transformer":
            states = frames + self.of_times(region_times(seconds, mask, kind=self.time_kind).to(frames.dtype))
            for layer in self.layers:
                states = layer(states, mask)
            frames = F.normalize(frames + states, dim=-1)
        if self.frame_score is not None:
            shares = self.frame_score(frames).squeeze(-1).masked_fill(~mask, -torch.inf).softmax(dim=1)  # (P, F)
        else:
            shares = mask.to(frames.dtype) / mask.sum(dim=1, keepdim=True)
        frames = frames.masked_fill(~mask[..., None], 0)
        return F.normalize(torch.bmm(shares[:, None], frames).squeeze(1), dim=-1)
