"""Travelling cameras: a clip of an image, over which a camera moves from one phrase's box to the next.

    grounded phrases of an image --choose_stops--> stops --camera_windows--> a window a frame --film--> frames

The pixels are real and the moments are true: a stop's span is the time in which the camera rests on its box. Windows
have the shape of a frame and lie inside the image; between two stops the camera eases in and out. A phrase is taken for
a stop only where the others' windows hide it, so that the order of stops can be seen.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from PIL import Image

from training.data.clips.strips import JPEG_BLOCK

FRAMES_PER_SECOND = 4
REST_SECONDS, MOVE_SECONDS = (1.0, 1.5, 2.0), (0.5, 1.0, 1.5)
SMALLEST_WINDOW = 0.3  # of the largest window in the image
MOST_SEEN = 0.25  # of a stop's box in another stop's window
LEAST_SIDE = 0.02  # of the image's side, of a box that the camera goes to
ORDERS = ("first {}, then {}", "{} and then {}", "the camera moves from {} to {}")
Window = tuple[float, float, float, float]


@dataclass(frozen=True)
class Place:
    """A phrase and its one box, xyxy in 0..1 of the image."""

    text: str
    box: tuple[float, ...]

    @property
    def head(self) -> str:
        """Its last word, which says what it is."""
        return self.text.split()[-1]


@dataclass(frozen=True)
class Stop:
    """A place where the camera rests from `start_seconds` to `end_seconds`, and its window, xyxy in pixels."""

    place: Place
    window: Window
    start_seconds: float
    end_seconds: float


@dataclass(frozen=True)
class Travel:
    """A clip: `image_id`, `image` (a strip) and `split` of its row, its stops, and its image's captions."""

    row: dict[str, Any]
    stops: tuple[Stop, ...]
    captions: tuple[str, ...]

    @property
    def texts(self) -> list[str]:
        """The phrases of the stops in the order of time."""
        return [stop.place.text for stop in self.stops]


def places_of(phrases: Sequence[Sequence[Any]], captions: Sequence[str]) -> list[Place]:
    """The phrases of an image's captions that have one box, two words or more, and a box of some size.

    phrases, captions: as in rows of `PHRASE_FEATURES`. Each box and each text stands once.
    """
    found: dict[tuple[float, ...], Place] = {}
    for caption, own in zip(captions, phrases, strict=True):
        for phrase in own:
            text = caption[phrase["start"] : phrase["end"]].lower().strip()
            box = tuple(float(corner) for corner in phrase["boxes"][0]) if len(phrase["boxes"]) == 1 else ()
            if box and len(text.split()) > 1 and min(box[2] - box[0], box[3] - box[1]) >= LEAST_SIDE:
                found.setdefault(box, Place(text, box))
    return list({place.text: place for place in found.values()}.values())


def frame_size(width: int, height: int, *, side: int) -> tuple[int, int]:
    """Width and height of the frames of an image, the longer one `side`, in its shape to whole blocks of 8 pixels.

    >>> frame_size(500, 375, side=96), frame_size(333, 500, side=96)
    ((96, 72), (64, 96))
    """
    scale = side / max(width, height)
    return tuple(max(JPEG_BLOCK, JPEG_BLOCK * round(scale * edge / JPEG_BLOCK)) for edge in (width, height))  # type: ignore[return-value]


def window_on(box: Sequence[float], *, image: tuple[int, int], frame: tuple[int, int]) -> Window:
    """The window on a box, xyxy in pixels: of the frame's shape, around the box's middle as far as the image goes.

    box: xyxy in 0..1; image, frame: width and height in pixels. Raises `ValueError` for a box without a size, or one
    that is not inside the image.
    """
    x1, y1, x2, y2 = box
    if not (0 <= x1 < x2 <= 1 and 0 <= y1 < y2 <= 1):
        raise ValueError(f"the box {list(box)} must have a size and lie in 0..1: give xyxy of the image's sides")
    shape = frame[0] / frame[1]
    largest = min(image[0], image[1] * shape), min(image[1], image[0] / shape)
    wanted = max((x2 - x1) * image[0] / largest[0], (y2 - y1) * image[1] / largest[1])
    scale = min(max(wanted, SMALLEST_WINDOW), 1.0)
    corners = []
    for low, high, whole, most in ((x1, x2, image[0], largest[0]), (y1, y2, image[1], largest[1])):
        half = scale * most / 2
        middle = min(max((low + high) / 2 * whole, half), whole - half)
        corners.append((middle - half, middle + half))
    return corners[0][0], corners[1][0], corners[0][1], corners[1][1]


def share_seen(box: Sequence[float], window: Window, *, image: tuple[int, int]) -> float:
    """How much of a box (xyxy in 0..1) lies in a window (xyxy in pixels), 0..1 of its area.

    >>> share_seen((0.0, 0.0, 0.5, 1.0), (0.0, 0.0, 25.0, 100.0), image=(100, 100))
    0.5
    """
    edges = [(box[axis] * image[axis], box[axis + 2] * image[axis]) for axis in (0, 1)]
    inside = [
        max(0.0, min(high, window[axis + 2]) - max(low, window[axis])) / (high - low)
        for axis, (low, high) in enumerate(edges)
    ]
    return inside[0] * inside[1]


def choose_stops(
    places: Sequence[Place], *, image: tuple[int, int], frame: tuple[int, int], rng: random.Random, most: int = 3
) -> list[Stop]:
    """Two to `most` stops in an order that is drawn, with their times; none where no two places can be told apart.

    Two places go together where their heads differ and each is hidden from the other's window (`MOST_SEEN`).
    """
    drawn = rng.sample(list(places), len(places))
    windows = {place: window_on(place.box, image=image, frame=frame) for place in drawn}
    chosen: list[Place] = []
    for first in drawn:
        chosen = [first]
        for place in drawn:
            if len(chosen) < most and all(_apart(place, other, windows, image) for other in chosen):
                chosen.append(place)
        if len(chosen) > 1:
            break
    if len(chosen) < 2:
        return []
    stops, now = [], 0.0
    for place in rng.sample(chosen, len(chosen)):
        end = now + rng.choice(REST_SECONDS)
        stops.append(Stop(place, windows[place], now, end))
        now = end + rng.choice(MOVE_SECONDS)
    return stops


def _apart(place: Place, other: Place, windows: dict[Place, Window], image: tuple[int, int]) -> bool:
    seen = (
        share_seen(place.box, windows[other], image=image),
        share_seen(other.box, windows[place], image=image),
    )
    return place.head != other.head and max(seen) <= MOST_SEEN


def camera_windows(stops: Sequence[Stop]) -> tuple[list[Window], list[float]]:
    """The window of each frame and its second, `FRAMES_PER_SECOND` of them, until the last stop ends."""
    count = round(stops[-1].end_seconds * FRAMES_PER_SECOND)
    seconds = [number / FRAMES_PER_SECOND for number in range(count)]
    return [window_at(stops, second) for second in seconds], seconds


def window_at(stops: Sequence[Stop], second: float) -> Window:
    """Where the camera looks at a second: a stop's window while it rests, between two stops on its way."""
    for before, after in pairwise(stops):
        if second < after.start_seconds:
            way = (second - before.end_seconds) / (after.start_seconds - before.end_seconds)
            way = min(max(way, 0.0), 1.0)
            return between(before.window, after.window, way * way * (3 - 2 * way))
    return stops[-1].window


def between(one: Window, other: Window, way: float) -> Window:
    """The window at a share of the way from one to another: its middle moves evenly, its size by equal factors.

    >>> between((0.0, 0.0, 4.0, 2.0), (10.0, 0.0, 26.0, 8.0), 0.5)
    (6.0, 0.5, 14.0, 4.5)
    """
    corners = []
    for axis in (0, 1):
        sides = one[axis + 2] - one[axis], other[axis + 2] - other[axis]
        half = math.exp((1 - way) * math.log(sides[0]) + way * math.log(sides[1])) / 2
        middle = (1 - way) * (one[axis] + one[axis + 2]) / 2 + way * (other[axis] + other[axis + 2]) / 2
        corners.append((round(middle - half, 9), round(middle + half, 9)))
    return corners[0][0], corners[1][0], corners[0][1], corners[1][1]


def film(image: Image.Image, windows: Sequence[Window], *, frame: tuple[int, int]) -> list[Image.Image]:
    """The frames, width and height `frame` in pixels: what each window shows of the image."""
    width, height = image.size
    edges = np.array([width, height, width, height])
    boxes = [tuple(np.clip(window, 0, edges).tolist()) for window in windows]
    return [image.resize(frame, Image.Resampling.BILINEAR, box=box) for box in boxes]  # type: ignore[arg-type]


def order_sentences(texts: Sequence[str]) -> list[str]:
    """Sentences of the order of phrases, two or more.

    >>> order_sentences(["a man", "a dog"])[:2]
    ['first a man, then a dog', 'a man and then a dog']
    """
    first, *rest = texts
    return [
        form.format(first, joint.join(rest))
        for form, joint in zip(ORDERS, (", then ", " and then ", " to "), strict=True)
    ]
