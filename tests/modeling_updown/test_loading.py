"""What a checkpoint holds is what the loaded model holds, whichever tensor of it is absent, and wherever it is put."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import nn

from modeling_updown import UpDownDetector, UpDownGrid
from tests.tiny import (
    WHOLE_MODELS_ON_DISK,
    drop_weights,
    noise_image,
    rewrite_weights,
    tiny_captioner,
    tiny_detector,
    tiny_fusion_vqa,
    tiny_grid,
    tiny_grid_config,
    tiny_prefix_lm,
    tiny_pretraining,
    tiny_pyramid_detector,
    tiny_retrieval,
    tiny_vqa,
)

OWNERS = (tiny_captioner, tiny_vqa, tiny_retrieval, tiny_pretraining, tiny_fusion_vqa, tiny_prefix_lm)
SOURCES = (tiny_grid, tiny_detector, tiny_pyramid_detector)
NEW_STATISTICS = {"running_mean": 0, "running_var": 1, "num_batches_tracked": 0}


def with_statistics(model: Any) -> Any:
    """The model with norms that have seen images: new ones hold what a reset would leave."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.8, 1.2)
            module.num_batches_tracked.fill_(7)
    return model


def saved(model: Any, folder: Path) -> dict[str, torch.Tensor]:
    """Save a model; its tensors by name."""
    model.save_pretrained(folder)
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def differing(loaded: Any, expected: dict[str, torch.Tensor]) -> list[str]:
    """Names of the tensors in which a model differs."""
    found = loaded.state_dict()
    assert found.keys() == expected.keys()
    return [name for name, tensor in expected.items() if not torch.equal(found[name], tensor)]


@pytest.mark.parametrize("make", [*OWNERS, *SOURCES], ids=lambda make: make.__name__)
@pytest.mark.parametrize("device_map", [None, "cpu"])
def test_a_checkpoint_of_floats_alone_loads_whole(make: Any, device_map: Any, tmp_path: Path) -> None:
    model = with_statistics(make())
    expected = saved(model, tmp_path)
    rewrite_weights(tmp_path, lambda w: {name: tensor for name, tensor in w.items() if tensor.is_floating_point()})
    loaded, info = type(model).from_pretrained(tmp_path, device_map=device_map, output_loading_info=True)
    lost = differing(loaded, expected)
    assert lost and all(name.endswith("num_batches_tracked") for name in lost)
    assert not info["missing_keys"]  # no output depends on them


@pytest.mark.parametrize(("make", "step"), [(tiny_grid, 4), (tiny_captioner, 7), (tiny_detector, 26)])
def test_a_checkpoint_without_one_buffer_keeps_the_others(make: Any, step: int, tmp_path: Path) -> None:
    model = with_statistics(make())
    expected = saved(model, tmp_path)
    whole = (tmp_path / "model.safetensors").read_bytes()
    buffers = [name for name, _ in model.named_buffers()][::step]
    assert {name.rsplit(".")[-1] for name in buffers} == set(NEW_STATISTICS)
    for name in buffers:
        (tmp_path / "model.safetensors").write_bytes(whole)
        drop_weights(tmp_path, name)
        loaded, info = type(model).from_pretrained(tmp_path, output_loading_info=True)
        kind = name.rsplit(".")[-1]
        assert differing(loaded, expected) == [name]
        assert (loaded.state_dict()[name] == NEW_STATISTICS[kind]).all()
        assert info["missing_keys"] == (set() if kind == "num_batches_tracked" else {name})


@pytest.mark.parametrize("make", [*OWNERS, *SOURCES], ids=lambda make: make.__name__)
def test_a_checkpoint_without_one_parameter_keeps_the_others(make: Any, tmp_path: Path) -> None:
    model = with_statistics(make())
    expected = saved(model, tmp_path)
    whole = (tmp_path / "model.safetensors").read_bytes()
    names = [name for name, _ in model.named_parameters()]
    for name in names[:: len(names) // 6]:
        (tmp_path / "model.safetensors").write_bytes(whole)
        drop_weights(tmp_path, name)
        place = model.get_parameter(name).data_ptr()
        tied = {key for key, tensor in model.state_dict().items() if tensor.data_ptr() == place}
        assert set(differing(type(model).from_pretrained(tmp_path), expected)) <= tied


BACKBONES = ["swin_tiny_patch4_window7_224", "eva02_tiny_patch14_224", "test_vit4"]
BACKBONES += timm.list_models(["test_vit_relpos", "test_maxvit"])  # which came with timm 1.0.31


@pytest.mark.parametrize("backbone", BACKBONES)
def test_tables_that_no_checkpoint_holds_are_made_anew(backbone: str, tmp_path: Path) -> None:
    side = 224 if backbone.endswith("224") else 160
    width = {"swin_tiny_patch4_window7_224": 768, "eva02_tiny_patch14_224": 192}.get(backbone, 0)
    config = tiny_grid_config(backbone=backbone, image_size=side, region_feature_size=width or 64)
    if not width:
        config.region_feature_size = UpDownGrid(config).backbone.num_features
    model = UpDownGrid(config).eval()
    model.save_pretrained(tmp_path)
    with torch.no_grad():
        pixels = noise_image(side, side)
        before = model(pixels).region_features
        after = UpDownGrid.from_pretrained(tmp_path)(pixels).region_features
    assert torch.allclose(after, before, atol=1e-5)


@pytest.mark.parametrize("make", [tiny_detector, tiny_pyramid_detector], ids=lambda make: make.__name__)
def test_a_detector_gives_the_same_regions_without_the_counts(make: Any, tmp_path: Path) -> None:
    model = with_statistics(make())
    saved(model, tmp_path)
    rewrite_weights(tmp_path, lambda w: {name: tensor for name, tensor in w.items() if tensor.is_floating_point()})
    with torch.no_grad():
        before, after = model(noise_image(96, 128)), UpDownDetector.from_pretrained(tmp_path)(noise_image(96, 128))
    assert torch.equal(after.region_features, before.region_features)
    assert torch.equal(after.region_boxes, before.region_boxes)


@WHOLE_MODELS_ON_DISK
@pytest.mark.parametrize("make", [*OWNERS, *SOURCES], ids=lambda make: make.__name__)
@torch.no_grad()
def test_weights_left_on_disk_give_the_same(make: Any, tmp_path: Path) -> None:
    model = with_statistics(make())
    saved(model, tmp_path / "saved")
    rewrite_weights(
        tmp_path / "saved", lambda w: {name: tensor for name, tensor in w.items() if tensor.is_floating_point()}
    )
    loaded = type(model).from_pretrained(
        tmp_path / "saved", device_map="auto", max_memory={"cpu": 20_000}, offload_folder=tmp_path / "disk"
    )
    assert "disk" in loaded.hf_device_map.values()
    ids = torch.tensor([[2, 7, 8, 3]])
    texts = {} if make in SOURCES else {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    outputs = [one(pixel_values=noise_image(96, 96), **texts) for one in (loaded, model)]
    name = "region_features" if make in SOURCES else "logits"
    assert torch.allclose(outputs[0][name], outputs[1][name], atol=1e-5)
