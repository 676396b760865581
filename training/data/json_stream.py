"""JSON files too large to hold as Python objects, parsed one record at a time while the file is read block by block.

    {"info": ..., "annotations": [record, record, ...]} --stream_members--> ("info", ...), ("annotations", record), ...
    [record, record, ...] --stream_records--> record, ...

Memory holds a few blocks of text and one record, whatever the file's size. The annotations of VQA v2 (443,757 questions
with ten answers each) would be 2.5 GB of Python objects, those of GQA's 22 million questions a hundred.
"""

import json
import re
from collections.abc import Collection, Iterator
from typing import Any, TextIO

from training.data.files import PathLike

BLOCK_CHARACTERS = 2**22
LONGEST_NUMBER_PIECE = 2  # of "1.5e+7", the end that is no number yet: "e+"
BLANKS = re.compile(r"[ \t\n\r]*")


def stream_members(path: PathLike, *, inside: Collection[str] = ()) -> Iterator[tuple[str, Any]]:
    """The (key, value) pairs of the JSON object in a file, in its order, each parsed when it is asked for.

    Args:
        path: the file, UTF-8 with or without a byte order mark.
        inside: keys whose value, where it is a list, comes element by element: (key, element), (key, element), ...

    Raises:
        ValueError: naming the file (and line), where it cannot be read, is no JSON, is cut short or holds no object.
    """
    with _open(path) as file:
        text = _Text(file, path)
        text.open("{", what="an object")
        if text.take("}"):
            return
        while True:
            key = text.value()
            text.expect(":")
            if key in inside and text.take("["):
                yield from ((key, element) for element in text.elements())
            else:
                yield key, text.value()
            if text.take("}"):
                return
            text.expect(",")


def stream_records(path: PathLike) -> Iterator[dict[str, Any]]:
    """The objects of the JSON list in a file, one after the other; errors as those of `stream_members`."""
    with _open(path) as file:
        text = _Text(file, path)
        text.open("[", what="a list")
        for number, record in enumerate(text.elements()):
            if not isinstance(record, dict):
                raise ValueError(f"{path}: record {number} is no object: {str(record)[:120]}")
            yield record


class _Text:
    """A window on the file's text that moves on as values are taken from it."""

    def __init__(self, file: TextIO, path: PathLike) -> None:
        self.file, self.path = file, path
        self.window, self.position, self.lines_before = "", 0, 0
        self.decoder = json.JSONDecoder()

    def value(self) -> Any:
        """The value that comes next; the window grows, doubling, until all of it is in."""
        self.next_sign()
        while True:
            try:
                value, end = self.decoder.raw_decode(self.window, self.position)
            except (json.JSONDecodeError, RecursionError) as error:
                if not self._grow():
                    raise self._broken(error) from error
            else:
                if end + LONGEST_NUMBER_PIECE < len(self.window) or not self._grow():
                    self.position = end
                    return value

    def elements(self) -> Iterator[Any]:
        """The elements of a list whose opening bracket is taken, to its closing one."""
        if self.take("]"):
            return
        while True:
            yield self.value()
            if self.take("]"):
                return
            self.expect(",")

    def next_sign(self) -> str:
        """The next character that is no blank, which stays; "" at the end of the file."""
        while True:
            found = BLANKS.match(self.window, self.position)
            self.position = found.end() if found else self.position
            if self.position < len(self.window) or not self._grow():
                return self.window[self.position : self.position + 1]

    def take(self, sign: str) -> bool:
        """Whether `sign` comes next; if so it is taken."""
        found = self.next_sign() == sign
        self.position += found
        return found

    def expect(self, sign: str) -> None:
        """Take `sign`, which must come next."""
        if not self.take(sign):
            raise self._broken(json.JSONDecodeError(f"Expecting {sign!r}", self.window, self.position))

    def open(self, sign: str, *, what: str) -> None:
        """Take the sign a file begins with; ValueError where it holds something else than `what`."""
        found = self.next_sign()
        if not found:
            raise ValueError(f"{self.path} is empty; copy it again")
        if not self.take(sign):
            kind = {"{": "an object", "[": "a list"}.get(found, repr(self.window[:40]))
            raise ValueError(f"{self.path} holds {kind} where {what} is expected; is it the file of another format?")

    def _grow(self) -> bool:
        """Drop what is taken and read as much again as is left, at least a block; False at the end of the file."""
        rest = len(self.window) - self.position
        try:
            block = self.file.read(max(rest, BLOCK_CHARACTERS))
        except UnicodeDecodeError as error:
            raise ValueError(f"{self.path} is not UTF-8 text ({error.reason}); save it as UTF-8") from error
        if block:
            self.lines_before += self.window.count("\n", 0, self.position)
            self.window, self.position = self.window[self.position :] + block, 0
        return bool(block)

    def _broken(self, error: Exception) -> ValueError:
        if isinstance(error, json.JSONDecodeError):
            line, reason = self.lines_before + error.lineno, error.msg
        else:
            line, reason = self.lines_before + 1, "it is nested too deeply"
        return ValueError(f"{self.path} is not valid JSON (line {line}: {reason}); is it cut short?")


def _open(path: PathLike) -> TextIO:
    try:
        return open(path, encoding="utf-8-sig", newline="\n")
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
