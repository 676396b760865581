"""Metrics of detections: COCO's average precision, Visual Genome's of objects and attributes, recall of boxes."""

from .average_precision import attribute_scores, coco_detection, detection_scores, vg_detection, vg_object_scores
from .box_recall import box_recall

__all__ = [
    "attribute_scores",
    "box_recall",
    "coco_detection",
    "detection_scores",
    "vg_detection",
    "vg_object_scores",
]
