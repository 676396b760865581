"""Image -> boxes of COCO's 80 classes: NanoDet-Plus, the proposals of a detector with `proposal_model="nanodet"`.

    pixel_values --pad_to_multiple, ShuffleNet--> maps --GhostPyramid--> maps --a head each--> boxes, scores of cells

ShuffleNetV2 is Ma et al. 2018 (arXiv:1807.11164, figure 3 c and d), with LeakyReLU; the pyramid joins its maps top-down
and bottom-up (PANet, Liu et al. 2018) by ghost modules (Han et al. 2020, arXiv:1911.11907, figure 3); the boxes are
distributions of four distances (Li et al. 2020, arXiv:2006.04388). Norms are folded into the convolutions,
so it never trains. The weights are those of NanoDet-Plus-m at 416 pixels (RangiLyu, github.com/RangiLyu/nanodet,
Apache-2.0), learnt from COCO's train2017; tests/modeling_updown/test_nanodet.py holds it to the outputs of that graph.
Shapes: n images of one size, N cells of all maps, K classes. Boxes are pixels of the resized image.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from .boxes_updown import box_centres, clip_boxes, fill_up, pairwise_iou, suppress
from .configuration_updown import UpDownDetectorConfig
from .linear_updown import float_type

STRIDES = (8, 16, 32, 64)
STAGE_DEPTHS = (4, 8, 4)  # units of ShuffleNetV2's stages
MULTIPLE = 32  # sides are padded to it: half a cell of a map would be lost otherwise
BINS = 8  # a distance is the mean of a distribution over 0 .. 7 cells
LEAK = 0.1
MEAN_BGR, STD_BGR = (103.53, 116.28, 123.675), (57.375, 57.12, 58.395)  # ImageNet's, of pixels 0 .. 255
SAME_BOX_IOU = 0.5  # a cell's scores speak of boxes that overlap its own by so much
BOXES_AT_A_TIME = 256


class ActiveConv(nn.Conv2d):
    """A convolution and LeakyReLU."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return F.leaky_relu(super().forward(inputs), LEAK)


def depthwise(channels: int, size: int, *, stride: int = 1, convolution: type[nn.Conv2d] = nn.Conv2d) -> nn.Conv2d:
    """A convolution of every channel by itself."""
    return convolution(channels, channels, size, stride=stride, padding=size // 2, groups=channels)


def separable(channels: int, *, stride: int = 1) -> nn.Sequential:
    """A 5x5 depthwise and a 1x1 convolution, each with LeakyReLU."""
    return nn.Sequential(
        depthwise(channels, 5, stride=stride, convolution=ActiveConv), ActiveConv(channels, channels, 1)
    )


class ShuffleUnit(nn.Module):
    """A unit of ShuffleNetV2: half of the channels stays (or shrinks), the others are convolved, then all are mixed."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int):
        super().__init__()
        half = out_channels // 2
        self.splits = stride == 1
        self.left: nn.Module = (
            nn.Identity()
            if self.splits
            else nn.Sequential(depthwise(in_channels, 3, stride=2), ActiveConv(in_channels, half, 1))
        )
        self.right = nn.Sequential(
            ActiveConv(half if self.splits else in_channels, half, 1),
            depthwise(half, 3, stride=stride),
            ActiveConv(half, half, 1),
        )

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        left, right = inputs.chunk(2, dim=1) if self.splits else (inputs, inputs)
        return F.channel_shuffle(torch.cat([self.left(left), self.right(right)], dim=1), 2)


class ShuffleNet(nn.Module):
    """ShuffleNetV2 without its last convolution: (n, 3, H, W) -> maps at strides 8, 16 and 32."""

    def __init__(self, stem: int, widths: Sequence[int]):
        super().__init__()
        self.stem = ActiveConv(3, stem, 3, stride=2, padding=1)
        self.stages = nn.ModuleList()
        for in_channels, width, depth in zip((stem, *widths), widths, STAGE_DEPTHS, strict=False):
            first = ShuffleUnit(in_channels, width, stride=2)
            self.stages.append(nn.Sequential(first, *(ShuffleUnit(width, width, stride=1) for _ in range(depth - 1))))

    def forward(self, pixels: torch.Tensor) -> list[torch.Tensor]:
        inputs = F.max_pool2d(self.stem(pixels), 3, stride=2, padding=1)
        maps = []
        for stage in self.stages:
            inputs = stage(inputs)
            maps.append(inputs)
        return maps


class GhostBlock(nn.Module):
    """Two ghost modules, whose cheap half is a depthwise convolution of the other, beside a 5x5 separable shortcut."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        half = out_channels // 2
        self.primary, self.cheap = (
            ActiveConv(in_channels, half, 1),
            depthwise(half, 3, convolution=ActiveConv),
        )
        self.last_primary, self.last_cheap = nn.Conv2d(out_channels, half, 1), depthwise(half, 3)
        self.shortcut = nn.Sequential(depthwise(in_channels, 5), nn.Conv2d(in_channels, out_channels, 1))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        hidden = self.primary(inputs)
        hidden = self.last_primary(torch.cat([hidden, self.cheap(hidden)], dim=1))
        return torch.cat([hidden, self.last_cheap(hidden)], dim=1) + self.shortcut(inputs)


class GhostPyramid(nn.Module):
    """Maps at strides 8, 16, 32 of some widths -> maps of `channels` at strides 8, 16, 32, 64."""

    def __init__(self, widths: Sequence[int], channels: int):
        super().__init__()
        self.reduce = nn.ModuleList(ActiveConv(width, channels, 1) for width in widths)
        self.top_down = nn.ModuleList(GhostBlock(2 * channels, channels) for _ in widths[1:])  # fine to coarse
        self.shrink = nn.ModuleList(separable(channels, stride=2) for _ in widths[1:])
        self.bottom_up = nn.ModuleList(GhostBlock(2 * channels, channels) for _ in widths[1:])
        self.extra_in, self.extra_out = separable(channels, stride=2), separable(channels, stride=2)

    def forward(self, maps: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        inner = [reduce(level) for reduce, level in zip(self.reduce, maps, strict=True)]
        coarsest = inner[-1]
        for i in range(len(inner) - 2, -1, -1):
            larger = F.interpolate(inner[i + 1], scale_factor=2, mode="bilinear", align_corners=False)
            inner[i] = self.top_down[i](torch.cat([larger, inner[i]], dim=1))
        outer = [inner[0]]
        for shrink, block, level in zip(self.shrink, self.bottom_up, inner[1:], strict=True):
            outer.append(block(torch.cat([shrink(outer[-1]), level], dim=1)))
        return [*outer, self.extra_in(coarsest) + self.extra_out(outer[-1])]


@dataclass
class Cells:
    """What NanoDet finds in n images of one size.

    maps: (n, channels, h, w) at `STRIDES`, of the padded images; offset: the padding on the left and on top in pixels.
    boxes, scores: (n, N, 4) in pixels of the image, inside it, and (n, N, K) in 0..1: one box a cell, strides in order,
    row by row. A box in the padding has no area.
    """

    maps: list[torch.Tensor]
    boxes: torch.Tensor
    scores: torch.Tensor
    offset: tuple[int, int]


class NanoDet(nn.Module):
    """NanoDet-Plus in float32 and without gradients, on the pixels that the detector sees.

    >>> config = UpDownDetectorConfig(backbone="test_resnet", proposal_model="nanodet", joined_features=True,
    ...     box_plus_one=False, nanodet_channels=[4, 8, 8, 8, 4], nanodet_classes=3, region_feature_size=768 + 96 + 3)
    >>> cells = NanoDet(config)(torch.zeros(2, 3, 60, 100))  # 8 x 16 + 4 x 8 + 2 x 4 + 1 x 2 cells
    >>> cells.boxes.shape, cells.scores.shape, cells.offset
    (torch.Size([2, 170, 4]), torch.Size([2, 170, 3]), (14, 2))
    """

    def __init__(self, config: UpDownDetectorConfig):
        super().__init__()
        self.config, self.strides = config, list(STRIDES)
        stem, *widths, channels = config.nanodet_channels  # type: ignore[misc]
        outputs = config.nanodet_classes + 4 * BINS
        self.body = ShuffleNet(stem, widths)
        self.pyramid = GhostPyramid(widths, channels)
        self.heads = nn.ModuleList(
            nn.Sequential(separable(channels), separable(channels), nn.Conv2d(channels, outputs, 1)) for _ in STRIDES
        )

    @torch.no_grad()
    def forward(self, pixel_values: torch.Tensor) -> Cells:
        """n images without padding (n, 3, height, width), RGB, normalised by `pixel_mean` and `pixel_std`."""
        height, width = pixel_values.shape[-2:]
        with torch.autocast(pixel_values.device.type, enabled=False):
            padded, (left, top) = pad_to_multiple(self.pixels(pixel_values))
            maps, outputs = self.outputs(normalised(padded).to(float_type(self)))
            boxes, scores = [], []
            for output, stride in zip(outputs, self.strides, strict=True):
                logits, distances = output.float().split([self.config.nanodet_classes, 4 * BINS], dim=1)
                boxes.append(cell_boxes(distances, stride=stride))
                scores.append(logits.sigmoid().flatten(2).transpose(1, 2))
        all_boxes = torch.cat(boxes, dim=1) - boxes[0].new_tensor([left, top, left, top])
        return Cells(maps, clip_boxes(all_boxes, width=width, height=height), torch.cat(scores, dim=1), (left, top))

    def pixels(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """The pixels 0..255 of normalised images, in BGR and float32."""
        pixel_values = pixel_values.float()
        mean, std = (
            pixel_values.new_tensor(values).view(3, 1, 1)  # type: ignore[arg-type]
            for values in (self.config.pixel_mean, self.config.pixel_std)
        )
        return (255 * (pixel_values * std + mean)).flip(1)

    def outputs(self, pixels: torch.Tensor) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Normalised BGR pixels whose sides are multiples of 32 -> the pyramid's maps, and of each map the logits
        (n, K + 32, h, w) of the classes and of the bins of the left, top, right and bottom distance.
        """
        maps = self.pyramid(self.body(pixels.contiguous(memory_format=torch.channels_last)))
        return maps, [head(level) for head, level in zip(self.heads, maps, strict=True)]


def pad_to_multiple(pixels: torch.Tensor) -> tuple[torch.Tensor, tuple[int, int]]:
    """Images (n, 3, H, W) in the middle of black ones whose sides are multiples of 32; padding on the left, on top."""
    missing_rows, missing_columns = (-side % MULTIPLE for side in pixels.shape[-2:])
    left, top = missing_columns // 2, missing_rows // 2
    return F.pad(pixels, (left, missing_columns - left, top, missing_rows - top)), (left, top)


def normalised(pixels: torch.Tensor) -> torch.Tensor:
    """BGR pixels 0..255 (n, 3, H, W) -> NanoDet's input."""
    mean, std = (pixels.new_tensor(values).view(3, 1, 1) for values in (MEAN_BGR, STD_BGR))
    return (pixels - mean) / std


def cell_boxes(distances: torch.Tensor, *, stride: int) -> torch.Tensor:
    """Logits (n, 4 * 8, h, w) of the distances of left, top, right, bottom -> boxes (n, h * w, 4) of the padded image.

    A distance is stride times the mean of its distribution over 0 .. 7, from the cell's corner at column * stride,
    row * stride.
    """
    rows, columns = distances.shape[-2:]
    probs = distances.unflatten(1, (4, BINS)).softmax(dim=2)  # (n, 4, 8, h, w)
    bins = torch.arange(BINS, device=distances.device, dtype=distances.dtype).view(-1, 1, 1)
    left, top, right, bottom = (stride * (probs * bins).sum(dim=2)).unbind(dim=1)  # (n, h, w) each
    steps = (stride * torch.arange(count, device=distances.device) for count in (rows, columns))
    y, x = torch.meshgrid(*steps, indexing="ij")
    return torch.stack([x - left, y - top, x + right, y + bottom], dim=-1).flatten(1, 2)


@torch.no_grad()
def top_cells(
    cells: Cells,
    image: int,
    *,
    config: UpDownDetectorConfig,
    image_size: tuple[int, int],
    resize_factor: float = 1.0,
    at_least: int = 1,
    training: bool = False,
) -> torch.Tensor:
    """The best boxes of one image of the group, (M, 4), the best first: by its best class's score, of all classes
    together suppressed; arguments and what is cut as in `proposals_updown.top_proposals`.
    """
    before = config.train_proposals_before_nms if training else config.proposals_before_nms
    after = config.train_proposals_after_nms if training else config.proposals_after_nms
    boxes, scores = cells.boxes[image], cells.scores[image].amax(dim=1)
    size = box_centres(boxes)[1]
    large = (size >= config.min_proposal_side * resize_factor).all(dim=1) & (size > 0).all(dim=1)
    boxes, scores = boxes[large], scores[large]
    if not len(boxes):  # every box is too small: an image of a few pixels
        return boxes.new_tensor([[0, 0, image_size[1], image_size[0]]])
    scores, order = scores.sort(descending=True, stable=True)
    boxes, scores = boxes[order[:before]], scores[:before]
    kept = suppress(boxes, scores, threshold=config.rpn_nms_threshold)
    return boxes[fill_up(kept[:after], scores, at_least=at_least)]


@torch.no_grad()
def box_scores(cells: Cells, boxes: Sequence[torch.Tensor]) -> torch.Tensor:
    """The scores (M, K) of boxes (M_i, 4) of each image, whether found or given, all after another.

    They are those of one cell: of the cells whose boxes overlap the box by an IoU of 0.5 or more, the one in which IoU
    times the best class's score is largest. Where there is none they are 0.
    """
    found = []
    for own, theirs, scores in zip(boxes, cells.boxes, cells.scores, strict=True):
        best = scores.amax(dim=1)
        for part in own.float().split(BOXES_AT_A_TIME):
            overlap = pairwise_iou(part, theirs)  # (M, N)
            surest, cell = (best * overlap).masked_fill(overlap < SAME_BOX_IOU, -1).max(dim=1)
            found.append(scores[cell] * (surest >= 0)[:, None])
    return torch.cat(found) if found else cells.scores.new_zeros(0, cells.scores.shape[-1])


# ---- the published weights

# modules of the pyramid -> what its convolutions are called in the published graph, in their order here
PYRAMID_NAMES = {
    "reduce.0": "convrelu_39",
    "reduce.1": "convrelu_37",
    "reduce.2": "convrelu_36",
    "top_down.0": "convrelu_40 convdwrelu_1 conv_63 convdw_184 convdw_185 conv_64",
    "top_down.1": "convrelu_38 convdwrelu_0 conv_60 convdw_181 convdw_182 conv_61",
    "shrink.0": "convdwrelu_2 convrelu_41",
    "shrink.1": "convdwrelu_4 convrelu_43",
    "bottom_up.0": "convrelu_42 convdwrelu_3 conv_67 convdw_188 convdw_189 conv_68",
    "bottom_up.1": "convrelu_44 convdwrelu_5 conv_71 convdw_192 convdw_193 conv_72",
    "extra_in": "convdwrelu_6 convrelu_46",
    "extra_out": "convdwrelu_7 convrelu_45",
}
HEAD_NAMES = (
    "convdwrelu_8 convrelu_47 convdwrelu_9 convrelu_54 conv_77",
    "convdwrelu_10 convrelu_48 convdwrelu_11 convrelu_53 conv_80",
    "convdwrelu_12 convrelu_49 convdwrelu_13 convrelu_52 conv_83",
    "convdwrelu_14 convrelu_50 convdwrelu_15 convrelu_51 conv_86",
)
GHOST_PARTS = ("primary", "cheap", "last_primary", "last_cheap", "shortcut.0", "shortcut.1")
HEAD_PARTS = ("0.0", "0.1", "1.0", "1.1", "2")
FIRST_DEPTHWISE = 161  # of the backbone, which the graph counts through


def graph_names() -> dict[str, str]:
    """Every convolution of `NanoDet` -> its name in the published graph."""
    names = {"body.stem": "convrelu_0", **dict(backbone_names())}
    for module, theirs in PYRAMID_NAMES.items():
        parts = {1: ("",), 2: (".0", ".1"), 6: tuple(f".{part}" for part in GHOST_PARTS)}[len(theirs.split())]
        names |= {f"pyramid.{module}{part}": name for part, name in zip(parts, theirs.split(), strict=True)}
    for level, theirs in enumerate(HEAD_NAMES):
        names |= {f"heads.{level}.{part}": name for part, name in zip(HEAD_PARTS, theirs.split(), strict=True)}
    return names


def backbone_names() -> Iterator[tuple[str, str]]:
    """The same of the stages, whose 1x1 and depthwise convolutions the graph numbers in the order in which they run."""
    pointwise, filters = 1, FIRST_DEPTHWISE
    for stage, depth in enumerate(STAGE_DEPTHS):
        for unit in range(depth):
            place = f"body.stages.{stage}.{unit}"
            if unit == 0:
                yield f"{place}.left.0", f"convdw_{filters}"
                filters += 1
            yield f"{place}.right.0", f"convrelu_{pointwise}"
            yield f"{place}.right.1", f"convdw_{filters}"
            yield f"{place}.right.2", f"convrelu_{pointwise + 1}"
            pointwise, filters = pointwise + 2, filters + 1
            if unit == 0:
                yield f"{place}.left.1", f"convrelu_{pointwise}"
                pointwise += 1


def published_weights(state: Mapping[str, torch.Tensor], *, place: Any) -> dict[str, torch.Tensor]:
    """The weights of the published graph (`convs.convrelu_0.weight`, ...) by the names of `NanoDet`.

    place: of the weights, for errors. Raises `ValueError` where one is missing, or one is left over.
    """
    names = {
        f"{ours}.{kind}": f"convs.{theirs}.{kind}"
        for ours, theirs in graph_names().items()
        for kind in ("weight", "bias")
    }
    missing, strange = sorted(set(names.values()) - state.keys()), sorted(state.keys() - set(names.values()))
    if missing or strange:
        raise ValueError(
            f"{place} is not NanoDet-Plus-m: it lacks {len(missing)} weights, such as {missing[:2]}, and holds "
            f"{len(strange)} others, such as {strange[:2]}; name the safetensors with the graph's own names"
        )
    return {ours: state[theirs] for ours, theirs in names.items()}
