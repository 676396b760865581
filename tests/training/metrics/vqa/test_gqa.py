"""GQA's scores against the official evaluator, hand-worked numbers, and files that do not belong together."""

import gzip
import json
import math
from typing import Any

import pytest

from tests.shared_files import shared
from training.metrics.vqa.gqa import gqa, gqa_questions, reasoning_steps

DETAILED = {
    "accuracyPerStructuralType": "per_structural_type",
    "accuracyPerSemanticType": "per_semantic_type",
    "accuracyPerSteps": "per_steps",
    "accuracyPerLength": "per_length",
}


def golden() -> Any:
    return json.loads(gzip.decompress(shared("golden/metrics/gqa.json.gz").read_bytes()))


def question(answer: str, **changes: Any) -> dict[str, Any]:
    types = {"structural": "query", "semantic": "attr", "detailed": "color"}
    whole = {"question": "What color is it?", "answer": answer, "isBalanced": True, "types": types, "entailed": []}
    return whole | {"groups": {"global": "color"}, "semantic": [], **changes}


def verify(answer: str, **changes: Any) -> dict[str, Any]:
    types = {"structural": "verify", "semantic": "obj", "detailed": "existC"}
    return question(answer, types=types, groups={"global": None}, **changes)


def test_every_score_is_the_official_evaluators() -> None:
    data = golden()
    inputs = data["inputs"]
    scores = gqa(inputs["predictions"], inputs["questions"], choices=inputs["choices"])
    for name, expected in data["expected"]["scores"].items():
        ours = scores[name if name == "distribution" else f"{name}_x100"]
        assert ours == pytest.approx(expected, abs=1e-9), name
    for official, ours in DETAILED.items():
        expected = data["expected"]["detailed"][official]
        found = {str(name): [value["accuracy_x100"], value["questions"]] for name, value in scores[ours].items()}
        assert set(found) == set(expected)
        for name in found:
            assert found[name] == pytest.approx(expected[name], abs=1e-9)


def test_official_prediction_files_score_the_same() -> None:
    inputs = golden()["inputs"]
    records = [{"questionId": name, "prediction": answer} for name, answer in inputs["predictions"].items()]
    assert gqa(records, inputs["questions"]) == gqa(inputs["predictions"], inputs["questions"])


def test_accuracies_by_hand() -> None:
    questions = {"1": question("red"), "2": question("blue"), "3": verify("yes"), "4": verify("no", isBalanced=False)}
    scores = gqa({"1": "red", "2": "Blue", "3": "yes", "4": "no"}, questions)
    assert scores["accuracy_x100"] == pytest.approx(200 / 3)
    assert (scores["open_x100"], scores["binary_x100"]) == (50, 100)
    assert scores["per_structural_type"]["query"] == {"accuracy_x100": 50, "questions": 2}
    assert scores["per_length"] == {4: {"accuracy_x100": pytest.approx(200 / 3), "questions": 3}}
    assert scores["per_item"] == {"1": 1, "2": 0, "3": 1}
    assert "validity_x100" not in scores


def test_consistency_asks_what_right_answers_entail() -> None:
    questions = {
        "1": question("red", entailed=["1", "3", "4"]),  # itself does not count
        "2": question("blue", entailed=["3"]),  # wrong, so not asked
        "3": verify("yes", isBalanced=False),
        "4": verify("no", isBalanced=False),
    }
    scores = gqa({"1": "red", "2": "red", "3": "yes", "4": "yes"}, questions)
    assert scores["consistency_x100"] == 50
    assert gqa({"1": "x", "2": "x", "3": "yes", "4": "yes"}, questions)["consistency_x100"] == 0


def test_consistency_is_unknown_where_entailed_questions_are_absent() -> None:
    questions = {"1": question("red", entailed=["3", "8"]), "3": verify("yes", isBalanced=False)}
    with pytest.warns(UserWarning, match=r"consistency is not known: 2 entailed questions \(3, 8\)"):
        scores = gqa({"1": "red"}, questions)
    assert math.isnan(scores["consistency_x100"])
    assert scores["accuracy_x100"] == 100


def test_distribution_is_the_weighted_chi_square() -> None:
    questions = {"1": question("red"), "2": question("red"), "3": question("blue"), "4": verify("yes")}
    # true red 2, blue 1; predicted red 1, green 2: ((1-2)^2/2 + (0-1)^2/1) * 3 / 3 / 100
    scores = gqa({"1": "red", "2": "green", "3": "green", "4": "no"}, questions)
    assert scores["distribution"] == pytest.approx(0.015)
    assert math.isnan(gqa({"4": "no"}, {"4": verify("yes")})["distribution"])


def test_validity_and_plausibility_by_hand() -> None:
    common = {"structural": "query", "semantic": "attr", "detailed": "compareCommon"}
    questions = {"1": question("red"), "2": question("shape", types=common)}
    choices = {"1": {"valid": ["red", "blue"], "plausible": ["red"]}, "2": {"valid": [], "plausible": ["size"]}}
    scores = gqa({"1": "blue", "2": "material"}, questions, choices=choices)
    assert (scores["validity_x100"], scores["plausibility_x100"]) == (100, 50)
    with pytest.raises(ValueError, match=r"1 of 2 questions have no choices \(1\)"):
        gqa({"1": "blue", "2": "material"}, questions, choices={"2": choices["2"]})


def test_steps_that_only_ask_do_not_count() -> None:
    program = [
        ("select", "dog (3)"),
        ("filter color", "red"),
        ("query", "name"),
        ("exist", "?"),
        ("choose name", "a|b"),
    ]
    steps = [{"operation": operation, "argument": argument} for operation, argument in program]
    assert reasoning_steps({"semantic": steps}) == 2


def test_files_that_do_not_match_are_named_and_the_rest_is_scored() -> None:
    questions = {"1": question("red"), "2": question("blue"), "3": verify("no", isBalanced=False)}
    with pytest.warns(UserWarning) as caught:
        scores = gqa({"1": "red", "9": "x"}, questions)
    assert [str(warning.message) for warning in caught] == [
        "predictions and questions do not match: 1 questions without a prediction, which count as wrong (2); "
        "1 predictions of unknown questions, which are ignored (9)"
    ]
    assert scores["accuracy_x100"] == 50
    with pytest.raises(ValueError, match="none of 1 predictions"):
        gqa({"9": "x"}, questions)
    with pytest.raises(ValueError, match="none of 1 questions is balanced and has an answer; is this a test file"):
        gqa({"1": "x"}, {"1": {"question": "?", "isBalanced": True}})
    with pytest.raises(ValueError, match="question 1 has no types, semantic"):
        gqa({"1": "x"}, {"1": {"question": "?", "answer": "red"}})


def test_questions_come_from_rows() -> None:
    whole = question("red", entailed=["2"])
    details = {name: whole[name] for name in ("isBalanced", "types", "groups", "semantic", "entailed")}
    row = {"question_id": "1", "question": whole["question"], "answer": "red", "details": json.dumps(details)}
    assert gqa_questions([row]) == {"1": whole}
    assert gqa_questions([row | {"details": ""}]) == {"1": {"question": whole["question"], "answer": "red"}}
