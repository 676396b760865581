"""The drawn scenes as boxes: shapes, colours and sizes are a detector's classes and attributes."""

import numpy as np

from training.scenes.boxes import read_scene_boxes
from training.scenes.draw import make_scene


def test_the_scenes_are_a_detection_data_set() -> None:
    data = read_scene_boxes(8, seed=2, image_size=48, split="val")
    assert data.id2label[1] == "circle" and len(data.object_names) == 5
    assert data.attribute_names == [
        *("red", "blue", "green", "yellow", "orange", "purple", "black"),
        *("small", "large"),
    ]
    for index, row in enumerate(data.rows):
        scene = make_scene(index, seed=2 * 4 + 2)
        assert row["image_id"] == f"scene-val-2-{index}" and row["split"] == "val" and row["image"].size == (48, 48)
        assert (row["width"], row["height"]) == (48, 48)
        assert [data.id2label[i] for i in row["object_ids"]] == [thing.name for thing in scene.objects]
        assert [[data.attribute_id2label[i] for i in ids] for ids in row["attribute_ids"]] == [
            [thing.colour, thing.size] for thing in scene.objects
        ]
        assert np.allclose(row["boxes"], [thing.box for thing in scene.objects], atol=1e-6)
        assert [(r["subject"], r["predicate"], r["object"]) for r in row["relations"]] == list(scene.relations)
        assert row["crowd"] == [False] * len(scene.objects)
