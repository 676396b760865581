"""What transformers' own common tests need to know to run on our models.

With the test files of transformers laid in a folder of their own, and the checkout and this folder on PYTHONPATH
(`tests` itself is also the name of transformers' own package), run there
HF_HARNESS_SPEC=common_spec:CaptionSpec,common_spec:VqaSpec,common_spec:GridSpec,common_spec:DetectorSpec \\
    python -m pytest -q test_common.py
"""

import json
from typing import Any

import torch

from modeling_updown import (
    UpDownCaptioningConfig,
    UpDownDetector,
    UpDownDetectorConfig,
    UpDownForImageCaptioning,
    UpDownForVisualQuestionAnswering,
    UpDownFusionConfig,
    UpDownFusionForImageTextRetrieval,
    UpDownFusionForMaskedLM,
    UpDownFusionForPreTraining,
    UpDownFusionForVisualQuestionAnswering,
    UpDownFusionModel,
    UpDownGrid,
    UpDownGridConfig,
    UpDownPrefixLMConfig,
    UpDownPrefixLMForImageCaptioning,
    UpDownVqaConfig,
)

try:
    from harness import ModelSpec  # lies beside the test files of transformers
except ImportError:  # without them this file is only looked through for doctests
    ModelSpec = object

NUM_WORDS, NUM_REGIONS, REGION_WIDTH, NUM_ANSWERS = 7, 5, 12, 6
GRID: dict[str, Any] = {"backbone": "test_resnet", "image_size": 64, "grid_size": 2, "region_feature_size": 96}

DETECTOR: dict[str, Any] = {
    "num_objects": 6,
    "num_attributes": 3,
    "rpn_hidden_size": 8,
    "proposals_before_nms": 60,
    "proposals_after_nms": 20,
    "train_proposals_before_nms": 60,
    "train_proposals_after_nms": 30,
    "min_proposal_side": 4,
    "object_embedding_size": 4,
    "attribute_hidden_size": 8,
    "min_regions": 5,
    "max_regions": 5,
}


def check_attention_outputs(test: Any) -> None:
    """One tensor (rows, words, regions), asked for by argument or config; sums to 1, exactly 0 on padding."""
    config, inputs = test.model_tester.prepare_config_and_inputs_for_common()
    by_argument = test.all_model_classes[0](config).eval()
    config._attn_implementation = "eager"
    config.output_attentions = True
    by_config = test.all_model_classes[0](config).eval()
    for model, arguments in ((by_argument, {"output_attentions": True}), (by_config, {})):
        (weights,) = model(**inputs, **arguments).attentions
        test.assertEqual(weights.shape[:2], inputs["input_ids"].shape)
        torch.testing.assert_close(weights.sum(dim=-1), torch.ones(weights.shape[:2]))
        if "region_mask" in inputs:
            padding = ~inputs["region_mask"][:, None].expand_as(weights)
            test.assertEqual(weights[padding].abs().max().item(), 0)


def check_gradients_reach_outputs(test: Any) -> None:
    """The words (first hidden state) keep their gradient; the attention returned is a stack of the steps' weights, so a
    gradient starts from it but none stays on it."""
    config, inputs = test.model_tester.prepare_config_and_inputs_for_common()
    model = UpDownForImageCaptioning(config)
    output = model(**inputs, output_hidden_states=True, output_attentions=True)
    output.hidden_states[0].retain_grad()
    (output.logits.sum() + output.attentions[0].square().sum()).backward()
    test.assertGreater(output.hidden_states[0].grad.abs().max().item(), 0)
    test.assertGreater(model.attention.score.weight.grad.abs().max().item(), 0)


def check_generated_attentions(
    test: Any, batch_size: int, attentions: tuple, prompt_length: int, output_length: int, *args: Any, **kwargs: Any
) -> None:
    """One entry a step: (rows, words run, regions), each word's weights summing to 1."""
    test.assertEqual(len(attentions), output_length - prompt_length)
    for (weights,) in attentions:
        test.assertEqual(weights.shape[0], batch_size)
        torch.testing.assert_close(weights.sum(dim=-1), torch.ones(weights.shape[:2]))


def check_generated_state(test: Any, batch_size: int, past_key_values: Any, seq_length: int, config: Any) -> None:
    """Two LSTM states (rows, H), which have seen every word but the last."""
    test.assertEqual(past_key_values.get_seq_length(), seq_length)
    for layer in past_key_values.layers:
        test.assertEqual(layer.keys.shape, (batch_size, config.hidden_size))
        test.assertEqual(layer.values.shape, (batch_size, config.hidden_size))


def check_tuple_of_regions(test: Any) -> None:
    """`return_dict=False` gives the same tensors as a tuple (the common test would subtract bool masks)."""
    config, inputs = test.model_tester.prepare_config_and_inputs_for_common()
    model = test.all_model_classes[0](config).eval()
    for ours, expected in zip(model(**inputs, return_dict=False), model(**inputs).values(), strict=True):
        torch.testing.assert_close(ours, expected)


def check_question_attention(test: Any) -> None:
    """One tensor a layer of attention, (questions, glimpses, regions), asked for or not; sums to 1, exactly 0 on
    padding."""
    config, inputs = test.model_tester.prepare_config_and_inputs_for_common()
    model = UpDownForVisualQuestionAnswering(config).eval()
    for arguments in ({"output_attentions": True}, {}):
        attentions = model(**inputs, **arguments).attentions
        test.assertEqual(len(attentions), config.num_attention_layers)
        for weights in attentions:
            test.assertEqual(weights.shape[:2], (len(inputs["input_ids"]), config.num_glimpses))
            torch.testing.assert_close(weights.sum(dim=-1), torch.ones(weights.shape[:2]))
            if "region_mask" in inputs:
                padding = ~inputs["region_mask"][:, None].expand_as(weights)
                test.assertEqual(weights[padding].abs().max().item(), 0)


def check_question_states(test: Any) -> None:
    """The question's state and what question and photo make together, (questions, H) each, by argument or config."""
    config, inputs = test.model_tester.prepare_config_and_inputs_for_common()
    by_argument = UpDownForVisualQuestionAnswering(config).eval()
    test.assertIsNone(by_argument(**inputs).hidden_states)
    config.output_hidden_states = True
    by_config = UpDownForVisualQuestionAnswering(config).eval()
    for model, arguments in ((by_argument, {"output_hidden_states": True}), (by_config, {})):
        question, joint = model(**inputs, **arguments).hidden_states
        test.assertEqual(question.shape, (len(inputs["input_ids"]), config.hidden_size))
        test.assertEqual(joint.shape, question.shape)
        torch.testing.assert_close(question, model.read(inputs["input_ids"]))


def check_gradients_through_language_model(test: Any) -> None:
    """The words' first and last hidden states keep their gradient; the attention returned is made of the layer's, so a
    gradient starts from it, and reaches the regions' embedding."""
    config, inputs = test.model_tester.prepare_config_and_inputs_for_common()
    model = UpDownPrefixLMForImageCaptioning(config)
    output = model(**inputs, output_hidden_states=True, output_attentions=True)
    for states in (output.hidden_states[0], output.hidden_states[-1]):
        states.retain_grad()
    output.logits.sum().backward(retain_graph=True)
    for states in (output.hidden_states[0], output.hidden_states[-1]):
        test.assertGreater(states.grad.abs().max().item(), 0)
    model.zero_grad()
    output.attentions[0].square().sum().backward()
    test.assertGreater(model.prefix_embedding.of_features.weight.grad.abs().max().item(), 0)


def check_keys_of_regions_and_words(test: Any) -> None:
    """Keys and values of every layer hold the regions, then the words; the cache counts the words."""
    config, inputs = test.model_tester.prepare_config_and_inputs_for_common()
    model = UpDownPrefixLMForImageCaptioning(config).eval()
    rows, words = inputs["input_ids"].shape
    cache = model(**inputs, use_cache=True).past_key_values
    check_generated_keys(test, rows, cache, words, config)


def check_generated_keys(test: Any, batch_size: int, past_key_values: Any, seq_length: int, config: Any) -> None:
    """(rows, heads, regions + words, width of a head) in every layer."""
    text = config.text_config
    regions = past_key_values.region_mask.shape[1]
    shape = (batch_size, text.num_key_value_heads, regions + seq_length, text.hidden_size // text.num_attention_heads)
    test.assertEqual(past_key_values.get_seq_length(), seq_length)
    test.assertEqual(len(past_key_values.layers), text.num_hidden_layers)
    for layer in past_key_values.layers:
        test.assertEqual(layer.keys.shape, shape)
        test.assertEqual(layer.values.shape, shape)


def check_word_attention(test: Any) -> None:
    """One tensor a layer, (texts, words, regions), asked for by argument or config; sums to 1, exactly 0 on padding."""
    config, inputs = test.model_tester.prepare_config_and_inputs_for_common()
    model = test.all_model_classes[0](config).eval()
    test.assertIsNone(model(**inputs).attentions)
    eager = test.all_model_classes[0](config).eval()
    eager.set_attn_implementation("eager")
    eager.config.output_attentions = True
    for asked, arguments in ((model, {"output_attentions": True}), (eager, {})):
        attentions = asked(**inputs, **arguments).attentions
        test.assertEqual(len(attentions), config.num_hidden_layers)
        for weights in attentions:
            test.assertEqual(weights.shape, (len(inputs["input_ids"]), NUM_WORDS, NUM_REGIONS))
            torch.testing.assert_close(weights.sum(dim=-1), torch.ones(weights.shape[:2]))
            test.assertEqual(weights[~inputs["region_mask"][:, None].expand_as(weights)].abs().max().item(), 0)


def check_gradients_of_states(test: Any) -> None:
    """Hidden states keep their gradient; the attention returned is scaled over the regions, so a gradient starts from
    it but none stays on it."""
    config, inputs = test.model_tester.prepare_config_and_inputs_for_common()
    model = test.all_model_classes[0](config)
    output = model(**inputs, output_hidden_states=True, output_attentions=True)
    output.hidden_states[0].retain_grad()
    (output.logits.sum() + output.attentions[0].square().sum()).backward()
    test.assertGreater(output.hidden_states[0].grad.abs().max().item(), 0)
    test.assertGreater(model.fusion.region_embedding.of_features.weight.grad.abs().max().item(), 0)


def check_seeded_tuples(test: Any) -> None:
    """`return_dict=False` gives the same tensors as a tuple, where matching draws the same wrong pairs."""
    config, inputs = test.model_tester.prepare_config_and_inputs_for_common()
    model_class = test.all_model_classes[0]
    model = model_class(config).eval()
    for labelled in (False, True):
        given = test._prepare_for_class(inputs, model_class, return_labels=labelled)
        for more in ({}, {"output_attentions": True}):
            outputs = []
            for return_dict in (True, False):
                torch.manual_seed(0)
                outputs.append(model(**given, **more, return_dict=return_dict))
            test.assertIsInstance(outputs[1], tuple)
            torch.testing.assert_close(outputs[1], outputs[0].to_tuple())


def check_glances(test: Any) -> None:
    """One tensor a layer, (questions, heads, regions), where asked for; sums to 1, exactly 0 on padding."""
    config, inputs = test.model_tester.prepare_config_and_inputs_for_common()
    model = UpDownFusionForVisualQuestionAnswering(config).eval()
    test.assertIsNone(model(**inputs).attentions)
    attentions = model(**inputs, output_attentions=True).attentions
    test.assertEqual(len(attentions), config.num_hidden_layers)
    for weights in attentions:
        test.assertEqual(weights.shape, (len(inputs["input_ids"]), config.num_attention_heads, NUM_REGIONS))
        torch.testing.assert_close(weights.sum(dim=-1), torch.ones(weights.shape[:2]))
        test.assertEqual(weights[~inputs["region_mask"][:, None].expand_as(weights)].abs().max().item(), 0)


class CaptionSpec(ModelSpec):
    """The captioner, fed with regions."""

    name = "Caption"
    config_class = UpDownCaptioningConfig
    all_model_classes = (UpDownForImageCaptioning,)
    auto = {"AutoModelForImageTextToText": UpDownForImageCaptioning}
    test_mismatched_shapes = True
    config_kwargs: dict[str, Any] = {
        "vocab_size": 99,
        "region_feature_size": REGION_WIDTH,
        "hidden_size": 16,
        "word_embedding_size": 16,
        "attention_size": 8,
        "region_embedding_size": 14,
        "initializer_range": 0.1,
    }
    overrides: dict[str, Any] = {
        "test_attention_outputs": check_attention_outputs,
        "test_retain_grad_hidden_states_attentions": check_gradients_reach_outputs,
        "_check_attentions_for_generate": check_generated_attentions,
        "_check_past_key_values_for_generate": check_generated_state,
    }
    skip: dict[str, str] = {
        "test_model_base_model_prefix": "no base model under a head: every word runs through the whole captioner",
        "test_generate_without_input_ids": "a caption is of a photo: generate wants regions or pixels",
    }

    def prepare_inputs(self, config: UpDownCaptioningConfig) -> dict[str, torch.Tensor]:
        generator = torch.Generator().manual_seed(0)
        rows = self.batch_size
        region_mask = torch.ones(rows, NUM_REGIONS, dtype=torch.bool)
        region_mask[1, 3:] = False
        return {
            "input_ids": torch.randint(4, config.vocab_size, (rows, self.seq_length), generator=generator),
            "attention_mask": torch.ones(rows, self.seq_length, dtype=torch.long),
            "region_features": torch.rand(rows, NUM_REGIONS, REGION_WIDTH, generator=generator),
            "region_boxes": torch.tensor([0.0, 0.0, 1.0, 1.0]).expand(rows, NUM_REGIONS, 4).clone(),
            "region_mask": region_mask,
        }


class PixelCaptionSpec(CaptionSpec):
    """The captioner with a region source of its own, fed with pixels."""

    name = "PixelCaption"
    composite = True
    config_kwargs = CaptionSpec.config_kwargs | {
        "region_feature_size": GRID["region_feature_size"],
        "vision_config": {"model_type": "updown_grid", **GRID},
    }
    config_test_kwargs: dict[str, Any] = {"vision_config": None}  # the test would compare a config with the dict given
    skip = CaptionSpec.skip | {
        "test_can_set_attention_dynamically_composite_model": "additive attention has no sdpa form",
    }

    def prepare_inputs(self, config: UpDownCaptioningConfig) -> dict[str, torch.Tensor]:
        inputs = super().prepare_inputs(config)
        pixel_values = torch.rand(self.batch_size, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        words = {name: inputs[name] for name in ("input_ids", "attention_mask")}
        return words | {"pixel_values": pixel_values}


class VqaSpec(ModelSpec):
    """The question answerer, fed with regions."""

    name = "Vqa"
    config_class = UpDownVqaConfig
    all_model_classes = (UpDownForVisualQuestionAnswering,)
    auto = {"AutoModelForVisualQuestionAnswering": UpDownForVisualQuestionAnswering}
    generative = False
    test_mismatched_shapes = True
    config_kwargs: dict[str, Any] = {
        "vocab_size": 99,
        "num_answers": NUM_ANSWERS,
        "region_feature_size": REGION_WIDTH,
        "hidden_size": 16,
        "word_embedding_size": 16,
        "initializer_range": 0.1,
    }
    overrides: dict[str, Any] = {
        "test_attention_outputs": check_question_attention,
        "test_hidden_states_output": check_question_states,
    }
    labels_for = {
        "UpDownForVisualQuestionAnswering": lambda spec, config: (
            torch.arange(spec.batch_size * NUM_ANSWERS).view(spec.batch_size, -1) % 4 / 3
        )
    }
    skip: dict[str, str] = {
        "test_model_base_model_prefix": "no base model under a head: the answers are the model",
    }

    def prepare_inputs(self, config: UpDownVqaConfig) -> dict[str, torch.Tensor]:
        generator = torch.Generator().manual_seed(0)
        region_mask = torch.ones(self.batch_size, NUM_REGIONS, dtype=torch.bool)
        region_mask[1, 3:] = False
        corners = torch.rand(self.batch_size, NUM_REGIONS, 2, generator=generator) / 2
        return {
            "input_ids": torch.randint(1, config.vocab_size, (self.batch_size, self.seq_length), generator=generator),
            "region_features": torch.rand(self.batch_size, NUM_REGIONS, REGION_WIDTH, generator=generator),
            "region_boxes": torch.cat([corners, corners + 0.5], dim=-1),
            "region_mask": region_mask,
        }


class RichVqaSpec(VqaSpec):
    """The question answerer with all that is beyond the paper: weight norm, products, glimpses, stacked attention,
    boxes, counting, choices."""

    name = "RichVqa"
    config_kwargs = VqaSpec.config_kwargs | {
        "activation": "relu",
        "weight_norm": True,
        "attention": "multiply",
        "reads_padding": True,
        "box_embedding": True,
        "normalize_regions": True,
        "num_glimpses": 2,
        "num_attention_layers": 2,
        "counted_objects": 3,
        "scores_choices": True,
    }

    def prepare_inputs(self, config: UpDownVqaConfig) -> dict[str, torch.Tensor]:
        choices = torch.arange(self.batch_size * 2 * 3).view(self.batch_size, 2, 3) % (config.vocab_size - 1) + 1
        return super().prepare_inputs(config) | {"choice_input_ids": choices}


class PixelVqaSpec(VqaSpec):
    """The question answerer with a region source of its own, fed with pixels."""

    name = "PixelVqa"
    composite = True
    config_kwargs = VqaSpec.config_kwargs | {
        "region_feature_size": GRID["region_feature_size"],
        "vision_config": {"model_type": "updown_grid", **GRID},
    }
    config_test_kwargs: dict[str, Any] = {"vision_config": None}  # the test would compare a config with the dict given
    skip = VqaSpec.skip | {
        "test_can_set_attention_dynamically_composite_model": "attention by products or sums has no sdpa form",
    }

    def prepare_inputs(self, config: UpDownVqaConfig) -> dict[str, torch.Tensor]:
        pixel_values = torch.rand(self.batch_size, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        return {"input_ids": super().prepare_inputs(config)["input_ids"], "pixel_values": pixel_values}


class GridSpec(ModelSpec):
    """The grid region source."""

    name = "Grid"
    config_class = UpDownGridConfig
    all_model_classes = (UpDownGrid,)
    auto = {"AutoModel": UpDownGrid}
    generative = False
    has_text_modality = False
    has_attentions = False
    test_resize_embeddings = False
    config_kwargs = GRID
    overrides: dict[str, Any] = {"test_model_outputs_equivalence": check_tuple_of_regions}
    common_properties = ["image_size", "grid_size"]
    skip: dict[str, str] = {
        "test_hidden_states_output": "a region source returns regions, no hidden states",
        "test_retain_grad_hidden_states_attentions": "a region source returns regions, no hidden states",
        "test_model_get_set_embeddings": "a region source embeds no words",
    }

    def prepare_inputs(self, config: UpDownGridConfig) -> dict[str, torch.Tensor]:
        side = config.image_size
        return {"pixel_values": torch.rand(self.batch_size, 3, side, side, generator=torch.Generator().manual_seed(0))}


class DetectorSpec(ModelSpec):
    """The Caffe-style detector."""

    name = "Detector"
    config_class = UpDownDetectorConfig
    all_model_classes = (UpDownDetector,)
    auto = {"AutoModelForObjectDetection": UpDownDetector}
    generative = False
    has_text_modality = False
    has_attentions = False
    test_resize_embeddings = False
    test_mismatched_shapes = True
    config_kwargs = DETECTOR | {
        "backbone": "caffe_resnet50",
        "stem_channels": 4,
        "bottleneck_channels": 2,
        "res2_channels": 8,
        "region_feature_size": 64,
        "anchor_sizes": [[16, 32]],
        "region_pool_size": 6,
    }
    overrides: dict[str, Any] = {"test_model_outputs_equivalence": check_tuple_of_regions}
    common_properties = ["num_objects", "num_attributes"]
    labels_for = {"UpDownDetector": lambda spec, config: torch.tensor([[1, 2], [6, 0], [3, -1]])}
    skip: dict[str, str] = GridSpec.skip

    def prepare_inputs(self, config: UpDownDetectorConfig) -> dict[str, torch.Tensor]:
        generator = torch.Generator().manual_seed(0)
        corners = torch.rand(self.batch_size, 2, 2, 2, generator=generator).sort(dim=2).values
        return {
            "pixel_values": torch.rand(self.batch_size, 3, 64, 64, generator=generator),
            "label_boxes": corners.flatten(2),
            "draw_seeds": torch.arange(self.batch_size),
        }


class PyramidDetectorSpec(DetectorSpec):
    """The detector on the feature pyramid of a timm backbone."""

    name = "PyramidDetector"
    config_kwargs = DETECTOR | {
        "backbone": "test_resnet",
        "pyramid_size": 8,
        "head_size": 12,
        "joined_features": True,
        "region_feature_size": 12 + 96,
        "anchor_sizes": [[16], [32], [64], [128]],
        "anchor_style": "detectron2",
        "box_plus_one": False,
        "region_pool_size": 3,
    }


class DetectorCaptionSpec(PixelCaptionSpec):
    """The captioner that owns a detector, fed with pixels."""

    name = "DetectorCaption"
    config_kwargs = CaptionSpec.config_kwargs | {
        "region_feature_size": DetectorSpec.config_kwargs["region_feature_size"],
        "vision_config": {"model_type": "updown_detector", **DetectorSpec.config_kwargs},
    }


class PrefixLMSpec(CaptionSpec):
    """The prefix language model, a small Llama fed with regions."""

    name = "PrefixLM"
    composite = True
    config_class = UpDownPrefixLMConfig
    all_model_classes = (UpDownPrefixLMForImageCaptioning,)
    auto = {"AutoModelForImageTextToText": UpDownPrefixLMForImageCaptioning}
    config_kwargs: dict[str, Any] = {
        "region_feature_size": REGION_WIDTH,
        "text_config": {
            "model_type": "llama",
            "vocab_size": 99,
            "hidden_size": 16,
            "intermediate_size": 24,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 128,
            "pad_token_id": 0,
            "bos_token_id": 1,
            "eos_token_id": 2,
        },
    }
    # the test compares what was given with what is saved, which has all fields of the text config
    config_test_kwargs: dict[str, Any] = {
        "text_config": json.loads(UpDownPrefixLMConfig(**config_kwargs).to_json_string())["text_config"]
    }
    overrides: dict[str, Any] = {
        "additional_model_inputs": ["region_features", "region_boxes"],
        "test_attention_outputs": check_attention_outputs,
        "test_retain_grad_hidden_states_attentions": check_gradients_through_language_model,
        "test_past_key_values_format": check_keys_of_regions_and_words,
        "_check_attentions_for_generate": check_generated_attentions,
        "_check_past_key_values_for_generate": check_generated_keys,
    }


class FusionSpec(ModelSpec):
    """The fusion model on a tiny BERT, fed with words and regions."""

    name = "Fusion"
    config_class = UpDownFusionConfig
    all_model_classes = (UpDownFusionModel,)
    auto = {"AutoModel": UpDownFusionModel}
    generative = False
    composite = True
    test_mismatched_shapes = True
    seq_length = NUM_WORDS + NUM_REGIONS  # of the one pass over both
    config_kwargs: dict[str, Any] = {
        "text_config": {
            "model_type": "bert",
            "vocab_size": 99,
            "hidden_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 20,
            "max_position_embeddings": 32,
        },
        "region_feature_size": REGION_WIDTH,
        "projection_size": 8,
        "num_objects": 6,
        "num_answers": NUM_ANSWERS,
    }
    # the test compares what was given with what is saved, which has all fields of the text config
    config_test_kwargs: dict[str, Any] = {
        "text_config": json.loads(UpDownFusionConfig(**config_kwargs).to_json_string())["text_config"]
    }
    overrides: dict[str, Any] = {"additional_model_inputs": ["region_features", "region_boxes"]}
    skip: dict[str, str] = {}

    def prepare_inputs(self, config: UpDownFusionConfig) -> dict[str, torch.Tensor]:
        generator = torch.Generator().manual_seed(0)
        rows = self.batch_size
        region_mask = torch.ones(rows, NUM_REGIONS, dtype=torch.bool)
        region_mask[1, 3:] = False
        corners = torch.rand(rows, NUM_REGIONS, 2, generator=generator) / 2
        return {
            "input_ids": torch.randint(1, config.vocab_size, (rows, NUM_WORDS), generator=generator),
            "region_features": torch.rand(rows, NUM_REGIONS, REGION_WIDTH, generator=generator),
            "region_boxes": torch.cat([corners, corners + 0.5], dim=-1),
            "region_mask": region_mask,
        }


class PixelFusionSpec(FusionSpec):
    """The fusion model with a region source of its own, fed with words and pixels."""

    name = "PixelFusion"
    config_kwargs = FusionSpec.config_kwargs | {
        "region_feature_size": GRID["region_feature_size"],
        "vision_config": {"model_type": "updown_grid", **GRID},
    }
    seq_length = NUM_WORDS + GRID["grid_size"] ** 2
    config_test_kwargs = FusionSpec.config_test_kwargs | {"vision_config": None}
    overrides: dict[str, Any] = {"additional_model_inputs": ["pixel_values"]}

    def prepare_inputs(self, config: UpDownFusionConfig) -> dict[str, torch.Tensor]:
        pixel_values = torch.rand(self.batch_size, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        return {"input_ids": super().prepare_inputs(config)["input_ids"], "pixel_values": pixel_values}


class RetrievalSpec(FusionSpec):
    """Retrieval on the fusion model: a text for each photo."""

    name = "Retrieval"
    all_model_classes = (UpDownFusionForImageTextRetrieval,)
    base_model_class = UpDownFusionModel
    auto = {"AutoModelForZeroShotImageClassification": UpDownFusionForImageTextRetrieval}
    labels_for = {"UpDownFusionForImageTextRetrieval": lambda spec, config: torch.arange(spec.batch_size)}
    overrides = FusionSpec.overrides | {
        "test_attention_outputs": check_word_attention,
        "test_model_outputs_equivalence": check_seeded_tuples,
    }
    skip = dict.fromkeys(
        ("test_hidden_states_output", "test_retain_grad_hidden_states_attentions"),
        "photos and texts are read in passes of their own, each with other states",
    ) | dict.fromkeys(
        (
            f"test_get_{part}_features_{what}"
            for part in ("image", "text")
            for what in ("output_0", "output_1", "output_2", "hidden_states", "attentions")
        ),
        "embeddings of length 1, ready to search by, come back as a tensor",
    )


class PreTrainingSpec(FusionSpec):
    """Pretraining with every objective."""

    name = "PreTraining"
    all_model_classes = (UpDownFusionForPreTraining,)
    base_model_class = UpDownFusionModel
    auto = {"AutoModelForPreTraining": UpDownFusionForPreTraining}
    config_kwargs = FusionSpec.config_kwargs | {
        "objectives": dict.fromkeys(("itc", "itm", "mlm", "mrc_ce", "mrc_kl", "mrfr", "mim", "prefix_lm"), 1.0)
    }
    labels_for = {
        "UpDownFusionForPreTraining": lambda spec, config: (
            torch.arange(spec.batch_size * NUM_WORDS).view(spec.batch_size, -1) % 9
        )
    }
    overrides = RetrievalSpec.overrides | {"test_retain_grad_hidden_states_attentions": check_gradients_of_states}
    skip = {name: why for name, why in RetrievalSpec.skip.items() if name.startswith("test_get_")}

    def prepare_inputs(self, config: UpDownFusionConfig) -> dict[str, torch.Tensor]:
        shape = (self.batch_size, NUM_REGIONS, config.num_objects + 1)
        hidden = torch.zeros(shape[:2], dtype=torch.bool)
        hidden[:, ::2] = True
        probs = torch.rand(shape, generator=torch.Generator().manual_seed(1)).softmax(dim=-1)
        return super().prepare_inputs(config) | {"masked_regions": hidden, "object_probs": probs}


class MaskedLMSpec(FusionSpec):
    """Masked words on the fusion model."""

    name = "MaskedLM"
    all_model_classes = (UpDownFusionForMaskedLM,)
    base_model_class = UpDownFusionModel
    auto = {"AutoModelForMaskedLM": UpDownFusionForMaskedLM}
    labels_for = {
        "UpDownFusionForMaskedLM": lambda spec, config: (
            torch.arange(spec.batch_size * NUM_WORDS).view(spec.batch_size, -1) % 9
        )
    }
    overrides = FusionSpec.overrides | {
        "test_attention_outputs": check_word_attention,
        "test_retain_grad_hidden_states_attentions": check_gradients_of_states,
    }


class FusionVqaSpec(FusionSpec):
    """Question answering on the fusion model."""

    name = "FusionVqa"
    all_model_classes = (UpDownFusionForVisualQuestionAnswering,)
    base_model_class = UpDownFusionModel
    auto = {"AutoModelForVisualQuestionAnswering": UpDownFusionForVisualQuestionAnswering}
    labels_for = {
        "UpDownFusionForVisualQuestionAnswering": lambda spec, config: (
            torch.arange(spec.batch_size * NUM_ANSWERS).view(spec.batch_size, -1) % 4 / 3
        )
    }
    overrides = FusionSpec.overrides | {
        "test_attention_outputs": check_glances,
        "test_retain_grad_hidden_states_attentions": check_gradients_of_states,
    }
