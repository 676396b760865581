"""Statements about the drawn scenes of `training/scenes/draw.py`: about one, which entails, contradicts or leaves them
open, and about two, of which they are true or false.

    scene graphs --scene_statement_rows | scene_pair_rows--> rows of STATEMENT_FEATURES

A scene shows a part of what there is. It entails a statement that holds of the things in it, contradicts one that they
make false, and leaves open, neutral, one that names a thing which it does not show. Every sentence is said as often
with each class, in every split: whoever knows the words alone is right as often as by guessing, exactly. Everything
follows from (seed, split, scene).
"""

import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice, product
from typing import Any

import datasets

from training.data.boxes.rows import dataset_of
from training.data.splits import split_name
from training.data.statements.rows import ENTAILMENT, STATEMENT_FEATURES, TRUTH
from training.scenes.draw import COLOURS, CORNERS, OPPOSITES, PHRASES, SIDES, scenes_dataset

Thing = Mapping[str, Any]
Kind = tuple[tuple[str, str], ...]  # what tells a thing: (("colour", "red"), ("name", "star"))
VALUES: dict[str, tuple[str, ...]] = {"size": tuple(SIDES), "colour": tuple(COLOURS), "name": tuple(CORNERS)}
ATTRIBUTES = (("colour", "name"), ("name",), ("colour",))  # what things are told by
INVERSE = {**OPPOSITES, **{other: one for one, other in OPPOSITES.items()}}
MORE = "there are more shapes in the left image than in the right image"
TWO = 2


def read_scene_statements(
    num_scenes: int, *, seed: int = 0, image_size: int = 128, split: str | None = None, per_scene: int = 8
) -> datasets.Dataset:
    """`scene_statement_rows` of one or several splits (`"train+val"`), by default train."""
    words = sorted({split_name(word, "the scenes") for word in (split or "train").split("+")})
    options: Any = {"seed": seed, "image_size": image_size, "per_scene": per_scene}
    return datasets.concatenate_datasets([scene_statement_rows(num_scenes, split=word, **options) for word in words])


def read_scene_pairs(
    num_scenes: int, *, seed: int = 0, image_size: int = 128, split: str | None = None, per_scene: int = 4
) -> datasets.Dataset:
    """`scene_pair_rows` of one or several splits (`"train+val"`), by default train."""
    words = sorted({split_name(word, "the scenes") for word in (split or "train").split("+")})
    options: Any = {"seed": seed, "image_size": image_size, "per_scene": per_scene}
    return datasets.concatenate_datasets([scene_pair_rows(num_scenes, split=word, **options) for word in words])


def scene_statement_rows(
    num_scenes: int, *, seed: int = 0, image_size: int = 128, split: str = "train", per_scene: int = 8
) -> datasets.Dataset:
    """Draws scenes and states things about them.

    Forms: what size, colour or shape a thing has, and where one is from another.

    Args:
        num_scenes, seed, image_size, split: as for `scenes_dataset`, whose scenes these are.
        per_scene: statements of a scene, at most.

    Returns:
        Rows of `STATEMENT_FEATURES` with one image, in the order of the scenes. A third of each sentence is entailed, a
        third neutral, a third contradicted.

    Raises:
        ValueError: as `scenes_dataset`; for `per_scene` below 1, and where so few scenes give no sentence all classes.

    >>> rows = scene_statement_rows(30, per_scene=2, image_size=32)
    >>> sorted(rows["label"]).count("neutral") * 3 == len(rows)
    True
    """
    scenes = drawn(num_scenes, seed=seed, image_size=image_size, split=split, per_scene=per_scene)
    rng = random.Random(f"statements-{split}-{seed}")
    triples = list(balanced_triples([scene["objects"] for scene in scenes], [s["relations"] for s in scenes], rng=rng))
    rng.shuffle(triples)
    said: dict[int, list[tuple[str, str]]] = defaultdict(list)
    for sentence, places in triples:
        if all(len(said[place]) < per_scene for place in places):
            for place, label in zip(places, ENTAILMENT, strict=True):
                said[place].append((sentence, label))
    if not any(said.values()):
        raise ValueError(f"{num_scenes} scenes of {split} give no sentence all three classes: draw more (num_scenes)")
    return dataset_of(
        (
            statement_row([scene], number, sentence, label, split=split)
            for place, scene in enumerate(scenes)
            for number, (sentence, label) in enumerate(said[place])
        ),
        STATEMENT_FEATURES,
    )


def scene_pair_rows(
    num_scenes: int, *, seed: int = 0, image_size: int = 128, split: str = "train", per_scene: int = 4
) -> datasets.Dataset:
    """Draws scenes and states things about two of them.

    Forms: both show a thing, only one, only the left or the right one; one shows more shapes than the other. Neither
    image tells alone: of "both", the false pairs show the thing once.

    Args:
        num_scenes, seed, image_size, split: as for `scenes_dataset`, whose scenes these are.
        per_scene: how many statements a scene there are, at most; an even number in all.

    Returns:
        Rows of `STATEMENT_FEATURES` with two images. Half of each sentence is true; these are of one `group`.

    Raises:
        ValueError: as `scenes_dataset`; for `per_scene` below 1, and where so few scenes give no sentence both classes.
    """
    scenes = drawn(num_scenes, seed=seed, image_size=image_size, split=split, per_scene=per_scene)
    rng, rows = random.Random(f"pairs-{split}-{seed}"), []
    showing = shown_by([scene["objects"] for scene in scenes])
    counts = [len(scene["objects"]) for scene in scenes]
    for number in range(num_scenes * per_scene // TWO):
        made = pair_statement(showing, counts, rng=rng)
        if made is None:
            continue
        sentence, pairs = made
        for label, pair in zip(TRUTH, pairs, strict=True):
            chosen = [scenes[place] for place in pair]
            rows.append(statement_row(chosen, number, sentence, label, split=split, group=f"{split}-{seed}-{number}"))
    if not rows:
        raise ValueError(f"{num_scenes} scenes of {split} give no sentence both classes: draw more (num_scenes)")
    return dataset_of(rows, STATEMENT_FEATURES)


def drawn(num_scenes: int, *, seed: int, image_size: int, split: str, per_scene: int) -> list[dict[str, Any]]:
    """The scenes with undecoded images; `ValueError` for `per_scene` below 1."""
    if per_scene < 1:
        raise ValueError(f"per_scene is {per_scene}; state at least one thing a scene")
    scenes = scenes_dataset(num_scenes, seed=seed, image_size=image_size, split=split)
    return list(scenes.cast_column("image", datasets.Image(decode=False)))


def statement_row(
    scenes: Sequence[Mapping[str, Any]], number: int, sentence: str, label: str, *, split: str, group: str = ""
) -> dict[str, Any]:
    """A row of `STATEMENT_FEATURES` about those scenes."""
    ids = [scene["image_id"] for scene in scenes]
    own = f"{'+'.join(ids)}-{number}-{label}"
    return {
        "statement_id": own,
        "image_ids": ids,
        "images": [scene["image"] for scene in scenes],
        "statement": sentence,
        "label": label,
        "group": group or own,
        "split": split,
    }


# -- one scene --------------------------------------------------------------------------------------------------------


def balanced_triples(
    scenes: Sequence[Sequence[Thing]], relations: Sequence[Sequence[Mapping[str, Any]]], *, rng: random.Random
) -> Iterator[tuple[str, tuple[int, int, int]]]:
    """Sentences, each with a scene that entails it, one that is neutral and one that contradicts it."""
    kinds_of = [kind_counts(things) for things in scenes]
    found: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    named: dict[str, tuple[Kind, ...]] = {}
    for place, (things, told) in enumerate(zip(scenes, relations, strict=True)):
        for sentence, label, kinds in decided(things, told, kinds_of[place]):
            found[sentence][label].append(place)
            named[sentence] = kinds
    for sentence in sorted(found):
        entailed, contradicted = (found[sentence][label] for label in (ENTAILMENT[0], ENTAILMENT[2]))
        count = min(len(entailed), len(contradicted))
        absent = list(islice(open_places(named[sentence], kinds_of, start=rng.randrange(len(scenes))), count))
        count = len(absent)
        drawn_places = (rng.sample(places, k=count) for places in (entailed, absent, contradicted))
        for triple in zip(*drawn_places, strict=True):
            yield sentence, triple


def kind_counts(things: Sequence[Thing]) -> Counter[Kind]:
    """How many things of a scene each kind fits."""
    return Counter(tuple((name, thing[name]) for name in names) for thing in things for names in ATTRIBUTES)


def open_places(kinds: Sequence[Kind], kinds_of: Sequence[Mapping[Kind, int]], *, start: int) -> Iterator[int]:
    """The scenes that leave a sentence about these kinds open, from `start` on and around."""
    for place in chain(range(start, len(kinds_of)), range(start)):
        if leaves_open(kinds, kinds_of[place]):
            yield place


def leaves_open(kinds: Sequence[Kind], counts: Mapping[Kind, int]) -> bool:
    """Whether a scene lacks a thing that a sentence names, and has at most one of each other."""
    numbers = [counts.get(kind, 0) for kind in kinds]
    return 0 in numbers and max(numbers) <= 1


def decided(
    things: Sequence[Thing], relations: Sequence[Mapping[str, Any]], counts: Mapping[Kind, int]
) -> Iterator[tuple[str, str, tuple[Kind, ...]]]:
    """Sentences that a scene entails or contradicts, each with its class and the kinds of things that it names."""
    for thing, names in product(things, ATTRIBUTES):
        kind = kind_of(thing, names)
        if counts[kind] != 1:
            continue
        for name in VALUES.keys() - {*names}:
            for value in VALUES[name]:
                label = ENTAILMENT[0] if value == thing[name] else ENTAILMENT[2]
                yield f"the {noun(kind)} is {predicate(name, value)}", label, (kind,)
    for relation in relations:
        ends = (things[relation["subject"]], things[relation["object"]])
        where = relation["predicate"]
        for names in ATTRIBUTES:
            kinds = tuple(kind_of(thing, names) for thing in ends)
            if where not in INVERSE or any(counts[kind] != 1 for kind in kinds):
                continue
            for said, label in ((where, ENTAILMENT[0]), (INVERSE[where], ENTAILMENT[2])):
                words = PHRASES.get(said, said)
                yield f"the {noun(kinds[0])} is {words} the {noun(kinds[1])}", label, kinds


def kind_of(thing: Thing, names: Sequence[str]) -> Kind:
    """A thing as these attributes tell it."""
    return tuple((name, thing[name]) for name in names)


def noun(kind: Kind) -> str:
    """A kind in words.

    >>> noun((("colour", "red"), ("name", "star"))), noun((("colour", "red"),))
    ('red star', 'red thing')
    """
    said = dict(kind)
    return " ".join([*([said["colour"]] if "colour" in said else []), said.get("name", "thing")])


def predicate(name: str, value: str) -> str:
    """What is said of a thing: `large`, `red`, `a star`."""
    return f"a {value}" if name == "name" else value


# -- two scenes -------------------------------------------------------------------------------------------------------


def shown_by(scenes: Sequence[Sequence[Thing]]) -> dict[Kind, tuple[list[int], list[int]]]:
    """Of each kind that some scenes show and others do not: the places of those that do not, and of those that do."""
    showing: dict[Kind, set[int]] = defaultdict(set)
    for place, things in enumerate(scenes):
        for kind in kind_counts(things):
            showing[kind].add(place)
    everywhere = range(len(scenes))
    return {
        kind: ([place for place in everywhere if place not in places], sorted(places))
        for kind, places in sorted(showing.items())
        if TWO <= len(places) <= len(scenes) - TWO
    }


def pair_statement(
    showing: Mapping[Kind, tuple[list[int], list[int]]], counts: Sequence[int], *, rng: random.Random
) -> tuple[str, tuple[tuple[int, int], tuple[int, int]]] | None:
    """A sentence, a pair of scenes that it is false of and one that it is true of; None where the draw gives none."""
    form = rng.choice(("both", "one", "left", "right", "more"))
    if form == "more":
        pairs = [rng.sample(range(len(counts)), k=TWO) for _ in range(TWO)]
        if any(counts[left] == counts[right] for left, right in pairs):
            return None
        falling = [tuple(sorted(pair, key=lambda place: -counts[place])) for pair in pairs]
        return MORE, (falling[0][::-1], falling[1])  # type: ignore[return-value]
    if not showing:
        return None
    names = rng.choice(ATTRIBUTES)
    kinds = [kind for kind in showing if tuple(name for name, _ in kind) == names]
    if not kinds:
        return None
    kind = rng.choice(kinds)
    sentence = {
        "both": f"both images show a {noun(kind)}",
        "one": f"only one of the images shows a {noun(kind)}",
        "left": f"only the left image shows a {noun(kind)}",
        "right": f"only the right image shows a {noun(kind)}",
    }[form]
    one_of_both, other = rng.sample([(0, 1), (1, 0)], k=TWO)
    wrong, right = {  # whether the left and the right image show it
        "both": (one_of_both, (1, 1)),
        "one": (rng.choice([(0, 0), (1, 1)]), other),
        "left": (rng.choice([(0, 1), (1, 1)]), (1, 0)),
        "right": (rng.choice([(1, 0), (1, 1)]), (0, 1)),
    }[form]
    return sentence.replace("a orange", "an orange"), (
        two_places(showing[kind], wrong, rng=rng),
        two_places(showing[kind], right, rng=rng),
    )


def two_places(places: tuple[list[int], list[int]], shown: tuple[int, int], *, rng: random.Random) -> tuple[int, int]:
    """Two different scenes that do or do not show a kind."""
    left, right = shown
    if left == right:
        one, other = rng.sample(places[left], k=TWO)
        return one, other
    return rng.choice(places[left]), rng.choice(places[right])
