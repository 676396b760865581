"""The Treebank's words against NLTK: recorded ones, and NLTK itself on made-up sentences."""

import gzip
import json
import random
from importlib.util import find_spec

import pytest

from tests.shared_files import shared
from training.metrics.captioning.treebank import sentence_words, sentences, treebank_tokenize

TEXT = (
    "a dog the 's ' '' \" `` . .. ... , : ; -- - ( ) [ ] < > & $ % # @ can't cannot gonna wanna gimme 'tis 'twas dogs' "
    "man's i'll we've you're 3:45 1,000 5 $5 it's i'd i'm \u201ca\u201d \u2018b\u2019 \u00abc\u00bb u.s. o'clock 'n' "
    "rock'n'roll more'n d'ye gotta lemme x. y? z! 'b 's *"
)


def test_captions_are_split_as_nltk_splits_them() -> None:
    data = json.loads(gzip.decompress(shared("golden/metrics/chair.json.gz").read_bytes()))
    for entry in data["inputs"]["captions"]:
        assert treebank_tokenize(entry["caption"]) == entry["tokens"]


@pytest.mark.skipif(find_spec("nltk") is None, reason="needs nltk, the referee")
def test_sentences_are_split_as_nltk_splits_them() -> None:
    from nltk.tokenize import NLTKWordTokenizer

    draw, referee = random.Random(0), NLTKWordTokenizer()
    for _ in range(3000):
        words = draw.choices(TEXT.split(), k=draw.randint(1, 8))
        text = " ".join(words)
        assert sentence_words(text) == referee.tokenize(text), text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        (" \n\t ", []),
        ("A dog. A CAT!", ["a", "dog", ".", "a", "cat", "!"]),
        ('He said "sit".', ["he", "said", "``", "sit", "''", "."]),
        ("the dogs' ball isn't theirs", ["the", "dogs", "'", "ball", "is", "n't", "theirs"]),
        ("at 3:45, ten $5 bills", ["at", "3:45", ",", "ten", "$", "5", "bills"]),
        ("on elm st. a car", ["on", "elm", "st.", "a", "car"]),
        ("asleep... it is", ["asleep", "...", "it", "is"]),
        ("\u00c9t\u00e9 \u4e2d\u6587", ["\u00e9t\u00e9", "\u4e2d\u6587"]),
    ],
)
def test_by_hand(text: str, words: list[str]) -> None:
    assert treebank_tokenize(text) == words


def test_a_long_word_takes_no_long_time() -> None:
    text = "a" * 200_000
    assert treebank_tokenize(f"{text} dog. cat") == [text, "dog", ".", "cat"]


def test_sentences_end_at_marks_before_white_space() -> None:
    assert sentences("a dog. (a cat!) 3.5 cats? yes") == ["a dog.", "(a cat!)", "3.5 cats?", "yes"]
