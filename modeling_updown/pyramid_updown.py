"""Image -> feature pyramid of any timm CNN (Lin et al. 2017), and two fully connected layers on its regions.

The detector's backbone if `UpDownDetectorConfig.backbone` is a timm model; the Caffe-style ResNet of the original is in
`resnet_updown.py`.
"""

from collections.abc import Sequence
from typing import Any

import timm
import torch
from torch import nn
from torch.nn import functional as F

from .boxes_updown import pool_pyramid

AFTER_THE_STAGES = {"conv_head", "bn2", "final_conv", "norm_pre", "head"}  # modules after the last level of the pyramid


class TimmBackbone(nn.Module):
    """A timm CNN, whose last map has `last_channels` and `last_stride`, and how far it trains.

    joined: whether the last map is used.
    """

    def __init__(self, name: str, *, joined: bool):
        super().__init__()
        self.joined = joined
        self.backbone: Any = timm.create_model(name, pretrained=False, num_classes=0, global_pool="")
        self.last_channels = self.backbone.num_features
        self.last_stride = self.backbone.feature_info[-1]["reduction"]

    def freeze_at(self, stages: int) -> None:
        """Stop training the first `stages` of stem and stages of the backbone, all its norms, and what is not used."""
        for part in frozen_parts(self.backbone, stages):
            part.requires_grad_(False)
        children = dict(self.backbone.named_children())
        if not self.joined:
            for name in AFTER_THE_STAGES & children.keys():
                children[name].requires_grad_(False)
        for module in self.backbone.modules():
            if isinstance(module, nn.BatchNorm2d | nn.LayerNorm | nn.GroupNorm):
                module.requires_grad_(False)


class LastMapBackbone(TimmBackbone):
    """The last map alone, where regions are pooled from another model's pyramid."""

    def __init__(self, name: str):
        super().__init__(name, joined=True)

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """pixel_values (n, 3, H, W) -> the last map (n, D, h, w)."""
        return self.backbone.forward_features(pixel_values.contiguous(memory_format=torch.channels_last))


class PyramidBackbone(TimmBackbone):
    """Maps of `channels` at the strides of some timm feature levels, and one of twice the last stride.

    With `joined` the backbone's last map is returned too, with `last_channels` and `last_stride`.
    """

    def __init__(self, name: str, *, levels: Sequence[int], channels: int, joined: bool):
        super().__init__(name, joined=joined)
        self.levels = list(levels)
        info = self.backbone.feature_info
        widths = [info[level]["num_chs"] for level in levels]
        self.strides = [info[level]["reduction"] for level in levels]
        self.strides.append(2 * self.strides[-1])
        self.lateral = nn.ModuleList(nn.Conv2d(width, channels, 1) for width in widths)
        self.smooth = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in widths)

    def forward(self, pixel_values: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor | None]:
        """pixel_values (n, 3, H, W) -> maps (n, channels, h, w), fine to coarse, and the last map (n, D, h, w)."""
        pixel_values = pixel_values.contiguous(memory_format=torch.channels_last)  # convolutions run faster
        last, taken = self.backbone.forward_intermediates(pixel_values, indices=self.levels)
        maps = [lateral(level) for lateral, level in zip(self.lateral, taken, strict=True)]
        for i in range(len(maps) - 2, -1, -1):
            maps[i] = maps[i] + F.interpolate(maps[i + 1], size=maps[i].shape[-2:], mode="nearest")
        maps = [smooth(level) for smooth, level in zip(self.smooth, maps, strict=True)]
        maps.append(F.max_pool2d(maps[-1], kernel_size=1, stride=2))
        return maps, last if self.joined else None


def frozen_parts(backbone: nn.Module, count: int) -> list[nn.Module]:
    """The stem and the first `count - 1` stages of a timm CNN, or all of it if it has no more; [] for 0."""
    if count < 1:
        return []
    children = dict(backbone.named_children())
    names = list(children)
    first_stage = next((i for i, name in enumerate(names) if name.startswith(("layer", "stages", "blocks"))), None)
    if first_stage is None:
        raise ValueError(f"the stages of {type(backbone).__name__} have unknown names: set frozen_stages=0")
    stages = [child for name, child in children.items() if name.startswith(("layer", "stages_"))]
    for container in ("blocks", "stages", "layers"):
        stages = stages or list(getattr(backbone, container, []))
    if count > len(stages):  # stem and all stages, and the modules after them
        return list(children.values())
    return [*(children[name] for name in names[:first_stage]), *stages[: count - 1]]


class PyramidRegions(nn.Module):
    """Regions pooled from the level that fits their size, then two fully connected layers with ReLU: (N, width)."""

    def __init__(self, *, channels: int, pool_size: int, width: int):
        super().__init__()
        self.pool_size = pool_size
        self.hidden = nn.Linear(channels * pool_size**2, width)
        self.output = nn.Linear(width, width)

    def forward(self, maps: Sequence[torch.Tensor], rois: torch.Tensor, strides: Sequence[int]) -> torch.Tensor:
        """Maps (n, channels, h, w) and rois (N, 5), image number and pixel box, -> (N, width)."""
        pooled = pool_pyramid(maps, rois, strides, size=self.pool_size)  # (N, channels, pool, pool)
        return F.relu(self.output(F.relu(self.hidden(pooled.flatten(1)))))
