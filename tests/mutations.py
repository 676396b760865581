"""Damaged copies of a file's bytes, the same ones for the same seed: what a full disk or a bad cable leaves."""

import random
from collections.abc import Iterator

HOSTILE = [  # what stands in no healthy file, or stands for too much in one
    b"",
    b"\x00" * 9,
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"NaN",
    b"-Infinity",
    b"1e999",
    b"-1",
    b"99999999999999999999",
    b"null",
    b'"',
    b"[[[[",
    b"{",
    b"}",
    b"\t",
    b"\n",
    b"\r\n",
    b"../../etc/passwd",
    b"!!python/object/apply:os.system ['true']",
    b"cos\nsystem\n(S'true'\ntR.",
    "\u202e\u0000é".encode(),
]


def mutations(data: bytes, *, count: int, seed: int) -> Iterator[bytes]:
    """`count` damaged copies of `data`, each with one to three changes.

    >>> list(mutations(b"abc", count=2, seed=0)) == list(mutations(b"abc", count=2, seed=0))
    True
    """
    draw = random.Random(seed)
    for _ in range(count):
        damaged = data
        for _ in range(draw.choice((1, 1, 1, 2, 3))):
            damaged = mutate(damaged, draw)
        yield damaged


def mutate(data: bytes, draw: random.Random) -> bytes:
    """One change: bits flipped, bytes overwritten, cut out, doubled or put in, or the end cut off."""
    start = draw.randrange(len(data) + 1)
    end = min(len(data), start + draw.choice((1, 1, 4, 8, 64, 1024)))
    part = data[start:end]
    changes = (
        bytes(byte ^ (1 << draw.randrange(8)) for byte in part),
        draw.randbytes(len(part)),
        b"",
        part * draw.choice((2, 100)),
        draw.choice(HOSTILE) + part,
        draw.choice(HOSTILE),
    )
    if draw.random() < 0.1:
        return data[:start]
    return data[:start] + draw.choice(changes) + data[end:]
