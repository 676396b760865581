"""Captions without images: the layouts of their files, and which images' captions are left out."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from tests.shared_files import shared
from training.data.captions.formats import load_captions
from training.data.captions.texts import image_key
from training.data.splits import NoSuchSplitError

LINES = ["7.jpg#0\ta dog", "12_0a1b2c3d4e.jpg#0\ta cat", "7.jpg#1\t two dogs ", "", "12_0a1b2c3d4e.jpg#1\t"]
COCO = {
    "images": [
        {"id": 139, "file_name": "000000000139.jpg", "karpathy_split": "test", "split": "val2017"},
        {"id": 285, "file_name": "000000000285.jpg", "karpathy_split": None, "split": "val"},
    ],
    "annotations": [{"image_id": 139, "caption": "a room"}, {"image_id": 285, "caption": "a bear\n"}],
}


def write(path: Path, content: Any) -> str:
    """Lines, packed where the name says so, or JSON; returns the path."""
    text = content if isinstance(content, str) else json.dumps(content) if isinstance(content, dict) else None
    data = (text if text is not None else "\n".join(content)).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return str(path)


def read(texts: Any, **options: Any) -> dict[str, list[str]]:
    """The captions of each row by its id."""
    rows = load_captions("texts", texts=texts, **options)
    assert rows["image"][:] == [None] * len(rows) and set(rows["split"]) == {options.get("file_split", "train")}
    return dict(zip(rows["image_id"], rows["captions"], strict=True))


@pytest.mark.parametrize("name", ["texts.txt", "texts.txt.gz", "results.token"])
def test_lines_of_an_image_are_one_row(tmp_path: Path, name: str) -> None:
    found = read(write(tmp_path / name, LINES))
    assert found == {"7.jpg": ["a dog", "two dogs"], "12_0a1b2c3d4e.jpg": ["a cat"]}


def test_lines_without_ids_are_rows_of_their_own(tmp_path: Path) -> None:
    """Their numbers are no ids of images, which a list of COCO's images would take them for."""
    lines = write(tmp_path / "a.txt", ["a dog", "", "a dog", "#1 fan"])
    assert read(lines) == {"line-1": ["a dog"], "line-3": ["a dog"], "line-4": ["#1 fan"]}
    with pytest.raises(ValueError, match="the id 3 of leave_out: none of its images .* here line-1, line-3, line-4"):
        read(lines, leave_out=[3])


def test_several_files_keep_their_ids_apart(tmp_path: Path) -> None:
    lines, coco = write(tmp_path / "a.txt", ["139\ta dog"]), write(tmp_path / "b.json", COCO)
    assert read({"mine": lines, "coco": coco}) == {
        "mine-139": ["a dog"],
        "coco-139": ["a room"],
        "coco-285": ["a bear"],
    }
    assert list(read([lines, coco])) == ["1-139", "2-139", "2-285"]


def test_images_are_left_out_however_they_are_listed(tmp_path: Path) -> None:
    lines, coco = write(tmp_path / "a.txt", LINES), write(tmp_path / "b.json", COCO)
    names = write(tmp_path / "names.txt", ["12_0a1b2c3d4e.jpg  1", "99.jpg"])
    karpathy = {"images": [{"filename": "COCO_val2014_000000000285.jpg", "split": "test"}]}
    whole = write(tmp_path / "whole.json", karpathy)
    test = {"file": write(tmp_path / "split.json", COCO), "split": "test"}
    for left_out, kept in (
        ([names], ["a-7.jpg", "b-139", "b-285"]),
        ([12, "7.jpg"], ["b-139", "b-285"]),
        ([test], ["a-7.jpg", "a-12_0a1b2c3d4e.jpg", "b-285"]),
        (test, ["a-7.jpg", "a-12_0a1b2c3d4e.jpg", "b-285"]),
        ([{"file": test["file"]}, names], ["a-7.jpg"]),
        ([whole], ["a-7.jpg", "a-12_0a1b2c3d4e.jpg", "b-139"]),
        ([{**test, "split": "val"}], ["a-7.jpg", "a-12_0a1b2c3d4e.jpg", "b-139"]),
    ):
        assert list(read({"a": lines, "b": coco}, leave_out=left_out)) == kept


def test_a_list_that_matches_nothing_is_refused_unless_it_may(tmp_path: Path) -> None:
    lines = write(tmp_path / "a.txt", LINES)
    other = {"file": write(tmp_path / "b.json", COCO)}
    with pytest.raises(ValueError, match=r"b\.json: none of its images .* there 139, 285, here 12, 7; correct the ids"):
        read(lines, leave_out=[7, other])
    with pytest.raises(ValueError, match="the id '70' of leave_out: none of its images"):
        read(lines, leave_out=["70"])
    assert list(read(lines, leave_out=[7, {**other, "optional": True}])) == ["12_0a1b2c3d4e.jpg"]
    with pytest.raises(ValueError, match="leave_out leaves no text"):
        read(lines, leave_out=[7, 12])


def test_wrong_entries_of_left_out_images_are_refused(tmp_path: Path) -> None:
    lines, coco = write(tmp_path / "a.txt", LINES), write(tmp_path / "b.json", COCO)
    for entry, fault in (
        ({"split": "test"}, "write {file: captions.json, split: test}"),
        ({"file": coco, "splits": "test"}, "write {file: captions.json, split: test}"),
        ({"file": coco, "split": "train"}, "lists no image of the split 'train'"),
        ({"file": coco, "split": "tset"}, "unknown split 'tset'"),
        ({"file": lines, "split": "test"}, "names without splits"),
        ("nowhere.json", "cannot read nowhere.json"),
    ):
        with pytest.raises(ValueError, match=fault):
            read(lines, leave_out=[entry])


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("a.txt", "7\ta dog\na cat", "line 2: expected id<tab>caption, found 'a cat'"),
        ("a.txt", "a cat\n7\ta dog", "line 2: expected a caption alone"),
        ("a.txt", "\ta dog", "line 1: expected id<tab>caption"),
        ("a.txt", " \n\n", "holds no caption"),
        ("a.txt", "7\t \n", "holds no caption"),
        ("a.json.gz", COCO, "packed JSON, and only lines of text are read packed: unpack it"),
        ("a.json", {"images": []}, "no list 'annotations'"),
        ("a.json", {"annotations": [{"image_id": 1, "caption": 7}]}, "caption of record 0 is 7, not text"),
        ("a.json", {"annotations": [{"image_id": 1, "caption": "\ud800"}]}, "not text"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, name: str, content: Any, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        read(write(tmp_path / name, content))


def test_damaged_and_absent_files_are_named(tmp_path: Path) -> None:
    whole = Path(write(tmp_path / "a.txt.gz", ["a dog"] * 500)).read_bytes()
    for content, fault in (
        (whole[:-9], r"a\.txt\.gz is a damaged gzip file"),
        (b"a dog", r"a\.txt\.gz is a damaged gzip file"),
        (gzip.compress(b"\xff\xfe"), r"a\.txt\.gz is not UTF-8"),
    ):
        (tmp_path / "a.txt.gz").write_bytes(content)
        with pytest.raises(ValueError, match=fault):
            read(str(tmp_path / "a.txt.gz"))
    with pytest.raises(ValueError, match=r"cannot read .*b\.txt: No such file"):
        read(str(tmp_path / "b.txt"))
    with pytest.raises(ValueError, match="names no file"):
        read([])


def test_a_packed_file_that_grows_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.txt.gz", ["a dog"] * 1000)
    monkeypatch.setattr("training.data.captions.texts.LARGEST_TEXT", 500)
    with pytest.raises(ValueError, match="unpacks to more than 500 bytes"):
        read(path)


def test_all_rows_are_of_one_split(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", ["a dog"])
    assert read(path, split="train", file_split="train") and read(path, split="val", file_split="val")
    with pytest.raises(NoSuchSplitError, match="it has train"):
        read(path, split="val")


def test_an_image_is_known_by_its_number() -> None:
    names = ("1000268201_693b08cb0e.jpg", "1000268201", "COCO_train2014_000000000030.jpg", 30.0, "a/b/cat_2.JPG", "x.y")
    assert [image_key(name) for name in names] == ["1000268201", "1000268201", "30", "30", "cat_2", "x.y"]


def test_the_captions_of_images_that_are_scored_are_not_among_the_texts() -> None:
    flickr30k = shared("data/captions_text_only/flickr30k_train.txt.gz")
    coco = shared("data/official_formats/coco/captions_val2017.json")
    held, flickr8k = shared("data/coco_subset/captions.json"), shared("data/flickr8k/dataset_flickr8k.json")
    rows = load_captions(
        "texts",
        texts={"flickr30k": flickr30k, "coco": coco},
        leave_out=[{"file": str(flickr8k), "split": "val+test", "optional": True}, str(held)],
    )
    assert (len(rows), sum(map(len, rows["captions"]))) == (29783 + 5000 - 290, 172332)
    ids = {image_key(image_id.partition("-")[2]) for image_id in rows["image_id"]}
    scored = [image["filename"] for image in json.loads(flickr8k.read_text())["images"] if image["split"] != "train"]
    assert len(scored) == 2000 and ids.isdisjoint(map(image_key, scored))
    assert ids.isdisjoint(image_key(image["id"]) for image in json.loads(held.read_text())["images"])
