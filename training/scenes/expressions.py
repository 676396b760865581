"""The drawn scenes of `training/scenes/draw.py` as rows of a grounding data set: shapes by attribute, relation, number.

scenes --read_scene_phrases--> sentences with phrases, each with the boxes of the shapes that it names
training/scenes/referring.py --expression_sentences--> expressions, some of them without a referent
"""

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import datasets
import numpy as np

from training.data.boxes.rows import ImageListing, dataset_of
from training.data.phrases.rows import PHRASE_FEATURES, GroundedPhrase, phrase_row
from training.scenes.draw import NUMBERS, PHRASES, PLURALS, scenes_dataset, shape_polygon
from training.scenes.referring import draw_expressions

MOST_RELATIONS = 2  # sentences of a scene that tell where a shape is
Thing = Mapping[str, Any]


def read_scene_phrases(
    num_scenes: int,
    *,
    seed: int = 0,
    image_size: int = 128,
    split: str = "train",
    expressions: int = 0,
    none_share: float = 0.0,
) -> Any:
    """Rows of `PHRASE_FEATURES`: one sentence names all kinds of shapes ("two red stars and a blue circle"), others
    tell where a shape is from another ("the red star to the left of the blue circle").

    A phrase's kind is `number` where it names several shapes, `attribute` where it names one, and `relation` where the
    whole expression names one.

    Args:
        num_scenes, seed, image_size, split: as for `scenes_dataset`, whose errors this has.
        expressions: so many expressions a scene (fewer where it has no more) in the place of these sentences, by
            attribute, relation, place and number (`training/scenes/referring.py`).
        none_share: how likely each of them has no referent, 0 up to 1; whether it has any cannot be told by its words.

    Raises:
        ValueError: for numbers that are none, and for `none_share` without `expressions`.
    """
    if expressions < 0 or not 0 <= none_share < 1 or (none_share and not expressions):
        raise ValueError(
            f"expressions={expressions} and none_share={none_share}: give a number of expressions a scene, and from 0 "
            "up to 1 how many of them have no referent"
        )
    scenes = scenes_dataset(num_scenes, seed=seed, image_size=image_size, split=split)
    rows = (
        phrase_row(
            ImageListing(scene["image_id"], "", None, scene["split"]),
            sentences=outlined(
                expression_sentences(scene, expressions, none_share=none_share)
                if expressions
                else [kinds_sentence(scene["objects"]), *relation_sentences(scene)],
                scene["objects"],
            ),
            image_bytes=scene["image"]["bytes"],
        )
        for scene in scenes.cast_column("image", datasets.Image(decode=False))
    )
    return dataset_of(rows, PHRASE_FEATURES)


def outlined(
    sentences: Iterable[tuple[str, list[GroundedPhrase]]], things: Sequence[Thing]
) -> list[tuple[str, list[GroundedPhrase]]]:
    """Sentences whose phrases have the outlines of the shapes in their boxes as polygons."""
    outlines = {tuple(thing["box"]): [shape_polygon(thing["name"], thing["box"])] for thing in things}
    return [
        (
            text,
            [replace(phrase, polygons=[outlines[tuple(box)] for box in phrase.boxes.tolist()]) for phrase in phrases],
        )
        for text, phrases in sentences
    ]


def kinds_sentence(things: Sequence[Thing]) -> tuple[str, list[GroundedPhrase]]:
    """A sentence that names every kind of shape, and its phrases.

    >>> kinds_sentence([{"colour": "red", "name": "star", "box": [0, 0, 0.5, 0.5]}] * 2)[0]
    'two red stars'
    """
    kinds: dict[tuple[str, str], list[list[float]]] = {}
    for thing in things:
        kinds.setdefault((thing["colour"], thing["name"]), []).append(thing["box"])
    text, phrases = "", []
    for (colour, name), boxes in kinds.items():
        several = len(boxes) > 1
        text += " and " if text else ""
        words = f"{NUMBERS[len(boxes)]} {colour} {PLURALS[name]}" if several else f"the {colour} {name}"
        kind = ("number",) if several else ("attribute",)
        phrases.append(GroundedPhrase(len(text), len(text) + len(words), np.asarray(boxes), kind))
        text += words
    return text, phrases


def expression_sentences(
    scene: Mapping[str, Any], number: int, *, none_share: float
) -> list[tuple[str, list[GroundedPhrase]]]:
    """Expressions of a scene, each with the boxes of what it means; the same for the same `image_id`."""
    rng = random.Random(f"expressions-{scene['image_id']}")
    boxes = np.asarray([thing["box"] for thing in scene["objects"]], dtype=np.float32).reshape(-1, 4)
    found = []
    for drawn in draw_expressions(scene, number, rng=rng, none_share=none_share):
        own = boxes[list(drawn.things)]
        found.append((drawn.text, [GroundedPhrase(0, len(drawn.text), own, (drawn.kind,), absent=not drawn.things)]))
    return found


def relation_sentences(scene: Mapping[str, Any]) -> Iterator[tuple[str, list[GroundedPhrase]]]:
    """Expressions of a shape by its place from another: the whole is one phrase. Only shapes that are one of a kind."""
    things = scene["objects"]
    names = [f"the {thing['colour']} {thing['name']}" for thing in things]
    told = [r for r in scene["relations"] if all(names.count(names[r[end]]) == 1 for end in ("subject", "object"))]
    for relation in told[:MOST_RELATIONS]:
        subject = things[relation["subject"]]
        where = PHRASES.get(relation["predicate"], relation["predicate"])
        text = f"the {subject['name']} {where} {names[relation['object']]}"
        same = [thing for thing in things if thing["name"] == subject["name"]]
        if len(same) == 1:
            yield text, [GroundedPhrase(0, len(text), np.asarray([subject["box"]]), ("relation",))]
