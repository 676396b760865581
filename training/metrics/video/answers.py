"""Answers to questions about videos: NExT-QA's five choices, TGIF-QA's counts, ActivityNet-QA's open answers.

    a choice of each question + its type --nextqa_mc--> accuracy of causal, temporal and descriptive questions
    a number of each question --tgif_count--> mean squared error of what it is rounded to
    an answer of each question --activitynet_qa--> accuracy of each type

Open answers of NExT-OE are scored by `training.metrics.vqa.wups`; TGIF-QA's other three tasks by plain accuracy.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from training.data.clips.question_types import ACTIVITYNET_TYPES
from training.metrics.box_arrays import with_hundredfold

from .matched_ids import matched_predictions

NEXTQA_TYPES = {
    "CW": "why",
    "CH": "how",
    "TN": "before_after",
    "TP": "before_after",
    "TC": "when",
    "DC": "count",
    "DL": "location",
    "DO": "other",
}
NEXTQA_GROUPS = {"C": "acc_c", "T": "acc_t", "D": "acc_d"}
LEAST_COUNT, MOST_COUNT = 1, 10
FIRST_FREE = 3  # the types from yes_no on


def nextqa_mc(rows: Sequence[Mapping[str, Any]], results: Mapping[str, Any]) -> dict[str, Any]:
    """Accuracy on NExT-QA's multiple choice (Xiao et al. 2021), of all questions and of each type.

    Equal to `eval_mc.py` of doc-doc/NExT-QA, which counts questions of what came before ("TP") with those of what came
    after ("TN").

    Args:
        rows: the questions, as `val.csv` has them: `video`, `qid`, `type`, and `answer` where `results` has none.
        results: by `VIDEO_QID` the number of the chosen candidate, from 0, alone or as the official result file has it,
            `{"prediction": 3, "answer": 0}`.

    Returns:
        `accuracy`, `acc_c` (causal), `acc_t` (temporal), `acc_d` (descriptive), and of each type that occurs `why`,
        `how`, `before_after`, `when`, `count`, `location`, `other`, in 0..1 and times 100 as `..._x100`. `per_item`:
        `question_id`, `accuracy` (1.0 where right) and `type` of each question.

    Raises:
        ValueError: for no question, one that stands twice, has an unknown type or no answer (hidden ones cannot be
            scored) or two different ones, a choice that is no whole number, and ids that do not match.

    >>> rows = [{"video": 7, "qid": 0, "type": "TP", "answer": 1}, {"video": 7, "qid": 1, "type": "CW", "answer": 2}]
    >>> scores = nextqa_mc(rows, {"7_0": 1, "7_1": 0})
    >>> scores["accuracy"], scores["acc_t"], scores["before_after"], scores["why"]
    (0.5, 1.0, 1.0, 0.0)
    """
    lacking = next((i for i, row in enumerate(rows) if not {"video", "qid", "type"} <= row.keys()), None)
    if lacking is not None:
        raise ValueError(f"rows[{lacking}] needs video, qid and type: {str(dict(rows[lacking]))[:120]}")
    ids = [f"{row['video']}_{row['qid']}" for row in rows]
    given = [{"id": name, "given": own} for name, own in results.items()]
    found = matched_predictions(given, [{"id": name} for name in ids], key="id")
    hits: dict[str, list[float]] = {"accuracy": []}
    types = []
    for name, row, own in zip(ids, rows, found, strict=True):
        kind = str(row["type"])
        if kind not in NEXTQA_TYPES:
            raise ValueError(f"the question {name} has the type {kind!r}; the types are {', '.join(NEXTQA_TYPES)}")
        hit = float(_is_right(row, own["given"], name))
        types.append(NEXTQA_TYPES[kind])
        for group in ("accuracy", NEXTQA_GROUPS[kind[0]], NEXTQA_TYPES[kind]):
            hits.setdefault(group, []).append(hit)
    figures = with_hundredfold({name: float(np.mean(values)) for name, values in hits.items()})
    return figures | {"per_item": {"question_id": ids, "accuracy": hits["accuracy"], "type": types}}


def tgif_count(logits: Sequence[float], answers: Sequence[int]) -> dict[str, Any]:
    """The error of counted repetitions on TGIF-QA (Jang et al. 2017), of what a regression is rounded to.

    As `count_base.py` of YunseokJANG/tgif-qa has it: rounded to the nearest whole number, halves to the even one, and
    clipped to 1..10.

    Args:
        logits: (N,) a real number for each question.
        answers: (N,) the true counts, whole numbers from 0.

    Returns:
        `mse`, the mean squared error of the rounded numbers (the published figure, 0 or more, lower is better), and
        `mse_raw`, of those given; `accuracy` in 0..1 and `accuracy_x100`; `predictions`, the rounded numbers;
        `per_item`: `squared_error` and `accuracy` of each question.

    Raises:
        ValueError: for no question, different numbers of both, a number that is not finite, and a count that is none.

    >>> scores = tgif_count([2.5, 3.5, 40.0], [2, 3, 10])
    >>> scores["predictions"], round(scores["mse"], 4), round(scores["accuracy"], 4)
    ([2, 4, 10], 0.3333, 0.6667)
    """
    numbers, true = _numbers(logits, "logits"), _numbers(answers, "answers")
    if not len(true) or len(numbers) != len(true):
        raise ValueError(f"{len(numbers)} logits for {len(true)} answers: give one for each of at least one")
    if (true % 1 != 0).any() or true.min() < 0:
        place = int(((true % 1 != 0) | (true < 0)).argmax())
        raise ValueError(f"answers[{place}] is {answers[place]!r}; a count is a whole number, 0 or more")
    rounded = np.rint(numbers).clip(LEAST_COUNT, MOST_COUNT)
    errors, hits = (rounded - true) ** 2, (rounded == true).astype(float)
    figures = with_hundredfold({"accuracy": float(hits.mean())})
    return figures | {
        "mse": float(errors.mean()),
        "mse_raw": float(((numbers - true) ** 2).mean()),
        "predictions": rounded.astype(int).tolist(),
        "per_item": {"squared_error": errors.tolist(), "accuracy": hits.tolist()},
    }


def activitynet_qa(
    predictions: Sequence[Mapping[str, Any]], ground_truth: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Accuracy on ActivityNet-QA (Yu et al. 2019), of all questions and of each of nine types.

    Equal to `evaluation/eval.py` of MILVLG/activitynet-qa: an answer is right where it is the true one letter for
    letter, blanks and capitals too.

    Args:
        predictions: `question_id` and `answer` of each question, in any order.
        ground_truth: `question_id`, `answer` and `type` (0..8) of each, as `val_a.json` has them.

    Returns:
        `accuracy`; of each type that occurs `motion`, `spatial_relation`, `temporal_relation`, `yes_no`, `color`,
        `object`, `location`, `number`, `other`; `free`, of the last six together, and `free_official`, the number that
        the official script prints in its place. In 0..1, and times 100 as `..._x100`; NaN where there is no question.
        `counts`: of each type `[right, questions]`. `per_item`: `question_id` and `accuracy` (1.0 where right).

    The official script divides by the numbers of the types that come fourth and later in its file, not of the free
    types, so `free_official` changes with the order of the questions; published figures hold this. Where a type is
    absent, at which it fails, the others are given.

    Raises:
        ValueError: for ids that do not match or stand twice, an answer that is no text, and an unknown type.

    >>> truth = [{"question_id": "a", "answer": "yes", "type": 3}, {"question_id": "b", "answer": "ski", "type": 0}]
    >>> scores = activitynet_qa([{"question_id": "b", "answer": "ski"}, {"question_id": "a", "answer": "Yes"}], truth)
    >>> scores["accuracy"], scores["motion"], scores["free"], scores["counts"]["yes_no"]
    (0.5, 1.0, 0.0, [0, 1])
    """
    ordered = matched_predictions(predictions, ground_truth, key="question_id")
    hits = []
    for true, found in zip(ground_truth, ordered, strict=True):
        _check_answer(true, found)
        hits.append(float(found["answer"] == true["answer"]))
    types = [true["type"] for true in ground_truth]
    totals, right = Counter(types), Counter(kind for kind, hit in zip(types, hits, strict=True) if hit)
    free = [kind for kind in totals if kind >= FIRST_FREE]
    correct = sum(right[kind] for kind in free)
    figures = {"accuracy": float(np.mean(hits))}
    figures |= {ACTIVITYNET_TYPES[kind]: right[kind] / totals[kind] for kind in sorted(totals)}
    figures["free"] = _share(correct, sum(totals[kind] for kind in free))
    figures["free_official"] = _share(correct, sum(list(totals.values())[FIRST_FREE:]))
    return with_hundredfold(figures) | {
        "counts": {ACTIVITYNET_TYPES[kind]: [right[kind], totals[kind]] for kind in sorted(totals)},
        "per_item": {"question_id": [str(true["question_id"]) for true in ground_truth], "accuracy": hits},
    }


def _is_right(row: Mapping[str, Any], given: Any, name: str) -> bool:
    """Whether the chosen candidate is the right one."""
    record = given if isinstance(given, Mapping) else {"prediction": given}
    chosen = _candidate(record.get("prediction"), f"the question {name} has the prediction")
    answers = [own["answer"] for own in (record, row) if own.get("answer") is not None]
    right = {_candidate(answer, f"the question {name} has the answer") for answer in answers}
    if len(right) != 1:
        fault = f"the answers {answers[0]} in the results and {answers[1]} in the rows" if answers else "no answer"
        raise ValueError(f"the question {name} has {fault}; are both of the same file, and not of a hidden test?")
    return chosen in right


def _candidate(value: Any, what: str) -> int:
    """The number of a candidate, which tables have as text."""
    number = int(value) if isinstance(value, str) and value.isdecimal() else value
    if isinstance(number, bool) or not isinstance(number, int | np.integer) or number < 0:
        raise ValueError(f"{what} {value!r:.40}; give the candidate's number, from 0")
    return int(number)


def _check_answer(true: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    name = true["question_id"]
    for record, what in ((true, "ground_truth"), (found, "predictions")):
        if not isinstance(record.get("answer"), str):
            raise ValueError(f"{what}: the answer of the question {name} is {record.get('answer')!r:.60}, not text")
    kind = true.get("type")
    if isinstance(kind, bool) or not isinstance(kind, int) or not 0 <= kind < len(ACTIVITYNET_TYPES):
        raise ValueError(f"ground_truth: the type of the question {name} is {kind!r}, not a number from 0 to 8")


def _numbers(values: Sequence[Any], what: str) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not np.isfinite(array).all():
        raise ValueError(f"{what} must be a list of finite numbers, one for each question")
    return array


def _share(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")
