"""Answers about videos: the official figures, slow twins, real annotations, and what is refused."""

import gzip
import json
import math
import random
from collections import Counter
from typing import Any

import numpy as np
import pytest

from tests.shared_files import shared
from training.metrics.video import activitynet_qa, nextqa_mc, tgif_count, wups
from training.metrics.video.answers import ACTIVITYNET_TYPES


def golden(name: str) -> tuple[Any, Any]:
    content = shared(f"golden/metrics/{name}").read_bytes()
    data = json.loads(gzip.decompress(content) if name.endswith(".gz") else content)
    return data["inputs"], data["expected"]


# -- NExT-QA ----------------------------------------------------------------------------------------------------------

ROW = {"video": 7, "qid": 0, "type": "CW", "answer": 1}
NEXTQA_NAMES = {"all": "accuracy", "Acc_C": "acc_c", "Acc_T": "acc_t", "Acc_D": "acc_d"} | {
    "Why": "why",
    "How": "how",
    "Bef&Aft": "before_after",
    "When": "when",
    "Cnt": "count",
    "Loc": "location",
    "Other": "other",
}


def test_choices_score_as_officially() -> None:
    given, expected = golden("nextqa_mc.json.gz")
    found = nextqa_mc(**given)
    for theirs, ours in NEXTQA_NAMES.items():
        assert found[f"{ours}_x100"] == pytest.approx(expected["full_precision"][theirs], abs=1e-6)
    for theirs, printed in expected["printed"].items():
        assert f"{found[f'{NEXTQA_NAMES[theirs]}_x100']:.2f}" == f"{printed:.2f}"
    assert sum(found["per_item"]["accuracy"]) == 220 and set(found["per_item"]["type"]) == {*NEXTQA_NAMES.values()} - {
        *("accuracy", "acc_c", "acc_t", "acc_d")
    }


def test_choices_equal_a_loop() -> None:
    draw = random.Random(0)
    rows = [
        {"video": n % 9, "qid": n, "type": draw.choice(["CW", "TP", "TN", "DL"]), "answer": n % 5} for n in range(90)
    ]
    results = {f"{row['video']}_{row['qid']}": draw.randrange(5) for row in rows}
    found = nextqa_mc(rows, results)
    right = [results[f"{row['video']}_{row['qid']}"] == row["answer"] for row in rows]
    temporal = [hit for hit, row in zip(right, rows, strict=True) if row["type"][0] == "T"]
    assert found["accuracy"] == pytest.approx(sum(right) / 90) and found["per_item"]["accuracy"] == list(
        map(float, right)
    )
    assert found["acc_t"] == found["before_after"] == pytest.approx(sum(temporal) / len(temporal))
    assert "how" not in found and found["location_x100"] == 100 * found["location"]


@pytest.mark.parametrize(
    ("row", "results", "message"),
    [
        ({}, {"8_0": 1}, "1 queries have no prediction: 7_0; 1 predictions have no query: 8_0"),
        ({"type": "XX"}, {"7_0": 1}, "the question 7_0 has the type 'XX'; the types are CW, CH"),
        (
            {"answer": None},
            {"7_0": 1},
            "the question 7_0 has no answer; are both of the same file, and not of a hidden",
        ),
        (
            {},
            {"7_0": {"prediction": 1, "answer": 2}},
            "the question 7_0 has the answers 2 in the results and 1 in the rows",
        ),
        ({}, {"7_0": "a"}, "the question 7_0 has the prediction 'a'; give the candidate's number"),
        ({}, {"7_0": {"answer": 1}}, "the question 7_0 has the prediction None"),
        ({"answer": -1}, {"7_0": 1}, "the question 7_0 has the answer -1"),
    ],
)
def test_choices_that_cannot_be_scored_are_refused(row: dict[str, Any], results: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        nextqa_mc([ROW | row], results)


def test_numbers_may_be_text_as_tables_have_them() -> None:
    assert nextqa_mc([ROW | {"answer": "1"}], {"7_0": 1})["accuracy"] == 1


def test_rows_without_an_id_are_refused() -> None:
    with pytest.raises(ValueError, match=r"rows\[0\] needs video, qid and type: {'video': 7}"):
        nextqa_mc([{"video": 7}], {})
    with pytest.raises(ValueError, match="ground_truth has the id 7_0 twice"):
        nextqa_mc([ROW, ROW], {"7_0": 1})


# -- TGIF-QA ----------------------------------------------------------------------------------------------------------


def test_counts_score_as_officially() -> None:
    given, expected = golden("tgif_count.json")
    found = tgif_count(**given)
    assert found["predictions"] == expected["predictions"]
    for ours, theirs in (("mse", "mse"), ("accuracy", "accuracy"), ("mse_raw", "mean_loss_raw")):
        assert found[ours] == pytest.approx(expected[theirs], abs=1e-6)


def test_counts_equal_a_loop() -> None:
    draw = random.Random(0)
    logits, answers = [draw.randint(-8, 48) / 4 for _ in range(200)], [draw.randint(0, 12) for _ in range(200)]
    found = tgif_count(logits, answers)
    rounded = [min(10, max(1, round(number))) for number in logits]  # Python rounds halves to the even number too
    errors = [(ours - true) ** 2 for ours, true in zip(rounded, answers, strict=True)]
    assert found["predictions"] == rounded and found["per_item"]["squared_error"] == errors
    assert found["mse"] == pytest.approx(sum(errors) / 200) and found["accuracy"] == errors.count(0) / 200


@pytest.mark.parametrize(
    ("logits", "answers", "message"),
    [
        ([1.0], [1, 2], "1 logits for 2 answers"),
        ([], [], "0 logits for 0 answers"),
        ([float("nan")], [1], "logits must be a list of finite numbers"),
        ([[1.0]], [1], "logits must be a list of finite numbers, one for each question"),
        ([1.0, 1.0], [1, 2.5], r"answers\[1\] is 2.5; a count is a whole number"),
        ([1.0], [-1], r"answers\[0\] is -1; a count is a whole number, 0 or more"),
    ],
)
def test_counts_that_cannot_be_scored_are_refused(logits: list[Any], answers: list[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tgif_count(logits, answers)


# -- ActivityNet-QA ---------------------------------------------------------------------------------------------------


def test_open_answers_score_as_officially() -> None:
    given, expected = golden("activitynet_qa.json.gz")
    found = activitynet_qa(**given)
    assert found["accuracy"] == pytest.approx(expected["all"], abs=1e-6)
    for kind, official in expected["per_type"].items():
        name = ACTIVITYNET_TYPES[int(kind)]
        assert found[name] == pytest.approx(official, abs=1e-6)
        assert found["counts"][name][0] == expected["corrects"][kind]
    assert {name: found["counts"][ACTIVITYNET_TYPES[name]][1] for name, _ in expected["type_count_in_order"]} == dict(
        expected["type_count_in_order"]
    )
    assert found["free_official"] == pytest.approx(expected["free_official"], abs=1e-6)
    assert found["free"] == pytest.approx(expected["free_by_type"], abs=1e-6)
    assert f"Free: {found['free_official']:.4f}" in expected["printed"]
    shuffled = random.Random(0).sample(given["predictions"], k=500)
    assert activitynet_qa(shuffled, given["ground_truth"]) == found


def test_open_answers_equal_a_loop_on_the_real_file() -> None:
    truth = json.loads(shared("data/official_formats/activitynet_qa/val_a.json").read_text())
    draw = random.Random(0)
    predictions = [
        {"question_id": row["question_id"], "answer": row["answer"] if draw.random() < 0.6 else row["answer"] + " "}
        for row in truth
    ]
    found = activitynet_qa(predictions, truth)
    right = [one["answer"] == own["answer"] for one, own in zip(predictions, truth, strict=True)]
    assert found["accuracy"] == pytest.approx(sum(right) / len(truth)) and 0.3 < found["accuracy"] < 0.9
    totals = Counter(row["type"] for row in truth)
    for kind, total in totals.items():
        hits = sum(hit for hit, row in zip(right, truth, strict=True) if row["type"] == kind)
        assert found["counts"][ACTIVITYNET_TYPES[kind]] == [hits, total]
        assert found[ACTIVITYNET_TYPES[kind]] == hits / total
    fewer = activitynet_qa(predictions[:1], truth[:1])  # of one type: the official script fails
    assert math.isnan(fewer["free_official"]) and len(fewer["counts"]) == 1


ANSWER = {"question_id": "v_a_1", "answer": "yes"}
TRUE = ANSWER | {"type": 3}


@pytest.mark.parametrize(
    ("found", "true", "message"),
    [
        ({"question_id": "v_b_1"}, {}, "1 queries have no prediction: v_a_1; 1 predictions have no query: v_b_1"),
        ({"answer": 3}, {}, "predictions: the answer of the question v_a_1 is 3, not text"),
        ({}, {"answer": None}, "ground_truth: the answer of the question v_a_1 is None, not text"),
        ({}, {"type": 9}, "ground_truth: the type of the question v_a_1 is 9, not a number from 0 to 8"),
        ({}, {"type": "3"}, "the type of the question v_a_1 is '3'"),
    ],
)
def test_open_answers_that_cannot_be_scored_are_refused(found: Any, true: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        activitynet_qa([ANSWER | found], [TRUE | true])


def test_answers_by_meaning_have_the_metric_of_other_questions() -> None:
    from training.metrics.vqa import wups as of_images

    assert wups is of_images and np.isclose(wups([("a cup", "a cup")], form="daquar", taxonomy=_Nothing())["wups"], 1)


class _Nothing:
    """A taxonomy without any word."""

    def synsets(self, word: str, *, parts_of_speech: str = "nvar") -> list[Any]:
        return []

    def wup_similarity(self, first: Any, second: Any) -> float:
        raise AssertionError("no word is known")
