"""Singulars against those of pattern.en, recorded and known."""

import gzip
import json

import pytest

from tests.shared_files import shared
from training.metrics.captioning.singular import pattern_singular


def test_every_recorded_word_has_the_singular_of_pattern() -> None:
    data = json.loads(gzip.decompress(shared("golden/metrics/chair.json.gz").read_bytes()))
    known = data["inputs"]["singularize"]
    assert {word: pattern_singular(word) for word in known} == known


@pytest.mark.parametrize(
    ("word", "singular"),
    [
        ("", ""),
        ("s", "s"),  # "debris" ends in it
        ("mothers-in-law", "mother-in-law"),
        ("t-shirts", "t-shirt"),
        ("dogs'", "dog's"),
        ("geese", "goose"),
        ("wolves", "wolf"),
        ("drives", "drife"),
        ("gloves", "glove"),
        ("knives", "knife"),
        ("quizzes", "quiz"),
        ("indices", "index"),
        ("skis", "ski"),
        ("veggies", "veggies"),
        ("parties", "party"),
        ("movies", "movie"),
        ("bases", "basis"),
        ("roses", "rose"),
        ("closes", "close"),
        ("taxi", "taxi"),
        ("pasta", "pastum"),
        ("scissors", "scissors"),
    ],
)
def test_by_hand(word: str, singular: str) -> None:
    assert pattern_singular(word) == singular
