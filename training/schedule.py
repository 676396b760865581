"""Builds the optimiser and the learning-rate schedule of a recipe."""

import math
from functools import partial

import torch
from torch.optim.lr_scheduler import LambdaLR

from modeling_updown.compat_updown import ADAPTER
from training.recipe_sections import TrainRecipe

# weights pretrained on ImageNet or by a detector: those of a region source, and a detector's backbone
PRETRAINED = ("region_source.", "fusion.region_source.", "backbone.backbone.", "backbone.stem.", "backbone.res")
TEXT = ("fusion.text_model.", "text_model.", "language_model.")


def build_optimizer(
    model: torch.nn.Module, settings: TrainRecipe, *, text_learning_rate: float = 0.0
) -> torch.optim.Optimizer:
    """The recipe's optimiser over every trainable weight.

    The region source, or a detector's backbone, has a separate learning rate, and so has a pretrained text model if
    `text_learning_rate` is given. Biases and other vectors do not decay.
    """
    groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        rate = settings.learning_rate
        if name.startswith(PRETRAINED):
            rate = settings.region_learning_rate
        elif name.startswith(TEXT) and ADAPTER not in name:
            rate = text_learning_rate or rate
        decay = settings.weight_decay if parameter.dim() > 1 else 0.0
        groups.setdefault((rate, decay), []).append(parameter)
    if not groups:
        raise ValueError("the model has no trainable weight: everything is frozen")
    parameters = [{"params": group, "lr": rate, "weight_decay": decay} for (rate, decay), group in groups.items()]
    if settings.optimizer == "sgd":
        return torch.optim.SGD(parameters, momentum=settings.momentum)
    kind = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "adamax": torch.optim.Adamax}[settings.optimizer]
    return kind(parameters, betas=(settings.betas[0], settings.betas[1]))


def build_schedule(optimizer: torch.optim.Optimizer, settings: TrainRecipe, *, steps_per_epoch: int) -> LambdaLR:
    """The schedule that multiplies every learning rate by `learning_rate_factor`."""
    return LambdaLR(optimizer, partial(learning_rate_factor, settings=settings, steps_per_epoch=steps_per_epoch))


def learning_rate_factor(step: int, *, settings: TrainRecipe, steps_per_epoch: int) -> float:
    """The factor, 0..1, at a step: the smaller of a linear warm-up and the recipe's schedule.

    >>> learning_rate_factor(150, settings=TrainRecipe(epochs=3, warmup_steps=0), steps_per_epoch=100)
    0.5
    """
    warmup = min(1.0, (step + 1) / max(1, settings.warmup_steps))
    total = min(settings.epochs * steps_per_epoch, settings.max_steps or math.inf)
    share = min(1.0, step / max(1, total))
    interval = settings.decay_steps or steps_per_epoch * settings.decay_epochs
    factors = {
        "cosine": 0.5 * (1 + math.cos(math.pi * share)),
        "linear": 1 - share,
        "step": settings.decay ** (step // max(1, interval)),
        "constant": 1.0,
    }
    return round(min(warmup, factors[settings.schedule]), 12)


def scheduled_sampling_probability(settings: TrainRecipe, epoch: int) -> float:
    """The probability in an epoch (from 0) of feeding a sampled word of the model instead of the caption's word."""
    if settings.objective != "cross_entropy" or not settings.scheduled_sampling_increase:
        return 0.0
    rises = epoch // settings.scheduled_sampling_epochs + 1
    return min(settings.scheduled_sampling_max, settings.scheduled_sampling_increase * rises)
