"""Arrays out of foreign bytes: what numpy and msgpack_numpy wrote comes back, and nothing else is let in."""

import io
import json
import pickle
import zipfile
from typing import Any

import msgpack
import numpy as np
import pytest

from training.regions.formats import arrays
from training.regions.formats.arrays import (
    array_of_npy,
    arrays_of_json,
    arrays_of_msgpack,
    arrays_of_npz,
    base64_array,
    base64_text,
)


def npy(array: Any, **options: Any) -> bytes:
    content = io.BytesIO()
    np.save(content, array, **options)
    return content.getvalue()


def npz(**named: Any) -> bytes:
    content = io.BytesIO()
    np.savez_compressed(content, **named)
    return content.getvalue()


class Loud:
    """Unpickling it fails the test."""

    def __reduce__(self) -> tuple[Any, ...]:
        return pytest.fail, ("a pickle was opened",)


PICKLED = np.array([{"loud": Loud()}, None], dtype=object)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.float32).reshape(2, 3),
        np.asfortranarray(np.arange(6, dtype=np.float64).reshape(2, 3)),
        np.arange(4, dtype=">f4"),
        np.array([1.5, -2], dtype=np.float16),
        np.int64(7),
        np.zeros((0, 4), dtype=np.float32),
    ],
    ids=["rows", "columns", "big-endian", "half", "scalar", "empty"],
)
def test_npy_is_read_as_numpy_reads_it(array: np.ndarray) -> None:
    read = array_of_npy(npy(array))
    assert np.array_equal(read, array) and read.shape == array.shape and read.dtype == array.dtype


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (npy(np.ones((4, 4)))[:-3], r"its array of shape \(4, 4\) should take 128 bytes"),
        (npy(np.ones((4, 4)))[:20], "it is not a .npy array"),
        (npy(np.ones(3)).replace(b"(3,)", b"9**9"), "it is not a .npy array"),
        (npy(np.ones(3)).replace(b"(3,), }   ", b"(3000000),"), "it is not a .npy array|should take"),
        (npy(PICKLED), "it is a pickle, which could run any code and is never opened; if you trust it"),
        (b"\x93NUMPY", "it is not a .npy array"),
    ],
)
def test_npy_that_is_no_array(content: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        array_of_npy(content)


def test_only_the_wanted_members_of_an_npz_are_opened() -> None:
    content = npz(x=np.ones((2, 3)), info=PICKLED, other=np.ones(3))
    assert list(arrays_of_npz(content, wanted={"x", "bbox"})) == ["x"]
    with pytest.raises(ValueError, match="it is a pickle"):
        arrays_of_npz(content, wanted={"info"})


def test_npz_that_is_cut_short_damaged_or_a_bomb(monkeypatch: pytest.MonkeyPatch) -> None:
    content = npz(x=np.ones((50, 30)))
    for broken in (content[:-30], content[:10], content.replace(b"\x00", b"\x01")):
        with pytest.raises(ValueError, match="it is not a complete .npz file"):
            arrays_of_npz(broken, wanted={"x"})
    monkeypatch.setattr(arrays, "LONGEST_ROW", 10_000)
    with pytest.raises(ValueError, match="it unpacks to more than 10000 bytes"):
        arrays_of_npz(content, wanted={"x"})
    twice = io.BytesIO()
    with zipfile.ZipFile(twice, "w", zipfile.ZIP_DEFLATED) as archive, pytest.warns(UserWarning, match="Duplicate"):
        for _ in range(3):  # each alone would fit
            archive.writestr("x.npy", npy(np.ones(1000, dtype=np.float32)))
    with pytest.raises(ValueError, match="it unpacks to more than 10000 bytes"):
        arrays_of_npz(twice.getvalue(), wanted={"x"})


def packed(array: np.ndarray, **changes: Any) -> dict[bytes, Any]:
    """As `msgpack_numpy.encode` has it."""
    fields = {b"nd": True, b"type": array.dtype.str, b"kind": b"", b"shape": array.shape, b"data": array.tobytes()}
    return fields | {key.encode(): value for key, value in changes.items()}


def test_msgpack_arrays_of_msgpack_numpy() -> None:
    features = np.array([[1, 2], [3, 4]], dtype=np.float16)
    scalar = {b"nd": False, b"type": "<i8", b"data": np.int64(9).tobytes()}
    content = msgpack.packb({"features": packed(features), "num_bbox": scalar, "conf": [0.5, 1], "x": Ellipsis is None})
    read = arrays_of_msgpack(content, wanted={"features", "num_bbox", "conf"})
    assert np.array_equal(read["features"], features) and read["features"].dtype == np.float16
    assert read["num_bbox"] == 9 and read["conf"].tolist() == [0.5, 1]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (packed(np.ones(2), kind=b"O", data=pickle.dumps(Loud())), "it is a pickle"),
        (packed(np.ones(2), type="|O"), "its x are not an array of numbers"),
        (packed(np.ones(2), shape=(2**40, 2**40)), "its x are not an array of numbers"),
        (packed(np.ones(2), type="nonsense"), "its x are not an array of numbers"),
        ({b"nd": True}, "its x are not an array of numbers"),
    ],
)
def test_msgpack_that_is_no_array(value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        arrays_of_msgpack(msgpack.packb({"x": value}), wanted={"x"})
    for content in (b"\x81\xa1x", b"\xc1", msgpack.packb([1])):
        with pytest.raises(ValueError, match="it is not a msgpack map"):
            arrays_of_msgpack(content, wanted={"x"})


def test_json_objects() -> None:
    assert arrays_of_json(b'{"num_boxes": 2, "secret": 3}', wanted={"num_boxes"}) == {"num_boxes": 2}
    for content in (b"{", b"[1]", b"[" * 100_000, b"\xff"):
        with pytest.raises(ValueError, match="it is not (valid JSON|a JSON object)"):
            arrays_of_json(content, wanted={"num_boxes"})


def test_base64_there_and_back() -> None:
    array = np.array([[1, -2.5], [3e-30, 4e30]], dtype=np.float32)
    assert np.array_equal(base64_array(base64_text(array, "<f4"), name="x", dtype="<f4", rows=2), array)
    assert base64_array(base64_text(array[:, 0], "<f4"), name="x", dtype="<f4", rows=2).shape == (2, 1)
    with pytest.raises(ValueError, match="its x are 16 bytes, which are not 1 float32 numbers for each of 2 boxes"):
        base64_array(base64_text(array, "<f4"), name="x", dtype="<f4", rows=2, width=1)
    assert json.loads(json.dumps(base64_text(array, "<f8")))
    with pytest.raises(ValueError, match="its x are not base64"):
        base64_array("ä", name="x", dtype="<f4", rows=1)
