"""The drawn scenes of `training/scenes/draw.py` as questions with tags, answers and rationales, in the manner of VCR.

scenes --read_scene_commonsense--> ChoiceData: items of the kinds `answer` and `rationale`

Every shape is called "thing" in the words, and which one is meant only its link tells: "what color is [thing]?" Kinds
are `color`, `shape` and `place` ("where is [thing] from [thing]?"). Words alone tell nothing: the wrong answers are
drawn as evenly as the right ones, and the four rationales are all combinations of two values of two attributes, so that
none of them stands out.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

import datasets

from processors.region_links_updown import RegionLink
from training.data.boxes.rows import ImageListing
from training.data.choices.rows import ChoiceData, ChoiceItem, ChoiceText, choice_data
from training.scenes.draw import COLOURS, CORNERS, scenes_dataset

Thing = Mapping[str, Any]
WORD = "thing"  # of every shape
PLACES = {"left of": "to the left", "right of": "to the right", "above": "above it", "below": "below it"}
HALVES = {"x": ("on the left", "on the right"), "y": ("at the top", "at the bottom")}
CLEAR = 0.08  # of the image's side, how far from its middle a shape must be to be in one half
ASKED = {"colour": "what color is [0]?", "name": "what shape is [0]?"}
VALUES = {"colour": tuple(COLOURS), "name": tuple(CORNERS)}


class Asked(NamedTuple):
    """A question: its things by number (those that `[0]` and `[1]` stand for), candidates with the right one first."""

    kind: str
    things: tuple[int, ...]
    question: str
    answers: list[str]
    rationales: list[str]


def read_scene_commonsense(
    num_scenes: int, *, seed: int = 0, image_size: int = 128, split: str = "train", per_scene: int = 3
) -> ChoiceData:
    """Questions with four answers and four rationales each, on drawn scenes.

    Args:
        num_scenes, seed, image_size, split: as for `scenes_dataset`, whose scenes these are.
        per_scene: questions a scene, at most.

    Raises `ValueError` as `scenes_dataset`, and for `per_scene` below 1.

    >>> data = read_scene_commonsense(1, image_size=32, per_scene=1)
    >>> data.rows["kind"][:], [len(own) for own in data.rows["candidates"]]
    (['answer', 'rationale'], [4, 4])
    """
    if per_scene < 1:
        raise ValueError(f"per_scene is {per_scene}; ask at least one question a scene")
    scenes = scenes_dataset(num_scenes, seed=seed, image_size=image_size, split=split)
    return choice_data(
        (
            item
            for scene in scenes.cast_column("image", datasets.Image(decode=False))
            for item in scene_items(scene, per_scene=per_scene)
        ),
        source="the drawn scenes",
    )


def scene_items(scene: Mapping[str, Any], *, per_scene: int) -> Iterator[ChoiceItem]:
    """The items of one scene, those of its answers before those of its rationales."""
    draw = random.Random(f"commonsense-{scene['image_id']}")
    things = scene["objects"]
    found = list(questions(things, scene["relations"], draw))
    draw.shuffle(found)
    image = ImageListing(scene["image_id"], "", None, scene["split"])
    given: Any = {"image": image, "boxes": [thing["box"] for thing in things], "names": [WORD] * len(things)}
    given["image_bytes"] = scene["image"]["bytes"]
    for number, asked in enumerate(found[:per_scene]):
        group = f"{scene['image_id']}-{number}"
        question = tagged(asked.question, asked.things)
        answers, right = shuffled(asked.answers, asked.things, draw)
        reasons, reason = shuffled(asked.rationales, asked.things, draw)
        own: Any = {"group": group, **given}
        yield ChoiceItem(f"{group}-answer", kind="answer", context=(question,), candidates=answers, label=right, **own)
        context = (question, answers[right])
        yield ChoiceItem(
            f"{group}-rationale", kind="rationale", context=context, candidates=reasons, label=reason, **own
        )


def tagged(words: str, things: Sequence[int]) -> ChoiceText:
    """`[0]` and `[1]` in words become things that carry the objects of those places.

    >>> tagged("is [1] red?", [4, 2])
    ChoiceText(text='is thing red?', links=(RegionLink(start=3, end=8, regions=(2,)),))
    """
    text, links, rest = "", [], words
    while "[" in rest:
        before, _, rest = rest.partition("[")
        place, _, rest = rest.partition("]")
        text += before
        links.append(RegionLink(len(text), len(text) + len(WORD), (things[int(place)],)))
        text += WORD
    return ChoiceText(text + rest, tuple(links))


def shuffled(texts: Sequence[str], things: Sequence[int], draw: random.Random) -> tuple[tuple[ChoiceText, ...], int]:
    """Candidates in a drawn order, and where the first of them now stands."""
    order = draw.sample(range(len(texts)), k=len(texts))
    return tuple(tagged(texts[place], things) for place in order), order.index(0)


def questions(things: Sequence[Thing], relations: Sequence[Mapping[str, Any]], draw: random.Random) -> Iterator[Asked]:
    """What can be asked of a scene: the colour and shape of each thing, and where one is from another."""
    for place, thing in enumerate(things):
        half = half_of(thing)
        if half is None:
            continue
        true, false = half
        for asked, told in (("colour", "name"), ("name", "colour")):
            others = draw.sample([value for value in VALUES[asked] if value != thing[asked]], k=3)
            other = draw.choice([value for value in VALUES[told] if value != thing[told]])
            form = "[0] is a {} {}" if told == "name" else "[0] is {} and {}"
            reasons = [form.format(value, where) for value, where in product((thing[told], other), (true, false))]
            yield Asked(asked, (place,), ASKED[asked], [thing[asked], *others], reasons)
    for relation in relations:
        if relation["predicate"] not in PLACES:
            continue
        pair = (relation["subject"], relation["object"])
        right = PLACES[relation["predicate"]]
        answers = [right, *(words for words in PLACES.values() if words != right)]
        colours = [
            (things[place]["colour"], draw.choice([c for c in COLOURS if c != things[place]["colour"]]))
            for place in pair
        ]
        reasons = [f"[0] is the {one} one and [1] the {two} one" for one, two in product(*colours)]
        yield Asked("place", pair, "where is [0] from [1]?", answers, reasons)


def half_of(thing: Thing) -> tuple[str, str] | None:
    """The half of the image that a thing is clearly in, and the other one; None where it is near the middle."""
    left, top, right, bottom = thing["box"]
    offsets = {"x": (left + right) / 2 - 0.5, "y": (top + bottom) / 2 - 0.5}
    axis = max(offsets, key=lambda name: abs(offsets[name]))
    if abs(offsets[axis]) < CLEAR:
        return None
    first, last = HALVES[axis]
    return (first, last) if offsets[axis] < 0 else (last, first)
