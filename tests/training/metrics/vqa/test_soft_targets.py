"""Soft targets and coverage: equal to the reimplementation's, to a slow twin, and to hand counts."""

import json
from collections.abc import Sequence
from dataclasses import astuple
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pytest
import torch

from processors.answer_text_updown import normalize_answer, soft_scores
from tests.shared_files import shared
from tests.training.data.questions.test_answer_vocabulary import questions, random_answers
from training.data.questions.answer_vocabulary import AnswerVocabulary, build_answers
from training.data.questions.answers import answer_lists
from training.metrics.vqa.soft_targets import Coverage, answer_coverage, soft_targets


def slow_targets(answers: Sequence[str], vocabulary: Sequence[str], *, form: str, counted: str) -> dict[int, float]:
    """Soft targets of one question, one answer at a time."""
    known = list(vocabulary)
    if counted == "normalized":
        known, answers = list(map(normalize_answer, known)), list(map(normalize_answer, answers))
    scores = {answers[0]: 1.0} if len(answers) == 1 else soft_scores(answers, form=form)
    return {known.index(answer): score for answer, score in scores.items() if answer in known}


def test_the_reimplementations_vocabulary_and_scores() -> None:
    golden = json.loads(shared("golden/reference/vqa.json").read_text())["soft_scores"]
    rows = questions(
        [row["multiple_choice_answer"] for row in golden["rows"]], [row["answers"] for row in golden["rows"]]
    )
    vocabulary = build_answers(rows, min_count=golden["min_occurence"], order="first_seen")
    assert {answer: number for number, answer in enumerate(vocabulary.answers)} == golden["ans2label"]
    assert sorted(build_answers(rows, min_count=golden["min_occurence"]).answers) == sorted(golden["ans2label"])
    targets = soft_targets(answer_lists(rows), vocabulary, form="table", counted="raw")
    assert len(targets) == len(golden["rows"]) > 0
    for (ids, scores), expected in zip(targets, golden["rows"], strict=True):
        assert ids.tolist() == expected["labels"] and scores.tolist() == expected["scores"]
    for (ids, _), row in zip(soft_targets(answer_lists(rows), vocabulary), golden["rows"], strict=True):
        said = {normalize_answer(answer) for answer in row["answers"]}  # "two" too, where the vocabulary has "2"
        assert {vocabulary.answers[number] for number in ids.tolist()} == said & set(vocabulary.answers)
        assert {*row["labels"]} <= {*ids.tolist()}


@pytest.mark.parametrize("form", ["leave_one_out", "table", "agree_of_three"])
@pytest.mark.parametrize("counted", ["normalized", "raw"])
def test_targets_equal_a_slow_twin(form: Any, counted: Any) -> None:
    answers = random_answers(3)
    vocabulary = AnswerVocabulary(["no", "on the table", "2", "Dog.", "the"])
    targets = soft_targets(answers, vocabulary, form=form, counted=counted)
    assert len(targets) == len(answers) and targets.num_answers == 5
    for (ids, scores), texts in zip(targets, answers, strict=True):
        expected = slow_targets(texts, vocabulary.answers, form=form, counted=counted)
        assert dict(zip(ids.tolist(), scores.tolist(), strict=True)) == expected
        assert ids.tolist() == list(expected)  # in the order in which they were given
    best = [max(slow_targets(t, vocabulary.answers, form=form, counted=counted).values(), default=0) for t in answers]
    assert targets.best_scores().tolist() == best


def test_targets_as_a_batch() -> None:
    answers = random_answers(5, num_questions=30)
    vocabulary = AnswerVocabulary(["dog", "2", "no"])
    targets = soft_targets(answers, vocabulary)
    chosen = [7, 0, 7, 29]
    expected = torch.zeros(4, 3)
    for row, question in enumerate(chosen):
        for answer, score in slow_targets(
            answers[question], vocabulary.answers, form="leave_one_out", counted="normalized"
        ).items():
            expected[row, answer] = score
    assert torch.equal(targets.dense(chosen), expected) and expected.sum() > 0
    assert targets.dense(np.array([], dtype=np.int64)).shape == (0, 3)


def test_targets_are_a_sequence() -> None:
    targets = soft_targets([["dog"], [], ["cat", "dog", "dog", "dog", "dog"]], AnswerVocabulary(["dog"]))
    assert [ids.tolist() for ids, _ in targets] == [[0], [], [0]]
    assert targets[-1][1].tolist() == [1.0] and [len(ids) for ids, _ in targets[:2]] == [1, 0]
    with pytest.raises(IndexError):
        targets[3]
    assert len(soft_targets([], AnswerVocabulary(["dog"]))) == 0


def test_one_answer_is_a_whole_target_in_every_form() -> None:
    for form in ("leave_one_out", "table", "agree_of_three"):
        targets = soft_targets([["Two."], ["two", "three"]], AnswerVocabulary(["2"]), form=form)  # type: ignore[arg-type]
        assert targets[0][1].tolist() == [1.0]
        assert targets[1][1].tolist() == [soft_scores(["2", "3"], form=form)["2"]]


@pytest.mark.parametrize(
    ("options", "message"),
    [({"form": "mean"}, "form is 'mean'; it can be one of leave_one_out, table"), ({"counted": "x"}, "not 'x'")],
)
def test_unknown_ways_of_counting_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        soft_targets([["dog"]], AnswerVocabulary(["dog"]), **options)


def test_answers_of_rows_in_any_order_and_with_gaps() -> None:
    rows = questions(["", "cat", "", " ", "dog"], [["dog", "Dog"], [], [], ["", "x"], ["a"] * 3])
    assert answer_lists(rows).to_pylist() == [["dog", "Dog"], ["cat"], [], ["", "x"], ["a"] * 3]
    moved = rows.select([4, 1, 2])
    assert answer_lists(moved).to_pylist() == [["a"] * 3, ["cat"], []]
    joined = datasets.concatenate_datasets([rows, moved])
    assert answer_lists(joined).to_pylist() == answer_lists(rows).to_pylist() + answer_lists(moved).to_pylist()
    absent = pa.array([["dog", None], None, ["cat"]], type=pa.list_(pa.string()))
    targets = soft_targets(absent, AnswerVocabulary(["cat", "dog"]), form="table")
    assert [ids.tolist() for ids, _ in targets] == [[1], [], [0]] and targets[0][1].tolist() == [0.3]


def test_coverage_by_hand() -> None:
    rows = questions(
        ["yes", "red", "2", "blue", "", "no"],
        [
            ["yes"] * 10,  # 1
            ["red"] * 5 + ["Yes"] * 2 + ["pink"] * 3,  # only "yes" is listed: 0.6
            ["two"] * 9 + ["3"],  # 1
            ["blue"] * 10,  # nothing of it is listed
            [],  # hidden
            [],  # "no" alone, which is not listed
        ],
        ["yes/no", "other", "number", "other", "other", "yes/no"],
    )
    found = answer_coverage(rows, AnswerVocabulary(["yes", "2"]))
    assert found["all"] == Coverage(5, answer_known=2 / 5, any_known=3 / 5, best_score=found["all"].best_score)
    assert {name: astuple(reached) for name, reached in found.items()} == {
        "all": pytest.approx((5, 2 / 5, 3 / 5, 2.6 / 5)),
        "yes/no": (2, 1 / 2, 1 / 2, 1 / 2),
        "other": pytest.approx((2, 0, 1 / 2, 0.3)),
        "number": (1, 1, 1, 1),
    }
    assert list(found) == ["all", "yes/no", "other", "number"]  # commonest first, then as the rows have them
    untyped = questions(["yes"], [["yes"]])
    assert list(answer_coverage(untyped, AnswerVocabulary(["yes"]))) == ["all"]
    for hidden in (questions(["", ""]), questions([])):
        with pytest.raises(ValueError, match="test files hide them"):
            answer_coverage(hidden, AnswerVocabulary(["yes"]))
