"""Detection readers: COCO instances real and hand-made, joined files, the drawn scenes, and what files do wrong."""

import json
import math
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.shared_files import shared
from training.data.boxes.formats import DETECTION_FORMATS, load_detection
from training.data.boxes.rows import (
    DETECTION_FEATURES,
    DetectionData,
    ImageListing,
    LeftOut,
    clip_boxes,
    detection_dataset,
    detection_row,
    keep_images,
)

CATEGORIES = {18: "dog", 1: "person", 90: "toothbrush"}  # ids 2, 1 and 3 of a detector


def write(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def draw_image(path: Path, *, size: tuple[int, int] = (200, 100), orientation: int | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    Image.new("RGB", size, (9, 9, 9)).save(path, exif=exif)
    return path


def coco(*notes: tuple[Any, ...], num_images: int = 2, **fields: Any) -> dict[str, Any]:
    """Images 10, 11, ... of 200 x 100 pixels and notes of (image, category id, bbox); `fields` go into the images."""
    images = [
        {"id": 10 + i, "file_name": f"{10 + i}.jpg", "width": 200, "height": 100, **fields} for i in range(num_images)
    ]
    annotations = [
        {"id": i, "image_id": image, "category_id": category, "bbox": bbox, "iscrowd": 0}
        for i, (image, category, bbox) in enumerate(notes)
    ]
    categories = [{"id": number, "name": name} for number, name in CATEGORIES.items()]
    return {"images": images, "annotations": annotations, "categories": categories}


DOGS = coco((11, 18, [50, 25, 100, 50]), (10, 90, [0, 0, 20, 10]), (11, 1, [0, 0, 200, 100]))


def read(folder: Path, content: Any, **options: Any) -> DetectionData:
    return load_detection("coco", annotations=write(folder / "instances_train2017.json", content), **options)


def test_a_row_holds_what_is_on_its_image(tmp_path: Path) -> None:
    data = read(tmp_path, DOGS)
    assert dict(data.rows.features) == dict(DETECTION_FEATURES)
    assert data.object_names == ["person", "dog", "toothbrush"] and data.attribute_names == []
    assert data.id2label == {0: "background", 1: "person", 2: "dog", 3: "toothbrush"}
    assert data.attribute_id2label == {0: "no attribute"}
    assert data.rows[1] == {
        "image_id": "11",
        "image": None,
        "width": 200,
        "height": 100,
        "split": "train",
        "boxes": [[0.25, 0.25, 0.75, 0.75], [0.0, 0.0, 1.0, 1.0]],
        "object_ids": [2, 1],
        "other_object_ids": [[], []],
        "attribute_ids": [[], []],
        "crowd": [False, False],
        "polygons": [[], []],
        "relations": [],
        "regions": [],
    }
    assert np.allclose(data.rows[0]["boxes"], [[0, 0, 0.1, 0.1]]) and data.rows[0]["object_ids"] == [3]


def test_crowds_are_marked(tmp_path: Path) -> None:
    content = coco((10, 1, [0, 0, 20, 10]), (10, 1, [0, 0, 100, 50]))
    content["annotations"][1]["iscrowd"] = 1
    del content["annotations"][0]["iscrowd"]
    assert read(tmp_path, content).rows["crowd"][0] == [False, True]


def test_images_are_found_and_not_opened(tmp_path: Path) -> None:
    draw_image(tmp_path / "photos" / "10.jpg")
    write(tmp_path / "photos" / "11.jpg", "no picture")
    rows = read(tmp_path, DOGS, images=tmp_path / "photos").rows
    assert len(rows) == 2 and rows[0]["image"].size == (200, 100)
    (tmp_path / "photos" / "11.jpg").unlink()
    with pytest.warns(UserWarning, match="1 of 2 images are not in .* left out: 11.jpg"):
        assert read(tmp_path, DOGS, images=tmp_path / "photos").rows["image_id"][:] == ["10"]


def test_ids_may_be_numbers_or_text(tmp_path: Path) -> None:
    content = json.loads(json.dumps(DOGS))
    for image in content["images"]:
        image["id"] = str(image["id"])
    for note in content["annotations"]:
        note["category_id"] = str(note["category_id"])
    assert read(tmp_path, content).rows[:] == read(tmp_path, DOGS).rows[:]


def test_ids_that_are_written_as_fractions_meet_those_that_are_not(tmp_path: Path) -> None:
    """`1.0`, as a table of floats writes 1."""
    content = coco((11.0, 18.0, [50, 25, 100, 50]), (10, 90, [0, 0, 20, 10]))
    content["images"][0]["id"] = 10.0
    content["categories"][1]["id"] = 1.0
    rows = read(tmp_path, content).rows
    assert rows["image_id"] == ["10", "11"]
    assert rows["object_ids"] == [[3], [2]]


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (0, r"the boxes of 1 images reach beyond them .*image 10 of 200 x 100 pixels with a box to 90, 190\)"),
        (20, None),
    ],
)
def test_swapped_sides_show_by_the_boxes(tmp_path: Path, other: int, message: str | None) -> None:
    """An error where a tenth of the images is so, else a warning."""
    good = [(10 + i, 18, [0, 0, 20, 10]) for i in range(1, other + 1)]
    content = coco((10, 18, [0, 0, 90, 190]), *good, num_images=other + 1)
    if message is not None:
        with pytest.raises(ValueError, match=message):
            read(tmp_path, content)
    else:
        with pytest.warns(UserWarning, match="the boxes of 1 images reach beyond them and would not if width"):
            assert len(read(tmp_path, content).rows) == 21


def test_boxes_that_are_parts_of_their_image_are_an_error(tmp_path: Path) -> None:
    parts = [(10, 18, [0.25, 0.5, 0.5, 0.5]), (11, 18, [0, 0, 1.0005, 1])]
    with pytest.raises(ValueError, match="all 2 boxes lie in 0..1, so .*; write them as x, y, width, height in pixels"):
        read(tmp_path, coco(*parts))
    assert read(tmp_path, coco(*parts, (11, 18, [0, 0, 20, 10]))).rows["boxes"][1][1] == pytest.approx([0, 0, 0.1, 0.1])
    assert len(read(tmp_path, coco((10, 18, [0, 0, 20, 10]), (11, 18, [0.5, 0, 0.5, 0.5]))).rows) == 2


def test_boxes_a_little_beyond_or_beyond_either_way_are_clipped(tmp_path: Path) -> None:
    content = coco((10, 18, [0, 0, 90, 104]), (11, 18, [0, 0, 400, 190]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read(tmp_path, content).rows["boxes"][1] == [[0, 0, 1, 1]]


def test_swapped_sides_show_by_the_images(tmp_path: Path) -> None:
    for i in range(3):
        draw_image(tmp_path / "photos" / f"{10 + i}.jpg", size=(100, 200) if i < 2 else (400, 200))
    content = coco((10, 18, [0, 0, 20, 10]), num_images=3)
    message = (
        "2 of 3 images looked at are not as the file says .*10.jpg is 100 x 200 pixels, but the file says 200 x 100"
    )
    with pytest.raises(ValueError, match=message):
        read(tmp_path, content, images=tmp_path / "photos")
    draw_image(tmp_path / "photos" / "11.jpg", size=(202, 100))
    (tmp_path / "photos" / "12.jpg").write_bytes(b"broken")
    with pytest.warns(UserWarning, match="1 of 2 images looked at"):
        read(tmp_path, content, images=tmp_path / "photos")


def test_splits_by_karpathy_by_option_by_field_by_file_name(tmp_path: Path) -> None:
    content = coco(num_images=3)
    content["images"][0].update(karpathy_split="test", split="train2017")
    content["images"][1].update(karpathy_split=None, split="val2017")
    assert read(tmp_path, content).rows["split"][:] == ["test", "val", "train"]
    assert read(tmp_path, content, file_split="val").rows["split"][:] == ["test", "val", "val"]
    assert read(tmp_path, content, split="train+test").rows["image_id"][:] == ["10", "12"]
    karpathy = {"images": [{"cocoid": 11, "split": "restval"}, {"cocoid": 99, "split": "test"}]}
    listed = write(tmp_path / "dataset_coco.json", karpathy)
    assert read(tmp_path, content, split_file=listed).rows["split"][:] == ["test", "restval", "train"]
    captions = write(tmp_path / "captions.json", {"images": [{"id": 12, "karpathy_split": "test"}, {"id": 11}]})
    assert read(tmp_path, content, split_file=captions).rows["split"][:] == ["test", "val", "test"]
    with pytest.raises(ValueError, match="instances_train2017.json names no split: its images need 'karpathy_split'"):
        read(tmp_path, DOGS, split_file=tmp_path / "instances_train2017.json")
    with pytest.raises(ValueError, match="has no image of the split 'restval'; it has test, train, val"):
        read(tmp_path, content, split="restval")


def test_classes_order_and_limit(tmp_path: Path) -> None:
    data = read(tmp_path, DOGS, classes=["toothbrush", "dog"])
    assert data.object_names == ["toothbrush", "dog"] and data.rows["object_ids"][:] == [[1], [2]]
    with pytest.raises(ValueError, match="the class 'cat' is no category of .*instances_train2017.json"):
        read(tmp_path, DOGS, classes=["dog", "cat"])
    with pytest.raises(ValueError, match="the class 'dog' stands twice in classes"):
        read(tmp_path, DOGS, classes=["dog", "dog"])


def test_attributes_of_our_extension(tmp_path: Path) -> None:
    content = coco((10, 1, [0, 0, 20, 10]), (10, 1, [0, 0, 100, 50]), (11, 1, [0, 0, 100, 50]))
    content["attributes"] = [{"id": 7, "name": "tall"}, {"id": 3, "name": "green"}]
    content["annotations"][0]["attributes"] = ["tall", "green", "tall"]
    content["annotations"][1]["attributes"] = []
    data = read(tmp_path, content)
    assert data.attribute_names == ["green", "tall"] and data.rows["attribute_ids"][:] == [[[2, 1], []], [[]]]
    for strange in (["blue"], "tall", [["tall"]], {"occluded": False, "tall": True}):
        content["annotations"][2]["attributes"] = strange
        with pytest.raises(ValueError, match="record 2 of 'annotations' has the attributes .*give a list of names"):
            read(tmp_path, content)
    del content["attributes"]  # other tools keep what they like in an annotation's attributes
    assert read(tmp_path, content).rows["attribute_ids"][:] == [[[], []], [[]]]


def test_files_are_joined_by_image_and_by_name(tmp_path: Path) -> None:
    """Pseudo-boxes made on an image of half the size, with other category ids, lie beside the real ones."""
    pseudo = {
        "images": [
            {"id": "11", "file_name": "photos/11.jpg", "width": 100, "height": 50, "karpathy_split": "val"},
            {"id": 12, "file_name": "12.jpg", "width": 100, "height": 50},
        ],
        "annotations": [
            {"image_id": 11, "category_id": 0, "bbox": [25, 25, 50, 25], "attributes": ["wet"], "score": 0.7},
            {"image_id": 12, "category_id": 0, "bbox": [0, 0, 50, 50]},
        ],
        "categories": [{"id": 0, "name": "dog"}],
        "attributes": [{"id": 1, "name": "wet"}],
    }
    second = write(tmp_path / "pseudo.json", pseudo)
    first = write(tmp_path / "instances_train2017.json", DOGS)
    data = load_detection("coco", annotations=[first, second])
    assert data.object_names == ["person", "dog", "toothbrush"] and data.attribute_names == ["wet"]
    assert data.rows["image_id"][:] == ["10", "11", "12"] and data.rows["width"][:] == [200, 200, 100]
    assert data.rows["split"][:] == ["train", "val", "train"]
    assert data.rows[1]["boxes"] == [[0.25, 0.25, 0.75, 0.75], [0, 0, 1, 1], [0.25, 0.5, 0.75, 1]]
    assert data.rows[1]["object_ids"] == [2, 1, 2] and data.rows[1]["attribute_ids"] == [[], [], [1]]
    assert data.rows[2]["boxes"] == [[0, 0, 0.5, 1]]
    with pytest.raises(
        ValueError, match=r"the category 'person' is none of .*pseudo.json; name those to read with cla"
    ):
        load_detection("coco", annotations=[second, first])
    chosen = load_detection("coco", annotations=[second, first], classes=["person", "dog"])
    assert chosen.rows["image_id"][:] == ["11", "12", "10"] and chosen.rows["object_ids"][0] == [2, 2, 1]
    for folder, name in (("a", "10.jpg"), ("a", "11.jpg"), ("b", "12.jpg")):
        draw_image(tmp_path / folder / name)
    rows = load_detection("coco", annotations=[first, second], images=[tmp_path / "a", tmp_path / "b"]).rows
    assert [
        Path(path).parent.name for path in rows.data.column("image").combine_chunks().field("path").to_pylist()
    ] == [*"aab"]
    with pytest.raises(ValueError, match="2 annotation files with 1 image folders; give one for each, or one"):
        load_detection("coco", annotations=[first, second], images=[tmp_path])


def test_files_that_disagree_are_not_joined(tmp_path: Path) -> None:
    first = write(tmp_path / "a.json", DOGS)
    content = json.loads(json.dumps(DOGS))
    content["images"][1]["file_name"] = "another.jpg"
    with pytest.raises(ValueError, match="b.json: the image '11' is 'another.jpg', but '11.jpg' in a file before"):
        load_detection("coco", annotations=[first, write(tmp_path / "b.json", content)])
    with_attributes = [{**DOGS, "attributes": [{"id": 1, "name": name}]} for name in ("wet", "dry")]
    paths = [write(tmp_path / f"{i}.json", content) for i, content in enumerate(with_attributes)]
    with pytest.raises(ValueError, match=r"1.json: the attribute 'dry' is none of .*0.json$"):
        load_detection("coco", annotations=[first, *paths])


def test_images_nobody_labelled_can_be_left_out(tmp_path: Path) -> None:
    content = coco((10, 1, [0, 0, 20, 10]), num_images=3, box_source="people")
    content["images"][2]["box_source"] = None
    assert len(read(tmp_path, content).rows) == 3
    with pytest.warns(UserWarning, match=r"left out 1 images without 'box_source' \(first: image 12\)"):
        rows = read(tmp_path, content, labelled_by="box_source").rows
    assert rows["image_id"][:] == ["10", "11"] and rows["boxes"][1] == []  # looked at, and nothing is there
    with pytest.raises(ValueError, match="no image has the field 'labels' that labelled_by names"):
        read(tmp_path, content, labelled_by="labels")


def test_boxes_are_clipped_and_the_unusable_counted(tmp_path: Path) -> None:
    boxes = [
        [-20, -10, 40, 30],  # clipped to 0, 0, 20, 20
        [150, 50, 100, 100],  # clipped to the corner
        [10, 10, 0, 5],
        [10, 10, -5, 5],
        [math.nan, 0, 5, 5],
        [0, 0, math.inf, 5],
        [200, 0, 20, 20],
        [None, 0, 5, 5],
        [0, 0, 1e-30, 5],
    ]
    content = coco(*[(10, 18, box) for box in boxes], (99, 18, [0, 0, 5, 5]))
    with pytest.warns(UserWarning) as told:
        row = read(tmp_path, content).rows[0]
    assert np.allclose(row["boxes"], [[0, 0, 0.1, 0.2], [0.75, 0.5, 1, 1]]) and row["object_ids"] == [2, 2]
    assert len(told) == 1
    message = str(told[0].message)
    assert "left out 1 boxes of images the file does not list (first: record 9 of 'annotations' in" in message
    assert "; 7 boxes that are empty, not finite or outside their image (first: record 2 of 'annotations' in" in message


def test_clipping_equals_a_box_by_box_twin() -> None:
    rng = np.random.default_rng(0)
    boxes, sizes = rng.uniform(-60, 160, (500, 4)), rng.integers(20, 200, (500, 2)).astype(float)
    clipped, usable = clip_boxes(boxes, sizes=sizes)
    assert 50 < usable.sum() < 450 and clipped.dtype == np.float32
    for (x, y, w, h), (width, height), box, fit in zip(boxes, sizes, clipped, usable, strict=True):
        x1, x2 = max(x, 0), min(x + w, width)
        y1, y2 = max(y, 0), min(y + h, height)
        assert fit == (x2 > x1 and y2 > y1), "no side of these is between 0 and SMALLEST_SIDE"
        if fit:
            assert np.allclose(box, [x1 / width, y1 / height, x2 / width, y2 / height], atol=1e-6)


@pytest.mark.parametrize(
    "box", [[0, 0, 5], [0, 0, 5, 5, 5], "0 0 5 5", {"x": 0}, [[0, 0, 5, 5]], [10**400, 0, 1, 1], 7]
)
def test_what_is_no_box_is_named(tmp_path: Path, box: Any) -> None:
    content = coco((10, 18, [0, 0, 5, 5]), (10, 18, box))
    with pytest.raises(ValueError, match="train2017.json: the box of record 1 of 'annotations' is not four numbers"):
        read(tmp_path, content)


def test_sizes_are_read_from_the_image_where_the_file_has_none(tmp_path: Path) -> None:
    content = coco((10, 18, [0, 0, 30, 30]), (11, 18, [0, 0, 30, 30]))
    for image in content["images"]:
        del image["width"]
    with pytest.raises(ValueError, match="the image '10' has no width and height; .* give the image folder"):
        read(tmp_path, content)
    draw_image(tmp_path / "photos" / "10.jpg", size=(60, 120))
    draw_image(tmp_path / "photos" / "11.jpg", size=(60, 120), orientation=6)  # shown turned
    rows = read(tmp_path, content, images=tmp_path / "photos").rows
    assert (rows["width"][:], rows["height"][:]) == ([60, 120], [120, 60])
    assert [row["image"].size for row in rows] == [(60, 120), (120, 60)]
    assert rows["boxes"][:] == [[[0, 0, 0.5, 0.25]], [[0, 0, 0.25, 0.5]]]
    write(tmp_path / "photos" / "11.jpg", "no picture")
    with pytest.raises(ValueError, match="cannot read the width and height of the image .*11.jpg"):
        read(tmp_path, content, images=tmp_path / "photos")


@pytest.mark.parametrize("width", [0, -5, 2**40, "200", 12.5, math.nan])
def test_sizes_that_are_none_are_named(tmp_path: Path, width: Any) -> None:
    with pytest.raises(ValueError, match="train2017.json: the image '10' has width .* no pixel counts"):
        read(tmp_path, coco(width=width))


def broken(**changes: Any) -> dict[str, Any]:
    return {**json.loads(json.dumps(DOGS)), **changes}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (json.dumps(DOGS)[:-40], "is not valid JSON .* is it cut short?"),
        ([], "has no list 'images', it holds list"),
        (broken(images=[]), "lists no image; is it cut short?"),
        (broken(images=DOGS["images"][:1] * 2), "the image '10' is listed twice"),
        (broken(images=[{"id": 1}]), "record 0 has no 'file_name'"),
        (broken(images=[{"id": 1, "file_name": 7}]), "the image name 7 is not text"),
        (
            broken(categories=[{"id": 1, "name": "dog"}]),
            "record 0 of 'annotations' has the category_id 18, .* not list",
        ),
        (
            broken(categories=[{"id": i, "name": "dog"} for i in (1, 18)]),
            "the name 'dog' stands 2 times in 'categories'",
        ),
        (broken(categories=[{"id": 1, "name": n} for n in "ab"]), "the id '1' stands 2 times in 'categories'"),
        (broken(categories=[{"id": "one", "name": "dog"}]), "needs whole numbers as ids .*, it has 'one'"),
        (broken(categories=[{"id": 1, "name": 5}]), "and text as names, it has 5"),
        (broken(categories=None), "has no list 'categories'"),
        (broken(annotations=[{"image_id": 10, "category_id": 18}]), "record 0 has no 'bbox'"),
        (broken(annotations=[{"bbox": [], "category_id": 18}]), "record 0 has no 'image_id'"),
        (broken(annotations=[[1, 2]]), "record 0 of 'annotations' is no object"),
    ],
)
def test_broken_files_are_named(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(
        ValueError, match=f"instances_train2017.json:? .*{message}|instances_train2017.json:? {message}"
    ):
        read(tmp_path, content)


def test_a_test_file_without_annotations_gives_images_without_boxes(tmp_path: Path) -> None:
    path = write(tmp_path / "image_info_test2017.json", {k: DOGS[k] for k in ("images", "categories")})
    rows = load_detection("coco", annotations=path).rows
    assert rows["boxes"][:] == [[], []] and set(rows["split"]) == {"test"}
    assert rows.features == DETECTION_FEATURES


def test_unknown_formats_and_options_list_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=f"unknown detection format 'voc'; choose one of {', '.join(DETECTION_FORMATS)}"
    ):
        load_detection("voc")
    with pytest.raises(ValueError, match="'coco' does not take pictures; its options are annotations, images, split"):
        load_detection("coco", annotations=tmp_path, pictures="x")
    with pytest.raises(ValueError, match="'visual_genome' needs annotations, vocabulary"):
        load_detection("visual_genome")


def test_rows_are_built_chunk_by_chunk_and_may_be_none() -> None:
    image = ImageListing("1", "1.jpg", None, "train")
    box = np.asarray([[0, 0, 1, 1]], dtype=np.float32)
    row = detection_row(image, size=(4, 3), boxes=box, object_ids=[1], attribute_ids=[[]], regions=[("a", box[0])])
    rows = detection_dataset(row for _ in range(2500))
    assert len(rows) == 2500 and rows[2499]["regions"] == [{"phrase": "a", "box": [0, 0, 1, 1]}]
    assert len(detection_dataset([])) == 0
    with pytest.raises(ValueError, match="unequal numbers of boxes, objects"):
        detection_row(image, size=(4, 3), boxes=box, object_ids=[1, 2], attribute_ids=[[]])


def test_images_of_unknown_splits_and_quiet_counters() -> None:
    with pytest.raises(ValueError, match="f.json: unknown split 'training'"):
        keep_images([ImageListing("1", "1.jpg", None, "training")], split=None, source="f.json")
    assert keep_images([ImageListing("1", "1.jpg", None, "dev")], split="val", source="f")[0].split == "val"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        LeftOut("f.json").warn()


def test_forty_thousand_boxes_take_a_moment(tmp_path: Path) -> None:
    """A twentieth of COCO; a reader that looks for boxes image by image takes minutes."""
    content = coco(*[(10 + i % 5000, 18, [1, 2, 30, 40]) for i in range(40_000)], num_images=5000)
    path = write(tmp_path / "train.json", content)
    start = time.process_time()
    rows = load_detection("coco", annotations=path).rows
    assert time.process_time() - start < 5
    assert len(rows) == 5000 and sum(map(len, rows["object_ids"])) == 40_000


def test_coco_instances_read_as_they_are() -> None:
    folder = shared("data/coco_subset")
    options = {"annotations": folder / "instances.json", "images": folder / "images"}
    data = load_detection("coco", **options, split_file=folder / "captions.json")
    assert len(data.rows) == 542 and sum(map(len, data.rows["boxes"])) == 3691
    assert Counter(data.rows["split"]) == {"train": 240, "val": 249, "test": 53}
    assert len(data.object_names) == 80 and data.id2label[80] == "toothbrush" and data.id2label[12] == "stop sign"
    assert sum(map(sum, data.rows["crowd"])) == 20
    raw = json.loads((folder / "instances.json").read_text())
    names = {category["id"]: category["name"] for category in raw["categories"]}
    note, row = raw["annotations"][0], data.rows[0]
    x, y, w, h = note["bbox"]
    assert np.allclose(row["boxes"][0], [x / 341, y / 256, (x + w) / 341, (y + h) / 256], atol=1e-6)
    assert data.id2label[row["object_ids"][0]] == names[note["category_id"]]
    assert row["image"].size == (row["width"], row["height"]) == (341, 256)
    boxes = np.concatenate([box for box in data.rows["boxes"] if box])
    assert boxes.min() >= 0 and boxes.max() <= 1 and (boxes[:, 2:] > boxes[:, :2]).all()
    with pytest.warns(UserWarning, match="left out 75 images without 'box_source'"):
        labelled = load_detection("coco", **options, labelled_by="box_source")
    assert sum(map(len, labelled.rows["boxes"])) == 3691 and labelled.rows["boxes"][:].count([]) == 3


def write_vocabulary(folder: Path, objects: str, attributes: str = "brown\nred") -> Path:
    write(folder / "objects_vocab.txt", objects)
    write(folder / "attributes_vocab.txt", attributes)
    return folder


def test_categories_take_the_names_of_a_vocabulary(tmp_path: Path) -> None:
    """By name, synonym or counterpart; a name that covers finer ones has them as further right names."""
    words = write_vocabulary(tmp_path, "toothbrush\npuppy\nman\nDog.,hound\nskier\nperson,human\ndogs")
    data = read(tmp_path, DOGS, vocabulary=words)
    assert data.object_names == ["toothbrush", "puppy", "man", "dog", "skier", "person", "dogs"]
    assert data.covered == {4: [2], 6: [3, 5]} and data.attribute_names == ["brown", "red"]
    assert data.rows["object_ids"][:] == [[1], [4, 6]]
    assert data.rows["other_object_ids"][:] == [[[]], [[2], [3, 5]]]
    with pytest.warns(
        UserWarning, match=r"1 boxes whose category is not in the vocabulary \(first: toothbrush of image 10"
    ):
        fewer = read(tmp_path, DOGS, vocabulary=write_vocabulary(tmp_path, "dog\nperson"))
    assert fewer.rows["object_ids"][:] == [[], [1, 2]] and fewer.covered == {}


def test_attributes_take_the_names_of_a_vocabulary(tmp_path: Path) -> None:
    content = coco((10, 18, [0, 0, 20, 10]), (11, 18, [0, 0, 20, 10]))
    content["attributes"] = [{"id": i, "name": name} for i, name in enumerate(["red", "Brown", "wet"])]
    content["annotations"][0]["attributes"] = ["Brown", "wet", "red"]
    with pytest.warns(
        UserWarning, match=r"1 attributes whose name is not in the vocabulary \(first: wet of image 10\)"
    ):
        data = read(tmp_path, content, vocabulary=write_vocabulary(tmp_path, "dog"))
    assert data.rows["attribute_ids"][:] == [[[1, 2]], [[]]]


def test_vocabularies_that_do_not_fit(tmp_path: Path) -> None:
    words = write_vocabulary(tmp_path, "tree\nhouse")
    with pytest.raises(ValueError, match="no category of .* is in the vocabulary of .*, such as 'person'"):
        read(tmp_path, DOGS, vocabulary=words)
    with pytest.raises(ValueError, match="give classes or vocabulary, not both"):
        read(tmp_path, DOGS, vocabulary=words, classes=["dog"])
    with pytest.raises(ValueError, match=r"cannot read .*nowhere/objects_vocab\.txt"):
        read(tmp_path, DOGS, vocabulary=tmp_path / "nowhere")
