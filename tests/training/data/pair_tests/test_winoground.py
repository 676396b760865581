"""Winoground's lines: images with and without a suffix, examples that lack one, broken lines."""

import json
from pathlib import Path
from typing import Any

import pytest

from training.data.pair_tests.winoground import read_winoground


def example(first: str, second: str, *, captions: tuple[str, str] = ("a b", "b a"), **more: Any) -> dict[str, Any]:
    return {"image_0": first, "image_1": second, "caption_0": captions[0], "caption_1": captions[1], **more}


def written(folder: Path, *records: Any) -> Path:
    lines = [record if isinstance(record, str) else json.dumps(record) for record in records]
    (folder / "examples.jsonl").write_text("\n".join(lines))
    return folder / "examples.jsonl"


def test_examples_have_two_images_and_two_captions(tmp_path: Path, images: Path) -> None:
    tagged = example("0", "2.png", captions=("dog bites man", "man bites dog"), id=7, collapsed_tag="Object")
    file = written(tmp_path, tagged, example("2", "1"))
    for place in (file, tmp_path):  # the file or its folder
        found = read_winoground(place, images=images)
        assert [[found.paths[image].name for image in pair] for pair in found.images] == [
            *(["0.png", "2.png"], ["2.png", "1.png"])
        ]
        assert found.captions[0] == ("dog bites man", "man bites dog") and found.kinds == ["Object", "untagged"]


def test_an_example_needs_both_images(tmp_path: Path, images: Path) -> None:
    file = written(tmp_path, example("0", "gone"), example("1", "2"))
    with pytest.warns(UserWarning, match="left out 1 pairs whose image is not there"):
        assert len(read_winoground(file, images=images).captions) == 1
    with pytest.warns(UserWarning), pytest.raises(ValueError, match="no example of .* has both of its images"):
        read_winoground(written(tmp_path, example("0", "gone")), images=images)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"image_0": "0", "image_1": "1", "caption_0": "a"}, "example 0 lacks 'caption_1'"),
        (example("0", "1", captions=("a", "a")), "example 0 has the same caption twice"),
        (example("0", "0"), "example 0 has the same image twice"),
        ("[1]", "line 1: expected an object"),
        ("{", "line 1 is not valid JSON"),
        ("", "holds no row"),
    ],
)
def test_broken_lines_are_refused(record: Any, message: str, tmp_path: Path, images: Path) -> None:
    with pytest.raises(ValueError, match=message):
        read_winoground(written(tmp_path, record), images=images)
