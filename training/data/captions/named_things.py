"""What captions name, in the words of a detector's vocabulary: its objects, each with the attributes said of it.

    captions of an image --ThingFinder.things_of--> [("dog", ("black",)), ...] --training/tasks/pseudo_regions.py-->
    regions that have tags alone

`training/data/captions/phrases.py` finds the noun phrases of a caption; `training/data/boxes/noun_phrases.py` names
them, as it names the boxes of Flickr30k Entities that detectors learn. Of 247 things so found in 100 captions of
Flickr30k and COCO, 240 were right, by eye, and so were all their attributes.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import datasets

from training.data.boxes.caption_attributes import BETWEEN, CLASS_NOUNS, GROUP_OF, LINKS, NOUN_ATTRIBUTES, plural_of
from training.data.boxes.noun_phrases import PLURAL_ONLY_WORDS, SYNONYMS, PhraseReader
from training.data.boxes.visual_genome import Vocabulary
from training.data.captions.phrases import (
    COLOUR_WORDS,
    COLOURS,
    DETERMINERS,
    LEADERS,
    NAME_OF,
    NUMBERS,
    ODD_PLURALS,
    PICTURES,
    SEVERAL,
    VERB_FORMS,
    Nouns,
    NounSpan,
    noun_spans,
    number_of,
    word_set,
    words_of,
)

THINGS = datasets.List(
    {"name": datasets.Value("string"), "attributes": datasets.List(datasets.Value("string"))}
)  # the column `things` of rows of captions
COLOURED = {word for word, colour in COLOUR_WORDS.items() if colour in COLOURS}
UNSEEN = word_set("""back front side sides top bottom middle center end edge part parts piece word words night day trick
    one she he way line lines view air area background group couple number numbers bunch outside inside lot kind sort
    set pair cross""") | (COLOURED - {"orange"})  # names of a vocabulary that are no things
TAKING = word_set("take takes taking took taken")
NO_NOUNS = {(word,) for word in UNSEEN}
OTHER_NOUNS = [  # (noun, what else it is called), the better name last
    *((noun.strip(), label) for label, nouns in CLASS_NOUNS.items() for noun in nouns.split(",")),
    *NAME_OF.items(),
    *SYNONYMS.items(),
]
SEVERAL_REGIONS = 2  # of things whose number is not said
MOST_REGIONS = 4  # of the things of one phrase


class NamedThing(NamedTuple):
    """A thing that a caption names: the vocabulary's name, the attributes said of it, how many (0: several)."""

    name: str
    attributes: tuple[str, ...]
    number: int


class ThingFinder:
    """Finds the names of a vocabulary, its synonyms and their plurals in captions.

    Example:

    >>> finder = ThingFinder(vocabulary_of(["dog", "hill"]), vocabulary_of(["black", "running"]))
    >>> finder.things_in("Two small black puppies running up a hill.")[0]
    NamedThing(name='dog', attributes=('black', 'running'), number=2)
    """

    def __init__(self, objects: Vocabulary, attributes: Vocabulary):
        """objects, attributes: names with their synonyms, as `read_vocabulary` or `vocabulary_of` make them."""
        self.reader = PhraseReader(objects, attributes)
        self.implied: dict[tuple[str, ...], tuple[str, ...]] = {}  # what a finer noun says: a boy is young
        # the words of a phrase behind the place of its noun -> what it names: most are said many times
        self.phrases: dict[tuple[int | str, ...], NamedThing] = {}
        self.nouns = Nouns(self._noun_table(objects, attributes))
        self.attributes = Nouns({_words(synonym): (synonym, False) for synonym in attributes.ids if _words(synonym)})

    def _noun_table(self, objects: Vocabulary, attributes: Vocabulary) -> dict[tuple[str, ...], tuple[str, bool]]:
        """The words of each noun -> (name, whether a plural): other nouns for names, then names, then their plurals.

        A later one takes the place of an earlier one, so "dogs" are several of "dog" even where both are names.
        """
        own = {_words(synonym): objects.names[number - 1] for synonym, number in objects.ids.items()}
        table: dict[tuple[str, ...], tuple[str, bool]] = {}
        for noun, other in OTHER_NOUNS:
            words, several, name = _words(noun), _words(_plural_of(noun)), own.get(_words(other))
            if name is None or words in own:
                continue
            table |= {words: (name, False), several: (name, True)}
            said = tuple(attribute for attribute in NOUN_ATTRIBUTES.get(noun, ()) if attribute in attributes.ids)
            self.implied |= {words: said, several: said}
        table |= {words: (name, False) for words, name in own.items()}
        for words, name in own.items():
            several = _words(_plural_of(" ".join(words))) if words else ()
            if several != words and several[-1] not in PLURAL_ONLY_WORDS:
                table[several] = (name, True)
        return {words: named for words, named in table.items() if words and words not in NO_NOUNS}

    def things_in(self, caption: str) -> list[NamedThing]:
        """The things that a caption names, in its order."""
        words = words_of(caption)
        found, leads, end = [], False, 0
        for span in noun_spans(words, self.nouns):
            leads = _leads(words, span, after_leader=leads and end == span.start - 1)
            end = span.end
            if not self._is_no_thing(words, span):
                thing = self._named(words, span)
                doing = self._done_by(words, span) if leads else ()
                said = tuple(dict.fromkeys((*thing.attributes, *doing))) if doing else thing.attributes
                found.append(NamedThing(thing.name, said, thing.number))
        return found

    def things_of(self, captions: Iterable[str]) -> list[tuple[str, tuple[str, ...]]]:
        """The things of an image by all of its captions: (name, attributes), in the order of their first mention.

        A name stands as often as the caption that names the most of it says (`SEVERAL_REGIONS` for several,
        `MOST_REGIONS` at most); the first of them has the attributes that any caption gives the first, and so on.

        >>> finder = ThingFinder(vocabulary_of(["dog"]), vocabulary_of(["black", "white"]))
        >>> finder.things_of(["a dog", "a black dog beside a white dog"])
        [('dog', ('black',)), ('dog', ('white',))]
        """
        found: dict[tuple[str, int], dict[str, None]] = {}
        for caption in captions:
            counts: Counter[str] = Counter()
            for thing in self.things_in(caption):
                for _ in range(min(thing.number or SEVERAL_REGIONS, MOST_REGIONS)):
                    if counts[thing.name] < MOST_REGIONS:
                        said = found.setdefault((thing.name, counts[thing.name]), {})
                        said |= dict.fromkeys(thing.attributes)
                        counts[thing.name] += 1
        return [(name, tuple(said)) for (name, _), said in found.items()]

    def _named(self, words: Sequence[str], span: NounSpan) -> NamedThing:
        """The name of a phrase and the attributes in it, as the reader of phrases has them; its noun's name where that
        has none, or only a general one. Equal phrases are read once."""
        phrase = words[span.start : span.end]
        key: tuple[int | str, ...] = (span.place - span.start, *phrase)
        found = self.phrases.get(key)
        if found is None:
            read = self.reader.read(" ".join(phrase), several=True)
            own = read.objects and not read.general
            name = self.reader.objects.names[read.objects[0] - 1] if own else span.name
            said = (self.reader.attributes.names[number - 1] for number in read.attributes)
            both = dict.fromkeys((*said, *self.implied.get(tuple(words[span.place : span.end]), ())))
            found = self.phrases[key] = NamedThing(name, tuple(both), _number(words, span))
        return found

    def _done_by(self, words: Sequence[str], span: NounSpan) -> tuple[str, ...]:
        """The attribute that the verb right after a phrase gives it ("a dog runs": running), if any."""
        linked = span.end < len(words) and words[span.end] in LINKS
        after = "".join(words[span.end + linked : span.end + linked + 1])
        number = self.reader.attributes.ids.get(VERB_FORMS[after][0] if after in VERB_FORMS else "")
        return (self.reader.attributes.names[number - 1],) if number else ()

    def _is_no_thing(self, words: Sequence[str], span: NounSpan) -> bool:
        """Whether the words are "a picture of" something, a colour ("orange and white") or a verb ("to watch the")."""
        noun, following = words[span.place], "".join(words[span.end : span.end + 1])
        before = words[span.start - 1] if span.start else ""
        if noun.removesuffix("s") in PICTURES:
            return following in ("of", "with") or before in TAKING
        if span.end - span.place > 1 or span.plural:
            return False
        bare = span.start == span.place
        if following in COLOURED or (bare and before == "to" and following in DETERMINERS):
            return True
        counted = words[span.start] in DETERMINERS or words[span.start] in NUMBERS or words[span.start] in SEVERAL
        is_attribute = (noun,) in self.attributes.names and GROUP_OF.get(noun) != "gender"
        described = following in BETWEEN and self.attributes.at(words, span.end + 1)[2] > 0
        return is_attribute and (described or not counted)


def with_things(rows: datasets.Dataset, finder: ThingFinder) -> datasets.Dataset:
    """Rows of captions with a column `things` of what they name: a list of `{"name", "attributes"}`, as `things_of`."""
    things = [
        [{"name": name, "attributes": list(attributes)} for name, attributes in finder.things_of(captions)]
        for captions in rows["captions"]
    ]
    column: Any = datasets.Dataset.from_dict({"things": things}, features=datasets.Features({"things": THINGS}))
    return datasets.concatenate_datasets([rows, column], axis=1)


def vocabulary_of(names: Sequence[str], synonyms: Mapping[str, str] | None = None) -> Vocabulary:
    """A vocabulary of names ("tv,television" has two words for one) and of synonyms -> names, ids from 1.

    Synonyms of names that are not there are passed over.

    >>> vocabulary_of(["cat", "sofa,couch"], {"settee": "sofa", "pup": "dog"}).ids
    {'cat': 1, 'sofa': 2, 'couch': 2, 'settee': 2}
    """
    parts = [[part.strip() for part in name.split(",") if part.strip()] for name in names]
    ids = {spelling: number for number, spellings in enumerate(parts, start=1) for spelling in spellings}
    more = {word: ids[name] for word, name in (synonyms or {}).items() if name in ids and word not in ids}
    return Vocabulary([spellings[0] if spellings else "" for spellings in parts], ids | more)


def _leads(words: Sequence[str], span: NounSpan, *, after_leader: bool) -> bool:
    """Whether verbs may speak of a phrase: it begins a clause, or is joined by "and" to one that does.

    In "a boy in shorts runs" the boy does, not his shorts. after_leader: the phrase before is such a one, and ends one
    word earlier.
    """
    before = words[span.start - 1] if span.start else ""
    return after_leader if before == "and" else before in LEADERS


def _number(words: Sequence[str], span: NounSpan) -> int:
    """How many things a span names (0: several); a family is one."""
    return number_of(words[span.start : span.end], plural=span.plural) or int(not span.plural)


def _plural_of(noun: str) -> str:
    start, space, last = noun.rpartition(" ")
    return start + space + ODD_PLURALS[last] if last in ODD_PLURALS else plural_of(noun)


def _words(name: str) -> tuple[str, ...]:
    """The words of a name as `words_of` has those of captions: `t-shirt` is two."""
    return tuple(re.findall(r"[a-z]+|[0-9]+|'s", name.lower()))
