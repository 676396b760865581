"""Questions about the drawn scenes of `training/scenes/draw.py`, with the program that answers each.

    scene graph --candidates--> (question, program) --execute--> answer --chosen by answer--> rows of VQA_FEATURES

In the spirit of CLEVR (Johnson et al. 2017): a question is a small program on the scene graph, every "the" has exactly
one thing it can mean, and questions are chosen by their answers, so that knowing the questions alone helps little.
Everything follows from (seed, split, index of the scene).
"""

import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

import datasets

from training.data.questions.rows import VQA_FEATURES, vqa_splits
from training.scenes.draw import COLOURS, CORNERS, PLURALS, SIDES, WORDS, scenes_dataset

Thing = Mapping[str, Any]
Program = Sequence[Any]  # [function, arguments...], arguments being words or programs

ATTRIBUTES = ("size", "colour", "name")
VALUES: dict[str, tuple[str, ...]] = {
    "size": tuple(SIDES),
    "colour": tuple(COLOURS),
    "name": tuple(CORNERS),
    "text": WORDS,
}
NUMBERS = tuple(str(number) for number in range(7))
YES_NO = ("no", "yes")
NUM_CHOICES = 4
RARER = {"0": 0.4}  # of an answer that every scene has, how much more seldom it is drawn
ASKED = {"colour": "what color is the {}?", "name": "what shape is the {}?", "size": "how big is the {}?"}
RELATIONS: dict[str, Callable[[Thing, Thing], bool]] = {  # whether the first thing is that to the second
    "left of": lambda one, other: one["box"][2] <= other["box"][0],
    "right of": lambda one, other: one["box"][0] >= other["box"][2],
    "above": lambda one, other: one["box"][3] <= other["box"][1],
    "below": lambda one, other: one["box"][1] >= other["box"][3],
}


class Asked(NamedTuple):
    """A question about one scene: its kind, its words, its program and the answer."""

    kind: str
    question: str
    program: Program
    answer: str


def read_scene_questions(
    num_scenes: int, *, seed: int = 0, image_size: int = 128, split: str | None = None, per_scene: int = 8
) -> datasets.Dataset:
    """`scene_question_rows` of one or several splits.

    Args:
        num_scenes: images of each split.
        seed: another seed draws other scenes, and so does another split.
        image_size, per_scene: as for `scene_question_rows`.
        split: the split to draw (several: `"train+val"`), by default train.
    """
    parts = [
        scene_question_rows(num_scenes, seed=seed, image_size=image_size, split=word, per_scene=per_scene)
        for word in sorted(vqa_splits(split or "train", "the scenes"))
    ]
    return datasets.concatenate_datasets(parts)


def scene_question_rows(
    num_scenes: int, *, seed: int = 0, image_size: int = 128, split: str = "train", per_scene: int = 8
) -> datasets.Dataset:
    """Draws scenes and asks about them.

    Kinds: `count`, `exist`, `compare` (more, or as many), `query_color`, `query_shape`, `query_size`, `query_word` and
    `same` (how many others have the same colour, shape or size); things are told by size, colour, shape and by where
    they are (left of, right of, above, below another).

    Args:
        num_scenes, seed, image_size, split: as for `scenes_dataset`, whose scenes these are.
        per_scene: questions a scene, at most.

    Returns:
        Rows of `VQA_FEATURES`: one answer each, which `answers` and `answer` both hold; `question_type` is the kind;
        questions that are not yes or no have four `choices` (fewer where there are fewer values); `details` is JSON
        with the `program`.

    Raises:
        ValueError: as `scenes_dataset`, and for `per_scene` below 1.

    >>> rows = scene_question_rows(1, per_scene=2)
    >>> len(rows), rows[0]["image_id"], rows[0]["answers"] == [rows[0]["answer"]]
    (2, 'scene-train-0-0', True)
    """
    if per_scene < 1:
        raise ValueError(f"per_scene is {per_scene}; ask at least one question a scene")
    scenes = scenes_dataset(num_scenes, seed=seed, image_size=image_size, split=split)
    images = scenes.cast_column("image", datasets.Image(decode=False))
    columns: dict[str, list[Any]] = {name: [] for name in VQA_FEATURES}
    for row in images:
        rng = random.Random(f"questions-{row['image_id']}")
        for number, asked in enumerate(chosen_questions(row["objects"], rng=rng, most=per_scene)):
            choices = choices_of(asked, rng=rng)
            values = {
                "question_id": f"{row['image_id']}-{number}",
                "image_id": row["image_id"],
                "image": row["image"],
                "question": asked.question,
                "answers": [asked.answer],
                "answer": asked.answer,
                "question_type": asked.kind,
                "answer_type": answer_type(asked.answer),
                "choices": choices,
                "correct_choice": choices.index(asked.answer) if choices else -1,
                "split": split,
                "details": json.dumps({"program": asked.program}),
            }
            for name, value in values.items():
                columns[name].append(value)
    return datasets.Dataset.from_dict(columns, features=VQA_FEATURES)


def answer_type(answer: str) -> str:
    """VQA's kind of an answer: `yes/no`, `number` or `other`."""
    return "yes/no" if answer in YES_NO else "number" if answer in NUMBERS else "other"


# -- choosing ---------------------------------------------------------------------------------------------------------


def chosen_questions(things: Sequence[Thing], *, rng: random.Random, most: int) -> list[Asked]:
    """Up to `most` different questions on a scene, kinds in turn, of each kind a form and of each form an answer.

    An answer is drawn first and a question with it second: else most things would be absent, and most counts 1. It is
    drawn for each form by itself, since a form whose answers were less even than its kind's would tell the answer.
    """
    groups: dict[str, dict[str, dict[str, list[Asked]]]] = {}
    for asked in candidates(things):
        forms = groups.setdefault(asked.kind, {})
        forms.setdefault(form_of(asked.program), {}).setdefault(asked.answer, []).append(asked)
    chosen: list[Asked] = []
    kinds = sorted(groups)
    rng.shuffle(kinds)
    while kinds and len(chosen) < most:
        kind = kinds.pop(0)
        form = rng.choice(sorted(groups[kind]))
        answers = groups[kind][form]
        listed = sorted(answers)
        (answer,) = rng.choices(listed, weights=[RARER.get(answer, 1.0) for answer in listed])
        asked = answers[answer].pop(rng.randrange(len(answers[answer])))
        if listed == ["no"]:
            continue  # else scenes without any yes, few of which have no no, would make no the better guess
        if not answers[answer]:
            del answers[answer]
        if not answers:
            del groups[kind][form]
        chosen.append(asked)
        if groups[kind]:
            kinds.append(kind)
    return chosen


def form_of(program: Program) -> str:
    """How a yes/no question is put, its values left out: the functions of its program. "" for all other questions.

    >>> form_of(["exist", ["filter", "colour", "red", ["scene"]]]), form_of(["count", ["scene"]])
    ('exist filter scene', '')
    """
    if program[0] in ("count", "query"):
        return ""
    return " ".join([program[0], *(form_of(part) for part in program[1:] if isinstance(part, list))])


def choices_of(asked: Asked, *, rng: random.Random) -> list[str]:
    """Four answers to choose from, the right one among them; none for yes and no."""
    if asked.answer in YES_NO:
        return []
    pool = next(values for values in (NUMBERS, *VALUES.values()) if asked.answer in values)
    others = [value for value in pool if value != asked.answer]
    if asked.answer in NUMBERS:
        others.sort(key=lambda value: abs(int(value) - int(asked.answer)))  # near numbers are the hard ones
        others = others[: NUM_CHOICES - 1]
    choices = [asked.answer, *rng.sample(others, k=min(NUM_CHOICES - 1, len(others)))]
    rng.shuffle(choices)
    return choices


# -- asking -----------------------------------------------------------------------------------------------------------


def candidates(things: Sequence[Thing]) -> Iterator[Asked]:
    """Every question on a scene that makes sense."""
    kinds = sorted({frozenset(found.items()) for found in descriptions(things)}, key=sorted)
    sets = [dict(kind) for kind in kinds]
    yield from counting(things, sets)
    yield from comparing(things, sets)
    for found, program in unique_things(things, sets):
        yield from querying(things, found, program)


def descriptions(things: Sequence[Thing]) -> Iterator[dict[str, str]]:
    """Ways to tell some things from others: of each thing, and with one value changed, what is not there."""
    for thing in things:
        for used in product((False, True), repeat=len(ATTRIBUTES)):
            found = {name: thing[name] for name, use in zip(ATTRIBUTES, used, strict=True) if use}
            yield found
            for name in found:
                for value in VALUES[name]:
                    yield {**found, name: value}


def counting(things: Sequence[Thing], sets: Sequence[Mapping[str, str]]) -> Iterator[Asked]:
    """How many there are, and whether there is one; anywhere, or on one side of a thing."""
    for found in sets:
        program = filtered(found)
        yield ask(things, "count", f"how many {noun(found, several=True)} are there?", ["count", program])
        if found:
            yield ask(things, "exist", f"is there {noun(found, article=True)}?", ["exist", program])
    for one, told in unique_things(things, sets):
        for relation in RELATIONS:
            beside = ["relate", relation, told]
            words = f"{relation} the {noun(one)}"
            yield ask(things, "count", f"how many things are {words}?", ["count", beside])
            yield ask(things, "exist", f"is there anything {words}?", ["exist", beside])


def comparing(things: Sequence[Thing], sets: Sequence[Mapping[str, str]]) -> Iterator[Asked]:
    """Whether there are more of one shape or colour than of another, or as many."""
    for name in ("colour", "name"):
        told = [found for found in sets if set(found) == {name}]
        there = [execute(["exist", filtered(found)], things) == "yes" for found in told]
        for (one, is_one), (other, is_other) in product(zip(told, there, strict=True), repeat=2):
            if one == other or not (is_one or is_other):
                continue
            programs = [filtered(one), filtered(other)]
            first, second = noun(one, several=True), noun(other, several=True)
            yield ask(things, "compare", f"are there more {first} than {second}?", ["more", *programs])
            yield ask(things, "compare", f"are there as many {first} as {second}?", ["equal", *programs])


def querying(things: Sequence[Thing], found: Mapping[str, str], program: Program) -> Iterator[Asked]:
    """What is to be known of one thing, beside what tells it from the others."""
    for name, question in ASKED.items():
        if name not in found:
            kind = {"colour": "query_color", "name": "query_shape", "size": "query_size"}[name]
            yield ask(things, kind, question.format(noun(found)), ["query", name, program])
        elif len(found) > 1:
            others = {"colour": "color", "name": "shape", "size": "size"}[name]
            text = f"how many other things have the same {others} as the {noun(found)}?"
            yield ask(things, "same", text, ["count", ["same", name, program]])
    if execute(["query", "text", program], things):
        yield ask(things, "query_word", f"what word is on the {noun(found)}?", ["query", "text", program])


def unique_things(
    things: Sequence[Thing], sets: Sequence[Mapping[str, str]]
) -> Iterator[tuple[Mapping[str, str], Program]]:
    """Descriptions that fit exactly one thing, each with the program that finds it."""
    for found in sets:
        if found and execute(["count", filtered(found)], things) == "1":
            yield found, ["unique", filtered(found)]


def ask(things: Sequence[Thing], kind: str, question: str, program: Program) -> Asked:
    return Asked(kind, question, program, execute(program, things))


def filtered(found: Mapping[str, str]) -> Program:
    """The program that finds the things of a description."""
    program: Program = ["scene"]
    for name in ATTRIBUTES:
        if name in found:
            program = ["filter", name, found[name], program]
    return program


def noun(found: Mapping[str, str], *, several: bool = False, article: bool = False) -> str:
    """A description in words.

    >>> noun({"size": "large", "name": "star"}, several=True), noun({"colour": "orange"}, article=True)
    ('large stars', 'an orange thing')
    """
    head = found.get("name", "thing")
    plural = PLURALS.get(head, f"{head}s")
    words = " ".join([*(found[name] for name in ("size", "colour") if name in found), plural if several else head])
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}" if article else words


# -- answering --------------------------------------------------------------------------------------------------------


def execute(program: Program, things: Sequence[Thing]) -> str:
    """The answer of a program on a scene's `objects`.

    Functions: `count`, `exist` (of things); `more`, `equal` (of two lots); `query` (attribute, thing). Things come of
    `scene`, `filter` (attribute, value, things), `relate` (relation, thing: what is left of it, ...) and `same`
    (attribute, thing: the others with its value); one thing of `unique`.

    Raises `ValueError` for an unknown function, and for `unique` of none or several things.

    >>> execute(["count", ["filter", "colour", "red", ["scene"]]], [{"colour": "red"}, {"colour": "blue"}])
    '1'
    """
    function, *arguments = program
    if function == "query":
        name, thing = arguments
        return things[found_things(thing, things)[0]].get(name, "")
    numbers = [len(found_things(argument, things)) for argument in arguments]
    if function == "count":
        return str(numbers[0])
    truths = {"exist": numbers[0] > 0, "more": numbers[0] > numbers[-1], "equal": numbers[0] == numbers[-1]}
    if function not in truths:
        raise ValueError(f"no program begins with {function!r}; there are count, query, {', '.join(truths)}")
    return YES_NO[truths[function]]


def found_things(program: Program, things: Sequence[Thing]) -> list[int]:
    """The places of the things that a program finds."""
    function, *arguments = program
    if function == "scene":
        return list(range(len(things)))
    found = found_things(arguments[-1], things)
    if function == "filter":
        return [place for place in found if things[place][arguments[0]] == arguments[1]]
    if function == "unique":
        if len(found) != 1:
            raise ValueError(f"{len(found)} things fit {arguments[0]}; there must be one")
        return found
    (one,) = found
    if function == "relate":
        holds = RELATIONS[arguments[0]]
        return [place for place, thing in enumerate(things) if place != one and holds(thing, things[one])]
    if function == "same":
        name = arguments[0]
        return [place for place, thing in enumerate(things) if place != one and thing[name] == things[one][name]]
    raise ValueError(f"nothing is found by {function!r}; there are scene, filter, unique, relate and same")
