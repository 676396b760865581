"""Drawn images with writing on them: shapes with words and numbers, signs, forms and bar charts, each with its words.

    (kind, seed, index) --draw_written--> image, words with boxes, and the facts that questions are about

Words are made of syllables, so that those of one image are of hardly any other: they can be copied, not known. Text is
set in the font that Pillow has built in. Everything follows from the seed.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from processors.words_updown import Word, word_in_box
from training.scenes.draw import COLOURS, DARK_COLOURS, ground, shape_polygon

SHAPES = ("circle", "square", "diamond", "triangle")
CONSONANTS, VOWELS = "bdfgklmnprstvz", "aeiou"
SCALE = 2  # drawn so many times as large and reduced, for smooth edges
FIELDS = ("name", "city", "date", "code", "phone", "total", "item", "number")
FEWEST_BARS, MOST_BARS = 3, 5
LEAST_DIFFERENCE = 4  # of the values of two bars, 0..99
TEXT_IN_SHAPE = {"circle": (0.5, 0.74), "square": (0.5, 0.84), "diamond": (0.5, 0.58), "triangle": (0.68, 0.56)}


@dataclass
class Written:
    """A drawn image (RGB), its words in reading order, and what it is about: `kind` and `facts`.

    facts: of objects the list `things` (name, colour, text), of a sign its `lines`, of a form its `fields` and a value
    that each could have but has not, `others` (key -> value), and of a chart its `bars` (label -> value).
    """

    kind: str
    image: Image.Image
    words: list[Word]
    facts: dict[str, Any]


@dataclass
class Page:
    """An image that is being drawn, `SCALE` times as large, with the words written so far."""

    image: Image.Image
    words: list[tuple[float, Word]] = field(default_factory=list)  # with the middle of their line, down

    def __post_init__(self) -> None:
        self.draw = ImageDraw.Draw(self.image)
        self.side = self.image.width

    def write(
        self,
        text: str,
        place: tuple[float, float],
        *,
        width: float,
        height: float,
        ink: Any = "black",
        centred: bool = True,
    ) -> None:
        """A line of text about its middle, or from the middle of its left end; smaller where it does not fit."""
        font = fitting_font(text, width=round(width * self.side), height=round(height * self.side))
        space = font.getlength(" ")
        lengths = [font.getlength(word) for word in text.split()]
        x, y = place[0] * self.side, place[1] * self.side
        x -= (sum(lengths) + space * (len(lengths) - 1)) / 2 if centred else 0
        for word, length in zip(text.split(), lengths, strict=True):
            self.draw.text((x, y), word, fill=ink, font=font, anchor="lm")
            around = self.draw.textbbox((x, y), word, font=font, anchor="lm")
            box = [min(max(edge / self.side, 0.0), 1.0) for edge in around]
            self.words.append((place[1], word_in_box(word, box)))
            x += length + space

    def finished(self, kind: str, facts: Mapping[str, Any]) -> Written:
        """The image in its own size, with its words in reading order."""
        ordered = [word for _, word in sorted(self.words, key=lambda written: (written[0], written[1].box[0]))]
        return Written(kind, self.image.reduce(SCALE), ordered, dict(facts))


def draw_written(kind: str, index: int, *, seed: int, image_size: int) -> Written:
    """The drawn image `index` of a kind and a seed; the same arguments, the same pixels.

    Args:
        kind: a key of `KINDS`.
        image_size: side of the square image, pixels.
    """
    side = SCALE * image_size
    page = Page(ground(index, seed=seed, side=side))
    return KINDS[kind](page, random.Random(f"{kind}-{seed}-{index}"))


def draw_objects(page: Page, rng: random.Random) -> Written:
    """Two to four shapes of different colours, each with a word or a number, on a grid of two by two."""
    cells = rng.sample([(0.26, 0.26), (0.74, 0.26), (0.26, 0.74), (0.74, 0.74)], k=rng.randint(2, 4))
    colours = rng.sample(tuple(COLOURS), k=len(cells))
    things = []
    for (x, y), colour in zip(cells, colours, strict=True):
        name, half = rng.choice(SHAPES), rng.uniform(0.17, 0.22)
        x, y = x + rng.uniform(-0.03, 0.03), y + rng.uniform(-0.03, 0.03)
        box = (x - half, y - half, x + half, y + half)
        text = str(rng.randint(10, 999)) if rng.random() < 0.4 else made_word(rng)
        page.draw.polygon([page.side * edge for edge in shape_polygon(name, box)], fill=COLOURS[colour])
        down, across = TEXT_IN_SHAPE[name]
        ink = "white" if colour in DARK_COLOURS else "black"
        page.write(text, (x, box[1] + 2 * half * down), width=2 * half * across, height=0.09, ink=ink)
        things.append({"name": name, "colour": colour, "text": text})
    return page.finished("objects", {"things": things})


def draw_sign(page: Page, rng: random.Random) -> Written:
    """A board of one colour with a line of one or two words and a line with a word and a number."""
    colour = rng.choice(tuple(COLOURS))
    left, top = rng.uniform(0.05, 0.15), rng.uniform(0.1, 0.3)
    right, bottom = rng.uniform(0.85, 0.95), top + rng.uniform(0.4, 0.55)
    corners = [page.side * edge for edge in (left, top, right, bottom)]
    page.draw.rectangle(corners, fill=COLOURS[colour])
    ink = "white" if colour in DARK_COLOURS else "black"
    first = " ".join(made_word(rng) for _ in range(rng.randint(1, 2)))
    second = f"{made_word(rng)} {rng.randint(1, 99)}"
    for number, line in enumerate((first, second)):
        middle = top + (bottom - top) * (0.3 + 0.4 * number)
        page.write(line, ((left + right) / 2, middle), width=0.85 * (right - left), height=0.1, ink=ink)
    return page.finished("signs", {"lines": [first, second], "colour": colour})


def draw_form(page: Page, rng: random.Random) -> Written:
    """A title and four to six lines of a field's name and its value."""
    keys = rng.sample(FIELDS, k=rng.randint(4, 6))
    fields = {key: made_value(key, rng) for key in keys}
    page.write(f"{made_word(rng)} {made_word(rng)}", (0.5, 0.09), width=0.8, height=0.075)
    left, column = rng.uniform(0.05, 0.12), rng.uniform(0.4, 0.48)
    for number, (key, value) in enumerate(fields.items()):
        middle = 0.24 + 0.13 * number
        page.write(f"{key}:", (left, middle), width=column - left - 0.02, height=0.06, centred=False)
        page.write(value, (column, middle), width=0.97 - column, height=0.06, centred=False)
    drawn = {key: made_value(key, rng) for key in keys}
    others = {key: value for key, value in drawn.items() if value != fields[key]}
    return page.finished("forms", {"fields": fields, "others": others})


def draw_chart(page: Page, rng: random.Random) -> Written:
    """Three to five bars with their names below and their values above."""
    count = rng.randint(FEWEST_BARS, MOST_BARS)
    values = distinct_values(count, rng)
    years = rng.random() < 0.3
    first = rng.randint(1990, 2020)
    labels = [str(first + place) for place in range(count)] if years else distinct_words(count, rng)
    page.write(f"{made_word(rng)} {made_word(rng)}", (0.5, 0.06), width=0.7, height=0.055)
    base, slot = 0.88, 0.94 / count
    colour = COLOURS[rng.choice(tuple(COLOURS))]
    for place, (label, value) in enumerate(zip(labels, values, strict=True)):
        middle = 0.03 + slot * (place + 0.5)
        top = base - 0.68 * value / 99
        edges = (middle - 0.3 * slot, top, middle + 0.3 * slot, base)
        page.draw.rectangle([page.side * edge for edge in edges], fill=colour)
        page.write(str(value), (middle, top - 0.035), width=0.9 * slot, height=0.05)
        page.write(label, (middle, base + 0.05), width=0.9 * slot, height=0.05)
    page.draw.line([page.side * edge for edge in (0.03, base, 0.97, base)], fill="black", width=SCALE)
    return page.finished("charts", {"bars": dict(zip(labels, values, strict=True))})


KINDS: dict[str, Callable[[Page, random.Random], Written]] = {
    "objects": draw_objects,
    "signs": draw_sign,
    "forms": draw_form,
    "charts": draw_chart,
}


def made_word(rng: random.Random) -> str:
    """A word of two or three syllables, in lower case, capitals or with a capital.

    >>> made_word(random.Random(3))
    'RUFI'
    """
    syllables = [rng.choice(CONSONANTS) + rng.choice(VOWELS) for _ in range(rng.randint(2, 3))]
    word = "".join(syllables)[: rng.choice((4, 5, 6))]
    return rng.choice((word, word.upper(), word.capitalize()))


def distinct_words(count: int, rng: random.Random) -> list[str]:
    """So many words that differ in more than their capitals."""
    words: dict[str, str] = {}
    while len(words) < count:
        word = made_word(rng)
        words.setdefault(word.lower(), word)
    return list(words.values())


def made_value(key: str, rng: random.Random) -> str:
    """The value of a field of a form."""
    if key == "date":
        return f"{rng.randint(1, 28):02d}/{rng.randint(1, 12):02d}/{rng.randint(1980, 2030)}"
    if key == "total":
        return f"${rng.randint(1, 999)}.{rng.randint(0, 99):02d}"
    if key == "phone":
        return f"{rng.randint(100, 999)} {rng.randint(1000, 9999)}"
    if key == "code":
        return f"{made_word(rng)[:2].upper()}-{rng.randint(100, 9999)}"
    if key == "number":
        return str(rng.randint(1, 99999))
    return f"{made_word(rng)} {made_word(rng)}" if key == "name" else made_word(rng)


def distinct_values(count: int, rng: random.Random) -> list[int]:
    """So many values in 5..99 that differ by `LEAST_DIFFERENCE` or more, in any order."""
    values: list[int] = []
    while len(values) < count:
        value = rng.randint(5, 99)
        if all(abs(value - other) >= LEAST_DIFFERENCE for other in values):
            values.append(value)
    return values


@lru_cache(maxsize=256)
def font_of(size_pixels: int) -> Any:
    """Pillow's built-in font."""
    return ImageFont.load_default(size=size_pixels)


def fitting_font(text: str, *, width: int, height: int) -> Any:
    """The largest font up to a height in which a line is at most as wide as given, in pixels."""
    size = max(height, 1)
    length = font_of(size).getlength(text)
    return font_of(size) if length <= width else font_of(max(int(size * width / length), 1))
