"""Aligning predictions with questions, exact match and SQuAD's F1: official numbers, hand-worked ones, ugly rows."""

import gzip
import json
import math
from typing import Any

import pytest

from tests.shared_files import shared
from training.metrics.vqa.exact_match import align_predictions, exact_match_accuracy, normalize_squad, squad_em_f1


def golden() -> Any:
    return json.loads(gzip.decompress(shared("golden/metrics/squad_em_f1.json.gz").read_bytes()))


@pytest.mark.parametrize(("version", "key", "exact"), [("1.1", "v1", "exact_match"), ("2.0", "v2", "exact")])
@pytest.mark.filterwarnings("ignore:.* questions have no answers")
def test_exact_match_and_f1_are_the_official_scripts(version: str, key: str, exact: str) -> None:
    data = golden()
    items, expected = data["inputs"]["items"], data["expected"]
    predictions, answers = [item["prediction"] for item in items], [item["answers"] for item in items]
    scores = squad_em_f1(predictions, answers, version=version)
    assert scores["exact_match_x100"] == pytest.approx(expected[key][exact], abs=1e-9)
    assert scores["f1_x100"] == pytest.approx(expected[key]["f1"], abs=1e-9)
    per_item = expected[f"{key}_per_item"]
    for number, (one, f1) in enumerate(zip(*scores["per_item"].values(), strict=True)):
        official = [float(value) for value in per_item.get(str(number), [math.nan, math.nan])]
        assert [one, f1] == pytest.approx(official, abs=1e-9, nan_ok=True)


def test_f1_by_hand() -> None:
    # "red cat" shares "cat" with the first answer (1/2, 1/3) and both words with the second (2/2, 2/4)
    scores = squad_em_f1(["The red cat"], [["a cat on mat"], ["red cat asleep outside"]][:1])
    assert scores["f1"] == pytest.approx(2 * (1 / 2) * (1 / 3) / (1 / 2 + 1 / 3))
    both = squad_em_f1(["The red cat"], [["a cat on mat", "red cat asleep outside"]])
    assert both["f1"] == pytest.approx(2 / 3)
    assert squad_em_f1(["dog dog"], [["dog"]])["f1"] == pytest.approx(2 / 3)  # each word counts as often as it is there
    assert normalize_squad("a-b, An ANT!") == "ab ant"


def test_nothing_against_nothing() -> None:
    old = squad_em_f1(["the"], [["a"]])
    assert (old["exact_match"], old["f1"]) == (1, 0)
    new = squad_em_f1(["the", "", "x"], [["a"], [], ["", "x"]], version="2.0")
    assert new["per_item"] == {"exact_match": [1, 1, 1], "f1": [1, 1, 1]}


def test_exact_match_counts_any_accepted_answer() -> None:
    scores = exact_match_accuracy(["The Garbage bin.", "two", "x"], ["garbage_bin", ["3", "2"], "y"])
    assert scores["per_item"] == [1, 1, 0]
    assert scores["accuracy_x100"] == pytest.approx(200 / 3)
    raw = exact_match_accuracy(["Chair", "chair"], ["chair", "chair"], normalize=None)
    assert raw["per_item"] == [0, 1]


def test_predictions_are_brought_into_the_rows_order() -> None:
    aligned = align_predictions({"7": "dog", 3: "cat", 9: "cow"}, [3, "5", 7])
    assert list(aligned) == [["cat", "", "dog"], ["5"], ["9"], []]
    problem = aligned.problems()
    assert "1 questions without a prediction, which count as wrong (5)" in problem
    assert "1 predictions of unknown questions, which are ignored (9)" in problem
    assert align_predictions({"7": "dog"}, ["7"]).problems() == ""


def test_upload_files_align_and_the_last_of_two_predictions_counts() -> None:
    upload = [{"question_id": 1, "answer": "a"}, {"question_id": 2, "answer": "b"}, {"question_id": 1, "answer": "c"}]
    aligned = align_predictions(upload, ["1", "2"])
    assert list(aligned) == [["c", "b"], [], [], ["1"]]
    assert "1 questions predicted more than once, whose last prediction counts (1)" in aligned.problems()
    assert align_predictions([{"questionId": "8", "prediction": "no"}], ["8"]).predictions == ["no"]


def test_what_does_not_align_is_named() -> None:
    with pytest.raises(
        ValueError, match=r"none of 1 predictions \(9\) belongs to any of 7 questions \(0, 1, 2, 3, 4, \."
    ):
        align_predictions({"9": "a"}, range(7))
    with pytest.raises(ValueError, match=r"predictions\[1\] is \{'answer': 'x'\}; it needs a question_id"):
        align_predictions([{"question_id": 1, "answer": "a"}, {"answer": "x"}], [1])
    with pytest.raises(ValueError, match=r"predictions\[0\] is 'dog'; it needs a question_id and an answer"):
        align_predictions(["dog"], [1])  # type: ignore[list-item]
    assert align_predictions({}, []).predictions == []


@pytest.mark.parametrize(
    ("predictions", "answers", "error", "message"),
    [
        (["a"], [["a"], ["b"]], ValueError, "1 predictions but answers to 2 questions"),
        ([], [], ValueError, "there are no predictions"),
        ("ab", [["a"], ["b"]], TypeError, "not one string"),
        (["a", "b"], "ab", TypeError, "not one string"),
        (["a", 3], [["a"], ["b"]], TypeError, r"predictions\[1\] is a int, not a string"),
        (["a", "b"], [[], [1]], ValueError, "no question can be scored: 1 of 2 questions have no answers"),
        (["a"], ["a"], TypeError, r"answers\[0\] is one string"),
    ],
)
@pytest.mark.parametrize("version", ["1.1", "2.0"])
def test_ugly_rows_are_named(
    predictions: Any, answers: Any, error: type[Exception], message: str, version: str
) -> None:
    if version == "2.0" and "no question" in message:
        answers = [[1], [1]]
        message = "no question can be scored: 2 of 2 questions have answers that are not strings"
    with pytest.raises(error, match=message):
        squad_em_f1(predictions, answers, version=version)


def test_an_unknown_version_is_named() -> None:
    with pytest.raises(ValueError, match="version is '3'; SQuAD has 1.1 and 2.0"):
        squad_em_f1(["a"], [["a"]], version="3")


def test_rows_without_answers_are_named_and_the_rest_is_scored() -> None:
    with pytest.warns(UserWarning) as caught:
        scores = exact_match_accuracy(["a", "b", "c", ""], [["a"], [], ["c", 3], [""]])  # type: ignore[list-item]
    assert [str(warning.message) for warning in caught] == [
        "1 of 4 questions have no answers and are not scored (rows 1); "
        "1 of 4 questions have answers that are not strings and are not scored (rows 2)"
    ]
    assert scores["accuracy"] == 1
    assert scores["per_item"] == pytest.approx([1, math.nan, math.nan, 1], nan_ok=True)
