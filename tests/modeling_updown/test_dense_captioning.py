"""Dense captioning: a batch is its members, all regions in one pass are regions one by one, beams find the best
sentence, sentences move boxes, pixels are their regions, a few steps learn, mistakes are named."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForMultimodalLM

from modeling_updown import UpDownCaptioningConfig, UpDownForDenseCaptioning
from modeling_updown.dense_captions_updown import read_words
from modeling_updown.losses_updown import caption_loss
from modeling_updown.regions_updown import Regions

from ..tiny import save_tiny_dense_captioner, tiny_dense_captioner, tiny_grid, tiny_image, tiny_processor

WIDTH, COUNTS = 10, [5, 3, 1]
LENGTHS, OWNERS, PLACES = [6, 2, 4, 3, 6], [0, 0, 1, 1, 2], [0, 3, 2, 0, 0]
ROWS = {"image_index": torch.tensor(OWNERS), "region_index": torch.tensor(PLACES)}
NAMES = ("region_features", "region_boxes", "region_mask")
VARIANTS = [
    {"dense_context": "none", "dense_box": "none"},
    {"dense_context": "early", "dense_box": "shared"},
    {"dense_context": "late", "dense_box": "twin", "dense_fusion": "concat"},
    {"dense_context": "attention", "dense_box": "twin"},
]


def describer(**changes: Any) -> UpDownForDenseCaptioning:
    """Fed with regions of width 10; biases are not those of a new model."""
    model = tiny_dense_captioner(**({"vision_config": None, "region_feature_size": WIDTH} | changes))
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("bias"):
                weight.normal_(std=0.3, generator=draw)
    return model


def batch() -> dict[str, torch.Tensor]:
    """Images of 5, 3 and 1 regions; what stands on padding is NaN."""
    draw = torch.Generator().manual_seed(1)
    mask = torch.arange(max(COUNTS)) < torch.tensor(COUNTS)[:, None]
    features = torch.randn(3, 5, WIDTH, generator=draw).masked_fill(~mask[..., None], float("nan"))
    corners = torch.rand(3, 5, 2, generator=draw) / 2
    boxes = torch.cat([corners, corners + 0.1 + torch.rand(3, 5, 2, generator=draw) * 0.4], dim=-1)
    return {"region_features": features, "region_boxes": boxes, "region_mask": mask}


def one_image(given: dict[str, torch.Tensor], image: int) -> dict[str, torch.Tensor]:
    return {name: values[image : image + 1, : COUNTS[image]] for name, values in given.items()}


def sentences(lengths: list[int]) -> torch.Tensor:
    """Rows of words, the start token first; what comes after a row's end is arbitrary."""
    words = torch.randint(4, 20, (len(lengths), max(lengths)), generator=torch.Generator().manual_seed(2))
    words[:, 0] = 1
    return words


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_a_batch_is_its_members(variant: dict[str, Any]) -> None:
    """Scores, sentences of three beams, their boxes and probabilities; images of 5, 3 and 1 regions."""
    model, given = describer(**variant, region_embedding_size=12, box_embedding=True), batch()
    options: dict[str, Any] = {"num_beams": 3, "nms_iou": 1.0}
    together = model.describe(**given, **options)
    assert together.image_index.tolist() == [0] * 5 + [1] * 3 + [2]
    for image in range(3):
        alone, mine = model.describe(**one_image(given, image), **options), together.image_index == image
        assert alone.region_index.tolist() == together.region_index[mine].tolist()
        length = alone.sequences.shape[1]
        words, own = (read_words(ids, 2) * ids for ids in (together.sequences[mine], alone.sequences))
        assert torch.equal(words[:, :length], own) and not words[:, length:].any()
        for name in ("boxes", "scores", "log_probs"):
            torch.testing.assert_close(together[name][mine], alone[name], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_all_regions_in_one_pass_are_regions_one_by_one(variant: dict[str, Any]) -> None:
    model, given, words = describer(**variant), batch(), sentences(LENGTHS)
    mask = torch.arange(words.shape[1]) < torch.tensor(LENGTHS)[:, None]
    labels = words.masked_fill(~mask, -100)
    together = model(words, attention_mask=mask, labels=labels, **ROWS, **given)
    for row, (image, place, length) in enumerate(zip(OWNERS, PLACES, LENGTHS, strict=True)):
        own = one_image(given, image)
        alone = model(words[row : row + 1, :length], region_index=torch.tensor([place]), use_cache=False, **own)
        torch.testing.assert_close(together.logits[row, :length], alone.logits[0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(together.pred_boxes[row], alone.pred_boxes[0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(together.region_logits[image, : COUNTS[image]], alone.region_logits[0])
    expected = caption_loss(together.logits[:, :-1].flatten(0, 1).log_softmax(-1), labels[:, 1:].flatten())
    assert together.losses["words"].item() == pytest.approx(expected.item(), rel=1e-5)
    assert together.region_logits[~given["region_mask"]].max() < -1e30
    assert set(together.losses) == {"words"} and together.loss == together.losses["words"]


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_words_step_by_step_are_words_at_once(variant: dict[str, Any]) -> None:
    model, given, words = describer(**variant), batch(), sentences([6] * 5)
    whole = model(words, use_cache=True, **ROWS, **given)
    cache = model(words[:, :2], **ROWS, **given).cache
    for place in range(2, 6):
        step = model(words[:, place : place + 1], cache=cache)
        assert step.pred_boxes is None and step.region_logits is None
        torch.testing.assert_close(step.logits[:, 0], whole.logits[:, place], atol=1e-5, rtol=1e-5)
    assert cache.get_seq_length() == 6


@pytest.mark.parametrize("variant", VARIANTS[2:])
@torch.no_grad()
def test_beams_find_the_best_sentence_of_each_region(variant: dict[str, Any]) -> None:
    """As many beams as there are sentences, against every sentence of at most three words."""
    model, given = describer(**variant, vocab_size=6), one_image(batch(), 1)
    found = model.generate(**given, num_beams=25, max_new_tokens=3, length_penalty=0.0)
    every = [[1, *words] for words in itertools.product(range(6), repeat=3)]
    ended = {tuple(words[: words.index(2) + 1] if 2 in words else words) for words in every}
    for place in range(3):
        scores = {}
        for length in (2, 3, 4):
            same = [words for words in ended if len(words) == length]
            ids, index = torch.tensor(same), torch.full((len(same),), place)
            output = model(ids[:, :-1], shift_labels=ids[:, 1:], region_index=index, **given)
            scores |= dict(zip(same, output.label_log_probs.sum(dim=1).tolist(), strict=True))
        best = max(scores, key=scores.__getitem__)
        assert len(scores) == 1 + 5 + 5 * 5 * 6 and found[place].tolist()[: len(best)] == list(best)


@torch.no_grad()
def test_generate_writes_of_the_regions_that_are_named() -> None:
    model, given = describer(), batch()
    everything = model.generate(**given)
    assert len(everything) == 9
    some = model.generate(**given, image_index=torch.tensor([2, 1]), region_index=torch.tensor([0, 2]))
    assert torch.equal(some, everything[[8, 7]][:, : some.shape[1]])
    assert torch.equal(model.generate(torch.tensor([[1]]), **given), everything)
    assert model.generate(**given, num_beams=2, num_return_sequences=2).shape[0] == 18
    prompted = model.generate(torch.tensor([[1, 7]]), **given)
    assert (prompted[:, 1] == 7).all()
    with pytest.raises(ValueError, match="one sentence a region is ranked"):
        model.describe(**given, num_beams=2, num_return_sequences=2)


@torch.no_grad()
def test_what_is_said_moves_the_box() -> None:
    given, words = one_image(batch(), 1), sentences([5, 5])
    rows = {"region_index": torch.tensor([1, 1])}
    for kind in ("shared", "twin"):
        boxes = describer(dense_box=kind)(words, **rows, **given).pred_boxes
        assert (boxes[0] - boxes[1]).abs().max() > 1e-3 and boxes.min() >= 0 and boxes.max() <= 1
    boxes = describer(dense_box="none")(words, **rows, **given).pred_boxes
    assert torch.equal(boxes, given["region_boxes"][0, [1, 1]])


@torch.no_grad()
def test_context_reaches_the_sentence() -> None:
    """The same region among other regions is described otherwise, but for a model without context."""
    given, words = one_image(batch(), 0), sentences([5])
    other = given["region_features"].clone()
    other[0, 1:] = -other[0, 1:]
    for kind in ("none", "early", "late", "attention"):
        model = describer(dense_context=kind)
        both = [
            model(words, region_index=torch.tensor([0]), **{**given, "region_features": features}).logits
            for features in (given["region_features"], other)
        ]
        assert torch.equal(*both) == (kind == "none")


@torch.no_grad()
def test_attention_is_over_the_regions_of_the_own_image() -> None:
    given, words = batch(), sentences([4] * 5)
    (weights,) = describer(dense_context="attention")(words, output_attentions=True, **ROWS, **given).attentions
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(5, 4))
    assert not weights[~given["region_mask"][OWNERS][:, None].expand_as(weights)].any()
    assert describer()(words, output_attentions=True, **ROWS, **given).attentions is None


@torch.no_grad()
def test_sentences_are_ranked_as_the_config_says() -> None:
    given = one_image(batch(), 0)
    found = {rank: describer(dense_rank=rank).describe(**given, nms_iou=1.0) for rank in ("region", "words", "both")}
    in_order = {rank: one.scores[one.region_index.argsort()] for rank, one in found.items()}
    log_probs = found["words"].log_probs[found["words"].region_index.argsort()]
    torch.testing.assert_close(in_order["words"], log_probs.exp())
    torch.testing.assert_close(in_order["both"], in_order["region"] * in_order["words"])
    for one in found.values():
        assert one.scores.tolist() == sorted(one.scores.tolist(), reverse=True)
    model, scores = describer(dense_score_weight=0), torch.tensor([[0.1, 0.9, 0.5, 0.3, 0.7]])
    assert model.region_score is None
    assert model.describe(**given, region_scores=scores, nms_iou=1.0).region_index.tolist() == [1, 4, 2, 3, 0]
    with pytest.raises(ValueError, match="neither this model .* nor its regions have: give region_scores"):
        model.describe(**given)


@torch.no_grad()
def test_probabilities_are_those_of_the_sentences() -> None:
    """Of the words and the end, whatever beams they were found with."""
    model, given = describer(), one_image(batch(), 1)
    found = model.describe(**given, nms_iou=1.0, num_beams=2)
    for words, place, likely in zip(found.sequences, found.region_index, found.log_probs, strict=True):
        ids = words.tolist()
        ids = ids[: ids.index(2) + 1] if 2 in ids else ids
        logits = model(torch.tensor([ids[:-1]]), region_index=place[None], use_cache=False, **given).logits[0]
        each = logits.log_softmax(-1)[torch.arange(len(ids) - 1), ids[1:]]
        assert likely.item() == pytest.approx(each.mean().item(), rel=1e-4)


def test_a_few_steps_learn_words_boxes_and_scores() -> None:
    torch.manual_seed(0)
    model, given = describer(hidden_size=48, dense_box_weight=0.2).train(), batch()
    words = sentences([5] * 5)
    wanted = (given["region_boxes"][OWNERS, PLACES] + torch.tensor([0.03, 0.0, 0.06, -0.04])).clamp(0, 1)
    scores = torch.full((3, 5), -100.0).masked_fill(given["region_mask"], 0.0)
    scores[OWNERS, PLACES] = 1.0
    labels = {"labels": words, "box_labels": wanted, "score_labels": scores}
    optimizer, losses = torch.optim.Adam(model.parameters(), lr=1e-2), []
    for _ in range(60):
        output = model(words, **labels, **ROWS, **given)
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
        losses.append({name: loss.item() for name, loss in output.losses.items()})
    assert all(weight.grad is not None and weight.grad.any() for weight in model.parameters())
    total = losses[0]["words"] + 0.2 * losses[0]["boxes"] + 0.1 * losses[0]["scores"]
    first = describer(hidden_size=48, dense_box_weight=0.2)(words, **labels, **ROWS, **given)
    assert first.loss.item() == pytest.approx(total, rel=1e-4)
    assert losses[-1]["words"] < 0.3 and losses[-1]["boxes"] < 0.1 * losses[0]["boxes"]
    assert losses[-1]["scores"] < 0.8 * losses[0]["scores"]
    with torch.no_grad():
        boxes = model.eval()(words, **ROWS, **given).pred_boxes
    assert (boxes - wanted).abs().mean() < (given["region_boxes"][OWNERS, PLACES] - wanted).abs().mean() / 2


@torch.no_grad()
def test_pixels_are_their_regions(tmp_path: Path) -> None:
    folder = save_tiny_dense_captioner(tmp_path)
    model = AutoModelForMultimodalLM.from_pretrained(folder).eval()
    assert type(model) is UpDownForDenseCaptioning
    pixels = tiny_processor()(images=[tiny_image(0), tiny_image(1)], return_tensors="pt")["pixel_values"]
    regions = tiny_grid()
    regions.load_state_dict(model.region_source.state_dict())
    made = regions(pixels)
    given = {name: made[name] for name in NAMES if name in made}
    by_pixels, by_regions = model.describe(pixels, nms_iou=1.0), model.describe(**given, nms_iou=1.0)
    for name, values in by_pixels.items():
        torch.testing.assert_close(values, by_regions[name])
    assert torch.equal(model.generate(pixels), model.generate(**made))
    same = tiny_dense_captioner().describe(pixels, nms_iou=1.0)
    torch.testing.assert_close(same.boxes, by_pixels.boxes)


def test_mistakes_are_named() -> None:
    model, given, words = describer(), batch(), sentences(LENGTHS)
    for changes, told in (
        ({"region_boxes": None}, "give region_boxes as well"),
        ({"image_index": None}, "region_index names 5 regions for 3 images"),
        ({"input_ids": words[:4]}, "4 rows of words for 5 regions: give the same number of sentences"),
        ({"box_labels": torch.zeros(4, 4)}, r"box_labels have shape \(4, 4\), but must be \(5, 4\)"),
        ({"score_labels": torch.zeros(5)}, r"score_labels have shape \(5,\), but must be \(3, 5\)"),
        ({"region_features": torch.zeros(3, 5, 4)}, "were they extracted with another detector"),
        ({"input_ids": None}, "Give input_ids"),
    ):
        with pytest.raises(ValueError, match=told):
            model(**{"input_ids": words, **ROWS, **given, **changes})
    with pytest.raises(ValueError, match="nms_iou is 0"):
        model.describe(**given, nms_iou=0)
    with pytest.raises(ValueError, match="generate got images twice"):
        model.generate(torch.zeros(1, 3, 64, 64), **given)
    with pytest.raises(ValueError, match="dense_nms_iou=0 must be above 0"):
        UpDownCaptioningConfig(dense_nms_iou=0)
    with pytest.raises(ValueError, match="dense_score_weight=-1 0 or more"):
        UpDownCaptioningConfig(dense_score_weight=-1)


@torch.no_grad()
def test_regions_of_a_mask_are_those_of_no_mask() -> None:
    model, given = describer(), one_image(batch(), 1)
    whole = model.describe_all(Regions(**given))
    without = model.describe(None, given["region_features"], given["region_boxes"], nms_iou=1.0)
    torch.testing.assert_close(whole.boxes[without.region_index], without.boxes)
