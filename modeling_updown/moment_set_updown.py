"""A set of spans of a clip with the saliency of each of its steps: Moment-DETR (Lei et al. 2021, section 4.1).

    steps, words --InputProjection--> encoder over both --decoder with Q queries--> Q spans, each meant or not
                                              `--> saliency of each step

Losses and matching are in `moment_losses_updown.py` and `moment_matching_updown.py`. N rows of C steps and T words.
"""

from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from .clip_steps_updown import ClipSteps
from .configuration_moments_updown import MomentConfig
from .modeling_fusion import shares_of_regions
from .moment_layers_updown import InputProjection, MomentDecoderLayer, MomentEncoderLayer, sine_positions
from .moment_losses_updown import (
    FOREGROUND,
    Matched,
    alignment_loss,
    bin_costs,
    bin_loss,
    label_loss,
    match_queries,
    saliency_loss,
    span_costs,
    span_losses,
)
from .moment_spans_updown import centre_width, start_end


class SetPredictions(NamedTuple):
    """What one decoder layer predicts: logits (N, Q, 2), foreground first; spans (N, Q, 2), centres and widths in 0..1
    of the clip, or logits of bins (N, Q, 2, W); embeds (N, Q, E) of length 1, None where nothing is aligned."""

    logits: torch.Tensor
    spans: torch.Tensor
    embeds: torch.Tensor | None


class FoundSet(NamedTuple):
    """What a `MomentSet` finds: the predictions of each decoder layer, the last one last; saliency (N, C), padding
    included; word_embeds (N, T, E); states of the encoder, (N, C + T, H) each; weights of the decoder's attention, (N,
    Q, C) each, summing to 1 over the steps."""

    layers: list[SetPredictions]
    saliency: torch.Tensor
    word_embeds: torch.Tensor | None
    states: list[torch.Tensor]
    weights: list[torch.Tensor]


class SpanLayers(nn.Module):
    """Three linear layers with ReLU between them."""

    def __init__(self, width: int, size: int):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, own) for own in (width, width, size))

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """(..., width) -> (..., size)"""
        first, second, last = self.layers
        return last(second(first(states).relu()).relu())


class WordPositions(nn.Module):
    """A learnt position of each word, added to it and normalised: what words' queries and keys get."""

    def __init__(self, config: MomentConfig):
        super().__init__()
        self.places = nn.Embedding(config.moment_text_positions, config.moment_hidden_size)
        self.norm = nn.LayerNorm(config.moment_hidden_size)
        self.dropout = config.moment_input_dropout

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        """(N, T, H) -> (N, T, H); `ValueError` for more words than there are places."""
        if words.shape[1] > self.places.num_embeddings:
            raise ValueError(
                f"a text has {words.shape[1]} words, but config.moment_text_positions is {self.places.num_embeddings}: "
                "cut it to as many"
            )
        return F.dropout(self.norm(words + self.places.weight[: words.shape[1]]), self.dropout, self.training)


class MomentSet(nn.Module):
    """Set prediction with saliency; see the module's docstring.

    clip_size, text_size: widths of what comes in for each step and word.
    """

    def __init__(self, config: MomentConfig, *, clip_size: int, text_size: int):
        super().__init__()
        width, self.config = config.moment_hidden_size, config
        self.by_bins = config.moment_span_loss == "cross_entropy"
        self.clip_projection = InputProjection(config, size=clip_size)
        self.text_projection = InputProjection(config, size=text_size)
        self.word_positions = WordPositions(config) if config.moment_text_positions else None
        self.encoder = nn.ModuleList(MomentEncoderLayer(config) for _ in range(config.moment_encoder_layers))
        self.encoder_norm = nn.LayerNorm(width) if config.moment_pre_norm else None
        self.decoder = nn.ModuleList(MomentDecoderLayer(config) for _ in range(config.moment_decoder_layers))
        self.decoder_norm = nn.LayerNorm(width)
        self.queries = nn.Embedding(config.moment_queries, width)
        self.classes = nn.Linear(width, 2)
        self.spans = SpanLayers(width, 2 * config.moment_bins if self.by_bins else 2)
        self.saliency = nn.Linear(width, 1)
        size = config.moment_alignment_size
        self.align_queries = nn.Linear(width, size) if size else None
        self.align_words = nn.Linear(width, size) if size else None

    def forward(self, clips: torch.Tensor, steps: ClipSteps, words: torch.Tensor, word_mask: torch.Tensor) -> FoundSet:
        """clips (N, C, clip_size), words (N, T, text_size), word_mask (N, T) bool"""
        count = clips.shape[1]
        words = self.text_projection(words)
        states = torch.cat([self.clip_projection(clips), words], dim=1)  # (N, L, H)
        mask = torch.cat([steps.mask, word_mask], dim=1)
        share = 2 * torch.pi * steps.ends / steps.durations[:, None]
        of_steps = sine_positions(share, states.shape[-1]).to(states.dtype)
        of_words = torch.zeros_like(words) if self.word_positions is None else self.word_positions(words)
        positions = torch.cat([of_steps, of_words], dim=1)
        passed = [states]
        for layer in self.encoder:
            states = layer(states, mask, positions)
            passed.append(states)
        memory = states if self.encoder_norm is None else self.encoder_norm(states)
        passed[-1] = memory
        layers, weights = self.decoded(memory, mask, positions, num_steps=count)
        aligned = None if self.align_words is None else F.normalize(self.align_words(memory[:, count:]), dim=-1)
        return FoundSet(layers, self.saliency(memory[:, :count]).squeeze(-1), aligned, passed, weights)

    def decoded(
        self, memory: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, *, num_steps: int
    ) -> tuple[list[SetPredictions], list[torch.Tensor]]:
        """What each decoder layer predicts, and how its queries weighed the first `num_steps` of memory (N, L, H)."""
        places = self.queries.weight.expand(len(memory), -1, -1)  # (N, Q, H)
        states, layers, weights = torch.zeros_like(places), [], []
        for layer in self.decoder:
            states, seen = layer(states, places, memory, mask, positions)
            layers.append(self.predictions(self.decoder_norm(states)))
            weights.append(shares_of_regions(seen[..., :num_steps], mask[:, None, :num_steps]))
        return layers, weights

    def predictions(self, states: torch.Tensor) -> SetPredictions:
        """What is read off the queries' states (N, Q, H)."""
        spans = self.spans(states)
        spans = spans.unflatten(-1, (2, -1)) if self.by_bins else spans.sigmoid()
        embeds = None if self.align_queries is None else F.normalize(self.align_queries(states), dim=-1)
        return SetPredictions(self.classes(states), spans, embeds)

    def in_seconds(self, found: SetPredictions, steps: ClipSteps) -> tuple[torch.Tensor, torch.Tensor]:
        """The spans in seconds, inside their clips (N, Q, 2), and how likely each is meant (N, Q), 0..1."""
        durations = steps.durations[:, None, None]
        if self.by_bins:
            chances, bins = found.spans.softmax(dim=-1).max(dim=-1)  # (N, Q, 2)
            ordered = bins.sort(dim=-1).values + torch.tensor([0, 1], device=bins.device)  # the last bin is of the span
            spans, scores = ordered * float(self.config.moment_step_seconds), chances.prod(dim=-1)
        else:
            wide = torch.promote_types(found.spans.dtype, torch.float32)
            spans = start_end(found.spans.to(wide)) * durations
            scores = found.logits.softmax(dim=-1)[..., FOREGROUND]
        return torch.minimum(spans.clamp(min=0), durations), scores

    def targets(self, wanted: torch.Tensor, steps: ClipSteps) -> torch.Tensor:
        """True spans in seconds (N, M, 2) as this head learns them: centres and widths in 0..1, or bins (int64)."""
        if not self.by_bins:
            return centre_width(wanted / steps.durations[:, None, None])
        scaled = wanted / self.config.moment_step_seconds
        start, end = scaled[..., 0].floor(), scaled[..., 1].ceil() - 1
        last = int(end.max()) if end.numel() else 0
        if last >= self.config.moment_bins:
            raise ValueError(
                f"a span ends in bin {last} of {self.config.moment_step_seconds:g} s, but config.moment_bins is "
                f"{self.config.moment_bins}: make a model with more or longer bins"
            )
        return torch.stack([start.clamp(min=0), torch.maximum(start, end).clamp(min=0)], dim=-1).long()

    def matched(self, found: SetPredictions, targets: torch.Tensor, there: torch.Tensor) -> Matched:
        """The cheapest pairs of queries and true spans; targets (N, M, 2) as `targets` has them, there (N, M) bool."""
        return match_queries(self.costs(found, targets), there)

    @torch.no_grad()
    def costs(self, found: SetPredictions, targets: torch.Tensor) -> torch.Tensor:
        """What it costs to take each query for each true span, (N, Q, M)."""
        weights = self.config.moment_cost_weights or {}
        likely = -found.logits.float().softmax(dim=-1)[..., FOREGROUND, None]  # (N, Q, 1)
        if self.by_bins:
            return weights["label"] * likely + weights["span"] * bin_costs(found.spans.float(), targets)
        distance, apart = span_costs(found.spans.float(), targets)
        return weights["label"] * likely + weights["span"] * distance + weights["giou"] * apart

    def losses(
        self,
        found: FoundSet,
        steps: ClipSteps,
        wanted: torch.Tensor,
        there: torch.Tensor,
        *,
        word_mask: torch.Tensor,
        pairs: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        """`label`, `span`, `giou`, `alignment` of the last layer, `saliency`, and the first four of every earlier layer
        with its number, such as `label_0`.

        wanted (N, M, 2): true spans in seconds, there (N, M) bool; pairs (N, P, 2): steps of which the first is more
        salient, -1 for none.
        """
        targets = self.targets(wanted, steps)
        last, config = len(found.layers) - 1, self.config
        losses: dict[str, torch.Tensor] = {}
        for number, layer in enumerate(found.layers):
            if number < last and not config.moment_auxiliary_losses:
                continue
            own = self.layer_losses(layer, targets, there, words=found.word_embeds, word_mask=word_mask)
            losses |= {name if number == last else f"{name}_{number}": loss for name, loss in own.items()}
        if pairs is not None:
            losses["saliency"] = saliency_loss(found.saliency, pairs, margin=config.moment_saliency_margin)
        return losses

    def layer_losses(
        self,
        found: SetPredictions,
        targets: torch.Tensor,
        there: torch.Tensor,
        *,
        words: torch.Tensor | None,
        word_mask: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        """The losses of one decoder layer, which is matched by itself."""
        config, matched = self.config, self.matched(found, targets, there)
        losses = {"label": label_loss(found.logits, matched, background_weight=config.moment_background_weight)}
        if self.by_bins:
            losses["span"] = bin_loss(found.spans, targets, matched)
        else:
            losses |= span_losses(found.spans, targets, matched)
        if found.embeds is not None and words is not None:
            form: Any = {"temperature": config.moment_temperature, "padding": config.moment_alignment_padding}
            losses["alignment"] = alignment_loss(found.embeds, words, word_mask, matched, **form)
        return losses

    def weighted(self, losses: dict[str, torch.Tensor]) -> torch.Tensor:
        """The sum of the losses by `config.moment_loss_weights`, those of earlier layers as those of the last."""
        weights = self.config.moment_loss_weights or {}
        return torch.stack([weights[name.partition("_")[0]] * loss for name, loss in losses.items()]).sum()
