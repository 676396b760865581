"""Pretraining: each objective alone and all together by hand, masked words and regions that cannot leak, heads that
exist for the objectives alone, masked words on their own, and a few steps that bring every loss down."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForMaskedLM, AutoModelForPreTraining, AutoTokenizer, pipeline

from modeling_updown import UpDownFusionForMaskedLM, UpDownFusionForPreTraining
from modeling_updown.compat_updown import checkpoint_activations
from modeling_updown.losses_updown import mlm_loss

from ..tiny import (
    ANSWERS,
    CAPTIONS,
    tiny_detector_config,
    tiny_encoder_config,
    tiny_masked_lm,
    tiny_pretraining,
    tiny_retrieval,
    tiny_tokenizer,
)
from .test_fusion import texts, uneven
from .test_retrieval import OWNERS, batch_of_five, right_and_wrong, slow_itc, slow_itm
from .test_transport import slow_transport
from .vqa_twin import WIDTH, gradients_of, images

OBJECTIVES = ("itc", "itm", "wra", "mlm", "mrc_ce", "mrc_kl", "mra_ce", "mra_kl", "mrfr", "mim", "prefix_lm", "qa")
CLASSES, KINDS = 13, 6  # of objects with background, of attributes with none
ASKED = [2, 0, 2, 1]  # the image of each question of `questions`
MASK, SHOWN = 4, 1e-5  # the [MASK] token; how near a figure by hand has to be


def pretraining(**changes: Any) -> UpDownFusionForPreTraining:
    """Fed with regions of width 10, of 12 objects and 5 attributes."""
    fields: dict[str, Any] = {"vision_config": None, "region_feature_size": WIDTH, "num_attributes": KINDS - 1}
    return tiny_pretraining(**(fields | changes))


def batch() -> dict[str, Any]:
    """Five texts about three images: word 2 of each and word 3 of the first are masked; of image 0 regions 1 and 3, of
    image 1 region 0, of image 2 a padded one (so nothing)."""
    given = batch_of_five()
    ids = given["input_ids"]
    masked = torch.zeros(ids.shape, dtype=torch.bool)
    masked[:, 2] = masked[0, 3] = True
    hidden = torch.zeros(3, 5, dtype=torch.bool)
    hidden[0, [1, 3]] = hidden[1, 0] = hidden[2, 4] = True
    draw = torch.Generator().manual_seed(1)
    probs, kinds = (torch.rand(3, 5, number, generator=draw).square() for number in (CLASSES, KINDS))
    return given | {
        "masked_input_ids": ids.masked_fill(masked, MASK),
        "labels": ids.masked_fill(~masked, -100),
        "masked_regions": hidden,
        "object_probs": probs / probs.sum(dim=-1, keepdim=True),
        "attribute_probs": kinds / kinds.sum(dim=-1, keepdim=True),
        **questions(),
    }


def questions() -> dict[str, Any]:
    """Four questions of three to six words about three images, with soft scores of six answers; the last is unknown."""
    scores = torch.zeros(4, len(ANSWERS))
    scores[0, 3] = scores[1, 0] = 1.0
    scores[1, 4] = scores[2, 2] = 0.6
    scores[2, 5] = 0.3
    ids = texts(lengths=[4, 3, 6, 5]).roll(1, dims=0)
    given = {"question_input_ids": ids, "question_attention_mask": ids != 0, "answer_labels": scores}
    return given | {"question_image_index": torch.tensor(ASKED)}


def hidden_pairs(given: dict[str, Any]) -> list[tuple[int, int, int]]:
    """Text, image and region of every region that is learnt."""
    real = given["masked_regions"] & given["region_mask"]
    return [(n, p, r) for n, p in enumerate(OWNERS) for r in range(5) if real[p, r]]


def by_hand(model: Any, given: dict[str, Any], output: Any, seed: int) -> dict[str, float]:
    """Each objective from what the model predicted, term by term."""
    pairs = hidden_pairs(given)
    features = given["region_features"]
    learnt = ("mlm", "mrc_ce", "mrc_kl", "mra_ce", "mra_kl", "mrfr")
    losses: dict[str, list[float]] = {name: [] for name in learnt}
    for n, t in (given["labels"] != -100).nonzero().tolist():
        losses["mlm"].append(-output.logits[n, t].double().log_softmax(0)[given["labels"][n, t]].item())
    for n, p, r in pairs:
        for kind, said, logits in (
            ("mrc", given["object_probs"], output.object_logits),
            ("mra", given["attribute_probs"], output.attribute_logits),
        ):
            if logits is None:
                continue
            log_p = logits[n, r].double().log_softmax(0).tolist()
            q = said[p, r].tolist()
            losses[f"{kind}_ce"].append(-log_p[1 + q[1:].index(max(q[1:]))])
            losses[f"{kind}_kl"].append(sum(a * (math.log(a) - b) for a, b in zip(q, log_p, strict=True)))
        apart = zip(output.region_predictions[n, r].tolist(), features[p, r].tolist(), strict=True)
        losses["mrfr"].append(sum((a - b) ** 2 for a, b in apart) / WIDTH)
    means = {name: sum(values) / len(values) for name, values in losses.items() if values}
    with torch.no_grad():
        itc = slow_itc(output.image_embeds @ output.text_embeds.T, OWNERS, model.temperature.item())
        itm = slow_itm(model, given, seed)
    pairs_too = {"itm": itm, "wra": slow_wra(model, given, seed)}
    answers = {"qa": slow_qa(model, given)} if model.config.weight("qa") else {}
    words = {"prefix_lm": slow_prefix_lm(model, given)}
    return means | pairs_too | words | answers | {"mim": means["mrfr"], "itc": itc}


@torch.no_grad()
def slow_wra(model: Any, given: dict[str, Any], seed: int) -> float:
    """Pair by pair: what it costs to carry the words onto the regions, less for right pairs, by plans made in loops."""
    total, pairs = 0.0, right_and_wrong(model, given, seed)
    for text, chosen, right in pairs:
        one = {name: given[name][chosen : chosen + 1] for name in ("region_features", "region_boxes", "region_mask")}
        ids = given["input_ids"][text]
        joint = model.fusion(ids[ids != 0][None], **one)
        regions = joint.region_states[0][given["region_mask"][chosen]].double()
        distance, _ = slow_transport(joint.word_states[0].double().tolist(), regions.tolist())
        total += distance if right else -distance
    return total / len(pairs)


@torch.no_grad()
def slow_prefix_lm(model: Any, given: dict[str, Any]) -> float:
    """-log p of each word after the image and the words before it, each read by itself."""
    losses = []
    for row, owner in zip(given["input_ids"], OWNERS, strict=True):
        one = {name: given[name][owner : owner + 1] for name in ("region_features", "region_boxes", "region_mask")}
        ids = row[row != 0]
        for t in range(1, len(ids)):
            states = model.fusion(ids[None, :t], **one, causal_words=True).word_states[:, -1]
            losses.append(-model.word_logits(states)[0].log_softmax(0)[ids[t]].item())
    return sum(losses) / len(losses)


@torch.no_grad()
def slow_qa(model: Any, given: dict[str, Any]) -> float:
    """-sum of q log p over the answers of each question that has some, each read by itself with its image."""
    losses = []
    for row, owner, scores in zip(given["question_input_ids"], ASKED, given["answer_labels"].tolist(), strict=True):
        if not sum(scores):
            continue
        one = {name: given[name][owner : owner + 1] for name in ("region_features", "region_boxes", "region_mask")}
        state = model.fusion(row[row != 0][None], **one).last_hidden_state[:, 0]
        log_p = model.answers(model.before_answers(state))[0].double().log_softmax(0).tolist()
        losses.append(-sum(score / sum(scores) * p for score, p in zip(scores, log_p, strict=True)))
    return sum(losses) / len(losses)


class TestObjectives:
    def test_all_together(self):
        """Every one equals its formula, and the loss is their sum, each times its weight."""
        weights = {name: 0.5 + 0.25 * place for place, name in enumerate(OBJECTIVES)}
        model, given = pretraining(objectives=weights, temperature=0.2), batch()
        torch.manual_seed(3)
        output = model(**given)
        expected = by_hand(model, given, output, seed=3)
        assert set(output.losses) == set(OBJECTIVES)
        for name, loss in output.losses.items():
            assert loss.item() == pytest.approx(expected[name], rel=SHOWN, abs=SHOWN), name
        total = sum(weights[name] * loss for name, loss in expected.items())
        assert output.loss.item() == pytest.approx(total, rel=SHOWN)
        assert output.logits.shape == (5, 7, model.config.vocab_size)
        assert output.object_logits.shape == (5, 5, CLASSES) and output.region_predictions.shape == (5, 5, WIDTH)
        assert output.attribute_logits.shape == (5, 5, KINDS) and output.answer_logits.shape == (4, len(ANSWERS))

    @pytest.mark.parametrize("name", OBJECTIVES)
    def test_each_alone(self, name):
        """The same figure as among the others; only its own heads are there, and all weights but theirs learn."""
        everything, given = pretraining(objectives=dict.fromkeys(OBJECTIVES, 1.0)), batch()
        model = pretraining(objectives={name: 1.0})
        shared = {key: value for key, value in everything.state_dict().items() if key in model.state_dict()}
        assert set(model.state_dict()) == set(shared)
        model.load_state_dict(shared)
        torch.manual_seed(3)
        found = model(**given)
        assert set(found.losses) == {name}
        if name in ("itm", "wra"):  # without ITC there are no similarities: the wrong pairs are drawn from all
            slow = {"itm": slow_itm, "wra": slow_wra}[name]
            assert found.loss.item() == pytest.approx(slow(model, given, seed=3), abs=SHOWN)
        else:
            torch.manual_seed(3)
            torch.testing.assert_close(found.loss, everything(**given).losses[name], atol=1e-5, rtol=1e-5)
        gradients = gradients_of(model, found.loss)
        unused = {key for key, _ in model.named_parameters() if key not in gradients}
        assert not unused
        assert all(gradient.isfinite().all() for gradient in gradients.values())

    def test_in_training_only_masked_words_are_scored(self):
        """The same loss and gradients, and no scores of the other words."""
        quiet = tiny_encoder_config(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
        model, given = pretraining(objectives={"mlm": 1.0}, text_config=quiet), batch()
        found = model(**given)
        expected = gradients_of(model, mlm_loss(found.logits, given["labels"]))
        model.train()
        learning = model(**given)
        assert learning.logits is None
        torch.testing.assert_close(learning.loss, found.loss)
        for name, gradient in gradients_of(model, learning.loss).items():
            torch.testing.assert_close(gradient, expected[name], atol=1e-5, rtol=1e-5, msg=name)

    @pytest.mark.parametrize(
        "form",
        [
            {},
            {"mrc_average_classes": True},
            {"mrc_weights": "confidence"},
            {"mrfr_average_width": False},
            {"mrc_average_classes": True, "mrc_weights": "confidence", "mrfr_average_width": False},
        ],
    )
    def test_forms_of_the_losses_of_regions(self, form):
        """Sum or mean over classes and width, regions weighed by confidence: each term by term in float64."""
        model = pretraining(objectives=dict.fromkeys(("mrc_ce", "mrc_kl", "mrfr"), 1.0), **form)
        given = batch() | {"region_scores": torch.linspace(0.05, 0.95, 15).view(3, 5)}
        output = model(**given)
        pairs = hidden_pairs(given)
        sums = dict.fromkeys(("mrc_ce", "mrc_kl", "mrfr"), 0.0)
        for n, p, r in pairs:
            weight = given["region_scores"][p, r].item() if "mrc_weights" in form else 1.0
            log_p = output.object_logits[n, r].double().log_softmax(0).tolist()
            q = given["object_probs"][p, r].tolist()
            sums["mrc_ce"] -= weight * log_p[1 + q[1:].index(max(q[1:]))]
            sums["mrc_kl"] += weight * sum(a * (math.log(a) - b) for a, b in zip(q, log_p, strict=True))
            apart = output.region_predictions[n, r].double() - given["region_features"][p, r].double()
            sums["mrfr"] += sum(a * a for a in apart.tolist())
        classes = CLASSES if "mrc_average_classes" in form else 1
        divisors = {"mrc_ce": classes, "mrc_kl": classes, "mrfr": 1 if "mrfr_average_width" in form else WIDTH}
        for name, total in sums.items():
            assert output.losses[name].item() == pytest.approx(total / len(pairs) / divisors[name], rel=SHOWN), name

    def test_confidence_needs_scores(self):
        model = pretraining(objectives={"mrc_kl": 1.0}, mrc_weights="confidence")
        with pytest.raises(ValueError, match="weighs regions by the detector's region_scores, which these lack"):
            model(**batch())

    def test_what_is_given_decides_what_is_learnt(self):
        model, given = pretraining(), batch()
        words = {name: given[name] for name in ("input_ids", "region_features", "region_boxes", "region_mask")}
        index = {"image_index": given["image_index"]}
        assert model(**words, **index).loss is None
        assert set(model(**words, **index, return_loss=True).losses) == {"itc", "itm"}
        assert set(model(**words, **index, labels=given["labels"]).losses) == {"itc", "itm", "mlm"}
        hidden = {"masked_regions": given["masked_regions"], "object_probs": given["object_probs"]}
        assert set(model(**words, **index, **hidden).losses) == {"itc", "itm", "mrc_kl", "mrfr"}
        asked = given["masked_regions"].clone()
        asked[0, 1] = False
        fewer = model(**(given | {"asked_regions": asked}))
        torch.testing.assert_close(fewer.region_predictions, model(**given).region_predictions)
        expected = by_hand(model, given | {"masked_regions": asked}, fewer, seed=0)
        assert fewer.losses["mrfr"].item() == pytest.approx(expected["mrfr"], rel=SHOWN)

    def test_masks_of_pairs(self):
        """Of each text's own image: as of images where they agree; a text may have its own."""
        model, given = pretraining(objectives={"mrfr": 1}), batch()
        each = given["masked_regions"][given["image_index"]]
        torch.testing.assert_close(model(**(given | {"masked_regions": each})).loss, model(**given).loss)
        each[1] = False
        output = model(**(given | {"masked_regions": each}))
        apart = [
            (output.region_predictions[n, r] - given["region_features"][p, r]).square().mean().item()
            for n, p, r in hidden_pairs(given)
            if n != 1
        ]
        assert output.loss.item() == pytest.approx(sum(apart) / len(apart), rel=SHOWN)
        with pytest.raises(ValueError, match="of 4 rows, but there are 3 images and 5 texts"):
            model(**(given | {"masked_regions": torch.zeros(4, 5, dtype=torch.bool)}))

    def test_nothing_masked(self):
        """All regions' masks on padding, no word's label: losses of 0 with gradients of 0, not NaN."""
        model, given = pretraining(objectives={"mlm": 1, "mrc_ce": 1, "mrc_kl": 1, "mrfr": 1}), batch()
        nothing = given | {
            "masked_regions": ~given["region_mask"],
            "labels": torch.full_like(given["labels"], -100),
        }
        output = model(**nothing)
        assert [loss.item() for loss in output.losses.values()] == [0, 0, 0, 0]
        assert all(gradient.eq(0).all() for gradient in gradients_of(model, output.loss).values())


class TestMasking:
    def test_masked_regions_cannot_leak(self):
        """Whatever stands in a hidden region changes no prediction; it changes the target alone."""
        model, given = pretraining(objectives={"mlm": 1, "mrc_kl": 1, "mrfr": 1}), batch()
        features = given["region_features"].clone()
        features[given["masked_regions"]] += 100
        first, second = model(**given), model(**(given | {"region_features": features}))
        for name in ("logits", "object_logits", "region_predictions"):
            torch.testing.assert_close(first[name], second[name], rtol=0, atol=0)
        torch.testing.assert_close(first.losses["mlm"], second.losses["mlm"])
        torch.testing.assert_close(first.losses["mrc_kl"], second.losses["mrc_kl"])
        assert second.losses["mrfr"] > 100 * first.losses["mrfr"]
        seen = given["region_features"].clone()
        seen[0, 0] += 1
        assert not torch.allclose(model(**(given | {"region_features": seen})).logits, first.logits, atol=1e-3)

    def test_masked_words_cannot_leak(self):
        """The words of `labels` are read nowhere but in the loss."""
        model, given = pretraining(objectives={"mlm": 1, "mrfr": 1}), batch()
        other = given["input_ids"].masked_fill(given["labels"] != -100, 7)
        first, second = model(**given), model(**(given | {"input_ids": other}))
        torch.testing.assert_close(first.logits, second.logits, rtol=0, atol=0)
        masked = given["masked_input_ids"]
        plain = model(**{name: value for name, value in given.items() if name != "masked_input_ids"} | {
            "input_ids": masked
        })  # fmt: skip
        torch.testing.assert_close(plain.logits, first.logits, rtol=0, atol=0)  # input_ids may be the masked ones

    def test_what_stands_in_place_of_hidden_regions(self):
        """Zeros, or what is given, such as a region of another image."""
        model, given = pretraining(objectives={"mrfr": 1}), batch()
        zeros = given["region_features"].masked_fill(given["masked_regions"][..., None], 0)
        names = {"region_boxes": given["region_boxes"], "region_mask": given["region_mask"]}
        shown = {"masked_input_ids": given["masked_input_ids"], "image_index": given["image_index"]} | names
        expected = model(given["input_ids"], region_features=zeros, **shown).region_predictions
        torch.testing.assert_close(model(**given).region_predictions, expected)
        others = given["region_features"].flip(0)
        mixed = torch.where(given["masked_regions"][..., None], others, given["region_features"])
        expected = model(given["input_ids"], region_features=mixed, **shown).region_predictions
        torch.testing.assert_close(model(**given, seen_features=others).region_predictions, expected)

    def test_nan_in_a_padded_region_stays_there(self):
        model, given = pretraining(objectives=dict.fromkeys(OBJECTIVES, 1.0)), batch()
        gaps = ~given["region_mask"][..., None]
        names = ("region_features", "region_boxes", "object_probs")
        dirty = given | {name: given[name].masked_fill(gaps, float("nan")) for name in names}
        results = []
        for inputs in (given, dirty):
            torch.manual_seed(0)
            output = model(**inputs)
            results.append((output.loss, gradients_of(model, output.loss)))
        torch.testing.assert_close(results[0], results[1], rtol=0, atol=0)

    def test_region_attention(self):
        model, given = pretraining(), batch()
        output = model(**given, output_attentions=True)
        for layer in output.attentions:
            assert layer.shape == (5, 7, 5)
            torch.testing.assert_close(layer.sum(dim=-1), torch.ones(5, 7))
        assert torch.equal(output.region_boxes, given["region_boxes"])
        assert pretraining(objectives={"itc": 1})(**given, output_attentions=True).attentions[0].shape == (5, 7, 5)


class TestHeads:
    @torch.no_grad()
    def test_words_are_scored_by_their_own_embeddings(self):
        model, given = pretraining(objectives={"mlm": 1}), batch()
        output = model(**given)
        regions = {name: given[name] for name in ("region_features", "region_boxes", "region_mask", "image_index")}
        hidden = regions["region_features"].masked_fill(given["masked_regions"][..., None], 0)
        states = model.fusion(given["masked_input_ids"], **(regions | {"region_features": hidden})).word_states
        weight = model.fusion.text_model.embeddings.word_embeddings.weight
        torch.testing.assert_close(output.logits, model.word_head(states) @ weight.T, atol=1e-5, rtol=1e-5)
        weight[9] *= 2
        assert not torch.allclose(model(**given).logits[..., 9], output.logits[..., 9], atol=1e-3)

    def test_resized_vocabulary(self):
        model, given = pretraining(objectives={"mlm": 1}), batch()
        words = model.config.vocab_size
        before = model(**given).logits
        model.resize_token_embeddings(words + 3)
        after = model(**given)
        assert after.logits.shape[-1] == words + 3 == model.config.vocab_size
        torch.testing.assert_close(after.logits[..., :words], before)
        assert after.loss.isfinite()

    def test_object_classes_that_do_not_fit(self):
        model, given = pretraining(objectives={"mrc_kl": 1}, num_objects=7), batch()
        with pytest.raises(ValueError, match="logits have 8 classes but the detector's probabilities 13"):
            model(**given)
        del given["object_probs"]
        with pytest.raises(ValueError, match="mrc_kl learns the detector's object_probs, which these regions lack"):
            model(**given)
        with pytest.raises(ValueError, match="no text to learn from"):
            model(**images())

    @torch.no_grad()
    def test_own_detector_gives_the_targets(self):
        """With `pixel_values` features and soft labels are the detector's: as if they had been extracted before."""
        config = tiny_detector_config()
        objectives = {"mrc_ce": 1, "mrc_kl": 1, "mrfr": 1}
        model = pretraining(vision_config=config, objectives=objectives, num_objects=config.num_objects)
        pixels = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        regions = model.region_source(pixels)
        hidden = torch.zeros(regions.region_mask.shape, dtype=torch.bool)
        hidden[:, :2] = True
        given = {"input_ids": texts(lengths=[4, 4]), "masked_regions": hidden}
        found = model(**given, pixel_values=pixels)
        names = ("region_features", "region_boxes", "region_mask", "object_probs")
        expected = model(**given, **{name: regions[name] for name in names})
        torch.testing.assert_close(found.loss, expected.loss, atol=1e-5, rtol=1e-5)
        assert set(found.losses) == set(objectives)


class TestLife:
    @torch.no_grad()
    def test_save_and_load(self, tmp_path):
        model, given = pretraining(objectives=dict.fromkeys(OBJECTIVES, 1.0)), batch()
        model.temperature.fill_(0.2)
        model.save_pretrained(tmp_path)
        loaded = AutoModelForPreTraining.from_pretrained(tmp_path)
        assert type(loaded) is UpDownFusionForPreTraining and loaded.config.objectives == model.config.objectives
        for name, value in model.state_dict().items():
            assert torch.equal(value, loaded.state_dict()[name]), name
        torch.manual_seed(0)
        expected = model(**given).losses
        torch.manual_seed(0)
        torch.testing.assert_close(loaded(**given).losses, expected, rtol=0, atol=0)

    @torch.no_grad()
    def test_continues_a_retrieval_model(self, tmp_path):
        """What both have is loaded, new heads are new and finite."""
        searching = tiny_retrieval(vision_config=None, region_feature_size=WIDTH)
        searching.save_pretrained(tmp_path)
        more = {"objectives": dict.fromkeys(OBJECTIVES, 1.0), "num_attributes": KINDS - 1}
        model = UpDownFusionForPreTraining.from_pretrained(tmp_path, **more)
        given = batch_of_five()
        torch.testing.assert_close(model(**given).image_embeds, searching(**given).image_embeds)
        torch.testing.assert_close(model.match(**given), searching.match(**given))
        assert all(value.isfinite().all() for value in model.state_dict().values())
        assert model(**batch()).loss.isfinite()

    @torch.no_grad()
    def test_masked_words_of_a_pretrained_model(self, tmp_path):
        model, given = pretraining(), batch()
        model.save_pretrained(tmp_path)
        loaded = UpDownFusionForMaskedLM.from_pretrained(tmp_path)
        names = ("region_features", "region_boxes", "region_mask", "image_index")
        regions = {name: given[name] for name in names}
        expected = model(given["input_ids"], **regions).logits
        torch.testing.assert_close(loaded(given["input_ids"], **regions).logits, expected, atol=1e-5, rtol=1e-5)

    def test_a_few_steps_bring_every_loss_down(self):
        quiet = tiny_encoder_config(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
        model = pretraining(objectives=dict.fromkeys(OBJECTIVES, 1.0), text_config=quiet)
        regions, ids = images(4), texts(lengths=[6, 5, 4, 6])
        labels = torch.full_like(ids, -100)
        labels[:, 2] = ids[:, 2]
        hidden = torch.zeros(4, 5, dtype=torch.bool)
        hidden[:, 1] = True
        probs = torch.rand(4, 5, CLASSES, generator=torch.Generator().manual_seed(1)).mul(4).softmax(dim=-1)
        given = {
            "input_ids": ids,
            "masked_input_ids": ids.masked_fill(labels != -100, MASK),
            "labels": labels,
            "masked_regions": hidden,
            "object_probs": probs,
            "attribute_probs": probs[..., :KINDS] / probs[..., :KINDS].sum(dim=-1, keepdim=True),
            "question_input_ids": texts(lengths=[3, 4, 5, 4]),
            "answer_labels": torch.eye(len(ANSWERS))[[0, 3, 5, 1]],
        } | regions
        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
        model.train()
        first = {name: loss.item() for name, loss in model(**given).losses.items()}
        for _ in range(60):
            output = model(**given)
            optimizer.zero_grad()
            output.loss.backward()
            optimizer.step()
        last = {name: loss.item() for name, loss in output.losses.items()}
        assert set(last) == set(OBJECTIVES)
        for name, loss in last.items():
            if name == "wra":  # wrong pairs cost more than right ones, so it falls below 0
                assert loss < first[name] - 0.1, (first[name], loss)
            else:
                assert loss < 0.5 * first[name], (name, first[name], loss)

    def test_bfloat16_and_checkpointing(self):
        """Autocast as in training: losses near, gradients finite; checkpointing changes nothing."""
        quiet = tiny_encoder_config(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
        model = pretraining(objectives=dict.fromkeys(OBJECTIVES, 1.0), text_config=quiet, temperature=0.3).train()
        given = batch()
        torch.manual_seed(0)
        full = model(**given)
        expected = gradients_of(model, full.loss)
        checkpoint_activations(model)
        torch.manual_seed(0)
        torch.testing.assert_close(gradients_of(model, model(**given).loss), expected, atol=1e-4, rtol=1e-4)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half = model(**given)
        for name, loss in half.losses.items():
            assert loss.dtype == torch.float32
            if name not in ("itm", "wra"):  # whose pairs are drawn anew
                assert loss.item() == pytest.approx(full.losses[name].item(), rel=0.05), name
        assert all(gradient.isfinite().all() for gradient in gradients_of(model, half.loss).values())


class TestMaskedLM:
    @torch.no_grad()
    def test_with_and_without_images(self):
        """Scores by the words' own embeddings; the loss is a mean over the masked."""
        model, given = tiny_masked_lm(vision_config=None, region_feature_size=WIDTH), uneven()
        ids = texts()
        labels = torch.full_like(ids, -100)
        labels[:, 2] = ids[:, 2]
        for regions in ({}, given):
            output = model(ids, **regions, labels=labels)
            states = model.fusion(ids, **regions).word_states
            expected = model.word_head(states) @ model.get_input_embeddings().weight.T
            torch.testing.assert_close(output.logits, expected, atol=1e-5, rtol=1e-5)
            picked = [-expected[n, 2].log_softmax(0)[ids[n, 2]].item() for n in range(3)]
            assert output.loss.item() == pytest.approx(sum(picked) / 3, rel=SHOWN)
        assert not torch.allclose(model(ids, **given).logits, model(ids).logits, atol=1e-2)
        shown = model(ids, **given, output_attentions=True, output_hidden_states=True)
        assert [layer.shape for layer in shown.attentions] == [(3, 12, 5)] * 2 and len(shown.hidden_states) == 3
        assert model(ids, output_attentions=True).attentions[0].shape == (3, 4, 12, 12)
        with pytest.raises(ValueError, match="nothing to read"):
            model()

    @torch.no_grad()
    def test_pixels(self):
        model = tiny_masked_lm()
        pixels, ids = torch.randn(2, 3, 64, 64), texts(lengths=[5, 4])
        regions = model.region_source(pixels)
        given = {name: regions[name] for name in ("region_features", "region_boxes", "region_mask")}
        torch.testing.assert_close(model(ids, pixel_values=pixels).logits, model(ids, **given).logits)

    @torch.no_grad()
    def test_fill_mask_pipeline(self, tmp_path: Path):
        """transformers' own, on words alone: the softmax at [MASK]."""
        tiny_masked_lm().save_pretrained(tmp_path)
        tiny_tokenizer().save_pretrained(tmp_path)
        fill = pipeline("fill-mask", model=str(tmp_path), device="cpu")
        assert type(fill.model) is UpDownFusionForMaskedLM
        text = CAPTIONS[0].replace("dog", "[MASK]")
        found = fill(text, top_k=3)
        tokenizer = AutoTokenizer.from_pretrained(tmp_path)
        ids = torch.tensor([tokenizer(text)["input_ids"]])
        scores = AutoModelForMaskedLM.from_pretrained(tmp_path)(ids).logits[0, 3].softmax(0)
        for answer, number in zip(found, scores.argsort(descending=True).tolist(), strict=False):
            assert answer["token"] == number and answer["score"] == pytest.approx(scores[number].item(), abs=1e-6)
            assert answer["token_str"].replace(" ", "") == tokenizer.decode([number]).replace(" ", "")
        assert len(found) == 3 and len(fill([text, text])) == 2
