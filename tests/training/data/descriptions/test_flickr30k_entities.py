"""Flickr30k Entities as dense captions: phrases of a box, groups, pronouns, official files and joined JSON."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.shared_files import shared
from tests.training.data.boxes.test_flickr30k_entities import SIZE, A, B, C, as_json, write_image
from training.data.descriptions.formats import load_descriptions
from training.data.descriptions.rows import sentences_of_boxes

BOXES = {"1": [A], "2": [B], "3": [B, C]}
SENTENCES = [
    "[/EN#1/people A man] and [/EN#2/people/other another man] in [/EN#0/notvisual front] of [/EN#4/scene a lake] .",
    "[/EN#1/people He] sees [/EN#3/animals two dogs] .",
    "[/EN#1/people A fisherman] and [/EN#3/animals his dogs] by [/EN#1/people himself] .",
]
AROUND = [min(B[0], C[0]), min(B[1], C[1]), max(B[2], C[2]), max(B[3], C[3])]


def read(path: Path, **options: Any) -> Any:
    return load_descriptions("flickr30k_entities", annotations=path, **options)


def told(row: dict[str, Any]) -> list[tuple[list[int], list[str]]]:
    """Boxes in pixels with their sentences."""
    boxes = np.round(np.array(row["boxes"]) * np.tile(SIZE, 2)).astype(int).tolist()
    return list(zip(boxes, sentences_of_boxes(row), strict=True))


@pytest.mark.parametrize(
    ("several", "expected"),
    [
        ("joined", [(A, ["A man", "A fisherman"]), (B, ["another man"]), (AROUND, ["two dogs", "his dogs"])]),
        (
            "each",
            [
                (A, ["A man", "A fisherman"]),
                (B, ["another man", "two dogs", "his dogs"]),
                (C, ["two dogs", "his dogs"]),
            ],
        ),
        ("none", [(A, ["A man", "A fisherman"]), (B, ["another man"])]),
    ],
)
def test_each_box_has_its_phrases(tmp_path: Path, several: str, expected: Any) -> None:
    """Pronouns say nothing; what several boxes are called describes them together, each, or nothing."""
    write_image(tmp_path, "1", BOXES, SENTENCES)
    write_image(tmp_path, "2", {"1": [A]}, ["[/EN#1/people He] ."])
    (row,) = read(tmp_path, several=several)
    assert told(row) == [(list(box), texts) for box, texts in expected]
    assert row["image_id"] == "1" and row["image"] is None and row["split"] == "train"


def test_a_joined_json_is_the_official_files(tmp_path: Path) -> None:
    write_image(tmp_path, "1", BOXES, SENTENCES)
    joined = tmp_path / "joined.json"
    joined.write_text(json.dumps(as_json(tmp_path, splits={"1": "train"})))
    assert told(read(joined)[0]) == told(read(tmp_path)[0])


def test_mistakes_are_named(tmp_path: Path) -> None:
    write_image(tmp_path, "1", {"1": [A]}, ["[/EN#1/people He] ."])
    with pytest.raises(ValueError, match="several is 'all'; it takes joined, each, none"):
        read(tmp_path, several="all")
    with pytest.raises(ValueError, match="no box of .* is described"):
        read(tmp_path)
    write_image(tmp_path, "2", {"1": [[5, 5, 5, 5]], "2": [A]}, ["[/EN#1/people A man] and [/EN#2/people a boy] ."])
    with pytest.warns(UserWarning, match="1 chains whose boxes that are empty"):
        assert told(read(tmp_path)[0]) == [(A, ["a boy"])]


def test_the_real_file_loads_as_it_is() -> None:
    rows = read(shared("data/flickr8k/entities.json.gz"), split="val")
    assert rows.num_rows == 1000 and sum(map(len, rows["boxes"])) == 4894 and sum(map(len, rows["captions"])) == 10375
