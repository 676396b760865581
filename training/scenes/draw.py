"""Procedurally drawn scenes with a full scene graph: the data set that needs no download, for tests and first runs.

    (seed, index) --draw_scene--> image, Scene --scene_captions--> captions
    scenes_dataset --> the caption columns of training/data/captions/rows.py, and `objects`, `relations`

Each scene holds one to five flat shapes of a colour and a size on a light, slightly noisy ground. A large circle or
square may carry a word or hold a small shape; otherwise no two shapes touch. Everything follows from (seed, index). In
the spirit of CLEVR (Johnson et al. 2017), whose scenes are rendered in three dimensions.
"""

import io
import math
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache

import datasets
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from training.data.captions.rows import CAPTION_FEATURES
from training.data.splits import SPLITS

Box = tuple[float, float, float, float]

# Corners of each shape in its box, x and y in 0..1; the circle has none.
CORNERS: dict[str, tuple[tuple[float, float], ...]] = {
    "circle": (),
    "square": ((0, 0), (1, 0), (1, 1), (0, 1)),
    "triangle": ((0.5, 0), (1, 1), (0, 1)),
    "diamond": ((0.5, 0), (1, 0.5), (0.5, 1), (0, 0.5)),
    "star": (
        *((0.5, 0), (0.62, 0.38), (1, 0.38), (0.69, 0.62), (0.81, 1)),
        *((0.5, 0.77), (0.19, 1), (0.31, 0.62), (0, 0.38), (0.38, 0.38)),
    ),
}
PLURALS = {name: f"{name}s" for name in CORNERS}
COLOURS = {
    "red": (214, 39, 40),
    "blue": (31, 87, 200),
    "green": (34, 139, 34),
    "yellow": (250, 210, 20),
    "orange": (255, 127, 14),
    "purple": (128, 40, 160),
    "black": (25, 25, 25),
}
DARK_COLOURS = ("red", "blue", "green", "purple", "black")
SIDES = {"small": 0.17, "large": 0.36}  # of a shape, as a part of the image's side
WORDS = ("go", "stop", "exit", "open", "sale", "taxi")
WORD_CARRIERS = ("circle", "square")
NUMBERS = ("no", "one", "two", "three", "four", "five")
GAP = 0.04  # at least, between two shapes
CAPTIONS_PER_SCENE = 5
CIRCLE_CORNERS = 48  # of the polygon around a circle, 0.2 % smaller than it
OPPOSITES = {"left of": "right of", "above": "below"}
PHRASES = {"left of": "to the left of", "right of": "to the right of"}

SCENE_FEATURES = datasets.Features(
    {
        **CAPTION_FEATURES,
        "objects": datasets.List(
            {
                "name": datasets.Value("string"),
                "colour": datasets.Value("string"),
                "size": datasets.Value("string"),
                "box": datasets.List(datasets.Value("float32"), length=4),
                "text": datasets.Value("string"),
            }
        ),
        "relations": datasets.List(
            {
                "subject": datasets.Value("int32"),
                "predicate": datasets.Value("string"),
                "object": datasets.Value("int32"),
            }
        ),
    }
)


@dataclass(frozen=True)
class SceneObject:
    """A shape: its name, colour, size (small or large), box xyxy in 0..1, and the word it carries ("" for none)."""

    name: str
    colour: str
    size: str
    box: Box
    text: str = ""


@dataclass(frozen=True)
class Scene:
    """A scene graph; `relations` are (subject, predicate, object) with positions in `objects`.

    Predicates: left of, right of, above, below, inside.
    """

    objects: tuple[SceneObject, ...]
    relations: tuple[tuple[int, str, int], ...]


def scenes_dataset(num_scenes: int, *, seed: int = 0, image_size: int = 128, split: str = "train") -> datasets.Dataset:
    """Draws scenes into a data set.

    Args:
        num_scenes: rows.
        seed: another seed gives other scenes; so does another split of the same seed.
        image_size: side of the square images, pixels.
        split: train, val, test or restval.

    Returns:
        The columns of `CAPTION_FEATURES` (images as PNG bytes in memory, five captions each), `objects` (name, colour,
        size, box xyxy 0..1, text) and `relations` (subject, predicate, object: positions in `objects`).

    Raises:
        ValueError: for an unknown split, no scene, or images too small to see anything in.
    """
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; the splits of the scenes are {', '.join(SPLITS)}")
    if num_scenes < 1 or image_size < 32:
        raise ValueError(f"num_scenes {num_scenes} must be at least 1 and image_size {image_size} at least 32")
    split_seed = len(SPLITS) * seed + SPLITS.index(split)
    rows = [_row(index, seed=split_seed, image_size=image_size) for index in range(num_scenes)]
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    columns["image_id"] = [f"scene-{split}-{seed}-{index}" for index in range(num_scenes)]
    columns["split"], columns["domain"] = [split] * num_scenes, [""] * num_scenes
    return datasets.Dataset.from_dict({name: columns[name] for name in SCENE_FEATURES}, features=SCENE_FEATURES)


def draw_scene(index: int, *, seed: int, image_size: int = 128) -> tuple[Image.Image, Scene]:
    """Scene `index` of a seed and its image (RGB, `image_size` pixels square); the same arguments, the same pixels."""
    scene = make_scene(index, seed=seed)
    side = 2 * image_size  # drawn twice as large and reduced, for smooth edges
    image = Image.new("RGB", (side, side))
    image.paste(ground(index, seed=seed, side=side))
    draw = ImageDraw.Draw(image)
    for thing in scene.objects:
        _draw_object(draw, thing, side=side)
    return image.reduce(2), scene


def make_scene(index: int, *, seed: int) -> Scene:
    """The scene graph alone, without drawing."""
    rng = random.Random(f"{seed}-{index}")
    objects: list[SceneObject] = []
    kinds = rng.sample([(name, colour) for name in CORNERS for colour in COLOURS], k=rng.choice((1, 2, 2, 3)))
    for position, (name, colour) in enumerate(kinds):
        copies = rng.choice((1, 1, 2, 3)) if position == 0 else 1
        num_large = sum(thing.size == "large" for thing in objects)
        size = rng.choice(("small", "large")) if copies == 1 and num_large < 2 else "small"
        for _ in range(copies):
            box = _free_box([thing.box for thing in objects], SIDES[size], rng)
            if box is not None:
                objects.append(SceneObject(name, colour, size, box))
    objects = _fill_carriers(objects, rng)
    return Scene(objects=tuple(objects), relations=tuple(_relations(objects)))


def scene_captions(scene: Scene, *, seed: int = 0) -> list[str]:
    """Five different captions of a scene, at most 20 words each, in lower case without punctuation.

    The first names everything there is; the rest are drawn by `seed` from counts, attributes, relations and words.
    """
    rng = random.Random(seed)
    phrases = _kind_phrases(scene)
    whole = " and ".join(phrases)
    is_or_are = "is" if phrases[0].split()[0] in ("a", "an") else "are"
    total = len(scene.objects)
    shapes = f"{NUMBERS[total]} shape{'s' if total > 1 else ''}"
    details = [*_relation_captions(scene), *_word_captions(scene)]
    plain = [
        f"there {is_or_are} {whole}",
        f"a picture of {whole}",
        f"{shapes} in the picture",
        f"there {'are' if total > 1 else 'is'} {shapes} here",
        f"{phrases[0]} in a picture of {shapes}",
    ]
    rng.shuffle(details)
    rng.shuffle(plain)
    candidates = list(dict.fromkeys([whole, *details[:2], *plain]))
    return candidates[:CAPTIONS_PER_SCENE]


def shape_polygon(name: str, box: Sequence[float]) -> list[float]:
    """The outline of a shape in its box xyxy, in the box's unit: x1, y1, x2, y2, ...; of a circle, a polygon in it.

    >>> shape_polygon("triangle", (0, 0, 2, 1))
    [1.0, 0, 2, 1, 0, 1]
    """
    turns = [2 * math.pi * i / CIRCLE_CORNERS for i in range(CIRCLE_CORNERS)]
    corners = CORNERS[name] or [(0.5 + math.cos(turn) / 2, 0.5 + math.sin(turn) / 2) for turn in turns]
    x1, y1, x2, y2 = box
    return [side for x, y in corners for side in (x1 + (x2 - x1) * x, y1 + (y2 - y1) * y)]


def _row(index: int, *, seed: int, image_size: int) -> dict[str, object]:
    image, scene = draw_scene(index, seed=seed, image_size=image_size)
    png = io.BytesIO()
    image.save(png, format="PNG", compress_level=1)
    return {
        "image": {"bytes": png.getvalue(), "path": None},
        "captions": scene_captions(scene, seed=index),
        "objects": [asdict(thing) for thing in scene.objects],
        "relations": [dict(zip(("subject", "predicate", "object"), r, strict=True)) for r in scene.relations],
    }


def _free_box(taken: list[Box], side: float, rng: random.Random) -> Box | None:
    """A square box that keeps a gap to all others; None where none is found in a hundred tries."""
    for _ in range(100):
        x, y = rng.uniform(0.02, 0.98 - side), rng.uniform(0.02, 0.98 - side)
        box = (x, y, x + side, y + side)
        if all(_apart(box, other) for other in taken):
            return box
    return None


def _apart(one: Box, other: Box) -> bool:
    across = max(one[0], other[0]) - min(one[2], other[2])
    down = max(one[1], other[1]) - min(one[3], other[3])
    return max(across, down) >= GAP


def _fill_carriers(objects: list[SceneObject], rng: random.Random) -> list[SceneObject]:
    """Gives at most one large circle or square a word, and at most one a small shape inside (three kinds at most)."""
    filled, inner = list(objects), []
    carriers = [i for i, thing in enumerate(objects) if thing.size == "large" and thing.name in WORD_CARRIERS]
    for carrier, filling in zip(carriers, rng.sample(("word", "shape"), k=2), strict=False):
        thing = objects[carrier]
        if filling == "word":
            filled[carrier] = SceneObject(thing.name, thing.colour, thing.size, thing.box, rng.choice(WORDS))
        elif len({(other.name, other.colour) for other in objects}) < 3:
            x, y = (thing.box[0] + thing.box[2]) / 2, (thing.box[1] + thing.box[3]) / 2
            half = SIDES["small"] / 2
            name = rng.choice(tuple(CORNERS))
            contrasts = [c for c in COLOURS if (c in DARK_COLOURS) != (thing.colour in DARK_COLOURS)]
            inner.append(SceneObject(name, rng.choice(contrasts), "small", (x - half, y - half, x + half, y + half)))
    return filled + inner


def _relations(objects: list[SceneObject]) -> Iterator[tuple[int, str, int]]:
    for i, one in enumerate(objects):
        for j, other in enumerate(objects):
            if i == j:
                continue
            if all(one.box[k] >= other.box[k] for k in (0, 1)) and all(one.box[k] <= other.box[k] for k in (2, 3)):
                yield i, "inside", j
                continue
            dx, dy = (other.box[k] + other.box[k + 2] - one.box[k] - one.box[k + 2] for k in (0, 1))
            predicate = "left of" if abs(dx) > abs(dy) else "above"
            axis = 0 if predicate == "left of" else 1
            if one.box[axis + 2] <= other.box[axis]:
                yield i, predicate, j
                yield j, OPPOSITES[predicate], i


def _kind_phrases(scene: Scene) -> list[str]:
    """One phrase for each kind of object: `three small red circles`, `a large blue square saying go`."""
    kinds = Counter((thing.size, thing.colour, thing.name, thing.text) for thing in scene.objects)
    return [
        _with_article(f"{size} {colour} {name}") + (f" saying {text}" if text else "")
        if copies == 1
        else f"{NUMBERS[copies]} {size} {colour} {PLURALS[name]}"
        for (size, colour, name, text), copies in kinds.items()
    ]


def _relation_captions(scene: Scene) -> list[str]:
    """A sentence for each relation between two objects that are the only ones of their colour and shape."""
    copies = Counter((thing.colour, thing.name) for thing in scene.objects)
    names = [_with_article(f"{t.colour} {t.name}") if copies[t.colour, t.name] == 1 else "" for t in scene.objects]
    return [
        f"{names[subject]} is {PHRASES.get(predicate, predicate)} {names[target]}"
        for subject, predicate, target in scene.relations
        if names[subject] and names[target]
    ]


def _word_captions(scene: Scene) -> list[str]:
    return [
        f"the word {thing.text} is on {_with_article(f'{thing.colour} {thing.name}')}"
        for thing in scene.objects
        if thing.text
    ]


def _with_article(phrase: str) -> str:
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def ground(index: int, *, seed: int, side: int) -> Image.Image:
    """A light ground of a random tint with coarse noise."""
    rng = np.random.default_rng((seed, index))
    tint = rng.integers(225, 250, size=3)
    coarse = tint + rng.integers(-6, 6, size=(16, 16, 1))  # (16, 16, 3)
    return Image.fromarray(coarse.astype(np.uint8)).resize((side, side), Image.Resampling.BILINEAR)


def _draw_object(draw: ImageDraw.ImageDraw, thing: SceneObject, *, side: int) -> None:
    x1, y1, x2, y2 = (side * edge for edge in thing.box)
    if thing.name == "circle":
        draw.ellipse((x1, y1, x2, y2), fill=COLOURS[thing.colour])
    else:
        draw.polygon(shape_polygon(thing.name, (x1, y1, x2, y2)), fill=COLOURS[thing.colour])
    if thing.text:
        ink = "white" if thing.colour in DARK_COLOURS else "black"
        font = _font(round((x2 - x1) * 0.38))
        draw.text(((x1 + x2) / 2, (y1 + y2) / 2), thing.text, fill=ink, font=font, anchor="mm")


@lru_cache(maxsize=8)
def _font(size_pixels: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size_pixels)
