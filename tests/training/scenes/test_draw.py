"""The drawn scenes: what the graph says must be in the pixels, and the captions must follow from the graph."""

from collections import Counter

import numpy as np
import pytest

from training.data.captions.rows import CAPTION_FEATURES
from training.scenes.draw import (
    COLOURS,
    NUMBERS,
    Scene,
    SceneObject,
    draw_scene,
    make_scene,
    scene_captions,
    scenes_dataset,
)

NUM_SCENES = 300


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [make_scene(index, seed=0) for index in range(NUM_SCENES)]


def test_the_same_seed_and_index_give_the_same_pixels_and_others_do_not() -> None:
    image, scene = draw_scene(3, seed=1, image_size=64)
    again, same_scene = draw_scene(3, seed=1, image_size=64)
    assert np.array_equal(image, again) and scene == same_scene
    assert image.size == (64, 64) and image.mode == "RGB"
    assert make_scene(4, seed=1) != scene and make_scene(3, seed=2) != scene


def test_every_object_is_where_the_graph_says() -> None:
    for index in range(40):
        image, scene = draw_scene(index, seed=0, image_size=128)
        pixels = np.asarray(image).astype(int)
        covered = {target for _, predicate, target in scene.relations if predicate == "inside"}
        for position, thing in enumerate(scene.objects):
            if position in covered or thing.text:
                continue
            x1, y1, x2, y2 = (edge * 128 for edge in thing.box)
            centre = pixels[round((y1 + y2) / 2), round((x1 + x2) / 2)]
            assert np.abs(centre - COLOURS[thing.colour]).max() < 8
        ground = np.ones((128, 128), dtype=bool)
        for thing in scene.objects:
            x1, y1, x2, y2 = (edge * 128 for edge in thing.box)
            ground[int(y1) : int(y2) + 2, int(x1) : int(x2) + 2] = False
        assert pixels[ground].min() > 210


def test_a_word_is_drawn_with_contrast() -> None:
    for index in range(100):
        image, scene = draw_scene(index, seed=0, image_size=128)
        for thing in scene.objects:
            if thing.text:
                x1, y1, x2, y2 = (round(edge * 128) for edge in thing.box)
                inner = np.asarray(image.convert("L"))[y1 + 10 : y2 - 10, x1 + 4 : x2 - 4].astype(int)
                assert inner.max() - inner.min() > 90


def test_shapes_keep_apart_unless_one_is_inside_the_other(scenes: list[Scene]) -> None:
    for scene in scenes:
        inside = {(i, j) for i, predicate, j in scene.relations if predicate == "inside"}
        for i, one in enumerate(scene.objects):
            assert min(one.box) >= 0 and max(one.box) <= 1
            for j, other in enumerate(scene.objects[:i]):
                across = max(one.box[0], other.box[0]) - min(one.box[2], other.box[2])
                down = max(one.box[1], other.box[1]) - min(one.box[3], other.box[3])
                assert max(across, down) >= 0.04 or (i, j) in inside


def test_relations_follow_from_the_boxes_and_have_their_opposites(scenes: list[Scene]) -> None:
    opposite = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
    seen = Counter(predicate for scene in scenes for _, predicate, _ in scene.relations)
    assert set(seen) == {*opposite, "inside"} and min(seen.values()) >= 20
    for scene in scenes:
        for i, predicate, j in scene.relations:
            one, other = scene.objects[i].box, scene.objects[j].box
            holds = {
                "left of": one[2] <= other[0],
                "right of": one[0] >= other[2],
                "above": one[3] <= other[1],
                "below": one[1] >= other[3],
                "inside": one[0] > other[0] and one[1] > other[1] and one[2] < other[2] and one[3] < other[3],
            }
            assert holds[predicate]
            assert predicate == "inside" or (j, opposite[predicate], i) in scene.relations


def test_captions_are_five_short_and_of_a_small_vocabulary(scenes: list[Scene]) -> None:
    captions = [scene_captions(scene, seed=index) for index, scene in enumerate(scenes)]
    assert {len(set(five)) for five in captions} == {5}
    words = {word for five in captions for caption in five for word in caption.split()}
    assert 45 <= len(words) < 80
    assert max(len(caption.split()) for five in captions for caption in five) <= 20
    assert "a orange" not in str(captions) and "an red" not in str(captions)


def test_the_captions_of_one_scene_by_hand() -> None:
    square = SceneObject("square", "orange", "large", (0.5, 0.5, 0.86, 0.86), "stop")
    stars = [SceneObject("star", "blue", "small", (x, 0.1, x + 0.17, 0.27)) for x in (0.1, 0.5)]
    dot = SceneObject("circle", "red", "small", (0.1, 0.6, 0.27, 0.77))
    scene = Scene(objects=(*stars, square, dot), relations=((3, "left of", 2), (0, "left of", 1)))
    captions = {caption for seed in range(50) for caption in scene_captions(scene, seed=seed)}
    whole = "two small blue stars and a large orange square saying stop and a small red circle"
    assert captions == {
        whole,
        f"there are {whole}",
        f"a picture of {whole}",
        "four shapes in the picture",
        "there are four shapes here",
        "two small blue stars in a picture of four shapes",
        "a red circle is to the left of an orange square",
        "the word stop is on an orange square",
    }
    assert scene_captions(scene, seed=7)[0] == whole


def test_counts_in_captions_are_those_of_the_graph(scenes: list[Scene]) -> None:
    assert Counter(len(scene.objects) for scene in scenes).keys() == {1, 2, 3, 4, 5}
    for index, scene in enumerate(scenes):
        total = NUMBERS[len(scene.objects)]
        for caption in scene_captions(scene, seed=index):
            if "shape" in caption:
                assert f"{total} shape" in caption


def test_the_data_set_has_the_caption_columns_and_the_graph() -> None:
    rows = scenes_dataset(20, seed=3, image_size=48, split="val")
    assert rows.column_names == [*CAPTION_FEATURES, "objects", "relations"]
    assert {name: rows.features[name] for name in CAPTION_FEATURES} == dict(CAPTION_FEATURES)
    row, scene = rows[7], make_scene(7, seed=14)
    assert row["image_id"] == "scene-val-3-7" and row["split"] == "val" and row["domain"] == ""
    assert np.array_equal(row["image"], draw_scene(7, seed=14, image_size=48)[0])
    assert row["captions"] == scene_captions(scene, seed=7)
    assert [thing["name"] for thing in row["objects"]] == [thing.name for thing in scene.objects]
    assert np.allclose([thing["box"] for thing in row["objects"]], [thing.box for thing in scene.objects], atol=1e-6)
    assert [tuple(relation.values()) for relation in row["relations"]] == list(scene.relations)


def test_splits_and_seeds_share_no_scene() -> None:
    graphs = [
        str(objects)
        for seed in (0, 1)
        for split in ("train", "val", "test", "restval")
        for objects in scenes_dataset(30, seed=seed, image_size=32, split=split)["objects"][:]
    ]
    assert len(graphs) == len(set(graphs)) == 240


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "dev"}, "unknown split 'dev'; the splits of the scenes are train, restval, val, test"),
        ({"num_scenes": 0}, "num_scenes 0 must be at least 1"),
        ({"image_size": 8}, "image_size 8 at least 32"),
    ],
)
def test_bad_options_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        scenes_dataset(**{"num_scenes": 2, **options})  # type: ignore[arg-type]
