"""Statements about images: the heads by hand, images told apart, a batch is its members, losses, and mistakes named."""

import math
from typing import Any

import pytest
import torch
from torch.nn import functional as F
from transformers import AutoModelForNextSentencePrediction, AutoModelForSequenceClassification

from modeling_updown import UpDownFusionForImagePairs, UpDownFusionForVisualEntailment

from ..tiny import save_tiny_entailment, save_tiny_pairs, tiny_entailment, tiny_fusion, tiny_pairs
from .test_fusion import normed, product, texts, uneven
from .vqa_twin import WIDTH

REGIONS: dict[str, Any] = {"vision_config": None, "region_feature_size": WIDTH}
FORMS = ("pair", "triplet", "pair_biattention")
IMAGES = ("region_features", "region_boxes", "region_mask")


def entailer(**changes: Any) -> UpDownFusionForVisualEntailment:
    return tiny_entailment(**(REGIONS | changes))


def pairs_model(form: str = "pair", **changes: Any) -> UpDownFusionForImagePairs:
    return tiny_pairs(**(REGIONS | {"image_pairs": form} | changes))


def statements() -> dict[str, Any]:
    """Three statements of 4 to 7 pieces about pairs of images of 5, 3 and 1 regions."""
    return {"input_ids": texts(lengths=[7, 4, 6]), "image_index": torch.tensor([[0, 1], [1, 2], [2, 0]]), **uneven()}


class TestEntailment:
    def test_head_by_hand(self) -> None:
        """W_o LN(GELU(W z + b)) + b, number by number."""
        model = entailer().double()
        given = {"input_ids": texts(lengths=[7, 4, 6]), **uneven()}
        given["region_features"] = given["region_features"].double()
        output = model(**given)
        assert output.logits.shape == (3, 3)
        z = model.fusion(**given).pooler_output[1].tolist()
        hidden = [0.5 * x * (1 + math.erf(x / math.sqrt(2))) for x in product(model.before_answers.linear, z)]
        expected = product(model.answers, normed(hidden, model.before_answers.norm))
        assert output.logits[1].tolist() == pytest.approx(expected, abs=1e-6)

    def test_similarity_by_hand(self) -> None:
        """The cosine of each statement and its image, each read alone, joins the scores; a new model leaves it out."""
        model, plain = entailer(answer_similarity=True, projection_size=6), entailer()
        images, words = uneven(), texts(lengths=[7, 4, 6])
        given = {"input_ids": words, "image_index": torch.tensor([2, 0, 2]), **images}
        assert not model.of_similarity.weight.any()
        lacking = plain.load_state_dict(model.state_dict(), strict=False)
        assert not lacking.missing_keys
        torch.testing.assert_close(model(**given).logits, plain(**given).logits)
        torch.nn.init.normal_(model.of_similarity.weight)
        for row, image in enumerate([2, 0, 2]):
            one = {name: images[name][image : image + 1] for name in IMAGES}
            seen = model.image_projection(model.fusion(**one).pooler_output)
            said = model.text_projection(model.fusion(words[row : row + 1]).pooler_output)
            alike = float((seen * said).sum() / seen.norm() / said.norm())
            expected = plain(**given).logits[row] + 6 * alike * model.of_similarity.weight[:, 0]
            torch.testing.assert_close(model(**given).logits[row], expected, atol=1e-5, rtol=1e-5)

    @pytest.mark.parametrize("count", [1, 4])
    def test_any_number_of_classes(self, count: int) -> None:
        model = entailer(id2label={i: f"class {i}" for i in range(count)})
        assert model(texts(lengths=[7, 4, 6]), **uneven()).logits.shape == (3, count)

    def test_losses_by_problem_type(self) -> None:
        """Cross-entropy of classes, of which -100 is none; of soft scores each class by itself, summed."""
        model, given = entailer(), {"input_ids": texts(lengths=[7, 4, 6]), **uneven()}
        output = model(**given, labels=torch.tensor([2, -100, 0]))
        chances = output.logits.softmax(dim=-1)
        expected = -(chances[0, 2].log() + chances[2, 0].log()) / 2
        torch.testing.assert_close(output.loss, expected, atol=1e-5, rtol=1e-5)
        counted = model(**given, labels=torch.tensor([2, -100, 0]), num_items_in_batch=8).loss
        torch.testing.assert_close(counted, expected / 4, atol=1e-5, rtol=1e-5)
        soft = torch.tensor([[1.0, 0, 0], [0, 0.5, 0.5], [0, 0, 1]])
        loss = model(**given, labels=soft).loss
        by_hand = F.binary_cross_entropy(output.logits.sigmoid(), soft, reduction="sum") / 3
        torch.testing.assert_close(loss, by_hand, atol=1e-5, rtol=1e-5)
        number = entailer(id2label={0: "strength"})
        strength = number(**given, labels=torch.tensor([0.0, 1.0, 2.0]))
        expected = (strength.logits.squeeze(1) - torch.tensor([0.0, 1.0, 2.0])).square().mean()
        torch.testing.assert_close(strength.loss, expected)

    def test_attention_of_the_first_token(self) -> None:
        model, given = entailer(), {"input_ids": texts(lengths=[7, 4, 6]), **uneven()}
        assert model(**given).attentions is None
        layers = model(**given, output_attentions=True).attentions
        joint = model.fusion(**given, output_attentions=True).attentions
        mask = given["region_mask"]
        for layer, whole in zip(layers, joint, strict=True):
            shares = whole[:, :, 0, 7:] * mask[:, None]
            torch.testing.assert_close(layer, shares / shares.sum(dim=-1, keepdim=True))

    def test_two_images_of_a_statement_are_told_apart(self) -> None:
        """Only where the config has vectors for them."""
        given = {"input_ids": texts(lengths=[7]), **{name: part[:2] for name, part in uneven().items()}}
        for count, differs in ((1, False), (2, True)):
            model = entailer(num_images=count)
            found = [model(**given, image_index=torch.tensor([order])).logits for order in ([0, 1], [1, 0])]
            assert bool((found[0] - found[1]).abs().max() > 1e-4) is differs

    @pytest.mark.parametrize(
        ("labels", "told"),
        [
            (torch.tensor([0, 1]), r"labels have shape \(2,\), but single_label_classification of 3 .* wants \(3,\)"),
            (torch.tensor([0, 1, 3]), "labels hold 3, but the model has 3 classes: entailment, neutral, contradiction"),
            (torch.zeros(3, 2), r"labels have shape \(3, 2\)"),
        ],
    )
    def test_labels_that_do_not_fit(self, labels: torch.Tensor, told: str) -> None:
        with pytest.raises(ValueError, match=told):
            entailer()(texts(lengths=[7, 4, 6]), **uneven(), labels=labels)

    def test_it_is_saved_and_loaded_by_its_auto_class(self, tmp_path) -> None:
        folder = save_tiny_entailment(tmp_path / "saved")
        model = AutoModelForSequenceClassification.from_pretrained(folder)
        assert type(model) is UpDownFusionForVisualEntailment and model.config.id2label[1] == "neutral"
        pixels = torch.rand(2, 3, 64, 64)
        given = {"input_ids": texts(lengths=[7, 4]), "pixel_values": pixels}
        torch.testing.assert_close(model(**given).logits, tiny_entailment()(**given).logits)


class TestPairs:
    @pytest.mark.parametrize("form", FORMS)
    def test_a_batch_is_its_members(self, form: str) -> None:
        """Whatever the padding of words and regions, and wherever the images stand."""
        model, given = pairs_model(form), statements()
        whole = model(**given).logits
        counts = given["region_mask"].sum(dim=1).tolist()
        for n, (length, pair) in enumerate(zip([7, 4, 6], given["image_index"].tolist(), strict=True)):
            most = max(counts[image] for image in pair)
            one = {name: given[name][pair, :most] for name in IMAGES}
            alone = model(given["input_ids"][n : n + 1, :length], **one).logits  # those next to each other
            torch.testing.assert_close(alone[0], whole[n], atol=1e-5, rtol=1e-4)

    @pytest.mark.parametrize("form", FORMS)
    def test_left_and_right_matter_and_both_are_read(self, form: str) -> None:
        model, given = pairs_model(form), statements()
        found = model(**given).logits
        swapped = model(**given | {"image_index": given["image_index"].flip(1)}).logits
        assert (found - swapped).abs().max() > 1e-4
        for side in (0, 1):
            index = given["image_index"].clone()
            index[0, side] = 2
            changed = model(**given | {"image_index": index}).logits
            assert (changed[0] - found[0]).abs().max() > 1e-4 and torch.allclose(changed[1:], found[1:], atol=1e-6)

    def test_pair_is_two_joint_vectors(self) -> None:
        """By the fusion model itself, each image with the vector of its place."""
        model, given = pairs_model("pair"), statements()
        bare = tiny_fusion(**REGIONS, num_images=2)
        bare.load_state_dict(model.fusion.state_dict())
        left, right = given["image_index"].T
        seen = {name: given[name] for name in IMAGES}
        z1 = bare(given["input_ids"], **seen, image_index=left).pooler_output
        there = torch.ones(3, 5, dtype=torch.long)  # every region is the second image's
        z2 = bare(given["input_ids"], **seen, image_index=right, region_images=there).pooler_output
        expected = model.answers(torch.cat([z1, z2], dim=1))
        torch.testing.assert_close(model(**given).logits, expected, atol=1e-5, rtol=1e-4)

    def test_triplet_is_one_pass(self) -> None:
        model, given = pairs_model("triplet"), statements()
        z = model.fusion(**given).pooler_output
        torch.testing.assert_close(model(**given).logits, model.answers(z), atol=1e-5, rtol=1e-4)

    def test_biattention_equals_torchs_attention(self) -> None:
        """Each of three images over all others, by torch.nn.MultiheadAttention."""
        model = pairs_model("pair_biattention", num_images=3)
        others, draw = model.others, torch.Generator().manual_seed(0)
        assert others is not None
        states = torch.randn(2 * 3, 4, 32, generator=draw)
        mask = torch.rand(2 * 3, 4, generator=draw) > 0.3
        mask[:, 0] = True
        found = others(states, mask)
        own, real = states.view(2, 3, 4, 32), mask.view(2, 3, 4)
        for place in range(3):
            look, rest = others.looks[place], [other for other in range(3) if other != place]
            twin = torch.nn.MultiheadAttention(32, 4, batch_first=True)
            parts = (look.query, look.key, look.value)
            twin.in_proj_weight.data = torch.cat([part.weight for part in parts])
            twin.in_proj_bias.data = torch.cat([part.bias for part in parts])
            twin.out_proj.load_state_dict(look.output.state_dict())
            keys, gaps = own[:, rest].reshape(2, 8, 32), ~real[:, rest].reshape(2, 8)
            seen = twin(own[:, place], keys, keys, key_padding_mask=gaps)[0]
            joined = others.joins(torch.cat([seen, own[:, place]], dim=-1)).relu()
            weights = (others.weighs(joined).squeeze(-1).relu() - 1e4 * ~real[:, place]).softmax(dim=-1)
            torch.testing.assert_close(found[:, place], (weights[..., None] * joined).sum(dim=1), atol=1e-5, rtol=1e-4)

    @pytest.mark.parametrize("form", FORMS)
    def test_attentions_and_gradients(self, form: str) -> None:
        model, given = pairs_model(form), statements()
        output = model(**given, labels=torch.tensor([0, 1, 1]), output_attentions=True)
        mask = given["region_mask"][given["image_index"]].flatten(1)
        for layer in output.attentions:
            assert layer.shape == (3, 4, 10) and torch.allclose(layer.sum(dim=-1), torch.ones(3, 4), atol=1e-5)
            assert not layer[~mask[:, None].expand_as(layer)].any()
        output.loss.backward()
        weight = model.fusion.region_embedding.of_images.weight.grad
        assert weight[0].abs().max() > 0 and weight[1].abs().max() > 0 and output.region_boxes.shape == (3, 10, 4)

    def test_mistakes_are_named(self) -> None:
        given = statements()
        seen = {name: given[name] for name in IMAGES}
        with pytest.raises(ValueError, match="num_images is 1: statements about several images need 2 or more"):
            pairs_model(num_images=1)
        with pytest.raises(ValueError, match="3 images for 3 statements about 2 images each"):
            pairs_model()(given["input_ids"], **seen)
        with pytest.raises(ValueError, match=r"image_index has shape \(3,\), but must be \(3 statements, 2 images\)"):
            pairs_model()(given["input_ids"], **seen, image_index=torch.tensor([0, 1, 2]))
        index = torch.tensor([[0, 1], [1, -1], [2, 0]])
        with pytest.raises(ValueError, match="image_index holds -1, but image_pairs='pair' reads every image"):
            pairs_model()(given["input_ids"], **seen, image_index=index)
        assert pairs_model("triplet")(given["input_ids"], **seen, image_index=index).logits.isfinite().all()
        with pytest.raises(ValueError, match="names 3 images a row, but config.num_images is 2"):
            pairs_model().fusion(given["input_ids"], **seen, image_index=torch.tensor([[0, 1, 2]] * 3))

    def test_it_is_saved_and_loaded_by_its_auto_class(self, tmp_path) -> None:
        model = AutoModelForNextSentencePrediction.from_pretrained(save_tiny_pairs(tmp_path / "saved"))
        assert type(model) is UpDownFusionForImagePairs
        given = {"input_ids": texts(lengths=[7, 4]), "pixel_values": torch.rand(4, 3, 64, 64)}
        torch.testing.assert_close(model(**given).logits, tiny_pairs()(**given).logits)
