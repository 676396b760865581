"""Mixtures of detection data sets: whose ids, which splits, the same names in all parts."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from training.data.boxes.formats import load_detection
from training.data.boxes.rows import DETECTION_FEATURES
from training.data.splits import NoSuchSplitError
from training.tasks.detection import FORMATS


def write_coco(path: Path, *, category: str = "dog", split: str = "train", images: int = 2) -> Path:
    content = {
        "images": [
            {"id": i, "file_name": f"{i}.jpg", "width": 200, "height": 100, "karpathy_split": split}
            for i in range(images)
        ],
        "annotations": [{"id": i, "image_id": i, "category_id": 1, "bbox": [0, 0, 50, 50 + i]} for i in range(images)],
        "categories": [{"id": 1, "name": category}],
    }
    path.write_text(json.dumps(content))
    return path


def write_entities(path: Path) -> Path:
    phrases = [{"phrase": "a small puppy", "chain": "1", "types": ["animals"]}]
    image = {
        "filename": "0.jpg",
        "split": "train",
        "orig_width": 100,
        "orig_height": 80,
        "boxes": {"1": [[0, 0, 0.5, 0.5]]},
        "sentences": [{"tokens": ["a", "small", "puppy"], "phrases": phrases}],
    }
    path.write_text(json.dumps([image]))
    return path


@pytest.fixture
def parts(tmp_path: Path) -> dict[str, Any]:
    """People's boxes with COCO's train images and COCO's val images, one vocabulary."""
    (tmp_path / "objects_vocab.txt").write_text("dog\npuppy\ncat\nman\nperson")
    (tmp_path / "attributes_vocab.txt").write_text("small")
    train = write_coco(tmp_path / "a.json", images=3)
    val = write_coco(tmp_path / "b.json", category="cat", split="val")
    return {
        "vocabulary": tmp_path,
        "parts": [
            {"format": "flickr30k_entities", "annotations": write_entities(tmp_path / "e.json")},
            {"format": "coco", "annotations": train},
            {"format": "coco", "annotations": val, "name": "checked"},
        ],
    }


def test_rows_of_all_parts_in_one(parts: dict[str, Any]) -> None:
    data = load_detection("mixture", **parts)
    assert dict(data.rows.features) == dict(DETECTION_FEATURES)
    assert data.rows["image_id"][:] == ["0", "coco-0", "coco-1", "coco-2", "checked-0", "checked-1"]
    assert data.rows["object_ids"][:] == [[2], [1], [1], [1], [3], [3]]
    assert data.rows["other_object_ids"][:] == [[[]], [[2]], [[2]], [[2]], [[]], [[]]]
    assert data.rows["attribute_ids"][:] == [[[1]], *[[[]]] * 5]
    assert data.object_names == ["dog", "puppy", "cat", "man", "person"] and data.attribute_names == ["small"]
    assert data.covered == {1: [2], 5: [4]}


def test_a_split_of_the_parts_that_have_it(parts: dict[str, Any]) -> None:
    """Ids are the same whatever split is read."""
    assert load_detection("mixture", **parts, split="val").rows["image_id"][:] == ["checked-0", "checked-1"]
    assert load_detection("mixture", **parts, split="train").rows["image_id"][:] == ["0", "coco-0", "coco-1", "coco-2"]
    parts["parts"][2]["splits"] = ["train"]
    with pytest.raises(NoSuchSplitError, match="no part of the mixture has the split 'val'"):
        load_detection("mixture", **parts, split="val")


def test_a_share_a_limit_and_repeats(parts: dict[str, Any]) -> None:
    parts["parts"][1] |= {"limit": 2, "repeat": 3}
    parts["parts"][2] |= {"share": 0.5, "repeat": 2}  # what is scored stands once
    ids = load_detection("mixture", **parts)
    counts = [ids.rows["image_id"][:].count(name) for name in ("0", "coco-0", "coco-1", "coco-2")]
    assert sorted(counts[1:]) == [0, 3, 3] and counts[0] == 1 and len(ids.rows) == 8
    again = load_detection("mixture", **parts)
    assert again.rows["image_id"][:] == ids.rows["image_id"][:]
    drawn = {tuple(load_detection("mixture", **parts, seed=seed).rows["image_id"][:]) for seed in range(8)}
    assert len(drawn) > 1


def test_images_lie_in_the_folder_of_the_mixture(parts: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for number in range(3):
        Image.new("RGB", (200, 100), (number, 0, 0)).save(tmp_path / "images" / f"{number}.jpg")
    rows = load_detection("mixture", **parts, images=tmp_path / "images").rows
    assert [row["image"].size for row in rows] == [(200, 100)] * 6


def test_drawn_scenes_take_part(tmp_path: Path) -> None:
    """Their formats are those of the task, and their names their own."""
    part = {"format": "scenes", "num_scenes": 3}
    data = load_detection("mixture", formats=FORMATS, parts=[part, {**part, "limit": 2}], split="train")
    assert len(data.rows) == 5 and data.rows[3]["image_id"].startswith("scenes2-")


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"share": 2}, r"part 2 of the mixture \(coco\): share is 2"),
        ({"limit": 0}, "limit 0"),
        ({"repeat": 1.5}, "repeat 1.5"),
        ({"split": "train"}, r"name its splits as splits: \[train\]"),
        ({"colour": "red"}, "does not take colour"),
        ({"annotations": "nowhere.json"}, "cannot read nowhere.json"),
        ({"format": "cocoa"}, "unknown detection format 'cocoa'"),
    ],
)
def test_what_a_part_does_wrong_names_it(parts: dict[str, Any], change: dict[str, Any], fault: str) -> None:
    parts["parts"][1] |= change
    with pytest.raises(ValueError, match=fault):
        load_detection("mixture", **parts)


@pytest.mark.parametrize("given", [None, [], {}, "coco", [{"annotations": "a.json"}], [3]])
def test_parts_that_are_none(given: Any) -> None:
    with pytest.raises(ValueError, match="parts of a mixture is a list of data sets"):
        load_detection("mixture", parts=given)


def test_parts_with_other_names_are_refused(parts: dict[str, Any], tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "objects_vocab.txt").write_text("dog\nmonkey")
    (other / "attributes_vocab.txt").write_text("small")
    parts["parts"][1]["vocabulary"] = other
    expected = (
        r"the objects of part 1 of the mixture \(flickr30k_entities\) are not those of part 2 \(coco\): number 2 is "
        "'puppy' and 'monkey'"
    )
    with pytest.raises(ValueError, match=expected):
        load_detection("mixture", **parts)
    (other / "objects_vocab.txt").write_text("dog\npuppy\ncat\nman\nperson")
    (other / "attributes_vocab.txt").write_text("small\nlarge")
    with pytest.raises(ValueError, match="the attributes of part 1 .* number 2 is none and 'large'"):
        load_detection("mixture", **parts)
