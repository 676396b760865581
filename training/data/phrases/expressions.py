"""Images with expressions of what is in them, as the official files have them -> rows of `PHRASE_FEATURES`.

    a reader of RefCOCO, Visual Genome, Visual7W, GuessWhat?! --ExpressionImage--> expression_rows --> datasets.Dataset

Boxes come in as x, y, width, height in pixels. An expression is a sentence that is one phrase.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import datasets
import numpy as np

from training.data.boxes.rows import (
    UNUSABLE_BOXES,
    ImageListing,
    LeftOut,
    check_reach,
    check_sizes,
    clip_boxes,
    dataset_of,
    image_size,
    pixel_boxes,
)
from training.data.files import PathLike
from training.data.phrases.rows import PHRASE_FEATURES, GroundedPhrase, no_boxes, phrase_row
from training.data.polygons import scaled_polygons
from training.data.questions.rows import official_image_paths


@dataclass(frozen=True)
class Expression:
    """A text with its true box, x, y, width, height in pixels.

    Boxes are as the file has them, and checked where rows are made of them.

    candidates: boxes to choose among, the true one among them. polygons: of the true box, x, y, x, y, ... in pixels.
    """

    text: str
    box: Sequence[Any]
    candidates: Sequence[Sequence[Any]] = ()
    polygons: Sequence[Sequence[float]] = ()


@dataclass(frozen=True)
class ExpressionImage:
    """An image with the expressions of one split; a size of None is read from the image."""

    image_id: str
    name: str
    split: str
    width: Any = None
    height: Any = None
    expressions: list[Expression] = field(default_factory=list)


def expression_rows(
    images: Sequence[ExpressionImage], *, folder: PathLike | None, source: PathLike, left_out: LeftOut | None = None
) -> datasets.Dataset:
    """A row an image, in their order, its expressions as sentences of one phrase.

    Args:
        images: an image may be there once a split.
        folder: of the images, which are found under any of their official names, in it or in a folder of it
            (`train2014`, `VG_100K_2`); None gives rows without images.
        source: the file named in errors.
        left_out: what the reader has left out already, to be told together.

    Returns:
        Rows of `PHRASE_FEATURES`. Left out, with one warning that counts: images that are not in the folder, blank
        expressions, expressions whose box is unusable (`clip_boxes`), unusable candidates, images with nothing left.

    Raises:
        ValueError: for a box that is not four numbers, sizes that are none or do not fit the boxes, and where no
            expression is left.
    """
    left_out = left_out or LeftOut(source)
    listings = _listings(images, folder)
    sizes: dict[ImageListing, tuple[int, int]] = {}
    found = [(listing, image) for listing, image in zip(listings, images, strict=True) if listing is not None]
    for listing, image in found:
        sizes[listing] = image_size(listing, width=image.width, height=image.height, source=source)
    check_sizes(sizes, source=source)
    _check_reach([(image, sizes[listing]) for listing, image in found], source)
    rows = dataset_of(_rows(found, sizes, source, left_out), PHRASE_FEATURES)
    if not len(rows):
        raise ValueError(f"no expression of {source} has a box in its image; is it the file of another data set?")
    left_out.warn()
    return rows


def coco_place(name: str) -> str:
    """An image of COCO with the folder that it comes in.

    >>> coco_place("COCO_train2014_000000581857.jpg"), coco_place("8756.jpg")
    ('train2014/COCO_train2014_000000581857.jpg', '8756.jpg')
    """
    parts = name.split("_")
    return f"{parts[1]}/{name}" if len(parts) == 3 and parts[0] == "COCO" else name


def _listings(images: Sequence[ExpressionImage], folder: PathLike | None) -> list[ImageListing | None]:
    """Each image with its path, None where it is not there."""
    names = dict.fromkeys(image.name for image in images)
    found: Mapping[str, str | None] = dict.fromkeys(names)
    if folder is not None:
        found = dict(zip(names, official_image_paths(list(names), folder), strict=True))
    return [
        None
        if folder is not None and found[image.name] is None
        else ImageListing(image.image_id, image.name, folder, image.split, found[image.name])
        for image in images
    ]


def _check_reach(images: Sequence[tuple[ExpressionImage, tuple[int, int]]], source: PathLike) -> None:
    """`check_reach` of all true boxes."""
    owned = [(image.image_id, size, own.box) for image, size in images for own in image.expressions]
    if owned:
        boxes = pixel_boxes([box for *_, box in owned], source=source, place="the expressions")
        sizes = np.array([size for _, size, _ in owned], dtype=np.float64)
        check_reach(boxes, sizes=sizes, owners=[image_id for image_id, *_ in owned], source=source)


def _rows(
    images: Sequence[tuple[ImageListing, ExpressionImage]],
    sizes: Mapping[ImageListing, tuple[int, int]],
    source: PathLike,
    left_out: LeftOut,
) -> Iterator[dict[str, Any]]:
    for listing, image in images:
        size = np.array(sizes[listing], dtype=np.float64)
        sentences = []
        for expression in image.expressions:
            text = expression.text.strip()
            box = _clipped([expression.box], size=size, source=source)
            if not text:
                left_out.add("blank expressions", f"of image {image.image_id}")
            elif not len(box):
                left_out.add(f"expressions whose {UNUSABLE_BOXES}", f"{text!r:.60} of image {image.image_id}")
            else:
                sentences.append((text, [_phrase(expression, box, size=size, text=text, source=source)]))
                lost = len(expression.candidates) - len(sentences[-1][1][0].candidates)
                if lost:
                    left_out.add(f"candidates among {UNUSABLE_BOXES}", f"of image {image.image_id}", count=lost)
        if sentences:
            yield phrase_row(listing, sentences=sentences)
        else:
            left_out.add("images without an expression left", f"image {image.image_id}")


def _phrase(
    expression: Expression, box: np.ndarray, *, size: np.ndarray, text: str, source: PathLike
) -> GroundedPhrase:
    polygons = scaled_polygons(list(expression.polygons), size=size.tolist(), place=f"the expression {text!r}")
    candidates = no_boxes()
    if len(expression.candidates):
        candidates = _clipped(expression.candidates, size=size, source=source)
    return GroundedPhrase(*(0, len(text), box), candidates=candidates, polygons=[polygons] if polygons else [])


def _clipped(boxes: Sequence[Sequence[Any]], *, size: np.ndarray, source: PathLike) -> np.ndarray:
    """Boxes in pixels -> those that are usable, (M, 4) xyxy in 0..1."""
    found, usable = clip_boxes(pixel_boxes(boxes, source=source, place="the boxes of an expression"), sizes=size)
    return found[usable]


def polygons_of(segmentation: Any, *, place: str) -> list[list[float]]:
    """The polygons of a COCO annotation's `segmentation`, none of run lengths, which crowds have.

    Raises `ValueError` for one that is no list of polygons of three corners or more.

    >>> polygons_of([[0, 0, 4, 0, 4, 4]], place="annotation 7"), polygons_of({"counts": []}, place="annotation 8")
    ([[0.0, 0.0, 4.0, 0.0, 4.0, 4.0]], [])
    """
    if segmentation is None or isinstance(segmentation, dict):
        return []
    try:
        return scaled_polygons(segmentation, size=(1, 1), place=place)
    except ValueError as error:
        raise ValueError(
            f"{place} has a segmentation that is no list of polygons (x, y, x, y, x, y, ...): "
            f"{str(segmentation)[:60]}; repair it, or leave polygons out"
        ) from error
