"""The detector's Caffe-style ResNet ("C4"): conv1 to res4 on the image, res5 on each region (He et al. 2016).

In Anderson et al. 2018 the proposals and the regions share stem, res2, res3 and res4; each region is pooled from the
res4 map to 14 x 14 and passed through res5, whose mean is the region's feature:

    feature_map = backbone(pixel_values)                 # (B, 3, H, W) -> (B, 1024, H / 16, W / 16)
    region_features = stage(feature_map, rois)           # rois (N, 5) -> (N, 2048), or from pooled maps: stage(pooled)

Caffe's variant has the stride in the first 1x1 convolution and pools the stem without padding. Every batch norm is
frozen.

Without gradients, each norm is folded into its convolution (at every call, which is cheap and never stale), and on a
CPU `kernels_updown`, if it is there, computes the same numbers up to rounding in less time.
"""

import re
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from .boxes_updown import even_parts, max_pool_rois
from .compat_updown import optional_sibling
from .linear_updown import is_plain

CAFFE_DEPTHS = {"50": (3, 4, 6, 3), "101": (3, 4, 23, 3), "152": (3, 8, 36, 3)}
CAFFE_STRIDE = 16
STAGES = ("stem", "res2", "res3", "res4")
KERNELS = optional_sibling("kernels_updown", package=__package__)


def _needs_gradient(module: nn.Module, *inputs: torch.Tensor) -> bool:
    return torch.is_grad_enabled() and any(x.requires_grad for x in (*inputs, *module.parameters()))


def _reads_weights(module: nn.Module) -> bool:
    """Whether the weights of convolutions and norms may be read directly: none of them has a hook or is replaced."""
    layers = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d | nn.BatchNorm2d)]
    return all(is_plain(layer, NormedConv2d, FrozenBatchNorm2d) for layer in layers)


def _fastest_layout(maps: torch.Tensor) -> torch.Tensor:
    return maps.contiguous(memory_format=torch.channels_last) if maps.device.type == "cpu" else maps


class FrozenBatchNorm2d(nn.BatchNorm2d):
    """A batch norm that always uses its running statistics and is not trained: an affine map of each channel."""

    running_mean: torch.Tensor
    running_var: torch.Tensor

    def __init__(self, num_features: int):
        super().__init__(num_features)
        self.requires_grad_(False)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return F.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)


class NormedConv2d(nn.Conv2d):
    """A convolution without bias, then its frozen norm; without gradients one folded convolution."""

    def __init__(
        self, in_channels: int, out_channels: int, *, kernel: int, stride: int = 1, dilation: int = 1, groups: int = 1
    ):
        padding = dilation * (kernel // 2)
        super().__init__(in_channels, out_channels, kernel, stride, padding, dilation, groups, bias=False)
        self.norm = FrozenBatchNorm2d(out_channels)

    def folded(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Weight and bias of the convolution that equals this one with its norm, in float32 at least."""
        dtype = torch.promote_types(self.weight.dtype, torch.float32)
        mean, variance = self.norm.running_mean.to(dtype), self.norm.running_var.to(dtype)
        scale = self.norm.weight.to(dtype) * (variance + self.norm.eps).rsqrt()
        return self.weight.to(dtype) * scale[:, None, None, None], self.norm.bias.to(dtype) - mean * scale

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if _needs_gradient(self, input) or not is_plain(self.norm, FrozenBatchNorm2d):
            return self.norm(super().forward(input))
        weight, bias = (x.to(self.weight.dtype) for x in self.folded())
        conv2d = F.conv2d if KERNELS is None else KERNELS.conv2d
        return conv2d(input, weight, bias, self.stride, self.padding, self.dilation, self.groups)


class Stem(nn.Module):
    """pixel_values (B, 3, H, W) -> (B, channels, H / 4, W / 4)."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv1 = NormedConv2d(3, channels, kernel=7, stride=2)

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return F.max_pool2d(self.conv1(pixel_values).relu_(), kernel_size=3, stride=2, ceil_mode=True)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions with a shortcut: (B, in_channels, h, w) -> (B, out_channels, h / s, w / s).

    The shortcut has a convolution if the width changes (else `shortcut` is None); stride s is in the first 1x1
    convolution (Caffe, the paper) or in the 3x3 one.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        bottleneck_channels: int,
        stride: int = 1,
        dilation: int = 1,
        num_groups: int = 1,
        stride_in_1x1: bool = True,
    ):
        super().__init__()
        stride_1x1, stride_3x3 = (stride, 1) if stride_in_1x1 else (1, stride)
        self.shortcut = None
        if in_channels != out_channels:
            self.shortcut = NormedConv2d(in_channels, out_channels, kernel=1, stride=stride)
        self.conv1 = NormedConv2d(in_channels, bottleneck_channels, kernel=1, stride=stride_1x1)
        self.conv2 = NormedConv2d(
            bottleneck_channels, bottleneck_channels, kernel=3, stride=stride_3x3, dilation=dilation, groups=num_groups
        )
        self.conv3 = NormedConv2d(bottleneck_channels, out_channels, kernel=1)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        hidden = self.conv2(self.conv1(inputs).relu_()).relu_()
        shortcut = inputs if self.shortcut is None else self.shortcut(inputs)
        return self.conv3(hidden).add_(shortcut).relu_()


def _stage(in_channels: int, out_channels: int, *, depth: int, stride: int, **options: Any) -> list[Bottleneck]:
    """The blocks of a stage, of which the first changes width and resolution."""
    first = Bottleneck(in_channels, out_channels, stride=stride, **options)
    return [first, *(Bottleneck(out_channels, out_channels, **options) for _ in range(depth - 1))]


class CaffeResNet(nn.Module):
    """pixel_values (B, 3, H, W) -> the res4 map (B, 4 * out_channels, H / 16, W / 16), sizes rounded up.

    depths: blocks of res2, res3, res4 (3, 4, 23 for ResNet-101); bottleneck_channels and out_channels: of res2, doubled
    at each later stage. `out_channels` of the module is the width of its map. Parameters are named as in the
    references (stem.conv1.norm.weight, res2.0.shortcut.weight, ...).

    >>> backbone = CaffeResNet(depths=(1, 1, 1), stem_channels=4, bottleneck_channels=2, out_channels=8)
    >>> backbone(torch.zeros(1, 3, 64, 80)).shape, backbone.out_channels
    (torch.Size([1, 32, 4, 5]), 32)
    """

    def __init__(
        self,
        *,
        depths: tuple[int, int, int] = (3, 4, 23),
        stem_channels: int = 64,
        bottleneck_channels: int = 64,
        out_channels: int = 256,
        num_groups: int = 1,
        stride_in_1x1: bool = True,
    ):
        super().__init__()
        self.stem = Stem(stem_channels)
        options: dict[str, Any] = {"num_groups": num_groups, "stride_in_1x1": stride_in_1x1}
        widths = (stem_channels, out_channels, out_channels * 2, out_channels * 4)
        for place, depth in enumerate(depths):
            blocks = _stage(
                widths[place],
                widths[place + 1],
                depth=depth,
                stride=1 if place == 0 else 2,
                bottleneck_channels=bottleneck_channels << place,
                **options,
            )
            self.add_module(STAGES[place + 1], nn.Sequential(*blocks))
        self.out_channels = widths[-1]

    def freeze_at(self, stages: int) -> None:
        """Freeze the first `stages` of stem, res2, res3, res4 (the paper: 3) and unfreeze the others, except norms."""
        for place, name in enumerate(STAGES):
            for module in self.get_submodule(name).modules():
                if isinstance(module, NormedConv2d):
                    module.weight.requires_grad_(place >= stages)

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        hidden = _fastest_layout(pixel_values)
        for name in STAGES:
            hidden = self.get_submodule(name)(hidden)
        return hidden


class RegionStage(nn.Sequential):
    """res5 on pooled regions, or on regions that it pools -> the means of its maps (N, out_channels).

    - `stage(pooled)`: pooled (N, in_channels, p, p);
    - `stage(feature_map, rois)`: the same for torchvision's `roi_pool(feature_map, rois, output_size, spatial_scale)`
      (bins quantised as in Girshick 2015). feature_map (B, in_channels, h, w); rois (N, 5): index of the image in the
      batch, then its box xyxy in pixels; output_size: p; spatial_scale: cells of the map per pixel.

    The references run it with stride 1 and dilation 2, so that 14 x 14 cells stay 14 x 14. Parameters are named as in
    the references (0.conv1.norm.weight, ...). Raises `ValueError` for a roi that is not finite or without an image.

    >>> stage = RegionStage(depth=2, in_channels=8, bottleneck_channels=4, out_channels=16)
    >>> stage(torch.zeros(3, 8, 14, 14)).shape
    torch.Size([3, 16])
    >>> stage(torch.zeros(1, 8, 38, 57), torch.tensor([[0, 16.0, 32.0, 480.0, 320.0]])).shape
    torch.Size([1, 16])
    """

    def __init__(
        self,
        *,
        depth: int = 3,
        in_channels: int = 1024,
        bottleneck_channels: int = 512,
        out_channels: int = 2048,
        stride: int = 1,
        dilation: int = 2,
        num_groups: int = 1,
        stride_in_1x1: bool = True,
    ):
        options = {"num_groups": num_groups, "stride_in_1x1": stride_in_1x1, "dilation": dilation}
        blocks = _stage(
            in_channels, out_channels, depth=depth, stride=stride, bottleneck_channels=bottleneck_channels, **options
        )
        super().__init__(*blocks)
        self.out_channels, self.stride, self.dilation = out_channels, stride, dilation
        self.plain_only = num_groups > 1 or (stride > 1 and not stride_in_1x1)

    def forward(
        self,
        maps: torch.Tensor,
        rois: torch.Tensor | None = None,
        *,
        output_size: int = 14,
        spatial_scale: float = 1 / 16,
    ) -> torch.Tensor:
        options: dict[str, Any] = {"output_size": output_size, "spatial_scale": spatial_scale}
        if rois is not None:
            _check_rois(rois, num_images=len(maps))
        if KERNELS is not None and not (self.plain_only or _needs_gradient(self, maps)) and _reads_weights(self):
            means = KERNELS.stage_means(self, maps, rois, **options)
            if means is not None:
                return means
        if rois is None:
            pooled: Iterable[torch.Tensor] = even_parts(maps, maps.shape[2] * maps.shape[3])
        else:
            pooled = (max_pool_rois(maps, part, **options) for part in even_parts(rois, output_size**2))
        return torch.cat([self.maps(part).mean(dim=(2, 3)) for part in pooled])

    def maps(self, pooled: torch.Tensor) -> torch.Tensor:
        """Pooled regions (N, in_channels, p, p) -> the maps of res5 (N, out_channels, p / stride, p / stride)."""
        return super().forward(_fastest_layout(pooled))


def caffe_name(name: str) -> str:
    """timm's name of a ResNet's weight -> ours in a Caffe-style detector.

    >>> caffe_name("layer2.0.downsample.1.bias"), caffe_name("layer4.1.conv3.weight")
    ('backbone.res3.0.shortcut.norm.bias', 'region_stage.1.conv3.weight')
    """
    for theirs, ours in (("downsample.0", "shortcut"), ("downsample.1", "shortcut.norm")):
        name = name.replace(theirs, ours)
    name = re.sub(r"bn(\d)", r"conv\1.norm", name)
    stage = re.match(r"layer(\d)\.", name)
    if stage is None:
        return f"backbone.stem.{name}"
    place = "region_stage" if stage[1] == "4" else f"backbone.res{int(stage[1]) + 1}"
    return f"{place}.{name[stage.end() :]}"


def _check_rois(rois: torch.Tensor, *, num_images: int) -> None:
    if not bool(torch.isfinite(rois).all()):
        raise ValueError("a region's box is not finite (NaN or infinity): are its image or the weights damaged?")
    if len(rois) and not 0 <= int(rois[:, 0].min()) <= int(rois[:, 0].max()) < num_images:
        raise ValueError(f"a region names an image outside the batch of {num_images}: rois[:, 0] counts from 0")
