"""Expressions of drawn scenes, read again word by word by a program of its own: what they mean is what they say."""

import random
from collections import Counter, defaultdict
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest

from training.scenes.draw import COLOURS, CORNERS, SIDES, make_scene, scenes_dataset
from training.scenes.expressions import read_scene_phrases
from training.scenes.referring import draw_expressions, pools

SINGULARS = {f"{name}s": name for name in CORNERS}
NUMBERS = {"two": 2, "three": 3}
RELATIONS = {
    "to the left of": "left of",
    "to the right of": "right of",
    **dict.fromkeys(("above",), "above"),
    "below": "below",
    "inside": "inside",
}
ENDS = {"left-most": (0, min), "right-most": (0, max), "top-most": (1, min), "bottom-most": (1, max)}


def scene_of(number: int, *, seed: int = 0) -> dict[str, Any]:
    scene = make_scene(number, seed=seed)
    relations = [{"subject": a, "predicate": p, "object": b} for a, p, b in scene.relations]
    return {"objects": [asdict(thing) for thing in scene.objects], "relations": relations}


def things_of(words: str, scene: dict[str, Any]) -> list[int]:
    """The shapes that words such as "small red star" or "blue thing" fit."""
    found = list(range(len(scene["objects"])))
    for word in words.split():
        word = SINGULARS.get(word, word)
        key = "size" if word in SIDES else "colour" if word in COLOURS else "name" if word in CORNERS else ""
        assert key or word == "thing", word
        found = [i for i in found if not key or scene["objects"][i][key] == word]
    return found


def centre(scene: dict[str, Any], place: int) -> tuple[float, float]:
    left, top, right, bottom = scene["objects"][place]["box"]
    return (left + right) / 2, (top + bottom) / 2


def meanings(text: str, scene: dict[str, Any]) -> list[int]:
    """What an expression means, from its words and the scene graph alone."""
    assert text.startswith("the ")
    words = text.removeprefix("the ")
    for said, predicate in RELATIONS.items():
        if f" {said} the " in words:
            name, _, other = words.partition(f" {said} the ")
            (target,) = things_of(other, scene)
            told = {(r["subject"], r["predicate"], r["object"]) for r in scene["relations"]}
            return [i for i in things_of(name, scene) if (i, predicate, target) in told]
    first, _, rest = words.partition(" ")
    if first in NUMBERS:
        found = things_of(rest, scene)
        return found if len(found) == NUMBERS[first] else []
    if first in ENDS:
        axis, end = ENDS[first]
        found = things_of(rest, scene)
        return [end(found, key=lambda place: centre(scene, place)[axis])] if found else []
    return things_of(words, scene)


def test_every_expression_means_what_it_says() -> None:
    seen: Counter[tuple[str, bool]] = Counter()
    for number in range(60):
        scene = scene_of(number)
        for kind, forms in pools(scene).items():
            for those, without in forms.values():
                for drawn in (*those, *without):
                    assert sorted(drawn.things) == meanings(drawn.text, scene), drawn
                    assert drawn.kind == kind and (len(drawn.things) < 2 or kind == "number")
                    seen[kind, bool(drawn.things)] += 1
                assert all(drawn.things for drawn in those) and not any(drawn.things for drawn in without)
    assert len(seen) == 8 and min(seen.values()) > 20


def test_where_a_shape_is_does_not_depend_on_how_one_looks() -> None:
    """By the middles of the shapes, no other shape of the name is there, and none is where there is said to be none."""
    axes = {"left of": (0, 1), "right of": (0, -1), "above": (1, 1), "below": (1, -1)}
    checked = 0
    for number in range(60):
        scene = scene_of(number)
        for those, without in pools(scene)["relation"].values():
            for drawn in (*those, *without):
                said = next(one for one in RELATIONS if f" {one} the " in drawn.text)
                if said == "inside":
                    continue
                name, _, other = drawn.text.removeprefix("the ").partition(f" {said} the ")
                (target,), (axis, sign) = things_of(other, scene), axes[RELATIONS[said]]
                near = [
                    i
                    for i in things_of(name, scene)
                    if i != target and sign * (centre(scene, target)[axis] - centre(scene, i)[axis]) > 0
                ]
                assert near == list(drawn.things)
                checked += 1
    assert checked > 500


def drawn_of(scenes: int, *, none_share: float, number: int = 6) -> list[Any]:
    return [
        drawn
        for i in range(scenes)
        for drawn in draw_expressions(scene_of(i), number, rng=random.Random(i), none_share=none_share)
    ]


def test_words_do_not_tell_whether_there_is_a_referent() -> None:
    """In every kind about the share asked for, and the words of other scenes' expressions are no better than chance."""
    found = drawn_of(500, none_share=0.4)
    by_kind = defaultdict(list)
    for drawn in found:
        by_kind[drawn.kind].append(not drawn.things)
    assert by_kind.keys() == {"attribute", "relation", "place", "number"}
    assert all(np.mean(own) == pytest.approx(0.4, abs=4 * 0.49 / len(own) ** 0.5) for own in by_kind.values())
    half, counts = len(found) // 2, defaultdict(lambda: [2.0, 3.0])
    for drawn in found[:half]:
        for word in set(drawn.text.split()):
            counts[word][bool(drawn.things)] += 1
    scores = [sum(np.log(b / a) for a, b in (counts[w] for w in set(d.text.split()))) for d in found[half:]]
    there = np.array([bool(drawn.things) for drawn in found[half:]])
    values = np.array(scores)
    auc = np.mean(values[there][:, None] > values[~there]) + 0.5 * np.mean(values[there][:, None] == values[~there])
    assert abs(auc - 0.5) < 0.06


def test_each_form_is_said_once_and_nothing_twice() -> None:
    for i in range(40):
        drawn = draw_expressions(scene_of(i), 50, rng=random.Random(0))
        assert all(one.things for one in drawn) and len({one.text for one in drawn}) == len(drawn)
        assert len(drawn) <= sum(len(forms) for forms in pools(scene_of(i)).values())
    assert len(draw_expressions(scene_of(3), 2, rng=random.Random(0))) == 2


def test_rows_have_the_boxes_of_what_is_meant() -> None:
    rows = read_scene_phrases(25, image_size=32, split="val", expressions=5, none_share=0.3)
    scenes = scenes_dataset(25, image_size=32, split="val")
    absent = total = 0
    for row, scene in zip(rows, scenes, strict=True):
        for text, (phrase,) in zip(row["captions"], row["phrases"], strict=True):
            assert (phrase["start"], phrase["end"]) == (0, len(text))
            assert phrase["boxes"] == [scene["objects"][i]["box"] for i in meanings(text, scene)]
            absent, total = absent + (not phrase["boxes"]), total + 1
    assert total > 80 and 0.15 < absent / total < 0.45
    assert rows[:] == read_scene_phrases(25, image_size=32, split="val", expressions=5, none_share=0.3)[:]
    for options in ({"none_share": 0.2}, {"expressions": -1}, {"expressions": 3, "none_share": 1.0}):
        with pytest.raises(ValueError, match="give a number of expressions a scene, and from 0 up to 1"):
            read_scene_phrases(2, **options)  # type: ignore[arg-type]
