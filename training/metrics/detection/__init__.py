"""Metrics of detections: COCO's average precision of boxes and masks, Visual Genome's, recall of boxes."""

from .average_precision import attribute_scores, coco_detection, detection_scores, vg_detection, vg_object_scores
from .box_recall import box_recall
from .masks import mask_scores

__all__ = [
    "attribute_scores",
    "box_recall",
    "coco_detection",
    "detection_scores",
    "mask_scores",
    "vg_detection",
    "vg_object_scores",
]
