"""Upload files: what the evaluation servers take, every question once, ids of the type their files have."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.training.data.questions.vqa_files import gqa_question, vqa_questions, write
from training.data.questions.submission import SUBMISSIONS, submission_ids, write_submission

VISUAL7W = {
    "images": [
        {"split": "train", "qa_pairs": [{"qa_id": 1}]},
        {"split": "test", "qa_pairs": [{"qa_id": 5}, {"qa_id": 2}]},
    ]
}


def written(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_vqa_ids_are_numbers(tmp_path: Path) -> None:
    path = tmp_path / "new" / "results.json"
    write_submission("vqa", {"458752000": "net", 12: "yes", "a7": "Hühner", "007": ""}, path)
    assert written(path) == [
        {"question_id": 458752000, "answer": "net"},
        {"question_id": 12, "answer": "yes"},
        {"question_id": "a7", "answer": "Hühner"},
        {"question_id": "007", "answer": ""},
    ]


def test_gqa_ids_are_text(tmp_path: Path) -> None:
    path = tmp_path / "gqa.json"
    write_submission("gqa", {"02930152": "yes", "7": "cat"}, path)
    assert written(path) == [
        {"questionId": "02930152", "prediction": "yes"},
        {"questionId": "7", "prediction": "cat"},
    ]


def test_aokvqa_holds_both_settings(tmp_path: Path) -> None:
    path = tmp_path / "aokvqa.json"
    predictions = {"a": {"multiple_choice": "cat", "direct_answer": "kitten"}, "b": {"direct_answer": "dog"}}
    write_submission("aokvqa", predictions, path)
    assert written(path) == predictions
    for wrong in ("cat", {}, {"mc": "cat"}, None):
        with pytest.raises(
            ValueError, match='the prediction of the question c is .*; it needs {"multiple_choice": text'
        ):
            write_submission("aokvqa", {**predictions, "c": wrong}, path)
    assert written(path) == predictions, "what was there stays"


def test_visual7w_holds_candidates_in_their_order(tmp_path: Path) -> None:
    path = tmp_path / "visual7w.json"
    write_submission("visual7w", {"5": ["A cat.", "A dog."], "2": "Here."}, path)
    assert written(path) == [
        {"qa_id": 5, "candidates": [{"answer": "A cat."}, {"answer": "A dog."}]},
        {"qa_id": 2, "candidates": [{"answer": "Here."}]},
    ]


@pytest.mark.parametrize(
    ("kind", "content", "ids"),
    [
        ("vqa", vqa_questions(), [1000, 1001, 2000]),
        ("gqa", {"02": gqa_question("a?", None), "1": gqa_question("b?", None)}, ["02", "1"]),
        ("aokvqa", [{"question_id": "22jb"}, {"question_id": "9x"}], ["22jb", "9x"]),
        ("visual7w", VISUAL7W, [5, 2]),
    ],
)
def test_ids_and_their_order_come_from_the_official_file(
    tmp_path: Path, kind: str, content: Any, ids: list[Any]
) -> None:
    questions, path = write(tmp_path / "questions.json", content), tmp_path / "out.json"
    found = submission_ids(kind, questions)
    assert found == ids and list(map(type, found)) == list(map(type, ids))
    answer: Any = {"direct_answer": "x"} if kind == "aokvqa" else "x"
    write_submission(kind, {str(i): answer for i in reversed(ids)}, path, question_ids=found)
    result = written(path)
    keys = {"vqa": "question_id", "gqa": "questionId", "visual7w": "qa_id"}
    assert (list(result) if kind == "aokvqa" else [entry[keys[kind]] for entry in result]) == ids


def test_every_question_exactly_once(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    message = "6 questions have no prediction: 3, 4, 5, 6, 7, ...; 1 predictions have no question: 99; predict every"
    with pytest.raises(ValueError, match=message):
        write_submission("vqa", {1: "a", 2: "b", 99: "c"}, path, question_ids=range(1, 9))
    with pytest.raises(ValueError, match="2 question ids stand twice in the list of questions: 1, 2$"):
        write_submission("vqa", {1: "a", 2: "b"}, path, question_ids=[1, 2, 1, "2"])
    with pytest.raises(ValueError, match="the question 1 has two predictions, under its number and under its text"):
        write_submission("vqa", {1: "a", "1": "b"}, path)
    for wrong in (None, 5, ["yes"]):
        with pytest.raises(ValueError, match="the prediction of the question 2 is no text"):
            write_submission("vqa", {1: "a", 2: wrong}, path)
    assert list(tmp_path.iterdir()) == [], "nothing is left of what failed"


def test_files_and_kinds_that_are_none(tmp_path: Path) -> None:
    for wrong in (lambda: write_submission("clevr", {}, tmp_path / "x"), lambda: submission_ids("clevr", "x")):
        with pytest.raises(
            ValueError, match=f"unknown kind of submission 'clevr'; choose one of {', '.join(SUBMISSIONS)}"
        ):
            wrong()
    with pytest.raises(ValueError, match="has no list 'questions', it holds the keys images"):
        submission_ids("vqa", write(tmp_path / "q.json", VISUAL7W))
    with pytest.raises(ValueError, match="q.json holds no question; is it the file of another format"):
        submission_ids("gqa", write(tmp_path / "q.json", {}))
    with pytest.raises(ValueError, match=r"q.json has the question id \[1\]; is it the file of another format"):
        submission_ids("vqa", write(tmp_path / "q.json", {"questions": [{"question_id": [1]}]}))
