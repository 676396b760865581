"""Which of COCO's 80 objects a caption names: the words that CHAIR counts, POPE's answers of captioners too.

    caption --treebank_tokenize--> words --singulars--> words of `chair_words.json` --> Mentions (objects)

Two readings: `official`, that of the published script with its mistakes, and `corrected`, which looks a word up as it
stands, or as the plural of a word of the table, so that "a bus", "a tennis racket" and "a cheesecake" are found.
"""

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Literal, get_args

from training.data.boxes.caption_attributes import plural_of
from training.metrics.captioning.singular import pattern_singular
from training.metrics.captioning.treebank import treebank_tokenize

Variant = Literal["official", "corrected"]
TABLE = Path(__file__).with_name("chair_words.json")
LONGEST_NAME = 3  # words: stove top oven
# what plural_of does not make, beside -men; "people" stands in the table
_PLURALS = "calf:calves goose:geese grandchild:grandchildren knife:knives mouse:mice ox:oxen person:persons"
IRREGULAR_PLURALS = dict(pair.split(":") for pair in f"{_PLURALS} pocketknife:pocketknives".split())


@dataclass(frozen=True)
class Mentions:
    """What a caption names: its words with pairs joined, and of each mention word, object and place.

    places: of a mention's first word among the caption's words before any are joined. Of the official reading they are
        too small behind a "seat" that is passed over, as the script has them.
    """

    words: list[str]
    named: list[str]
    objects: list[str]
    places: list[int]


@dataclass(frozen=True)
class Table:
    """object_of: word or pair -> object, one of COCO's 80 names; joined: words that are read as one -> the word."""

    object_of: Mapping[str, str]
    joined: Mapping[str, str]


@lru_cache(maxsize=1 << 14)
def mentions(caption: str, *, variant: Variant = "official") -> Mentions:
    """The objects that a caption names, with repetition.

    >>> mentions("Two men ride buses past a bus").objects, mentions("a bus", variant="corrected").objects
    (['person', 'bus'], ['bus'])
    """
    table, joined, places = object_words(variant), list[str](), list[int]()
    words = [singular(word, variant=variant) for word in treebank_tokenize(caption)]
    place = 0
    while place < len(words):
        length = next(
            n for n in range(LONGEST_NAME, 0, -1) if n == 1 or " ".join(words[place : place + n]) in table.joined
        )
        text = " ".join(words[place : place + length])
        joined.append(table.joined.get(text, text))
        places.append(place)
        place += length
    kept = list(zip(joined, places, strict=True))
    if {"toilet", "seat"} <= {*joined}:  # the seat of a toilet is no chair
        kept = [(word, place) for word, place in kept if word != "seat"]
        if variant == "official":
            kept = [(word, place) for (word, _), place in zip(kept, places, strict=False)]
    found = [(word, table.object_of[word], place) for word, place in kept if word in table.object_of]
    return Mentions(joined, [word for word, _, _ in found], [name for _, name, _ in found], [p for _, _, p in found])


def singular(word: str, *, variant: Variant) -> str:
    """A caption's word as it is looked up."""
    return pattern_singular(word) if variant == "official" else singular_forms().get(word, word)


@cache
def object_words(variant: Variant) -> Table:
    """The words of `chair_words.json`; the corrected reading also has those that the script never finds."""
    if variant not in get_args(Variant):
        raise ValueError(f"there is no variant {variant!r} of CHAIR: choose {' or '.join(get_args(Variant))}")
    content = json.loads(TABLE.read_text(encoding="utf-8"))
    rules = content["joined"]
    object_of = {name: name for name in content["objects"]}
    object_of |= dict(_synonyms(content["objects"]))
    joined = {pair: pair for pair in rules["pairs"].split(", ")}
    animals, qualifiers = rules["animals"].split(", "), rules["qualifiers"].split(", ")
    joined |= {f"{qualifier} {animal}": animal for animal in animals for qualifier in qualifiers}
    joined |= rules["read_as"]
    if variant == "corrected":
        lost = {word.lower(): name for word, name in _synonyms(content["never_matched"])}
        object_of |= lost
        joined |= {word: word for word in object_of if " " in word and word not in joined}
    return Table(object_of, joined)


@cache
def singular_forms() -> dict[str, str]:
    """Every plural of a word of the corrected table -> that word; words that the table has as they stand -> themselves.

    "People" and "skis" stand in it and stay as they are.
    """
    table = object_words("corrected")
    known = {part for text in (*table.object_of, *table.joined) for part in text.split()}
    plurals = {_plural(word): word for word in sorted(known)}
    return plurals | {word: word for word in known}


def objects_named(names: Collection[str], *, variant: Variant = "official") -> set[str]:
    """COCO's objects among names of boxes in any case, through the synonyms; other names are passed over.

    >>> sorted(objects_named(["sofa", "dog", "sky"]))
    ['couch', 'dog']
    """
    object_of = object_words(variant).object_of
    return {object_of[name] for name in map(str.lower, names) if name in object_of}


def _plural(word: str) -> str:
    if word.endswith("man"):
        return word.removesuffix("man") + "men"
    return IRREGULAR_PLURALS.get(word) or plural_of(word)


def _synonyms(entries: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """(word, object) of the entries object -> words."""
    return ((word, name) for name, words in entries.items() if words for word in words.split(", "))
