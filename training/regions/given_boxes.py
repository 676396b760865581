"""Boxes that are known before any detector looks, as regions: people's, say, the most that finding boxes could bring.

rows of a detection data set --marked_boxes--> image id -> boxes --RegionExtractor--> their regions, in this order
words of images --word_boxes--> image id -> boxes --RegionExtractor--> their regions, with text and confidence
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from modeling_updown.modeling_detector import cells_of_grids
from processors.words_updown import Word
from training.data.mirroring import mirrored_boxes

# of a source's fingerprint, what says how it describes boxes, wherever they are
DESCRIPTION = (
    "model_type",
    "backbone",
    "joined_features",
    "size",
    "exact_resize",
    "channel_order",
    "weights",
    "flipped",
)
GivenBoxes = Mapping[str, np.ndarray]  # image id -> boxes (R, 4) float32, xyxy in 0..1


class GivenWords(dict[str, np.ndarray]):
    """Boxes of each image of which some are words: `GivenBoxes` whose regions keep `region_texts` and `region_scores`.

    Attributes:
        words: image id -> its words, which are the last of its boxes.
    """

    def __init__(self, boxes: GivenBoxes, words: Mapping[str, Sequence[Word]]) -> None:
        super().__init__(boxes)
        self.words = words


def word_boxes(
    words: Mapping[str, Sequence[Word]], *, objects: GivenBoxes | None = None, grid_sizes: Sequence[int] = (1,)
) -> GivenWords:
    """The boxes of each image's words, after those of cells and objects.

    Args:
        words: image id -> words in reading order, [] for an image without any.
        objects: image id -> boxes of objects, whose text is "".
        grid_sizes: first the cells of grids of so many cells a side: 1, the whole image, gives an image without words
            a region all the same.

    >>> from processors.words_updown import word_in_box
    >>> found = word_boxes({"a": [word_in_box("go", (0, 0, 0.5, 1))], "b": []})
    >>> found["a"].tolist(), found["b"].tolist()
    ([[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 0.5, 1.0]], [[0.0, 0.0, 1.0, 1.0]])
    """
    cells, objects = cells_of_grids(grid_sizes).numpy(), objects or {}
    boxes = {}
    for image_id, own in words.items():
        of_objects = np.asarray(objects.get(image_id, ()), dtype=np.float32).reshape(-1, 4)
        of_words = np.array([word.box for word in own], dtype=np.float32).reshape(-1, 4)
        boxes[image_id] = np.concatenate([cells, of_objects, of_words])
    return GivenWords(boxes, words)


def word_fields(boxes: GivenBoxes | None, ids: Sequence[str], regions: Mapping[str, Any]) -> dict[str, Any]:
    """`region_texts` and `region_scores` of images whose given boxes hold words, {} of others.

    regions: what the source made of the boxes: `region_mask` (B, R), and `region_scores` (B, R), which objects keep
    (1 where the source says none); words have the engine's.
    """
    if not isinstance(boxes, GivenWords):
        return {}
    mask = regions["region_mask"]
    scores = regions.get("region_scores")
    scores = torch.ones(mask.shape) if scores is None else scores.float().cpu().clone()
    texts = [[""] * mask.shape[1] for _ in ids]
    for row, image_id in enumerate(ids):
        own, end = boxes.words[image_id], len(boxes[image_id])
        start = end - len(own)
        texts[row][start:end] = [word.text for word in own]
        scores[row, start:end] = torch.tensor([word.score for word in own])
    return {"region_texts": texts, "region_scores": scores}


def marked_boxes(rows: Iterable[Mapping[str, Any]], *, grid_sizes: Sequence[int] = ()) -> dict[str, np.ndarray]:
    """The boxes of each image of a detection data set, crowds left out; of an image that stands there twice, all.

    Args:
        rows: `image_id`, `boxes` (xyxy in 0..1) and `crowd` (`DETECTION_FEATURES`).
        grid_sizes: before them the cells of grids of so many cells a side; 1 is the whole image.

    >>> marked_boxes([{"image_id": "7", "boxes": [[0, 0, 0.5, 1]], "crowd": [False]}], grid_sizes=[1])["7"].tolist()
    [[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 0.5, 1.0]]
    """
    cells = cells_of_grids(grid_sizes).numpy()
    found: dict[str, list[Any]] = {}
    for row in rows:
        own = found.setdefault(row["image_id"], [])
        own += [box for box, crowd in zip(row["boxes"], row["crowd"], strict=True) if not crowd]
    return {
        image_id: np.concatenate([cells, np.array(own, dtype=np.float32).reshape(-1, 4)])
        for image_id, own in found.items()
    }


def check_boxes(boxes: GivenBoxes, ids: Iterable[str], *, model_type: str) -> None:
    """`ValueError` for a region source that describes no boxes, and for images without an entry."""
    if model_type != "updown_detector":
        raise ValueError(f"a source of type {model_type} has its own boxes: give boxes to a detector")
    absent = [image_id for image_id in ids if image_id not in boxes]
    if absent:
        raise ValueError(f"{len(absent)} images have no entry among the given boxes, such as {absent[0]!r}")


def box_inputs(boxes: Sequence[np.ndarray], *, flipped: bool) -> dict[str, torch.Tensor]:
    """What a detector takes of B images' boxes: `boxes` (B, R, 4), mirrored as the images are, and `box_mask` (B, R).

    >>> box_inputs([np.array([[0.0, 0.0, 0.25, 1.0]])], flipped=True)["boxes"].tolist()
    [[[0.75, 0.0, 1.0, 1.0]]]
    """
    most = max(len(own) for own in boxes)
    padded, mask = torch.zeros(len(boxes), most, 4), torch.zeros(len(boxes), most, dtype=torch.bool)
    for row, own in enumerate(boxes):
        padded[row, : len(own)] = torch.from_numpy(own).float()
        mask[row, : len(own)] = True
    padded = mirrored_boxes(padded) if flipped else padded
    return {"boxes": padded, "box_mask": mask}


def boxes_mark(boxes: GivenBoxes) -> str:
    """A hash of all boxes, by which a store is told from one of other boxes."""
    digest = hashlib.sha256()
    for image_id, own in sorted(boxes.items()):
        digest.update(f"{image_id}\0{len(own)}\0".encode())
        digest.update(np.ascontiguousarray(own, dtype="<f4").tobytes())
        if isinstance(boxes, GivenWords):
            digest.update("\0".join(word.text for word in boxes.words[image_id]).encode())
    return digest.hexdigest()[:16]


def given_fingerprint(store: Any, fingerprint: Mapping[str, Any]) -> dict[str, Any]:
    """What must hold of a store of given boxes for a source with this fingerprint: that it describes boxes so.

    Raises `ValueError` for a store of regions that a source found.
    """
    if not store.fingerprint.get("given_boxes"):
        raise ValueError(
            f"regions.given_boxes is set, but {store.folder} holds regions that a source found: leave it out, or name "
            "a store of updown extract --boxes"
        )
    return {name: fingerprint[name] for name in DESCRIPTION if name in fingerprint}
