"""Faster CPU implementations with the same results up to rounding; every caller has a plain implementation.

- `conv2d`: `F.conv2d` whose 1x1 convolutions run in the faster of torch's two libraries;
- `stage_means`: the detector's res5 (`resnet_updown.RegionStage`) without gradients. Regions that share a pooled bin
  share its first convolutions, the 3x3 convolutions are products in the frequency domain, and the memory is bounded for
  any number of regions (measured by tests/benchmarks/resnet_stage.py);
- `StepLinear`: a layer of a recurrent network that is used at every step, whose weight's gradient is computed once per
  batch.

The models find this file with `compat_updown.optional_sibling` and run without it, as in a published folder, which does
not contain it.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch.nn import functional as F

from .boxes_updown import even_parts

BYTES_AT_ONCE = 2**24  # of the result of one product: glibc returns blocks above 32 MB, and allocating them is slow
KERNELS_AT_ONCE = 8  # frequencies whose weights are computed together
LARGEST_SIDE = 8  # of maps convolved by Fourier transforms, whose work grows with the fourth power of the side
LEVELS = 16  # distinguished sizes of pooled bins, in powers of two
# Has no effect on a kernel of one cell; but with one thread torch runs an image's undilated 1x1 convolutions in MKL, at
# half the speed of oneDNN on the AMD processor on which this was measured.
ONEDNN_DILATION = 2


def conv2d(
    input: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> torch.Tensor:
    """`F.conv2d`; on a CPU, kernels of one cell are run with `ONEDNN_DILATION`."""
    if weight.shape[2:] == (1, 1) and input.device.type == "cpu":
        dilation = ONEDNN_DILATION
    return F.conv2d(input, weight, bias, stride, padding, dilation, groups)


# res5 for inference. M = p * p * n rows are the cells of n regions in the order (cell of a sub-map, sub-map, region): a
# convolution of dilation d is a separate convolution of each of d * d sub-maps of side p / d.


def stage_means(
    stage: Any, maps: torch.Tensor, rois: torch.Tensor | None, *, output_size: int, spatial_scale: float
) -> torch.Tensor | None:
    """The result of `stage(maps, rois)`, with the same arguments; None if this implementation cannot be used.

    stage: a `RegionStage` without groups and without stride in its 3x3 convolutions, run without gradients, whose
    weights may be read directly.
    """
    dtype = _compute_dtype(stage)
    size = maps.shape[2:] if rois is None else (output_size, output_size)
    rows, columns = (-(-side // stage.stride) for side in size)
    if (
        maps.device.type != "cpu"
        or maps.numel() == 0
        or (rois is not None and len(rois) == 0)
        or dtype == torch.float16  # sums over a map could overflow
        or torch.compiler.is_compiling()
        or rows != columns
        or rows % stage.dilation != 0
        or rows // stage.dilation > LARGEST_SIDE
    ):
        return None
    if rois is None:
        return _means_of_pooled(stage, maps, dtype=dtype)
    return _means_on_map(stage, maps, rois, output_size=output_size, spatial_scale=spatial_scale, dtype=dtype)


@torch.no_grad()
@torch.autocast("cpu", enabled=False)
def _means_of_pooled(stage: Any, pooled: torch.Tensor, *, dtype: torch.dtype) -> torch.Tensor:
    blocks = [_FoldedBlock.of(block, dtype=dtype) for block in stage.children()]
    pooled = pooled[:, :, :: stage.stride, :: stage.stride]  # a strided 1x1 convolution reads only these cells
    means = []
    for part in even_parts(pooled, pooled.shape[2] ** 2, itemsize=dtype.itemsize):
        rows = _interleave(part.movedim(1, -1), dilation=stage.dilation).to(dtype)  # (p * p * n, in_channels)
        hidden, carried = _enter(rows.split(_rows_at_once(blocks[0])), len(rows), block=blocks[0])
        means.append(_means(blocks, hidden, carried, num_regions=len(part), dilation=stage.dilation))
    return torch.cat(means)


@torch.no_grad()
@torch.autocast("cpu", enabled=False)
def _means_on_map(
    stage: Any,
    feature_map: torch.Tensor,
    rois: torch.Tensor,
    *,
    output_size: int,
    spatial_scale: float,
    dtype: torch.dtype,
) -> torch.Tensor:
    blocks = [_FoldedBlock.of(block, dtype=dtype) for block in stage.children()]
    cells = feature_map.movedim(1, -1).to(dtype).contiguous()  # (B, h, w, in_channels)
    rois = rois.to(torch.promote_types(dtype, torch.float32))
    means = []
    for group in even_parts(rois, output_size**2 // 2, itemsize=dtype.itemsize):
        bins = _bin_numbers(group, cells.shape, output_size=output_size, spatial_scale=spatial_scale)
        shared, places = bins[:, :: stage.stride, :: stage.stride].unique(return_inverse=True)
        maxima = _bin_maxima(cells, shared, rows_at_once=_rows_at_once(blocks[0]))
        hidden, carried = _enter(maxima, len(shared), block=blocks[0])
        for part in even_parts(places, places.shape[1] ** 2, itemsize=dtype.itemsize):
            place = _interleave(part[..., None], dilation=stage.dilation).flatten()  # (p * p * n,)
            own = hidden.index_select(0, place)
            options = {"num_regions": len(part), "dilation": stage.dilation}
            means.append(_means(blocks, own, carried, place=place, **options))
    return torch.cat(means)


def _compute_dtype(module: Any) -> torch.dtype:
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
    def of(cls, block: Any, *, dtype: torch.dtype) -> "_FoldedBlock":
        """Fold in float32, then round to dtype."""
        reduce, expand = (_matrix(conv, dtype=dtype) for conv in (block.conv1, block.conv3))
        shortcut = None if block.shortcut is None else _matrix(block.shortcut, dtype=dtype)
        weight, bias = block.conv2.folded()
        return cls(reduce, (weight.flatten(0, 1).flatten(1).T.contiguous(), bias), expand, shortcut)


def _matrix(conv: Any, *, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    weight, bias = conv.folded()
    return weight.flatten(1).to(dtype), bias.to(dtype)


def _rows_at_once(block: _FoldedBlock) -> int:
    weight = block.expand[0]
    return max(1, BYTES_AT_ONCE // (len(weight) * weight.element_size()))


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
    output = conv2d(image, weight[:, :, None, None], bias)  # (1, out, M, 1)
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


class StepLinear:
    """x W^T + b for a weight that is used once per time step, with its gradient computed once per batch.

    Autograd would add a whole (out, in) matrix to the gradient at every step; here each step only stores its input and
    its output's gradient, and one product over all steps gives the weight's: the same numbers with a fraction of the
    memory traffic. Under autocast the weight is cast once, not per step.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None = None):
        self.tape: list[tuple[torch.Tensor, torch.Tensor]] = []
        device = weight.device.type
        if torch.is_autocast_enabled(device):
            weight = weight.to(torch.get_autocast_dtype(device))
        self.weight, self.bias = _CollectWeightGradient.apply(weight, self.tape), bias

    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        """(N, in) -> (N, out), in the weight's type or, with a bias, in the wider one of both."""
        product = _ProductWithoutWeightGradient.apply(inputs.to(self.weight.dtype), self.weight, self.tape)
        return product if self.bias is None else product + self.bias


class _CollectWeightGradient(torch.autograd.Function):
    """The identity on a weight; its gradient is computed from the tape after the backward pass of all steps."""

    @staticmethod
    def forward(ctx: Any, weight: torch.Tensor, tape: list) -> torch.Tensor:
        ctx.tape = tape
        ctx.set_materialize_grads(False)
        return weight.view_as(weight)

    @staticmethod
    def backward(ctx: Any, *_: Any) -> tuple[torch.Tensor, None]:
        inputs = [pair[0] for pair in ctx.tape]  # two lists: torch 2.6 cannot trace zip(*tape) of an empty tape
        gradients = [pair[1] for pair in ctx.tape]
        ctx.tape.clear()
        return torch.cat(gradients).T @ torch.cat(inputs), None  # (out, N * steps) @ (N * steps, in)


class _ProductWithoutWeightGradient(torch.autograd.Function):
    """x W^T whose backward passes gradients only to x and records (x, gradient) on the tape."""

    @staticmethod
    def forward(ctx: Any, inputs: torch.Tensor, weight: torch.Tensor, tape: list) -> torch.Tensor:
        ctx.save_for_backward(inputs, weight)
        ctx.tape = tape
        return F.linear(inputs, weight)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, None, None]:
        inputs, weight = ctx.saved_tensors
        ctx.tape.append((inputs.detach(), gradient))  # detached: a tape that held the graph would never be freed
        return gradient @ weight if ctx.needs_input_grad[0] else None, None, None
