"""The drawn scenes of `training/scenes/draw.py` as dense captions: each shape in several words, and the whole.

scenes --read_scene_descriptions--> boxes with what is said of them
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import datasets
import numpy as np

from training.data.boxes.rows import ImageListing, dataset_of
from training.data.descriptions.rows import DESCRIPTION_FEATURES, description_row
from training.scenes.draw import NUMBERS, PLURALS, scenes_dataset

WHOLE = (0.0, 0.0, 1.0, 1.0)
Thing = Mapping[str, Any]


def read_scene_descriptions(num_scenes: int, *, seed: int = 0, image_size: int = 128, split: str = "train") -> Any:
    """Rows of `DESCRIPTION_FEATURES`: each shape ("a small red star", "a red star"), and the whole scene by its number
    of shapes ("three shapes"), which needs context. Arguments and errors as for `scenes_dataset`."""
    scenes = scenes_dataset(num_scenes, seed=seed, image_size=image_size, split=split)
    rows = (
        description_row(
            ImageListing(scene["image_id"], "", None, scene["split"]),
            described=list(scene_descriptions(scene["objects"])),
            image_bytes=scene["image"]["bytes"],
        )
        for scene in scenes.cast_column("image", datasets.Image(decode=False))
    )
    return dataset_of(rows, DESCRIPTION_FEATURES)


def scene_descriptions(things: Sequence[Thing]) -> Iterator[tuple[Any, list[str]]]:
    """The boxes with what is said of them; copies of a shape say how many there are ("one of two red stars").

    >>> star = {"size": "small", "colour": "red", "name": "star", "box": [0, 0, 0.5, 0.5]}
    >>> [texts for _, texts in scene_descriptions([star])]
    [['a small red star', 'a red star'], ['one shape']]
    """
    kinds = [(thing["colour"], thing["name"]) for thing in things]
    for thing, kind in zip(things, kinds, strict=True):
        colour, name = kind
        texts = [f"a {thing['size']} {colour} {name}", f"{'an' if colour[0] in 'aeiou' else 'a'} {colour} {name}"]
        copies = kinds.count(kind)
        if copies > 1:
            texts.append(f"one of {NUMBERS[copies]} {colour} {PLURALS[name]}")
        yield np.asarray(thing["box"]), texts
    yield np.asarray(WHOLE), [f"{NUMBERS[len(things)]} shape{'s' if len(things) > 1 else ''}"]
