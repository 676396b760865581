"""Plain pickles of every protocol against Python's own reader, and files that carry code or are broken."""

import io
import json
import pickle
import random
import struct
import time
import tracemalloc
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from training.data.plain_pickle import read_plain_pickle

VALUES: list[Any] = [
    *(None, True, False, 0, 255, 256, -1, 65_536, -(2**31), 2**31, 2**62, -(2**63), 1.5, -0.0, float("inf")),
    *("", "a dog", "caf\u00e9", "\u2028line\nbreak\\ '\"", "\U0001f600", "x" * 300, "y" * 70_000),
    *([], [1, [2, [3]]], (), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), {}, {"a": {"b": [None]}, 3: "c"}),
    [{"sent_ids": [0, 1], "split": "train"}] * 3,
    list(range(3000)),
    {str(i): i for i in range(3000)},
]


class Carrier:
    """Pickles to a call of `open`, which would write a file."""

    def __init__(self, target: str) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, str]]:
        return open, (self.target, "w")


def read(content: bytes) -> Any:
    return read_plain_pickle(content, source="refs.p")


@pytest.mark.parametrize("protocol", range(6))
def test_plain_values_are_those_of_pythons_reader(protocol: int) -> None:
    for value in [*VALUES, VALUES]:
        content = pickle.dumps(value, protocol)
        assert read(content) == pickle.loads(content) == value
    assert str(read(pickle.dumps(float("nan"), protocol))) == "nan"
    if protocol >= 4:
        assert read(pickle.dumps({1, "a"}, protocol)) == {1, "a"}
        assert read(pickle.dumps(frozenset("ab"), protocol)) == frozenset("ab")


def test_what_stands_twice_is_one_value() -> None:
    words = ["the", "dog"]
    found = read(pickle.dumps([words, words], 2))
    assert found[0] is found[1]
    endless: list[Any] = []
    endless.append(endless)
    found = read(pickle.dumps(endless, 2))
    assert found[0] is found


def test_strings_of_python_2() -> None:
    # as Python 2 writes "it's", 'caf\xc3\xa9' in UTF-8, '\xe9\n' in Latin-1, u'\u00e9\u4e00' and 7L
    assert read(b"(lp0\nS\"it's\"\np1\naS'caf\\xc3\\xa9'\np2\naS'\\xe9\\n'\np3\na.") == [
        "it's",
        "caf\u00e9",
        "\u00e9\n",
    ]
    assert read(b"(lp0\nV\\u00e9\\u4e00\np1\naL7L\naI01\naI00\naF1.5\naNa.") == [
        "\u00e9\u4e00",
        7,
        True,
        False,
        1.5,
        None,
    ]
    assert read(b"(dp0\nS'a\\\\b\\'c'\np1\nI-3\ns.") == {"a\\b'c": -3}
    assert read(b"]q\x00(U\x05caf\xc3\xa9q\x01T\x01\x00\x00\x00\xe9h\x01e.") == ["caf\u00e9", "\u00e9", "caf\u00e9"]
    assert read(pickle.dumps([b"caf\xc3\xa9", b"\xff"], 4)) == ["caf\u00e9", "\u00ff"]
    for protocol in range(3):
        assert read(pickle.dumps("\\u00e9 \\", protocol)) == "\\u00e9 \\"


@pytest.mark.parametrize("protocol", range(6))
def test_code_is_named_and_never_run(protocol: int, tmp_path: Path) -> None:
    target = tmp_path / "written"
    for value in (Carrier(str(target)), [{"sentences": [Carrier(str(target))]}]):
        with pytest.raises(ValueError, match=r"refs\.p would load _?\w+\.open, which may carry code, and was not read"):
            read(pickle.dumps(value, protocol))
    assert not target.exists()


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"cos\nsystem\n(S'true'\ntR.", "would load os.system,"),
        (b"(S'true'\nios\nsystem\n.", "would load os.system,"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.", "would load os.system,"),
        (b"\x80\x04]]\x93.", "would load a class,"),
        (b"c__builtin__\nset\n.", "would load __builtin__.set,"),
        (b"\x80\x02\x82\x01.", "would build an object .EXT1."),
        (b"Pid\n.", "would build an object .PERSID."),
        (b"K\x01Q.", "would build an object .BINPERSID."),
        (b"(]o.", "would build an object .OBJ."),
        (b"}}b.", "would build an object .BUILD."),
        (b"])\x81.", "would build an object .NEWOBJ."),
        (b"])R.", "would build an object .REDUCE."),
        (pickle.dumps(OrderedDict(a=1), 2), "would load collections.OrderedDict,"),
        (pickle.dumps(bytearray(b"a"), 5), "holds another kind of value .BYTEARRAY8."),
        (pickle.dumps(1j, 2), r"would load (__builtin__|builtins)\.complex,"),
    ],
)
def test_other_kinds_of_values_are_refused_by_name(content: bytes, named: str) -> None:
    with pytest.raises(ValueError, match=f"refs.p {named}.*only lists, tuples, sets, dictionaries, texts and numbers"):
        read(content)


@pytest.mark.parametrize("protocol", range(6))
def test_no_part_of_a_file_is_read_as_the_whole(protocol: int) -> None:
    content = pickle.dumps([{"sent": "a dog", "sent_ids": [0, 1, 300], "ref_id": 2**40}], protocol)
    for end in range(len(content)):
        with pytest.raises(ValueError, match=r"refs\.p .*(cut short|copy it again)"):
            read(content[:end])


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b".", b"0.", b"1.", b"a.", b"K\x01K\x02.", b"(K\x01.", b"h\x05.", b"g9\n.", b"\x94."),
        *(b"]K\x01K\x02s.", b"K\x01K\x02a.", b"](K\x01e(.", b"(K\x01d.", b"Sno quotes\n.", b"S'open\n.", b"Ione\n."),
        *(
            b"}]K\x01s.",
            b"\x8f(]\x90.",
            b"(}\x91.",
            b"X\x01\x00\x00\x00\xff.",
            b"T\xff\xff\xff\xffa.",
            b"\x8b\xff\xff\xff\xff.",
        ),
        *(b"\x8d" + b"\xff" * 8 + b"a.", b"X\xff\xff\xff\xffa.", b"V\\u12\n.", b"\x80\x02", b"\x80"),
    ],
)
def test_broken_pickles_are_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"refs\.p is no .*pickle.*copy it again"):
        read(content)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\x89PNG\r\n\x1a\n", "is no pickle"),
        (b"<html><body>404</body></html>", r"is no pickle \(byte 0\); is it the file of another format"),
        (b"PK\x03\x04rest\n", r"is no pickle \(byte 0\)"),
        (b"\x1f\x8b\x08\x00", r"is no pickle \(byte 0\)"),
        (b"\x80\x06N.", "is a pickle of protocol 6; protocols 0 to 5 are read"),
        (b"\x8a\x09" + b"\x01" * 9 + b".", "holds a number of 9 bytes"),
        (b"L" + b"9" * 5000 + b"L\n.", "holds a number of 5001 characters"),
    ],
)
def test_what_is_no_such_pickle_is_refused(content: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=f"refs.p {reason}"):
        read(content)


def test_noise_ends_in_a_value_or_one_error() -> None:
    generator = random.Random(0)
    content = pickle.dumps([{"sent": "a dog", "sent_ids": [0, 1, 300], "pair": (1.5, None)}], 2)
    for _ in range(3000):
        broken = bytearray(content)
        for _ in range(generator.randint(1, 4)):
            broken[generator.randrange(len(broken))] = generator.randrange(256)
        try:
            read(bytes(broken))
        except ValueError as error:
            assert str(error).startswith("refs.p ")


def test_few_bytes_take_little_memory_and_time() -> None:
    doubled = b"N" + b"2\x86" * 200  # each a pair of the pair before
    nested = b"(" * 20_000 + b"t" * 20_000
    started = time.process_time()
    tracemalloc.start()
    assert read(b"Nr" + struct.pack("<I", 2**31) + b".") is None
    assert read(doubled + b".")[0][1][0] is not None
    assert read(nested + b".") is not None
    with pytest.raises(ValueError, match="no sound pickle"):
        read(b"}" + doubled + b"Ns.")  # as the key of a dictionary it would be hashed for ever
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6 and time.process_time() - started < 10


def test_a_large_file_is_read_whole() -> None:
    refs = [
        {"ref_id": i, "split": "train", "sentences": [{"sent": f"dog {i}", "sent_id": i, "tokens": ["dog", str(i)]}]}
        for i in range(1000)
    ]
    for protocol in (0, 2, 4):
        stream = io.BytesIO()
        pickle.dump(refs, stream, protocol)
        assert json.dumps(read(stream.getvalue())) == json.dumps(refs)
