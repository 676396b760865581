"""Questions about drawn scenes: every answer again from the words alone and from the program, by slow loops."""

import json
import random
import re
from collections import Counter, defaultdict
from functools import partial
from typing import Any

import datasets
import numpy as np
import pytest

from training.data.questions.formats import VQA_FORMATS, load_vqa
from training.data.questions.rows import VQA_FEATURES
from training.scenes.draw import COLOURS, CORNERS, Scene, make_scene, scenes_dataset
from training.scenes.questions import (
    candidates,
    chosen_questions,
    execute,
    form_of,
    read_scene_questions,
    scene_question_rows,
)

NUM_SCENES = 150
KINDS = {"count", "exist", "compare", "query_color", "query_shape", "query_size", "query_word", "same"}
SIDE = "left of|right of|above|below"

# Two blue stars and a red circle above a large orange square that says stop.
THINGS = [
    {"name": "star", "colour": "blue", "size": "small", "box": [0.1, 0.1, 0.2, 0.2], "text": ""},
    {"name": "star", "colour": "blue", "size": "small", "box": [0.4, 0.1, 0.5, 0.2], "text": ""},
    {"name": "circle", "colour": "red", "size": "small", "box": [0.7, 0.1, 0.8, 0.2], "text": ""},
    {"name": "square", "colour": "orange", "size": "large", "box": [0.3, 0.5, 0.6, 0.8], "text": "stop"},
]


@pytest.fixture(scope="module")
def rows() -> datasets.Dataset:
    return scene_question_rows(NUM_SCENES, image_size=32)


def scene_of(image_id: str) -> Scene:
    """The scene graph behind an image of the split train of seed 0."""
    return make_scene(int(image_id.rpartition("-")[2]), seed=0)


def named(words: str, scene: Scene) -> list[int]:
    """The things that a description such as "small red circles" fits."""
    found = []
    for place, thing in enumerate(scene.objects):
        fits = True
        for word in words.split():
            word = word.removesuffix("s")
            if word not in ("thing", thing.name, thing.colour, thing.size):
                fits = False
        if fits:
            found.append(place)
    return found


def beside(side: str, place: int, scene: Scene) -> list[int]:
    """The things wholly on a side of another."""
    x1, y1, x2, y2 = scene.objects[place].box
    found = []
    for other, thing in enumerate(scene.objects):
        a1, b1, a2, b2 = thing.box
        if {"left of": a2 <= x1, "right of": a1 >= x2, "above": b2 <= y1, "below": b1 >= y2}[side]:
            found.append(other)
    return found


def the_one(words: str, scene: Scene) -> int:
    found = named(words, scene)
    assert len(found) == 1, f"the {words} may be {len(found)} things"
    return found[0]


def answer_by_words(question: str, scene: Scene) -> str:
    """Reads a question as a person would, with nothing of its program."""
    if found := re.fullmatch(rf"how many things are ({SIDE}) the (.+)\?", question):
        return str(len(beside(found[1], the_one(found[2], scene), scene)))
    if found := re.fullmatch(rf"is there anything ({SIDE}) the (.+)\?", question):
        return "yes" if beside(found[1], the_one(found[2], scene), scene) else "no"
    if found := re.fullmatch(r"how many (.+) are there\?", question):
        return str(len(named(found[1], scene)))
    if found := re.fullmatch(r"is there an? (.+)\?", question):
        return "yes" if named(found[1], scene) else "no"
    if found := re.fullmatch(r"are there more (.+) than (.+)\?", question):
        return "yes" if len(named(found[1], scene)) > len(named(found[2], scene)) else "no"
    if found := re.fullmatch(r"are there as many (.+) as (.+)\?", question):
        return "yes" if len(named(found[1], scene)) == len(named(found[2], scene)) else "no"
    if found := re.fullmatch(r"how many other things have the same (color|shape|size) as the (.+)\?", question):
        one, attribute = the_one(found[2], scene), {"color": "colour", "shape": "name", "size": "size"}[found[1]]
        alike = [getattr(thing, attribute) for place, thing in enumerate(scene.objects) if place != one]
        return str(alike.count(getattr(scene.objects[one], attribute)))
    for form, attribute in (
        (r"what color is the (.+)\?", "colour"),
        (r"what shape is the (.+)\?", "name"),
        (r"how big is the (.+)\?", "size"),
        (r"what word is on the (.+)\?", "text"),
    ):
        if found := re.fullmatch(form, question):
            return str(getattr(scene.objects[the_one(found[1], scene)], attribute))
    raise AssertionError(f"nobody understands {question!r}")


def slow_execute(program: list[Any], scene: Scene) -> Any:
    """The slow twin of `execute`: lists of things in, lists of things out."""
    things, values = list(scene.objects), [slow_execute(p, scene) if isinstance(p, list) else p for p in program[1:]]
    match program[0], values:
        case "scene", []:
            return things
        case "filter", [name, value, found]:
            return [thing for thing in found if getattr(thing, name) == value]
        case "unique", [[thing]]:
            return thing
        case "same", [name, one]:
            return [thing for thing in things if thing is not one and getattr(thing, name) == getattr(one, name)]
        case "relate", [side, one]:
            return [things[place] for place in beside(side, things.index(one), scene)]
        case "query", [name, one]:
            return getattr(one, name)
        case "count", [found]:
            return str(len(found))
        case "exist", [found]:
            return "yes" if len(found) > 0 else "no"
        case "more", [one, other]:
            return "yes" if len(one) > len(other) else "no"
        case "equal", [one, other]:
            return "yes" if len(one) == len(other) else "no"
    raise AssertionError(f"no such program: {program}")


def test_every_answer_follows_from_the_words_of_its_question(rows: datasets.Dataset) -> None:
    for image_id, question, answer in zip(rows["image_id"], rows["question"], rows["answer"], strict=True):
        assert answer_by_words(question, scene_of(image_id)) == answer, (image_id, question)


def test_every_program_gives_its_answer(rows: datasets.Dataset) -> None:
    for image_id, details, answer in zip(rows["image_id"], rows["details"], rows["answer"], strict=True):
        assert slow_execute(json.loads(details)["program"], scene_of(image_id)) == answer, (image_id, details)


def test_all_questions_that_a_scene_allows_are_answered_as_by_words() -> None:
    for index in range(12):
        scene = make_scene(index, seed=5)
        things = [vars(thing) for thing in scene.objects]
        for asked in candidates(things):
            assert answer_by_words(asked.question, scene) == asked.answer, (index, asked.question)


def test_the_questions_on_one_scene_by_hand() -> None:
    answers = {asked.question: asked.answer for asked in candidates(THINGS)}
    expected = {
        "how many things are there?": "4",
        "how many blue stars are there?": "2",
        "how many things are above the square?": "3",
        "how many things are left of the red thing?": "3",
        "is there anything right of the circle?": "no",
        "is there a large star?": "no",
        "is there an orange square?": "yes",
        "are there more stars than circles?": "yes",
        "are there as many red things as orange things?": "yes",
        "what color is the square?": "orange",
        "what shape is the large thing?": "square",
        "how big is the red circle?": "small",
        "what word is on the orange thing?": "stop",
        "how many other things have the same size as the small circle?": "2",
    }
    assert {question: answers[question] for question in expected} == expected
    assert "what color is the star?" not in answers, "there are two"
    assert "what word is on the circle?" not in answers, "there is none"


def test_the_columns_are_those_of_a_vqa_data_set(rows: datasets.Dataset) -> None:
    assert rows.features == VQA_FEATURES
    assert rows["answers"][:] == [[answer] for answer in rows["answer"]]
    assert set(rows["question_type"]) == KINDS and set(rows["split"]) == {"train"}
    types = defaultdict(set)
    for kind, answer_type in zip(rows["question_type"], rows["answer_type"], strict=True):
        types[kind].add(answer_type)
    expected = {"count": "number", "same": "number", "exist": "yes/no", "compare": "yes/no"}
    assert dict(types) == {kind: {expected.get(kind, "other")} for kind in KINDS}


def test_the_images_are_those_of_the_scenes(rows: datasets.Dataset) -> None:
    scenes = scenes_dataset(3, image_size=32)
    ids = list(scenes["image_id"])
    for row in rows.select(range(20)):
        assert np.array_equal(row["image"], scenes[ids.index(row["image_id"])]["image"])


def test_questions_on_a_scene_differ_and_are_not_too_many(rows: datasets.Dataset) -> None:
    on_scene = Counter(rows["image_id"])
    assert len(on_scene) == NUM_SCENES and max(on_scene.values()) == 8
    assert len(set(rows["question_id"])) == len(rows)
    assert len(set(zip(rows["image_id"], rows["question"], strict=True))) == len(rows)
    few = chosen_questions(THINGS, rng=random.Random(0), most=3)
    assert len(few) == 3 and len({asked.kind for asked in few}) == 3, "kinds take turns"


def test_the_right_choice_is_among_plausible_ones(rows: datasets.Dataset) -> None:
    places: Counter[int] = Counter()
    for row in rows.remove_columns("image"):
        choices = row["choices"]
        if row["answer_type"] == "yes/no":
            assert choices == [] and row["correct_choice"] == -1
            continue
        assert choices[row["correct_choice"]] == row["answer"]
        assert len(set(choices)) == len(choices) == (2 if row["question_type"] == "query_size" else 4)
        places[row["correct_choice"]] += len(choices) == 4
        if row["answer_type"] == "number":
            assert all(choice.isdigit() for choice in choices)
        elif row["question_type"] == "query_color":
            assert set(choices) <= set(COLOURS)
        elif row["question_type"] == "query_shape":
            assert set(choices) <= set(CORNERS)
    assert min(places.values()) > 0.2 * places.total(), "the place of the right one tells nothing"


def test_answers_are_even(rows: datasets.Dataset) -> None:
    answers: dict[str, Counter[str]] = defaultdict(Counter)
    for kind, answer in zip(rows["question_type"], rows["answer"], strict=True):
        answers[kind][answer] += 1
    for kind in ("exist", "compare"):
        assert 0.43 < answers[kind]["yes"] / answers[kind].total() < 0.57
    assert {"0", "1", "2", "3"} <= set(answers["count"])
    assert max(answers["count"].values()) < 0.4 * answers["count"].total()
    assert max(answers["query_color"].values()) < 0.25 * answers["query_color"].total()
    assert max(answers["query_shape"].values()) < 0.3 * answers["query_shape"].total()
    assert max(answers["query_size"].values()) < 0.65 * answers["query_size"].total()


def test_everything_follows_from_seed_split_and_scene() -> None:
    rows = scene_question_rows(6, seed=1, image_size=32, split="val", per_scene=4)
    texts = list(zip(rows["question_id"], rows["question"], rows["answer"], strict=True))
    again = scene_question_rows(9, seed=1, image_size=48, split="val", per_scene=4)
    assert texts == list(zip(again["question_id"], again["question"], again["answer"], strict=True))[: len(texts)]
    assert set(rows["split"]) == {"val"}
    for other in ({"seed": 2, "split": "val"}, {"seed": 1, "split": "train"}):
        assert scene_question_rows(6, image_size=32, per_scene=4, **other)["question"][:] != rows["question"][:]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_scenes": 2, "per_scene": 0}, "per_scene is 0; ask at least one"),
        ({"num_scenes": 0}, "num_scenes 0 must be at least 1"),
        ({"num_scenes": 1, "image_size": 8}, "image_size 8 at least 32"),
        ({"num_scenes": 1, "split": "moon"}, "unknown split 'moon'"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        scene_question_rows(**options)


def test_programs_that_make_no_sense() -> None:
    with pytest.raises(ValueError, match="no program begins with 'sum'"):
        execute(["sum", ["scene"]], THINGS)
    with pytest.raises(ValueError, match="nothing is found by 'union'"):
        execute(["count", ["union", ["unique", ["filter", "name", "circle", ["scene"]]]]], THINGS)
    with pytest.raises(ValueError, match="2 things fit .* there must be one"):
        execute(["query", "colour", ["unique", ["filter", "name", "star", ["scene"]]]], THINGS)


def test_no_form_of_question_tells_its_answer() -> None:
    """Not only the kind: "are there more ...?" alone is as often right as wrong."""
    forms: dict[str, Counter[str]] = defaultdict(Counter)
    for index in range(600):
        things = [vars(thing) for thing in make_scene(index, seed=9).objects]
        for asked in chosen_questions(things, rng=random.Random(index), most=8):
            if asked.answer in ("yes", "no"):
                forms[form_of(asked.program)][asked.answer] += 1
    assert set(forms) == {
        "exist relate unique filter scene",
        "more filter scene filter scene",
        "equal filter scene filter scene",
        *(f"exist {'filter ' * filters}scene" for filters in (1, 2, 3)),
        *(f"exist relate unique {'filter ' * filters}scene" for filters in (2, 3)),
    }
    assert all(0.35 < counts["yes"] / counts.total() < 0.65 for counts in forms.values())


def test_questions_on_drawn_scenes() -> None:
    options: dict[str, Any] = {"num_scenes": 4, "image_size": 32, "per_scene": 3}
    load = partial(load_vqa, formats={**VQA_FORMATS, "scenes": read_scene_questions})
    rows = load("scenes", **options, split="train+val")
    assert rows.column_names == list(VQA_FEATURES) and list(rows["split"]) == ["train"] * 12 + ["val"] * 12
    assert rows[0]["image"].size == (32, 32) and rows["image_id"][0] == "scene-train-0-0"
    assert set(load("scenes", **options)["split"]) == {"train"}
    parts = [{"format": "scenes", **options, "splits": ["train"]}, {"format": "scenes", **options, "seed": 1}]
    mixed = load("mixture", parts=parts, split="train")
    assert len(set(mixed["question_id"])) == 24 and mixed["image_id"][12] == "scene-train-1-0"
    assert len(load("mixture", parts=parts, split="val")) == 12
