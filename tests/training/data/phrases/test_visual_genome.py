"""Region descriptions as rows: the real record, DenseCap's split list, descriptions drawn, and mistakes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.shared_files import shared
from training.data.boxes.visual_genome import genome_splits
from training.data.phrases.formats import load_phrases

REGION = {"x": 10, "y": 20, "width": 30, "height": 40}


def write(folder: Path, images: dict[int, list[str]], **sizes: Any) -> Path:
    about = {"width": 100, "height": 200, **sizes}
    described = [{"id": i, "regions": [{"phrase": text, **REGION} for text in own]} for i, own in images.items()]
    (folder / "region_descriptions.json").write_text(json.dumps(described))
    (folder / "image_data.json").write_text(json.dumps([{"image_id": i, **about} for i in images]))
    return folder


def test_the_real_record() -> None:
    (row,) = load_phrases("visual_genome", annotations=shared("data/official_formats/visual_genome"))
    given = json.loads(shared("data/official_formats/visual_genome/region_descriptions.json").read_text())[0]["regions"]
    assert row["captions"] == [region["phrase"].strip() for region in given] and row["image_id"] == "1"
    for region, (phrase,) in zip(given, row["phrases"], strict=True):
        x, y, width, height = (region[key] for key in ("x", "y", "width", "height"))
        sides = np.array([x, y, min(x + width, 800), min(y + height, 600)]) / [800, 600, 800, 600]
        np.testing.assert_allclose(phrase["boxes"], [sides], atol=1e-6)


def test_densecaps_split_list_is_read_as_it_is() -> None:
    path = shared("data/official_formats/densecap/densecap_splits.json")
    split_of, given = genome_splits(path), json.loads(path.read_text())
    assert {word: len(ids) for word, ids in given.items()} == {
        word: sum(own == word for own in split_of.values()) for word in ("train", "val", "test")
    }
    assert split_of[str(given["test"][0])] == "test" and len(split_of) > 80_000


def test_images_of_a_split_and_descriptions_drawn(tmp_path: Path) -> None:
    texts = [f"thing {i}" for i in range(20)]
    folder = write(tmp_path, {1: texts, 2: ["dog", "cat"], 3: ["in no list"]})
    lists = tmp_path / "splits.json"
    lists.write_text(json.dumps({"train": [1, 5], "val": [], "test": [2]}))
    options: dict[str, Any] = {"annotations": folder, "split_lists": lists}
    (row,) = load_phrases("visual_genome", split="test", **options)
    assert (row["image_id"], row["split"], row["captions"]) == ("2", "test", ["dog", "cat"])
    drawn = [load_phrases("visual_genome", split="train", per_image=5, seed=seed, **options)[0] for seed in (0, 0, 1)]
    assert drawn[0]["captions"] == drawn[1]["captions"] != drawn[2]["captions"] and len(drawn[0]["captions"]) == 5
    assert drawn[0]["captions"] == sorted(drawn[0]["captions"], key=texts.index)
    assert [row["split"] for row in load_phrases("visual_genome", annotations=folder)] == ["train"] * 3
    assert len(load_phrases("visual_genome", annotations=folder, file_split="val", split="val")) == 3


def test_what_is_left_out_is_told(tmp_path: Path) -> None:
    folder = write(tmp_path, {1: ["a dog", " "], 2: [" "], 3: ["a cat"]})
    (folder / "image_data.json").write_text(json.dumps([{"image_id": i, "width": 100, "height": 200} for i in (1, 2)]))
    with pytest.warns(UserWarning, match=r"1 images that image_data.json does not hold \(first: image 3\).*2 blank"):
        rows = load_phrases("visual_genome", annotations=folder)
    assert rows["captions"][:] == [["a dog"]]


@pytest.mark.parametrize(
    ("images", "sizes", "options", "message"),
    [
        ({1: ["a dog"]}, {}, {"per_image": 0}, "per_image is 0; give a number above 0"),
        ({1: [7]}, {}, {}, "a region of the image 1 has no 'phrase' of text"),
        ({1: [" "]}, {}, {}, "no expression of .* has a box in its image"),
        ({1: ["a dog"]}, {"width": "wide"}, {}, "has width 'wide' and height 200, which are no pixel counts"),
        ({1: ["a dog"]}, {"width": None}, {}, "has no width and height; write them into the file, or give the image"),
        ({1: ["a dog"]}, {}, {"split": "test"}, "has no image of the split 'test'; it has train"),
    ],
)
def test_mistakes_are_named(images: Any, sizes: Any, options: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        load_phrases("visual_genome", annotations=write(tmp_path, images, **sizes), **options)


def test_split_lists_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "lists.json"
    for content, message in (
        ([1, 2], "is no split file: it needs a list of image ids under train"),
        ({"train": [1], "test": [1]}, "the image '1' is in train and in test"),
        ({"first": [1]}, "unknown split 'first'"),
    ):
        path.write_text(json.dumps(content))
        with pytest.raises(ValueError, match=message):
            genome_splits(path)
