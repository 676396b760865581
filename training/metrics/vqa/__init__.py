"""Metrics of answers, equal to the official evaluators: one module per family, all importable from here."""

from .accuracy import (
    aokvqa,
    aokvqa_questions,
    official_report,
    okvqa,
    textvqa_accuracy,
    visual7w,
    vqa_accuracy,
)
from .exact_match import Alignment, align_predictions, exact_match_accuracy, squad_em_f1
from .gqa import gqa, gqa_questions
from .pope import pope
from .wups import wups

__all__ = [
    "Alignment",
    "align_predictions",
    "aokvqa",
    "aokvqa_questions",
    "exact_match_accuracy",
    "gqa",
    "gqa_questions",
    "official_report",
    "okvqa",
    "pope",
    "squad_em_f1",
    "textvqa_accuracy",
    "visual7w",
    "vqa_accuracy",
    "wups",
]
