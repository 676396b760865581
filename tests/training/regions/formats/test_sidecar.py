"""Sizes of images and labels as the user gives them beside a file."""

import json
from pathlib import Path
from typing import Any

import pytest

from training.regions.formats.sidecar import read_labels, read_sizes


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"dog.jpg": [300, 400], "7": [2, "3"]}, {"dog.jpg": (300, 400), "7": (2, 3)}),
        (
            {"images": [{"id": 9, "file_name": "COCO_9.jpg", "height": 300, "width": 400}]},  # COCO
            {"9": (300, 400), "COCO_9.jpg": (300, 400)},
        ),
        (
            {"images": [{"id": 9, "file_path": "val2014/COCO_9.jpg", "height": 300, "width": 400}]},  # cocotalk.json
            {"9": (300, 400), "COCO_9.jpg": (300, 400)},
        ),
        ({"images": [5, 6]}, None),
        ({"a": [300]}, None),
        ({"a": [0, 400]}, None),
        ({"images": [{"id": 9}]}, None),
        ([1, 2], None),
    ],
)
def test_sizes(tmp_path: Path, content: Any, expected: dict[str, tuple[int, int]] | None) -> None:
    path = tmp_path / "sizes.json"
    path.write_text(json.dumps(content))
    if expected is not None:
        assert read_sizes(path) == expected
    else:
        with pytest.raises(ValueError, match=r"sizes.json should hold sizes as .*height, width"):
            read_sizes(path)


@pytest.mark.parametrize("content", [{}, {"label_to_idx": {"dog": "x"}}, {"label_to_idx": {"dog": -1}}, [1]])
def test_labels_of_another_layout(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "labels.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="labels.json should hold"):
        read_labels(path)


def test_labels(tmp_path: Path) -> None:
    path = tmp_path / "labels.json"
    path.write_text('{"label_to_idx": {"dog": 1}, "attribute_to_idx": {"brown": 2}, "idx_to_label": {"1": "dog"}}')
    labels = read_labels(path)
    assert labels.objects == {"dog": 1} and labels.attributes == {"brown": 2}
