"""The feature pyramid: where its maps come from, which level a region is pooled from, and what stays frozen."""

import math

import pytest
import timm
import torch
from torch.nn import functional as F
from torchvision.ops import roi_align

from modeling_updown.pyramid_updown import PyramidBackbone, PyramidRegions, align, frozen_parts, pool_pyramid
from tests.tiny import noise_photo, tiny_pyramid_detector

STRIDES = [8, 16, 32, 64]


@pytest.fixture(scope="module")
def backbone() -> PyramidBackbone:
    torch.manual_seed(0)
    return PyramidBackbone("test_resnet", levels=[2, 3, 4], channels=6, joined=True).eval()


# ---- the maps


@torch.no_grad()
def test_maps_are_summed_from_coarse_to_fine(backbone):
    """The twin adds each coarser level by repeating its cells; 72 x 104 pixels leave odd sizes."""
    photo = noise_photo(72, 104)
    levels = backbone.backbone.forward_intermediates(photo, indices=[2, 3, 4], intermediates_only=True)
    fine, middle, coarse = (lateral(level) for lateral, level in zip(backbone.lateral, levels, strict=True))
    assert [part.shape[-2:] for part in (fine, middle, coarse)] == [(9, 13), (5, 7), (3, 4)]
    middle = middle + repeated(coarse, middle)
    fine = fine + repeated(middle, fine)
    expected = [smooth(level) for smooth, level in zip(backbone.smooth, (fine, middle, coarse), strict=True)]
    expected.append(expected[-1][..., ::2, ::2])
    maps, last = backbone(photo)
    assert backbone.strides == STRIDES
    for found, wanted in zip(maps, expected, strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(last, backbone.backbone.forward_features(photo), atol=1e-5, rtol=1e-5)
    assert (last.shape[1], backbone.last_stride) == (backbone.last_channels, 32)


def repeated(coarse: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Every cell of `like` takes the coarse cell at the same share of the height and width."""
    (height, width), (rows, columns) = like.shape[-2:], coarse.shape[-2:]
    picked = torch.stack([coarse[:, :, row * rows // height] for row in range(height)], dim=2)
    return torch.stack([picked[..., column * columns // width] for column in range(width)], dim=3)


def test_without_joining_there_is_no_last_map():
    plain = PyramidBackbone("test_resnet", levels=[2, 3, 4], channels=6, joined=False).eval()
    assert plain(noise_photo(64, 64))[1] is None


@pytest.mark.parametrize(
    ("name", "levels"), [("test_efficientnet", [2, 3, 4]), ("test_convnext", [1, 2, 3]), ("regnetx_002", [2, 3, 4])]
)
@torch.no_grad()
def test_other_backbones(name, levels):
    made = PyramidBackbone(name, levels=levels, channels=5, joined=True).eval()
    maps, last = made(noise_photo(96, 128))
    assert made.strides == STRIDES and made.last_stride == 32
    assert [part.shape for part in maps] == [(1, 5, 96 // s, 128 // s) for s in (8, 16, 32)] + [(1, 5, 2, 2)]
    assert last.shape == (1, made.last_channels, 3, 4)


# ---- pooling


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


def test_pooling_keeps_the_order_and_the_photo():
    generator = torch.Generator().manual_seed(0)
    maps = [torch.randn(2, 3, 256 // stride, 256 // stride, generator=generator) for stride in STRIDES]
    corner = torch.rand(12, 2, generator=generator) * 100
    side = torch.rand(12, 2, generator=generator) * 150
    photos = (torch.arange(12) % 2).float()[:, None]
    rois = torch.cat([photos, corner, corner + side], dim=1)
    pooled = pool_pyramid(maps, rois, STRIDES, size=3)
    for row, roi in enumerate(rois):
        alone = pool_pyramid(maps, rois[row : row + 1], STRIDES, size=3)
        torch.testing.assert_close(pooled[row], alone[0])
        other = roi.clone()
        other[0] = 1 - roi[0]
        assert not torch.allclose(pool_pyramid(maps, other[None], STRIDES, size=3)[0], pooled[row])
    assert pool_pyramid(maps, rois[:0], STRIDES, size=3).shape == (0, 3, 3, 3)


def test_aligning_a_linear_map_gives_its_value_at_the_middle():
    """f(x, y) = 2x - y in pixels, on the cells' centres: the mean of a box inside is f of its middle."""
    stride = 16
    y, x = torch.meshgrid((torch.arange(10) + 0.5) * stride, (torch.arange(14) + 0.5) * stride, indexing="ij")
    rois = torch.tensor([[0.0, 40, 30, 100, 120], [0, 20, 20, 30, 140]])
    pooled = align((2 * x - y)[None, None], rois, stride=stride, size=3).mean(dim=(1, 2, 3))
    torch.testing.assert_close(pooled, torch.tensor([2 * 70.0 - 75, 2 * 25.0 - 80]), atol=1e-3, rtol=0)


def test_half_precision_is_pooled_in_full():
    feature_map = torch.randn(1, 4, 8, 8).bfloat16()
    rois = torch.tensor([[0.0, 10, 10, 90, 100]])
    pooled = align(feature_map, rois.bfloat16(), stride=16, size=3)
    expected = roi_align(feature_map.float(), rois, 3, 1 / 16, sampling_ratio=2, aligned=True)
    assert pooled.dtype == torch.bfloat16
    torch.testing.assert_close(pooled, expected.bfloat16())


def test_head_is_two_layers():
    torch.manual_seed(0)
    head = PyramidRegions(channels=1, pool_size=2, width=5)
    rois = torch.tensor([[0.0, 0, 0, 50, 50], [1, 0, 0, 300, 300]])
    maps = flat_maps([1.0, 2.0, 3.0, 4.0])
    inputs = torch.tensor([[1.0] * 4, [2.0] * 4])
    expected = F.relu(
        F.relu(inputs @ head.hidden.weight.T + head.hidden.bias) @ head.output.weight.T + head.output.bias
    )
    torch.testing.assert_close(head(maps, rois, STRIDES), expected)


@torch.no_grad()
def test_joined_features_are_where_the_box_is():
    """On a photo whose sides are no multiples of 32 as well: the last map's stride is the backbone's own."""
    model = tiny_pyramid_detector()
    maps = model.feature_maps(noise_photo(72, 200))
    maps.last = torch.arange(maps.last.shape[-1]).float().expand_as(maps.last).contiguous()  # column numbers
    boxes = torch.tensor([[48.0, 10, 80, 60], [112, 20, 144, 50]])
    joined = model.region_features(maps, [boxes])[:, 32:]
    middle = (boxes[:, 0] + boxes[:, 2]) / 2 / 32 - 0.5  # of the box, in columns between cells' centres
    torch.testing.assert_close(joined, middle[:, None].expand_as(joined))


# ---- what trains


@pytest.mark.parametrize(
    ("name", "count", "frozen"),
    [
        ("test_resnet", 0, set()),
        ("test_resnet", 1, {"conv1"}),
        ("test_resnet", 3, {"conv1", "layer1", "layer2"}),
        ("test_resnet", 9, {"conv1", "layer1", "layer2", "layer3", "layer4"}),
        ("test_efficientnet", 3, {"conv_stem", "blocks.0", "blocks.1"}),
        ("test_convnext", 2, {"stem", "stages.0"}),
    ],
)
def test_frozen_parts(name, count, frozen):
    made = PyramidBackbone(name, levels=[1, 2, 3], channels=4, joined=True)
    made.freeze_at(count)
    assert frozen_names(made) == frozen
    norms = [m for m in made.modules() if isinstance(m, torch.nn.BatchNorm2d | torch.nn.LayerNorm)]
    assert norms and not any(p.requires_grad for norm in norms for p in norm.parameters())
    assert all(p.requires_grad for p in made.lateral.parameters())


def frozen_names(backbone: PyramidBackbone) -> set[str]:
    """The parts of the timm model whose weight matrices do not train."""
    return {
        ".".join(parts[:2]) if parts[0] in ("blocks", "stages") else parts[0]
        for parts, weight in ((n.split("."), p) for n, p in backbone.backbone.named_parameters())
        if not weight.requires_grad and weight.dim() > 1
    }


def test_what_only_the_last_map_needs_is_frozen_without_it():
    """Where no loss depends on a layer it must not wait for a gradient."""
    made = PyramidBackbone("test_efficientnet", levels=[2, 3, 4], channels=4, joined=False)
    made.freeze_at(1)
    assert frozen_names(made) == {"conv_stem", "conv_head"}


def test_unknown_stages_are_named():
    backbone = timm.create_model("regnetx_002", num_classes=0)
    assert frozen_parts(backbone, 0) == []
    with pytest.raises(ValueError, match="stages of RegNet have names of their own: set frozen_stages=0"):
        frozen_parts(backbone, 2)
