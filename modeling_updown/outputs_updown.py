"""What flows between the two halves (`Regions`) and what the heads return.

Image -> region source or store -> `Regions` -> top-down model -> words, answers, scores. Shapes: B images, R regions,
D feature width, T words, V vocabulary.
"""

from dataclasses import dataclass
from typing import Any

import torch
from transformers.utils import ModelOutput

from .compat_updown import cache_field_by_version, is_traced
from .regions_updown import Regions


@dataclass
class UpDownDetectorOutput(Regions):
    """What `UpDownDetector` returns: `Regions`, and what only a detector knows. C objects, A attributes.

    object_ids, attribute_ids (`torch.Tensor` of shape (B, R), int64, *optional*): each region's class, 1 .. C, and best
        attribute, 1 .. A; names are `config.id2label` and `config.attribute_id2label`.
    attribute_scores (`torch.Tensor` of shape (B, R), *optional*): that attribute's probability, 0..1.
    logits (`torch.Tensor` of shape (B, R, C + 1), *optional*): class scores, background first.
    pred_boxes (`torch.Tensor` of shape (B, R, 4), *optional*): the regressed box of each region's class, xyxy in 0..1.
    phrase_embeds (`torch.Tensor` of shape (B, R, E), *optional*): each region's vector of length 1 in the space of the
        text encoder that the detector learnt phrases with (`config.phrase_embedding_size`).
    name_logits (`torch.Tensor` of shape (B, R, N), *optional*): of any names that were given as `name_embeds`, the
        cosine of each with each region over `config.phrase_temperature`; their softmax says which of them it is.
    cell_mask (`torch.Tensor` of shape (B, R), bool, *optional*): True = a cell of `config.grid_sizes`, False = a
        detected region or padding; absent where there are no cells.
    loss (scalar, *optional*): the sum of `losses`.
    losses (dict of scalars, *optional*): `proposal_objectness`, `proposal_box`, `region_class`, `region_box` and, with
        attributes, `region_attributes`, given masks `region_masks`, each a mean over images and with its weight; given
        phrases, also `region_phrases`, a mean over them.
    """

    object_ids: torch.Tensor | None = None
    attribute_ids: torch.Tensor | None = None
    attribute_scores: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    pred_boxes: torch.Tensor | None = None
    phrase_embeds: torch.Tensor | None = None
    name_logits: torch.Tensor | None = None
    cell_mask: torch.Tensor | None = None
    loss: torch.Tensor | None = None
    losses: dict[str, torch.Tensor] | None = None


@dataclass
@cache_field_by_version
class UpDownCaptioningOutput(ModelOutput):
    """What `UpDownForImageCaptioning` returns.

    loss (scalar, *optional*): cross-entropy of the labels, a mean over words.
    logits (`torch.Tensor` of shape (B, T, V)): scores of the next word; zero where `attention_mask` is zero.
    label_log_probs (`torch.Tensor` of shape (B, T), *optional*): log-probability of each label, at the step that
        predicts it; zero where there is none. What self-critical training weighs by its reward.
    cache (`CaptioningCache`, *optional*): the state of both LSTMs and the projected regions; `past_key_values` before
        transformers 5.24, and readable under both names in every version.
    hidden_states (tuple of three tensors of shape (B, T, E or H), *optional*): the words' embeddings, the states of the
        attention LSTM and those of the language LSTM.
    attentions (tuple of one tensor of shape (B, T, R), *optional*): how the regions were weighed for each word.
    region_boxes (`torch.Tensor` of shape (B, R, 4), *optional*): where those regions are.
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    label_log_probs: torch.Tensor | None = None
    cache: object | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None
    region_boxes: torch.Tensor | None = None


@dataclass
@cache_field_by_version
class UpDownDenseCaptioningOutput(ModelOutput):
    """What `UpDownForDenseCaptioning` returns for N sentences of M regions of P images.

    loss (scalar, *optional*): the weighted sum of `losses`.
    losses (dict of scalars, *optional*): `words`, a mean over words; `boxes`, a mean over sentences; `scores`, a mean
        over regions; those of which labels were given, without their weights.
    logits (`torch.Tensor` of shape (N, T, V)): scores of the next word.
    label_log_probs (`torch.Tensor` of shape (N, T), *optional*): log-probability of each label, 0 where there is none.
    pred_boxes (`torch.Tensor` of shape (N, 4), *optional*): where each sentence is, xyxy in 0..1: its region, as moved
        by what it says; None where a `cache` was given, whose words came before.
    region_logits (`torch.Tensor` of shape (P, R), *optional*): log-odds that people would describe each region, the
        lowest number on padding.
    cache (`DenseCache`, *optional*): the states of the LSTMs and the described regions; `past_key_values` before
        transformers 5.24, and readable under both names in every version.
    hidden_states (tuple of three tensors of shape (N, T, E, H or 2H), *optional*): the words' embeddings, the states of
        the caption LSTM, and what words are read off.
    attentions (tuple of one tensor of shape (N, T, R), *optional*): how the regions were weighed for each word, with
        `dense_context="attention"`.
    """

    loss: torch.Tensor | None = None
    losses: dict[str, torch.Tensor] | None = None
    logits: torch.Tensor | None = None
    label_log_probs: torch.Tensor | None = None
    pred_boxes: torch.Tensor | None = None
    region_logits: torch.Tensor | None = None
    cache: object | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


@dataclass
class UpDownDenseCaptions(ModelOutput):
    """The K sentences of `UpDownForDenseCaptioning.describe`, image after image, the best first.

    sequences (`torch.Tensor` of shape (K, T), int64): token ids, the start token first.
    boxes (`torch.Tensor` of shape (K, 4)): xyxy in 0..1.
    scores (`torch.Tensor` of shape (K,)): what they are ranked by, 0..1.
    log_probs (`torch.Tensor` of shape (K,)): the mean log-probability of a sentence's words, its end included.
    image_index, region_index (`torch.Tensor` of shape (K,), int64): the image, and the place of the region there.
    """

    sequences: torch.Tensor = None  # type: ignore[assignment]  # transformers wants a default for all but one
    boxes: torch.Tensor = None  # type: ignore[assignment]
    scores: torch.Tensor = None  # type: ignore[assignment]
    log_probs: torch.Tensor = None  # type: ignore[assignment]
    image_index: torch.Tensor = None  # type: ignore[assignment]
    region_index: torch.Tensor = None  # type: ignore[assignment]


@dataclass
class UpDownVqaOutput(ModelOutput):
    """What `UpDownForVisualQuestionAnswering` returns for N questions; A answers, C choices, G glimpses.

    loss (scalar, *optional*): of the labels, a mean over questions; that of the choices is added.
    logits (`torch.Tensor` of shape (N, A)): a score of each answer; its sigmoid is in 0..1.
    choice_logits (`torch.Tensor` of shape (N, C), *optional*): a score of each choice given; -inf where there is none.
    hidden_states (tuple of two tensors of shape (N, H), *optional*): the question's state, and what question and image
        make together; of the fusion model, of shape (N, L, H), those of the embeddings and of every layer.
    attentions (tuple of tensors of shape (N, G, R), *optional*): how the regions were weighed for each question, one a
        layer of attention; of the fusion model by [CLS], each head being a glimpse.
    counts (`torch.Tensor` of shape (N, K + 1), *optional*): how sure counting-aware attention is of 0 .. K objects.
    region_boxes (`torch.Tensor` of shape (P, R, 4), *optional*): where those regions are, for each of the images.
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    choice_logits: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None
    counts: torch.Tensor | None = None
    region_boxes: torch.Tensor | None = None


@dataclass
class UpDownGroundingOutput(ModelOutput):
    """What `UpDownFusionForGrounding` returns for N texts of K phrases each.

    loss (scalar, *optional*): the weighted sum of `losses`.
    losses (dict of scalars, *optional*): `regions`, that of `config.grounding_loss`, and `boxes`, the regression,
        without its weight.
    logits (`torch.Tensor` of shape (N, K, R)): a score of each region for each phrase; -inf on padding.
    phrase_scores (`torch.Tensor` of shape (N, K, R)): the same in 0..1, summing to 1 over the regions (and
        `none_scores`), or each by itself with `grounding_loss="binary"`.
    none_scores (`torch.Tensor` of shape (N, K), *optional*): how likely each phrase speaks of nothing in the image,
        0..1, with `config.grounding_none`.
    pred_boxes (`torch.Tensor` of shape (N, K, R, 4)): each region as moved for each phrase, xyxy in 0..1.
    region_masks (`torch.Tensor` of shape (P, R, M, M), *optional*): the mask of each region inside its box as it is,
        `region_boxes`, where the regions have masks: that of a phrase's best region is the phrase's.
    hidden_states (tuple of tensors of shape (N, L, H), *optional*): of the embeddings and of every layer.
    attentions (tuple of tensors of shape (N, T, R), *optional*): how the regions were weighed for each word, one a
        layer, summing to 1.
    region_boxes (`torch.Tensor` of shape (P, R, 4), *optional*): where those regions are, for each of the images.
    """

    loss: torch.Tensor | None = None
    losses: dict[str, torch.Tensor] | None = None
    logits: torch.Tensor | None = None
    phrase_scores: torch.Tensor | None = None
    none_scores: torch.Tensor | None = None
    pred_boxes: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None
    region_boxes: torch.Tensor | None = None
    region_masks: torch.Tensor | None = None


@dataclass
class UpDownReasoningOutput(ModelOutput):
    """What `UpDownFusionForVisualEntailment` and `UpDownFusionForImagePairs` return for N statements; C classes, K
    images a statement.

    loss (scalar, *optional*): of the labels, a mean over statements.
    logits (`torch.Tensor` of shape (N, C)): a score of each class.
    hidden_states (tuple of tensors of shape (N, L, H), *optional*): of the embeddings and of every layer; of
        statements read with each image by itself (N x K, L, H).
    attentions (tuple of tensors of shape (N, heads, R), *optional*): how [CLS] weighed the regions, one a layer,
        summing to 1; of several images (N, heads, K x R).
    region_boxes (`torch.Tensor` of shape (P, R, 4), *optional*): where those regions are, for each of the images; of
        several images for each of the statements, (N, K x R, 4).
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None
    region_boxes: torch.Tensor | None = None


@dataclass
class UpDownMultipleChoiceOutput(ModelOutput):
    """What `UpDownFusionForMultipleChoice` returns for N items of C candidates each.

    loss (scalar, *optional*): of the labels, a mean over the items that have one.
    logits (`torch.Tensor` of shape (N, C)): a score of each candidate; -inf where an item has fewer.
    hidden_states (tuple of tensors of shape (N x C, L, H), *optional*): of the embeddings and of every layer; with
        `choice_attention="shared"` of shape (N, L, H), context, then regions, then all candidates.
    attentions (tuple of tensors of shape (N, C, R), *optional*): how the regions were weighed for each candidate, one a
        layer, summing to 1.
    region_boxes (`torch.Tensor` of shape (P, R, 4), *optional*): where those regions are, for each of the images.
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None
    region_boxes: torch.Tensor | None = None


@dataclass
class UpDownMomentOutput(ModelOutput):
    """What `UpDownForMomentRetrieval` returns for N sentences about clips of C steps; K spans, S segments, W bins.

    loss (scalar, *optional*): the weighted sum of `losses`.
    losses (dict of scalars, *optional*): with `moment_head="spans"` `label`, `span`, `giou`, `saliency` and
        `alignment`, those of earlier layers with their number (`label_0`); with `"map"` `map`. Without their weights.
    logits (`torch.Tensor` of shape (N, K, 2)): that each span is meant, and that it is not; of a map (N, S, S), a score
        of the run from the first to the last segment, the lowest number where it starts after it ends.
    pred_spans (`torch.Tensor` of shape (N, K, 2)): starts and ends in seconds, inside the clip.
    span_scores (`torch.Tensor` of shape (N, K)): how likely each span is meant, 0..1.
    span_predictions (`torch.Tensor` of shape (N, K, 2), *optional*): centre and width in 0..1 of the clip, as
        predicted; logits of bins (N, K, 2, W) with `moment_span_loss="cross_entropy"`; None of a map.
    saliency_scores (`torch.Tensor` of shape (N, C), *optional*): of each step, of any size; -inf where a clip has fewer
        steps. None of a map.
    step_seconds (`torch.Tensor` of shape (N, C, 2)): from when to when each step lasts; the clip's end twice where a
        clip has fewer.
    hidden_states (tuple of tensors of shape (N, C + T, H), *optional*): of steps and words before and after each
        encoder layer; of a map (N, S, S, H), before and after each convolution.
    attentions (tuple of tensors of shape (N, K, C), *optional*): how the steps were weighed for each span, one a
        decoder layer, summing to 1. None of a map.
    """

    loss: torch.Tensor | None = None
    losses: dict[str, torch.Tensor] | None = None
    logits: torch.Tensor | None = None
    pred_spans: torch.Tensor | None = None
    span_scores: torch.Tensor | None = None
    span_predictions: torch.Tensor | None = None
    saliency_scores: torch.Tensor | None = None
    step_seconds: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


@dataclass
class UpDownReadingOutput(ModelOutput):
    """What `UpDownForTextReading` returns for N answers of S steps; V entries of the vocabulary, W OCR words.

    loss (scalar, *optional*): binary cross-entropy, summed over vocabulary and OCR words, a mean over steps.
    logits (`torch.Tensor` of shape (N, S, V + W)): a score of each entry of the vocabulary, then of each OCR word, at
        each step; near -10,000 where an image has fewer OCR words.
    hidden_states (tuple of tensors of shape (N, L, H), *optional*): of question, objects, OCR words and steps, of the
        embeddings and of every layer; of `reading_head="lorra"` those of the question.
    attentions (tuple of tensors of shape (N, S, R + W), *optional*): how objects and OCR words were weighed at each
        step, one a layer, summing to 1; 0 where there are none. Without objects R is 0.
    region_boxes (`torch.Tensor` of shape (P, R, 4), *optional*): where the objects are, for each of the images.
    ocr_boxes (`torch.Tensor` of shape (P, W, 4), *optional*): where the OCR words are.
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None
    region_boxes: torch.Tensor | None = None
    ocr_boxes: torch.Tensor | None = None


@dataclass
class UpDownFusionOutput(ModelOutput):
    """What `UpDownFusionModel` returns for N passes; L = T + R tokens, H the text encoder's width.

    pooler_output (`torch.Tensor` of shape (N, H)): the joint vector; see `config.pooling`.
    last_hidden_state (`torch.Tensor` of shape (N, L, H)): the states of words, then regions.
    word_states (`torch.Tensor` of shape (N, T, H)), region_states (`torch.Tensor` of shape (N, R, H), *optional*): the
        same, apart. Without words, T is 1: the [CLS] token.
    hidden_states (tuple of tensors of shape (N, L, H), *optional*): of the embeddings and of every layer.
    attentions (tuple of tensors of shape (N, heads, L, L), *optional*): of every layer.
    region_boxes (`torch.Tensor` of shape (P, R, 4), *optional*): where those regions are, for each of the images.
    """

    pooler_output: torch.Tensor | None = None
    last_hidden_state: torch.Tensor | None = None
    word_states: torch.Tensor | None = None
    region_states: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None
    region_boxes: torch.Tensor | None = None


@dataclass
class UpDownRetrievalOutput(ModelOutput):
    """What `UpDownFusionForImageTextRetrieval` returns for P images and N texts.

    loss (scalar, *optional*): the weighted sum of `losses`.
    losses (dict of scalars, *optional*): each objective by itself, without its weight.
    logits, logits_per_image (`torch.Tensor` of shape (P, N)): similarity of image and text over the temperature.
    logits_per_text (`torch.Tensor` of shape (N, P)): the same, transposed.
    image_embeds, text_embeds (`torch.Tensor` of shape (P, E) and (N, E)): of length 1.
    attentions (tuple of tensors of shape (N, T, R), *optional*): how the regions were weighed for each word of each
        text with its own image, one a layer, summing to 1.
    region_boxes (`torch.Tensor` of shape (P, R, 4), *optional*): where those regions are.
    """

    loss: torch.Tensor | None = None
    losses: dict[str, torch.Tensor] | None = None
    logits: torch.Tensor | None = None
    logits_per_image: torch.Tensor | None = None
    logits_per_text: torch.Tensor | None = None
    image_embeds: torch.Tensor | None = None
    text_embeds: torch.Tensor | None = None
    attentions: tuple[torch.Tensor, ...] | None = None
    region_boxes: torch.Tensor | None = None


@dataclass
class UpDownPreTrainingOutput(ModelOutput):
    """What `UpDownFusionForPreTraining` returns for N pairs of P images; C object classes with background, A attributes
    with none.

    loss (scalar, *optional*), losses (dict of scalars, *optional*): as above.
    logits (`torch.Tensor` of shape (N, T, V), *optional*): of every word, from the pass whose words are masked; None
        in training with labels, where masked words alone are scored.
    object_logits (`torch.Tensor` of shape (N, R, C), *optional*), attribute_logits (`torch.Tensor` of shape (N, R, A),
        *optional*), region_predictions (`torch.Tensor` of shape (N, R, D), *optional*): class, attribute and feature of
        every region, from the pass whose regions are masked.
    answer_logits (`torch.Tensor` of shape (M, A), *optional*): a score of every answer to each of M questions.
    image_embeds, text_embeds (`torch.Tensor` of shape (P, E) and (N, E), *optional*): of length 1.
    hidden_states (tuple of tensors of shape (N, L, H), *optional*), attentions (tuple of tensors of shape (N, T, R),
        *optional*): of the masked pass.
    region_boxes (`torch.Tensor` of shape (P, R, 4), *optional*): where those regions are.
    """

    loss: torch.Tensor | None = None
    losses: dict[str, torch.Tensor] | None = None
    logits: torch.Tensor | None = None
    object_logits: torch.Tensor | None = None
    attribute_logits: torch.Tensor | None = None
    region_predictions: torch.Tensor | None = None
    answer_logits: torch.Tensor | None = None
    image_embeds: torch.Tensor | None = None
    text_embeds: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None
    region_boxes: torch.Tensor | None = None


@dataclass
class UpDownMaskedLMOutput(ModelOutput):
    """What `UpDownFusionForMaskedLM` returns for N texts, with or without their images.

    loss (scalar, *optional*): cross-entropy of the masked words, a mean over them.
    logits (`torch.Tensor` of shape (N, T, V)): of every word.
    hidden_states (tuple of tensors of shape (N, L, H), *optional*): of the embeddings and of every layer.
    attentions (tuple of tensors, *optional*): (N, T, R), how the regions were weighed for each word; of words alone
        (N, heads, T, T), as the text encoder has it.
    region_boxes (`torch.Tensor` of shape (P, R, 4), *optional*): where those regions are.
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None
    region_boxes: torch.Tensor | None = None


@dataclass
@cache_field_by_version
class UpDownPrefixLMOutput(ModelOutput):
    """What the prefix language models return for N rows of T words; L the layers of the language model.

    loss (scalar, *optional*): cross-entropy of the labels, a mean over words.
    logits (`torch.Tensor` of shape (N, T, V)): scores of the next word after each word; the regions have none.
    label_log_probs (`torch.Tensor` of shape (N, T), *optional*): log-probability of each label, at the step that
        predicts it; zero where there is none. What self-critical training weighs by its reward.
    cache (`PrefixCache`, *optional*): keys and values of regions and words; `past_key_values` before transformers 5.24,
        and readable under both names in every version.
    hidden_states (tuple of L + 1 tensors of shape (N, T, H), *optional*): of the words' embeddings and of every layer.
    attentions (tuple of one tensor of shape (N, T, R), *optional*): how the regions were weighed for each word: the
        last layer's attention, a mean over heads, scaled to sum to 1 over the regions.
    region_boxes (`torch.Tensor` of shape (P, R, 4), *optional*): where those regions are, for each of the images.
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    label_log_probs: torch.Tensor | None = None
    cache: object | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None
    region_boxes: torch.Tensor | None = None


def check_pixels(pixel_values: torch.Tensor) -> None:
    """Raises `ValueError` for what is no batch of images (B, 3, height, width)."""
    shape = tuple(pixel_values.shape)
    empty = not torch.compiler.is_compiling() and 0 in shape
    if len(shape) != 4 or shape[1] != 3 or empty:
        cure = "make them with the model's image processor"
        if len(shape) == 3 and shape[0] == 3:
            cure = "give pixel_values[None] for one image"
        raise ValueError(f"pixel_values have shape {shape}, not (images, 3, height, width): {cure}")


def check_detections(output: UpDownDetectorOutput, model: Any) -> None:
    """As `check_finite`, for all that a detector says of the regions that are there."""
    said = {
        "scores of regions": output.region_scores,
        "boxes of regions": output.region_boxes,
        "regressed boxes": output.pred_boxes,
        "region features": output.region_features,
        "scores of attributes": output.attribute_scores,
        "masks": output.region_masks,
    }
    for what, numbers in said.items():
        if numbers is not None and output.region_mask is not None:
            check_finite(numbers[output.region_mask], model, what=what)


class NotFiniteError(ValueError):
    """A model's numbers are none; `what` names them, for a training run that has more to say of its own model."""

    what = "numbers"


def check_finite(numbers: torch.Tensor, model: Any, *, what: str) -> None:
    """Raises `NotFiniteError` naming the model's folder where numbers that it made are not all finite."""
    if not bool(torch.isfinite(numbers).all()):
        raise not_finite(model, what)


def check_finite_eagerly(numbers: torch.Tensor, model: Any, *, what: str) -> None:
    """As `check_finite` but where a graph is made, which would keep no check, and on "meta", where no number is."""
    if not (is_traced() or numbers.is_meta):
        check_finite(numbers, model, what=what)


def not_finite(model: Any, what: str) -> NotFiniteError:
    """What there is to say of a model whose numbers are none."""
    folder = getattr(model, "name_or_path", "") or f"the model ({type(model).__name__})"
    error = NotFiniteError(
        f"{folder} makes {what} that are no numbers (NaN or infinity): its weights are damaged, or NaN since their "
        "training, so take another checkpoint; if float16 overflows, load the model with dtype=torch.float32"
    )
    error.what = what
    return error
