"""The detector's Caffe-style ResNet ("C4"): conv1 to res4 on the image, res5 on each region (He et al. 2016).

In Anderson et al. 2018 the proposals and the regions share stem, res2, res3 and res4; each region is pooled from the
res4 map to 14 x 14 and passed through res5, whose mean is the region's feature:

    feature_map = backbone(pixel_values)                 # (B, 3, H, W) -> (B, 1024, H / 16, W / 16)
    region_features = stage(feature_map, rois)           # rois (N, 5) -> (N, 2048), or from pooled maps: stage(pooled)

Caffe's variant has the stride in the first 1x1 convolution and pools the stem without padding. Every batch norm is
frozen.

Without gradients, each norm is folded into its convolution (at every call, which is cheap and never stale), and on a
CPU res5 has a faster implementation, equal up to rounding (measured by tests/benchmarks/resnet_stage.py): regions that
share a pooled bin share its first convolutions, the 3x3 convolutions are products in the frequency domain, and the
memory is bounded for any number of regions.
"""

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from .boxes_updown import max_pool_rois
from .linear_updown import is_plain

CAFFE_DEPTHS = {"50": (3, 4, 6, 3), "101": (3, 4, 23, 3), "152": (3, 8, 36, 3)}
CAFFE_STRIDE = 16
STAGES = ("stem", "res2", "res3", "res4")
POSITIONS_AT_ONCE = 150 * 14 * 14  # cells of regions held in memory together, in float32; twice as many in bfloat16
BYTES_AT_ONCE = 2**24  # of the result of one product: glibc returns blocks above 32 MB, and allocating them is slow
KERNELS_AT_ONCE = 8  # frequencies whose weights are computed together
LARGEST_SIDE = 8  # of maps convolved by Fourier transforms, whose work grows with the fourth power of the side
LEVELS = 16  # distinguished sizes of pooled bins, in powers of two
# Has no effect on a kernel of one cell; but with one thread torch runs an image's undilated 1x1 convolutions in MKL, at
# half the speed of oneDNN on the AMD processor on which this was measured.
ONEDNN_DILATION = 2


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
        dilation = ONEDNN_DILATION if self.kernel_size == (1, 1) else self.dilation
        return F.conv2d(input, weight, bias, self.stride, self.padding, dilation, self.groups)


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
        if rois is None:
            rows, columns = maps.shape[2:]
            if self._runs_plain(maps, (rows, columns)):
                return torch.cat([self.maps(part).mean(dim=(2, 3)) for part in _even_parts(maps, rows * columns)])
            return self._means_of_pooled(maps, dtype=_compute_dtype(self))
        _check_rois(rois, num_images=len(maps))
        options: dict[str, Any] = {"output_size": output_size, "spatial_scale": spatial_scale}
        if len(rois) and not self._runs_plain(maps, (output_size, output_size)):
            return self._means_on_map(maps, rois, **options, dtype=_compute_dtype(self))
        groups = _even_parts(rois, output_size**2)
        pooled = (max_pool_rois(maps, group, **options) for group in groups)
        return torch.cat([self.maps(part).mean(dim=(2, 3)) for part in pooled])

    def maps(self, pooled: torch.Tensor) -> torch.Tensor:
        """Pooled regions (N, in_channels, p, p) -> the maps of res5 (N, out_channels, p / stride, p / stride)."""
        return super().forward(_fastest_layout(pooled))

    def _runs_plain(self, inputs: torch.Tensor, size: tuple[int, int]) -> bool:
        """Whether the blocks' `forward` is used on pooled maps of a size, not the faster implementation."""
        rows, columns = (-(-side // self.stride) for side in size)
        return (
            _needs_gradient(self, inputs)
            or self.plain_only
            or not _reads_weights(self)
            or inputs.device.type != "cpu"
            or inputs.numel() == 0
            or _compute_dtype(self) == torch.float16  # sums over a map could overflow
            or torch.compiler.is_compiling()
            or rows != columns
            or rows % self.dilation != 0
            or rows // self.dilation > LARGEST_SIDE
        )

    @torch.no_grad()
    @torch.autocast("cpu", enabled=False)
    def _means_of_pooled(self, pooled: torch.Tensor, *, dtype: torch.dtype) -> torch.Tensor:
        blocks = [_FoldedBlock.of(block, dtype=dtype) for block in self.children()]
        pooled = pooled[:, :, :: self.stride, :: self.stride]  # a strided 1x1 convolution reads only these cells
        means = []
        for part in _even_parts(pooled, pooled.shape[2] ** 2, itemsize=dtype.itemsize):
            rows = _interleave(part.movedim(1, -1), dilation=self.dilation).to(dtype)  # (p * p * n, in_channels)
            hidden, carried = _enter(rows.split(_rows_at_once(blocks[0])), len(rows), block=blocks[0])
            means.append(_means(blocks, hidden, carried, num_regions=len(part), dilation=self.dilation))
        return torch.cat(means)

    @torch.no_grad()
    @torch.autocast("cpu", enabled=False)
    def _means_on_map(
        self,
        feature_map: torch.Tensor,
        rois: torch.Tensor,
        *,
        output_size: int,
        spatial_scale: float,
        dtype: torch.dtype,
    ) -> torch.Tensor:
        blocks = [_FoldedBlock.of(block, dtype=dtype) for block in self.children()]
        cells = feature_map.movedim(1, -1).to(dtype).contiguous()  # (B, h, w, in_channels)
        rois = rois.to(torch.promote_types(dtype, torch.float32))
        means = []
        for group in _even_parts(rois, output_size**2 // 2, itemsize=dtype.itemsize):
            bins = _bin_numbers(group, cells.shape, output_size=output_size, spatial_scale=spatial_scale)
            shared, places = bins[:, :: self.stride, :: self.stride].unique(return_inverse=True)
            maxima = _bin_maxima(cells, shared, rows_at_once=_rows_at_once(blocks[0]))
            hidden, carried = _enter(maxima, len(shared), block=blocks[0])
            for part in _even_parts(places, places.shape[1] ** 2, itemsize=dtype.itemsize):
                place = _interleave(part[..., None], dilation=self.dilation).flatten()  # (p * p * n,)
                own = hidden.index_select(0, place)
                options = {"num_regions": len(part), "dilation": self.dilation}
                means.append(_means(blocks, own, carried, place=place, **options))
        return torch.cat(means)


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


# res5 for inference on a CPU. M = p * p * n rows are the cells of n regions in the order (cell of a sub-map, sub-map,
# region): a convolution of dilation d is a separate convolution of each of d * d sub-maps of side p / d.


def _compute_dtype(module: nn.Module) -> torch.dtype:
    if torch.is_autocast_enabled("cpu"):
        return torch.get_autocast_dtype("cpu")
    return next(module.parameters()).dtype


@dataclass
class _FoldedBlock:
    """A bottleneck's convolutions with their norms: 1x1 ones as matrices (out, in), each with its bias (out,)."""

    reduce: tuple[torch.Tensor, torch.Tensor]
    taps: tuple[torch.Tensor, torch.Tensor]  # the 3x3 one (9, out * in), in float32 at least
    expand: tuple[torch.Tensor, torch.Tensor]
    shortcut: tuple[torch.Tensor, torch.Tensor] | None

    @classmethod
    def of(cls, block: nn.Module, *, dtype: torch.dtype) -> "_FoldedBlock":
        """Fold in float32, then round to dtype."""
        assert isinstance(block, Bottleneck)
        reduce, expand = (_matrix(conv, dtype=dtype) for conv in (block.conv1, block.conv3))
        shortcut = None if block.shortcut is None else _matrix(block.shortcut, dtype=dtype)
        weight, bias = block.conv2.folded()
        return cls(reduce, (weight.flatten(0, 1).flatten(1).T.contiguous(), bias), expand, shortcut)


def _matrix(conv: NormedConv2d, *, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    weight, bias = conv.folded()
    return weight.flatten(1).to(dtype), bias.to(dtype)


def _rows_at_once(block: _FoldedBlock) -> int:
    weight = block.expand[0]
    return max(1, BYTES_AT_ONCE // (len(weight) * weight.element_size()))


def _even_parts(regions: torch.Tensor, positions: int, *, itemsize: int = 4) -> tuple[torch.Tensor, ...]:
    """Regions (N, ...) of `positions` cells each, split into the fewest parts within the bound, of similar size."""
    most = POSITIONS_AT_ONCE * 4 // itemsize
    return regions.tensor_split(max(1, math.ceil(len(regions) * positions / most)))


def _interleave(maps: torch.Tensor, *, dilation: int) -> torch.Tensor:
    """(n, p, p, D) -> the rows (p * p * n, D)."""
    n, side = len(maps), maps.shape[1] // dilation
    split = maps.reshape(n, side, dilation, side, dilation, -1)
    return split.permute(1, 3, 2, 4, 0, 5).reshape(-1, maps.shape[-1])


def _product(rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """rows (M, in), weight (out, in) -> (M, out), as a 1x1 convolution, which torch runs in oneDNN; it runs float32
    matrix products in MKL (see `ONEDNN_DILATION`).
    """
    image = rows.view(1, len(rows), 1, -1).movedim(-1, 1)  # (1, in, M, 1), which is seen to be channels last
    output = F.conv2d(image, weight[:, :, None, None], bias, dilation=ONEDNN_DILATION)  # (1, out, M, 1)
    return output.movedim(1, -1).reshape(len(rows), -1)


def _enter(pooled: Iterable[torch.Tensor], num_rows: int, *, block: _FoldedBlock) -> tuple[torch.Tensor, torch.Tensor]:
    """Pooled cells, in parts (m, in) -> outputs of conv1 (num_rows, bottleneck) and of the shortcut (num_rows, out)."""
    weight = block.expand[0]
    hidden = weight.new_empty(num_rows, weight.shape[1])
    carried = weight.new_empty(num_rows, weight.shape[0])
    first = 0
    for rows in pooled:
        here = slice(first, first + len(rows))
        hidden[here] = _product(rows, *block.reduce).relu_()
        carried[here] = rows if block.shortcut is None else _product(rows, *block.shortcut)
        first = here.stop
    return hidden, carried


def _means(
    blocks: list[_FoldedBlock],
    hidden: torch.Tensor,
    carried: torch.Tensor,
    *,
    num_regions: int,
    dilation: int,
    place: torch.Tensor | None = None,
) -> torch.Tensor:
    """From the first block's conv1, hidden (M, bottleneck), to the mean of the last block's map (n, out).

    place (M,): the row of `carried` for each row; by default the same row. `hidden` is modified in place.
    """
    cells = len(hidden) // num_regions
    side = math.isqrt(cells) // dilation
    step = max(1, _rows_at_once(blocks[0]) // num_regions) * num_regions
    parts = list(carried.split(step)) if place is None else []  # the residual stream, beside the parts of hidden
    total = hidden.new_zeros(num_regions, carried.shape[1], dtype=blocks[0].taps[0].dtype)
    spectrum = hidden.new_empty(len(_transforms(side)[0]), len(hidden) // side**2, hidden.shape[1])
    for block, following in zip(blocks, [*blocks[1:], None], strict=True):
        _convolve_(hidden, block.taps, spectrum=spectrum, side=side)
        for number, rows in enumerate(hidden.split(step)):
            output = _product(rows.relu_(), *block.expand)
            if len(parts) > number:
                output = parts[number].add_(output).relu_()
            else:
                assert place is not None
                here = place[number * step : number * step + len(rows)]
                parts.append(output.add_(carried.index_select(0, here)).relu_())
            if following is None:
                total += output.view(-1, num_regions, output.shape[1]).sum(dim=0)
            else:
                rows.copy_(_product(output, *following.reduce).relu_())
    return (total / cells).to(hidden.dtype)


def _convolve_(
    hidden: torch.Tensor, taps: tuple[torch.Tensor, torch.Tensor], *, spectrum: torch.Tensor, side: int
) -> None:
    """The 3x3 convolution and its bias, in place, on the rows (side * side * m, D) of m maps of that side.

    A discrete Fourier transform of length side + 1 has room for the zero that the padding needs. Each frequency is then
    one product over the channels; a complex product takes three real ones (Gauss): for 7 x 7 maps 94 matrix products
    instead of 441. Rounding errors are those of one transform and its inverse. spectrum (P, m, D) is working memory.
    """
    (kernel, bias), width = taps, hidden.shape[1]
    analysis, synthesis, frequencies = _transforms(side)
    torch.mm(analysis.to(hidden.dtype), hidden.view(side**2, -1), out=spectrum.flatten(1))
    for first in range(0, len(spectrum), KERNELS_AT_ONCE):
        rows = spectrum[first : first + KERNELS_AT_ONCE]  # (k, m, D)
        weights = torch.mm(frequencies[first : first + KERNELS_AT_ONCE].to(kernel.dtype), kernel)
        weights = weights.to(hidden.dtype).view(-1, width, width)  # (k, out, in)
        if hidden.dtype == torch.bfloat16:  # which torch gives to oneDNN in batches, too
            rows.copy_(rows @ weights.mT)
            continue
        for row, weight in zip(rows, weights, strict=True):
            row.copy_(_product(row, weight))
    spectrum[0] += (bias * (side + 1) ** 2).to(hidden.dtype)  # the first frequency is the sum over the map
    torch.mm(synthesis.to(hidden.dtype), spectrum.flatten(1), out=hidden.view(side**2, -1))


@lru_cache
@torch.inference_mode(False)  # the cached result may be used outside inference mode
def _transforms(side: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The real form of the 2-D Fourier transform of length side + 1, in float64, with P products: map -> P (P, side^2),
    P -> map (side^2, P), 3x3 kernel -> P (P, 9).

    One of each pair of conjugate frequencies is kept. With X = a + ib of the map and W = c + id of the kernel, its
    products are c (a + b), a (d - c) and b (c + d), of which first - third and first + second make XW.
    """
    length = side + 1
    cells, taps = (torch.arange(n, dtype=torch.float64, device="cpu") for n in (side, 3))
    analysis: list[torch.Tensor] = []
    synthesis: list[torch.Tensor] = []
    kernel: list[torch.Tensor] = []
    for row in range(length):
        for column in range(length):
            conjugate = (-row % length, -column % length)
            if conjugate < (row, column):
                continue
            angle, turn = ((row * x[:, None] + column * x).flatten() * (math.tau / length) for x in (cells, taps - 1))
            a, b, c, d = angle.cos(), -angle.sin(), turn.cos(), turn.sin()
            if conjugate == (row, column):
                analysis.append(a)
                kernel.append(c)
                synthesis.append(a)
            else:
                analysis += [a + b, a, b]
                kernel += [c, d - c, c + d]
                synthesis += [2 * (a + b), 2 * b, -2 * a]
    return torch.stack(analysis), torch.stack(synthesis, dim=1) / length**2, torch.stack(kernel)


# RoI pooling of distinct bins: a bin is a rectangle of cells of one image's map.


def _check_rois(rois: torch.Tensor, *, num_images: int) -> None:
    if not bool(torch.isfinite(rois).all()):
        raise ValueError("a region's box is not finite (NaN or infinity): are its image or the weights damaged?")
    if len(rois) and not 0 <= int(rois[:, 0].min()) <= int(rois[:, 0].max()) < num_images:
        raise ValueError(f"a region's image is outside the batch of {num_images}: rois[:, 0] counts from 0")


def _edges(start: torch.Tensor, end: torch.Tensor, *, output_size: int, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """First cell and the one after the last, (N, p) each, of the bins from cell start to end (N,) of `size` cells."""
    length = (end - start + 1).clamp(min=1) / output_size  # torchvision's rounding decides the ends of bins
    steps = torch.arange(output_size + 1, dtype=length.dtype, device=length.device)
    edges = steps * length[:, None]  # (N, p + 1)
    first, last = edges[:, :-1].floor() + start[:, None], edges[:, 1:].ceil() + start[:, None]
    return first.clamp(0, size).long(), last.clamp(0, size).long()


def _bin_numbers(rois: torch.Tensor, shape: torch.Size, *, output_size: int, spatial_scale: float) -> torch.Tensor:
    """Each bin (N, p, p) encoded as one number, smaller for bins of fewer cells per side; `_bin_maxima` decodes it."""
    _, height, width, _ = shape
    scaled = rois[:, 1:] * spatial_scale
    whole = (scaled.double().abs() + 0.5).floor() * scaled.sign()  # halves away from 0, as in C
    left, top, right, bottom = whole.to(rois.dtype).unbind(1)
    y0, y1 = (y[:, :, None] for y in _edges(top, bottom, output_size=output_size, size=height))
    x0, x1 = (x[:, None, :] for x in _edges(left, right, output_size=output_size, size=width))
    number = _doublings(y1 - y0) * LEVELS + _doublings(x1 - x0)
    fields = (rois[:, 0].long()[:, None, None], y0, y1, x0, x1)
    for field, size in zip(fields, _radices(shape), strict=True):
        number = number * size + field
    return number


def _radices(shape: torch.Size) -> tuple[int, ...]:
    images, height, width, _ = shape
    return images, height + 1, height + 1, width + 1, width + 1


def _doublings(length: torch.Tensor) -> torch.Tensor:
    """The k of the largest window of 2^k cells that fits a length."""
    return torch.frexp(length.clamp(min=1).float()).exponent.long() - 1


def _bin_maxima(cells: torch.Tensor, bins: torch.Tensor, *, rows_at_once: int) -> Iterator[torch.Tensor]:
    """Maxima of the bins (U,), sorted, in parts (m, D); 0 for a bin without a cell.

    A side of 2^k to 2^(k + 1) cells is the union of two windows of 2^k cells at its ends.
    """
    kinds, *edges = torch.unravel_index(bins, (LEVELS**2, *_radices(cells.shape)))
    first = 0
    for kind, count in zip(*(x.tolist() for x in kinds.unique_consecutive(return_counts=True)), strict=True):
        doublings = divmod(kind, LEVELS)
        windows = _window_maxima(_window_maxima(cells, doublings[0], dim=1), doublings[1], dim=2)
        for part in torch.stack(edges)[:, first : first + count].split(rows_at_once, dim=1):  # (5, m)
            yield _maxima_of_corners(windows, part, size=(2 ** doublings[0], 2 ** doublings[1]))
        first += count


def _window_maxima(cells: torch.Tensor, doublings: int, *, dim: int) -> torch.Tensor:
    """Maxima of all windows of 2^doublings cells along a dimension, which becomes 2^doublings - 1 shorter."""
    for k in range(doublings):
        count = cells.shape[dim] - 2**k
        cells = torch.maximum(cells.narrow(dim, 0, count), cells.narrow(dim, 2**k, count))
    return cells


def _maxima_of_corners(windows: torch.Tensor, edges: torch.Tensor, *, size: tuple[int, int]) -> torch.Tensor:
    """Maxima (m, D) of the windows of `size` at the corners of each bin; edges (5, m) as in `_bin_numbers`."""
    _, height, width, channels = windows.shape
    image, y0, y1, x0, x1 = edges
    flat = windows.reshape(-1, channels)
    maxima: torch.Tensor | None = None
    for y in (y0, y1 - size[0])[: size[0]]:  # for a window of one cell both ends are equal
        for x in (x0, x1 - size[1])[: size[1]]:
            place = (image * height + y.clamp(0, height - 1)) * width + x.clamp(0, width - 1)
            corner = flat.index_select(0, place)
            maxima = corner if maxima is None else torch.maximum(maxima, corner, out=maxima)
    assert maxima is not None
    return maxima.masked_fill_(((y1 <= y0) | (x1 <= x0))[:, None], 0)
