"""What transformers' own common tests need to know to run on the fusion model and its heads, as `common_spec.py`."""

import json
from typing import Any

import torch

from modeling_updown import (
    UpDownForMomentRetrieval,
    UpDownForTextReading,
    UpDownFusionConfig,
    UpDownFusionForGrounding,
    UpDownFusionForImagePairs,
    UpDownFusionForImageTextRetrieval,
    UpDownFusionForMaskedLM,
    UpDownFusionForMultipleChoice,
    UpDownFusionForPreTraining,
    UpDownFusionForVisualEntailment,
    UpDownFusionForVisualQuestionAnswering,
    UpDownFusionModel,
)

try:
    import common_checks as checks  # beside this file, which is on the path there
    from common_spec import GRID, NUM_ANSWERS, NUM_REGIONS, NUM_WORDS, REGION_WIDTH, TAGS, with_probabilities
    from harness import ModelSpec  # lies beside the test files of transformers
except ImportError:  # without them this file is only looked through for doctests
    from . import common_checks as checks
    from .common_spec import GRID, NUM_ANSWERS, NUM_REGIONS, NUM_WORDS, REGION_WIDTH, TAGS, with_probabilities

    ModelSpec = object

NUM_OCR = 3  # words
OCR_FIELDS = ("ocr_boxes", "ocr_input_ids", "ocr_characters", "ocr_features")


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
        "num_attributes": 3,
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
    """Retrieval on the fusion model: a text for each image."""

    name = "Retrieval"
    all_model_classes = (UpDownFusionForImageTextRetrieval,)
    base_model_class = UpDownFusionModel
    auto = {"AutoModelForZeroShotImageClassification": UpDownFusionForImageTextRetrieval}
    labels_for = {"UpDownFusionForImageTextRetrieval": lambda spec, config: torch.arange(spec.batch_size)}
    overrides = FusionSpec.overrides | {
        "test_attention_outputs": checks.check_word_attention,
        "test_model_outputs_equivalence": checks.check_seeded_tuples,
    }
    skip = dict.fromkeys(
        ("test_hidden_states_output", "test_retain_grad_hidden_states_attentions"),
        "images and texts are read in passes of their own, each with other states",
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
        "objectives": dict.fromkeys(
            ("itc", "itm", "wra", "mlm", "mrc_ce", "mrc_kl", "mra_ce", "mra_kl", "mrfr", "mim", "prefix_lm", "qa"), 1.0
        )
    }
    labels_for = {
        "UpDownFusionForPreTraining": lambda spec, config: (
            torch.arange(spec.batch_size * NUM_WORDS).view(spec.batch_size, -1) % 9
        )
    }
    overrides = RetrievalSpec.overrides | {
        "test_determinism": checks.check_seeded_losses,
        "test_retain_grad_hidden_states_attentions": checks.check_gradients_of_states,
        "test_save_load": checks.check_seeded_losses,
    }
    skip = {name: why for name, why in RetrievalSpec.skip.items() if name.startswith("test_get_")}

    def prepare_inputs(self, config: UpDownFusionConfig) -> dict[str, torch.Tensor]:
        shape = (self.batch_size, NUM_REGIONS)
        hidden = torch.zeros(shape, dtype=torch.bool)
        hidden[:, ::2] = True
        draw = torch.Generator().manual_seed(1)
        said = {"object_probs": config.num_objects, "attribute_probs": config.num_attributes}
        probs = {name: torch.rand(*shape, many + 1, generator=draw).softmax(dim=-1) for name, many in said.items()}
        words = 1 + torch.arange(self.batch_size * NUM_WORDS).view(self.batch_size, -1) % 8
        asked = {"question_input_ids": words, "answer_labels": torch.rand(self.batch_size, NUM_ANSWERS, generator=draw)}
        return super().prepare_inputs(config) | {"masked_regions": hidden, **probs, **asked}


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
        "test_attention_outputs": checks.check_word_attention,
        "test_retain_grad_hidden_states_attentions": checks.check_gradients_of_states,
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
        "test_attention_outputs": checks.check_glances,
        "test_retain_grad_hidden_states_attentions": checks.check_gradients_of_states,
    }


class EntailmentSpec(FusionSpec):
    """Visual entailment on the fusion model: a statement for each image."""

    name = "Entailment"
    all_model_classes = (UpDownFusionForVisualEntailment,)
    base_model_class = UpDownFusionModel
    auto = {"AutoModelForSequenceClassification": UpDownFusionForVisualEntailment}
    # the first class, which a model of one class has too: the test of problem types makes such models
    labels_for = {"UpDownFusionForVisualEntailment": lambda spec, config: torch.zeros(spec.batch_size).long()}
    overrides = FusionVqaSpec.overrides


class AlikeEntailmentSpec(EntailmentSpec):
    """The same, reading also how alike image and statement are."""

    name = "AlikeEntailment"
    config_kwargs = EntailmentSpec.config_kwargs | {"answer_similarity": True, "projection_size": 12}


class ImagePairsSpec(EntailmentSpec):
    """Statements about two images, each read with one of them."""

    name = "ImagePairs"
    all_model_classes = (UpDownFusionForImagePairs,)
    auto = {"AutoModelForNextSentencePrediction": UpDownFusionForImagePairs}
    labels_for = {"UpDownFusionForImagePairs": lambda spec, config: torch.arange(spec.batch_size) % NUM_ANSWERS}
    config_kwargs = FusionSpec.config_kwargs | {"num_images": 2}
    overrides = EntailmentSpec.overrides | {
        "additional_model_inputs": [*FusionSpec.overrides["additional_model_inputs"], "image_index"]
    }

    def prepare_inputs(self, config: UpDownFusionConfig) -> dict[str, torch.Tensor]:
        """Each image beside the first one, so that the first row alone is whole: tests cut batches down to it."""
        first = torch.zeros(self.batch_size).long()
        return super().prepare_inputs(config) | {"image_index": torch.stack([torch.arange(len(first)), first], dim=1)}


class GroundingSpec(FusionSpec):
    """Grounding on the fusion model: an expression for each image."""

    name = "Grounding"
    all_model_classes = (UpDownFusionForGrounding,)
    base_model_class = UpDownFusionModel
    auto = {"AutoModelForZeroShotObjectDetection": UpDownFusionForGrounding}
    labels_for = {
        "UpDownFusionForGrounding": lambda spec, config: torch.tensor([0.1, 0.2, 0.6, 0.8]).expand(
            spec.batch_size, 1, 1, 4
        )
    }
    overrides = FusionSpec.overrides | {
        "test_attention_outputs": checks.check_word_attention,
        "test_retain_grad_hidden_states_attentions": checks.check_gradients_of_finite_states,
    }


class MultipleChoiceSpec(FusionSpec):
    """Multiple choice on the fusion model, each candidate read with its context."""

    name = "MultipleChoice"
    all_model_classes = (UpDownFusionForMultipleChoice,)
    base_model_class = UpDownFusionModel
    auto = {"AutoModelForMultipleChoice": UpDownFusionForMultipleChoice}
    seq_length = NUM_WORDS + 3 + NUM_REGIONS
    config_kwargs = FusionSpec.config_kwargs | {"region_links": True}
    overrides = FusionSpec.overrides | {
        "_prepare_for_class": checks.inputs_with_candidates,
        "test_attention_outputs": checks.check_choice_glances,
        "test_retain_grad_hidden_states_attentions": checks.check_gradients_of_finite_states,
    }

    def prepare_inputs(self, config: UpDownFusionConfig) -> dict[str, torch.Tensor]:
        inputs = super().prepare_inputs(config)
        choices = 1 + torch.arange(self.batch_size * 2 * 3).view(self.batch_size, 2, 3) % 8
        links = torch.tensor([[0, 2], [-1, -1], [1, -1]]).expand(self.batch_size, 2, 3, 2)
        return inputs | {"choice_input_ids": choices, "choice_word_regions": links}


class SharedMultipleChoiceSpec(MultipleChoiceSpec):
    """The same with context and regions read once for all candidates."""

    name = "SharedMultipleChoice"
    seq_length = NUM_WORDS + 2 * 3 + NUM_REGIONS
    config_kwargs = MultipleChoiceSpec.config_kwargs | {"choice_attention": "shared"}


class MomentsSpec(FusionSpec):
    """Moment retrieval as a set of spans: each region is a step of its clip."""

    name = "Moments"
    all_model_classes = (UpDownForMomentRetrieval,)
    base_model_class = UpDownFusionModel
    auto = {"AutoModelForVideoClassification": UpDownForMomentRetrieval}
    config_kwargs = FusionSpec.config_kwargs | {
        "moment_hidden_size": 16,
        "moment_num_heads": 2,
        "moment_ffn_size": 20,
        "moment_queries": 3,
        "moment_segments": 3,
        "moment_map_layers": 2,
        "moment_map_kernel": 3,
        "moment_alignment_size": 8,
    }
    labels_for = {
        "UpDownForMomentRetrieval": lambda spec, config: torch.tensor([0.0, 3.0]).expand(spec.batch_size, 1, 2)
    }
    overrides = FusionSpec.overrides | {
        "additional_model_inputs": [
            *(*FusionSpec.overrides["additional_model_inputs"], "region_seconds", "saliency_labels"),
        ],
        "test_attention_outputs": checks.check_query_glances,
        "test_mismatched_shapes": False,  # no classifier, though its Auto class is that of video classifiers
        "test_retain_grad_hidden_states_attentions": checks.check_gradients_of_states,
    }

    def prepare_inputs(self, config: UpDownFusionConfig) -> dict[str, torch.Tensor]:
        seconds = 2.0 * torch.arange(NUM_REGIONS).expand(self.batch_size, -1)
        pairs = torch.tensor([0.0, 4.0]).expand(self.batch_size, 1, 2)  # read where labels are given
        return super().prepare_inputs(config) | {"region_seconds": seconds, "saliency_labels": pairs}


class MomentMapSpec(MomentsSpec):
    """The same as a map of runs of segments, on embedded regions."""

    name = "MomentMap"
    config_kwargs = MomentsSpec.config_kwargs | {"moment_head": "map", "moment_inputs": "embeddings"}
    has_attentions = False
    overrides = {
        **{name: check for name, check in MomentsSpec.overrides.items() if name != "test_attention_outputs"},
        "test_hidden_states_output": checks.check_map_states,
        "test_retain_grad_hidden_states_attentions": checks.check_gradients_of_map,
    }


class TextReadingSpec(FusionSpec):
    """Answers written word by word from a vocabulary and OCR words, with a question encoder of its own (M4C)."""

    name = "TextReading"
    all_model_classes = (UpDownForTextReading,)
    base_model_class = UpDownFusionModel
    auto = {"AutoModelForDocumentQuestionAnswering": UpDownForTextReading}
    seq_length = NUM_WORDS + NUM_REGIONS + NUM_OCR + 1  # of the one pass over question, objects, OCR words and a step
    config_kwargs = FusionSpec.config_kwargs | {
        "region_embedding": "uniter",
        "reading_question_layers": 1,
        "reading_max_steps": 4,
        "reading_max_ocr": 6,
        "reading_characters": "convolution",
        "reading_appearance": True,
        "reading_order": True,
    }
    labels_for = {
        "UpDownForTextReading": lambda spec, config: torch.tensor([NUM_ANSWERS, 4, 2]).expand(spec.batch_size, -1)
    }
    overrides = FusionSpec.overrides | {
        "additional_model_inputs": [*FusionSpec.overrides["additional_model_inputs"], *OCR_FIELDS],
        "all_generative_model_classes": (),  # what those tests hand `generate` as the words so far is a question here
        "test_attention_outputs": checks.check_step_glances,
        "test_retain_grad_hidden_states_attentions": checks.check_gradients_of_finite_states,
    }
    skip: dict[str, str] = {}

    def prepare_inputs(self, config: UpDownFusionConfig) -> dict[str, torch.Tensor]:
        shape, generator = (self.batch_size, NUM_OCR), torch.Generator().manual_seed(1)
        mask = torch.ones(shape, dtype=torch.bool)
        mask[1, 1:] = False
        corners = torch.rand(*shape, 2, generator=generator) / 2
        return super().prepare_inputs(config) | {
            "ocr_boxes": torch.cat([corners, corners + 0.5], dim=-1),
            "ocr_mask": mask,
            "ocr_input_ids": torch.randint(1, 80, (*shape, 2), generator=generator),  # of a shrunk vocabulary too
            "ocr_characters": torch.randint(1, 257, (*shape, 5), generator=generator),
            "ocr_features": torch.rand(*shape, config.region_feature_size, generator=generator),
        }


class DocumentReadingSpec(TextReadingSpec):
    """The same of documents, without objects, question and OCR words in one pass."""

    name = "DocumentReading"
    config_kwargs = FusionSpec.config_kwargs | {"reading_objects": False, "reading_max_ocr": 6}
    seq_length = NUM_WORDS + NUM_OCR + 1
    overrides = TextReadingSpec.overrides | {
        "additional_model_inputs": [*OCR_FIELDS],
        "test_retain_grad_hidden_states_attentions": checks.check_gradients_of_documents,
    }

    def prepare_inputs(self, config: UpDownFusionConfig) -> dict[str, torch.Tensor]:
        inputs = super().prepare_inputs(config)
        return {name: values for name, values in inputs.items() if not name.startswith("region")}


class LorraReadingSpec(TextReadingSpec):
    """The same in a single pass over what the question attends to (LoRRA)."""

    name = "LorraReading"
    config_kwargs = FusionSpec.config_kwargs | {"reading_head": "lorra", "reading_max_ocr": 6}
    labels_for = {"UpDownForTextReading": lambda spec, config: torch.full((spec.batch_size, 1), NUM_ANSWERS)}
    overrides = TextReadingSpec.overrides | {
        "test_attention_outputs": checks.check_single_glance,
        "test_hidden_states_output": checks.check_states_of_question,
        "test_retain_grad_hidden_states_attentions": checks.check_gradients_of_question,
    }


class TaggedFusionSpec(FusionSpec):
    """The fusion model with tags beside its features."""

    name = "TaggedFusion"
    config_kwargs = FusionSpec.config_kwargs | TAGS
    overrides = {
        "additional_model_inputs": [*FusionSpec.overrides["additional_model_inputs"], "object_probs", "attribute_probs"]
    }

    def prepare_inputs(self, config: UpDownFusionConfig) -> dict[str, torch.Tensor]:
        return with_probabilities(super().prepare_inputs(config))
