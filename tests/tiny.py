"""Every tiny model, processor and photo of the tests: random weights, a vocabulary of some 30 words, photos of 64 x 64.

The weights are drawn large and from a fixed seed, so that captions differ between photos and are the same in every run.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from modeling_updown import (
    UpDownCaptioningConfig,
    UpDownForImageCaptioning,
    UpDownGrid,
    UpDownGridConfig,
    UpDownImageProcessor,
    UpDownProcessor,
    UpDownTokenizer,
)

PHOTO_SIDE = 64
CAPTIONS = [
    "a brown dog runs through the grass",
    "two men ride a wave on the ocean",
    "a small child in red plays with a ball",
    "people are sitting at an old wooden table",
]


def tiny_grid_config(**changes: Any) -> UpDownGridConfig:
    """A grid of 3 x 3 cells over timm's smallest ResNet."""
    fields: dict[str, Any] = {
        "backbone": "test_resnet",
        "image_size": PHOTO_SIDE,
        "grid_size": 3,
        "region_feature_size": 96,
    }
    return UpDownGridConfig(**(fields | changes))


def tiny_processor() -> UpDownProcessor:
    """The processor of `tiny_captioner`: 64 x 64 photos, the words of `CAPTIONS`."""
    side = {"height": PHOTO_SIDE, "width": PHOTO_SIDE}
    return UpDownProcessor(UpDownImageProcessor(size=side), UpDownTokenizer.from_captions(CAPTIONS, min_count=1))


def tiny_captioning_config(**changes: Any) -> UpDownCaptioningConfig:
    """Widths of 16 to 32 on the tiny grid; `vision_config=None` and `region_feature_size=...` make one without."""
    fields: dict[str, Any] = {
        "vocab_size": len(tiny_processor().tokenizer),
        "hidden_size": 32,
        "word_embedding_size": 16,
        "attention_size": 16,
        "initializer_range": 0.5,
        "vision_config": tiny_grid_config(),
    }
    return UpDownCaptioningConfig(**(fields | changes))


def tiny_captioner(**changes: Any) -> UpDownForImageCaptioning:
    """A captioner of its own region source, in evaluation mode."""
    return seeded(UpDownForImageCaptioning, tiny_captioning_config(**changes))


def tiny_grid(**changes: Any) -> UpDownGrid:
    """The region source alone, in evaluation mode."""
    return seeded(UpDownGrid, tiny_grid_config(**changes))


def seeded(model_class: type, config: Any) -> Any:
    """A model with weights that depend on nothing but its config, whose backbone tells photos apart."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = model_class(config).eval()
        for module in model.modules():
            if isinstance(module, torch.nn.Conv2d):  # wider than by default, so that captions differ too
                torch.nn.init.normal_(module.weight, std=2 * module.weight[0].numel() ** -0.5)
    return model


def save_tiny_captioner(folder: Path, **changes: Any) -> Path:
    """`save_pretrained` of the captioner and its processor into one folder, which is returned."""
    tiny_captioner(**changes).save_pretrained(folder)
    tiny_processor().save_pretrained(folder)
    return folder


def tiny_photo(seed: int = 0, *, width: int = 80, height: int = 60) -> Image.Image:
    """A photo of large random patches of colour."""
    patches = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(patches).resize((width, height), Image.Resampling.NEAREST)
