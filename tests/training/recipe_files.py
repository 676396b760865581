"""The drawn scenes that stand for every data set of the shipped recipes, and what their official files share.

    drawn scenes --recipe_captions, recipe_questions, ...--> recipe_world: data/coco, ..., hub_cards, runs/regions

A scene's number is its id: 1 to 40 train, 41 and 42 restval, 43 to 47 val, 48 to 52 test.
"""

import json
import os
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from tests.training.tiny_run import scene_questions
from training.scenes.draw import Scene, draw_scene, scene_captions

SPLITS = {"train": range(1, 41), "restval": range(41, 43), "val": range(43, 48), "test": range(48, 53)}
IMAGE_SIZE = 64
COCO_KEYS = {"license": 1, "coco_url": "", "flickr_url": "", "date_captured": "2013-11-14 17:02:52"}
SHAPES = ["circle", "square", "triangle", "diamond", "star"]
WHO = ("dog", "cat", "horse")
WHAT = ("runs through the grass", "jumps over a log in the snow", "sits on a wooden bench", "swims in the water")


class Drawn(NamedTuple):
    """A scene with its number, split and image, five captions, and (question, kind of answer, answer)."""

    number: int
    split: str
    image: Image.Image
    scene: Scene
    captions: list[str]
    questions: list[tuple[str, str, str]]


@cache
def drawn_scenes() -> list[Drawn]:
    """All scenes in the order of their numbers."""
    found = []
    for split, numbers in SPLITS.items():
        for number in numbers:
            image, scene = draw_scene(number, seed=0, image_size=IMAGE_SIZE)
            found.append(Drawn(number, split, image, scene, scene_captions(scene), scene_questions(scene)))
    return found


def of_split(*splits: str) -> list[Drawn]:
    return [drawn for drawn in drawn_scenes() if drawn.split in splits]


def write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def write_lines(path: Path, lines: Iterable[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


def link_images(folder: Path, names: Mapping[int, str]) -> None:
    """The images of those numbers in a folder, under names of its own."""
    pool = next(parent for parent in folder.parents if (parent / "pool").is_dir()) / "pool"
    for number, name in names.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        os.link(pool / f"{number}.jpg", folder / name)


def coco_place(drawn: Drawn) -> tuple[str, str]:
    """Folder and name of an image in COCO 2014."""
    part = "train2014" if drawn.split == "train" else "val2014"
    return part, f"COCO_{part}_{drawn.number:012d}.jpg"


def coco_images(scenes: Iterable[Drawn], *, names: str = "{:012d}.jpg", **keys: Any) -> list[dict[str, Any]]:
    """The list `images` of a file in COCO's layout."""
    size = {"width": IMAGE_SIZE, "height": IMAGE_SIZE}
    return [{"id": d.number, "file_name": names.format(d.number), **size, **COCO_KEYS, **keys} for d in scenes]


def coco_captions(scenes: Iterable[Drawn], **keys: Any) -> list[dict[str, Any]]:
    """The list `annotations` of a captions file in COCO's layout."""
    return [
        {"image_id": drawn.number, "id": 10 * drawn.number + number, "caption": caption, **keys}
        for drawn in scenes
        for number, caption in enumerate(drawn.captions)
    ]


def coco_boxes(scenes: Iterable[Drawn], **keys: Any) -> list[dict[str, Any]]:
    """The list `annotations` of an instances file; the categories are `SHAPES`."""
    found = []
    for drawn in scenes:
        for number, (name, x, y, width, height) in enumerate(pixel_boxes(drawn)):
            box = {"bbox": [x, y, width, height], "area": width * height, "iscrowd": 0, "segmentation": []}
            ids = {"id": 10 * drawn.number + number, "image_id": drawn.number, "category_id": 1 + SHAPES.index(name)}
            found.append({**ids, **box, **keys})
    return found


def pixel_boxes(drawn: Drawn) -> list[tuple[str, float, float, float, float]]:
    """Name, x, y, width and height in pixels of every thing of a scene."""
    found = []
    for thing in drawn.scene.objects:
        x1, y1, x2, y2 = (IMAGE_SIZE * side for side in thing.box)
        found.append((thing.name, x1, y1, x2 - x1, y2 - y1))
    return found


def everyday_captions(drawn: Drawn) -> list[str]:
    """Captions of which questions can be made: five people agree on who does what, where."""
    who, what = WHO[drawn.number % len(WHO)], WHAT[drawn.number % len(WHAT)]
    return [f"A {adjective} {who} {what} ." for adjective in ("brown", "brown", "small brown", "brown", "happy")]


def ten_answers(answer: str) -> list[str]:
    """What ten people say, seven of them the same."""
    return [answer] * 7 + ["maybe"] * 3


def numbered_questions(scenes: Iterable[Drawn]) -> list[tuple[int, Drawn, str, str, str]]:
    """(question id, scene, question, kind of answer, answer) of all questions."""
    return [
        (1000 * drawn.number + number, drawn, *question)
        for drawn in scenes
        for number, question in enumerate(drawn.questions)
    ]


def sbu_url(drawn: Drawn) -> str:
    return f"http://static.flickr.com/{drawn.number}/{drawn.number}_a.jpg"
