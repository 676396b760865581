"""Questions and answers about photos that have captions only: weak supervision for visual question answering.

    captions --read_caption--> Caption(phrases, deeds, places) --_votes--> what each caption answers to which question
    votes --_settle--> questions --_even_out, _pair, _choose--> the columns of a VQA data set

"A brown dog leaps over a log" answers "what is the dog doing?" and "is there a dog?". Such questions go back to COCO-QA
(Ren et al. 2015); here the captions of a photo vote, every yes has a no to the same question on another photo, and no
answer to an open question is right more than half the time, in the spirit of VQA v2 (Goyal et al. 2017). Word lists
and patterns, no parser; what they cannot place they leave alone.
"""

import hashlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import datasets

from training.data.caption_attributes import ATTRIBUTE_OF_WORD, BETWEEN, CLASS_NOUNS, HEAD_NOUNS, noun_table, plural_of


def _words(text: str) -> frozenset[str]:
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
IN_PAIRS = _words("shorts pants jeans sunglasses glasses goggles headphones overalls skis stairs woods") | {"trunks"}
LIVING = ("person", "animal")
UNCOUNTED = _words("crowd group team family audience class")
SPECIFIC = ("man", "woman", "boy", "girl", "child", "baby")  # persons known by more than what they do
BROADER = dict.fromkeys(("duck", "swan", "goose", "seagull", "pigeon"), "bird")
BROADER |= dict.fromkeys(("football", "basketball", "baseball", "volleyball"), "ball")
BROADER |= dict.fromkeys(("kayak", "canoe", "raft"), "boat") | dict.fromkeys(("boy", "girl", "baby"), "child")
COLOURS = ("black", "brown", "gray", "tan", "red", "orange", "yellow", "green", "blue", "pink", "purple", "white")
COLOUR_WORDS = ATTRIBUTE_OF_WORD | {"purple": "purple", "maroon": "red", "blond": "tan", "blonde": "tan"}
ALIKE = """brown tan orange red black / tan white yellow / gray black white blue tan / red orange pink purple / orange
    yellow / blue purple black green / green yellow"""  # colours that people mix up

VERBS = """run, jump = leap = hop, walk = stroll, stand, sit, swim, climb, lie = lay, ride, surf, ski, snowboard, sled,
    skateboard, sleep, eat, drink, dance, sing, read, fish, kayak, paddle, row, hike, wrestle, fight, smile, laugh,
    swing, slide, kneel, crawl, wade, splash, dig, smoke, talk, fly, dive, bike = cycle, skate, rollerblade, play, box,
    write, paint, pose, race, hug, kiss, bark, float, spin, cry, cheer, jog, lean, wave, crouch, point, drive, hold,
    carry, throw = toss, kick, catch, chase, push, pull, chew, wear, hit, look, watch, shake, bite, cook"""
DOUBLED = re.compile(r"[^aeiou]*[aeiou][bdgmnpt]")  # run: running
VAGUE = _words("looking watching holding wearing carrying hitting")  # no answer to "what is the man doing?"
TAKES_OBJECT = _words("""holding carrying riding throwing kicking catching chasing pushing pulling chewing wearing
    eating climbing reading hitting playing paddling rowing driving flying biting""")
OBJECT_KINDS = {"wearing": ("clothing",), "playing": ("thing",), "throwing": ("gear",), "carrying": ("gear", "thing")}
SPORTS = _words("soccer football basketball baseball tennis hockey volleyball rugby golf cricket")
BOARDS = {"skateboard": "skateboarding", "wave": "surfing", "surfboard": "surfing", "snowboard": "snowboarding"}
ROLES = {f"{stem}er": f"{stem}ing" for stem in _words("surf ski snowboard skateboard climb kayak wrestl hik skat")}

DETERMINERS = _words("a an the his her its their another this that these those some")
NUMBERS = {word: n for n, word in enumerate(("one", "two", "three", "four", "five", "six", "seven", "eight"), start=1)}
NUMBERS |= {"a": 1, "an": 1, "another": 1, "single": 1, "lone": 1, "both": 2} | {str(n): n for n in range(1, 9)}
SEVERAL = _words("several many few lots multiple numerous various")
AFTER_ACTION = _words("on over through into down under against")
BEFORE_PLACE = _words("in on through across along down up into onto at inside atop")
NO_VERB_AFTER = BEFORE_PLACE | DETERMINERS | _words("of for by to with over under against")
STOPS = (AFTER_ACTION | BEFORE_PLACE) | _words("""of with by near from off behind for to past around between towards
    toward above below outside next beside during out after before without alongside beneath and or but as while whilst
    when who which where is are was were be being has have having it he she they each there him them themselves himself
    not , . 's""")  # no phrase goes over these
LEADERS = _words(", . and while whilst as when where is are there") | {""}
PICTURES = _words("picture photo photograph image view shot closeup")
SOMEONE_ELSE = _words("another other others one someone somebody ones everyone")
SEVERAL_OF = r"\b(?:an? |the )?(?:\w+ )?(?:group|crowd|bunch|number|pack|row|herd|flock|lot|team|stream) of\b"
REWRITTEN = {r"\b(?:an? |the )?(?:couple|pair|duo) of\b": "two", SEVERAL_OF: "several", r"\beach other\b": "themselves"}
REWRITTEN[r"\b\w+[- ](?:covered|filled|lined)\b(?! in| with| by)"] = "covered"  # a snow covered log is no snow
LONGEST_CHAIN, LONGEST_CAPTION = 6, 200  # words

# What "is there a ...?" is asked of: what people who describe a photo rarely leave out. Any word of a group of `NEAR`
# in a caption forbids a "no" to all others of the group.
ASKED = _words("""man woman boy girl child baby person dog cat bird duck horse cow bull sheep elephant bear zebra
    giraffe camel monkey fish goat deer car truck bus train airplane motorcycle bike boat kayak canoe sled ball frisbee
    racket skateboard surfboard snowboard kite guitar microphone umbrella bench tent trampoline swing slide stick rope
    water snow beach pool ocean cake pizza laptop couch bed fountain""")
NEAR = """man boy person teenager couple / woman girl person bride couple / boy girl child baby person / person hand
    hands arm lap legs feet someone somebody face / dog wolf cat animal leash muzzle / bike motorcycle scooter vehicle
    atv unicycle biker bikers cyclist bicyclist rider ride riding rides riders biking cycling motocross racer racers
    race racing bmx wheelie tricycle trick stunt / tent camp camping / laptop computer / car truck bus van vehicle
    driver driving traffic parking race racing racer street intersection / umbrella rain / water pool ocean beach boat
    lake river pond wave waves surfboard kayak canoe raft puddle fountain waterfall swim swimming swims surf surfing
    surfer splash splashing splashes wading sea coast sprinkler hose wet dock rapids sand / boat kayak canoe raft rowing
    sail sailing paddle paddling paddles kayaker ship harbor vessel sailboat tube / snow snowboard sled skis ski skier
    skiing snowboarder ice winter snowy icy slope sledding mountain / ball toy object something item soccer tennis
    baseball football basketball volleyball rugby cricket softball golf hockey player players game fetch goal racket bat
    pitcher batter sport match catch team / frisbee toy object something item disc disk ring / racket tennis badminton /
    airplane jet airport / stick toy object something item branch log wood bat club hockey pole / kite flying / rope toy
    leash string climber climbing harness swing cord / trampoline bounce bouncing / bird duck swan animal / skateboard
    skateboarder skateboarding skate skater skating board ramp / train subway tracks station / surfboard board surf
    surfer surfing surfs wave waves wakeboard wakeboarder windsurfer raft / snowboard snowboarder snowboarding board
    skis ski skier skiing / cake pizza food eating dessert birthday party / horse bull cow animal rodeo cowboy jockey
    jockeys rider riders polo carriage mounted / guitar instrument instruments band music musician musicians concert
    performing / microphone singing sings singer stage concert band performing / bench couch bed chair seat seated sit
    sits sitting table / swing slide playground swinging sliding"""
QUESTION_TYPE = re.compile(  # the longest of VQA's own beginnings that fits
    r"how many people are|how many|what (?:color|animal) (?:is|are)(?: the)?|where (?:is|are) the|who is|is there a"
    r"|what is the (?:man|woman|person)|what (?:is|are) the|what is|is there|is the (?:man|woman|person)|(?:is|are) the"
)
SUPPORT = {"object": 1, "colour": 1, "location": 2, "activity": 2, "number": 1}  # captions an answer needs
YES_NO_SHARE = 3 / 8  # of a photo's questions at most; VQA v2 has 38 %
FEWEST_KEPT = 3  # times an answer stays right, however one-sided its question is


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


class Question(NamedTuple):
    """A question on the photo in row `row`, with an answer for each caption that supports one, the commonest first."""

    row: int
    kind: str
    question: str
    answers: list[str]
    luck: bytes


Captions = Sequence[Caption]
Votes = Iterator[tuple[str, str, str]]  # kind, question, answer
Settled = list[tuple[str, str, list[str]]]  # kind, question, answers with the commonest first
Call = tuple[str, str]  # how questions speak of a phrase: is or are, and what they call it


def caption_questions(
    rows: datasets.Dataset, *, seed: int = 0, per_photo: int = 8, largest_share: float = 0.5
) -> dict[str, list[Any]]:
    """Makes up to `per_photo` questions on each photo out of its captions.

    Kinds: object, number, colour, location, activity, and yes/no on objects and colours. An object counts as absent
    where no caption names it, a kind it is of, or a word near to it (`NEAR`). Every split is made up by itself.

    Args:
        rows: the columns `image_id`, `captions` and `split` of `load_captions`; photos are not touched.
        seed: with the `image_id`s, decides every choice; the order of the rows does not matter.
        per_photo: questions on a photo at most; three eighths of them at most are yes/no.
        largest_share: of an open question's right answers, what the commonest may make up (1: all may stay), except
            that an answer is right `FEWEST_KEPT` times at least.

    Returns:
        The columns of `VQA_FEATURES`, but for `image` the row of `rows` that holds it, `photo_row`. `answers` has an
        entry for each caption that supports one (a "no": every caption); `details` is `{"kind": ...}`.

    Raises:
        ValueError: where a column is missing, `per_photo` is under 1 or `largest_share` is not over 0 and up to 1.
    """
    absent = sorted({"image_id", "captions", "split"} - set(rows.column_names))
    if absent:
        raise ValueError(f"the caption rows have no column {', '.join(absent)}; read them with load_captions")
    if per_photo < 1 or not 0 < largest_share <= 1:
        raise ValueError(f"per_photo {per_photo} must be at least 1, largest_share {largest_share} over 0 and up to 1")
    ids, splits, texts = list(rows["image_id"]), list(rows["split"]), list(rows["captions"])
    asked: list[Question] = []
    for split in sorted(set(splits)):
        photos = {row: [read_caption(text) for text in texts[row]] for row, name in enumerate(splits) if name == split}
        settled = {row: _settle(_votes(captions)) for row, captions in photos.items()}
        pairs = _pair(photos, settled, ids=ids, seed=seed, per_photo=int(per_photo * YES_NO_SHARE))
        free = Counter(dict.fromkeys(photos, per_photo)) - Counter(one.row for one in pairs)
        wordings = [Question(row, *one, _luck(seed, ids[row], one[1])) for row in photos for one in settled[row]]
        asked += pairs + _choose(_even_out(wordings, largest_share), free)
    return _columns(sorted(asked, key=lambda one: (one.row, one.luck)), ids, splits)


def read_caption(text: str) -> Caption:
    """What a caption names, who does what to what, and where.

    >>> caption = read_caption("Two brown dogs jump over a log in the grass .")
    >>> [(phrase.name, phrase.number, phrase.colour) for phrase in caption.phrases]
    [('dog', 2, 'brown'), ('log', 1, ''), ('grass', 1, '')]
    >>> caption.deeds, caption.places
    ([Deed(doer=0, doing='jumping', preposition='over', target=1)], [(0, 'grass')])
    """
    text = text.lower()
    for pattern, replacement in REWRITTEN.items():
        text = re.sub(pattern, replacement, text)
    words = re.findall(r"[a-z]+|[0-9]+|'s|[,.]", text)[:LONGEST_CAPTION]
    phrases = _phrases(words)
    return Caption(words, phrases, list(_deeds(words, phrases)), list(_places(words, phrases)))


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
LONGEST_FROM = {noun[0]: len(noun) for noun in sorted(TABLE, key=len)}  # first word of nouns -> most words
VERB_FORMS = {  # -> the -ing form that answers use, how the form ends
    form: (_ing(bases[0]), ending)
    for bases in _groups(VERBS)
    for base in bases
    for form, ending in ((base, ""), (plural_of(base), "s"), (_ing(base), "ing"))
}
BEFORE_NOUN = NO_VERB_AFTER | VERB_FORMS.keys()
NEAR_WORDS, NEAR_COLOURS = ([_words(group) for group in text.split("/")] for text in (NEAR, ALIKE))


def _noun_at(words: Sequence[str], place: int) -> tuple[str, bool, int]:
    """The name of the longest noun that begins at a place, whether it is a plural, and its length (0: none begins)."""
    longest = LONGEST_FROM.get("".join(words[place : place + 1]), 0)
    for length in range(min(longest, len(words) - place), 0, -1):
        label, noun, plural = TABLE.get(tuple(words[place : place + length]), ("", "", False))
        name = NAME_OF.get(noun) or NAME_OF.get(label)
        if name:
            return name, plural, length
    return "", False, 0


def _phrases(words: Sequence[str]) -> list[Phrase]:
    found: list[Phrase] = []
    place, compound = 0, -1
    while place < len(words):
        name, plural, length = _noun_at(words, place)
        end = place + max(length, 1)
        after = words[end] if end < len(words) else ""
        begins, compound = compound if compound >= 0 else place, -1
        if length and not plural and (after in HEAD_NOUNS or (_noun_at(words, end)[2] and after not in VERB_FORMS)):
            compound = begins  # "a train station"
        elif length and after != "'s":
            start = _start(words, begins, after=found[-1].end if found else 0)
            known = words[start] == "the" and any(one.name == name and one.number == 1 for one in found)
            is_verb = start == place and words[place] in VERB_FORMS and words[max(0, place - 1)] not in BEFORE_NOUN
            if not (known or is_verb):  # the man named before, "a dog swings"
                leads = _leads(words, start, found)
                colours = {COLOUR_WORDS.get(word) for word in words[start:place]}
                colour = " and ".join([colour for colour in COLOURS if colour in colours])
                found.append(Phrase(name, start, end, _number(words[start:end], plural=plural), colour, leads))
        place = end
    return found


def _start(words: Sequence[str], place: int, *, after: int) -> int:
    """Where the words that belong to a noun begin: at a determiner or number, else at the attributes before it."""
    start = described = place
    while start > after and place - start < LONGEST_CHAIN:
        word, earlier = words[start - 1], words[max(0, start - 2)]
        if word in DETERMINERS or word in NUMBERS or word in SEVERAL:
            return start - 2 if start - after > 1 and earlier in DETERMINERS else start - 1
        joins = word in BETWEEN and earlier in COLOUR_WORDS
        verb = VERB_FORMS.get(word, ("", "ing"))[1] != "ing"
        if not joins and (verb or word in STOPS or _noun_at([word], 0)[2]):
            return described
        start -= 1
        if described == start + 1 and (joins or (word in COLOUR_WORDS and word not in VERB_FORMS)):
            described = start
    return described


def _number(words: Sequence[str], *, plural: bool) -> int:
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


def _votes(captions: Captions) -> Votes:
    """What the captions of a photo answer, the same answer to a question once for each caption."""
    calls = _calls(captions)
    named = [(calls.get((i, j)), one) for i, caption in enumerate(captions) for j, one in enumerate(caption.phrases)]
    people = {call or ("are", "") for call, phrase in named if KIND_OF[phrase.name] == "person"} or {("is", "")}
    owner = next(iter(people)) if len(people) == 1 else ("are", "")
    animals = Counter(phrase.name for _, phrase in named if KIND_OF[phrase.name] == "animal")
    for number, caption in enumerate(captions):
        call = {position: calls[one, position] for one, position in calls if one == number}
        votes = [*_colours(caption, call, owner), *_activities(caption, call), *_objects(caption, call)]
        votes += [("location", "where {} the {}?".format(*call[i]), place) for i, place in caption.places if i in call]
        if len(animals) == 1 and 2 * animals.total() > len(captions):
            votes += [("object", "what animal is this?", one.name) for one in caption.phrases if one.name in animals]
        yield from dict.fromkeys(votes)
    yield from _numbers(captions)


def _calls(captions: Captions) -> dict[tuple[int, int], Call]:
    """How questions call the (caption, phrase)s, where all captions speak of the same thing or things."""
    groups: dict[str, dict[tuple[int, int], Phrase]] = defaultdict(dict)
    for number, caption in enumerate(captions):
        for position, phrase in enumerate(caption.phrases):
            person = KIND_OF[phrase.name] == "person"
            for group in ("person", f"the {phrase.name}") if person else (phrase.name,):
                groups[group][number, position] = phrase
    calls: dict[tuple[int, int], Call] = {}
    for group, phrases in sorted(groups.items(), reverse=True):  # "the man" gives way to "person"
        several = {phrase.number != 1 for phrase in phrases.values()}
        if len({number for number, _ in phrases}) == len(phrases) and len(several) == 1 and group != "the person":
            name = group.removeprefix("the ") if group != "person" else _usual_name(phrases.values())
            paired = name in IN_PAIRS
            plural = ODD_PLURALS.get(name, plural_of(name)) if True in several and not paired else name
            calls |= dict.fromkeys(phrases, ("are" if True in several or paired else "is", plural))
    return calls


def _usual_name(phrases: Collection[Phrase]) -> str:
    """man, woman, boy, ... where more than half of those that say so agree, else person."""
    counts = Counter(phrase.name for phrase in phrases if phrase.name in SPECIFIC)
    name, count = counts.most_common(1)[0] if counts else ("person", 1)
    return name if 2 * count > counts.total() and 3 * count >= len(phrases) else "person"


def _colours(caption: Caption, call: Mapping[int, Call], owner: Call) -> Votes:
    for position, phrase in enumerate(caption.phrases):
        kind = KIND_OF[phrase.name]
        worn = kind == "clothing" and phrase.name != "collar"
        if phrase.colour and position in call and kind not in ("person", "place") and not (worn and owner[0] == "are"):
            verb, name = call[position]
            whose = f"{owner[1]}'s " if worn and owner[1] else ""
            yield "colour", f"what color {verb} the {whose}{name}?", phrase.colour


def _activities(caption: Caption, call: Mapping[int, Call]) -> Votes:
    doings = [(deed.doer, deed.doing) for deed in caption.deeds if deed.doing not in VAGUE]
    roles = [ROLES.get(caption.words[phrase.end - 1].removesuffix("s")) for phrase in caption.phrases]
    for doer, doing in [*doings, *enumerate(roles)]:
        if doing and doer in call:
            yield "activity", "what {} the {} doing?".format(*call[doer]), doing


def _objects(caption: Caption, call: Mapping[int, Call]) -> Votes:
    """What something is done to, and who or what does it."""
    for position, doing, preposition, target in caption.deeds:
        doer, done_to = caption.phrases[position], caption.phrases[target]
        kind, doing = KIND_OF[done_to.name], doing.split()[0]
        direct = not preposition and doing in TAKES_OBJECT and kind in OBJECT_KINDS.get(doing, (kind,))
        if target < 0 or kind == "person" or not (direct or preposition in AFTER_ACTION):
            continue
        done, person = f"{doing} {preposition}".strip(), doer.name in SPECIFIC
        if position in call:
            yield "object", "what {} the {} {}?".format(*call[position], done), done_to.name
        alone = doer.number == 1 and caption.words[max(0, doer.start - 1)] != "and"
        if target in call and alone and doing != "wearing" and (person or KIND_OF[doer.name] == "animal"):
            yield "object", f"{'who' if person else 'what'} is {done} the {call[target][1]}?", doer.name


def _names(phrase: Phrase) -> set[str]:
    """A thing's name and those of the wider kinds it is of."""
    wider = "person" if KIND_OF[phrase.name] == "person" else phrase.name
    return {phrase.name, BROADER.get(phrase.name, wider), wider}


def _numbers(captions: Captions) -> Votes:
    """How many there are, where captions agree; that there is one of the living, where all of three or more do."""
    groups = {name for caption in captions for phrase in caption.phrases for name in _names(phrase)} - IN_PAIRS
    for group in sorted(name for name in groups if KIND_OF[name] not in ("clothing", "place")):
        counts = [count for caption in captions if (count := _count(caption, group)) is not None]
        known = Counter(count for count in counts if count)
        number, agreed = known.most_common(1)[0] if known else (0, 0)
        alone = KIND_OF[group] in LIVING and 3 <= agreed == len(counts)
        asked = len(captions if group in SPECIFIC else counts)  # two men of one caption may be boys to all others
        if alone if number == 1 else agreed >= 2 and 5 * agreed >= 3 * asked:
            for count in known.elements():
                yield "number", f"how many {ODD_PLURALS.get(group, plural_of(group))} are there?", str(count)


def _count(caption: Caption, group: str) -> int | None:
    """How many of a group a caption names: 0 for several or where that is unsure, None where it names none."""
    counts = [phrase.number for phrase in caption.phrases if group in _names(phrase)]
    inside = {place for phrase in caption.phrases for place in range(phrase.start, phrase.end)}
    unsure = any(word in SOMEONE_ELSE and place not in inside for place, word in enumerate(caption.words))
    if group in SPECIFIC:  # "people" may be men, and children girls
        people = {phrase.name for phrase in caption.phrases if KIND_OF[phrase.name] == "person"}
        unsure = bool(people) and (unsure or not people.issubset(SPECIFIC[: 6 if group == "child" else 4]))
    return 0 if unsure or 0 in counts else sum(counts) if counts else None


def _settle(votes: Votes) -> Settled:
    """The questions to which one answer is the commonest."""
    answers: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for kind, question, answer in votes:
        answers[kind, question][answer] += 1
    settled = []
    for (kind, question), counts in answers.items():
        best, second = (*counts.most_common(2), ("", 0))[:2]
        if best[1] >= SUPPORT[kind] and best[1] > second[1]:
            settled.append((kind, question, [answer for answer, count in counts.most_common() for _ in range(count)]))
    return settled


def _checks(captions: Captions, settled: Settled) -> Iterator[tuple[str, int]]:
    """(question, captions that say yes; 0 for a no) on the objects that are asked about and on the colours settled."""
    named = Counter(name for caption in captions for name in set().union(*map(_names, caption.phrases)))
    words = {word for caption in captions for word in caption.words}
    words |= {p.name for caption in captions for p in caption.phrases} | {_noun_at([word], 0)[0] for word in words}
    near = words.union(*(group for group in NEAR_WORDS if group & words))
    for name in sorted(ASKED):
        if named[name] >= (3 if KIND_OF[name] == "person" else 1) or not (named[name] or name in near):
            article = "" if name in ("water", "snow") else "an " if name[0] in "aeiou" else "a "
            yield f"is there {article}{name}?", named[name]
    for kind, question, answers in settled:
        if kind == "colour" and answers.count(answers[0]) > 1 and answers[0] in COLOURS:
            verb, rest = question.removeprefix("what color ").removesuffix("?").split(" ", 1)
            said = set(" ".join(answers).split())
            near = said.union(*(group for group in NEAR_COLOURS if group & said))
            yield f"{verb} {rest} {answers[0]}?", answers.count(answers[0])
            yield from ((f"{verb} {rest} {colour}?", 0) for colour in COLOURS if colour not in near)


def _pair(
    photos: Mapping[int, Captions], settled: Mapping[int, Settled], *, ids: Sequence[str], seed: int, per_photo: int
) -> list[Question]:
    """As many yes as no to each question, the rarest questions first; at most `per_photo` of them on a photo."""
    support: dict[str, dict[int, int]] = defaultdict(dict)
    absent: dict[str, list[int]] = defaultdict(list)
    for row, captions in photos.items():
        for question, count in _checks(captions, settled[row]) if captions else ():
            if count:
                support[question][row] = count
            else:
                absent[question].append(row)
    left = dict.fromkeys(photos, per_photo)
    chosen = []
    for question in sorted(support, key=lambda one: (len(support[one]), one)):
        sides = [
            sorted((-left[row], _luck(seed, ids[row], question), row) for row in rows if left[row])
            for rows in (support[question], absent[question])
        ]
        for pair in zip(*sides, strict=False):
            for answer, (_, luck, row) in zip(("yes", "no"), pair, strict=True):
                left[row] -= 1
                times = support[question].get(row) or len(photos[row])
                chosen.append(Question(row, "yes/no", question, [answer] * times, luck))
    return chosen


def _even_out(questions: Sequence[Question], largest_share: float) -> list[Question]:
    """Without so many of each question's commonest answer that the answer's share is `largest_share` at most."""
    groups: dict[tuple[str, str], list[Question]] = defaultdict(list)
    for one in sorted(questions, key=lambda one: one.luck):
        groups[one.question, one.answers[0]].append(one)
    totals = Counter(one.question for one in questions)
    kept = []
    for (question, _), group in groups.items():
        rest = totals[question] - len(group)
        allowed = rest * largest_share / (1 - largest_share) if largest_share < 1 else len(group)
        kept += group[: max(FEWEST_KEPT, int(allowed))]
    return kept


def _choose(questions: Sequence[Question], free: Mapping[int, int]) -> list[Question]:
    """As many for each photo as are free, of every kind in turn, the surest of a kind first."""
    turns: Counter[tuple[int, str]] = Counter()
    of_row: dict[int, list[tuple[int, bytes, Question]]] = defaultdict(list)
    for one in sorted(questions, key=lambda one: (-one.answers.count(one.answers[0]), one.luck)):
        of_row[one.row].append((turns[one.row, one.kind], one.luck, one))
        turns[one.row, one.kind] += 1
    return [one for row, ranked in of_row.items() for *_, one in sorted(ranked)[: free.get(row, 0)]]


def _columns(questions: Sequence[Question], ids: Sequence[str], splits: Sequence[str]) -> dict[str, list[Any]]:
    return {
        "question_id": [f"{ids[one.row]}-{one.question.removesuffix('?').replace(' ', '-')}" for one in questions],
        "image_id": [ids[one.row] for one in questions],
        "question": [one.question for one in questions],
        "answers": [one.answers for one in questions],
        "answer": [one.answers[0] for one in questions],
        "question_type": [QUESTION_TYPE.findall(one.question)[0] for one in questions],
        "answer_type": [one.kind if one.kind in ("yes/no", "number") else "other" for one in questions],
        "choices": [[] for _ in questions],
        "correct_choice": [-1] * len(questions),
        "split": [splits[one.row] for one in questions],
        "details": [json.dumps({"kind": one.kind}) for one in questions],
        "photo_row": [one.row for one in questions],
    }


def _luck(seed: int, image_id: str, question: str) -> bytes:
    return hashlib.blake2b(f"{seed}/{image_id}/{question}".encode(), digest_size=8).digest()
