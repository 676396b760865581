"""Draws what a grounding pipeline finds: the image with a box for each phrase, and labels that do not overlap.

`pipeline("phrase-grounding")` -> `draw_phrases` -> a picture
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from PIL import Image, ImageColor, ImageDraw, ImageFont

from processors import load_image

from .drawing_regions_updown import COLOURS
from .drawing_updown import check_picture

PICTURE_PIXELS = 1000  # the longer side of the picture
FONT_PIXELS, PADDING, LINE = 18, 4, 3
LONGEST_LABEL = 40  # letters
DARK = 110  # of 255, the brightness below which a colour wants white letters
STEPS = 24  # places that are tried along each side of the picture

Box = tuple[float, float, float, float]


def draw_phrases(
    image: Any,
    found: Sequence[Mapping[str, Any]],
    *,
    path: str | os.PathLike[str] | None = None,
) -> Image.Image:
    """Outline the boxes of each phrase in a colour of its own, with the phrase and its score.

    Args:
        image: a path, URL, bytes or PIL image.
        found: phrases with their boxes in pixels of the image, as the pipeline returns them; the first box of a phrase
            is outlined boldly and labelled.
        path: also save the picture here, in the format of the suffix.

    Raises:
        ValueError: where no phrase has a box, or for a path at which no picture can be saved.

    >>> dog = {"phrase": "a dog", "boxes": [{"score": 0.9, "box": {"xmin": 9, "ymin": 9, "xmax": 99, "ymax": 90}}]}
    >>> draw_phrases(Image.new("RGB", (200, 100)), [dog]).size
    (1000, 500)
    """
    check_picture(path)
    phrases = [phrase for phrase in found if phrase["boxes"]]
    if not phrases:
        raise ValueError("no phrase has a box to draw: give phrases that the model has found")
    picture = load_image(image)
    scale = PICTURE_PIXELS / max(picture.size)
    width, height = (max(round(side * scale), 1) for side in picture.size)
    picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(size=FONT_PIXELS)
    outlined = []
    for number, phrase in enumerate(phrases):
        colour = COLOURS[number % len(COLOURS)]
        best, *others = (scaled(one["box"], scale) for one in phrase["boxes"])
        for corners in others:
            draw.rectangle(corners, outline=colour, width=1)
        draw.rectangle(best, outline=colour, width=LINE)
        outlined.append((best, label_of(phrase), colour))
    sizes = [label_size(draw, label, font) for _, label, _ in outlined]
    places = place_labels([box for box, *_ in outlined], sizes, size=(width, height))
    for (_, label, colour), place in zip(outlined, places, strict=True):
        draw.rectangle(place, fill=colour)
        draw.text((place[0] + PADDING, place[1] + PADDING / 2), label, fill=ink_on(colour), font=font)
    if path is not None:
        picture.save(path)
    return picture


def label_of(phrase: Mapping[str, Any]) -> str:
    """A phrase, cut where it is long, with the score of its best box.

    >>> label_of({"phrase": "a dog", "boxes": [{"score": 0.912}]})
    'a dog 0.91'
    """
    words = str(phrase["phrase"])
    words = words if len(words) <= LONGEST_LABEL else words[: LONGEST_LABEL - 3] + "..."
    return f"{words} {phrase['boxes'][0]['score']:.2f}"


def ink_on(colour: str) -> str:
    """Black or white, whichever is read better on a colour.

    >>> ink_on("#f0e442"), ink_on("#0072b2")
    ('black', 'white')
    """
    return "white" if ImageColor.getcolor(colour, "L") < DARK else "black"  # type: ignore[operator]


def label_size(draw: ImageDraw.ImageDraw, label: str, font: Any) -> tuple[int, int]:
    """Width and height in pixels of a label with its padding."""
    return round(draw.textlength(label, font=font)) + 2 * PADDING, FONT_PIXELS + 2 * PADDING


def place_labels(
    boxes: Sequence[Sequence[float]], sizes: Sequence[tuple[int, int]], *, size: tuple[int, int]
) -> list[Box]:
    """Where the label of each box stands, xyxy in pixels: near the box, inside the picture, over no other label.

    Args:
        boxes: xyxy in pixels.
        sizes: width and height of each label.
        size: width and height of the picture.

    A label goes above its box, below it or inside, else to the nearest free place of the picture; where none is free,
    it covers others as little as it can.

    >>> place_labels([(0, 50, 90, 90)] * 2, [(40, 20)] * 2, size=(100, 100))
    [(0.0, 30.0, 40.0, 50.0), (50.0, 30.0, 90.0, 50.0)]
    """
    placed: list[Box] = []
    for box, (width, height) in zip(boxes, sizes, strict=True):
        candidates = [
            (left, top, left + width, top + height)
            for left, top in places_near(box, (width, height), size)
            if 0 <= left <= max(size[0] - width, 0) and 0 <= top <= max(size[1] - height, 0)
        ]
        placed.append(min(candidates, key=lambda place: sum(shared_area(place, other) for other in placed)))
    return placed


def places_near(box: Sequence[float], label: tuple[int, int], size: tuple[int, int]) -> Iterator[tuple[float, float]]:
    """Left and top of places for a label, the best first."""
    width, height = label
    most = (max(size[0] - width, 0), max(size[1] - height, 0))
    left, right = (min(max(float(side), 0.0), most[0]) for side in (box[0], box[2] - width))
    for top in (box[1] - height, box[3], box[1], box[3] - height):
        for side in (left, right):
            yield side, float(top)
    steps = [(most[0] * i / STEPS, most[1] * j / STEPS) for i in range(STEPS + 1) for j in range(STEPS + 1)]
    yield from sorted(steps, key=lambda place: abs(place[0] - left) + abs(place[1] - box[1]))


def shared_area(first: Box, second: Box) -> float:
    """How many pixels two boxes share.

    >>> shared_area((0, 0, 10, 10), (5, 5, 20, 20))
    25
    """
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    return max(width, 0) * max(height, 0)


def scaled(box: Mapping[str, float], scale: float) -> Box:
    """A box in pixels of the image -> xyxy in those of the picture, with sides that are not below 0."""
    left, top, right, bottom = (box[side] * scale for side in ("xmin", "ymin", "xmax", "ymax"))
    return left, top, max(right, left), max(bottom, top)
