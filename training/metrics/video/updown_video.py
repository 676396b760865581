"""Recall of moments as an `evaluate` metric: `evaluate.load("<this folder>")`, offline too.

The numbers are `training.metrics.video.temporal_recall.temporal_grounding_recall`, which defines each of them.
"""

from typing import Any

import datasets
import evaluate

from training.metrics.video import temporal_grounding_recall

_DESCRIPTION = "R@n,IoU=m of moments that sentences describe, equal to TALL's evaluator (Charades-STA, ActivityNet)."
_INPUTS = (
    "predictions: for each sentence its windows (start and end in seconds) and their scores; references: the true "
    "start and end of each sentence; nms_margin: windows that overlap a better one by more than the IoU asked for less "
    "this are left out, None leaves none out."
)
_CITATION = "Gao et al., TALL: Temporal Activity Localization via Language Query, ICCV 2017."


class UpDownVideo(evaluate.Metric):
    """Recall of moments; `compute` returns what `temporal_grounding_recall` does, without the values per query.

    Example:
        metric = evaluate.load("training/metrics/video/updown_video.py")
        found = {"windows": [[0, 10], [4, 9]], "scores": [0.9, 0.8]}
        metric.compute(predictions=[found], references=[[4, 10]])["r1_iou_50_x100"]
    """

    def _info(self) -> evaluate.MetricInfo:
        numbers = datasets.Sequence(datasets.Value("float64"))
        found = {"windows": datasets.Sequence(numbers), "scores": numbers}
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": found, "references": numbers}),
        )

    def _compute(
        self, predictions: list[dict[str, Any]], references: list[list[float]], nms_margin: float | None = 0.05
    ) -> dict[str, Any]:
        windows, scores = ([own[key] for own in predictions] for key in ("windows", "scores"))
        found = temporal_grounding_recall(windows, references, scores=scores, nms_margin=nms_margin)
        return {name: value for name, value in found.items() if name != "per_item"}
