"""The figures of phrases found, each against the metric or a few lines of its own."""

import numpy as np
import pytest

from training.metrics.grounding.phrases import phrase_recall
from training.metrics.grounding.referents import referent_auc
from training.metrics.grounding.refexp import refexp_iou
from training.tasks.grounding_scores import FoundPhrase, Ranked, nearest, phrase_scores, predictions_of

LEFT, RIGHT, WHOLE, CORNER = [0, 0, 0.5, 1], [0.5, 0, 1, 1], [0, 0, 1, 1], [0.9, 0.9, 1, 1]
IDS = ["7", "8"]


def found(
    boxes: list, scores: list, true: list, *, text: str = "a dog", caption: str = "a dog", owner: int = 0, **more
) -> FoundPhrase:
    """A phrase whose regions were moved from where they are now by nothing."""
    ranked = Ranked(
        np.array(boxes, dtype=float).reshape(-1, 4), np.array(scores), np.array(boxes), more.pop("sure", 1.0)
    )
    phrase = {"start": caption.index(text), "end": caption.index(text) + len(text), "boxes": true, "kinds": ["other"]}
    return FoundPhrase.of(ranked, phrase | more, caption, owner=owner)


def phrases() -> list[FoundPhrase]:
    return [
        found([LEFT, RIGHT], [0.8, 0.1], [LEFT]),
        found([RIGHT, LEFT], [0.6, 0.4], [WHOLE, LEFT], owner=1),  # the whole image overlaps the best box most
        found([RIGHT, LEFT], [0.7, 0.2], [LEFT], text="dog", caption="a dog runs", owner=1),
        found([CORNER, LEFT], [0.7, 0.2], [LEFT]),
    ]


def test_expressions_are_the_phrases_that_are_whole_sentences() -> None:
    metrics, items, domains = phrase_scores(phrases(), IDS)
    best = refexp_iou([LEFT, RIGHT, CORNER], [LEFT, WHOLE, LEFT])
    assert {
        name: metrics[name] for name in ("accuracy_25", "accuracy_50", "accuracy_90", "mean_iou", "overall_iou")
    } == {name: best[name] for name in ("accuracy_25", "accuracy_50", "accuracy_90", "mean_iou", "overall_iou")}
    assert metrics["accuracy_50"] == pytest.approx(2 / 3) and metrics["mean_iou"] == pytest.approx(0.5)
    assert items["accuracy_50"] == {"ids": IDS, "values": [0.5, 1.0], "weights": [2, 1]}
    own = phrases()
    recall = phrase_recall([p.boxes for p in own], [p.true for p in own])
    assert metrics["recall_1"] == recall["recall_1"] == 0.5 and metrics["upper_bound"] == 1
    assert metrics["accuracy_50_x100"] == 100 * metrics["accuracy_50"]
    assert domains["other"]["phrases"] == 4 and "referent_auc_x100" not in domains["other"]
    assert "candidate_accuracy" not in metrics and "referent_auc" not in metrics
    without = phrase_scores([own[2]], IDS)[0]
    assert "accuracy_50" not in without and without["recall_1"] == 0


def test_candidates_are_chosen_by_the_regions_that_overlap_them() -> None:
    asked = [
        found([RIGHT, LEFT], [0.6, 0.4], [RIGHT], candidates=[LEFT, RIGHT]),
        found([RIGHT, LEFT], [0.6, 0.4], [LEFT], candidates=[LEFT, RIGHT], owner=1),
        found([], [], [LEFT], candidates=[LEFT, RIGHT], owner=1),
        found([LEFT], [1.0], [LEFT]),  # has none
    ]
    metrics, items, _ = phrase_scores(asked, IDS)
    assert metrics["candidate_accuracy"] == pytest.approx(1 / 3)
    assert items["candidate_accuracy"]["values"] == [1.0, 0.0] and items["candidate_accuracy"]["weights"] == [1, 2]
    rows = predictions_of(asked, IDS)
    assert [row.get("choice") for row in rows] == [RIGHT, RIGHT, [], None]
    assert [row["right"] for row in rows] == [True, False, False, True] and "referent" not in rows[0]


def test_phrases_without_a_referent_are_told_apart_and_count_nowhere_else() -> None:
    given = phrases()
    absent = [found([LEFT], [0.5], [], sure=sure) for sure in (0.2, 1.0, 0.4)]
    metrics, _, domains = phrase_scores([absent[0], *given, *absent[1:]], IDS)
    expected = referent_auc([0.2, 1, 1, 1, 1, 1, 0.4], [False, True, True, True, True, False, False])
    assert metrics["referent_auc"] == expected == pytest.approx(2.5 / 3)
    assert domains["other"]["referent_auc_x100"] == 100 * expected
    plain, *_ = phrase_scores(given, IDS)
    assert {name: metrics[name] for name in plain} == plain
    rows = predictions_of([absent[0], *given], IDS)
    assert [row["has_referent"] for row in rows] == [False, True, True, True, True]
    assert [row["right"] for row in rows] == [False, True, True, False, False] and rows[0]["referent"] == 0.2
    with pytest.raises(ValueError, match="no phrase of the split has a box to be found"):
        phrase_scores(absent, IDS)


def test_nearest_box() -> None:
    draw = np.random.default_rng(0)
    for _ in range(20):
        true = np.concatenate([(start := draw.random((3, 2)) / 2), start + 0.4], axis=1)
        box = true[1] + 0.01
        assert nearest(box.tolist(), true.tolist()) == true[1].tolist()
