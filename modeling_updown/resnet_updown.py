"""The detector's Caffe-style ResNet: conv1 to res4 on the photo, res5 on the regions (He et al. 2016, "C4").

Anderson et al. 2018 share stem, res2, res3 and res4 between the proposals and the regions; every region is pooled from
the res4 map and runs through res5, whose mean is the region's feature:

    feature_map = CaffeResNet()(pixel_values)             # (B, 1024, H / 16, W / 16)
    region_features = RegionStage()(pooled_regions)       # (N, 1024, 14, 14) -> (N, 2048)

Caffe's variant strides in the first 1x1 convolution and pools the stem without padding. All batch norms are frozen.
"""

import torch
from torch import nn
from torch.nn import functional as F

STAGES = ("stem", "res2", "res3", "res4")


class FrozenBatchNorm2d(nn.BatchNorm2d):
    """A batch norm that always uses its running statistics and never learns: an affine map of each channel."""

    def __init__(self, num_features: int):
        super().__init__(num_features)
        self.requires_grad_(False)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        assert self.running_mean is not None and self.running_var is not None
        return F.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)


class NormedConv2d(nn.Conv2d):
    """A convolution without bias and the frozen norm after it."""

    def __init__(
        self, in_channels: int, out_channels: int, *, kernel: int, stride: int = 1, dilation: int = 1, groups: int = 1
    ):
        padding = dilation * (kernel // 2)
        super().__init__(in_channels, out_channels, kernel, stride, padding, dilation, groups, bias=False)
        self.norm = FrozenBatchNorm2d(out_channels)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return self.norm(super().forward(input))


class Stem(nn.Module):
    """pixel_values (B, 3, H, W) -> (B, D, H / 4, W / 4)."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv1 = NormedConv2d(3, channels, kernel=7, stride=2)

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return F.max_pool2d(self.conv1(pixel_values).relu_(), kernel_size=3, stride=2, ceil_mode=True)


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 and a shortcut: (B, in_channels, h, w) -> (B, out_channels, h / stride, w / stride)."""

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
        in_1x1, in_3x3 = (stride, 1) if stride_in_1x1 else (1, stride)
        self.shortcut = (
            None if in_channels == out_channels else NormedConv2d(in_channels, out_channels, kernel=1, stride=stride)
        )
        self.conv1 = NormedConv2d(in_channels, bottleneck_channels, kernel=1, stride=in_1x1)
        self.conv2 = NormedConv2d(
            bottleneck_channels, bottleneck_channels, kernel=3, stride=in_3x3, dilation=dilation, groups=num_groups
        )
        self.conv3 = NormedConv2d(bottleneck_channels, out_channels, kernel=1)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        hidden = self.conv2(self.conv1(inputs).relu_()).relu_()
        shortcut = inputs if self.shortcut is None else self.shortcut(inputs)
        return (self.conv3(hidden) + shortcut).relu_()


def _blocks(
    in_channels: int,
    out_channels: int,
    *,
    depth: int,
    bottleneck_channels: int,
    stride: int,
    dilation: int = 1,
    num_groups: int,
    stride_in_1x1: bool,
) -> list[Bottleneck]:
    """A stage: the first block changes width and resolution, the others keep both."""
    return [
        Bottleneck(
            in_channels if block == 0 else out_channels,
            out_channels,
            bottleneck_channels=bottleneck_channels,
            stride=stride if block == 0 else 1,
            dilation=dilation,
            num_groups=num_groups,
            stride_in_1x1=stride_in_1x1,
        )
        for block in range(depth)
    ]


class CaffeResNet(nn.Module):
    """pixel_values (B, 3, H, W) -> the res4 map (B, 4 * out_channels, H / 16, W / 16).

    depths: blocks of res2, res3, res4 (3, 4, 23 for ResNet-101); out_channels and bottleneck_channels: of res2, doubled
    at each later stage.
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
        width = stem_channels
        for stage, depth in enumerate(depths):
            blocks = _blocks(
                width,
                out_channels << stage,
                depth=depth,
                bottleneck_channels=bottleneck_channels << stage,
                stride=1 if stage == 0 else 2,
                num_groups=num_groups,
                stride_in_1x1=stride_in_1x1,
            )
            setattr(self, STAGES[stage + 1], nn.Sequential(*blocks))
            width = out_channels << stage
        self.out_channels = width

    def freeze_at(self, stages: int) -> None:
        """Stop training the first `stages` of stem, res2, res3, res4 (the paper: 3); the others train."""
        for place, name in enumerate(STAGES):
            for module in getattr(self, name).modules():
                if isinstance(module, NormedConv2d):
                    module.weight.requires_grad_(place >= stages)

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        hidden = pixel_values
        for name in STAGES:
            hidden = getattr(self, name)(hidden)
        return hidden


class RegionStage(nn.Sequential):
    """res5 on pooled regions: (N, in_channels, p, p) -> the mean of its map (N, out_channels).

    The references run it with stride 1 and dilation 2, so that 14 x 14 stays 14 x 14.
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
        super().__init__(
            *_blocks(
                in_channels,
                out_channels,
                depth=depth,
                bottleneck_channels=bottleneck_channels,
                stride=stride,
                dilation=dilation,
                num_groups=num_groups,
                stride_in_1x1=stride_in_1x1,
            )
        )
        self.out_channels = out_channels

    def maps(self, pooled: torch.Tensor) -> torch.Tensor:
        """Pooled regions (N, in_channels, p, p) -> res5's maps (N, out_channels, p / stride, p / stride)."""
        return super().forward(pooled)

    def forward(self, pooled: torch.Tensor) -> torch.Tensor:
        return self.maps(pooled).mean(dim=(2, 3))
