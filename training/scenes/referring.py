"""Expressions for the shapes of a drawn scene, and expressions that nothing in it is meant by.

    objects, relations of a scene --pools--> expressions by kind, with and without a referent --draw_expressions--> some

Kinds: `attribute` ("the small red star"), `relation` ("the star to the left of the blue circle"), `place` ("the
left-most star") and `number` ("the two red stars"). Whether an expression has a referent cannot be told from its words:
with or without is drawn where the scene allows both for the same form (`Form`). Where a shape is from another, both
ways to see it must agree: one that means a shape is true by the scene graph, and by the middles of the shapes no other
shape fits; one without a referent is false by the middles, too.
"""

import random
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

from training.scenes.draw import COLOURS, CORNERS, NUMBERS, PHRASES, PLURALS, SIDES
from training.scenes.questions import noun

Thing = Mapping[str, Any]
Form = tuple[Hashable, ...]  # the words of an expression that may tell whether it has a referent
ATTRIBUTES: tuple[tuple[str, ...], ...] = (
    *(("name",), ("colour",), ("colour", "name"), ("size", "name"), ("size", "colour"), ("size", "colour", "name")),
)
PLACES = {"left-most": (0, 1), "right-most": (0, -1), "top-most": (1, 1), "bottom-most": (1, -1)}  # axis, which end
APART = 0.06  # of the image's side, by which the middle of the outermost shape is beyond the next one's
CLOSE: dict[str, Callable[[Thing, Thing], bool]] = {  # by the middles, whether the first shape is that to the second
    "left of": lambda one, other: middle(one, 0) < middle(other, 0),
    "right of": lambda one, other: middle(one, 0) > middle(other, 0),
    "above": lambda one, other: middle(one, 1) < middle(other, 1),
    "below": lambda one, other: middle(one, 1) > middle(other, 1),
    "inside": lambda one, other: all(other["box"][k] <= middle(one, k) <= other["box"][k + 2] for k in (0, 1)),
}


class Drawn(NamedTuple):
    """An expression: its words, its kind, and the places of the shapes that it means, none without a referent."""

    text: str
    kind: str
    things: tuple[int, ...]


def draw_expressions(
    scene: Mapping[str, Any], number: int, *, rng: random.Random, none_share: float = 0.0
) -> list[Drawn]:
    """Up to `number` different expressions of a scene, kinds in turn, of each form one at most.

    A second of the same form would be left out where it says the same, which befalls the few expressions with a
    referent more often than the many without.

    Args:
        scene: `objects` and `relations`, as a row of `scenes_dataset` has them.
        none_share: how likely an expression has no referent, 0 up to 1 (not included).
    """
    usable = {
        kind: sorted((own for own in forms.values() if own[0] and (own[1] or not none_share)), key=str)
        for kind, forms in pools(scene).items()
    }
    kinds = sorted(kind for kind, forms in usable.items() if forms)
    rng.shuffle(kinds)
    chosen: list[Drawn] = []
    while kinds and len(chosen) < number:
        kind = kinds.pop(0)
        with_referent, without = usable[kind].pop(rng.randrange(len(usable[kind])))
        chosen.append(rng.choice(without if rng.random() < none_share else with_referent))
        if usable[kind]:
            kinds.append(kind)
    return chosen


def pools(scene: Mapping[str, Any]) -> dict[str, dict[Form, tuple[list[Drawn], list[Drawn]]]]:
    """All expressions of a scene by kind and form: those with a referent, and those without."""
    things = scene["objects"]
    found: dict[str, dict[Form, tuple[list[Drawn], list[Drawn]]]] = {}
    for kind, made in (
        ("attribute", by_attribute(things)),
        ("relation", by_relation(things, scene["relations"])),
        ("place", by_place(things)),
        ("number", by_number(things)),
    ):
        forms: dict[Form, tuple[list[Drawn], list[Drawn]]] = defaultdict(lambda: ([], []))
        for form, text, meant in made:
            forms[form][not meant].append(Drawn(text, kind, meant))
        found[kind] = dict(forms)
    return found


def by_attribute(things: Sequence[Thing]) -> Iterator[tuple[Form, str, tuple[int, ...]]]:
    """Descriptions that fit one shape, or none."""
    values = {"size": tuple(SIDES), "colour": tuple(COLOURS), "name": tuple(CORNERS)}
    for names in ATTRIBUTES:
        for chosen in product(*(values[name] for name in names)):
            told = dict(zip(names, chosen, strict=True))
            meant = fitting(told, things)
            if len(meant) < 2:
                yield (names, told.get("size")), f"the {noun(told)}", tuple(meant)


def by_relation(
    things: Sequence[Thing], relations: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[Form, str, tuple[int, ...]]]:
    """A shape by its name and where it is from one that is alone in its colour and name."""
    true = {(relation["subject"], relation["predicate"], relation["object"]) for relation in relations}
    for target, other in enumerate(things):
        told = {"colour": other["colour"], "name": other["name"]}
        if fitting(told, things) != [target]:
            continue
        for name, (predicate, holds) in product(CORNERS, CLOSE.items()):
            near = [
                place for place in fitting({"name": name}, things) if place != target and holds(things[place], other)
            ]
            exact = [place for place in near if (place, predicate, target) in true]
            if not near or (len(near) == 1 and near == exact):
                form = (predicate, name == other["name"], other["name"] if predicate == "inside" else "")
                yield form, f"the {name} {PHRASES.get(predicate, predicate)} the {noun(told)}", tuple(exact)


def by_place(things: Sequence[Thing]) -> Iterator[tuple[Form, str, tuple[int, ...]]]:
    """The outermost of several shapes of a name or a colour."""
    values = {"name": tuple(CORNERS), "colour": tuple(COLOURS)}
    for (word, (axis, end)), (attribute, own) in product(PLACES.items(), values.items()):
        for value in own:
            told = {attribute: value}
            order = sorted(fitting(told, things), key=lambda place: end * middle(things[place], axis))
            ends = [end * middle(things[place], axis) for place in order[:2]]
            if not order or (len(order) > 1 and ends[1] - ends[0] >= APART):
                yield (word, attribute), f"the {word} {noun(told)}", tuple(order[:1])


def by_number(things: Sequence[Thing]) -> Iterator[tuple[Form, str, tuple[int, ...]]]:
    """All of so many shapes alike; none where there are others than so many."""
    for number, colour, name in product((2, 3), COLOURS, CORNERS):
        meant = fitting({"colour": colour, "name": name}, things)
        text = f"the {NUMBERS[number]} {colour} {PLURALS[name]}"
        yield (number,), text, tuple(meant) if len(meant) == number else ()


def fitting(told: Mapping[str, str], things: Sequence[Thing]) -> list[int]:
    """The places of the shapes that have these attributes."""
    return [place for place, thing in enumerate(things) if all(thing[name] == value for name, value in told.items())]


def middle(thing: Thing, axis: int) -> float:
    """Of a shape's box, 0..1 of the image; axis 0 from the left, 1 from the top."""
    return (thing["box"][axis] + thing["box"][axis + 2]) / 2
