"""photo -> feature pyramid of any timm CNN (Lin et al. 2017), and two fully connected layers on its regions.

The detector's light half: where `UpDownDetectorConfig.backbone` names a timm model. The Caffe-style ResNet of the
original is `resnet_updown.py`.
"""

from collections.abc import Sequence
from typing import Any

import timm
import torch
from torch import nn
from torch.nn import functional as F
from torchvision.ops import roi_align

from .boxes_updown import box_area

AFTER_THE_STAGES = {"conv_head", "bn2", "final_conv", "norm_pre", "head"}  # what the pyramid's levels do not pass
CANONICAL_CELLS = 14  # a region goes to the level on which its side is about as many cells (224 pixels at stride 16)


class PyramidBackbone(nn.Module):
    """Maps of `channels` at the strides of some timm feature levels, and one of twice the last stride.

    Where `joined` is set the backbone's own last map comes along, at `last_channels` and `last_stride`.
    """

    def __init__(self, name: str, *, levels: Sequence[int], channels: int, joined: bool):
        super().__init__()
        self.levels, self.joined = list(levels), joined
        self.backbone: Any = timm.create_model(name, pretrained=False, num_classes=0, global_pool="")
        info = self.backbone.feature_info
        widths = [info[level]["num_chs"] for level in levels]
        self.strides = [info[level]["reduction"] for level in levels]
        self.strides.append(2 * self.strides[-1])
        self.last_channels, self.last_stride = self.backbone.num_features, info[-1]["reduction"]
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


def frozen_parts(backbone: nn.Module, count: int) -> list[nn.Module]:
    """The stem and the first `count - 1` stages of a timm CNN, the whole of it where it has no more; none for 0."""
    if count < 1:
        return []
    children = dict(backbone.named_children())
    names = list(children)
    first_stage = next((i for i, name in enumerate(names) if name.startswith(("layer", "stages", "blocks"))), None)
    if first_stage is None:
        raise ValueError(f"the stages of {type(backbone).__name__} have names of their own: set frozen_stages=0")
    stages = [child for name, child in children.items() if name.startswith(("layer", "stages_"))]
    for container in ("blocks", "stages", "layers"):
        stages = stages or list(getattr(backbone, container, []))
    if count > len(stages):  # stem and all stages: whatever follows them as well
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
        """Maps (n, channels, h, w) and rois (N, 5), photo number and pixel box, -> (N, width)."""
        pooled = pool_pyramid(maps, rois, strides, size=self.pool_size)  # (N, channels, pool, pool)
        return F.relu(self.output(F.relu(self.hidden(pooled.flatten(1)))))


def pool_pyramid(
    maps: Sequence[torch.Tensor], rois: torch.Tensor, strides: Sequence[int], *, size: int
) -> torch.Tensor:
    """RoIAlign of each roi (N, 5) on the level where its side is about 14 cells: (N, channels, size, size)."""
    side = box_area(rois[:, 1:]).sqrt()
    level = torch.floor(torch.log2(side / (CANONICAL_CELLS * strides[0]) + 1e-6)).clamp(0, len(maps) - 1)
    pooled = maps[0].new_zeros(len(rois), maps[0].shape[1], size, size)
    for number, (feature_map, stride) in enumerate(zip(maps, strides, strict=True)):
        chosen = (level == number).nonzero().flatten()
        if len(chosen):
            aligned = align(feature_map, rois[chosen], stride=stride, size=size)
            pooled = pooled.index_put((chosen,), aligned.to(pooled.dtype))
    return pooled


def box_means(feature_map: torch.Tensor, rois: torch.Tensor, *, stride: float, samples: int = 6) -> torch.Tensor:
    """The mean of a map (n, D, h, w) under each roi (N, 5), over RoIAlign's `samples` x `samples` points: (N, D).

    Bilinear weights of points on a grid are a product of those of its rows and columns, so each roi is one row of
    weights over the cells, and all of them one product of matrices.
    """
    rois = rois.float()
    height, width = feature_map.shape[-2:]
    rows = sample_weights(rois[:, 2], rois[:, 4], cells=height, stride=stride, samples=samples)  # (N, h)
    columns = sample_weights(rois[:, 1], rois[:, 3], cells=width, stride=stride, samples=samples)  # (N, w)
    weights = (rows[:, :, None] * columns[:, None, :]).flatten(1).to(feature_map.dtype)  # (N, h * w)
    cells = feature_map.flatten(2).transpose(1, 2)  # (n, h * w, D)
    means = feature_map.new_zeros(len(rois), feature_map.shape[1])
    for photo in range(len(cells)):
        own = (rois[:, 0] == photo).nonzero().flatten()
        means = means.index_put((own,), (weights[own] @ cells[photo]).to(means.dtype))
    return means


def sample_weights(first: torch.Tensor, last: torch.Tensor, *, cells: int, stride: float, samples: int) -> torch.Tensor:
    """The mean bilinear weight of each of `cells` cells for evenly spread points from pixel `first` to `last` (N,)."""
    steps = (torch.arange(samples, device=first.device) + 0.5) / samples
    points = (first[:, None] + (last - first)[:, None] * steps) / stride - 0.5  # (N, samples), in cells
    distance = points.clamp(0, cells - 1)[..., None] - torch.arange(cells, device=first.device)
    return (1 - distance.abs()).clamp(min=0).mean(dim=1)  # (N, cells)


def align(feature_map: torch.Tensor, rois: torch.Tensor, *, stride: float, size: int) -> torch.Tensor:
    """RoIAlign with 2 x 2 samples a cell, in float32, which is all that torchvision has on the CPU."""
    pooled = roi_align(feature_map.float(), rois.float(), size, 1 / stride, sampling_ratio=2, aligned=True)
    return pooled.to(feature_map.dtype)
