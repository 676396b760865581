"""Checksums of an index: of the vectors and entries of every 1,024 rows of a table, as stored in `index.json`.

    vectors + entries --BlockChecksums.add--> blocks
    files --blocks_of--> blocks --first_damaged--> the first block whose checksum differs

They depend only on the rows, not on how often they were written to the disk. So the undamaged leading blocks of a table
that was cut short can be found and kept.
"""

import zlib
from collections.abc import Sequence
from itertools import zip_longest

import numpy as np

BLOCK_ROWS = 1024
Block = list[int]  # CRC-32 of the vectors and of the lines


class BlockChecksums:
    """The checksums of a growing table.

    >>> grown = BlockChecksums([], rows=0)
    >>> for row in range(3):
    ...     grown.add(np.full((1, 2), row, dtype=np.float16), [b"{}"])
    >>> grown.blocks == blocks_of(np.repeat(np.arange(3, dtype=np.float16), 2).reshape(3, 2), b"{}{}{}", [0, 2, 4, 6])
    True
    """

    def __init__(self, blocks: Sequence[Block], *, rows: int) -> None:
        self.blocks, self.rows = [list(block) for block in blocks], rows

    def add(self, vectors: np.ndarray, lines: Sequence[bytes]) -> None:
        """Add vectors (n, E) in the stored dtype, C-contiguous, and their n lines."""
        start = 0
        while start < len(lines):
            if self.rows % BLOCK_ROWS == 0:
                self.blocks.append([0, 0])
            end = min(len(lines), start + BLOCK_ROWS - self.rows % BLOCK_ROWS)
            block = self.blocks[-1]
            block[0] = zlib.crc32(vectors[start:end].data, block[0])
            block[1] = zlib.crc32(b"".join(lines[start:end]), block[1])
            self.rows += end - start
            start = end


def blocks_of(vectors: np.ndarray, content: bytes, starts: Sequence[int] | np.ndarray) -> list[Block]:
    """The blocks of a table: vectors (N, E), C-contiguous, and N lines of `content`, beginning at `starts` (N + 1)."""
    found = []
    for first in range(0, len(vectors), BLOCK_ROWS):
        last = min(first + BLOCK_ROWS, len(vectors))
        lines = memoryview(content)[starts[first] : starts[last]]
        found.append([zlib.crc32(vectors[first:last].data), zlib.crc32(lines)])
    return found


def first_damaged(found: Sequence[Block], known: Sequence[Block]) -> int | None:
    """The number of the first block that differs from the known ones; None if all are equal.

    >>> first_damaged([[1, 2], [3, 4]], [[1, 2], [3, 5]]), first_damaged([[1, 2]], [[1, 2]])
    (1, None)
    """
    pairs = enumerate(zip_longest(found, known))
    return next((number for number, (one, other) in pairs if one != other), None)
