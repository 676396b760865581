"""The VQA accuracy as an `evaluate` metric: `evaluate.load("<this folder>")`, offline too.

The numbers are `training.metrics.vqa.accuracy.vqa_accuracy`, which defines each of them.
"""

from collections.abc import Sequence
from typing import Any

import datasets
import evaluate

from training.metrics.vqa import vqa_accuracy

_DESCRIPTION = "Accuracy of answers to questions about images, equal to the official VQA evaluator."
_INPUTS = (
    "predictions: one answer per question; references: for each question, the list of people's answers as the "
    "annotation file has them; question_types and answer_types: one name per question, if accuracies per type are "
    "wanted; variant: official, lavis or textvqa."
)
_CITATION = "Antol et al., VQA: Visual Question Answering, ICCV 2015."


class UpDownVqa(evaluate.Metric):
    """VQA accuracy of a corpus; `compute` returns what `vqa_accuracy` does, without the values per question.

    Example:
        metric = evaluate.load("training/metrics/vqa/updown_vqa.py")
        metric.compute(predictions=["two"], references=[["2"] * 9 + ["3"]])["accuracy_x100"]
    """

    def _info(self) -> evaluate.MetricInfo:
        words = datasets.Value("string")
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": words, "references": datasets.Sequence(words)}),
        )

    def _compute(
        self,
        predictions: list[str],
        references: list[list[str]],
        question_types: Sequence[str] | None = None,
        answer_types: Sequence[str] | None = None,
        variant: str = "official",
    ) -> dict[str, Any]:
        scores = vqa_accuracy(
            predictions, references, question_types=question_types, answer_types=answer_types, variant=variant
        )
        return {name: value for name, value in scores.items() if name != "per_item"}
