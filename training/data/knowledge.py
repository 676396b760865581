"""Sentences of knowledge that a user brings, and what a recipe says of them in `data.knowledge`.

    facts.txt | facts.jsonl --read_facts--> sentences --training/search/knowledge.py--> those nearest to a question

OK-VQA's setting (Marino et al. 2019): the answer stands in no image, a sentence beside the question may hold it.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from training.console import did_you_mean
from training.data.files import PathLike, read_json_lines, read_lines, text_column

LARGEST_FILE_BYTES = 2**28
MOST_SENTENCES = 500_000  # whose vectors are held in memory, 0.8 GB at a width of 384
LONGEST_SENTENCE = 2_000  # characters, some 400 words: more than any text encoder reads
TABLES = (".csv", ".tsv")
WAYS = 'write a sentence a line (.txt), or an object a line, {"text": "a sentence"} (.jsonl)'
NEAR_TO = ("question", "image", "both")


@dataclass(frozen=True)
class Knowledge:
    """A recipe's `data.knowledge`.

    file: a sentence a line (`.txt`), or objects with `text`, one a line (`.jsonl`).
    model: a saved retrieval model, a folder or Hub id, whose embeddings tell which sentences are near.
    sentences: how many of them stand beside each question.
    by: near to the `question`, to the `image`, or to `both`, the sum of their embeddings. An image's embedding is made
        once a run.
    """

    file: str
    model: str = "hub_cards/updown-retrieval-flickr8k"
    sentences: int = 3
    by: str = "question"


def knowledge_of(data: Mapping[str, Any]) -> Knowledge | None:
    """What a recipe's `data` say of knowledge, None where they name none; `ValueError` for what cannot be meant.

    >>> knowledge_of({"format": "folder", "knowledge": {"file": "facts.txt"}}).sentences
    3
    """
    given = data.get("knowledge")
    if given is None:
        return None
    known = [entry.name for entry in fields(Knowledge)]
    if not isinstance(given, Mapping) or not given.get("file"):
        raise ValueError(f"data.knowledge is {str(given)[:80]!r}, but must be a section with a file of sentences")
    unknown = next((name for name in given if name not in known), None)
    if unknown is not None:
        told = did_you_mean(str(unknown), known) or f"; it takes {', '.join(known)}"
        raise ValueError(f"unknown key {unknown!r} in data.knowledge{told}")
    settings = Knowledge(**given)
    if type(settings.sentences) is not int or settings.sentences < 1:
        raise ValueError(f"data.knowledge: sentences is {settings.sentences!r}, but must be a number of 1 or more")
    if settings.by not in NEAR_TO:
        raise ValueError(f"data.knowledge: by is {settings.by!r}; choose one of {', '.join(NEAR_TO)}")
    if not isinstance(settings.file, str) or not isinstance(settings.model, str) or not settings.model:
        raise ValueError("data.knowledge: file and model must be the paths of a file and of a retrieval model")
    return settings


def question_data(data: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe's `data` as the readers of questions take them, without knowledge."""
    return {name: value for name, value in data.items() if name != "knowledge"}


def tell_cut(read: list[Any], whole: Sequence[Any], *, most: int) -> list[Any]:
    """`read` again, and one warning for the questions that are cut with the knowledge behind them.

    read, whole: of N questions the token ids that a model reads, and all; most: the recipe's `train.max_words`.
    """
    cut = sum(len(part) < len(ids) for part, ids in zip(read, whole, strict=True))
    if cut:
        warnings.warn(
            f"{cut} of {len(read)} questions with their knowledge are longer than the {most} word pieces of "
            "train.max_words, and lose its end: raise it, or take fewer sentences",
            stacklevel=4,
        )
    return read


def read_facts(path: PathLike) -> list[str]:
    """The sentences of a file, each once, in their order.

    Raises `ValueError` for a file that cannot be read or is larger than 256 MB, one without a sentence or with more
    than 500,000, a table, and a line that is too long for one.
    """
    path = Path(path)
    if path.is_file() and path.stat().st_size > LARGEST_FILE_BYTES:
        raise ValueError(
            f"{path} has {path.stat().st_size:,} bytes, more than the {LARGEST_FILE_BYTES:,} that knowledge may have: "
            "keep the sentences that the questions are about"
        )
    if path.suffix.lower() in TABLES:
        raise ValueError(f"{path} is a table, whose lines are no sentences: {WAYS}")
    if path.suffix.lower() in (".jsonl", ".json"):
        try:
            lines = text_column(read_json_lines(path), "text", path)
        except ValueError as error:
            raise ValueError(f"{error}; {WAYS}") from error
    else:
        lines = read_lines(path)
    sentences = [line for line in dict.fromkeys(" ".join(line.split()) for line in lines) if line]
    if not sentences:
        raise ValueError(f"{path} holds no sentence: write one a line")
    if len(sentences) > MOST_SENTENCES:
        raise ValueError(
            f"{path} holds {len(sentences):,} sentences, more than the {MOST_SENTENCES:,} that are searched in memory: "
            "keep those that the questions are about"
        )
    long = next((place for place, text in enumerate(sentences, start=1) if len(text) > LONGEST_SENTENCE), None)
    if long is not None:
        raise ValueError(
            f"sentence {long} of {path}, {sentences[long - 1][:40]!r}..., has {len(sentences[long - 1]):,} characters, "
            f"more than the {LONGEST_SENTENCE:,} of a sentence: write one sentence a line"
        )
    return sentences
