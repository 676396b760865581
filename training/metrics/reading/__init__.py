"""Metrics of answers that are read in an image, equal to the reference evaluators.

TextVQA's accuracy and SQuAD's exact match and F1 are those of `training.metrics.vqa`; captions that read (TextCaps) are
scored by `training.metrics.caption`.
"""

from training.metrics.vqa.accuracy import textvqa_accuracy
from training.metrics.vqa.exact_match import squad_em_f1

from .anls import anls, edit_distance, stvqa_accuracy
from .answerability import answerability
from .charts import chartqa_relaxed_accuracy
from .copied import copied_answers

__all__ = [
    "anls",
    "answerability",
    "chartqa_relaxed_accuracy",
    "copied_answers",
    "edit_distance",
    "squad_em_f1",
    "stvqa_accuracy",
    "textvqa_accuracy",
]
