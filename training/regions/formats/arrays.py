"""Arrays out of foreign bytes, without executing and without trusting them: base64, .npy, .npz, .pth, JSON, msgpack.

Nothing but tensors is unpickled, and no more memory is taken than the bytes that are there; what an .npz or .pth may
unpack to is bounded.
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

from training.regions.formats.floats import FLOATS
from training.regions.formats.record import LONGEST_ROW

ZIP_ERRORS = (  # what zipfile raises over damaged files
    *(zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, struct.error, OSError, UnicodeError),
    *(LookupError, OverflowError),
)
NPY_MAGIC, NPZ_MAGIC, PICKLE_MAGIC = b"\x93NUMPY", b"PK\x03\x04", b"\x80"
PICKLE_CURE = (
    "it is a pickle, which could run anything and is never opened; where it was made and is trusted, write its arrays "
    "as .npz there: numpy.savez(file, features=..., boxes=..., image_h=..., image_w=...)"
)


def base64_array(field: bytes | str, *, name: str, dtype: Any, rows: int, width: int | None = None) -> np.ndarray:
    """Base64 -> (rows, width), any width where none is given; `ValueError` naming the field where it does not fit.

    A field that Python 3 wrote as the text `b'...'` of Python 2 code is read as what was meant.
    """
    content = base64_bytes(field, name=name)
    dtype = np.dtype(dtype)
    found, rest = divmod(len(content), rows * dtype.itemsize)
    if rest or not found or found != (width or found):
        wanted = f"{width} {dtype} numbers" if width else f"{dtype} numbers"
        raise ValueError(f"its {name} are {len(content)} bytes, which are no {wanted} of each of {rows} boxes")
    return np.frombuffer(content, dtype).reshape(rows, found)


def base64_numbers(field: bytes | str, *, name: str, rows: int, width: int) -> np.ndarray:
    """Base64 -> (rows, width) floating-point numbers of whichever type has that many bytes; `ValueError` else."""
    size = len(base64_bytes(field, name=name))
    fitting = (kind for kind in FLOATS.values() if np.dtype(kind).itemsize * rows * width == size)
    dtype = next(fitting, FLOATS["float32"])
    return base64_array(field, name=name, dtype=dtype, rows=rows, width=width)


def base64_bytes(field: bytes | str, *, name: str) -> bytes:
    """Strict base64 (line ends apart); `ValueError` naming the field."""
    field = field.encode("ascii", "replace") if isinstance(field, str) else field
    if field[:2] in (b"b'", b'b"') and field[-1:] == field[1:2]:
        field = field[2:-1]
    try:
        return binascii.a2b_base64(field, strict_mode=True)
    except binascii.Error:
        pass  # perhaps for its line ends alone
    try:
        return binascii.a2b_base64(field.replace(b"\\n", b"").replace(b"\n", b""), strict_mode=True)
    except binascii.Error as error:
        raise ValueError(f"its {name} are no base64 ({error}); is the row cut short?") from None


def base64_text(array: np.ndarray, dtype: Any) -> str:
    """The numbers as base64."""
    return base64.b64encode(np.ascontiguousarray(array, dtype=dtype).tobytes()).decode("ascii")


def array_of_npy(content: bytes) -> np.ndarray:
    """The array of an .npy file's bytes; `ValueError` where it is cut short, damaged or pickled."""
    file = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(file)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, in_columns, dtype = read_header(file)
    except (ValueError, TypeError, EOFError, SyntaxError, TokenError, MemoryError, RecursionError) as error:
        raise ValueError(f"it is no .npy array ({str(error)[:80]})") from None
    if dtype.hasobject:
        raise ValueError(PICKLE_CURE)
    numbers = content[file.tell() :]
    if len(numbers) != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"its array of shape {shape} should take {math.prod(shape) * dtype.itemsize} bytes")
    array = np.frombuffer(numbers, dtype)
    return array.reshape(shape[::-1]).T if in_columns else array.reshape(shape)


def arrays_of_npz(content: bytes, *, wanted: Collection[str]) -> dict[str, np.ndarray]:
    """The wanted arrays among those of an .npz file's bytes; others, which may be pickles, are never opened.

    Raises `ValueError` where it is damaged, unpacks to more than `LONGEST_ROW` bytes, or a wanted array is pickled.
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
        raise ValueError(f"it is no complete .npz file ({error})") from None
    return arrays


def arrays_of_torch(content: bytes, *, wanted: Collection[str]) -> dict[str, np.ndarray]:
    """The wanted tensors of what `torch.save` wrote, or its one tensor as the features; only tensors are unpickled.

    Raises `ValueError` where it is damaged, holds other objects, or unpacks to more than `LONGEST_ROW` bytes.
    """
    size = 0
    try:
        if content.startswith(NPZ_MAGIC):
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                size = sum(member.file_size for member in archive.infolist())
        loaded = None if size > LONGEST_ROW else torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # the reader of damaged pickles raises nearly everything
        raise ValueError(f"it is no whole file of tensors alone ({' '.join(str(error).split())[:80]})") from None
    if size > LONGEST_ROW:
        raise ValueError(f"it unpacks to more than {LONGEST_ROW} bytes, more than an image takes")
    tensors = loaded if isinstance(loaded, dict) else {"features": loaded}
    return {name: _numbers(value) for name, value in tensors.items() if isinstance(name, str) and name in wanted}


def _numbers(value: Any) -> np.ndarray:
    """A tensor or number as an array; float32 for types that NumPy does not have."""
    if not isinstance(value, torch.Tensor):
        return np.asarray(value)
    value = value.detach()
    if value.layout != torch.strided or value.is_quantized:
        raise ValueError(f"it is a tensor of the layout {value.layout}, not of plain numbers")
    if value.numel() * value.element_size() > LONGEST_ROW:  # a stride of 0 makes much of few bytes
        raise ValueError(f"it unpacks to more than {LONGEST_ROW} bytes, more than an image takes")
    return (value.float() if value.dtype == torch.bfloat16 else value).numpy()


def arrays_of_json(content: bytes, *, wanted: Collection[str]) -> dict[str, Any]:
    """The wanted fields of a JSON object; base64 stays text. `ValueError` where it is none."""
    try:
        record = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is no valid JSON ({str(error)[:80]})") from None
    if not isinstance(record, dict):
        raise ValueError("it is no JSON object")
    return {name: value for name, value in record.items() if name in wanted}


def arrays_of_msgpack(content: bytes, *, wanted: Collection[str]) -> dict[str, np.ndarray]:
    """The wanted arrays of a msgpack map that `msgpack_numpy` wrote; `ValueError` where it is damaged or pickled."""
    try:
        import msgpack
    except ImportError as error:
        raise ImportError("this LMDB holds msgpack values: pip install 'modeling-updown[features]'") from error
    try:
        record = msgpack.unpackb(content, raw=False)
    except (ValueError, msgpack.exceptions.UnpackException, RecursionError) as error:
        raise ValueError(f"it is no msgpack map ({str(error)[:80]})") from None
    if not isinstance(record, dict):
        raise ValueError("it is no msgpack map")
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
        raise ValueError(f"its {name} are no array of numbers ({error})") from None
