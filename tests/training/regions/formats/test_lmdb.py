"""LMDB records of every layout that is read, made by hand, and the pickles that are not."""

import base64
import io
import json
import pickle
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.training.regions.formats.foreign import (
    ForeignImage,
    assert_image,
    damaged,
    every_image_or_value_error,
    foreign_images,
    in_base64,
    six_numbers,
    write_lmdb,
)
from training.regions.formats import FORMATS, open_region_file
from training.regions.formats.base import RegionFile
from training.regions.formats.lmdb_pages import LmdbPages, Place
from training.regions.formats.record import ImageRecord
from training.regions.formats.sidecar import Sidecar

pytest.importorskip("lmdb", reason="LMDB files need lmdb")
msgpack = pytest.importorskip("msgpack", reason="UNITER's records need msgpack")

IMAGES = foreign_images()
SIZES = Sidecar(sizes={image.image_id: (image.height, image.width) for image in IMAGES})


def images_of(file: RegionFile) -> dict[str, ImageRecord]:
    return {entry.image_id: file.image(entry) for entry in file.entries()}


def npz_record(image: ForeignImage) -> bytes:
    content = io.BytesIO()
    sides: dict[str, Any] = {"image_h": image.height, "image_w": image.width}
    np.savez_compressed(content, x=image.features, bbox=image.boxes, num_bbox=len(image.boxes), **sides)
    return content.getvalue()


def json_record(image: ForeignImage) -> bytes:
    record = {"image_w": image.width, "image_h": image.height, "num_boxes": len(image.boxes), "classes": ["a"]}
    return json.dumps(record | {"boxes": in_base64(image.boxes), "features": in_base64(image.features)}).encode()


def msgpack_record(image: ForeignImage) -> bytes:
    """UNITER's arrays, here in float32, by `msgpack_numpy`."""
    arrays = {"norm_bb": six_numbers(image), "features": image.features, "conf": image.object_scores}
    return msgpack.packb(
        {
            name: {b"nd": True, b"type": a.dtype.str, b"kind": b"", b"shape": a.shape, b"data": a.tobytes()}
            for name, a in arrays.items()
        },
        use_bin_type=True,
    )


def base64_record(image: ForeignImage) -> bytes:
    return base64.b64encode(npz_record(image))


@pytest.mark.parametrize("record", [npz_record, json_record, msgpack_record, base64_record])
def test_records_of_every_layout(tmp_path: Path, record: Any) -> None:
    records = {f"{image.image_id}.npz": record(image) for image in IMAGES}
    folder = write_lmdb(tmp_path / "db", {**records, "__keys__": json.dumps(list(records)).encode()})
    file = open_region_file(folder, sidecar=SIZES)
    read = images_of(file)
    assert list(read) == [image.image_id for image in IMAGES] and file.size == 5
    for image in IMAGES:
        assert_image(read[image.image_id], image)
    if record is msgpack_record:
        assert np.array_equal(read["1000"]["region_scores"], IMAGES[0].object_scores)


def test_a_single_file_and_boxes_in_a_folder(tmp_path: Path) -> None:
    """As ruotianluo's dump of a folder of features has it; LMDB may be one file without a folder."""
    import lmdb

    environment = lmdb.open(str(tmp_path / "cocobu_att.lmdb"), map_size=2**24, subdir=False)
    with environment.begin(write=True) as writing:
        for image in IMAGES:
            content = io.BytesIO()
            np.save(content, image.features)
            writing.put(image.image_id.encode(), content.getvalue())
            np.save(tmp_path / image.image_id, image.boxes)
    environment.close()
    sidecar = Sidecar(sizes=SIZES.sizes, boxes=tmp_path)
    assert_image(images_of(open_region_file(tmp_path / "cocobu_att.lmdb", sidecar=sidecar))["1002"], IMAGES[2])
    with pytest.raises(ValueError, match="it holds no boxes, only features; name the folder"):
        images_of(open_region_file(tmp_path / "cocobu_att.lmdb", sidecar=SIZES))


class Loud:
    """Unpickling it fails the test."""

    def __reduce__(self) -> tuple[Any, ...]:
        return pytest.fail, ("a pickle was opened",)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (pickle.dumps({"features": Loud()}), "it is a pickle, which could run any code and is never opened; if"),
        (base64.b64encode(pickle.dumps(Loud())), "it is a pickle"),
        (pickle.dumps(Loud(), protocol=0), "it is not a .npz, .npy, msgpack map, JSON object or base64"),
        (base64.b64encode(base64.b64encode(b"again")), "it is base64 of an unknown encoding"),
        (b"{}", "it holds no features, only no known array"),
        (b'{"features": "AAAA", "boxes": [[0, 0, 1, 1]]}', r"it holds base64 \(features\) but no num_boxes"),
        (b'{"num_boxes": 1, "features": [[1, 2]], "boxes": [[0, 0, 2, 1]]}', "give --sizes"),
        (b'{"num_boxes": 1, "features": [[1], [1, 2]], "boxes": 3}', "inhomogeneous"),
        (npz_record(IMAGES[0])[:-40], "it is not a complete .npz file"),
        (msgpack_record(IMAGES[0])[:-4], "it is not a msgpack map"),
        (b"", "it is not a .npz, .npy|unknown encoding"),
        (
            b'{"num_boxes": Infinity, "features": "AAAA", "boxes": "AAAA"}',
            "its number of boxes is inf, not a whole number",
        ),
        (b'{"num_boxes": 1.5, "features": "AAAA", "boxes": "AAAA"}', "its number of boxes is 1.5, not a whole number"),
        (b'{"num_boxes": 1, "features": [[1]], "boxes": 7}', r"its boxes are 7, not \(regions, 4\) numbers"),
        (b'{"num_boxes": 1, "features": null, "boxes": null}', "its boxes are None, not"),
        (b'{"num_boxes": 1, "features": [[1]], "boxes": [["a", 0, 1, 1]]}', "its boxes are of the type <U"),
        (
            b'{"num_boxes": 1, "features": [[1]], "boxes": [[0, 0, 1, 1]], "object_ids": ["dog"]}',
            r"its object_ids are \['dog'\], not whole numbers",
        ),
        (
            b'{"num_boxes": 1, "features": [[1]], "boxes": [[0, 0, 1, 1]], "conf": ["high"]}',
            "its region_scores are of the type <U4, not numbers",
        ),
        (b'{"num_boxes": 1, "features": [[1]], "boxes": [[0, 0, 1, 1]], "image_h": {}, "image_w": 1}', "not the size"),
    ],
)
def test_records_that_are_refused(tmp_path: Path, record: bytes, message: str) -> None:
    file = open_region_file(write_lmdb(tmp_path / "db", {"a": record}))
    (entry,) = file.entries()
    assert entry.place == f"{tmp_path / 'db'}, record 'a'"
    with pytest.raises(ValueError, match=message):
        file.image(entry)


@pytest.mark.parametrize("record", [npz_record, json_record, msgpack_record, base64_record])
def test_damaged_records_are_named_not_fatal(tmp_path: Path, record: Any) -> None:
    records = {str(seed): damaged(record(IMAGES[0]), seed) for seed in range(300)}
    every_image_or_value_error(open_region_file(write_lmdb(tmp_path / "db", records)))


def test_features_of_half_precision_keep_their_width(tmp_path: Path) -> None:
    image = foreign_images((4,), width=128)[0]
    record = {"image_w": image.width, "image_h": image.height, "num_boxes": 4, "boxes": in_base64(image.boxes)}
    half = image.features.astype(np.float16)
    content = json.dumps({**record, "features": in_base64(half)}).encode()
    (read,) = images_of(open_region_file(write_lmdb(tmp_path / "db", {"a": content}))).values()
    assert np.array_equal(read["region_features"], half)


@pytest.mark.parametrize("num_records", [0, 1, 40, 3000])
def test_records_are_those_of_the_library(tmp_path: Path, num_records: int) -> None:
    """Short and long values and keys, in a tree of one to three levels, with records deleted and written anew."""
    import lmdb

    draw = random.Random(num_records)
    records = {
        str(draw.random()).encode() * draw.choice((1, 1, 20)): draw.randbytes(draw.choice((0, 9, 900, 9000)))
        for _ in range(num_records)
    }
    environment = lmdb.open(str(tmp_path / "db"), map_size=2**26)
    for start in range(0, num_records, 500):
        with environment.begin(write=True) as writing:
            for key, value in list(records.items())[start : start + 500]:
                writing.put(key, value)
    with environment.begin(write=True) as writing:
        for key in list(records)[::3]:
            writing.delete(key)
            del records[key]
    environment.close()
    pages = LmdbPages(tmp_path / "db" / "data.mdb")
    read = {key: pages.value(place) for key, place in pages.records() if isinstance(place, Place)}
    pages.close()
    assert read == records and list(read) == sorted(records) and len(pages) == len(records)


def test_a_damaged_page_costs_its_own_records_alone(tmp_path: Path) -> None:
    records = {f"{number:04d}": npz_record(IMAGES[1]) for number in range(400)}
    folder = write_lmdb(tmp_path / "db", records)
    content = bytearray((folder / "data.mdb").read_bytes())
    leaves = [start for start in range(8192, len(content), 4096) if content[start + 10 : start + 12] == b"\x02\x00"]
    content[leaves[3] + 12 : leaves[3] + 14] = b"\xff\xff"
    (folder / "data.mdb").write_bytes(content)
    file = open_region_file(folder)
    faults = [entry.fault for entry in file.entries() if entry.fault]
    assert faults == [f"page {leaves[3] // 4096} of the LMDB is damaged"]
    whole = [entry for entry in file.entries() if not entry.fault]
    assert 300 < len(whole) < 400
    assert all(len(file.image(entry)["region_features"]) == 1 for entry in whole)
    (folder / "data.mdb").write_bytes(bytes(content[: len(content) // 2]))
    assert any("cut short" in (entry.fault or "") for entry in open_region_file(folder).entries())


def test_databases_within_a_file_and_several_values_a_key(tmp_path: Path) -> None:
    import lmdb

    environment = lmdb.open(str(tmp_path / "a"), max_dbs=2)
    with environment.begin(write=True) as writing:
        writing.put(b"1", b"x", db=environment.open_db(b"inner", txn=writing))
    environment.close()
    (entry,) = open_region_file(tmp_path / "a").entries()
    assert entry.image_id == "inner" and entry.fault == "it is a nested database, or several values, not an image"


def test_a_file_that_is_no_lmdb(tmp_path: Path) -> None:
    (tmp_path / "data.mdb").write_bytes(b"no database" * 1000)
    with pytest.raises(ValueError, match="cannot be opened as an LMDB"):
        open_region_file(tmp_path)


def test_without_the_libraries_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_lmdb(tmp_path / "db", {"1000": msgpack_record(IMAGES[0])})
    monkeypatch.setitem(sys.modules, "msgpack", None)
    with pytest.raises(ImportError, match=r"msgpack values: pip install 'modeling-updown\[features\]'"):
        images_of(open_region_file(folder))
    monkeypatch.setitem(sys.modules, "lmdb", None)
    with pytest.raises(ImportError, match=r"need lmdb: pip install 'modeling-updown\[features\]'"):
        FORMATS["lmdb"].write(None, tmp_path / "out")  # type: ignore[arg-type]  asks for the library first
