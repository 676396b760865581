"""Highlights: slow twins on the real validation queries, quirks, and what is refused.

The official figures of real predictions are in `test_temporal_map.py`.
"""

import json
import random
import warnings
from typing import Any

import numpy as np
import pytest

from tests.shared_files import shared
from training.metrics.video.highlights import clip_ratings, curve_precision, highlight_scores

LEAST = {"fair": 2, "good": 3, "very_good": 4}
TRUTH = {"qid": 1, "duration": 9, "relevant_clip_ids": [1, 2], "saliency_scores": [[4, 0, 2], [3, 3, 3]]}


def slow_ap(scores: list[float], positive: list[bool]) -> float:
    """The mean, over the recalls that thresholds reach, of the best precision from there on."""
    points = []  # recall and precision of every threshold, the highest first
    for least in sorted(set(scores), reverse=True):
        chosen = [one for score, one in zip(scores, positive, strict=True) if score >= least]
        points.append((sum(chosen), sum(chosen) / len(chosen)))
    steps = []
    for place, (found, _) in enumerate(points):
        if found > (points[place - 1][0] if place else 0):
            steps.append(max(precision for _, precision in points[place:]))
    return sum(steps) / len(steps) if steps else 0.0


def test_it_equals_loops_on_the_real_validation_file() -> None:
    path = shared("data/official_formats/qvhighlights/highlight_val_release.jsonl")
    truth = [json.loads(line) for line in path.read_text().splitlines()]
    draw, predictions = random.Random(0), []
    for record in truth:
        count = int(record["duration"] / 2)
        near = [clip in record["relevant_clip_ids"] for clip in range(count)]
        predictions.append({"pred_saliency_scores": [draw.randint(0, 9) + 4.0 * own for own in near]})
    found = highlight_scores(predictions, truth)
    for name, least in LEAST.items():
        precisions, hits = [], []
        for record, own in zip(truth, predictions, strict=True):
            scores = own["pred_saliency_scores"]
            rated = [[0, 0, 0] for _ in scores]
            for clip, ratings in zip(record["relevant_clip_ids"], record["saliency_scores"], strict=True):
                rated[clip] = ratings
            people = [slow_ap(scores, [ratings[person] >= least for ratings in rated]) for person in range(3)]
            precisions.append(sum(people) / 3)
            hits.append(float(max(rated[scores.index(max(scores))]) >= least))
        assert found[f"hl_map_{name}"] == pytest.approx(precisions, abs=1e-9)
        assert found[f"hit1_{name}"] == hits and 0 < sum(hits) < len(hits)


def test_clips_with_equal_scores_are_one_point() -> None:
    scores = np.array([[0.5, 0.5, 0.1, 0.1]])
    assert curve_precision(scores, np.array([[[True], [False], [True], [False]]])).tolist() == [[0.5]]
    assert curve_precision(scores, np.ones((1, 4, 1), bool)).tolist() == [[1]]
    assert curve_precision(scores, np.zeros((1, 4, 1), bool)).tolist() == [[0]]


def test_scores_that_are_lacking_are_0_as_officially() -> None:
    short, exact = {"pred_saliency_scores": [-3.0, -1.0]}, {"pred_saliency_scores": [-3.0, -1.0, 0.0, 0.0]}
    with pytest.warns(
        UserWarning, match=r"1 of 1 queries have another number of saliency scores than clips of 2 s \(the"
    ):
        found = highlight_scores([short], [TRUTH])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        expected = highlight_scores([exact], [TRUTH])
    assert {k: v for k, v in found.items() if "map" in k} == {k: v for k, v in expected.items() if "map" in k}
    assert (found["hit1_fair"], expected["hit1_fair"]) == ([1.0], [1.0])  # clip 1, and clip 2
    with pytest.warns(UserWarning, match="another number"):
        beyond = highlight_scores([{"pred_saliency_scores": [0.0, 1, 0, 0, 0, 0, 9]}], [TRUTH])
    assert beyond["hit1_fair"] == [0.0] and beyond["hl_map_fair"] == pytest.approx([(0.75 + 0.25 + 0.75) / 3])


def test_ratings_of_all_clips() -> None:
    assert clip_ratings(TRUTH, "the query 1").tolist() == [[0, 0, 0], [4, 0, 2], [3, 3, 3], [0, 0, 0]]
    assert clip_ratings(TRUTH | {"relevant_clip_ids": [], "saliency_scores": []}, "it").tolist() == [[0, 0, 0]] * 4


@pytest.mark.parametrize(
    ("found", "truth", "message"),
    [
        ({"pred_saliency_scores": None}, {}, "the prediction of the query 1 has no pred_saliency_scores"),
        ({"pred_saliency_scores": []}, {}, "pred_saliency_scores of the query 1 must be finite numbers"),
        ({"pred_saliency_scores": [0.0, float("nan"), 0, 0]}, {}, "of the query 1 must be finite numbers"),
        (
            {},
            {"relevant_clip_ids": [1, 4]},
            "the query 1 rates the clip 4, outside of its video of 9 s, which has 4 clips",
        ),
        ({}, {"relevant_clip_ids": [1, -1]}, "the query 1 rates the clip -1, outside"),
        ({}, {"relevant_clip_ids": [1, 1.5]}, "relevant_clip_ids of the query 1 must be a list of whole numbers"),
        ({}, {"saliency_scores": [[1, 2], [1, 2]]}, "must be three people's ratings 0..4 of each of 2 clips"),
        ({}, {"saliency_scores": [[1, 2, 3], [1, 2]]}, "must be three people's ratings 0..4 of each of 2 clips"),
        ({}, {"saliency_scores": [[1, 2, 3], [1, 2, 5]]}, "must be three people's ratings 0..4"),
        ({}, {"saliency_scores": None}, "the query 1 has no saliency_scores; take a file with the truth"),
        ({}, {"duration": 0}, "the query 1 has the duration 0; give seconds, above 0"),
    ],
)
def test_what_cannot_be_scored_is_refused(found: dict[str, Any], truth: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        highlight_scores([{"pred_saliency_scores": [0.0] * 4} | found], [TRUTH | truth])
