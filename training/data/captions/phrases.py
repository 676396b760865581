"""What a caption says, by word lists and patterns: its things, what they do, where they are.

    caption --read_caption--> Caption(phrases, deeds, places) --training/data/questions/from_captions.py--> questions

"A brown dog leaps over a log": two phrases (a brown dog; a log), one deed (the first leaps over the second). No parser;
what the lists cannot place is left alone.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from training.data.boxes.caption_attributes import (
    ATTRIBUTE_OF_WORD,
    BETWEEN,
    CLASS_NOUNS,
    HEAD_NOUNS,
    noun_table,
    plural_of,
)


def word_set(text: str) -> frozenset[str]:
    return frozenset(text.split())


# What things are called in questions and answers, by kind; "name = other nouns for it". The name of a class of COCO
# stands for all nouns that `CLASS_NOUNS` gives it, unless they stand here themselves.
NOUNS = {
    "person": """man = guy = gentleman = father = dad = groom = grandfather, woman = lady = mother = mom = bride, boy,
        girl, child = kid = toddler = youngster, baby = infant = newborn, person = individual = human = adult = student
        = soldier = officer = performer = musician = singer = dancer = tourist = fan = spectator = wrestler = jockey =
        cheerleader = goalie = referee = clown = driver = photographer = fisherman = racer = coach = owner = diver =
        passenger = onlooker = teammate = gymnast = kayaker = waiter = chef = artist = guitarist = cowboy = boxer =
        fighter = group = team = family = audience = class = sister = brother = male = female = friend""",
    "animal": """dog = doberman = pitbull = pit bull = spaniel = sheepdog = chihuahua = rottweiler = schnauzer = mutt =
        canine = hound = pup = doggie = border collie = black lab = boston terrier = sheep dog = mastiff, cat, bird,
        duck, swan, goose, seagull, pigeon, horse, cow, bull, sheep, elephant, bear, zebra, giraffe, camel, monkey,
        tiger, lion, fish, goat, deer, rabbit = bunny, squirrel, turtle, wolf, pig, donkey, dolphin, snake, animal""",
    "vehicle": """car, truck, bus, van, motorcycle, bike = bicycle = bmx = tandem bike, scooter, train, airplane, boat =
        rowboat = motorboat = row boat, kayak, canoe, raft, atv = quad = four wheeler = quad bike, unicycle, tractor,
        sled = sledge, helicopter, snowmobile, wheelchair, vehicle, wagon, cart = shopping cart""",
    "gear": """ball = sports ball, football, basketball, baseball, volleyball, frisbee = flying disk, skateboard,
        surfboard = boogie board = body board, snowboard = snow board, skis, bat = baseball bat, racket = tennis racket,
        kite, hoop = hula hoop, stick, rope, toy, paddle = oar, hurdle, trampoline, net, goal""",
    "thing": """camera = video camera, phone = cell phone = telephone, book, umbrella, bag = handbag, stroller, sign,
        flag, balloon, bottle, cup, cake, apple, pizza, sandwich, hot dog, ice cream = ice cream cone, teddy bear, drum,
        microphone, guitar = electric guitar, violin, piano, newspaper, laptop, computer, tire, hose, bucket, box, gun,
        basket, sword, log = tree trunk = fallen tree, leash, bone, fence, wall, ladder, rail = railing = handrail =
        hand rail, pole, sprinkler, tube = inner tube, food, drink, beer, bubble, snowball, broom, cigarette, flower""",
    "seat": """chair, bench, table = dining table, couch, bed, swing = tire swing = rope swing, slide = water slide,
        rock = boulder, blanket, hammock, stairs = steps = staircase""",
    "clothing": """shirt = t shirt = tshirt = tee shirt, jacket = coat, dress, hat, cap = baseball cap, helmet, shorts,
        pants = trousers, jeans, skirt, suit, uniform, sweater = sweatshirt = hoodie, vest, scarf, swimsuit = bikini =
        bathing suit = swim suit, trunks = swim trunks = swimming trunks, sunglasses, glasses = eyeglasses, shoe, boot,
        mask, costume, wetsuit = wet suit, life jacket = life vest, tie, apron, goggles, headphones, bandana = bandanna,
        outfit, collar, backpack, robe, jersey, tank top, headband, harness, muzzle, overalls, kilt""",
    "place": """grass = lawn, snow, water, pool = swimming pool = wading pool, ocean = sea, lake, river = stream =
        creek, beach = shore = shoreline = seashore, sand, street, road = dirt road, sidewalk = pavement, field =
        meadow, park, yard = backyard, woods = forest = wood, mountain = mountainside, hill = hillside, cliff, city,
        track = racetrack = race track, stage, court, dirt, mud, ice, playground = jungle gym, kitchen, stadium, desert,
        pond, path = trail, parking lot, bridge, dock = pier, room, restaurant, store, house, garden, tree, wave,
        fountain, puddle, floor, ramp, tunnel, air = midair = mid air, tent, bathtub, gym, rink = ice rink, market""",
}
ODD_PLURALS = {"wolf": "wolves", "scarf": "scarves", "fisherman": "fishermen", "fireman": "firemen", "fish": "fish"}
LIVING = ("person", "animal")
UNCOUNTED = word_set("crowd group team family audience class")
COLOURS = ("black", "brown", "gray", "tan", "red", "orange", "yellow", "green", "blue", "pink", "purple", "white")
COLOUR_WORDS = ATTRIBUTE_OF_WORD | {"purple": "purple", "maroon": "red", "blond": "tan", "blonde": "tan"}

VERBS = """run, jump = leap = hop, walk = stroll, stand, sit, swim, climb, lie = lay, ride, surf, ski, snowboard, sled,
    skateboard, sleep, eat, drink, dance, sing, read, fish, kayak, paddle, row, hike, wrestle, fight, smile, laugh,
    swing, slide, kneel, crawl, wade, splash, dig, smoke, talk, fly, dive, bike = cycle, skate, rollerblade, play, box,
    write, paint, pose, race, hug, kiss, bark, float, spin, cry, cheer, jog, lean, wave, crouch, point, drive, hold,
    carry, throw = toss, kick, catch, chase, push, pull, chew, wear, hit, look, watch, shake, bite, cook"""
DOUBLED = re.compile(r"[^aeiou]*[aeiou][bdgmnpt]")  # run: running
TAKES_OBJECT = word_set("""holding carrying riding throwing kicking catching chasing pushing pulling chewing wearing
    eating climbing reading hitting playing paddling rowing driving flying biting""")
SPORTS = word_set("soccer football basketball baseball tennis hockey volleyball rugby golf cricket")
BOARDS = {"skateboard": "skateboarding", "wave": "surfing", "surfboard": "surfing", "snowboard": "snowboarding"}

DETERMINERS = word_set("a an the his her its their another this that these those some")
NUMBERS = {word: n for n, word in enumerate(("one", "two", "three", "four", "five", "six", "seven", "eight"), start=1)}
NUMBERS |= {"a": 1, "an": 1, "another": 1, "single": 1, "lone": 1, "both": 2} | {str(n): n for n in range(1, 9)}
SEVERAL = word_set("several many few lots multiple numerous various")
AFTER_ACTION = word_set("on over through into down under against")
BEFORE_PLACE = word_set("in on through across along down up into onto at inside atop")
NO_VERB_AFTER = BEFORE_PLACE | DETERMINERS | word_set("of for by to with over under against")
STOPS = (AFTER_ACTION | BEFORE_PLACE) | word_set("""of with by near from off behind for to past around between towards
    toward above below outside next beside during out after before without alongside beneath and or but as while whilst
    when who which where is are was were be being has have having it he she they each there him them themselves himself
    not , . 's""")  # no phrase goes over these
LEADERS = word_set(", . and while whilst as when where is are there") | {""}
PICTURES = word_set("picture photo photograph image view shot closeup")
SEVERAL_OF = r"\b(?:an? |the )?(?:\w+ )?(?:group|crowd|bunch|number|pack|row|herd|flock|lot|team|stream) of\b"
REWRITTEN = [  # parts of which one is in every text that the pattern matches, the pattern, what stands in its place
    ((" of",), re.compile(r"\b(?:an? |the )?(?:couple|pair|duo) of\b"), "two"),
    ((" of",), re.compile(SEVERAL_OF), "several"),
    (("each other",), re.compile(r"\beach other\b"), "themselves"),
    (  # a snow covered log is no snow
        ("covered", "filled", "lined"),
        re.compile(r"\b\w+[- ](?:covered|filled|lined)\b(?! in| with| by)"),
        "covered",
    ),
]
WORD = re.compile(r"[a-z]+|[0-9]+|'s|[,.]")
LONGEST_CHAIN, LONGEST_CAPTION = 6, 200  # words


class Phrase(NamedTuple):
    """What `words[start:end]` name, how many (0: several), the colour, and whether verbs may speak of it."""

    name: str
    start: int
    end: int
    number: int
    colour: str
    leads: bool


class Deed(NamedTuple):
    """What a phrase of a caption does, and the phrase it is done to, after the preposition if any (-1: none)."""

    doer: int
    doing: str
    preposition: str
    target: int


class Caption(NamedTuple):
    """A caption as far as it was understood; `places` are (phrase, name of the place it is at)."""

    words: list[str]
    phrases: list[Phrase]
    deeds: list[Deed]
    places: list[tuple[int, str]]


def read_caption(text: str) -> Caption:
    """What a caption names, who does what to what, and where.

    >>> caption = read_caption("Two brown dogs jump over a log in the grass .")
    >>> [(phrase.name, phrase.number, phrase.colour) for phrase in caption.phrases]
    [('dog', 2, 'brown'), ('log', 1, ''), ('grass', 1, '')]
    >>> caption.deeds, caption.places
    ([Deed(doer=0, doing='jumping', preposition='over', target=1)], [(0, 'grass')])
    """
    words = words_of(text)
    phrases = _phrases(words)
    return Caption(words, phrases, list(_deeds(words, phrases)), list(_places(words, phrases)))


def words_of(text: str) -> list[str]:
    """The words of a caption in lower case, at most `LONGEST_CAPTION`, with what stands for a number in its place.

    >>> words_of("A couple of dogs, one on a snow-covered hill.")
    ['two', 'dogs', ',', 'one', 'on', 'a', 'covered', 'hill', '.']
    """
    text = text.lower()
    for parts, pattern, replacement in REWRITTEN:
        if any(part in text for part in parts):  # faster than a pattern that finds nothing
            text = pattern.sub(replacement, text)
    return WORD.findall(text)[:LONGEST_CAPTION]


NO_NOUN = ("", False, 0)


class Nouns:
    """Nouns of one word or more, and what each names."""

    def __init__(self, names: Mapping[tuple[str, ...], tuple[str, bool]]):
        """names: the words of each noun, `("fire", "trucks")` -> (what it names, whether it is a plural)."""
        self.names = {words: (*named, len(words)) for words, named in names.items() if named[0]}
        self.lengths: dict[str, list[int]] = {}  # of the nouns that begin with a word, the longest first
        for words in sorted(self.names, key=len, reverse=True):
            lengths = self.lengths.setdefault(words[0], [])
            lengths += [len(words)] if len(words) not in lengths else []

    def at(self, words: Sequence[str], place: int) -> tuple[str, bool, int]:
        """What the longest noun that begins at a place names, whether it is a plural, its length (0: none begins)."""
        lengths = self.lengths.get(words[place]) if place < len(words) else None
        for length in lengths or ():
            found = self.names.get(tuple(words[place : place + length]))
            if found is not None and found[2] == length:  # the words at the end are fewer
                return found
        return NO_NOUN


class NounSpan(NamedTuple):
    """`words[start:end]` name something; the noun itself is `words[place:end]`."""

    name: str
    plural: bool
    start: int
    place: int
    end: int


def noun_spans(words: Sequence[str], nouns: Nouns) -> Iterator[NounSpan]:
    """The nouns among words, each from its determiner or first adjective on.

    Passed over are a noun that only says of which kind another is ("a train station"), a possessor ("the dog's mouth")
    and a verb that looks like a noun ("a dog swings").
    """
    place, compound, after = 0, -1, 0
    while place < len(words):
        if words[place] not in nouns.lengths:  # no noun begins with most words
            place, compound = place + 1, -1
            continue
        name, plural, length = nouns.at(words, place)
        end = place + max(length, 1)
        following = words[end] if end < len(words) else ""
        begins, compound = compound if compound >= 0 else place, -1
        if length and not plural and _is_modifier(words, end, nouns):
            compound = begins
        elif length and following != "'s":
            start = _start(words, begins, after=after, nouns=nouns)
            is_verb = start == place and words[place] in VERB_FORMS and words[max(0, place - 1)] not in BEFORE_NOUN
            if not is_verb:
                yield NounSpan(name, plural, start, place, end)
                after = end
        place = end


def _is_modifier(words: Sequence[str], end: int, nouns: Nouns) -> bool:
    """Whether the noun that ends there says of which kind the next one is."""
    after = words[end] if end < len(words) else ""
    return after in HEAD_NOUNS or (nouns.at(words, end)[2] > 0 and after not in VERB_FORMS)


def _groups(text: str) -> list[list[str]]:
    """The words between commas that mean the same, the one to use first."""
    return [[word.strip() for word in group.split("=")] for group in text.split(",")]


def _ing(base: str) -> str:
    if base.endswith("ie"):
        return base[:-2] + "ying"
    return (base + base[-1] if DOUBLED.fullmatch(base) else base.removesuffix("e")) + "ing"


NAMES = {kind: _groups(text) for kind, text in NOUNS.items()}
NAME_OF = {noun: nouns[0] for groups in NAMES.values() for nouns in groups for noun in nouns}
KIND_OF = {nouns[0]: kind for kind, groups in NAMES.items() for nouns in groups}
TABLE = dict(noun_table(frozenset(NAME_OF).difference(CLASS_NOUNS)))
TABLE |= {(plural,): (noun, noun, True) for noun, plural in ODD_PLURALS.items()}
NAMED = {
    words: (NAME_OF.get(noun) or NAME_OF[label], plural)
    for words, (label, noun, plural) in TABLE.items()
    if noun in NAME_OF or label in NAME_OF
}
OWN_NOUNS = Nouns(NAMED)
VERB_FORMS = {  # -> the -ing form that answers use, how the form ends
    form: (_ing(bases[0]), ending)
    for bases in _groups(VERBS)
    for base in bases
    for form, ending in ((base, ""), (plural_of(base), "s"), (_ing(base), "ing"))
}
BEFORE_NOUN = NO_VERB_AFTER | VERB_FORMS.keys()


def noun_at(words: Sequence[str], place: int) -> tuple[str, bool, int]:
    """The name of the longest noun that begins at a place, whether it is a plural, and its length (0: none begins)."""
    return OWN_NOUNS.at(words, place)


def _phrases(words: Sequence[str]) -> list[Phrase]:
    found: list[Phrase] = []
    for name, plural, start, place, end in noun_spans(words, OWN_NOUNS):
        if words[start] == "the" and any(one.name == name and one.number == 1 for one in found):
            continue  # the man named before
        colours = {COLOUR_WORDS.get(word) for word in words[start:place]}
        colour = " and ".join([colour for colour in COLOURS if colour in colours])
        number = number_of(words[start:end], plural=plural)
        found.append(Phrase(name, start, end, number, colour, _leads(words, start, found)))
    return found


def _start(words: Sequence[str], place: int, *, after: int, nouns: Nouns) -> int:
    """Where the words that belong to a noun begin: at a determiner or number, else at the attributes before it."""
    start = described = place
    while start > after and place - start < LONGEST_CHAIN:
        word, earlier = words[start - 1], words[max(0, start - 2)]
        if word in DETERMINERS or word in NUMBERS or word in SEVERAL:
            return start - 2 if start - after > 1 and earlier in DETERMINERS else start - 1
        joins = word in BETWEEN and earlier in COLOUR_WORDS
        verb = VERB_FORMS.get(word, ("", "ing"))[1] != "ing"
        if not joins and (verb or word in STOPS or nouns.at([word], 0)[2]):
            return described
        start -= 1
        if described == start + 1 and (joins or (word in COLOUR_WORDS and word not in VERB_FORMS)):
            described = start
    return described


def number_of(words: Sequence[str], *, plural: bool) -> int:
    """How many a phrase means, 0 where it says several.

    >>> number_of(["two", "brown", "dogs"], plural=True), number_of(["dogs"], plural=True)
    (2, 0)
    """
    if words[-1] in UNCOUNTED or SEVERAL.intersection(words):
        return 0
    numbers = [NUMBERS[word] for word in words if word in NUMBERS]
    return 2 if words[-1] == "couple" else numbers[-1] if numbers else int(not plural)


def _leads(words: Sequence[str], start: int, before: Sequence[Phrase]) -> bool:
    """Whether verbs may speak of the phrase that starts here: not after a preposition or a verb."""
    previous = words[start - 1] if start else ""
    if previous == "and" and before and before[-1].end == start - 1 and KIND_OF[before[-1].name] in LIVING:
        return before[-1].leads
    return previous in LEADERS or (previous == "of" and words[start - 2] in PICTURES)


def _deeds(words: Sequence[str], phrases: Sequence[Phrase]) -> Iterator[Deed]:
    inside = {place for phrase in phrases for place in range(phrase.start, phrase.end)}
    starts = {phrase.start: position for position, phrase in enumerate(phrases)}
    for place, word in enumerate(words):
        doing, form = VERB_FORMS.get(word, ("", ""))
        doer = _doer(words, phrases, place) if doing and place not in inside else -1
        if doer < 0 or not _is_verb(words, phrases, place, form=form, several=phrases[doer].number != 1):
            continue
        after = words[place + 1] if place + 1 < len(words) else ""
        preposition = after if after in STOPS and place + 2 in starts else ""
        target = starts.get(place + 1 + bool(preposition), -1)
        bare = target >= 0 and words[phrases[target].start] not in DETERMINERS | NUMBERS.keys()
        if bare and not preposition and doing not in TAKES_OBJECT:
            continue  # "swimming trunks"
        done_to = phrases[target].name if target >= 0 else ""
        if doing == "playing" and (after in SPORTS or done_to in ("guitar", "drum", "violin", "piano")):
            doing = f"playing {after if after in SPORTS else done_to}"
        elif doing == "riding":
            whole = f"riding {done_to}" if KIND_OF.get(done_to) in ("vehicle", "animal") else doing
            doing = BOARDS.get(done_to, whole)
        yield Deed(doer, doing, preposition, target)


def _doer(words: Sequence[str], phrases: Sequence[Phrase], place: int) -> int:
    """The living phrase that words at a place speak of: the last one before it that leads; -1 where that is unsure."""
    living = [
        position for position, phrase in enumerate(phrases) if phrase.end <= place and KIND_OF[phrase.name] in LIVING
    ]
    last = phrases[living[-1]] if living else None
    if last and not last.leads and (last.end == place or words[last.end] in ("who", "that", "which")):
        return -1  # "a man with a dog running", "a man with a lady who is running"
    return next((position for position in reversed(living) if phrases[position].leads), -1)


def _is_verb(words: Sequence[str], phrases: Sequence[Phrase], place: int, *, form: str, several: bool) -> bool:
    previous = words[place - 1] if place else ""
    if form == "ing":
        return previous not in NO_VERB_AFTER - {"up", "down"} and COLOUR_WORDS.get(previous) not in COLOURS
    follows = any(phrase.end == place for phrase in phrases)
    return (form == "s" or several) and (follows or previous in ("and", "who", "that") or previous.endswith("ly"))


def _places(words: Sequence[str], phrases: Sequence[Phrase]) -> Iterator[tuple[int, str]]:
    """Each place named after a preposition, for who leads before it."""
    for phrase in phrases:
        if KIND_OF[phrase.name] in ("place", "seat") and words[max(0, phrase.start - 1)] in BEFORE_PLACE:
            doer = _doer(words, [one for one in phrases if one.end < phrase.start], phrase.start)
            if doer >= 0:
                yield doer, phrase.name
