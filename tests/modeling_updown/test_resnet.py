"""The Caffe-style ResNet: the reference's numbers, and the folded and rearranged ways against torch's own layers; what
has both is tested with `kernels_updown` and without it."""

import copy
import json
import math
import re
from itertools import pairwise
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F
from torchvision.ops import roi_pool

from modeling_updown import boxes_updown, kernels_updown, resnet_updown
from modeling_updown.resnet_updown import CaffeResNet, FrozenBatchNorm2d, NormedConv2d, RegionStage
from tests.shared_files import shared

MAP_HEIGHT, MAP_WIDTH, CHANNELS = 20, 37, 8


@pytest.fixture(params=["kernels", "plain"], autouse=True)
def kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the file with the kernels is there, as in the package, or not, as in a published folder."""
    if request.param == "plain":
        monkeypatch.setattr(resnet_updown, "KERNELS", None)
    return request.param == "kernels"


def randomize(module: Any) -> Any:
    """Weights that keep activations at about their size, and norms that do something."""
    generator = torch.Generator().manual_seed(1)
    for name, tensor in module.state_dict().items():
        if tensor.dim() == 4:
            tensor.normal_(std=(1.5 / tensor[0].numel()) ** 0.5, generator=generator)
        elif name.endswith(("bias", "mean")):
            tensor.normal_(std=0.2, generator=generator)
        elif tensor.dim() == 1:
            tensor.uniform_(0.5, 1.5, generator=generator)
    return module


def tiny_backbone(**options: Any) -> CaffeResNet:
    return randomize(CaffeResNet(depths=(2, 1, 2), stem_channels=4, bottleneck_channels=2, out_channels=8, **options))


def tiny_stage(**options: Any) -> RegionStage:
    return randomize(RegionStage(depth=3, in_channels=CHANNELS, bottleneck_channels=4, out_channels=16, **options))


def pooled_regions(count: int = 5, *, side: int = 14, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(count, CHANNELS, side, side, generator=torch.Generator().manual_seed(2)).relu().to(dtype)


def ugly_rois(count: int = 60, *, images: int = 3) -> torch.Tensor:
    """Boxes of all sizes, over the edges, of less than a cell, turned inside out and wholly outside the image."""
    generator = torch.Generator().manual_seed(3)
    centre = torch.rand(count, 2, generator=generator) * 16 * torch.tensor([MAP_WIDTH, MAP_HEIGHT])
    half = torch.rand(count, 2, generator=generator) ** 2 * 16 * MAP_HEIGHT
    image = torch.randint(images, (count, 1), generator=generator).float()
    rois = torch.cat([image, centre - half, centre + half], dim=1)
    rois[:8, 1:] = torch.tensor(
        [
            [-900.0, -900.0, -800.0, -800.0],
            [5000.0, 10.0, 6000.0, 50.0],
            [10.0, 320.0, 60.0, 320.0],
            [100.0, 100.0, 20.0, 20.0],
            [24.0, 24.0, 40.0, 40.0],  # halves of cells
            [-24.0, -8.0, 8.0, 56.0],
            [0.0, 0.0, 16.0 * MAP_WIDTH, 16.0 * MAP_HEIGHT],
            [31.9, 48.0, 32.1, 48.0],
        ]
    )
    return rois


def feature_map(images: int = 3) -> torch.Tensor:
    return torch.randn(images, CHANNELS, MAP_HEIGHT, MAP_WIDTH, generator=torch.Generator().manual_seed(4))


def plain_norm(x: torch.Tensor, norm: FrozenBatchNorm2d) -> torch.Tensor:
    """(x - mean) / sqrt(variance + eps) * weight + bias, channel by channel."""
    mean, variance, weight, bias = (
        v[:, None, None] for v in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    )
    return (x - mean) / (variance + 1e-5).sqrt() * weight + bias


def plain_conv(
    x: torch.Tensor, conv: NormedConv2d, *, stride: int = 1, dilation: int = 1, groups: int = 1
) -> torch.Tensor:
    padding = dilation if conv.weight.shape[-1] == 3 else 0
    return plain_norm(F.conv2d(x, conv.weight, None, stride, padding, dilation, groups), conv.norm)


def plain_stage(
    x: torch.Tensor, blocks: Any, *, stride: int = 1, dilation: int = 1, groups: int = 1, in_1x1: bool = True
) -> torch.Tensor:
    """A stage as the paper draws it."""
    for number, block in enumerate(blocks):
        s = stride if number == 0 else 1
        hidden = plain_conv(x, block.conv1, stride=s if in_1x1 else 1).relu()
        hidden = plain_conv(hidden, block.conv2, stride=1 if in_1x1 else s, dilation=dilation, groups=groups).relu()
        shortcut = x if block.shortcut is None else plain_conv(x, block.shortcut, stride=s)
        x = (plain_conv(hidden, block.conv3) + shortcut).relu()
    return x


def plain_backbone(x: torch.Tensor, net: CaffeResNet, **options: Any) -> torch.Tensor:
    x = plain_norm(F.conv2d(x, net.stem.conv1.weight, stride=2, padding=3), net.stem.conv1.norm).relu()
    x = F.max_pool2d(F.pad(x, (0, 1, 0, 1), value=-math.inf), kernel_size=3, stride=2)
    for name, stride in (("res2", 1), ("res3", 2), ("res4", 2)):
        x = plain_stage(x, getattr(net, name), stride=stride, **options)
    return x


@pytest.mark.parametrize("gradient", [True, False], ids=["layers", "folded"])
@pytest.mark.parametrize("size", [(64, 80), (61, 77), (33, 47)])
@pytest.mark.parametrize("in_1x1", [True, False])
def test_backbone_is_the_plain_one(gradient: bool, size: tuple[int, int], in_1x1: bool) -> None:
    net = tiny_backbone(stride_in_1x1=in_1x1, num_groups=1 if in_1x1 else 2).double()
    image = torch.randn(2, 3, *size, dtype=torch.float64)
    with torch.set_grad_enabled(gradient):
        output = net(image)
        expected = plain_backbone(image, net, in_1x1=in_1x1, groups=1 if in_1x1 else 2)
    assert output.requires_grad == gradient
    torch.testing.assert_close(output, expected, rtol=1e-9, atol=1e-9)


STAGES: dict[str, dict[str, Any]] = {
    "the references'": {"stride": 1, "dilation": 2},
    "halved": {"stride": 2, "dilation": 1},
    "no dilation": {"stride": 1, "dilation": 1},
    "dilation 7": {"stride": 1, "dilation": 7},
    "stride in 3x3": {"stride": 2, "dilation": 1, "stride_in_1x1": False},
    "groups": {"stride": 1, "dilation": 2, "num_groups": 2},
    "dilation that does not divide": {"stride": 1, "dilation": 3},
}


@pytest.mark.parametrize("name", STAGES)
def test_stage_is_the_plain_one(name: str) -> None:
    options = STAGES[name]
    stage, pooled = tiny_stage(**options).double(), pooled_regions(dtype=torch.float64)
    plain: dict[str, Any] = {"groups": options.get("num_groups", 1), "in_1x1": options.get("stride_in_1x1", True)}
    expected = plain_stage(pooled, stage, stride=options["stride"], dilation=options["dilation"], **plain)
    torch.testing.assert_close(stage.maps(pooled), expected, rtol=1e-9, atol=1e-9)
    before = pooled.clone()
    for gradient in (True, False):
        with torch.set_grad_enabled(gradient):
            torch.testing.assert_close(stage(pooled), expected.mean(dim=(2, 3)), rtol=1e-9, atol=1e-9)
    assert torch.equal(pooled, before)


@pytest.mark.parametrize("side", [1, 2, 3, 4, 7, 14])
def test_stage_on_maps_of_any_side(side: int) -> None:
    stage, pooled = tiny_stage(dilation=1).double(), pooled_regions(side=side, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(stage(pooled), stage.maps(pooled).mean(dim=(2, 3)), rtol=1e-9, atol=1e-9)


def test_stage_without_a_shortcut_convolution() -> None:
    stage = randomize(RegionStage(depth=2, in_channels=8, bottleneck_channels=4, out_channels=8))
    assert all(block.shortcut is None for block in stage)
    rois = ugly_rois()
    with torch.no_grad():
        maps = roi_pool(feature_map(), rois, 14, 1 / 16)
        expected = stage.maps(maps).mean(dim=(2, 3))
        torch.testing.assert_close(stage(maps), expected)
        torch.testing.assert_close(stage(feature_map(), rois), expected)


@pytest.mark.parametrize("kind", ["stage(feature_map, rois)", "stage(pooled)"])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-6), (torch.bfloat16, 0.03)]
)
def test_types(kind: str, dtype: torch.dtype, tolerance: float) -> None:
    """Norms are folded in float32 whatever the type, so bfloat16 is as near as its own layers are."""
    stage, rois = tiny_stage(), ugly_rois()
    expected = stage(roi_pool(feature_map(), rois, 14, 1 / 16)).detach()
    if dtype == torch.float64:
        expected = copy.deepcopy(stage).double()(roi_pool(feature_map().double(), rois.double(), 14, 1 / 16)).detach()
    stage, maps = stage.to(dtype), feature_map().to(dtype)
    with torch.inference_mode():
        inputs = (maps, rois) if "rois" in kind else (roi_pool(maps.double(), rois.double(), 14, 1 / 16).to(dtype),)
        output = stage(*inputs)
    assert output.dtype == dtype
    error = (output - expected).abs().max() / expected.abs().max()
    assert error <= tolerance, error
    layers = copy.deepcopy(stage).requires_grad_()
    if dtype == torch.bfloat16:
        theirs = layers(*inputs).detach()
        assert error <= 2 * (theirs - expected).abs().max() / expected.abs().max()


@pytest.mark.parametrize(("options", "size"), [({}, 14), ({"dilation": 1, "stride": 2}, 14), ({"dilation": 2}, 6)])
def test_shared_bins_are_roi_pooling(options: dict, size: int) -> None:
    stage, maps, rois = tiny_stage(**options), feature_map(), ugly_rois()
    with torch.no_grad():
        expected = stage.maps(roi_pool(maps, rois, size, 1 / 16)).mean(dim=(2, 3))
        torch.testing.assert_close(stage(maps, rois, output_size=size), expected, rtol=1e-5, atol=1e-5)


def test_many_regions_run_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Regions do not depend on which others run beside them, nor on how memory is cut."""
    stage, maps, rois = tiny_stage(), feature_map(), ugly_rois()
    with torch.no_grad():
        whole = stage(maps, rois)
        monkeypatch.setattr(boxes_updown, "POSITIONS_AT_ONCE", 7 * 14 * 14)
        monkeypatch.setattr(kernels_updown, "BYTES_AT_ONCE", 3 * 16 * 4)
        torch.testing.assert_close(stage(maps, rois), whole)
        torch.testing.assert_close(stage(roi_pool(maps, rois, 14, 1 / 16)), whole)
        torch.testing.assert_close(stage(maps, rois[:1]), whole[:1])
    torch.testing.assert_close(stage(maps, rois).detach(), whole)


def test_no_region() -> None:
    stage, rois = tiny_stage(), torch.zeros(0, 5)
    for gradient in (True, False):
        with torch.set_grad_enabled(gradient):
            assert stage(pooled_regions(0)).shape == stage(feature_map(), rois).shape == (0, 16)


@pytest.mark.parametrize(
    ("roi", "message"),
    [
        ([0, 0, math.nan, 5, 5], "not finite"),
        ([0, 0, 0, math.inf, 5], "not finite"),
        ([3, 0, 0, 5, 5], "outside the batch of 3"),
        ([-1, 0, 0, 5, 5], "outside the batch of 3"),
    ],
)
def test_bad_rois_are_named(roi: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny_stage()(feature_map(), torch.tensor([roi], dtype=torch.float32))


def features_both_ways(stage: RegionStage) -> torch.Tensor:
    """The features without gradients, after a look whether the layers make the same."""
    pooled = pooled_regions()
    with torch.no_grad():
        output = stage(pooled)
    torch.testing.assert_close(output, stage(pooled).detach(), rtol=1e-4, atol=1e-4)
    return output


def test_folding_never_goes_stale() -> None:
    """After load_state_dict, an optimiser's step, an edit of .data, of a statistic, and a change of type and back."""
    stage = tiny_stage()
    outputs = [features_both_ways(stage)]
    stage.load_state_dict({name: x * 1.1 if x.is_floating_point() else x for name, x in stage.state_dict().items()})
    outputs.append(features_both_ways(stage))
    optimizer = torch.optim.SGD([p for p in stage.parameters() if p.requires_grad], lr=0.1)
    stage(pooled_regions()).sum().backward()
    optimizer.step()
    outputs.append(features_both_ways(stage))
    stage.get_parameter("1.conv2.weight").data.mul_(0.5)
    outputs.append(features_both_ways(stage))
    stage.get_buffer("0.shortcut.norm.running_mean").add_(1.0)
    outputs.append(features_both_ways(stage))
    stage.to(torch.bfloat16).to(torch.float32)
    outputs.append(features_both_ways(stage))
    assert all((before - after).abs().max() > 1e-4 for before, after in pairwise(outputs))


def test_gradients_are_the_plain_ones() -> None:
    """Of every weight, of the pooled maps, and through the pooling of the map."""
    stage, maps, rois = tiny_stage().double(), feature_map().double(), ugly_rois().double()
    gradients = []
    for plain in (False, True):
        maps = maps.detach().requires_grad_()
        stage.zero_grad()
        if plain:
            output = plain_stage(roi_pool(maps, rois, 14, 1 / 16), stage, dilation=2).mean(dim=(2, 3))
        else:
            output = stage(maps, rois)
        output.square().sum().backward()
        gradients.append([maps.grad, *(p.grad for p in stage.parameters() if p.requires_grad)])
    assert len(gradients[0]) == 1 + 10
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_norms_are_frozen() -> None:
    stage, pooled = tiny_stage().train(), pooled_regions()
    before = copy.deepcopy(stage.state_dict())
    stage(pooled).sum().backward()
    for module in stage.modules():
        if isinstance(module, FrozenBatchNorm2d):
            assert module.weight.grad is None
            assert module.bias.grad is None
    assert all(torch.equal(before[name], x) for name, x in stage.state_dict().items())
    torch.testing.assert_close(stage.train()(pooled), stage.eval()(pooled), rtol=0, atol=0)


@pytest.mark.parametrize("stages", range(5))
def test_freeze_at(stages: int) -> None:
    net = tiny_backbone()
    net.freeze_at(4)
    net.freeze_at(stages)
    training = {name.split(".")[0] for name, p in net.named_parameters() if p.requires_grad}
    assert training == {"stem", "res2", "res3", "res4"} - set(resnet_updown.STAGES[:stages])
    assert not any("norm" in name for name, p in net.named_parameters() if p.requires_grad)
    output = net(torch.randn(1, 3, 40, 40))
    assert output.requires_grad == (stages < 4)
    if output.requires_grad:
        output.sum().backward()
        touched = {name.split(".")[0] for name, p in net.named_parameters() if p.grad is not None}
        assert touched == training


@pytest.mark.parametrize("kind", ["pooled", "rois"])
def test_autocast_computes_in_its_type(kind: str) -> None:
    stage, rois, maps = tiny_stage(), ugly_rois(), feature_map()
    inputs = (maps, rois) if kind == "rois" else (roi_pool(maps, rois, 14, 1 / 16),)
    with torch.no_grad():
        expected = stage(*inputs)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            output = stage(*inputs)
    assert output.dtype == torch.bfloat16
    assert (output - expected).abs().max() <= 0.03 * expected.abs().max()


BLOCK = re.compile(r"res(\d)\.(\d+)\.")


def golden(part: str) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    tensors = load_file(shared("golden/reference/frcnn.safetensors"))
    prefix = f"model.{part}."
    return tensors, {name.removeprefix(prefix): x for name, x in tensors.items() if name.startswith(prefix)}


@pytest.mark.parametrize("gradient", [True, False], ids=["layers", "folded"])
@pytest.mark.parametrize("image", ["img0", "img1"])
def test_backbone_golden(image: str, gradient: bool) -> None:
    tensors, state = golden("backbone")
    blocks = {tuple(map(int, found.groups())) for name in state if (found := BLOCK.match(name))}
    narrow, wide = (state[f"res2.0.{name}.weight"].shape[0] for name in ("conv1", "conv3"))
    stem = state["stem.conv1.weight"].shape[0]
    depths = tuple(sum(stage == number for stage, _ in blocks) for number in (2, 3, 4))
    net = CaffeResNet(depths=depths, stem_channels=stem, bottleneck_channels=narrow, out_channels=wide)
    net.load_state_dict(state)
    with torch.set_grad_enabled(gradient):
        output = net(tensors[f"in.{image}.pixel_values"])
    torch.testing.assert_close(output.detach(), tensors[f"out.{image}.backbone.res4"], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("gradient", [True, False], ids=["layers", "folded"])
@pytest.mark.parametrize("image", ["img0", "img1"])
def test_stage_golden(image: str, gradient: bool) -> None:
    """The first RoIs as the reference pooled them; then all of them, pooled from its map by us."""
    tensors, state = golden("roi_heads.res5")
    narrow, incoming = state["0.conv1.weight"].shape[:2]
    wide = state["0.conv3.weight"].shape[0]
    stage = RegionStage(in_channels=incoming, bottleneck_channels=narrow, out_channels=wide)
    stage.load_state_dict(state)
    pooled, expected = tensors[f"out.{image}.roi.pooled"], tensors[f"out.{image}.roi.features"]
    boxes = tensors[f"out.{image}.rpn.proposals.0"]
    rois = torch.cat([boxes.new_zeros(len(boxes), 1), boxes], dim=1)
    with torch.set_grad_enabled(gradient):
        first = stage(pooled).detach()
        every = stage(tensors[f"out.{image}.backbone.res4"], rois, output_size=pooled.shape[-1]).detach()
    torch.testing.assert_close(first, expected[: len(pooled)], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(every, expected, rtol=1e-5, atol=1e-5)


def test_published_names_and_shapes() -> None:
    with shared("golden/published_shapes/frcnn_r101_1600_400.json").open() as file:
        listed = {entry["name"]: entry["shape"] for entry in json.load(file)["state_dict"]}
    with torch.device("meta"):
        parts = {"backbone.": CaffeResNet(), "roi_heads.res5.": RegionStage()}
    for prefix, module in parts.items():
        ours = {prefix + name: list(x.shape) for name, x in module.state_dict().items()}
        assert ours == {name: shape for name, shape in listed.items() if name.startswith(prefix)}
