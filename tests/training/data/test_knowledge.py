"""Sentences of knowledge from files, and what a recipe says of them."""

import json
from pathlib import Path
from typing import Any

import pytest

from training.data import knowledge
from training.data.knowledge import Knowledge, knowledge_of, question_data, read_facts


def test_sentences_are_read_once_each_in_their_order(tmp_path: Path) -> None:
    (tmp_path / "facts.txt").write_text(
        "Dogs bark.\n\n  a  cat\tsleeps \nDogs bark.\n\ufeffwater is wet", encoding="utf-8"
    )
    assert read_facts(tmp_path / "facts.txt")[:2] == ["Dogs bark.", "a cat sleeps"]
    rows = [{"text": " one "}, {"text": "two", "source": "x"}, {"text": ""}, {"text": "one"}]
    (tmp_path / "facts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert read_facts(tmp_path / "facts.jsonl") == ["one", "two"]
    (tmp_path / "windows.txt").write_bytes(b"\xef\xbb\xbfa cat\r\n\r\n a  cat \r\nthe sea\r\n")
    assert read_facts(tmp_path / "windows.txt") == ["a cat", "the sea"]  # once each, however it is spaced


@pytest.mark.parametrize(
    ("name", "content", "cure"),
    [
        ("facts.txt", b"", "facts.txt holds no sentence: write one a line"),
        ("facts.txt", b" \n\n", "holds no sentence"),
        ("facts.txt", b"short\n" + b"x" * 3000, "sentence 2 of .*, 'xxx.*, has 3,000 characters, more than the 2,000"),
        ("facts.txt", b"\xff\xfe", "is not UTF-8 text"),
        ("facts.jsonl", b'{"text": 3}', "the text of record 0 is 3, not text"),
        ("facts.jsonl", b'{"fact": "a"}', "record 0 has no 'text'"),
        ("facts.jsonl", b'"a"', "line 1: expected an object"),
        ("facts.json", b'["a", "b"]', r'an object a line, {"text": "a sentence"} \(.jsonl\)'),
        (
            "facts.csv",
            b"id,text\n1,a dog\n",
            "facts.csv is a table, whose lines are no sentences: write a sentence a line",
        ),
    ],
)
def test_files_of_something_else_are_refused(tmp_path: Path, name: str, content: bytes, cure: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=cure):
        read_facts(tmp_path / name)


def test_memory_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="cannot read .*gone.txt"):
        read_facts(tmp_path / "gone.txt")
    path = tmp_path / "facts.txt"
    path.write_text("a\nb\nc\n")
    monkeypatch.setattr(knowledge, "MOST_SENTENCES", 2)
    with pytest.raises(ValueError, match="holds 3 sentences, more than the 2 that are searched in memory"):
        read_facts(path)
    monkeypatch.setattr(knowledge, "LARGEST_FILE_BYTES", 5)
    with pytest.raises(ValueError, match="has 6 bytes, more than the 5 that knowledge may have"):
        read_facts(path)


def test_a_recipe_says_file_model_number_and_by_what() -> None:
    data = {"format": "folder", "knowledge": {"file": "a.txt", "sentences": 2, "by": "both"}}
    assert knowledge_of(data) == Knowledge("a.txt", "hub_cards/updown-retrieval-flickr8k", 2, "both")
    assert knowledge_of({"format": "folder"}) is None and question_data(data) == {"format": "folder"}


@pytest.mark.parametrize(
    ("given", "cure"),
    [
        ("facts.txt", "data.knowledge is 'facts.txt', but must be a section with a file"),
        ({"sentences": 3}, "must be a section with a file"),
        ({"file": "a", "sentence": 3}, "unknown key 'sentence' in data.knowledge; did you mean 'sentences'"),
        ({"file": "a", "sentences": 0}, "sentences is 0, but must be a number of 1 or more"),
        ({"file": "a", "sentences": True}, "sentences is True"),
        ({"file": "a", "by": "photo"}, "by is 'photo'; choose one of question, image, both"),
        ({"file": "a", "model": ""}, "must be the paths of a file and of a retrieval model"),
    ],
)
def test_what_cannot_be_meant_is_refused(given: Any, cure: str) -> None:
    with pytest.raises(ValueError, match=cure):
        knowledge_of({"knowledge": given})
