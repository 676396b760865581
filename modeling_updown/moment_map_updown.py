"""A score of every run of segments of a clip, neighbours seen: the map of 2D-TAN (Zhang et al. 2020, section 3).

    f_s = the steps of segment s, by how long each lies in it;  m_ab = max(f_a .. f_b)        (max pooling)
    g_ab = (W_t t * W_m m_ab) / |W_t t * W_m m_ab|,  t = the mean of the words                (their eq. 2)
    score_ab = w^T Conv(g)_ab                                    convolutions with ReLU over a <= b, 0 elsewhere

Every run of segments is scored, where 2D-TAN leaves out most of the long ones of more than 16 segments. N rows of C
steps and T words, S segments, K = S (S + 1) / 2 runs.
"""

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from .clip_steps_updown import ClipSteps
from .configuration_moments_updown import MomentConfig
from .losses_updown import at_least_float32
from .moment_layers_updown import InputProjection
from .moment_losses_updown import map_loss, scaled_overlaps
from .moment_spans_updown import span_overlap


class FoundMap(NamedTuple):
    """What a `MomentMap` finds: logits (N, S, S) of the run from the first to the last segment, the lowest number where
    it starts after it ends; states of the map before and after each convolution, (N, S, S, H) each."""

    logits: torch.Tensor
    states: list[torch.Tensor]


def segment_bounds(steps: ClipSteps, num_segments: int) -> torch.Tensor:
    """Starts and ends in seconds of as many segments of equal length of each clip, (N, S, 2)."""
    edges = torch.arange(num_segments + 1, device=steps.durations.device) / num_segments
    seconds = steps.durations[:, None] * edges
    return torch.stack([seconds[:, :-1], seconds[:, 1:]], dim=-1)


def segment_means(clips: torch.Tensor, steps: ClipSteps, num_segments: int) -> torch.Tensor:
    """The mean of the steps (N, C, D) in each segment, by how long each lies in it, (N, S, D).

    >>> from .clip_steps_updown import steps_of
    >>> steps = steps_of(torch.tensor([[0.0, 3.0]]), torch.ones(1, 2).bool(), torch.tensor([4.0]), default_seconds=1.0)
    >>> segment_means(torch.tensor([[[1.0], [5.0]]]), steps, 2).tolist()
    [[[1.0], [3.0]]]
    """
    starts = torch.cat([torch.zeros_like(steps.starts[:, :1]), steps.starts[:, 1:]], dim=1)  # the first begins the clip
    bounds = torch.stack([starts, steps.ends], dim=-1)
    shares = span_overlap(segment_bounds(steps, num_segments), bounds).masked_fill(~steps.mask[:, None], 0)  # (N, S, C)
    shares = shares / shares.sum(dim=-1, keepdim=True).clamp(min=torch.finfo(shares.dtype).tiny)
    return torch.bmm(shares.to(clips.dtype), clips)


def run_maxima(segments: torch.Tensor) -> torch.Tensor:
    """The largest of each number over every run of segments (N, S, D): (N, S, S, D), 0 where a run starts after
    it ends.

    >>> run_maxima(torch.tensor([[[1.0], [3.0], [2.0]]])).squeeze(-1).tolist()
    [[[1.0, 3.0, 3.0], [0.0, 3.0, 3.0], [0.0, 0.0, 2.0]]]
    """
    count = segments.shape[1]
    rows = [F.pad(segments[:, start:].cummax(dim=1).values, (0, 0, start, 0)) for start in range(count)]
    return torch.stack(rows, dim=1)


class MomentMap(nn.Module):
    """The map of all runs; see the module's docstring.

    clip_size, text_size: widths of what comes in for each step and word.
    """

    def __init__(self, config: MomentConfig, *, clip_size: int, text_size: int):
        super().__init__()
        width, kernel, self.config = config.moment_hidden_size, config.moment_map_kernel, config
        self.clip_projection = InputProjection(config, size=clip_size)
        self.text_projection = InputProjection(config, size=text_size)
        self.of_runs = nn.Linear(width, width)  # W_m
        self.of_text = nn.Linear(width, width)  # W_t
        self.convolutions = nn.ModuleList(
            nn.Conv2d(width, width, kernel, padding=kernel // 2) for _ in range(config.moment_map_layers)
        )
        self.score = nn.Linear(width, 1)  # w

    def forward(self, clips: torch.Tensor, steps: ClipSteps, words: torch.Tensor, word_mask: torch.Tensor) -> FoundMap:
        """clips (N, C, clip_size), words (N, T, text_size), word_mask (N, T) bool"""
        segments = self.clip_projection(segment_means(clips, steps, self.config.moment_segments))  # (N, S, H)
        share = word_mask / word_mask.sum(dim=1, keepdim=True).clamp(min=1)
        text = torch.bmm(share[:, None].to(words.dtype), self.text_projection(words))  # (N, 1, H)
        runs = self.of_runs(run_maxima(segments)) * self.of_text(text)[:, :, None]  # (N, S, S, H)
        valid = self.valid(runs.device)[..., None]
        states = F.normalize(runs, dim=-1).masked_fill(~valid, 0)
        passed = [states]
        for convolution in self.convolutions:
            states = convolution(states.permute(0, 3, 1, 2)).relu().permute(0, 2, 3, 1).masked_fill(~valid, 0)
            passed.append(states)
        logits = self.score(F.dropout(states, self.config.moment_dropout, self.training)).squeeze(-1)
        return FoundMap(logits.masked_fill(~valid[..., 0], torch.finfo(logits.dtype).min), passed)

    def valid(self, device: torch.device) -> torch.Tensor:
        """(S, S) bool: which cells are runs, those that do not start after they end."""
        count = self.config.moment_segments
        return torch.ones(count, count, dtype=torch.bool, device=device).triu()

    def in_seconds(self, found: FoundMap, steps: ClipSteps) -> tuple[torch.Tensor, torch.Tensor]:
        """All runs in seconds (N, K, 2), and how likely each is meant (N, K), 0..1."""
        first, last = self.valid(found.logits.device).nonzero(as_tuple=True)  # (K,)
        bounds = segment_bounds(steps, self.config.moment_segments)
        spans = torch.stack([bounds[:, first, 0], bounds[:, last, 1]], dim=-1)
        return spans, at_least_float32(found.logits[:, first, last]).sigmoid()

    def losses(
        self, found: FoundMap, steps: ClipSteps, wanted: torch.Tensor, there: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """`map`, the binary cross-entropy with scaled IoUs; wanted (N, M, 2) in seconds, there (N, M) bool."""
        spans, _ = self.in_seconds(found, steps)
        lowest, highest = self.config.moment_map_iou or (0.5, 1.0)
        targets = scaled_overlaps(spans, wanted, there, lowest=lowest, highest=highest)
        return {"map": map_loss(found.logits[:, self.valid(found.logits.device)], targets)}

    def weighted(self, losses: dict[str, torch.Tensor]) -> torch.Tensor:
        """The only loss there is."""
        return losses["map"]
