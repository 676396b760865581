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


def test_shapes_may_be_named_with_their_colour_and_spoken_of() -> None:
    data = read_scene_boxes(8, seed=2, image_size=48, split="val", coloured=True, phrases=True)
    assert len(data.object_names) == 35 and data.attribute_names == ["small", "large"]
    for index, row in enumerate(data.rows):
        things = make_scene(index, seed=2 * 4 + 2).objects
        assert [data.id2label[i] for i in row["object_ids"]] == [f"{thing.colour} {thing.name}" for thing in things]
        assert [[data.attribute_id2label[i] for i in ids] for ids in row["attribute_ids"]] == [[t.size] for t in things]
        said = [(region["phrase"].replace("an ", "a "), tuple(region["box"])) for region in row["regions"]]
        boxes = [tuple(np.float32(side).item() for side in thing.box) for thing in things]
        wanted = [
            (f"a {size}{thing.colour} {thing.name}", box)
            for thing, box in zip(things, boxes, strict=True)
            for size in ("", f"{thing.size} ")
        ]
        assert said == wanted
    assert not any(read_scene_boxes(2, split="val").rows["regions"])
