"""Losses and functions of spans against slow twins; what is not there teaches nothing."""

import math

import pytest
import torch

from modeling_updown.moment_losses_updown import (
    alignment_loss,
    bin_costs,
    bin_loss,
    label_loss,
    map_loss,
    saliency_loss,
    scaled_overlaps,
    span_losses,
)
from modeling_updown.moment_spans_updown import (
    centre_width,
    generalized_span_iou,
    kept_spans,
    ranked_spans,
    rounded_spans,
    span_iou,
    start_end,
)

NOTHING = tuple(torch.zeros(0, dtype=torch.long) for _ in range(3))
MATCHED = (torch.tensor([0, 0, 1]), torch.tensor([1, 3, 0]), torch.tensor([1, 0, 0]))


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def spans_of(count: int, seed: int = 0) -> torch.Tensor:
    return drawn(count, 2, seed=seed).sort(dim=-1).values


def test_overlaps_are_those_of_intervals():
    ours, others = spans_of(6), spans_of(5, seed=1)
    iou, generalized = span_iou(ours, others)[0], generalized_span_iou(ours, others)
    for i, (a, b) in enumerate(ours.tolist()):
        for j, (c, d) in enumerate(others.tolist()):
            overlap, hull = max(0.0, min(b, d) - max(a, c)), max(b, d) - min(a, c)
            union = (b - a) + (d - c) - overlap
            assert iou[i, j].item() == pytest.approx(overlap / union)
            assert generalized[i, j].item() == pytest.approx(overlap / union - (hull - union) / hull)
    assert torch.allclose(start_end(centre_width(ours)), ours)


def test_empty_spans_have_no_overlap_and_no_nan():
    empty, whole = torch.tensor([[2.0, 2.0]]), torch.tensor([[0.0, 4.0]])
    for others in (empty, whole):
        assert span_iou(empty, others)[0].item() == 0
    assert generalized_span_iou(empty, empty).item() == 0 and generalized_span_iou(empty, whole).item() == 0


def test_suppression_is_that_of_a_loop():
    spans, kept = spans_of(30), []
    for place in range(30):
        overlaps = [span_iou(spans[place : place + 1], spans[one : one + 1])[0].item() for one in kept]
        if all(overlap <= 0.4 for overlap in overlaps):
            kept.append(place)
    assert 1 < len(kept) < 30
    assert kept_spans(spans, max_iou=0.4).tolist() == kept
    scores = drawn(30, seed=2)
    order = scores.argsort(descending=True)
    best = ranked_spans(spans, scores, max_iou=0.4, most=3)
    assert torch.equal(best[:, :2], spans[order][kept_spans(spans[order], max_iou=0.4)][:3])
    assert best[:, 2].tolist() == sorted(best[:, 2].tolist(), reverse=True)
    assert len(ranked_spans(spans, scores)) == 30 and len(ranked_spans(spans[:0], scores[:0], max_iou=0.4)) == 0


def test_ends_are_rounded_and_stay_in_the_clip():
    spans, durations = torch.tensor([[1.0, 4.9], [3.0, 27.0]]), torch.tensor([10.0, 27.0])
    assert rounded_spans(spans, durations, seconds=2).tolist() == [[0.0, 4.0], [4.0, 27.0]]  # 14 x 2 is behind the end


def test_labels_are_weighed_by_class_and_averaged_over_queries():
    logits = drawn(2, 4, 2)
    ours = label_loss(logits, MATCHED, background_weight=0.3)
    total, foreground = 0.0, {(0, 1), (0, 3), (1, 0)}
    for row in range(2):
        for query in range(4):
            first, second = logits[row, query].exp().tolist()
            meant = (row, query) in foreground
            total -= (1.0 if meant else 0.3) * math.log((first if meant else second) / (first + second))
    assert ours.item() == pytest.approx(total / 8)
    assert label_loss(logits, NOTHING, background_weight=0.0).item() == 0


def test_spans_are_averaged_over_pairs():
    spans, wanted = drawn(2, 4, 2), drawn(2, 2, 2, seed=1)
    losses = span_losses(spans, wanted, MATCHED)
    pairs = [(spans[r, q], wanted[r, s]) for r, q, s in zip(*(side.tolist() for side in MATCHED), strict=True)]
    distance = sum((found - true).abs().sum().item() for found, true in pairs) / 6
    apart = sum(1 - generalized_span_iou(start_end(f)[None], start_end(t)[None]).item() for f, t in pairs) / 3
    assert losses["span"].item() == pytest.approx(distance) and losses["giou"].item() == pytest.approx(apart)
    assert all(loss.item() == 0 for loss in span_losses(spans, wanted, NOTHING).values())


def test_bins_are_classes_of_start_and_end():
    bins, wanted = drawn(2, 4, 2, 6), torch.randint(0, 6, (2, 2, 2), generator=torch.Generator().manual_seed(1))
    rows = list(zip(*(side.tolist() for side in MATCHED), strict=True))
    each = [-bins[r, q, side].log_softmax(-1)[wanted[r, s, side]].item() for r, q, s in rows for side in (0, 1)]
    assert bin_loss(bins, wanted, MATCHED).item() == pytest.approx(sum(each) / 6)
    assert bin_loss(bins, wanted, NOTHING).item() == 0
    costs = bin_costs(bins, wanted)
    chances = bins.softmax(dim=-1)
    for row, query, span in itertools_product(2, 4, 2):
        start, end = wanted[row, span].tolist()
        expected = -(chances[row, query, 0, start] + chances[row, query, 1, end])
        assert costs[row, query, span].item() == pytest.approx(expected.item())


def itertools_product(*counts: int) -> list[tuple[int, ...]]:
    """Every place in a table of those sides."""
    return [tuple(place) for place in torch.cartesian_prod(*map(torch.arange, counts)).tolist()]


def test_pairs_that_are_not_there_teach_no_saliency():
    scores = drawn(2, 5)
    pairs = torch.tensor([[[0, 1], [3, 2]], [[4, 4], [-1, -1]]])
    each = [max(0.0, 0.2 + scores[r, b].item() - scores[r, a].item()) for r, a, b in ((0, 0, 1), (0, 3, 2), (1, 4, 4))]
    assert saliency_loss(scores, pairs, margin=0.2).item() == pytest.approx(2 * sum(each) / 3)
    assert saliency_loss(scores, pairs[:, :0], margin=0.2).item() == 0
    assert saliency_loss(scores, torch.full_like(pairs, -1), margin=0.2).item() == 0


@pytest.mark.parametrize("padding", [False, True])
def test_matched_queries_are_contrasted_with_the_others(padding):
    queries, words = drawn(3, 4, 6), drawn(3, 5, 6, seed=1)
    mask = torch.tensor([[True] * 5, [True, True, False, False, False], [True] * 5])
    ours = alignment_loss(queries, words, mask, MATCHED, temperature=0.5, padding=padding)
    each = []
    for row, own in ((0, [1, 3]), (1, [0])):  # the third sentence has no matched query
        seen = words[row] if padding else words[row][mask[row]]
        logits = (queries[row] @ seen.T).sum(dim=1) / 0.5
        each.append((logits.logsumexp(0) - logits[own].mean()).item())
    assert ours.item() == pytest.approx(sum(each) / 2)
    assert alignment_loss(queries, words, mask, NOTHING, temperature=0.5).item() == 0


def test_overlaps_are_scaled_between_two_ious():
    segments, wanted = spans_of(7)[None], spans_of(3, seed=1)[None]
    there = torch.tensor([[True, True, False]])
    ours = scaled_overlaps(segments, wanted, there, lowest=0.2, highest=0.6)
    for place in range(7):
        best = max(span_iou(segments[0, place : place + 1], wanted[0, i : i + 1])[0].item() for i in (0, 1))
        assert ours[0, place].item() == pytest.approx(min(1.0, max(0.0, (best - 0.2) / 0.4)))
    assert not scaled_overlaps(segments, wanted, ~there & there, lowest=0.2, highest=0.6).any()
    assert not scaled_overlaps(segments, wanted[:, :0], there[:, :0], lowest=0.2, highest=0.6).any()
    logits = drawn(1, 7)
    expected = -(ours * logits.sigmoid().log() + (1 - ours) * (1 - logits.sigmoid()).log()).mean()
    assert map_loss(logits, ours).item() == pytest.approx(expected.item())
