"""What every model shares: what it leaves out of training is left out after loading too, and regions at the door."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.tiny import (
    tiny_captioner,
    tiny_detector,
    tiny_fusion_vqa,
    tiny_grid_config,
    tiny_pretraining,
    tiny_pyramid_detector,
    tiny_retrieval,
    tiny_vqa,
)

OWNERS = (tiny_captioner, tiny_vqa, tiny_retrieval, tiny_pretraining, tiny_fusion_vqa)


def frozen(model: Any) -> set[str]:
    """The names of the weights that do not train."""
    return {name for name, weight in model.named_parameters() if not weight.requires_grad}


@pytest.mark.parametrize("make", OWNERS, ids=lambda make: make.__name__)
@pytest.mark.parametrize("freeze_regions", [True, False])
def test_a_loaded_region_source_trains_only_if_it_did(make: Any, freeze_regions: bool, tmp_path: Path) -> None:
    model = make(vision_config=tiny_grid_config(), freeze_regions=freeze_regions)
    model.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path)
    assert frozen(loaded) == frozen(model)
    assert bool(frozen(loaded)) == freeze_regions


@pytest.mark.parametrize("make", [tiny_detector, tiny_pyramid_detector], ids=lambda make: make.__name__)
def test_a_loaded_detector_keeps_its_frozen_stages(make: Any, tmp_path: Path) -> None:
    model = make()
    model.save_pretrained(tmp_path)
    assert frozen(type(model).from_pretrained(tmp_path)) == frozen(model) != set()


def test_loading_tells_what_was_missing_where_it_is_asked(tmp_path: Path) -> None:
    tiny_retrieval().save_pretrained(tmp_path)
    model, info = type(tiny_retrieval()).from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"] and model.config.objectives


@pytest.mark.parametrize("make", OWNERS, ids=lambda make: make.__name__)
def test_images_without_any_region_are_refused(make: Any) -> None:
    model = make()
    width = model.config.region_feature_size
    with pytest.raises(ValueError, match="hold no region at all"):
        model.get_regions(region_features=torch.zeros(2, 0, width), region_boxes=torch.zeros(2, 0, 4))
