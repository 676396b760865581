"""Faster products that read a linear layer's weight directly, and the layer's own call where that is not allowed: with
an adapter (peft), a hook that loads the weight from disk (accelerate), or a quantised or other class.

Both give the same numbers up to rounding. N rows, V words, width H.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from .compat_updown import has_hooks, optional_sibling

KERNELS = optional_sibling("kernels_updown", package=__package__)


class NormedLinear(nn.Module):
    """A linear layer whose weight is `gain` x V / ||V||, with one norm for the whole matrix; V is `weight`.

    This is `weight_norm(dim=None)` of Salimans and Kingma 2016, as in hengyuan-hu/bottom-up-attention-vqa. It is not an
    `nn.Linear`, since an adapter merged into V would be scaled with it. `folded` converts it to one.

    >>> layer = NormedLinear(3, 2)
    >>> bool(torch.isclose(layer.effective_weight().norm(), layer.gain))
    True
    """

    def __init__(self, in_features: int, out_features: int):
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        self.bias = nn.Parameter(torch.zeros(out_features))
        nn.init.normal_(self.weight, std=in_features**-0.5)
        self.gain = nn.Parameter(torch.ones(()))

    def effective_weight(self) -> torch.Tensor:
        """(out, in)"""
        return self.weight * (self.gain / self.weight.norm())

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return F.linear(inputs, self.effective_weight(), self.bias)

    @torch.no_grad()
    def folded(self) -> nn.Linear:
        """The `nn.Linear` with the same outputs."""
        plain = nn.Linear(self.in_features, self.out_features, device=self.weight.device, dtype=self.weight.dtype)
        plain.weight.copy_(self.effective_weight())
        plain.bias.copy_(self.bias)
        return plain.train(self.training)


def linear_layer(in_features: int, out_features: int, *, weight_norm: bool = False) -> Any:
    """An `nn.Linear`, or a `NormedLinear`."""
    return NormedLinear(in_features, out_features) if weight_norm else nn.Linear(in_features, out_features)


def is_plain(layer: nn.Module, *kinds: type[nn.Module]) -> bool:
    """Whether a layer is of one of these classes (no subclass) and calling it only runs the class's `forward`."""
    return _runs_own_forward(layer, *kinds) and not has_hooks(layer)


def _runs_own_forward(layer: nn.Module, *kinds: type[nn.Module]) -> bool:
    """As `is_plain`, ignoring hooks; accelerate replaces `forward` by another function."""
    return type(layer) in kinds and getattr(layer.forward, "__func__", None) is type(layer).forward


def float_type(module: nn.Module) -> torch.dtype:
    """The type of a module's first floating-point weight."""
    return next((weight.dtype for weight in module.parameters() if weight.is_floating_point()), torch.float32)


def first_product(layer: Any, inputs: torch.Tensor, *, rest: int) -> torch.Tensor:
    """W [x, 0] + b: what the first inputs x (..., in - rest) of a linear layer contribute, with the bias."""
    if is_plain(layer, nn.Linear, NormedLinear):
        return F.linear(inputs, _weight(layer)[:, : inputs.shape[-1]], layer.bias)
    return layer(F.pad(inputs, (0, rest)))


def last_product(layer: Any, inputs: torch.Tensor, *, rest: int) -> torch.Tensor:
    """W [0, x]: what the last inputs x (..., in - rest) of a linear layer contribute, without the bias."""
    if is_plain(layer, nn.Linear, NormedLinear):
        return F.linear(inputs, _weight(layer)[:, rest:])
    return layer(F.pad(inputs, (rest, 0))) - layer(inputs.new_zeros(1, rest + inputs.shape[-1]))


def score_rows(layer: Any) -> torch.Tensor | None:
    """The weight (G, in) of a layer if its rows may be multiplied into another matrix first, else None."""
    return _weight(layer) if is_plain(layer, nn.Linear, NormedLinear) else None


def word_scores(states: torch.Tensor, embedding: Any) -> torch.Tensor:
    """States (..., H) times every word's embedding -> (..., V).

    Hooks of the embedding (`enable_input_require_grads` of transformers adds one) apply to looked-up words, not here.
    """
    if _runs_own_forward(embedding, nn.Embedding):
        return F.linear(states, embedding.weight)
    words = torch.arange(len(embedding.weight), device=states.device)
    return F.linear(states, embedding(words).to(states.dtype))


def step_product(layer: Any, *, num_steps: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """A linear layer that is used once per time step; in training, if `kernels_updown` is there, its weight's gradient
    is computed once for all steps.
    """
    if num_steps < 2 or not torch.is_grad_enabled() or torch.compiler.is_compiling():  # the tape cannot be compiled
        return layer
    if KERNELS is None or not is_plain(layer, nn.Linear) or not layer.weight.requires_grad:
        return layer
    return KERNELS.StepLinear(layer.weight, layer.bias)


def _weight(layer: Any) -> torch.Tensor:
    return layer.effective_weight() if isinstance(layer, NormedLinear) else layer.weight
