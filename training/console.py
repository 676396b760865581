"""Printing to a terminal, with control characters escaped, and the types of numeric arguments.

The name of an image, a word of a model or the answer of a server may hold an escape sequence that moves the cursor,
changes the window's title or hides a line. Every command prints with `say`, one line per argument.
"""

import argparse
import difflib
import json
import logging
import re
import sys
from collections.abc import Iterable
from typing import Any, TextIO

# control characters except the tab, line separators, characters that change the writing direction, and lone
# surrogates, which stand for bytes of a file name that are not text and cannot be printed
UNSAFE = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: object) -> str:
    r"""Text on one line, with every character that a terminal would interpret written as an escape.

    >>> printable("a dog\x1b[2J\n"), printable("café\t犬")
    ('a dog\\x1b[2J\\n', 'café\t犬')
    """
    return UNSAFE.sub(_escape, str(text))


def one_line(error: object, *, limit: int | None = None) -> str:
    r"""An error's text with every run of white space as one blank, cut to `limit` characters.

    >>> one_line(ValueError("size mismatch:\n  2 and 3")), one_line("a b c", limit=3)
    ('size mismatch: 2 and 3', 'a b')
    """
    return " ".join(str(error).split())[:limit]


def say(*lines: object, file: TextIO | None = None) -> None:
    """Print lines, each made `printable`, to `file` (default: standard output)."""
    stream = sys.stdout if file is None else file
    for line in lines:
        _write(printable(line), stream)


def say_json(content: Any, *, file: TextIO | None = None) -> None:
    """Print indented JSON, with unsafe characters as JSON escapes."""
    text = json.dumps(content, indent=1, ensure_ascii=False)
    for line in text.split("\n"):
        _write(UNSAFE.sub(_json_escape, line), sys.stdout if file is None else file)


def positive(text: str) -> int:
    """The type of an argument: a whole number >= 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def whole_number(text: str) -> int:
    """The type of an argument: a whole number >= 0."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(text)


def did_you_mean(name: Any, known: Iterable[str]) -> str:
    """`; did you mean ...?`, or "" if no known name is similar.

    >>> did_you_mean("epoch", ["epochs", "ema"]), did_you_mean("lr", ["epochs"])
    ("; did you mean 'epochs'?", '')
    """
    similar = difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.6)
    return f"; did you mean {similar[0]!r}?" if similar else ""


class PrintableFormatter(logging.Formatter):
    """Formats log records for a terminal: each line is made `printable`."""

    def format(self, record: logging.LogRecord) -> str:
        """The record's text; its line breaks are kept."""
        return "\n".join(map(printable, super().format(record).split("\n")))


def printable_warning(message: object, category: type[Warning], *place: object, **line: object) -> str:
    """A replacement for `warnings.formatwarning` that prints the message without the source line."""
    return f"{category.__name__}: {printable(message)}\n"


def _write(line: str, stream: TextIO) -> None:
    encoding = getattr(stream, "encoding", None) or "utf-8"
    # a character that the terminal's encoding lacks is printed as an escape
    print(line.encode(encoding, "backslashreplace").decode(encoding), file=stream)


def _escape(match: re.Match[str]) -> str:
    return match.group().encode("unicode_escape").decode("ascii")


def _json_escape(match: re.Match[str]) -> str:
    return f"\\u{ord(match.group()):04x}"
