"""A row's phrases with candidates, polygons or without a referent, and the boxes of a row for a detector."""

import numpy as np

from training.data.boxes.rows import ImageListing, dataset_of
from training.data.phrases.rows import PHRASE_FEATURES, GroundedPhrase, phrase_row, with_boxes

LISTING = ImageListing("7", "7.jpg", None, "train")
BOXES = np.array([[0.0, 0.0, 0.5, 1.0], [0.5, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 1.0]], dtype=np.float32)


def test_what_a_phrase_has_beside_its_boxes_comes_through() -> None:
    chosen = GroundedPhrase(0, 7, BOXES[:1], candidates=BOXES, polygons=[[[0, 0, 0.5, 0, 0.5, 1], [0, 0, 0, 1, 1, 1]]])
    absent = GroundedPhrase(0, 5, BOXES[:0], ("place",), absent=True)
    (row,) = dataset_of([phrase_row(LISTING, sentences=[("the dog", [chosen]), ("a cat", [absent])])], PHRASE_FEATURES)
    ((first,), (second,)) = row["phrases"]
    assert first["boxes"] == [BOXES[0].tolist()] and first["candidates"] == BOXES.tolist()
    assert first["polygons"] == [[[0, 0, 0.5, 0, 0.5, 1], [0, 0, 0, 1, 1, 1]]]
    assert second["boxes"] == second["candidates"] == second["polygons"] == [] and second["kinds"] == ["place"]
    assert next(with_boxes([row])) == {
        "image_id": "7",
        "boxes": [tuple(box) for box in BOXES.tolist()],
        "crowd": [False] * 3,
    }
