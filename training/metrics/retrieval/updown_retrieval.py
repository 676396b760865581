"""Image-text retrieval as an `evaluate` metric: `evaluate.load("<this folder>")`, offline too.

The numbers are `training.metrics.retrieval.recall.retrieval_scores`, which defines each of them.
"""

from typing import Any

import datasets
import evaluate
import numpy as np

from training.metrics.retrieval.recall import retrieval_scores

_DESCRIPTION = "Recall@1/5/10, ranks and mean average precision of image to text (i2t) and text to image (t2i)."
_INPUTS = (
    "predictions: for each text, its similarity to every image, higher is more alike; references: for each text, the "
    "number of the image that it belongs to, from 0; ties: expected, optimistic, pessimistic or average."
)
_CITATION = "Karpathy and Fei-Fei, Deep Visual-Semantic Alignments for Generating Image Descriptions, CVPR 2015."


class UpDownRetrieval(evaluate.Metric):
    """Retrieval scores of a collection; `compute` returns what `retrieval_scores` does, without the rank of each query.

    Example:
        metric = evaluate.load("training/metrics/retrieval/updown_retrieval.py")
        metric.compute(predictions=[[0.9, 0.4], [0.2, 0.8], [0.3, 0.1]], references=[0, 1, 1])["t2i_r1_x100"]
    """

    def _info(self) -> evaluate.MetricInfo:
        scores = datasets.Sequence(datasets.Value("float64"))
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": scores, "references": datasets.Value("int64")}),
        )

    def _compute(self, predictions: list[list[float]], references: list[int], ties: str = "expected") -> dict[str, Any]:
        scores = retrieval_scores(np.asarray(predictions).T, references, ties=ties)
        return {name: value for name, value in scores.items() if name != "per_item"}
