"""What is learnt of answers, against M4C's own targets."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from modeling_updown.reading_answers_updown import SPECIAL_ANSWERS
from tests.shared_files import shared
from training.tasks.reading_targets import (
    answer_scores,
    common_words,
    matched_sequences,
    reading_targets,
    whole_answer,
)


@pytest.fixture(scope="module")
def golden() -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    told = json.loads(shared("golden/reference/m4c_pointer.json").read_text())
    return told, load_file(shared("golden/reference/m4c_pointer.safetensors"))


def numbers_of(told: dict[str, Any]) -> dict[str, int]:
    return {word: number for number, word in enumerate(told["vocabulary"]) if number >= len(SPECIAL_ANSWERS)}


def test_scores_and_sequences_are_the_reference_ones(golden):
    told, _ = golden
    for asked in told["answers"]:
        scores = answer_scores(asked["answers"])
        assert scores == pytest.approx(asked["soft_scores"], abs=1e-12)
        places = {word: [i for i, own in enumerate(asked["tokens"]) if own == word] for word in asked["tokens"]}
        for answer, expected in asked["sequences"].items():
            found = matched_sequences(answer.split(), numbers_of(told), places, size=len(told["vocabulary"]))
            assert [list(way) for way in found] == expected


def test_targets_and_what_was_chosen_before_are_the_reference_ones(golden):
    told, tensors = golden
    sizes = told["config"]
    for row, asked in enumerate(told["answers"]):
        made = reading_targets(asked["answers"], asked["tokens"], numbers_of(told), size=sizes["vocab"])
        assert made is not None and tuple(asked["sampled"]) in made.sequences
        size = sizes["vocab"] + sizes["ocr"]
        scores, before = made.along(asked["sampled"], size=size, steps=sizes["steps"])
        np.testing.assert_allclose(scores, tensors["in.targets"][row].numpy(), atol=1e-6)
        assert before.tolist() == tensors["in.train_prev_inds"][row].tolist()


def test_every_way_of_writing_is_drawn_as_often_as_people_said_it():
    made = reading_targets(["bus", "bus", "red bus"], ["bus"], {"bus": 4, "red": 5}, size=6)
    assert made is not None
    assert made.sequences == [(4,), (6,)] * 2 + [(5, 4), (5, 6)]
    drawn = [made.drawn(np.random.default_rng([0, seed]), size=7, steps=3)[1].tolist() for seed in range(300)]
    shares = {tuple(own): drawn.count(own) / 300 for own in drawn}
    assert len(shares) == 4 and shares[(1, 4, 0)] == pytest.approx(1 / 3, abs=0.08)
    again = [made.drawn(np.random.default_rng([0, seed]), size=7, steps=3)[1].tolist() for seed in range(300)]
    assert drawn == again


def test_answers_that_cannot_be_written_teach_nothing():
    assert reading_targets(["pepsi"], ["cola"], {"red": 4}, size=5) is None
    assert reading_targets([""], ["cola"], {"red": 4}, size=5) is None
    assert reading_targets([], ["cola"], {"red": 4}, size=5) is None
    assert len(matched_sequences(["a"] * 5, {}, {"a": range(9)}, size=5)) == 20


def test_a_single_pass_learns_whole_answers():
    made = reading_targets(["Main Street"], ["main", "Main Street?"], {"main street": 4}, size=5, whole=True)
    assert made is not None and made.sequences == [(4,), (6,)] and made.first == {4: 1.0, 6: 1.0}
    words = common_words([["red bus", "stop"], ["Stop,"]], most=9, min_count=1, whole=True)
    assert words == [*SPECIAL_ANSWERS, "stop", "red bus"]
    assert common_words([["a b"], ["b"]], most=9, min_count=2) == [*SPECIAL_ANSWERS, "b"]
    assert whole_answer("What's  UP?") == "what 's up"
