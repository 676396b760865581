"""GQA's scores (Hudson and Manning 2019), equal to its official `eval.py` except for grounding.

    questions of the official file (or `gqa_questions` of our rows) + predictions + choices --gqa--> scores

Answers are compared without normalisation. Only balanced questions are scored; the others are used for consistency, the
share of entailed questions that are answered correctly if the entailing question is.
"""

import json
import math
import warnings
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from training.data.files import listed

from .exact_match import align_predictions, mean

# The valid answers of a question of the types "...Common", in place of its choices.
COMMON_KINDS = ("color", "material", "shape")
# The last step of a reasoning chain, which only queries the answer, is not counted.
ASKING_STEPS = ("exist", "query: name", "choose name")
NEEDED_FIELDS = ("question", "types", "semantic")

Question = Mapping[str, Any]


def gqa(
    predictions: Mapping[Any, str] | Iterable[Mapping[str, Any]],
    questions: Mapping[str, Question],
    *,
    choices: Mapping[str, Mapping[str, Collection[str]]] | None = None,
) -> dict[str, Any]:
    """Score predictions on GQA.

    Args:
        predictions: question id -> answer, or the official records (`questionId`, `prediction`). Consistency needs the
            predictions of all questions that the correctly answered ones entail.
        questions: id -> `question`, `answer`, `isBalanced`, `types`, `groups`, `semantic`, `entailed`.
        choices: id -> `valid` and `plausible` answers (the official choices files); without them the two scores are
            left out.

    Returns:
        `accuracy_x100`, `binary_x100` and `open_x100` (structural type query), `consistency_x100`, `validity_x100` and
        `plausibility_x100` in 0..100; `distribution`, the weighted chi-square of predicted against true answers in each
        group, over 100 (lower is better; NaN without groups); `per_structural_type`, `per_semantic_type`, `per_steps`
        and `per_length`: name -> `accuracy_x100` and the number of `questions`; `per_item`: id -> 0 or 1. A mean over
        no question is 0, as officially. A question without a prediction counts as wrong; consistency is NaN if
        entailed questions or their predictions are absent; a warning names either.

    Raises:
        ValueError: if no balanced question has an answer, one lacks a field, no prediction belongs to a question, or a
            question is not in `choices`.
    """
    aligned = align_predictions(predictions, list(questions))
    without = set(aligned.missing)
    answered = {name: said for name, said in zip(questions, aligned.predictions, strict=True) if name not in without}
    scored = {name: item for name, item in questions.items() if item.get("isBalanced", True) and item.get("answer")}
    if not scored:
        raise ValueError(f"none of {len(questions)} questions is balanced and has an answer; is this a test file?")
    _check_fields(scored)
    problems = aligned._replace(missing=[name for name in aligned.missing if name in scored]).problems()
    if problems:
        warnings.warn(problems, stacklevel=2)
    correct = {name: float(answered.get(name) == item["answer"]) for name, item in scored.items()}
    scores = _accuracy_scores(correct, scored) | {
        "consistency_x100": _consistency_x100(correct, questions, answered),
        "distribution": _distribution(scored, answered),
        "per_item": correct,
    }
    if choices is not None:
        scores["validity_x100"] = _choices_x100(scored, answered, choices, kind="valid")
        scores["plausibility_x100"] = _choices_x100(scored, answered, choices, kind="plausible")
    return scores


def gqa_questions(rows: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The questions for `gqa`, from rows of a VQA data set whose `details` hold GQA's fields as JSON."""
    return {
        str(row["question_id"]): {"question": row["question"], "answer": row["answer"]}
        | json.loads(row["details"] or "{}")
        for row in rows
    }


def reasoning_steps(question: Question) -> int:
    """The number of reasoning steps of the question's program, without those that only query the answer."""
    steps = (f"{step['operation']}: {step['argument']}" for step in question["semantic"])
    return sum(not any(asking in step for asking in ASKING_STEPS) for step in steps)


def _check_fields(scored: Mapping[str, Question]) -> None:
    """Raises `ValueError` naming the first question without a field that the scores need."""
    for name, question in scored.items():
        lacking = [field for field in NEEDED_FIELDS if field not in question]
        if lacking:
            raise ValueError(
                f"question {name} has no {listed(lacking)}; give the questions as the official file has them"
            )


def _accuracy_scores(correct: Mapping[str, float], scored: Mapping[str, Question]) -> dict[str, Any]:
    """The mean of `correct` over all questions, and over those of each kind."""
    structural = {name: item["types"]["structural"] for name, item in scored.items()}
    return {
        "accuracy_x100": _mean_x100(correct.values()),
        "binary_x100": _mean_x100(value for name, value in correct.items() if structural[name] != "query"),
        "open_x100": _mean_x100(value for name, value in correct.items() if structural[name] == "query"),
        "per_structural_type": _accuracies(correct, structural),
        "per_semantic_type": _accuracies(correct, {name: item["types"]["semantic"] for name, item in scored.items()}),
        "per_steps": _accuracies(correct, {name: reasoning_steps(item) for name, item in scored.items()}),
        "per_length": _accuracies(correct, {name: len(item["question"].split()) for name, item in scored.items()}),
    }


def _mean_x100(values: Iterable[float]) -> float:
    value = mean(values)
    return 0.0 if math.isnan(value) else 100 * value


def _accuracies(correct: Mapping[str, float], names: Mapping[str, Any]) -> dict[Any, dict[str, float]]:
    """Group name -> its accuracy and number of questions."""
    groups: dict[Any, list[float]] = defaultdict(list)
    for question, value in correct.items():
        groups[names[question]].append(value)
    return {name: {"accuracy_x100": _mean_x100(values), "questions": len(values)} for name, values in groups.items()}


def _choices_x100(
    scored: Mapping[str, Question],
    answered: Mapping[str, str],
    choices: Mapping[str, Mapping[str, Collection[str]]],
    *,
    kind: str,
) -> float:
    """The share, 0..100, of answers that are among their question's choices of that kind."""
    lacking = [name for name in scored if name not in choices]
    if lacking:
        raise ValueError(
            f"{len(lacking)} of {len(scored)} questions have no choices ({listed(lacking)}); give the choices file of "
            "the same split, or none"
        )
    allowed = {
        name: COMMON_KINDS if "Common" in question["types"]["detailed"] else choices[name][kind]
        for name, question in scored.items()
    }
    return _mean_x100(float(answered.get(name) in answers) for name, answers in allowed.items())


def _consistency_x100(
    correct: Mapping[str, float], questions: Mapping[str, Question], answered: Mapping[str, str]
) -> float:
    """The mean, over correctly answered questions, of the share of their entailed questions that are correct too."""
    shares: list[float] = []
    absent: dict[str, None] = {}
    for name, value in correct.items():
        entailed = [other for other in questions[name].get("entailed", ()) if other != name] if value else []
        absent |= dict.fromkeys(other for other in entailed if other not in answered or other not in questions)
        if entailed and not absent:
            shares.append(mean(float(answered[other] == questions[other]["answer"]) for other in entailed))
    if absent:
        warnings.warn(
            f"consistency is not known: {len(absent)} entailed questions ({listed(list(absent))}) have no prediction; "
            "answer the questions of the whole file, not of the balanced one",
            stacklevel=3,
        )
        return math.nan
    return _mean_x100(shares)


def _distribution(scored: Mapping[str, Question], answered: Mapping[str, str]) -> float:
    """Chi-square of predicted against true answers of each global group, weighted by the group's size, over 100."""
    true: dict[str, Counter[str]] = defaultdict(Counter)
    predicted: dict[str, Counter[str | None]] = defaultdict(Counter)
    for name, question in scored.items():
        group = question.get("groups", {}).get("global")
        if group is not None:
            true[group][question["answer"]] += 1
            predicted[group][answered.get(name)] += 1
    total = sum(counts.total() for counts in true.values())
    if not total:
        return math.nan
    weighted = math.fsum(
        counts.total() * (predicted[group][answer] - expected) ** 2 / expected
        for group, counts in true.items()
        for answer, expected in counts.items()
    )
    return weighted / total / 100
