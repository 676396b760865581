"""Box arithmetic against brute force, torchvision and hand-made figures."""

import itertools

import pytest
import torch
from torchvision.ops import box_iou

from modeling_updown.boxes_updown import (
    box_area,
    box_geometry,
    boxes_from_pixels,
    boxes_to_pixels,
    grid_boxes,
    pairwise_iou,
    pool_boxes,
    pyramid_boxes,
)


def random_boxes(*shape: int, seed: int = 0) -> torch.Tensor:
    corners = torch.rand(*shape, 2, 2, generator=torch.Generator().manual_seed(seed)).sort(dim=-2).values
    return corners.flatten(-2)  # (..., 4) xyxy


def test_pixels_and_back():
    boxes = torch.tensor([[10.0, 20.0, 100.0, 50.0], [-5.0, 0.0, 300.0, 80.0]])
    relative = boxes_from_pixels(boxes, width=200, height=80)
    assert relative.tolist() == [[0.05000000074505806, 0.25, 0.5, 0.625], [0.0, 0.0, 1.0, 1.0]]
    torch.testing.assert_close(boxes_to_pixels(relative[:1], width=200, height=80), boxes[:1])


def test_iou_is_torchvisions():
    boxes, others = random_boxes(3, 7), random_boxes(3, 4, seed=1)
    expected = torch.stack([box_iou(a, b) for a, b in zip(boxes, others, strict=True)])
    torch.testing.assert_close(pairwise_iou(boxes, others), expected)
    assert pairwise_iou(boxes, others).shape == (3, 7, 4)


def test_iou_of_degenerate_boxes():
    """A point, a line and a box turned inside out overlap nothing, not even themselves; nothing is NaN."""
    boxes = torch.tensor([[0.5, 0.5, 0.5, 0.5], [0.2, 0.2, 0.8, 0.2], [0.8, 0.8, 0.2, 0.2], [0.0, 0.0, 1.0, 1.0]])
    overlap = pairwise_iou(boxes, boxes)
    assert overlap.tolist() == [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]]
    assert box_area(boxes).tolist() == [0, 0, 0, 1]
    assert pairwise_iou(boxes[:0], boxes).shape == (0, 4)


def test_iou_has_a_gradient():
    boxes = random_boxes(4).double().requires_grad_()
    assert torch.autograd.gradcheck(pairwise_iou, (boxes, random_boxes(3, seed=1).double()))


def test_geometry():
    assert box_geometry(torch.tensor([0.25, 0.0, 0.75, 1.0])).tolist() == [0.25, 0.0, 0.75, 1.0, 0.5, 1.0, 0.5]


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (7, 7), (2, 3)])
def test_grid_is_read_row_by_row(rows, columns):
    expected = [
        [column / columns, row / rows, (column + 1) / columns, (row + 1) / rows]
        for row, column in itertools.product(range(rows), range(columns))
    ]
    torch.testing.assert_close(grid_boxes(rows, columns), torch.tensor(expected))


def test_pyramid():
    boxes = pyramid_boxes([1, 2, 3])
    third = 2 / 3
    assert boxes[0].tolist() == [0, 0, 1, 1]
    torch.testing.assert_close(boxes[1:5], torch.tensor([
        [0, 0, third, third], [1 / 3, 0, 1, third], [0, 1 / 3, third, 1], [1 / 3, 1 / 3, 1, 1],
    ]))  # fmt: skip
    torch.testing.assert_close(boxes[5:8, 0], torch.tensor([0.0, 0.25, 0.5]))
    torch.testing.assert_close(boxes[13], torch.tensor([0.5, 0.5, 1.0, 1.0]))
    for level, of_level in zip((1, 2, 3), boxes.split([1, 4, 9]), strict=True):
        assert box_area(of_level).allclose(torch.tensor((2 / (level + 1)) ** 2))
        union = of_level[:, :2].amin(), of_level[:, 2:].amax()
        assert union == (0, 1)


@pytest.mark.parametrize("level", [1, 2, 3, 5])
def test_pooling_a_linear_map_gives_its_value_at_the_middle(level):
    """f(x, y) = 3x - 2y + 1 on the cells' centres: the mean over a box is the value at the box's middle."""
    side = 12
    y, x = torch.meshgrid((torch.arange(side) + 0.5) / side, (torch.arange(side) + 0.5) / side, indexing="ij")
    plane = (3 * x - 2 * y + 1)[None, None].expand(2, 1, -1, -1)
    boxes = pyramid_boxes([level])
    inside = boxes * (1 - 1 / side) + 0.5 / side  # half a cell from the border on, a linear map is cut off
    middle = (inside[:, :2] + inside[:, 2:]) / 2
    expected = 3 * middle[:, 0] - 2 * middle[:, 1] + 1
    pooled = pool_boxes(plane, inside.expand(2, -1, -1))
    assert pooled.shape == (2, level**2, 1)
    torch.testing.assert_close(pooled[0, :, 0], expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(pooled[1], pooled[0])


def test_pooling_against_brute_force():
    """The mean of 3 x 3 bins, each of torchvision's sampling points, interpolated by hand."""
    feature_map = torch.randn(1, 3, 6, 8, generator=torch.Generator().manual_seed(0))
    boxes = torch.tensor([[[0.1, 0.2, 0.7, 0.9], [0.0, 0.0, 1.0, 1.0], [0.4, 0.4, 0.45, 0.5]]])
    pooled = pool_boxes(feature_map, boxes)[0]
    for box, found in zip(boxes[0], pooled, strict=True):
        left, top, right, bottom = (box * torch.tensor([8, 6, 8, 6])).tolist()
        points_x, points_y = bin_points(left, right), bin_points(top, bottom)
        values = [interpolate(feature_map[0], x, y) for y in points_y for x in points_x]
        torch.testing.assert_close(found, torch.stack(values).mean(dim=0), atol=1e-5, rtol=1e-5)


def bin_points(start: float, end: float) -> list[float]:
    """The sampling points of 3 bins on one axis: ceil(width of a bin) in each, evenly spread."""
    width = (end - start) / 3
    count = max(1, int(-(-width // 1)))
    return [start + width * (bin_ + (point + 0.5) / count) for bin_ in range(3) for point in range(count)]


def interpolate(feature_map: torch.Tensor, x: float, y: float) -> torch.Tensor:
    """Bilinear, a cell's value standing at its centre, the border value beyond the outermost centres."""
    height, width = feature_map.shape[1:]
    x, y = min(max(x - 0.5, 0), width - 1), min(max(y - 0.5, 0), height - 1)
    left, top = int(x), int(y)
    right, bottom = min(left + 1, width - 1), min(top + 1, height - 1)
    upper = feature_map[:, top, left] * (1 - (x - left)) + feature_map[:, top, right] * (x - left)
    lower = feature_map[:, bottom, left] * (1 - (x - left)) + feature_map[:, bottom, right] * (x - left)
    return upper * (1 - (y - top)) + lower * (y - top)
