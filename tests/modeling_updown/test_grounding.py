"""Grounding on the fusion model: scores and boxes by hand, phrases in one pass are phrases one by one, a batch is its
members, pixels are their regions, mistakes are named, a few steps learn, and the pipeline of candidate labels."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F
from transformers import AutoModelForZeroShotObjectDetection, AutoProcessor, pipeline

from modeling_updown import UpDownFusionConfig, UpDownFusionForGrounding
from modeling_updown.grounding_losses_updown import box_loss, each_region_loss, has_box, phrase_overlaps

from ..tiny import (
    save_tiny_grounding,
    tiny_encoder_config,
    tiny_grounding,
    tiny_image,
    tiny_pretraining,
    tiny_tokenizer,
)
from .test_fusion import normed, product, texts, uneven
from .vqa_twin import WIDTH, gradients_of, one_image

LENGTHS = [7, 4, 6, 5, 7]
OWNERS = [0, 0, 1, 2, 2]
COUNTS = [5, 3, 1]
SPANS = torch.tensor(
    [
        [[1, 3], [4, 5], [1, 6]],
        [[1, 2], [-1, -1], [-1, -1]],
        [[2, 4], [1, 2], [-1, -1]],
        [[1, 4], [3, 4], [2, 4]],
        [[5, 6], [1, 2], [-1, -1]],
    ]
)
NAMES = ("region_features", "region_boxes", "region_mask")


def grounder(**changes: Any) -> UpDownFusionForGrounding:
    """Fed with regions of width 10; biases are not those of a new model."""
    fields: dict[str, Any] = {"vision_config": None, "region_feature_size": WIDTH}
    model, draw = tiny_grounding(**(fields | changes)), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for module in (model.pairs.linear, model.pairs.of_phrase, model.score, model.box_deltas):
            if module is not None:
                module.bias.normal_(std=0.3, generator=draw)
    return model


def batch() -> dict[str, Any]:
    """Five texts of 4 to 7 pieces with 1 to 3 phrases, about images of 5, 3 and 1 regions."""
    given = {"input_ids": texts(lengths=LENGTHS), "image_index": torch.tensor(OWNERS), "phrase_spans": SPANS.clone()}
    return {**given, **uneven()}


def true_boxes() -> torch.Tensor:
    """(5, 3, 2, 4): of each phrase a box near a region of its image, of the first phrases a second one."""
    own = uneven()["region_boxes"][OWNERS]
    near = own[:, [0, 0, 2]] + 0.02
    second = own[:, [1, 1, 1]].masked_fill(torch.tensor([False, True, True])[:, None], -1)
    return torch.stack([near, second], dim=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return save_tiny_grounding(tmp_path_factory.mktemp("grounder"))


def gelu(values: list[float]) -> list[float]:
    return [0.5 * x * (1 + math.erf(x / math.sqrt(2))) for x in values]


def slow_pair(model: UpDownFusionForGrounding, phrase: list[float], region: list[float]) -> list[float]:
    """h of one phrase and one region, number by number."""
    pairs = model.pairs
    if pairs.form == "concat":
        hidden = gelu(product(pairs.linear, phrase + region))
    elif pairs.form == "multiply":
        both = gelu(product(pairs.of_phrase, phrase)), gelu(product(pairs.linear, region))
        hidden = [first * second for first, second in zip(*both, strict=True)]
    elif pairs.linear is None:
        return region
    else:
        hidden = gelu(product(pairs.linear, region))
    return normed(hidden, pairs.norm)


def slow_box(deltas: list[float], box: list[float]) -> list[float]:
    sides = [box[2] - box[0], box[3] - box[1]]
    centre = [(box[i] + box[i + 2]) / 2 + deltas[i] / 10 * sides[i] for i in (0, 1)]
    half = [sides[i] * math.exp(min(deltas[i + 2] / 5, math.log(62.5))) / 2 for i in (0, 1)]
    return [min(max(value, 0), 1) for sign in (-1, 1) for value in (centre[i] + sign * half[i] for i in (0, 1))]


class TestEquations:
    @pytest.mark.parametrize(
        "fields", [{}, {"grounding_hidden_size": 9}, {"grounding_score": "multiply"}, {"grounding_score": "region"}]
    )
    @torch.no_grad()
    def test_scores_and_boxes(self, fields):
        model, given = grounder(**fields).double(), batch()
        given["region_features"] = given["region_features"].double()
        whole = model.config.grounding_score == "region"
        if whole:
            del given["phrase_spans"]
        output = model(**given)
        for n, (owner, length) in enumerate(zip(OWNERS, LENGTHS, strict=True)):
            one = one_image({name: given[name] for name in NAMES}, owner, count=COUNTS[owner])
            joint = model.fusion(given["input_ids"][n : n + 1, :length], **one)
            for k, (start, end) in enumerate([(0, length)] if whole else SPANS[n].tolist()):
                if start < 0:
                    continue
                phrase = joint.word_states[0, start:end].mean(dim=0).tolist()
                for r in range(COUNTS[owner]):
                    pair = slow_pair(model, phrase, joint.region_states[0, r].tolist())
                    assert output.logits[n, k, r].item() == pytest.approx(product(model.score, pair)[0], abs=1e-6)
                    box = slow_box(product(model.box_deltas, pair), given["region_boxes"][owner, r].tolist())
                    assert output.pred_boxes[n, k, r].tolist() == pytest.approx(box, abs=1e-6)
                assert output.logits[n, k, COUNTS[owner] :].eq(-math.inf).all()
        torch.testing.assert_close(output.phrase_scores, output.logits.softmax(dim=-1))

    @torch.no_grad()
    def test_a_head_may_be_the_region_state_itself(self):
        """UNITER's referring expressions: w r + b; boxes stay where they are without a regression."""
        model, given = grounder(grounding_score="region", grounding_hidden_size=0, grounding_box_weight=0), batch()
        del given["phrase_spans"]
        output = model(**given)
        joint = model.fusion(**given)
        mask = given["region_mask"][given["image_index"]]
        expected = joint.region_states @ model.score.weight[0] + model.score.bias
        torch.testing.assert_close(output.logits[:, 0][mask], expected[mask])
        own = given["region_boxes"][given["image_index"]]
        torch.testing.assert_close(output.pred_boxes[:, 0][mask], own[mask], rtol=0, atol=0)
        assert sum(p.numel() for p in model.pairs.parameters()) == 0 and model.box_deltas is None

    @pytest.mark.parametrize("form", ["kl", "cross_entropy", "binary"])
    @torch.no_grad()
    def test_losses_are_those_of_the_functions(self, form):
        model = grounder(grounding_loss=form, grounding_iou=0.6, grounding_box_weight=0.25)
        given, labels = batch(), true_boxes()
        output = model(**given, labels=labels)
        there = SPANS[..., 0] >= 0
        mask, boxes = (given[name][given["image_index"]] for name in ("region_mask", "region_boxes"))
        overlaps, _ = phrase_overlaps(boxes, labels, mask)
        assert (overlaps >= 0.6).any(dim=-1)[there].float().mean() > 0.5
        if form == "binary":
            expected = each_region_loss(output.logits, overlaps, mask, learnt=there, lowest_iou=0.6)
        else:
            total = 0.0
            for n, k in there.nonzero().tolist():
                own = overlaps[n, k].masked_fill(overlaps[n, k] < 0.6, 0)
                if own.sum() == 0:
                    continue
                q = F.one_hot(own.argmax(), 5).float() if form == "cross_entropy" else own / own.sum()
                log_p = output.logits[n, k].log_softmax(dim=-1)
                total += sum(q[r] * (q[r].log() - log_p[r]) for r in range(5) if q[r] > 0)
            expected = total / there.sum()
        torch.testing.assert_close(output.losses["regions"], torch.as_tensor(expected))
        joint = model.fusion(**{name: value for name, value in given.items() if name != "phrase_spans"})
        phrases = torch.zeros(5, 3, 32)
        for n, k in there.nonzero().tolist():
            phrases[n, k] = joint.word_states[n, slice(*SPANS[n, k].tolist())].mean(dim=0)
        pair = model.pairs(phrases, joint.region_states)
        learnt = {"learnt": there & has_box(labels).any(dim=-1), "weights": (10, 10, 5, 5), "lowest_iou": 0.6}
        expected = box_loss(model.box_deltas(pair), boxes, labels, mask, **learnt)
        torch.testing.assert_close(output.losses["boxes"], expected)
        torch.testing.assert_close(output.loss, output.losses["regions"] + 0.25 * output.losses["boxes"])

    def test_scores_stand_alone_where_each_region_is_learnt_alone(self):
        output = grounder(grounding_loss="binary")(**batch())
        torch.testing.assert_close(output.phrase_scores, output.logits.sigmoid())
        assert output.phrase_scores[2, 0, 3:].eq(0).all()

    @pytest.mark.parametrize("form", ["concat", "multiply"])
    @torch.no_grad()
    def test_a_phrase_may_speak_of_nothing(self, form):
        """A learnt state beside the regions' is scored as they are, and takes its share of the softmax."""
        model, given = grounder(grounding_none=True, grounding_score=form), batch()
        with torch.no_grad():
            model.none_state.weight.normal_(generator=torch.Generator().manual_seed(1))
        output = model(**given)
        for n, (owner, length) in enumerate(zip(OWNERS, LENGTHS, strict=True)):
            one = one_image({name: given[name] for name in NAMES}, owner, count=COUNTS[owner])
            joint = model.fusion(given["input_ids"][n : n + 1, :length], **one)
            for k, (start, end) in enumerate(SPANS[n].tolist()):
                if start < 0:
                    continue
                phrase = joint.word_states[0, start:end].mean(dim=0).tolist()
                none = product(model.score, slow_pair(model, phrase, model.none_state.weight[0].tolist()))[0]
                powers = [math.exp(score) for score in output.logits[n, k, : COUNTS[owner]].tolist()]
                total = math.exp(none) + sum(powers)
                assert output.none_scores[n, k].item() == pytest.approx(math.exp(none) / total, abs=1e-5)
                found = output.phrase_scores[n, k, : COUNTS[owner]].tolist()
                assert found == pytest.approx([power / total for power in powers], abs=1e-5)
        there = SPANS[..., 0] >= 0
        total = output.phrase_scores.sum(dim=-1) + output.none_scores
        torch.testing.assert_close(total[there], torch.ones(int(there.sum())))
        assert grounder(grounding_score=form)(**given).none_scores is None

    @pytest.mark.parametrize("form", ["kl", "cross_entropy"])
    def test_phrases_without_a_box_learn_that_they_have_none(self, form):
        """Their loss is -log of that share; the others' loss counts it among the regions; every weight learns."""
        model, given, labels = grounder(grounding_none=True, grounding_loss=form), batch(), true_boxes()
        labels[0, 1], labels[3, 0] = -1, -1
        output = model(**given, labels=labels)
        mask, boxes = (given[name][given["image_index"]] for name in ("region_mask", "region_boxes"))
        overlaps, _ = phrase_overlaps(boxes, labels, mask)
        total, there = 0.0, SPANS[..., 0] >= 0
        for n, k in there.nonzero().tolist():
            if (n, k) in ((0, 1), (3, 0)):
                total -= output.none_scores[n, k].log()
                continue
            own = overlaps[n, k].masked_fill(overlaps[n, k] < 0.5, 0)
            if own.sum() == 0:
                continue
            q = F.one_hot(own.argmax(), 5).float() if form == "cross_entropy" else own / own.sum()
            total += sum(q[r] * (q[r].log() - output.phrase_scores[n, k, r].log()) for r in range(5) if q[r] > 0)
        torch.testing.assert_close(output.losses["regions"], total / there.sum())
        assert set(gradients_of(model, output.loss)) == {name for name, _ in model.named_parameters()}
        alone = torch.full_like(labels, -1.0)
        only = model(**given, labels=alone)
        torch.testing.assert_close(only.loss, -only.none_scores[there].log().mean())
        assert only.losses["boxes"] == 0

    def test_dropout_only_in_training(self):
        quiet = tiny_encoder_config(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
        model, given = grounder(text_config=quiet, grounding_dropout=0.5), batch()
        torch.testing.assert_close(model(**given).logits, model(**given).logits, rtol=0, atol=0)
        model.train()
        assert not torch.allclose(model(**given).logits[0], model(**given).logits[0])


class TestForward:
    @pytest.mark.parametrize("form", ["concat", "multiply"])
    @torch.no_grad()
    def test_phrases_in_one_pass_equal_phrases_one_by_one(self, form):
        """The sentence is read whole with the regions in both; a text, an image and a phrase at a time."""
        model, given = grounder(grounding_score=form), batch()
        together = model(**given)
        seen = 0
        for n, (owner, length) in enumerate(zip(OWNERS, LENGTHS, strict=True)):
            one = one_image({name: given[name] for name in NAMES}, owner, count=COUNTS[owner])
            for k in range(3):
                if SPANS[n, k, 0] < 0:
                    continue
                alone = model(given["input_ids"][n : n + 1, :length], **one, phrase_spans=SPANS[n : n + 1, k : k + 1])
                for name in ("logits", "phrase_scores", "pred_boxes"):
                    found = together[name][n, k, : COUNTS[owner]]
                    torch.testing.assert_close(found, alone[name][0, 0], atol=1e-5, rtol=1e-5)
                seen += 1
        assert seen == 11

    def test_batch_equals_single_with_its_losses(self):
        model, given, labels = grounder(), batch(), true_boxes()
        together, total = model(**given, labels=labels), 0.0
        for n, (owner, length) in enumerate(zip(OWNERS, LENGTHS, strict=True)):
            one = one_image({name: given[name] for name in NAMES}, owner, count=COUNTS[owner])
            spans = {"phrase_spans": SPANS[n : n + 1], "labels": labels[n : n + 1]}
            alone = model(given["input_ids"][n : n + 1, :length], **one, **spans)
            total += alone.loss * (SPANS[n, :, 0] >= 0).sum() / 11
        torch.testing.assert_close(together.loss, total)

    @torch.no_grad()
    def test_words_may_be_given_in_other_ways(self):
        """As embeddings with a mask of their own, and a whole text as a span of all its words."""
        model, given = grounder(), batch()
        expected, ids = model(**given).logits, given.pop("input_ids")
        words = model.get_input_embeddings()(ids.masked_fill(ids == 0, 9))
        found = model(inputs_embeds=words, attention_mask=ids != 0, **given).logits
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
        del given["phrase_spans"]
        lengths = torch.tensor(LENGTHS)
        whole = torch.stack([torch.zeros_like(lengths), lengths], dim=-1)[:, None]
        torch.testing.assert_close(model(ids, **given).logits, model(ids, **given, phrase_spans=whole).logits)

    def test_nan_in_a_padded_region_stays_there(self):
        model, given, labels = grounder(), batch(), true_boxes()
        gaps = ~given["region_mask"][..., None]
        dirty = given | {
            name: given[name].masked_fill(gaps, float("nan")) for name in ("region_features", "region_boxes")
        }
        outputs = [model(**inputs, labels=labels) for inputs in (given, dirty)]
        for name in ("logits", "pred_boxes", "loss"):
            torch.testing.assert_close(outputs[0][name], outputs[1][name], rtol=0, atol=0)
        expected = gradients_of(model, outputs[0].loss)
        torch.testing.assert_close(gradients_of(model, outputs[1].loss), expected, rtol=0, atol=0)
        assert set(expected) == {name for name, _ in model.named_parameters()}

    def test_attentions_hidden_states_and_tuples(self):
        model, given = grounder(), batch()
        output = model(**given, output_attentions=True, output_hidden_states=True)
        assert [weights.shape for weights in output.attentions] == [(5, 7, 5)] * 2
        torch.testing.assert_close(output.attentions[0].sum(dim=-1), torch.ones(5, 7))
        assert [states.shape for states in output.hidden_states] == [(5, 12, 32)] * 3
        plain = model(**given)
        assert (
            plain.attentions is None and plain.loss is None and torch.equal(plain.region_boxes, given["region_boxes"])
        )
        torch.testing.assert_close(output.logits, plain.logits, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(model(**given, return_dict=False)[0], plain.logits)

    def test_bfloat16(self):
        model, given, labels = grounder(), batch(), true_boxes()
        full = model(**given, labels=labels)
        light = model.bfloat16()(**given, labels=labels)
        assert light.logits.dtype == torch.bfloat16 and light.loss.dtype == light.pred_boxes.dtype == torch.float32
        assert light.loss.item() == pytest.approx(full.loss.item(), rel=0.05)

    @torch.no_grad()
    def test_several_images_are_read_as_one(self):
        """Regions of two images joined: scores over the regions of both."""
        model, given = grounder(), batch()
        given["image_index"] = torch.tensor([[0, 1], [1, -1], [2, 0], [0, -1], [1, 2]])
        output = model(**given, labels=None)
        assert output.logits.shape == (5, 3, 10) and output.region_boxes.shape == (5, 10, 4)
        assert output.logits[0, 0].isfinite().tolist() == [True] * 8 + [False] * 2


class TestMistakes:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"input_ids": None}, "either input_ids or inputs_embeds"),
            ({"region_features": None}, "Give either pixel_values or region_features"),
            ({"region_boxes": None}, "Grounding says where its regions are: give region_boxes as well"),
            ({"region_mask": torch.zeros(3, 5).bool()}, "have no region at all"),
            ({"phrase_spans": torch.ones(5, 2)}, r"shape \(5, 2\), but must be \(5 texts, phrases, 2\)"),
            ({"phrase_spans": torch.ones(5, 0, 2)}, r"shape \(5, 0, 2\)"),
            ({"phrase_spans": torch.tensor([[[1, 1]]] * 5)}, r"phrase 0 of text 0 spans the tokens \[1, 1\]"),
            ({"phrase_spans": torch.tensor([[[1, 8]]] * 5)}, r"\[1, 8\], but the text has 7"),
            ({"phrase_spans": torch.tensor([[[5, 6]]] * 5)}, r"text 1 spans the tokens \[5, 6\], but the text has 4"),
            ({"phrase_spans": torch.tensor([[[-1, 2]]] * 5)}, "or -1 twice for none"),
            ({"labels": torch.zeros(5, 3, 4)}, r"labels have shape \(5, 3, 4\), but must be \(5 texts, 3 phrases"),
            ({"labels": torch.zeros(5, 2, 1, 4)}, r"\(5, 2, 1, 4\)"),
        ],
    )
    def test_inputs(self, changes, message):
        with pytest.raises(ValueError, match=message):
            grounder()(**(batch() | changes))

    def test_spans_of_a_model_of_expressions(self):
        with pytest.raises(ValueError, match="scores a text as one expression: leave phrase_spans out"):
            grounder(grounding_score="region")(**batch())

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"grounding_iou": 0.0}, "grounding_iou=0.0 must be above 0 and at most 1"),
            ({"grounding_iou": 1.5}, "at most 1"),
            ({"grounding_hidden_size": 0}, "grounding_score='concat' joins with phrases: set a width"),
            ({"grounding_loss": "hinge"}, "grounding_loss"),
            ({"grounding_none": True, "grounding_loss": "binary"}, "grounding_loss='binary' does without"),
            ({"grounding_none": True, "grounding_score": "region"}, "grounding_score='region' cannot score"),
        ],
    )
    def test_configs(self, fields, message):
        with pytest.raises(Exception, match=message):
            UpDownFusionConfig(text_config=tiny_encoder_config(), **fields)


class TestLife:
    @torch.no_grad()
    def test_save_and_load(self, tmp_path):
        model, given = grounder(), batch()
        model.save_pretrained(tmp_path)
        loaded = AutoModelForZeroShotObjectDetection.from_pretrained(tmp_path)
        assert type(loaded) is UpDownFusionForGrounding and not loaded.training
        torch.testing.assert_close(loaded(**given).logits, model(**given).logits, rtol=0, atol=0)

    @torch.no_grad()
    def test_a_phrase_of_nothing_is_saved_too(self, tmp_path):
        model, given = grounder(grounding_none=True), batch()
        model.save_pretrained(tmp_path)
        loaded = UpDownFusionForGrounding.from_pretrained(tmp_path)
        torch.testing.assert_close(loaded(**given).none_scores, model(**given).none_scores, rtol=0, atol=1e-6)

    @torch.no_grad()
    def test_starts_from_pretraining(self, tmp_path):
        pretrained = tiny_pretraining(vision_config=None, region_feature_size=WIDTH)
        pretrained.save_pretrained(tmp_path)
        model, given = UpDownFusionForGrounding.from_pretrained(tmp_path), batch()
        del given["phrase_spans"]
        states = [one.fusion(**given).pooler_output for one in (model, pretrained)]
        torch.testing.assert_close(states[0], states[1], rtol=0, atol=1e-6)

    @torch.no_grad()
    def test_pixels_equal_their_regions(self, folder):
        model = AutoModelForZeroShotObjectDetection.from_pretrained(folder)
        processor = AutoProcessor.from_pretrained(folder)
        words = ["a brown dog", "two men on a wave"]
        inputs = processor(images=[tiny_image(0), tiny_image(1)], text=words, padding=True, return_tensors="pt")
        regions = model.region_source(inputs["pixel_values"])
        given = {name: regions[name] for name in NAMES}
        given |= {name: inputs[name] for name in ("input_ids", "attention_mask")}
        expected = model(**given)
        torch.testing.assert_close(model(**inputs).logits, expected.logits, rtol=0, atol=0)
        torch.testing.assert_close(model(**inputs).pred_boxes, expected.pred_boxes, rtol=0, atol=0)

    def test_the_region_source_can_learn(self, folder):
        model = UpDownFusionForGrounding.from_pretrained(folder)
        assert not any(p.requires_grad for p in model.region_source.parameters())
        model.fusion.unfreeze_regions()
        whole = torch.tensor([0.0, 0.0, 0.4, 0.4]).expand(1, 1, 1, 4)
        pixels = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        loss = model(torch.tensor([[2, 7, 9, 3]]), pixels, labels=whole).loss
        assert any(gradient.abs().max() > 0 for name, gradient in gradients_of(model, loss).items() if "source" in name)

    @pytest.mark.parametrize("form", ["concat", "multiply"])
    def test_a_few_steps_learn(self, form):
        model, given, labels = grounder(grounding_score=form), batch(), true_boxes()
        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
        losses = []
        for _ in range(40):
            output = model(**given, labels=labels)
            losses.append(output.loss.item())
            optimizer.zero_grad()
            output.loss.backward()
            optimizer.step()
        assert losses[-1] < 0.3 * losses[0]
        mask, boxes = (given[name][given["image_index"]] for name in ("region_mask", "region_boxes"))
        overlaps, _ = phrase_overlaps(boxes, labels, mask)
        found = output.logits.argmax(dim=-1, keepdim=True)
        hit = overlaps.gather(-1, found).squeeze(-1)[(SPANS[..., 0] >= 0) & (overlaps.amax(dim=-1) >= 0.5)]
        assert len(hit) >= 7 and (hit >= 0.5).all()


class TestPipeline:
    @torch.no_grad()
    def test_candidate_labels_are_phrases(self, folder):
        """Boxes in pixels of the image, the best first, each label read by itself."""
        finder = pipeline("zero-shot-object-detection", model=str(folder), device="cpu")
        assert type(finder.model) is UpDownFusionForGrounding
        image = tiny_image(2)
        labels = ["a brown dog", "the ocean"]
        found = finder(image, candidate_labels=labels, threshold=0.05)
        pixels = finder.image_processor(images=image, return_tensors="pt")
        expected = []
        for label in labels:
            output = finder.model(torch.tensor([tiny_tokenizer()(label)["input_ids"]]), **pixels)
            for score, box in zip(output.phrase_scores[0, 0].tolist(), output.pred_boxes[0, 0].tolist(), strict=True):
                if score >= 0.05:
                    sides = [int(value * side) for value, side in zip(box, [80, 60, 80, 60], strict=True)]
                    expected.append((label, score, sides))
        expected.sort(key=lambda one: -one[1])
        assert len(found) == len(expected) >= 2
        for one, (label, score, sides) in zip(found, expected, strict=True):
            assert one["label"] == label and one["score"] == pytest.approx(score, abs=1e-5)
            assert list(one["box"].values()) == pytest.approx(sides, abs=1)

    def test_several_labels_images_batches_and_limits(self, folder):
        """The same whether labels and images come alone, together, as rows or in batches; `top_k` keeps the surest."""
        finder = pipeline("zero-shot-object-detection", model=str(folder), device="cpu")
        images, labels = [tiny_image(1), tiny_image(2)], ["a brown dog", "the ocean", "grass"]
        alone = [finder(image, candidate_labels=labels, threshold=0.0) for image in images]
        num_regions = finder.model.config.vision_config.num_regions
        for found in alone:
            assert len(found) == 3 * num_regions and {one["label"] for one in found} == {*labels}
            by_label = [sum(one["score"] for one in found if one["label"] == label) for label in labels]
            assert by_label == pytest.approx([1, 1, 1], abs=1e-5)  # each label is looked for by itself
            scores = [one["score"] for one in found]
            assert scores == sorted(scores, reverse=True)
        rows = [{"image": image, "candidate_labels": labels} for image in images]
        for more in (
            finder(images, candidate_labels=labels, threshold=0.0),
            finder(images, candidate_labels=[labels, labels], threshold=0.0),
            finder(rows, threshold=0.0),
            finder(images, candidate_labels=labels, threshold=0.0, batch_size=2),
            finder(rows, threshold=0.0, batch_size=4),
        ):
            assert [[(one["label"], one["box"]) for one in found] for found in more] == [
                [(one["label"], one["box"]) for one in found] for found in alone
            ]
            for found, expected in zip(more, alone, strict=True):
                assert [one["score"] for one in found] == pytest.approx([one["score"] for one in expected], abs=1e-5)
        limit = alone[0][5]["score"]
        assert finder(images[0], candidate_labels=labels, threshold=limit + 1e-6) == alone[0][:5]
        assert finder(images[0], candidate_labels=labels, threshold=0.0, top_k=2) == alone[0][:2]
        assert finder(images[0], candidate_labels=",".join(labels), threshold=0.0) == alone[0]
