"""METEOR's table of paraphrases, as an index of 64-bit hashes that is built once and kept in the user's cache folder.

    paraphrase-en.gz --Paraphrases.read--> Paraphrases --among(hashes of phrases)--> the pairs of them in the table
    words --phrase_hashes--> hashes of all their n-grams

The table has 5.3 million pairs (272 MB of text): reading it takes most of the Java program's time. The index holds
49 MB and is read in a fraction of a second. No two of the table's phrases have the same hash.
"""

import gzip
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from training.data.files import write_atomically

CACHE_VARIABLE = "XDG_CACHE_HOME"
BLOCK_BYTES = 2**20
NEWLINE, SPACE = 10, 32
# Hash of the bytes c_0 .. c_n-1: the sum of c_k * BASE^(n-1-k), modulo 2^64.
BASE = 0x9E3779B97F4A7C15
LINES_PER_PAIR = 3  # a probability, which METEOR ignores; a phrase; its paraphrase


class Paraphrases:
    """Pairs of a phrase and its paraphrase, by the hashes of both.

    Args:
        phrases: (R,) uint64, ascending: phrases that have paraphrases.
        ends: (R,) int64: where each one's paraphrases end in the list of all.
        paraphrases: (N,) uint64: the paraphrases of the first phrase in the table's order, then of the second ..
        longest: the words of the longest phrase.
    """

    def __init__(self, phrases: np.ndarray, ends: np.ndarray, paraphrases: np.ndarray, *, longest: int) -> None:
        self.phrases, self.ends, self.paraphrases, self.longest = phrases, ends, paraphrases, longest

    @classmethod
    def read(cls, path: Path) -> "Paraphrases":
        """The index of a table, from the cache folder if it is there, else built and written there.

        A cache that cannot be read is built again; one that cannot be written costs the next process the same time.

        Raises:
            OSError: the table cannot be read.
            ValueError: it is no table of METEOR's; the message names the cure.
        """
        cache = cache_file(path)
        try:
            tensors = load(cache.read_bytes())
            return cls(*(tensors[name] for name in ("phrases", "ends", "paraphrases")), longest=int(tensors["longest"]))
        except (OSError, SafetensorError, KeyError):
            built = cls.build(path)
        try:
            cache.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(cache, save(built.tensors()))
        except OSError:
            pass
        return built

    @classmethod
    def build(cls, path: Path) -> "Paraphrases":
        """Read a gzip-compressed table, whose lines are a probability, a phrase and its paraphrase in turn."""
        parts, longest = [], 1
        for hashes, words in _hashed_lines(path):
            parts.append(hashes.reshape(-1, LINES_PER_PAIR)[:, 1:])
            longest = max(longest, words)
        pairs = np.concatenate(parts)
        pairs = pairs[np.argsort(pairs[:, 0], kind="stable")]
        last = np.append(pairs[1:, 0] != pairs[:-1, 0], True)
        ends = np.flatnonzero(last) + 1
        return cls(pairs[last, 0], ends, np.ascontiguousarray(pairs[:, 1]), longest=longest)

    def tensors(self) -> dict[str, np.ndarray]:
        """What the index file holds."""
        columns = {"phrases": self.phrases, "ends": self.ends, "paraphrases": self.paraphrases}
        return columns | {"longest": np.array(self.longest)}

    def among(self, hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The table's pairs both of whose phrases have one of these hashes, (N,) uint64, ascending and unique.

        Returns the places in `hashes` of the phrases and of their paraphrases, (K,) each, in the table's order.
        """
        place, found = _places(self.phrases, hashes)
        place, owner = place[found], np.flatnonzero(found)
        begin = np.where(place > 0, self.ends[place - 1], 0)
        counts = self.ends[place] - begin
        entries = np.repeat(begin - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())
        owner = np.repeat(owner, counts)
        place, found = _places(hashes, self.paraphrases[entries])
        return owner[found], place[found]


def phrase_hashes(words: Sequence[str], *, longest: int) -> np.ndarray:
    """The hashes (longest, T), uint64, of the n-grams of T words: in row n - 1 of those of n words, by their first.

    N-grams that would reach over the last word are those of the words there are.
    """
    encoded = [word.encode() for word in words]
    table = {word: _hash(word) for word in set(encoded)}
    shift = {word: pow(BASE, len(word), 2**64) for word in table}
    hashes = np.array([table[word] for word in encoded], np.uint64)
    shifts = np.array([shift[word] for word in encoded], np.uint64)
    rows = [hashes]
    for n in range(1, longest):
        row = rows[-1].copy()
        kept = max(len(words) - n, 0)
        row[:kept] = (row[:kept] * np.uint64(BASE) + np.uint64(SPACE)) * shifts[n:] + hashes[n:]
        rows.append(row)
    return np.stack(rows)


def cache_file(table: Path) -> Path:
    """Where the index of a table is kept; its name holds the CRC and the length of the table's text."""
    with table.open("rb") as file:
        file.seek(-8, os.SEEK_END)
        crc, length = struct.unpack("<II", file.read(8))
    folder = Path(os.environ.get(CACHE_VARIABLE) or Path.home() / ".cache")
    return folder / "updown" / f"meteor-paraphrases-{crc:08x}-{length}.safetensors"


def _hash(word: bytes) -> int:
    value = 0
    for byte in word:
        value = (value * BASE + byte) % 2**64
    return value


def _hashed_lines(path: Path) -> Iterator[tuple[np.ndarray, int]]:
    """Hashes (K,) of the table's next K lines, a multiple of three, and the most words in one of them."""
    powers = np.cumprod(np.full(2 * BLOCK_BYTES, BASE, np.uint64)) * np.uint64(pow(BASE, -1, 2**64))
    inverse = np.cumprod(np.full(2 * BLOCK_BYTES, pow(BASE, -1, 2**64), np.uint64)) * np.uint64(BASE)
    rest = b""
    try:
        with gzip.open(path) as file:
            while block := file.read(BLOCK_BYTES):
                text = np.frombuffer(rest + block, np.uint8)
                ends = np.flatnonzero(text == NEWLINE)
                ends = ends[: len(ends) - len(ends) % LINES_PER_PAIR]
                if len(text) > len(powers) or not len(ends):
                    raise ValueError("its lines are too long")
                rest = text[ends[-1] + 1 :].tobytes()
                text = text[: ends[-1] + 1]
                sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(text * inverse[: len(text)])])
                spaces = np.concatenate([[0], np.cumsum(text == SPACE)])
                starts = np.append(0, ends[:-1] + 1)
                yield (sums[ends] - sums[starts]) * powers[ends - 1], int((spaces[ends] - spaces[starts]).max()) + 1
    except (gzip.BadGzipFile, zlib.error, EOFError, ValueError) as error:
        raise ValueError(f"{path} is no table of paraphrases ({error}); install pycocoevalcap again") from error
    if rest:
        raise ValueError(f"{path} ends in the middle of a pair; install pycocoevalcap again")


def _places(ascending: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each wanted value stands in an ascending array, and whether it does."""
    if not len(ascending):
        return np.zeros(len(wanted), int), np.zeros(len(wanted), bool)
    place = np.minimum(np.searchsorted(ascending, wanted), len(ascending) - 1)
    return place, ascending[place] == wanted
