"""Contexts and candidates as tokens: what is cut, what carries objects, token types."""

import numpy as np
import pytest
import torch

from processors.region_links_updown import RegionLink
from tests.tiny import tiny_tokenizer
from training.data.boxes.rows import dataset_of
from training.data.choices.rows import TEXT_FEATURES
from training.tasks.choice_texts import (
    EncodedTexts,
    Tokens,
    candidate_of,
    context_of,
    encoded_texts,
    kept_context,
    linked_regions,
    padded_tokens,
)

LENGTHS = np.array([3, 2, 1, 2, 1, 4])  # a caption, two rounds, a question


@pytest.fixture(scope="module")
def texts() -> EncodedTexts:
    link = RegionLink(2, 5, (4, 1))
    rows = [
        {"text": "a dog runs", "links": [{"start": link.start, "end": link.end, "objects": list(link.regions)}]},
        {"text": "", "links": []},
        {"text": "a a a a a a a", "links": []},
    ]
    return encoded_texts(dataset_of(rows, TEXT_FEATURES), tiny_tokenizer(), max_words=5)


def test_texts_are_cut_and_words_carry_objects(texts: EncodedTexts) -> None:
    ids, objects = texts.tokens_of(0)
    pieces = tiny_tokenizer().convert_ids_to_tokens(ids)
    assert [piece for piece, own in zip(pieces, objects, strict=True) if own] == ["dog"]
    assert objects[1] == [4, 1] and texts.tokens_of(1) == ([1], [[]])  # no word is the unknown one
    assert texts.lengths.tolist()[2] == 5 and len(texts) == 3


@pytest.mark.parametrize(
    ("longest", "kept"),
    [(19, [0, 1, 2, 3, 4, 5]), (18, [0, 3, 4, 5]), (13, [0, 5]), (8, [5]), (1, [5])],
)
def test_a_dialogue_loses_its_oldest_rounds_first(longest: int, kept: list[int]) -> None:
    assert kept_context(range(6), LENGTHS, kind="round", longest=longest) == kept


def test_another_context_loses_its_first_texts() -> None:
    assert kept_context([0, 1], LENGTHS, kind="rationale", longest=6) == [1]


def test_a_context_and_a_candidate_in_tokens(texts: EncodedTexts) -> None:
    tokens = context_of([0, 1], texts, kind="rationale", longest=20, special=(2, 3))
    assert tokens.ids[0] == 2 and tokens.ids[-2:] == [3, 1] and len(tokens.ids) == len(tokens.objects)
    assert tokens.kinds == [0] * (len(tokens.ids) - 2) + [2, 2]  # the answer, and the separator before it
    assert context_of([2], texts, kind="answer", longest=3, special=(2, 3)).ids == [2, *texts.tokens_of(2)[0][:2]]
    assert context_of([], texts, kind="answer", longest=9, special=(2, 3)).ids == [2]
    for kind, number in (("answer", 2), ("round", 2), ("rationale", 3)):
        own = candidate_of(0, texts, kind=kind, separator=3)
        assert own.ids == [3, *texts.tokens_of(0)[0], 3] and set(own.kinds) == {number}


def test_tokens_become_tensors() -> None:
    rows = [Tokens([5, 6], [[], [0, 1]], [0, 2]), Tokens([], [], [])]
    made = padded_tokens(rows, padding=9)
    assert made["ids"].tolist() == [[5, 6], [9, 9]] and made["mask"].tolist() == [[True, True], [False, False]]
    assert made["kinds"].tolist() == [[0, 2], [0, 0]]
    links = linked_regions(rows, [[7, -1], []], length=2)  # of object 1 there is no region
    assert links.tolist() == [[[-1], [7]], [[-1], [-1]]] and links.dtype == torch.long
