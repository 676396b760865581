"""Retrieval of videos: the official figures, a slow twin with equal scores, and what is refused."""

import gzip
import json
import math
from typing import Any

import numpy as np
import pytest

from tests.shared_files import shared
from training.metrics.item_scores import item_scores
from training.metrics.video import video_retrieval

NAMES = {f"R{k}": f"r{k}_x100" for k in (1, 5, 10, 50)} | {
    "MedR": "median_rank",
    "MeanR": "mean_rank",
    "geometric_mean_R1-R5-R10": "geometric_mean_x100",
}


def test_every_figure_is_the_official_one() -> None:
    data = json.loads(gzip.decompress(shared("golden/metrics/video_retrieval.json.gz").read_bytes()))
    kinds = set()
    for case, expected in zip(data["inputs"]["cases"], data["expected"]["cases"], strict=True):
        kinds.add(case["kind"])
        for given in (case["queries_per_video"], None):
            found = video_retrieval(case["sims"], queries_per_video=given)
            for direction, official in expected.items():
                ours = {name: found[f"{direction}_{NAMES[name]}"] for name in official}
                assert ours == pytest.approx(official, abs=1e-6)
    assert kinds == {"float", "ties", "const"}


def slow_ranks(table: list[list[float]], owners: list[int]) -> tuple[list[int], list[float]]:
    """From 0: of each text the right video before equal ones, of each video the mean place of its best text."""
    by_text = [sum(other > row[owner] for other in row) for row, owner in zip(table, owners, strict=True)]
    by_video = []
    for video in range(len(table[0])):
        column = sorted((row[video] for row in table), reverse=True)
        own = [table[text][video] for text, owner in enumerate(owners) if owner == video]
        places = [[place for place, score in enumerate(column) if score == one] for one in own]
        by_video.append(min((sum(found) / len(found) for found in places), default=math.nan))
    return by_text, by_video


def test_it_equals_a_loop_for_unequal_numbers_of_texts() -> None:
    draw = np.random.default_rng(0)
    counts = [3, 0, 1, 5, 2, 9, 1]
    owners = np.repeat(np.arange(7), counts).tolist()
    table = draw.integers(0, 6, size=(len(owners), 7)).astype(float)
    found = video_retrieval(table, queries_per_video=counts)
    by_text, by_video = slow_ranks(table.tolist(), owners)
    assert found["per_item"]["t2v_rank"] == [rank + 1 for rank in by_text]
    assert found["per_item"]["v2t_rank"] == pytest.approx([rank + 1 for rank in by_video], nan_ok=True)
    there = [rank for rank in by_video if not math.isnan(rank)]
    assert found["v2t_r1"] == sum(rank == 0 for rank in there) / len(there)
    assert found["v2t_r5"] == sum(rank < 5 for rank in there) / len(there)
    assert found["t2v_r5"] == sum(rank < 5 for rank in by_text) / len(owners)
    assert found["t2v_median_rank"] == np.median(by_text) + 1
    shares = [found[f"t2v_r{k}"] for k in (1, 5, 10)]
    assert found["t2v_geometric_mean"] == pytest.approx(math.prod(shares) ** (1 / 3))
    items = item_scores(list("abcdefg"), found["per_item"]["t2v_r5"], owners=owners)
    assert items["weights"] == [3, 1, 5, 2, 9, 1] and items["ids"] == list("acdefg")
    assert np.average(items["values"], weights=items["weights"]) == pytest.approx(found["t2v_r5"], abs=1e-5)


@pytest.mark.parametrize(
    ("sims", "given", "message"),
    [
        ([[0.0, 1.0]] * 3, None, "3 texts are no whole number for each of 2 videos"),
        ([[0.0, 1.0]] * 3, [1, 1], "queries_per_video add up to 2, but there are 3 texts"),
        ([[0.0, 1.0]] * 3, [1, 1, 1], "queries_per_video must be a whole number, or one for each of 2 videos"),
        ([[0.0, 1.0]] * 3, 1.5, "queries_per_video must be a whole number"),
        ([[0.0, 1.0]] * 2, [3, -1], "queries_per_video must be a whole number, or one for each of 2 videos, 0 or more"),
        ([0.0, 1.0], None, r"sims have shape \(2,\)"),
        ([[]], None, r"sims have shape \(1, 0\)"),
        ([[0.0, float("nan")], [0.0, 1.0]], None, r"sims\[0, 1\] is NaN; was the model"),
    ],
)
def test_what_cannot_be_scored_is_refused(sims: Any, given: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        video_retrieval(sims, queries_per_video=given)
