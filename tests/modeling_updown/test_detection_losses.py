"""The detector's losses against slow twins: box by box, in Caffe's own words."""

import math
from typing import Any

import pytest
import torch

from modeling_updown.boxes_updown import encode_boxes
from modeling_updown.detection_losses_updown import (
    ImageObjects,
    SampledBoxes,
    any_name_loss,
    attribute_loss,
    match_boxes,
    phrase_loss,
    proposal_losses,
    region_losses,
    sample_balanced,
    sample_regions,
)
from tests.tiny import tiny_detector_config, tiny_pyramid_config

SIZE = (90, 120)
NOTHING = torch.zeros(0, 4)


def image(num_objects: int = 3, *, crowd: torch.Tensor = NOTHING, seed: int = 0) -> ImageObjects:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(num_objects, 2, generator=generator) * 50
    side = torch.rand(num_objects, 2, generator=generator) * 30 + 10
    attributes = torch.tensor([[1, 3], [2, 0], [0, 0]])[:num_objects]
    return ImageObjects(torch.cat([corner, corner + side], dim=1), torch.arange(1, num_objects + 1), attributes, crowd)


def boxes_near(objects: ImageObjects, count: int = 60, *, seed: int = 1) -> torch.Tensor:
    """Boxes around the objects and anywhere, some over the image's edge."""
    generator = torch.Generator().manual_seed(seed)
    near = objects.boxes.repeat(count // 6, 1)
    near = near + 6 * torch.randn(near.shape, generator=generator)
    near[:, 2:] = torch.maximum(near[:, 2:], near[:, :2] + 2)
    corner = torch.rand(count // 2, 2, generator=generator) * 100 - 5
    anywhere = torch.cat([corner, corner + torch.rand(count // 2, 2, generator=generator) * 40 + 3], dim=1)
    return torch.cat([near, anywhere])


def slow_iou(first: list[float], second: list[float], extra: float) -> float:
    width = min(first[2], second[2]) - max(first[0], second[0]) + extra
    height = min(first[3], second[3]) - max(first[1], second[1]) + extra
    shared = max(width, 0) * max(height, 0)
    return shared / (sum((b[2] - b[0] + extra) * (b[3] - b[1] + extra) for b in (first, second)) - shared)


def slow_match(boxes, objects, *, positive_iou, negative_iou, best_counts, plus_one) -> tuple[list[int], list[int]]:
    table = [[slow_iou(b, o, float(plus_one)) for o in objects.boxes.tolist()] for b in boxes.tolist()]
    targets, labels = [], []
    for box, overlaps in zip(boxes.tolist(), table, strict=True):
        best = max(overlaps)
        label = 0 if best < negative_iou else -1
        for number, overlap in enumerate(overlaps):
            if best_counts and overlap > 0 and all(overlap >= table[other][number] for other in range(len(table))):
                label = 1
        if best >= positive_iou:
            label = 1
        if label == 0:
            for area in objects.crowd.tolist():
                width, height = min(box[2], area[2]) - max(box[0], area[0]), min(box[3], area[3]) - max(box[1], area[1])
                if max(width, 0) * max(height, 0) > 0.5 * (box[2] - box[0]) * (box[3] - box[1]):
                    label = -1
        targets.append(overlaps.index(best))
        labels.append(label)
    return targets, labels


# ---- matching


@pytest.mark.parametrize("plus_one", [True, False])
@pytest.mark.parametrize("best_counts", [True, False])
@pytest.mark.parametrize(("positive", "negative"), [(0.7, 0.3), (0.5, 0.5)])
def test_matching_against_slow_twin(positive, negative, best_counts, plus_one):
    objects = image(crowd=torch.tensor([[60.0, 40, 115, 85]]))
    boxes = boxes_near(objects)
    rule = {
        "positive_iou": positive,
        "negative_iou": negative,
        "best_counts": best_counts,
        "plus_one": plus_one,
    }
    target, label = match_boxes(boxes, objects, **rule)
    targets, labels = slow_match(boxes, objects, **rule)
    assert label.tolist() == labels and {-1, 0, 1} <= set(labels)
    assert target.tolist() == targets


def test_an_object_keeps_its_best_box_however_bad_it_is():
    objects = ImageObjects(torch.tensor([[0.0, 0, 10, 10]]), torch.tensor([1]), torch.tensor([[0]]), NOTHING)
    boxes = torch.tensor([[5.0, 5, 15, 15], [8, 8, 18, 18], [50, 50, 60, 60]])
    rule = {"positive_iou": 0.7, "negative_iou": 0.3, "plus_one": False}
    assert match_boxes(boxes, objects, best_counts=True, **rule)[1].tolist() == [1, 0, 0]
    assert match_boxes(boxes, objects, best_counts=False, **rule)[1].tolist() == [0, 0, 0]
    assert match_boxes(boxes[2:], objects, best_counts=True, **rule)[1].tolist() == [0]  # overlaps nothing at all


def test_crowd_is_never_background():
    crowd = torch.tensor([[40.0, 0, 100, 60]])
    objects = ImageObjects(torch.tensor([[0.0, 0, 30, 30]]), torch.tensor([1]), torch.tensor([[0]]), crowd)
    boxes = torch.tensor([[0.0, 0, 30, 30], [45, 5, 70, 30], [30, 0, 60, 10], [29, 0, 49, 10], [0, 50, 20, 80]])
    rule = {"positive_iou": 0.5, "negative_iou": 0.5, "best_counts": False, "plus_one": False}
    # inside; two thirds inside; 9 of 20 inside; outside
    assert match_boxes(boxes, objects, **rule)[1].tolist() == [1, -1, -1, 0, 0]
    only_crowd = ImageObjects(NOTHING, torch.zeros(0, dtype=torch.long), torch.zeros(0, 1, dtype=torch.long), crowd)
    assert match_boxes(boxes, only_crowd, **rule)[1].tolist() == [0, -1, -1, 0, 0]
    proposals = boxes_near(objects, 120)
    config = tiny_detector_config(region_batch_size=200)
    sampled_boxes, sampled = sample_regions(proposals, objects, config=config)
    background = sampled_boxes[len(sampled.positive) :]
    inside = (torch.minimum(background[:, 2:], crowd[0, 2:]) - torch.maximum(background[:, :2], crowd[0, :2])).clamp(0)
    area = (background[:, 2:] - background[:, :2]).prod(dim=1)
    assert len(background) > 20 and (inside.prod(dim=1) <= 0.5 * area).all()


def test_image_without_objects_is_background():
    empty = ImageObjects(NOTHING, torch.zeros(0, dtype=torch.long), torch.zeros(0, 1, dtype=torch.long), NOTHING)
    boxes, config = boxes_near(image(), 120), tiny_detector_config()
    target, label = match_boxes(boxes, empty, positive_iou=0.7, negative_iou=0.3, best_counts=True, plus_one=True)
    assert label.tolist() == target.tolist() == [0] * len(boxes)
    losses = proposal_losses(
        torch.zeros(len(boxes)), torch.zeros(len(boxes), 4), boxes, objects=empty, image_size=SIZE, config=config
    )
    assert losses["proposal_objectness"].item() == pytest.approx(math.log(2)) and losses["proposal_box"] == 0
    sampled_boxes, sampled = sample_regions(boxes, empty, config=config)
    assert len(sampled_boxes) == config.region_batch_size and not len(sampled.positive)
    losses = region_losses(
        torch.zeros(64, 13), torch.zeros(64, 12, 4), sampled_boxes, sampled=sampled, objects=empty, config=config
    )
    assert losses["region_class"].item() == pytest.approx(math.log(13)) and losses["region_box"] == 0


# ---- drawing


def test_half_are_positive_where_there_are_enough():
    label = torch.tensor([1] * 30 + [0] * 50 + [-1] * 20)
    target = torch.arange(100)
    sampled = sample_balanced(target, label, batch_size=16, generator=None)
    assert len(sampled.positive) == len(sampled.negative) == 8
    assert torch.equal(sampled.target, sampled.positive)
    assert (label[sampled.positive] == 1).all() and (label[sampled.negative] == 0).all()
    assert len(set(sampled.positive.tolist())) == len(set(sampled.negative.tolist())) == 8
    few = torch.tensor([1] * 3 + [0] * 50)
    sampled = sample_balanced(target[:53], few, batch_size=16, generator=None)
    assert (len(sampled.positive), len(sampled.negative)) == (3, 13)  # negatives fill up
    sampled = sample_balanced(target[:7], torch.tensor([1] * 5 + [0] * 2), batch_size=16, generator=None)
    assert (len(sampled.positive), len(sampled.negative)) == (5, 2)


def test_draw_follows_its_generator_alone():
    label, target = torch.tensor([1] * 30 + [0] * 50), torch.arange(80)
    draws = []
    for global_seed in (1, 2):
        torch.manual_seed(global_seed)
        generator = torch.Generator().manual_seed(7)
        draws.append(sample_balanced(target, label, batch_size=16, generator=generator))
    assert torch.equal(draws[0].positive, draws[1].positive) and torch.equal(draws[0].negative, draws[1].negative)
    other = sample_balanced(target, label, batch_size=16, generator=torch.Generator().manual_seed(8))
    assert not torch.equal(other.positive, draws[0].positive)


def test_true_boxes_are_proposals_too():
    objects = image()
    far = torch.tensor([[100.0, 70, 118, 88]])
    boxes, sampled = sample_regions(far, objects, config=tiny_detector_config())
    assert sorted(sampled.positive.tolist()) == [1, 2, 3]
    torch.testing.assert_close(boxes[:3], objects.boxes[sampled.target])  # the positive ones stand first
    torch.testing.assert_close(boxes[3:], far)


# ---- the losses


def caffe_smooth_l1(difference: float, sigma: float) -> float:
    if abs(difference) < 1 / sigma**2:
        return 0.5 * (sigma * difference) ** 2
    return abs(difference) - 0.5 / sigma**2


def slow_encode(box: list[float], target: list[float], extra: float, weights: tuple[float, ...]) -> list[float]:
    width, height = box[2] - box[0] + extra, box[3] - box[1] + extra
    target_width, target_height = target[2] - target[0] + extra, target[3] - target[1] + extra
    shift_x = (target[0] + 0.5 * target_width - box[0] - 0.5 * width) / width
    shift_y = (target[1] + 0.5 * target_height - box[1] - 0.5 * height) / height
    values = (shift_x, shift_y, math.log(target_width / width), math.log(target_height / height))
    return [value * weight for value, weight in zip(values, weights, strict=True)]


@pytest.mark.parametrize("make", [tiny_detector_config, tiny_pyramid_config])
def test_proposal_losses_against_slow_twin(make):
    """A batch that takes every anchor, so nothing depends on the draw."""
    config = make(rpn_batch_size=10_000)
    extra = float(config.box_plus_one)
    objects = image()
    anchors = boxes_near(objects)
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(len(anchors), generator=generator)
    deltas = torch.randn(len(anchors), 4, generator=generator)
    found = proposal_losses(logits, deltas, anchors, objects=objects, image_size=SIZE, config=config)

    rule = {"positive_iou": 0.7, "negative_iou": 0.3, "best_counts": True, "plus_one": config.box_plus_one}
    targets, labels = slow_match(anchors, objects, **rule)
    inside = [
        x1 >= 0 and y1 >= 0 and x2 <= SIZE[1] - extra and y2 <= SIZE[0] - extra for x1, y1, x2, y2 in anchors.tolist()
    ]
    assert False in inside
    fitted = {t for t, label, i in zip(targets, labels, inside, strict=True) if label == 1 and i}
    assert fitted == {0, 1, 2}  # every object has an anchor inside, so those outside take no part
    objectness = box = 0.0
    count = 0
    for row, (target, label, is_inside) in enumerate(zip(targets, labels, inside, strict=True)):
        if not is_inside or label < 0:
            continue
        count += 1
        objectness += math.log1p(math.exp(-logits[row].item() if label else logits[row].item()))
        if label:
            wanted = slow_encode(anchors[row].tolist(), objects.boxes[target].tolist(), extra, (1, 1, 1, 1))
            box += sum(caffe_smooth_l1(d - w, 3.0) for d, w in zip(deltas[row].tolist(), wanted, strict=True))
    assert found["proposal_objectness"].item() == pytest.approx(objectness / count, rel=1e-5)
    assert found["proposal_box"].item() == pytest.approx(box / count, rel=1e-5)


def test_an_object_only_outer_anchors_fit_keeps_them():
    corner = ImageObjects(torch.tensor([[0.0, 0, 20, 20]]), torch.tensor([1]), torch.tensor([[0]]), NOTHING)
    anchors = torch.tensor([[-2.0, -2, 21, 21], [40, 40, 60, 60]])
    config = tiny_pyramid_config()
    losses = proposal_losses(
        torch.tensor([0.0, 0.0]), torch.zeros(2, 4), anchors, objects=corner, image_size=SIZE, config=config
    )
    wanted = slow_encode(anchors[0].tolist(), [0, 0, 20, 20], 0.0, (1, 1, 1, 1))
    expected = sum(caffe_smooth_l1(value, 3.0) for value in wanted) / 2
    assert losses["proposal_box"].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("agnostic", [False, True])
@pytest.mark.parametrize("make", [tiny_detector_config, tiny_pyramid_config])
def test_region_losses_against_slow_twin(make, agnostic):
    config = make(region_batch_size=10_000, class_agnostic_boxes=agnostic)
    objects = image()
    boxes, sampled = sample_regions(boxes_near(objects), objects, config=config)
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(len(boxes), 13, generator=generator)
    deltas = torch.randn(len(boxes), 1 if agnostic else 12, 4, generator=generator)
    found = region_losses(logits, deltas, boxes, sampled=sampled, objects=objects, config=config)
    classes = box = 0.0
    assert 5 < len(sampled.positive) < len(boxes) - 5
    for row, own in enumerate(boxes.tolist()):
        positive = row < len(sampled.positive)
        number = int(sampled.target[row]) if positive else 0
        label = int(objects.object_ids[number]) if positive else 0
        classes -= logits[row].log_softmax(dim=0)[label].item()
        if positive:
            wanted = slow_encode(own, objects.boxes[number].tolist(), float(config.box_plus_one), (10, 10, 5, 5))
            made = deltas[row, 0 if agnostic else label - 1].tolist()
            box += sum(caffe_smooth_l1(d - w, 1.0) for d, w in zip(made, wanted, strict=True))
    assert found["region_class"].item() == pytest.approx(classes / len(boxes), rel=1e-5)
    assert found["region_box"].item() == pytest.approx(box / len(boxes), rel=1e-5)


def test_a_perfect_regression_costs_nothing():
    config, objects = tiny_detector_config(), image()
    boxes, sampled = sample_regions(boxes_near(objects), objects, config=config)
    sampled = SampledBoxes(sampled.positive, sampled.target, sampled.negative[:0])
    boxes = boxes[: len(sampled.positive)]
    options: dict[str, Any] = {"weights": config.box_weights, "plus_one": config.box_plus_one}
    regression = encode_boxes(boxes, objects.boxes[sampled.target], **options)
    deltas = regression[:, None].expand(-1, 12, -1)
    losses = region_losses(torch.zeros(len(boxes), 13), deltas, boxes, sampled=sampled, objects=objects, config=config)
    assert losses["region_box"].item() == pytest.approx(0, abs=1e-10)


def test_attribute_loss_against_slow_twin():
    """Each region's attributes are averaged, then the regions that have any (0 pads)."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(6, 8, generator=generator)
    ids = torch.tensor([[1, 0, 0], [2, 5, 7], [0, 0, 0], [3, 3, 0], [0, 6, 0], [0, 0, 0]])
    regions = []
    for row, own in zip(logits, ids.tolist(), strict=True):
        costs = [-row.log_softmax(dim=0)[number].item() for number in own if number > 0]
        if costs:
            regions.append(sum(costs) / len(costs))
    assert attribute_loss(logits, ids).item() == pytest.approx(sum(regions) / 4, rel=1e-6)
    assert attribute_loss(logits[2:3], ids[2:3]).item() == 0
    assert attribute_loss(logits[:0], ids[:0]).item() == 0


def test_attribute_loss_is_smallest_at_an_even_split():
    """With several true attributes the best answer is equal shares."""
    ids = torch.tensor([[1, 2]])
    even = torch.tensor([[-9.0, 3.0, 3.0, -9.0]])
    assert attribute_loss(even, ids).item() == pytest.approx(math.log(2), abs=1e-4)
    assert attribute_loss(even + torch.tensor([[0, 1.0, -1.0, 0]]), ids) > attribute_loss(even, ids)


def test_gradients_of_the_losses():
    """gradcheck in float64 through both regressions and the attributes."""
    config, objects = tiny_detector_config(rpn_batch_size=10_000), image()
    objects = ImageObjects(objects.boxes.double(), objects.object_ids, objects.attribute_ids, NOTHING.double())
    anchors = boxes_near(objects, 24).double()
    logits, deltas = torch.randn(len(anchors)).double(), torch.randn(len(anchors), 4).double()
    inputs = (logits.requires_grad_(), deltas.requires_grad_())
    assert torch.autograd.gradcheck(
        lambda x, y: tuple(proposal_losses(x, y, anchors, objects=objects, image_size=SIZE, config=config).values()),
        inputs,
    )
    scores = torch.randn(3, 6).double().requires_grad_()
    assert torch.autograd.gradcheck(attribute_loss, (scores, objects.attribute_ids))


# -- several names, and phrases ---------------------------------------------------------------------------------------


def test_any_true_name_is_right_against_slow_twin():
    """-log of the summed probability of the names, box by box; without further names plain cross-entropy."""
    logits = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    object_ids, other_ids = torch.tensor([1, 2, 5, 3]), torch.tensor([[2, 3], [0, 0], [4, 0], [3, 0]])
    found = any_name_loss(logits, object_ids, other_ids)
    for row, first, others, loss in zip(logits, object_ids.tolist(), other_ids.tolist(), found.tolist(), strict=True):
        probs = row.softmax(dim=0).tolist()
        assert loss == pytest.approx(-math.log(sum(probs[i] for i in {first, *others} - {0})), rel=1e-5)
    assert found[1].item() == pytest.approx(-logits[1].log_softmax(dim=0)[2].item(), rel=1e-5)
    assert any_name_loss(logits[:0], object_ids[:0], other_ids[:0]).shape == (0,)


def test_region_losses_take_further_names():
    config, objects = tiny_detector_config(region_batch_size=10_000), image()
    boxes, sampled = sample_regions(boxes_near(objects), objects, config=config)
    logits = torch.randn(len(boxes), 13, generator=torch.Generator().manual_seed(3))
    options: dict[str, Any] = {"sampled": sampled, "config": config}
    plain = region_losses(logits, torch.zeros(len(boxes), 12, 4), boxes, objects=objects, **options)
    for others, same in (([[0], [0], [0]], True), ([[4], [0], [5]], False)):
        objects.other_ids = torch.tensor(others)
        named = region_losses(logits, torch.zeros(len(boxes), 12, 4), boxes, objects=objects, **options)
        wanted = -logits.log_softmax(dim=1)[len(sampled.positive) :, 0].sum()
        wanted += any_name_loss(
            logits[: len(sampled.positive)],
            objects.object_ids[sampled.target],
            torch.tensor(others)[sampled.target],
        ).sum()
        assert named["region_class"].item() == pytest.approx(wanted.item() / len(boxes), rel=1e-5)
        assert (named["region_class"].item() == pytest.approx(plain["region_class"].item(), rel=1e-5)) == same
        assert torch.equal(named["region_box"], plain["region_box"])


def test_phrase_loss_against_slow_twin():
    """Both ways over all pairs; phrases of equal words or of one place are each other's positives."""
    generator = torch.Generator().manual_seed(0)
    regions = torch.nn.functional.normalize(torch.randn(5, 4, generator=generator), dim=1)
    phrases = torch.nn.functional.normalize(torch.randn(5, 4, generator=generator), dim=1)
    phrases[3] = phrases[0]  # the same words in another image
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 11], [20, 20, 40, 30], [0, 0, 10, 10], [0, 0, 10, 10]])
    images = torch.tensor([0, 0, 0, 1, 2])  # rows 0 and 1 are one place, 3 and 4 lie in other images
    positives = [{0, 1, 3}, {0, 1}, {2}, {0, 3}, {4}]
    found = phrase_loss(regions, phrases, boxes=boxes, images=images, temperature=0.5)
    total = 0.0
    for one, other in ((regions, phrases), (phrases, regions)):
        for row in range(5):
            exps = [math.exp(float(one[row] @ other[column]) / 0.5) for column in range(5)]
            chosen = positives[row]
            total -= sum(math.log(exps[column] / sum(exps)) for column in chosen) / len(chosen) / 5 / 2
    assert found.item() == pytest.approx(total, rel=1e-5)
    empty = torch.zeros(0, 4)
    nothing = phrase_loss(empty, empty, boxes=empty, images=torch.zeros(0, dtype=torch.long), temperature=0.5)
    assert nothing.item() == 0


def test_gradients_of_names_and_phrases():
    scores = torch.randn(3, 6).double().requires_grad_()
    ids = torch.tensor([1, 2, 3]), torch.tensor([[4, 5], [0, 0], [2, 0]])
    assert torch.autograd.gradcheck(lambda x: any_name_loss(x, *ids), (scores,))
