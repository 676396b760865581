"""Image against text: similarities and losses by hand, ITM's pairs as they were drawn, what can be searched by, and
transformers' own zero-shot pipeline on it."""

import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForZeroShotImageClassification, AutoProcessor, pipeline

from modeling_updown import UpDownFusionConfig, UpDownFusionForImageTextRetrieval, UpDownFusionModel
from modeling_updown.modeling_retrieval import hard_negatives, random_negatives

from ..tiny import (
    CAPTIONS,
    save_tiny_retrieval,
    tiny_encoder_config,
    tiny_fusion_config,
    tiny_fusion_processor,
    tiny_image,
    tiny_pretraining,
    tiny_retrieval,
)
from .test_fusion import texts, uneven
from .vqa_twin import WIDTH, gradients_of, images, one_image

OWNERS = [0, 0, 1, 2, 2]  # of five texts


def retrieval(**changes: Any) -> UpDownFusionForImageTextRetrieval:
    """Fed with regions of width 10; projections that are not the identity."""
    fields: dict[str, Any] = {"vision_config": None, "region_feature_size": WIDTH}
    model, generator = tiny_retrieval(**(fields | changes)), torch.Generator().manual_seed(0)
    for name in ("image_projection", "text_projection"):
        if hasattr(model, name):
            torch.nn.init.normal_(getattr(model, name).weight, std=0.2, generator=generator)
    return model


def batch_of_five() -> dict[str, Any]:
    """Five texts of 4 to 7 words about images of 5, 3 and 1 regions."""
    return {"input_ids": texts(lengths=[7, 4, 6, 5, 7]), "image_index": torch.tensor(OWNERS), **uneven()}


def unit(vector: torch.Tensor) -> torch.Tensor:
    return vector / vector.square().sum().sqrt()


def log_softmax(scores: list[float]) -> list[float]:
    return [score - math.log(sum(math.exp(other) for other in scores)) for score in scores]


def slow_itc(similarity: torch.Tensor, owners: list[int], temperature: float) -> float:
    """Both ways, pair by pair; all texts of an image are its positives (`itc` of the objectives)."""
    scores = (similarity.double() / temperature).tolist()
    of_images = []
    for p, row in enumerate(scores):
        right = [n for n, owner in enumerate(owners) if owner == p]
        if right:
            of_images.append(-sum(log_softmax(row)[n] for n in right) / len(right))
    of_texts = [-log_softmax([row[n] for row in scores])[owner] for n, owner in enumerate(owners)]
    return (sum(of_images) / len(of_images) + sum(of_texts) / len(of_texts)) / 2


def right_and_wrong(model: Any, batch: dict[str, Any], seed: int) -> list[tuple[int, int, int]]:
    """Text, image and 1 or 0: every text with its image, every text with the wrong image drawn for it, every image with
    the wrong text drawn for it."""
    names = ("region_features", "region_boxes", "region_mask")
    regions, ids, owners = {name: batch[name] for name in names}, batch["input_ids"], batch["image_index"]
    torch.manual_seed(seed)
    if model.config.hard_negatives and model.config.weight("itc"):
        similarity = model.get_image_features(**regions) @ model.get_text_features(ids).T
        wrong_image, wrong_text = hard_negatives(similarity, owners, temperature=model.temperature)
    else:
        wrong_image, wrong_text = random_negatives(len(batch["region_mask"]), owners)
    kept = set(range(len(batch["region_mask"])))
    if model.config.match_share < 1:
        kept = set(torch.randperm(len(kept))[: round(model.config.match_share * len(kept))].tolist())
    pairs = [(n, owner, 1) for n, owner in enumerate(owners.tolist()) if owner in kept]
    pairs += [(n, wrong_image[n].item(), 0) for n, owner in enumerate(owners.tolist()) if owner in kept]
    pairs += [(text, chosen, 0) for chosen, text in enumerate(wrong_text.tolist()) if chosen in kept]
    assert all((owners[text] == chosen) == right for text, chosen, right in pairs)
    return pairs


def slow_itm(model: Any, batch: dict[str, Any], seed: int) -> float:
    """Pair by pair of `right_and_wrong`."""
    names = ("region_features", "region_boxes", "region_mask")
    regions, ids = {name: batch[name] for name in names}, batch["input_ids"]
    pairs, total = right_and_wrong(model, batch, seed), 0.0
    for text, chosen, right in pairs:
        log_odds = model.match(ids[text : text + 1], **one_image(regions, chosen)).item()
        total += math.log1p(math.exp(-log_odds if right else log_odds))
    return total / len(pairs)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return save_tiny_retrieval(tmp_path_factory.mktemp("retrieval"))


class TestSimilarity:
    @torch.no_grad()
    def test_equals_a_hand_computation(self):
        """The pass's vector, projected, of length 1; dot products over the temperature."""
        model, batch = retrieval(temperature=0.2), uneven()
        ids = batch_of_five()["input_ids"]
        output = model(ids, **batch)
        for p, count in enumerate([5, 3, 1]):
            image = unit(
                model.image_projection.weight @ model.fusion(**one_image(batch, p, count=count)).pooler_output[0]
            )
            torch.testing.assert_close(output.image_embeds[p], image, atol=1e-5, rtol=1e-5)
            for n, length in enumerate([7, 4, 6, 5, 7]):
                text = unit(model.text_projection.weight @ model.fusion(ids[n : n + 1, :length]).pooler_output[0])
                torch.testing.assert_close(output.text_embeds[n], text, atol=1e-5, rtol=1e-5)
                expected = sum(a * b for a, b in zip(image.tolist(), text.tolist(), strict=True)) / 0.2
                assert output.logits_per_image[p, n].item() == pytest.approx(expected, abs=1e-4)
        assert torch.equal(output.logits_per_text, output.logits_per_image.T)
        assert torch.equal(output.logits, output.logits_per_image)
        assert output.loss is None and output.losses is None and output.attentions is None
        torch.testing.assert_close(model.get_image_features(**batch), output.image_embeds)
        torch.testing.assert_close(model.get_text_features(ids), output.text_embeds)
        torch.testing.assert_close(model.get_text_features(ids, ids != 0), output.text_embeds)
        torch.testing.assert_close(output.image_embeds.norm(dim=1), torch.ones(3))
        torch.testing.assert_close(model(ids, **batch, return_dict=False)[0], output.logits)

    @torch.no_grad()
    def test_new_projections_keep_the_encoders_own_space(self):
        """With as many dimensions as the encoder they are the identity."""
        model = tiny_retrieval(vision_config=None, region_feature_size=WIDTH, projection_size=32, pooling="mean")
        states = model.fusion(texts()).pooler_output
        torch.testing.assert_close(
            model.get_text_features(texts()), states / states.norm(dim=1, keepdim=True), atol=1e-6, rtol=1e-6
        )

    @torch.no_grad()
    def test_nan_in_a_padded_region_stays_there(self):
        model, batch = retrieval(), uneven()
        gaps = ~batch["region_mask"][..., None]
        dirty = batch | {name: batch[name].masked_fill(gaps, float("nan")) for name in batch if name != "region_mask"}
        torch.testing.assert_close(model.get_image_features(**dirty), model.get_image_features(**batch), rtol=0, atol=0)

    def test_temperature_between_its_bounds(self):
        """Outside of them it counts as the bound, and its gradient is still there to lead it back."""
        model, batch = retrieval(), batch_of_five()
        similarity = model(**batch).logits * model.temperature
        for value, bounded in ((0.9, 0.5), (0.0001, 0.001), (0.3, 0.3)):
            with torch.no_grad():
                model.temperature.fill_(value)
            assert model.bounded_temperature().item() == pytest.approx(bounded)
            output = model(**batch, return_loss=True)
            torch.testing.assert_close(output.logits, similarity / bounded, atol=1e-3, rtol=1e-4)
            gradients = gradients_of(model, output.loss)
            assert output.loss.isfinite() and all(gradient.isfinite().all() for gradient in gradients.values())
            assert gradients["temperature"].item() != 0


class TestLosses:
    @pytest.mark.parametrize("hard", [True, False])
    def test_weighted_sum_of_objectives(self, hard):
        """2 ITC + 0.5 ITM, each computed pair by pair; labels say the same as image_index."""
        model = retrieval(objectives={"itc": 2, "itm": 0.5}, hard_negatives=hard, temperature=0.3)
        batch = batch_of_five()
        torch.manual_seed(5)
        output = model(**batch, return_loss=True)
        with torch.no_grad():
            itc = slow_itc(output.image_embeds @ output.text_embeds.T, OWNERS, 0.3)
            itm = slow_itm(model, batch, seed=5)
        assert output.losses["itc"].item() == pytest.approx(itc, abs=1e-5)
        assert output.losses["itm"].item() == pytest.approx(itm, abs=1e-5)
        assert output.loss.item() == pytest.approx(2 * itc + 0.5 * itm, abs=1e-5)
        torch.manual_seed(5)
        labelled = model(labels=batch.pop("image_index"), **batch)
        torch.testing.assert_close(labelled.loss, output.loss)

    @pytest.mark.parametrize(("hard", "seed"), [(True, 1), (True, 2), (False, 1), (False, 3)])
    def test_a_share_of_the_images_is_matched(self, hard, seed):
        """ITC is as it was; ITM is over two of three images and their texts, with wrong partners of the whole batch."""
        fields = {"hard_negatives": hard, "temperature": 0.3}
        model, batch = retrieval(match_share=0.6, **fields), batch_of_five()
        torch.manual_seed(seed)
        losses = model(**batch, return_loss=True).losses
        with torch.no_grad():
            assert losses["itm"].item() == pytest.approx(slow_itm(model, batch, seed=seed), abs=1e-5)
        whole = retrieval(**fields)(**batch, return_loss=True).losses
        torch.testing.assert_close(losses["itc"], whole["itc"])
        assert losses["itm"].item() != pytest.approx(whole["itm"].item(), abs=1e-4)

    @pytest.mark.parametrize("share", [0, -0.5, 1.5, float("nan")])
    def test_no_such_share(self, share):
        with pytest.raises(ValueError, match="match_share=.* must be above 0 and at most 1"):
            retrieval(match_share=share)

    def test_texts_next_to_each_other_without_an_index(self):
        model, batch = retrieval(), batch_of_five()
        ids, index = batch.pop("input_ids"), torch.tensor([0, 0, 1, 1, 2, 2])
        del batch["image_index"]
        ids = torch.cat([ids, ids[:1]])
        losses = []
        for given in ({}, {"image_index": index}, {"labels": index}):
            torch.manual_seed(1)
            losses.append(model(ids, **batch, **given, return_loss=True).loss)
        torch.testing.assert_close(losses[0], losses[1])
        torch.testing.assert_close(losses[0], losses[2])

    def test_one_image_alone(self):
        """There is no wrong pair: ITC is ln of the number of texts, over which its target is spread; all is finite."""
        model, batch = retrieval(), images(1)
        for count in (1, 3):
            output = model(texts(lengths=[4] * count), **batch, return_loss=True)
            gradients = gradients_of(model, output.loss)
            assert output.loss.isfinite() and all(gradient.isfinite().all() for gradient in gradients.values())
        assert model(texts(lengths=[4]), **batch, return_loss=True).losses["itc"].item() == pytest.approx(0, abs=1e-6)

    def test_hard_negatives_are_the_similar_ones(self):
        """At the lowest temperature the most similar wrong image and text are drawn."""
        model, batch = retrieval(temperature=0.001), batch_of_five()
        similarity = (model(**batch).logits * 0.001).detach()
        owners = batch["image_index"]
        wrong = similarity.masked_fill(torch.arange(3)[:, None] == owners, -9)
        wrong_image, wrong_text = hard_negatives(similarity, owners, temperature=model.temperature.detach())
        assert torch.equal(wrong_image, wrong.argmax(dim=0)) and torch.equal(wrong_text, wrong.argmax(dim=1))

    def test_keys_of_a_momentum_copy(self):
        """With the model's own embeddings as keys and no queue it is the plain loss."""
        model, batch = retrieval(objectives={"itc": 1}), batch_of_five()
        output = model(**batch, return_loss=True)
        ids, owners = torch.tensor([7, 8, 9]), torch.tensor([7, 7, 8, 9, 9])
        keys = {
            "image_keys": output.image_embeds,
            "text_keys": output.text_embeds,
            "image_ids": ids,
            "image_key_ids": ids,
            "text_ids": owners,
            "text_key_ids": owners,
        }
        torch.testing.assert_close(model(**batch, return_loss=True, keys=keys).loss, output.loss)

    def test_overfits(self):
        """A few steps on four images with a caption each: both losses fall, and everything is found."""
        model, batch = retrieval(text_config=tiny_encoder_config(hidden_dropout_prob=0.0)), images(4)
        ids = texts(lengths=[6, 5, 4, 6])
        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
        model.train()
        first = model(ids, **batch, return_loss=True).losses
        for _ in range(80):
            output = model(ids, **batch, return_loss=True)
            optimizer.zero_grad()
            output.loss.backward()
            optimizer.step()
        model.eval()
        last = model(ids, **batch, return_loss=True)
        assert last.losses["itc"].item() < 0.1 * first["itc"].item()
        assert last.losses["itm"].item() < 0.3 * first["itm"].item()
        assert (
            last.logits_per_image.argmax(dim=1).tolist() == last.logits_per_text.argmax(dim=1).tolist() == [0, 1, 2, 3]
        )
        matched = [[model.match(ids[n : n + 1], **one_image(batch, p)).item() for n in range(4)] for p in range(4)]
        assert torch.tensor(matched).argmax(dim=1).tolist() == [0, 1, 2, 3]


class TestMatch:
    @torch.no_grad()
    def test_log_odds_of_each_pair(self):
        """w . z + b of the joint [CLS], the same for many pairs together as alone."""
        model, batch = retrieval(), batch_of_five()
        found = model.match(**batch)
        names = ("region_features", "region_boxes", "region_mask")
        for n, owner in enumerate(OWNERS):
            one = one_image({name: batch[name] for name in names}, owner)
            joint = model.fusion(batch["input_ids"][n : n + 1], **one).pooler_output[0]
            expected = (model.match_head.weight[0] @ joint + model.match_head.bias[0]).item()
            assert found[n].item() == pytest.approx(expected, abs=1e-5)
        assert found.shape == (5,) and found.std() > 1e-3

    @torch.no_grad()
    def test_by_product(self):
        """Of ITC's two vectors, words' and regions' mean, each read with the other there: at first five times their
        cosine, then w . (t * v) E + b."""
        model, batch = retrieval(match_by="product"), batch_of_five()
        for weight in (None, torch.randn(1, model.config.projection_size)):
            if weight is not None:
                model.match_head.weight.copy_(weight)
                model.match_head.bias.fill_(0.3)
            found = model.match(**batch)
            for n, owner in enumerate(OWNERS):
                names = ("region_features", "region_boxes", "region_mask")
                one = one_image({name: batch[name] for name in names}, owner)
                joint = model.fusion(batch["input_ids"][n : n + 1], **one)
                there = batch["input_ids"][n] != model.config.pad_token_id
                words, seen = joint.word_states[0][there].mean(dim=0), one["region_mask"][0]
                regions = joint.region_states[0][seen].mean(dim=0)
                text, image = model.text_projection.weight @ words, model.image_projection.weight @ regions
                both = (text / text.norm()) * (image / image.norm())
                expected = 5 * both.sum() if weight is None else (weight[0] * both).sum() * len(both) + 0.3
                assert found[n].item() == pytest.approx(expected.item(), abs=1e-5)
            assert found.std() > 1e-4

    def test_by_product_learns_through_both_passes(self):
        model, batch = retrieval(match_by="product"), batch_of_five()
        loss = model(**batch, return_loss=True).losses["itm"]
        loss.backward()
        for part in (model.match_head, model.text_projection, model.image_projection, model.fusion.region_embedding):
            assert all(weight.grad.abs().sum() > 0 for weight in part.parameters())

    def test_by_product_wants_what_itc_compares(self):
        with pytest.raises(ValueError, match="add itc to objectives, or use 'cls'"):
            retrieval(match_by="product", objectives={"itm": 1})
        assert retrieval(match_by="product", objectives={"itc": 1}).config.match_by == "product"

    @torch.no_grad()
    def test_attention_of_each_word(self):
        """Of every text with its own image: sums to 1, exactly 0 on padding."""
        model, batch = retrieval(), batch_of_five()
        output = model(**batch, output_attentions=True)
        assert [layer.shape for layer in output.attentions] == [(5, 7, 5)] * 2
        for layer in output.attentions:
            torch.testing.assert_close(layer.sum(dim=-1), torch.ones(5, 7))
            padding = ~batch["region_mask"][batch["image_index"]]
            assert layer[padding[:, None].expand_as(layer)].eq(0).all()
        assert torch.equal(output.region_boxes, batch["region_boxes"])
        torch.testing.assert_close(output.logits, model(**batch).logits, atol=1e-5, rtol=1e-5)


class TestMistakes:
    def test_heads_are_named_that_are_not_there(self):
        ids, batch = texts(), images()
        searching = retrieval(objectives={"itc": 1})
        assert not hasattr(searching, "match_head") and set(searching(ids, **batch, return_loss=True).losses) == {"itc"}
        with pytest.raises(ValueError, match="scores no pairs: .* leaves out 'itm'"):
            searching.match(ids, **batch)
        matching = retrieval(objectives={"itm": 1})
        assert not hasattr(matching, "temperature") and matching.match(ids, **batch).isfinite().all()
        for call in (matching, matching.get_text_features):
            with pytest.raises(ValueError, match="compares no embeddings: .* leaves out 'itc'"):
                call(ids, **(batch if call is matching else {}))

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"input_ids": None}, "no text to compare with"),
            ({"region_features": None}, "Give either pixel_values or region_features"),
            ({"region_features": torch.zeros(3, 5, 11)}, "11.*expects.*10"),
            ({"region_boxes": None}, "give region_boxes as well"),
            ({"labels": torch.tensor([0, 1, 5])}, "one of 3 images"),
            ({"input_ids": texts(lengths=[3, 3]), "return_loss": True}, "2 texts for 3 images"),
        ],
    )
    def test_inputs(self, changes, message):
        with pytest.raises(ValueError, match=message):
            retrieval()(**({"input_ids": texts()} | images() | changes))


class TestLife:
    @torch.no_grad()
    def test_save_and_load(self, tmp_path):
        """Projections, temperature and all else are what they were, not what a new model has."""
        model, batch = retrieval(), batch_of_five()
        model.temperature.fill_(0.123)
        model.save_pretrained(tmp_path)
        loaded = AutoModelForZeroShotImageClassification.from_pretrained(tmp_path)
        assert type(loaded) is UpDownFusionForImageTextRetrieval and not loaded.training
        for name, value in model.state_dict().items():
            assert torch.equal(value, loaded.state_dict()[name]), name
        torch.testing.assert_close(loaded(**batch).logits, model(**batch).logits, rtol=0, atol=0)
        bare = UpDownFusionModel.from_pretrained(tmp_path)  # the model under the heads
        assert torch.equal(bare.text_model.embeddings.word_embeddings.weight, model.get_input_embeddings().weight)

    @torch.no_grad()
    def test_starts_from_pretraining(self, tmp_path):
        """All that both have is loaded; what the objectives leave out is new, and as a new model has it."""
        pretrained = tiny_pretraining(vision_config=None, region_feature_size=WIDTH)
        pretrained.temperature.fill_(0.2)
        pretrained.image_projection.weight.normal_()
        pretrained.save_pretrained(tmp_path)
        batch = batch_of_five()
        model = UpDownFusionForImageTextRetrieval.from_pretrained(tmp_path)
        torch.testing.assert_close(model(**batch).logits, pretrained(**batch).image_embeds @ pretrained(
            **batch
        ).text_embeds.T / 0.2)  # fmt: skip
        torch.testing.assert_close(model.match(**batch), pretrained.match(**batch))
        tiny_pretraining(vision_config=None, region_feature_size=WIDTH, objectives={"mlm": 1}).save_pretrained(tmp_path)
        fresh = UpDownFusionForImageTextRetrieval.from_pretrained(tmp_path, objectives={"itc": 1, "itm": 1})
        assert fresh.temperature.item() == pytest.approx(0.07)
        assert torch.equal(fresh.text_projection.weight, torch.eye(16, 32))
        assert fresh.match_head.weight.isfinite().all() and fresh.match_head.bias.eq(0).all()

    @torch.no_grad()
    def test_from_text_pretrained(self, tmp_path):
        bare = UpDownFusionModel(tiny_fusion_config())
        bare.text_model.save_pretrained(tmp_path)
        model = UpDownFusionForImageTextRetrieval.from_text_pretrained(str(tmp_path), region_feature_size=WIDTH).eval()
        torch.testing.assert_close(model.fusion(texts()).pooler_output, bare.eval()(texts()).pooler_output)

    @torch.no_grad()
    def test_started_from_the_encoder_of_a_fusion_model(self, tmp_path):
        """What reads regions is new, and of another width. A folder without some of the encoder is refused."""
        heads = retrieval()
        heads.save_pretrained(tmp_path)
        started = UpDownFusionModel.from_text_pretrained(str(tmp_path), region_feature_size=WIDTH + 1).eval()
        torch.testing.assert_close(started(texts()).word_states, heads.fusion(texts()).word_states)
        assert started.config.region_feature_size == WIDTH + 1
        weights = load_file(tmp_path / "model.safetensors")
        lost = next(name for name in weights if name.startswith("fusion.text_model.") and "weight" in name)
        save_file({k: v for k, v in weights.items() if k != lost}, tmp_path / "model.safetensors", {"format": "pt"})
        with pytest.raises(ValueError, match="lacks 1 weight"):
            UpDownFusionModel.from_text_pretrained(str(tmp_path), region_feature_size=WIDTH + 1)

    def test_initialisation(self):
        config = UpDownFusionConfig(text_config=tiny_encoder_config(), region_feature_size=WIDTH, temperature=0.1)
        model = UpDownFusionForImageTextRetrieval(config)
        assert model.temperature.item() == pytest.approx(0.1)
        assert torch.equal(model.image_projection.weight, torch.eye(256, 32))
        assert model.match_head.weight.std().item() == pytest.approx(0.02, rel=0.4)

    def test_bfloat16(self):
        model, batch = retrieval(temperature=0.3), batch_of_five()
        full = model(**batch, return_loss=True)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            torch.manual_seed(0)
            half = model(**batch, return_loss=True)
        assert half.loss.dtype == torch.float32
        assert half.losses["itc"].item() == pytest.approx(full.losses["itc"].item(), rel=0.05)
        assert all(gradient.isfinite().all() for gradient in gradients_of(model, half.loss).values())
        model.bfloat16()
        assert model(**batch, return_loss=True).loss.isfinite()


class TestPipeline:
    @torch.no_grad()
    def test_zero_shot_image_classification(self, folder, caplog, monkeypatch):
        """transformers' own pipeline: the softmax of what logits_per_image say, sorted; no word of complaint."""
        monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
        classify = pipeline("zero-shot-image-classification", model=str(folder), device="cpu")
        assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
        assert type(classify.model) is UpDownFusionForImageTextRetrieval
        labels, picture = ["a dog", "two men", "the ocean"], tiny_image(1)
        inputs = tiny_fusion_processor()(
            images=picture, text=[f"This is a photo of {label}." for label in labels], padding=True, return_tensors="pt"
        )
        expected = classify.model(**inputs).logits_per_image[0].softmax(dim=0)
        found = classify(picture, candidate_labels=labels)
        assert [answer["label"] for answer in found] == [labels[row] for row in expected.argsort(descending=True)]
        for answer in found:
            assert answer["score"] == pytest.approx(expected[labels.index(answer["label"])].item(), abs=1e-6)
        many = classify([picture, tiny_image(2)], candidate_labels=labels)
        assert [answer["label"] for answer in many[0]] == [answer["label"] for answer in found]
        assert many[0][0]["score"] != many[1][0]["score"]

    @torch.no_grad()
    def test_processor_and_model_of_a_folder(self, folder):
        model, processor = (
            auto.from_pretrained(folder) for auto in (AutoModelForZeroShotImageClassification, AutoProcessor)
        )
        inputs = processor(images=[tiny_image(0), tiny_image(1)], text=CAPTIONS, padding=True, return_tensors="pt")
        output = model(**inputs)
        assert output.logits_per_image.shape == (2, 4)
        regions = model.region_source(inputs["pixel_values"])
        given = {name: regions[name] for name in ("region_features", "region_boxes", "region_mask")}
        torch.testing.assert_close(model.get_image_features(**given), output.image_embeds)
        matched = model.match(inputs["input_ids"], inputs["attention_mask"], inputs["pixel_values"])
        torch.testing.assert_close(
            matched, model.match(inputs["input_ids"], inputs["attention_mask"], **given), atol=1e-5, rtol=1e-5
        )


# -- negatives -------------------------------------------------------------------------------------------------------

TEXT_OWNERS = [2, 0, 0, 3, 2, 0]  # image 1 has no text, image 0 has three


def shares(draw: Callable[[torch.Generator], tuple[torch.Tensor, torch.Tensor]], *, times: int = 4000) -> list[Any]:
    """How often each image is drawn for each text (N, P), and each text for each image (P, N)."""
    generator = torch.Generator().manual_seed(0)
    drawn = [draw(generator) for _ in range(times)]
    images, texts = (torch.stack(side) for side in zip(*drawn, strict=True))  # (times, N), (times, P)
    return [
        torch.stack([(images == p).double().mean(dim=0) for p in range(texts.shape[1])], dim=1),
        torch.stack([(texts == n).double().mean(dim=0) for n in range(images.shape[1])], dim=1),
    ]


def test_hard_negatives_follow_the_softmax_with_matches_at_zero() -> None:
    owners, similarity = (
        torch.tensor(TEXT_OWNERS),
        torch.randn(4, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64).tanh(),
    )
    expected = [(similarity.T / 0.5).softmax(dim=1), (similarity / 0.5).softmax(dim=1)]
    matches = torch.arange(4)[:, None] == owners
    for known, matched in zip(expected, (matches.T, matches), strict=True):
        known[matched] = 0
        known /= known.sum(dim=1, keepdim=True)
    found = shares(lambda chance: hard_negatives(similarity, owners, temperature=0.5, generator=chance))
    for known, share, matched in zip(expected, found, (matches.T, matches), strict=True):
        assert share[matched].sum() == 0
        torch.testing.assert_close(share, known, atol=0.03, rtol=0)  # 4 standard errors of 4,000 draws


def test_random_negatives_are_even() -> None:
    images, texts = shares(lambda chance: random_negatives(4, torch.tensor(TEXT_OWNERS), generator=chance))
    for share, matched in ((images, images == 0), (texts, texts == 0)):
        even = (~matched).double() / (~matched).sum(dim=1, keepdim=True)
        torch.testing.assert_close(share, even, atol=0.03, rtol=0)
    matches = torch.arange(4)[:, None] == torch.tensor(TEXT_OWNERS)
    assert torch.equal(images == 0, matches.T) and torch.equal(texts == 0, matches)


@pytest.mark.parametrize("wrong", [-1.0, -1e30, -math.inf, math.nan])
def test_negatives_survive_similarities_that_underflow(wrong: float) -> None:
    """The right pairs alone have any probability in float32, and are still never drawn."""
    similarity = torch.full((3, 3), wrong).fill_diagonal_(1.0)
    for dtype in (torch.float32, torch.bfloat16):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            drawn = hard_negatives(similarity.to(dtype), torch.arange(3), temperature=torch.tensor(0.001))
        for chosen in drawn:
            assert chosen.dtype == torch.int64 and (chosen >= 0).all() and (chosen != torch.arange(3)).all()


def test_there_is_no_negative_in_a_batch_of_one_image() -> None:
    similarity = torch.ones(1, 3, requires_grad=True)
    images, texts = hard_negatives(similarity, torch.zeros(3, dtype=torch.long), temperature=0.07)
    assert images.tolist() == [-1, -1, -1] and texts.tolist() == [-1]
    images, texts = random_negatives(2, torch.tensor([0, 0]))
    assert images.tolist() == [1, 1] and texts[0] == -1 and texts[1] in (0, 1)
    images, texts = random_negatives(2, torch.zeros(0, dtype=torch.long))
    assert images.tolist() == [] and texts.tolist() == [-1, -1]


def test_a_generator_fixes_the_draw() -> None:
    similarity, owners = torch.zeros(20, 20), torch.arange(20)
    first, again, other = (
        hard_negatives(similarity, owners, temperature=1.0, generator=torch.Generator().manual_seed(seed))[0]
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)
