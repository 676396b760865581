"""Metrics of grounding, equal to the reference evaluators: referring expressions' boxes and masks, phrases."""

from .phrases import flickr30k_entities, phrase_recall
from .refexp import refexp_iou, refexp_mask_iou

__all__ = [
    "flickr30k_entities",
    "phrase_recall",
    "refexp_iou",
    "refexp_mask_iou",
]
