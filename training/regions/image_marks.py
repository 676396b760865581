"""Marks: 63-bit hashes of image files, which tell an image from another one of the same name.

    path | bytes --image_mark--> int --RegionStoreWriter, IndexWriter--> stored with the image's regions or embedding

A mark is a hash of the file's length and of its first, middle and last 4 KiB (of the whole file up to 12 KiB): three
reads per image of any size, 0.1 ms in a warm cache. Compressed images (JPEG, PNG, WebP) differ up to their end wherever
a pixel differs; two uncompressed images of equal length that differ only outside the hashed parts get the same mark.
"""

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, BinaryIO

UNKNOWN = 0
BLOCK = 4096


def image_mark(image: Mapping[str, Any] | None) -> int:
    """The mark of an undecoded image, `{"path", "bytes"}`; 0 for one that cannot be read, or is given by a URL.

    >>> image_mark({"bytes": b"an image", "path": None}) == image_mark({"bytes": b"an image", "path": "dog.jpg"})
    True
    """
    content, path = (image or {}).get("bytes"), (image or {}).get("path")
    if content:
        view = memoryview(content)
        return _mark(len(view), lambda start: view[start : start + BLOCK])
    if not path or not os.path.isfile(path):
        return UNKNOWN
    try:
        with open(path, "rb") as file:
            return _mark(os.fstat(file.fileno()).st_size, lambda start: _block(file, start))
    except OSError:
        return UNKNOWN


def changed_images(ids: Sequence[str], marks: Sequence[int], *, known: Mapping[str, int]) -> list[str]:
    """The ids whose mark differs from the known one; an id without a mark on either side is not listed.

    >>> changed_images(["a", "b", "c"], [1, 2, 0], known={"a": 7, "b": 2, "c": 3})
    ['a']
    """
    return [
        image_id
        for image_id, mark in zip(ids, marks, strict=True)
        if UNKNOWN not in (mark, known.get(image_id, UNKNOWN)) and mark != known[image_id]
    ]


def check_same_images(others: Sequence[str], *, of: int, place: Any, cure: str, kind: str = "images") -> None:
    """Raises `ValueError` if `others`, the ids under which `place` holds other images (or clips), is not empty."""
    if others:
        listed = ", ".join(others[:3]) + (", ..." if len(others) > 3 else "")
        raise ValueError(
            f"{len(others)} of {of} {kind} are not those that {place} holds under the same ids ({listed}): {cure}"
        )


def _mark(length: int, block: Callable[[int], bytes | memoryview]) -> int:
    starts = (0, BLOCK, 2 * BLOCK) if length <= 3 * BLOCK else (0, (length - BLOCK) // 2, length - BLOCK)
    digest = hashlib.blake2b(str(length).encode(), digest_size=8)
    for start in starts:
        digest.update(block(start))
    return int.from_bytes(digest.digest(), "little") >> 1 or 1


def _block(file: BinaryIO, start: int) -> bytes:
    file.seek(start)
    return file.read(BLOCK)
