"""FOIL's file: foils beside their captions by id, names of images, broken annotations."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.tiny import tiny_image
from training.data.pair_tests.foil import read_foil

IMAGES = [{"id": 5, "file_name": "0.png"}, {"id": 6, "file_name": "1.png"}]


def annotation(number: int, image: int, caption: str, *, foil: bool, **more: Any) -> dict[str, Any]:
    word = {"foil_word": "cat", "target_word": "dog"} if foil else {"foil_word": "ORIG", "target_word": "ORIG"}
    return {"id": number, "foil_id": 9, "image_id": image, "caption": caption, "foil": foil, **word, **more}


def written(folder: Path, annotations: Any, images: Any = IMAGES) -> Path:
    path = folder / "foilv1.0_test_2017.json"
    path.write_text(json.dumps({"info": {}, "images": images, "licenses": [], "annotations": annotations}))
    return path


def test_each_foil_stands_beside_its_caption(tmp_path: Path, images: Path) -> None:
    tiny_image(width=16, height=12).save(images / "000000000007.jpg")
    annotations = [
        annotation(1, 5, "a cat runs", foil=True),
        annotation(1, 5, "a dog runs", foil=False),
        annotation(1, 5, "a cow runs", foil=True),
        annotation(2, 7, "a man", foil=False),  # of an image that the file does not list
        annotation(2, 7, "a pan", foil=True),
        annotation(3, 6, "a bus", foil=True),
    ]
    with pytest.warns(UserWarning, match="left out 1 foils without the caption that they were made of .first: 3"):
        found = read_foil(written(tmp_path, annotations), images=images)
    assert found.right == ["a dog runs", "a dog runs", "a man"] and found.wrong == ["a cat runs", "a cow runs", "a pan"]
    assert [found.paths[place].name for place in found.images] == ["0.png", "0.png", "000000000007.jpg"]
    assert set(found.kinds) == {"noun"}


@pytest.mark.parametrize(
    ("annotations", "message"),
    [
        ([{"id": 1, "image_id": 5, "caption": "a", "foil": 1}], "annotation 0 lacks id, image_id or foil"),
        ([{"image_id": 5, "caption": "a", "foil": True}], "annotation 0 lacks id, image_id or foil"),
        ([{"id": 1, "image_id": 5, "foil": True}], "annotation 0 lacks 'caption'"),
        ("x", "has no list 'annotations'"),
        ([], "can be scored on .*: it is empty"),
        ([annotation(1, 5, "a", foil=False)], "can be scored on .*: it is empty"),
    ],
)
def test_broken_files_are_refused(annotations: Any, message: str, tmp_path: Path, images: Path) -> None:
    with pytest.raises(ValueError, match=message):
        read_foil(written(tmp_path, annotations), images=images)


def test_images_without_a_name_are_those_of_val2014(tmp_path: Path, images: Path) -> None:
    (images / "0.png").rename(images / "COCO_val2014_000000000005.png")
    tiny_image(width=16, height=12).save(images / "COCO_val2014_000000000005.jpg")
    pair = [annotation(1, 5, "a dog", foil=False), annotation(1, 5, "a cat", foil=True)]
    found = read_foil(written(tmp_path, pair, [{"id": 5, "file_name": 3}]), images=images)
    assert found.paths[0].name == "COCO_val2014_000000000005.jpg"
