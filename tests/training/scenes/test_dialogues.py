"""Dialogues on drawn scenes: answers again from the scene and the words, candidates, relevances, history."""

from collections import Counter
from typing import Any

import pytest

from training.scenes.dialogues import FOLLOWED, OPPOSITE, read_scene_dialogues
from training.scenes.draw import make_scene

NUM_SCENES = 120
LEADS = {"left": (0, min), "right": (2, max), "top": (1, min), "bottom": (3, max)}


@pytest.fixture(scope="module")
def data() -> Any:
    return read_scene_dialogues(NUM_SCENES, image_size=32)


@pytest.fixture(scope="module")
def texts(data: Any) -> list[str]:
    return data.texts["text"][:]


def test_answers_are_those_of_the_scene(data: Any, texts: list[str]) -> None:
    followed = 0
    for row in data.rows.remove_columns("image"):
        scene = make_scene(int(row["image_id"].rpartition("-")[2]), seed=0)
        said = [texts[number] for number in row["context"]]
        side = ""
        for question in said[1::2]:  # a follow-up is of the question before
            side = OPPOSITE[side] if question in FOLLOWED else question.rstrip("?").partition("furthest ")[2]
        followed += said[-1] in FOLLOWED
        corner, best = LEADS[side.rpartition(" ")[2]]
        thing = next(t for t in scene.objects if t.box[corner] == best(o.box[corner] for o in scene.objects))
        right = texts[row["candidates"][row["label"]]]
        assert right.split()[1:] == [thing.size, thing.colour, thing.name]
    assert followed > 20


def test_candidates_are_a_hundred_and_graded(data: Any, texts: list[str]) -> None:
    for row in data.rows.select(range(40)).remove_columns("image"):
        candidates = [texts[number] for number in row["candidates"]]
        assert len(set(candidates)) == len(candidates) == 100
        relevance = row["relevance"]
        assert relevance[row["label"]] == 1.0 and Counter(relevance)[1.0] == 1
        colour, name = candidates[row["label"]].split()[2:]
        for text, value in zip(candidates, relevance, strict=True):
            same = text.split()[-2:] == [colour, name]
            assert (value > 0) == same and (value == pytest.approx(0.5)) == (same and len(text.split()) == 3)


def test_no_answer_is_given_twice_in_a_dialogue(data: Any, texts: list[str]) -> None:
    """Else its history would tell it."""
    answers: dict[str, list[str]] = {}
    for row in data.rows.remove_columns("image"):
        answers.setdefault(row["group"], []).append(texts[row["candidates"][row["label"]]])
    assert all(len(set(own)) == len(own) for own in answers.values())
    assert len(answers) == NUM_SCENES and Counter(map(len, answers.values())).keys() <= {1, 2, 3, 4}


def test_rounds_below_one_are_refused() -> None:
    with pytest.raises(ValueError, match="rounds is 0"):
        read_scene_dialogues(2, rounds=0)
    assert {row["item_id"][-1] for row in read_scene_dialogues(6, image_size=32, rounds=1).rows} == {"1"}
