"""Answer vocabularies and soft targets: equal to the reimplementation's, to a slow obvious twin, and to hand counts."""

import json
import re
from collections.abc import Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pytest
import torch

from processors.answer_text_updown import normalize_answer, soft_scores
from tests.shared_files import shared
from training.data.questions.answer_vocabulary import (
    AnswerVocabulary,
    Coverage,
    answer_coverage,
    answer_lists,
    build_answers,
    learned_answers,
    read_answers,
    soft_targets,
    write_answers,
)
from training.data.questions.rows import VQA_FEATURES

FEATURES = datasets.Features({name: VQA_FEATURES[name] for name in ("answer", "answers", "answer_type")})


def questions(
    answer: Sequence[str], answers: Sequence[Sequence[str]] | None = None, types: Sequence[str] | None = None
) -> datasets.Dataset:
    """Rows with these columns of `VQA_FEATURES`."""
    columns = {
        "answer": list(answer),
        "answers": [list(texts) for texts in answers or [[]] * len(answer)],
        "answer_type": list(types or [""] * len(answer)),
    }
    return datasets.Dataset.from_dict(columns, features=FEATURES)


def random_answers(seed: int, *, num_questions: int = 200) -> list[list[str]]:
    """Lists of 0 to 12 answers, many of them spellings of the same."""
    draw = np.random.default_rng(seed)
    spellings = ["dog", "Dog.", "a dog", "two", "2", "on the table", "on table", "", " ", "the", "café", "yes", "no"]
    return [draw.choice(spellings, size=draw.integers(0, 13)).tolist() for _ in range(num_questions)]


def slow_targets(answers: Sequence[str], vocabulary: Sequence[str], *, form: str, counted: str) -> dict[int, float]:
    """Soft targets of one question, one answer at a time."""
    known = list(vocabulary)
    if counted == "normalized":
        known, answers = list(map(normalize_answer, known)), list(map(normalize_answer, answers))
    scores = {answers[0]: 1.0} if len(answers) == 1 else soft_scores(answers, form=form)
    return {known.index(answer): score for answer, score in scores.items() if answer in known}


# -- soft targets ------------------------------------------------------------------------------------------------------


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


# -- building ----------------------------------------------------------------------------------------------------------


def test_answers_are_counted_normalised() -> None:
    rows = questions(["two", "2", "The dog.", "dog", "Two", "cat", "zebra", "ant"])
    vocabulary = build_answers(rows, min_count=2)
    assert vocabulary.answers == ["2", "dog"] and vocabulary.counts == [3, 2]
    assert build_answers(rows, min_count=3).answers == ["2"]
    assert build_answers(rows, top=4).answers == ["2", "dog", "ant", "cat"]  # ties: the alphabet, not the rows
    assert build_answers(rows, top=99).counts == [3, 2, 1, 1, 1]
    assert build_answers(rows, top=4, order="first_seen").answers == ["2", "dog", "cat", "ant"]
    assert build_answers(rows.select([7, 6, 5, 4, 3, 2, 1, 0]), top=4) == build_answers(rows, top=4)


def test_answers_may_keep_their_commonest_spelling() -> None:
    rows = questions(["t-shirt", " T shirt", "t-shirt", "in the mirror", "in a mirror", "t-shirt "])
    vocabulary = build_answers(rows, top=5, spelling="as_written")
    assert vocabulary.answers == ["t-shirt", "in a mirror"] and vocabulary.counts == [4, 2]
    assert build_answers(rows, top=5).answers == ["t shirt", "in mirror"]
    assert vocabulary.ids_of(["T shirt", "in mirror", "shirt"]).tolist() == [0, 1, -1]


def test_the_commonest_human_answer_stands_in_for_a_missing_one() -> None:
    rows = questions(
        ["", "cat", " ", "", ""],
        [["dog", "cat", "Cat.", "dog"], ["dog"] * 3, ["two", "2", "red", "red", "2"], [], ["", " "]],
    )
    codes, texts = learned_answers(rows)
    assert [texts[code] if code >= 0 else None for code in codes] == ["dog", "cat", "two", None, None]
    vocabulary = build_answers(rows, top=9)
    assert vocabulary.answers == ["2", "cat", "dog"] and vocabulary.counts == [1, 1, 1]
    codes, texts = learned_answers(rows.select([3, 2]))
    assert codes[0] == -1 and texts[codes[1]] == "two"


def test_answers_that_normalise_to_nothing_are_one_answer() -> None:
    """As in VQA v2's 3,129: "a" is what stands on a sign."""
    vocabulary = build_answers(questions(["a", "The", "?", "dog"]), top=3)
    assert vocabulary.answers == ["", "dog"] and vocabulary.counts == [3, 1]
    assert vocabulary.id_of("an") == 0


def test_learned_answers_equal_a_slow_twin() -> None:
    answers = random_answers(9)
    given = [texts[0] if i % 3 == 0 and texts else "" for i, texts in enumerate(answers)]
    codes, texts = learned_answers(questions(given, answers))
    for code, single, humans in zip(codes, given, answers, strict=True):
        named = [normalize_answer(text) for text in humans if text.strip()]
        expected = normalize_answer(single) if single.strip() else max(named, key=named.count, default=None)
        assert (normalize_answer(texts[code]) if code >= 0 else None) == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "give one of min_count"),
        ({"min_count": 9, "top": 3129}, "give one of min_count"),
        ({"min_count": 0}, "min_count is 0, but must be 1 or more"),
        ({"top": -1}, "top is -1, but must be 1 or more"),
        ({"min_count": 9}, "no answer is seen 9 times; the commonest, 'dog', is seen 2 times: lower the minimum"),
    ],
)
def test_limits_that_leave_nothing_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_answers(questions(["cat", "dog", "dog"]), **options)


def test_hidden_answers_make_no_vocabulary() -> None:
    for rows in (questions(["", ""]), questions([])):
        with pytest.raises(ValueError, match=f"none of the {len(rows)} questions has an answer; test files hide them"):
            build_answers(rows, top=5)
        with pytest.raises(ValueError, match="test files hide them"):
            answer_coverage(rows, AnswerVocabulary(["yes"]))


# -- coverage ----------------------------------------------------------------------------------------------------------


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


# -- the list and its files --------------------------------------------------------------------------------------------


def test_a_list_is_written_and_read(tmp_path: Path) -> None:
    vocabulary = build_answers(questions(["yes", "yes", "café", "a", "日本"]), top=9)
    write_answers(tmp_path / "answers.json", vocabulary)
    assert json.loads((tmp_path / "answers.json").read_text(encoding="utf-8")) == ["yes", "", "café", "日本"]
    again = read_answers(tmp_path / "answers.json")
    assert list(again.answers) == list(vocabulary.answers) and again.counts == () and len(again) == 4
    assert [path.name for path in tmp_path.iterdir()] == ["answers.json"]


def test_other_layouts_are_read(tmp_path: Path) -> None:
    (tmp_path / "ans2label.json").write_text('{"no": 1, "yes": 0, "2": 2}')
    assert read_answers(tmp_path / "ans2label.json").answers == ["yes", "no", "2"]
    (tmp_path / "answers.txt").write_bytes("\ufeffyes\r\n\r\nred and white\r\n".encode())
    assert read_answers(str(tmp_path / "answers.txt")).answers == ["yes", "red and white"]


@pytest.mark.parametrize(("folder", "size", "some"), [("vqav2", 3129, {"", "net"}), ("gqa", 1842, {"t-shirt"})])
def test_lxmerts_lists(folder: str, size: int, some: set[str]) -> None:
    place = shared(f"data/official_formats/{folder}")
    answers = read_answers(place / "lxmert_trainval_label2ans.json")
    assert len(answers) == size and some <= set(answers.answers)
    assert read_answers(place / "lxmert_trainval_ans2label.json") == answers
    assert answers.ids_of(answers.answers).tolist() == list(range(size))
    assert answers.ids_of(answers.answers, counted="raw").tolist() == list(range(size))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "there is no answer in the list"),
        ('["yes", 2]', "answer 1 is '2', which is no text"),
        ('["yes", null]', "answer 1 is 'None', which is no text"),
        ('"yes"', "a vocabulary is a list of answers, not 'yes'"),
        (
            '["yes", "no", "yes"]',
            "of 3 answers, 1 stand .* 'yes' (id 0) = 'yes' (id 2); keep one of each",
        ),
        (
            '["2", "dog", "two", "a dog"]',
            "normalised: '2' (id 0) = 'two' (id 2); 'dog' (id 1) = 'a dog'",
        ),
        ('["yes"', "is not valid JSON (line 1"),
        ("{}", "there is no answer in the list"),
        ('{"yes": 0, "no": "1"}', "the id of 'no' is '1', which is no whole number"),
        ('{"yes": true}', "the id of 'yes' is 'True', which is no whole number"),
        ('{"yes": 0, "no": 2}', "the ids of the 2 answers are not 0 to 1, each once"),
        ('{"yes": 0, "no": 0}', "are not 0 to 1, each once"),
        ('{"yes": 99999999999999}', "the ids of the 1 answers are not 0 to 0"),
    ],
)
def test_broken_lists_are_refused(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "answers.json"
    path.write_text(content)
    pattern = ".*".join(map(re.escape, message.split(".*")))
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))}.*{pattern}"):
        read_answers(path)


def test_only_five_doubles_are_told() -> None:
    with pytest.raises(ValueError, match="of 60 answers, 20 stand there more than once") as caught:
        AnswerVocabulary([f"word{number % 20}" for number in range(60)])
    assert "'word4' (id 4) = 'word4' (id 24) = 'word4' (id 44), ...; keep" in str(caught.value)
    assert "word5" not in str(caught.value)
    with pytest.raises(ValueError, match="2 answers have 1 counts"):
        AnswerVocabulary(["yes", "no"], counts=[3])


def test_files_that_are_no_lists_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="cannot read .*gone.json"):
        read_answers(tmp_path / "gone.json")
    (tmp_path / "label2ans.pkl").write_bytes(b"\x80\x04")
    with pytest.raises(ValueError, match="label2ans.pkl is a pickle, .* write its list as JSON"):
        read_answers(tmp_path / "label2ans.pkl")
    (tmp_path / "answers.json").write_bytes(b'["caf\xe9"]')
    with pytest.raises(ValueError, match="answers.json is not UTF-8"):
        read_answers(tmp_path / "answers.json")
    monkeypatch.setattr("training.data.questions.answer_vocabulary.LARGEST_FILE_BYTES", 5)
    with pytest.raises(ValueError, match="answers.json has 8 bytes, too many"):
        read_answers(tmp_path / "answers.json")
