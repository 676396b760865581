"""Files of (image, caption) pairs as they are published, block by block: the text of a block is all that is in memory.

    .tsv | .jsonl | .json | .parquet | two .txt --pair_chunks--> Pairs: captions, urls, names of some rows

CC3M (Sharma et al. 2018): `caption<TAB>url`. CC12M (Changpinyo et al. 2021): `url<TAB>caption`. Both have no header.
SBU (Ordonez et al. 2011): two text files that match line by line, or one JSON object of lists. LAION (Schuhmann et al.
2021) and what img2dataset leaves behind: JSONL and Parquet. ALBEF and BLIP (Li et al. 2021, 2022): a JSON list.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from training.data.files import PathLike
from training.data.json_stream import stream_members, stream_records

BLOCK_BYTES = 2**24  # also the longest line
ROWS_A_CHUNK = 50_000
LONGEST_BLANK = 4096  # characters before the first sign of a JSON file
# Our name of each column, and the names it goes by.
USUAL_COLUMNS = {
    "caption": ("caption", "captions", "TEXT", "text"),
    "url": ("url", "URL", "image_url", "image_urls", "img_url"),
    "name": ("file_name", "filename", "image", "image_path", "key", "name"),
}
Columns = Mapping[str, str | int]


@dataclass(frozen=True)
class Pairs:
    """Some rows of a file that follow each other; what is null or "" is a hole.

    `captions`, `urls`, `names` (N,) large_string; `urls` and `names` are None where the file has none.
    """

    captions: pa.Array
    urls: pa.Array | None
    names: pa.Array | None


def pair_chunks(path: PathLike, *, columns: Columns, captions: PathLike | None = None) -> Iterator[Pairs]:
    """The rows of a file in their order, a chunk at a time; every line, record or row is one row.

    Args:
        path: ends in .tsv, .jsonl, .json, .parquet or .txt.
        columns: their name of any of `USUAL_COLUMNS`, where it is not a usual one; in a .tsv also its number, from 0.
        captions: the second file of a .txt: the caption of the image whose url stands in the same line of `path`.

    Raises:
        ValueError: naming file and line (or record), for what is broken: another number of columns, no JSON, a value
            that is no text, no UTF-8, files of unlike length; and for a column that is not there.
    """
    ending = Path(path).suffix.lower()
    if ending == ".txt":
        return _text_pairs(path, captions)
    if ending not in READERS:
        raise ValueError(
            f"{path} is no file of pairs: it should end in {', '.join(READERS)} or .txt (a .csv is read by the format "
            "'folder')"
        )
    if captions is not None:
        raise ValueError(f"captions= goes with a .txt of urls, but {path} has its captions in it; leave it out")
    return READERS[ending](path, columns)


def _tsv_pairs(path: PathLike, columns: Columns) -> Iterator[Pairs]:
    chosen: dict[str, int] = {}
    width = 0
    for first_line, lines in line_blocks(path):
        if not width:
            width = lines[0].count("\t") + 1
            chosen, has_header = _tsv_columns(lines[0].rstrip("\r").split("\t"), columns, path)
            if has_header:
                first_line, lines = first_line + 1, lines[1:]
        # a tab too many belongs to the last column, which in CC12M is the caption
        fields = [line.split("\t", width - 1) if line.strip() else [""] * width for line in lines]
        if set(map(len, fields)) - {width}:
            number = next(i for i, field in enumerate(fields) if len(field) != width)
            raise ValueError(
                f"{path}, line {first_line + number}: expected {width} columns with tabs between them, found "
                f"{lines[number][:60]!r}; is it cut short?"
            )
        values = {name: [field[place] for field in fields] for name, place in chosen.items()}
        yield _pairs(values, place=f"{path}, line", first=first_line)


def _tsv_columns(first: Sequence[str], columns: Columns, path: PathLike) -> tuple[dict[str, int], bool]:
    """The number of each of our columns, and whether the first line is a header rather than a row."""
    urls = [place for place, field in enumerate(first) if "://" in field]
    numbers = {name: place for name, place in columns.items() if isinstance(place, int)}
    if numbers:
        outside = next((name for name, place in columns.items() if place not in range(len(first))), None)
        if outside is not None:
            raise ValueError(
                f"{path} has the columns 0 to {len(first) - 1}, but columns says {outside}: {columns[outside]!r}"
            )
        return numbers, False
    if columns or not urls:
        chosen = _chosen_columns(first, columns, path)
        return {name: list(first).index(theirs) for name, theirs in chosen.items()}, True
    if len(first) < 2:
        raise ValueError(
            f"{path}, line 1: expected a caption and a url with a tab between them, found {first[0][:60]!r}"
        )
    return {"url": urls[0], "caption": 1 if urls[0] == 0 else 0}, False


def _jsonl_pairs(path: PathLike, columns: Columns) -> Iterator[Pairs]:
    chosen: dict[str, str] = {}
    for first_line, lines in line_blocks(path):
        rows = [_json_row(line, first_line + i, path) if line.strip() else {} for i, line in enumerate(lines)]
        present = dict.fromkeys(key for row in rows for key in row)
        chosen = chosen or _chosen_columns(list(present), columns, path)
        values = {name: [row.get(theirs) for row in rows] for name, theirs in chosen.items()}
        yield _pairs(values, place=f"{path}, line", first=first_line)


def _json_row(line: str, number: int, path: PathLike) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{path}, line {number} is not valid JSON ({error}); is it cut short?") from error
    if not isinstance(row, dict):
        raise ValueError(f'{path}, line {number}: expected an object such as {{"url": ...}}, found {line[:60]}')
    return row


def _json_pairs(path: PathLike, columns: Columns) -> Iterator[Pairs]:
    """A list of objects (ALBEF, BLIP), or an object of lists (SBU)."""
    try:
        with open(path, encoding="utf-8-sig", errors="replace") as file:
            begins_with = file.read(LONGEST_BLANK).lstrip()[:1]
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    return _json_lists(path, columns) if begins_with == "{" else _json_records(path, columns)


def _json_records(path: PathLike, columns: Columns) -> Iterator[Pairs]:
    rows = stream_records(path)
    chosen: dict[str, str] = {}
    first = 0
    for chunk in iter(lambda: list(islice(rows, ROWS_A_CHUNK)), []):
        present = dict.fromkeys(key for row in chunk for key in row)
        chosen = chosen or _chosen_columns(list(present), columns, path)
        values = {name: [row.get(theirs) for row in chunk] for name, theirs in chosen.items()}
        yield _pairs(values, place=f"{path}: record", first=first)
        first += len(chunk)


def _json_lists(path: PathLike, columns: Columns) -> Iterator[Pairs]:
    wanted = {theirs for names in USUAL_COLUMNS.values() for theirs in names} | {str(name) for name in columns.values()}
    waiting: dict[str, list[Any]] = {}
    lists: dict[str, list[pa.Array]] = {}
    for key, element in stream_members(path, inside={*wanted, "user_ids"}):
        if key not in wanted:
            continue
        values = waiting.setdefault(key, [])
        values.append(element)
        if len(values) == ROWS_A_CHUNK:
            _text_list(key, values, lists=lists, path=path)
    for key, values in waiting.items():
        _text_list(key, values, lists=lists, path=path)
    chosen = _chosen_columns(list(lists), columns, path)
    whole = {name: pa.chunked_array(lists[theirs], pa.large_string()) for name, theirs in chosen.items()}
    lengths = {chosen[name]: len(values) for name, values in whole.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{length} {name}" for name, length in lengths.items())
        raise ValueError(f"{path} holds {told}; its lists should be of one length, is it cut short?")
    for first in range(0, len(whole["caption"]), ROWS_A_CHUNK):
        some = {name: values.slice(first, ROWS_A_CHUNK).combine_chunks() for name, values in whole.items()}
        yield Pairs(some["caption"], some.get("url"), some.get("name"))


def _text_list(key: str, values: list[Any], *, lists: dict[str, list[pa.Array]], path: PathLike) -> None:
    """Moves the values of a JSON list that wait as Python objects to where they are Arrow text."""
    first = sum(map(len, lists.setdefault(key, [])))
    lists[key].append(_texts(values, name=key, place=f"{path}: {key!r}, element", first=first))
    values.clear()


def _parquet_pairs(path: PathLike, columns: Columns) -> Iterator[Pairs]:
    try:
        file = pq.ParquetFile(path)
        chosen = _chosen_columns(file.schema_arrow.names, columns, path)
        first = 0
        for batch in file.iter_batches(batch_size=ROWS_A_CHUNK, columns=list(chosen.values())):
            values = {name: batch.column(theirs) for name, theirs in chosen.items()}
            yield _pairs(values, place=f"{path}: row", first=first)
            first += len(batch)
    except (OSError, pa.ArrowException) as error:
        raise ValueError(f"{path} cannot be read as Parquet ({' '.join(str(error).split())}); copy it again") from error


def _text_pairs(path: PathLike, captions: PathLike | None) -> Iterator[Pairs]:
    if captions is None:
        raise ValueError(f"{path} is a list of urls: give the file with a caption a line for them as captions=")
    urls, texts = _lines(path), _lines(captions)
    first = 1
    for chunk in iter(lambda: list(islice(urls, ROWS_A_CHUNK)), []):
        values = {"url": chunk, "caption": list(islice(texts, len(chunk)))}
        if len(values["caption"]) < len(chunk):
            break
        yield _pairs(values, place=f"{path}, line", first=first)
        first += len(chunk)
    else:
        if next(texts, None) is None:
            return
    counts = {file: sum(1 for _ in _lines(file)) for file in (path, captions)}
    told = " and ".join(f"{file} has {count} lines" for file, count in counts.items())
    raise ValueError(f"{told}; a url and its caption should stand in lines of the same number, is one cut short?")


READERS: dict[str, Callable[[PathLike, Columns], Iterator[Pairs]]] = {
    ".tsv": _tsv_pairs,
    ".jsonl": _jsonl_pairs,
    ".json": _json_pairs,
    ".parquet": _parquet_pairs,
}


def line_blocks(path: PathLike) -> Iterator[tuple[int, list[str]]]:
    """The lines of a UTF-8 file in blocks of some `BLOCK_BYTES`, each with the number of its first line, from 1.

    Only a newline ends a line; a byte order mark is passed over. Raises ValueError, naming the line, for one that is no
    UTF-8 or longer than `BLOCK_BYTES`.
    """
    rest, first_line = b"", 1
    try:
        with open(path, "rb") as file:
            while block := file.read(BLOCK_BYTES):
                block = rest + (block.removeprefix(b"\xef\xbb\xbf") if first_line == 1 and not rest else block)
                whole, newline, rest = block.rpartition(b"\n")
                if newline:
                    lines = _decoded(whole, first_line, path).split("\n")
                    yield first_line, lines
                    first_line += len(lines)
                if len(rest) > BLOCK_BYTES:
                    raise ValueError(f"{path}, line {first_line} is longer than {BLOCK_BYTES} bytes; is it text?")
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    if rest:
        yield first_line, [_decoded(rest, first_line, path)]


def _lines(path: PathLike) -> Iterator[str]:
    for _, lines in line_blocks(path):
        yield from lines


def _decoded(block: bytes, first_line: int, path: PathLike) -> str:
    try:
        return block.decode()
    except UnicodeDecodeError as error:
        line = first_line + block.count(b"\n", 0, error.start)
        raise ValueError(f"{path}, line {line} is not UTF-8 text; save it as UTF-8") from error


def _chosen_columns(present: Sequence[str], columns: Columns, path: PathLike) -> dict[str, str]:
    """Their column of each of ours; ValueError for one that is named but not there, and where no caption is found."""
    absent = next((str(theirs) for theirs in columns.values() if theirs not in present), None)
    if absent is not None:
        raise ValueError(f"{path} has no column {absent}; it has {', '.join(map(str, present))}")
    usual = {
        name: next((theirs for theirs in names if theirs in present), None) for name, names in USUAL_COLUMNS.items()
    }
    chosen = {name: str(theirs) for name, theirs in {**usual, **columns}.items() if theirs is not None}
    if "caption" not in chosen:
        raise ValueError(
            f"{path} has no column {' or '.join(USUAL_COLUMNS['caption'])}; it has {str(list(present))[:200]} "
            '(name yours with columns={"caption": ..., "url": ..., "name": ...}; in a .tsv without a header by numbers)'
        )
    return chosen


def _pairs(values: Mapping[str, Sequence[Any] | pa.Array], *, place: str, first: int) -> Pairs:
    """Our columns as `Pairs`; `place` and the number of a row, that of the first being `first`, go before an error."""
    found = {name: _texts(column, name=name, place=place, first=first) for name, column in values.items()}
    return Pairs(found["caption"], found.get("url"), found.get("name"))


def _texts(values: Sequence[Any] | pa.Array, *, name: str, place: str, first: int) -> pa.Array:
    """Values as Arrow text, without blanks around them; ValueError naming the first that is none (null is a hole)."""
    if isinstance(values, pa.Array) and not pa.types.is_null(values.type) and not pa.types.is_nested(values.type):
        return pc.utf8_trim_whitespace(values.cast(pa.large_string()))
    if isinstance(values, pa.Array):
        values = values.to_pylist()
    if name != "caption":  # keys and ids may be numbers
        values = [str(value) if type(value) is int else value for value in values]
    try:
        return pc.utf8_trim_whitespace(pa.array(values, pa.large_string()))
    except (pa.ArrowException, TypeError, UnicodeEncodeError) as error:
        row = next(row for row, value in enumerate(values) if not _is_text(value))
        raise ValueError(f"{place} {first + row}: the {name} {ascii(values[row])[:60]} is not text") from error


def _is_text(value: Any) -> bool:
    try:
        return value is None or bool(value.encode() or True)
    except (AttributeError, UnicodeEncodeError):  # half of a surrogate pair is no text that a UTF-8 file can hold
        return False
