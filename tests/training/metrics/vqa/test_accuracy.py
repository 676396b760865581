"""VQA, OK-VQA, TextVQA, A-OKVQA and Visual7W against the official evaluators, by hand, and a brute-force twin."""

import gzip
import json
import math
import random
import sys
from pathlib import Path
from typing import Any

import pytest

import training.metrics.vqa as door
from processors.answer_text_updown import normalize_answer, soft_scores
from tests.shared_files import shared
from training.metrics.vqa import (
    aokvqa,
    aokvqa_questions,
    official_report,
    okvqa,
    textvqa_accuracy,
    visual7w,
    vqa_accuracy,
)

MODULE = Path(__file__).resolve().parents[4] / "training/metrics/vqa/updown_vqa.py"


def golden(name: str) -> Any:
    return json.loads(gzip.decompress(shared(f"golden/metrics/{name}.json.gz").read_bytes()))


def golden_questions() -> tuple[tuple[list[str], list[list[str]]], dict[str, list[str]], dict[str, Any]]:
    data = golden("vqa_accuracy")
    questions = data["inputs"]["questions"]
    types = {f"{name}s": [question[name] for question in questions] for name in ("question_type", "answer_type")}
    rows = [question["pred"] for question in questions], [question["answers"] for question in questions]
    return rows, types, data["expected"]


def naive_vqa_accuracy(prediction: str, answers: list[str], *, answer_ids: bool) -> float:
    """The evaluator's loops over dictionaries, with their ids or without."""
    people: list[dict[str, Any]] = [
        {"answer": answer.replace("\n", " ").replace("\t", " ").strip()} | ({"answer_id": number} if answer_ids else {})
        for number, answer in enumerate(answers)
    ]
    prediction = prediction.replace("\n", " ").replace("\t", " ").strip()
    if len({person["answer"] for person in people}) > 1:
        for person in people:
            person["answer"] = normalize_answer(person["answer"])
        prediction = normalize_answer(prediction)
    scores = []
    for left_out in people:
        others = [person for person in people if person != left_out]
        scores.append(min(1, len([person for person in others if person["answer"] == prediction]) / 3))
    return sum(scores) / len(scores)


def test_three_who_agree_are_enough_whoever_is_left_out() -> None:
    """Normalised as the official evaluator does it: only where people differ."""
    people = [["Dog."] * n + ["cat"] * (10 - n) for n in range(11)]
    scores = vqa_accuracy(["the dog"] * 11, people, variant="agree_of_three")
    assert scores["per_item"] == pytest.approx([0, 1 / 3, 2 / 3, *[1] * 7, 0])
    official = vqa_accuracy(["the dog"] * 11, people)
    assert official["per_item"] == pytest.approx([0, 0.3, 0.6, 0.9, *[1] * 6, 0])


def test_accuracy_is_the_official_evaluators() -> None:
    rows, types, expected = golden_questions()
    scores = vqa_accuracy(*rows, **types)  # type: ignore[arg-type]
    assert [100 * value for value in scores["per_item"]] == pytest.approx(expected["per_question"], abs=1e-9)
    assert scores["accuracy_x100"] == pytest.approx(expected["accuracy"]["overall"], abs=1e-9)
    assert scores["per_answer_type_x100"] == pytest.approx(expected["accuracy"]["perAnswerType"], abs=1e-9)
    assert scores["per_question_type_x100"] == pytest.approx(expected["accuracy"]["perQuestionType"], abs=1e-9)
    assert official_report(scores) == expected["accuracy_n2"]
    assert [round(100 * value, 2) for value in scores["per_item"]] == expected["per_question_n2"]


def test_answers_without_ids_score_as_officially() -> None:
    rows, _, expected = golden_questions()
    scores = vqa_accuracy(*rows, answer_ids=False)
    assert [100 * value for value in scores["per_item"]] == pytest.approx(expected["accuracy_no_answer_id"], abs=1e-9)


def test_the_lavis_copy_scores_as_it_does() -> None:
    rows, types, expected = golden_questions()
    scores = vqa_accuracy(*rows, variant="lavis", **types)  # type: ignore[arg-type]
    assert [100 * value for value in scores["per_item"]] == pytest.approx(expected["lavis_per_question"], abs=1e-9)
    report = official_report(scores, decimals=12)
    assert report["overall"] == pytest.approx(expected["lavis_accuracy"]["overall"], abs=1e-9)
    for name in ("perQuestionType", "perAnswerType"):
        assert report[name] == pytest.approx(expected["lavis_accuracy"][name], abs=1e-9)


def test_soft_scores_are_the_accuracy_of_each_answer() -> None:
    rows, _, _ = golden_questions()
    for answers in rows[1][:100]:
        if len(set(answers)) > 1:
            scores = soft_scores([normalize_answer(answer) for answer in answers])
            asked = list(dict.fromkeys(answers))
            accuracies = vqa_accuracy(asked, [answers] * len(asked))["per_item"]
            assert accuracies == pytest.approx([scores[normalize_answer(answer)] for answer in asked])


def test_okvqa_is_the_official_evaluators() -> None:
    data = golden("okvqa")
    questions = data["inputs"]["questions"]
    scores = okvqa([question["pred"] for question in questions], [question["answers"] for question in questions])
    assert [100 * value for value in scores["per_item"]] == pytest.approx(data["expected"]["per_question"], abs=1e-9)
    assert scores["accuracy_x100"] == pytest.approx(data["expected"]["overall"], abs=1e-9)


def test_textvqa_is_the_official_evaluators() -> None:
    data = golden("textvqa_accuracy")
    items = data["inputs"]["items"]
    scores = textvqa_accuracy([item["pred_answer"] for item in items], [item["gt_answers"] for item in items])
    assert scores["per_item"] == pytest.approx(data["expected"]["per_item"], abs=1e-9)
    assert scores["accuracy"] == pytest.approx(data["expected"]["accuracy"], abs=1e-9)


@pytest.mark.parametrize("answer_ids", [True, False])
def test_accuracy_is_a_naive_twins(answer_ids: bool) -> None:
    draw = random.Random(0)
    spellings = [
        "dog",
        "Dog",
        "the dog",
        " dog",
        "a cat",
        "cat.",
        "2",
        "two",
        "2,000",
        "red/white",
        "dont",
        "",
        "no\tno",
    ]
    answers = [draw.choices(spellings[: draw.randint(1, 13)], k=draw.choice((1, 3, 10, 10, 10))) for _ in range(1500)]
    predictions = [draw.choice(spellings) for _ in answers]
    scores = vqa_accuracy(predictions, answers, answer_ids=answer_ids)
    twins = [naive_vqa_accuracy(p, a, answer_ids=answer_ids) for p, a in zip(predictions, answers, strict=True)]
    assert scores["per_item"] == pytest.approx(twins, abs=1e-12)
    assert 0.1 < scores["accuracy"] < 0.9


def test_accuracy_by_hand() -> None:
    answers = [["dog"] * 2 + ["cat"] * 8, ["Yes"] * 10, ["Yes"] * 10, ["1", "one", "3", "4"]]
    scores = vqa_accuracy(["A dog!", "yes", "Yes ", "one"], answers, answer_types=["other", "yes/no", "yes/no", ""])
    # 8 leave-outs of a cat see two dogs (2/3), 2 of a dog see one (1/3); ten equal answers are met letter by letter;
    # "1" and "one" are one answer: 2 leave-outs see one of them (1/3), 2 see both (2/3)
    assert scores["per_item"] == pytest.approx([0.6, 0, 1, 0.5])
    assert scores["accuracy"] == pytest.approx(2.1 / 4)
    assert scores["per_answer_type_x100"] == pytest.approx({"other": 60, "yes/no": 50})
    assert scores["per_question_type_x100"] == {}
    assert vqa_accuracy(["dog"], [["dog"] * 10], answer_ids=False)["accuracy"] == 0  # all leave each other out


def test_questions_without_answers_are_named_and_the_rest_is_scored() -> None:
    types = ["number", "other", "other"]
    with pytest.warns(UserWarning, match=r"1 of 3 questions have no answers and are not scored \(rows 0\)"):
        scores = vqa_accuracy(["dog", "cat", ""], [[], ["cat"] * 10, ["x", "y"]], answer_types=types)
    assert scores["accuracy"] == 0.5
    assert math.isnan(scores["per_item"][0])
    assert scores["per_answer_type_x100"] == {"other": 50}


def test_ugly_inputs_are_named() -> None:
    with pytest.raises(ValueError, match="1 predictions but answers to 2 questions"):
        vqa_accuracy(["a"], [["a"], ["b"]])
    with pytest.raises(ValueError, match="variant is 'vqa'; it can be one of official, lavis, textvqa"):
        vqa_accuracy(["a"], [["a"]], variant="vqa")
    with pytest.raises(ValueError, match="2 answer_types for 1 questions"):
        vqa_accuracy(["a"], [["a"]], answer_types=["other", "other"])
    with pytest.raises(TypeError, match=r"predictions\[0\] is a NoneType"):
        vqa_accuracy([None], [["a"]])  # type: ignore[list-item]
    with pytest.raises(TypeError, match=r"answers\[0\] is one string"):
        vqa_accuracy(["a"], ["a"])
    with pytest.raises(TypeError, match="not one string"):
        vqa_accuracy("a", "a")


@pytest.mark.parametrize("setting", ["multiple_choice", "direct_answer"])
@pytest.mark.filterwarnings("ignore:predictions and questions do not match")
def test_aokvqa_is_the_official_evaluators(setting: str) -> None:
    data = golden("aokvqa")
    key = {"multiple_choice": "mc", "direct_answer": "da"}[setting]
    inputs, expected = data["inputs"], data["expected"]
    whole = aokvqa(inputs[key], inputs["dataset"], setting=setting)
    assert whole["accuracy_x100"] == pytest.approx(expected[key], abs=1e-9)
    some = aokvqa(inputs[f"{key}_missing"], inputs["dataset"], setting=setting, strict=False)
    assert some["accuracy_x100"] == pytest.approx(expected[f"{key}_missing_nonstrict"], abs=1e-9)
    with pytest.raises(ValueError, match=r"\d+ of \d+ questions have no prediction \(q\d+, .*, \.\.\.\)"):
        aokvqa(inputs[f"{key}_missing"], inputs["dataset"], setting=setting)


def aokvqa_records() -> list[dict[str, Any]]:
    first = {"question_id": "q1", "choices": ["red", "blue"], "correct_choice_idx": 1, "difficult_direct_answer": False}
    second = {"question_id": "q2", "choices": ["a", "b"], "correct_choice_idx": 0, "difficult_direct_answer": True}
    return [first | {"direct_answers": ["red"] * 8 + ["Blue"] * 2}, second | {"direct_answers": ["b"] * 10}]


def test_aokvqa_by_hand() -> None:
    direct = aokvqa({"q1": "Blue", "q2": "b"}, aokvqa_records())
    assert direct["per_item"] == pytest.approx({"q1": 2 / 3})  # nobody is left out; the second has no direct answer
    assert aokvqa({"q1": "blue", "q2": "b"}, aokvqa_records())["accuracy"] == 0
    chosen = aokvqa({"q1": "blue", "q2": "b"}, aokvqa_records(), setting="multiple_choice")
    assert chosen["per_item"] == {"q1": 1, "q2": 0}
    with pytest.raises(ValueError, match=r"1 predictions are none of their question's choices \(q2\)"):
        aokvqa({"q1": "blue", "q2": "c"}, aokvqa_records(), setting="multiple_choice")
    with pytest.warns(UserWarning, match=r"1 predictions of unknown questions, which are ignored \(q3\)"):
        assert aokvqa({"q1": "red", "q3": "x"}, aokvqa_records())["accuracy"] == 1
    hidden = [{"question_id": "q1", "choices": ["a", "b"]}]
    for setting in ("direct_answer", "multiple_choice"):
        with pytest.raises(ValueError, match=f"no question has an answer for {setting}; are the answers hidden"):
            aokvqa({"q1": "a"}, hidden, setting=setting)
    with pytest.raises(ValueError, match="setting is 'both'"):
        aokvqa({"q1": "a"}, hidden, setting="both")


def test_aokvqa_questions_come_from_rows() -> None:
    details = json.dumps({"difficult_direct_answer": True})
    row = {"question_id": "q2", "choices": ["a", "b"], "correct_choice": 0, "answers": ["b"] * 10, "details": details}
    assert aokvqa_questions([row]) == aokvqa_records()[1:]


@pytest.mark.parametrize("name", ["mc@1", "open@1", "open@3", "open@5"])
def test_visual7w_is_the_official_evaluators(name: str) -> None:
    data = golden("visual7w")
    pairs = {pair["qa_id"]: pair for pair in data["inputs"]["pairs"]}
    asked = [pairs[result["qa_id"]] for result in data["inputs"]["results"]]
    candidates = [[one["answer"] for one in result["candidates"]] for result in data["inputs"]["results"]]
    types, answers = [pair["type"] for pair in asked], [pair["answer"] for pair in asked]
    scores = visual7w(candidates, answers, question_types=types, top_k=int(name[-1]))
    expected = data["expected"][name]
    assert scores["accuracy"] == pytest.approx(expected["overall"], abs=1e-9)
    for kind, counts in scores["per_question_type"].items():
        assert [counts["correct"], counts["questions"]] == expected[kind]


def test_visual7w_by_hand() -> None:
    scores = visual7w(["A Dog.", ["x", "cat"]], ["a dog.", "Cat"], question_types=["what", "what"])
    assert scores["per_item"] == [1, 0]
    assert scores["per_question_type"] == {"what": {"correct": 1, "questions": 2, "accuracy_x100": 50}}
    assert visual7w([["x", "cat"]], ["Cat"], top_k=2)["accuracy"] == 1
    with pytest.raises(ValueError, match="top_k is 0"):
        visual7w(["a"], ["a"], top_k=0)
    with pytest.raises(ValueError, match="1 predictions for 2 answers"):
        visual7w(["a"], ["a", "b"])
    with pytest.raises(ValueError, match="2 question_types for 1 questions"):
        visual7w(["a"], ["a"], question_types=["what", "who"])


def test_one_door_leads_to_every_answer_metric() -> None:
    assert {"gqa", "squad_em_f1", "exact_match_accuracy", "wups", "align_predictions"} <= set(door.__all__)
    assert all(callable(getattr(door, name)) for name in door.__all__)


def test_the_evaluate_module_loads_from_its_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    evaluate = pytest.importorskip("evaluate")
    monkeypatch.setattr(evaluate.config, "HF_MODULES_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.syspath_prepend(str(tmp_path))  # before the folder of another module's test
    for name in [name for name in sys.modules if name.split(".")[0] == "evaluate_modules"]:
        monkeypatch.delitem(sys.modules, name)
    metric = evaluate.load(str(MODULE), cache_dir=str(tmp_path))
    predictions, references, types = ["two", "no"], [["2"] * 9 + ["3"], ["no"] * 10], ["number", "yes/no"]
    scores = metric.compute(predictions=predictions, references=references, answer_types=types)
    expected = vqa_accuracy(predictions, references, answer_types=types)
    assert scores == {name: value for name, value in expected.items() if name != "per_item"}
    assert scores["per_answer_type_x100"] == {"number": 100, "yes/no": 100}
