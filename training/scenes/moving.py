"""Moving drawn scenes: a clip of frames with the graph of its events, for tests and first runs without a download.

    (seed, index) --make_moving_scene--> MovingScene --draw_moving_scene--> frames
    MovingScene --moving_texts.py, moving_questions.py--> captions, moments, questions

Two or three shapes, each of its own name and colour, stand in lanes of their own. One of them (the actor, the first
object) repeats an action two to four times and, before or after that, does something once; another one acts before,
between or after these. No two events overlap in time. What is done is drawn first, each kind as likely as another, so
that words alone do not tell it. Everything follows from (seed, index).
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from PIL import Image, ImageDraw

from training.scenes.draw import COLOURS, CORNERS, ground, shape_polygon

NUM_FRAMES, FRAMES_PER_SECOND = 18, 4
REPEATED = ("jump", "duck", "shake", "blink", "swell")  # an action of two frames: away, and back
NEUTRAL = ("left", "right", "turn", "meet")  # done once, and as likely before the repeated action as after it
TIMES = (2, 3, 4)
ONCE_FRAMES = 4
SIDE, STEP = 1 / 6, 0.3  # of the image's side: of a shape, and of a move to the left or right
PLACES = {"left": (0.5, 0.8), "right": (0.2, 0.5)}  # where one stands that will move so
LANES = (1 / 6, 1 / 2, 5 / 6)
TOUCHING = SIDE + 0.015  # between the middles of two shapes that meet
MEETING = (0.5, 1.0, 0.5, 0.0)  # shares of the way, frame by frame
BACKWARDS = {"left": "right", "right": "left", "appear": "disappear", "disappear": "appear"}


@dataclass(frozen=True)
class MovingObject:
    """A shape: name, colour at first, x of its middle at first (0..1) and its lane (0..2, from the top)."""

    name: str
    colour: str
    x: float
    lane: int


@dataclass(frozen=True)
class Event:
    """What one object (`actor`, its position in `objects`) does from a frame on, for so many frames.

    kind: of `REPEATED`, `NEUTRAL`, appear or disappear. times: how often. colour: that it turns into. other: the object
    that it meets, -1 for none.
    """

    actor: int
    kind: str
    first_frame: int
    num_frames: int
    times: int = 1
    colour: str = ""
    other: int = -1

    @property
    def span(self) -> tuple[float, float]:
        """Start and end in seconds: from the first frame that differs from the one before to the end of the last."""
        return self.first_frame / FRAMES_PER_SECOND, (self.first_frame + self.num_frames) / FRAMES_PER_SECOND


@dataclass(frozen=True)
class MovingScene:
    """The graph: objects, of which the first is the actor of two events, and events in the order of time."""

    objects: tuple[MovingObject, ...]
    events: tuple[Event, ...]

    def events_of(self, position: int) -> list[Event]:
        """The events of one object, in the order of time."""
        return [event for event in self.events if event.actor == position]


@dataclass(frozen=True)
class State:
    """How an object looks in one frame: its middle (0..1), its size (1 = as it stands, 0 = not there), its colour."""

    x: float
    y: float
    scale: float
    colour: tuple[float, ...]


def make_moving_scene(index: int, *, seed: int) -> MovingScene:
    """Scene `index` of a seed, without drawing."""
    rng = random.Random(f"moving-{seed}-{index}")
    count = rng.choice((2, 3))
    names, lanes = rng.sample(tuple(CORNERS), count), rng.sample(range(len(LANES)), count)
    colours = rng.sample(tuple(COLOURS), count + 2)  # and one for each of those that may turn
    repeated, times, repeats_first = rng.choice(REPEATED), rng.choice(TIMES), rng.random() < 0.5
    once = rng.choice((*NEUTRAL, "disappear" if repeats_first else "appear"))
    target = rng.choice(reachable(0, lanes))
    events = [
        Event(0, repeated, 0, 2 * times, times),
        Event(0, once, 0, ONCE_FRAMES, colour=colours[-1] if once == "turn" else "", other=target),
    ]
    events = events if repeats_first else events[::-1]
    events.insert(rng.randrange(3), _other_event(once, target, lanes, colours[-2], rng))
    gaps = sorted(rng.randint(0, NUM_FRAMES - 1 - sum(event.num_frames for event in events)) for _ in events)
    placed, taken = [], 1
    for event, gap in zip(events, gaps, strict=True):
        other = event.other if event.kind == "meet" else -1
        placed.append(replace(event, first_frame=taken + gap, other=other))
        taken += event.num_frames
    moves = {event.actor: event.kind for event in placed if event.kind in PLACES}
    objects = [
        MovingObject(name, colour, rng.choice(PLACES.get(moves.get(position, ""), (0.2, 0.5, 0.8))), lane)
        for position, (name, colour, lane) in enumerate(zip(names, colours, lanes, strict=False))
    ]
    return MovingScene(tuple(objects), tuple(placed))


def reachable(position: int, lanes: Sequence[int]) -> list[int]:
    """The others that an object can go to without passing a third one."""
    found = []
    for other, lane in enumerate(lanes):
        between = range(min(lane, lanes[position]) + 1, max(lane, lanes[position]))
        if other != position and not set(between) & set(lanes):
            found.append(other)
    return found


def _other_event(once: str, target: int, lanes: Sequence[int], colour: str, rng: random.Random) -> Event:
    """What the second object does: nothing that hides one of two that meet."""
    hidden = once in ("appear", "disappear")
    others = [other for other in reachable(1, lanes) if other or not hidden]
    kinds = [kind for kind in (*NEUTRAL, "appear", "disappear") if kind != "meet" or others]
    if once == "meet" and target == 1:
        kinds = [kind for kind in kinds if kind not in ("appear", "disappear")]
    kind = rng.choice((rng.choice(REPEATED), *kinds))
    if kind in REPEATED:
        return Event(1, kind, 0, 2 * TIMES[0], TIMES[0])
    other = rng.choice(others) if others else -1
    return Event(1, kind, 0, ONCE_FRAMES, colour=colour if kind == "turn" else "", other=other)


def reversed_scene(scene: MovingScene) -> MovingScene:
    """The scene whose frames are those of this one from the last to the first."""
    objects = []
    for position, thing in enumerate(scene.objects):
        turned = [event.colour for event in scene.events_of(position) if event.kind == "turn"]
        last = state_at(scene, position, NUM_FRAMES - 1)
        objects.append(replace(thing, x=last.x, colour=turned[0] if turned else thing.colour))
    events = [
        replace(
            event,
            kind=BACKWARDS.get(event.kind, event.kind),
            first_frame=NUM_FRAMES + 1 - event.first_frame - event.num_frames,
            colour=scene.objects[event.actor].colour if event.kind == "turn" else "",
        )
        for event in reversed(scene.events)
    ]
    return MovingScene(tuple(objects), tuple(events))


def state_at(scene: MovingScene, position: int, frame: int) -> State:
    """How an object looks in a frame, after all that it has done so far."""
    thing, events = scene.objects[position], scene.events_of(position)
    hidden = bool(events) and events[0].kind == "appear"
    state = State(thing.x, LANES[thing.lane], 0.0 if hidden else 1.0, COLOURS[thing.colour])
    for event in events:
        done = min(frame - event.first_frame + 1, event.num_frames)
        if done > 0:
            target = state_at(scene, event.other, event.first_frame) if event.other >= 0 else None
            state = _after(state, event, done, target)
    return state


def _after(state: State, event: Event, done: int, target: State | None) -> State:
    """The state once `done` frames of an event, 1 or more, are over."""
    share = done / event.num_frames
    if event.kind in REPEATED:
        return _away(state, event.kind) if done % 2 else state
    if event.kind in ("left", "right"):
        return replace(state, x=state.x + STEP * share * (1 if event.kind == "right" else -1))
    if event.kind == "turn":
        into = COLOURS[event.colour]
        return replace(state, colour=tuple(a + (b - a) * share for a, b in zip(state.colour, into, strict=True)))
    if target is not None:
        way = MEETING[done - 1]
        beside = target.y + (TOUCHING if state.y > target.y else -TOUCHING)
        return replace(state, x=state.x + way * (target.x - state.x), y=state.y + way * (beside - state.y))
    return replace(state, scale=share if event.kind == "appear" else 1 - share)


def _away(state: State, kind: str) -> State:
    """The first half of a repeated action."""
    changes = {
        "jump": {"y": state.y - 0.08},
        "duck": {"y": state.y + 0.08},
        "shake": {"x": state.x + 0.09},
        "blink": {"scale": 0.0},
        "swell": {"scale": 1.5},
    }
    return replace(state, **changes[kind])  # type: ignore[arg-type]


def draw_moving_scene(scene: MovingScene, *, index: int, seed: int, image_size: int = 72) -> list[Image.Image]:
    """The `NUM_FRAMES` frames of a scene, RGB of `image_size` pixels square, on the ground of (seed, index)."""
    side = 2 * image_size  # drawn twice as large and reduced, for smooth edges
    below = ground(index, seed=seed, side=side)
    return [_frame(scene, number, below, side=side) for number in range(NUM_FRAMES)]


def _frame(scene: MovingScene, number: int, below: Image.Image, *, side: int) -> Image.Image:
    image = below.copy()
    draw = ImageDraw.Draw(image)
    for position, thing in enumerate(scene.objects):
        state = state_at(scene, position, number)
        half = SIDE * state.scale / 2
        if half > 0:
            x, y = round(side * state.x, 4), round(side * state.y, 4)  # of moves there and back, the same pixels
            box = (x - side * half, y - side * half, x + side * half, y + side * half)
            draw.polygon(shape_polygon(thing.name, box), fill=tuple(round(level) for level in state.colour))
    return image.reduce(2)
