"""Squashed images get their shape back, under their own names; broken ones and odd arguments are named."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.data.boxes.restore_shapes import main, restored


def squashed(folder: Path) -> Path:
    """Two squares of 40 pixels, of which one was 80 x 40, with a red left quarter; and their COCO file."""
    (folder / "photos" / "deep").mkdir(parents=True)
    pixels = np.zeros((40, 40, 3), dtype=np.uint8)
    pixels[:, :10, 0] = 255
    images = []
    for number, (name, width) in enumerate((("a.jpg", 80), ("deep/b.jpg", 40))):
        Image.fromarray(pixels).save(folder / "photos" / name, quality=95)
        images.append({"id": number, "file_name": name, "width": width, "height": 40})
    boxes = [{"id": 1, "image_id": 0, "category_id": 1, "bbox": [0, 0, 20, 40]}]
    content = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "red"}]}
    (folder / "boxes.json").write_text(json.dumps(content))
    return folder / "boxes.json"


def test_squares_are_stretched_and_others_left(tmp_path, capsys):
    part = f"{{format: coco, annotations: {squashed(tmp_path)}, images: {tmp_path}/photos, file_split: train}}"
    assert main(["--part", part, "--output", str(tmp_path / "out")]) == 0
    assert "1 of 2 images stretched" in capsys.readouterr().out
    wide = np.asarray(Image.open(tmp_path / "out" / "a.jpg")).astype(int)
    assert wide.shape == (40, 80, 3)
    assert np.flatnonzero(wide[20, :, 0] > 128).max() == pytest.approx(19, abs=1)  # a quarter still
    assert Image.open(tmp_path / "out" / "deep" / "b.jpg").size == (40, 40)
    (tmp_path / "out" / "a.jpg").unlink()
    assert main(["--part", part, "--output", str(tmp_path / "out")]) == 0  # goes on where it was
    assert (tmp_path / "out" / "a.jpg").exists()


@pytest.mark.parametrize("folder", ["photos", "./deep/../photos/", "link"])
def test_the_folder_may_be_relative_or_a_link(folder, tmp_path, monkeypatch):
    squashed(tmp_path)
    (tmp_path / "deep").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "photos")
    monkeypatch.chdir(tmp_path)
    part = f"{{format: coco, annotations: boxes.json, images: {folder}, file_split: train}}"
    assert main(["--part", part, "--output", "out"]) == 0
    assert Image.open(tmp_path / "out" / "a.jpg").size == (80, 40)
    assert (tmp_path / "out" / "deep" / "b.jpg").exists()


def test_mistakes_are_named(tmp_path, capsys):
    annotations = squashed(tmp_path)
    (tmp_path / "photos" / "a.jpg").write_bytes(b"no image")
    part = f"{{format: coco, annotations: {annotations}, images: {tmp_path}/photos, file_split: train}}"
    assert main(["--part", part, "--output", str(tmp_path / "out")]) == 2
    assert "image '0' cannot be read" in capsys.readouterr().err
    assert main(["--part", f"{{format: coco, annotations: {annotations}}}", "--output", "x"]) == 2
    assert "--part needs a format and its images" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("stated", "expected"), [((500, 375), (299, 224)), ((375, 500), (224, 299)), ((300, 301), (224, 224))]
)
def test_no_side_gets_fewer_pixels(stated, expected):
    assert restored(Image.new("RGB", (224, 224)), width=stated[0], height=stated[1]).size == expected
