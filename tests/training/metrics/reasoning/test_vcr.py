"""VCR's figures: the official ones, a slow twin, and what is refused."""

import gzip
import json
import random

import pytest

from tests.shared_files import shared
from training.metrics.reasoning import vcr


def test_every_figure_is_the_official_one() -> None:
    data = json.loads(gzip.decompress(shared("golden/metrics/vcr.json.gz").read_bytes()))
    expected, found = data["expected"], vcr(**data["inputs"])
    assert found["q_to_a"] == pytest.approx(expected["Q->A"], abs=1e-6)
    assert found["qa_to_r"] == pytest.approx(expected["QA->R"], abs=1e-6)
    assert found["q_to_ar"] == pytest.approx(expected["Q->AR"], abs=1e-6)
    assert found["q_to_ar_x100"] == pytest.approx(100 * expected["Q->AR"], abs=1e-6)
    assert found["per_item"]["q_to_a"] == expected["answer_hits"]
    assert found["per_item"]["q_to_ar"] == expected["joint_hits"]


def test_it_equals_a_loop() -> None:
    draw = random.Random(0)
    scores = [[[draw.randrange(3) for _ in range(4)] for _ in range(40)] for _ in range(2)]
    labels = [[draw.randrange(4) for _ in range(40)] for _ in range(2)]
    pairs = zip(scores, labels, strict=True)
    hits = [[row.index(max(row)) == label for row, label in zip(*part, strict=True)] for part in pairs]
    found = vcr(*scores, *labels)
    assert found["q_to_a"] == sum(hits[0]) / 40 and found["qa_to_r"] == sum(hits[1]) / 40
    assert found["q_to_ar"] == sum(a and b for a, b in zip(*hits, strict=True)) / 40


def test_what_cannot_be_scored_is_refused() -> None:
    good = [[0.0, 1.0]]
    with pytest.raises(ValueError, match="answer label of question 0 is -1, which names none of its 2 answers"):
        vcr(good, good, [-1], [0])
    with pytest.raises(ValueError, match="rationale label of question 0 is 2"):
        vcr(good, good, [0], [2])
    with pytest.raises(ValueError, match="1 questions have scores of answers and 2 of rationales"):
        vcr(good, good * 2, [0], [0, 1])
    with pytest.raises(ValueError, match="1 rows of answer scores and 2 labels"):
        vcr(good, good, [0, 1], [0])
    with pytest.raises(ValueError, match="scores of answers must be rows of numbers, all of one length"):
        vcr([[0.0, 1.0], [1.0]], good * 2, [0, 0], [0, 0])
    with pytest.raises(ValueError, match="scores of rationales of item 0 are not all finite"):
        vcr(good, [[float("nan"), 1.0]], [0], [0])
    with pytest.raises(ValueError, match=r"have shape \(0,\), but must be"):
        vcr([], [], [], [])
