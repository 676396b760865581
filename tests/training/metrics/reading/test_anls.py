"""ANLS and ST-VQA's accuracy against three references' numbers, a slow twin of the edit distance, and ugly texts."""

import gzip
import json
import random
from typing import Any

import pytest

from tests.shared_files import shared
from training.metrics.reading import anls, edit_distance, stvqa_accuracy


def golden() -> tuple[list[str], list[list[str]], dict[str, Any]]:
    data = json.loads(gzip.decompress(shared("golden/metrics/anls.json.gz").read_bytes()))
    items = data["inputs"]["items"]
    return [item["pred_answer"] for item in items], [item["gt_answers"] for item in items], data["expected"]


@pytest.mark.parametrize(("variant", "key"), [("mmf", "mmf"), ("pix2struct", "pix2struct"), ("docvqa", "pypi_anls")])
def test_every_question_is_the_references(variant: str, key: str) -> None:
    predictions, answers, expected = golden()
    found = anls(predictions, answers, variant=variant)
    assert found["per_item"] == pytest.approx(expected[key], abs=1e-9)
    assert found["anls"] == pytest.approx(sum(expected[key]) / len(predictions), abs=1e-9)
    if variant == "mmf":
        assert found["anls"] == pytest.approx(expected["mmf_mean"], abs=1e-9)


def test_stvqa_accuracy_is_the_references() -> None:
    predictions, answers, expected = golden()
    assert stvqa_accuracy(predictions, answers)["per_item"] == expected["stvqa_accuracy"]


def slow_distance(text: str, other: str) -> int:
    """The table of Levenshtein's recursion, row by row."""
    row = list(range(len(other) + 1))
    for i, character in enumerate(text, start=1):
        last, row[0] = row[0], i
        for j, there in enumerate(other, start=1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (character != there))
    return row[-1]


def test_the_edit_distance_equals_its_table() -> None:
    draw = random.Random(0)
    for _ in range(2000):
        text, other = ("".join(draw.choices("abé漢", k=draw.randrange(9))) for _ in range(2))
        assert edit_distance(text, other) == slow_distance(text, other) == edit_distance(other, text), (text, other)


def test_distances_by_hand() -> None:
    assert [edit_distance(*pair) for pair in (("", ""), ("", "ab"), ("ab", ""), ("flaw", "lawn"))] == [0, 2, 2, 2]


def test_a_half_counts_in_one_variant_only() -> None:
    scores = [anls(["roomroom"], [["room"]], variant=name)["anls"] for name in ("mmf", "pix2struct", "docvqa")]
    assert scores == [0.5, 0, 0]
    assert anls(["roomroo"], [["room"]], variant="docvqa")["anls"] == pytest.approx(4 / 7)


def test_ugly_texts_have_a_defined_score() -> None:
    assert anls(["", " ", "a", ""], [[""], ["", "x"], [""], ["a"]])["per_item"] == [1, 1, 0, 0]
    long = "x" * 10_000
    assert anls([long, "x"], [[long + "y"], [long]])["per_item"] == pytest.approx([1 - 1 / 10_001, 0])
    with pytest.warns(UserWarning, match="1 of 2 questions have no answers"):
        assert anls(["a", "b"], [[], ["b"]])["anls"] == 1
    with pytest.raises(ValueError, match="variant is 'icdar'; it can be one of mmf, pix2struct, docvqa"):
        anls(["a"], [["a"]], variant="icdar")
    with pytest.raises(TypeError, match=r"predictions\[0\] is a float"):
        anls([1.0], [["a"]])  # type: ignore[list-item]
