"""Referring expressions' boxes and masks: the official figures, a slow twin, sums by hand, and what is refused."""

import gzip
import json
import random
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from tests.shared_files import shared
from training.metrics.grounding import refexp_iou, refexp_mask_iou

Box = list[int]


def golden() -> Any:
    return json.loads(gzip.decompress(shared("golden/metrics/refexp_iou.json.gz").read_bytes()))


def slow_areas(one: Box, other: Box) -> tuple[int, int, int]:
    """Pixels of the intersection, the union and the box around both, of xyxy boxes in whole pixels, counted."""
    first, second = ({(x, y) for x in range(b[0], b[2]) for y in range(b[1], b[3])} for b in (one, other))
    corners = [*map(min, one[:2], other[:2]), *map(max, one[2:], other[2:])]
    return len(first & second), len(first | second), (corners[2] - corners[0]) * (corners[3] - corners[1])


def random_boxes(generator: random.Random, number: int, *, least: int) -> list[Box]:
    boxes = []
    for _ in range(number):
        x, y = generator.randrange(12), generator.randrange(12)
        boxes.append([x, y, x + generator.randint(least, 9), y + generator.randint(least, 9)])
    return boxes


def test_every_figure_is_the_official_one() -> None:
    data = golden()
    true, found = (np.array(side) for side in zip(*data["inputs"]["gt_pred_xywh"], strict=True))
    expected = data["expected"]
    scores = refexp_iou(found, true, box_format="xywh")
    assert scores["per_item"]["iou"] == pytest.approx(expected["iou_cont"], abs=1e-12)
    assert scores["per_item"]["generalized_iou"] == pytest.approx(expected["giou_cont"], abs=1e-12)
    assert scores["mean_iou"] == pytest.approx(expected["miou_cont"], abs=1e-12)
    assert scores["overall_iou"] == pytest.approx(expected["overall_iou_cont"], abs=1e-12)
    for threshold, accuracy in expected["acc_cont_ge"].items():
        assert scores[f"accuracy_{round(100 * float(threshold))}"] == accuracy
    assert scores["generalized_accuracy_50"] == expected["acc_giou_ge_0.5"]
    mattnet = refexp_iou(found, true, box_format="xywh", variant="mattnet")
    assert mattnet["per_item"]["iou"] == pytest.approx(expected["iou_mattnet"], abs=1e-12)
    assert mattnet["accuracy_50"] == expected["acc@0.5_mattnet"]
    assert mattnet["generalized_accuracy_50"] == scores["generalized_accuracy_50"]


def test_figures_equal_those_of_counted_pixels() -> None:
    generator = random.Random(0)
    found, true = random_boxes(generator, 400, least=0), random_boxes(generator, 400, least=1)
    found[::4] = true[::4]
    counted = [slow_areas(*pair) for pair in zip(found, true, strict=True)]
    shares = [Fraction(shared_area, joint) for shared_area, joint, _ in counted]
    generalized = [
        share - Fraction(hull - joint, hull) for share, (_, joint, hull) in zip(shares, counted, strict=True)
    ]
    limits = {"25": Fraction(1, 4), "50": Fraction(1, 2), "75": Fraction(3, 4)}
    scores = refexp_iou(found, true, thresholds=[0.25, 0.5, 0.75])
    assert scores["per_item"]["iou"] == pytest.approx(list(map(float, shares)), abs=1e-12)
    assert scores["per_item"]["generalized_iou"] == pytest.approx(list(map(float, generalized)), abs=1e-12)
    for name, least in limits.items():
        assert scores[f"accuracy_{name}"] == sum(share >= least for share in shares) / 400
        assert scores[f"generalized_accuracy_{name}"] == sum(share >= least for share in generalized) / 400
    assert scores["overall_iou"] == pytest.approx(sum(c[0] for c in counted) / sum(c[1] for c in counted))
    assert scores["mean_iou_x100"] == pytest.approx(100 * float(sum(shares)) / 400)
    assert 0 < scores["accuracy_75"] < scores["accuracy_25"] < 1
    stretched = refexp_iou(*(np.array(side) / [40, 24, 40, 24] for side in (found, true)))
    assert stretched["per_item"]["iou"] == pytest.approx(scores["per_item"]["iou"], abs=1e-12)


def test_formats_of_boxes_agree() -> None:
    generator = random.Random(1)
    sides = [np.array(random_boxes(generator, 50, least=1), float) for _ in range(2)]
    sizes = [boxes[:, 2:] - boxes[:, :2] for boxes in sides]
    corner = [np.concatenate([boxes[:, :2], size], axis=1) for boxes, size in zip(sides, sizes, strict=True)]
    centre = [np.concatenate([boxes[:, :2] + size / 2, size], axis=1) for boxes, size in zip(sides, sizes, strict=True)]
    expected = refexp_iou(*sides)
    assert refexp_iou(*corner, box_format="xywh") == expected
    assert refexp_iou(*centre, box_format="xcycwh") == expected


def test_mattnet_takes_thin_overlaps_for_none() -> None:
    boxes = [[0, 0, 1, 1], [0, 0, 2, 2], [0, 0, 10, 10], [0, 0, 10, 10]]
    true = [[0, 0, 1, 1], [0, 0, 2, 2], [9, 0, 19, 10], [8, 0, 18, 10]]
    assert refexp_iou(boxes, true, variant="mattnet")["per_item"]["iou"] == [0, 1, 0, 20 / 180]
    assert refexp_iou(boxes, true)["per_item"]["iou"] == [1, 1, 10 / 190, 20 / 180]


def test_boxes_without_area_miss() -> None:
    scores = refexp_iou([[0, 0, 0, 0], [3, 3, 3, 9]], [[0, 0, 40, 40], [0, 0, 10, 10]])
    assert scores["per_item"]["iou"] == [0, 0] and scores["accuracy_25"] == 0 and scores["overall_iou"] == 0


@pytest.mark.parametrize(
    ("found", "true", "reason"),
    [
        ([], [], "0 predicted boxes but 0 true ones; give one of each"),
        ([[0, 0, 1, 1]], [], "1 predicted boxes but 0 true ones"),
        ([[0, 0, 9, 9], []], [[0, 0, 9, 9]] * 2, r"predictions\[1\] is no box; give four numbers"),
        ([None], [[0, 0, 9, 9]], r"predictions\[0\] is no box"),
        ([[0, 0, 9]], [[0, 0, 9, 9]], r"predictions\[0\] has boxes of shape \(1, 3\)"),
        ([["a", 0, 9, 9]], [[0, 0, 9, 9]], r"predictions\[0\] holds no boxes of four numbers"),
        ([[0, 0, float("nan"), 9]], [[0, 0, 9, 9]], r"predictions\[0\] has the box .*nan.*; give finite xyxy"),
        ([[0, 0, 9, 9]], [[0, 0, float("inf"), 9]], r"references\[0\] has the box .*inf"),
        ([[5, 0, 4, 9]], [[0, 0, 9, 9]], r"predictions\[0\] has the box .*non-negative width and height"),
        ([[0, 0, 9, 9]] * 2, [[0, 0, 9, 9], [1, 1, 1, 5]], r"references\[1\] has the box .*positive width and height"),
        ([[0, 0, 0.5, 1]], [[0, 0, 320, 480]], "go from 0 to 1 but true boxes from 0 to 480; give both in pixels or"),
        ([[0, 0, 320, 480]], [[0, 0, 0.5, 1]], "go from 0 to 480 but true boxes from 0 to 1"),
    ],
)
def test_what_cannot_be_scored_is_refused(found: Any, true: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        refexp_iou(found, true)


def test_unknown_options_are_refused() -> None:
    boxes: Any = [[0, 0, 0.5, 0.5]]
    with pytest.raises(ValueError, match="variant is 'own'; choose plain or mattnet"):
        refexp_iou(boxes, boxes, variant="own")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="box_format is 'yxyx'; choose xyxy, xywh, xcycwh"):
        refexp_iou(boxes, boxes, box_format="yxyx")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="give MAttNet's variant boxes in pixels"):
        refexp_iou(boxes, boxes, variant="mattnet")
    for thresholds in ([], [0.5, 0], [50]):
        with pytest.raises(ValueError, match="give overlaps above 0 and up to 1"):
            refexp_iou(boxes, boxes, thresholds=thresholds)


def test_masks_equal_counted_pixels() -> None:
    generator = np.random.default_rng(0)
    sizes = [(3, 5), (4, 4), (2, 9)] * 20
    found = [generator.random(size) < 0.7 for size in sizes]
    true = [generator.random(size) < 0.8 for size in sizes]
    shared_pixels, joint = (
        [
            sum(how((a, b)) for a, b in zip(one.flat, other.flat, strict=True))
            for one, other in zip(found, true, strict=True)
        ]
        for how in (all, any)
    )
    shares = [Fraction(int(a), int(b)) for a, b in zip(shared_pixels, joint, strict=True)]
    scores = refexp_mask_iou((mask.astype(np.uint8) for mask in found), iter(true))
    assert scores["per_item"]["iou"] == pytest.approx(list(map(float, shares)), abs=1e-15)
    assert scores["overall_iou"] == pytest.approx(sum(shared_pixels) / sum(joint))
    assert scores["mean_iou"] == pytest.approx(float(sum(shares)) / 60)
    for percent in (50, 60, 70, 80, 90):
        assert scores[f"precision_{percent}"] == sum(share >= Fraction(percent, 100) for share in shares) / 60
    assert 0 < scores["precision_80"] < scores["precision_50"] < 1


def test_masks_of_boxes_score_as_the_boxes() -> None:
    generator = random.Random(2)
    sides = [random_boxes(generator, 60, least=1) for _ in range(2)]
    masks = [np.zeros((60, 21, 21), bool) for _ in sides]
    for boxes, drawn in zip(sides, masks, strict=True):
        for box, mask in zip(boxes, drawn, strict=True):
            mask[box[1] : box[3], box[0] : box[2]] = True
    of_boxes, of_masks = refexp_iou(*sides), refexp_mask_iou(*masks)
    assert of_masks["per_item"]["iou"] == pytest.approx(of_boxes["per_item"]["iou"], abs=1e-12)
    assert of_masks["overall_iou"] == pytest.approx(of_boxes["overall_iou"], abs=1e-12)
    assert of_masks["precision_50"] == of_boxes["accuracy_50"]


def test_masks_that_cannot_be_scored_are_refused() -> None:
    mask = np.ones((2, 3), bool)
    for found, true, reason in (
        ([], [], "there are no masks to score"),
        ([mask], [mask, mask], "expression 1 has no predicted or no true mask"),
        ([mask.T], [mask], r"predictions\[0\] is a mask of 3 x 2 pixels but the true one has 2 x 3; resize it"),
        ([mask[0]], [mask], r"predictions\[0\] has the shape \(3,\); give a mask of height x width"),
        ([mask * 0.5], [mask], r"predictions\[0\] holds other values than 0 and 1; threshold it"),
        ([mask * np.nan], [mask], "holds other values than 0 and 1"),
        ([mask], [~mask], r"references\[0\] marks no pixel; leave the expression out"),
    ):
        with pytest.raises(ValueError, match=reason):
            refexp_mask_iou(found, true)
    assert refexp_mask_iou([~mask], [mask])["mean_iou"] == 0
