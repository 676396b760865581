"""Box arithmetic against brute force, torchvision and hand-made figures."""

import itertools
import math

import pytest
import torch
from safetensors.torch import load_file
from torchvision.ops import box_iou, roi_align, roi_pool

from modeling_updown.boxes_updown import (
    align_by_products,
    align_rois,
    box_area,
    box_centres,
    box_geometry,
    box_means,
    boxes_from_pixels,
    boxes_to_pixels,
    clip_boxes,
    decode_boxes,
    encode_boxes,
    fill_up,
    grid_boxes,
    max_pool_rois,
    pairwise_iou,
    pool_boxes,
    pool_pyramid,
    pyramid_boxes,
    suppress,
)
from tests.shared_files import shared


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


# ---- regression: boxes in pixels


def pixel_boxes(count: int, *, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * 100
    return torch.cat([corner, corner + torch.rand(count, 2, generator=generator) * 50 + 1], dim=1)


@pytest.mark.parametrize("samples", [2, 6])
def test_means_of_boxes_are_over_points_or_over_the_area(samples):
    """Of a linear map both are its value in the middle; of a map with one bright cell only the area counts it right."""
    x = torch.arange(8.0) + 0.5
    maps = torch.stack([(3 * x[None, :] - 2 * x[:6, None]), torch.zeros(6, 8)])[None]  # (1, 2, 6, 8)
    maps[0, 1, 2, 3] = 24.0
    rois = torch.tensor([[0.0, 32, 32, 160, 128], [0, 16, 48, 240, 144], [0, 0, 0, 256, 192]])  # stride 32
    exact = torch.tensor([True, True, True])
    areas = box_means(maps, rois, stride=32, samples=samples, exact=exact)
    points = box_means(maps, rois, stride=32, samples=samples)
    middle = 3 * torch.tensor([3.0, 4.0, 4.0]) - 2 * torch.tensor([2.5, 3.0, 3.0])
    torch.testing.assert_close(areas[:, 0], middle)
    torch.testing.assert_close(areas[:, 1], 24 / torch.tensor([12.0, 21.0, 48.0]))
    torch.testing.assert_close(points[:, 0], middle)
    assert ((points[:, 1] - areas[:, 1]) / areas[:, 1]).abs().max() > 0.1
    mixed = box_means(maps, rois, stride=32, samples=samples, exact=torch.tensor([False, True, False]))
    torch.testing.assert_close(mixed, torch.stack([points[0], areas[1], points[2]]))


def test_centres():
    box = torch.tensor([3.0, 10.0, 5.0, 20.0])
    centre, size = box_centres(box)
    assert (centre.tolist(), size.tolist()) == ([4, 15], [2, 10])
    centre, size = box_centres(box, plus_one=True)  # pixels 3, 4 and 5
    assert (centre.tolist(), size.tolist()) == ([4.5, 15.5], [3, 11])


@pytest.mark.parametrize("plus_one", [False, True])
def test_encoding_against_slow_twin(plus_one):
    boxes, targets, extra = pixel_boxes(20), pixel_boxes(20, seed=1), float(plus_one)
    expected = []
    for (x1, y1, x2, y2), (u1, v1, u2, v2) in zip(boxes.tolist(), targets.tolist(), strict=True):
        width, height = x2 - x1 + extra, y2 - y1 + extra
        shift_x = ((u1 + u2 + extra) / 2 - (x1 + x2 + extra) / 2) / width
        shift_y = ((v1 + v2 + extra) / 2 - (y1 + y2 + extra) / 2) / height
        growth_x, growth_y = math.log((u2 - u1 + extra) / width), math.log((v2 - v1 + extra) / height)
        expected.append([10 * shift_x, 10 * shift_y, 5 * growth_x, 5 * growth_y])
    found = encode_boxes(boxes, targets, weights=(10, 10, 5, 5), plus_one=plus_one)
    torch.testing.assert_close(found, torch.tensor(expected), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("plus_one", [False, True])
def test_decoding_takes_back_encoding(plus_one):
    """All but Caffe's own slip: with +1 the right and lower sides come back one pixel further out."""
    boxes, targets = pixel_boxes(20), pixel_boxes(20, seed=1)
    deltas = encode_boxes(boxes, targets, weights=(10, 10, 5, 5), plus_one=plus_one)
    back = decode_boxes(deltas, boxes, weights=(10, 10, 5, 5), plus_one=plus_one)
    expected = targets + torch.tensor([0.0, 0.0, 1.0, 1.0]) * plus_one
    torch.testing.assert_close(back, expected, atol=1e-3, rtol=0)


def test_golden_encoding_of_the_original():
    golden = load_file(shared("golden/reference/bua_caffe.safetensors"))
    found = encode_boxes(golden["bbox.ex"], golden["bbox.gt"], plus_one=True)
    torch.testing.assert_close(found, golden["bbox.targets"], atol=1e-5, rtol=1e-5)


def test_growth_is_bounded_on_request():
    box, deltas = torch.tensor([[0.0, 0.0, 10.0, 10.0]]), torch.tensor([[0.0, 0.0, 9.0, -9.0]])
    free, bounded = decode_boxes(deltas, box), decode_boxes(deltas, box, max_growth=62.5)
    assert (free[0, 2] - free[0, 0]).item() == pytest.approx(10 * math.exp(9), rel=1e-5)
    assert (bounded[0, 2] - bounded[0, 0]).item() == pytest.approx(625, rel=1e-5)
    assert (bounded[0, 3] - bounded[0, 1]).item() == pytest.approx(10 * math.exp(-9), rel=1e-3)  # below, none


def test_one_box_decodes_to_a_box_of_each_class():
    boxes = pixel_boxes(5)
    deltas = torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(0))
    made = decode_boxes(deltas, boxes[:, None])
    for label in range(3):
        torch.testing.assert_close(made[:, label], decode_boxes(deltas[:, label], boxes))


def test_clipping():
    box = torch.tensor([[-5.0, 3.0, 200.0, 90.0], [150.0, 95.0, 300.0, 99.0]])
    assert clip_boxes(box, width=100, height=80).tolist() == [[0, 3, 100, 80], [100, 80, 100, 80]]
    assert clip_boxes(box, width=100, height=80, plus_one=True).tolist() == [[0, 3, 99, 79], [99, 79, 99, 79]]


# ---- suppression


def slow_suppress(boxes: list, scores: list, groups: list, *, threshold: float, extra: float) -> list[int]:
    kept: list[int] = []
    for row in sorted(range(len(boxes)), key=lambda number: -scores[number]):
        for other in kept:
            a, b = boxes[row], boxes[other]
            width = max(min(a[2], b[2]) - max(a[0], b[0]) + extra, 0)
            height = max(min(a[3], b[3]) - max(a[1], b[1]) + extra, 0)
            areas = sum((c[2] - c[0] + extra) * (c[3] - c[1] + extra) for c in (a, b))
            if groups[row] == groups[other] and width * height / (areas - width * height) > threshold:
                break
        else:
            kept.append(row)
    return kept


@pytest.mark.parametrize("plus_one", [False, True])
@pytest.mark.parametrize("num_groups", [1, 5])
@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.7, 1.0])
def test_suppression_against_slow_twin(threshold, num_groups, plus_one):
    boxes, scores = pixel_boxes(150), torch.rand(150, generator=torch.Generator().manual_seed(0))
    boxes = boxes - 40  # some coordinates below 0
    groups = torch.arange(150) % num_groups
    found = suppress(boxes, scores, threshold=threshold, groups=groups if num_groups > 1 else None, plus_one=plus_one)
    lists = (boxes.tolist(), scores.tolist(), groups.tolist())
    assert found.tolist() == slow_suppress(*lists, threshold=threshold, extra=float(plus_one))


def test_groups_never_meet_however_many_there_are():
    """1,601 copies of one small box: in float32 the shifts that part them would round it away."""
    box = torch.tensor([[999.1, 999.1, 999.4, 999.4]])
    groups = torch.arange(1601).repeat_interleave(2)
    scores = torch.rand(3202, generator=torch.Generator().manual_seed(0))
    kept = suppress(box.expand(3202, 4), scores, threshold=0.5, groups=groups)
    assert len(kept) == 1601 and sorted(groups[kept].tolist()) == list(range(1601))
    assert torch.equal(scores[kept], scores.view(-1, 2).amax(dim=1).sort(descending=True).values)


def test_nothing_to_suppress():
    for groups in (None, torch.zeros(0, dtype=torch.long)):
        assert suppress(torch.zeros(0, 4), torch.zeros(0), threshold=0.5, groups=groups).tolist() == []


def test_filling_up():
    scores = torch.tensor([0.1, 0.5, 0.9, 0.5])
    assert fill_up(torch.tensor([2]), scores, at_least=3).tolist() == [2, 1, 3]  # of equals the first
    assert fill_up(torch.tensor([0, 1]), scores, at_least=2).tolist() == [0, 1]
    assert fill_up(torch.tensor([3]), scores, at_least=9).tolist() == [3, 2, 1, 0]


# ---- regions pooled from the levels of a feature pyramid

STRIDES = [8, 16, 32, 64]
SAMPLED = {"output_size": 3, "spatial_scale": 1 / 16, "sampling_ratio": 2, "aligned": True}


def flat_maps(values: list[float]) -> list[torch.Tensor]:
    """One map a level, constant, so that a pooled value tells its level."""
    return [torch.full((2, 1, 512 // stride, 512 // stride), v) for stride, v in zip(STRIDES, values, strict=True)]


def test_level_of_a_region_is_that_of_the_paper():
    """Lin et al. 2017, equation 1, with stride 16 for a side of 224 pixels; never beyond the levels there are."""
    rois = torch.tensor([
        [0, 0, 0, 10, 10], [0, 0, 0, 111, 111], [0, 0, 0, 112, 112], [0, 0, 0, 223, 223], [1, 0, 0, 224, 224],
        [1, 0, 0, 400, 500], [1, 0, 0, 512, 512], [0, 0, 0, 56, 448], [0, 5, 5, 5, 5],
    ]).float()  # fmt: skip
    pooled = pool_pyramid(flat_maps([0, 1, 2, 3]), rois, STRIDES, size=2)
    for roi, found in zip(rois.tolist(), pooled, strict=True):
        side = math.sqrt((roi[3] - roi[1]) * (roi[4] - roi[2]))
        # their level 4 has stride 16 and is our number 1
        level = math.floor(4 + math.log2(max(side, 1e-9) / 224)) - 3
        assert found.unique().tolist() == [min(max(level, 0), 3)], roi
    assert pooled[:, 0, 0, 0].tolist() == [0, 0, 0, 0, 1, 1, 2, 0, 0]


def test_pooling_keeps_the_order_and_the_image():
    generator = torch.Generator().manual_seed(0)
    maps = [torch.randn(2, 3, 256 // stride, 256 // stride, generator=generator) for stride in STRIDES]
    corner = torch.rand(12, 2, generator=generator) * 100
    side = torch.rand(12, 2, generator=generator) * 150
    images = (torch.arange(12) % 2).float()[:, None]
    rois = torch.cat([images, corner, corner + side], dim=1)
    pooled = pool_pyramid(maps, rois, STRIDES, size=3)
    for row, roi in enumerate(rois):
        alone = pool_pyramid(maps, rois[row : row + 1], STRIDES, size=3)
        torch.testing.assert_close(pooled[row], alone[0])
        other = roi.clone()
        other[0] = 1 - roi[0]
        assert not torch.allclose(pool_pyramid(maps, other[None], STRIDES, size=3)[0], pooled[row])
    assert pool_pyramid(maps, rois[:0], STRIDES, size=3).shape == (0, 3, 3, 3)


def test_aligning_by_products_is_torchvisions_and_so_is_its_gradient():
    """In training on a CPU; boxes of no area, one cell and the whole image among them, an image without any."""
    generator = torch.Generator().manual_seed(0)
    feature_map = torch.randn(3, 5, 12, 17, generator=generator).requires_grad_()
    corner = torch.rand(40, 2, generator=generator) * torch.tensor([200.0, 130.0])
    side = torch.rand(40, 2, generator=generator) * torch.tensor([70.0, 60.0])
    rois = torch.cat([2 * (torch.arange(40) % 2)[:, None], corner, corner + side], dim=1)
    rois[0, 3:], rois[1, 1:], rois[2, 3:] = rois[0, 1:3], torch.tensor([0.0, 0, 272, 192]), rois[2, 1:3] + 3
    found = align_by_products(feature_map, rois, output_size=3, stride=16, samples=2)
    expected = roi_align(feature_map, rois, **SAMPLED)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    weights = torch.randn(found.shape, generator=generator)
    gradients = [torch.autograd.grad((made * weights).sum(), feature_map)[0] for made in (found, expected)]
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-5, rtol=1e-5)
    assert gradients[0][1].abs().max() == 0
    assert align_by_products(feature_map, rois[:0], output_size=3, stride=16, samples=2).shape == (0, 5, 3, 3)


def test_a_trained_pyramid_is_pooled_as_a_frozen_one():
    maps = [torch.randn(2, 3, 256 // stride, 256 // stride) for stride in STRIDES]
    corner = torch.rand(20, 2) * 100
    rois = torch.cat([(torch.arange(20) % 2)[:, None], corner, corner + torch.rand(20, 2) * 150], dim=1)
    frozen = pool_pyramid(maps, rois, STRIDES, size=3)
    trained = pool_pyramid([one.clone().requires_grad_() for one in maps], rois, STRIDES, size=3)
    torch.testing.assert_close(trained.detach(), frozen, atol=1e-5, rtol=1e-5)


def test_aligning_a_linear_map_gives_its_value_at_the_middle():
    """f(x, y) = 2x - y in pixels, on the cells' centres: the mean of a box inside is f of its middle."""
    stride = 16
    y, x = torch.meshgrid((torch.arange(10) + 0.5) * stride, (torch.arange(14) + 0.5) * stride, indexing="ij")
    rois = torch.tensor([[0.0, 40, 30, 100, 120], [0, 20, 20, 30, 140]])
    pooled = align_rois((2 * x - y)[None, None], rois, **SAMPLED).mean(dim=(1, 2, 3))
    torch.testing.assert_close(pooled, torch.tensor([2 * 70.0 - 75, 2 * 25.0 - 80]), atol=1e-3, rtol=0)


def test_half_precision_is_pooled_in_full():
    feature_map = torch.randn(1, 4, 8, 8).bfloat16()
    rois = torch.tensor([[0.0, 10, 10, 90, 100]])
    pooled = align_rois(feature_map, rois.bfloat16(), **SAMPLED)
    expected = roi_align(feature_map.float(), rois, 3, 1 / 16, sampling_ratio=2, aligned=True)
    assert pooled.dtype == torch.bfloat16
    torch.testing.assert_close(pooled, expected.bfloat16())


def test_maxima_of_half_precision_are_those_of_float32():
    """torchvision pools no bfloat16 on a CPU; cells are rounded already, so nothing is lost."""
    feature_map = torch.randn(2, 4, 9, 9, generator=torch.Generator().manual_seed(0)).bfloat16()
    rois = torch.tensor([[0.0, 8, 8, 90, 100], [1, 0, 0, 140, 30]])
    pooled = max_pool_rois(feature_map, rois, output_size=3, spatial_scale=1 / 16)
    assert pooled.dtype == torch.bfloat16
    assert torch.equal(pooled.float(), roi_pool(feature_map.float(), rois, 3, 1 / 16))
