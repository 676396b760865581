"""The index of METEOR's paraphrases against the table itself, its cache, and broken tables."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from training.metrics.captioning import meteor_paraphrases
from training.metrics.captioning.meteor_paraphrases import Paraphrases, cache_file, phrase_hashes

TABLE = [("big", "large"), ("in front of", "before"), ("big", "caf\u00e9 au lait"), ("large", "big"), ("a b", "b a")]


def write_table(path: Path, pairs: list[tuple[str, str]]) -> Path:
    path.write_bytes(gzip.compress("".join(f"0.1\n{a}\n{b}\n" for a, b in pairs).encode()))
    return path


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return write_table(tmp_path / "table.gz", TABLE)


def hash_of(phrase: str) -> int:
    words = phrase.split()
    return int(phrase_hashes(words, longest=len(words))[-1, 0])


def test_hashes_of_n_grams_are_those_of_their_bytes() -> None:
    value = 0
    for byte in "in front of caf\u00e9".encode():
        value = (value * meteor_paraphrases.BASE + byte) % 2**64
    assert hash_of("in front of caf\u00e9") == value
    words = ["a", "dog", "in", "front", "of", "a", "dog"]
    hashes = phrase_hashes(words, longest=3)
    assert hashes.shape == (3, 7)
    assert int(hashes[2, 2]) == hash_of("in front of") and hashes[1, 0] == hashes[1, 5] == hash_of("a dog")


def test_pairs_among_phrases_are_the_tables_in_its_order(table: Path) -> None:
    index = Paraphrases.read(table)
    assert (index.longest, len(index.phrases), len(index.paraphrases)) == (3, 4, 5)
    phrases = ["big", "large", "caf\u00e9 au lait", "before", "in front of", "front of", "b a", "dog"]
    hashes = np.array(sorted(map(hash_of, phrases)), np.uint64)
    name = {hash_of(phrase): phrase for phrase in phrases}
    first, second = index.among(hashes)
    pairs = [(name[int(hashes[a])], name[int(hashes[b])]) for a, b in zip(first, second, strict=True)]
    assert sorted(pairs) == sorted(pair for pair in TABLE if pair[0] != "a b")
    assert [pair for pair in pairs if pair[0] == "big"] == [TABLE[0], TABLE[2]]
    assert [len(part) for part in index.among(np.zeros(0, np.uint64))] == [0, 0]


def test_a_table_of_many_blocks_is_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meteor_paraphrases, "BLOCK_BYTES", 64)
    pairs = [(f"word {number}", f"other{number} x") for number in range(300)]
    index = Paraphrases.build(write_table(tmp_path / "table.gz", pairs))
    hashes = np.unique(np.array([hash_of(text) for pair in pairs for text in pair], np.uint64))
    first, second = index.among(hashes)
    found = {(int(hashes[a]), int(hashes[b])) for a, b in zip(first, second, strict=True)}
    assert found == {(hash_of(a), hash_of(b)) for a, b in pairs}


def test_the_index_is_cached_and_built_again_where_it_is_broken(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built, cache = Paraphrases.read(table), cache_file(table)
    assert cache.is_file() and cache.parent.name == "updown"
    monkeypatch.setattr(Paraphrases, "build", None)
    np.testing.assert_array_equal(Paraphrases.read(table).paraphrases, built.paraphrases)
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(table.parent / "cache"))
    cache.write_bytes(cache.read_bytes()[:50])
    np.testing.assert_array_equal(Paraphrases.read(table).paraphrases, built.paraphrases)
    assert cache.stat().st_size > 50
    monkeypatch.setenv("XDG_CACHE_HOME", str(table))  # a file, in which no folder can be made
    np.testing.assert_array_equal(Paraphrases.read(table).paraphrases, built.paraphrases)
    assert cache_file(write_table(table.parent / "other.gz", TABLE[:2])).name != cache.name


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"no gzip at all", "is no table of paraphrases"),
        (gzip.compress(b"0.1\nbig\n"), "is no table of paraphrases"),
        (gzip.compress(b"0.1\nbig\nlarge\n0.1\n"), "ends in the middle of a pair"),
        (gzip.compress(b"0.1\nbig\nlarge\n" * 99)[:-12], "is no table of paraphrases"),
    ],
    ids=["no gzip", "too short", "a line too many", "cut"],
)
def test_a_broken_table_is_named(table: Path, content: bytes, sentence: str) -> None:
    table.write_bytes(content)
    with pytest.raises(ValueError, match=sentence):
        Paraphrases.read(table)
