"""The drawn scenes of `training/scenes/draw.py` as rows of a detection data set.

scenes --read_scene_boxes--> DetectionData
"""

from collections.abc import Mapping
from typing import Any

import datasets
import numpy as np

from training.data.boxes.rows import DetectionData, ImageListing, detection_dataset, detection_row
from training.scenes.draw import COLOURS, CORNERS, SIDES, scenes_dataset, shape_polygon


def read_scene_boxes(
    num_scenes: int,
    *,
    seed: int = 0,
    image_size: int = 128,
    split: str = "train",
    coloured: bool = False,
    phrases: bool = False,
) -> DetectionData:
    """Shapes are the objects, their colours and sizes the attributes, their outlines the masks; a shape that carries
    another or a word is whole beneath it.

    Arguments as for `scenes_dataset`; relations as it gives them. coloured: the objects are "red star" and the like, 35
    names, and the attributes sizes alone. phrases: of each shape "a red star" and "a large red star" are said, as
    regions; else none.
    """
    object_names, attribute_names = list(CORNERS), [*COLOURS, *SIDES]
    if coloured:
        object_names, attribute_names = [f"{colour} {name}" for name in CORNERS for colour in COLOURS], list(SIDES)
    scenes = scenes_dataset(num_scenes, seed=seed, image_size=image_size, split=split)
    rows = detection_dataset(
        detection_row(
            ImageListing(scene["image_id"], "", None, scene["split"]),
            size=(image_size, image_size),
            boxes=np.asarray([thing["box"] for thing in scene["objects"]], dtype=np.float32).reshape(-1, 4),
            object_ids=[1 + object_names.index(name_of(thing, coloured=coloured)) for thing in scene["objects"]],
            attribute_ids=[
                [1 + attribute_names.index(thing[field]) for field in ("colour", "size")[coloured:]]
                for thing in scene["objects"]
            ],
            polygons=[[shape_polygon(thing["name"], thing["box"])] for thing in scene["objects"]],
            relations=[(r["subject"], r["object"], r["predicate"]) for r in scene["relations"]],
            regions=[said for thing in scene["objects"] for said in phrases_of(thing)] if phrases else (),
            image_bytes=scene["image"]["bytes"],
        )
        for scene in scenes.cast_column("image", datasets.Image(decode=False))
    )
    return DetectionData(rows, object_names, attribute_names)


def name_of(thing: Mapping[str, Any], *, coloured: bool) -> str:
    """The name of a shape: "star", or "red star"."""
    return f"{thing['colour']} {thing['name']}" if coloured else thing["name"]


def phrases_of(thing: Mapping[str, Any]) -> list[tuple[str, np.ndarray]]:
    """What is said of a shape, and its box (4,).

    >>> [said for said, _ in phrases_of({"name": "star", "colour": "orange", "size": "small", "box": [0, 0, 1, 1]})]
    ['an orange star', 'a small orange star']
    """
    name = name_of(thing, coloured=True)
    box = np.asarray(thing["box"], dtype=np.float32)
    return [(f"{'an' if name[0] in 'aeiou' else 'a'} {name}", box), (f"a {thing['size']} {name}", box)]
