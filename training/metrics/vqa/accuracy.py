"""Answer metrics of visual question answering, equal to the official evaluators.

    predictions (one string per question) + people's answers --vqa_accuracy--> accuracy, per type, per question

VQA v1 and v2 (Antol et al. 2015, Goyal et al. 2017), OK-VQA, TextVQA, A-OKVQA and Visual7W. Answers are normalised by
`processors.answer_text_updown`.
"""

import json
import math
import warnings
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from processors.answer_text_updown import (
    clean_answer,
    normalize_answer,
    normalize_answer_evalai,
    soft_score,
    strip_punctuation,
)
from training.data.files import listed

from .exact_match import (
    Alignment,
    accuracy_scores,
    align_predictions,
    mean,
    scorable_rows,
)

AOKVQA_SETTINGS = ("direct_answer", "multiple_choice")


def vqa_accuracy(
    predictions: Sequence[str],
    answers: Sequence[Sequence[str]],
    *,
    question_types: Sequence[str] | None = None,
    answer_types: Sequence[str] | None = None,
    answer_ids: bool = True,
    variant: str = "official",
) -> dict[str, Any]:
    """The VQA accuracy: the mean, over each annotator left out, of min(n/3, 1) with n of the others agreeing.

    As in the official evaluator, both sides are normalised only if the human answers of a question differ; ten equal
    answers must be matched exactly, including capitals.

    Args:
        predictions: one answer per question, in any spelling.
        answers: the human answers of each question, as the annotation file has them (ten in VQA; any number works).
        question_types: the type of each question ("what color", ...); "" belongs to none.
        answer_types: the type of each answer ("yes/no", "number", "other").
        answer_ids: whether the file's answers have an `answer_id`, as VQA's do. Without ids the evaluator regards equal
            answers as the same one and leaves all of them out together.
        variant: "official", the VQA evaluator; "lavis", the copy in LAVIS, which always normalises the prediction and
            of the human answers at most the punctuation; "textvqa", TextVQA's, which normalises everything as the
            challenge server does; "agree_of_three", min(n/3, 1) with n of all people agreeing by the official
            comparison, nobody left out, as papers define the metric (Anderson et al. 2018, section 3.3).

    Returns:
        `accuracy` 0..1, `accuracy_x100`, `per_answer_type_x100` and `per_question_type_x100` (type -> 0..100), and
        `per_item`, 0..1 per question. A question without answers has NaN there, is not scored, and is named in a
        warning.

    Raises:
        ValueError, TypeError: for different lengths, an unknown variant, a prediction that is not a string, or if no
            question can be scored.

    >>> answers = [["dog"] * 2 + ["cat"] * 8, ["no"] * 10]
    >>> scores = vqa_accuracy(["The dog.", "no"], answers, answer_types=["other", "yes/no"])
    >>> scores["accuracy_x100"], scores["per_answer_type_x100"]
    (80.0, {'other': 60.0, 'yes/no': 100.0})
    """
    if variant not in AGREEING:
        raise ValueError(f"variant is {variant!r}; it can be one of {', '.join(AGREEING)}")
    answers = answers if isinstance(answers, str) else list(answers)  # a column of a data set is slow to index
    rows = scorable_rows(predictions, answers)
    agreeing = AGREEING[variant]
    score = _score_with_ids if answer_ids else _score_without_ids
    if variant == "agree_of_three":
        score = _score_of_three
    per_item = [math.nan] * len(predictions)
    for row in rows:
        people = answers[row]
        per_item[row] = score(agreeing(predictions[row], people), len(people))
    return accuracy_scores(per_item) | {
        "per_answer_type_x100": _per_type_x100(per_item, answer_types, what="answer_types"),
        "per_question_type_x100": _per_type_x100(per_item, question_types, what="question_types"),
    }


def _official_agreeing(prediction: str, answers: Sequence[str]) -> int:
    """The number of answers that equal the prediction, by the VQA evaluator's comparison."""
    people = [clean_answer(answer) for answer in answers]
    prediction = clean_answer(prediction)
    if len(set(people)) > 1:
        people = [normalize_answer(answer) for answer in people]
        prediction = normalize_answer(prediction)
    return people.count(prediction)


def _lavis_agreeing(prediction: str, answers: Sequence[str]) -> int:
    people = list(answers)
    if len(set(people)) > 1:
        people = [strip_punctuation(answer) for answer in people]
    return people.count(normalize_answer(clean_answer(prediction)))


def _textvqa_agreeing(prediction: str, answers: Sequence[str]) -> int:
    return [normalize_answer_evalai(answer) for answer in answers].count(normalize_answer_evalai(prediction))


AGREEING = {
    "official": _official_agreeing,
    "lavis": _lavis_agreeing,
    "textvqa": _textvqa_agreeing,
    "agree_of_three": _official_agreeing,
}


def _score_with_ids(agreeing: int, people: int) -> float:
    return soft_score(agreeing, num_answers=people)


def _score_of_three(agreeing: int, people: int) -> float:
    return soft_score(agreeing, num_answers=people, form="agree_of_three")


def _score_without_ids(agreeing: int, people: int) -> float:
    """An agreeing annotator leaves out all agreeing ones, so that only the others' turns score."""
    return (people - agreeing) * min(agreeing, 3) / (3 * people)


def _per_type_x100(per_item: list[float], types: Sequence[str] | None, *, what: str) -> dict[str, float]:
    """Type -> mean in 0..100 of the questions of that type that could be scored."""
    if types is None:
        return {}
    if len(types) != len(per_item):
        raise ValueError(f"{len(types)} {what} for {len(per_item)} questions; pass one per question, or None")
    groups: dict[str, list[float]] = defaultdict(list)
    for name, value in zip(types, per_item, strict=True):
        if name and not math.isnan(value):
            groups[name].append(value)
    return {name: 100 * mean(values) for name, values in groups.items()}


def official_report(scores: Mapping[str, Any], *, decimals: int = 2) -> dict[str, Any]:
    """The result of `vqa_accuracy` as the official evaluator writes it: its names, in 0..100, rounded to `decimals`."""
    per_type = {"perQuestionType": "per_question_type_x100", "perAnswerType": "per_answer_type_x100"}
    return {"overall": round(scores["accuracy_x100"], decimals)} | {
        official: {name: round(value, decimals) for name, value in scores[ours].items()}
        for official, ours in per_type.items()
    }


def okvqa(predictions: Sequence[str], answers: Sequence[Sequence[str]]) -> dict[str, Any]:
    """OK-VQA's accuracy (Marino et al. 2019): `vqa_accuracy` on its five answers, each counted twice.

    The file's answers are stemmed (`raw_answer` is not), so predictions must be made of its words; predictions are not
    stemmed here.
    """
    return vqa_accuracy(predictions, answers)


def textvqa_accuracy(predictions: Sequence[str], answers: Sequence[Sequence[str]]) -> dict[str, Any]:
    """TextVQA's accuracy (Singh et al. 2019): `vqa_accuracy` that normalises everything, as the challenge server does.

    The official evaluator refuses anything but ten answers per question; any number works here.
    """
    return vqa_accuracy(predictions, answers, variant="textvqa")


def aokvqa(
    predictions: Mapping[Any, str] | Iterable[Mapping[str, Any]],
    questions: Iterable[Mapping[str, Any]],
    *,
    setting: str = "direct_answer",
    strict: bool = True,
) -> dict[str, Any]:
    """A-OKVQA's accuracy (Schwenk et al. 2022). Texts are compared without normalisation.

    Args:
        predictions: question id -> answer, the text of the choice for multiple choice.
        questions: the official records: `question_id`; `choices` and `correct_choice_idx`; `direct_answers` and
            `difficult_direct_answer` (such questions have no direct answer and are left out).
        setting: "direct_answer": min(n/3, 1) with n people who said the same, nobody left out; "multiple_choice".
        strict: whether every question must be answered, by one of its choices if they are given (the official
            default); else a question without a prediction scores 0.

    Returns:
        `accuracy` 0..1, `accuracy_x100`, and `per_item`: question id -> 0..1 of each question of the setting.

    Raises:
        ValueError: if no question of the setting has an answer; if strict, for predictions that are missing or not one
            of the choices.
    """
    if setting not in AOKVQA_SETTINGS:
        raise ValueError(f"setting is {setting!r}; it can be one of {', '.join(AOKVQA_SETTINGS)}")
    choosing = setting == "multiple_choice"
    records = {str(item["question_id"]): item for item in questions}
    asked = {name: item for name, item in records.items() if (_has_choice if choosing else _has_direct_answers)(item)}
    if not asked:
        raise ValueError(f"no question has an answer for {setting}; are the answers hidden, as in a test file?")
    aligned = align_predictions(predictions, list(records))
    aligned = aligned._replace(missing=[name for name in aligned.missing if name in asked])
    said = dict(zip(records, aligned.predictions, strict=True))
    _check_aokvqa(aligned, {name: (said[name], item) for name, item in asked.items()}, choosing=choosing, strict=strict)
    without = set(aligned.missing)
    score = _choice_score if choosing else _direct_answer_score
    per_item = {name: 0.0 if name in without else score(said[name], item) for name, item in asked.items()}
    return accuracy_scores(list(per_item.values())) | {"per_item": per_item}


def aokvqa_questions(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The records for `aokvqa`, from rows of a VQA data set whose `details` hold `difficult_direct_answer`."""
    return [
        {
            "question_id": row["question_id"],
            "choices": list(row["choices"]),
            "correct_choice_idx": row["correct_choice"],
            "direct_answers": list(row["answers"]),
        }
        | json.loads(row["details"] or "{}")
        for row in rows
    ]


def _has_choice(question: Mapping[str, Any]) -> bool:
    number = question.get("correct_choice_idx")
    return number is not None and 0 <= number < len(question["choices"])


def _has_direct_answers(question: Mapping[str, Any]) -> bool:
    return bool(question.get("direct_answers")) and not question.get("difficult_direct_answer", False)


def _choice_score(prediction: str, question: Mapping[str, Any]) -> float:
    return float(prediction == question["choices"][question["correct_choice_idx"]])


def _direct_answer_score(prediction: str, question: Mapping[str, Any]) -> float:
    people = question["direct_answers"]
    return soft_score(people.count(prediction), num_answers=len(people), form="agree_of_three")


def _check_aokvqa(
    aligned: Alignment, asked: Mapping[str, tuple[str, Mapping[str, Any]]], *, choosing: bool, strict: bool
) -> None:
    """Raise the errors of `strict`, and warn of other ids that do not match; asked: id -> prediction and question."""
    if strict and aligned.missing:
        raise ValueError(
            f"{len(aligned.missing)} of {len(asked)} questions have no prediction ({listed(aligned.missing)}); answer "
            "them, or pass strict=False to count them as wrong"
        )
    no_choice = [name for name, (said, item) in asked.items() if choosing and said not in item["choices"]]
    if strict and no_choice:
        raise ValueError(
            f"{len(no_choice)} predictions are none of their question's choices ({listed(no_choice)}); give the text "
            "of a choice, or pass strict=False"
        )
    if aligned.problems():
        warnings.warn(aligned.problems(), stacklevel=3)


def visual7w(
    predictions: Sequence[str | Sequence[str]],
    answers: Sequence[str],
    *,
    question_types: Sequence[str] | None = None,
    top_k: int = 1,
) -> dict[str, Any]:
    """Visual7W's telling accuracy (Zhu et al. 2016): the answer, in lower case, is among the first `top_k` candidates.

    Args:
        predictions: one answer per question, or several, the best first. Multiple choice is the choice's text.
        answers: the one right answer of each question.
        question_types: "what", "where", ... of each question.
        top_k: the number of candidates that count; 1 in the official multiple choice.

    Returns:
        As `accuracy_scores`, and `per_question_type`: type -> `correct`, `questions` and `accuracy_x100`.

    Raises:
        ValueError: for different lengths, no question, or `top_k` below 1.

    >>> visual7w([["A cat.", "a dog."]], ["A dog."], top_k=2)["accuracy"]
    1.0
    """
    if top_k < 1:
        raise ValueError(f"top_k is {top_k}; at least the first candidate must count")
    if len(predictions) != len(answers) or not len(answers) or isinstance(answers, str):
        raise ValueError(f"{len(predictions)} predictions for {len(answers)} answers; pass one of each per question")
    if question_types is not None and len(question_types) != len(answers):
        raise ValueError(f"{len(question_types)} question_types for {len(answers)} questions; pass one per question")
    ranked = ([row] if isinstance(row, str) else row for row in predictions)
    per_item = [
        float(str(answer).lower() in [str(candidate).lower() for candidate in candidates[:top_k]])
        for candidates, answer in zip(ranked, answers, strict=True)
    ]
    groups: dict[str, list[float]] = defaultdict(list)
    for name, value in zip(question_types or (), per_item, strict=False):
        groups[name].append(value)
    per_type = {
        name: {"correct": int(sum(values)), "questions": len(values), "accuracy_x100": 100 * mean(values)}
        for name, values in groups.items()
    }
    return accuracy_scores(per_item) | {"per_question_type": per_type}
