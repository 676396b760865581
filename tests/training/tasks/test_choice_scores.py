"""Figures of chosen candidates: VCR's, dialogue's, those of each item, hidden labels and ids that do not match."""

from typing import Any

import pytest

from training.metrics.video.answers import nextqa_mc
from training.tasks.choice_scores import item_figures, split_figures


def row(group: str, kind: str, label: int, **more: Any) -> dict[str, Any]:
    return {"item_id": f"{group}-{kind}", "group": group, "kind": kind, "label": label, "relevance": [], **more}


QUESTIONS = [row("a", "answer", 0), row("a", "rationale", 1), row("b", "rationale", 2), row("b", "answer", 1)]
SCORES = [[2.0, 1.0, 0.0], [0.0, 1.0, 3.0], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0]]  # a: answer alone, b: both


def test_questions_are_scored_as_vcr_is() -> None:
    figures, kinds = split_figures(QUESTIONS, SCORES)
    assert (figures["q_to_a"], figures["qa_to_r"], figures["q_to_ar_x100"]) == (1.0, 0.5, 50.0)
    assert figures["choice_accuracy"] == 0.75 and "mrr" not in figures
    assert kinds["rationale"] == {"choice_accuracy_x100": 50.0, "items": 2}
    items = item_figures(QUESTIONS, SCORES)
    assert items["q_to_ar"] == {"ids": ["a", "b"], "values": [0.0, 1.0]}
    assert items["choice_accuracy"] == {"ids": ["a", "b"], "values": [0.5, 1.0], "weights": [2, 2]}


def test_rounds_are_scored_as_visdial_is() -> None:
    rows = [row("7", "round", 1, relevance=[0.5, 1.0]), row("7", "round", 0), row("8", "round", -1)]
    scores = [[0.0, 1.0], [0.0, 1.0, 0.5], [0.0, 1.0]]
    figures, kinds = split_figures(rows, scores)
    assert figures["mrr"] == pytest.approx((1 + 1 / 3) / 2) and figures["mean_rank"] == 2 and figures["ndcg"] == 1
    assert figures["answer_r1_x100"] == 50 and "mean_rank_x100" not in figures and kinds == {}
    items = item_figures(rows, scores)["mrr"]
    assert items["ids"] == ["7"] and items["values"][0] == pytest.approx(2 / 3, abs=1e-6)


def test_a_rated_round_without_a_relevant_candidate_is_told_and_left_out() -> None:
    rows = [row("7", "round", 1, relevance=[0.0, 0.0]), row("8", "round", 0, relevance=[1.0, 0.0])]
    with pytest.warns(UserWarning, match="1 of 2 rated rounds have no relevant candidate"):
        assert split_figures(rows, [[0.0, 1.0], [2.0, 1.0]])[0]["ndcg"] == 1.0


def test_hidden_labels_have_no_figures_and_ids_must_match() -> None:
    assert split_figures([row("a", "answer", -1)], [[1.0, 0.0]]) == ({}, {})
    assert item_figures([row("a", "answer", -1)], [[1.0, 0.0]]) == {}
    with pytest.raises(ValueError, match="the question 'a' has no item of its rationales: the ids of both do not"):
        split_figures(QUESTIONS[:1], SCORES[:1])
    with pytest.raises(ValueError, match="the question 'a' has two items of its answers"):
        split_figures([QUESTIONS[0], QUESTIONS[0]], SCORES[:2])


def test_questions_with_types_are_scored_by_type_and_not_as_vcr() -> None:
    types = ["CW", "CH", "TP", "TN", "DL"]
    rows = [row(str(i), "answer", 1, question_type=kind) for i, kind in enumerate(types)]
    scores = [[0.0, 1.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [1.0, 0.0]]
    figures, domains = split_figures(rows, scores)
    assert (figures["acc_c"], figures["acc_t_x100"], figures["acc_d"]) == (0.5, 100.0, 0.0)
    assert figures["choice_accuracy"] == 0.6 and "q_to_a" not in figures
    assert domains["questions: CW"] == {"choice_accuracy_x100": 100.0, "items": 1} and len(domains) == 5
    official = nextqa_mc(
        [{"video": row["group"], "qid": 0, "type": row["question_type"], "answer": row["label"]} for row in rows],
        {f"{row['group']}_0": int(own[1] > own[0]) for row, own in zip(rows, scores, strict=True)},
    )
    assert {name: figures[name] for name in ("acc_c", "acc_t", "acc_d")} == {
        name: official[name] for name in ("acc_c", "acc_t", "acc_d")
    }
    assert item_figures(rows, scores).keys() == {"choice_accuracy"}
    others = [own | {"question_type": "transition"} for own in rows]
    figures, domains = split_figures(others, scores)
    assert "acc_c" not in figures and domains == {"questions: transition": {"choice_accuracy_x100": 60.0, "items": 5}}
    assert split_figures([own | {"label": -1} for own in rows], scores) == ({}, {})
