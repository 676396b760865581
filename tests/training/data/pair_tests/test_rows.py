"""What is asked of a test, and where images are found."""

from pathlib import Path

import numpy as np
import pytest

from tests.tiny import tiny_image
from training.data.pair_tests.rows import CaptionPairs, CaptionSquares, ImagePlaces, Statements, texts_of


def test_what_is_asked_has_its_image() -> None:
    paths = [Path("a"), Path("b")]
    pairs = CaptionPairs(paths, ["x", "y"], np.array([1, 0]), ["r0", "r1"], ["w0", "w1"])
    texts, places = pairs.asked
    assert list(zip(texts, places.tolist(), strict=True)) == [("r0", 1), ("r1", 0), ("w0", 1), ("w1", 0)]
    squares = CaptionSquares(paths, ["x", "y"], np.array([[0, 1], [1, 0]]), [("c0", "c1"), ("d0", "d1")])
    texts, places = squares.asked
    asked = list(zip(texts, places.tolist(), strict=True))
    assert asked[:4] == [("c0", 0), ("c0", 1), ("c1", 0), ("c1", 1)]  # (captions, images) of an example
    assert asked[4:] == [("d0", 1), ("d0", 0), ("d1", 1), ("d1", 0)]
    statements = Statements(paths, ["x"], np.array([1]), ["s"], np.array([True]))
    assert statements.asked[0] == ["s"] and statements.asked[1].tolist() == [1]


def test_images_are_found_by_any_of_their_names(images: Path, tmp_path: Path) -> None:
    more = tmp_path / "more"
    more.mkdir()
    tiny_image().save(more / "000000000042.jpg")
    tiny_image().save(more / "COCO_train2014_000000000007.jpg")
    places = ImagePlaces([images, more], source="test.json")
    assert places.place("1.png") == 0 and places.place("deep/1") == 0 and places.place("2.png") == 1
    assert places.place("COCO_val2014_000000000042.jpg") == 2 and places.place("000000000007.jpg") == 3
    assert places.place("gone.png") is None and places.place("../1.png") == 0  # bare names alone: nothing leads out
    with pytest.warns(UserWarning, match="left out 1 pairs whose image is not there .first: gone.png"):
        assert [path.name for path in places.paths()] == [
            *("1.png", "2.png", "000000000042.jpg", "COCO_train2014_000000000007.jpg")
        ]


def test_folders_without_images_are_refused(tmp_path: Path, images: Path) -> None:
    with pytest.raises(ValueError, match="there is no image folder .*images.zip; give a folder of images, unpacked"):
        ImagePlaces(tmp_path / "images.zip", source="test.json")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no image"):
        ImagePlaces([tmp_path / "empty"], source="test.json")
    places = ImagePlaces(images, source="test.json")
    with pytest.raises(ValueError, match="nothing of test.json can be scored on the images in .*: it is empty"):
        places.paths()


def test_texts_that_say_nothing_are_named() -> None:
    assert texts_of({"a": "x", "b": "y", "c": 1}, ("b", "a"), place="here") == ["y", "x"]
    for record in ({"a": "x"}, {"a": "x", "b": " "}, {"a": "x", "b": 3}):
        with pytest.raises(ValueError, match="here lacks 'b'; each has a, b"):
            texts_of(record, ("a", "b"), place="here")
    with pytest.raises(ValueError, match="here lacks 'a'"):
        texts_of(["a"], ("a",), place="here")
