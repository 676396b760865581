"""VALSE's files: which foils are valid, texts in lists, images of several folders, broken records."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.tiny import tiny_image
from training.data.pair_tests.valse import read_valse


def foil(name: str, votes: Any, *, caption: Any = "a dog", foil: Any = "a cat") -> dict[str, Any]:
    return {"image_file": name, "caption": caption, "foil": foil, "mturk": {"foil": 0, "caption": votes, "other": 0}}


def written(folder: Path, content: Any, *, name: str = "existence.json") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(json.dumps(content))
    return folder


def test_valid_foils_are_those_that_two_people_told(tmp_path: Path, images: Path) -> None:
    content = {"a": foil("0.png", 3), "b": foil("1.png", 2, foil="no dog"), "c": foil("2.png", 1)}
    folder = written(tmp_path / "valse", content)
    written(folder, {"d": foil("v7w_1.jpg", 3, caption=["two dogs"], foil=["one dog", "no dogs"])}, name="plurals.json")
    other = tmp_path / "visual7w"
    other.mkdir()
    tiny_image(width=16, height=12).save(other / "v7w_1.jpg")
    with pytest.warns(UserWarning, match="left out 1 foils that fewer than two people told from their caption"):
        found = read_valse(folder, images=[images, other])
    assert found.kinds == ["existence", "existence", "plurals", "plurals"]
    assert found.wrong == ["a cat", "no dog", "one dog", "no dogs"] and found.right[2:] == ["two dogs"] * 2
    assert [found.paths[place].name for place in found.images] == ["0.png", "1.png", "v7w_1.jpg", "v7w_1.jpg"]
    assert len(read_valse(folder / "existence.json", images=images, all_foils=True).kinds) == 3


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "holds no foils by their id"),
        ({"a": 1}, "holds no foils by their id"),
        ({"a": {"image_file": "0.png", "caption": "x", "foil": "y"}}, "the foil 'a' has no votes .* by --all-foils"),
        ({"a": foil("0.png", "3")}, "the foil 'a' has no votes"),
        ({"a": foil("0.png", 3, foil="")}, "the foil 'a' lacks 'foil'"),
        ({"a": foil("0.png", 3, foil=[])}, "the foil 'a' lacks 'foil'"),
        ({"a": foil("0.png", 3, caption=None)}, "the foil 'a' lacks 'caption'"),
        ({"a": foil("0.png", 3, foil=["x", " "])}, "the foil 'a' lacks 'foil'"),
        ({"a": foil("0.png", 0)}, "can be scored on .*: 1 foils that fewer than two people told"),
        ({}, "can be scored on .*: it is empty"),
    ],
)
def test_broken_foils_are_refused(content: Any, message: str, tmp_path: Path, images: Path) -> None:
    with pytest.raises(ValueError, match=message):
        read_valse(written(tmp_path / "valse", content), images=images)


def test_a_folder_without_foils_is_refused(images: Path) -> None:
    with pytest.raises(ValueError, match="holds no JSON of foils"):
        read_valse(images, images=images)
