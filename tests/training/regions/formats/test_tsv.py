"""The TSV files of bottom-up attention and of LXMERT: the goldens, rows made by hand, and rows that are broken."""

import base64
import dataclasses
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.shared_files import shared
from tests.training.regions.formats.foreign import (
    ForeignImage,
    assert_image,
    bua_row,
    damaged,
    every_image_or_value_error,
    foreign_images,
    in_base64,
    lxmert_row,
    write_rows,
)
from training.regions.formats import open_region_file, tsv
from training.regions.formats.base import RegionFile
from training.regions.formats.record import ImageRecord
from training.regions.formats.sidecar import Sidecar


def images_of(file: RegionFile) -> dict[str, ImageRecord]:
    return {entry.image_id: file.image(entry) for entry in file.entries()}


def only_image(path: Path) -> ImageRecord:
    (image,) = images_of(open_region_file(path, format="tsv")).values()
    return image


@pytest.mark.parametrize(("name", "prefix"), [("features_bua.tsv", "tsv."), ("features_lxmert.tsv", "tsv_lxmert.")])
def test_the_references_own_files_give_its_arrays(name: str, prefix: str) -> None:
    expected = load_file(shared("golden/reference/bua_caffe.safetensors"))
    fields = json.loads(shared("golden/reference/bua_caffe.json").read_text())[prefix.rstrip(".")]["fieldnames"]
    rows = [line.split("\t") for line in shared(f"golden/reference/{name}").read_text().splitlines()]
    places = [next(i for i, field in enumerate(fields) if field.endswith(end)) for end in ("_h", "_w")]
    sizes = [tuple(int(row[place]) for place in places) for row in rows]
    images = images_of(open_region_file(shared(f"golden/reference/{name}")))
    assert len(images) == len({key.split(".")[1] for key in expected if key.startswith(prefix)})
    for number, image in enumerate(images.values()):
        golden = {key.split(".")[2]: value for key, value in expected.items() if key.startswith(f"{prefix}{number}.")}
        height, width = image["image_size"]
        assert (height, width) == sizes[number]
        assert np.array_equal(image["region_features"], golden["features"])
        assert np.array_equal(image["region_boxes"], golden["boxes"] / np.array([width, height] * 2, dtype=np.float32))
        if prefix == "tsv_lxmert.":
            assert np.array_equal(image["object_ids"], golden["objects_id"] + 1)
            assert np.array_equal(image["attribute_ids"], golden["attrs_id"] + 1)
            assert np.array_equal(image["region_scores"], golden["objects_conf"])
            assert np.array_equal(image["attribute_scores"], golden["attrs_conf"])


@pytest.mark.parametrize(("make", "classes"), [(bua_row, False), (lxmert_row, True)])
def test_rows_made_by_hand(tmp_path: Path, make: Any, classes: bool) -> None:
    images = foreign_images()
    read = images_of(open_region_file(write_rows(tmp_path / "val.tsv.0", [make(image) for image in images])))
    assert list(read) == ["1000", "1001", "1002", "1003"]
    for image in images:
        assert_image(read[image.image_id], image, classes=classes)


def test_rows_as_they_are_found(tmp_path: Path) -> None:
    image = foreign_images()[0]
    row = bua_row(image)
    python_3 = [*row[:4], str(row[4].encode()), str(row[5].encode())]
    assert_image(only_image(write_rows(tmp_path / "a.tsv", [python_3])), image)
    doubles = [*row[:4], in_base64(image.boxes.astype(np.float64)), row[5]]
    assert_image(only_image(write_rows(tmp_path / "b.tsv", [doubles])), image)
    header = [["image_id", "image_w", "image_h", "num_boxes", "boxes", "features"], row]
    assert_image(only_image(write_rows(tmp_path / "c.tsv", header)), image)
    (tmp_path / "d.tsv").write_text("\n\n" + "\t".join(map(str, row)))  # Unix lines, blank ones, no end of line
    assert_image(only_image(tmp_path / "d.tsv"), image)
    decimal = [row[0], "400.0", "300.0", *row[3:]]
    assert_image(only_image(write_rows(tmp_path / "e.tsv", [decimal])), image)
    in_lines = [*row[:5], str(base64.encodebytes(image.features.tobytes()))]  # b'...\\n...\\n' where Python 3 ran it
    assert_image(only_image(write_rows(tmp_path / "f.tsv", [in_lines])), image)
    (tmp_path / "h.tsv").write_bytes(b"\xef\xbb\xbf" + (tmp_path / "a.tsv").read_bytes())  # a byte order mark
    assert list(images_of(open_region_file(tmp_path / "h.tsv", format="tsv"))) == [image.image_id]
    assert_image(only_image(tmp_path / "h.tsv"), image)
    named = only_image(write_rows(tmp_path / "g.tsv", [['a "big" dog', *row[1:]]]))
    assert_image(named, image)


def spoiled(image: ForeignImage, **changes: Any) -> list[Any]:
    """The image's row with columns changed."""
    columns = dict(zip(tsv.BUA_COLUMNS, bua_row(image), strict=True))
    return list((columns | changes).values())


IMAGE = foreign_images()[0]
NAN = IMAGE.features.copy()
NAN[1, 2] = np.nan
OUTSIDE = IMAGE.boxes.copy()
OUTSIDE[2] = [10, 20, 412, 280]
TURNED = IMAGE.boxes[:, [2, 3, 0, 1]]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (bua_row(IMAGE)[:5], "it has 5 columns, not the 6 of image_id, .*; is the row cut short?"),
        (spoiled(IMAGE, features=in_base64(IMAGE.features)[:-6]), "its features are not base64 .*cut short?"),
        (
            spoiled(IMAGE, features=in_base64(IMAGE.features)[:-8]),
            "its features are 90 bytes, which are not float32",
        ),
        (spoiled(IMAGE, features="####"), "its features are not base64"),
        (spoiled(IMAGE, features=""), "its features are 0 bytes"),
        (
            spoiled(IMAGE, boxes=in_base64(IMAGE.boxes[:2])),
            "its boxes are 32 bytes, which are not 4 float32",
        ),
        (spoiled(IMAGE, num_boxes=4), "its boxes"),
        (spoiled(IMAGE, num_boxes=0), "it has 0 boxes; an image needs at least one"),
        (spoiled(IMAGE, num_boxes=-3), "it has -3 boxes"),
        (spoiled(IMAGE, num_boxes=10**9), "at most 10000"),
        (spoiled(IMAGE, num_boxes="many"), "its number of boxes is b'many', not a whole number"),
        (spoiled(IMAGE, image_w=0), "0 x 300 pixels are not the size"),
        (spoiled(IMAGE, image_h="tall"), "400 x tall pixels are not the size"),
        (spoiled(IMAGE, image_h="inf"), "400 x inf pixels are not the size"),
        (spoiled(IMAGE, features=in_base64(NAN)), "region_features of region 1 hold NaN or infinity"),
        (spoiled(IMAGE, boxes=in_base64(IMAGE.boxes * np.nan)), "its boxes hold NaN"),
        (spoiled(IMAGE, boxes=in_base64(OUTSIDE)), r"box 2 \(10, 20, 412, 280\) reaches outside an image of 400 x 300"),
        (spoiled(IMAGE, boxes=in_base64(TURNED)), r"box 0 \(.*\) is not x1 y1 x2 y2: it ends before it begins"),
        (spoiled(IMAGE, image_id=""), "it has no image id"),
    ],
)
def test_a_broken_row_says_what_is_wrong(tmp_path: Path, row: list[Any], message: str) -> None:
    file = open_region_file(write_rows(tmp_path / "val.tsv", [row]), format="tsv")
    (entry,) = file.entries()
    assert entry.place == f"{tmp_path / 'val.tsv'}, line 1"
    with pytest.raises(ValueError, match=message):
        file.image(entry)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("objects_id", in_base64(np.array([5, -1, 3])), "its objects_id go from -1 to 5"),
        ("attrs_id", in_base64(np.array([5, 2**40, 3])), "its attrs_id go from 3 to 1099511627776"),
        (
            "objects_id",
            in_base64(np.array([5, 6])),
            "its objects_id are 16 bytes, which are not 1 int64 numbers for each of 3",
        ),
        (
            "objects_conf",
            in_base64(np.array([1, np.inf, 0], dtype=np.float32)),
            "region_scores of region 1 hold NaN or infinity",
        ),
    ],
)
def test_lxmerts_columns_are_checked_too(tmp_path: Path, column: str, value: str, message: str) -> None:
    columns = dict(zip(tsv.LXMERT_COLUMNS, lxmert_row(IMAGE), strict=True)) | {column: value}
    file = open_region_file(write_rows(tmp_path / "val.tsv", [list(columns.values())]))
    with pytest.raises(ValueError, match=message):
        images_of(file)


def test_a_line_without_end_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tsv, "LONGEST_ROW", 1000)
    images = foreign_images()
    path = write_rows(tmp_path / "val.tsv", [bua_row(images[0]), ["x" * 5000], bua_row(images[1])])
    file = open_region_file(path)
    first, long, last = file.entries()
    assert (first.image_id, last.image_id) == ("1000", "1001")
    assert_image(file.image(last), images[1])
    with pytest.raises(ValueError, match="the line is longer than 1000 bytes, more than an image takes"):
        file.image(long)
    assert last.end == file.size == path.stat().st_size


@pytest.mark.parametrize(("make", "name"), [(bua_row, "tsv"), (lxmert_row, "lxmert-tsv")])
def test_damaged_bytes_are_named_not_fatal(tmp_path: Path, make: Any, name: str) -> None:
    content = write_rows(tmp_path / "whole.tsv", [make(image) for image in foreign_images()]).read_bytes()
    for seed in range(200):
        (tmp_path / "val.tsv").write_bytes(damaged(content, seed))
        every_image_or_value_error(open_region_file(tmp_path / "val.tsv", format=name))


def test_hostile_numbers_cost_nothing(tmp_path: Path) -> None:
    """A row of few bytes that claims a billion boxes is refused before anything of that size is made."""
    row = [1, 2**31, 2**31, 10**12, in_base64(np.zeros(4)), base64.b64encode(struct.pack("<f", 1)).decode()]
    with pytest.raises(ValueError, match="it has 1000000000000 boxes"):
        only_image(write_rows(tmp_path / "val.tsv", [row]))


WIDE = foreign_images((4, 1, 3), width=300)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
@pytest.mark.parametrize("make", [bua_row, lxmert_row])
def test_features_of_another_precision_keep_their_width(tmp_path: Path, dtype: Any, make: Any) -> None:
    rows = [make(dataclasses.replace(image, features=image.features.astype(dtype))) for image in WIDE]
    read = images_of(open_region_file(write_rows(tmp_path / "val.tsv", rows)))
    for image in WIDE:
        features = read[image.image_id]["region_features"]
        assert features.shape == image.features.shape
        assert np.array_equal(features, image.features.astype(dtype).astype(features.dtype))


def test_features_that_may_be_of_two_types_are_asked_about(tmp_path: Path) -> None:
    """Numbers all of one size look alike in half and in single precision."""
    nearly_one = 1 + np.abs(WIDE[0].features.astype(np.float16)) / 8
    path = write_rows(tmp_path / "val.tsv", [[*bua_row(WIDE[0])[:5], in_base64(nearly_one)]])
    message = "its features may be float32 of width 150 or float16 of width 300: give the type with --source-dtype"
    with pytest.raises(ValueError, match=message):
        only_image(path)
    told = open_region_file(path, format="tsv", sidecar=Sidecar(feature_type="float16"))
    assert np.array_equal(images_of(told)["1000"]["region_features"], nearly_one)
    rows = [
        bua_row(dataclasses.replace(WIDE[1], features=WIDE[1].features.astype(np.float16))),
        ["a", *bua_row(WIDE[0])[1:]],
    ]
    rows[1][5] = in_base64(nearly_one)
    settled = images_of(open_region_file(write_rows(tmp_path / "settled.tsv", rows)))  # by the image before
    assert np.array_equal(settled["a"]["region_features"], nearly_one)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_boxes_of_another_precision(tmp_path: Path, dtype: Any) -> None:
    row = bua_row(IMAGE)
    row[4] = in_base64(np.floor(IMAGE.boxes).astype(dtype))
    sides = np.array([IMAGE.width, IMAGE.height] * 2, dtype=np.float32)
    boxes = only_image(write_rows(tmp_path / "val.tsv", [row]))["region_boxes"]
    assert np.array_equal(boxes, np.floor(IMAGE.boxes) / sides)


@pytest.mark.parametrize("image_id", ["a\tb", "a\nb", "", " a", '"a'])
def test_ids_that_would_end_the_field(image_id: str) -> None:
    with pytest.raises(ValueError, match="cannot be the first field of a line"):
        tsv.tsv_id(image_id)
