"""Box arithmetic and RoI pooling. The project's convention: xyxy, 0..1 of the image's width and height, no +1.

Inside the detector boxes are pixels of the resized image; those functions say so, and take `plus_one` for Caffe's
convention, where a box from pixel 3 to pixel 5 is 3 pixels wide. Suppression and pooling use torchvision; all functions
are vectorised over leading dimensions.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torchvision.ops import nms, roi_align, roi_pool

POSITIONS_AT_ONCE = 150 * 14 * 14  # cells of regions held in memory together, in float32; twice as many in bfloat16
CANONICAL_CELLS = 14  # a region is pooled from the level on which its side is about 14 cells (224 pixels at stride 16)
MOST_CELLS_OF_PRODUCTS = 2500  # of a map; on more, pooling regions one by one is as fast


def boxes_from_pixels(boxes: torch.Tensor, *, width: int, height: int) -> torch.Tensor:
    """Pixel boxes xyxy (..., 4) -> 0..1, clipped to the image.

    >>> boxes_from_pixels(torch.tensor([[0.0, 50.0, 200.0, 100.0]]), width=200, height=100)
    tensor([[0.0000, 0.5000, 1.0000, 1.0000]])
    """
    size = torch.tensor([width, height, width, height], dtype=boxes.dtype, device=boxes.device)
    return (boxes / size).clamp(0, 1)


def boxes_to_pixels(boxes: torch.Tensor, *, width: int, height: int) -> torch.Tensor:
    """Boxes in 0..1 (..., 4) -> pixels of an image of a given size."""
    return boxes * torch.tensor([width, height, width, height], dtype=boxes.dtype, device=boxes.device)


def box_area(boxes: torch.Tensor) -> torch.Tensor:
    """(..., 4) -> (...): width times height, never below 0."""
    width, height = (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).unbind(-1)
    return width * height


def pairwise_iou(boxes: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Intersection over union of every pair: (..., N, 4) and (..., M, 4) -> (..., N, M), 0 if both are empty.

    >>> pairwise_iou(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.tensor([[0.0, 0.0, 0.5, 1.0]]))
    tensor([[0.5000]])
    """
    top_left = torch.maximum(boxes[..., :, None, :2], others[..., None, :, :2])  # (..., N, M, 2)
    bottom_right = torch.minimum(boxes[..., :, None, 2:], others[..., None, :, 2:])
    width, height = (bottom_right - top_left).clamp(min=0).unbind(-1)
    shared = width * height  # (..., N, M)
    union = box_area(boxes)[..., :, None] + box_area(others)[..., None, :] - shared
    return torch.where(union > 0, shared / union.clamp(min=torch.finfo(union.dtype).tiny), torch.zeros_like(union))


def box_geometry(boxes: torch.Tensor) -> torch.Tensor:
    """(..., 4) -> (..., 7): x1, y1, x2, y2, width, height, area, all 0..1 (UNITER's location feature)."""
    width_height = boxes[..., 2:] - boxes[..., :2]
    area = width_height.prod(-1, keepdim=True)
    return torch.cat([boxes, width_height, area], dim=-1)


def grid_boxes(rows: int, columns: int) -> torch.Tensor:
    """The cells of a grid in reading order: (rows * columns, 4)."""
    y, x = torch.meshgrid(torch.arange(rows) / rows, torch.arange(columns) / columns, indexing="ij")
    corner = torch.stack([x, y], dim=-1).reshape(-1, 2)  # (rows * columns, 2)
    return torch.cat([corner, corner + torch.tensor([1 / columns, 1 / rows])], dim=-1)


def pyramid_boxes(levels: list[int]) -> torch.Tensor:
    """A spatial pyramid (sum of n^2, 4): level n has n x n boxes of side 2 / (n + 1), evenly spaced, each overlapping
    its neighbour by half (Lazebnik et al. 2006 with overlap). Level 1 is the whole image.

    >>> pyramid_boxes([1, 3]).shape
    torch.Size([10, 4])
    """
    boxes = []
    for level in levels:
        side = 2 / (level + 1)
        start = torch.arange(level) * (side / 2)
        y, x = torch.meshgrid(start, start, indexing="ij")
        corner = torch.stack([x, y], dim=-1).reshape(-1, 2)
        boxes.append(torch.cat([corner, corner + side], dim=-1))
    return torch.cat(boxes).clamp(max=1.0)


def pool_boxes(feature_map: torch.Tensor, boxes: torch.Tensor, *, output_size: int = 3) -> torch.Tensor:
    """The mean feature of each box by RoIAlign: maps (B, D, h, w) and boxes (B, R, 4) in 0..1 -> (B, R, D).

    Pooled in float32 at least: torchvision does not pool bfloat16, and float16 would round the corners of the boxes.
    """
    batch, width, map_height, map_width = feature_map.shape
    wide = torch.promote_types(feature_map.dtype, torch.float32)
    in_cells = boxes_to_pixels(boxes.to(wide), width=map_width, height=map_height)
    pooled = roi_align(feature_map.to(wide), list(in_cells), output_size=output_size, aligned=True)  # (B * R, D, s, s)
    return pooled.mean(dim=(-2, -1)).view(batch, -1, width).to(feature_map.dtype)


def join_rois(boxes: list[torch.Tensor]) -> torch.Tensor:
    """Each image's boxes (N_i, 4) -> (N, 5): the index of the image, and the box."""
    numbers = [boxes[0].new_full((len(part), 1), float(i)) for i, part in enumerate(boxes)]
    return torch.cat([torch.cat(numbers), torch.cat(boxes)], dim=1)


def even_parts(regions: torch.Tensor, positions: int, *, itemsize: int = 4) -> tuple[torch.Tensor, ...]:
    """Regions of so many positions each (N, ...) in the fewest parts that respect the bound, of about one size."""
    most = POSITIONS_AT_ONCE * 4 // itemsize
    return regions.tensor_split(max(1, math.ceil(len(regions) * positions / most)))


def max_pool_rois(
    feature_map: torch.Tensor, rois: torch.Tensor, *, output_size: int, spatial_scale: float
) -> torch.Tensor:
    """RoIPool (Girshick 2015), the maximum of each bin of cells: map (n, D, h, w) and rois (N, 5) -> (N, D, s, s).

    rois: index of the image, then its pixel box; spatial_scale: cells of the map per pixel. Pooled in float32, since
    torchvision supports few types on a CPU; a maximum is exact in a wider type.
    """
    wide = torch.promote_types(feature_map.dtype, torch.float32)
    return roi_pool(feature_map.to(wide), rois.to(wide), output_size, spatial_scale).to(feature_map.dtype)


def align_rois(
    feature_map: torch.Tensor,
    rois: torch.Tensor,
    *,
    output_size: int,
    spatial_scale: float,
    sampling_ratio: int = -1,
    aligned: bool = False,
) -> torch.Tensor:
    """RoIAlign (He et al. 2017) in float32, the only type that torchvision supports on a CPU; arguments as above and as
    in torchvision.
    """
    pooled = roi_align(feature_map.float(), rois.float(), output_size, spatial_scale, sampling_ratio, aligned)
    return pooled.to(feature_map.dtype)


def pool_pyramid(
    maps: Sequence[torch.Tensor], rois: torch.Tensor, strides: Sequence[int], *, size: int
) -> torch.Tensor:
    """RoIAlign of each roi (N, 5) on the level on which its side is about 14 cells: (N, channels, size, size).

    Where a CPU trains on a map of few cells it is two matrix products, whose gradient takes a third of the time.
    """
    side = box_area(rois[:, 1:]).sqrt()
    level = torch.floor(torch.log2(side / (CANONICAL_CELLS * strides[0]) + 1e-6)).clamp(0, len(maps) - 1)
    pooled = maps[0].new_zeros(len(rois), maps[0].shape[1], size, size)
    for number, (feature_map, stride) in enumerate(zip(maps, strides, strict=True)):
        chosen = (level == number).nonzero().flatten()
        if len(chosen):
            small = feature_map.shape[-2:].numel() <= MOST_CELLS_OF_PRODUCTS
            if small and feature_map.requires_grad and feature_map.device.type == "cpu":
                aligned = align_by_products(feature_map, rois[chosen], output_size=size, stride=stride, samples=2)
            else:
                aligned = align_rois(
                    feature_map,
                    rois[chosen],
                    output_size=size,
                    spatial_scale=1 / stride,
                    sampling_ratio=2,
                    aligned=True,
                )
            pooled = pooled.index_put((chosen,), aligned.to(pooled.dtype))
    return pooled


def align_by_products(
    feature_map: torch.Tensor, rois: torch.Tensor, *, output_size: int, stride: float, samples: int
) -> torch.Tensor:
    """RoIAlign with `aligned=True` of rois (N, 5) inside their images: map (n, D, h, w) -> (N, D, s, s).

    Bilinear weights of points on a grid are a product of those of its rows and columns: one matrix product takes the
    rows of all rois of an image, a second one the columns.
    """
    rois, (height, width) = rois.float(), feature_map.shape[-2:]
    options: dict[str, Any] = {"stride": stride, "samples": samples, "bins": output_size}
    rows = bin_weights(rois[:, 2], rois[:, 4], cells=height, **options)  # (N, s, h)
    columns = bin_weights(rois[:, 1], rois[:, 3], cells=width, **options)  # (N, s, w)
    cells = feature_map.permute(0, 2, 3, 1).flatten(2)  # (n, h, w * D)
    taken = feature_map.new_zeros(len(rois), output_size, width, feature_map.shape[1])
    for image in range(len(cells)):
        own = (rois[:, 0] == image).nonzero().flatten()
        lines = rows[own].flatten(0, 1).to(cells.dtype) @ cells[image]  # (N_i * s, w * D)
        taken = taken.index_put((own,), lines.view(len(own), *taken.shape[1:]).to(taken.dtype))
    pooled = columns[:, None].to(taken.dtype) @ taken  # (N, s, s, D)
    return pooled.permute(0, 3, 1, 2).to(feature_map.dtype)


def box_means(
    feature_map: torch.Tensor,
    rois: torch.Tensor,
    *,
    stride: float,
    samples: int = 6,
    exact: torch.Tensor | None = None,
) -> torch.Tensor:
    """The mean of a map (n, D, h, w) in each roi (N, 5), over RoIAlign's `samples` x `samples` points: (N, D).

    Bilinear weights of points on a grid are a product of those of its rows and columns, so each roi is one row of
    weights over the cells, and all rois are one matrix product. Where `exact` (N,) bool is True, the mean is that of
    the roi's area: every cell of the map counts by how much of it lies in the roi.
    """
    rois = rois.float()
    sides = []
    for axis, cells in ((1, feature_map.shape[-1]), (2, feature_map.shape[-2])):
        first, last = rois[:, axis], rois[:, axis + 2]
        weights = sample_weights(first, last, cells=cells, stride=stride, samples=samples)
        if exact is not None:
            shares = area_weights(first[exact], last[exact], cells=cells, stride=stride)
            weights = weights.index_put((exact,), shares)
        sides.append(weights)
    columns, rows = sides  # (N, w), (N, h)
    weights = (rows[:, :, None] * columns[:, None, :]).flatten(1).to(feature_map.dtype)  # (N, h * w)
    cells_of_map = feature_map.flatten(2).transpose(1, 2)  # (n, h * w, D)
    means = feature_map.new_zeros(len(rois), feature_map.shape[1])
    for image in range(len(cells_of_map)):
        own = (rois[:, 0] == image).nonzero().flatten()
        means = means.index_put((own,), (weights[own] @ cells_of_map[image]).to(means.dtype))
    return means


def sample_weights(first: torch.Tensor, last: torch.Tensor, *, cells: int, stride: float, samples: int) -> torch.Tensor:
    """The mean bilinear weight of each of `cells` cells for evenly spaced points from pixel `first` to `last` (N,)."""
    return bin_weights(first, last, cells=cells, stride=stride, samples=samples, bins=1)[:, 0]  # (N, cells)


def bin_weights(
    first: torch.Tensor, last: torch.Tensor, *, cells: int, stride: float, samples: int, bins: int
) -> torch.Tensor:
    """The same for each of the equal parts from `first` to `last`, with `samples` points in each: (N, bins, cells)."""
    steps = (torch.arange(bins * samples, device=first.device) + 0.5) / (bins * samples)
    points = (first[:, None] + (last - first)[:, None] * steps) / stride - 0.5  # (N, bins * samples), in cells
    distance = points.clamp(0, cells - 1)[..., None] - torch.arange(cells, device=first.device)
    return (1 - distance.abs()).clamp(min=0).unflatten(1, (bins, samples)).mean(dim=2)


def area_weights(first: torch.Tensor, last: torch.Tensor, *, cells: int, stride: float) -> torch.Tensor:
    """The share of each of `cells` cells in the stretch from pixel `first` to `last` (N,), which is not empty.

    >>> area_weights(torch.tensor([16.0]), torch.tensor([96.0]), cells=4, stride=32)
    tensor([[0.2000, 0.4000, 0.4000, 0.0000]])
    """
    left = torch.arange(cells, device=first.device)  # of each cell
    inside = torch.minimum(last[:, None] / stride, left + 1) - torch.maximum(first[:, None] / stride, left)
    inside = inside.clamp(min=0)  # (N, cells)
    return inside / inside.sum(dim=1, keepdim=True)


def box_centres(boxes: torch.Tensor, *, plus_one: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Pixel boxes (..., 4) -> centres and sizes, (..., 2) each as x, y."""
    size = boxes[..., 2:] - boxes[..., :2] + float(plus_one)
    return boxes[..., :2] + 0.5 * size, size


def encode_boxes(
    boxes: torch.Tensor, targets: torch.Tensor, *, weights: Sequence[float] = (1, 1, 1, 1), plus_one: bool = False
) -> torch.Tensor:
    """The regression (..., 4) from pixel boxes to targets: shifts of the centre in units of the box, and logarithms of
    the ratios of the sides, times `weights` (Faster R-CNN, Ren et al. 2015, equation 2; Caffe's `bbox_transform`).

    >>> encode_boxes(torch.tensor([0.0, 0.0, 10.0, 10.0]), torch.tensor([5.0, 0.0, 15.0, 10.0]))
    tensor([0.5000, 0.0000, 0.0000, 0.0000])
    """
    centre, size = box_centres(boxes, plus_one=plus_one)
    target_centre, target_size = box_centres(targets, plus_one=plus_one)
    shift, growth = (target_centre - centre) / size, torch.log(target_size / size)
    return torch.cat([shift, growth], dim=-1) * boxes.new_tensor(list(weights))


def decode_boxes(
    deltas: torch.Tensor,
    boxes: torch.Tensor,
    *,
    weights: Sequence[float] = (1, 1, 1, 1),
    plus_one: bool = False,
    max_growth: float | None = None,
) -> torch.Tensor:
    """Pixel boxes (..., 4) moved by a regression (..., 4); the inverse of `encode_boxes` except for Caffe's `plus_one`,
    whose decoded right and lower sides are one pixel further out, as in the original.

    `max_growth` bounds the factor by which a side may grow.
    """
    centre, size = box_centres(boxes, plus_one=plus_one)
    shift, growth = (deltas / deltas.new_tensor(list(weights))).split(2, dim=-1)
    if max_growth is not None:
        growth = growth.clamp(max=torch.tensor(float(max_growth)).log().item())
    new_centre, half = shift * size + centre, 0.5 * torch.exp(growth) * size
    return torch.cat([new_centre - half, new_centre + half], dim=-1)


def clip_boxes(boxes: torch.Tensor, *, width: int, height: int, plus_one: bool = False) -> torch.Tensor:
    """Pixel boxes (..., 4) inside an image: up to its last pixel with `plus_one`, else up to its side."""
    last = boxes.new_tensor([width, height, width, height]) - float(plus_one)
    return torch.minimum(boxes.clamp(min=0), last)


def suppress(
    boxes: torch.Tensor,
    scores: torch.Tensor,
    *,
    threshold: float,
    groups: torch.Tensor | None = None,
    plus_one: bool = False,
) -> torch.Tensor:
    """Greedy non-maximum suppression of pixel boxes (N, 4): the indices of the kept boxes, the best first.

    A box is removed if it overlaps a better one of its group (N,) by more than `threshold`. Groups are moved apart in
    float64, so that overlaps are not rounded.
    """
    if plus_one:
        boxes = torch.cat([boxes[:, :2], boxes[:, 2:] + 1], dim=1)
    if groups is not None and len(boxes):
        boxes = boxes.double()
        boxes = boxes + (groups * (boxes.max() - boxes.min() + 1).ceil())[:, None]
    return nms(boxes.to(torch.promote_types(boxes.dtype, torch.float32)), scores.to(boxes.dtype), threshold)


def fill_up(kept: torch.Tensor, scores: torch.Tensor, *, at_least: int) -> torch.Tensor:
    """Kept indices (K,), filled up with the best of the others to `at_least`, if there are as many.

    >>> fill_up(torch.tensor([2]), torch.tensor([0.1, 0.5, 0.9]), at_least=2).tolist()
    [2, 1]
    """
    if len(kept) >= at_least:
        return kept
    order = scores.argsort(descending=True, stable=True)
    others = order[~torch.isin(order, kept)]
    return torch.cat([kept, others[: at_least - len(kept)]])
