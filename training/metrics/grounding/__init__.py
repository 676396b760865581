"""Metrics of grounding, equal to the reference evaluators: referring expressions' boxes and masks, phrases, choices."""

from .candidates import candidate_accuracy, candidate_scores
from .phrases import flickr30k_entities, phrase_recall
from .referents import referent_auc
from .refexp import refexp_iou, refexp_mask_iou

__all__ = [
    "candidate_accuracy",
    "candidate_scores",
    "flickr30k_entities",
    "phrase_recall",
    "referent_auc",
    "refexp_iou",
    "refexp_mask_iou",
]
