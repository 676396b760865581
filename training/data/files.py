"""What every reader of official formats needs: JSON, lines, tables and image folders, with errors that name the file.

    file --read_json | read_lines | read_table--> records --column--> one list per field
    names + folder --image_paths--> the path of each image, or None where it is missing
    content --write_json | write_atomically--> a file that is either whole or not there

Whether an image exists is asked of one directory listing per folder, so 120,000 images take a fraction of a second.
"""

import inspect
import json
import os
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from training.data.csv_rows import TEXT_COLUMNS, csv_rows

PathLike = str | os.PathLike[str]
LISTED = 5  # names in a message
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif"}
Formats = Mapping[str, Callable[..., Any]]  # name of a format -> its reader


def format_reader(
    formats: Mapping[str, Callable[..., Any]], format: str, options: Iterable[str], *, kind: str
) -> Callable[..., Any]:
    """The function of a format, fit for keyword `options` of those names.

    A reader that reads others in turn has a parameter `formats`, which becomes these; it and what the dict binds by a
    `partial` are no options. Raises `ValueError` for an unknown format (`kind` says of what), and for options that are
    unknown or lacking.
    """
    if format not in formats:
        raise ValueError(f"unknown {kind} format {format!r}; choose one of {', '.join(formats)}")
    reader = formats[format]
    bound = {"formats", *getattr(reader, "keywords", ())}
    signature = inspect.signature(reader).parameters
    parameters = [p for p in signature.values() if p.name not in bound]
    allowed = [p.name for p in parameters]
    required = [p.name for p in parameters if p.default is p.empty]
    unknown, absent = sorted(set(options) - set(allowed)), sorted(set(required) - set(options))
    if unknown or absent:
        fault = f"does not take {', '.join(unknown)}" if unknown else f"needs {', '.join(absent)}"
        raise ValueError(f"the {kind} format {format!r} {fault}; its options are {', '.join(allowed)}")
    return partial(reader, formats=formats) if "formats" in signature else reader


def read_text(path: PathLike) -> str:
    """The file's text (UTF-8, with or without a byte order mark); ValueError where it is absent or not text."""
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8") from error


def read_json(path: PathLike) -> Any:
    """The JSON in a file; ValueError naming file, line and reason where it is broken."""
    text = read_text(path)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not valid JSON (line {error.lineno}: {error.msg}); is it cut short?") from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, or ever so many brackets
        raise ValueError(f"{path} is not valid JSON ({error})") from error


def read_lines(path: PathLike) -> list[str]:
    """The lines that hold something, without surrounding blanks; only a newline ends a line, U+2028 does not."""
    return [line.strip() for line in read_text(path).split("\n") if line.strip()]


def read_table(path: PathLike, *, text_columns: Collection[str] = TEXT_COLUMNS) -> list[dict[str, Any]]:
    """The rows of a JSONL table, or of a CSV or TSV table with a header, as `csv_rows` takes it."""
    if Path(path).suffix == ".jsonl":
        return read_json_lines(path)
    rows = csv_rows(read_text(path), path, text_columns=text_columns)
    if not rows:
        raise ValueError(f"{path} holds no row")
    return rows


def read_json_lines(path: PathLike) -> list[dict[str, Any]]:
    """The JSON objects of a file with one a line, whatever its name; ValueError naming the line that is none."""
    rows = [_json_row(line, number, path) for number, line in enumerate(read_lines(path), start=1)]
    if not rows:
        raise ValueError(f"{path} holds no row")
    return rows


def write_json(path: PathLike, content: Any, *, indent: int | None = 1) -> None:
    """Write JSON into a file that is either whole or not there; folders on the way are made."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_atomically(Path(path), (json.dumps(content, indent=indent, ensure_ascii=False) + "\n").encode())


def write_atomically(path: Path, content: Any) -> None:
    """Writes bytes (or a buffer) so that `path` holds either what it held or all of the new content."""
    partial = path.with_name(f".{path.name}.partial")
    with open(partial, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def records(content: Any, key: str, path: PathLike) -> list[dict[str, Any]]:
    """The list of records under `key` of a JSON object; ValueError naming what was found instead."""
    found = content.get(key) if isinstance(content, dict) else None
    if not isinstance(found, list):
        layout = f"the keys {', '.join(map(str, content))}" if isinstance(content, dict) else type(content).__name__
        raise ValueError(f"{path} has no list {key!r}, it holds {layout}; is it the file of another format?")
    strange = next((i for i, record in enumerate(found) if not isinstance(record, dict)), None)
    if strange is not None:
        raise ValueError(f"{path}: record {strange} of {key!r} is no object: {str(found[strange])[:120]}")
    return found


def column(rows: Sequence[dict[str, Any]], key: str, path: PathLike) -> list[Any]:
    """One field of every record; ValueError naming the first record that lacks it (or holds None, as a short row)."""
    values = [row.get(key) for row in rows]
    if None in values:
        lacking = values.index(None)
        raise ValueError(f"{path}: record {lacking} has no {key!r}: {str(rows[lacking])[:120]}")
    return values


def text_column(rows: Sequence[dict[str, Any]], key: str, path: PathLike) -> list[str]:
    """`column` of texts; ValueError naming the first value that is none."""
    return _column_of(rows, key, path, kind=str, words="text")


def list_column(rows: Sequence[dict[str, Any]], key: str, path: PathLike) -> list[list[Any]]:
    """`column` of lists; ValueError naming the first value that is none."""
    return _column_of(rows, key, path, kind=list, words="a list")


def id_text(value: Any) -> str:
    """An id as text: `1.0`, as a column of numbers with a gap writes 1, is `1`, so that it meets the id elsewhere.

    What no UTF-8 file can hold, half of a surrogate pair, is written as `\\ud800`.

    >>> id_text(391895), id_text(391895.0), id_text("391895.0"), id_text("a.0")
    ('391895', '391895', '391895.0', 'a.0')
    """
    text = str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
    return text.encode("utf-8", "backslashreplace").decode()


def all_texts(values: Iterable[Any]) -> bool:
    """Whether all values are text that a UTF-8 file can hold, which half of a surrogate pair is not."""
    try:
        "".join(values).encode()
    except (TypeError, UnicodeEncodeError):
        return False
    return True


def image_paths(names: Sequence[str], folder: PathLike) -> list[str | None]:
    """The path of each image in `folder`, None (and one warning naming up to five) where it is missing.

    Args:
        names: paths relative to `folder`; an image not found there is also looked for by its bare file name.

    Raises:
        ValueError: where the folder is absent or empty, a name leads out of it, or every image is missing.
    """
    root = os.path.abspath(folder)
    if not os.path.isdir(root):
        raise ValueError(f"there is no image folder {folder}")
    paths = [os.path.normpath(os.path.join(root, name)) for name in names]
    prefix = os.path.join(root, "")
    outside = next((name for name, path in zip(names, paths, strict=True) if not path.startswith(prefix)), None)
    if outside is not None:
        raise ValueError(f"the image name {outside!r} leads out of {folder}; write names relative to that folder")
    present = {path for place in {root, *map(os.path.dirname, paths)} for path in _files_in(place)}
    if not present:
        raise ValueError(f"the image folder {folder} holds no file")
    bare = [os.path.join(root, os.path.basename(path)) for path in paths]
    found = [
        path if path in present else fallback if fallback in present else None
        for path, fallback in zip(paths, bare, strict=True)
    ]
    _report_missing([name for name, path in zip(names, found, strict=True) if path is None], len(names), folder)
    return found


def check_image_names(rows: Any, column: str, *, cure: str) -> None:
    """Raises `ValueError` where a data set's column of text names images outside the working folder.

    A data set from elsewhere must not choose which of this computer's files are read. Addresses on the web pass, and so
    does a column of images, whose paths the loader of the data set made.
    """
    if type(rows.features[column]).__name__ == "Image":
        return
    for batch in rows.select_columns([column]).iter(batch_size=10_000):
        odd = next((name for name in batch[column] if isinstance(name, str) and leads_out(name)), None)
        if odd is not None:
            raise ValueError(f"the image name {odd!r} in the column {column} leads out of the working folder; {cure}")


def listed(names: Collection[Any], count: int | None = None) -> str:
    """The first five names, and dots where there are more (`count` of them, by default as many as are given).

    >>> listed([3, 5]), listed(range(7))
    ('3, 5', '0, 1, 2, 3, 4, ...')
    """
    dots = ", ..." if (len(names) if count is None else count) > LISTED else ""
    return ", ".join(map(str, islice(names, LISTED))) + dots


def leads_out(name: str) -> bool:
    """Whether an image's name can be another place than one below the folder that it is taken in.

    >>> [leads_out(name) for name in ("a/b.jpg", "/etc/b.jpg", "a/../../b.jpg", r"C:\\b.jpg", "https://c.org/b.jpg")]
    [False, True, True, True, False]
    """
    if name.lower().startswith(("http://", "https://")):
        return False
    paths = (PurePosixPath(name), PureWindowsPath(name))
    return any(path.is_absolute() or path.drive or path.root or ".." in path.parts for path in paths)


def _column_of(rows: Sequence[dict[str, Any]], key: str, path: PathLike, *, kind: type, words: str) -> list[Any]:
    values = column(rows, key, path)
    strange = next((row for row, value in enumerate(values) if not isinstance(value, kind)), None)
    if strange is not None:
        raise ValueError(f"{path}: the {key} of record {strange} is {values[strange]!r:.60}, not {words}")
    return values


def _report_missing(missing: Sequence[str], total: int, folder: PathLike) -> None:
    if not missing:
        return
    if len(missing) == total:
        raise ValueError(
            f"none of the {total} images is in {folder} (looked for {listed(missing)}); is it the right folder?"
        )
    warnings.warn(
        f"{len(missing)} of {total} images are not in {folder} and are left out: {listed(missing)}", stacklevel=2
    )


def _files_in(place: str) -> list[str]:
    if not os.path.isdir(place):
        return []
    with os.scandir(place) as entries:
        return [entry.path for entry in entries if not entry.is_dir()]


def _json_row(line: str, number: int, path: PathLike) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}, line {number} is not valid JSON ({str(error)[:80]})") from error
    if not isinstance(row, dict):
        raise ValueError(f'{path}, line {number}: expected an object such as {{"file_name": ...}}, found {line[:60]}')
    return row
