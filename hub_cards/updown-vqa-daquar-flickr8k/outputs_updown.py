"""What flows between the two halves (`Regions`) and what the heads return.

Photo -> region source or store -> `Regions` -> top-down model -> words, answers, scores. Shapes: B photos, R regions,
D feature width, T words, V vocabulary.
"""

from dataclasses import dataclass

import torch
from transformers.utils import ModelOutput


@dataclass
class Regions(ModelOutput):
    """The regions of B photos, padded to R: the one currency between bottom-up and top-down.

    region_features (`torch.Tensor` of shape (B, R, D)): one vector per region.
    region_boxes (`torch.Tensor` of shape (B, R, 4)): xyxy in 0..1 of the photo's width and height.
    region_mask (`torch.Tensor` of shape (B, R), bool): True = a real region.
    region_scores (`torch.Tensor` of shape (B, R), *optional*): the detector's confidence, 0..1.
    object_probs, attribute_probs (`torch.Tensor` of shape (B, R, classes + 1), *optional*): soft labels; index 0 is
        background / no attribute.
    region_seconds (`torch.Tensor` of shape (B, R), *optional*): when, for frames of a clip.

    Example:

    >>> regions = Regions(torch.zeros(1, 2, 8), torch.tensor([[[0, 0, 1, 1], [0, 0, 0.5, 1]]]), torch.ones(1, 2).bool())
    >>> regions.region_features.shape
    torch.Size([1, 2, 8])
    """

    region_features: torch.Tensor = None  # type: ignore[assignment]  # transformers wants a default for all but one
    region_boxes: torch.Tensor = None  # type: ignore[assignment]
    region_mask: torch.Tensor = None  # type: ignore[assignment]
    region_scores: torch.Tensor | None = None
    object_probs: torch.Tensor | None = None
    attribute_probs: torch.Tensor | None = None
    region_seconds: torch.Tensor | None = None


@dataclass
class UpDownDetectorOutput(Regions):
    """What `UpDownDetector` returns: `Regions`, and what only a detector knows. C objects, A attributes.

    object_ids, attribute_ids (`torch.Tensor` of shape (B, R), int64, *optional*): each region's class, 1 .. C, and best
        attribute, 1 .. A; names are `config.id2label` and `config.attribute_id2label`.
    attribute_scores (`torch.Tensor` of shape (B, R), *optional*): that attribute's probability, 0..1.
    logits (`torch.Tensor` of shape (B, R, C + 1), *optional*): class scores, background first.
    pred_boxes (`torch.Tensor` of shape (B, R, 4), *optional*): the regressed box of each region's class, xyxy in 0..1.
    loss (scalar, *optional*): the sum of `losses`.
    losses (dict of scalars, *optional*): `proposal_objectness`, `proposal_box`, `region_class`, `region_box` and, with
        attributes, `region_attributes`, each a mean over photos and with its weight.
    """

    object_ids: torch.Tensor | None = None
    attribute_ids: torch.Tensor | None = None
    attribute_scores: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    pred_boxes: torch.Tensor | None = None
    loss: torch.Tensor | None = None
    losses: dict[str, torch.Tensor] | None = None


@dataclass
class UpDownCaptioningOutput(ModelOutput):
    """What `UpDownForImageCaptioning` returns.

    loss (scalar, *optional*): cross-entropy of the labels, a mean over words.
    logits (`torch.Tensor` of shape (B, T, V)): scores of the next word; zero where `attention_mask` is zero.
    label_log_probs (`torch.Tensor` of shape (B, T), *optional*): log-probability of each label, at the step that
        predicts it; zero where there is none. What self-critical training weighs by its reward.
    past_key_values (`CaptioningCache`, *optional*): the state of both LSTMs and the projected regions.
    hidden_states (tuple of three tensors of shape (B, T, E or H), *optional*): the words' embeddings, the states of the
        attention LSTM and those of the language LSTM.
    attentions (tuple of one tensor of shape (B, T, R), *optional*): how the regions were weighed for each word.
    region_boxes (`torch.Tensor` of shape (B, R, 4), *optional*): where those regions are.
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    label_log_probs: torch.Tensor | None = None
    past_key_values: object | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None
    region_boxes: torch.Tensor | None = None


@dataclass
class UpDownVqaOutput(ModelOutput):
    """What `UpDownForVisualQuestionAnswering` returns for N questions; A answers, C choices, G glimpses.

    loss (scalar, *optional*): of the labels, a mean over questions; that of the choices is added.
    logits (`torch.Tensor` of shape (N, A)): a score of each answer; its sigmoid is in 0..1.
    choice_logits (`torch.Tensor` of shape (N, C), *optional*): a score of each choice given; -inf where there is none.
    hidden_states (tuple of two tensors of shape (N, H), *optional*): the question's state, and what question and photo
        make together.
    attentions (tuple of tensors of shape (N, G, R), *optional*): how the regions were weighed for each question, one a
        layer of attention.
    counts (`torch.Tensor` of shape (N, K + 1), *optional*): how sure counting-aware attention is of 0 .. K objects.
    region_boxes (`torch.Tensor` of shape (P, R, 4), *optional*): where those regions are, for each of the photos.
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    choice_logits: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None
    counts: torch.Tensor | None = None
    region_boxes: torch.Tensor | None = None
