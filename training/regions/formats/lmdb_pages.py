"""Reads the records of an LMDB page by page in Python, since the lmdb library crashes the process on a damaged file.

    data.mdb --LmdbPages.records--> (key, position of its value) --LmdbPages.value--> bytes

The layout is that of LMDB 0.9 (mdb.c, data version 1, 64 bits, little-endian). A page has a header of 16 bytes: number,
padding, flags, and the end of the pointers to its nodes. Pages 0 and 1 hold the root of the tree after alternate
commits. A node is 8 bytes (size or child, flags, length of the key), the key and the value; a long value is on overflow
pages. Every number is checked against the file before it is used, and no page is visited twice.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from training.regions.formats.record import LONGEST_ROW

HEADER = struct.Struct("<QHHHH")  # of a page: number, padding, flags, end of the pointers, begin of the nodes
META = struct.Struct("<IIQQ")  # magic, version, address, size of the map
TREE = struct.Struct(
    "<IHHQQQQQ"
)  # padding (of the first: page size), flags, depth, pages of three kinds, entries, root
LAST = struct.Struct("<QQ")  # last page, transaction
NODE = struct.Struct("<HHHH")  # size or child, low and high; flags; length of the key
MAGIC, VERSION = 0xBEEFC0DE, 1
BRANCH, LEAF, OVERFLOW = 1, 2, 4
BIG, SUBDATA, DUPLICATES = 1, 2, 4
SORTED_DUPLICATES = 4
PAGE_SIZES = tuple(2**power for power in range(8, 17))
EMPTY = 2**64 - 1  # the root of a tree without a page
DEEPEST = 32


class DamagedPageError(ValueError):
    """A page, or a pointer in it, is damaged."""


@dataclass(frozen=True)
class Place:
    """The position of a value in the file, in bytes."""

    start: int
    length: int


@dataclass(frozen=True)
class _Meta:
    page_size: int
    flags: int
    num_entries: int
    root: int
    transaction: int


class LmdbPages:
    """An LMDB file, opened for reading; raises `ValueError` if it is not one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = open(path, "rb")  # noqa: SIM115  open as long as the reader lives
        except OSError as error:
            raise ValueError(f"{path} cannot be opened as an LMDB: {error.strerror}") from error
        self._size = self._file.seek(0, 2)
        metas = [meta for size in (0, *PAGE_SIZES) if (meta := self._meta(size)) is not None]
        if not metas:
            raise ValueError(f"{path} cannot be opened as an LMDB: it has no valid meta page")
        self._tree = max(metas, key=lambda meta: meta.transaction)
        if self._tree.flags & SORTED_DUPLICATES:
            raise ValueError(f"{path} holds several values per key (MDB_DUPSORT), but an image needs exactly one")

    def __len__(self) -> int:
        """The number of records according to the file."""
        return self._tree.num_entries

    def close(self) -> None:
        self._file.close()

    def records(self) -> Iterator[tuple[bytes, Place | DamagedPageError]]:
        """Yield every key in order with the place of its value, or with its error (key b"": the error of a page)."""
        if self._tree.root != EMPTY:
            yield from self._walk(self._tree.root, depth=0, seen=set())

    def value(self, place: Place) -> bytes:
        """The bytes of a value."""
        return self._read(place.start, place.length)

    def _walk(self, number: int, *, depth: int, seen: set[int]) -> Iterator[tuple[bytes, Place | DamagedPageError]]:
        try:
            if number in seen or depth > DEEPEST:
                raise DamagedPageError(f"page {number} of the LMDB is reached twice")
            seen.add(number)
            page = self._read(number * self._tree.page_size, self._tree.page_size)
            flags, nodes = _nodes(page, number)
        except DamagedPageError as error:
            yield b"", error
            return
        for node in nodes:
            low, high, node_flags, key_length = NODE.unpack_from(page, node)
            if flags & BRANCH:
                yield from self._walk(low | high << 16 | node_flags << 32, depth=depth + 1, seen=seen)
                continue
            start = node + NODE.size + key_length
            key = page[node + NODE.size : start]
            try:
                within = number * self._tree.page_size + start
                yield key, self._place(low | high << 16, node_flags, within=within, end=(number + 1) * len(page))
            except DamagedPageError as error:
                yield key, error

    def _place(self, length: int, flags: int, *, within: int, end: int) -> Place:
        """The place of a value: after its key, at byte `within`, or on overflow pages."""
        if flags & (SUBDATA | DUPLICATES):
            raise DamagedPageError("it is a nested database, or several values, not an image")
        if length > LONGEST_ROW:
            raise DamagedPageError(f"it is longer than {LONGEST_ROW} bytes, more than an image takes")
        if flags & BIG:
            if within + 8 > end:
                raise DamagedPageError("its page of the LMDB is damaged")
            (number,) = struct.unpack("<Q", self._read(within, 8))
            within = number * self._tree.page_size + HEADER.size
            if HEADER.unpack(self._read(within - HEADER.size, HEADER.size))[2] != OVERFLOW:
                raise DamagedPageError(f"page {number} of the LMDB, where its value should be, is another one")
            end = self._size
        if within + length > end:
            raise DamagedPageError(
                "its value reaches beyond the end of the file, or of its page: is the LMDB cut short?"
            )
        return Place(within, length)

    def _meta(self, start: int) -> _Meta | None:
        """The tree described by the meta page at byte `start`; None if there is no meta page."""
        size = HEADER.size + META.size + 2 * TREE.size + LAST.size
        if start + size > self._size:
            return None
        content = self._read(start, size)[HEADER.size :]
        magic, version, _, _ = META.unpack_from(content)
        page_size = TREE.unpack_from(content, META.size)[0]
        _, flags, _, _, _, _, num_entries, root = TREE.unpack_from(content, META.size + TREE.size)
        _, transaction = LAST.unpack_from(content, META.size + 2 * TREE.size)
        if magic != MAGIC or version != VERSION or page_size not in PAGE_SIZES or start not in (0, page_size):
            return None
        return _Meta(page_size, flags, num_entries, root, transaction)

    def _read(self, start: int, length: int) -> bytes:
        if start + length > self._size:
            raise DamagedPageError(f"byte {start + length} is beyond the end of the file: is the LMDB cut short?")
        self._file.seek(start)
        return self._file.read(length)


def _nodes(page: bytes, number: int) -> tuple[int, list[int]]:
    """The flags of a branch or leaf page, and the offsets of its nodes, each of which is checked to be in the page."""
    page_number, _, flags, lower, upper = HEADER.unpack_from(page)
    if (
        page_number != number
        or flags not in (BRANCH, LEAF)
        or not HEADER.size <= lower <= upper <= len(page)
        or lower % 2
    ):
        raise DamagedPageError(f"page {number} of the LMDB is damaged")
    nodes = list(struct.unpack_from(f"<{(lower - HEADER.size) // 2}H", page, HEADER.size))
    for node in nodes:
        if not upper <= node <= len(page) - NODE.size:
            raise DamagedPageError(f"page {number} of the LMDB is damaged")
        if node + NODE.size + NODE.unpack_from(page, node)[3] > len(page):
            raise DamagedPageError(f"page {number} of the LMDB is damaged")
    return flags, nodes
