"""What the commands write to a terminal, where text from files, models and servers is shown, never obeyed; and the
arguments that are numbers.

An image's name, a model's word or a server's answer may hold an escape sequence that moves the cursor, retitles the
window or hides a line. Every command prints by `say`, one line an argument.
"""

import argparse
import difflib
import json
import logging
import re
import sys
from collections.abc import Iterable
from typing import Any, TextIO

# control characters but the tab, line separators, characters that turn the direction of writing, and lone surrogates,
# which stand for bytes of a file name that are no text and cannot be written at all
UNSAFE = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: object) -> str:
    r"""Text on one line, with every character that a terminal would act on written as an escape.

    >>> printable("a dog\x1b[2J\n"), printable("café\t犬")
    ('a dog\\x1b[2J\\n', 'café\t犬')
    """
    return UNSAFE.sub(_escape, str(text))


def say(*lines: object, file: TextIO | None = None) -> None:
    """Print lines, each of them `printable`, to `file` (standard output)."""
    stream = sys.stdout if file is None else file
    for line in lines:
        _write(printable(line), stream)


def say_json(content: Any, *, file: TextIO | None = None) -> None:
    """Print JSON over several lines, in which unsafe characters are JSON's own escapes."""
    text = json.dumps(content, indent=1, ensure_ascii=False)
    for line in text.split("\n"):
        _write(UNSAFE.sub(_json_escape, line), sys.stdout if file is None else file)


def positive(text: str) -> int:
    """An argument that counts something."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")
    return int(text)


def whole_number(text: str) -> int:
    """An argument that counts something that may be none."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number")
    return int(text)


def did_you_mean(name: Any, known: Iterable[str]) -> str:
    """`; did you mean ...?`, or nothing where no known name is like this one.

    >>> did_you_mean("epoch", ["epochs", "ema"]), did_you_mean("lr", ["epochs"])
    ("; did you mean 'epochs'?", '')
    """
    similar = difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.6)
    return f"; did you mean {similar[0]!r}?" if similar else ""


class PrintableFormatter(logging.Formatter):
    """Notes for a terminal, `printable` line by line."""

    def format(self, record: logging.LogRecord) -> str:
        """The note's own line breaks stay."""
        return "\n".join(map(printable, super().format(record).split("\n")))


def printable_warning(message: object, category: type[Warning], *place: object, **line: object) -> str:
    """A warning for a terminal, in place of `warnings.formatwarning`: what it says, without a line of source code."""
    return f"{category.__name__}: {printable(message)}\n"


def _write(line: str, stream: TextIO) -> None:
    encoding = getattr(stream, "encoding", None) or "utf-8"
    # a terminal that has no such letter shows its number
    print(line.encode(encoding, "backslashreplace").decode(encoding), file=stream)


def _escape(match: re.Match[str]) -> str:
    return match.group().encode("unicode_escape").decode("ascii")


def _json_escape(match: re.Match[str]) -> str:
    return f"\\u{ord(match.group()):04x}"
