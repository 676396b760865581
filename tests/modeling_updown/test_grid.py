"""The grid region source on timm's smallest backbones, and on one with real weights."""

from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from modeling_updown import UpDownGrid, UpDownGridConfig, UpDownImageProcessor
from modeling_updown.boxes_updown import grid_boxes, pyramid_boxes
from tests.shared_files import shared

from ..tiny import seeded, tiny_grid, tiny_grid_config

LITE = {"backbone": "tf_efficientnet_lite0", "image_size": 224, "grid_size": 7, "region_feature_size": 1280}
# backbone -> width of its last map, side in pixels, side of its last map
BACKBONES = {
    "test_resnet": (96, 160, 5),
    "test_efficientnet": (256, 160, 5),
    "test_convnext": (64, 160, 5),
    "test_maxvit": (128, 160, 5),
    "test_vit": (64, 160, 10),
    "swin_tiny_patch4_window7_224": (768, 224, 7),  # gives its map with the channels last
}
BACKBONE_NAMES = [  # `test_maxvit` came with timm 1.0.31
    pytest.param(name, marks=pytest.mark.skipif(not timm.is_model(name), reason=f"this timm does not have {name}"))
    for name in BACKBONES
]
EVERY_BACKBONE = pytest.mark.parametrize("backbone", BACKBONE_NAMES)


def grid(backbone: str, **changes: Any) -> UpDownGrid:
    width, side, _ = BACKBONES[backbone]
    fields = {"backbone": backbone, "image_size": side, "region_feature_size": width, "grid_size": 1}
    return seeded(UpDownGrid, UpDownGridConfig(**(fields | changes)))


def pixels(side: int, images: int = 2) -> torch.Tensor:
    return torch.rand(images, 3, side, side, generator=torch.Generator().manual_seed(0))


def timm_twin(model: UpDownGrid, **options: Any) -> torch.nn.Module:
    """timm's own model with the same weights, as timm would pool it."""
    size = {"img_size": model.config.image_size} if "vit" in model.config.backbone else {}
    twin = timm.create_model(model.config.backbone, num_classes=0, **size, **options).eval()
    twin.load_state_dict(model.backbone.state_dict())
    return twin


@EVERY_BACKBONE
@torch.no_grad()
def test_one_region_is_the_mean_of_timms_map(backbone):
    """1 x 1: the mean of all cells; for a ViT of its patches, without its prefix tokens."""
    model = grid(backbone)
    _, side, cells = BACKBONES[backbone]
    found = model(pixels(side))
    features = timm_twin(model).forward_features(pixels(side))
    if features.dim() == 3:
        features = features[:, model.backbone.num_prefix_tokens :]
        mean = features.mean(dim=1)
    elif backbone.startswith("swin"):
        mean = features.mean(dim=(1, 2))
    else:
        mean = features.mean(dim=(2, 3))
    # layers in another layout round otherwise, up to 5e-4 on processors with AMX
    torch.testing.assert_close(found.region_features[:, 0], mean, atol=1e-3, rtol=1e-3)
    assert found.region_boxes.tolist() == [[[0, 0, 1, 1]]] * 2 and found.region_mask.tolist() == [[True]] * 2
    assert model.feature_map(pixels(side)).shape[-2:] == (cells, cells)


@EVERY_BACKBONE
@torch.no_grad()
def test_regions_are_the_cells_in_reading_order(backbone):
    _, side, cells = BACKBONES[backbone]
    model = grid(backbone, grid_size=cells)
    feature_map, found = model.feature_map(pixels(side)), model(pixels(side))
    assert model.config.num_regions == cells**2
    for row in range(cells):
        for column in range(cells):
            number = row * cells + column
            torch.testing.assert_close(found.region_features[:, number], feature_map[:, :, row, column])
    torch.testing.assert_close(found.region_boxes[1], grid_boxes(cells, cells))


@EVERY_BACKBONE
@torch.no_grad()
def test_order_follows_the_image(backbone):
    """A patch in the lower left corner of the image changes that corner's cell, not the other corners' cells."""
    _, side, cells = BACKBONES[backbone]
    model = grid(backbone, grid_size=cells)
    changed, cell = pixels(side, 1), side // cells
    changed[:, :, -cell:, :cell] = 3.0
    difference = (model(changed).region_features - model(pixels(side, 1)).region_features).norm(dim=-1)
    difference = difference.view(cells, cells)
    others = torch.stack([difference[0, 0], difference[0, -1], difference[-1, -1]])
    assert difference[-1, 0] > 2 * others.max()


@torch.no_grad()
def test_smaller_grids_average_and_larger_ones_interpolate():
    model = grid("test_vit", grid_size=5)
    feature_map = model.feature_map(pixels(160))  # (2, 64, 10, 10)
    expected = feature_map.unflatten(2, (5, 2)).unflatten(4, (5, 2)).mean(dim=(3, 5)).flatten(2).transpose(1, 2)
    torch.testing.assert_close(model(pixels(160)).region_features, expected, atol=1e-5, rtol=1e-5)
    model.config.grid_size = 14
    found = model(pixels(160)).region_features.transpose(1, 2).unflatten(2, (14, 14))
    torch.testing.assert_close(found, F.interpolate(feature_map, size=(14, 14), mode="bilinear"))


@torch.no_grad()
def test_grids_of_one_map_stand_one_after_the_other():
    model = grid("test_resnet", grid_sizes=[2, 5, 1])
    found = model(pixels(160))
    assert model.config.num_regions == 30 == found.region_mask.shape[1]
    start = 0
    for side in (2, 5, 1):
        alone = grid("test_resnet", grid_size=side)(pixels(160))
        torch.testing.assert_close(found.region_features[:, start : start + side**2], alone.region_features)
        assert torch.equal(found.region_boxes[:, start : start + side**2], alone.region_boxes)
        start += side**2


@torch.no_grad()
def test_an_image_is_seen_at_several_sizes():
    """The cells of each are those of the image resized before; `grid_sizes` may give each another grid."""
    image = pixels(128)
    half = F.interpolate(image, size=(64, 64), mode="bicubic", antialias=True)
    twice = F.interpolate(image, size=(256, 256), mode="bicubic", antialias=True)
    plain = grid("test_resnet", grid_size=2)
    model = grid("test_resnet", grid_size=2, image_scales=[0.5, 1.0, 2])
    found = model(image)
    assert model.config.num_regions == 12 == found.region_mask.shape[1]
    expected = [plain(seen).region_features for seen in (half, image, twice)]
    torch.testing.assert_close(found.region_features, torch.cat(expected, dim=1))
    assert torch.equal(found.region_boxes[0], grid_boxes(2, 2).repeat(3, 1))
    mixed = grid("test_resnet", grid_sizes=[1, 4], image_scales=[1.0, 0.5])
    expected = [grid("test_resnet", grid_size=side)(seen).region_features for side, seen in ((1, image), (4, half))]
    torch.testing.assert_close(mixed(image).region_features, torch.cat(expected, dim=1))
    assert mixed.config.num_regions == 17 and torch.equal(mixed(image).region_boxes[0, 1:], grid_boxes(4, 4))


@torch.no_grad()
def test_a_pyramid_at_two_sizes_of_the_image():
    image = pixels(128)
    half = F.interpolate(image, size=(64, 64), mode="bicubic", antialias=True)
    model = grid("test_resnet", regions="pyramid", pyramid_levels=[1, 2], image_scales=[1.0, 0.5])
    plain = grid("test_resnet", regions="pyramid", pyramid_levels=[1, 2])
    expected = torch.cat([plain(image).region_features, plain(half).region_features], dim=1)
    found = model(image)
    assert model.config.num_regions == 10
    torch.testing.assert_close(found.region_features, expected)
    assert torch.equal(found.region_boxes[0], pyramid_boxes([1, 2]).repeat(2, 1))


@torch.no_grad()
@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_resizing_is_pillows(scale):
    """What the image processor would make of the image at that size, up to rounding to 8 bits after either axis."""
    ramp = np.linspace(20, 230, 64)
    levels = np.stack([np.tile(ramp, (64, 1)), np.tile(ramp[:, None], (1, 64)), ramp[:, None] * ramp / 300], axis=2)
    image = Image.fromarray(levels.round().astype(np.uint8))
    side = round(64 * scale)
    processed = UpDownImageProcessor(size={"height": 64, "width": 64})(image, return_tensors="pt").pixel_values
    expected = UpDownImageProcessor(size={"height": side, "width": side})(image, return_tensors="pt").pixel_values
    for dtype, tolerance in ((torch.float32, 1.2), (torch.bfloat16, 2.0)):
        found = tiny_grid(image_scales=[scale]).resized(processed.to(dtype), scale)
        assert found.dtype == dtype
        torch.testing.assert_close(found.float(), expected, atol=tolerance * 2 / 255, rtol=0)


@pytest.mark.parametrize("backbone", ["test_vit", "swin_tiny_patch4_window7_224"])
def test_a_transformer_sees_one_size(backbone):
    with pytest.raises(ValueError, match=r"takes images of one size, so image_scales can only be 1, not 0.5: leave"):
        grid(backbone, image_scales=[0.5, 1.0])
    if backbone == "test_vit":
        model = grid(backbone, grid_sizes=[1, 2], image_scales=[1.0, 1.0])
        assert model(pixels(160)).region_mask.shape == (2, 5)
        model.config.image_scales = [2.0, 1.0]
        with pytest.raises(ValueError, match="image_scales can only be 1, not 2.0"):
            model(pixels(160))


@torch.no_grad()
def test_images_that_are_not_square():
    model = tiny_grid()
    found = model(torch.rand(1, 3, 64, 160))
    feature_map = model.feature_map(torch.rand(1, 3, 64, 160))
    assert found.region_features.shape == (1, 9, 96) and feature_map.shape == (1, 96, 2, 5)


@torch.no_grad()
def test_pyramid():
    """1 + 4 + 9 boxes; on a constant map every region is that constant, on a real one the first is about its mean."""
    model = grid("test_vit", regions="pyramid")
    found = model(pixels(160))
    assert model.config.num_regions == 14 and found.region_features.shape == (2, 14, 64)
    torch.testing.assert_close(found.region_boxes[0], pyramid_boxes([1, 2, 3]))
    model.feature_map = lambda pixel_values: torch.full((2, 64, 10, 10), 0.5)
    torch.testing.assert_close(model(pixels(160)).region_features, torch.full((2, 14, 64), 0.5))


@torch.no_grad()
def test_joined_levels_stand_beside_the_last_map():
    model = grid("test_resnet", joined_levels=[2], region_feature_size=96 + 48, grid_size=5)
    levels = model.backbone.forward_intermediates(pixels(160), indices=[2], intermediates_only=True)
    last = model.backbone.forward_features(pixels(160))
    feature_map = model.feature_map(pixels(160))
    torch.testing.assert_close(feature_map[:, :96], last, atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(feature_map[:, 96:], F.adaptive_avg_pool2d(levels[0], 5), atol=1e-3, rtol=1e-4)
    wide = torch.rand(1, 3, 64, 160)
    assert model.feature_map(wide).shape == (1, 144, 2, 5)


@pytest.mark.parametrize("backbone", ["test_resnet", "test_convnext", "test_vit", "swin_tiny_patch4_window7_224"])
def test_last_stage_trains_alone(backbone):
    model = grid(backbone, trainable_stages=1)
    model.requires_grad_(False)
    model.unfreeze()
    trained = {name.removeprefix("backbone.") for name, p in model.named_parameters() if p.requires_grad}
    last = {"test_resnet": "layer4.", "test_convnext": "stages.3.", "test_vit": "blocks.5.", "swin": "layers.3."}
    expected = last[backbone.split("_")[0] if backbone.startswith("swin") else backbone]
    others = {name for name in trained if not name.startswith((expected, "norm", "fc_norm"))}
    assert any(name.startswith(expected) for name in trained) and not others
    model.config.trainable_stages = 0
    model.unfreeze()
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_training_leaves_statistics_alone():
    model = tiny_grid().train()
    model.unfreeze()
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    model(torch.rand(2, 3, 64, 64)).region_features.sum().backward()
    assert before and all(torch.equal(before[name], buffer) for name, buffer in model.named_buffers())
    assert model.backbone.conv1[0].weight.grad.abs().max() > 0


def test_save_and_load(tmp_path):
    model = tiny_grid(regions="pyramid", pyramid_levels=[1, 3])
    for buffer in model.buffers():
        buffer += 1  # statistics are weights too
    model.save_pretrained(tmp_path)
    loaded = UpDownGrid.from_pretrained(tmp_path)
    assert (loaded.config.pyramid_levels, loaded.config.num_regions) == ([1, 3], 10)
    torch.testing.assert_close(loaded(pixels(64)), model(pixels(64)), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"grid_size": 0}, "grid_size=0.*1 or more"),
        ({"pyramid_levels": []}, "at least one level"),
        ({"pyramid_levels": [1, 0]}, "1 or more"),
        ({"grid_sizes": [7, 0]}, r"grid_sizes=\[7, 0\] must be cells a side of each grid, 1 to 64"),
        ({"image_scales": [1.0, 0]}, r"image_scales=\[1.0, 0\] must be factors over 0, of 16 at most"),
        ({"image_scales": [float("nan")]}, r"image_scales=\[nan\] must be factors"),
        (
            {"grid_sizes": [7], "image_scales": [1.0, 0.5]},
            "go together, one grid for each scale: give lists of one len",
        ),
        (
            {"regions": "pyramid", "grid_sizes": [1, 7]},
            r'grid_sizes=\[1, 7\] are cells, of which regions="pyramid" has none: leave them out',
        ),
    ],
)
def test_mistakes_in_the_config(changes, message):
    with pytest.raises(ValueError, match=message):
        tiny_grid_config(**changes)


def test_wrong_width_is_named():
    with pytest.raises(ValueError, match="test_resnet gives features of width 96.*is 2048: set it to 96"):
        tiny_grid(region_feature_size=2048)(pixels(64))


def test_images_fill_the_patches_of_a_transformer():
    message = "test_vit looks at patches of 16 x 16 pixels.*image_size=72: set it to 64 or 80"
    with pytest.raises(ValueError, match=message):
        tiny_grid(backbone="test_vit", image_size=72)


def test_weights_of_another_backbone(tmp_path):
    save_file({"conv1.weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="lacks .* weights of test_resnet"):
        tiny_grid().load_backbone_weights(tmp_path / "other.safetensors")
    whole = tiny_grid().backbone.state_dict()
    save_file(whole | {"conv1.0.weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"holds conv1.0.weight of test_resnet in \(1,\), not \("):
        tiny_grid().load_backbone_weights(tmp_path / "other.safetensors")


def test_weights_without_counts_of_batches(tmp_path):
    whole = tiny_grid().backbone.state_dict()
    save_file({name: w for name, w in whole.items() if w.is_floating_point()}, tmp_path / "floats.safetensors")
    model = UpDownGrid(tiny_grid_config())
    model.load_backbone_weights(tmp_path / "floats.safetensors")
    assert all(torch.equal(w, model.backbone.state_dict()[name]) for name, w in whole.items())


def test_a_head_alone_is_no_backbone(tmp_path):
    save_file({"head.weight": torch.zeros(1)}, tmp_path / "head.safetensors")
    with pytest.raises(ValueError, match="lacks .* weights of test_resnet"):
        tiny_grid().load_backbone_weights(tmp_path / "head.safetensors")


@torch.no_grad()
def test_real_weights_give_timms_own_features():
    """EfficientNet-lite0 with its ImageNet weights: the same map as timm's model, and the same 1,000 scores on top."""
    weights = shared("weights/timm_tf_efficientnet_lite0.safetensors")
    model = UpDownGrid(UpDownGridConfig(**LITE)).eval()
    model.load_backbone_weights(weights)
    reference = timm.create_model("tf_efficientnet_lite0").eval()
    reference.load_state_dict(load_file(weights))
    ramp = np.linspace(0, 255, 224, dtype=np.uint8)
    across, down = np.tile(ramp, (224, 1)), np.tile(ramp[:, None], (1, 224))
    image = Image.fromarray(np.stack([across, down, np.full_like(across, 90)], axis=2))
    processor = UpDownImageProcessor(size={"height": 224, "width": 224})
    pixel_values = processor(image, return_tensors="pt")["pixel_values"]
    found = model(pixel_values)
    expected = reference.forward_features(pixel_values)  # (1, 1280, 7, 7)
    assert found.region_features.shape == (1, 49, 1280)
    torch.testing.assert_close(found.region_features.transpose(1, 2).unflatten(2, (7, 7)), expected)
    scores = reference.classifier(found.region_features.mean(dim=1))
    torch.testing.assert_close(scores, reference(pixel_values), atol=1e-4, rtol=1e-4)
