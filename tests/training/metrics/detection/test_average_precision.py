"""Average precision of objects and attributes against the official evaluators, hand-worked numbers and slow twins."""

import copy
import gzip
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.benchmarks.detection_metrics import (
    SIDE_PIXELS,
    as_files,
    naive_average_precisions,
    naive_overlap,
    random_boxes_of_images,
)
from tests.shared_files import shared
from training.metrics.detection import average_precision
from training.metrics.detection.average_precision import (
    LabelledBoxes,
    attribute_scores,
    coco_detection,
    detection_scores,
    vg_average_precision,
    vg_detection,
    vg_object_scores,
)

OFFICIAL_NAMES = {
    "AP": "map",
    "AP50": "map_50",
    "AP75": "map_75",
    "APs": "map_small",
    "APm": "map_medium",
    "APl": "map_large",
    "AR1": "mar_1",
    "AR10": "mar_10",
    "AR100": "mar_100",
    "ARs": "mar_small",
    "ARm": "mar_medium",
    "ARl": "mar_large",
}
MODULE = Path(__file__).resolve().parents[4] / "training/metrics/detection/updown_detection.py"
SIZE = {"width": 100, "height": 100}


def golden(name: str) -> Any:
    return json.loads(gzip.decompress(shared(f"golden/metrics/{name}.json.gz").read_bytes()))


def row(*boxes: list[float], ids: list[int], **more: Any) -> dict[str, Any]:
    return {**SIZE, "boxes": list(boxes), "object_ids": ids, **more}


def found(*boxes: list[float], ids: list[int], scores: list[float], **more: Any) -> dict[str, Any]:
    return {"boxes": list(boxes), "object_ids": ids, "scores": scores, **more}


LEFT, RIGHT = [0.0, 0.0, 0.5, 1.0], [0.5, 0.0, 1.0, 1.0]


# -- the official numbers ---------------------------------------------------------------------------------------------


def test_coco_detection_scores_as_the_official_evaluator_says(capsys: pytest.CaptureFixture[str]) -> None:
    data = golden("coco_detection")
    inputs, expected = data["inputs"], data["expected"]
    given_inputs = copy.deepcopy(inputs)
    scores = coco_detection(**inputs)
    assert inputs == given_inputs, "pycocotools writes into what it is given; the caller's records stay as they are"
    assert capsys.readouterr().out == ""
    for official, ours in OFFICIAL_NAMES.items():
        assert scores[ours] == pytest.approx(expected["stats"][official], abs=1e-12)
        assert scores[f"{ours}_x100"] == pytest.approx(100 * expected["stats"][official], abs=1e-10)
    for category, precision in expected["per_category_AP"].items():
        assert scores["per_class"][int(category)]["map"] == pytest.approx(precision, abs=1e-12)
    curves = [values["precision_50"] for values in scores["per_class"].values()]
    assert np.allclose(curves, expected["precision_iou50_area_all_100"], atol=1e-11)


def test_vg_detection_scores_as_the_official_evaluator_says() -> None:
    data = golden("vg_detection")
    scores = vg_detection(**data["inputs"])
    for name, expected in data["expected"].items():
        ours = scores[name]
        for mean in ("mean_ap", "weighted_mean_ap", "mean_threshold"):
            assert ours[mean] == pytest.approx(expected[mean], abs=1e-12)
        assert ours["mean_ap_x100"] == pytest.approx(100 * expected["mean_ap"], abs=1e-10)
        assert ours["thresholds"] == pytest.approx(expected["thresholds"], abs=1e-12)
        assert {str(label) for label in ours["per_class"]} == set(expected["per_class"])
        for label, values in expected["per_class"].items():
            assert ours["per_class"][int(label)] == pytest.approx(values, abs=1e-12)


def test_rows_score_as_coco_records_do() -> None:
    data = golden("coco_detection")
    inputs, expected = data["inputs"], data["expected"]["stats"]
    object_ids = {category["id"]: place for place, category in enumerate(inputs["categories"], start=1)}
    predictions, rows = [], []
    for image in inputs["images"]:
        own = [[r for r in inputs[key] if r["image_id"] == image["id"]] for key in ("detections", "annotations")]
        size = np.array([image["width"], image["height"]] * 2)
        corners = [
            [[*r["bbox"][:2], r["bbox"][0] + r["bbox"][2], r["bbox"][1] + r["bbox"][3]] for r in rs] for rs in own
        ]
        boxes = [(np.array(c).reshape(-1, 4) / size).astype(np.float32) for c in corners]
        ids = [[object_ids[r["category_id"]] for r in rs] for rs in own]
        scores = torch.tensor([r["score"] for r in own[0]], dtype=torch.float64)
        predictions.append({"boxes": torch.from_numpy(boxes[0]), "scores": scores, "object_ids": torch.tensor(ids[0])})
        crowd = [bool(r["iscrowd"]) for r in own[1]]
        image_id = str(image["id"])
        rows.append(
            {"image_id": image_id, "width": image["width"], "height": image["height"], "image": None}
            | {"boxes": boxes[1].tolist(), "object_ids": ids[1], "crowd": crowd}
        )
    for given_rows in (rows, Dataset.from_list(rows)):
        scores_of_rows = detection_scores(predictions, given_rows, num_classes=len(object_ids))
        for official in ("AP", "AP50", "AP75", "AR1", "AR100"):  # the others go by the masks' areas, which rows lack
            assert scores_of_rows[OFFICIAL_NAMES[official]] == pytest.approx(expected[official], abs=1e-12)


def test_rows_score_as_visual_genome_files_do() -> None:
    data = golden("vg_detection")
    inputs, expected = data["inputs"], data["expected"]
    side = 1 + max(edge for image in inputs["images"] for box in image["boxes"] for edge in box)
    rows = [
        {
            "image_id": image["id"],
            "width": side,
            "height": side,
            "boxes": (np.array(image["boxes"], dtype=np.float32).reshape(-1, 4) / side).tolist(),
            "object_ids": image["classes"],
            "attribute_ids": [[*ids, 0] for ids in image["attributes"]],
        }
        for image in inputs["images"]
    ]
    objects, attributes = [], []
    for image in inputs["images"]:
        lines = [(int(c), *e) for c, es in inputs["object_detections"].items() for e in es if e[0] == image["id"]]
        boxes = np.array([line[3:] for line in lines]).reshape(-1, 4) / side
        ids, sureness = [line[0] for line in lines], np.array([line[2] for line in lines])
        objects.append({"image_id": image["id"], "boxes": boxes, "object_ids": ids, "scores": sureness})
        lines = [(int(c), *e) for c, es in inputs["attribute_detections"].items() for e in es if e[0] == image["id"]]
        probs = np.zeros((len(lines), inputs["num_attributes"]))
        for number, line in enumerate(lines):
            probs[number, line[0]] = line[2]
        boxes = np.array([line[3:] for line in lines]).reshape(-1, 4) / side
        attributes.append({"boxes": boxes, "attribute_probs": probs})
    for scores, official in (
        (vg_object_scores(objects, rows, num_classes=8, offset_pixels=0), expected["object"]),
        (attribute_scores(attributes, rows, num_attributes=6, offset_pixels=0), expected["attribute"]),
    ):
        assert scores["mean_ap"] == pytest.approx(official["mean_ap"], abs=1e-12)
        assert scores["weighted_mean_ap"] == pytest.approx(official["weighted_mean_ap"], abs=1e-12)


# -- by hand ----------------------------------------------------------------------------------------------------------


def test_coco_precision_by_hand() -> None:
    # Two boxes of class 1; the surest detection hits (overlap 0.8: 7 of 10 thresholds), the second is wrong.
    rows = [row(LEFT, RIGHT, ids=[1, 1])]
    predictions = [found([0, 0, 0.5, 0.8], [0.2, 0.2, 0.3, 0.3], ids=[1, 1], scores=[0.9, 0.8])]
    scores = detection_scores(predictions, rows, num_classes=2)
    assert scores["map_50"] == pytest.approx(51 / 101)  # precision 1 at recalls 0, 0.01 .. 0.5
    assert scores["map"] == pytest.approx(0.7 * 51 / 101)
    assert scores["map_x100"] == pytest.approx(70 * 51 / 101)
    assert scores["mar_100"] == pytest.approx(0.7 * 0.5)
    assert scores["per_class"][1]["map_75"] == pytest.approx(51 / 101)
    assert scores["per_class"][2]["map"] == scores["map_small"] == scores["map_small_x100"] == -1


def test_a_crowd_is_neither_missed_nor_wrong() -> None:
    rows = [row(LEFT, RIGHT, ids=[1, 1], crowd=[False, True])]
    inside_crowd = [0.6, 0.1, 0.7, 0.2]
    predictions = [found(inside_crowd, LEFT, ids=[1, 1], scores=[0.9, 0.8])]
    assert detection_scores(predictions, rows, num_classes=1)["map"] == pytest.approx(1)
    as_mistake = detection_scores(predictions, [row(LEFT, ids=[1])], num_classes=1)
    assert as_mistake["map"] == pytest.approx(0.5)
    over_crowd = [found(RIGHT, LEFT, ids=[1, 1], scores=[0.9, 0.8])]
    scores = vg_object_scores(over_crowd, rows, num_classes=1)
    assert (scores["mean_ap"], scores["per_class"][1]) == (1, {"ap": 1, "npos": 1, "n_det": 2})


def test_vg_precision_by_hand() -> None:
    # Class 1: wrong, right, right again on the same box (wrong): the area is 1/2 of recall 1/2.
    boxes = [[0, 0, 9, 9], [50, 50, 59, 59]]
    images = [{"id": 5, "boxes": boxes, "classes": [1, 1], "attributes": [[2, 2], [1, 2]]}]
    objects = {"1": [[5, 0.9, 20, 20, 29, 29], [5, 0.8, 0, 0, 9, 8], [5, 0.7, 0, 0, 9, 9]]}
    attributes = {2: [["5", 0.5, 0, 0, 9, 9], ["5", 0.4, 50, 50, 59, 59]]}
    scores = vg_detection(images, objects, attribute_detections=attributes, num_classes=3, num_attributes=4)
    assert scores["object"]["per_class"] == {
        1: {"ap": 0.25, "npos": 2, "n_det": 3},
        2: {"ap": 0, "npos": 0, "n_det": 0},
    }
    assert scores["object"]["mean_ap"] == 0.125
    assert scores["object"]["weighted_mean_ap"] == scores["object"]["mean_ap_present"] == 0.25
    assert scores["object"]["thresholds"] == [0.8, 0.8]
    assert scores["attribute"]["mean_ap"] == pytest.approx(1 / 3)  # of 3 attributes one is found in full
    assert scores["attribute"]["weighted_mean_ap"] == pytest.approx(2 / 3)
    assert scores["attribute"]["mean_ap_present_x100"] == pytest.approx(50)


def test_pixels_are_inclusive_and_a_hit_overlaps_by_more_than_half() -> None:
    truth = LabelledBoxes(np.array([0]), np.array([1]), np.array([[0.0, 0, 9, 9]]))
    for bottom, expected in ((4, 0), (5, 1)):  # 50 and 60 of 100 pixels
        detections = LabelledBoxes(np.array([0]), np.array([1]), np.array([[0.0, 0, 9, bottom]]))
        assert vg_average_precision(detections, np.ones(1), truth=truth, num_classes=1)["mean_ap"] == expected


def test_detections_are_moved_by_a_pixel_as_in_the_released_code() -> None:
    rows = [row([0.1, 0.1, 0.12, 0.12], ids=[1])]
    predictions = [found([0.1, 0.1, 0.12, 0.12], ids=[1], scores=[0.9])]
    assert vg_object_scores(predictions, rows, num_classes=1)["mean_ap"] == 0  # 4 of 14 pixels shared
    assert vg_object_scores(predictions, rows, num_classes=1, offset_pixels=0)["mean_ap"] == 1


def test_only_the_surest_of_an_image_count_and_all_that_equal_the_last() -> None:
    rows = [row(LEFT, RIGHT, ids=[1, 2])]
    probs = [[0.1, 0.6, 0.3], [0.5, 0.2, 0.3]]
    scores = vg_object_scores([{"boxes": [LEFT, RIGHT], "object_probs": probs}], rows, num_classes=2, max_per_image=2)
    assert [values["n_det"] for values in scores["per_class"].values()] == [1, 2]
    assert [values["ap"] for values in scores["per_class"].values()] == [1, 0.5]
    everything = vg_object_scores([{"boxes": [LEFT, RIGHT], "object_probs": probs}], rows, num_classes=2)
    assert [values["n_det"] for values in everything["per_class"].values()] == [2, 2]


def test_detections_of_equal_score_keep_their_order() -> None:
    rows = [row(LEFT, ids=[1])]
    first_right = found(LEFT, RIGHT, ids=[1, 1], scores=[0.5, 0.5])
    first_wrong = found(RIGHT, LEFT, ids=[1, 1], scores=[0.5, 0.5])
    assert vg_object_scores([first_right], rows, num_classes=1)["mean_ap"] == 1
    assert vg_object_scores([first_wrong], rows, num_classes=1)["mean_ap"] == 0.5


# -- slow twins -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("pairs_at_once", [7, 1 << 20])
def test_visual_genome_equals_the_brute_force_twin(
    seed: int, pairs_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(average_precision, "PAIRS_AT_ONCE", pairs_at_once)
    generator = np.random.default_rng(seed)
    num_images, num_classes = 6, (3, 40)[seed % 2]
    truth, detections, scores = random_boxes_of_images(generator, num_images, num_classes=num_classes)
    images, lines = as_files(truth, detections, scores, num_images=num_images)
    for image in images:
        image["attributes"] = [generator.integers(1, 6, generator.integers(0, 4)).tolist() for _ in image["boxes"]]
    lines_of_attributes = {label: entries for label, entries in lines.items() if label <= 5}
    result = vg_detection(
        images, lines, attribute_detections=lines_of_attributes, num_classes=num_classes + 1, num_attributes=6
    )
    for name, column, entries, total in (
        ("object", "classes", lines, num_classes + 1),
        ("attribute", "attributes", lines_of_attributes, 6),
    ):
        expected = naive_average_precisions(images, entries, column=column, num_classes=total)
        assert [values["ap"] for values in result[name]["per_class"].values()] == pytest.approx(expected, abs=1e-12)
        assert result[name]["mean_ap"] == pytest.approx(np.mean(expected), abs=1e-12)
    counts = np.bincount(truth.classes, minlength=num_classes + 1)[1:]
    weighted = np.dot(naive_average_precisions(images, lines, column="classes", num_classes=num_classes + 1), counts)
    assert result["object"]["weighted_mean_ap"] == pytest.approx(weighted / counts.sum(), abs=1e-12)


def naive_coco_map(
    detections: list[tuple[int, float, list[float]]], truth: list[tuple[int, list[float], bool]]
) -> float:
    """COCO's average precision of one class over all overlaps: (image, score, xywh) against (image, xywh, crowd)."""
    return float(np.mean([naive_coco_precision(detections, truth, 0.5 + 0.05 * step) for step in range(10)]))


def naive_coco_precision(
    detections: list[tuple[int, float, list[float]]], truth: list[tuple[int, list[float], bool]], needed: float
) -> float:
    num_boxes = sum(not crowd for *_, crowd in truth)
    if not num_boxes:
        return -1
    taken: set[int] = set()
    hits, seen, points = 0, 0, []
    for image, _, box in sorted(detections, key=lambda entry: -entry[1]):
        best, best_overlap = None, needed - 1e-12
        for number, (other_image, other, crowd) in enumerate(truth):
            if other_image == image and not crowd and number not in taken and plain_overlap(box, other) >= best_overlap:
                best, best_overlap = number, plain_overlap(box, other)
        if best is None and any(
            crowd and other_image == image and plain_overlap(box, other, crowd=True) >= needed
            for other_image, other, crowd in truth
        ):
            continue
        seen += 1
        if best is not None:
            taken.add(best)
            hits += 1
        points.append((hits / num_boxes, hits / seen))
    best_after = [max([p for r, p in points if r >= recall], default=0.0) for recall in np.linspace(0, 1, 101)]
    return sum(best_after) / 101


def plain_overlap(box: list[float], other: list[float], *, crowd: bool = False) -> float:
    """Of boxes xywh without +1; the part of the first box that lies in the second where that is a crowd."""
    width = min(box[0] + box[2], other[0] + other[2]) - max(box[0], other[0])
    height = min(box[1] + box[3], other[1] + other[3]) - max(box[1], other[1])
    shared_area = max(width, 0) * max(height, 0)
    whole = box[2] * box[3] + (0 if crowd else other[2] * other[3] - shared_area)
    return shared_area / whole if whole else 0.0


@pytest.mark.parametrize("seed", range(5))
def test_rows_score_as_the_brute_force_twin_of_coco(seed: int) -> None:
    generator = np.random.default_rng(seed)
    predictions, rows = [], []
    flat_found: dict[int, list[Any]] = {1: [], 2: [], 3: []}
    flat_truth: dict[int, list[Any]] = {1: [], 2: [], 3: []}
    for image in range(8):
        pixels = generator.integers(0, 50, (6, 4))
        pixels[:, 2:] += pixels[:, :2] + 1
        near = pixels[generator.integers(0, 6, 12)] + generator.integers(-3, 4, (12, 4)).clip(-1, 2)
        near[:, :2], near[:, 2:] = near[:, :2].clip(0), np.maximum(near[:, 2:], near[:, :2].clip(0)).clip(max=100)
        ids, found_ids = generator.integers(1, 3, 6), generator.integers(1, 4, 12)
        crowd, sureness = generator.random(6) < 0.2, generator.permutation(12) / 12 + image / 1000
        rows.append(row(*(pixels / 100).tolist(), ids=ids.tolist(), crowd=crowd.tolist()))
        predictions.append(found(*(near / 100), ids=found_ids.tolist(), scores=sureness.tolist()))
        for box, label, in_crowd in zip(pixels.tolist(), ids.tolist(), crowd.tolist(), strict=True):
            flat_truth[label].append((image, [*box[:2], box[2] - box[0], box[3] - box[1]], in_crowd))
        for box, label, score in zip(near.tolist(), found_ids.tolist(), sureness.tolist(), strict=True):
            flat_found[label].append((image, score, [*box[:2], box[2] - box[0], box[3] - box[1]]))
    expected = {label: naive_coco_map(flat_found[label], flat_truth[label]) for label in (1, 2, 3)}
    scores = detection_scores(predictions, rows, num_classes=3)
    assert {label: values["map"] for label, values in scores["per_class"].items()} == pytest.approx(expected, abs=1e-9)
    assert scores["map"] == pytest.approx((expected[1] + expected[2]) / 2, abs=1e-9)


corner = st.integers(0, 12)
boxes_of_images = st.lists(st.tuples(st.integers(0, 2), st.integers(1, 2), corner, corner, corner, corner), max_size=12)


@given(true=boxes_of_images, seen=boxes_of_images)
@settings(max_examples=150, deadline=None)
def test_any_boxes_score_as_the_brute_force_twin(true: list[Any], seen: list[Any]) -> None:
    """Small numbers, so that boxes coincide, have no area, and overlap by exactly half."""
    columns = []
    for entries in (true, seen):
        table = np.array(entries, dtype=np.int64).reshape(-1, 6)
        boxes = np.concatenate([table[:, 2:4], table[:, 2:4] + table[:, 4:]], axis=1).astype(np.float64)
        columns.append(LabelledBoxes(table[:, 0], table[:, 1], boxes))
    truth, detections = columns
    scores = -np.arange(len(seen), dtype=np.float64)  # below 0 too, as logits are
    images, lines = as_files(truth, detections, scores, num_images=3)
    expected = naive_average_precisions(images, lines, column="classes", num_classes=3)
    result = vg_average_precision(detections, scores, truth=truth, num_classes=2)
    assert [values["ap"] for values in result["per_class"].values()] == pytest.approx(expected, abs=1e-12)


def test_the_twin_counts_pixels() -> None:
    assert naive_overlap([0, 0, 9, 9], [0, 0, 9, 4]) == 0.5
    assert SIDE_PIXELS > 60  # the largest random box


# -- ugly inputs ------------------------------------------------------------------------------------------------------


def test_without_detections_every_precision_is_zero() -> None:
    rows, nothing = [row(LEFT, ids=[1], attribute_ids=[[1]])], found(ids=[], scores=[])
    scores = detection_scores([nothing], rows, num_classes=2)
    assert (scores["map"], scores["map_x100"], scores["mar_100"], scores["per_class"][2]["map"]) == (0, 0, 0, -1)
    assert vg_object_scores([nothing], rows, num_classes=2)["weighted_mean_ap"] == 0
    no_probs: list[Any] = [[], np.zeros((0, 4))]
    for probs in no_probs:
        result = attribute_scores([{"boxes": [], "attribute_probs": probs}], rows, num_attributes=3)
        assert (result["mean_ap"], result["mean_threshold"], result["thresholds"]) == (0, 0, [0, 0, 0])


def test_without_ground_truth_numbers_are_defined() -> None:
    rows = [row(ids=[], attribute_ids=[], crowd=[])]
    predictions = [found(LEFT, ids=[1], scores=[0.9], attribute_probs=[[0.5, 0.5]])]
    scores = detection_scores(predictions, rows, num_classes=1)
    assert (scores["map"], scores["map_x100"]) == (-1, -1)
    for result in (
        vg_object_scores(predictions, rows, num_classes=1),
        attribute_scores(predictions, rows, num_attributes=1),
    ):
        assert (result["mean_ap"], result["weighted_mean_ap"], result["mean_ap_present"]) == (0, 0, 0)
        assert result["per_class"] == {1: {"ap": 0, "npos": 0, "n_det": 1}}


def test_boxes_without_area_are_scored_like_others() -> None:
    point = [0.3, 0.3, 0.3, 0.3]
    rows = [row(point, LEFT, ids=[1, 1])]
    predictions = [found(point, LEFT, ids=[1, 1], scores=[0.9, 0.8])]
    # without +1 a point overlaps nothing, so it is missed and wrong; in inclusive pixels it is one pixel
    assert detection_scores(predictions, rows, num_classes=1)["map"] == pytest.approx(51 / 101 / 2)
    assert vg_object_scores(predictions, rows, num_classes=1, offset_pixels=0)["mean_ap"] == 1


def test_an_image_that_stands_twice_is_scored_twice() -> None:
    rows = [row(LEFT, ids=[1], image_id="7")] * 2
    predictions = [found(LEFT, ids=[1], scores=[0.9], image_id=7), found(RIGHT, ids=[1], scores=[0.8], image_id=7)]
    assert detection_scores(predictions, rows, num_classes=1)["map"] == pytest.approx(51 / 101)
    assert vg_object_scores(predictions, rows, num_classes=1)["per_class"][1] == {"ap": 0.5, "npos": 2, "n_det": 2}


@pytest.mark.parametrize(
    ("prediction", "message"),
    [
        (found(LEFT, ids=[3], scores=[0.9]), r"predictions\[0\] \(image 7\)\['object_ids'\] holds 3, .* from 1 to 2"),
        (found(LEFT, ids=[0], scores=[0.9]), "holds 0, but ids go from 1 to 2"),
        (found(LEFT, ids=[1.5], scores=[0.9]), "holds 1.5, but ids"),  # type: ignore[list-item]
        (found(LEFT, ids=[1], scores=[float("nan")]), r"'scores'\] hold a number that is not finite"),
        (found(LEFT, ids=[1, 2], scores=[0.9]), r"'object_ids'\] has shape \(2,\), but there are 1 boxes"),
        (found(LEFT, ids=[1], scores=[]), r"'scores'\] has shape \(0,\)"),
        (found([0, 0, 50, 100], ids=[1], scores=[0.9]), "go from 0 to 100; give xyxy in 0..1"),
        (found([0.5, 0, 0.1, 1], ids=[1], scores=[0.9]), r"hold \[0.5, 0.0, 0.1, 1.0\] at 0; give finite x1 <= x2"),
        (found([0, 0, float("inf"), 1], ids=[1], scores=[0.9]), "give finite x1 <= x2"),
        (found([0, 0, 1], ids=[1], scores=[0.9]), r"have shape \(1, 3\)"),
        ({"boxes": [LEFT], "scores": [0.9]}, "has no 'object_"),
        ({}, "has no 'boxes'; it has nothing"),
        (found(LEFT, ids=[1], scores=[0.9], image_id="8"), r"is of image '8' but rows\[0\] of '7'"),
    ],
)
def test_ugly_predictions_are_named(prediction: dict[str, Any], message: str) -> None:
    rows = [row(LEFT, ids=[1], image_id="7")]
    for scorer in (detection_scores, vg_object_scores):
        with pytest.raises(ValueError, match=message):
            scorer([prediction], rows, num_classes=2)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (row(LEFT, ids=[3], image_id="7"), "row of image 7: object_ids holds 3, but ids go from 1 to 2"),
        (row(LEFT, ids=[0], image_id="7"), "object_ids holds 0"),
        (row(LEFT, ids=[1, 1], image_id="7"), "object_ids are 2, but there are 1 boxes"),
        (row(LEFT, ids=[1], crowd=[], image_id="7"), "crowd has 0 values, but there are 1 boxes"),
        (row(LEFT, ids=[1], image_id="7") | {"width": 0}, "size is 0 x 100 pixels"),
        (row([0, 0, 50, 1], ids=[1], image_id="7"), "row of image 7: boxes go from 0 to 50"),
    ],
)
def test_ugly_rows_are_named(bad: dict[str, Any], message: str) -> None:
    for scorer in (detection_scores, vg_object_scores):
        with pytest.raises(ValueError, match=message):
            scorer([found(ids=[], scores=[])], [bad], num_classes=2)


def test_what_cannot_be_scored_is_said() -> None:
    rows = [row(LEFT, ids=[1], attribute_ids=[[1]])]
    with pytest.raises(ValueError, match="2 predictions but 1 rows"):
        detection_scores([found(ids=[], scores=[])] * 2, rows, num_classes=1)
    with pytest.raises(ValueError, match="no rows to score"):
        vg_object_scores([], [], num_classes=1)
    with pytest.raises(ValueError, match="max_per_image is 0"):
        vg_object_scores([found(ids=[], scores=[])], rows, num_classes=1, max_per_image=0)
    with pytest.raises(
        ValueError, match=r"'attribute_probs'\] has shape \(1, 2\); with 1 boxes it should have \(1, 4\)"
    ):
        attribute_scores([{"boxes": [LEFT], "attribute_probs": [[0.5, 0.5]]}], rows, num_attributes=3)
    with pytest.raises(ValueError, match=r"'attribute_probs'\] hold a number that is not finite"):
        attribute_scores([{"boxes": [LEFT], "attribute_probs": [[0.5, np.nan]]}], rows, num_attributes=1)
    with pytest.raises(ValueError, match="attribute_ids holds 2, but ids go from 1 to 1"):
        attribute_scores(
            [{"boxes": [], "attribute_probs": []}], [row(LEFT, ids=[1], attribute_ids=[[2]])], num_attributes=1
        )


BOX = {"image_id": 1, "category_id": 1, "bbox": [0, 0, 5, 5]}


@pytest.mark.parametrize(
    ("detections", "annotations", "images", "message"),
    [
        ([BOX | {"score": 0.5, "image_id": 2}], [], [{"id": 1}], r"detections\[0\] has image_id 2, which is not among"),
        ([BOX | {"score": 0.5, "category_id": 9}], [], [{"id": 1}], r"detections\[0\] has category_id 9"),
        ([], [BOX, BOX | {"category_id": None}], [{"id": 1}], r"annotations\[1\] has category_id None"),
        ([BOX | {"score": float("nan")}], [], [{"id": 1}], r"detections\[0\] has score nan"),
        ([BOX], [], [{"id": 1}], r"detections\[0\] has score None"),
        ([BOX | {"score": 1.0, "bbox": [0, 0, -1, 1]}], [], [{"id": 1}], "has bbox .*give x, y, width, height"),
        ([], [BOX | {"bbox": None}], [{"id": 1}], r"annotations\[0\] has bbox None"),
        ([], [], [{"id": 1}, {"id": 1}], r"images\[1\] has id 1 again"),
        ([], [], [], "there are no images"),
    ],
)
def test_ugly_coco_records_are_named(detections: Any, annotations: Any, images: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        coco_detection(detections, annotations, images=images, categories=[{"id": 1}])


def test_coco_records_need_neither_area_nor_crowd_nor_ids_of_their_own() -> None:
    # pycocotools takes an annotation with id 0 for no match, and two with the same id for one
    annotations = [BOX | {"id": 0}, BOX | {"bbox": [50, 50, 40, 40], "id": 0}]
    detections = [annotation | {"score": 0.5} for annotation in annotations]
    scores = coco_detection(detections, annotations, images=[{"id": 1}], categories=[{"id": 1}])
    assert [scores[name] for name in ("map", "map_small", "map_medium", "map_large")] == pytest.approx([1, 1, 1, -1])
    nothing = coco_detection([], annotations, images=[{"id": 1}], categories=[{"id": 1}])
    assert (nothing["map"], nothing["per_class"][1]["mar_100"]) == (0, 0)


@pytest.mark.parametrize(
    ("objects", "message"),
    [
        ({"1": [["b", 0.5, 0, 0, 1, 1]]}, r"object_detections\['1'\] hold \['b', .*give \[id of one of images, score"),
        ({"1": [["a", 0.5, 0, 0, 1]]}, "give .id of one of images, score, x1, y1, x2, y2"),
        ({"1": [["a", 0.5, 0, 0, 1, 1], ["a", float("nan"), 0, 0, 1, 1]]}, r"hold \['a', nan, .*finite score"),
        ({"1": [["a", 0.5, 0, 0, -5, 1]]}, r"object_detections hold \[0.0, 0.0, -5.0, 1.0\] at 0"),
        ({"3": [["a", 0.5, 0, 0, 1, 1]]}, "object_detections holds 3, but ids go from 1 to 2"),
        ({"0": [["a", 0.5, 0, 0, 1, 1]]}, "object_detections holds 0, but ids go from 1 to 2"),
    ],
)
def test_ugly_visual_genome_files_are_named(objects: Any, message: str) -> None:
    images = [{"id": "a", "boxes": [[0, 0, 5, 5]], "classes": [1], "attributes": [[]]}]
    with pytest.raises(ValueError, match=message):
        vg_detection(images, objects, attribute_detections={}, num_classes=3, num_attributes=2)


def test_ugly_visual_genome_images_are_named() -> None:
    image = {"id": "a", "boxes": [[0, 0, 5, 5]], "classes": [1], "attributes": [[]]}
    sizes = {"attribute_detections": {}, "num_classes": 3, "num_attributes": 2}
    for images, message in (
        ([image, image], r"images\[1\] has id 'a' again"),
        ([image | {"classes": [4]}], r"images\[0\]\['classes'\] holds 4, but ids go from 1 to 2"),
        ([image | {"attributes": []}], r"images\[0\]\['attributes'\] are 0, but there are 1 boxes"),
        ([image | {"boxes": [[0, 0, 5]]}], r"images\[0\]\['boxes'\] have shape \(1, 3\)"),
    ):
        with pytest.raises(ValueError, match=message):
            vg_detection(images, {}, **sizes)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no class to score; does the number of classes include"):
        vg_detection([image | {"classes": [1]}], {}, attribute_detections={}, num_classes=3, num_attributes=1)


def test_the_evaluate_module_loads_from_its_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    evaluate = pytest.importorskip("evaluate")
    monkeypatch.setattr(evaluate.config, "HF_MODULES_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.syspath_prepend(str(tmp_path))  # before the folder of another module's test
    for name in [name for name in sys.modules if name.split(".")[0] == "evaluate_modules"]:
        monkeypatch.delitem(sys.modules, name)
    metric = evaluate.load(str(MODULE), cache_dir=str(tmp_path))
    rows = [row(LEFT, RIGHT, ids=[1, 2], crowd=[False, False]), row(ids=[], crowd=[])]
    predictions = [found([0, 0, 0.5, 0.8], ids=[1], scores=[0.9]), found(ids=[], scores=[])]
    scores = metric.compute(predictions=predictions, references=rows, num_classes=2)
    expected = detection_scores(predictions, rows, num_classes=2)
    assert scores == {name: value for name, value in expected.items() if name != "per_class"}
    assert scores["map"] == pytest.approx(0.7 / 2)
