"""What a region source returns goes into every model whole; what is not finite, or misspelt, is refused."""

import inspect
from typing import Any

import pytest
import torch

from modeling_updown.arguments_updown import REGION_FIELDS, refuse_misspelt
from tests.tiny import (
    tiny_captioner,
    tiny_detector,
    tiny_fusion_vqa,
    tiny_grid,
    tiny_masked_lm,
    tiny_prefix_lm,
    tiny_pretraining,
    tiny_retrieval,
    tiny_vqa,
)

WIDTH = 128  # of the tiny detector's features
REGIONS_ALONE: dict[str, Any] = {"vision_config": None, "region_feature_size": WIDTH}
WRITERS = [tiny_captioner, tiny_prefix_lm]
READERS = [*WRITERS, tiny_vqa, tiny_fusion_vqa, tiny_retrieval, tiny_masked_lm, tiny_pretraining]


@pytest.fixture(scope="module")
def detected() -> Any:
    with torch.no_grad():
        return tiny_detector()(torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0)))


def three_fields(regions: Any) -> dict[str, torch.Tensor]:
    return {name: regions[name] for name in ("region_features", "region_boxes", "region_mask")}


@pytest.mark.parametrize("make", WRITERS)
def test_models_write_of_what_a_detector_returns(make: Any, detected: Any) -> None:
    model = make(**REGIONS_ALONE)
    assert {"logits", "object_probs", "pred_boxes", "attribute_scores"} <= detected.keys()
    written = model.generate(**detected, max_new_tokens=5, num_beams=2)
    assert torch.equal(written, model.generate(**three_fields(detected), max_new_tokens=5, num_beams=2))
    grid = make()
    pixels = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    assert torch.equal(grid.generate(**grid.region_source(pixels), max_new_tokens=5), grid.generate(
        pixel_values=pixels, max_new_tokens=5))  # fmt: skip


@pytest.mark.parametrize("make", WRITERS)
def test_misspelt_arguments_of_generate_are_refused(make: Any, detected: Any) -> None:
    for wrong in ({"max_new_tokns": 5}, {"region_score": detected.region_scores}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            make(**REGIONS_ALONE).generate(**detected, **wrong)


@pytest.mark.parametrize("make", READERS)
def test_models_read_what_a_detector_returns(make: Any, detected: Any) -> None:
    model, ids = make(**REGIONS_ALONE), torch.tensor([[2, 7, 9], [2, 8, 10]])
    changes = {"objectives": {"itc": 1, "mrc_kl": 1}} if make is tiny_pretraining else {}
    model = make(**REGIONS_ALONE, **changes)
    with torch.no_grad():
        whole, three = model(input_ids=ids, **detected), model(input_ids=ids, **three_fields(detected))
    assert torch.equal(getattr(whole, "logits" if whole.logits is not None else "object_logits"),
                       getattr(three, "logits" if three.logits is not None else "object_logits"))  # fmt: skip


@pytest.mark.parametrize("make", [*READERS, tiny_detector])
def test_misspelt_arguments_of_forward_are_refused(make: Any, detected: Any) -> None:
    model = make() if make is tiny_detector else make(**REGIONS_ALONE)
    wrong = "pixel_valeus" if make is tiny_detector else "region_featurs"
    with pytest.raises(TypeError, match=f"takes no argument '{wrong}': is '{wrong[:6]}.*s' meant"):
        model(**{wrong: 1, **({"pixel_values": torch.zeros(1, 3, 64, 64)} if make is tiny_detector else {})})


def test_arguments_are_not_taken_for_each_other() -> None:
    """Names that any of our models takes pass all of them, and so do those of transformers and its tokenizers."""
    passing = {"token_type_ids", "position_ids", "num_items_in_batch", "shift_labels", "cache_position", "label_boxes"}
    passing |= {"choice_labels", "label_attributes", "past_key_values", "cache", "special_tokens_mask", *REGION_FIELDS}
    models = [tiny_detector(), *(make(**REGIONS_ALONE) for make in READERS)]
    for model in models:
        passing |= inspect.signature(model.forward).parameters.keys()
    for model in models:
        refuse_misspelt(model, dict.fromkeys(passing))


@pytest.mark.parametrize("make", READERS)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_a_real_region_is_finite(make: Any, bad: float) -> None:
    model, ids = make(vision_config=None, region_feature_size=10), torch.tensor([[2, 7, 9], [2, 8, 10]])
    chance = torch.Generator().manual_seed(0)
    regions = {"region_features": torch.randn(2, 4, 10, generator=chance), "region_boxes": torch.rand(2, 4, 4)}
    regions["region_mask"] = torch.tensor([[True] * 4, [True, True, True, False]])
    regions["region_features"][1, 3] = regions["region_boxes"][1, 3] = bad  # of padding
    model(input_ids=ids, **regions)
    regions["region_features"][1, 2, 5] = bad
    message = r"region 2 of image 1 of the batch \(and 0 more\) holds NaN or infinity in region_features"
    with pytest.raises(ValueError, match=message):
        model(input_ids=ids, **regions)
    regions["region_features"][1, 2, 5], regions["region_boxes"][0, 0, 0] = 0, bad
    with pytest.raises(ValueError, match="region 0 of image 0"):
        model(input_ids=ids, **regions)


def test_large_features_of_half_precision_are_finite() -> None:
    """Their sum would overflow float16."""
    model = tiny_vqa(vision_config=None, region_feature_size=10)
    features = torch.full((1, 4, 10), 60_000.0, dtype=torch.float16)
    assert model.get_regions(region_features=features).region_features is features


def test_a_source_that_makes_nan_is_named() -> None:
    model = tiny_vqa()
    with torch.no_grad():
        next(model.region_source.parameters()).fill_(float("nan"))
    with pytest.raises(ValueError, match=r"the model \(UpDownForVisualQuestionAnswering\) makes region features that"):
        model(torch.tensor([[4]]), pixel_values=torch.zeros(1, 3, 64, 64))
    with pytest.raises(ValueError, match="pixel_values hold NaN or infinity"):
        model(torch.tensor([[4]]), pixel_values=torch.full((1, 3, 64, 64), float("nan")))
    assert tiny_grid()(torch.zeros(1, 3, 64, 64)).region_features.isfinite().all()


def test_an_exported_captioner_gives_the_same() -> None:
    """The check of numbers must not stand in an exporter's way, which sees none."""
    model = tiny_captioner(vision_config=None, region_feature_size=10)
    draw = torch.Generator().manual_seed(0)
    features = torch.randn(2, 5, 10, generator=draw)
    given = {"input_ids": torch.tensor([[1, 5], [1, 7]]), "region_features": features, "use_cache": False}
    exported = torch.export.export(model, (), given, strict=False).module()
    torch.testing.assert_close(exported(**given).logits, model(**given).logits)
