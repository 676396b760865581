"""The mask head of Mask R-CNN (He et al. 2017, section 3 and figure 4, right), its targets, its loss, and masks pasted.

    maps, boxes --RoIAlign to M/2 x M/2--> 3x3 convolutions with ReLU --> deconvolution to M x M, ReLU --> 1x1: logits
    logits --sigmoid--> `Regions.region_masks`, each inside its box --paste_masks--> pixels of the image

A region's mask is a grid of M x M cells over its box, 0..1 how likely the centre of a cell is of the region. The head
stands beside a detector's other heads (`modeling_detector.py`); `config.mask_head` turns it on. N regions, C objects.
"""

import itertools
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torchvision.ops import roi_align

from .boxes_updown import align_rois, boxes_to_pixels, pool_pyramid
from .configuration_updown import UpDownDetectorConfig
from .resnet_updown import CAFFE_STRIDE

UNKNOWN = -1  # of a true mask's cells: the object has no mask, or is padding
INSIDE = 0.5  # from here on a cell or pixel is of the region
POINTS_A_CELL = 2  # a side: a cell of a target is the mean of 2 x 2 points
MASKS_AT_A_TIME = 128  # 28 x 28 maps of 256 channels, in float32: 103 MB
PASTED_AT_A_TIME = 2**24  # pixels of regions, in float32: 67 MB
SCORE_SPREAD = 1e-3  # of a new head's last weights (detectron2's)
SMALLEST_SIDE = 1e-6  # of a box: one without area has no cells to paste


class MaskHead(nn.Module):
    """Maps pooled inside boxes (N, channels, M/2, M/2) -> mask logits (N, M, M)."""

    def __init__(self, config: UpDownDetectorConfig, *, channels: int):
        super().__init__()
        hidden = config.mask_hidden_size
        widths = [channels, *[hidden] * config.mask_convs]
        self.convs = nn.ModuleList(
            nn.Conv2d(before, after, 3, padding=1) for before, after in itertools.pairwise(widths)
        )
        self.deconv = nn.ConvTranspose2d(widths[-1], hidden, 2, stride=2)
        self.score = nn.Conv2d(hidden, 1 if config.mask_class_agnostic else config.num_objects, 1)
        self.pooled_size = config.mask_size // 2

    def forward(self, pooled: torch.Tensor, object_ids: torch.Tensor) -> torch.Tensor:
        """Pooled maps, and the class of each region (N,), 1 .. C, whose mask it is where classes have their own."""
        for conv in self.convs:
            pooled = F.relu(conv(pooled))
        logits = self.score(F.relu(self.deconv(pooled))).float()  # (N, 1 or C, M, M)
        if logits.shape[1] == 1:
            return logits[:, 0]
        return logits[torch.arange(len(logits), device=logits.device), object_ids - 1]


class DetectorMasks:
    """What a detector does with its mask head: make it, train it alone, and give every region of an output its mask.

    A part of `UpDownDetector`, whose `masks` is the head, or None.
    """

    config: Any
    masks: MaskHead | None
    proposals: Any
    device: Any
    dtype: Any
    named_parameters: Any
    requires_grad_: Any
    _init_weights: Any

    def new_mask_head(self) -> MaskHead:
        """A head on the maps that regions are pooled from."""
        config = self.config
        if config.is_caffe_resnet:
            return MaskHead(config, channels=4 * config.res2_channels)
        from_nanodet = config.proposal_model == "nanodet"
        return MaskHead(config, channels=config.nanodet_channels[-1] if from_nanodet else config.pyramid_size)

    def add_masks(self, **fields: Any) -> None:
        """A new mask head, beside the other heads as they are; fields: those of `MaskConfig`.

        Raises `ValueError` where the detector has one, or for fields out of their range.
        """
        if self.masks is not None:
            raise ValueError("this detector has a mask head already: train that one")
        for name, value in {**fields, "mask_head": True}.items():
            setattr(self.config, name, value)
        self.config.check_masks()
        self.masks = self.new_mask_head().to(self.device, self.dtype)
        self.masks.apply(self._init_weights)

    def unfreeze_masks(self) -> None:
        """Train the mask head alone; `loss` is then that of masks, which takes a fraction of the time.

        Raises `ValueError` where the detector has none.
        """
        if self.masks is None:
            raise ValueError("this detector has no mask head to train: give it one with add_masks()")
        self.requires_grad_(False)
        self.masks.requires_grad_(True)

    @property
    def trains_masks_alone(self) -> bool:
        """Whether the mask head trains and nothing else does."""
        trained = [name for name, weight in self.named_parameters() if weight.requires_grad]
        return bool(trained) and all(name.startswith("masks.") for name in trained)

    def with_masks(self, output: Any, group: Any, place: int) -> Any:
        """The output of one image, the `place`th of its group, with the mask of each of its boxes."""
        if self.masks is not None:
            height, width = group.size
            boxes = boxes_to_pixels(output.region_boxes[0], width=width, height=height)
            rois = torch.cat([boxes.new_full((len(boxes), 1), float(place)), boxes], dim=1)
            output.region_masks = self.mask_logits(group, rois, output.object_ids[0]).sigmoid()[None]
        return output

    def mask_logits(self, group: Any, rois: torch.Tensor, object_ids: torch.Tensor) -> torch.Tensor:
        """Rois (N, 5), image of the group and pixel box, and their classes (N,), 1 .. C -> mask logits (N, M, M).

        In chunks that bound the memory. Raises `ValueError` where the detector has no mask head.
        """
        if self.masks is None:
            raise ValueError("this detector has no mask head: train one, from config.mask_head=True")
        head, (rois, object_ids) = self.masks, (part.split(MASKS_AT_A_TIME) for part in (rois, object_ids))
        chunks = zip(rois, object_ids, strict=True)
        return torch.cat([head(self.pooled_maps(group, part, head.pooled_size), ids) for part, ids in chunks])

    def pooled_maps(self, group: Any, rois: torch.Tensor, size: int) -> torch.Tensor:
        """RoIAlign of rois (N, 5) on the map that fits each: (N, channels, size, size)."""
        rois = self.on_maps(group, rois)
        if not self.config.is_caffe_resnet:
            return pool_pyramid(group.maps, rois, self.proposals.strides, size=size)
        options: dict[str, Any] = {"spatial_scale": 1 / CAFFE_STRIDE, "sampling_ratio": 2, "aligned": True}
        return align_rois(group.maps[0], rois, output_size=size, **options)

    def on_maps(self, group: Any, rois: torch.Tensor) -> torch.Tensor:
        """Rois (N, 5) where the maps have them: NanoDet's are those of the padded image."""
        if group.cells is None:
            return rois
        left, top = group.cells.offset
        return rois + rois.new_tensor([0, left, top, left, top])


def init_mask_head(head: MaskHead) -> None:
    """Draw the weights of the deconvolution as those of convolutions before a ReLU are drawn, its bias is 0, and those
    of the scores small: a new head is unsure of every cell, whatever maps it stands on.
    """
    nn.init.normal_(head.score.weight, std=SCORE_SPREAD)
    fan_in = head.deconv.in_channels  # kernel and stride are the same, so a cell has one tap
    nn.init.normal_(head.deconv.weight, std=(2 / fan_in) ** 0.5)
    if head.deconv.bias is not None:
        nn.init.zeros_(head.deconv.bias)


@torch.no_grad()
def mask_targets(
    true_masks: torch.Tensor, true_boxes: torch.Tensor, boxes: torch.Tensor, *, size: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """True masks inside their own boxes -> the same inside other boxes: RoIAlign's mean of 2 x 2 points, from 0.5 on 1.

    Args:
        true_masks: (N, S, S), cells 0 or 1 of each true box; -1 in the place of a mask that nobody drew.
        true_boxes, boxes: (N, 4) xyxy in one unit; outside of its true box an object has no mask.
        size: cells a side of the targets, M.

    Returns (N, M, M) float of 0 and 1, and which of them are known (N,) bool.

    >>> whole = torch.ones(1, 4, 4)
    >>> mask_targets(whole, torch.tensor([[0.0, 0, 4, 4]]), torch.tensor([[2.0, 0, 6, 4]]), size=2)[0].tolist()
    [[[1.0, 0.0], [1.0, 0.0]]]
    """
    known = (true_masks != UNKNOWN).flatten(1).any(dim=1) if true_masks.numel() else true_masks.new_zeros(0).bool()
    if not len(true_masks):
        return true_masks.new_zeros(0, size, size, dtype=torch.float32), known
    cells = true_masks.shape[-1]
    framed = F.pad((true_masks > 0).float(), (1, 1, 1, 1))[:, None]  # beside a box there is nothing of its object
    corner, side = true_boxes[:, :2].float(), (true_boxes[:, 2:] - true_boxes[:, :2]).float().clamp(min=SMALLEST_SIDE)
    places = (boxes.float() - corner.repeat(1, 2)) / side.repeat(1, 2) * cells + 1  # in cells of the framed masks
    rois = torch.cat([torch.arange(len(boxes), device=boxes.device, dtype=places.dtype)[:, None], places], dim=1)
    aligned = roi_align(framed, rois, size, 1.0, POINTS_A_CELL, True)[:, 0]
    return (aligned >= INSIDE).float(), known


def mask_loss(logits: torch.Tensor, targets: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy of logits and targets (N, M, M), a mean over the cells of masks that are known (N,); 0 where
    none is.

    >>> mask_loss(torch.zeros(2, 1, 1), torch.ones(2, 1, 1), torch.tensor([True, False])).item()  # ln 2
    0.6931471824645996
    """
    if not known.any():
        return logits.sum() * 0
    return F.binary_cross_entropy_with_logits(logits[known], targets[known].to(logits))


def mask_of_region(output: Any, image: int, region: int) -> torch.Tensor:
    """The mask (M, M) of a region of an image, by their numbers, 0..1 inside its box, float32 on the CPU.

    Raises `ValueError` where the detector makes no masks.
    """
    if output.region_masks is None:
        raise ValueError(
            "this detector makes no masks: give it a mask head (detector.add_masks()) and train that (updown train "
            "detection/coco_masks), or leave masks out"
        )
    return output.region_masks[image, region].float().cpu()


def paste_masks(
    masks: torch.Tensor, boxes: torch.Tensor, *, height: int, width: int, threshold: float = INSIDE
) -> torch.Tensor:
    """Masks inside their boxes -> masks of the image.

    A pixel is of a region if its centre lies in the box and the mask there, between centres of cells by bilinear
    interpolation, beyond the outer ones as these, is at least `threshold`. A box without area has no pixel.

    Args:
        masks: (R, M, M) in 0..1.
        boxes: (R, 4) xyxy in 0..1 of the image.
        height, width: of the image, in pixels.

    Returns (R, height, width) bool. Raises `ValueError` for masks and boxes that do not go together.

    >>> paste_masks(torch.ones(1, 2, 2), torch.tensor([[0.0, 0.0, 0.5, 1.0]]), height=2, width=4).int().tolist()
    [[[1, 1, 0, 0], [1, 1, 0, 0]]]
    """
    if masks.dim() != 3 or masks.shape[1] != masks.shape[2] or not masks.shape[1] or boxes.shape != (len(masks), 4):
        raise ValueError(
            f"masks of shape {tuple(masks.shape)} with boxes of shape {tuple(boxes.shape)} should be (regions, size, "
            "size) and (regions, 4): take both from the same regions"
        )
    if height < 1 or width < 1:
        raise ValueError(f"an image of {height} x {width} pixels has no room for masks: give its height and width")
    masks, boxes = masks.float(), boxes.float()
    rows, in_rows = pixel_weights(boxes[:, 1], boxes[:, 3], pixels=height, cells=masks.shape[1])
    columns, in_columns = pixel_weights(boxes[:, 0], boxes[:, 2], pixels=width, cells=masks.shape[1])
    pasted = torch.zeros(len(masks), height, width, dtype=torch.bool, device=masks.device)
    step = max(1, PASTED_AT_A_TIME // (height * width))
    for start in range(0, len(masks), step):
        part = slice(start, start + step)
        values = rows[part] @ masks[part] @ columns[part].transpose(1, 2)  # (n, height, width)
        pasted[part] = (values >= threshold) & in_rows[part, :, None] & in_columns[part, None, :]
    return pasted


def pixel_weights(
    first: torch.Tensor, last: torch.Tensor, *, pixels: int, cells: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Bilinear weights of a mask's cells for the centres of an image's pixels along one side.

    first, last: (R,) where the boxes begin and end, in 0..1. -> (R, pixels, cells), and which centres lie in the box
    (R, pixels) bool.
    """
    centres = (torch.arange(pixels, device=first.device) + 0.5) / pixels
    inside = (centres >= first[:, None]) & (centres < last[:, None])  # (R, pixels)
    side = (last - first).clamp(min=SMALLEST_SIDE)
    places = ((centres - first[:, None]) / side[:, None] * cells - 0.5).clamp(0, cells - 1)
    distance = places[..., None] - torch.arange(cells, device=first.device)
    return (1 - distance.abs()).clamp(min=0), inside


def check_true_masks(
    true_masks: torch.Tensor | None, labels: torch.Tensor | None, *, config: UpDownDetectorConfig
) -> None:
    """Raises `ValueError` for true masks (B, M, S, S) that are not of the labels (B, M), or that nothing learns."""
    if true_masks is None:
        return
    if not config.mask_head:
        raise ValueError("true_masks were given to a detector without masks: set config.mask_head, or leave them out")
    if labels is None:
        raise ValueError("masks are learnt beside labels: give labels and true_boxes as well")
    shape = tuple(true_masks.shape)
    if len(shape) != 4 or shape[:2] != tuple(labels.shape) or shape[2] != shape[3] or not shape[2]:
        raise ValueError(
            f"true_masks have shape {shape}, but labels of shape {tuple(labels.shape)} ask for "
            f"({labels.shape[0]}, {labels.shape[1]}, size, size): each object's mask inside its box, of one size"
        )
    if true_masks.numel() and not bool(((true_masks >= UNKNOWN) & (true_masks <= 1)).all()):
        raise ValueError("true_masks hold other numbers than 0, 1 and -1, an object without a mask: threshold them")
