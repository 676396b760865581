"""Visual commonsense reasoning (Zellers et al. 2019): answers, rationales, and both together.

    scores of four answers and of four rationales of each question + which are right --vcr--> Q->A, QA->R, Q->AR

Rationales are scored with the right answer given, as the official evaluator (r2c's `eval_q2ar.py`) has it.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from training.metrics.box_arrays import with_hundredfold


def vcr(
    answer_scores: Sequence[Sequence[float]],
    rationale_scores: Sequence[Sequence[float]],
    answer_label: Sequence[int],
    rationale_label: Sequence[int],
) -> dict[str, Any]:
    """Accuracy of answers, of rationales, and of both together.

    Args:
        answer_scores: (N, C) a score of each answer to each question; the first of the highest is the one chosen.
        rationale_scores: (N, C) the same of its rationales, scored with the right answer given.
        answer_label, rationale_label: (N,) which of them are right, from 0.

    Returns:
        `q_to_a` (Q->A), `qa_to_r` (QA->R) and `q_to_ar` (Q->AR, the share of questions of which both are right) in
        0..1, each also times 100 as `..._x100`; `per_item`: for each figure a list with 1.0 or 0.0 per question.

    Raises:
        ValueError: for no question, different numbers of questions, rows that are not finite numbers of one length, and
            a label that names none of the candidates (hidden ones are -1).

    >>> found = vcr([[0.1, 0.9], [0.5, 0.5]], [[2, 1], [0, 3]], [1, 0], [0, 0])
    >>> found["q_to_a"], found["qa_to_r"], found["q_to_ar"]
    (1.0, 0.5, 0.5)
    """
    answers = _hits(answer_scores, answer_label, what="answer")
    rationales = _hits(rationale_scores, rationale_label, what="rationale")
    if len(answers) != len(rationales):
        raise ValueError(
            f"{len(answers)} questions have scores of answers and {len(rationales)} of rationales: give both of the "
            "same questions, in one order"
        )
    items = {"q_to_a": answers, "qa_to_r": rationales, "q_to_ar": answers & rationales}
    figures = with_hundredfold({name: float(hits.mean()) for name, hits in items.items()})
    return figures | {"per_item": {name: hits.astype(float).tolist() for name, hits in items.items()}}


def _hits(scores: Sequence[Sequence[float]], labels: Sequence[int], *, what: str) -> np.ndarray:
    """Whether the best candidate of each row is the right one, (N,) bool."""
    table, right = score_table(scores, what=f"scores of {what}s"), np.asarray(labels)
    if len(table) != len(right) or not len(right):
        raise ValueError(f"{len(table)} rows of {what} scores and {len(right)} labels: give one label a question")
    wrong = ~((right >= 0) & (right < table.shape[1]))
    if right.dtype.kind not in "iu" or wrong.any():
        row = int(wrong.argmax())
        raise ValueError(
            f"the {what} label of question {row} is {labels[row]!r}, which names none of its {table.shape[1]} "
            f"{what}s; questions with hidden labels cannot be scored, leave them out"
        )
    return table.argmax(axis=1) == right


def score_table(scores: Any, *, what: str) -> np.ndarray:
    """Rows of scores -> (N, C) float64; `ValueError` naming what they are where rows differ in length, or for NaN."""
    try:
        table = np.asarray(scores, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{what} must be rows of numbers, all of one length: give each item its candidates") from error
    if table.ndim != 2 or not table.size:
        raise ValueError(f"{what} have shape {table.shape}, but must be (items, candidates)")
    if not np.isfinite(table).all():
        row = int((~np.isfinite(table).all(axis=1)).argmax())
        raise ValueError(f"{what} of item {row} are not all finite numbers; was the model trained with such numbers?")
    return table
