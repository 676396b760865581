"""spaCy's parses without spaCy: documents with the attributes that `dependencies.py` reads, from recorded rows."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HAND_PARSED = Path(__file__).with_name("hand_parsed_captions.json")


class ParsedWord:
    """A token: (text, lemma, tag, part of speech, relation, place of the head)."""

    def __init__(self, document: "ParsedCaption", place: int, row: list[Any]) -> None:
        self.doc, self.i = document, place
        self.text, self.lemma_, self.tag_, self.pos_, self.dep_, self._head = row

    @property
    def head(self) -> "ParsedWord":
        return self.doc[self._head]

    @property
    def children(self) -> list["ParsedWord"]:
        return [word for word in self.doc if word.head is self and word is not self]

    def nbor(self, steps: int) -> "ParsedWord":
        return self.doc[self.i + steps]


class ParsedCaption:
    """A document, whose sentences end at full stops."""

    def __init__(self, rows: list[list[Any]]) -> None:
        self.words = [ParsedWord(self, place, row) for place, row in enumerate(rows)]

    def __getitem__(self, place: int) -> ParsedWord:
        return self.words[place]

    def __iter__(self) -> Iterator[ParsedWord]:
        return iter(self.words)

    @property
    def sents(self) -> Iterator[list[ParsedWord]]:
        sentence: list[ParsedWord] = []
        for word in self.words:
            sentence.append(word)
            if word.text == ".":
                yield sentence
                sentence = []
        if sentence:
            yield sentence


class RecordedPipeline:
    """A pipeline that looks captions up among recorded ones, and counts what it is asked for."""

    vocab = None

    def __init__(self, parses: dict[str, list[list[Any]]]) -> None:
        self.parses = parses
        self.asked: list[str] = []

    def pipe(self, docs: Any) -> Iterator[ParsedCaption]:
        for words in docs:
            self.asked.append(" ".join(words))
            yield ParsedCaption(self.parses[" ".join(words)])


def hand_parsed() -> list[dict[str, Any]]:
    """The captions: `caption`, `tuples` (by hand) and `words` (en_core_web_md 3.8.0)."""
    return json.loads(HAND_PARSED.read_text(encoding="utf-8"))


def parse(text: str) -> ParsedCaption:
    """A document from lines of a word each: text, lemma, tag, part of speech, relation, place of the head."""
    rows = [line.split() for line in text.strip().splitlines()]
    return ParsedCaption([[*row[:5], int(row[5])] for row in rows])
