"""Counting from attention against the equations of Zhang, Hare and Prugel-Bennett 2018, one pair of regions a time."""

import itertools
import math
from collections.abc import Sequence

import pytest
import torch

from modeling_updown.counting_updown import ObjectCounter, RisingFunction

SURE = 60.0  # a score whose sigmoid is 1 in float32


def slow_rise(slopes: Sequence[float], value: float) -> float:
    """The piecewise linear function: the area under its slopes up to `value`, of 1 altogether."""
    pieces, total = len(slopes), sum(abs(slope) for slope in slopes)
    return sum(abs(slope) / total * min(max(value * pieces - piece, 0), 1) for piece, slope in enumerate(slopes))


def slow_iou(a: Sequence[float], b: Sequence[float]) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
    return width * height / union if union else 0.0


def slow_counts(counter: ObjectCounter, scores: Sequence[float], boxes: Sequence[Sequence[float]]) -> list[float]:
    """The counting component on the real regions of one image, by loops: sections 4.2.1 to 4.2.3 of the paper."""
    count = counter.num_objects
    f = [function.slopes.double().tolist() for function in counter.functions]
    order = sorted(range(len(scores)), key=lambda region: -scores[region])[:count]
    a = [1 / (1 + math.exp(-scores[region])) for region in order] + [0.0] * (count - len(order))
    chosen = [boxes[region] for region in order] + [[0.0] * 4] * (count - len(order))
    every = range(count)
    d = [[1 - slow_iou(chosen[i], chosen[j]) for j in every] for i in every]
    kept = [[slow_rise(f[0], a[i] * a[j]) * slow_rise(f[1], d[i][j]) for j in every] for i in every]
    x = [[slow_rise(f[3], a[i] * a[j]) * slow_rise(f[4], d[i][j]) for j in every] for i in every]
    s = []
    for i in every:
        same = 0.0
        for j in every:
            alike = slow_rise(f[2], 1 - abs(a[i] - a[j]))
            same += alike * math.prod(slow_rise(f[2], 1 - abs(x[i][k] - x[j][k])) for k in every)
        s.append(1 / same)
    edges = sum(kept[i][j] * s[i] * s[j] for i, j in itertools.product(every, every))
    edges += sum(slow_rise(f[0], a[i] * a[i]) * s[i] for i in every)
    number = min(math.sqrt(edges + 1e-20), count)
    sure = sum(abs(slow_rise(f[5], value) - 0.5) for value in a) / count
    sure += sum(abs(slow_rise(f[6], d[i][j]) - 0.5) for i, j in itertools.product(every, every)) / count**2
    confidence = slow_rise(f[7], sure)
    return [confidence * max(0.0, 1 - abs(number - n)) for n in range(count + 1)]


def apart(count: int) -> torch.Tensor:
    """Boxes in a row that do not touch: (count, 4)."""
    left = torch.arange(count) / max(count, 1)
    return torch.stack([left, torch.zeros(count), left + 0.5 / max(count, 1), torch.ones(count)], dim=1)


def counts_of(counter: ObjectCounter, scores: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    """Of one image whose regions are all real."""
    return counter(scores[None], boxes[None], torch.ones(1, len(scores), dtype=torch.bool))[0]


def bent(num_objects: int) -> ObjectCounter:
    """With eight different functions, as after training; some slopes negative, one function without any slope in
    its first half."""
    counter = ObjectCounter(num_objects=num_objects)
    with torch.no_grad():
        for function in counter.functions:
            function.slopes.normal_()
        counter.functions[1].slopes[:8] = 0
    return counter


@pytest.mark.parametrize("num_regions", [2, 5, 9])
@pytest.mark.parametrize("num_objects", [1, 3, 5])
def test_equations_of_the_paper(num_objects, num_regions):
    """Random scores and overlapping boxes, with new and with bent functions, with fewer and more regions than K."""
    for counter in (ObjectCounter(num_objects=num_objects), bent(num_objects)):
        scores, corners = torch.randn(3, num_regions) * 2, torch.rand(3, num_regions, 2) * 0.6
        boxes = torch.cat([corners, corners + 0.1 + torch.rand(3, num_regions, 2) * 0.4], dim=-1)
        counts = counter(scores, boxes, torch.ones(3, num_regions, dtype=torch.bool))
        expected = [
            slow_counts(counter, *image) for image in zip(scores.double().tolist(), boxes.tolist(), strict=True)
        ]
        torch.testing.assert_close(counts, torch.tensor(expected), atol=2e-5, rtol=1e-4)
        assert counts.min() >= 0 and counts.sum(dim=1).max() <= 1 + 1e-5


@pytest.mark.parametrize("objects", range(6))
def test_boxes_apart_are_counted_exactly(objects):
    """0 to K of eight boxes attended to wholly, the others not at all."""
    scores = torch.where(torch.arange(8) < objects, SURE, -SURE)[torch.randperm(8)]
    counts = counts_of(ObjectCounter(num_objects=5), scores, apart(8))
    expected = torch.zeros(6)
    expected[objects] = 1
    torch.testing.assert_close(counts, expected, atol=1e-4, rtol=0)


def test_more_than_it_can_count_is_as_many_as_it_can():
    counts = counts_of(ObjectCounter(num_objects=3), torch.full((7,), SURE), apart(7))
    torch.testing.assert_close(counts, torch.tensor([0.0, 0.0, 0.0, 1.0]), atol=1e-5, rtol=0)


@pytest.mark.parametrize("copies", [[1, 1, 1], [3, 1, 1], [2, 3, 1], [6]])
def test_boxes_on_the_same_object_are_one(copies):
    boxes = apart(len(copies)).repeat_interleave(torch.tensor(copies), dim=0)[torch.randperm(sum(copies))]
    counts = counts_of(ObjectCounter(num_objects=6), torch.full((len(boxes),), SURE), boxes)
    expected = torch.zeros(7)
    expected[len(copies)] = 1
    torch.testing.assert_close(counts, expected, atol=1e-3, rtol=0)


def test_between_two_numbers():
    """One object wholly attended to and another half: between 1 and 2, and less sure."""
    counts = counts_of(ObjectCounter(num_objects=3), torch.tensor([SURE, 0.0]), apart(2))
    assert counts[0] == counts[3] == 0 and counts[1] > 0 and counts[2] > 0
    assert counts.sum() < 0.9


def test_fewer_regions_than_it_can_count():
    """Two real regions, alone and beside padding of any content; K is 5."""
    counter, boxes = bent(5), apart(2)
    scores = torch.tensor([2.0, 0.5])
    alone = counts_of(counter, scores, boxes)
    torch.testing.assert_close(
        alone, torch.tensor(slow_counts(counter, scores.tolist(), boxes.tolist())), atol=2e-5, rtol=1e-4
    )
    for filler in ([0.0] * 4, [0.1, 0.2, 0.8, 0.9], [float("nan")] * 4):
        padded = counter(
            torch.cat([scores, torch.full((6,), filler[-1])])[None],
            torch.cat([boxes, torch.tensor(filler).expand(6, 4)])[None],
            (torch.arange(8) < 2)[None],
        )
        torch.testing.assert_close(padded[0], alone)


def test_order_and_batch_do_not_matter():
    counter, scores, boxes = bent(4), torch.randn(2, 6), apart(6) * 0.9
    order = torch.randperm(6)
    both = counter(scores, boxes.expand(2, 6, 4), torch.ones(2, 6, dtype=torch.bool))
    for row in range(2):
        torch.testing.assert_close(both[row], counts_of(counter, scores[row][order], boxes[order]))


@pytest.mark.parametrize("scale", [0.0, 1.0, 30.0, 1000.0])
def test_gradients_are_finite(scale):
    """Of scores that are all the same, all sure, or of which nothing is left in float32; of empty boxes as well."""
    for sign in (1, -1):
        counter = ObjectCounter(num_objects=4)
        scores = (sign * scale * torch.ones(2, 6)).requires_grad_()
        boxes = torch.stack([apart(6), torch.zeros(6, 4)])
        counts = counter(scores, boxes, torch.ones(2, 6, dtype=torch.bool))
        (counts * torch.arange(5)).sum().backward()
        assert counts.isfinite().all() and scores.grad.isfinite().all()
        assert all(function.slopes.grad.isfinite().all() for function in counter.functions)


def test_every_function_learns():
    counter = bent(4)
    scores, boxes = torch.randn(8, 6).requires_grad_(), torch.rand(8, 6, 2) * 0.5
    boxes = torch.cat([boxes, boxes + 0.4], dim=-1)
    counts = counter(scores, boxes, torch.ones(8, 6, dtype=torch.bool))
    (counts * torch.arange(5)).sum().backward()
    assert scores.grad.abs().sum() > 0
    for function in counter.functions:
        assert function.slopes.grad.abs().max() > 0


class TestRisingFunction:
    def test_slow_twin(self):
        function = RisingFunction()
        with torch.no_grad():
            function.slopes.normal_()
        values = torch.linspace(0, 1, 101)
        expected = torch.tensor([slow_rise(function.slopes.tolist(), value) for value in values.tolist()])
        torch.testing.assert_close(function(values), expected, atol=1e-6, rtol=1e-5)

    def test_ends_and_rises(self):
        function = RisingFunction()
        with torch.no_grad():
            function.slopes.normal_()
        values = function(torch.linspace(0, 1, 200))
        assert values[0] == 0 and abs(values[-1] - 1) < 1e-6
        assert (values[1:] >= values[:-1]).all()

    def test_new_one_changes_nothing_and_values_are_cut_at_its_ends(self):
        values = torch.tensor([-0.5, 0.0, 0.3, 1.0, 1.5])
        torch.testing.assert_close(RisingFunction()(values), values.clamp(0, 1))

    def test_gradient(self):
        function = RisingFunction().double()
        values = torch.tensor([0.01, 0.3, 0.77], dtype=torch.float64).requires_grad_()
        assert torch.autograd.gradcheck(function, (values,))
