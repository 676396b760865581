"""Tags: against loops, in every model against the same model on features joined beforehand, and their mistakes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import Trainer, TrainingArguments

from modeling_updown import UpDownForImageCaptioning, UpDownGrid, UpDownTokenizer
from modeling_updown.configuration_tags_updown import TaggedRegionsConfig
from modeling_updown.pipeline_captioning import UpDownImageToTextPipeline
from modeling_updown.pipeline_vqa import UpDownVisualQuestionAnsweringPipeline
from modeling_updown.tags_updown import TAG_STD, RegionTags

from ..tiny import (
    ANSWERS,
    CAPTIONS,
    tiny_captioner,
    tiny_captioning_config,
    tiny_detector,
    tiny_fusion,
    tiny_fusion_config,
    tiny_fusion_vqa,
    tiny_grid_config,
    tiny_image,
    tiny_masked_lm,
    tiny_prefix_lm,
    tiny_prefix_lm_config,
    tiny_pretraining,
    tiny_processor,
    tiny_question_processor,
    tiny_retrieval,
    tiny_vqa,
    tiny_vqa_config,
)

WIDTH, SIZE, REGIONS = 10, 6, 5
OBJECTS, ATTRIBUTES = ["cat", "dog", "tennis racket", "tree"], ["brown", "tall", "wooden"]
NAMED: dict[str, Any] = {"object_tag_names": OBJECTS, "attribute_tag_names": ATTRIBUTES, "tag_embedding_size": SIZE}
JOINED = WIDTH + 2 * SIZE  # of a feature with both kinds of tags
ALONE: dict[str, Any] = {"vision_config": None, "region_feature_size": WIDTH}
EMBEDDED: dict[str, Any] = {"region_embedding_size": 12, "box_embedding": True}

MODELS: dict[str, Callable[..., Any]] = {
    "captioner": tiny_captioner,
    "captioner that embeds regions": lambda **changes: tiny_captioner(**(EMBEDDED | changes)),
    "vqa": tiny_vqa,
    "vqa that reads boxes": lambda **changes: tiny_vqa(**({"box_embedding": True, "num_glimpses": 2} | changes)),
    "fusion": tiny_fusion,
    "fusion vqa": tiny_fusion_vqa,
    "retrieval": tiny_retrieval,
    "masked words": tiny_masked_lm,
    "prefix lm": tiny_prefix_lm,
}
WRITERS = {name: MODELS[name] for name in ("captioner", "captioner that embeds regions", "prefix lm")}
every_model = pytest.mark.parametrize("name", MODELS)
every_writer = pytest.mark.parametrize("name", WRITERS)


def model_of(name: str, **changes: Any) -> Any:
    """A tiny model that reads tags beside features of width 10."""
    return MODELS[name](**(ALONE | NAMED | changes))


def images(count: int = 3, *, seed: int = 0) -> dict[str, torch.Tensor]:
    """Regions with probabilities; the last image has two fewer, and its padding is NaN."""
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(count, REGIONS, 2, generator=generator) / 2
    mask = torch.ones(count, REGIONS, dtype=torch.bool)
    mask[-1, 3:] = False
    found = {
        "region_features": torch.randn(count, REGIONS, WIDTH, generator=generator),
        "object_probs": (2 * torch.randn(count, REGIONS, len(OBJECTS) + 1, generator=generator)).softmax(dim=-1),
        "attribute_probs": (2 * torch.randn(count, REGIONS, len(ATTRIBUTES) + 1, generator=generator)).softmax(dim=-1),
    }
    for value in found.values():
        value[~mask] = torch.nan
    return {**found, "region_boxes": torch.cat([corners, corners + 0.4], dim=-1), "region_mask": mask}


def only(batch: dict[str, torch.Tensor], image: int) -> dict[str, torch.Tensor]:
    """One image with its real regions alone."""
    real = batch["region_mask"][image]
    return {name: value[image : image + 1, real] for name, value in batch.items()}


def words(rows: int = 3) -> torch.Tensor:
    """Captions or questions of six words, each another one."""
    return torch.randint(5, 20, (rows, 6), generator=torch.Generator().manual_seed(7))


def scores(model: Any, batch: dict[str, torch.Tensor], rows: int = 3, **more: Any) -> torch.Tensor:
    """What the model says of words and images."""
    output = model(words(rows), **batch, **more)
    names = ("logits", "logits_per_image", "last_hidden_state")
    return next(output[name] for name in names if output.get(name) is not None)


def slow_tag(weight: torch.Tensor, probs: torch.Tensor, *, top_k: int = 0) -> list[list[list[float]]]:
    """The sum over classes of probability times vector, by loops; weight (E, C), probs (P, R, C + 1)."""
    found = []
    vectors = weight.detach().T.tolist()
    for image in probs.double().nan_to_num().tolist():
        rows = []
        for region in image:
            ranked = sorted(range(1, len(region)), key=lambda c: -region[c])[: top_k or None]
            rows.append([sum(region[c] * vectors[c - 1][e] for c in ranked) for e in range(len(weight))])
        found.append(rows)
    return found


def joined_before(model: Any, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same images for a model without tags: features that hold the tags, made by loops."""
    weights = {name.split(".")[-2]: weight for name, weight in model.state_dict().items() if "region_tags" in name}
    tags = [
        torch.tensor(slow_tag(weights[f"{kind}_tags"], batch[f"{kind}_probs"])).float()
        for kind in ("object", "attribute")
    ]
    rest = {name: batch[name] for name in ("region_boxes", "region_mask")}
    return {"region_features": torch.cat([batch["region_features"], *tags], dim=-1), **rest}


# -- numbers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("top_k", [0, 2, 9])
def test_a_tag_is_the_mean_vector_of_the_likely_classes(top_k: int) -> None:
    torch.manual_seed(0)
    tags = RegionTags(TaggedRegionsConfig(**NAMED, tag_top_k=top_k))
    batch = images()
    probs = {name: batch[name] for name in ("object_probs", "attribute_probs")}
    found = tags(batch["region_features"], batch["region_mask"], **probs)
    assert torch.equal(found[..., :WIDTH].nan_to_num(), batch["region_features"].nan_to_num())
    expected = [
        torch.tensor(slow_tag(tags.embeddings[f"{kind}_tags"].weight, batch[f"{kind}_probs"], top_k=top_k))
        for kind in ("object", "attribute")
    ]
    assert torch.allclose(found[..., WIDTH:], torch.cat(expected, dim=-1).float(), atol=1e-6)
    assert found[2, 3:, WIDTH:].eq(0).all() and found[..., WIDTH:].abs().max() > 0.1


@every_model
def test_a_model_with_tags_is_the_one_of_joined_features(name: str) -> None:
    model, batch = model_of(name), images()
    plain = MODELS[name](**(ALONE | {"region_feature_size": JOINED}))
    plain.load_state_dict({key: value for key, value in model.state_dict().items() if "region_tags" not in key})
    expected = scores(plain, joined_before(model, batch))
    assert torch.allclose(scores(model, batch), expected, atol=1e-5)
    other = {**batch, "object_probs": batch["object_probs"].roll(1, dims=-1)}
    assert (scores(model, other) - expected).abs().max() > 1e-3


def test_features_are_scaled_before_their_tags_join() -> None:
    model, batch = model_of("vqa", normalize_regions=True), images()
    larger = {**batch, "region_features": 7 * batch["region_features"]}
    assert torch.allclose(scores(model, larger), scores(model, batch), atol=1e-5)


@every_model
def test_a_batch_is_its_members(name: str) -> None:
    model, batch = model_of(name), images()
    together = scores(model, batch)
    for image in range(3):
        alone = model(words()[image : image + 1], **only(batch, image))
        if name == "retrieval":
            assert torch.allclose(alone.logits_per_image[0, 0], together[image, image], atol=1e-5)
        elif name == "fusion":
            assert torch.allclose(alone.word_states[0], together[image, :6], atol=1e-5)
        else:
            assert torch.allclose(alone.logits[0], together[image], atol=1e-5)


@every_model
def test_either_part_of_a_region_may_be_absent(name: str) -> None:
    """Features of zeros leave the tags, probabilities of zeros the features: background is no name either."""
    model, batch = model_of(name), images()
    unseen = {**batch, "region_features": torch.zeros_like(batch["region_features"])}
    cats, dogs = (
        {**unseen, "object_probs": torch.eye(len(OBJECTS) + 1)[number].expand(3, REGIONS, -1)} for number in (1, 2)
    )
    assert scores(model, cats).isfinite().all()
    assert (scores(model, cats) - scores(model, dogs)).abs().max() > 1e-3
    zeros = {key: torch.zeros_like(batch[key]) for key in ("object_probs", "attribute_probs")}
    nothing = {key: torch.eye(value.shape[-1])[0].expand_as(value) for key, value in zeros.items()}
    assert torch.allclose(scores(model, batch | zeros), scores(model, batch | nothing), atol=1e-6)
    assert (scores(model, batch | zeros) - scores(model, batch)).abs().max() > 1e-3


@pytest.mark.parametrize("make", [*MODELS.values(), tiny_pretraining])
def test_a_trainer_hands_over_the_columns_that_tags_are_made_of(make: Callable[..., Any], tmp_path: Path) -> None:
    """It drops those that `forward` does not take by name."""
    model = make(**(ALONE | NAMED))
    batch = {name: value.nan_to_num() for name, value in images().items()} | {"input_ids": words()}
    if make is tiny_pretraining:
        batch["region_scores"] = torch.rand(3, REGIONS)
    rows = Dataset.from_dict({name: value.tolist() for name, value in batch.items()} | {"unread": [1, 2, 3]})
    arguments = TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to="none")
    found = next(iter(Trainer(model, arguments, eval_dataset=rows).get_eval_dataloader()))
    assert found.keys() == batch.keys()
    for name, value in found.items():
        torch.testing.assert_close(value, batch[name], msg=name)


@every_model
def test_gradients_reach_the_classes_that_were_seen(name: str) -> None:
    model, batch = model_of(name), images()
    batch["object_probs"][..., 3] = 0  # nobody plays tennis
    scores(model, batch).square().sum().backward()
    gradients = {key: weight.grad for key, weight in model.named_parameters() if "region_tags" in key}
    objects, attributes = (
        next(value for key, value in gradients.items() if f"{kind}_tags" in key) for kind in ("object", "attribute")
    )
    assert objects is not None and attributes is not None
    assert objects[:, 2].eq(0).all() and objects[:, [0, 1, 3]].abs().amax(dim=0).gt(0).all()
    assert attributes.abs().amax(dim=0).gt(0).all()


@pytest.mark.parametrize("name", ["vqa", "vqa that reads boxes", "fusion vqa"])
def test_questions_share_images_and_ask_of_several(name: str) -> None:
    model, batch = model_of(name), images()
    index = torch.tensor([2, 0, 2, 1])
    shared = model(words(4), **batch, image_index=index).logits
    rows = {key: value[index] for key, value in batch.items()}
    assert torch.allclose(shared, model(words(4), **rows).logits, atol=1e-5)
    pairs = model(words(2), **batch, image_index=torch.tensor([[0, 1], [1, -1]])).logits
    both = {key: value[:2].flatten(0, 1)[None] for key, value in batch.items()}
    assert torch.allclose(pairs[:1], model(words(2)[:1], **both).logits, atol=1e-5)
    assert torch.allclose(pairs[1:], model(words(2)[1:], **only(batch, 1)).logits, atol=1e-5)


def test_a_masked_region_shows_no_tag() -> None:
    """Its names would tell what it is; those of the others are seen."""
    learnt = {"num_objects": len(OBJECTS), "objectives": {"mrc_kl": 1, "mrfr": 1}}
    model, batch = tiny_pretraining(**(ALONE | NAMED | learnt)), images()
    masked = torch.zeros(3, REGIONS, dtype=torch.bool)
    masked[:, 1] = True
    found = model(words(), **batch, masked_regions=masked)
    other = {key: batch[key].clone() for key in ("object_probs", "attribute_probs")}
    for value in other.values():
        value[:, 1] = value[:, 1].flip(-1)
    assert torch.equal(model(words(), **(batch | other), masked_regions=masked).object_logits, found.object_logits)
    for value in other.values():
        value[:, 0] = value[:, 0].flip(-1)
    assert not torch.allclose(
        model(words(), **(batch | other), masked_regions=masked).object_logits, found.object_logits, atol=1e-3
    )
    seen = torch.zeros_like(batch["region_features"])  # what stands in a masked region's place by default
    given = model(words(), **batch, masked_regions=masked, seen_features=seen)
    assert torch.equal(given.object_logits, found.object_logits)
    loss = model(words(), **batch, masked_regions=masked).loss
    loss.backward()
    assert loss.isfinite() and all(weight.grad is not None for weight in model.feature_head.parameters())


# -- generate --------------------------------------------------------------------------------------------------------


@every_writer
def test_beams_of_a_batch_are_those_of_its_images(name: str) -> None:
    model, batch = model_of(name), images()
    options: dict[str, Any] = {"max_new_tokens": 6, "num_beams": 3, "num_return_sequences": 2}
    together = model.generate(**batch, **options)
    for image in range(3):
        alone = model.generate(**only(batch, image), **options)
        rows = together[2 * image : 2 * image + 2, : alone.shape[1]]
        assert torch.equal(rows, alone)
    unnamed = {key: torch.zeros_like(batch[key]) for key in ("object_probs", "attribute_probs")}
    assert not torch.equal(model.generate(**(batch | unnamed), **options)[:, 1:4], together[:, 1:4])


def detecting(build: Callable[..., Any], **changes: Any) -> tuple[Any, Any]:
    """A model with tags that owns the tiny detector, and that detector alone."""
    detector = tiny_detector()
    config = detector.config
    tags = {"object_tags": config.num_objects, "attribute_tags": config.num_attributes, "tag_embedding_size": SIZE}
    model = build(**({"vision_config": config} | tags | changes))
    model.region_source.load_state_dict(detector.state_dict())
    return model, detector


@every_writer
def test_pixels_and_what_their_detector_returns_are_one(name: str) -> None:
    model, detector = detecting(WRITERS[name])
    pixels = torch.cat([tiny_image_pixels(seed) for seed in (0, 1)])
    regions = detector(pixels)
    options: dict[str, Any] = {"max_new_tokens": 6, "num_beams": 2}
    assert torch.equal(model.generate(pixels, **options), model.generate(**regions, **options))
    unnamed = {key: torch.zeros_like(regions[key]) for key in ("object_probs", "attribute_probs")}
    logits = model(words(2), pixel_values=pixels).logits
    assert torch.allclose(logits, model(words(2), **regions).logits, atol=1e-5)
    assert (logits - model(words(2), **(dict(regions) | unnamed)).logits).abs().max() > 1e-3


def tiny_image_pixels(seed: int) -> torch.Tensor:
    """Pixel values (1, 3, 64, 64) of a tiny image."""
    return tiny_processor()(images=tiny_image(seed), return_tensors="pt")["pixel_values"]


def test_pipelines_read_tags() -> None:
    processor = tiny_processor()
    model, _ = detecting(tiny_captioner)
    parts = {"image_processor": processor.image_processor, "tokenizer": processor.tokenizer}
    captioner = UpDownImageToTextPipeline(model=model, processor=processor, **parts)
    ids = model.generate(tiny_image_pixels(0), max_new_tokens=5, num_beams=2)
    found = captioner(tiny_image(0), max_new_tokens=5, num_beams=2, return_regions=True)
    assert found[0]["generated_text"] == processor.batch_decode(ids, skip_special_tokens=True)[0].strip()
    assert found[0]["region_weights"].shape[0] == len(found[0]["words"])
    processor = tiny_question_processor()
    model, _ = detecting(tiny_vqa)
    parts = {"image_processor": processor.image_processor, "tokenizer": processor.tokenizer}
    answerer = UpDownVisualQuestionAnsweringPipeline(model=model, processor=processor, **parts)
    question = "Is there a brown dog?"
    logits = model(processor(text=question, return_tensors="pt")["input_ids"], pixel_values=tiny_image_pixels(0)).logits
    best = answerer(image=tiny_image(0), question=question, top_k=1)[0]
    assert best["answer"] == ANSWERS[int(logits.argmax())]
    assert best["score"] == pytest.approx(logits.sigmoid().max().item(), abs=1e-5)


# -- training and life -----------------------------------------------------------------------------------------------


def test_features_are_dropped_by_image_in_training_alone() -> None:
    tags = RegionTags(TaggedRegionsConfig(**NAMED, region_feature_dropout=0.25))
    features, mask = torch.ones(400, 2, WIDTH), torch.ones(400, 2, dtype=torch.bool)
    probs = {"object_probs": torch.full((400, 2, 5), 0.2), "attribute_probs": torch.full((400, 2, 4), 0.25)}
    whole = tags.eval()(features, mask, **probs)
    assert torch.equal(whole[..., :WIDTH], features)
    tags.train()
    torch.manual_seed(3)
    dropped = tags(features, mask, **probs)
    kept = dropped[..., :WIDTH].flatten(1).unique(dim=1)  # one number an image: all of it or nothing
    assert kept.shape == (400, 1) and 0.2 < 1 - kept.mean().item() < 0.3
    assert torch.equal(dropped[..., WIDTH:], whole[..., WIDTH:])
    torch.manual_seed(3)
    assert torch.equal(tags(features, mask, **probs), dropped)


@every_model
def test_nothing_is_added_to_a_model_without_tags(name: str) -> None:
    model = MODELS[name]()
    assert model.config.region_size in (96, 96 + 7) and not any("tags" in key for key in model.state_dict())
    assert model.config.tag_kinds == [] and model.config.object_tag_names is None


@every_model
def test_new_vectors_have_a_size_of_their_own_and_saved_ones_come_back(name: str, tmp_path: Path) -> None:
    many = [f"thing {number}" for number in range(300)]
    model = model_of(name, object_tag_names=many, tag_embedding_size=40)
    weight = next(value for key, value in model.state_dict().items() if "object_tags" in key)
    assert weight.shape == (40, 300) and weight.std().item() == pytest.approx(TAG_STD, rel=0.05)
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path)
    assert (again.config.object_tag_names, again.config.object_tags) == (many, 300)
    assert again.config.attribute_tag_names == ATTRIBUTES
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in model.state_dict().items())


def test_a_captioner_learns_to_say_a_name_it_sees_no_feature_of() -> None:
    tokenizer = UpDownTokenizer.from_captions([*CAPTIONS, "a cat", "a tree"], min_count=1)
    torch.manual_seed(0)
    model = UpDownForImageCaptioning(tiny_captioning_config(**(ALONE | NAMED), vocab_size=len(tokenizer))).train()
    named = torch.eye(len(OBJECTS) + 1)[[1, 4]][:, None]  # a cat, a tree
    batch = {
        "region_features": torch.zeros(2, 1, WIDTH),
        "region_boxes": torch.tensor([0.0, 0.0, 1.0, 1.0]).expand(2, 1, 4),
        "object_probs": named,
        "attribute_probs": torch.zeros(2, 1, len(ATTRIBUTES) + 1),
    }
    ids = torch.tensor([tokenizer.convert_tokens_to_ids(["<bos>", "a", word]) for word in ("cat", "tree")])
    ids[:, 0] = model.config.bos_token_id
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(40):
        optimizer.zero_grad()
        model(ids, labels=ids, **batch).loss.backward()
        optimizer.step()
    said = model.eval().generate(**batch, max_new_tokens=2, do_sample=False)
    assert tokenizer.batch_decode(said, skip_special_tokens=True) == ["a cat", "a tree"]


# -- configs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("build", [tiny_captioning_config, tiny_vqa_config, tiny_fusion_config, tiny_prefix_lm_config])
def test_a_config_names_the_classes_of_its_detector(build: Callable[..., Any]) -> None:
    detector = tiny_detector().config
    detector.id2label = {number: f"thing {number}" for number in range(1, 13)}
    config = build(vision_config=detector, object_tags=12, tag_embedding_size=SIZE)
    assert config.object_tag_names == [f"thing {number}" for number in range(1, 13)]
    assert (config.attribute_tags, config.attribute_tag_names) == (0, None)
    assert config.region_size == detector.region_feature_size + SIZE
    again = type(config).from_dict(config.to_dict())
    assert again.object_tag_names == config.object_tag_names and again.region_size == config.region_size


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"object_tags": 3, "object_tag_names": OBJECTS}, "object_tags=3, but object_tag_names has 4 names: leave one"),
        ({"object_tags": -1}, "object_tags=-1, but object_tag_names has 0 names"),
        ({"object_tags": 4, "tag_embedding_size": 0}, "tag_embedding_size=0 must be 1 or more"),
        ({"object_tags": 4, "tag_top_k": -1}, "tag_top_k=-1 0 or more"),
        ({"object_tags": 4, "region_feature_dropout": 1.0}, "region_feature_dropout=1.0 at least 0 and below 1"),
        ({"region_feature_dropout": 0.5}, "leaves a region nothing but its tags: set object_tags as well"),
        ({"object_tags": 9, "vision_config": tiny_grid_config()}, "region source, a 'updown_grid', which names none"),
    ],
)
def test_numbers_that_contradict_each_other(changes: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        tiny_captioning_config(**({"vision_config": None} | changes))


def test_a_detector_of_other_classes_is_refused() -> None:
    detector = tiny_detector().config
    with pytest.raises(ValueError, match="attribute_tags=4 reads the attribute_probs of .* which names 5 such classes"):
        tiny_captioning_config(vision_config=detector, attribute_tags=4)
    names = [f"thing {number}" for number in range(12)]
    with pytest.raises(ValueError, match="which names 12 such classes, of other names: take its number and names"):
        tiny_captioning_config(vision_config=detector, object_tag_names=names)


# -- mistakes --------------------------------------------------------------------------------------------------------


@every_model
@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"object_probs": None}, "the regions have no object_probs: extract them with `updown extract --soft-labels`"),
        (
            {"attribute_probs": None},
            "names of each region's attributes .config.attribute_tags., but .* no attribute_pr",
        ),
        ({"object_probs": torch.ones(3, REGIONS, 9)}, "object_probs are of 8 classes and the background, but .* is 4"),
        ({"object_probs": torch.full((3, REGIONS, 5), torch.nan)}, "object_probs of some region hold NaN or infinity"),
    ],
)
def test_probabilities_that_cannot_be_read(name: str, changes: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        scores(model_of(name), images() | changes)


def test_a_grid_gives_no_tags() -> None:
    """Cells have no names, so a model that reads names is told what to do where it gets them."""
    model = tiny_captioner(**(ALONE | NAMED | {"region_feature_size": 96}))
    cells = UpDownGrid(tiny_grid_config()).eval()(tiny_image_pixels(0))
    with pytest.raises(ValueError, match="no object_probs"):
        model.generate(**cells, max_new_tokens=3)
