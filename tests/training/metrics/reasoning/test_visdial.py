"""Visual dialogue's figures: the official ones, slow twins, ties, and what is refused."""

import gzip
import json
import math
import random
from typing import Any

import numpy as np
import pytest

from tests.shared_files import shared
from training.metrics.reasoning import visdial, visdial_ndcg


@pytest.fixture(scope="module")
def golden() -> Any:
    return json.loads(gzip.decompress(shared("golden/metrics/visdial.json.gz").read_bytes()))


def test_every_figure_is_the_official_one(golden: Any) -> None:
    given, expected = golden["inputs"], golden["expected"]
    found = visdial(**{name: given[name] for name in ("scores", "gt_index", "ndcg_scores", "ndcg_relevance")})
    sparse = expected["sparse"]
    for ours, theirs in (("recall_1", "r@1"), ("recall_5", "r@5"), ("recall_10", "r@10"), ("mrr", "mrr")):
        assert found[ours] == pytest.approx(sparse[theirs], abs=1e-6)
    assert found["mean_rank"] == pytest.approx(sparse["mean"], abs=1e-5)  # float32 of about 28
    assert found["per_item"]["rank"] == expected["gt_ranks"]
    assert found["ndcg"] == pytest.approx(expected["ndcg"], abs=1e-6)
    assert found["per_item"]["ndcg"] == pytest.approx(expected["ndcg_per_item"], abs=1e-6)
    small = [visdial_ndcg(case["scores"], case["relevance"])["ndcg"] for case in given["small"]]
    assert small == pytest.approx(expected["small_ndcg"], abs=1e-6)


def test_no_relevance_at_all_is_no_number() -> None:
    found = visdial_ndcg([[1.0, 2.0], [2.0, 1.0]], [[0.0, 0.0], [1.0, 0.0]])
    assert math.isnan(found["ndcg"]) and math.isnan(found["per_item"]["ndcg"][0]) and found["per_item"]["ndcg"][1] == 1


def slow_ndcg(scores: list[float], relevance: list[float]) -> float:
    count = sum(value != 0 for value in relevance)
    order = sorted(range(len(scores)), key=lambda place: -scores[place])
    gains = [sum(v / math.log2(i + 2) for i, v in enumerate(values[:count])) for values in (
        [relevance[place] for place in order], sorted(relevance, reverse=True)
    )]  # fmt: skip
    return gains[0] / gains[1]


def test_they_equal_loops() -> None:
    draw = random.Random(1)
    scores = [[draw.randrange(5) for _ in range(9)] for _ in range(50)]
    right = [draw.randrange(9) for _ in range(50)]
    relevance = [[draw.choice((0, 0, 0.2, 1.0)) for _ in range(8)] + [0.4] for _ in range(50)]
    found = visdial(scores, right, ndcg_scores=scores, ndcg_relevance=relevance, at=[2])
    ranks = [
        1 + sum(other > row[place] or (other == row[place] and i < place) for i, other in enumerate(row))
        for row, place in zip(scores, right, strict=True)
    ]
    assert found["per_item"]["rank"] == ranks and found["mean_rank"] == sum(ranks) / 50
    assert found["mrr"] == pytest.approx(sum(1 / rank for rank in ranks) / 50)
    assert found["recall_2_x100"] == 2 * sum(rank <= 2 for rank in ranks)
    slow = [slow_ndcg(*pair) for pair in zip(scores, relevance, strict=True)]
    assert found["per_item"]["ndcg"] == pytest.approx(slow) and found["ndcg"] == pytest.approx(np.mean(slow))


def test_dialogues_of_rounds_are_scored_round_by_round() -> None:
    scores = [[[0.0, 1.0], [3.0, 1.0]], [[0.0, 1.0], [0.0, 1.0]]]
    assert visdial(scores, [[0, 0], [1, 1]])["per_item"]["rank"] == [2, 1, 1, 1]


def test_what_cannot_be_scored_is_refused() -> None:
    with pytest.raises(ValueError, match="right answer of round 1 is number -1, but there are 2 candidates"):
        visdial([[0.0, 1.0]] * 2, [0, -1])
    with pytest.raises(ValueError, match="1 rounds have scores and 2 a right answer"):
        visdial([[0.0, 1.0]], [0, 1])
    with pytest.raises(ValueError, match="scores of rounds of item 0 are not all finite"):
        visdial([[0.0, float("inf")]], [0])
    with pytest.raises(ValueError, match=r"scores have shape \(1, 2\), relevances \(1, 3\)"):
        visdial_ndcg([[0.0, 1.0]], [[0.0, 1.0, 0.0]])
    with pytest.raises(ValueError, match="relevances must be in 0..1"):
        visdial_ndcg([[0.0, 1.0]], [[0.0, 2.0]])
