"""Word-region alignment: the plan and its cost against loops, the reference's own figures and the best assignment."""

import itertools
import math

import pytest
import torch
from safetensors.torch import load_file

from modeling_updown.transport_updown import transport_distance, transport_plan, word_region_alignment_loss
from tests.shared_files import shared

Rows = list[list[float]]


def slow_transport(words: Rows, regions: Rows, *, beta: float = 0.5, iterations: int = 50) -> tuple[float, Rows]:
    """One pair without padding, number by number: the cost of the plan, and the plan, word by word."""

    def unit(state: list[float]) -> list[float]:
        length = max(math.sqrt(sum(x * x for x in state)), 1e-5)
        return [x / length for x in state]

    units, targets = [unit(word) for word in words], [unit(region) for region in regions]
    cost = [[1 - sum(a * b for a, b in zip(w, r, strict=True)) for r in targets] for w in units]
    many, others = len(words), len(regions)
    plan = [[1.0] * others for _ in range(many)]
    shares = [1 / many] * many
    for _ in range(iterations):
        step = [[math.exp(-cost[i][j] / beta) * plan[i][j] for j in range(others)] for i in range(many)]
        scales = [1 / (others * sum(step[i][j] * shares[i] for i in range(many))) for j in range(others)]
        shares = [1 / (many * sum(step[i][j] * scales[j] for j in range(others))) for i in range(many)]
        plan = [[shares[i] * step[i][j] * scales[j] for j in range(others)] for i in range(many)]
    return sum(plan[i][j] * cost[i][j] for i in range(many) for j in range(others)), plan


def ragged() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Three pairs of 5, 2 and 1 words with 4, 3 and 1 regions; NaN on padding would show."""
    draw = torch.Generator().manual_seed(0)
    words, regions = (torch.randn(3, size, 6, generator=draw, dtype=torch.float64) for size in (5, 4))
    word_mask = torch.arange(5) < torch.tensor([[5], [2], [1]])
    region_mask = torch.arange(4) < torch.tensor([[4], [3], [1]])
    return words, regions, word_mask, region_mask


@pytest.mark.parametrize("options", [{}, {"beta": 0.1, "iterations": 20}, {"iterations": 1}])
def test_the_plan_is_that_of_loops(options: dict[str, float]) -> None:
    words, regions, word_mask, region_mask = ragged()
    distances = transport_distance(words, regions, word_mask, region_mask, **options)  # type: ignore[arg-type]
    for row in range(3):
        real = (words[row][word_mask[row]].tolist(), regions[row][region_mask[row]].tolist())
        expected, plan = slow_transport(*real, **options)  # type: ignore[arg-type]
        assert distances[row].item() == pytest.approx(expected, abs=1e-10)
        units = [torch.nn.functional.normalize(states[row : row + 1], dim=-1) for states in (words, regions)]
        cost = 1 - units[0] @ units[1].transpose(1, 2)
        found = transport_plan(cost, word_mask[row : row + 1], region_mask[row : row + 1], **options)[0]  # type: ignore[arg-type]
        torch.testing.assert_close(found[word_mask[row]][:, region_mask[row]], torch.tensor(plan, dtype=torch.float64))
        assert found.sum().item() == pytest.approx(1.0) and found[~word_mask[row]].sum() == 0
        shares = torch.full((int(word_mask[row].sum()),), 1 / int(word_mask[row].sum()), dtype=torch.float64)
        torch.testing.assert_close(found.sum(dim=1)[word_mask[row]], shares)


@pytest.mark.parametrize("name", ["ot", "ot_rand"])
def test_the_plan_and_its_gradient_are_uniters(name: str) -> None:
    golden = load_file(shared("golden/reference/uniter.safetensors"))
    words, regions = (golden[f"in.{name}.{kind}_emb"].requires_grad_() for kind in ("txt", "img"))
    masks = [~golden[f"in.ot.{kind}_pad"] for kind in ("txt", "img")]
    for suffix, options in (("", {}), (".b0.1_i20", {"beta": 0.1, "iterations": 20}), (".i1", {"iterations": 1})):
        found = transport_distance(words, regions, *masks, **options)  # type: ignore[arg-type]
        torch.testing.assert_close(found, golden[f"out.{name}.dist{suffix}"], atol=1e-9, rtol=1e-9)
        cost = golden[f"out.{name}.cost_unmasked"]
        plan = transport_plan(cost, *masks, **options)  # type: ignore[arg-type]
        torch.testing.assert_close(plan.transpose(1, 2), golden[f"out.{name}.plan{suffix}"], atol=1e-9, rtol=1e-9)
    transport_distance(words, regions, *masks).sum().backward()
    for kind, states in (("txt", words), ("img", regions)):
        torch.testing.assert_close(states.grad, golden[f"grad.{name}.{kind}_emb"], atol=1e-9, rtol=1e-9)


def test_the_loss_is_uniters() -> None:
    golden = load_file(shared("golden/reference/uniter.safetensors"))
    right, wrong = golden["out.itm.ot_pos"], golden["out.itm.ot_neg"]
    labels = torch.tensor([1] * len(right) + [0] * len(wrong))
    found = word_region_alignment_loss(torch.cat([right, wrong]), labels)
    torch.testing.assert_close(found, golden["out.itm.ot_loss"], atol=1e-7, rtol=1e-6)


def test_many_steps_find_the_best_assignment() -> None:
    """Of as many regions as words the cheapest plan gives each word a region of its own."""
    draw = torch.Generator().manual_seed(3)
    words, regions = (torch.randn(1, 6, 4, generator=draw, dtype=torch.float64) for _ in range(2))
    everything = torch.ones(1, 6, dtype=torch.bool)
    units = [torch.nn.functional.normalize(states[0], dim=-1) for states in (words, regions)]
    cost = 1 - units[0] @ units[1].T
    best = min(cost[range(6), order].mean().item() for order in itertools.permutations(range(6)))
    found = [transport_distance(words, regions, everything, everything, iterations=n).item() for n in (1, 50, 3000)]
    assert found[0] > found[1] > found[2] and found[2] == pytest.approx(best, abs=1e-3)


def test_half_precision_is_summed_in_float32() -> None:
    words, regions, *masks = ragged()
    exact = transport_distance(words, regions, *masks)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = transport_distance(words.bfloat16(), regions.bfloat16(), *masks)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), exact, atol=0.02, rtol=0)


def test_padding_may_hold_anything() -> None:
    words, regions, word_mask, region_mask = ragged()
    expected = transport_distance(words, regions, word_mask, region_mask)
    words[~word_mask], regions[~region_mask] = torch.nan, torch.inf
    words.requires_grad_()
    found = transport_distance(words, regions, word_mask, region_mask)
    torch.testing.assert_close(found, expected)
    found.sum().backward()
    assert words.grad is not None and words.grad.isfinite().all()
