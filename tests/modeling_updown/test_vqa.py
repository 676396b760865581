"""The question answerer's own promises: the paper's equations, a batch is its members, padding cannot be seen, images
are shared, mistakes are named. Parity with the reference is in test_vqa_parity.py."""

import itertools

import pytest
import torch
from torch.nn import functional as F
from transformers import AutoModelForVisualQuestionAnswering

from modeling_updown import UpDownForVisualQuestionAnswering, UpDownVqaConfig
from modeling_updown.linear_updown import NormedLinear

from ..tiny import ANSWERS, QUESTIONS, tiny_grid_config, tiny_image, tiny_question_processor, tiny_vqa, tiny_vqa_config
from .vqa_twin import (
    PAD,
    REGIONS,
    VARIANTS,
    WORDS,
    SlowAnswerer,
    answerer,
    gradients_of,
    images,
    one_image,
    padded,
    soft_labels,
    words,
)

CHOICES: dict[str, tuple] = {
    "activation": ("gated_tanh", "relu"),
    "weight_norm": (False, True),
    "attention": ("concat", "multiply"),
    "num_glimpses": (1, 2),
    "num_attention_layers": (1, 2),
    "counted_objects": (0, 3),
    "box_embedding": (False, True),
    "normalize_regions": (False, True),
}
EVERY_COMBINATION = [dict(zip(CHOICES, values, strict=True)) for values in itertools.product(*CHOICES.values())]


@pytest.fixture(params=VARIANTS)
def model(request) -> UpDownForVisualQuestionAnswering:
    return answerer(**VARIANTS[request.param])


class TestEquations:
    @pytest.mark.parametrize("fields", EVERY_COMBINATION, ids=lambda fields: "-".join(map(str, fields.values())))
    def test_slow_twin(self, fields):
        """Every combination: 2 questions about images of 5 and 3 regions, one of whose questions is shorter."""
        model, batch = answerer(**fields, answer_hidden_size=9), images(2)
        batch["region_mask"][1, 3:] = False
        ids = padded(words(2), [6, 4], side="right")
        output = model(ids, **batch, labels=soft_labels(2), output_hidden_states=True)
        for n, (length, count) in enumerate(((6, 5), (4, 3))):
            alone = SlowAnswerer(model).answer(
                ids[n, :length].tolist(), batch["region_features"][n, :count], batch["region_boxes"][n, :count]
            )
            question, joint = output.hidden_states
            for ours, expected in (
                (question[n], alone["question"]),
                (output.attentions[-1][n, :, :count], alone["weights"]),
                (joint[n], alone["joint"]),
                (output.logits[n], alone["logits"]),
            ):
                torch.testing.assert_close(ours.double(), expected, atol=2e-5, rtol=1e-4)
        assert len(output.attentions) == fields["num_attention_layers"]
        for weights in output.attentions:
            torch.testing.assert_close(weights.sum(dim=-1), torch.ones(2, fields["num_glimpses"]))
            assert weights[1, :, 3:].abs().max() == 0
        gradients = gradients_of(model, output.loss)
        assert len(gradients) == len(list(model.parameters()))
        assert all(gradient.isfinite().all() for gradient in gradients.values())

    def test_references_question(self):
        """hengyuan-hu's GRU runs over the padding first."""
        model, batch = answerer(**VARIANTS["hengyuan-hu"]), images(1)
        expected = SlowAnswerer(model).answer([4, 9, 2], batch["region_features"][0], batch["region_boxes"][0])
        logits = model(torch.tensor([[4, 9, 2]]), **batch).logits[0]
        torch.testing.assert_close(logits.double(), expected["logits"], atol=1e-5, rtol=1e-4)
        model.config.reads_padding = False
        assert not torch.allclose(model(torch.tensor([[4, 9, 2]]), **batch).logits[0], logits, atol=1e-2)

    def test_loss(self, model):
        """Binary cross-entropy, summed over answers, a mean over questions."""
        labels, batch = soft_labels(3), images()
        output = model(words(3), **batch, labels=labels)
        p = output.logits.double().sigmoid()
        expected = -(labels * p.log() + (1 - labels) * (1 - p).log()).sum() / 3
        torch.testing.assert_close(output.loss.double(), expected, atol=1e-5, rtol=1e-5)
        counted = model(words(3), **batch, labels=labels, num_items_in_batch=12).loss
        torch.testing.assert_close(counted, output.loss * 3 / 12)

    def test_attention_in_training_is_that_of_evaluation(self):
        """With dropout, products of image and question are made one by one; without, in one product an image."""
        for attention, activation in itertools.product(CHOICES["attention"], CHOICES["activation"]):
            model = answerer(attention=attention, activation=activation, attention_dropout=1e-12, num_glimpses=2)
            batch = images()
            expected = model(words(6), **batch)
            found = model.train()(words(6), **batch)
            torch.testing.assert_close(found.attentions, expected.attentions)
            torch.testing.assert_close(found.logits, expected.logits, atol=1e-5, rtol=1e-5)

    def test_dropout_only_in_training(self):
        """Each of the five by itself."""
        batch, ids = images(), words(3)
        for name in ("word", "question", "region", "attention", "answer"):
            for attention in CHOICES["attention"]:
                model = answerer(attention=attention, **{f"{name}_dropout": 0.5})
                torch.testing.assert_close(model(ids, **batch).logits, model(ids, **batch).logits, rtol=0, atol=0)
                model.train()
                assert not torch.allclose(model(ids, **batch).logits, model(ids, **batch).logits), name


class TestForward:
    def test_batch_equals_single(self, model):
        """Images of 5, 3 and 1 regions, questions of 6, 1 and 4 words: together, and each alone without padding."""
        batch, labels = images(), soft_labels(3)
        counts, lengths = [5, 3, 1], [6, 1, 4]
        batch["region_mask"] = torch.arange(REGIONS) < torch.tensor(counts)[:, None]
        ids = padded(words(3), lengths, side="right")
        together = model(ids, **batch, labels=labels)
        total = 0.0
        for n, (count, length) in enumerate(zip(counts, lengths, strict=True)):
            one = model(ids[n : n + 1, :length], **one_image(batch, n, count=count), labels=labels[n : n + 1])
            torch.testing.assert_close(together.logits[n], one.logits[0], atol=1e-5, rtol=1e-5)
            for ours, alone in zip(together.attentions, one.attentions, strict=True):
                torch.testing.assert_close(ours[n, :, :count], alone[0], atol=1e-5, rtol=1e-5)
                assert ours[n, :, count:].eq(0).all()
            if together.counts is not None:
                torch.testing.assert_close(together.counts[n], one.counts[0], atol=1e-5, rtol=1e-5)
            total += one.loss / 3
        torch.testing.assert_close(together.loss, total)

    def test_padding_side_does_not_matter(self, model):
        """Left, right, wider, gaps in the middle, a mask over other words: the same logits and gradients."""
        lengths, batch, labels, ids = [6, 1, 4], images(), soft_labels(3), words(3)
        right, left = (padded(ids, lengths, side=side) for side in ("right", "left"))
        noise = torch.where(right == PAD, 7, right)
        spread = torch.stack([right, torch.zeros_like(right)], dim=2).flatten(1)  # a gap after every word
        given: list[dict[str, torch.Tensor]] = [
            {"input_ids": right},
            {"input_ids": left},
            {"input_ids": F.pad(left, (3, 2))},
            {"input_ids": spread},
            {"input_ids": noise, "attention_mask": (right != PAD).long()},
            {"inputs_embeds": model.embed_tokens(noise), "attention_mask": right != PAD},
        ]
        outputs = [model(**question, **batch, labels=labels) for question in given]
        gradients = [gradients_of(model, output.loss) for output in outputs]
        for output, gradient in zip(outputs[1:], gradients[1:], strict=True):
            torch.testing.assert_close(output.logits, outputs[0].logits, atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(gradient, gradients[0], atol=1e-5, rtol=1e-4)
        assert gradients[0]["embed_tokens.weight"][PAD].eq(0).all()

    def test_nan_in_a_padded_region_stays_there(self, model):
        batch, labels = images(), soft_labels(3)
        batch["region_mask"][:, 4] = False
        batch["region_mask"][1, :2] = False  # gaps may stand anywhere
        clean = model(words(3), **batch, labels=labels)
        gaps = ~batch["region_mask"][..., None]
        dirty = batch | {name: batch[name].masked_fill(gaps, float("nan")) for name in batch if name != "region_mask"}
        found = model(words(3), **dirty, labels=labels)
        torch.testing.assert_close(clean.logits, found.logits, rtol=0, atol=0)
        expected = gradients_of(model, clean.loss)
        torch.testing.assert_close(gradients_of(model, found.loss), expected, rtol=0, atol=0)

    @pytest.mark.parametrize(
        "index", [None, [0, 0, 1, 1, 2, 2], [2, 0, 0, 2, 0, 1], [1, 1, 1, 1, 1, 1], [2, 2, 0, 0, 2, 0]]
    )
    @pytest.mark.parametrize("training", [False, True])
    def test_several_questions_an_image_equal_each_alone(self, model, index, training):
        """Two for each image, or as `image_index` says; logits, attention, and the gradient of weights and regions.
        In training (with dropout that drops nothing) attention takes another way."""
        model.train(training)
        model.config.attention_dropout = 1e-12
        batch, labels = images(), soft_labels(6)
        batch["region_mask"][1, 3:] = False
        ids = padded(words(6), [6, 2, 3, 1, 6, 5], side="left")
        owners = [0, 0, 1, 1, 2, 2] if index is None else index
        results = []
        for together in (True, False):
            regions = batch | {"region_features": batch["region_features"].clone().requires_grad_()}
            if together:
                image_index = None if index is None else torch.tensor(index)
                output = model(ids, **regions, image_index=image_index, labels=labels)
                logits, attention, loss = output.logits, output.attentions[-1], output.loss
            else:
                alone = [
                    model(ids[n : n + 1], **one_image(regions, owner), labels=labels[n : n + 1])
                    for n, owner in enumerate(owners)
                ]
                logits = torch.cat([one.logits for one in alone])
                attention = torch.cat([one.attentions[-1] for one in alone])
                loss = torch.stack([one.loss for one in alone]).mean()
            gradients = gradients_of(model, loss)
            results.append((logits, attention, gradients, regions["region_features"].grad))
        torch.testing.assert_close(results[0], results[1], atol=1e-5, rtol=1e-4)
        if index is not None and 0 not in index:
            assert results[0][3][0].eq(0).all()  # nobody asked about that image

    def test_long_questions_are_cut(self, model):
        """At 14 words, whichever side the padding is on; 500 words are no trouble."""
        ids, batch = words(3, 500), images()
        expected = model(ids[:, :14], **batch).logits
        for given in (ids, F.pad(ids, (5, 0)), F.pad(ids, (0, 5))):
            torch.testing.assert_close(model(given, **batch).logits, expected)
        short = answerer(max_question_words=4)
        torch.testing.assert_close(short(ids, **batch).logits, short(ids[:, :4], **batch).logits)

    @pytest.mark.parametrize("count", [0, 1, 6])
    def test_empty_question(self, model, count):
        """Nothing but padding, or no column at all, as tokenizers (in floats) make it: the state before any word."""
        batch = images(2)
        empty = torch.zeros(1, count) if count == 0 else torch.zeros(1, count, dtype=torch.long)
        output = model(empty, **one_image(batch, 0), labels=soft_labels(1), output_hidden_states=True)
        assert all(gradient.isfinite().all() for gradient in gradients_of(model, output.loss).values())
        if not model.config.reads_padding:
            assert output.hidden_states[0].eq(0).all()
        beside = model(torch.tensor([[PAD, PAD, PAD], [5, 6, 7]]), **batch)
        torch.testing.assert_close(beside.logits[0], output.logits[0], atol=1e-6, rtol=1e-5)

    def test_bfloat16_autocast_and_weights(self, model):
        batch, labels = images(), soft_labels(3)
        full = model(words(3), **batch, labels=labels)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half = model(words(3), **batch, labels=labels)
        assert half.loss.dtype == torch.float32
        assert abs(half.loss.item() - full.loss.item()) < 0.03 * full.loss.item()
        gradients = gradients_of(model, half.loss)
        assert all(gradient.dtype == torch.float32 and gradient.isfinite().all() for gradient in gradients.values())
        model.bfloat16()
        light = model(words(3), **batch, labels=labels)
        assert light.logits.dtype == torch.bfloat16 and light.loss.dtype == torch.float32
        assert abs(light.loss.item() - full.loss.item()) < 0.05 * full.loss.item()
        assert abs(light.attentions[0].float().sum(dim=-1) - 1).max() < 0.02

    @torch.no_grad()
    def test_compiled_forward(self):
        model, batch, index = answerer(**VARIANTS["hengyuan-hu"]), images(), torch.tensor([2, 0, 0, 1])
        compiled = torch.compile(model, backend="eager")
        given = {"input_ids": padded(words(4), [6, 2, 3, 1], side="right"), "image_index": index} | batch
        torch.testing.assert_close(compiled(**given).logits, model(**given).logits, atol=1e-5, rtol=1e-5)

    def test_hidden_states_and_tuples(self, model):
        batch = images()
        output = model(words(3), **batch, output_hidden_states=True)
        question, joint = output.hidden_states
        before = model.before_answers(joint)
        torch.testing.assert_close(model.answers(before), output.logits)
        assert question.shape == joint.shape == (3, 16)
        torch.testing.assert_close(model(words(3), **batch, return_dict=False)[0], output.logits)
        assert model(words(3), **batch).hidden_states is None and output.loss is None
        assert torch.equal(output.region_boxes, batch["region_boxes"])


class TestChoices:
    """Answers given as words: two questions of 3 choices, one of which has 2."""

    CHOICE_IDS = torch.tensor([[[4, 5, 0], [6, 0, 0], [7, 8, 9]], [[9, 0, 0], [4, 4, 0], [0, 0, 0]]])
    MASK = torch.tensor([[True, True, True], [True, True, False]])

    def model(self) -> UpDownForVisualQuestionAnswering:
        return answerer(scores_choices=True)

    def test_equations(self):
        """w^T (h * f_c(GRU(choice))), choice by choice."""
        model, batch = self.model(), images(2)
        output = model(
            words(2), **batch, choice_input_ids=self.CHOICE_IDS, choice_mask=self.MASK, output_hidden_states=True
        )
        slow = SlowAnswerer(model)
        for row, choice in itertools.product(range(2), range(3)):
            if not self.MASK[row, choice]:
                assert output.choice_logits[row, choice] == float("-inf")
                continue
            text = slow.read([word for word in self.CHOICE_IDS[row, choice].tolist() if word != PAD])
            joint = output.hidden_states[1][row].double() * slow.layer("of_choice", text)
            expected = slow.product("choice_score", joint)[0]
            torch.testing.assert_close(output.choice_logits[row, choice].double(), expected, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(output.logits, model(words(2), **batch).logits)

    def test_loss(self):
        """Cross-entropy of the right one, a mean over those questions that have one; answers and choices add up."""
        model, batch, labels = self.model(), images(2), soft_labels(2)
        choices = {"choice_input_ids": self.CHOICE_IDS, "choice_mask": self.MASK}
        scores = model(words(2), **batch, **choices).choice_logits
        both = model(words(2), **batch, **choices, correct_choice=torch.tensor([2, 0])).loss
        torch.testing.assert_close(both, -(scores[0].log_softmax(0)[2] + scores[1, :2].log_softmax(0)[0]) / 2)
        first = model(words(2), **batch, **choices, correct_choice=torch.tensor([2, -100])).loss
        torch.testing.assert_close(first, -scores[0].log_softmax(0)[2])
        open_ended = model(words(2), **batch, labels=labels).loss
        together = model(words(2), **batch, **choices, labels=labels, correct_choice=torch.tensor([2, -100])).loss
        torch.testing.assert_close(together, first + open_ended)
        none = model(words(2), **batch, **choices, correct_choice=torch.tensor([-100, -100])).loss
        assert none.item() == 0

    def test_gradients_are_finite_where_a_question_has_no_choice(self):
        model, batch = self.model(), images(2)
        mask = torch.tensor([[True, True, True], [False, False, False]])
        loss = model(
            words(2),
            **batch,
            choice_input_ids=self.CHOICE_IDS,
            choice_mask=mask,
            correct_choice=torch.tensor([0, -100]),
        ).loss
        assert all(gradient.isfinite().all() for gradient in gradients_of(model, loss).values())

    def test_order_of_choices_does_not_matter(self):
        model, batch = self.model(), images(2)
        scores, flipped = (
            model(words(2), **batch, choice_input_ids=ids).choice_logits
            for ids in (self.CHOICE_IDS, self.CHOICE_IDS.flip(1))
        )
        torch.testing.assert_close(scores.flip(1), flipped)

    def test_mistakes(self):
        batch = images(2)
        with pytest.raises(ValueError, match="config.scores_choices=True"):
            answerer()(words(2), **batch, choice_input_ids=self.CHOICE_IDS)
        with pytest.raises(ValueError, match="give choice_input_ids as well"):
            self.model()(words(2), **batch, correct_choice=torch.tensor([0, 1]))


class TestMistakes:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"region_features": torch.zeros(3, 5, 11)}, "11.*expects.*10.*another detector"),
            ({"region_mask": torch.zeros(3, 5, dtype=torch.bool)}, r"images \[0, 1, 2\].*no region at all"),
            ({"region_mask": torch.ones(3, 4, dtype=torch.bool)}, r"region_mask has shape \(3, 4\)"),
            ({"region_features": None}, "Give either pixel_values or region_features"),
            ({"pixel_values": torch.zeros(3, 3, 8, 8), "region_features": None}, "owns no region source"),
            ({"input_ids": words(4)}, "4 texts for 3 images.*image_index"),
            ({"input_ids": words(2)}, "2 texts for 3 images"),
            ({"input_ids": words(0)}, "0 texts for 3 images"),
            ({"input_ids": None}, "either input_ids or inputs_embeds"),
            ({"inputs_embeds": torch.zeros(3, 6, 12)}, "either input_ids or inputs_embeds"),
            ({"attention_mask": torch.ones(3, 5)}, r"attention_mask has shape \(3, 5\).*\(3, 6\)"),
            ({"image_index": torch.tensor([0, 1, 3])}, "one of 3 images for each of 3 texts"),
            ({"image_index": torch.tensor([0, -1, 2])}, "one of 3 images"),
            ({"image_index": torch.tensor([0, 1])}, "one of 3 images for each of 3 texts"),
            ({"input_ids": words(0), "image_index": torch.zeros(0, dtype=torch.long)}, "each of 0 texts"),
            ({"labels": torch.zeros(3, 5)}, r"labels have shape \(3, 5\).*each of 6 answers to each of 3 questions"),
            ({"labels": torch.zeros(3, dtype=torch.long)}, r"labels have shape \(3,\)"),
        ],
    )
    def test_inputs(self, changes, message):
        with pytest.raises(ValueError, match=message):
            answerer()(**({"input_ids": words(3)} | images() | changes))

    def test_one_image_without_regions_is_named(self):
        batch = images()
        batch["region_mask"][1] = False
        with pytest.raises(ValueError, match=r"images \[1\] of the batch"):
            answerer()(words(3), **batch)

    def test_image_index_of_any_integers(self):
        batch, expected = images(), answerer()(words(2), **images(), image_index=torch.tensor([2, 0])).logits
        found = answerer()(words(2), **batch, image_index=torch.tensor([2, 0], dtype=torch.int32)).logits
        torch.testing.assert_close(found, expected)

    @pytest.mark.parametrize("fields", [{"box_embedding": True}, {"counted_objects": 3}])
    def test_boxes_are_asked_for(self, fields):
        with pytest.raises(ValueError, match="give region_boxes as well"):
            answerer(**fields)(words(3), region_features=images()["region_features"])
        with pytest.raises(ValueError, match="owns no region source"):
            answerer().unfreeze_regions()

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"id2label": {0: "yes", 1: "no", 2: "yes"}}, "answers twice .*'yes'"),
            ({"id2label": {}}, "holds no answer.*updown build-answers"),
            ({"max_question_words": 0}, "max_question_words=0 must be 1 or more"),
            ({"num_glimpses": 0}, "num_glimpses=0 must be 1 or more"),
            ({"num_attention_layers": 0}, "num_attention_layers=0 must be 1 or more"),
            ({"counted_objects": -1}, "counted_objects=-1 must be 0"),
            ({"vision_config": {"model_type": "resnet"}}, "model_type 'resnet'"),
        ],
    )
    def test_config(self, fields, message):
        with pytest.raises(ValueError, match=message):
            UpDownVqaConfig(**fields)


class TestLife:
    def test_answers_come_from_id2label(self):
        config = UpDownVqaConfig(id2label={0: "yes", 1: "no"}, num_answers=7)
        assert (config.num_answers, config.num_labels) == (2, 2) and config.label2id == {"yes": 0, "no": 1}
        assert UpDownVqaConfig(num_answers=3).id2label == {0: "answer 0", 1: "answer 1", 2: "answer 2"}
        assert tiny_vqa().answers.out_features == len(ANSWERS)

    @pytest.mark.parametrize("fields", [*VARIANTS.values(), {"scores_choices": True, "weight_norm": True}])
    def test_save_and_load(self, fields, tmp_path):
        """Lengths of weight norm are not what they were at first; loading leaves them alone."""
        model = answerer(**fields)
        model.save_pretrained(tmp_path)
        loaded = AutoModelForVisualQuestionAnswering.from_pretrained(tmp_path)
        assert type(loaded) is UpDownForVisualQuestionAnswering and not loaded.training
        assert loaded.config.id2label == model.config.id2label
        for name, value in model.state_dict().items():
            assert torch.equal(value, loaded.state_dict()[name]), name
        batch = images()
        torch.testing.assert_close(loaded(words(3), **batch).logits, model(words(3), **batch).logits, rtol=0, atol=0)
        assert [path.name for path in tmp_path.glob("*.safetensors")] == ["model.safetensors"]
        half = UpDownForVisualQuestionAnswering.from_pretrained(tmp_path, dtype=torch.bfloat16)
        assert {value.dtype for value in half.state_dict().values()} == {torch.bfloat16}

    def test_parts_added_on_loading_start_as_new(self, tmp_path):
        """Weight norm over trained weights changes nothing; a new counter has its functions straight."""
        model, batch = answerer(), images()
        model.save_pretrained(tmp_path)
        normed = UpDownForVisualQuestionAnswering.from_pretrained(tmp_path, weight_norm=True)
        torch.testing.assert_close(
            normed(words(3), **batch).logits, model(words(3), **batch).logits, atol=1e-5, rtol=1e-5
        )
        counting = UpDownForVisualQuestionAnswering.from_pretrained(tmp_path, counted_objects=3)
        for function in counting.counter.functions:
            assert function.slopes.eq(1).all()

    def test_initialisation(self):
        """As torch's own layers: 1 / sqrt(3 x inputs); word vectors as GloVe's; lengths that change nothing."""
        model = UpDownForVisualQuestionAnswering(
            tiny_vqa_config(
                vision_config=None,
                region_feature_size=300,
                initializer_range=None,
                weight_norm=True,
                hidden_size=200,
                vocab_size=500,
                word_embedding_size=50,
            )
        )
        for module in model.modules():
            if isinstance(module, torch.nn.Linear | NormedLinear):
                assert module.bias.eq(0).all()
                if module.weight.numel() > 5000:
                    expected = (3 * module.in_features) ** -0.5
                    assert abs(module.weight.std().item() - expected) < 0.05 * expected
            if isinstance(module, NormedLinear):
                assert torch.equal(module.gain, module.weight.norm())
        assert model.embed_tokens.weight[PAD].eq(0).all()
        assert abs(model.embed_tokens.weight[1:].std().item() - 0.3) < 0.01

    def test_pixels_equal_their_regions(self, tmp_path):
        """A model that owns its source answers about images as about that source's regions, after loading too."""
        model, processor = tiny_vqa(), tiny_question_processor()
        inputs = processor(images=[tiny_image(0), tiny_image(1)], text=QUESTIONS, padding=True, return_tensors="pt")
        pixels, ids = inputs["pixel_values"], inputs["input_ids"]
        with torch.no_grad():
            regions = model.region_source(pixels)
            expected = model(ids, **regions).logits
            torch.testing.assert_close(model(**inputs).logits, expected, rtol=0, atol=0)
            model.save_pretrained(tmp_path)
            loaded = UpDownForVisualQuestionAnswering.from_pretrained(tmp_path)
            torch.testing.assert_close(loaded(**inputs).logits, expected, rtol=0, atol=0)
        assert not torch.allclose(expected[0], expected[1], atol=0.01)
        assert not torch.allclose(model(ids, pixel_values=pixels.flip(0)).logits[0], expected[0], atol=0.01)

    def test_gradient_reaches_the_region_source_once_unfrozen(self):
        model = tiny_vqa(vision_config=tiny_grid_config(trainable_stages=1)).train()
        inputs = {"input_ids": words(2), "pixel_values": torch.rand(2, 3, 64, 64), "labels": soft_labels(2)}
        model(**inputs).loss.backward()
        assert all(parameter.grad is None for parameter in model.region_source.parameters())
        model.unfreeze_regions()
        model(**inputs).loss.backward()
        trained = {name for name, p in model.region_source.named_parameters() if p.grad is not None}
        assert trained and all(name.startswith("backbone.layer4") for name in trained)
        assert model.config.freeze_regions is False
        assert not model.region_source.backbone.training

    def test_resized_vocabulary(self, model):
        batch, before = images(), model(words(3), **images()).logits
        model.resize_token_embeddings(WORDS + 3)
        assert model.config.vocab_size == WORDS + 3
        torch.testing.assert_close(model(words(3), **batch).logits, before)
        assert model(torch.full((3, 2), WORDS + 2), **batch).logits.isfinite().all()

    def test_a_few_steps_learn(self, model):
        """Four images and questions whose answers differ: the loss falls to a fraction, and every answer is right."""
        batch, ids, right = images(4), words(4), torch.tensor([0, 3, 5, 1])
        labels = F.one_hot(right, len(ANSWERS)).float()
        optimizer = torch.optim.Adamax(model.parameters(), lr=0.03)
        model.train()
        for _ in range(60):
            loss = model(ids, **batch, labels=labels).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        assert loss.item() < 0.4
        assert model.eval()(ids, **batch).logits.argmax(dim=1).tolist() == right.tolist()

    def test_published_number_of_weights(self):
        """The paper's answerer on regions of 2048, by hand: 10,000 words of 300, a GRU of 512, 3,129 answers."""
        with torch.device("meta"):
            model = UpDownForVisualQuestionAnswering(UpDownVqaConfig())
        gru = 3 * 512 * (300 + 512) + 2 * 3 * 512
        attention = 2 * 512 * (2048 + 512) + 2 * 512 + 512 + 1
        layers = 2 * 512 * (512 + 2048 + 512) + 3 * 2 * 512
        assert model.num_parameters() == 10000 * 300 + gru + attention + layers + 512 * 3129 + 3129
