"""Question answering on the fusion model: the answer head by hand, attention of [CLS] against its slow twin, a batch is
its members, mistakes are named, and the pipeline with word pieces."""

import logging
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F
from transformers import AutoModelForVisualQuestionAnswering, AutoProcessor, pipeline

from modeling_updown import UpDownFusionConfig, UpDownFusionForVisualQuestionAnswering, draw_answer

from ..tiny import (
    ANSWERS,
    QUESTIONS,
    save_tiny_fusion_vqa,
    tiny_encoder_config,
    tiny_fusion_vqa,
    tiny_image,
    tiny_pretraining,
    tiny_tokenizer,
)
from .test_fusion import normed, product, texts, uneven
from .vqa_twin import WIDTH, gradients_of, images, one_image, soft_labels

LENGTHS = [7, 4, 6, 5, 7]
OWNERS = [0, 0, 1, 2, 2]


def answerer(**changes: Any) -> UpDownFusionForVisualQuestionAnswering:
    """Fed with regions of width 10."""
    fields: dict[str, Any] = {"vision_config": None, "region_feature_size": WIDTH}
    return tiny_fusion_vqa(**(fields | changes))


def batch() -> dict[str, Any]:
    """Five questions of 4 to 7 pieces about images of 5, 3 and 1 regions."""
    return {"input_ids": texts(lengths=LENGTHS), "image_index": torch.tensor(OWNERS), **uneven()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return save_tiny_fusion_vqa(tmp_path_factory.mktemp("answerer"))


class TestEquations:
    @pytest.mark.parametrize("size", [None, 9])
    def test_answer_head(self, size):
        """W_o LN(GELU(W z + b)) + b, number by number; twice the width where no other is given."""
        model, given = answerer(answer_hidden_size=size).double(), batch()
        model.answers.bias.data.normal_()
        given["region_features"] = given["region_features"].double()
        assert model.answers.in_features == (size or 64)
        logits = model(**given).logits
        names = ("region_features", "region_boxes", "region_mask")
        for n, (owner, length) in enumerate(zip(OWNERS, LENGTHS, strict=True)):
            one = one_image({name: given[name] for name in names}, owner, count=[5, 3, 1][owner])
            joint = model.fusion(given["input_ids"][n : n + 1, :length], **one).pooler_output[0].tolist()
            hidden = product(model.before_answers.linear, joint)
            hidden = [0.5 * x * (1 + math.erf(x / math.sqrt(2))) for x in hidden]
            expected = product(model.answers, normed(hidden, model.before_answers.norm))
            assert logits[n].tolist() == pytest.approx(expected, abs=1e-6)

    def test_loss(self):
        """Binary cross-entropy, summed over answers, a mean over questions."""
        model, given, labels = answerer(), batch(), soft_labels(5)
        output = model(**given, labels=labels)
        p = output.logits.double().sigmoid()
        expected = -(labels * p.log() + (1 - labels) * (1 - p).log()).sum() / 5
        torch.testing.assert_close(output.loss.double(), expected, atol=1e-5, rtol=1e-5)
        counted = model(**given, labels=labels, num_items_in_batch=12).loss
        torch.testing.assert_close(counted, output.loss * 5 / 12)

    def test_attention_equals_its_slow_twin(self):
        """How [CLS] weighed each region, head by head, wherever [CLS] stands."""
        model, given = answerer(), batch()
        given["input_ids"] = F.pad(given["input_ids"], (2, 0))  # padding on the left as well
        output = model(**given, output_attentions=True)
        names = ("region_features", "region_boxes", "region_mask", "image_index")
        joint = model.fusion(given["input_ids"], **{name: given[name] for name in names}, output_attentions=True)
        assert len(output.attentions) == 2
        for shown, layer in zip(output.attentions, joint.attentions, strict=True):
            assert shown.shape == (5, 4, 5)
            for n, owner in enumerate(OWNERS):
                real = given["region_mask"][owner].tolist()
                for head in range(4):
                    weights = [layer[n, head, 2, 9 + r].item() if real[r] else 0.0 for r in range(5)]
                    expected = [weight / sum(weights) for weight in weights]
                    assert shown[n, head].tolist() == pytest.approx(expected, abs=1e-6)
            torch.testing.assert_close(shown.sum(dim=-1), torch.ones(5, 4))
            assert shown[~given["region_mask"][given["image_index"]][:, None].expand_as(shown)].eq(0).all()
        assert model(**given).attentions is None
        torch.testing.assert_close(output.logits, model(**given).logits, atol=1e-5, rtol=1e-5)

    def test_dropout_only_in_training(self):
        quiet = tiny_encoder_config(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
        given = batch()
        for changes in ({"answer_dropout": 0.5}, {"region_dropout": 0.5}):
            model = answerer(text_config=quiet, **changes)
            torch.testing.assert_close(model(**given).logits, model(**given).logits, rtol=0, atol=0)
            model.train()
            assert not torch.allclose(model(**given).logits, model(**given).logits), changes


class TestForward:
    def test_batch_equals_single(self):
        model, given, labels = answerer(), batch(), soft_labels(5)
        together = model(**given, labels=labels, output_attentions=True)
        names, total = ("region_features", "region_boxes", "region_mask"), 0.0
        for n, (owner, length) in enumerate(zip(OWNERS, LENGTHS, strict=True)):
            count = [5, 3, 1][owner]
            one = model(
                given["input_ids"][n : n + 1, :length],
                **one_image({name: given[name] for name in names}, owner, count=count),
                labels=labels[n : n + 1],
                output_attentions=True,
            )
            torch.testing.assert_close(together.logits[n], one.logits[0], atol=1e-5, rtol=1e-5)
            for ours, alone in zip(together.attentions, one.attentions, strict=True):
                torch.testing.assert_close(ours[n, :, :count], alone[0], atol=1e-5, rtol=1e-5)
            total += one.loss / 5
        torch.testing.assert_close(together.loss, total)

    @torch.no_grad()
    def test_words_may_be_given_in_other_ways(self):
        """Next to each other for every image, as embeddings, with a mask of their own."""
        model, given = answerer(), batch()
        given["input_ids"], given["image_index"] = texts(lengths=[6, 5, 4, 6, 2, 3]), torch.tensor([0, 0, 1, 1, 2, 2])
        expected = model(**given).logits
        ids, index = given.pop("input_ids"), given.pop("image_index")
        torch.testing.assert_close(model(ids, **given).logits, expected, atol=1e-6, rtol=1e-6)
        noise = ids.masked_fill(ids == 0, 9)
        torch.testing.assert_close(model(noise, **given, attention_mask=(ids != 0).long()).logits, expected)
        words = model.get_input_embeddings()(noise)
        found = model(inputs_embeds=words, **given, attention_mask=ids != 0, image_index=index, output_attentions=True)
        torch.testing.assert_close(found.logits, expected, atol=1e-5, rtol=1e-5)

    def test_nan_in_a_padded_region_stays_there(self):
        model, given, labels = answerer(), batch(), soft_labels(5)
        gaps = ~given["region_mask"][..., None]
        dirty = given | {
            name: given[name].masked_fill(gaps, float("nan")) for name in ("region_features", "region_boxes")
        }
        outputs = [model(**inputs, labels=labels) for inputs in (given, dirty)]
        torch.testing.assert_close(outputs[0].logits, outputs[1].logits, rtol=0, atol=0)
        expected = gradients_of(model, outputs[0].loss)
        torch.testing.assert_close(gradients_of(model, outputs[1].loss), expected, rtol=0, atol=0)
        assert set(expected) == {name for name, _ in model.named_parameters()}

    def test_hidden_states_and_tuples(self):
        model, given = answerer(), batch()
        output = model(**given, output_hidden_states=True)
        assert [states.shape for states in output.hidden_states] == [(5, 12, 32)] * 3
        head = model.answers(model.before_answers(output.hidden_states[-1][:, 0]))
        torch.testing.assert_close(head, output.logits)
        torch.testing.assert_close(model(**given, return_dict=False)[0], output.logits)
        assert output.loss is None and torch.equal(output.region_boxes, given["region_boxes"])

    def test_bfloat16(self):
        model, given, labels = answerer(), batch(), soft_labels(5)
        full = model(**given, labels=labels)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half = model(**given, labels=labels)
        assert half.loss.dtype == torch.float32
        assert half.loss.item() == pytest.approx(full.loss.item(), rel=0.05)
        assert all(gradient.isfinite().all() for gradient in gradients_of(model, half.loss).values())
        light = model.bfloat16()(**given, labels=labels, output_attentions=True)
        assert light.logits.dtype == torch.bfloat16 and light.loss.item() == pytest.approx(full.loss.item(), rel=0.05)
        assert abs(light.attentions[0].float().sum(dim=-1) - 1).max() < 0.02


class TestMistakes:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"input_ids": None}, "either input_ids or inputs_embeds"),
            ({"inputs_embeds": torch.zeros(3, 12, 32)}, "either input_ids or inputs_embeds"),
            ({"region_features": None}, "Give either pixel_values or region_features"),
            ({"region_features": torch.zeros(3, 5, 11)}, "11.*expects.*10"),
            ({"pixel_values": torch.zeros(3, 3, 8, 8), "region_features": None}, "owns no region source"),
            ({"region_boxes": None}, "give region_boxes as well"),
            ({"input_ids": texts(lengths=[3] * 4)}, "4 texts for 3 images"),
            ({"labels": torch.zeros(3, 5)}, r"labels have shape \(3, 5\).*each of 6 answers to each of 3 questions"),
            ({"choice_input_ids": torch.ones(3, 2, 4)}, "scores no choices, only the answers of config.id2label"),
        ],
    )
    def test_inputs(self, changes, message):
        with pytest.raises(ValueError, match=message):
            answerer()(**({"input_ids": texts()} | images() | changes))


class TestLife:
    def test_answers_come_from_id2label(self):
        config = UpDownFusionConfig(text_config=tiny_encoder_config(), id2label={0: "yes", 1: "no"}, num_answers=7)
        assert config.num_answers == 2 and config.label2id == {"yes": 0, "no": 1}
        assert UpDownFusionConfig(text_config=tiny_encoder_config(), num_answers=3).id2label[2] == "answer 2"
        assert answerer().answers.out_features == len(ANSWERS)

    @torch.no_grad()
    def test_save_and_load(self, tmp_path):
        model, given = answerer(), batch()
        model.save_pretrained(tmp_path)
        loaded = AutoModelForVisualQuestionAnswering.from_pretrained(tmp_path)
        assert type(loaded) is UpDownFusionForVisualQuestionAnswering and not loaded.training
        assert loaded.config.id2label == model.config.id2label
        torch.testing.assert_close(loaded(**given).logits, model(**given).logits, rtol=0, atol=0)

    @torch.no_grad()
    def test_starts_from_pretraining(self, tmp_path):
        """Under a new head lies the model that has been pretrained."""
        pretrained = tiny_pretraining(vision_config=None, region_feature_size=WIDTH)
        pretrained.save_pretrained(tmp_path)
        model = UpDownFusionForVisualQuestionAnswering.from_pretrained(tmp_path, id2label={0: "yes", 1: "no"})
        given = batch()
        states = [one.fusion(**given).pooler_output for one in (model, pretrained)]
        torch.testing.assert_close(states[0], states[1], rtol=0, atol=0)
        assert model(**given).logits.shape == (5, 2) and model(**given).logits.isfinite().all()

    @torch.no_grad()
    def test_pixels_equal_their_regions(self, folder):
        model, processor = (
            AutoModelForVisualQuestionAnswering.from_pretrained(folder),
            AutoProcessor.from_pretrained(folder),
        )
        inputs = processor(images=[tiny_image(0), tiny_image(1)], text=QUESTIONS, padding=True, return_tensors="pt")
        regions = model.region_source(inputs["pixel_values"])
        words = {name: inputs[name] for name in ("input_ids", "attention_mask")}
        given = {name: regions[name] for name in ("region_features", "region_boxes", "region_mask")}
        expected = model(**words, **given).logits
        torch.testing.assert_close(model(**inputs).logits, expected, rtol=0, atol=0)
        assert not torch.allclose(expected[0], expected[1], atol=0.01)

    def test_a_few_steps_learn(self):
        model, given, right = answerer(), images(4), torch.tensor([0, 3, 5, 1])
        ids, labels = texts(lengths=[5, 4, 6, 5]), F.one_hot(right, len(ANSWERS)).float()
        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
        for _ in range(30):
            loss = model(ids, **given, labels=labels).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        assert loss.item() < 0.2
        assert model(ids, **given).logits.argmax(dim=1).tolist() == right.tolist()


class TestPipeline:
    @torch.no_grad()
    def test_answers_are_those_of_the_model(self, folder):
        """Images and questions in word pieces, [CLS] and [SEP] among them, whatever their number."""
        vqa = pipeline("visual-question-answering", model=str(folder), device="cpu")
        assert type(vqa.model) is UpDownFusionForVisualQuestionAnswering
        pictures = [tiny_image(seed) for seed in range(2)]
        found = vqa([pictures[0], pictures[0], pictures[1], pictures[1]], QUESTIONS, top_k=6)
        for picture, question, answers in zip([0, 0, 1, 1], QUESTIONS, found, strict=True):
            inputs = vqa.image_processor(images=pictures[picture], return_tensors="pt")
            ids = torch.tensor([tiny_tokenizer()(question)["input_ids"]])
            assert ids[0, 0] == 2 and ids[0, -1] == 3
            scores = vqa.model(ids, **inputs).logits[0].sigmoid()
            order = scores.argsort(descending=True).tolist()
            assert [answer["answer"] for answer in answers] == [ANSWERS[number] for number in order]
            assert [answer["score"] for answer in answers] == pytest.approx(scores[order].tolist(), abs=1e-5)

    @torch.no_grad()
    def test_regions_of_an_answer(self, folder):
        """How each head of the last layer's [CLS] weighed them; they can be drawn."""
        vqa = pipeline("visual-question-answering", model=str(folder), device="cpu")
        picture = tiny_image(3)
        found = vqa(picture, QUESTIONS[0], top_k=2, return_regions=True)
        inputs = vqa.image_processor(images=picture, return_tensors="pt")
        ids = torch.tensor([tiny_tokenizer()(QUESTIONS[0])["input_ids"]])
        output = vqa.model(ids, **inputs, output_attentions=True)
        torch.testing.assert_close(found[0]["region_weights"], output.attentions[-1][0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(found[0]["region_weights"].sum(dim=-1), torch.ones(4))
        torch.testing.assert_close(found[0]["region_boxes"], output.region_boxes[0])
        assert "region_weights" not in found[1] and found[0].keys() == {
            "score",
            "answer",
            "region_weights",
            "region_boxes",
        }
        assert draw_answer(picture, found).size[0] > picture.size[0]
        assert "region_weights" not in vqa(picture, QUESTIONS[0])[0]

    @torch.no_grad()
    def test_long_questions_are_cut_with_a_word(self, folder, caplog, monkeypatch):
        """Where the encoder has no more positions, [SEP] kept; 62 pieces of 64 positions are the question's."""
        monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
        monkeypatch.setattr(logging.getLogger("modeling_updown"), "propagate", True)
        vqa = pipeline("visual-question-answering", model=str(folder), device="cpu")
        picture = tiny_image(0)
        fitting = vqa(picture, "dog " * 62)
        assert "of which the model reads" not in caplog.text
        cut = vqa(picture, "dog " * 80)
        assert "has 80 words, of which the model reads the first 62" in caplog.text
        assert [answer["answer"] for answer in cut] == [answer["answer"] for answer in fitting]
        assert cut[0]["score"] == pytest.approx(fitting[0]["score"], abs=1e-6)

    @torch.no_grad()
    def test_choices_are_ranked_by_the_vocabulary(self, folder):
        vqa = pipeline("visual-question-answering", model=str(folder), device="cpu")
        everything = {answer["answer"]: answer["score"] for answer in vqa(tiny_image(1), QUESTIONS[1], top_k=6)}
        found = vqa(tiny_image(1), QUESTIONS[1], choices=["no", "red"])
        assert {answer["answer"]: answer["score"] for answer in found} == pytest.approx(
            {name: everything[name] for name in ("no", "red")}, abs=1e-6
        )
        with pytest.raises(ValueError, match="'purple' are not among the 6 answers"):
            vqa(tiny_image(1), QUESTIONS[1], choices=["no", "purple"])
