"""Lists of pairs with downloaded images: every way their files are named, against hashlib and zlib by hand."""

import hashlib
import json
import time
import zlib
from pathlib import Path
from typing import Any

import datasets
import pytest
from PIL import Image

from training.data.captions.formats import load_captions
from training.data.captions.pairs import IMAGE_NAMES, read_pairs
from training.data.captions.rows import CAPTION_FEATURES
from training.data.splits import NoSuchSplitError

URLS = [f"http://static.example.com/27{i}/43850_{i}b0.jpg" for i in range(4)]
CAPTIONS = ["a red bus", "two dogs", "a house", "grass"]


def draw_images(folder: Path, names: list[str]) -> Path:
    """Images whose red value is their place in the list, as PNG whatever they are called."""
    for red, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 6), (red, 0, 0)).save(folder / name, format="PNG")
    return folder


def write(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def cc12m(path: Path, urls: list[str] = URLS, captions: list[str] = CAPTIONS) -> Path:
    return write(path, "".join(f"{url}\t{text}\n" for url, text in zip(urls, captions, strict=True)))


def reds(rows: datasets.Dataset) -> list[int]:
    return [image.getpixel((0, 0))[0] for image in rows["image"]]


@pytest.mark.parametrize(
    ("named_by", "names", "ending"),
    [
        ("row", ["0", "1", "2", "3"], ".jpg"),
        ("row", ["00000/000000000", "00000/000000001", "00000/000000002", "00000/000000003"], ".jpg"),
        ("thousands", ["0000/000", "0000/001", "0000/002", "0000/003"], ".jpg"),
        ("url_name", [f"43850_{i}b0.jpg" for i in range(4)], ""),
        ("url_path", [f"27{i}_43850_{i}b0.jpg" for i in range(4)], ""),
        ("md5", [hashlib.md5(url.encode()).hexdigest() for url in URLS], ".jpg"),
        ("sha1", [hashlib.sha1(url.encode()).hexdigest() for url in URLS], ".webp"),
        ("sha256", [hashlib.sha256(url.encode()).hexdigest() for url in URLS], ".PNG"),
        ("crc32", [f"training/{zlib.crc32(url.encode())}" for url in URLS], ""),
        ("row_crc32", [f"training/{row}_{zlib.crc32(url.encode())}" for row, url in enumerate(URLS)], ""),
    ],
)
def test_every_way_to_name_an_image(tmp_path: Path, named_by: str, names: list[str], ending: str) -> None:
    path = cc12m(tmp_path / "cc12m.tsv")
    images = draw_images(tmp_path / "photos", [f"{name}{ending}" for name in names])
    rows = load_captions("pairs", pairs=path, images=images, named_by=named_by)
    assert dict(rows.features) == dict(CAPTION_FEATURES)
    assert reds(rows) == [0, 1, 2, 3] and rows["captions"][:] == [[text] for text in CAPTIONS]
    without = load_captions("pairs", pairs=path, named_by=named_by)
    assert without["image_id"][:] == rows["image_id"][:] and without["image"][:] == [None] * 4
    assert [name.rpartition("/")[2].lstrip("0") for name in names] == [
        name.rpartition("/")[2].lstrip("0") for name in rows["image_id"]
    ]


def test_the_list_may_name_the_images_itself(tmp_path: Path) -> None:
    images = draw_images(tmp_path / "photos", ["x/a.jpg", "b.jpg"])
    records = [{"image": "x/a.jpg", "caption": "a cat"}, {"image": "b.jpg", "caption": "a dog"}]
    rows = read_pairs(write(tmp_path / "cc3m_val.json", records), images=images)
    assert rows["image_id"][:] == ["x/a.jpg", "b.jpg"] and reds(rows) == [0, 1] and set(rows["split"]) == {"val"}
    with pytest.raises(
        ValueError, match="has no column of file names; say with named_by= how .*row, thousands, url_name"
    ):
        read_pairs(cc12m(tmp_path / "cc12m.tsv"), images=images)
    with pytest.raises(ValueError, match="cc3m_val.json has no column of urls"):
        read_pairs(tmp_path / "cc3m_val.json", images=images, named_by="md5")
    with pytest.raises(ValueError, match=f"named_by is 'crc'; choose one of {', '.join(IMAGE_NAMES)}"):
        read_pairs(tmp_path / "cc3m_val.json", images=images, named_by="crc")


def test_the_end_of_a_url_is_no_name(tmp_path: Path) -> None:
    path = cc12m(tmp_path / "cc12m.tsv", ["https://a.example/x/y.jpg?w=3/4#z", "//b.example/v.jpg"], CAPTIONS[:2])
    assert read_pairs(path, named_by="url_name")["image_id"][:] == ["y.jpg", "v.jpg"]
    assert read_pairs(path, named_by="url_path")["image_id"][:] == ["x_y.jpg", "v.jpg"]


def test_captions_of_one_image_are_joined(tmp_path: Path) -> None:
    path = cc12m(tmp_path / "cc12m.tsv", [URLS[1], URLS[0], URLS[1], URLS[1]])
    rows = read_pairs(path, named_by="url_name")
    assert rows["captions"][:] == [["a red bus", "a house", "grass"], ["two dogs"]]
    assert rows["image_id"][:] == ["43850_1b0.jpg", "43850_0b0.jpg"]


def test_missing_images_are_left_out_and_counted(tmp_path: Path) -> None:
    images = draw_images(tmp_path / "photos", ["2.jpg", "1.jpg"])
    with pytest.warns(UserWarning, match="2 of 4 images are not in .*photos and are left out: 0, 3"):
        rows = read_pairs(cc12m(tmp_path / "cc12m.tsv"), images=images, named_by="row")
    assert (
        rows["image_id"][:] == ["1", "2"]
        and reds(rows) == [1, 0]
        and rows["captions"][:] == [["two dogs"], ["a house"]]
    )


def test_holes_of_the_official_lists_are_counted_and_move_no_row(tmp_path: Path) -> None:
    lines = [{"URL": URLS[0], "TEXT": None}, {"URL": None, "TEXT": "b"}, {"URL": URLS[2], "TEXT": "c"}, {"TEXT": " "}]
    path = write(tmp_path / "part-00000.jsonl", "\n".join(map(json.dumps, lines)))
    with pytest.warns(UserWarning) as told:
        rows = read_pairs(path, named_by="row_crc32")
    assert [str(warning.message).partition(": ")[2] for warning in told] == [
        "2 of 4 rows have no caption and are left out",
        "1 of 4 rows have no url or name and are left out",
    ]
    assert rows["image_id"][:] == [f"2_{zlib.crc32(URLS[2].encode())}"]
    with pytest.raises(ValueError, match="holds no pair"), pytest.warns(UserWarning, match="have no caption"):
        read_pairs(write(tmp_path / "e.jsonl", json.dumps(lines[0])), named_by="row")


def test_the_text_files_of_sbu(tmp_path: Path) -> None:
    urls = write(tmp_path / "SBU_captioned_photo_dataset_urls.txt", "\n".join(URLS) + "\n")
    texts = write(tmp_path / "SBU_captioned_photo_dataset_captions.txt", "\n".join(CAPTIONS) + "\n")
    rows = load_captions("pairs", pairs=urls, captions=texts, named_by="url_path", split="train")
    assert rows["image_id"][1] == "271_43850_1b0.jpg" and rows["captions"][:] == [[text] for text in CAPTIONS]


def test_several_files_are_one_list(tmp_path: Path) -> None:
    halves = [cc12m(tmp_path / f"{i}.tsv", URLS[2 * i : 2 * i + 2], CAPTIONS[2 * i : 2 * i + 2]) for i in (0, 1)]
    for given in (halves, tmp_path):
        rows = read_pairs(given, named_by="row")
        assert rows["image_id"][:] == ["0", "1", "2", "3"] and rows["captions"][3] == ["grass"]
    with pytest.raises(ValueError, match="an empty list of pairs"):
        read_pairs([], named_by="row")
    (tmp_path / "more.jsonl").touch()
    with pytest.raises(ValueError, match="holds files of several kinds of pairs"):
        read_pairs(tmp_path, named_by="row")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty holds no file of pairs .*name the files themselves"):
        read_pairs(tmp_path / "empty", named_by="row")


@pytest.mark.parametrize(
    ("name", "file_split", "expected"),
    [
        ("Train_GCC-training.tsv", None, "train"),
        ("Validation_GCC-1.1.0-Validation.tsv", None, "val"),
        ("cc12m.tsv", None, "train"),
        ("cc12m.tsv", "dev", "val"),
    ],
)
def test_the_split_is_the_one_the_file_speaks_of(
    tmp_path: Path, name: str, file_split: str | None, expected: str
) -> None:
    path = cc12m(tmp_path / name)
    rows = read_pairs(path, named_by="row", file_split=file_split, split=expected)
    assert set(rows["split"]) == {expected} and len(rows) == 4
    with pytest.raises(NoSuchSplitError, match=f"has no image of the split 'test'; it has {expected}"):
        read_pairs(path, named_by="row", file_split=file_split, split="test")


def test_two_hundred_thousand_pairs_with_images_take_a_moment(tmp_path: Path) -> None:
    """12 million are 60 times as many; a reader that asks for each file apart, or keeps a dict a row, takes minutes."""
    count = 200_000
    caption = "a very typical station with people waiting in line for"
    lines = (f"http://lh{i % 7}.example.com/s{i}/image {i}.jpg\t{caption} {i}\n" for i in range(count))
    path = write(tmp_path / "cc12m.tsv", "".join(lines))
    start = time.process_time()
    rows = read_pairs(path, named_by="md5")
    seconds = time.process_time() - start
    assert seconds < 6 and len(rows) == count and rows[count - 1]["captions"] == [f"{caption} {count - 1}"]
    assert rows.data.nbytes < 200 * count
