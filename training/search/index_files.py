"""An index of images and texts on disk: vectors in `.npy`, their images and texts in `.jsonl`, and a manifest.

    vectors + entries --IndexWriter.append--> folder --read_index--> tables "photos" and "texts", memory-mapped

    index.json     the model's fingerprint, the folder of the images or regions, and the length of the files below
    photos.npy     (N, E) float16 or float32, one vector of length 1 per image
    photos.jsonl   one line per image: {"id": "dog.jpg", "path": "dog.jpg", "mark": 812}, with the mark of
                   `image_marks.py`, absent if unknown
    texts.npy, texts.jsonl    the same for texts: {"text": "a dog", "photo": "dog.jpg"}

The files only grow. Rows that the manifest does not count are ignored, so a kill at any moment leaves the counted rows,
and the next writer removes the rest. The manifest has checksums of the counted rows (`checksums.py`), verified at every
opening: 0.8 s per GB. A writer keeps the undamaged start of files that were cut short. Nothing is unpickled.
"""

import json
import os
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import Any, BinaryIO, Literal

import numpy as np

from training.console import one_line
from training.data.files import PathLike, read_json, write_json
from training.regions.shards import fingerprint_differences, lock_writer
from training.search.checksums import BLOCK_ROWS, Block, BlockChecksums, blocks_of, first_damaged

FORMAT = "updown-index-1"
MANIFEST = "index.json"
TABLES = {"photos": "id", "texts": "text"}  # table -> the key that each of its entries must have
NOTHING = {"rows": 0, "bytes": 0}
DTYPES = ("float16", "float32")
PLACES = ("model", "photo_folder", "region_store")
CURE = "copy the index again, or delete its folder and index again"
CHECKED_ROWS = 2**16  # vectors that are checked at a time
# Raised by numpy for a damaged header, which it parses as Python literals.
NPY_FAULTS = (
    *(OSError, ValueError, EOFError, SyntaxError, TokenError, TypeError, ArithmeticError, RecursionError),
    IndexError,
)
COMMIT_SECONDS = 5.0  # seconds of work that a kill may lose


@dataclass
class EmbeddingTable:
    """N vectors of length 1, `embeddings` (N, E), which may be memory-mapped, and the `entries` (N) of their items."""

    embeddings: np.ndarray
    entries: Sequence[dict[str, Any]]

    def __len__(self) -> int:
        return len(self.entries)


class EntryLines(Sequence[dict[str, Any]]):
    """The entries of a table, each parsed on access, so that they take no more memory than their text.

    Raises `ValueError` for content of another number of lines and, on access, for a line that is not an entry with
    `key`.
    """

    def __init__(self, path: Path, content: bytes, *, rows: int, key: str) -> None:
        self.content, self.starts = content, line_starts(content)
        if len(self) != rows or len(content) != self.starts[-1]:
            raise ValueError(
                f"{path} holds {len(self)} entries, not {rows}: copy the index again, or delete it and index again"
            )
        self._path, self._key = path, key

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, row: Any) -> Any:
        if isinstance(row, slice):
            return [self[place] for place in range(*row.indices(len(self)))]
        row = range(len(self))[row]  # also from the end; IndexError beyond it
        try:
            entry = json.loads(self.content[self.starts[row] : self.starts[row + 1]])
        except (ValueError, RecursionError):
            entry = None
        if not isinstance(entry, dict) or not isinstance(entry.get(self._key), str):
            raise ValueError(f"{self._path}, line {row + 1} is not an entry with {self._key!r}: copy the index again")
        return entry


class IndexWriter:
    """Adds vectors to an index; opening an existing one continues it.

    Args:
        folder: created if absent; must be empty or an index.
        fingerprint: as JSON values: `model` of the model, `regions` of its region source.
        places: `model`, `image_folder` and `region_store`, as `relative_place` writes them; None if there is none.
        dtype: `float16`, or `float32` for twice the space.
        commit_seconds: seconds after which `append` commits.

    Attributes:
        entries: the entries of the index by table.

    Raises:
        ValueError: for a folder with other files, or an index of another model, dtype or image folder.
        OSError: while another process writes into the folder.
    """

    def __init__(
        self,
        folder: PathLike,
        *,
        fingerprint: Mapping[str, Any],
        places: Mapping[str, str | None],
        dtype: str = "float16",
        commit_seconds: float = COMMIT_SECONDS,
    ) -> None:
        self.folder, self.commit_seconds = Path(folder), commit_seconds
        self._committed_at = time.monotonic()
        about = {"fingerprint": json.loads(json.dumps(dict(fingerprint))), **{name: places[name] for name in PLACES}}
        new = {"format": FORMAT, **about, "dtype": dtype, "tables": dict.fromkeys(TABLES, NOTHING)}
        _check_folder_is_free(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = _lock(self.folder)
        self._tables: dict[str, _TableWriter] = {}
        try:
            self.manifest = self._continued(new) if (self.folder / MANIFEST).exists() else new
            tables = {name: _left_of_table(self.folder, name, self.manifest) for name in TABLES}
            self.manifest = {**self.manifest, "tables": tables}
            found = {name: _open_table(self.folder, name, self.manifest) for name in TABLES}
            self.entries = {name: list(table.entries) if table else [] for name, table in found.items()}
            self._tables = {
                name: _TableWriter(self.folder, name, manifest=self.manifest, blocks=_blocks(found[name]))
                for name in TABLES
            }
            self.commit()
        except BaseException:
            self._close()
            raise

    def __enter__(self) -> "IndexWriter":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def append(self, table: str, embeddings: np.ndarray, entries: Sequence[Mapping[str, Any]]) -> None:
        """Adds vectors (n, E) of length 1 and their entries to the table `photos` or `texts`; on an error, none.

        Raises `ValueError` for a vector that holds NaN or infinity, naming its entry, and for another width.
        """
        key = TABLES[table]
        bad = np.flatnonzero(~np.isfinite(embeddings).all(axis=1))
        if len(bad):
            raise ValueError(f"{entries[bad[0]][key]!r} has a vector that holds NaN or infinity; it is not indexed")
        widths = {writer.width for writer in self._tables.values() if writer.width} | {embeddings.shape[1]}
        if len(widths) > 1 or len(embeddings) != len(entries):
            raise ValueError(
                f"vectors {embeddings.shape} and {len(entries)} entries do not fit an index of width {min(widths)}"
            )
        self._tables[table].append(embeddings, entries)
        self.entries[table] += [dict(entry) for entry in entries]
        if time.monotonic() - self._committed_at >= self.commit_seconds:
            self.commit()

    def commit(self) -> None:
        """Writes the appended rows to the disk, so that a kill does not lose them."""
        tables = {name: table.flush() for name, table in self._tables.items()}
        self.manifest = {**self.manifest, "tables": tables}
        write_json(self.folder / MANIFEST, self.manifest)
        self._committed_at = time.monotonic()

    def close(self) -> None:
        """Commits and releases the folder's lock."""
        try:
            self.commit()
        finally:
            self._close()

    def _close(self) -> None:
        for table in self._tables.values():
            table.close()
        self._lock.close()

    def _continued(self, new: Mapping[str, Any]) -> dict[str, Any]:
        stored = read_manifest(self.folder)
        check_fingerprint(stored["fingerprint"], new["fingerprint"], folder=self.folder)
        for name in ("photo_folder", "region_store", "dtype"):
            if stored[name] != new[name]:
                raise ValueError(
                    f"the index {self.folder} was made with {name} {stored[name]}, not {new[name]}: give it another "
                    "folder, or index the same images again"
                )
        return {**stored, "model": new["model"]}


class _TableWriter:
    """The two growing files of one table; `flush` writes them to the disk and returns their lengths."""

    def __init__(self, folder: Path, name: str, *, manifest: Mapping[str, Any], blocks: Sequence[Block]) -> None:
        known = manifest["tables"][name]
        self.checksums = BlockChecksums(blocks, rows=known["rows"])
        self.dtype = np.dtype(manifest["dtype"])
        self.rows, self.bytes = known["rows"], known["bytes"]
        self._paths = [folder / f"{name}{end}" for end in (".npy", ".jsonl")]
        self._files: list[BinaryIO] = []
        self.width = 0
        if self.rows:
            _, self.width, start = _layout(self._paths[0])
            self._files = [_opened(path, "r+b") for path in self._paths]
            self._write_header()  # before truncating: a kill in between leaves a header that counts no missing rows
            row_bytes = self.width * self.dtype.itemsize
            for file, length in zip(self._files, (start + self.rows * row_bytes, self.bytes), strict=True):
                file.truncate(length)
                file.seek(0, os.SEEK_END)

    def append(self, embeddings: np.ndarray, entries: Sequence[Mapping[str, Any]]) -> None:
        """Adds n >= 0 vectors and their entries."""
        if not self._files:
            self.width = embeddings.shape[1]
            self._files = [_opened(path, "w+b") for path in self._paths]
            self._write_header()
        numbers = np.ascontiguousarray(embeddings, dtype=self.dtype)
        lines = [(json.dumps(entry, ensure_ascii=False) + "\n").encode() for entry in entries]
        for file, content in zip(self._files, (numbers.tobytes(), b"".join(lines)), strict=True):
            file.write(content)
        self.checksums.add(numbers, lines)
        self.rows, self.bytes = self.rows + len(entries), self.bytes + sum(map(len, lines))

    def flush(self) -> dict[str, Any]:
        """Writes vectors, header and entries to the disk."""
        for file in self._files:
            file.flush()
            os.fsync(file.fileno())
        if self._files:
            self._write_header()
            self._files[0].flush()
        return {"rows": self.rows, "bytes": self.bytes, "blocks": self.checksums.blocks}

    def close(self) -> None:
        for file in self._files:
            file.close()

    def _write_header(self) -> None:
        _write_header(self._files[0], rows=self.rows, width=self.width, dtype=self.dtype)


def read_index(folder: PathLike) -> tuple[dict[str, Any], dict[str, EmbeddingTable]]:
    """The manifest of an index, and its tables by name; empty ones are left out.

    Rows added later are visible after reading again. Raises `ValueError` for a folder that is not an index, or whose
    files are absent, cut short, foreign or damaged.
    """
    manifest = read_manifest(Path(folder))
    tables = {name: _open_table(Path(folder), name, manifest) for name in TABLES}
    return manifest, {name: table for name, table in tables.items() if table is not None}


def read_manifest(folder: Path) -> dict[str, Any]:
    """`index.json`, checked; raises `ValueError` naming the fault."""
    path = folder / MANIFEST
    if not path.is_file():
        raise ValueError(f"{folder} is not an index (it has no {MANIFEST}): make one with `updown index IMAGES`")
    manifest = read_json(path)
    try:
        if manifest["format"] != FORMAT:
            raise ValueError(f"its format is {str(manifest['format'])[:40]!r}, not {FORMAT!r}")
        if not isinstance(manifest["fingerprint"], dict) or manifest["dtype"] not in DTYPES:
            raise ValueError("its fingerprint or dtype is not valid")
        if not all(isinstance(manifest[name], str | None) for name in PLACES):
            raise ValueError(f"one of {', '.join(PLACES)} is not a path")
        counts = [manifest["tables"][name][count] for name in TABLES for count in ("rows", "bytes")]
        if not all(type(count) is int and count >= 0 for count in counts):
            raise ValueError("its numbers of rows or bytes are not valid")
        blocks = [manifest["tables"][name].get("blocks", []) for name in TABLES]  # absent in older indexes
        if not all(isinstance(part, list) for part in blocks):
            raise ValueError("its checksums are not lists")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not a manifest of an index: {str(error)[:200]}") from error
    return manifest


def check_fingerprint(stored: Mapping[str, Any], expected: Mapping[str, Any], *, folder: PathLike) -> None:
    """Raises `ValueError` if an index was made by another model or region source, comparing the `expected` fields."""
    for part, kind in (("model", "model"), ("regions", "region source")):
        differences = fingerprint_differences(stored.get(part) or {}, expected.get(part) or {})
        if differences:
            raise ValueError(
                f"the index {folder} was made with another {kind} ({'; '.join(differences)}): use that one, or index "
                "the images again with this one"
            )


def known_mark(entry: Mapping[str, Any]) -> int:
    """The mark of an indexed image's content, 0 if it is not known."""
    mark = entry.get("mark")
    return mark if type(mark) is int else 0


def line_starts(content: bytes) -> np.ndarray:
    """(N + 1,) the start of each of N lines, and the end of the last; bytes without a line end are ignored.

    >>> line_starts(b"a\\nbc\\nd").tolist()
    [0, 2, 5]
    """
    ends = np.flatnonzero(np.frombuffer(content, dtype=np.uint8) == ord("\n")) + 1
    return np.concatenate([np.zeros(1, dtype=ends.dtype), ends])


def relative_place(place: PathLike, folder: PathLike) -> str:
    """A path relative to the index's folder, so that both may be moved together; absolute if on another drive."""
    try:
        return Path(os.path.relpath(place, folder)).as_posix()
    except ValueError:  # another drive of Windows
        return Path(place).resolve().as_posix()


def resolved_place(place: str, folder: PathLike) -> Path:
    """The inverse of `relative_place`."""
    return Path(os.path.normpath(Path(folder) / place))


def _open_table(folder: Path, name: str, manifest: Mapping[str, Any]) -> EmbeddingTable | None:
    known = manifest["tables"][name]
    if not known["rows"]:
        return None
    path = folder / f"{name}.npy"
    try:
        embeddings = np.load(path, mmap_mode="r", allow_pickle=False)
        fits = embeddings.ndim == 2 and embeddings.dtype == manifest["dtype"] and embeddings.flags.c_contiguous
    except NPY_FAULTS as error:
        raise ValueError(f"{path} cannot be read ({one_line(error, limit=120)}); {CURE}") from error
    if not fits or len(embeddings) < known["rows"] or not embeddings.shape[1]:
        raise ValueError(
            f"{path} holds {embeddings.dtype} of shape {embeddings.shape}, not {known['rows']} vectors of "
            f"{manifest['dtype']}; {CURE}"
        )
    lines = _entry_lines(folder / f"{name}.jsonl", known, key=TABLES[name])
    table = EmbeddingTable(embeddings[: known["rows"]], lines)
    _check_content(folder, name, table, known)
    return table


def _blocks(table: EmbeddingTable | None) -> list[Block]:
    """The checksums of a table on the disk."""
    if table is None:
        return []
    assert isinstance(table.entries, EntryLines)
    return blocks_of(table.embeddings, table.entries.content, table.entries.starts)


def _check_content(folder: Path, name: str, table: EmbeddingTable, known: Mapping[str, Any]) -> None:
    """Raises `ValueError` if a table's checksums differ or, in an index without checksums, it holds NaN or infinity."""
    if "blocks" not in known:
        for start in range(0, len(table), CHECKED_ROWS):
            if not np.isfinite(table.embeddings[start : start + CHECKED_ROWS]).all():
                raise ValueError(f"{folder / name}.npy holds vectors that are NaN or infinite; {CURE}")
        return
    found = _blocks(table)
    damaged = first_damaged(found, known["blocks"])
    if damaged is not None:
        written = known["blocks"][damaged] if damaged < len(known["blocks"]) else None
        ending = ".jsonl" if written and written[:1] == found[damaged : damaged + 1][0][:1] else ".npy"
        raise ValueError(
            f"{folder / name}{ending} was damaged after it was written (the checksum of its rows from "
            f"{damaged * BLOCK_ROWS} differs); {CURE}"
        )


def _left_of_table(folder: Path, name: str, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest's entry of a table or, if a file was cut short, an entry of the blocks before the cut, with a
    warning.
    """
    known = manifest["tables"][name]
    paths = [folder / f"{name}{end}" for end in (".npy", ".jsonl")]
    if not known["rows"] or "blocks" not in known or not all(path.is_file() for path in paths):
        return known
    try:
        header_rows, width, start = _layout(paths[0])
    except NPY_FAULTS:
        header_rows, width, start = 0, 1, paths[0].stat().st_size  # nothing is left of it
    row_bytes = width * np.dtype(manifest["dtype"]).itemsize
    if not row_bytes:
        return known  # `_open_table` raises
    lengths = [path.stat().st_size for path in paths]
    if lengths[0] >= start + known["rows"] * row_bytes and lengths[1] >= known["bytes"]:
        if lengths[0] < start + header_rows * row_bytes:  # cut short after the counted rows
            _cut(paths[0], rows=known["rows"], width=width, dtype=np.dtype(manifest["dtype"]), start=start)
        return known
    with open(paths[1], "rb") as file:
        content = file.read(known["bytes"])
    starts = line_starts(content)
    rows = min((lengths[0] - start) // row_bytes, len(starts) - 1) // BLOCK_ROWS * BLOCK_ROWS
    with open(paths[0], "rb") as file:
        file.seek(start)
        vectors = np.frombuffer(file.read(rows * row_bytes), dtype=manifest["dtype"]).reshape(rows, width)
    damaged = first_damaged(blocks_of(vectors, content, starts), known["blocks"])
    rows = (len(known["blocks"]) if damaged is None else damaged) * BLOCK_ROWS
    warnings.warn(
        f"{folder / name}{'.npy' if lengths[1] >= known['bytes'] else '.jsonl'} was cut short: "
        f"{known['rows'] - rows} of {known['rows']} {name.replace('photos', 'images')} are indexed again",
        stacklevel=2,
    )
    if rows:
        _cut(paths[0], rows=rows, width=width, dtype=np.dtype(manifest["dtype"]), start=start)
    return {"rows": rows, "bytes": int(starts[rows]), "blocks": known["blocks"][: rows // BLOCK_ROWS]}


def _cut(path: Path, *, rows: int, width: int, dtype: np.dtype, start: int) -> None:
    """Truncate an `.npy` file to its first rows."""
    with open(path, "r+b") as file:
        _write_header(file, rows=rows, width=width, dtype=dtype)
        file.truncate(start + rows * width * dtype.itemsize)


def _write_header(file: BinaryIO, *, rows: int, width: int, dtype: np.dtype) -> None:
    """Write the header, whose length does not change, since numpy pads it for a growing number of rows."""
    described = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False}
    file.seek(0)
    np.lib.format.write_array_header_1_0(file, {**described, "shape": (rows, width)})
    file.seek(0, os.SEEK_END)


def _entry_lines(path: Path, known: Mapping[str, int], *, key: str) -> EntryLines:
    try:
        with open(path, "rb") as file:
            return EntryLines(path, file.read(known["bytes"]), rows=known["rows"], key=key)
    except OSError as error:
        raise ValueError(f"cannot read {path} ({error.strerror}); copy the index again") from error


def _layout(path: Path) -> tuple[int, int, int]:
    """The number of vectors, their width, and the byte where they start, from the header of an `.npy` file."""
    with open(path, "rb") as file:
        np.lib.format.read_magic(file)
        shape, _, _ = np.lib.format.read_array_header_1_0(file)
        return shape[0], shape[1], file.tell()


def _opened(path: Path, mode: Literal["r+b", "w+b"]) -> BinaryIO:
    return open(path, mode)


def _lock(folder: Path) -> BinaryIO:
    try:
        return lock_writer(folder, 0)
    except RuntimeError as error:
        raise OSError(f"another `updown index` writes into {folder}: wait for it to end") from error


def _check_folder_is_free(folder: Path) -> None:
    ours = {MANIFEST, *(f"{name}{end}" for name in TABLES for end in (".npy", ".jsonl"))}
    names = {path.name for path in folder.iterdir() if not path.name.startswith(".")} if folder.is_dir() else set()
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file: give a folder for the index")
    if names - ours:
        raise ValueError(f"{folder} holds other files ({min(names - ours)}); give an empty folder or an index")
