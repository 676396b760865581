"""POPE's questions against the official script's, official files as they are, and boxes that cannot be asked of."""

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.shared_files import shared
from training.data.questions.formats import load_vqa
from training.data.questions.pope import SAMPLINGS, asked_object, pope_questions, question_text

OBJECTS = {"a": ["dog", "cat"], "b": ["dog", "bus"], "c": ["dog", "cat"], "d": ["apple"]}


def golden() -> Any:
    return json.loads(gzip.decompress(shared("golden/metrics/pope.json.gz").read_bytes()))


def test_questions_are_the_official_scripts() -> None:
    data = golden()
    builds = data["inputs"]["build"]
    for case, expected in zip(builds, data["expected"]["build"], strict=True):
        own = case["segments"] if case["same_segments_as"] is None else builds[case["same_segments_as"]]["segments"]
        made = pope_questions(
            {segment["image"]: segment["objects"] for segment in own},
            num_images=case["img_num"],
            objects_per_image=case["sample_num"],
            seed=case["seed"],
            template=case["template"],
            article="official",
        )
        for sampling in SAMPLINGS:
            assert [list(one[:4]) for one in made[sampling]] == expected[sampling], sampling


def test_samplings_by_hand() -> None:
    """dog is on three images, cat on two, bus and apple on one; an apple has nothing beside it, so chance decides."""
    made = pope_questions(OBJECTS, objects_per_image=1, seed=3)
    absent = {name: [one.object for one in made[name] if one.label == "no"] for name in SAMPLINGS}
    assert absent["popular"] == ["bus", "cat", "bus", "dog"]
    assert absent["adversarial"][:3] == ["bus", "cat", "bus"] and absent["adversarial"][3] in ("dog", "cat", "bus")
    assert absent["random"][0] in ("bus", "apple")
    for asked in made.values():
        assert [(one.image, one.object) for one in asked if one.label == "yes"] == [
            *(("a", "dog"), ("b", "dog"), ("c", "dog"), ("d", "apple"))
        ]
        assert [one.label for one in asked] == ["yes", "no"] * 4
    drawn = {one.image for one in pope_questions(OBJECTS, num_images=2, objects_per_image=1, seed=5)["random"]}
    assert len(drawn) == 2


def test_what_is_absent_is_never_there_nor_asked_of_twice() -> None:
    names = [f"object {number}" for number in range(12)]
    objects = {str(image): [names[(image * step) % 12] for step in (1, 5, 7)] for image in range(1, 12)}
    objects = {image: list(dict.fromkeys(own)) for image, own in objects.items()}
    for asked in pope_questions(objects, objects_per_image=2, seed=1).values():
        for image in {one.image for one in asked}:
            absent = [one.object for one in asked if one.image == image and one.label == "no"]
            assert len(set(absent)) == 2 and not set(absent) & set(objects[image])


@pytest.mark.parametrize(
    ("name", "corrected", "official"),
    [
        ("apple", "Is there an apple in the image?", "Is there an apple in the imange?"),
        ("cup", "Is there a cup in the image?", "Is there a cup in the image?"),
    ],
)
def test_articles(name: str, corrected: str, official: str) -> None:
    assert question_text(name) == corrected and question_text(name, article="official") == official
    assert asked_object("", corrected) == asked_object("", official) == name


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"objects_per_image": 3}, "0 images have 3 objects or more, and 1 are to be asked of"),
        ({"num_images": 5, "objects_per_image": 1}, "4 images have 1 objects or more, and 5 are"),
        ({"objects_per_image": 0}, "give at least 1"),
        ({"template": "is it there?"}, "a template with {}"),
    ],
)
def test_what_cannot_be_asked_is_refused(options: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        pope_questions(OBJECTS, **options)


def test_an_image_that_shows_everything_ends_in_an_error() -> None:
    with pytest.raises(ValueError, match="shows all 2 objects"):
        pope_questions({"a": ["dog", "cat"], "b": ["dog", "cat"]}, objects_per_image=1)


@pytest.fixture
def instances(tmp_path: Path) -> dict[str, Any]:
    """The `data` section of three images with boxes of three classes, one of them a test image."""
    classes = {1: "dog", 2: "cat", 3: "orange", 4: "bus"}
    boxed = {7: [2, 2, 1], 8: [1, 4], 9: [3, 1]}
    images = [
        {"id": i, "file_name": f"{i}.png", "width": 9, "height": 9, "split": "test" if i == 9 else "val"} for i in boxed
    ]
    notes = [
        {"id": 10 * i + j, "image_id": i, "category_id": k, "bbox": [0, 0, 5, 5], "area": 25, "iscrowd": 0}
        for i, kinds in boxed.items()
        for j, k in enumerate(kinds)
    ]
    content = {"images": images, "annotations": notes, "categories": [{"id": k, "name": n} for k, n in classes.items()]}
    (tmp_path / "instances.json").write_text(json.dumps(content))
    for i in boxed:
        Image.new("RGB", (9, 9)).save(tmp_path / f"{i}.png")
    return {"format": "coco", "annotations": str(tmp_path / "instances.json")}


def test_boxes_become_questions(instances: dict[str, Any], tmp_path: Path) -> None:
    rows = load_vqa("pope_questions", boxes=instances, images=tmp_path, objects_per_image=1, seed=1)
    assert Counter(rows["question_type"][:]) == dict.fromkeys(SAMPLINGS, 6)
    first = rows.filter(lambda row: row["question_type"] == "popular")[0]
    assert first["question"] == "Is there a cat in the image?" and first["answers"] == ["yes"]
    assert (first["question_id"], first["image_id"], first["answer_type"]) == ("popular-1", "7", "yes/no")
    assert first["image"].size == (9, 9) and json.loads(first["details"]) == {"object": "cat"}
    assert rows["question"][:].count("Is there an orange in the image?") >= 3
    assert set(rows["split"][:]) == {"val", "test"}
    one = load_vqa("pope_questions", boxes=instances, split="val", sampling="popular", objects_per_image=1)
    assert set(one["image_id"][:]) == {"7", "8"} and set(one["question_type"][:]) == {"popular"}
    assert one[0]["image"] is None
    with pytest.raises(ValueError, match="choose of random, popular, adversarial"):
        load_vqa("pope_questions", boxes=instances, sampling="hard")


OFFICIAL = [
    {"question_id": 1, "image": "COCO_val2014_000000310196.jpg", "text": "Is there a snowboard in the image?"},
    {"question_id": 2, "image": "COCO_val2014_000000310196.jpg", "text": "Is there an orange in the imange?"},
]


def write_lines(path: Path, records: list[dict[str, Any]], labels: list[str]) -> Path:
    lines = [json.dumps({**record, "label": label}) for record, label in zip(records, labels, strict=True)]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_official_files_are_read_as_they_are(tmp_path: Path) -> None:
    paths = [
        write_lines(tmp_path / f"coco_pope_{name}.json", OFFICIAL, ["yes", "no"]) for name in ("random", "adversarial")
    ]
    (tmp_path / "val2014").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "val2014" / "000000310196.jpg")
    rows = load_vqa("pope", questions=paths, images=tmp_path)
    assert rows["question_id"][:] == ["random-1", "random-2", "adversarial-1", "adversarial-2"]
    assert set(rows["image_id"][:]) == {"310196"} and rows["question_type"][:2] == ["random"] * 2
    assert [json.loads(text)["object"] for text in rows["details"][:2]] == ["snowboard", "orange"]
    assert rows["answer"][:2] == ["yes", "no"] and set(rows["split"][:]) == {"test"}
    alone = load_vqa("pope", questions=paths[0], split="test")
    assert alone["question_id"][:] == ["1", "2"]
    with pytest.raises(ValueError, match="no question of the split 'val'"):
        load_vqa("pope", questions=paths[0], split="val")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "holds no row"),
        ('{"question_id": 1', "line 1 is not valid JSON"),
        ('{"question_id": 1, "image": "a.jpg", "text": "Is it?", "label": "maybe"}', "line 1: the label is 'maybe'"),
        ('{"question_id": 1, "text": "Is it?", "label": "no"}', "line 1.*image"),
        ("[1]", "line 1: expected an object"),
    ],
)
def test_broken_files_are_refused(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "pope.json").write_text(text)
    with pytest.raises(ValueError, match=sentence):
        load_vqa("pope", questions=tmp_path / "pope.json")
