"""The drawn scenes of `training/scenes/draw.py` as dialogues with a hundred candidates a round, as in VisDial.

scenes --read_scene_dialogues--> ChoiceData: items of the kind `round`

A dialogue asks for the things furthest to each side, of each description one. "and on the other side?" asks for the
opposite of the question before, so its history must be read; the caption tells the number of shapes alone. Answers are
"a large red star", one of 70 descriptions; among the candidates are all of these, and others without a size. Relevances
are by the scene graph: 1 for the right description, 0.5 for the same without its size, 0.2 for the other size.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

import datasets

from training.data.boxes.rows import ImageListing
from training.data.choices.rows import ChoiceData, ChoiceItem, ChoiceText, choice_data
from training.scenes.draw import COLOURS, CORNERS, NUMBERS, SIDES, scenes_dataset

Thing = Mapping[str, Any]
NUM_CANDIDATES = 100
APART = 0.03  # of the image's side, by which a thing must lead all others
FURTHEST = {  # side -> (corner of the box, whether the smallest leads)
    "to the left": (0, True),
    "to the right": (2, False),
    "to the top": (1, True),
    "to the bottom": (3, False),
}
OPPOSITE = {"to the left": "to the right", "to the top": "to the bottom"}
OPPOSITE |= {other: side for side, other in OPPOSITE.items()}
ASKED = ("what is furthest {}?", "which thing is furthest {}?")
FOLLOWED = ("and on the other side?", "and on the opposite side?")
SAME_THING, NO_SIZE, OTHER_SIZE = 1.0, 0.5, 0.2


def read_scene_dialogues(
    num_scenes: int, *, seed: int = 0, image_size: int = 128, split: str = "train", rounds: int = 4
) -> ChoiceData:
    """Dialogues of up to four rounds on drawn scenes.

    Args:
        num_scenes, seed, image_size, split: as for `scenes_dataset`, whose scenes these are.
        rounds: of a dialogue, at most.

    Raises `ValueError` as `scenes_dataset`, and for `rounds` below 1.

    >>> data = read_scene_dialogues(2, image_size=32)
    >>> len(data.rows[0]["candidates"]), max(data.rows[0]["relevance"])
    (100, 1.0)
    """
    if rounds < 1:
        raise ValueError(f"rounds is {rounds}; a dialogue has one or more")
    scenes = scenes_dataset(num_scenes, seed=seed, image_size=image_size, split=split)
    return choice_data(
        (
            item
            for scene in scenes.cast_column("image", datasets.Image(decode=False))
            for item in scene_rounds(scene, most=rounds)
        ),
        source="the drawn scenes",
    )


def scene_rounds(scene: Mapping[str, Any], *, most: int) -> Iterator[ChoiceItem]:
    """The rounds of one scene's dialogue, with their history."""
    draw = random.Random(f"dialogue-{scene['image_id']}")
    things = scene["objects"]
    number = len(things)
    history = [ChoiceText(f"a picture of {NUMBERS[number] if number < len(NUMBERS) else number} shapes")]
    image = ImageListing(scene["image_id"], "", None, scene["split"])
    given: Any = {"image": image, "image_bytes": scene["image"]["bytes"], "group": scene["image_id"], "kind": "round"}
    given |= {"boxes": [thing["box"] for thing in things], "names": [thing["name"] for thing in things]}
    for place, (question, thing) in enumerate(turns(things, draw)[:most], start=1):
        history.append(ChoiceText(question))
        candidates = drawn_candidates(draw)
        right = described(thing)
        yield ChoiceItem(
            f"{scene['image_id']}-{place}",
            context=tuple(history),
            candidates=tuple(map(ChoiceText, candidates)),
            label=candidates.index(right),
            relevance=tuple(relevance_of(text, thing) for text in candidates),
            **given,
        )
        history.append(ChoiceText(right))


def turns(things: Sequence[Thing], draw: random.Random) -> list[tuple[str, Thing]]:
    """Questions and what they ask for: each side in a drawn order, an opposite often asked as such.

    No two answers are the same.
    """
    found: list[tuple[str, Thing]] = []
    sides, last, told = list(FURTHEST), "", set()
    draw.shuffle(sides)
    while sides:
        side = OPPOSITE.get(last, "") if OPPOSITE.get(last, "") in sides and draw.random() < 0.6 else sides[0]
        sides.remove(side)
        thing = leading(things, side)
        if thing is None or described(thing) in told:
            continue  # what was said before would tell the answer
        told.add(described(thing))
        follows = last and OPPOSITE[last] == side
        found.append((draw.choice(FOLLOWED) if follows else draw.choice(ASKED).format(side), thing))
        last = side
    return found


def leading(things: Sequence[Thing], side: str) -> Thing | None:
    """The thing furthest to a side, None where another one is nearly as far."""
    corner, smallest = FURTHEST[side]
    order = sorted(things, key=lambda thing: thing["box"][corner], reverse=not smallest)
    if len(order) > 1 and abs(order[0]["box"][corner] - order[1]["box"][corner]) < APART:
        return None
    return order[0]


def described(thing: Thing, *, size: bool = True) -> str:
    """A thing in words.

    >>> described({"size": "large", "colour": "red", "name": "star"}), described({"colour": "orange", "name": "star"},
    ...           size=False)
    ('a large red star', 'an orange star')
    """
    words = " ".join([*([thing["size"]] if size else []), thing["colour"], thing["name"]])
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def drawn_candidates(draw: random.Random) -> list[str]:
    """A hundred different descriptions: all 70 with a size, and 30 without."""
    kinds = [dict(zip(("size", "colour", "name"), kind, strict=True)) for kind in product(SIDES, COLOURS, CORNERS)]
    whole = [described(kind) for kind in kinds]
    bare = sorted({described(kind, size=False) for kind in kinds})
    found = [*whole, *draw.sample(bare, k=NUM_CANDIDATES - len(whole))]
    draw.shuffle(found)
    return found


def relevance_of(text: str, thing: Thing) -> float:
    """How right a description of a thing is, 0..1."""
    other = {**thing, "size": next(size for size in SIDES if size != thing["size"])}
    graded = {described(thing): SAME_THING, described(thing, size=False): NO_SIZE, described(other): OTHER_SIZE}
    return graded.get(text, 0.0)
