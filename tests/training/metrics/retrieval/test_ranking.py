"""Average precision and tie rules from counts, against exact fractions and every order of the equals."""

import itertools
import json
import math
import statistics

import numpy as np
import pytest

from tests.shared_files import shared
from training.metrics.retrieval.ranking import TIES, RankedPairs, average_precision, average_precisions, ranking_scores
from training.metrics.vqa.exact_match import mean


def test_average_precision_is_the_exact_fraction() -> None:
    data = json.loads(shared("golden/metrics/retrieval_map.json").read_bytes())
    values = []
    for item in data["inputs"]["items"]:
        found = {place for place, correct in enumerate(item["rel"]) if correct}
        missing = {-1 - number for number in range(item["num_relevant"] - len(found))}
        values.append(average_precision(range(len(item["rel"])), found | missing))
    expected = [math.nan if value is None else value for value in data["expected"]["ap"]]
    assert values == pytest.approx(expected, abs=1e-15, nan_ok=True)
    assert mean(values) == pytest.approx(data["expected"]["map"], abs=1e-15)


def test_average_precision_by_hand() -> None:
    assert average_precision("abcd", {"b", "c"}) == pytest.approx(7 / 12, abs=1e-15)
    assert average_precision([10, 11, 12, 13, 14, 15], [10, 12, 15]) == pytest.approx(13 / 18, abs=1e-15)
    assert average_precision("ab", {"b", "z"}) == 0.25  # z is nowhere: it adds 0
    assert average_precision([], {"a"}) == 0
    assert math.isnan(average_precision("ab", set()))
    pairs = RankedPairs(np.array([1, 1, 0, 0, 1]), np.array([0, 5, 1, 2, 2]), np.array([1, 6, 2, 3, 3]))
    assert average_precisions(pairs) == pytest.approx([7 / 12, 13 / 18], abs=1e-15)
    with pytest.raises(ValueError, match="item 'a' is twice in the ranking .again at place 3."):
        average_precision("aba", {"b"})


def test_deep_ties_keep_their_precision() -> None:
    """150,000 better items, then 2 correct and 48 wrong ones of one score, whose places are added up one by one."""
    pairs = RankedPairs(np.array([0, 0]), np.array([150_000] * 2), np.array([150_050] * 2))
    places = range(1, 51)
    total = math.fsum((1 + (place - 1) / 49) / (150_000 + place) for place in places) / 50
    assert average_precisions(pairs)[0] == pytest.approx(total, abs=1e-12)


@pytest.mark.parametrize(
    ("better", "right", "wrong"), [(0, 1, 1), (0, 2, 3), (3, 1, 4), (4, 3, 2), (9, 1, 3), (12, 2, 2)]
)
def test_expectations_are_means_over_every_order(better: int, right: int, wrong: int) -> None:
    pairs = RankedPairs(np.full(right, 2), np.full(right, better), np.full(right, better + right + wrong))
    firsts, precisions = [], []
    for places in itertools.combinations(range(better + 1, better + right + wrong + 1), right):
        firsts.append(places[0])
        precisions.append(sum(number / place for number, place in enumerate(places, start=1)) / right)
    scores, per_query = ranking_scores(pairs, num_queries=4)
    for name in ("r1", "r5", "r10", "map"):  # of one query they are the means
        assert per_query[name] == pytest.approx([math.nan, math.nan, scores[name], math.nan], nan_ok=True)
    assert per_query["rank"] == pytest.approx([math.nan, math.nan, statistics.fmean(firsts), math.nan], nan_ok=True)
    assert scores["map"] == pytest.approx(statistics.fmean(precisions), abs=1e-14)
    assert scores["mean_rank"] == scores["median_rank"] == per_query["rank"][2]
    for k in (1, 5, 10):
        assert scores[f"r{k}"] == pytest.approx(statistics.fmean(first <= k for first in firsts), abs=1e-14)


def test_each_rule_by_hand() -> None:
    """One better item, then two correct and two wrong ones of one score: places 2 to 5."""
    pairs = RankedPairs(np.zeros(2, int), np.array([1, 1]), np.array([5, 5]))
    found = {ties: ranking_scores(pairs, num_queries=1, ties=ties, recall_at=(1, 2, 3)) for ties in TIES}
    ranks = {ties: per_query["rank"] for ties, (_, per_query) in found.items()}
    assert ranks == {"expected": [2 + 2 / 3], "optimistic": [2], "pessimistic": [4], "average": [3.5]}
    recalls = {ties: [scores[f"r{k}"] for k in (1, 2, 3)] for ties, (scores, _) in found.items()}
    assert recalls["expected"] == pytest.approx([0, 1 / 2, 5 / 6])
    # frozen-in-time asks for a rank from 0 below K: 2.5 is below 3
    assert (recalls["optimistic"], recalls["pessimistic"], recalls["average"]) == ([0, 1, 1], [0, 0, 0], [0, 0, 1])
    precision = {ties: scores["map"] for ties, (scores, _) in found.items()}
    assert precision["optimistic"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert precision["pessimistic"] == pytest.approx((1 / 4 + 2 / 5) / 2)
    assert precision["average"] == precision["expected"]
    with pytest.raises(ValueError, match="ties is 'luck'"):
        ranking_scores(pairs, num_queries=1, ties="luck")
