"""Questions with tags on drawn scenes: every answer and rationale again from the scene, and nothing told by words."""

import re
from collections import Counter
from typing import Any

import pytest

from training.scenes.choices import read_scene_choices
from training.scenes.commonsense import WORD, read_scene_commonsense
from training.scenes.draw import COLOURS, CORNERS, make_scene

NUM_SCENES = 120


@pytest.fixture(scope="module")
def data() -> Any:
    return read_scene_commonsense(NUM_SCENES, image_size=32)


def told(data: Any, number: int) -> tuple[str, list[int]]:
    """A text, and the objects that its things are, in their order."""
    text = data.texts[number]
    assert all(text["text"][link["start"] : link["end"]] == WORD for link in text["links"])
    return text["text"], [link["objects"][0] for link in text["links"]]


def holds(question: str, asked: list[int], text: str, things: list[int], scene: Any) -> bool:
    """Whether a candidate is true of the scene, by its words."""
    found = scene.objects
    if text in COLOURS:
        return found[asked[0]].colour == text
    if text in CORNERS:
        return found[asked[0]].name == text
    if text.startswith(("to the", "above", "below")):
        words = {"to the left": "left of", "to the right": "right of", "above it": "above", "below it": "below"}
        return (asked[0], words[text], asked[1]) in scene.relations
    own = [found[thing] for thing in things]
    if " one and " in text:
        colours = re.findall(r"the (\w+) one", text)
        return [thing.colour for thing in own] == colours
    left, top, right, bottom = own[0].box
    sides = {"on the left": left + right < 1, "on the right": left + right > 1}
    sides |= {"at the top": top + bottom < 1, "at the bottom": top + bottom > 1}
    place = next(side for side in sides if text.endswith(side))
    value = next(word for word in (*COLOURS, *CORNERS) if f" {word}" in text)
    return sides[place] and value in (own[0].colour, own[0].name)


def test_one_candidate_is_true_and_it_is_the_label(data: Any) -> None:
    for row in data.rows.remove_columns("image"):
        scene = make_scene(int(row["image_id"].rpartition("-")[2]), seed=0)
        question, asked = told(data, row["context"][0])
        truths = [holds(question, asked, *told(data, number), scene) for number in row["candidates"]]
        assert truths.count(True) == 1 and truths.index(True) == row["label"], (question, row)
        assert len(row["boxes"]) == len(scene.objects)


def test_a_question_has_answers_then_rationales_after_the_right_one(data: Any) -> None:
    rows = list(data.rows.remove_columns("image"))
    for answer, rationale in zip(rows[::2], rows[1::2], strict=True):
        assert (answer["kind"], rationale["kind"]) == ("answer", "rationale") and answer["group"] == rationale["group"]
        assert rationale["context"] == [*answer["context"], answer["candidates"][answer["label"]]]
    assert len({row["group"] for row in rows}) == len(rows) // 2


def test_words_alone_tell_little(data: Any) -> None:
    """The best guess by a candidate's words, from half of the items, on the other half: near a quarter."""
    rows = list(data.rows.remove_columns("image"))
    for kind in ("answer", "rationale"):
        own = [row for row in rows if row["kind"] == kind]
        counts, right = Counter(), Counter()
        for row in own[::2]:
            for place, number in enumerate(row["candidates"]):
                text = told(data, number)[0]
                counts[text] += 1
                right[text] += place == row["label"]
        hits = 0
        for row in own[1::2]:
            texts = [told(data, number)[0] for number in row["candidates"]]
            best = max(range(4), key=lambda place: (right[texts[place]] + 1) / (counts[texts[place]] + 4))
            hits += best == row["label"]
        assert hits / len(own[1::2]) < 0.42
        labels = Counter(row["label"] for row in own)
        assert max(labels.values()) < 0.4 * len(own)


def test_the_same_arguments_ask_the_same() -> None:
    one, other = (read_scene_choices(4, image_size=32) for _ in range(2))
    assert one.rows.remove_columns("image").to_list() == other.rows.remove_columns("image").to_list()
    assert one.texts.to_list() == other.texts.to_list()
    with pytest.raises(ValueError, match="asks is 'riddles'; choose one of commonsense, dialogues"):
        read_scene_choices(4, asks="riddles")
    with pytest.raises(ValueError, match="per_scene is 0"):
        read_scene_commonsense(4, per_scene=0)
