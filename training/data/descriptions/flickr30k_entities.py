"""Flickr30k Entities (Plummer et al. 2015) as dense captions: each box with the phrases that five people call it.

    Annotations, Sentences (or one JSON) --training/data/boxes/entities_files.py--> EntityImage --> rows of boxes

A chain ("a man", "he", "the player") names the same thing in an image's five sentences. Where it has several boxes, its
phrases speak of these together ("two dogs"), so what they describe is the box around them.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import datasets
import numpy as np

from training.data.boxes.entities_files import EntityImage, EntitySource
from training.data.boxes.rows import (
    UNUSABLE_BOXES,
    ImageListing,
    LeftOut,
    check_sizes,
    clip_boxes,
    dataset_of,
    image_size,
    keep_images,
)
from training.data.captions.phrases import word_set
from training.data.descriptions.rows import DESCRIPTION_FEATURES, description_row
from training.data.files import PathLike

# phrases that say nothing of what they name
PRONOUNS = word_set("""he she it they him her them his hers its their theirs himself herself itself themselves one ones
    another other others the each who which that this these those some something someone both all""")
WORD = re.compile(r"[\w'-]+")


def read_flickr30k_entities(
    annotations: PathLike,
    *,
    images: PathLike | None = None,
    several: Literal["joined", "each", "none"] = "joined",
    split_lists: PathLike | Mapping[str, PathLike] | None = None,
    split: str | None = None,
) -> datasets.Dataset:
    """Flickr30k Entities: a row an image, its boxes with their phrases.

    Args:
        annotations: the folder with `Annotations/<image id>.xml` and `Sentences/<image id>.txt`, or a JSON of all of
            them (`entities_files.joined_records`), which may be packed (`.json.gz`).
        images: the image folder; None gives rows without images. They may have another size than the file says.
        several: what the phrases of a chain with several boxes describe: the box around them (`joined`), each of them
            (`each`), or nothing (`none`).
        split_lists: the folder with `train.txt`, `val.txt` and `test.txt`, or list files by split; images in no list
            are left out. By default the JSON's own splits; of the official files every image is train.
        split: keep only these splits.

    Returns:
        Rows of `DESCRIPTION_FEATURES`. Phrases that are pronouns alone describe nothing and are not there, nor are
        chains without a box and images without a described box. Left out, with one warning that counts: chains whose
        boxes are all unusable (`clip_boxes`).

    Raises:
        ValueError: naming file and record, for what is no such file; for another `several`; where no box is described.
    """
    if several not in ("joined", "each", "none"):
        raise ValueError(f"several is {several!r}; it takes joined, each, none")
    left_out = LeftOut(annotations)
    source = EntitySource(annotations)
    kept = keep_images(source.listed(split_lists, images=images, left_out=left_out), split=split, source=annotations)
    sizes: dict[ImageListing, tuple[int, int]] = {}
    rows = dataset_of(_rows(kept, source, sizes, left_out, several=several), DESCRIPTION_FEATURES)
    check_sizes(sizes, source=annotations)
    if not len(rows):
        raise ValueError(f"no box of {annotations} is described; is it the file of another data set?")
    left_out.warn()
    return rows


def _rows(
    kept: Sequence[ImageListing],
    source: EntitySource,
    sizes: dict[ImageListing, tuple[int, int]],
    left_out: LeftOut,
    *,
    several: str,
) -> Iterator[dict]:
    for listing in kept:
        image = source.image(listing.image_id)
        size = sizes[listing] = image_size(listing, width=image.width, height=image.height, source=source.path)
        described = list(_described(image, size=size, several=several, left_out=left_out))
        if described:
            yield description_row(listing, described=described)


def _described(
    image: EntityImage, *, size: tuple[int, int], several: str, left_out: LeftOut
) -> Iterator[tuple[np.ndarray, list[str]]]:
    """The boxes xyxy in 0..1 with their phrases, chain after chain."""
    phrases: dict[str, list[str]] = {}
    for sentence in image.sentences:
        for phrase in sentence.phrases:
            if phrase.chain in image.boxes and says_something(phrase.text):
                phrases.setdefault(phrase.chain, []).append(phrase.text)
    for chain, texts in phrases.items():
        corners = image.boxes[chain]
        sides = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
        boxes, usable = clip_boxes(sides, sizes=np.asarray(size, dtype=np.float64))
        boxes = boxes[usable]
        if not len(boxes):
            left_out.add(f"chains whose {UNUSABLE_BOXES}", f"of image {image.image_id}")
        elif len(boxes) == 1 or several == "each":
            yield from ((box, texts) for box in boxes)
        elif several == "joined":
            yield np.concatenate([boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)]), texts


def says_something(phrase: str) -> bool:
    """Whether a phrase has a word beside pronouns.

    >>> says_something("his dog"), says_something("Each other"), says_something(" ,")
    (True, False, False)
    """
    return not PRONOUNS.issuperset(WORD.findall(phrase.lower()))
