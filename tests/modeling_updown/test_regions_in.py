"""What a region source returns goes into every model whole; what is not finite, or misspelt, is refused."""

import inspect
from typing import Any

import pytest
import torch

from modeling_updown import Regions
from modeling_updown.arguments_updown import REGION_FIELDS, refuse_misspelt
from modeling_updown.regions_updown import OPTIONAL, REQUIRED
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
FUSIONS = [tiny_fusion_vqa, tiny_retrieval, tiny_masked_lm, tiny_pretraining]
READERS = [*WRITERS, tiny_vqa, *FUSIONS]


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


def every_field(detected: Any) -> dict[str, Any]:
    """What a source with every field would return of the same images: the detector's, and the others made up."""
    chance, shape = torch.Generator().manual_seed(3), detected.region_mask.shape
    more = {
        "region_seconds": torch.rand(shape, generator=chance),
        "region_texts": [[f"word {place}" for place in range(shape[1])] for _ in range(shape[0])],
        "region_masks": torch.rand(*shape, 7, 7, generator=chance),
        "region_images": torch.zeros(shape, dtype=torch.long),
        "clip_ids": ["a", "b"],
    }
    return {**detected, **more}


@pytest.mark.parametrize("make", READERS)
def test_models_read_every_field(make: Any, detected: Any) -> None:
    """A model ignores what it does not use; what it gets is what it was given."""
    model, ids, given = make(**REGIONS_ALONE), torch.tensor([[2, 7, 9], [2, 8, 10]]), every_field(detected)
    with torch.no_grad():
        whole, three = model(input_ids=ids, **given), model(input_ids=ids, **three_fields(detected))
    name = "logits" if whole.logits is not None else "object_logits"
    assert whole[name] is not None and torch.equal(whole[name], three[name])
    regions = model.get_regions(**given)
    assert all(regions[name] is given[name] for name in (*REQUIRED, *OPTIONAL)) and "pred_boxes" not in regions
    if make in WRITERS:
        written = model.generate(**given, max_new_tokens=5)
        assert torch.equal(written, model.generate(**three_fields(detected), max_new_tokens=5))
    with pytest.raises(TypeError, match="get_regions takes no argument 'region_second'"):
        model.get_regions(**three_fields(detected), region_second=1)


@pytest.mark.parametrize("make", READERS)
@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("region_boxes", torch.zeros(2, 5, 3)),
        ("region_scores", torch.zeros(2, 4)),
        ("object_probs", torch.zeros(2, 5)),
        ("attribute_probs", torch.zeros(1, 5, 3)),
        ("region_seconds", torch.zeros(2)),
        ("region_masks", torch.zeros(2, 5, 7, 6)),
        ("region_images", torch.zeros(2, 5, 1)),
        ("region_texts", [["a"] * 5, ["b"] * 4]),
        ("region_texts", [["a"] * 5]),
        ("clip_ids", ["a"]),
        ("clip_ids", torch.zeros(3)),
    ],
    ids=str,
)
def test_a_field_of_another_shape_is_named(make: Any, name: str, wrong: Any) -> None:
    model = make(vision_config=None, region_feature_size=10)
    regions = {"region_features": torch.zeros(2, 5, 10), "region_boxes": torch.zeros(2, 5, 4)}
    with pytest.raises(ValueError, match=f"^{name} "):
        model(input_ids=torch.tensor([[2, 7, 9], [2, 8, 10]]), **{**regions, name: wrong})


@pytest.mark.parametrize("make", FUSIONS)
@torch.no_grad()
def test_seconds_are_read_where_they_are_given(make: Any, detected: Any) -> None:
    """From the regions or beside pixels; NaN on padding passes, elsewhere it is named."""
    model = make(**REGIONS_ALONE, time_embedding=True)
    ids, given = torch.tensor([[2, 7, 9], [2, 8, 10]]), three_fields(detected)
    seconds = torch.arange(given["region_mask"].numel()).view(given["region_mask"].shape) / 4
    early = model(input_ids=ids, **given, region_seconds=seconds).logits
    late = model(input_ids=ids, **given, region_seconds=seconds + 30).logits
    assert early is not None and not torch.allclose(early, late)
    assert torch.equal(model(input_ids=ids, **Regions(**given, region_seconds=seconds)).logits, early)
    with pytest.raises(ValueError, match="give region_seconds as well"):
        model(input_ids=ids, **given)
    given["region_mask"] = given["region_mask"].clone()
    given["region_mask"][1, -1] = False
    dirty = seconds.clone()
    dirty[1, -1] = float("nan")
    assert torch.equal(model(input_ids=ids, **given, region_seconds=dirty).logits,
                       model(input_ids=ids, **given, region_seconds=seconds).logits)  # fmt: skip
    dirty[0, 2] = float("nan")
    with pytest.raises(
        ValueError, match=r"region 2 of image 0 of the batch \(and 0 more\) holds .* in region_seconds:"
    ):
        model(input_ids=ids, **given, region_seconds=dirty)
    grid = make(time_embedding=True)
    pixels = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    made = grid.get_regions(pixels)
    when = torch.rand(made.region_mask.shape)
    assert torch.equal(grid(input_ids=ids, pixel_values=pixels, region_seconds=when).logits,
                       grid(input_ids=ids, **made, region_seconds=when).logits)  # fmt: skip
    assert grid.get_regions(pixels, region_seconds=when).region_seconds is when


ROWS = [[[0, 1], [1, 0], [1, 1]], [[0, -1], [1, 0]], [[1], [0]]]


@pytest.mark.parametrize("make", [tiny_vqa, tiny_fusion_vqa, tiny_masked_lm])
@pytest.mark.parametrize("index", ROWS)
@torch.no_grad()
def test_rows_of_several_images_are_read_together(make: Any, index: list[list[int]], detected: Any) -> None:
    """As the regions of each row's images one after the other, joined by hand, and image by image what it was alone."""
    model, given = make(**REGIONS_ALONE), three_fields(detected)
    ids = torch.tensor([[2, 7, 9], [2, 8, 10], [2, 9, 7]])[: len(index)]
    found = model(input_ids=ids, **given, image_index=torch.tensor(index), output_attentions=True)
    for row, images in enumerate(index):
        real = [image for image in images if image >= 0]
        by_hand = {name: torch.cat([value[image] for image in real])[None] for name, value in given.items()}
        alone = model(input_ids=ids[row : row + 1], **by_hand, output_attentions=True)
        torch.testing.assert_close(found.logits[row : row + 1], alone.logits, rtol=1e-5, atol=1e-5)
        assert len(found.attentions[-1]) == len(found.region_boxes) == len(index)
        weights = found.attentions[-1][row][
            ..., model.get_regions(**given).of_rows(torch.tensor(index)).region_mask[row]
        ]
        torch.testing.assert_close(weights, alone.attentions[-1][0], rtol=1e-4, atol=1e-5)
    one = model(input_ids=ids[:2], **given, image_index=torch.tensor([[1], [0]])).logits
    torch.testing.assert_close(one, model(input_ids=ids[:2], **given, image_index=torch.tensor([1, 0])).logits)


@torch.no_grad()
def test_candidates_share_the_images_of_their_row(detected: Any) -> None:
    """C texts a row, about one image or several: as each of them asked alone."""
    model, given = tiny_fusion_vqa(**REGIONS_ALONE), three_fields(detected)
    candidates = torch.tensor([[[2, 7, 9], [2, 8, 10], [2, 9, 9]], [[2, 7, 8], [2, 10, 8], [2, 9, 7]]])  # (N, C, T)
    for index in (torch.tensor([1, 0]), torch.tensor([[0, 1], [1, 1]])):
        flat = model(candidates.flatten(0, 1), **given, image_index=index.repeat_interleave(3, dim=0)).logits
        for row in range(2):
            for place in range(3):
                alone = model(candidates[row, place][None], **given, image_index=index[row : row + 1]).logits[0]
                torch.testing.assert_close(flat[3 * row + place], alone, rtol=1e-5, atol=1e-5)
    by_row = model(candidates.flatten(0, 1), **given).logits  # rows next to each other need no index
    assert torch.allclose(by_row, model(candidates.flatten(0, 1), **given, image_index=torch.arange(2)
                                        .repeat_interleave(3)).logits, atol=1e-6)  # fmt: skip


def test_boxes_of_two_images_are_not_counted_together(detected: Any) -> None:
    model = tiny_vqa(**REGIONS_ALONE, counted_objects=4)
    with pytest.raises(ValueError, match="counts by boxes"):
        model(torch.tensor([[2, 7]]), **three_fields(detected), image_index=torch.tensor([[0, 1]]))


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
