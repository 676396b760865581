"""SugarCrepe's files in both layouts, images that are not there, broken pairs, and the real ones."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.shared_files import shared
from training.data.pair_tests.sugarcrepe import read_sugarcrepe


def pair(name: str, right: str, wrong: str) -> dict[str, Any]:
    return {"filename": name, "caption": right, "negative_caption": wrong}


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    folder = tmp_path / "pairs"
    folder.mkdir()
    swaps = [pair("0.png", "a dog and a cat", "a cat and a dog"), pair("2.png", "b", "c")]
    adds = {"0": pair("0.png", "d", "e"), "1": pair("1.png", "f", "f")}
    (folder / "swap_obj.json").write_text(json.dumps(swaps))
    (folder / "add_att.json").write_text(json.dumps(adds))  # as the authors write it
    return folder


def test_pairs_are_read_in_both_layouts(pairs: Path, images: Path) -> None:
    found = read_sugarcrepe(pairs, images=images)
    assert found.kinds == ["add_att", "add_att", "swap_obj", "swap_obj"]
    assert [found.paths[place].name for place in found.images] == ["0.png", "1.png", "0.png", "2.png"]
    assert found.right[2] == "a dog and a cat" and found.wrong[2] == "a cat and a dog"


def test_pairs_without_their_image_are_counted(pairs: Path, images: Path, tmp_path: Path) -> None:
    (images / "0.png").unlink()
    with pytest.warns(UserWarning, match="left out 2 pairs whose image is not there"):
        assert len(read_sugarcrepe(pairs, images=images).kinds) == 2
    (images / "1.png").unlink()
    (images / "2.png").rename(images / "other.png")
    with pytest.raises(ValueError, match="can be scored on the images in .*: 4 pairs whose image is not there"):
        read_sugarcrepe(pairs, images=images)
    with pytest.raises(ValueError, match="holds no JSON of pairs"):
        read_sugarcrepe(images, images=images)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([{"filename": "0.png", "caption": "a"}], "pair 0 lacks 'negative_caption'"),
        ([pair("0.png", " ", "b")], "pair 0 lacks 'caption'"),
        ("text", "holds no pairs"),
        ([1], "holds no pairs"),
    ],
)
def test_broken_pairs_are_refused(content: Any, message: str, pairs: Path, images: Path) -> None:
    (pairs / "swap_obj.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        read_sugarcrepe(pairs, images=images)


def test_the_pairs_on_images_we_hold() -> None:
    folder = shared("data/sugarcrepe")
    found = read_sugarcrepe(folder, images=shared("data/coco_subset/images"))
    assert len(found.kinds) == 661 and len(set(found.kinds)) == 7
