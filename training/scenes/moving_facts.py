"""Whether a caption of a moving scene is true: its clauses beside the scene's events.

caption --clauses--> what it says --told_facts--> each with whether it is so

A caption says how many shapes there are, what one of them does and how often, and, by "and then", in which order. What
it says is read by the form of `moving_texts.moving_captions`; a clause of any other form is a fact that is not so.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from training.data.splits import SPLITS
from training.scenes.draw import NUMBERS
from training.scenes.moving import Event, MovingScene, make_moving_scene
from training.scenes.moving_texts import event_sentence, object_phrase

CLIP_ID = re.compile(r"moving-([a-z]+)-(\d{1,9})-(\d{1,9})(-\d+-of-\d+)?")
SOME = re.compile(r"(?:one of )?(\w+) shapes (?:and )?(.*)")
KINDS = ("shapes", "event", "order")


@dataclass(frozen=True)
class Fact:
    """What a caption says, of a kind in `KINDS`, in its words, and whether it is so."""

    kind: str
    words: str
    true: bool


def scene_of(image_id: str) -> MovingScene:
    """The scene of a row's `image_id`, whichever frames were kept of it.

    Raises `ValueError` for the id of another data set.

    >>> [event.kind for event in scene_of("moving-test-0-3").events] == [
    ...     event.kind for event in scene_of("moving-test-0-3-1-of-18").events
    ... ]
    True
    """
    found = CLIP_ID.fullmatch(image_id)
    if found is None or found[1] not in SPLITS:
        raise ValueError(f"{image_id!r:.80} is not the image_id of a moving scene, such as moving-test-0-3")
    return make_moving_scene(int(found[3]), seed=len(SPLITS) * int(found[2]) + SPLITS.index(found[1]))


def told_facts(caption: str, scene: MovingScene) -> list[Fact]:
    """What a caption says of a scene, fact by fact; nothing of an empty one.

    >>> scene = scene_of("moving-test-0-3")
    >>> first, second, _ = (event_sentence(scene, event) for event in scene.events)
    >>> [(fact.kind, fact.true) for fact in told_facts(f"{second} and then {first}", scene)]
    [('event', True), ('event', True), ('order', False)]
    """
    words = " ".join(caption.lower().rstrip(" .").split())
    facts, subject = [], ""
    some = SOME.fullmatch(words)
    if some:
        facts.append(Fact("shapes", some[1], some[1] == NUMBERS[len(scene.objects)]))
        subject, words = ("one of" if words.startswith("one of") else ""), some[2]
    found: list[tuple[str, list[Event]]] = []
    for clause in words.split(" and then ") if words else []:
        own = subject_of(clause) or subject
        said = clause if subject_of(clause) else f"{subject} {clause}"
        found.append((said, [event for event in scene.events if is_said(said, event, scene)]))
        subject = own
    facts += [Fact("event", said, bool(events)) for said, events in found]
    for (one, before), (other, after) in pairwise(found):
        if before and after:
            facts.append(Fact("order", f"{one} and then {other}", in_order(before, after)))
    return facts


def subject_of(clause: str) -> str:
    """`the red square` of a clause that begins so, else nothing.

    >>> subject_of("the red square jumps twice"), subject_of("turns green")
    ('the red square', '')
    """
    words = clause.split()
    return " ".join(words[:3]) if len(words) > 3 and words[0] == "the" else ""


def is_said(clause: str, event: Event, scene: MovingScene) -> bool:
    """Whether a clause, with its subject, says this event; "one of" stands for any object."""
    sentence = event_sentence(scene, event)
    if clause.startswith("one of "):
        return clause.removeprefix("one of ") == sentence.removeprefix(f"{object_phrase(scene, event.actor)} ")
    return clause == sentence


def in_order(before: Sequence[Event], after: Sequence[Event]) -> bool:
    """Whether one of some events is before one of some others."""
    return any(one.first_frame < other.first_frame for one in before for other in after)


def fact_scores(captions: Sequence[str], scenes: Sequence[MovingScene]) -> dict[str, list[float | None]]:
    """What each caption scores: `exact` (1 where it says something and all of it is so), `facts` (the share that is so)
    and the share of each kind in `KINDS`, None where it says nothing of that kind.
    """
    scores: dict[str, list[float | None]] = {name: [] for name in ("exact", "facts", *KINDS)}
    for caption, scene in zip(captions, scenes, strict=True):
        told = told_facts(caption, scene)
        scores["exact"].append(float(bool(told) and all(fact.true for fact in told)))
        for name in ("facts", *KINDS):
            own = [fact.true for fact in told if name in ("facts", fact.kind)]
            scores[name].append(sum(own) / len(own) if own else None)
    return scores
