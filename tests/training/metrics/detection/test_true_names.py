"""Objects with several right names, and names that cover others: by hand, and against a slow twin."""

from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset

from tests.training.metrics.detection.test_average_precision import naive_coco_map, plain_overlap
from training.metrics.detection.average_precision import attribute_scores, detection_scores
from training.metrics.detection.true_names import FoundObjects, names_of_boxes, settle

PERSON, MAN, GUY, DOG = 1, 2, 3, 4
COVERED = {PERSON: [MAN, GUY]}
LEFT, RIGHT = [0.0, 0.0, 0.5, 1.0], [0.5, 0.0, 1.0, 1.0]
NEAR_LEFT = [0.0, 0.0, 0.5, 0.8]


def row(*boxes: list[float], ids: list[int], others: list[list[int]], **more: Any) -> dict[str, Any]:
    return {"width": 100, "height": 100, "boxes": list(boxes), "object_ids": ids, "other_object_ids": others, **more}


def found(*boxes: list[float], ids: list[int], scores: list[float]) -> dict[str, Any]:
    return {"boxes": list(boxes), "object_ids": ids, "scores": scores}


def precision_50(predictions: Any, rows: Any, **options: Any) -> dict[int, float]:
    """AP at 0.5 of each object with a true box, rounded."""
    scores = detection_scores(predictions, rows, num_classes=4, **options)
    return {label: round(own["map_50"], 3) for label, own in scores["per_class"].items() if own["map_50"] >= 0}


# -- by hand ----------------------------------------------------------------------------------------------------------


def test_any_right_name_finds_the_box_once() -> None:
    rows = [row(LEFT, ids=[MAN], others=[[GUY]])]
    assert precision_50([found(LEFT, ids=[GUY], scores=[0.9])], rows) == {MAN: 1}
    assert precision_50([found(LEFT, ids=[DOG], scores=[0.9])], rows) == {MAN: 0}
    both = found(LEFT, NEAR_LEFT, ids=[GUY, MAN], scores=[0.9, 0.8])
    assert precision_50([both], rows) == {MAN: 1}  # the second comes after recall 1
    surer_first = found(LEFT, NEAR_LEFT, ids=[MAN, GUY], scores=[0.9, 0.8])
    scores = detection_scores([surer_first], rows, num_classes=4)
    assert scores["map_50"] == pytest.approx(1) and scores["map_75"] == pytest.approx(1)


def test_another_name_of_a_found_box_is_no_mistake_and_the_object_said_twice_is() -> None:
    rows = [row(LEFT, RIGHT, ids=[MAN, MAN], others=[[GUY], []])]
    second_name = found(LEFT, NEAR_LEFT, RIGHT, ids=[MAN, GUY, MAN], scores=[0.9, 0.8, 0.7])
    assert precision_50([second_name], rows) == {MAN: 1}
    twice = found(LEFT, NEAR_LEFT, RIGHT, ids=[MAN, MAN, MAN], scores=[0.9, 0.8, 0.7])
    assert precision_50([twice], rows) == {MAN: round((51 + 50 * 2 / 3) / 101, 3)}


def test_the_object_after_another_right_name_is_no_mistake_and_after_itself_it_is() -> None:
    rows = [row(LEFT, RIGHT, ids=[MAN, MAN], others=[[GUY], []])]
    guy_man_man = found(LEFT, NEAR_LEFT, RIGHT, ids=[GUY, MAN, MAN], scores=[0.9, 0.8, 0.7])
    assert precision_50([guy_man_man], rows) == {MAN: 1}
    once_more = found(LEFT, NEAR_LEFT, LEFT, RIGHT, ids=[GUY, MAN, MAN, MAN], scores=[0.9, 0.8, 0.75, 0.7])
    assert precision_50([once_more], rows) == {MAN: round((51 + 50 * 2 / 3) / 101, 3)}


def test_a_name_that_is_right_elsewhere_is_wrong_here() -> None:
    rows = [row(LEFT, RIGHT, ids=[MAN, GUY], others=[[], []])]
    wrong_way = found(LEFT, RIGHT, ids=[GUY, MAN], scores=[0.9, 0.8])
    assert precision_50([wrong_way], rows) == {MAN: 0, GUY: 0}


def test_probabilities_of_covered_names_add_up() -> None:
    """Person 0.1, man 0.4, guy 0.3 are a person of 0.8, surer than the dog's region, which is one of 0.6."""
    rows = [row(LEFT, ids=[PERSON], others=[[MAN, GUY]])]
    probs = np.array([[0.2, 0.1, 0.4, 0.3, 0.0], [0.1, 0.6, 0.0, 0.0, 0.3]])
    prediction = {"boxes": torch.tensor([LEFT, RIGHT]), "object_probs": torch.from_numpy(probs)}
    assert precision_50([prediction], rows, covered=COVERED) == {PERSON: 1}
    assert precision_50([prediction], rows) == {PERSON: 0.5}  # the man alone has 0.4


def test_a_covered_name_is_one_of_the_covering_name_and_the_reverse_does_not_hold() -> None:
    rows = [row(LEFT, RIGHT, ids=[MAN, PERSON], others=[[], []])]
    men = found(LEFT, RIGHT, ids=[MAN, MAN], scores=[0.9, 0.8])
    assert precision_50([men], rows, covered=COVERED) == {PERSON: 1, MAN: 1}
    persons = found(LEFT, RIGHT, ids=[PERSON, PERSON], scores=[0.9, 0.8])
    assert precision_50([persons], rows, covered=COVERED) == {PERSON: 1, MAN: 0}


def test_a_covering_name_that_people_say_finds_the_object_and_one_they_do_not_say_does_not() -> None:
    persons = found(LEFT, RIGHT, ids=[PERSON, PERSON], scores=[0.9, 0.8])
    rows = [row(LEFT, RIGHT, ids=[MAN, MAN], others=[[PERSON], []])]
    assert precision_50([persons], rows, covered=COVERED) == {PERSON: 1, MAN: round(51 / 101, 3)}


def test_a_right_name_that_nothing_covers_finds_what_covers_another() -> None:
    rows = [row(LEFT, ids=[MAN], others=[[DOG]])]  # somebody in a costume
    assert precision_50([found(LEFT, ids=[DOG], scores=[0.9])], rows, covered=COVERED) == {PERSON: 1, MAN: 1}


def test_one_object_said_by_two_covered_names_is_covered_once() -> None:
    rows = [row(LEFT, RIGHT, ids=[PERSON, PERSON], others=[[MAN, GUY], [MAN, GUY]])]
    names = found(LEFT, NEAR_LEFT, RIGHT, ids=[MAN, GUY, MAN], scores=[0.9, 0.8, 0.7])
    assert precision_50([names], rows, covered=COVERED) == {PERSON: 1}


def test_in_a_crowd_another_right_name_does_not_count() -> None:
    inside = [0.6, 0.1, 0.7, 0.2]
    rows = [row(RIGHT, LEFT, ids=[PERSON, DOG], others=[[MAN], []], crowd=[True, False])]
    rows += [row(LEFT, ids=[MAN], others=[[]])]
    predictions = [
        found(inside, LEFT, ids=[MAN, DOG], scores=[0.9, 0.8]),
        found(LEFT, ids=[MAN], scores=[0.5]),
    ]
    assert precision_50(predictions, rows) == {MAN: 1, DOG: 1}


def test_rows_of_a_data_set_with_and_without_other_names() -> None:
    plain = {"width": 100, "height": 100, "boxes": [LEFT], "object_ids": [MAN], "crowd": [False]}
    predictions = [found(LEFT, ids=[GUY], scores=[0.9])]
    assert precision_50(predictions, Dataset.from_list([plain])) == {MAN: 0}
    assert precision_50(predictions, Dataset.from_list([{**plain, "other_object_ids": [[GUY]]}])) == {MAN: 1}


def test_attributes_are_scored_whatever_the_names_of_their_boxes() -> None:
    plain = {
        "width": 100,
        "height": 100,
        "boxes": [LEFT, RIGHT],
        "object_ids": [MAN, DOG],
        "attribute_ids": [[1, 2], []],
    }
    probs = np.array([[0.0, 0.9, 0.2, 0.1], [0.5, 0.3, 0.1, 0.0]])
    predictions = [{"boxes": [LEFT, RIGHT], "attribute_probs": probs}]
    named = Dataset.from_list([{**plain, "other_object_ids": [[GUY], []]}])
    scores = attribute_scores(predictions, named, num_attributes=3)
    assert scores == attribute_scores(predictions, [plain], num_attributes=3)
    assert [scores["per_class"][label]["ap"] for label in (1, 2)] == [1, 1]


# -- slow twin --------------------------------------------------------------------------------------------------------


def naive_names(detections: list[Any], truth: list[Any]) -> list[Any]:
    """Rule 2 for one image, detection by detection: (id, score, xywh) and (said, right, xywh, crowd)."""
    kept = []
    state: dict[tuple[int, int], str] = {}  # of a box and a name that it is of: how it was found
    for label, score, box in sorted(detections, key=lambda d: (-d[1], not says_right(d, truth))):
        overlap = [plain_overlap(box, own, crowd=crowd) for *_, own, crowd in truth]
        near = [place for place in range(len(truth)) if overlap[place] >= 0.5]
        real = [place for place in near if not truth[place][3]]
        if any(label in truth[place][1] for place in near):
            open_ones = [p for p in real if label in truth[p][1] and state.get((p, label)) != "said"]
            best = max(open_ones, key=lambda p: overlap[p], default=None)
            if best is None or (best, label) not in state:
                kept.append((label, score, box))
        elif any(label in truth[place][0] for place in near):
            open_ones = [
                p for p in real if label in truth[p][0] and any((p, name) not in state for name in truth[p][1])
            ]
            best = max(open_ones, key=lambda p: overlap[p], default=None)
        else:
            kept.append((label, score, box))
            continue
        if best is not None:
            if label in truth[best][1]:
                state[best, label] = "said"
            for name in sorted(truth[best][1]):
                if label in truth[best][0] and (best, name) not in state:
                    kept.append((name, score, box))
                    state[best, name] = "lent"
    return kept


def says_right(detection: Any, truth: list[Any]) -> bool:
    label, _, box = detection
    return any(label in right and plain_overlap(box, own, crowd=crowd) >= 0.5 for _, right, own, crowd in truth)


def naive_suppression(detections: list[Any], nms_iou: float) -> list[Any]:
    kept: list[Any] = []
    for detection in sorted(detections, key=lambda d: -d[1]):
        if all(d[0] != detection[0] or plain_overlap(d[2], detection[2]) <= nms_iou for d in kept):
            kept.append(detection)
    return kept


def xywh(box: Any) -> list[float]:
    return [box[0], box[1], box[2] - box[0], box[3] - box[1]]


def random_boxes(generator: np.random.Generator, count: int) -> np.ndarray:
    """Boxes xyxy in thousandths of a pixel, so that no overlap lies on a threshold, where rounding would decide."""
    corner = generator.integers(0, 50_000, (count, 2))
    return np.concatenate([corner, corner + generator.integers(1000, 50_000, (count, 2))], axis=1) / 1000


@pytest.mark.parametrize("seed", range(6))
def test_scores_equal_the_slow_twin(seed: int) -> None:
    generator = np.random.default_rng(seed)
    covered, num_classes, most = {1: [2, 3], 5: [6]}, 7, 25
    predictions, rows = [], []
    flat_found: dict[int, list[Any]] = {label: [] for label in range(1, num_classes + 1)}
    flat_truth: dict[int, list[Any]] = {label: [] for label in range(1, num_classes + 1)}
    for image in range(10):
        pixels = random_boxes(generator, 5)
        near = (pixels[generator.integers(0, 5, 9)] + generator.uniform(-2, 2, (9, 4)).round(3)).clip(0, 100)
        near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 1)
        ids = generator.integers(1, num_classes + 1, 5)
        others = [sorted({*generator.integers(1, num_classes + 1, 2).tolist()} - {own}) for own in ids.tolist()]
        crowd = generator.random(5) < 0.2
        rows.append(row(*(pixels / 100).tolist(), ids=ids.tolist(), others=others, crowd=crowd.tolist()))
        probs = generator.dirichlet(np.full(num_classes + 1, 0.4), 9)
        detections = []
        if seed % 2:
            predictions.append({"boxes": near / 100, "object_probs": probs})
            for region in range(9):
                for label in range(1, num_classes + 1):
                    score = sum(probs[region][i] for i in [label, *covered.get(label, [])])
                    detections.append((label, score, xywh(near[region].tolist())))
            kept = naive_suppression([d for d in detections if d[1] >= 1e-3], 0.5)
            detections = sorted(kept, key=lambda d: -d[1])[:most]
        else:
            labels = (1 + probs[:, 1:].argmax(axis=1)).tolist()
            sure = probs[:, 1:].max(axis=1).tolist()
            predictions.append({"boxes": near / 100, "object_ids": labels, "scores": sure})
            detections = [(label, s, xywh(b)) for label, s, b in zip(labels, sure, near.tolist(), strict=True)]
            for above, finer in covered.items():
                copies = [(above, s, b) for label, s, b in detections if label in finer]
                own = [d for d in detections if d[0] == above]
                detections = [d for d in detections if d[0] != above] + naive_suppression([*own, *copies], 0.5)
        truth = []
        for label, more, box, in_crowd in zip(ids.tolist(), others, pixels.tolist(), crowd.tolist(), strict=True):
            right = {label, *(above for above, finer in covered.items() if {label, *more} & set(finer))}
            truth.append(({label, *more}, right, xywh(box), in_crowd))
            for name in right:
                flat_truth[name].append((image, xywh(box), in_crowd))
        for label, score, box in naive_names(detections, truth):
            flat_found[label].append((image, score, box))
    scores = detection_scores(predictions, rows, num_classes=num_classes, covered=covered, max_per_image=most)
    for label in range(1, num_classes + 1):
        expected = naive_coco_map(flat_found[label], flat_truth[label])
        assert scores["per_class"][label]["map"] == pytest.approx(expected, abs=1e-9), label


# -- refused ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("covered", [{0: [1]}, {1: [5]}, {1: [1]}, {1: [2, 2]}])
def test_covering_names_out_of_range_are_refused(covered: dict[int, list[int]]) -> None:
    with pytest.raises(ValueError, match="ids from 1 to 4, each once"):
        detection_scores([found(ids=[], scores=[])], [row(ids=[], others=[])], num_classes=4, covered=covered)


def test_other_names_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="other_object_ids of 0 boxes, but there are 1"):
        precision_50([found(ids=[], scores=[])], [row(LEFT, ids=[MAN], others=[])])
    with pytest.raises(ValueError, match="holds 9, but ids go from 1 to 4"):
        precision_50([found(ids=[], scores=[])], [row(LEFT, ids=[MAN], others=[[9]])])
    with pytest.raises(ValueError, match=r"should have \(1, 5\)"):
        precision_50([{"boxes": [LEFT], "object_probs": [[0.5, 0.5]]}], [row(LEFT, ids=[MAN], others=[[]])])


def test_settling_without_detections_or_boxes() -> None:
    nothing = FoundObjects(np.zeros((0, 4)), np.zeros(0, dtype=np.int64), np.zeros(0))
    names = names_of_boxes([MAN], [[GUY]], {})
    assert settle(nothing, np.array([LEFT]), names, np.array([False])) is nothing
    assert precision_50([found(ids=[], scores=[])], [row(LEFT, ids=[MAN], others=[[GUY]])]) == {MAN: 0}
    assert precision_50([found(LEFT, ids=[GUY], scores=[1.0])], [row(ids=[], others=[])]) == {}
