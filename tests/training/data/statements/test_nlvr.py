"""NLVR2's pairs and NLVR's boxes in their official layouts; real files where they are at hand."""

import json
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from tests.shared_files import shared
from training.data.statements.nlvr import read_nlvr, read_nlvr2

COLOURS = ["red", "green", "blue"]


def written(path: Path, *lines: dict) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def nlvr2_line(identifier: str, **changes) -> dict:
    return {"sentence": "Both show a dog.", "identifier": identifier, "label": "True", **changes}


def test_nlvr2_pairs_share_a_sentence(tmp_path: Path) -> None:
    for name in ("train/4/train-8-0-img0", "train/4/train-8-0-img1", "train-8-1-img0", "train-8-1-img1"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 5)).save(tmp_path / f"{name}.png")
    path = written(
        tmp_path / "train.json",
        nlvr2_line("train-8-0-1", directory=4),
        nlvr2_line("train-8-1-1", label="False"),
    )
    with pytest.warns(UserWarning, match="2 of 4 images are not in"):
        rows = read_nlvr2(path, images=tmp_path)
    assert rows["statement_id"][:] == ["train-8-1-1"]
    rows = read_nlvr2(path)
    assert rows["group"][:] == ["train-8-1"] * 2 and rows["label"][:] == ["true", "false"]
    assert rows["image_ids"][0] == ["train-8-0-img0", "train-8-0-img1"]


def nlvr_files(folder: Path, *, presentations: int = 10) -> Path:
    lines = []
    for number in range(presentations):
        for place, label in enumerate(("true", "false")):
            whole = Image.new("RGB", (400, 100), "grey")
            for box, colour in enumerate(COLOURS):
                whole.paste(Image.new("RGB", (100, 100), colour), (150 * box, 0))
            whole.save(folder / f"dev-{number}-{place}-3.png")
            lines.append({"sentence": "A box.", "identifier": f"{number}-{place}", "label": label, "directory": "0"})
    return written(folder / "dev.json", *lines)


def test_nlvr_boxes_are_cut_from_their_image(tmp_path: Path) -> None:
    rows = read_nlvr(nlvr_files(tmp_path), images=tmp_path)
    assert len(rows) == 20 and {*rows["split"]} == {"val"} and rows[0]["statement_id"] == "0-0-3"
    assert rows[0]["image_ids"] == [f"dev-0-0-3-box{box}" for box in range(3)] and rows["group"][1] == "0"
    for image, colour in zip(rows[0]["images"], COLOURS, strict=True):
        assert image.size == (100, 100) and image.getcolors() == [
            (10000, Image.new("RGB", (1, 1), colour).getpixel((0, 0)))
        ]


def test_presentations_are_held_out_whole(tmp_path: Path) -> None:
    path = nlvr_files(tmp_path)
    parts = {
        split: read_nlvr(path, images=tmp_path, split=split, file_split="train", val_share=0.3)
        for split in ("train", "val")
    }
    assert Counter({name: len({*rows["group"]}) for name, rows in parts.items()}) == {"train": 7, "val": 3}
    assert not {*parts["train"]["group"]} & {*parts["val"]["group"]}
    with pytest.raises(ValueError, match="val_share is 1, it must be"):
        read_nlvr(path, images=tmp_path, val_share=1)
    with pytest.raises(ValueError, match="has no image of the split 'test'; it has val"):
        read_nlvr(path, images=tmp_path, split="test")


def test_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="record 1 has the identifier '8-0', not split-set-pair-sentence"):
        read_nlvr2(written(tmp_path / "dev.json", nlvr2_line("8-0")))
    path = nlvr_files(tmp_path, presentations=1)
    (tmp_path / "dev-0-0-3.png").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"dev-0-0-3.png cannot be read .*copy it again"):
        read_nlvr(path, images=tmp_path)


def test_real_files_load_as_they_are() -> None:
    folder = shared("data/nlvr")
    rows = read_nlvr(folder / "dev.json", images=folder / "images", file_split="train", val_share=0.1, split="val")
    assert 80 < len(rows) < 120 and {len(images) for images in rows["image_ids"]} == {3}
    mini = shared("data/official_formats/mini_with_photos")
    pairs = read_nlvr2(mini / "nlvr2" / "tiny-dev.json", images=mini / "images" / "nlvr2")
    assert pairs["group"][0] == "dev-850-0" and {*pairs["label"]} == {"true", "false"}
    assert len(pairs[0]["images"]) == 2
