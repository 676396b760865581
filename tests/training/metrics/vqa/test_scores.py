"""Each format's figures against direct calls of its official metric, by kind of question, and what is not computed."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from tests.training.metrics.vqa.tiny_wordnet import write_wordnet
from training.data.questions.rows import vqa_dataset
from training.metrics.vqa import aokvqa, gqa, visual7w, vqa_accuracy
from training.metrics.vqa.scores import item_accuracies, question_items, question_scores, scored_format
from training.metrics.vqa.wordnet import WordNet
from training.metrics.vqa.wups import wups

TEN = [["dog"] * 6 + ["Dog."] * 2 + ["cat"] * 2, ["no"] * 10, ["two"] * 1 + ["2"] * 1 + ["3"] * 8, ["red"] * 10]
SAID = ["the dog", "No", "2", "red"]


def questions(**columns: Any) -> Dataset:
    """Questions q0, q1, ... with these columns, the others empty."""
    number = len(next(iter(columns.values())))
    ids = {"question_id": [f"q{i}" for i in range(number)], "image_id": ["1"] * number, "split": ["val"] * number}
    asked = {"question": [f"What is number {i}?" for i in range(number)]}
    return vqa_dataset([{**ids, **asked, **columns}], images=None, split=None, source="the test")


def test_ten_people_are_scored_as_vqa_scores_them() -> None:
    types = {"answer_type": ["other", "yes/no", "number", "other"], "question_type": ["what", "is", "how", ""]}
    rows = questions(answers=TEN, **types)
    metrics, domains, not_computed = question_scores(SAID, rows, format="vqa_v2")
    expected = vqa_accuracy(SAID, TEN, answer_types=types["answer_type"], question_types=types["question_type"])
    assert metrics == pytest.approx({"accuracy": expected["accuracy"], "accuracy_x100": expected["accuracy_x100"]})
    assert expected["per_item"] == [1.0, 0.0, pytest.approx(0.6), 1.0]  # ten equal answers ask for the very letters
    told = {name: figures["accuracy_x100"] for name, figures in domains.items()}
    by_hand = {f"answers: {name}": value for name, value in expected["per_answer_type_x100"].items()}
    by_hand |= {f"questions: {name}": value for name, value in expected["per_question_type_x100"].items()}
    assert told == pytest.approx(by_hand) and set(told) == {
        *("answers: other", "answers: yes/no", "answers: number"),
        *("questions: what", "questions: is", "questions: how"),
    }
    assert domains["answers: other"]["questions"] == 2 and not_computed == {}
    assert item_accuracies(SAID, rows) == expected["per_item"]


def test_targets_of_three_are_scored_so_beside_the_official_accuracy() -> None:
    people = [["dog"] * n + ["cat"] * (10 - n) for n in range(5)]
    metrics, _, _ = question_scores(
        ["A dog."] * 5, questions(answers=people), format="vqa_v2", targets="agree_of_three"
    )
    assert metrics["accuracy"] == pytest.approx((0 + 0.3 + 0.6 + 0.9 + 1) / 5)
    assert metrics["accuracy_agree_of_three"] == pytest.approx((0 + 1 / 3 + 2 / 3 + 1 + 1) / 5)
    assert metrics["accuracy_agree_of_three_x100"] == pytest.approx(100 * 3 / 5)
    items = question_items(["A dog."] * 5, questions(answers=people), choices=[], metrics=metrics)
    assert items["accuracy"]["values"] == [0.0, 0.3, 0.6, 0.9, 1.0]
    assert items["accuracy_agree_of_three"]["values"] == [0.0, 0.333333, 0.666667, 1.0, 1.0]
    assert set(question_scores(["A dog."] * 5, questions(answers=people), format="vqa_v2")[0]) == {
        *("accuracy", "accuracy_x100")
    }


def test_fewer_people_are_an_exact_match_with_the_one_answer() -> None:
    rows = questions(answers=[["dog", "cat", "cat"], ["Two."], ["red"]], answer=["", "two", "blue"])
    metrics, domains, _ = question_scores(["a Cat", "2", "red"], rows, format="table")
    assert metrics == pytest.approx({"accuracy": 2 / 3, "accuracy_x100": 200 / 3}) and domains == {}
    assert item_accuracies(["a Cat", "2", "red"], rows) == [1.0, 1.0, 0.0]


def test_hidden_answers_are_not_scored() -> None:
    rows = questions(answers=[TEN[0], [], TEN[2], []])
    metrics, _, _ = question_scores(SAID, rows, format="vqa_v2")
    assert metrics["accuracy"] == pytest.approx(0.8)
    found = item_accuracies(SAID, rows)
    assert [found[0], found[2]] == [1.0, pytest.approx(0.6)] and math.isnan(found[1]) and math.isnan(found[3])
    metrics, domains, not_computed = question_scores(SAID, questions(answers=[[]] * 4), format="vqa_v2")
    assert (metrics, domains) == ({}, {}) and "hidden; its organisers score them" in not_computed["accuracy"]
    assert all(map(math.isnan, item_accuracies(SAID, questions(answers=[[]] * 4))))


# -- formats ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def wordnet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WordNet:
    """A small WordNet, which is the one that is found."""
    write_wordnet(tmp_path / "wordnet")
    monkeypatch.setenv("WNSEARCHDIR", str(tmp_path / "wordnet"))
    return WordNet(tmp_path / "wordnet")


def test_daquar_has_exact_match_and_wups(wordnet: WordNet) -> None:
    true = ["dog", "garbage_bin, cat", "tool", "4"]
    said = ["cat", "garbage bin, cat", "tool", "5"]
    rows = questions(answers=[[answer] for answer in true], answer=true)
    metrics, _, not_computed = question_scores(said, rows, format="daquar")
    pairs = list(zip(said, true, strict=True))
    expected = {f"wups_{at:g}": wups(pairs, at, form="daquar", taxonomy=wordnet)["wups"] for at in (0.9, 0.0)}
    assert not_computed == {} and metrics["accuracy"] == 0.5
    assert {name: metrics[name] for name in expected} == pytest.approx(expected)
    assert 0.5 < metrics["wups_0.9"] < metrics["wups_0"] < 0.75 and metrics["wups_0_x100"] == 100 * metrics["wups_0"]


def test_activitynet_qa_is_right_letter_for_letter_in_its_types() -> None:
    true, said = ["yes", "ski", "red", "no"], ["yes", "Ski", "red", "yes"]
    rows = questions(
        answers=[[answer] for answer in true], answer=true, question_type=["yes_no", "motion", "color", "yes_no"]
    )
    metrics, domains, not_computed = question_scores(said, rows, format="activitynet_qa")
    assert metrics["accuracy"] == 0.5 and metrics["free"] == pytest.approx(2 / 3) and not_computed == {}
    assert "free_official" not in metrics and "mse" not in metrics  # its script needs four types or more
    assert domains == {
        "questions: motion": {"accuracy_x100": 0.0, "questions": 1},
        "questions: yes_no": {"accuracy_x100": 50.0, "questions": 2},
        "questions: color": {"accuracy_x100": 100.0, "questions": 1},
    }


def test_next_oe_takes_the_better_of_two_answers(wordnet: WordNet) -> None:
    pytest.importorskip("nltk", reason="needs nltk, whose tokeniser the official script uses")
    true, said = ["cat", "dog", "two"], ["dog", "dog", "dog"]
    rows = questions(answers=[["cat", "dog"], ["tool"], ["two"]], answer=true, question_type=["DL", "CW", "DC"])
    metrics, domains, _ = question_scores(said, rows, format="next_oe")
    alone = {at: wups([("dog", "tool")], at, form="next_oe", taxonomy=wordnet)["wups"] for at in (0.0, 0.9)}
    assert 0 < alone[0.9] < alone[0.0] < 1
    for at, name in ((0.0, "wups_0"), (0.9, "wups_0.9")):
        assert metrics[name] == pytest.approx((1 + alone[at] + 0) / 3)  # a count is met or not
    assert domains["questions: DL"]["wups_0_x100"] == 100 and domains["questions: DC"]["wups_0_x100"] == 0


def test_counts_of_tgif_qa_have_a_squared_error_where_all_are_numbers() -> None:
    true = ["2", "3", "10"]
    rows = questions(answers=[[answer] for answer in true], answer=true, question_type=["count"] * 3)
    metrics, domains, not_computed = question_scores(["4", "3", "12"], rows, format="tgif_qa")
    assert (
        metrics["mse"] == pytest.approx(4 / 3) and "mse_x100" not in metrics and not_computed == {}
    )  # 12 is cut to 10
    assert metrics["accuracy"] == pytest.approx(1 / 3) and domains["questions: count"]["questions"] == 3
    metrics, _, not_computed = question_scores(["4", "three", "10"], rows, format="tgif_qa")
    assert "mse" not in metrics and not_computed["mse"] == "1 of 3 answers are no whole number, such as 'three'"
    mixed = questions(answers=[["2"], ["red"]], answer=["2", "red"], question_type=["count", "color"])
    assert "mse" not in question_scores(["2", "red"], mixed, format="tgif_qa")[0]


def test_without_wordnet_wups_has_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WNSEARCHDIR", str(tmp_path))
    rows = questions(answers=[["dog"], ["cat"]], answer=["dog", "cat"])
    metrics, _, not_computed = question_scores(["dog", "dog"], rows, format="daquar")
    assert metrics == {"accuracy": 0.5, "accuracy_x100": 50.0}
    assert "does not hold WordNet's dictionary files" in not_computed["wups"]


def gqa_rows(*, entailed: str) -> Dataset:
    """Two balanced questions and one that is not; the first entails the one of that id."""
    kinds = [("query", "attr", True), ("verify", "obj", True), ("verify", "obj", False)]
    details = [
        {
            "types": {"structural": structural, "semantic": semantic, "detailed": "x"},
            "isBalanced": balanced,
            "semantic": [{"operation": "select", "argument": "dog (1)", "dependencies": []}],
            "entailed": [entailed] if number == 0 else [],
            "groups": {"global": None},
        }
        for number, (structural, semantic, balanced) in enumerate(kinds)
    ]
    answers = ["brown", "yes", "no"]
    return questions(answers=[[a] for a in answers], answer=answers, details=[json.dumps(part) for part in details])


def test_gqa_has_its_own_figures() -> None:
    rows, said = gqa_rows(entailed="q2"), ["brown", "no", "yes"]
    metrics, domains, not_computed = question_scores(said, rows, format="gqa")
    asked = {row["question_id"]: {"answer": row["answer"], "question": row["question"]} for row in rows}
    asked = {name: {**asked[name], **json.loads(row["details"])} for name, row in zip(asked, rows, strict=True)}
    expected = gqa({"q0": "brown", "q1": "no", "q2": "yes"}, asked)
    names = ("accuracy", "binary", "open", "consistency")
    assert {name: metrics[f"{name}_x100"] for name in names} == {name: expected[f"{name}_x100"] for name in names}
    assert (metrics["accuracy"], metrics["open"], metrics["binary"], metrics["consistency"]) == (0.5, 1.0, 0.0, 0.0)
    assert domains == {
        "structure: query": {"accuracy_x100": 100.0, "questions": 1},
        "structure: verify": {"accuracy_x100": 0.0, "questions": 1},
        "about: attr": {"accuracy_x100": 100.0, "questions": 1},
        "about: obj": {"accuracy_x100": 0.0, "questions": 1},
    }
    assert not_computed == {}


def test_gqa_without_the_entailed_questions_has_no_consistency() -> None:
    with pytest.warns(UserWarning, match="consistency is not known: 1 entailed questions"):
        metrics, _, not_computed = question_scores(["brown", "no", "no"], gqa_rows(entailed="q9"), format="gqa")
    assert "consistency" not in metrics and metrics["accuracy"] == 0.5
    assert "evaluate the file of all questions" in not_computed["consistency"]


def choice_rows(**columns: Any) -> Dataset:
    """Four choices each; of ten people, the direct answers agree with the second choice to different degrees."""
    choices = [["cat", "dog", "cow", "hen"]] * 3
    people = [["dog"] * 2 + ["Dog"] * 8, ["dog"] * 3 + ["cat"] * 7, ["dog"] * 10]
    given = {"choices": choices, "correct_choice": [1, 1, 0], "answers": people, **columns}
    return questions(**given)


def test_aokvqa_has_direct_answers_and_choices() -> None:
    details = [json.dumps({"difficult_direct_answer": hard}) for hard in (False, False, True)]
    rows = choice_rows(details=details)
    said, chosen = ["dog", "dog", "cat"], ["dog", "cat", "cat"]
    metrics, _, not_computed = question_scores(said, rows, format="aokvqa", choices=chosen)
    records: list[dict[str, Any]] = [
        {
            "question_id": row["question_id"],
            "choices": row["choices"],
            "correct_choice_idx": row["correct_choice"],
            "direct_answers": row["answers"],
            **json.loads(row["details"]),
        }
        for row in rows
    ]
    ids = [record["question_id"] for record in records]
    direct = aokvqa(dict(zip(ids, said, strict=True)), records)
    choice = aokvqa(dict(zip(ids, chosen, strict=True)), records, setting="multiple_choice")
    assert metrics["accuracy"] == direct["accuracy"] == pytest.approx((2 / 3 + 1) / 2)
    assert metrics["multiple_choice"] == choice["accuracy"] == pytest.approx(2 / 3) and not_computed == {}
    hard = choice_rows(details=[json.dumps({"difficult_direct_answer": True})] * 3)
    metrics, _, not_computed = question_scores(said, hard, format="aokvqa", choices=chosen)
    assert metrics["accuracy"] == metrics["multiple_choice"] == pytest.approx(2 / 3)
    assert "no question has an answer for direct_answer" in not_computed["direct_answer"]


def test_visual7w_has_open_answers_and_choices_by_type() -> None:
    choices = [["A cat.", "A dog.", "Two.", "Red."]] * 3
    types = ["what", "how", "what"]
    rows = questions(choices=choices, correct_choice=[0, 2, 1], question_type=types)
    said, chosen = ["a cat.", "2", "A dog."], ["A dog.", "Two.", "A dog."]
    metrics, domains, _ = question_scores(said, rows, format="visual7w", choices=chosen)
    expected = visual7w(said, ["A cat.", "Two.", "A dog."], question_types=types)
    assert metrics["accuracy"] == expected["accuracy"] == pytest.approx(2 / 3)
    assert metrics["multiple_choice"] == visual7w(chosen, ["A cat.", "Two.", "A dog."])["accuracy"]
    assert domains == {
        "what": {"accuracy_x100": 100.0, "questions": 2},
        "how": {"accuracy_x100": 0.0, "questions": 1},
    }


def test_lxmert_gives_the_soft_score_of_the_label() -> None:
    people = [["dog"] * 4 + ["cat"] * 2, ["yes"], ["3"] * 3]
    rows = questions(answers=people, answer=["dog", "yes", "3"], answer_type=["other", "yes/no", "number"])
    metrics, domains, _ = question_scores(["cat", "yes", "three"], rows, format="lxmert_vqa")
    assert metrics["accuracy"] == pytest.approx((0.6 + 0.3 + 0.9) / 3)
    assert domains["answers: number"] == {"accuracy_x100": pytest.approx(90.0), "questions": 1}


# -- choices and mixtures --------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*have no choices")
def test_only_questions_with_a_right_choice_are_counted() -> None:
    rows = choice_rows(choices=[["cat", "dog"], ["cat", "dog"], []], correct_choice=[1, 0, -1])
    metrics, _, _ = question_scores(["x"] * 3, rows, format="table", choices=["dog", "dog", ""])
    assert metrics["multiple_choice"] == 0.5 and metrics["accuracy"] == 0.0
    assert "multiple_choice" not in question_scores(["x"] * 3, rows, format="table")[0]
    hidden = choice_rows(answers=[[], ["dog"], ["cat"]], correct_choice=[-1, 1, 0])
    metrics, _, _ = question_scores(["x"] * 3, hidden, format="table", choices=["cat", "dog", "cat"])
    assert metrics["multiple_choice"] == 1.0  # the first is left out with its choice
    open_ended = questions(answers=TEN)
    assert "multiple_choice" not in question_scores(SAID, open_ended, format="vqa_v2", choices=[""] * 4)[0]


@pytest.mark.parametrize(
    ("split", "expected"),
    [("train", "mixture"), ("val", "daquar"), ("validation", "daquar"), ("test", "daquar"), ("train+val", "mixture")],
)
def test_a_mixture_is_scored_as_its_only_part_in_the_split(split: str, expected: str) -> None:
    parts = [{"format": "daquar"}, {"format": "captions", "splits": ["train"]}]
    assert scored_format({"format": "mixture", "parts": parts}, split) == expected
    assert scored_format({"format": "vqa_v2"}, split) == "vqa_v2"


def test_parts_may_call_splits_as_their_files_do() -> None:
    parts = [{"format": "gqa", "splits": ["testdev"]}, {"format": "vqa_v2", "splits": ["validation"]}]
    data = {"format": "mixture", "parts": parts}
    assert [scored_format(data, split) for split in ("test-dev", "val", "train")] == ["gqa", "vqa_v2", "mixture"]
