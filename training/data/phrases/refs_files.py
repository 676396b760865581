"""The refs files of RefCOCO, RefCOCO+, RefCOCOg and RefCLEF (Kazemzadeh et al. 2014, Yu et al. 2016, Mao et al. 2016).

    refs(unc).p | refs(google).p | refs(umd).p | the same records as JSON --read_refs--> list of Ref
    list of Ref + "train" | "val" | "testA" ... --refs_of_split--> those of a split

A refs file says which annotation of an image each expression refers to; boxes, polygons and the images' names stand in
the `instances.json` beside it, whose annotations have the `annotation_id`. The pickles are read by
`training/data/plain_pickle.py`, which executes nothing.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.data.files import PathLike, all_texts, id_text, listed, read_json, read_json_lines, records
from training.data.plain_pickle import read_plain_pickle
from training.data.splits import OTHER_WORDS, NoSuchSplitError

LARGEST_FILE = 2**28  # bytes
JSON_STARTS = (b"[", b"{")
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class RefSentence:
    """An expression: its id, `sent` of the file (words in lower case apart by blanks), and `raw`, as it was typed."""

    sentence_id: str
    text: str
    raw: str


@dataclass(frozen=True)
class Ref:
    """A thing in an image that people refer to, and the expressions for it.

    All ids are texts: `ref_id`; `image_id` and `annotation_id`, as in the `instances.json`; `category_id`, "" where the
    file has none. `file_name` is the file's own, "" where it has none: that of COCO's images ends in
    "_<number of the annotation>.jpg", so the image's true name is the one in the `instances.json`. `split` is the
    file's word: "train", "val", "test", "testA", "testB", "testAB", ...
    """

    ref_id: str
    image_id: str
    annotation_id: str
    category_id: str
    file_name: str
    split: str
    sentences: tuple[RefSentence, ...]


def read_refs(path: PathLike) -> list[Ref]:
    """The refs of a file, in its order.

    Args:
        path: the official pickle, of any protocol; or its records as JSON: a list, an object with the list under
            `refs`, or (`.jsonl`) one a line. What it is is seen from its content.

    Returns:
        One `Ref` per record. Expressions without a word are left out, with one warning; a ref may be left with none.

    Raises:
        ValueError: for a file that is absent, too large, cut short or no refs file, a pickle that holds more than plain
            values (it names the class or function; nothing is executed), and a record without an id, a split or its
            sentences, or whose ref id is another's too.
    """
    given = _records(path, _content(path))
    if not given:
        raise ValueError(f"{path} holds no ref; copy it again")
    refs: dict[str, Ref] = {}
    seen: set[int] = set()
    for number, record in enumerate(given):
        ref = _ref(record, f"{path}: record {number}", seen)
        if refs.setdefault(ref.ref_id, ref) is not ref:
            raise ValueError(f"{path}: the ref {ref.ref_id!r:.60} stands in it twice; is it joined of several files?")
    return _with_words(list(refs.values()), path)


def refs_of_split(refs: Sequence[Ref], split: str, *, source: PathLike = "the refs file") -> list[Ref]:
    """The refs of one split, or of several ("train+val"), in their order.

    As in the official `refer.py`, "test" is every split of which that is a part, and "testA", "testB" or "testC" those
    whose word has this letter ("testAB" belongs to both). Raises `NoSuchSplitError` (a ValueError) naming the splits
    that are there.

    >>> words = ("train", "testA", "testAB")
    >>> refs = [Ref(str(i), "1", "1", "1", "", word, ()) for i, word in enumerate(words)]
    >>> [ref.split for ref in refs_of_split(refs, "testA")]
    ['testA', 'testAB']
    """
    present = {ref.split for ref in refs}
    chosen = {word for part in split.split("+") for word in present if _is_of(word, OTHER_WORDS.get(part, part))}
    if not chosen:
        told = f"{source} has no ref of the split {split!r}; it has {', '.join(sorted(present))}"
        raise NoSuchSplitError(told, present=present)
    return [ref for ref in refs if ref.split in chosen]


def _is_of(word: str, split: str) -> bool:
    if split in ("testA", "testB", "testC"):
        return word.startswith("test") and split[-1] in word
    return word == split or (split == "test" and "test" in word)


def _content(path: PathLike) -> bytes:
    try:
        with open(path, "rb") as file:
            content = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    if len(content) > LARGEST_FILE:
        raise ValueError(f"{path} has more than {LARGEST_FILE} bytes, which no refs file has; give the refs file alone")
    if not content:
        raise ValueError(f"{path} is empty; copy it again")
    return content


def _records(path: PathLike, content: bytes) -> list[Any]:
    if content.removeprefix(BYTE_ORDER_MARK).lstrip().startswith(JSON_STARTS):
        found: Any = read_json_lines(path) if Path(path).suffix == ".jsonl" else read_json(path)
        return records(found, "refs", path) if isinstance(found, dict) else found
    found = read_plain_pickle(content, source=path)
    if not isinstance(found, list):
        raise ValueError(
            f"{path} holds a {type(found).__name__} and no list of refs; is it the file of another format?"
        )
    return found


def _ref(record: Any, place: str, seen: set[int]) -> Ref:
    """A record's ref; `seen`: the lists and sentences that other refs have, since a pickle may repeat one for ever."""
    if not isinstance(record, dict):
        raise ValueError(f"{place} is a {type(record).__name__}, not a ref; is it the file of another format?")
    sentences = record.get("sentences")
    if not isinstance(sentences, list):
        raise ValueError(f"{place} has no list of sentences; is it a refs file?")
    parts = {id(part) for part in (sentences, *sentences)}
    if len(parts) <= len(sentences) or not seen.isdisjoint(parts):
        raise ValueError(f"{place} repeats the sentences of another or its own; is it a refs file?")
    seen |= parts
    return Ref(
        ref_id=_id(record, "ref_id", place),
        image_id=_id(record, "image_id", place),
        annotation_id=_id(record, "ann_id", place),
        category_id=_id(record, "category_id", place) if "category_id" in record else "",
        file_name=_words(record, "file_name", place) if "file_name" in record else "",
        split=_words(record, "split", place),
        sentences=tuple(_sentence(sentence, f"{place}, sentence {i}") for i, sentence in enumerate(sentences)),
    )


def _sentence(sentence: Any, place: str) -> RefSentence:
    if not isinstance(sentence, dict):
        raise ValueError(f"{place} is a {type(sentence).__name__}; it needs a sent_id and its text under sent")
    text = _words(sentence, "sent", place)
    raw = _words(sentence, "raw", place) if "raw" in sentence else text
    return RefSentence(_id(sentence, "sent_id", place), text, raw)


def _id(record: dict[Any, Any], key: str, place: str) -> str:
    value = record.get(key)
    if isinstance(value, bool) or not isinstance(value, int | str) or value == "":
        raise ValueError(f"{place} has no id under {key}; is it a refs file?")
    return id_text(value)


def _words(record: dict[Any, Any], key: str, place: str) -> str:
    value = record.get(key)
    if not isinstance(value, str) or not all_texts([value]):
        raise ValueError(f"{place} has no text under {key}; is it a refs file?")
    return value


def _with_words(refs: list[Ref], path: PathLike) -> list[Ref]:
    """The refs without the expressions that have no word."""
    silent = [sentence.sentence_id for ref in refs for sentence in ref.sentences if not sentence.text.strip()]
    if not silent:
        return refs
    warnings.warn(f"{path}: {len(silent)} expressions without a word are left out: {listed(silent)}", stacklevel=3)
    return [
        Ref(**{**vars(ref), "sentences": tuple(sentence for sentence in ref.sentences if sentence.text.strip())})
        for ref in refs
    ]
