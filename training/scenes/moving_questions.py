"""Questions about moving scenes, of every kind of TGIF-QA (Jang et al. 2017), and about the order of events.

    action      "what does the red square do three times?"                  five choices
    transition  "what does the red square do after it jumps?"               five choices
    count       "how many times does the red square jump?"                  a number
    color, object, number   about a single frame                            a word
    order       "does the red square jump before the blue circle blinks?"   yes or no

Choices are always the five things that could be the answer, so that the words of a question and of its choices tell
nothing: what happens is drawn evenly (`moving.py`), and whether an order is asked about as it was.
"""

import random
from collections.abc import Iterator
from typing import NamedTuple

from training.scenes.draw import COLOURS, NUMBERS
from training.scenes.moving import NEUTRAL, REPEATED, Event, MovingScene, reachable
from training.scenes.moving_texts import COUNTED, VERBS, object_phrase, verb_phrase

KINDS = ("action", "transition", "count", "color", "object", "number", "order")


class MovingQuestion(NamedTuple):
    """A question: its kind, its words, the answer, and what it is chosen among (none where it is open)."""

    kind: str
    question: str
    answer: str
    choices: tuple[str, ...] = ()


def moving_questions(scene: MovingScene, *, seed: int) -> list[MovingQuestion]:
    """All that is asked about a scene; choices and the order that is asked about are drawn by `seed`.

    >>> from training.scenes.moving import make_moving_scene
    >>> asked = moving_questions(make_moving_scene(0, seed=0), seed=0)
    >>> asked[0].kind, len(asked[0].choices), asked[0].answer in asked[0].choices
    ('action', 5, True)
    """
    parts = (_about_the_actor, _about_frames, _about_order)  # each with draws of its own
    return [asked for ask in parts for asked in ask(scene, random.Random(f"{ask.__name__}-{seed}"))]


def _about_the_actor(scene: MovingScene, rng: random.Random) -> Iterator[MovingQuestion]:
    """Its repeated action, how often, and what it does after one thing and before the other."""
    name, (first, second) = object_phrase(scene, 0), scene.events_of(0)
    repeated = first if first.kind in REPEATED else second
    actions = [VERBS[kind][0] for kind in REPEATED]
    often, verb = COUNTED[repeated.times], verb_phrase(scene, repeated, asked=True)
    yield _choice("action", f"what does {name} do {often}?", VERBS[repeated.kind][0], actions, rng)
    yield MovingQuestion("count", f"how many times does {name} {verb}?", str(repeated.times))
    for word, told, wanted in (("after", first, second), ("before", second, first)):
        listed = actions if wanted is repeated else _done_once(scene, wanted, rng, last=word == "after")
        question = f"what does {name} do {word} it {verb_phrase(scene, told)}?"
        yield _choice("transition", question, verb_phrase(scene, wanted), listed, rng)


def _done_once(scene: MovingScene, event: Event, rng: random.Random, *, last: bool) -> list[str]:
    """The five things that the actor can do once, what it does among them."""
    used = {thing.colour for thing in scene.objects}
    turned = event.colour or rng.choice([colour for colour in COLOURS if colour not in used])
    others = reachable(0, [thing.lane for thing in scene.objects])
    met = event.other if event.kind == "meet" else rng.choice(others)
    kinds = (*NEUTRAL, "disappear" if last else "appear")
    return [VERBS[kind][0].format(colour=turned, other=object_phrase(scene, met)) for kind in kinds]


def _about_frames(scene: MovingScene, rng: random.Random) -> Iterator[MovingQuestion]:
    """Colour and shape of one object that keeps its colour, and how many there are."""
    turned = {event.actor for event in scene.events if event.kind == "turn"}
    kept = [thing for position, thing in enumerate(scene.objects) if position not in turned]
    if kept:
        thing = rng.choice(kept)
        yield MovingQuestion("color", f"what color is the {thing.name}?", thing.colour)
        thing = rng.choice(kept)
        yield MovingQuestion("object", f"what shape is the {thing.colour} thing?", thing.name)
    number = NUMBERS.index(NUMBERS[len(scene.objects)])
    yield MovingQuestion("number", "how many shapes are there?", str(number))


def _about_order(scene: MovingScene, rng: random.Random) -> Iterator[MovingQuestion]:
    """Whether one event comes before another object's; of events that are as likely early as late."""
    neutral = [event for event in scene.events if event.kind in (*REPEATED, *NEUTRAL)]
    own = [event for event in neutral if event.actor == 0]
    others = [event for event in neutral if event.actor != 0]
    if not own or not others:
        return
    pair = sorted((rng.choice(own), others[0]), key=lambda event: event.first_frame)
    answer = rng.choice(("yes", "no"))
    one, other = pair if answer == "yes" else pair[::-1]
    asked = f"does {object_phrase(scene, one.actor)} {verb_phrase(scene, one, asked=True)}"
    told = f"{object_phrase(scene, other.actor)} {verb_phrase(scene, other)}"
    yield MovingQuestion("order", f"{asked} before {told}?", answer)


def _choice(kind: str, question: str, answer: str, choices: list[str], rng: random.Random) -> MovingQuestion:
    return MovingQuestion(kind, question, answer, tuple(rng.sample(choices, len(choices))))
