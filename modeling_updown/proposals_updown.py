"""Feature maps -> proposals: anchors, the region proposal network (Ren et al. 2015), and the choice of its best boxes.

The first stage of the detector. Boxes are pixels of the resized image. Conventions of the original (Caffe) and of its
ports are fields of `UpDownDetectorConfig`; parity with both is tested in tests/modeling_updown/test_detector_parity.py.
Shapes: n images of one size, A anchors per cell, K proposals.
"""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from .boxes_updown import box_centres, clip_boxes, decode_boxes, fill_up, suppress
from .configuration_updown import UpDownDetectorConfig


def cell_anchors(sizes: Sequence[int], ratios: Sequence[float], *, style: str, stride: int = 16) -> torch.Tensor:
    """The anchors of the cell at the image's corner: (len(sizes) * len(ratios), 4) pixels.

    `detectron2`: exact boxes of area size^2 around (0, 0), size by size. `caffe`: py-faster-rcnn's `generate_anchors`,
    whose sides are rounded for a box of `stride` pixels and then multiplied, around that cell's middle, ratio by ratio.

    >>> cell_anchors([64], [1.0], style="caffe").tolist(), cell_anchors([64], [1.0], style="detectron2").tolist()
    ([[-24.0, -24.0, 39.0, 39.0]], [[-32.0, -32.0, 32.0, 32.0]])
    """
    size, ratio = torch.tensor(sizes, dtype=torch.float64), torch.tensor(ratios, dtype=torch.float64)
    if style == "detectron2":
        width = (size[:, None] ** 2 / ratio).sqrt()
        half = torch.stack([width, width * ratio], dim=-1).flatten(0, 1) / 2
        return torch.cat([-half, half], dim=-1).float()
    width = (stride**2 / ratio).sqrt().round()
    base = torch.stack([width, (width * ratio).round()], dim=-1)  # (ratios, 2)
    half = (base[:, None] * (size / stride)[None, :, None]).flatten(0, 1) / 2 - 0.5
    centre = (stride - 1) / 2
    return torch.cat([centre - half, centre + half], dim=-1).float()


def grid_anchors(cells: torch.Tensor, *, height: int, width: int, stride: int) -> torch.Tensor:
    """The anchors (A, 4) of one cell at every cell of a map, in reading order: (height * width * A, 4) pixels."""
    y, x = torch.meshgrid(
        torch.arange(height, device=cells.device) * stride,
        torch.arange(width, device=cells.device) * stride,
        indexing="ij",
    )
    shifts = torch.stack([x, y, x, y], dim=-1).view(-1, 1, 4)
    return (shifts + cells).view(-1, 4).to(cells.dtype)


class ProposalNetwork(nn.Module):
    """A 3x3 convolution, then each anchor's objectness logit and regression, with weights shared across maps."""

    def __init__(self, config: UpDownDetectorConfig, *, channels: int, strides: Sequence[int]):
        super().__init__()
        self.config, self.strides = config, list(strides)
        num_anchors = config.num_cell_anchors
        self.conv = nn.Conv2d(channels, config.rpn_hidden_size, 3, padding=1)
        self.objectness = nn.Conv2d(config.rpn_hidden_size, num_anchors, 1)
        self.deltas = nn.Conv2d(config.rpn_hidden_size, 4 * num_anchors, 1)

    def forward(self, maps: Sequence[torch.Tensor]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Maps (n, channels, h, w) -> for each, logits (n, h * w * A) and regressions (n, h * w * A, 4)."""
        logits, deltas = [], []
        for feature_map in maps:
            hidden = F.relu(self.conv(feature_map))
            logits.append(self.objectness(hidden).permute(0, 2, 3, 1).flatten(1).float())
            deltas.append(self.deltas(hidden).permute(0, 2, 3, 1).reshape(len(hidden), -1, 4).float())
        return logits, deltas

    def anchors(self, maps: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """The anchors (h * w * A, 4) of each map, in the order of `forward`."""
        config = self.config
        made = []
        for feature_map, sizes, stride in zip(maps, config.anchor_sizes, self.strides, strict=True):  # type: ignore[arg-type]
            cells = cell_anchors(sizes, config.anchor_ratios, style=config.anchor_style)  # type: ignore[arg-type]
            height, width = feature_map.shape[-2:]
            made.append(grid_anchors(cells.to(feature_map.device), height=height, width=width, stride=stride))
        return made


@torch.no_grad()
def top_proposals(
    logits: Sequence[torch.Tensor],
    deltas: Sequence[torch.Tensor],
    anchors: Sequence[torch.Tensor],
    *,
    config: UpDownDetectorConfig,
    image_size: tuple[int, int],
    resize_factor: float = 1.0,
    at_least: int = 1,
    training: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The best boxes of one image.

    Args:
        logits, deltas, anchors: of each map, (N_m,), (N_m, 4), (N_m, 4); any score that rises with the logit will do.
        image_size: height and width of the resized image in pixels.
        resize_factor: by which the image was resized; the smallest side of a proposal is multiplied by it.
        at_least: if suppression leaves fewer boxes, the best suppressed ones are added.
        training: keep the config's number for training.

    Returns:
        Pixel boxes (K, 4) and their logits (K,), the best first; the whole image if every box is too small.
    """
    before = config.train_proposals_before_nms if training else config.proposals_before_nms
    after = config.train_proposals_after_nms if training else config.proposals_after_nms
    parts = [
        _best_of_map(
            *map_parts,
            config=config,
            image_size=image_size,
            smallest=config.min_proposal_side * resize_factor,
            most=before,
        )
        for map_parts in zip(logits, deltas, anchors, strict=True)
    ]
    boxes, scores = (torch.cat(column) for column in zip(*parts, strict=True))
    if not len(boxes):  # every box is too small: an image of a few pixels
        whole = (
            boxes.new_tensor([[0, 0, image_size[1], image_size[0]]])
            - boxes.new_tensor([0, 0, 1, 1]) * config.box_plus_one
        )
        return whole, scores.new_zeros(1)
    level = torch.cat([torch.full((len(part[0]),), i, device=boxes.device) for i, part in enumerate(parts)])
    kept = suppress(
        boxes,
        scores,
        threshold=config.rpn_nms_threshold,
        groups=level if len(parts) > 1 else None,
        plus_one=config.box_plus_one,
    )
    kept = fill_up(kept[:after], scores, at_least=at_least)
    return boxes[kept], scores[kept]


def _best_of_map(
    logits: torch.Tensor,
    deltas: torch.Tensor,
    anchors: torch.Tensor,
    *,
    config: UpDownDetectorConfig,
    image_size: tuple[int, int],
    smallest: float,
    most: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Up to `most` decoded, clipped boxes of one map that are not too small, with their logits, the best first."""
    if not config.filter_before_nms_cut:
        logits, order = logits.sort(descending=True, stable=True)
        order, logits = order[:most], logits[:most]
        deltas, anchors = deltas[order], anchors[order]
    boxes = decode_boxes(deltas, anchors, plus_one=config.box_plus_one, max_growth=config.max_box_growth)
    boxes = clip_boxes(boxes, width=image_size[1], height=image_size[0], plus_one=config.box_plus_one)
    size = box_centres(boxes, plus_one=config.box_plus_one)[1]
    large = (size >= smallest).all(dim=1) & (size > 0).all(dim=1) & torch.isfinite(boxes).all(dim=1)
    boxes, logits = boxes[large], logits[large]
    if config.filter_before_nms_cut:
        logits, order = logits.sort(descending=True, stable=True)
        boxes, logits = boxes[order[:most]], logits[:most]
    return boxes, logits
