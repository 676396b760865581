"""The row of a dense captioning data set: an image, its boxes, and what people said of each.

    a reader of training/data/descriptions/formats.py --description_row--> datasets.Dataset

Of a row, `captions[i]` is said of `boxes[caption_boxes[i]]`; every box has one sentence or more.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import datasets
import numpy as np

from training.data.boxes.rows import BOX, ImageListing

DESCRIPTION_FEATURES = datasets.Features(
    {
        "image_id": datasets.Value("string"),
        "image": datasets.Image(),
        "boxes": datasets.List(BOX),
        "captions": datasets.List(datasets.Value("string")),
        "caption_boxes": datasets.List(datasets.Value("int32")),
        "split": datasets.Value("string"),
    }
)


def description_row(
    image: ImageListing,
    *,
    described: Iterable[tuple[Sequence[float] | np.ndarray, Iterable[str]]],
    image_bytes: bytes | None = None,
) -> dict[str, Any]:
    """A row of `DESCRIPTION_FEATURES`; equal boxes become one, with the sentences of all, each once.

    described: boxes xyxy in 0..1 with their sentences; image_bytes: the image itself, where it lies in no file. Raises
    `ValueError` for a box that nothing is said of, and for blank sentences.
    """
    said: dict[tuple[float, ...], dict[str, None]] = {}
    for box, sentences in described:
        texts = [sentence.strip() for sentence in sentences]
        if not texts or not all(texts):
            raise ValueError(
                f"the image {image.image_id!r} has a box of which {'a blank sentence' if texts else 'nothing'} is "
                "said: give each box one sentence or more"
            )
        said.setdefault(tuple(np.asarray(box, dtype=np.float32).tolist()), {}).update(dict.fromkeys(texts))
    empty = image.path is None and image_bytes is None
    return {
        "image_id": image.image_id,
        "image": None if empty else {"bytes": image_bytes, "path": image.path},
        "boxes": [list(box) for box in said],
        "captions": [text for texts in said.values() for text in texts],
        "caption_boxes": [number for number, texts in enumerate(said.values()) for _ in texts],
        "split": image.split,
    }


def sentences_of_boxes(row: Mapping[str, Any]) -> list[list[str]]:
    """The sentences of each box of a row.

    >>> sentences_of_boxes({"boxes": [0, 0], "captions": ["a dog", "a cat", "a pet"], "caption_boxes": [0, 1, 1]})
    [['a dog'], ['a cat', 'a pet']]
    """
    found: list[list[str]] = [[] for _ in row["boxes"]]
    for text, box in zip(row["captions"], row["caption_boxes"], strict=True):
        found[box].append(text)
    return found


def with_crowds(rows: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Rows of `DESCRIPTION_FEATURES` as `image_id`, `boxes` and `crowd` (none is one), as region stores take them."""
    for row in rows:
        yield {"image_id": row["image_id"], "boxes": row["boxes"], "crowd": [False] * len(row["boxes"])}
