"""Streamed JSON: the same values as the json module gives, block by block, and errors that name the line."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.training.data.questions.vqa_files import write
from training.data import json_stream
from training.data.json_stream import stream_members, stream_records

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)


@pytest.fixture(scope="module", autouse=True)
def small_blocks() -> Any:
    """Blocks of a few characters, so that every value is cut somewhere."""
    before, json_stream.BLOCK_CHARACTERS = json_stream.BLOCK_CHARACTERS, 5
    yield
    json_stream.BLOCK_CHARACTERS = before


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("json") / "file.json"


@settings(max_examples=40, deadline=None)
@given(content=st.dictionaries(st.text(), VALUES, max_size=5), indent=st.sampled_from([None, 0, 3]))
def test_members_are_those_of_the_json_module(path: Path, content: dict[str, Any], indent: int | None) -> None:
    write(path, json.dumps(content, indent=indent))
    assert dict(stream_members(path)) == content


@settings(max_examples=40, deadline=None)
@given(elements=st.lists(VALUES, max_size=6), ascii_only=st.booleans())
def test_lists_named_inside_come_element_by_element(path: Path, elements: list[Any], ascii_only: bool) -> None:
    try:
        write(path, json.dumps({"a": 1, "list": elements, "b": [2]}, ensure_ascii=ascii_only))
    except UnicodeEncodeError:  # half of a surrogate pair only stands in a file as an escape
        return
    found = list(stream_members(path, inside=("list", "a", "absent")))
    assert found == [("a", 1), *(("list", element) for element in elements), ("b", [2])]


def test_a_number_at_the_edge_of_a_block_is_whole(path: Path) -> None:
    for digits in range(1, 12):
        for number in (int("7" * digits), 7.5e-30 * 10**digits, -(10.0**digits)):
            assert list(stream_members(write(path, f'{{"a":{number}}}'))) == [("a", number)]


def test_records_with_and_without_a_byte_order_mark(path: Path) -> None:
    assert list(stream_records(write(path, ' [ {"a": 1} ,\n{"a": "Hühner"}] '))) == [{"a": 1}, {"a": "Hühner"}]
    assert list(stream_records(write(path, "\ufeff[]"))) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "file.json is empty; copy it again"),
        (" \n ", "file.json is empty"),
        ("[1]", "holds a list where an object is expected; is it the file of another format"),
        ("question,answer\n", "holds 'quest.*' where an object is expected"),
        ('{"a": 1,\n"b": [1, 2\n', r"not valid JSON \(line 3: .*\); is it cut short"),
        ('{"a": 1,\n\n"b"', r"not valid JSON \(line 3: Expecting ':'\); is it cut short"),
        ('{"a": 1,\n\n"b": {"c": nul}, "d": 1}', r"not valid JSON \(line 3: Expecting value\)"),
        ('{"a": 1 "b": 2}', r"line 1: Expecting ','"),
        ('{"a": ' + "[" * 100_000, "nested too deeply|Expecting value"),
    ],
)
def test_broken_files_name_the_line(path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        list(stream_members(write(path, text)))


def test_other_faults_of_files(path: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot read .*absent.json: No such file"):
        list(stream_records(tmp_path / "absent.json"))
    path.write_bytes(b'["' + b"a" * 50 + b"\xff" + b'"]')
    with pytest.raises(ValueError, match="file.json is not UTF-8 text"):
        list(stream_records(path))
    with pytest.raises(ValueError, match="file.json: record 1 is no object: 7"):
        list(stream_records(write(path, [{}, 7])))
    with pytest.raises(ValueError, match="holds an object where a list is expected"):
        list(stream_records(write(path, {})))


def test_memory_holds_a_few_blocks(path: Path) -> None:
    write(path, {"list": [{"number": number} for number in range(2000)]})
    largest = 0
    with open(path, encoding="utf-8") as file:
        text = json_stream._Text(file, path)
        text.open("{", what="an object")
        text.value()
        text.expect(":")
        text.expect("[")
        for _ in text.elements():
            largest = max(largest, len(text.window))
    assert largest < 100
