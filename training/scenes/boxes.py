"""The drawn scenes of `training/scenes/draw.py` as rows of a detection data set.

scenes --read_scene_boxes--> DetectionData
"""

import datasets
import numpy as np

from training.data.boxes.rows import DetectionData, ImageListing, detection_dataset, detection_row
from training.scenes.draw import COLOURS, CORNERS, SIDES, scenes_dataset, shape_polygon


def read_scene_boxes(num_scenes: int, *, seed: int = 0, image_size: int = 128, split: str = "train") -> DetectionData:
    """Shapes are the objects, their colours and sizes the attributes, their outlines the masks; a shape that carries
    another or a word is whole beneath it.

    Arguments as for `scenes_dataset`; relations as it gives them, regions none.
    """
    object_names, attribute_names = list(CORNERS), [*COLOURS, *SIDES]
    scenes = scenes_dataset(num_scenes, seed=seed, image_size=image_size, split=split)
    rows = detection_dataset(
        detection_row(
            ImageListing(scene["image_id"], "", None, scene["split"]),
            size=(image_size, image_size),
            boxes=np.asarray([thing["box"] for thing in scene["objects"]], dtype=np.float32).reshape(-1, 4),
            object_ids=[1 + object_names.index(thing["name"]) for thing in scene["objects"]],
            attribute_ids=[
                [1 + attribute_names.index(thing[field]) for field in ("colour", "size")] for thing in scene["objects"]
            ],
            polygons=[[shape_polygon(thing["name"], thing["box"])] for thing in scene["objects"]],
            relations=[(r["subject"], r["object"], r["predicate"]) for r in scene["relations"]],
            image_bytes=scene["image"]["bytes"],
        )
        for scene in scenes.cast_column("image", datasets.Image(decode=False))
    )
    return DetectionData(rows, object_names, attribute_names)
