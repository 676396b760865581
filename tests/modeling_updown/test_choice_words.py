"""Contexts and candidates as tokens: what is cut, what carries objects, token types, and the regions of objects."""

import numpy as np
import pytest
import torch

from modeling_updown.choice_words_updown import (
    EncodedTexts,
    Tokens,
    candidate_of,
    context_of,
    context_room,
    kept_context,
    linked_regions,
    object_regions,
    padded_tokens,
)

from ..tiny import tiny_encoder_config

LENGTHS = np.array([3, 2, 1, 2, 1, 4])  # a caption, two rounds, a question


@pytest.fixture
def texts() -> EncodedTexts:
    """Three words of which the second carries objects 4 and 1, one word, five words."""
    return EncodedTexts(np.array([5, 6, 7, 1, 5, 5, 5, 5, 5]), np.array([0, 3, 4, 9]), {0: [[], [4, 1], []]})


def test_room_for_a_context_is_what_the_longest_candidate_leaves() -> None:
    config = tiny_encoder_config()  # reads 64
    assert context_room(config, LENGTHS, padding=None) == 64 - 4 - 2
    assert context_room(config, LENGTHS, padding=1) == 64 - 2 - 4 - 2  # positions from 2, as RoBERTa counts
    assert context_room(config, LENGTHS, padding=None, asked=9) == 9
    assert context_room(config, LENGTHS, padding=None, asked=99) == 58
    assert context_room(object(), LENGTHS, padding=None, asked=99) == 99
    with pytest.raises(ValueError, match="the longest candidate has 61 word pieces, and the text encoder reads 64"):
        context_room(config, np.array([61]), padding=None)


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


def test_objects_are_found_among_regions() -> None:
    regions = torch.tensor([[[0.0, 0, 1, 1], [0, 0, 0.4, 1], [0.5, 0, 1, 1], [0.5, 0, 1, 1]]])
    mask = torch.tensor([[True, True, True, False]])
    boxes = [[[0.0, 0, 0.45, 1], [0.6, 0, 1, 1]], []]
    found = object_regions(boxes, {"region_boxes": regions, "region_mask": mask}, np.array([0, 0]))
    assert found == [[1, 2], []]
    lone = {"region_boxes": torch.tensor([[[0.0, 0.0, 0.1, 0.1]]])}
    assert object_regions([[[0.5, 0.5, 1.0, 1.0]]], lone, np.array([0])) == [[-1]]
