"""CSV and TSV tables as people write them, without losing what stands behind a comma that nobody quoted.

    file_name,caption
    0.jpg,a dog, running, fast      --csv_rows--> {"file_name": "0.jpg", "caption": "a dog, running, fast"}

A table of an image's name and a text is read so, since the rest of the line can only be the text's; in any other a line
with more fields than the header is an error that names it, even where the last are empty: a text's own comma may have
moved what belongs to the others. Lines may end in commas where the header does.
"""

import csv
import io
from collections.abc import Collection, Iterator, Sequence
from typing import Any

DELIMITERS = ",\t|;"
TEXT_COLUMNS = frozenset({"caption", "captions", "text", "comment", "question"})  # what may hold commas of its own
QUOTE = '"'


def csv_rows(text: str, path: Any, *, text_columns: Collection[str] = TEXT_COLUMNS) -> list[dict[str, Any]]:
    """The rows of a table with a header, whose commonest delimiter is the table's; None where a row is too short.

    Args:
        text_columns: where one of these is one of only two columns, what a line has too much belongs to it.

    Raises:
        ValueError: naming file and line, for a row of more fields than the header, and for a quotation mark left open.
    """
    delimiter = max(DELIMITERS, key=text.lstrip().partition("\n")[0].count)
    try:
        table = list(_fields(text, delimiter, quoting=csv.QUOTE_MINIMAL))
    except csv.Error as error:
        table = _with_plain_quotes(text, delimiter, path, error)
    if not table:
        return []
    header = [name.strip() for name in table[0][2]]
    while len(header) > 1 and not header[-1]:  # a table whose lines all end in commas
        header.pop()
    ends = len(table[0][2]) - len(header)
    places = [place for place, name in enumerate(header) if name in text_columns] if len(header) == 2 else []
    rows = []
    for number, raw, fields in table[1:]:
        if len(fields) > len(header):
            place = f"{path}, line {number}"
            fields = _joined(fields, raw, delimiter, width=len(header), ends=ends, places=places, place=place)
        rows.append(dict(zip(header, [*fields, *[None] * (len(header) - len(fields))], strict=True)))
    return rows


def _fields(text: str, delimiter: str, *, quoting: Any) -> Iterator[tuple[int, str, list[str]]]:
    """(number of its last line, text, fields) of every row that is not blank.

    Raises `csv.Error` for quotation marks that do not match, with the line where the row begins.
    """
    lines = list(io.StringIO(text, newline=""))
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True, quoting=quoting)
    before = 0
    try:
        for fields in reader:
            if fields:
                yield reader.line_num, "".join(lines[before : reader.line_num]), fields
            before = reader.line_num
    except csv.Error as error:
        raise csv.Error(f"line {before + 1}: {error}") from error


def _with_plain_quotes(text: str, delimiter: str, path: Any, error: csv.Error) -> list[tuple[int, str, list[str]]]:
    """The rows where quotation marks are signs like others; ValueError where some of them quote after all."""
    fault = ValueError(
        f"{path}, {error}; is a quotation mark left open? Write one within a text twice, and quotation marks around "
        "the text"
    )
    try:
        table = list(_fields(text, delimiter, quoting=csv.QUOTE_NONE))
    except csv.Error:
        raise fault from error
    quoted = any(len(f) > 1 and f[0] == f[-1] == QUOTE for _, _, fields in table for f in fields)
    if quoted or len({len(fields) for _, _, fields in table}) > 1:
        raise fault from error
    return table


def _joined(
    fields: Sequence[str], raw: str, delimiter: str, *, width: int, ends: int, places: Sequence[int], place: str
) -> list[str]:
    """A row of as many fields as the header, from one of more.

    Args:
        ends: delimiters at the end of the header, which a line may have too.
        places: the columns that may take the rest.
    """
    empty = not any(field.strip() for field in fields[width:])
    if empty and (width <= 2 or len(fields) <= width + ends):  # of two columns neither has moved
        return list(fields[:width])
    if len(places) == 1 and QUOTE not in raw:
        line = raw.rstrip("\r\n")
        for _ in range(ends):
            line = line.removesuffix(delimiter)
        first, _, last = line.partition(delimiter) if places[0] == 1 else line.rpartition(delimiter)
        return [first.lstrip(), last.lstrip()]
    cure = f", or where every line ends in {delimiter!r} end the header in it too" if empty else ""
    raise ValueError(
        f"{place} has {len(fields)} fields, but the header {width}: {raw.strip()[:80]!r}; put quotation marks around a "
        f"text with {delimiter!r} in it{cure}"
    )
