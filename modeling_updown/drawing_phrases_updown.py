"""Draws what a grounding pipeline finds: the image with a box for each phrase, and its mask where it has one.

`pipeline("phrase-grounding")` -> `draw_phrases` -> a picture whose labels do not overlap
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from processors import load_image

from .drawing_boxes_updown import LINE, Box, colour_of, cover_masks, enlarged, shortened, write_labels
from .drawing_updown import check_picture


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
            is outlined boldly and labelled, and where it has a `mask` (the pipeline's `masks=True`) that is tinted and
            outlined in the same colour, small ones on top of large ones.
        path: also save the picture here, in the format of the suffix.

    Raises:
        ValueError: where no phrase has a box, for masks of another image, or for a path at which no picture can be
            saved.

    >>> dog = {"phrase": "a dog", "boxes": [{"score": 0.9, "box": {"xmin": 9, "ymin": 9, "xmax": 99, "ymax": 90}}]}
    >>> draw_phrases(Image.new("RGB", (200, 100)), [dog]).size
    (1000, 500)
    """
    check_picture(path)
    phrases = [phrase for phrase in found if phrase["boxes"]]
    if not phrases:
        raise ValueError("no phrase has a box to draw: give phrases that the model has found")
    image = load_image(image)
    picture = enlarged(image)
    scale = max(picture.size) / max(image.size)
    colours = [colour_of(number) for number in range(len(phrases))]
    cover_best(picture, phrases, colours, size=image.size)
    draw, boxes = ImageDraw.Draw(picture), []
    for phrase, colour in zip(phrases, colours, strict=True):
        best, *others = (scaled(one["box"], scale) for one in phrase["boxes"])
        for corners in others:
            draw.rectangle(corners, outline=colour, width=1)
        draw.rectangle(best, outline=colour, width=LINE)
        boxes.append(best)
    write_labels(picture, [label_of(phrase) for phrase in phrases], boxes, colours)
    if path is not None:
        picture.save(path)
    return picture


def cover_best(
    picture: Image.Image, phrases: Sequence[Mapping[str, Any]], colours: Sequence[str], *, size: tuple[int, int]
) -> None:
    """Tint the masks of the phrases' first boxes, the largest first; size: width and height of the image."""
    masks = []
    for phrase, colour in zip(phrases, colours, strict=True):
        mask = phrase["boxes"][0].get("mask")
        if mask is None:
            continue
        if mask.size != size:
            raise ValueError(
                f"the mask of {phrase['phrase']!r} has {mask.size[0]} x {mask.size[1]} pixels and the image {size[0]} "
                f"x {size[1]}: draw what was found in this image"
            )
        masks.append((np.asarray(mask.resize(picture.size, Image.Resampling.NEAREST)) > 0, colour))
    masks.sort(key=lambda one: -np.count_nonzero(one[0]))
    cover_masks(picture, [mask for mask, _ in masks], [colour for _, colour in masks])


def label_of(phrase: Mapping[str, Any]) -> str:
    """A phrase, cut where it is long, with the score of its best box.

    >>> label_of({"phrase": "a dog", "boxes": [{"score": 0.912}]})
    'a dog 0.91'
    """
    return f"{shortened(str(phrase['phrase']))} {phrase['boxes'][0]['score']:.2f}"


def scaled(box: Mapping[str, float], scale: float) -> Box:
    """A box in pixels of the image -> xyxy in those of the picture, with sides that are not below 0."""
    left, top, right, bottom = (box[side] * scale for side in ("xmin", "ymin", "xmax", "ymax"))
    return left, top, max(right, left), max(bottom, top)
