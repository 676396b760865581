"""What the kernels make beside plain torch, where they apply, and that a model runs without the file.

That the detector's stages give the same numbers with kernels and without is tested in test_resnet.
"""

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision.ops import roi_pool

from modeling_updown import kernels_updown, linear_updown, resnet_updown
from modeling_updown.linear_updown import step_product
from modeling_updown.resnet_updown import RegionStage
from tests.modeling_updown.test_resnet import feature_map, pooled_regions, tiny_stage, ugly_rois
from tests.tiny import tiny_captioner

ROI_POOLING: dict[str, Any] = {"output_size": 14, "spatial_scale": 1 / 16}


@pytest.mark.parametrize("scale", [1 / 16, 0.07, 1.0])
def test_bins_are_torchvisions(scale: float) -> None:
    """Every single maximum, on maps so small or boxes so large that bins hold from none to all of the cells."""
    maps, rois = feature_map(), ugly_rois(200)
    cells = maps.movedim(1, -1).contiguous()
    numbers = kernels_updown._bin_numbers(rois, cells.shape, output_size=14, spatial_scale=scale)
    shared_bins, places = numbers.unique(return_inverse=True)
    maxima = torch.cat(list(kernels_updown._bin_maxima(cells, shared_bins, rows_at_once=7)))
    assert torch.equal(maxima[places].movedim(-1, 1), roi_pool(maps, rois, 14, scale))
    assert len(shared_bins) < numbers.numel() / 2


def test_transforms_serve_in_and_out_of_inference_mode() -> None:
    stage, pooled = tiny_stage().double(), pooled_regions(dtype=torch.float64)
    kernels_updown._transforms.cache_clear()
    with torch.inference_mode():
        first = stage(pooled)
    with torch.no_grad():
        assert torch.equal(stage(pooled), first)
    assert not kernels_updown._transforms(7)[0].is_inference()
    assert len(kernels_updown._transforms(7)[0]) == 94


@pytest.mark.parametrize("pooled", [False, True])
def test_the_stage_takes_what_the_kernels_make(pooled: bool) -> None:
    stage = tiny_stage()
    maps, rois = (pooled_regions(), None) if pooled else (feature_map(), ugly_rois())
    with torch.no_grad():
        made = kernels_updown.stage_means(stage, maps, rois, **ROI_POOLING)
        assert made is not None and torch.equal(stage(maps, rois), made)


def kernels_of(stage: RegionStage, maps: torch.Tensor, rois: torch.Tensor | None = None) -> list[str]:
    """The kernels that a stage asks for, of which `stage_means` then makes something."""
    asked: list[str] = []

    class Recorder:
        """`kernels_updown` that notes what is taken of it."""

        conv2d = staticmethod(F.conv2d)

        @staticmethod
        def stage_means(*arguments: Any, **options: Any) -> torch.Tensor | None:
            made = kernels_updown.stage_means(*arguments, **options)
            asked.extend(["stage_means"] if made is not None else [])
            return made

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resnet_updown, "KERNELS", Recorder)
        stage(maps, rois)
    return asked


def test_kernels_serve_inference_on_a_cpu() -> None:
    stage, maps = tiny_stage(), pooled_regions()
    with torch.no_grad():
        assert kernels_of(stage, maps) == ["stage_means"]
        assert kernels_of(stage, feature_map(), ugly_rois()) == ["stage_means"]
        assert kernels_of(tiny_stage(num_groups=2), maps) == []
        assert kernels_of(tiny_stage(dilation=3), maps) == []
        assert kernels_of(stage, pooled_regions(side=18)) == []
        assert kernels_of(stage.half(), maps.half()) == []
        hooked = tiny_stage()
        hooked[1].conv2.register_forward_hook(lambda *_: None)
        assert kernels_of(hooked, maps) == []
    assert kernels_of(tiny_stage(), maps) == []


@pytest.mark.parametrize("size", [1, 3])
def test_convolutions_are_torchs(size: int) -> None:
    torch.manual_seed(0)
    inputs, weight, bias = torch.randn(2, 8, 9, 11), torch.randn(6, 4, size, size), torch.randn(6)
    given = (inputs, weight, bias, (2, 2), (size // 2, size // 2), (1, 1), 2)
    torch.testing.assert_close(kernels_updown.conv2d(*given), F.conv2d(*given), rtol=1e-5, atol=1e-5)


def test_a_captioner_learns_the_same_without_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every gradient, with weights whose gradients are made once a batch and with plain layers at every step."""
    model = tiny_captioner(vision_config=None, region_feature_size=10).double().train(False)
    ids = torch.tensor([[1, 5, 6, 7, 8, 2], [1, 9, 10, 2, 0, 0]])
    given = {"region_features": torch.randn(2, 3, 10).double(), "region_boxes": torch.rand(2, 3, 4).double()}
    gradients = []
    for kernels in (kernels_updown, None):
        monkeypatch.setattr(linear_updown, "KERNELS", kernels)
        layer = nn.Linear(3, 2)
        assert (step_product(layer, num_steps=4) is layer) == (kernels is None)
        model.zero_grad()
        model(input_ids=ids, labels=ids, **given).loss.backward()
        gradients.append({name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None})
    assert len(gradients[0]) > 10
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-9, atol=1e-12)
