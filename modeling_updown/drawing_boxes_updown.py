"""What pictures of boxes have in common: the image, translucent masks with outlines, and labels that do not overlap.

image --enlarged--> picture --cover_masks--> masks --draw_regions, draw_phrases--> boxes --write_labels--> labels
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFilter, ImageFont

from processors import load_image

PICTURE_PIXELS = 1000  # the longer side of the picture
# Okabe and Ito's colours, which colour-blind readers can distinguish
COLOURS = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7")
FONT_PIXELS, PADDING, LINE = 18, 4, 3
LONGEST_LABEL = 40  # letters
DARK = 110  # of 255, the brightness below which a colour wants white letters
OPACITY = 102  # of 255, of a mask inside its outline
STEPS = 24  # places that are tried along each side of the picture

Box = tuple[float, float, float, float]


def enlarged(image: Any) -> Image.Image:
    """A path, URL, bytes or PIL image as a picture whose longer side has `PICTURE_PIXELS`.

    >>> enlarged(Image.new("RGB", (200, 100))).size
    (1000, 500)
    """
    read = load_image(image)
    scale = PICTURE_PIXELS / max(read.size)
    width, height = (max(round(side * scale), 1) for side in read.size)
    return read.resize((width, height), Image.Resampling.LANCZOS)


def colour_of(number: int) -> str:
    """The colour of the number-th box, from 0; after the last one they begin again."""
    return COLOURS[number % len(COLOURS)]


def cover_masks(picture: Image.Image, masks: Sequence[np.ndarray], colours: Sequence[str]) -> None:
    """Tint a picture where masks are, and outline them inside; of masks that overlap the last one is on top.

    Args:
        picture: "RGB", changed in place.
        masks: each (height, width) bool, of the picture's size; one without a pixel leaves the picture as it is.
        colours: one a mask.

    Raises `ValueError` for a mask of another size.

    >>> picture = Image.new("RGB", (9, 9), "white")
    >>> cover_masks(picture, [np.ones((9, 9), dtype=bool)], ["#000000"])
    >>> picture.getpixel((0, 0)), picture.getpixel((4, 4)), 255 - OPACITY
    ((0, 0, 0), (153, 153, 153), 153)
    """
    width, height = picture.size
    for mask, colour in zip(masks, colours, strict=True):
        if mask.shape != (height, width):
            raise ValueError(f"a mask of shape {mask.shape} does not fit a picture of {height} x {width} pixels")
        shown = Image.fromarray(mask.astype(np.uint8) * 255)
        box = shown.getbbox()
        if box is None:
            continue
        left, top = box[0] - LINE, box[1] - LINE
        whole = shown.crop((left, top, box[2] + LINE, box[3] + LINE))  # beyond the picture there is no mask
        inner = whole.filter(ImageFilter.MinFilter(2 * LINE + 1))
        opacity = np.where(np.asarray(inner) > 0, OPACITY, np.asarray(whole)).astype(np.uint8)
        picture.paste(Image.new("RGB", whole.size, colour), (left, top), mask=Image.fromarray(opacity))


def write_labels(
    picture: Image.Image, labels: Sequence[str], boxes: Sequence[Sequence[float]], colours: Sequence[str]
) -> None:
    """Write a label for each box, xyxy in pixels of the picture, on its colour: the first ones nearest their boxes."""
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(size=FONT_PIXELS)
    labels = [" ".join(label.split()) for label in labels]
    sizes = [(round(draw.textlength(label, font=font)) + 2 * PADDING, FONT_PIXELS + 2 * PADDING) for label in labels]
    places = place_labels(boxes, sizes, size=picture.size)
    for label, place, (width, height), colour in zip(labels, places, sizes, colours, strict=True):
        left, top = int(place[0]), int(place[1])
        draw.rectangle((left, top, left + width - 1, top + height - 1), fill=colour)  # Pillow draws the last ones too
        draw.text((left + PADDING, top + PADDING / 2), label, fill=ink_on(colour), font=font)


def shortened(words: str) -> str:
    """Words, cut where they are longer than a label.

    >>> shortened("a dog"), len(shortened("a dog " * 20)), shortened("a dog " * 20)[-6:]
    ('a dog', 40, 'g a...')
    """
    return words if len(words) <= LONGEST_LABEL else words[: LONGEST_LABEL - 3] + "..."


def ink_on(colour: str) -> str:
    """Black or white, whichever is read better on a colour.

    >>> ink_on("#f0e442"), ink_on("#0072b2")
    ('black', 'white')
    """
    return "white" if ImageColor.getcolor(colour, "L") < DARK else "black"  # type: ignore[operator]


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
