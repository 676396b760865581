"""Exact match and SQuAD's F1 of answers, and functions that all answer metrics share.

    {question id: answer} or an upload file --align_predictions--> one answer per row --a metric--> scores

`align_predictions` brings predictions into the order of the rows and lists the ids that do not match. The other metrics
check their rows with `scorable_rows`: wrong lengths and types are errors; rows without a readable human answer are left
out with one warning.
"""

import math
import re
import string
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from processors.answer_text_updown import normalize_answer
from training.data.files import listed

ID_NAMES = ("question_id", "questionId", "qa_id")
ANSWER_NAMES = ("answer", "prediction")
SQUAD_VERSIONS = ("1.1", "2.0")

_SQUAD_MARKS = str.maketrans("", "", string.punctuation)
_SQUAD_ARTICLES = re.compile(r"\b(a|an|the)\b")


class Alignment(NamedTuple):
    """Predictions in the order of the rows, and the ids that did not match.

    `predictions` holds "" for a question that has none; `missing` are those questions' ids, `unknown` the ids of
    predictions without a question, `duplicate` the ids that were predicted more than once (the last one counts).
    """

    predictions: list[str]
    missing: list[str]
    unknown: list[str]
    duplicate: list[str]

    def problems(self) -> str:
        """One sentence naming the ids that did not match; "" if all did."""
        parts = [
            f"{len(ids)} {what} ({listed(ids)})"
            for ids, what in (
                (self.missing, "questions without a prediction, which count as wrong"),
                (self.unknown, "predictions of unknown questions, which are ignored"),
                (self.duplicate, "questions predicted more than once, whose last prediction counts"),
            )
            if ids
        ]
        return "predictions and questions do not match: " + "; ".join(parts) if parts else ""


def align_predictions(
    predictions: Mapping[Any, str] | Iterable[Mapping[str, Any]], question_ids: Sequence[Any]
) -> Alignment:
    """Bring predictions into the order of `question_ids`.

    Args:
        predictions: question id -> answer, or the records of an upload file: `question_id` and `answer` (VQA) or
            `questionId` and `prediction` (GQA).
        question_ids: the rows' ids. Ids are compared as text, so 12 and "12" are equal.

    Raises:
        ValueError: for a record without id or answer, or if no prediction belongs to any question.

    >>> alignment = align_predictions([{"question_id": 2, "answer": "dog"}, {"question_id": 9, "answer": "a"}], [1, 2])
    >>> alignment.predictions, alignment.missing, alignment.unknown
    (['', 'dog'], ['1'], ['9'])
    """
    pairs = list(_pairs(predictions))
    by_id = dict(pairs)
    wanted_ids = [str(question_id) for question_id in question_ids]
    known = set(wanted_ids)
    if wanted_ids and known.isdisjoint(by_id):
        raise ValueError(
            f"none of {len(by_id)} predictions ({listed(list(by_id))}) belongs to any of {len(wanted_ids)} questions "
            f"({listed(wanted_ids)}); are they of another split?"
        )
    return Alignment(
        predictions=[by_id.get(question_id, "") for question_id in wanted_ids],
        missing=[question_id for question_id in wanted_ids if question_id not in by_id],
        unknown=[question_id for question_id in by_id if question_id not in known],
        duplicate=[question_id for question_id, count in Counter(name for name, _ in pairs).items() if count > 1],
    )


def _pairs(predictions: Mapping[Any, str] | Iterable[Mapping[str, Any]]) -> Iterable[tuple[str, Any]]:
    if isinstance(predictions, Mapping):
        yield from ((str(question_id), answer) for question_id, answer in predictions.items())
        return
    for number, record in enumerate(predictions):
        found = [
            next((record[name] for name in names if isinstance(record, Mapping) and name in record), None)
            for names in (ID_NAMES, ANSWER_NAMES)
        ]
        if None in found:
            raise ValueError(
                f"predictions[{number}] is {record!r:.80}; it needs a question_id and an answer (or GQA's questionId "
                "and prediction)"
            )
        yield str(found[0]), found[1]


def check_rows(predictions: Sequence[str], answers: Sequence[Any]) -> None:
    """Raises `ValueError` or `TypeError` unless there is one prediction string per row; it may be empty."""
    if isinstance(predictions, str) or isinstance(answers, str):
        raise TypeError("predictions and answers are lists with one entry per question, not one string")
    if len(predictions) != len(answers):
        raise ValueError(
            f"{len(predictions)} predictions but answers to {len(answers)} questions; pass one prediction per "
            "question, in the same order (see align_predictions)"
        )
    if not len(predictions):
        raise ValueError("there are no predictions to score")
    for number, prediction in enumerate(predictions):
        if not isinstance(prediction, str):
            raise TypeError(
                f"predictions[{number}] is a {type(prediction).__name__}, not a string; give every prediction as text"
            )


def scorable_rows(predictions: Sequence[str], answers: Sequence[Sequence[str]]) -> list[int]:
    """Check the rows and return the indices of those that can be scored; one warning names the others.

    A row can be scored if it has at least one human answer and all of them are strings.

    Raises:
        ValueError, TypeError: as `check_rows`; also if an entry of `answers` is one string, or no row can be scored.
    """
    check_rows(predictions, answers)
    rows, without, unreadable = [], [], []
    for number, row in enumerate(answers):
        if isinstance(row, str):
            raise TypeError(f"answers[{number}] is one string; pass a list of human answers for each question")
        kinds = set(map(type, row))
        if not kinds:
            without.append(number)
        elif kinds == {str} or all(issubclass(kind, str) for kind in kinds):
            rows.append(number)
        else:
            unreadable.append(number)
    named = [
        f"{len(numbers)} of {len(answers)} questions {what} and are not scored (rows {listed(numbers)})"
        for numbers, what in ((without, "have no answers"), (unreadable, "have answers that are not strings"))
        if numbers
    ]
    if not rows:
        raise ValueError("no question can be scored: " + "; ".join(named))
    if named:
        warnings.warn("; ".join(named), stacklevel=3)
    return rows


def mean(values: Iterable[float]) -> float:
    """The mean of the values that are not NaN, summed exactly; NaN if there are none."""
    kept = [value for value in values if not math.isnan(value)]
    return math.fsum(kept) / len(kept) if kept else math.nan


def accuracy_scores(per_item: list[float]) -> dict[str, Any]:
    """`accuracy` 0..1, `accuracy_x100` and `per_item` (0..1 per row, NaN for a row that could not be scored)."""
    accuracy = mean(per_item)
    return {"accuracy": accuracy, "accuracy_x100": 100 * accuracy, "per_item": per_item}


def exact_match_accuracy(
    predictions: Sequence[str],
    answers: Sequence[str | Sequence[str]],
    *,
    normalize: Callable[[str], str] | None = normalize_answer,
) -> dict[str, Any]:
    """The share of predictions that equal an accepted answer: the accuracy of DAQUAR, GQA and every one-answer set.

    Args:
        predictions: one answer per question.
        answers: the accepted answer of each question, or the list of them.
        normalize: applied to both sides; None: no normalisation.

    Returns:
        As `accuracy_scores`.

    >>> exact_match_accuracy(["Garbage bin", "two"], ["garbage_bin", "3"])["accuracy"]
    0.5
    """
    accepted = answers if isinstance(answers, str) else [[row] if isinstance(row, str) else row for row in answers]
    rows = scorable_rows(predictions, accepted)
    normalized = normalize or str
    per_item = [math.nan] * len(predictions)
    for row in rows:
        prediction = normalized(predictions[row])
        per_item[row] = float(any(prediction == normalized(answer) for answer in accepted[row]))
    return accuracy_scores(per_item)


def squad_em_f1(
    predictions: Sequence[str], answers: Sequence[Sequence[str]], *, version: str = "1.1"
) -> dict[str, Any]:
    """Exact match and word F1 after SQuAD's normalisation, the best over the accepted answers (Rajpurkar et al. 2016).

    Args:
        predictions: one answer per question.
        answers: the accepted answers of each question.
        version: "1.1": a question without answers is left out, and an empty prediction has F1 0 even against an empty
            answer; "2.0": answers that normalise to "" are dropped, and the right answer of a question without any is
            "".

    Returns:
        `exact_match` and `f1` in 0..1, both also as `..._x100`, and `per_item`, a list for each of the two.

    Raises:
        ValueError, TypeError: for an unknown version, or rows that do not match.

    >>> scores = squad_em_f1(["the play toy!", "red car"], [["play toy"], ["car"]])
    >>> scores["exact_match"], round(scores["f1"], 4)
    (0.5, 0.8333)
    """
    if version not in SQUAD_VERSIONS:
        raise ValueError(f"version is {version!r}; SQuAD has {' and '.join(SQUAD_VERSIONS)}")
    if version == "2.0":
        kept = [row if isinstance(row, str) else [text for text in row if _has_words(text)] or [""] for row in answers]
        answers = answers if isinstance(answers, str) else kept
    per_item = {"exact_match": [math.nan] * len(predictions), "f1": [math.nan] * len(predictions)}
    for row in scorable_rows(predictions, answers):
        words = normalize_squad(predictions[row]).split()
        accepted = [normalize_squad(answer).split() for answer in answers[row]]
        per_item["exact_match"][row] = float(words in accepted)
        empty_matches = float(version == "2.0")
        per_item["f1"][row] = max(_word_f1(words, others, empty_matches=empty_matches) for others in accepted)
    scores = {name: mean(values) for name, values in per_item.items()}
    return scores | {f"{name}_x100": 100 * value for name, value in scores.items()} | {"per_item": per_item}


def normalize_squad(text: str) -> str:
    """SQuAD's normalisation: lower case, without ASCII punctuation, articles and double spaces.

    >>> normalize_squad("The  a-b, Cat!")
    'ab cat'
    """
    return " ".join(_SQUAD_ARTICLES.sub(" ", text.lower().translate(_SQUAD_MARKS)).split())


def _has_words(answer: Any) -> bool:
    """Whether an answer is not empty after normalisation; True for non-strings, which `check_rows` refuses."""
    return not isinstance(answer, str) or normalize_squad(answer) != ""


def _word_f1(words: list[str], others: list[str], *, empty_matches: float) -> float:
    """F1 of two word multisets; `empty_matches` is the value of two empty ones."""
    if not words or not others:
        return empty_matches if words == others else 0.0
    common = sum((Counter(words) & Counter(others)).values())
    if not common:
        return 0.0
    precision, recall = common / len(words), common / len(others)
    return 2 * precision * recall / (precision + recall)
