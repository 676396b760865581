"""Decodes arrays from untrusted bytes without executing anything: base64, .npy, .npz, .pth, JSON, msgpack.

Only tensors are unpickled. Declared sizes are checked against the bytes that are there before memory is allocated, and
the unpacked size of an .npz or .pth is bounded.
"""

import base64
import binascii
import io
import json
import math
import struct
import zipfile
import zlib
from collections.abc import Collection
from tokenize import TokenError
from typing import Any

import numpy as np
import torch

from training.console import one_line
from training.regions.formats.floats import FLOATS
from training.regions.formats.record import LONGEST_ROW

ZIP_ERRORS = (  # what zipfile raises over damaged files
    *(zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, struct.error, OSError, UnicodeError),
    *(LookupError, OverflowError),
)
NPY_MAGIC, NPZ_MAGIC, PICKLE_MAGIC = b"\x93NUMPY", b"PK\x03\x04", b"\x80"
PICKLE_CURE = (
    "it is a pickle, which could run any code and is never opened; if you trust it, write its arrays as .npz: "
    "numpy.savez(file, features=..., boxes=..., image_h=..., image_w=...)"
)


def base64_array(field: bytes | str, *, name: str, dtype: Any, rows: int, width: int | None = None) -> np.ndarray:
    """Base64 -> (rows, width), of any width if it is None; raises `ValueError` naming a field that does not fit.

    A field wrapped in `b'...'`, which Python 2 code writes when run by Python 3, is unwrapped.
    """
    content = base64_bytes(field, name=name)
    dtype = np.dtype(dtype)
    found, rest = divmod(len(content), rows * dtype.itemsize)
    if rest or not found or found != (width or found):
        wanted = f"{width} {dtype} numbers" if width else f"{dtype} numbers"
        raise ValueError(f"its {name} are {len(content)} bytes, which are not {wanted} for each of {rows} boxes")
    return np.frombuffer(content, dtype).reshape(rows, found)


def base64_numbers(field: bytes | str, *, name: str, rows: int, width: int) -> np.ndarray:
    """Base64 -> (rows, width) floats of the type with that number of bytes; raises `ValueError` if there is none."""
    size = len(base64_bytes(field, name=name))
    fitting = (kind for kind in FLOATS.values() if np.dtype(kind).itemsize * rows * width == size)
    dtype = next(fitting, FLOATS["float32"])
    return base64_array(field, name=name, dtype=dtype, rows=rows, width=width)


def base64_bytes(field: bytes | str, *, name: str) -> bytes:
    """Strict base64, except for line ends; raises `ValueError` naming the field."""
    field = field.encode("ascii", "replace") if isinstance(field, str) else field
    if field[:2] in (b"b'", b'b"') and field[-1:] == field[1:2]:
        field = field[2:-1]
    try:
        return binascii.a2b_base64(field, strict_mode=True)
    except binascii.Error:
        pass  # perhaps only because of its line ends
    try:
        return binascii.a2b_base64(field.replace(b"\\n", b"").replace(b"\n", b""), strict_mode=True)
    except binascii.Error as error:
        raise ValueError(f"its {name} are not base64 ({error}); is the row cut short?") from None


def base64_text(array: np.ndarray, dtype: Any) -> str:
    """The numbers as base64."""
    return base64.b64encode(np.ascontiguousarray(array, dtype=dtype).tobytes()).decode("ascii")


def array_of_npy(content: bytes) -> np.ndarray:
    """The array in an .npy file's bytes; raises `ValueError` if it is cut short, damaged or pickled."""
    file = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(file)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, in_columns, dtype = read_header(file)
    except (ValueError, TypeError, EOFError, SyntaxError, TokenError, MemoryError, RecursionError) as error:
        raise ValueError(f"it is not a .npy array ({str(error)[:80]})") from None
    if dtype.hasobject:
        raise ValueError(PICKLE_CURE)
    numbers = content[file.tell() :]
    if len(numbers) != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"its array of shape {shape} should take {math.prod(shape) * dtype.itemsize} bytes")
    array = np.frombuffer(numbers, dtype)
    return array.reshape(shape[::-1]).T if in_columns else array.reshape(shape)


def arrays_of_npz(content: bytes, *, wanted: Collection[str]) -> dict[str, np.ndarray]:
    """The wanted arrays in an .npz file's bytes; the others, which may be pickles, are never opened.

    Raises `ValueError` if it is damaged, unpacks to more than `LONGEST_ROW` bytes, or a wanted array is pickled.
    """
    arrays: dict[str, np.ndarray] = {}
    left = LONGEST_ROW
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for member in archive.namelist():
                name = member.removesuffix(".npy")
                if name not in wanted:
                    continue
                with archive.open(member) as file:
                    unpacked = file.read(left + 1)
                left -= len(unpacked)
                if left < 0:
                    raise ValueError(f"it unpacks to more than {LONGEST_ROW} bytes, more than an image takes")
                arrays[name] = array_of_npy(unpacked)
    except ZIP_ERRORS as error:
        raise ValueError(f"it is not a complete .npz file ({error})") from None
    return arrays


def arrays_of_torch(content: bytes, *, wanted: Collection[str]) -> dict[str, np.ndarray]:
    """The wanted tensors of a `torch.save` file, or its single tensor as the features; only tensors are unpickled.

    Raises `ValueError` if it is damaged, holds other objects, or unpacks to more than `LONGEST_ROW` bytes.
    """
    size = 0
    try:
        if content.startswith(NPZ_MAGIC):
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                size = sum(member.file_size for member in archive.infolist())
        loaded = None if size > LONGEST_ROW else torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # reading a damaged pickle may raise anything
        raise ValueError(f"it is not a complete file of only tensors ({one_line(error, limit=80)})") from None
    if size > LONGEST_ROW:
        raise ValueError(f"it unpacks to more than {LONGEST_ROW} bytes, more than an image takes")
    tensors = loaded if isinstance(loaded, dict) else {"features": loaded}
    return {name: _numbers(value) for name, value in tensors.items() if isinstance(name, str) and name in wanted}


def _numbers(value: Any) -> np.ndarray:
    """A tensor or number as an array; bfloat16, which NumPy does not have, becomes float32."""
    if not isinstance(value, torch.Tensor):
        return np.asarray(value)
    value = value.detach()
    if value.layout != torch.strided or value.is_quantized:
        raise ValueError(f"it is a tensor of the layout {value.layout}, not a dense one of plain numbers")
    if value.numel() * value.element_size() > LONGEST_ROW:  # a stride of 0 makes a large tensor of few bytes
        raise ValueError(f"it unpacks to more than {LONGEST_ROW} bytes, more than an image takes")
    return (value.float() if value.dtype == torch.bfloat16 else value).numpy()


def arrays_of_json(content: bytes, *, wanted: Collection[str]) -> dict[str, Any]:
    """The wanted fields of a JSON object; base64 stays text. Raises `ValueError` if it is not a JSON object."""
    try:
        record = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is not valid JSON ({str(error)[:80]})") from None
    if not isinstance(record, dict):
        raise ValueError("it is not a JSON object")
    return {name: value for name, value in record.items() if name in wanted}


def arrays_of_msgpack(content: bytes, *, wanted: Collection[str]) -> dict[str, np.ndarray]:
    """The wanted arrays of a map by `msgpack_numpy`; raises `ValueError` if it is damaged or pickled."""
    try:
        import msgpack
    except ImportError as error:
        raise ImportError("this LMDB holds msgpack values: pip install 'modeling-updown[features]'") from error
    try:
        record = msgpack.unpackb(content, raw=False)
    except (ValueError, msgpack.exceptions.UnpackException, RecursionError) as error:
        raise ValueError(f"it is not a msgpack map ({str(error)[:80]})") from None
    if not isinstance(record, dict):
        raise ValueError("it is not a msgpack map")
    return {name: _msgpack_array(value, name) for name, value in record.items() if name in wanted}


def _msgpack_array(value: Any, name: str) -> np.ndarray:
    """An array as `msgpack_numpy` encodes it: {nd, type, kind, shape, data}; kind O would be a pickle."""
    if not isinstance(value, dict):
        return np.asarray(value)
    value = {key.decode("ascii", "replace") if isinstance(key, bytes) else key: item for key, item in value.items()}
    if value.get("kind") in (b"O", "O"):
        raise ValueError(PICKLE_CURE)
    try:
        dtype = np.dtype(value["type"])
        if dtype.kind not in "fiub":
            raise ValueError(f"of type {dtype}")
        array = np.frombuffer(value["data"], dtype)
        return array.reshape(tuple(value["shape"])) if value.get("nd") else array[0]
    except (KeyError, TypeError, ValueError, IndexError, SyntaxError) as error:
        raise ValueError(f"its {name} are not an array of numbers ({error})") from None
