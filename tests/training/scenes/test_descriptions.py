"""Dense captions of drawn scenes: what is said of a box is true of what is drawn there."""

import io

import datasets
import numpy as np
import pytest
from PIL import Image

from training.data.descriptions.rows import sentences_of_boxes
from training.scenes.descriptions import read_scene_descriptions
from training.scenes.draw import COLOURS, NUMBERS, scenes_dataset


def test_what_is_said_of_a_box_is_drawn_there() -> None:
    """Every shape of the scene graph has its box and its words, and its colour is the box's commonest."""
    rows = read_scene_descriptions(20, image_size=96).cast_column("image", datasets.Image(decode=False))
    scenes = scenes_dataset(20, image_size=96).remove_columns("image")
    several = 0
    for row, scene in zip(rows, scenes, strict=True):
        sentences, things = sentences_of_boxes(row), scene["objects"]
        assert row["boxes"][:-1] == [thing["box"] for thing in things] and row["boxes"][-1] == [0, 0, 1, 1]
        assert sentences[-1] == [f"{NUMBERS[len(things)]} shape" + "s" * (len(things) > 1)]
        pixels = np.asarray(Image.open(io.BytesIO(row["image"]["bytes"])).convert("RGB")).astype(int)
        for thing, texts in zip(things, sentences, strict=False):
            assert texts[0] == f"a {thing['size']} {thing['colour']} {thing['name']}"
            assert texts[1].split()[1:] == [thing["colour"], thing["name"]]
            x1, y1, x2, y2 = (round(96 * side) for side in thing["box"])
            middle = np.median(pixels[y1:y2, x1:x2].reshape(-1, 3), axis=0)
            if (
                not thing["text"]
                and thing["name"] == "square"
                and not any("inside" in r.values() for r in scene["relations"])
            ):
                nearest = min(COLOURS, key=lambda name: np.abs(middle - COLOURS[name]).sum())
                assert nearest == thing["colour"]
            alike = sum((one["colour"], one["name"]) == (thing["colour"], thing["name"]) for one in things)
            several += alike > 1
            assert (
                (len(texts) == 3 and texts[2].startswith(f"one of {NUMBERS[alike]} ")) if alike > 1 else len(texts) == 2
            )
    assert several


def test_another_split_has_other_scenes() -> None:
    assert read_scene_descriptions(2)["captions"][:] != read_scene_descriptions(2, split="val")["captions"][:]
    with pytest.raises(ValueError, match="unknown split"):
        read_scene_descriptions(2, split="trial")
