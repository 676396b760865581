"""What transformers' own common tests need to know to run on our models; `common_spec_fusion.py` has the fusion model.

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
    UpDownForDenseCaptioning,
    UpDownForImageCaptioning,
    UpDownForVisualQuestionAnswering,
    UpDownGrid,
    UpDownGridConfig,
    UpDownPrefixLMConfig,
    UpDownPrefixLMForImageCaptioning,
    UpDownPrefixLMForVisualQuestionAnswering,
    UpDownVqaConfig,
)

try:
    import common_checks as checks  # beside this file, which is on the path there
    from harness import ModelSpec  # lies beside the test files of transformers
except ImportError:  # without them this file is only looked through for doctests
    from . import common_checks as checks

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
        "test_attention_outputs": checks.check_attention_outputs,
        "test_retain_grad_hidden_states_attentions": checks.check_gradients_reach_outputs,
        "_check_attentions_for_generate": checks.check_generated_attentions,
        "_check_past_key_values_for_generate": checks.check_generated_state,
    }
    skip: dict[str, str] = {
        "test_model_base_model_prefix": "no base model under a head: every word runs through the whole captioner",
        "test_generate_without_input_ids": "a caption is of an image: generate wants regions or pixels",
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
        "test_multimodal_outputs_are_returned": "a region source returns Regions, without attentions or hidden states",
    }

    def prepare_inputs(self, config: UpDownCaptioningConfig) -> dict[str, torch.Tensor]:
        inputs = super().prepare_inputs(config)
        pixel_values = torch.rand(self.batch_size, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        words = {name: inputs[name] for name in ("input_ids", "attention_mask")}
        return words | {"pixel_values": pixel_values}


class DenseCaptionSpec(CaptionSpec):
    """The dense captioner with attention over the regions: a sentence of one region of each image."""

    name = "DenseCaption"
    all_model_classes = (UpDownForDenseCaptioning,)
    auto = {"AutoModelForMultimodalLM": UpDownForDenseCaptioning}
    config_kwargs: dict[str, Any] = CaptionSpec.config_kwargs | {"dense_context": "attention"}
    labels_for = {
        "UpDownForDenseCaptioning": lambda spec, config: (
            torch.arange(spec.batch_size * NUM_WORDS).view(spec.batch_size, -1) % 9
        )
    }
    overrides = CaptionSpec.overrides | {
        "test_retain_grad_hidden_states_attentions": checks.check_gradients_of_sentences
    }

    def prepare_inputs(self, config: UpDownCaptioningConfig) -> dict[str, torch.Tensor]:
        return super().prepare_inputs(config) | {"region_index": torch.arange(self.batch_size) % 3}


class LateDenseCaptionSpec(DenseCaptionSpec):
    """The dense captioner with an LSTM of the image's context."""

    name = "LateDenseCaption"
    has_attentions = False
    config_kwargs = CaptionSpec.config_kwargs | {"dense_context": "late"}
    overrides = {
        name: check
        for name, check in DenseCaptionSpec.overrides.items()
        if name not in ("test_attention_outputs", "_check_attentions_for_generate")
    }


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
        "test_attention_outputs": checks.check_question_attention,
        "test_hidden_states_output": checks.check_question_states,
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
    overrides: dict[str, Any] = {"test_model_outputs_equivalence": checks.check_tuple_of_regions}
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
    overrides: dict[str, Any] = {"test_model_outputs_equivalence": checks.check_tuple_of_regions}
    common_properties = ["num_objects", "num_attributes"]
    labels_for = {"UpDownDetector": lambda spec, config: torch.tensor([[1, 2], [6, 0], [3, -1]])}
    skip: dict[str, str] = GridSpec.skip | {
        "test_config": "the test names id 0 'label', and a detector's id 0 is the background: refused",
    }

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


MASKS: dict[str, Any] = {"mask_head": True, "mask_size": 6, "mask_hidden_size": 8, "mask_convs": 1}


class MaskedDetectorSpec(PyramidDetectorSpec):
    """The detector with a mask head, one mask a region, which learns masks beside its labels."""

    name = "MaskedDetector"
    config_kwargs = PyramidDetectorSpec.config_kwargs | MASKS
    overrides = PyramidDetectorSpec.overrides | {"_prepare_for_class": checks.inputs_with_masks}


class ClassMaskedDetectorSpec(DetectorSpec):
    """The Caffe-style detector with a mask head, a mask for each class."""

    name = "ClassMaskedDetector"
    config_kwargs = DetectorSpec.config_kwargs | MASKS | {"mask_class_agnostic": False}
    overrides = DetectorSpec.overrides | {"_prepare_for_class": checks.inputs_with_masks}


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
        "test_attention_outputs": checks.check_attention_outputs,
        "test_retain_grad_hidden_states_attentions": checks.check_gradients_through_language_model,
        "test_past_key_values_format": checks.check_keys_of_regions_and_words,
        "_check_attentions_for_generate": checks.check_generated_attentions,
        "_check_past_key_values_for_generate": checks.check_generated_keys,
    }


class PrefixVqaSpec(PrefixLMSpec):
    """The prefix language model that answers questions, fed with regions."""

    name = "PrefixVqa"
    all_model_classes = (UpDownPrefixLMForVisualQuestionAnswering,)
    auto = {"AutoModelForVisualQuestionAnswering": UpDownPrefixLMForVisualQuestionAnswering}
    # the words of its answers, and not the classes that this Auto class has the tests make
    labels_for = {
        "UpDownPrefixLMForVisualQuestionAnswering": lambda spec, config: torch.ones(
            spec.batch_size, spec.seq_length, dtype=torch.long
        )
    }


TAGS: dict[str, Any] = {"object_tag_names": ["cat", "dog", "tree"], "attribute_tags": 2, "tag_embedding_size": 6}


def with_probabilities(inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Regions with the probabilities that `TAGS` are made of."""
    size, generator = inputs["region_mask"].shape, torch.Generator().manual_seed(1)
    drawn = {"object_probs": torch.rand(*size, 4, generator=generator)}
    drawn["attribute_probs"] = torch.rand(*size, 3, generator=generator)
    return inputs | {name: numbers.softmax(dim=-1) for name, numbers in drawn.items()}


class TaggedCaptionSpec(CaptionSpec):
    """The captioner with tags beside its features."""

    name = "TaggedCaption"
    config_kwargs = CaptionSpec.config_kwargs | TAGS

    def prepare_inputs(self, config: UpDownCaptioningConfig) -> dict[str, torch.Tensor]:
        return with_probabilities(super().prepare_inputs(config))


class TaggedVqaSpec(VqaSpec):
    """The question answerer with tags beside its features."""

    name = "TaggedVqa"
    config_kwargs = VqaSpec.config_kwargs | TAGS

    def prepare_inputs(self, config: UpDownVqaConfig) -> dict[str, torch.Tensor]:
        return with_probabilities(super().prepare_inputs(config))
