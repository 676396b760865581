"""The row of a grounding data set: an image, its sentences, and the phrases of each with their true boxes.

    a reader of training/data/phrases/formats.py, or training/scenes/expressions.py --phrase_row--> datasets.Dataset

A referring expression is a sentence that is one phrase. A phrase may have candidates, of which its boxes are to be
chosen (Visual7W's four boxes, GuessWhat?!'s objects), and the polygons of its boxes. One without a box has no referent:
nothing in the image is what it says.
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
                    "candidates": datasets.List(BOX),
                    "polygons": POLYGONS,
                }
            )
        ),
        "split": datasets.Value("string"),
    }
)


def no_boxes() -> np.ndarray:
    """(0, 4) float32."""
    return np.zeros((0, 4), dtype=np.float32)


@dataclass(frozen=True)
class GroundedPhrase:
    """Characters `start` to `end` of a sentence, the kinds of what they name, and its boxes (M, 4) xyxy in 0..1.

    candidates: (C, 4), what is to be chosen among, the true boxes being some of these; none where all may be meant.
    polygons: of each box its polygons, x, y, x, y, ... in 0..1; none where the boxes have none.
    absent: nothing in the image is what the phrase says; it has no box then, and one that has none must say so.
    """

    start: int
    end: int
    boxes: np.ndarray
    kinds: tuple[str, ...] = field(default=())
    candidates: np.ndarray = field(default_factory=no_boxes)
    polygons: Sequence[Polygons] = field(default=())
    absent: bool = False

    def stands_in(self, text: str) -> bool:
        """Whether it is words of the text, with boxes or absent, and its boxes are some of its candidates."""
        whole = {tuple(box) for box in self.candidates.tolist()}
        return (
            0 <= self.start < self.end <= len(text)
            and self.absent == (not len(self.boxes))
            and (not whole or all(tuple(box) in whole for box in self.boxes.tolist()))
        )

    def row(self) -> dict[str, Any]:
        """The phrase in a row of `PHRASE_FEATURES`."""
        return {
            "start": self.start,
            "end": self.end,
            "kinds": list(self.kinds),
            "boxes": self.boxes.tolist(),
            "candidates": self.candidates.tolist(),
            "polygons": [[list(polygon) for polygon in own] for own in self.polygons],
        }


def phrase_row(
    image: ImageListing,
    *,
    sentences: Sequence[tuple[str, Sequence[GroundedPhrase]]],
    image_bytes: bytes | None = None,
) -> dict[str, Any]:
    """A row of `PHRASE_FEATURES`.

    sentences: texts with their phrases, one or more; image_bytes: the image itself, where it lies in no file. Raises
    `ValueError` for a phrase that is empty, not in its sentence, without boxes though it is not said to be absent, or
    whose boxes are none of its candidates.
    """
    for text, phrases in sentences:
        strange = next((p for p in phrases if not p.stands_in(text)), None)
        if strange is not None or not phrases:
            said = "no phrase" if strange is None else f"the phrase {text[strange.start : strange.end]!r}"
            raise ValueError(
                f"the image {image.image_id!r} has {said} in {text!r}: give each sentence phrases of its words, each "
                "with one box or more (of its candidates, where it has any), or said to be absent"
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
        "phrases": [[phrase.row() for phrase in phrases] for _, phrases in sentences],
        "split": image.split,
    }


def with_boxes(rows: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Rows of `PHRASE_FEATURES` as `image_id`, `boxes` (of all phrases, candidates too, each once) and `crowd`.

    >>> phrases = [[{"boxes": [[0, 0, 1, 1]]}, {"boxes": [[0, 0, 1, 1], [0, 0, 0.5, 1]]}]]
    >>> next(with_boxes([{"image_id": "7", "phrases": phrases}]))
    {'image_id': '7', 'boxes': [(0, 0, 1, 1), (0, 0, 0.5, 1)], 'crowd': [False, False]}
    """
    for row in rows:
        phrases = [phrase for own in row["phrases"] for phrase in own]
        boxes = [tuple(box) for phrase in phrases for box in (*phrase["boxes"], *phrase.get("candidates", ()))]
        once = list(dict.fromkeys(boxes))
        yield {"image_id": row["image_id"], "boxes": once, "crowd": [False] * len(once)}
