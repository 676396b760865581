"""Mixtures of caption data sets: whose image is whose, what is drawn and repeated, no scored image slipping in."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from training.data.captions.formats import CAPTION_FORMATS, load_captions
from training.data.captions.rows import CAPTION_FEATURES
from training.data.splits import NoSuchSplitError
from training.scenes.draw import scenes_dataset

TABLE = "file_name,caption,split,domain\n1,a hut,train,\n7,a lake,val,outdoor\n"


def write(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def coco(path: Path, captions: dict[int, list[str]]) -> dict[str, Any]:
    images = [{"id": i, "file_name": f"{i}.png"} for i in captions]
    notes = [{"image_id": i, "caption": text} for i, texts in captions.items() for text in texts]
    return {"format": "coco", "annotations": write(path, {"images": images, "annotations": notes})}


def pairs(path: Path, count: int, **options: Any) -> dict[str, Any]:
    lines = "".join(f"http://a/{i}\tcaption {i}\n" for i in range(count))
    return {"format": "pairs", "name": "cc12m", "pairs": write(path, lines), "named_by": "row", **options}


@pytest.fixture
def parts(tmp_path: Path) -> list[dict[str, Any]]:
    """COCO (train), pairs numbered as COCO's images are, and a table with a val split, a domain and images."""
    (tmp_path / "own").mkdir()
    write(tmp_path / "own" / "captions.csv", TABLE)
    for red, name in enumerate(("1", "7")):
        Image.new("RGB", (4, 4), (100 + red, 0, 0)).save(tmp_path / "own" / name, format="PNG")
    return [
        coco(tmp_path / "captions_train2014.json", {0: ["a cat"], 1: ["a dog", "two dogs"]}),
        pairs(tmp_path / "cc12m.tsv", 2),
        {"format": "folder", "folder": tmp_path / "own"},
    ]


def test_a_mixture_is_its_parts_in_their_order(parts: list[dict[str, Any]]) -> None:
    rows = load_captions("mixture", parts=parts)
    assert dict(rows.features) == dict(CAPTION_FEATURES) and rows.column_names == list(CAPTION_FEATURES)
    assert rows["image_id"][:] == ["0", "1", "cc12m-0", "cc12m-1", "folder-1", "folder-7"]
    assert rows["captions"][:3] == [["a cat"], ["a dog", "two dogs"], ["caption 0"]]
    assert rows["domain"][:] == ["coco", "coco", "cc12m", "cc12m", "folder", "outdoor"]
    assert rows["split"][:] == ["train"] * 5 + ["val"]
    assert [image and image.getpixel((0, 0))[0] for image in rows["image"]] == [None] * 4 + [100, 101]


def test_drawn_scenes_and_parts_of_one_format(tmp_path: Path) -> None:
    scenes = {"format": "scenes", "num_scenes": 2, "image_size": 32}
    parts = [pairs(tmp_path / "a.tsv", 1), scenes, {**scenes, "seed": 1}]
    rows = load_captions("mixture", formats={**CAPTION_FORMATS, "scenes": scenes_dataset}, parts=parts, split="train")
    assert rows["domain"][:] == ["cc12m", "scenes", "scenes", "scenes3", "scenes3"]
    ids = rows["image_id"][:]
    assert len(set(ids)) == 5 and [i.partition("-")[0] for i in ids[1:]] == ["scenes", "scenes", "scenes3", "scenes3"]
    assert rows[1]["image"].size == (32, 32) and rows[0]["image"] is None


def test_image_ids_do_not_depend_on_the_split(parts: list[dict[str, Any]]) -> None:
    val = load_captions("mixture", parts=parts, split="val")
    assert val["image_id"][:] == ["folder-7"] and val["split"][:] == ["val"]
    assert load_captions("mixture", parts=parts, split="train")["image_id"][-1] == "folder-1"
    with pytest.raises(NoSuchSplitError, match="no part of the mixture has the split 'test'"):
        load_captions("mixture", parts=parts, split="test")


def test_parts_on_the_same_images_share_rows(parts: list[dict[str, Any]], tmp_path: Path) -> None:
    more = coco(tmp_path / "captions_train2017.json", {5: ["a bed"], 1: ["one more dog"]})
    rows = load_captions("mixture", parts=[*parts, more, {**parts[1], "image_ids": "coco", "limit": 2}])
    found = dict(zip(rows["image_id"], rows["captions"], strict=True))
    assert list(found) == ["0", "1", "cc12m-0", "cc12m-1", "folder-1", "folder-7", "5"]
    assert found["1"] == ["a dog", "two dogs", "one more dog", "caption 1"] and found["0"] == ["a cat", "caption 0"]
    val = coco(tmp_path / "captions_val2014.json", {1: ["a scored dog"]})
    message = r"image '1' is train in part 1 of the mixture \(coco\) and val in part 2 \(coco2\); leave it out of one"
    with pytest.raises(ValueError, match=message):
        load_captions("mixture", parts=[parts[0], val])
    assert len(load_captions("mixture", parts=[parts[0], {**val, "image_ids": "others"}])) == 3


def test_parts_take_part_in_their_splits(parts: list[dict[str, Any]]) -> None:
    parts[2]["splits"] = ["train"]
    assert load_captions("mixture", parts=parts)["image_id"][-1] == "folder-1"
    with pytest.raises(NoSuchSplitError):
        load_captions("mixture", parts=parts, split="val")
    parts[2]["splits"] = "dev+test"
    assert load_captions("mixture", parts=parts, split="train+val")["image_id"][-1] == "folder-7"


def test_a_share_a_limit_and_repeats(tmp_path: Path) -> None:
    drawn = {}
    for seed in (0, 1):
        part = pairs(tmp_path / "cc.tsv", 100, share=0.3)
        drawn[seed] = load_captions("mixture", parts=[part], seed=seed)["image_id"][:]
        assert drawn[seed] == load_captions("mixture", parts=[part], seed=seed)["image_id"][:]
        assert len(drawn[seed]) == 30 and drawn[seed] == sorted(drawn[seed], key=int)
        assert load_captions("mixture", parts=[{**part, "repeat": 3}], seed=seed)["image_id"][:] == drawn[seed] * 3
        assert len(load_captions("mixture", parts=[{**part, "limit": 7}], seed=seed)) == 7
    assert drawn[0] != drawn[1]
    scored = pairs(tmp_path / "cc.tsv", 4, file_split="val", repeat=3)
    assert load_captions("mixture", parts=[scored])["image_id"][:] == ["0", "1", "2", "3"]


def test_images_of_a_mixture(parts: list[dict[str, Any]], tmp_path: Path) -> None:
    for red, name in enumerate(("0.png", "1.png")):
        (tmp_path / "photos").mkdir(exist_ok=True)
        Image.new("RGB", (4, 4), (red, 0, 0)).save(tmp_path / "photos" / name)
    rows = load_captions("mixture", parts=parts, images=tmp_path / "photos")
    assert [image.getpixel((0, 0))[0] for image in rows["image"]] == [0, 1, 0, 1, 100, 101]


def test_a_mixture_may_hold_mixtures(parts: list[dict[str, Any]]) -> None:
    inner = {"format": "mixture", "name": "web", "parts": parts[1:]}
    rows = load_captions("mixture", parts=[parts[0], inner], split="train")
    assert rows["image_id"][:] == ["0", "1", "web-0", "web-1", "web-folder-1"]
    assert rows["domain"][:] == ["coco", "coco", "cc12m", "cc12m", "folder"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"share": 0}, r"part 2 of the mixture \(pairs\): share is 0, limit 1 and repeat 1; a share lies in 0..1"),
        ({"share": "half"}, "share is half"),
        ({"limit": 0}, "limit 0"),
        ({"repeat": 1.5}, "repeat 1.5"),
        ({"split": "train"}, r"name its splits as splits: \[train\]"),
        ({"splits": ["trian"]}, "unknown split 'trian'"),
        ({"format": "pears"}, r"part 2 of the mixture \(pears\): unknown caption format 'pears'"),
        ({"tsv": "x"}, "'pairs' does not take tsv"),
        ({"pairs": "absent.tsv"}, r"part 2 of the mixture \(pairs\): cannot read absent.tsv"),
    ],
)
def test_faults_of_a_part_name_it(parts: list[dict[str, Any]], change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_captions("mixture", parts=[parts[0], {**parts[1], **change}, parts[2]])


@pytest.mark.parametrize("wrong", [[], {}, "coco", ["coco"], [{"annotations": "a.json"}], None])
def test_parts_that_are_none(wrong: Any) -> None:
    with pytest.raises(ValueError, match="parts of a mixture is a list of data sets"):
        load_captions("mixture", parts=wrong)
