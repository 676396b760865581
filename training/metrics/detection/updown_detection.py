"""COCO's average precision of detected boxes as an `evaluate` metric: `evaluate.load("<this folder>")`, offline too.

The numbers are `training.metrics.detection.average_precision.detection_scores`, which defines each of them.
"""

from typing import Any

import datasets
import evaluate

from training.metrics.detection.average_precision import detection_scores

_DESCRIPTION = "Average precision and recall of detected objects, equal to the official COCO evaluator (pycocotools)."
_INPUTS = (
    "predictions: for each image its boxes (xyxy in 0..1), scores and object_ids (from 1); references: for each image "
    "its width and height in pixels, boxes, object_ids and crowd (True = neither missed nor wrong); num_classes: the "
    "highest object id."
)
_CITATION = "Lin et al., Microsoft COCO: Common Objects in Context, ECCV 2014."


class UpDownDetection(evaluate.Metric):
    """Detection scores of a corpus; `compute` returns what `detection_scores` does, without the values per class.

    Example:
        metric = evaluate.load("training/metrics/detection/updown_detection.py")
        found = {"boxes": [[0, 0, 0.5, 1]], "scores": [0.9], "object_ids": [1]}
        truth = {"width": 200, "height": 100, "boxes": [[0, 0, 0.5, 1]], "object_ids": [1], "crowd": [False]}
        metric.compute(predictions=[found], references=[truth], num_classes=80)["map_x100"]
    """

    def _info(self) -> evaluate.MetricInfo:
        boxes = datasets.Sequence(datasets.Sequence(datasets.Value("float64")))
        ids, flags = datasets.Sequence(datasets.Value("int64")), datasets.Sequence(datasets.Value("bool"))
        found = {"boxes": boxes, "scores": datasets.Sequence(datasets.Value("float64")), "object_ids": ids}
        side = datasets.Value("int64")
        truth = {"width": side, "height": side, "boxes": boxes, "object_ids": ids, "crowd": flags}
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": found, "references": truth}),
        )

    def _compute(
        self, predictions: list[dict[str, Any]], references: list[dict[str, Any]], num_classes: int
    ) -> dict[str, Any]:
        scores = detection_scores(predictions, references, num_classes=num_classes)
        return {name: value for name, value in scores.items() if name != "per_class"}
