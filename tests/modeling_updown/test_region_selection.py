"""Which regions stay: the original's figures under all its settings, and its loop over classes as a slow twin."""

import json
import re
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from modeling_updown import UpDownDetectorConfig, region_selection_updown
from modeling_updown.region_selection_updown import (
    MOST_CANDIDATES,
    SelectionRule,
    select_jointly,
    select_per_class,
    select_regions,
    surviving_scores,
)
from tests.shared_files import shared

GOLDEN_RULE = re.compile(r"min(\d+)_max(\d+)_th([\d.]+)")  # what a selection of the original is called by


def rule(smallest: int, most: int, threshold: float, *, nms: tuple[float, ...] = (0.3,), **more: Any) -> SelectionRule:
    return SelectionRule(smallest, most, threshold, list(nms), **more)


def detections(
    num_boxes: int, num_classes: int, *, seed: int, sharpness: float = 3.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Boxes (N, 4) that overlap a good deal, and probabilities (N, C + 1) of them."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(num_boxes, 2, generator=generator) * 60
    side = torch.rand(num_boxes, 2, generator=generator) * 60 + 5
    probs = (torch.randn(num_boxes, num_classes + 1, generator=generator) * sharpness).softmax(dim=1)
    return torch.cat([corner, corner + side], dim=1), probs


# ---- the original


@pytest.fixture(scope="module")
def golden() -> dict[str, torch.Tensor]:
    return load_file(shared("golden/reference/bua_caffe.safetensors"))


def test_golden_selection(golden):
    selections = json.loads(shared("golden/reference/bua_caffe.json").read_text())["selections"]
    boxes, probs = golden["select.boxes"], golden["select.scores"]
    assert selections
    for setting, expected in selections.items():
        smallest, most, threshold = GOLDEN_RULE.fullmatch(setting).groups()
        chosen = select_per_class(boxes, probs, rule(int(smallest), int(most), float(threshold), plus_one=True))
        assert chosen.indices.tolist() == expected["keep"], (setting, expected["branch"])
        torch.testing.assert_close(chosen.scores, golden["select.max_conf"][chosen.indices])
        assert torch.equal(probs[chosen.indices, chosen.object_ids], chosen.scores)


def test_golden_confidence(golden):
    number = len(golden["select.boxes"])
    everything = rule(number, number, 0.0, plus_one=True)
    scores, _ = surviving_scores(golden["select.boxes"], golden["select.scores"], everything, nms_threshold=0.3)
    torch.testing.assert_close(scores, golden["select.max_conf"])


# ---- its loop over the classes


def slow_suppress(boxes: np.ndarray, scores: np.ndarray, threshold: float, plus_one: bool) -> list[int]:
    extra, kept = float(plus_one), []
    for row in np.argsort(-scores, kind="stable"):
        for other in kept:
            width = min(boxes[row, 2], boxes[other, 2]) - max(boxes[row, 0], boxes[other, 0]) + extra
            height = min(boxes[row, 3], boxes[other, 3]) - max(boxes[row, 1], boxes[other, 1]) + extra
            shared_area = max(width, 0) * max(height, 0)
            areas = sum((boxes[n, 2] - boxes[n, 0] + extra) * (boxes[n, 3] - boxes[n, 1] + extra) for n in (row, other))
            if shared_area / (areas - shared_area) > threshold:
                break
        else:
            kept.append(int(row))
    return kept


def slow_per_class(boxes: torch.Tensor, probs: torch.Tensor, r: SelectionRule) -> tuple[list[int], np.ndarray]:
    """generate_tsv.py: every class by itself, the best confidence that is left of each box."""
    scores = probs.double().numpy()
    confidence = np.zeros(len(scores))
    for label in range(1, scores.shape[1]):
        of_class = (boxes if boxes.dim() == 2 else boxes[:, label]).double().numpy()
        for row in slow_suppress(of_class, scores[:, label], r.nms_thresholds[0], r.plus_one):
            confidence[row] = max(confidence[row], scores[row, label])
    chosen = np.flatnonzero(confidence >= r.threshold)
    if len(chosen) < r.smallest:
        chosen = np.argsort(-confidence, kind="stable")[: r.smallest]
    elif len(chosen) > r.most:
        chosen = np.argsort(-confidence, kind="stable")[: r.most]
    return chosen.tolist(), confidence


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    ("smallest", "most", "threshold"),
    [(3, 40, 0.2), (3, 40, 0.9), (20, 20, 0.5), (5, 8, 0.1), (10, 25, 0.005), (3, 12, 0.0)],
)
def test_per_class_against_slow_twin(smallest, most, threshold, seed):
    boxes, probs = detections(40, 12, seed=seed)
    r = rule(smallest, most, threshold, plus_one=bool(seed))
    expected, confidence = slow_per_class(boxes, probs, r)
    chosen = select_per_class(boxes, probs, r)
    assert chosen.indices.tolist() == expected
    np.testing.assert_allclose(chosen.scores, confidence[expected], rtol=1e-6)
    assert torch.equal(probs[chosen.indices, chosen.object_ids], chosen.scores)


def test_per_class_on_boxes_of_each_class():
    """With regressed boxes a class suppresses its own boxes; background has one too, and takes no part."""
    boxes, probs = detections(30, 6, seed=3)
    moved = boxes[:, None] + 40 * torch.arange(7.0)[None, :, None] * torch.rand(30, 7, 1)
    r = rule(3, 20, 0.3)
    expected, _ = slow_per_class(moved, probs, r)
    chosen = select_per_class(moved, probs, r)
    assert chosen.indices.tolist() == expected != slow_per_class(boxes, probs, r)[0]


def test_a_box_loses_its_class_but_keeps_another():
    """Two boxes on one place: the worse dog is still the best cat."""
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 11], [50, 50, 60, 60]])
    probs = torch.tensor([[0.1, 0.8, 0.1], [0.1, 0.6, 0.3], [0.9, 0.05, 0.05]])
    chosen = select_per_class(boxes, probs, rule(1, 3, 0.2))
    assert chosen.indices.tolist() == [0, 1]
    assert chosen.object_ids.tolist() == [1, 2]
    assert chosen.scores.tolist() == pytest.approx([0.8, 0.3])


def test_at_least_as_many_as_asked_when_nothing_is_over_the_threshold():
    boxes, probs = detections(50, 12, seed=0, sharpness=0.1)
    assert probs[:, 1:].max() < 0.2
    for select in (select_per_class, select_jointly):
        chosen = select(boxes, probs, rule(10, 100, 0.2, nms=(0.3, 0.9)))
        assert len(chosen.indices) == 10 == len(set(chosen.indices.tolist()))
        assert chosen.scores.tolist() == sorted(chosen.scores.tolist(), reverse=True)


def test_identical_boxes_are_still_as_many_as_asked():
    """All but one are suppressed in every class; the best of them fill up."""
    boxes = torch.tensor([[5.0, 5, 20, 20]]).expand(30, 4)
    probs = torch.zeros(30, 3)
    probs[:, 1] = torch.linspace(0.9, 0.3, 30)
    probs[:, 2] = torch.linspace(0.1, 0.05, 30)
    for select in (select_per_class, select_jointly):
        chosen = select(boxes, probs, rule(4, 10, 0.2))
        assert chosen.indices.tolist() == [0, 1, 2, 3]
        assert chosen.object_ids.tolist() == [1, 1, 1, 1]
        torch.testing.assert_close(chosen.scores, probs[:4, 1])


def test_fewer_boxes_than_asked_are_all():
    boxes, probs = detections(5, 3, seed=0)
    for select in (select_per_class, select_jointly):
        assert sorted(select(boxes, probs, rule(10, 100, 0.2, nms=(0.1, 0.5))).indices.tolist()) == [0, 1, 2, 3, 4]


def test_probabilities_of_zero_are_no_obstacle():
    boxes, probs = detections(12, 4, seed=0)
    probs[:] = 0
    probs[:, 0] = 1
    for select in (select_per_class, select_jointly):
        chosen = select(boxes, probs, rule(3, 6, 0.2))
        assert len(chosen.indices) == 3 and chosen.scores.tolist() == [0, 0, 0]


@pytest.mark.parametrize("threshold", [0.2, 0.0])
def test_many_classes_are_suppressed_in_bounded_time(monkeypatch, threshold):
    """Of an untrained detector's 300 x 1,600 equally likely pairs only the best few thousand are looked at."""
    seen = []
    real = region_selection_updown.suppress
    monkeypatch.setattr(
        region_selection_updown, "suppress", lambda boxes, *a, **k: seen.append(len(boxes)) or real(boxes, *a, **k)
    )
    boxes, probs = detections(300, 1600, seed=0, sharpness=0.01)
    chosen = select_per_class(boxes * 5, probs, rule(10, 100, threshold))
    assert sum(seen) <= 2 * MOST_CANDIDATES
    expected = {False: 10, True: 100}[threshold == 0]
    assert len(chosen.indices) == expected
    best = probs[:, 1:].amax(dim=1).sort(descending=True).values
    assert chosen.scores[0] == best[0]


# ---- once for all classes


def slow_jointly(boxes: torch.Tensor, probs: torch.Tensor, r: SelectionRule) -> list[int]:
    scores = probs[:, 1:].amax(dim=1).numpy()
    labels = probs[:, 1:].argmax(dim=1) + 1
    own = boxes if boxes.dim() == 2 else torch.stack([box[label] for box, label in zip(boxes, labels, strict=True)])
    for threshold in r.nms_thresholds:
        kept = slow_suppress(own.numpy(), scores, threshold, r.plus_one)
        if len(kept) >= r.smallest:
            break
    return [n for place, n in enumerate(kept) if place < r.smallest or scores[n] >= r.threshold][: r.most]


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    ("smallest", "most", "threshold", "nms"),
    [(3, 40, 0.0, (0.3,)), (3, 5, 0.0, (0.3,)), (12, 12, 0.0, (0.01, 0.1, 0.6)), (2, 30, 0.7, (0.5,))],
)
def test_jointly_against_slow_twin(smallest, most, threshold, nms, seed):
    boxes, probs = detections(40, 12, seed=seed)
    per_class = boxes[:, None] + torch.randn(40, 13, 4, generator=torch.Generator().manual_seed(seed)).abs()
    for candidates in (boxes, per_class):
        r = rule(smallest, most, threshold, nms=nms)
        chosen = select_jointly(candidates, probs, r)
        assert chosen.indices.tolist() == slow_jointly(candidates, probs, r)
        assert torch.equal(probs[chosen.indices, chosen.object_ids], chosen.scores)


def test_no_threshold_leaves_enough():
    """The port for LXMERT stops with an error here."""
    boxes, probs = detections(20, 4, seed=0)
    chosen = select_jointly(boxes, probs, rule(18, 18, 0.0, nms=(0.01, 0.02)))
    assert len(set(chosen.indices.tolist())) == 18


# ---- without slivers and near-duplicates


def slow_tidy(boxes: torch.Tensor, probs: torch.Tensor, r: SelectionRule, *, size: tuple[int, int]) -> list[int]:
    """Every box with its best class: first slivers, then near-duplicates, then suppression, threshold and numbers."""
    scores, labels = (values.numpy() for values in probs[:, 1:].max(dim=1))
    own = boxes if boxes.dim() == 2 else torch.stack([box[label + 1] for box, label in zip(boxes, labels, strict=True)])
    height, width = size
    wide = [n for n, (x1, y1, x2, y2) in enumerate(own.tolist()) if min((x2 - x1) / width, (y2 - y1) / height) >= 0.1]
    left = [wide[n] for n in slow_suppress(own[wide].numpy(), scores[wide], r.duplicate_iou or 1.0, r.plus_one)]
    for threshold in r.nms_thresholds:
        kept = []
        for label in np.unique(labels[left]) if r.per_class else [None]:
            group = [n for n in left if label is None or labels[n] == label]
            kept += [group[n] for n in slow_suppress(own[group].numpy(), scores[group], threshold, r.plus_one)]
        kept.sort(key=lambda n: -scores[n])
        if len(kept) >= r.smallest:
            break
    kept += [n for n in left if n not in kept][: max(0, r.smallest - len(kept))]
    return [n for place, n in enumerate(kept) if place < r.smallest or scores[n] >= r.threshold][: r.most]


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("per_class", [True, False])
@pytest.mark.parametrize(
    ("smallest", "most", "threshold", "nms"),
    [(3, 40, 0.0, (0.5,)), (3, 5, 0.0, (0.3,)), (25, 30, 0.9, (0.05, 0.2)), (2, 30, 0.7, (0.5,))],
)
def test_tidy_against_slow_twin(smallest, most, threshold, nms, per_class, seed):
    boxes, probs = detections(60, 4, seed=seed)
    moved = boxes[:, None] + 4 * torch.randn(60, 5, 2, generator=torch.Generator().manual_seed(seed)).repeat(1, 1, 2)
    for candidates in (boxes, moved):
        options = {"plus_one": bool(seed), "per_class": per_class, "duplicate_iou": 0.6, "smallest_share": 0.1}
        r = rule(smallest, most, threshold, nms=nms, **options)
        chosen = select_regions(candidates, probs, r, image_size=(130, 200))
        assert chosen.indices.tolist() == slow_tidy(candidates, probs, r, size=(130, 200))
        assert torch.equal(probs[chosen.indices, chosen.object_ids], chosen.scores)


def test_a_duplicate_does_not_come_back_as_another_class():
    """Two boxes on one place: the worse dog is the best cat, and goes all the same; a neighbour stays."""
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 11], [5, 0, 15, 10]])
    probs = torch.tensor([[0.1, 0.8, 0.1], [0.1, 0.6, 0.3], [0.1, 0.5, 0.4]])
    options = {"nms": (0.5,), "per_class": True}
    assert select_regions(boxes, probs, rule(1, 3, 0.2, **options), image_size=(20, 20)).indices.tolist() == [0, 1, 2]
    tidy = select_regions(boxes, probs, rule(3, 3, 0.2, duplicate_iou=0.5, **options), image_size=(20, 20))
    assert tidy.indices.tolist() == [0, 2] and tidy.object_ids.tolist() == [1, 1]


def test_without_hygiene_the_selections_are_those_above():
    boxes, probs = detections(40, 12, seed=0)
    for per_class, select in ((True, select_per_class), (False, select_jointly)):
        r = rule(3, 20, 0.1, per_class=per_class)
        chosen, expected = select_regions(boxes, probs, r, image_size=(1, 1)), select(boxes, probs, r)
        assert torch.equal(chosen.indices, expected.indices) and torch.equal(chosen.scores, expected.scores)


# ---- sure of being any object


def test_a_thing_of_many_names_is_as_sure_as_all_of_them():
    """A man is a person is a guy: 0.3 each, so 0.9 an object, before a dog of 0.6; each keeps its best name."""
    boxes = torch.tensor([[0.0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10]])
    probs = torch.tensor([[0.4, 0.0, 0.0, 0.0, 0.6], [0.1, 0.31, 0.3, 0.29, 0.0], [0.95, 0.05, 0.0, 0.0, 0.0]])
    by_class = select_jointly(boxes, probs, rule(1, 3, 0.2))
    assert by_class.indices.tolist() == [0, 1] and by_class.object_ids.tolist() == [4, 1]
    by_object = select_jointly(boxes, probs, rule(1, 3, 0.2, of_any_class=True))
    assert by_object.indices.tolist() == [1, 0] and by_object.object_ids.tolist() == [1, 4]
    torch.testing.assert_close(by_object.scores, torch.tensor([0.9, 0.6]))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_any_class_against_the_twin_of_one_class(seed):
    """Chosen are the boxes that a detector of a single class, "object", would choose, tidy or not."""
    boxes, probs = detections(60, 4, seed=seed)
    single = torch.stack([probs[:, 0], 1 - probs[:, 0]], dim=1)
    for more in ({}, {"duplicate_iou": 0.6, "smallest_share": 0.1}):
        r = rule(3, 20, 0.3, nms=(0.5,), of_any_class=True, **more)
        chosen = select_regions(boxes, probs, r, image_size=(130, 200))
        expected = select_regions(boxes, single, rule(3, 20, 0.3, nms=(0.5,), **more), image_size=(130, 200))
        assert torch.equal(chosen.indices, expected.indices) and torch.equal(chosen.scores, expected.scores)
        assert torch.equal(chosen.object_ids, probs[chosen.indices, 1:].argmax(dim=1) + 1)


def test_sure_of_any_class_wants_joint_suppression():
    for fields in ({"nms_per_class": False}, {"duplicate_iou": 0.7}):
        assert UpDownDetectorConfig(region_confidence="object", **fields).region_confidence == "object"
    with pytest.raises(ValueError, match="wants nms_per_class=False or a duplicate_iou"):
        UpDownDetectorConfig(region_confidence="object")
