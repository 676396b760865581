"""Flickr30k Entities (Plummer et al. 2015) as grounding data: sentences, and where each of their phrases is.

    Annotations, Sentences (or one JSON) --training/data/boxes/entities_files.py--> EntityImage --> rows of sentences

`training/data/boxes/flickr30k_entities.py` reads the same files as boxes with names.
"""

from collections.abc import Iterator, Mapping, Sequence

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
from training.data.files import PathLike
from training.data.phrases.rows import PHRASE_FEATURES, GroundedPhrase, phrase_row


def read_flickr30k_entities(
    annotations: PathLike,
    *,
    images: PathLike | None = None,
    split_lists: PathLike | Mapping[str, PathLike] | None = None,
    split: str | None = None,
) -> datasets.Dataset:
    """Flickr30k Entities: a row an image, its sentences with those phrases whose chain has boxes.

    Args:
        annotations: the folder with `Annotations/<image id>.xml` and `Sentences/<image id>.txt`, or a JSON of all of
            them (`entities_files.joined_records`), which may be packed (`.json.gz`).
        images: the image folder; None gives rows without images. They may have another size than the file says.
        split_lists: the folder with `train.txt`, `val.txt` and `test.txt`, or list files by split; images in no list
            are left out. By default the JSON's own splits; of the official files every image is train.
        split: keep only these splits.

    Returns:
        Rows of `PHRASE_FEATURES`. A phrase has all boxes of its chain and the kinds that the files give it. Left out,
        with one warning that counts: phrases whose boxes are all unusable (`clip_boxes`). Phrases whose chain has no
        box (scenes, what is not visual), sentences without a phrase with boxes, and images without such a sentence are
        not there, as in the official evaluation.

    Raises:
        ValueError: naming file and record, for what is no such file; where no phrase has a box.
    """
    left_out = LeftOut(annotations)
    source = EntitySource(annotations)
    kept = keep_images(source.listed(split_lists, images=images, left_out=left_out), split=split, source=annotations)
    sizes: dict[ImageListing, tuple[int, int]] = {}
    rows = dataset_of(_rows(kept, source, sizes, left_out), PHRASE_FEATURES)
    check_sizes(sizes, source=annotations)
    if not len(rows):
        raise ValueError(f"no phrase of {annotations} has a box; is it the file of another data set?")
    left_out.warn()
    return rows


def _rows(
    kept: Sequence[ImageListing],
    source: EntitySource,
    sizes: dict[ImageListing, tuple[int, int]],
    left_out: LeftOut,
) -> Iterator[dict]:
    for listing in kept:
        image = source.image(listing.image_id)
        size = sizes[listing] = image_size(listing, width=image.width, height=image.height, source=source.path)
        sentences = _sentences(image, size=size, left_out=left_out)
        if sentences:
            yield phrase_row(listing, sentences=sentences)


def _sentences(
    image: EntityImage, *, size: tuple[int, int], left_out: LeftOut
) -> list[tuple[str, list[GroundedPhrase]]]:
    """The sentences that have phrases with boxes, and these."""
    boxes_of = {chain: _usable(corners, size=size) for chain, corners in image.boxes.items()}
    found = []
    for sentence in image.sentences:
        phrases = []
        for phrase in sentence.phrases:
            boxes = boxes_of.get(phrase.chain)
            if boxes is None or not phrase.text:
                continue
            if len(boxes):
                end = phrase.start + len(phrase.text)
                phrases.append(GroundedPhrase(phrase.start, end, boxes, phrase.kinds))
            else:
                left_out.add(f"phrases whose {UNUSABLE_BOXES}", f"of image {image.image_id}")
        if phrases:
            found.append((sentence.text, phrases))
    return found


def _usable(corners: np.ndarray, *, size: tuple[int, int]) -> np.ndarray:
    """Boxes xyxy in pixels -> those that are boxes, (M, 4) xyxy 0..1."""
    sides = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
    boxes, usable = clip_boxes(sides, sizes=np.asarray(size, dtype=np.float64))
    return boxes[usable]
