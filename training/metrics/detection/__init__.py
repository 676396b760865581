"""Metrics of detections: COCO's average precision, and that of objects and attributes as Visual Genome is scored."""

from .average_precision import attribute_scores, coco_detection, detection_scores, vg_detection, vg_object_scores

__all__ = ["attribute_scores", "coco_detection", "detection_scores", "vg_detection", "vg_object_scores"]
