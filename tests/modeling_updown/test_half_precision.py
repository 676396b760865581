"""Whole models in bfloat16 and float16 on a CPU, image to logits, give what float32 gives up to their rounding."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoImageProcessor, AutoModelForZeroShotImageClassification, AutoProcessor

from modeling_updown.boxes_updown import pool_boxes, pyramid_boxes
from tests.tiny import (
    noise_image,
    tiny_captioner,
    tiny_detector,
    tiny_detector_config,
    tiny_fusion_vqa,
    tiny_grid_config,
    tiny_image,
    tiny_masked_lm,
    tiny_prefix_lm,
    tiny_pretraining,
    tiny_pyramid_detector,
    tiny_retrieval,
    tiny_vqa,
)

OWNERS = (
    tiny_captioner,
    tiny_vqa,
    tiny_retrieval,
    tiny_pretraining,
    tiny_masked_lm,
    tiny_fusion_vqa,
    tiny_prefix_lm,
)
SOURCES = {
    "grid": tiny_grid_config(),
    "pyramid": tiny_grid_config(regions="pyramid", pyramid_levels=[1, 2]),
}
ROUNDING = {torch.bfloat16: 0.08, torch.float16: 0.01}  # of logits and probabilities of about 1
LARGEST_FEATURE = 300  # of the tiny sources'
PUBLISHED = Path(__file__).parents[2] / "hub_cards" / "updown-retrieval-flickr8k"


@torch.no_grad()
def logits(model: Any, **image: torch.Tensor) -> torch.Tensor:
    """Logits of one image and one text, in float32."""
    ids = torch.tensor([[2, 7, 8, 3]])
    output = model(input_ids=ids, attention_mask=torch.ones_like(ids), **image)
    assert output.logits.dtype in (model.dtype, torch.float32)
    return output.logits.float()


@torch.no_grad()
def regions_of(model: Any, image: torch.Tensor) -> torch.Tensor:
    """The features of an image's regions by the model's own source."""
    return model.region_source(image).region_features


def boxes() -> torch.Tensor:
    """Five boxes, one of them the whole image: (1, 5, 4)."""
    corners = torch.rand(1, 5, 4).sort(dim=-1).values
    corners[0, 0] = torch.tensor([0.0, 0.0, 1.0, 1.0])
    return corners


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("make", OWNERS, ids=lambda make: make.__name__)
def test_models_with_their_own_regions(make: Any, source: str) -> None:
    image, model = noise_image(64, 64), make(vision_config=SOURCES[source])
    expected = logits(model, pixel_values=image)
    for dtype, rounding in ROUNDING.items():
        half = make(vision_config=SOURCES[source]).to(dtype)
        assert (logits(half, pixel_values=image.to(dtype)) - expected).abs().max() < 5 * rounding
        features = regions_of(half, image.to(dtype))
        assert features.dtype == dtype
        assert (features.float() - regions_of(model, image)).abs().max() < 0.3 * LARGEST_FEATURE * rounding


@pytest.mark.parametrize("make", OWNERS, ids=lambda make: make.__name__)
def test_models_on_given_regions(make: Any) -> None:
    model = make()
    regions = {"region_features": torch.randn(1, 5, model.config.region_feature_size), "region_boxes": boxes()}
    expected = logits(model, **regions)
    for dtype, rounding in ROUNDING.items():
        half = make().to(dtype)
        assert (logits(half, **regions) - expected).abs().max() < 2 * rounding  # kept in float32, as stores have them
        halved = {name: tensor.to(dtype) for name, tensor in regions.items()}
        assert (logits(half, **halved) - expected).abs().max() < 2 * rounding


@pytest.mark.parametrize("dtype", ROUNDING, ids=str)
@pytest.mark.parametrize("make", [tiny_detector, tiny_pyramid_detector], ids=lambda make: make.__name__)
@torch.no_grad()
def test_detectors(make: Any, dtype: torch.dtype) -> None:
    image, model, half = noise_image(96, 128), make(), make().to(dtype)
    boxes = model(image).region_boxes
    expected, found = model(image, boxes=boxes), half(image.to(dtype), boxes=boxes)
    for name in ("object_probs", "attribute_probs", "pred_boxes"):
        assert torch.allclose(found[name].float(), expected[name], atol=ROUNDING[dtype])
    assert torch.allclose(half(image.to(dtype)).region_scores[0, 0], model(image).region_scores[0, 0], atol=0.05)


@pytest.mark.parametrize("dtype", ROUNDING, ids=str)
def test_boxes_are_pooled_where_they_lie(dtype: torch.dtype) -> None:
    feature_map = torch.randn(1, 4, 61, 61).to(dtype)
    boxes = pyramid_boxes([7])[None]
    expected = pool_boxes(feature_map.float(), boxes)
    found = pool_boxes(feature_map.requires_grad_(), boxes)
    assert found.dtype == dtype
    torch.testing.assert_close(found, expected.to(dtype))  # rounded corners would read other cells
    found.sum().backward()
    assert feature_map.grad is not None and feature_map.grad.isfinite().all() and feature_map.grad.abs().sum() > 0


def test_a_caffe_detector_is_half_precise_too() -> None:
    config = tiny_detector_config(score_threshold=0.0)
    assert config.is_caffe_resnet and tiny_detector().bfloat16()(noise_image(64, 64).bfloat16()).region_mask.all()


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="the published models are not beside the code")
@pytest.mark.parametrize("dtype", ROUNDING, ids=str)
@torch.no_grad()
def test_the_published_retrieval_model(dtype: torch.dtype) -> None:
    processor = AutoProcessor.from_pretrained(PUBLISHED)
    assert AutoImageProcessor.from_pretrained(PUBLISHED).size
    inputs = processor(images=tiny_image(), text=["a dog", "red and blue patches"], padding=True, return_tensors="pt")
    expected = AutoModelForZeroShotImageClassification.from_pretrained(PUBLISHED)(**inputs)
    half = AutoModelForZeroShotImageClassification.from_pretrained(PUBLISHED, dtype=dtype)
    found = half(**inputs.to(dtype))
    assert half.config.vision_config.model_type == "updown_detector"
    for name in ("image_embeds", "text_embeds"):
        cosines = (found[name].float() * expected[name]).sum(dim=-1)
        assert (cosines > 1 - ROUNDING[dtype]).all()
