"""DiDeMo's figures: the official ones, a slow twin, and what is refused."""

import gzip
import json
import random
from typing import Any

import pytest

from tests.shared_files import shared
from training.metrics.video import didemo
from training.metrics.video.didemo import SEGMENTS


def test_every_figure_is_the_official_one() -> None:
    data = json.loads(gzip.decompress(shared("golden/metrics/didemo.json.gz").read_bytes()))
    given, expected = data["inputs"], data["expected"]
    ranked = [[divmod(code, 10) for code in codes] for codes in given["ranked_segments"]]  # 10 * start + end
    found = didemo(ranked, given["times"])
    for name in ("rank1", "rank5", "miou"):
        assert found[name] == pytest.approx(expected[name], abs=1e-6)
        assert found[f"{name}_x100"] == pytest.approx(100 * expected[name], abs=1e-4)
    assert found["per_item"]["avg_rank"] == pytest.approx(expected["avg_rank"], abs=1e-6)
    assert found["per_item"]["miou"] == pytest.approx(expected["item_miou"], abs=1e-6)
    assert {len(times) for times in given["times"]} == {4, 7} and {tuple(own) for own in given["prior"]} == {*SEGMENTS}


def test_it_equals_a_loop() -> None:
    draw = random.Random(0)
    times = [[draw.choice(SEGMENTS) for _ in range(draw.randint(1, 7))] for _ in range(80)]
    ranked = [draw.sample(SEGMENTS, k=len(SEGMENTS)) for _ in times]
    found, ranks, overlaps = didemo(ranked, times), [], []
    for order, chosen in zip(ranked, times, strict=True):
        best = sorted(order.index(segment) + 1 for segment in chosen)[:3]
        ranks.append(sum(best) / len(best))
        pieces = [({*range(s, e + 1)}, {*range(order[0][0], order[0][1] + 1)}) for s, e in chosen]
        ious = sorted((len(own & first) / len(own | first) for own, first in pieces), reverse=True)[:3]
        overlaps.append(sum(ious) / len(ious))
    assert found["per_item"]["avg_rank"] == pytest.approx(ranks) and found["per_item"]["miou"] == pytest.approx(
        overlaps
    )
    assert found["rank5"] == sum(rank <= 5 for rank in ranks) / 80 and found["miou"] == pytest.approx(
        sum(overlaps) / 80
    )


@pytest.mark.parametrize(
    ("ranked", "times", "message"),
    [
        ([[[0, 0]]], [[[0, 1]]], r"ranked_segments\[0\] does not rank \[0, 1\], which people chose; rank all segments"),
        ([[[0, 0]]], [], "1 sentences have segments and 0 people's"),
        ([], [], "0 sentences have segments and 0 people's"),
        ([[[1, 0]]], [[[0, 0]]], r"ranked_segments\[0\] has the span \[1.0, 0.0\], which starts after it ends"),
        (
            [[[0, 0]], [[0, 2.5]]],
            [[[0, 0]]] * 2,
            r"ranked_segments\[1\] has the segment \[0.0, 2.5\]; give the numbers",
        ),
        ([[[0, 0]]], [[[0, 5000]]], r"times\[0\] has the segment \[0.0, 5000.0\]"),
        ([[[0, 0]]], [[[-1, 0]]], r"times\[0\] has the segment \[-1.0, 0.0\]"),
        ([[[0, 0]]], [[]], r"times\[0\] has no segment"),
        ([[0, 11]], [[[0, 0]]], r"ranked_segments\[0\] has spans of shape \(2,\)"),
    ],
)
def test_what_cannot_be_scored_is_refused(ranked: list[Any], times: list[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        didemo(ranked, times)
