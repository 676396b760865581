"""What moving scenes are said to show: captions, and sentences of one event each with their spans.

MovingScene --scene_sentences--> a sentence an event --moving_captions--> captions in the order of time
"""

import random
from itertools import pairwise

from training.scenes.draw import NUMBERS
from training.scenes.moving import REPEATED, Event, MovingScene

CAPTIONS_PER_CLIP = 5
COUNTED = {1: "once", 2: "twice", 3: "three times", 4: "four times"}
VERBS = {  # of each kind, as one says that something does it, and asks whether it does
    **{kind: (f"{kind}s", kind) for kind in (*REPEATED, "appear", "disappear")},
    "left": ("moves to the left", "move to the left"),
    "right": ("moves to the right", "move to the right"),
    "turn": ("turns {colour}", "turn {colour}"),
    "meet": ("meets {other}", "meet {other}"),
}


def object_phrase(scene: MovingScene, position: int) -> str:
    """`the red square`, by the colour that it has at first."""
    thing = scene.objects[position]
    return f"the {thing.colour} {thing.name}"


def verb_phrase(scene: MovingScene, event: Event, *, asked: bool = False) -> str:
    """`turns green` or, `asked`, `turn green`; how often it is done is not said."""
    other = object_phrase(scene, event.other) if event.other >= 0 else ""
    return VERBS[event.kind][asked].format(colour=event.colour, other=other)


def event_sentence(scene: MovingScene, event: Event) -> str:
    """`the red square jumps three times`."""
    often = f" {COUNTED[event.times]}" if event.kind in REPEATED else ""
    return f"{object_phrase(scene, event.actor)} {verb_phrase(scene, event)}{often}"


def moving_captions(scene: MovingScene, *, seed: int) -> list[str]:
    """Five different captions, at most 20 words each, in lower case without punctuation.

    The first tells both events of the actor in their order; the rest, drawn by `seed`, pairs of events in the order of
    time, single ones, and how many shapes there are.
    """
    rng = random.Random(seed)
    sentences = [event_sentence(scene, event) for event in scene.events]
    own = scene.events_of(0)
    verbs = [event_sentence(scene, event).removeprefix(f"{object_phrase(scene, 0)} ") for event in own]
    whole = f"{object_phrase(scene, 0)} {verbs[0]} and then {verbs[1]}"
    pairs = [f"{one} and then {other}" for one, other in pairwise(sentences)]
    shapes = f"{NUMBERS[len(scene.objects)]} shapes"
    more = [*sentences, f"{shapes} and {sentences[0]}", f"one of {shapes} {verbs[1]}"]
    rng.shuffle(more)
    return list(dict.fromkeys([whole, *pairs, *more]))[:CAPTIONS_PER_CLIP]
