"""The row of a grounding data set: an image, its sentences, and the phrases of each with their true boxes.

    a reader of training/data/phrases/formats.py, or training/scenes/expressions.py --phrase_row--> datasets.Dataset

A referring expression is a sentence that is one phrase.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import datasets
import numpy as np

from training.data.boxes.rows import BOX, ImageListing
from training.data.polygons import POLYGONS, Polygons

PHRASE_FEATURES = datasets.Features(
    {
        "image_id": datasets.Value("string"),
        "image": datasets.Image(),
        "captions": datasets.List(datasets.Value("string")),
        "phrases": datasets.List(
            datasets.List(
                {
                    "start": datasets.Value("int32"),
                    "end": datasets.Value("int32"),
                    "kinds": datasets.List(datasets.Value("string")),
                    "boxes": datasets.List(BOX),
                    "polygons": POLYGONS,
                }
            )
        ),
        "split": datasets.Value("string"),
    }
)


@dataclass(frozen=True)
class GroundedPhrase:
    """Characters `start` to `end` of a sentence, the kinds of what they name, and its boxes (M, 4) xyxy in 0..1.

    polygons: of the mask in each box, as `training/data/polygons.py` has them; none where masks are not known.
    """

    start: int
    end: int
    boxes: np.ndarray
    kinds: tuple[str, ...] = field(default=())
    polygons: Sequence[Polygons] = field(default=())


def phrase_row(
    image: ImageListing,
    *,
    sentences: Sequence[tuple[str, Sequence[GroundedPhrase]]],
    image_bytes: bytes | None = None,
) -> dict[str, Any]:
    """A row of `PHRASE_FEATURES`.

    sentences: texts with their phrases, one or more; image_bytes: the image itself, where it lies in no file. Raises
    `ValueError` for a phrase that is empty, not in its sentence or without boxes, or has polygons of some boxes alone.
    """
    for text, phrases in sentences:
        strange = next((p for p in phrases if not 0 <= p.start < p.end <= len(text) or not len(p.boxes)), None)
        if strange is not None or not phrases:
            said = "no phrase" if strange is None else f"the phrase {text[strange.start : strange.end]!r}"
            raise ValueError(
                f"the image {image.image_id!r} has {said} in {text!r}: give each sentence phrases of its words, each "
                "with one box or more"
            )
        uneven = next((p for p in phrases if len(p.polygons) not in (0, len(p.boxes))), None)
        if uneven is not None:
            raise ValueError(
                f"the image {image.image_id!r} has the phrase {text[uneven.start : uneven.end]!r} with "
                f"{len(uneven.boxes)} boxes, but polygons of {len(uneven.polygons)}: give those of each, or none"
            )
    return {
        "image_id": image.image_id,
        "image": None if image.path is None and image_bytes is None else {"bytes": image_bytes, "path": image.path},
        "captions": [text for text, _ in sentences],
        "phrases": [
            [
                {
                    "start": p.start,
                    "end": p.end,
                    "kinds": list(p.kinds),
                    "boxes": p.boxes.tolist(),
                    "polygons": list(p.polygons),
                }
                for p in phrases
            ]
            for _, phrases in sentences
        ],
        "split": image.split,
    }


def with_boxes(rows: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Rows of `PHRASE_FEATURES` as `image_id`, `boxes` (of all phrases, each once) and `crowd` (none is one).

    >>> phrases = [[{"boxes": [[0, 0, 1, 1]]}, {"boxes": [[0, 0, 1, 1], [0, 0, 0.5, 1]]}]]
    >>> next(with_boxes([{"image_id": "7", "phrases": phrases}]))
    {'image_id': '7', 'boxes': [(0, 0, 1, 1), (0, 0, 0.5, 1)], 'crowd': [False, False]}
    """
    for row in rows:
        boxes = [tuple(box) for own in row["phrases"] for phrase in own for box in phrase["boxes"]]
        once = list(dict.fromkeys(boxes))
        yield {"image_id": row["image_id"], "boxes": once, "crowd": [False] * len(once)}
