"""Diversity measures against both reference implementations, slow twins, and captions that are all alike or empty."""

import gzip
import json
import math
from typing import Any

import numpy as np
import pytest

from tests.shared_files import shared
from training.metrics.captioning.diversity import (
    caption_diversity,
    cider_matrices,
    distinct_ngrams,
    global_distinct_ngrams,
    lsa,
    mean_bleu,
    self_cider,
)
from training.metrics.captioning.scores import caption_scores

ROUNDING = 1e-6  # square roots of eigenvalues near 1e-16
SAMPLES = [["a dog runs", "the brown dog", "a dog"], ["two cats", "two cats asleep", "a mat"]]
REFERENCES = [["a dog runs fast", "a brown dog"], ["two cats on a mat"]]


def golden() -> Any:
    return json.loads(gzip.decompress(shared("golden/metrics/caption_diversity.json.gz").read_bytes()))


def columns(rows: Any) -> tuple[list[list[str]], list[list[str]]]:
    return [row["captions"] for row in rows], [row["references"] for row in rows]


def test_raw_captions_score_as_the_reference() -> None:
    data = golden()
    expected, scores = data["expected"]["ruotianluo"], caption_diversity(*columns(data["inputs"]["images"]))
    names = {"Div1": "div_1", "Div2": "div_2", "self_cider": "self_cider", "gDiv1": "distinct_words"}
    names |= {f"mBLeu_{n}": f"mbleu_{n}" for n in (1, 2, 3, 4)}
    for theirs, ours in names.items():
        assert scores[ours] == pytest.approx(expected["overall"][theirs], abs=ROUNDING), theirs
    for theirs, ours in {"div_1": "div_1", "div_2": "div_2", "mBleu_2": "mbleu_2", "self_cider": "self_cider"}.items():
        values = [row[theirs] for row in expected["per_image"]]
        assert scores["per_item"][ours] == pytest.approx(values, abs=ROUNDING), theirs


def test_parts_score_as_the_reference() -> None:
    data = golden()
    captions, references = columns(data["inputs"]["tokenised"])
    expected = data["expected"]["ruotianluo"]
    assert global_distinct_ngrams(captions, 1) == expected["overall"]["gDiv1"]
    assert global_distinct_ngrams(captions, 2) == pytest.approx(expected["global_div_2"], abs=1e-12)
    for matrix, row in zip(cider_matrices(captions, references), expected["per_image"], strict=True):
        assert matrix == pytest.approx(np.array(row["self_cider_mat"]), abs=1e-9)


def test_the_other_reference_is_met_too() -> None:
    data = golden()
    captions, references = columns(data["inputs"]["tokenised"])
    expected = data["expected"]["qingzwang"]
    found = self_cider(captions, references, similarity="cider_d")
    assert found == pytest.approx([row["self_cider"] for row in expected["per_image"]], abs=ROUNDING)
    assert lsa(captions) == pytest.approx([row["lsa"] for row in expected["per_image"]], abs=ROUNDING)
    per_image = np.array(mean_bleu(captions)[1])  # (4, images)
    theirs = np.array([row["mbleu"] for row in expected["per_image"]])
    assert np.allclose(per_image.T, theirs, rtol=0, atol=1e-9)
    assert per_image.mean(axis=1) == pytest.approx(expected["mean_mbleu"], abs=1e-9)


def test_oracle_is_the_best_of_each_image() -> None:
    scores = caption_diversity(SAMPLES, REFERENCES)
    columns_of = [caption_scores([image[j] for image in SAMPLES], REFERENCES)["per_item"]["cider_d"] for j in range(3)]
    best, mean = np.max(columns_of, axis=0), np.mean(columns_of, axis=0)
    assert scores["per_item"]["oracle_cider"] == pytest.approx(best)
    assert scores["oracle_cider_x100"] == pytest.approx(100 * best.mean())
    assert scores["sample_cider"] == pytest.approx(mean.mean()) and scores["sample_cider"] < scores["oracle_cider"]


def test_by_hand() -> None:
    assert distinct_ngrams(SAMPLES, 1) == pytest.approx([5 / 8, 5 / 7], abs=1e-6)
    assert distinct_ngrams(SAMPLES, 3) == pytest.approx([2 / 8, 1 / 7], abs=1e-6)
    assert global_distinct_ngrams(SAMPLES, 1) == 9
    alike = [["a dog runs fast"] * 4, ["two cats on mats"] * 4]
    assert self_cider(alike, alike) == pytest.approx([0, 0], abs=ROUNDING)
    assert mean_bleu(alike)[0] == pytest.approx([1, 1, 1, 1])
    apart = [["red fox runs off", "blue jay sings now"], ["one two three four", "five six seven eight"]]
    assert self_cider(apart, apart) == pytest.approx([1, 1]) and lsa(apart) == pytest.approx([1, 1])
    # two captions of CIDEr s to each other have the eigenvalues 1 + s and 1 - s
    half = [["red fox runs off", "red fox sleeps well"], ["a b c d", "e f g h"]]
    s = cider_matrices(half, half)[0][0, 1] / 10
    share = math.sqrt(1 + s) / (math.sqrt(1 + s) + math.sqrt(1 - s))
    assert 0.2 < s < 0.8 and self_cider(half, half)[0] == pytest.approx(-math.log2(share))


def test_captions_without_words() -> None:
    scores = caption_diversity([["", "..."], ["a dog", ""]], [["a dog"], ["two cats"]])
    assert scores["per_item"]["self_cider"][0] == 0 and scores["per_item"]["div_1"][0] == 0
    assert lsa([["", ""]]) == pytest.approx([0])


@pytest.mark.parametrize(
    ("samples", "references", "sentence"),
    [
        ([["a", "b"]], [["a"], ["b"]], "samples of 1 images but references of 2"),
        ([["a", "b"], ["a"]], [["a"], ["b"]], "have 1, 2 captions: sample the same number"),
        ([["a"], ["b"]], [["a"], ["b"]], "sample at least two of each"),
        ([], [], "sample at least two of each"),
        ([["a", "b"]], [["a"]], "CIDEr-D of a single image"),
        ([["a", "b"], []], [["a"], ["b"]], r"references\[1\] is empty"),
    ],
)
def test_what_cannot_be_scored_is_refused(samples: Any, references: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        caption_diversity(samples, references)
    with pytest.raises(ValueError, match="choose cider or cider_d"):
        self_cider(SAMPLES, REFERENCES, similarity="bleu")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="give 1 to 4"):
        distinct_ngrams(SAMPLES, 0)
    with pytest.raises(ValueError, match="sample at least two of each"):
        self_cider([["a dog"], ["a cat"]], [["a dog"], ["a cat"]])
    with pytest.raises(ValueError, match="sample at least two of each"):
        lsa([["a dog", "a cat"], ["a cat"]])
