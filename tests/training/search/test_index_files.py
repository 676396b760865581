"""An index on disk: it grows, survives kills at any moment, and hostile or broken files end in one sentence."""

import json
import os
import signal
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.training.tiny_run import die_at
from training.search.index_files import IndexWriter, read_index, relative_place, resolved_place

MADE_BY = {"model": {"model_type": "updown_fusion", "weights": "abc"}, "regions": {"backbone": "resnet"}}
PLACES = {"model": "../model", "photo_folder": "../photos", "region_store": None}


def vectors(*rows: int, width: int = 4) -> np.ndarray:
    """One vector for each number, the same in every call."""
    return np.stack([np.random.default_rng(row).standard_normal(width) for row in rows]).astype(np.float32)


def images(*rows: int) -> list[dict[str, Any]]:
    return [{"id": f"{row}.jpg", "path": f"{row}.jpg"} for row in rows]


def opened(folder: Path, **changes: Any) -> IndexWriter:
    return IndexWriter(folder, **{"fingerprint": MADE_BY, "places": PLACES, **changes})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An index of images 0, 1, 2 and one text, in two appends."""
    with opened(tmp_path / "index") as writer:
        writer.append("photos", vectors(0, 1), images(0, 1))
        writer.append("photos", vectors(2), images(2))
        writer.append("texts", vectors(7), [{"text": "ein Hündchen\u2028\r\nläuft", "photo": None}])
    return tmp_path / "index"


# -- what comes back -------------------------------------------------------------------------------------------------


def test_what_was_written_is_read(folder: Path) -> None:
    manifest, tables = read_index(folder)
    assert manifest["fingerprint"] == MADE_BY and {name: manifest[name] for name in PLACES} == PLACES
    assert list(tables["photos"].entries) == images(0, 1, 2) and len(tables["photos"]) == 3
    assert list(tables["texts"].entries) == [{"text": "ein Hündchen\u2028\r\nläuft", "photo": None}]
    assert (tables["photos"].embeddings == vectors(0, 1, 2).astype(np.float16)).all()
    assert isinstance(tables["photos"].embeddings.base, np.memmap) or isinstance(tables["photos"].embeddings, np.memmap)


def test_any_program_reads_the_vectors(folder: Path) -> None:
    assert (np.load(folder / "photos.npy") == vectors(0, 1, 2).astype(np.float16)).all()
    assert [json.loads(line)["id"] for line in (folder / "photos.jsonl").open()] == ["0.jpg", "1.jpg", "2.jpg"]


def test_float32_keeps_every_bit(tmp_path: Path) -> None:
    with opened(tmp_path / "i", dtype="float32") as writer:
        writer.append("photos", vectors(0, 1), images(0, 1))
    _, tables = read_index(tmp_path / "i")
    assert (tables["photos"].embeddings == vectors(0, 1)).all() and set(tables) == {"photos"}
    assert sorted(path.name for path in (tmp_path / "i").glob("[!.]*")) == ["index.json", "photos.jsonl", "photos.npy"]


def test_an_index_is_continued(folder: Path) -> None:
    with opened(folder, places={**PLACES, "model": "../elsewhere"}) as writer:
        assert [entry["id"] for entry in writer.entries["photos"]] == ["0.jpg", "1.jpg", "2.jpg"]
        writer.append("photos", vectors(3), images(3))
    manifest, tables = read_index(folder)
    assert list(tables["photos"].entries) == images(0, 1, 2, 3) and manifest["model"] == "../elsewhere"
    assert (tables["photos"].embeddings == vectors(0, 1, 2, 3).astype(np.float16)).all()


def test_the_header_keeps_its_length(tmp_path: Path) -> None:
    """What growing in place relies on: numpy leaves room for more digits."""
    lengths = set()
    for rows in (0, 9, 10**6, 10**12):
        with open(tmp_path / "header", "w+b") as file:
            np.lib.format.write_array_header_1_0(file, {"descr": "<f2", "fortran_order": False, "shape": (rows, 256)})
            lengths.add(file.tell())
    assert len(lengths) == 1


def test_readers_see_what_was_counted_while_a_writer_goes_on(folder: Path) -> None:
    with opened(folder, commit_seconds=1e9) as writer:
        writer.append("photos", vectors(3), images(3))
        assert len(read_index(folder)[1]["photos"]) == 3
        writer.commit()
        assert len(read_index(folder)[1]["photos"]) == 4


# -- kills -----------------------------------------------------------------------------------------------------------


def fill(folder: Path) -> None:
    """Images 0 .. 9 that are not there yet, one by one, each counted at once."""
    with opened(folder, commit_seconds=0) as writer:
        done = {entry["id"] for entry in writer.entries["photos"]}
        for row in range(10):
            if f"{row}.jpg" not in done:
                writer.append("photos", vectors(row), images(row))


def killed(folder: Path, moment: str) -> bool:
    """`fill` in a child process that kills itself as the N-th call of a function ends (`MODULE:NAME:N`)."""
    child = os.fork()
    if child == 0:
        try:
            die_at(*moment.split(":"))
            fill(folder)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize(
    "moment",
    [
        "os:fsync:1",
        "os:fsync:4",
        "os:fsync:8",
        "os:replace:3",
        "training.search.index_files:IndexWriter.commit:1",
        "training.search.index_files:IndexWriter.append:5",
        "training.search.index_files:_TableWriter._write_header:1",
        "training.search.index_files:_TableWriter._write_header:6",
        "training.search.index_files:_TableWriter.append:4",
        "training.search.index_files:_TableWriter.flush:7",
    ],
)
def test_a_kill_at_any_moment_costs_what_was_not_counted(tmp_path: Path, moment: str) -> None:
    folder = tmp_path / "index"
    assert killed(folder, moment)
    if (folder / "index.json").exists():
        for table in read_index(folder)[1].values():
            assert (table.embeddings == vectors(*range(len(table))).astype(np.float16)).all()
    # once more, at the first thing that a continued writer does to the files
    assert killed(folder, "training.search.index_files:_TableWriter._write_header:1")
    fill(folder)
    tables = read_index(folder)[1]
    assert list(tables["photos"].entries) == images(*range(10))
    assert (np.load(folder / "photos.npy") == vectors(*range(10)).astype(np.float16)).all()


def test_what_was_not_counted_is_cut_off(folder: Path) -> None:
    for name in ("photos.npy", "photos.jsonl"):
        with open(folder / name, "ab") as file:
            file.write(b"half a row")
    assert len(read_index(folder)[1]["photos"]) == 3
    with opened(folder) as writer:
        writer.append("photos", vectors(3), images(3))
    assert (np.load(folder / "photos.npy") == vectors(0, 1, 2, 3).astype(np.float16)).all()
    assert len((folder / "photos.jsonl").read_text().splitlines()) == 4


def test_what_was_appended_is_counted_in_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    with opened(folder, commit_seconds=5) as writer:
        writer.append("photos", vectors(3), images(3))
        assert len(read_index(folder)[1]["photos"]) == 3
        clock[0] = 5.0
        writer.append("photos", vectors(4), images(4))
        assert len(read_index(folder)[1]["photos"]) == 5


# -- refusals --------------------------------------------------------------------------------------------------------


def test_two_writers_at_once(folder: Path) -> None:
    with opened(folder), pytest.raises(OSError, match="another `updown index` writes into .*: wait for it to end"):
        opened(folder)
    opened(folder).close()


def test_another_model_or_place(folder: Path, tmp_path: Path) -> None:
    other = {**MADE_BY, "model": {"model_type": "updown_fusion", "weights": "xyz"}}
    with pytest.raises(ValueError, match="made with another model .weights: stored 'abc', expected 'xyz'.: use that"):
        opened(folder, fingerprint=other)
    with pytest.raises(ValueError, match="made with another region source .backbone: stored 'resnet', expected 'vit'"):
        opened(folder, fingerprint={**MADE_BY, "regions": {"backbone": "vit"}})
    with pytest.raises(ValueError, match="made with photo_folder ../photos, not ../more: give it another folder"):
        opened(folder, places={**PLACES, "photo_folder": "../more"})
    with pytest.raises(ValueError, match="made with dtype float16, not float32"):
        opened(folder, dtype="float32")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "letter.txt").write_text("dear")
    with pytest.raises(ValueError, match=r"taken holds other files \(letter.txt\); give an empty folder or an index"):
        opened(tmp_path / "taken")
    with pytest.raises(ValueError, match="letter.txt is a file: give a folder for the index"):
        opened(tmp_path / "taken" / "letter.txt")
    opened(folder).close()  # no failure keeps the lock


def test_bad_vectors_add_nothing(folder: Path) -> None:
    bad = vectors(3, 4)
    bad[1, 2] = np.nan
    with opened(folder) as writer:
        with pytest.raises(ValueError, match="'4.jpg' has a vector that holds NaN or infinity"):
            writer.append("photos", bad, images(3, 4))
        with pytest.raises(ValueError, match=r"vectors \(1, 5\) and 1 entries do not fit an index of width 4"):
            writer.append("texts", vectors(3, width=5), [{"text": "a"}])
        with pytest.raises(ValueError, match=r"vectors \(2, 4\) and 1 entries"):
            writer.append("photos", vectors(3, 4), images(3))
    assert len(read_index(folder)[1]["photos"]) == 3


def test_no_index(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"is not an index .it has no index.json.: make one with `updown index IMAGES`"
    ):
        read_index(tmp_path)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"format": "updown-index-9"}, "its format is 'updown-index-9', not 'updown-index-1'"),
        ({"fingerprint": []}, "its fingerprint or dtype is not valid"),
        ({"dtype": "object"}, "its fingerprint or dtype is not valid"),
        ({"photo_folder": 3}, "one of model, photo_folder, region_store is not a path"),
        (
            {"tables": {"photos": {"rows": -1, "bytes": 0}, "texts": {"rows": 0, "bytes": 0}}},
            "its numbers of rows or bytes are not valid",
        ),
        (
            {"tables": {"photos": {"rows": True, "bytes": 0}, "texts": {"rows": 0, "bytes": 0}}},
            "its numbers of rows or bytes are not valid",
        ),
        ({"tables": {}}, "'photos'"),
        ({"tables": []}, "list indices"),
    ],
)
def test_strange_manifests(folder: Path, change: dict[str, Any], fault: str) -> None:
    path = folder / "index.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ValueError, match="index.json is not a manifest of an index: .*" + fault):
        read_index(folder)
    path.write_text("[")
    with pytest.raises(ValueError, match="index.json is not valid JSON"):
        read_index(folder)
    path.write_text("[]")
    with pytest.raises(ValueError, match="index.json is not a manifest"):
        read_index(folder)


def rewrite(folder: Path, rows: int, **more: int) -> None:
    """Make the manifest count other images."""
    path = folder / "index.json"
    manifest = json.loads(path.read_text())
    manifest["tables"]["photos"] |= {"rows": rows, **more}
    path.write_text(json.dumps(manifest))


def as_of_before(folder: Path) -> None:
    """Take the checksums out of the manifest: an index as it was written before there were any."""
    path = folder / "index.json"
    manifest = json.loads(path.read_text())
    for name, counts in manifest["tables"].items():
        manifest["tables"][name] = {"rows": counts["rows"], "bytes": counts["bytes"]}
    path.write_text(json.dumps(manifest))


@pytest.mark.parametrize("name", ["photos.npy", "texts.npy", "photos.jsonl", "texts.jsonl"])
def test_a_changed_byte_is_refused(folder: Path, name: str) -> None:
    content = (folder / name).read_bytes()
    for place in (len(content) - 1, len(content) - 3, len(content) - 7):
        damaged = bytearray(content)
        damaged[place] ^= 2
        (folder / name).write_bytes(damaged)
        with pytest.raises(ValueError, match=rf"{name} (was damaged after it was written|holds . entries, not)"):
            read_index(folder)
        with pytest.raises(ValueError, match=name):
            opened(folder)
    (folder / name).write_bytes(content + b"what is not counted yet may be anything")
    assert len(read_index(folder)[1]["photos"]) == 3


@pytest.mark.parametrize("name", ["photos.npy", "photos.jsonl"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.55, 0.9, 0.99])
def test_what_is_left_of_a_file_that_was_cut_short_is_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, share: float
) -> None:
    for module in ("checksums", "index_files"):
        monkeypatch.setattr(f"training.search.{module}.BLOCK_ROWS", 4)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for folder in (whole, cut):
        fill(folder)
    content = (cut / name).read_bytes()
    (cut / name).write_bytes(content[: round(share * len(content))])
    with pytest.raises(ValueError, match=name):
        read_index(cut)
    with pytest.warns(UserWarning, match=rf"{name} was cut short: (2|6|10) of 10 images are indexed again"):
        fill(cut)
    for path in whole.glob("[!.]*"):
        assert path.read_bytes() == (cut / path.name).read_bytes(), path.name


def test_a_cut_through_what_is_not_counted_yet_costs_nothing_that_is(folder: Path) -> None:
    manifest = (folder / "index.json").read_bytes()
    with opened(folder) as writer:
        writer.append("photos", vectors(3, 4), images(3, 4))
    (folder / "index.json").write_bytes(manifest)  # as a kill leaves it between the files and the manifest
    content = (folder / "photos.npy").read_bytes()
    (folder / "photos.npy").write_bytes(content[:-3])  # its header still tells of five vectors
    opened(folder).close()
    assert (np.load(folder / "photos.npy") == vectors(0, 1, 2).astype(np.float16)).all()
    assert list(read_index(folder)[1]["photos"].entries) == images(0, 1, 2)


def test_an_index_of_before_is_continued_with_checksums(folder: Path) -> None:
    as_of_before(folder)
    with opened(folder) as writer:
        writer.append("photos", vectors(3), images(3))
    counts = read_index(folder)[0]["tables"]["photos"]
    crcs = [vectors(0, 1, 2, 3).astype(np.float16).tobytes(), (folder / "photos.jsonl").read_bytes()]
    assert counts["blocks"] == [[zlib.crc32(content) for content in crcs]]


def test_vectors_that_are_no_numbers_are_refused_without_checksums_too(folder: Path) -> None:
    as_of_before(folder)
    array = np.load(folder / "photos.npy")
    array[1, 2] = np.nan
    np.save(folder / "photos.npy", array)
    with pytest.raises(ValueError, match=r"photos.npy holds vectors that are NaN or infinite; copy the index again"):
        read_index(folder)


def test_broken_vectors(folder: Path) -> None:
    path, whole = folder / "photos.npy", (folder / "photos.npy").read_bytes()
    path.write_bytes(whole[:-3])
    with pytest.raises(ValueError, match=r"photos.npy cannot be read .*; copy the index again, or delete its folder"):
        read_index(folder)
    for content in (b"", b"\x93NUMPY\x01\x00", b"no numbers at all", whole[:40]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="photos.npy cannot be read"):
            read_index(folder)
    path.unlink()
    with pytest.raises(ValueError, match="photos.npy cannot be read"):
        read_index(folder)
    for array in (
        np.zeros((3, 4)),
        np.zeros(3, np.float16),
        np.zeros((3, 0), np.float16),
        np.zeros((2, 4), np.float16),
    ):
        np.save(path, array)
        with pytest.raises(ValueError, match=r"photos.npy (holds|cannot be read)"):
            read_index(folder)
    np.save(path, np.asfortranarray(np.zeros((3, 4), np.float16)))
    with pytest.raises(ValueError, match="photos.npy holds"):
        read_index(folder)


def test_pickles_are_never_loaded(folder: Path, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return os.mkdir, (str(tmp_path / "was-run"),)

    np.save(folder / "photos.npy", np.array([[Evil()]] * 3), allow_pickle=True)
    with pytest.raises(ValueError, match="photos.npy cannot be read"):
        read_index(folder)
    assert not (tmp_path / "was-run").exists()


def test_hostile_sizes_take_no_memory(folder: Path) -> None:
    rewrite(folder, 10**15)
    with pytest.raises(ValueError, match="holds float16 of shape .3, 4., not 1000000000000000 vectors"):
        read_index(folder)
    with open(folder / "photos.npy", "r+b") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f2", "fortran_order": False, "shape": (10**15, 4)})
    with pytest.raises(ValueError, match="photos.npy cannot be read"):
        read_index(folder)


def test_entries_of_another_number(folder: Path) -> None:
    whole = (folder / "photos.jsonl").read_bytes()
    for content in (b"", whole[:-1], whole[:-5], whole + b"{}\n", whole + b"{"):
        (folder / "photos.jsonl").write_bytes(content)
        rewrite(folder, 3, bytes=10**6)
        with pytest.raises(ValueError, match="photos.jsonl holds . entries, not 3: copy the index again, or delete"):
            read_index(folder)
    (folder / "photos.jsonl").unlink()
    with pytest.raises(ValueError, match="cannot read .*photos.jsonl .No such file"):
        read_index(folder)


@pytest.mark.parametrize("line", [b"{}", b'{"id": 1}', b"[2]", b"{", b"\xff", b"[" * 99999, b""])
def test_broken_entries_are_met_where_they_are_read(folder: Path, line: bytes) -> None:
    as_of_before(folder)
    lines = (folder / "photos.jsonl").read_bytes().splitlines()
    (folder / "photos.jsonl").write_bytes(b"\n".join([lines[0], line, lines[2]]) + b"\n")
    rewrite(folder, 3, bytes=10**6)
    entries = read_index(folder)[1]["photos"].entries
    assert entries[0] == images(0)[0] and entries[-1] == images(2)[0] and entries[2:] == images(2)
    with pytest.raises(ValueError, match="photos.jsonl, line 2 is not an entry with 'id': copy the index again"):
        list(entries)
    with pytest.raises(ValueError, match="line 2 is not an entry"):
        opened(folder)
    with pytest.raises(IndexError):
        entries[3]


def test_places_move_together(tmp_path: Path) -> None:
    place = relative_place(tmp_path / "photos", tmp_path / "some" / "index")
    assert place == "../../photos"
    assert resolved_place(place, tmp_path / "some" / "index") == tmp_path / "photos"
