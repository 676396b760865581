"""Box arithmetic. The one convention of the project: xyxy, 0..1 of the photo's width and height, no +1.

Overlaps and pooling go through torchvision; everything is vectorised over any leading dimensions.
"""

import torch
from torchvision.ops import roi_align


def boxes_from_pixels(boxes: torch.Tensor, *, width: int, height: int) -> torch.Tensor:
    """Pixel boxes xyxy (..., 4) -> 0..1, clipped to the photo.

    >>> boxes_from_pixels(torch.tensor([[0.0, 50.0, 200.0, 100.0]]), width=200, height=100)
    tensor([[0.0000, 0.5000, 1.0000, 1.0000]])
    """
    size = torch.tensor([width, height, width, height], dtype=boxes.dtype, device=boxes.device)
    return (boxes / size).clamp(0, 1)


def boxes_to_pixels(boxes: torch.Tensor, *, width: int, height: int) -> torch.Tensor:
    """Boxes in 0..1 (..., 4) -> pixels of a photo of that size."""
    return boxes * torch.tensor([width, height, width, height], dtype=boxes.dtype, device=boxes.device)


def box_area(boxes: torch.Tensor) -> torch.Tensor:
    """(..., 4) -> (...): width times height, never below 0."""
    width, height = (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).unbind(-1)
    return width * height


def pairwise_iou(boxes: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Intersection over union of every pair: (..., N, 4) and (..., M, 4) -> (..., N, M), 0 where both are empty.

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
    """A spatial pyramid: level n has n x n boxes of side 2 / (n + 1), evenly spread, each overlapping its neighbour by
    half (Lazebnik et al. 2006 with overlap). Level 1 is the whole photo. -> (sum of n^2, 4)

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
    """The mean feature of each box by RoIAlign: maps (B, D, h, w) and boxes (B, R, 4) in 0..1 -> (B, R, D)."""
    batch, width, map_height, map_width = feature_map.shape
    in_cells = boxes_to_pixels(boxes, width=map_width, height=map_height).to(feature_map.dtype)
    pooled = roi_align(feature_map, list(in_cells), output_size=output_size, aligned=True)  # (B * R, D, s, s)
    return pooled.mean(dim=(-2, -1)).view(batch, -1, width)
