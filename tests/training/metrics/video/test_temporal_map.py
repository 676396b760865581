"""QVHighlights' figures: the official ones, a slow twin on the real validation queries, and what is refused."""

import gzip
import json
import math
import random
from typing import Any

import numpy as np
import pytest

from tests.shared_files import shared
from training.metrics.item_scores import item_scores
from training.metrics.video import temporal_grounding_map

IOUS = [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95]
Window = list[float]


@pytest.fixture(scope="module")
def golden() -> Any:
    return json.loads(gzip.decompress(shared("golden/metrics/temporal_grounding_map.json.gz").read_bytes()))


@pytest.mark.filterwarnings("ignore:3 of 180 queries have another number of saliency scores")
def test_every_figure_is_the_official_one(golden: Any) -> None:
    given, expected = golden["inputs"], golden["expected"]
    random.Random(0).shuffle(given["predictions"])  # they are matched by their ids
    found = temporal_grounding_map(**given)
    assert found["metrics"] == expected["metrics"]
    assert found["ap_per_query"].keys() == expected["ap_per_query"].keys()
    for qid, official in expected["ap_per_query"].items():
        assert found["ap_per_query"][qid] == pytest.approx(official, abs=1e-6)
    brief, full = expected["metrics"]["brief"], expected["metrics"]["full"]
    assert (
        round(found["map_x100"], 2) == brief["MR-full-mAP"] and round(found["r1_85_x100"], 2) == full["MR-R1"]["0.85"]
    )
    assert round(found["map_middle_x100"], 2) == brief["MR-middle-mAP"]
    assert round(found["hl_map_very_good_x100"], 2) == brief["HL-min-VeryGood-mAP"]
    ours = item_scores(found["per_item"]["qid"], found["per_item"]["map"])
    assert round(100 * np.mean(ours["values"]), 2) == brief["MR-full-mAP"] and len(ours["ids"]) == 180


def overlap(one: Window, other: Window) -> float:
    shared_seconds = max(0.0, min(one[1], other[1]) - max(one[0], other[0]))
    return shared_seconds / (one[1] - one[0] + other[1] - other[0] - shared_seconds)


def slow_ap(windows: list[Window], true: list[Window], *, iou: float) -> float:
    """Average precision of one query at one IoU, one window at a time."""
    taken: set[int] = set()
    curve, right = [(0.0, 1.0)], 0
    for number, window in enumerate(sorted(windows[:10], key=lambda own: -own[2]), start=1):
        fitting = [i for i, one in enumerate(true) if i not in taken and overlap(window, one) >= iou]
        if fitting:
            taken.add(max(fitting, key=lambda i: (overlap(window, true[i]), i)))
            right += 1
        curve.append((right / len(true), right / number))
    total = 0.0
    for place in range(1, len(curve)):
        best_later = max(precision for _, precision in curve[place:])
        total += (curve[place][0] - curve[place - 1][0]) * best_later
    return total


def real_queries() -> list[dict[str, Any]]:
    path = shared("data/official_formats/qvhighlights/highlight_val_release.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


def drawn_predictions(truth: list[dict[str, Any]], seed: int) -> list[dict[str, Any]]:
    """Up to twelve windows a query, near the true ones or anywhere, with scores of which some are equal."""
    draw, found = random.Random(seed), []
    for record in truth:
        windows = []
        for _ in range(draw.randint(0, 12)):
            start, end = draw.choice(record["relevant_windows"]) if draw.random() < 0.6 else (0, record["duration"])
            ends = sorted(min(max(0.0, one + draw.randint(-8, 8)), record["duration"]) for one in (start, end))
            windows.append([*ends, draw.randint(0, 5) / 5])
        found.append({"qid": record["qid"], "pred_relevant_windows": [own for own in windows if own[1] > own[0]]})
    return found


def test_it_equals_a_loop_on_the_real_validation_file() -> None:
    truth = real_queries()
    predictions = drawn_predictions(truth, 0)
    found = temporal_grounding_map(predictions, truth)
    given = [(own["pred_relevant_windows"], record) for own, record in zip(predictions, truth, strict=True)]
    for name, (low, high) in {"full": (0, 150), "short": (0, 10), "middle": (10, 30), "long": (30, 150)}.items():
        kept = [
            (windows, own)
            for windows, record in given
            if (own := [one for one in record["relevant_windows"] if low < one[1] - one[0] <= high])
        ]
        slow = np.array([[slow_ap(*pair, iou=iou) for iou in IOUS] for pair in kept])
        assert found["map" if name == "full" else f"map_{name}"] == pytest.approx(slow.mean(), abs=1e-9)
        assert found["metrics"][name]["MR-mAP"]["0.7"] == pytest.approx(100 * slow[:, 4].mean(), abs=0.006)
        if name == "full":
            assert list(found["ap_per_query"].values()) == [pytest.approx(row, abs=1e-9) for row in slow.tolist()]
            assert found["per_item"]["map"] == pytest.approx(slow.mean(axis=1))
    first = [
        max(overlap(windows[0], one) for one in record["relevant_windows"]) if windows else 0.0
        for windows, record in given
    ]
    assert found["r1_70"] == np.mean(np.array(first) >= 0.7) and 0.05 < found["r1_70"] < found["r1_50"] < 0.8
    assert "HL-min-Fair" not in found["metrics"] and "hit1_fair" not in found


TRUTH = {
    "qid": 1,
    "duration": 20,
    "relevant_windows": [[2, 8]],
    "relevant_clip_ids": [1, 2, 3],
    "saliency_scores": [[4, 0, 2], [3, 3, 3], [2, 1, 0]],
}
FOUND = {"qid": 1, "pred_relevant_windows": [[2, 8, 0.5]], "pred_saliency_scores": [0.0] * 10}


def test_quirks_of_the_official_code() -> None:
    many = [[12.0, 14.0, 0.9]] * 10 + [[2.0, 8.0, 1.0]]  # the eleventh is not looked at
    assert temporal_grounding_map([{"qid": 1, "pred_relevant_windows": many}], [TRUTH])["map"] == 0
    unsorted = [[12.0, 14.0, 0.1], [2.0, 8.0, 0.9]]  # ordered by score for mAP, as listed for R@1
    found = temporal_grounding_map([{"qid": 1, "pred_relevant_windows": unsorted}], [TRUTH])
    assert (found["map"], found["r1_50"]) == (1, 0)
    assert math.isnan(found["map_long"]) and math.isnan(found["metrics"]["brief"]["MR-long-mAP"])
    assert found["metrics"]["brief"]["MR-short-mAP"] == 100
    missed = temporal_grounding_map([{"qid": 1, "pred_relevant_windows": []}], [TRUTH])
    assert (missed["map"], missed["r1_50"]) == (0, 0)
    rated = temporal_grounding_map([{"qid": 1, "pred_saliency_scores": [0.0] * 10}], [TRUTH])
    assert rated["metrics"]["brief"].keys() == {
        f"HL-min-{name}-{key}" for name in ("Fair", "Good", "VeryGood") for key in ("mAP", "Hit1")
    }


@pytest.mark.parametrize(
    ("found", "truth", "message"),
    [
        ({"qid": 2}, {}, "1 queries have no prediction: 1; 1 predictions have no query: 2"),
        ({"pred_relevant_windows": [[8, 2, 0.5]]}, {}, "query 1 has the span .8.0, 2.0, 0.5., which starts after"),
        ({"pred_relevant_windows": [[2, 30, 0.5]]}, {}, "query 1 has the span 2 to 30, outside of its clip of 20 s"),
        ({"pred_relevant_windows": [[2, 8]]}, {}, r"query 1 has spans of shape \(1, 2\); give a list of spans, 3"),
        ({"pred_relevant_windows": [[0.1, 0.4, 0.5]]}, {}, "predicted spans end at 0.4 at the latest, but true ones"),
        ({"pred_relevant_windows": None}, {}, "the prediction of the query 1 has no list pred_relevant_windows"),
        ({}, {"relevant_windows": [[2, 21]]}, "relevant_windows of the query 1 has the span 2 to 21, outside of its"),
        ({}, {"relevant_windows": [[8, 2]]}, "relevant_windows of the query 1 has the span .8.0, 2.0., which starts"),
        ({}, {"relevant_windows": []}, "the query 1 has no relevant_windows; take a file with the truth"),
        ({}, {"duration": None}, "the query 1 has the duration None; give seconds"),
        ({}, {"duration": 1e12}, "the query 1 has the duration 1000000000000.0; give seconds, above 0 and up to 86400"),
    ],
)  # fmt: skip
def test_what_cannot_be_scored_is_refused(found: dict[str, Any], truth: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        temporal_grounding_map([FOUND | found], [TRUTH | truth])


def test_predictions_without_anything_are_refused() -> None:
    with pytest.raises(ValueError, match="predictions have neither pred_relevant_windows nor pred_saliency_scores"):
        temporal_grounding_map([{"qid": 1}], [TRUTH])
