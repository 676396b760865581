"""Every model in one table, from which the door, registration, training and publishing take what they need of it.

A new model is a file with its class, one line in `HEADS`, and its name under TYPE_CHECKING in `__init__`; one with a
config of its own is an `Architecture` too. Nothing is imported here: classes and files (without `.py`) stand by name.

>>> [head.model for head in heads_of("updown_vqa")], files_of_classes()["UpDownVqaConfig"]
(['UpDownForVisualQuestionAnswering'], 'configuration_updown')
"""

from typing import NamedTuple


class Architecture(NamedTuple):
    """A config and its model type; tokenizer: the class that reads its words, None where it reads none."""

    model_type: str
    config: str
    config_file: str
    tokenizer: str | None = None


class AutoClass(NamedTuple):
    """A class of transformers that loads models for one purpose.

    task: the pipeline that loads its models so, "" where there is none. pipeline, pipeline_file: our class for that
    task, empty where transformers has one.
    """

    name: str
    task: str = ""
    pipeline: str = ""
    pipeline_file: str = ""


class Head(NamedTuple):
    """A model class, what loads it, and what its `forward` returns.

    output_file: where the class of that is defined.
    """

    model: str
    file: str
    architecture: Architecture
    auto: AutoClass
    output: str
    output_file: str = "outputs_updown"


OWN_WORDS, ANY_WORDS = "UpDownTokenizer", "PreTrainedTokenizerFast"  # any: those of every Hugging Face tokenizer

DETECTOR = Architecture("updown_detector", "UpDownDetectorConfig", "configuration_updown")
GRID = Architecture("updown_grid", "UpDownGridConfig", "configuration_updown")
CAPTIONING = Architecture("updown_captioning", "UpDownCaptioningConfig", "configuration_updown", OWN_WORDS)
VQA = Architecture("updown_vqa", "UpDownVqaConfig", "configuration_updown", OWN_WORDS)
FUSION = Architecture("updown_fusion", "UpDownFusionConfig", "configuration_text_updown", ANY_WORDS)
PREFIX_LM = Architecture("updown_prefix_lm", "UpDownPrefixLMConfig", "configuration_text_updown", ANY_WORDS)
REGION_SOURCES = (DETECTOR, GRID)  # the others may own one
ARCHITECTURES = (*REGION_SOURCES, CAPTIONING, VQA, FUSION, PREFIX_LM)

BASE = AutoClass("AutoModel")
BOXES = AutoClass("AutoModelForObjectDetection", "object-detection")
CAPTIONS = AutoClass("AutoModelForImageTextToText", "image-to-text", "UpDownImageToTextPipeline", "pipeline_captioning")
ANSWERS = AutoClass(
    "AutoModelForVisualQuestionAnswering",
    "visual-question-answering",
    "UpDownVisualQuestionAnsweringPipeline",
    "pipeline_vqa",
)
MATCHES = AutoClass("AutoModelForZeroShotImageClassification", "zero-shot-image-classification")
PLACES = AutoClass("AutoModelForZeroShotObjectDetection", "zero-shot-object-detection")
PHRASES = AutoClass(
    "AutoModelForZeroShotObjectDetection", "phrase-grounding", "UpDownPhraseGroundingPipeline", "pipeline_grounding"
)
SENTENCES = AutoClass(
    "AutoModelForMultimodalLM", "dense-captioning", "UpDownDenseCaptioningPipeline", "pipeline_dense_captioning"
)
CHOICES = AutoClass(
    "AutoModelForMultipleChoice",
    "visual-multiple-choice",
    "UpDownMultipleChoicePipeline",
    "pipeline_multiple_choice",
)
OBJECTIVES = AutoClass("AutoModelForPreTraining")
ENTAILMENT = AutoClass(
    "AutoModelForSequenceClassification",
    "visual-entailment",
    "UpDownVisualReasoningPipeline",
    "pipeline_reasoning",
)
IMAGE_PAIRS = AutoClass(
    "AutoModelForNextSentencePrediction",
    "visual-reasoning",
    "UpDownVisualReasoningPipeline",
    "pipeline_reasoning",
)
MASKED_WORDS = AutoClass("AutoModelForMaskedLM")
MOMENTS = AutoClass(  # transformers' own task of that class names classes, so it is none of ours
    "AutoModelForVideoClassification", "moment-retrieval", "UpDownMomentRetrievalPipeline", "pipeline_moments"
)
READINGS = AutoClass(  # transformers' own task of that class reads a span, so it is none of ours
    "AutoModelForDocumentQuestionAnswering", "text-reading", "UpDownTextReadingPipeline", "pipeline_reading"
)

HEADS = (  # a line for each way in which a class is loaded
    Head("UpDownDetector", "modeling_detector", DETECTOR, BOXES, "UpDownDetectorOutput"),
    Head("UpDownDetector", "modeling_detector", DETECTOR, BASE, "UpDownDetectorOutput"),
    Head("UpDownGrid", "modeling_grid", GRID, BASE, "Regions"),
    Head("UpDownForImageCaptioning", "modeling_captioning", CAPTIONING, CAPTIONS, "UpDownCaptioningOutput"),
    Head("UpDownForDenseCaptioning", "modeling_dense_captioning", CAPTIONING, SENTENCES, "UpDownDenseCaptioningOutput"),
    Head("UpDownForVisualQuestionAnswering", "modeling_vqa", VQA, ANSWERS, "UpDownVqaOutput"),
    Head("UpDownFusionModel", "modeling_fusion", FUSION, BASE, "UpDownFusionOutput"),
    Head("UpDownFusionForPreTraining", "modeling_pretraining", FUSION, OBJECTIVES, "UpDownPreTrainingOutput"),
    Head("UpDownFusionForMaskedLM", "modeling_pretraining", FUSION, MASKED_WORDS, "UpDownMaskedLMOutput"),
    Head("UpDownFusionForImageTextRetrieval", "modeling_retrieval", FUSION, MATCHES, "UpDownRetrievalOutput"),
    Head("UpDownFusionForVisualQuestionAnswering", "modeling_fusion_vqa", FUSION, ANSWERS, "UpDownVqaOutput"),
    Head("UpDownFusionForVisualEntailment", "modeling_reasoning", FUSION, ENTAILMENT, "UpDownReasoningOutput"),
    Head("UpDownFusionForImagePairs", "modeling_reasoning", FUSION, IMAGE_PAIRS, "UpDownReasoningOutput"),
    Head("UpDownFusionForGrounding", "modeling_grounding", FUSION, PLACES, "UpDownGroundingOutput"),
    Head("UpDownFusionForGrounding", "modeling_grounding", FUSION, PHRASES, "UpDownGroundingOutput"),
    Head("UpDownFusionForMultipleChoice", "modeling_multiple_choice", FUSION, CHOICES, "UpDownMultipleChoiceOutput"),
    Head("UpDownForMomentRetrieval", "modeling_video", FUSION, MOMENTS, "UpDownMomentOutput"),
    Head("UpDownForTextReading", "modeling_text_reading", FUSION, READINGS, "UpDownReadingOutput"),
    Head("UpDownPrefixLMForImageCaptioning", "modeling_prefix_lm", PREFIX_LM, CAPTIONS, "UpDownPrefixLMOutput"),
    Head("UpDownPrefixLMForVisualQuestionAnswering", "modeling_prefix_vqa", PREFIX_LM, ANSWERS, "UpDownPrefixLMOutput"),
)

PIPELINE_TYPE = "multimodal"  # what all of our pipelines read, in the words of transformers
PIPELINES = {head.auto.task: head.auto for head in HEADS if head.auto.pipeline}  # task -> the Auto class and our class


def heads_of(model_type: str) -> list[Head]:
    """The lines of one architecture."""
    return [head for head in HEADS if head.architecture.model_type == model_type]


def models_for(task: str) -> list[str]:
    """The classes that a task's pipeline runs.

    >>> models_for("image-to-text")
    ['UpDownForImageCaptioning', 'UpDownPrefixLMForImageCaptioning']
    """
    return [head.model for head in HEADS if head.auto.task == task]


def files_of_classes() -> dict[str, str]:
    """Each config, model, output and pipeline class -> its file."""
    return (
        {architecture.config: architecture.config_file for architecture in ARCHITECTURES}
        | {head.model: head.file for head in HEADS}
        | {head.output: head.output_file for head in HEADS}
        | {auto.pipeline: auto.pipeline_file for auto in PIPELINES.values()}
    )
