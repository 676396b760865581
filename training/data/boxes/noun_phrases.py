"""What a noun phrase names and says of it: "two small brown dogs" -> dog; small, brown.

    words --split_phrase--> heads with what stands before them --PhraseReader.read--> PhraseNames(objects, attributes)

Word lists and rules, no parser: the head is the last word before a preposition or relative pronoun, behind the last
possessive; words of amount and place ("a group of", "the side of") are passed over. The longest name of the vocabulary
that ends in the head is the object, what stands before it gives the attributes. training/README.md has the share of
phrases that are read right, and how often spaCy's parser agrees.
"""

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from training.data.boxes.caption_attributes import (
    ANIMALS,
    ATTRIBUTE_WORDS,
    IRREGULAR_PLURALS,
    noun_table,
    plural_of,
)
from training.data.boxes.names import coco_id, covered_ids, finer_names
from training.data.boxes.visual_genome import Vocabulary


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


DETERMINERS = _words(
    "the a an this that these those his her their its our my your another other each every both some any all many "
    "several few various numerous multiple no one two three four five six seven eight nine ten eleven twelve dozen "
    "he she they him them it himself herself themselves itself others something someone somebody everyone anyone "
    "everything nothing who what which"
)
PLURAL_WORDS = _words(
    "these those both many several few various numerous multiple two three four five six seven eight nine ten eleven "
    "twelve they them themselves others all some"
)
PREPOSITIONS = _words(
    "in on at with from for to near by behind beside under over into onto across against around between through among "
    "above below along that who which whose while wearing holding as like"
)
# "a group of men", "the side of a building": the noun is the one that follows.
AMOUNTS = _words(
    "group groups crowd crowds lot lots bunch bunches pair pairs set sets row rows line lines pile piles piece pieces "
    "number series couple flock herd pack team teams body bodies flight type types kind kinds variety stack stacks "
    "patch patches mound bit strip member members"
)
PLACES = _words(
    "side sides top edge edges middle back end bottom front base corner inside outside part parts midst center centre "
    "closeup close-up surface rest view"
)
# Names that one box of several may have besides the things': a group of men is a group.
GROUPS = _words("group crowd herd couple family team band class audience bunch pile stack row line pack flock")
SAID_GROUPS = _words("group crowd herd pile stack")
PLURAL_ONLY_WORDS = _words(
    "pants shorts jeans glasses sunglasses eyeglasses goggles trousers tights trunks scissors overalls pajamas "
    "suspenders headphones stairs steps bleachers clothes woods sweatpants slacks tongs bangs"
)
# Names that are an adjective and a name of their own.
ADJECTIVE_NAMES = frozenset({"little girl", "young man"})
# Compounds that are not a kind of what their last word names.
MISLEADING = frozenset(
    {
        *("hot dog", "teddy bear", "stuffed bear", "stuffed animal", "wet suit", "bathing suit", "swim suit"),
        *("home plate", "dirt bike", "motor bike", "train car", "shower head", "ice cream", "pony tail", "rock band"),
        *("clock face", "pizza slice", "tomato slice", "banana slice", "french fries", "stove top", "side walk"),
        *("cotton candy", "mountain range", "merry go round", "jungle gym", "water fall", "sand box", "hair cut"),
    }
)
# Words that the vocabulary lacks -> a name that is as true.
SYNONYMS = {
    "gentleman": "man",
    "infant": "baby",
    "bicyclist": "cyclist",
    "bicycler": "cyclist",
    "footballer": "player",
    "onlooker": "spectator",
    "mom": "mother",
    "bandanna": "bandana",
    "tee-shirt": "tshirt",
    "bowtie": "bow tie",
    "trousers": "pants",
    "raincoat": "coat",
    "parka": "coat",
    "bathrobe": "robe",
    "gown": "dress",
    "swimming trunks": "swim trunks",
    "bathing trunks": "swim trunks",
    "handrail": "railing",
    "creek": "stream",
    "meadow": "field",
    "backyard": "yard",
    "racetrack": "track",
    "mountaintop": "mountain",
    "automobile": "car",
    "soccerball": "soccer ball",
    "rowboat": "boat",
    "highchair": "chair",
}
# A phrase's kind as Flickr30k Entities gives it -> the names of one and of several such things.
KIND_NAMES = {
    "people": ("person", "people"),
    "animals": ("animal", "animals"),
    "vehicles": ("vehicle", "vehicles"),
    "clothing": ("clothing", "clothes"),
}
COLOURS = frozenset(
    {
        *(word for words in ATTRIBUTE_WORDS["colour"].values() for word in words.split()),
        *("purple", "gold", "maroon", "burgundy", "teal", "khaki", "beige", "neon", "dark", "bright"),
    }
)
HAIR = frozenset({"blond", "blonde", "brunette", "curly", "bald"})
# Attributes of the vocabulary that are no adjective, or none that can stand alone before a noun.
NO_MODIFIERS = frozenset(
    {
        *("brake", "windshield", "apple", "chocolate", "cheese", "home", "palm", "fire", "soap", "park", "chalk"),
        *("license", "baby", "coffee", "salt", "clock", "stack", "traffic", "roman", "fruit", "water", "birthday"),
        *("dress", "slice", "ski", "statue", "still", "side view", "door", "wine", "toilet paper", "cake", "police"),
        *("off", "laptop", "street", "cast", "in air", "letter", "power", "herd", "half", "wrist", "computer"),
        *("toilet", "bunch", "safety", "stripes", "bathroom", "telephone", "pile", "soda", "number", "back", "up"),
        *("down", "above", "stop", "roll", "train", "skate", "tomato", "ocean", "mountain", "made", "cut", "parking"),
        *("covering", "cargo", "night", "mesh", "pulled back", "tile", "alone", "taking off"),
    }
)
# What only the living do: a running dog runs, running shoes do not.
DEEDS = frozenset(
    {
        *("performing", "skiing", "surfing", "sleeping", "jumping", "cooking", "crouching", "grazing", "snowboarding"),
        *("playing tennis", "walking", "smiling", "skateboarding", "batting", "sitting", "running", "eating"),
        *("skating", "playing", "standing", "driving", "watching", "squatting", "riding", "reaching", "bending"),
        *("bending over", "holding", "kneeling", "lying", "laying", "laying down", "wearing", "laughing", "talking"),
        *("leaning", "looking", "pointing", "throwing", "hitting", "swimming", "barefoot", "posing", "racing"),
        *("blowing", "resting", "swinging", "serving"),
    }
)
# What nobody is made of: a rock climber is not of rock.
MATERIALS = _words(
    "metal wood wooden brick stone rock leather plastic cardboard glass concrete cement paper denim straw gravel dirt "
    "sand grass clay rubber steel iron wire marble winter christmas"
)
NO_WORD = re.compile(r"^\W+$|^\d+$")
QUOTES = ('"', "``", "''")
JOINED = frozenset({"and", ",", "&", "or"})
TRAILING = DETERMINERS | JOINED | {"open", "closed", "outstretched", "extended", "raised", "visible"}
LONGEST_NAME = 3


@dataclass(frozen=True)
class Head:
    """A noun of a phrase with what stands before it.

    words: without determiners, the noun last; empty where nothing is named ("three", "the other"). amount: the word of
    `AMOUNTS` that was passed over, or "". plural: whether a word says that several are meant.
    """

    words: tuple[str, ...]
    amount: str = ""
    plural: bool = False


@dataclass(frozen=True)
class PhraseNames:
    """Ids of the objects a phrase names, the one it says first, and of their attributes.

    general: the names come from the kind of thing alone ("the wrestler", of the kind people: a person).
    """

    objects: tuple[int, ...] = ()
    attributes: tuple[int, ...] = ()
    general: bool = False


def split_phrase(words: Sequence[str], *, nouns: Collection[str] = ()) -> list[Head]:
    """The nouns a phrase is about, joined by "and" where there are several.

    Args:
        words: of the phrase, in lower case, punctuation apart.
        nouns: words that are nouns; before an "and" any other word is taken for an adjective ("black and white dog").

    >>> split_phrase("a group of tall men".split())
    [Head(words=('tall', 'men'), amount='group', plural=False)]
    >>> [head.words for head in split_phrase("a man and a little dog".split(), nouns={"man", "dog"})]
    [('man',), ('little', 'dog')]
    """
    part, amount = _behind_amounts(_without_clauses(words))
    for place in range(len(part) - 1, -1, -1):
        if part[place] in ("'s", "'", "s'") or part[place].endswith(("'s", "s'")):
            part = part[place + 1 :]
            break
    return [_head(piece, amount) for piece in _pieces(part, nouns)]


class PhraseReader:
    """Phrases by the names of two vocabularies, of objects and of attributes."""

    def __init__(self, objects: Vocabulary, attributes: Vocabulary) -> None:
        self.objects, self.attributes = objects, attributes
        self.owner_of = {finer: own for own, ids in covered_ids(objects.ids).items() for finer in (own, *ids)}
        self.found: dict[tuple[str, tuple[str, ...], bool], PhraseNames] = {}  # most phrases are said many times

    @cached_property
    def nouns(self) -> frozenset[str]:
        """Words that end a name of an object, colours aside."""
        return frozenset(name.split()[-1] for name in self.objects.ids) - COLOURS

    def read(self, text: str, *, kinds: Collection[str] = (), several: bool = False) -> PhraseNames:
        """The objects and attributes of a phrase.

        Args:
            text: words apart by blanks, as Flickr30k Entities writes them.
            kinds: what is known of it (`KIND_NAMES`). Where it is people, only people are named; what the vocabulary
                lacks gets the kind's own name.
            several: it has several boxes, so each is one of the things: "two men" is a man. Otherwise a name in plural
                is looked for first ("men"), then its singular.
        """
        key = (text.lower(), tuple(kinds), several)
        if key not in self.found:
            words = [word for word in key[0].split() if word not in QUOTES]
            heads = split_phrase(words, nouns=self.nouns)
            parts = [self.named(head, kinds=kinds, several=several) for head in heads]
            several_heads = len(parts) > 1
            self.found[key] = self._together(parts, several=several) if several_heads else [*parts, PhraseNames()][0]
        return self.found[key]

    def named(self, head: Head, *, kinds: Collection[str] = (), several: bool = False) -> PhraseNames:
        """The objects and attributes of one head, as `read` does of a phrase."""
        words = _without_hyphen(head.words, self.objects.ids)
        general = False
        names, length = self._own_names(words, several=several, clothing="clothing" in kinds)
        if names and set(kinds) == {"people"} and not PEOPLE.issuperset(map(self._name, names)):
            names, length = [], 1
        if several and words and words[-1] in GROUPS:
            names, length = [], 1
        if not names:
            names, general = self._class_of(words)
            length = 1
        if not names:
            names, general = self._kind_name(head, words, kinds=kinds, several=several), True
            length = 0 if words and words[-1] in COLOURS else 1  # "a man in [blue]"
        if not names:
            return PhraseNames()
        if not several and head.amount in SAID_GROUPS and head.amount in self.objects.ids:
            names = [*names, self.objects.ids[head.amount]]
        ids = tuple(dict.fromkeys(names))
        return PhraseNames(
            ids, self._attributes(words[: len(words) - length], owner=self._name(ids[0]), kinds=kinds), general
        )

    def _own_names(self, words: Sequence[str], *, several: bool, clothing: bool) -> tuple[list[int], int]:
        """Ids of the longest name the words end in and of the shorter one in it; how many words the longest has."""
        for length in range(min(LONGEST_NAME, len(words)), 0, -1):
            tail = " ".join(words[-length:])
            for form in _forms(tail, several=several):
                if length == 1 and form in COLOURS and (form != "orange" or clothing):
                    continue
                if form in self.objects.ids and form not in ADJECTIVE_NAMES:
                    names = [self.objects.ids[form]]
                    if length > 1 and MISLEADING.isdisjoint((tail, form)):
                        names += self._own_names(words[-1:], several=several, clothing=clothing)[0]
                    return names, length
        return [], 0

    def _class_of(self, words: Sequence[str]) -> tuple[list[int], bool]:
        """The name of a synonym, or of the class of COCO whose noun the words end in; whether it says person only."""
        table = noun_table(frozenset())  # made once
        for length in (2, 1):
            tail = words[-length:]
            if len(tail) < length:
                continue
            for form in _forms(" ".join(tail), several=True):
                if SYNONYMS.get(form) in self.objects.ids:
                    return [self.objects.ids[SYNONYMS[form]]], False
            label = table.get(tuple(tail), ("", "", False))[0]
            own = coco_id(label, self.objects.ids) if label else None
            if own is not None and tail[-1] not in GROUPS:
                return [own], label == "person"
        return [], False

    def _kind_name(self, head: Head, words: Sequence[str], *, kinds: Collection[str], several: bool) -> list[int]:
        one_and_many = next((KIND_NAMES[kind] for kind in kinds if kind in KIND_NAMES), None)
        if one_and_many is None:
            return []
        last = words[-1] if words else ""
        plural = head.plural or bool(head.amount) or last in GROUPS or (last.endswith("s") and last[-2:] != "ss")
        order = one_and_many if several or not plural else one_and_many[::-1]
        return [self.objects.ids[name] for name in order if name in self.objects.ids][:1]

    def _attributes(self, before: Sequence[str], *, owner: str, kinds: Collection[str]) -> tuple[int, ...]:
        person = owner in PEOPLE or "people" in kinds
        living = person or owner in ANIMAL_NAMES or "animals" in kinds
        found: list[str] = []
        for name in _modifiers(before, self.attributes.ids, nouns=self.nouns):
            of_skin = person and name not in HAIR and not COLOURS.isdisjoint(name.split())
            if not of_skin and name not in NO_MODIFIERS and name not in (MATERIALS if living else DEEDS):
                found.append(name)
        return tuple(dict.fromkeys(self.attributes.ids[name] for name in found))

    def _together(self, found: Sequence[PhraseNames], *, several: bool) -> PhraseNames:
        """The names of "a man and a dog": of one box all; of several the one that covers all of them, if there is."""
        ids = list(dict.fromkeys(name for part in found for name in part.objects))
        if not ids:
            return PhraseNames()
        if not several and all(self._name(name) in PEOPLE for name in ids) and "people" in self.objects.ids:
            return PhraseNames((self.objects.ids["people"],))
        if not several or len(ids) == 1:
            return PhraseNames(tuple(ids))
        owners = {self.owner_of.get(part.objects[0]) if part.objects else None for part in found}
        own = owners.pop()
        return PhraseNames() if owners or own is None else PhraseNames((own,), general=True)

    def _name(self, object_id: int) -> str:
        return self.objects.names[object_id - 1]


def singulars(word: str) -> list[str]:
    """What a word may be the plural of, the likeliest first; empty for one that has no singular of its own ("jeans").

    >>> singulars("puppies"), singulars("men"), singulars("jeans"), singulars("buses")
    (['puppy', 'puppie'], ['man'], [], ['bus', 'buse'])
    """
    if word in PLURAL_ONLY_WORDS or word in NO_PLURALS:
        return []
    if word in SINGULARS:
        return [SINGULARS[word]]
    if word.endswith("ss"):
        return []
    if word.endswith("ies"):
        return [word[:-3] + "y", word[:-1]]
    if word.endswith("ves"):
        return [word[:-3] + "f", word[:-3] + "fe", word[:-1]]
    if word.endswith("es"):
        return [word[:-2], word[:-1]] if word.endswith(("ses", "xes", "ches", "shes", "zes", "oes")) else [word[:-1]]
    return [word[:-1]] if word.endswith("s") else []


SINGULARS = {
    **{plural: singular for singular, plural in IRREGULAR_PLURALS.items() if plural != singular},
    **{f"{start}men": f"{start}man" for start in ("police", "fire", "fisher", "camera", "gentle", "base", "snow")},
    **{f"{start}women": f"{start}woman" for start in ("", "police")},
    "people": "person",
    "teeth": "tooth",
    "cattle": "cow",
}
NO_PLURALS = frozenset({"skis", "scissors", "bus", "tennis", "grass"})


def _people_and_animals() -> tuple[frozenset[str], frozenset[str]]:
    people = ["person", *finer_names("person"), "people", "crowd", "group", "couple", "family", "audience", "players"]
    animals = [name for animal in ANIMALS for name in (animal, *finer_names(animal))]
    both = []
    for names in (people, [*animals, "animal", "herd", "goat", "deer", "donkey", "monkey", "lion", "fish", "antelope"]):
        both.append(frozenset([*names, *map(plural_of, names), *ADJECTIVE_NAMES]))
    return both[0] | {"ladies", "skiers", "men", "women", "children"}, both[1] - ADJECTIVE_NAMES


PEOPLE, ANIMAL_NAMES = _people_and_animals()


def _without_clauses(words: Sequence[str]) -> list[str]:
    """The words before the first preposition or relative pronoun; one that comes first is passed over."""
    start = 0
    while start < len(words) and (words[start] in PREPOSITIONS or NO_WORD.match(words[start])):
        start += 1
    rest = list(words[start:])
    end = next((place for place, word in enumerate(rest) if place and word in PREPOSITIONS), len(rest))
    return rest[:end]


def _behind_amounts(words: Sequence[str]) -> tuple[list[str], str]:
    """What follows "a group of", "the side of", "two of"; else what comes before the "of". And the amount's word."""
    parts: list[list[str]] = [[]]
    for word in words:
        if word == "of":
            parts.append([])
        else:
            parts[-1].append(word)
    amount = ""
    for number, part in enumerate(parts[:-1]):
        last = part[-1] if part else ""
        if last in AMOUNTS:
            amount = amount or last
        elif last and last not in PLACES and last not in DETERMINERS:
            return part, amount
        if not parts[number + 1]:
            return part, amount
    return parts[-1], amount


def _pieces(words: Sequence[str], nouns: Collection[str]) -> Iterator[list[str]]:
    """The words cut at each "and" that joins nouns, not adjectives."""
    piece: list[str] = []
    for place, word in enumerate(words):
        if word in JOINED and piece and place + 1 < len(words):
            named = piece[-1] in nouns or any(single in nouns for single in singulars(piece[-1]))
            if words[place + 1] in DETERMINERS or (named and piece[-1] not in COLOURS):
                yield piece
                piece = []
                continue
        piece.append(word)
    if piece:
        yield piece


def _head(piece: Sequence[str], amount: str) -> Head:
    plural = any(word in PLURAL_WORDS for word in piece)
    words = list(piece)
    while words and (words[0] in DETERMINERS or words[0] in JOINED or NO_WORD.match(words[0])):
        words.pop(0)
    while words and (words[-1] in TRAILING or NO_WORD.match(words[-1])):
        words.pop()
    return Head(tuple(words), amount, plural)


def _without_hyphen(words: Sequence[str], names: Collection[str]) -> list[str]:
    """The words, the last in two where only the second half is a name: "blond-hair" is blond hair."""
    if not words or "-" not in words[-1] or any(form in names for form in _forms(words[-1], several=False)):
        return list(words)
    return [*words[:-1], *(part for part in words[-1].split("-") if part)]


def _forms(name: str, *, several: bool) -> list[str]:
    """How a vocabulary may write a name: singular before plural where each box is one thing, and joined words."""
    start, space, last = name.rpartition(" ")
    single = [start + space + word for word in singulars(last)]
    forms = [*single, name] if several else [name, *single]
    spellings = [form.replace("-", " ") for form in forms] + [form.replace("-", "") for form in forms]
    if name.count(" ") == 1:
        spellings += [form.replace(" ", "") for form in forms]
    return list(dict.fromkeys([*forms, *spellings]))


def _modifiers(before: Sequence[str], names: Collection[str], *, nouns: Collection[str]) -> Iterator[str]:
    """The attribute names in the words before a noun, the longest first, and the colours in a longer one."""
    place = 0
    while place < len(before):
        for length in range(min(LONGEST_NAME, len(before) - place), 0, -1):
            name = " ".join(before[place : place + length])
            if name in names and not _of_a_part(before, place + length, name, nouns=nouns):
                yield name
                if length > 1:
                    yield from (word for word in name.split() if word in COLOURS and word in names)
                break
        else:
            length = 1
            yield from (part for part in _hyphened(before[place]) if part in names)
        place += length


def _of_a_part(before: Sequence[str], end: int, name: str, *, nouns: Collection[str]) -> bool:
    """Whether an adjective belongs to the next word: "long haired", "short sleeve", "red collared"."""
    word = before[end] if end < len(before) else ""
    stem = word.removesuffix("ed")
    of_a_part = word in ("sleeve", "sleeves", "hair", "haired", "legged") or (stem != word and stem in nouns)
    return of_a_part and name not in HAIR and word not in ("colored", "coloured", "striped", "spotted", "patterned")


def _hyphened(word: str) -> list[str]:
    """The adjectives in "black-and-white", "tan-colored", "blond-haired"; none in "red-collared"."""
    parts = word.split("-")
    if len(parts) < 2:
        return []
    if parts[-1] in ("haired", "hair"):
        return [part for part in parts[:-1] if part in HAIR]
    fillers = {"and", "colored", "coloured", "light", "n"}
    return [part for part in parts if part in COLOURS] if COLOURS.union(fillers).issuperset(parts) else []
