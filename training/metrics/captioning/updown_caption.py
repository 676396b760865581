"""BLEU, METEOR, ROUGE-L and CIDEr of captions as an `evaluate` metric: `evaluate.load("<this folder>")`, offline too.

The numbers are `training.metrics.captioning.scores.caption_scores`, which defines each of them.
"""

from typing import Any

import datasets
import evaluate

from training.metrics.captioning.scores import caption_scores

_DESCRIPTION = "BLEU, METEOR, ROUGE-L and CIDEr-D of image captions, equal to the official COCO caption evaluator."
_INPUTS = "predictions: one raw caption per image; references: for each image, its list of raw reference captions."
_CITATION = "Chen et al., Microsoft COCO Captions: Data Collection and Evaluation Server, 2015."


class UpDownCaption(evaluate.Metric):
    """Caption scores of a corpus; `compute` returns what `caption_scores` does, without the values per image.

    Example:
        metric = evaluate.load("training/metrics/captioning/updown_caption.py")
        metric.compute(predictions=["a dog", "a cat"], references=[["a dog"], ["the cat"]])["rouge_l"]
    """

    def _info(self) -> evaluate.MetricInfo:
        words = datasets.Value("string")
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": words, "references": datasets.Sequence(words)}),
        )

    def _compute(self, predictions: list[str], references: list[list[str]]) -> dict[str, Any]:
        scores = caption_scores(predictions, references)
        return {name: value for name, value in scores.items() if name != "per_item"}
