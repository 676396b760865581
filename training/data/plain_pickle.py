"""Pickles of plain values, read without executing anything: lists, tuples, sets, dictionaries, texts and numbers.

    bytes --read_plain_pickle--> values

Python's own unpickler can be told which classes to refuse, but a few bytes still make it reserve any amount of memory.
This one interprets the opcodes of protocols 0 to 5 itself: it holds no class or function that a file could call, and
takes memory in proportion to the file. The opcodes are documented in Python's `pickletools`.
"""

import pickletools
import re
import struct
from collections.abc import Callable
from typing import Any

from training.data.files import PathLike

HIGHEST_PROTOCOL = 5
NUMBER_BYTES = 8  # integers of more bytes are refused
NUMBER_CHARACTERS = 40  # and so are numbers written in more characters
PLAIN_KEYS = (str, int, float, bool, type(None))  # hashing nested tuples may take for ever
PLAIN = "only lists, tuples, sets, dictionaries, texts and numbers are read"
STOP = ord(".")
NAMING = frozenset("ci\x93")  # GLOBAL, INST, STACK_GLOBAL: opcodes that name a class or function
CALLING = frozenset("oRbPQ\x81\x82\x83\x84\x92")  # those that build or call something, or fetch it from elsewhere
SIZES = {layout: struct.calcsize(layout) for layout in ("<H", "<i", "<I", "<Q", ">d")}
OPCODE_NAMES = {opcode.code: opcode.name for opcode in pickletools.opcodes}
ESCAPE = re.compile(rb"\\(x[0-9a-fA-F]{2}|[0-7]{1,3}|.)", re.DOTALL)
ESCAPED = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"a": b"\a", b"b": b"\b", b"f": b"\f", b"v": b"\v"}


def read_plain_pickle(content: bytes, *, source: PathLike) -> Any:
    """The value in a pickle; strings of Python 2 and bytes become text (UTF-8, else Latin-1).

    Args:
        content: the whole file, of any protocol from 0 to 5.
        source: the file's name in errors.

    Raises:
        ValueError: for a pickle that names a class or function (the error says which) or holds another kind of value,
            that is cut short, or that is none. Nothing in it is executed.

    >>> read_plain_pickle(b"(lp0\\nS'a dog'\\np1\\naI7\\na.", source="refs.p")
    ['a dog', 7]
    """
    state = _State(content, source)
    try:
        while (opcode := content[state.place]) != STOP:
            state.place += 1
            if (reader := VALUE_READERS.get(opcode)) is not None:
                value = reader(state)  # which may change the stack
                state.stack.append(value)
            elif (change := STATE_CHANGES.get(opcode)) is not None:
                change(state)
            else:
                raise _RefusedError(_refusal(chr(opcode), state))
        if len(state.stack) != 1 or state.below:
            raise EOFError
        return state.stack[0]
    except _RefusedError:
        raise
    except (IndexError, EOFError) as error:
        raise ValueError(f"{source} is no pickle or is cut short (byte {state.place}); copy it again") from error
    except (KeyError, TypeError, ValueError, struct.error) as error:
        raise ValueError(f"{source} is no sound pickle (byte {state.place}); copy it again") from error


class _RefusedError(ValueError):
    """What a pickle holds is not read."""


class _State:
    """How far reading is: the place in the content, the stack, the stacks below each open mark, and the memo."""

    def __init__(self, content: bytes, source: PathLike) -> None:
        self.content, self.source, self.place = content, source, 0
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def take(self, size: int) -> bytes:
        """The next bytes."""
        part = self.content[self.place : self.place + size]
        if size < 0 or len(part) < size:
            raise EOFError
        self.place += size
        return part

    def line(self) -> bytes:
        """The bytes up to the next newline."""
        end = self.content.find(b"\n", self.place)
        return self.take(end - self.place + 1 if end >= 0 else -1)[:-1]

    def number(self, layout: str) -> Any:
        """The next number of a layout of `struct`."""
        return struct.unpack(layout, self.take(SIZES[layout]))[0]

    def byte(self) -> int:
        """The next unsigned byte."""
        value = self.content[self.place]
        self.place += 1
        return value

    def written(self) -> str:
        """The next line, which is a number."""
        line = self.line()
        if len(line) > NUMBER_CHARACTERS:
            raise _RefusedError(f"{self.source} holds a number of {len(line)} characters; {PLAIN} of common size")
        return line.decode("ascii")

    def integer(self, size: int) -> int:
        """The next signed integer of so many bytes."""
        if size > NUMBER_BYTES:
            raise _RefusedError(f"{self.source} holds a number of {size} bytes; {PLAIN} of at most {NUMBER_BYTES}")
        return int.from_bytes(self.take(size), "little", signed=True)

    def items(self) -> list[Any]:
        """What lies above the last mark, which is closed."""
        found, self.stack = self.stack, self.below.pop()
        return found


# -- opcodes that give a value -----------------------------------------------------------------------------------------


def _boolean_or_integer(state: _State) -> int:
    text = state.written()
    return {"00": False, "01": True}[text] if text in ("00", "01") else int(text)


def _quoted(state: _State) -> str:
    """A string of Python 2 in quotes, with its escapes."""
    line = state.line().strip()
    if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in (b"'", b'"'):
        raise ValueError
    return _text(ESCAPE.sub(_unescaped, line[1:-1]) if b"\\" in line else line[1:-1])


def _unescaped(found: re.Match[bytes]) -> bytes:
    mark = found[1]
    if mark[:1] == b"x" and len(mark) == 3:
        return bytes([int(mark[1:], 16)])
    if mark.isdigit():
        return bytes([int(mark, 8) & 255])
    return ESCAPED.get(mark, mark if mark in (b"\\", b"'", b'"') else found[0])


def _text(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _unicode(content: bytes) -> str:
    return content.decode("utf-8", "surrogatepass")


def _dictionary(items: list[Any]) -> dict[Any, Any]:
    return dict(zip(_plain(items[::2]), items[1::2], strict=True))


def _plain(keys: list[Any]) -> list[Any]:
    if not all(isinstance(key, PLAIN_KEYS) for key in keys):
        raise TypeError
    return keys


VALUES: dict[str, Callable[[_State], Any]] = {
    "N": lambda state: None,
    "\x88": lambda state: True,
    "\x89": lambda state: False,
    "I": _boolean_or_integer,
    "K": lambda state: state.byte(),
    "M": lambda state: state.number("<H"),
    "J": lambda state: state.number("<i"),
    "L": lambda state: int(state.written().removesuffix("L")),
    "\x8a": lambda state: state.integer(state.byte()),
    "\x8b": lambda state: state.integer(state.number("<i")),
    "F": lambda state: float(state.written()),
    "G": lambda state: state.number(">d"),
    "S": _quoted,
    "U": lambda state: _text(state.take(state.byte())),
    "T": lambda state: _text(state.take(state.number("<i"))),
    "C": lambda state: _text(state.take(state.byte())),
    "B": lambda state: _text(state.take(state.number("<I"))),
    "\x8e": lambda state: _text(state.take(state.number("<Q"))),
    "V": lambda state: state.line().decode("raw-unicode-escape"),
    "\x8c": lambda state: _unicode(state.take(state.byte())),
    "X": lambda state: _unicode(state.take(state.number("<I"))),
    "\x8d": lambda state: _unicode(state.take(state.number("<Q"))),
    "]": lambda state: [],
    "}": lambda state: {},
    ")": lambda state: (),
    "\x8f": lambda state: set(),
    "l": lambda state: state.items(),
    "t": lambda state: tuple(state.items()),
    "d": lambda state: _dictionary(state.items()),
    "\x91": lambda state: frozenset(_plain(state.items())),
    "\x85": lambda state: (state.stack.pop(),),
    "\x86": lambda state: tuple(reversed([state.stack.pop() for _ in range(2)])),
    "\x87": lambda state: tuple(reversed([state.stack.pop() for _ in range(3)])),
    "2": lambda state: state.stack[-1],
    "g": lambda state: state.memo[int(state.written())],
    "h": lambda state: state.memo[state.byte()],
    "j": lambda state: state.memo[state.number("<I")],
}


# -- opcodes that change the state -------------------------------------------------------------------------------------


def _protocol(state: _State) -> None:
    version = state.byte()
    if version > HIGHEST_PROTOCOL:
        raise _RefusedError(
            f"{state.source} is a pickle of protocol {version}; protocols 0 to {HIGHEST_PROTOCOL} are read"
        )


def _mark(state: _State) -> None:
    state.below.append(state.stack)
    state.stack = []


def _append(state: _State) -> None:
    value = state.stack.pop()
    _top(state, list).append(value)


def _extend(state: _State) -> None:
    values = state.items()
    _top(state, list).extend(values)


def _set_item(state: _State) -> None:
    value, key = state.stack.pop(), state.stack.pop()
    _top(state, dict)[_plain([key])[0]] = value


def _set_items(state: _State) -> None:
    values = _dictionary(state.items())
    _top(state, dict).update(values)


def _add_items(state: _State) -> None:
    values = _plain(state.items())
    _top(state, set).update(values)


def _top(state: _State, kind: type) -> Any:
    if type(state.stack[-1]) is not kind:
        raise TypeError
    return state.stack[-1]


def _remember(state: _State, place: int) -> None:
    state.memo[place] = state.stack[-1]


def _pop(state: _State) -> None:
    if state.stack:
        state.stack.pop()
    else:
        state.stack = state.below.pop()


CHANGES: dict[str, Callable[[_State], Any]] = {
    "\x80": _protocol,
    "\x95": lambda state: state.number("<Q"),  # the length of a frame
    "(": _mark,
    "a": _append,
    "e": _extend,
    "s": _set_item,
    "u": _set_items,
    "\x90": _add_items,
    "p": lambda state: _remember(state, int(state.written())),
    "q": lambda state: _remember(state, state.byte()),
    "r": lambda state: _remember(state, state.number("<I")),
    "\x94": lambda state: _remember(state, len(state.memo)),
    "0": _pop,
    "1": lambda state: state.items(),
}


VALUE_READERS = {ord(code): reader for code, reader in VALUES.items()}
STATE_CHANGES = {ord(code): change for code, change in CHANGES.items()}


def _refusal(opcode: str, state: _State) -> str:
    """Why an opcode is refused: by the class or function that it names, else by its own name."""
    source, known = state.source, OPCODE_NAMES.get(opcode)
    if opcode in NAMING:
        parts = state.stack[-2:] if opcode == "\x93" else [_text(state.line()) for _ in range(2)]
        name = ".".join(part[:80] for part in parts if isinstance(part, str))
        return f"{source} would load {name or 'a class'}, which may carry code, and was not read: {PLAIN}"
    if known is None or not state.content.endswith(bytes([STOP])):
        return f"{source} is no pickle (byte {state.place - 1}); is it the file of another format?"
    what = "would build an object" if opcode in CALLING else "holds another kind of value"
    return f"{source} {what} ({known}), and was not read: {PLAIN}"
