"""Noun phrases of captions by word lists: examples, odd texts, and the share of people's phrases that are found."""

import gzip
import json

import pytest

from tests.shared_files import shared
from training.data.captions.phrase_places import noun_phrase_places


def phrases_of(text: str) -> list[str]:
    return [text[start:end] for start, end in noun_phrase_places(text)]


@pytest.mark.parametrize(
    ("text", "phrases"),
    [
        ("a man in a red shirt is riding a dirt bike", ["a man", "a red shirt", "a dirt bike"]),
        ("Two little girls hug their dogs, and smile.", ["Two little girls", "their dogs"]),
        ("two men walk on a frozen body of water", ["two men", "a frozen body of water"]),
        ("a dog runs", ["a dog"]),
        ("the seat of a swing", ["the seat of a swing"]),
        ("a smiling boy jumps over him", ["a smiling boy"]),
        ("dogs on grass", ["dogs", "grass"]),
        ("a game of", ["a game"]),
        ("it is there", []),
        ("", []),
        (" .,!? \n", []),
        ("the", []),
    ],
)
def test_examples(text: str, phrases: list[str]) -> None:
    assert phrases_of(text) == phrases


def test_long_texts_take_no_longer_a_word() -> None:
    assert phrases_of("a dog " * 3000) == ["a dog"] * 3000
    assert len(phrases_of("of " * 20000 + "a dog")) == 1


def test_share_of_the_phrases_that_people_marked() -> None:
    images = json.loads(gzip.decompress(shared("data/flickr8k/entities.json.gz").read_bytes()))
    right = found = marked = 0
    for image in images:
        for sentence in image["sentences"] if image["split"] == "val" else ():
            words, text = sentence["tokens"], " ".join(sentence["tokens"])
            starts = [len(" ".join(words[:i])) + (i > 0) for i in range(len(words))]
            own = {
                (starts[p["first_word"]], starts[p["last_word"] - 1] + len(words[p["last_word"] - 1]))
                for p in sentence["phrases"]
            }
            places = set(noun_phrase_places(text))
            right, found, marked = right + len(own & places), found + len(places), marked + len(own)
    assert marked == 15801
    assert right / marked == pytest.approx(0.83, abs=0.005)
    assert right / found == pytest.approx(0.92, abs=0.005)
