"""Metrics of masks: average precision by counting, mean IoU by pixels, and bad input."""

import numpy as np
import pytest

from training.metrics.detection.masks import (
    box_overlaps,
    encode_masks,
    mask_scores,
    nearest_overlaps,
    paired_overlaps,
    true_masks,
)

SIDE = 20
LEFT = [0.0, 0.0, 0.5, 1.0]
RIGHT = [0.5, 0.0, 1.0, 1.0]


def outline(box: list[float]) -> list[list[float]]:
    left, top, right, bottom = box
    return [[left, top, right, top, right, bottom, left, bottom]]


def row(**changes: object) -> dict:
    """An image with a mask in the upper half of its left half, and one that fills its right half."""
    half = outline([0.0, 0.0, 0.5, 0.5])
    fields = {
        "image_id": "7",
        "width": SIDE,
        "height": SIDE,
        "boxes": [LEFT, RIGHT],
        "object_ids": [1, 2],
        "polygons": [half, outline(RIGHT)],
    }
    return fields | changes


def filled(*boxes: tuple[int, int, int, int]) -> np.ndarray:
    """A mask of each box of pixels, x1, y1, x2, y2."""
    masks = np.zeros((len(boxes), SIDE, SIDE), dtype=bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        mask[y1:y2, x1:x2] = True
    return masks


def found(masks: object, **changes: object) -> dict:
    fields = {"image_id": "7", "masks": masks, "scores": [0.9, 0.8], "object_ids": [1, 2], "mask_boxes": [LEFT, RIGHT]}
    return fields | changes


def test_average_precision_counts_masks_over_each_overlap() -> None:
    """The first mask has IoU 0.8, right at the seven thresholds up to 0.8; the second is exact."""
    exact = filled((0, 0, 10, 10), (10, 0, 20, 20))
    less = filled((0, 0, 8, 10), (10, 0, 20, 20))
    assert mask_scores([found(exact)], [row()], num_classes=2)["mask_map"] == pytest.approx(1, abs=1e-6)
    scores = mask_scores([found(encode_masks(less))], [row()], num_classes=2)
    assert scores["mask_map_50"] == pytest.approx(1, abs=1e-6) and scores["mask_map_75"] == pytest.approx(1, abs=1e-6)
    assert scores["mask_map_x100"] == pytest.approx(100 * (0.7 + 1) / 2, abs=1e-4)
    turned = mask_scores([found(less[::-1])], [row()], num_classes=2)
    assert turned["mask_map"] == 0, "masks of the right places, but the wrong classes"


def test_unknown_masks_and_crowds_are_neither_missed_nor_wrong() -> None:
    only_left = found(filled((0, 0, 10, 10), (10, 0, 20, 20)))
    for changes in ({"polygons": [row()["polygons"][0], []]}, {"crowd": [False, True]}):
        scores = mask_scores([only_left], [row(object_ids=[1, 1], **changes)], num_classes=1 + 1)
        assert scores["mask_map_50"] == pytest.approx(1, abs=1e-6)
    nothing = mask_scores([only_left], [row(polygons=[[], []])], num_classes=2)
    assert nothing["mask_map"] == -1 and nothing["mask_map_x100"] == -1


def test_mean_iou_is_of_the_mask_whose_box_fits() -> None:
    masks = filled((0, 0, 10, 5), (10, 0, 20, 20), (0, 0, 20, 20))
    boxes = [LEFT, RIGHT, [0.0, 0.0, 1.0, 1.0]]
    prediction = found(masks, mask_boxes=boxes, scores=[0.1, 0.2, 0.9], object_ids=[2, 2, 2])
    assert nearest_overlaps([prediction], [row()]) == pytest.approx([0.5, 1.0])
    only_whole = found(masks[2:], mask_boxes=boxes[2:])
    assert nearest_overlaps([only_whole], [row()]) == pytest.approx([100 / 400, 200 / 400])
    none = found(np.zeros((0, SIDE, SIDE), dtype=bool), mask_boxes=np.zeros((0, 4)))
    assert nearest_overlaps([none], [row()]) == [0, 0]
    assert paired_overlaps([encode_masks(masks[:2])], [row()]) == pytest.approx([0.5, 1.0])
    assert paired_overlaps([encode_masks(masks[:2])], [row(polygons=[[], outline(RIGHT)])]) == pytest.approx([1.0])
    assert box_overlaps([row()]) == pytest.approx([0.5, 1.0])


def test_true_masks_are_pixels_of_the_row() -> None:
    first, second = true_masks(row(height=10, polygons=[outline(LEFT), []]))
    assert first["size"] == [10, SIDE] and second is None


@pytest.mark.parametrize(
    ("prediction", "truth", "fault"),
    [
        (found(np.zeros((2, 10, SIDE), dtype=bool)), row(), "masks of 10 x 20 pixels but its image has 20 x 20; paste"),
        (found(np.full((2, SIDE, SIDE), 255)), row(), "holds other values than 0 and 1"),
        (found(np.zeros((2, SIDE))), row(), "give a mask of height x width"),
        (found(filled((0, 0, 1, 1), (0, 0, 2, 2)), scores=[0.5, float("nan")]), row(), "finite score"),
        (found(filled((0, 0, 1, 1), (0, 0, 2, 2)), object_ids=[1, 3]), row(), "3"),
        (found(filled((0, 0, 1, 1), (0, 0, 2, 2))), row(polygons=None), "has no polygons; read the data with"),
        (found(filled((0, 0, 1, 1), (0, 0, 2, 2))), row(polygons=[[]]), "2 boxes, but polygons of 1"),
    ],
)
def test_what_does_not_fit_is_named(prediction: dict, truth: dict, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        mask_scores([prediction], [truth], num_classes=2)


def test_masks_and_boxes_go_together() -> None:
    masks = filled((0, 0, 1, 1), (0, 0, 2, 2))
    with pytest.raises(ValueError, match="2 masks but 1 mask_boxes"):
        nearest_overlaps([found(masks, mask_boxes=[LEFT])], [row()])
    with pytest.raises(ValueError, match="1 masks for 2 true boxes"):
        paired_overlaps([encode_masks(masks[:1])], [row()])
