"""The feature pyramid: where its maps come from, which level a region is pooled from, and what stays frozen."""

import pytest
import timm
import torch
from torch.nn import functional as F

from modeling_updown.pyramid_updown import PyramidBackbone, PyramidRegions, frozen_parts
from tests.tiny import noise_image, tiny_pyramid_detector

STRIDES = [8, 16, 32, 64]


@pytest.fixture(scope="module")
def backbone() -> PyramidBackbone:
    torch.manual_seed(0)
    return PyramidBackbone("test_resnet", levels=[2, 3, 4], channels=6, joined=True).eval()


# ---- the maps


@torch.no_grad()
def test_maps_are_summed_from_coarse_to_fine(backbone):
    """The twin adds each coarser level by repeating its cells; 72 x 104 pixels leave odd sizes."""
    image = noise_image(72, 104)
    levels = backbone.backbone.forward_intermediates(image, indices=[2, 3, 4], intermediates_only=True)
    fine, middle, coarse = (lateral(level) for lateral, level in zip(backbone.lateral, levels, strict=True))
    assert [part.shape[-2:] for part in (fine, middle, coarse)] == [(9, 13), (5, 7), (3, 4)]
    middle = middle + repeated(coarse, middle)
    fine = fine + repeated(middle, fine)
    expected = [smooth(level) for smooth, level in zip(backbone.smooth, (fine, middle, coarse), strict=True)]
    expected.append(expected[-1][..., ::2, ::2])
    maps, last = backbone(image)
    assert backbone.strides == STRIDES
    for found, wanted in zip(maps, expected, strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(last, backbone.backbone.forward_features(image), atol=1e-5, rtol=1e-5)
    assert (last.shape[1], backbone.last_stride) == (backbone.last_channels, 32)


def repeated(coarse: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Every cell of `like` takes the coarse cell at the same share of the height and width."""
    (height, width), (rows, columns) = like.shape[-2:], coarse.shape[-2:]
    picked = torch.stack([coarse[:, :, row * rows // height] for row in range(height)], dim=2)
    return torch.stack([picked[..., column * columns // width] for column in range(width)], dim=3)


def test_without_joining_there_is_no_last_map():
    plain = PyramidBackbone("test_resnet", levels=[2, 3, 4], channels=6, joined=False).eval()
    assert plain(noise_image(64, 64))[1] is None


@pytest.mark.parametrize(
    ("name", "levels"), [("test_efficientnet", [2, 3, 4]), ("test_convnext", [1, 2, 3]), ("regnetx_002", [2, 3, 4])]
)
@torch.no_grad()
def test_other_backbones(name, levels):
    made = PyramidBackbone(name, levels=levels, channels=5, joined=True).eval()
    maps, last = made(noise_image(96, 128))
    assert made.strides == STRIDES and made.last_stride == 32
    assert [part.shape for part in maps] == [(1, 5, 96 // s, 128 // s) for s in (8, 16, 32)] + [(1, 5, 2, 2)]
    assert last.shape == (1, made.last_channels, 3, 4)


# ---- the regions


def test_head_is_two_layers():
    torch.manual_seed(0)
    head = PyramidRegions(channels=1, pool_size=2, width=5)
    rois = torch.tensor([[0.0, 0, 0, 50, 50], [1, 0, 0, 300, 300]])
    values = zip(STRIDES, [1.0, 2.0, 3.0, 4.0], strict=True)
    maps = [torch.full((2, 1, 512 // stride, 512 // stride), value) for stride, value in values]
    inputs = torch.tensor([[1.0] * 4, [2.0] * 4])
    expected = F.relu(
        F.relu(inputs @ head.hidden.weight.T + head.hidden.bias) @ head.output.weight.T + head.output.bias
    )
    torch.testing.assert_close(head(maps, rois, STRIDES), expected)


@torch.no_grad()
def test_joined_features_are_where_the_box_is():
    """On an image whose sides are no multiples of 32 as well: the last map's stride is the backbone's own."""
    model = tiny_pyramid_detector()
    maps = model.feature_maps(noise_image(72, 200))
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
    with pytest.raises(ValueError, match="stages of RegNet have unknown names: set frozen_stages=0"):
        frozen_parts(backbone, 2)
