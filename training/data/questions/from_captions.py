"""Questions and answers about images that have captions only: weak supervision for visual question answering.

    captions --read_caption--> Caption --_votes--> what each caption answers to which question
    votes --_settle--> questions --_even_out, _pair, _choose--> the columns of a VQA data set

"A brown dog leaps over a log" answers "what is the dog doing?" and "is there a dog?". Such questions go back to COCO-QA
(Ren et al. 2015); here the captions of an image vote, every yes has a no to the same question on another image, and no
answer to an open question is right more than half the time, in the spirit of VQA v2 (Goyal et al. 2017). Word lists
and patterns, no parser; what they cannot place they leave alone.
"""

import hashlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import datasets
import pyarrow as pa
import pyarrow.compute as pc

from training.data.boxes.caption_attributes import plural_of
from training.data.captions.formats import load_captions
from training.data.captions.phrases import (
    AFTER_ACTION,
    COLOURS,
    KIND_OF,
    LIVING,
    ODD_PLURALS,
    TAKES_OBJECT,
    Caption,
    Phrase,
    noun_at,
    read_caption,
    word_set,
)
from training.data.files import PathLike
from training.data.questions.rows import question_table, with_images

IN_PAIRS = word_set("shorts pants jeans sunglasses glasses goggles headphones overalls skis stairs woods") | {"trunks"}
SPECIFIC = ("man", "woman", "boy", "girl", "child", "baby")  # persons known by more than what they do
BROADER = dict.fromkeys(("duck", "swan", "goose", "seagull", "pigeon"), "bird")
BROADER |= dict.fromkeys(("football", "basketball", "baseball", "volleyball"), "ball")
BROADER |= dict.fromkeys(("kayak", "canoe", "raft"), "boat") | dict.fromkeys(("boy", "girl", "baby"), "child")
ALIKE = """brown tan orange red black / tan white yellow / gray black white blue tan / red orange pink purple / orange
    yellow / blue purple black green / green yellow"""  # colours that people mix up
VAGUE = word_set("looking watching holding wearing carrying hitting")  # no answer to "what is the man doing?"
OBJECT_KINDS = {"wearing": ("clothing",), "playing": ("thing",), "throwing": ("gear",), "carrying": ("gear", "thing")}
ROLES = {f"{stem}er": f"{stem}ing" for stem in word_set("surf ski snowboard skateboard climb kayak wrestl hik skat")}
SOMEONE_ELSE = word_set("another other others one someone somebody ones everyone")

# What "is there a ...?" is asked of: what people who describe an image rarely leave out. Any word of a group of `NEAR`
# in a caption forbids a "no" to all others of the group.
ASKED = word_set("""man woman boy girl child baby person dog cat bird duck horse cow bull sheep elephant bear zebra
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
YES_NO_SHARE = 3 / 8  # of an image's questions at most; VQA v2 has 38 %
ANSWER_TYPES = ("yes/no", "number", "other")  # VQA's own
FEWEST_KEPT = 3  # times an answer stays right, however one-sided its question is


class Question(NamedTuple):
    """A question on the image in row `row`, with an answer for each caption that supports one, the commonest first."""

    row: int
    kind: str
    question: str
    answers: list[str]
    luck: bytes


Captions = Sequence[Caption]
Votes = Iterator[tuple[str, str, str]]  # kind, question, answer
Settled = list[tuple[str, str, list[str]]]  # kind, question, answers with the commonest first
Call = tuple[str, str]  # how questions speak of a phrase: is or are, and what they call it


def read_caption_questions(
    captions: Mapping[str, Any],
    *,
    caption_formats: Mapping[str, Callable[..., datasets.Dataset]],
    images: PathLike | None = None,
    split: str | None = None,
    seed: int = 0,
    per_image: int = 8,
    largest_share: float = 0.5,
    answer_types: Collection[str] = ANSWER_TYPES,
) -> datasets.Dataset:
    """Questions and answers made of captions: VQA trained where there are only captions.

    Args:
        captions: the options of `load_captions`, `{"format": "karpathy", "annotations": ...}`.
        caption_formats: the function of each of its formats.
        images: the image folder, where `captions` names none.
        split: keep only this split.
        seed: another seed draws other questions.
        per_image: questions an image, at most.
        largest_share: 0..1 of an open question's right answers, what the commonest may make up at most.
        answer_types: of the questions that come of it, only those of these kinds: `["number"]` leaves those that count.

    Raises:
        ValueError: as `load_captions`, for a kind that there is not, and where no question can be made.
    """
    unknown = [name for name in answer_types if name not in ANSWER_TYPES]
    if unknown or isinstance(answer_types, str) or not answer_types:
        raise ValueError(f"answer_types is {answer_types!r}; it is a list of {', '.join(ANSWER_TYPES)}")
    options = {**({"images": images} if images is not None else {}), **captions}
    rows = load_captions(**(options if split is None else {**options, "split": split}), formats=caption_formats)
    columns = caption_questions(rows, seed=seed, per_image=per_image, largest_share=largest_share)
    own = {name: values for name, values in columns.items() if name not in ("choices", "correct_choice", "image_row")}
    if not own["question"]:
        raise ValueError(
            f"no question can be made of the captions of these {len(rows)} images: they agree on nothing that the word "
            "lists have; give more captions, or captions in English"
        )
    own["name"] = list(map(str, columns["image_row"]))
    kept = [row for row, kind in enumerate(own["answer_type"]) if kind in answer_types]
    if not kept:
        raise ValueError(
            f"none of the questions made of these captions is of {', '.join(answer_types)}: ask for others"
        )
    own = {name: [values[row] for row in kept] for name, values in own.items()}
    table = question_table([own], split=None, source="the questions made of captions")
    stored = rows.cast_column("image", datasets.Image(decode=False)).with_format("arrow")["image"][:]
    return with_images(table, stored.take(pc.cast(table["name"], pa.int64())))


def caption_questions(
    rows: datasets.Dataset, *, seed: int = 0, per_image: int = 8, largest_share: float = 0.5
) -> dict[str, list[Any]]:
    """Makes up to `per_image` questions on each image out of its captions.

    Kinds: object, number, colour, location, activity, and yes/no on objects and colours. An object counts as absent
    where no caption names it, a kind it is of, or a word near to it (`NEAR`). Every split is made up by itself.

    Args:
        rows: the columns `image_id`, `captions` and `split` of `load_captions`; images are not touched.
        seed: with the `image_id`s, decides every choice; the order of the rows does not matter.
        per_image: questions on an image at most; three eighths of them at most are yes/no.
        largest_share: of an open question's right answers, what the commonest may make up (1: all may stay), except
            that an answer is right `FEWEST_KEPT` times at least.

    Returns:
        The columns of `VQA_FEATURES`, but for `image` the row of `rows` that holds it, `image_row`. `answers` has an
        entry for each caption that supports one (a "no": every caption); `details` is `{"kind": ...}`.

    Raises:
        ValueError: where a column is missing, `per_image` is under 1 or `largest_share` is not over 0 and up to 1.
    """
    absent = sorted({"image_id", "captions", "split"} - set(rows.column_names))
    if absent:
        raise ValueError(f"the caption rows have no column {', '.join(absent)}; read them with load_captions")
    if per_image < 1 or not 0 < largest_share <= 1:
        raise ValueError(f"per_image {per_image} must be at least 1, largest_share {largest_share} over 0 and up to 1")
    ids, splits, texts = list(rows["image_id"]), list(rows["split"]), list(rows["captions"])
    asked: list[Question] = []
    for split in sorted(set(splits)):
        images = {row: [read_caption(text) for text in texts[row]] for row, name in enumerate(splits) if name == split}
        settled = {row: _settle(_votes(captions)) for row, captions in images.items()}
        pairs = _pair(images, settled, ids=ids, seed=seed, per_image=int(per_image * YES_NO_SHARE))
        free = Counter(dict.fromkeys(images, per_image)) - Counter(one.row for one in pairs)
        wordings = [Question(row, *one, _luck(seed, ids[row], one[1])) for row in images for one in settled[row]]
        asked += pairs + _choose(_even_out(wordings, largest_share), free)
    return _columns(sorted(asked, key=lambda one: (one.row, one.luck)), ids, splits)


NEAR_WORDS, NEAR_COLOURS = ([word_set(group) for group in text.split("/")] for text in (NEAR, ALIKE))


def _votes(captions: Captions) -> Votes:
    """What the captions of an image answer, the same answer to a question once for each caption."""
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
    words |= {p.name for caption in captions for p in caption.phrases} | {noun_at([word], 0)[0] for word in words}
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
    images: Mapping[int, Captions], settled: Mapping[int, Settled], *, ids: Sequence[str], seed: int, per_image: int
) -> list[Question]:
    """As many yes as no to each question, the rarest questions first; at most `per_image` of them on an image."""
    support: dict[str, dict[int, int]] = defaultdict(dict)
    absent: dict[str, list[int]] = defaultdict(list)
    for row, captions in images.items():
        for question, count in _checks(captions, settled[row]) if captions else ():
            if count:
                support[question][row] = count
            else:
                absent[question].append(row)
    left = dict.fromkeys(images, per_image)
    chosen = []
    for question in sorted(support, key=lambda one: (len(support[one]), one)):
        sides = [
            sorted((-left[row], _luck(seed, ids[row], question), row) for row in rows if left[row])
            for rows in (support[question], absent[question])
        ]
        for pair in zip(*sides, strict=False):
            for answer, (_, luck, row) in zip(("yes", "no"), pair, strict=True):
                left[row] -= 1
                times = support[question].get(row) or len(images[row])
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
    """As many for each image as are free, of every kind in turn, the surest of a kind first."""
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
        "answer_type": [one.kind if one.kind in ANSWER_TYPES else "other" for one in questions],
        "choices": [[] for _ in questions],
        "correct_choice": [-1] * len(questions),
        "split": [splits[one.row] for one in questions],
        "details": [json.dumps({"kind": one.kind}) for one in questions],
        "image_row": [one.row for one in questions],
    }


def _luck(seed: int, image_id: str, question: str) -> bytes:
    return hashlib.blake2b(f"{seed}/{image_id}/{question}".encode(), digest_size=8).digest()
