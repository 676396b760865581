"""Losses of grounding against slow loops in float64: values and gradients, padding that holds NaN, phrases without any
region of theirs, and none at all."""

import math
from typing import Any

import pytest
import torch

from modeling_updown.grounding_losses_updown import (
    best_region_loss,
    box_loss,
    each_region_loss,
    has_box,
    overlap_loss,
    phrase_overlaps,
)

TEXTS, PHRASES, REGIONS, BOXES = 3, 4, 6, 3
WEIGHTS = (10, 10, 5, 5)
NAN = float("nan")


def slow_iou(first: list[float], second: list[float]) -> float:
    """Of two boxes, number by number."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    shared = max(width, 0) * max(height, 0)
    areas = [max(box[2] - box[0], 0) * max(box[3] - box[1], 0) for box in (first, second)]
    return shared / (sum(areas) - shared) if sum(areas) > shared else 0.0


def scene() -> dict[str, torch.Tensor]:
    """Texts with 6, 4 and 1 regions; phrases of 3, 2, 1 and 0 true boxes; half of the regions lie near a true box."""
    draw = torch.Generator().manual_seed(0)
    corners = torch.rand(TEXTS, PHRASES, BOXES, 2, generator=draw).double() * 0.5
    true = torch.cat([corners, corners + 0.1 + 0.4 * torch.rand(corners.shape, generator=draw)], dim=-1)
    near = true.flatten(1, 2)[:, :: PHRASES * BOXES // REGIONS][:, :REGIONS]
    regions = (near + 0.03 * torch.randn(near.shape, generator=draw)).clamp(0, 1)
    regions[:, 1::2] = torch.tensor([0.0, 0.0, 1.0, 1.0])
    for phrase in range(PHRASES):
        true[:, phrase, BOXES - phrase :] = -1
    mask = torch.arange(REGIONS) < torch.tensor([6, 4, 1])[:, None]
    return {
        "regions": regions.masked_fill(~mask[..., None], NAN),
        "true": true,
        "mask": mask,
        "logits": torch.randn(TEXTS, PHRASES, REGIONS, generator=draw).double(),
        "deltas": torch.randn(TEXTS, PHRASES, REGIONS, 4, generator=draw).double(),
        "there": torch.tensor([[True, True, True, True], [True, True, False, True], [True, False, False, True]]),
    }


def slow_overlap(given: dict[str, torch.Tensor], n: int, k: int, r: int) -> tuple[float, int]:
    boxes = [box for box in given["true"][n, k].tolist() if min(box) >= 0]
    found = [slow_iou(given["regions"][n, r].tolist(), box) for box in boxes] or [0.0]
    return max(found), found.index(max(found))


def slow_losses(given: dict[str, Any], lowest: float) -> dict[str, torch.Tensor]:
    """Every loss, by loops over texts, phrases and regions."""
    sums: dict[str, Any] = {"best": 0.0, "kl": 0.0, "each": 0.0, "box": 0.0}
    boxed = phrases = 0
    for n in range(TEXTS):
        regions = [r for r in range(REGIONS) if given["mask"][n, r]]
        for k in range(PHRASES):
            if not given["there"][n, k]:
                continue
            phrases += 1
            own = {r: slow_overlap(given, n, k, r) for r in regions}
            for r in regions:
                chance = given["logits"][n, k, r].sigmoid()
                sums["each"] = sums["each"] - (chance if own[r][0] >= lowest else 1 - chance).log()
            if given["true"][n, k, 0, 0] < 0:
                continue
            boxed += 1
            total = sum(given["logits"][n, k, r].exp() for r in regions)
            log_p = {r: given["logits"][n, k, r] - total.log() for r in regions}
            best = max(regions, key=lambda r: own[r][0])
            hits = [r for r in regions if own[r][0] >= lowest]
            if not hits:
                continue
            sums["best"] = sums["best"] - log_p[best]
            share = sum(own[r][0] for r in hits)
            for r in hits:
                q = own[r][0] / share
                sums["kl"] = sums["kl"] + q * (math.log(q) - log_p[r])
                moved = slow_regression(given["regions"][n, r].tolist(), given["true"][n, k, own[r][1]].tolist())
                for found, wanted in zip(given["deltas"][n, k, r], moved, strict=True):
                    apart = (found - wanted).abs()
                    sums["box"] = sums["box"] + (apart**2 / 2 if apart < 1 else apart - 0.5) / len(hits)
    counts = {"best": boxed, "kl": boxed, "each": phrases, "box": boxed}
    return {name: value / counts[name] for name, value in sums.items()}


def slow_regression(region: list[float], true: list[float]) -> list[float]:
    sides = [[box[2] - box[0], box[3] - box[1]] for box in (region, true)]
    shifts = [((true[i] + true[i + 2]) - (region[i] + region[i + 2])) / 2 / sides[0][i] for i in (0, 1)]
    growths = [math.log(sides[1][i] / sides[0][i]) for i in (0, 1)]
    return [value * weight for value, weight in zip(shifts + growths, WEIGHTS, strict=True)]


def losses(given: dict[str, torch.Tensor], lowest: float) -> dict[str, torch.Tensor]:
    overlaps, _ = phrase_overlaps(given["regions"], given["true"], given["mask"])
    boxed = given["there"] & has_box(given["true"]).any(dim=-1)
    scored = (given["logits"], overlaps, given["mask"])
    boxes = (given["deltas"], given["regions"], given["true"], given["mask"])
    return {
        "best": best_region_loss(*scored, learnt=boxed, lowest_iou=lowest),
        "kl": overlap_loss(*scored, learnt=boxed, lowest_iou=lowest),
        "each": each_region_loss(*scored, learnt=given["there"], lowest_iou=lowest),
        "box": box_loss(*boxes, learnt=boxed, weights=WEIGHTS, lowest_iou=lowest),
    }


def test_overlaps_are_those_of_the_loops():
    given = scene()
    overlaps, which = phrase_overlaps(given["regions"], given["true"], given["mask"])
    for n in range(TEXTS):
        for k in range(PHRASES):
            for r in range(REGIONS):
                expected = slow_overlap(given, n, k, r) if given["mask"][n, r] else (0.0, 0)
                assert overlaps[n, k, r].item() == pytest.approx(expected[0], abs=1e-9)
                assert expected[0] == 0 or which[n, k, r].item() == expected[1]
    assert (overlaps > 0.5).sum() >= 4 and overlaps[:, 3].eq(0).all()


@pytest.mark.parametrize("lowest", [0.3, 0.5, 0.9])
@pytest.mark.parametrize("name", ["best", "kl", "each", "box"])
def test_losses_and_gradients_are_those_of_the_loops(name, lowest):
    given = scene()
    learnt = "deltas" if name == "box" else "logits"
    gradients = []
    for compute in (losses, slow_losses):
        given[learnt] = given[learnt].detach().requires_grad_()
        loss = compute(given, lowest)[name]
        gradients.append((loss.item(), *torch.autograd.grad(loss, given[learnt])))
    assert gradients[0][0] == pytest.approx(gradients[1][0], abs=1e-9) and gradients[0][0] > 0
    torch.testing.assert_close(gradients[0][1], gradients[1][1], atol=1e-9, rtol=1e-9)


def test_padding_may_hold_anything():
    """Scores and boxes of regions, and of phrases, that are not there."""
    given, dirty = scene(), scene()
    gaps = ~given["mask"][:, None] | ~given["there"][..., None]
    dirty["logits"] = dirty["logits"].masked_fill(gaps, NAN).requires_grad_()
    dirty["deltas"] = dirty["deltas"].masked_fill(gaps[..., None], NAN).requires_grad_()
    dirty["true"] = dirty["true"].masked_fill(~given["there"][..., None, None], 0.5)
    expected, found = losses(given, 0.5), losses(dirty, 0.5)
    for name, loss in found.items():
        assert loss.item() == pytest.approx(expected[name].item(), abs=1e-12), name
    sum(found.values()).backward()
    for learnt in ("logits", "deltas"):
        assert dirty[learnt].grad.isfinite().all() and dirty[learnt].grad[gaps].eq(0).all()


def test_phrases_without_a_region_of_theirs():
    """They add nothing to the mean but are counted in it; each region by itself learns that it is not theirs."""
    regions = torch.tensor([[[0.0, 0.0, 0.1, 0.1], [0.5, 0.5, 0.9, 0.9]]])
    true = torch.tensor([[[[0.5, 0.5, 0.9, 0.9]], [[0.0, 0.0, 0.9, 0.9]], [[-1.0, -1.0, -1.0, -1.0]]]])
    mask, logits = torch.ones(1, 2).bool(), torch.zeros(1, 3, 2, requires_grad=True)
    overlaps, _ = phrase_overlaps(regions, true, mask)
    boxed = has_box(true).any(dim=-1)
    assert boxed.tolist() == [[True, True, False]]
    for loss in (best_region_loss, overlap_loss):
        assert loss(logits, overlaps, mask, learnt=boxed).item() == pytest.approx(math.log(2) / 2)
    everything = torch.ones(1, 3).bool()
    assert each_region_loss(logits, overlaps, mask, learnt=everything).item() == pytest.approx(2 * math.log(2))
    none = torch.zeros(1, 3).bool()
    deltas = torch.zeros(1, 3, 2, 4, requires_grad=True)
    sums = [loss(logits, overlaps, mask, learnt=none) for loss in (best_region_loss, overlap_loss, each_region_loss)]
    sums.append(box_loss(deltas, regions, true, mask, learnt=none, weights=WEIGHTS))
    assert [loss.item() for loss in sums] == [0, 0, 0, 0]
    sum(sums).backward()
    assert logits.grad.eq(0).all() and deltas.grad.eq(0).all()


def test_half_precision_is_computed_in_float32():
    given = scene()
    half = {name: value.bfloat16() if value.is_floating_point() else value for name, value in given.items()}
    half["regions"] = given["regions"].float()
    for name, loss in losses(half, 0.5).items():
        assert loss.dtype == torch.float32
        assert loss.item() == pytest.approx(losses(given, 0.5)[name].item(), rel=0.05), name
