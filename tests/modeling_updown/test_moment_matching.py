"""The cheapest matching against every other one, and what cannot be matched."""

import itertools

import pytest
import torch

from modeling_updown.moment_losses_updown import match_queries
from modeling_updown.moment_matching_updown import LARGEST_SIDE, cheapest_pairs


def cheapest_by_trying(costs: torch.Tensor) -> float:
    """The cost of the cheapest of all matchings."""
    wide = costs if costs.shape[0] <= costs.shape[1] else costs.T
    rows = range(wide.shape[0])
    return min(
        sum(wide[row, column].item() for row, column in zip(rows, columns, strict=True))
        for columns in itertools.permutations(range(wide.shape[1]), wide.shape[0])
    )


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (5, 1), (3, 3), (4, 6), (6, 4), (5, 5)])
def test_the_cheapest_of_all_matchings_is_found(shape):
    draw = torch.Generator().manual_seed(0)
    for _ in range(12):
        costs = torch.randn(*shape, generator=draw, dtype=torch.float64)
        rows, columns = cheapest_pairs(costs)
        assert len(rows) == min(shape) and len(set(columns.tolist())) == min(shape)
        assert rows.tolist() == sorted(set(rows.tolist()))
        assert costs[rows, columns].sum().item() == pytest.approx(cheapest_by_trying(costs), abs=1e-9)


@pytest.mark.parametrize("shape", [(4, 4), (3, 5), (5, 3)])
def test_equal_costs_are_matched_as_cheaply(shape):
    draw = torch.Generator().manual_seed(1)
    for _ in range(20):
        costs = torch.randint(0, 3, shape, generator=draw).double()
        rows, columns = cheapest_pairs(costs)
        assert costs[rows, columns].sum().item() == cheapest_by_trying(costs)


def test_a_constant_for_each_row_and_column_changes_no_pair():
    costs = torch.randn(30, 50, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    moved = costs + torch.linspace(-9, 9, 30)[:, None]
    assert [side.tolist() for side in cheapest_pairs(moved)] == [side.tolist() for side in cheapest_pairs(costs)]
    rows, columns = cheapest_pairs(costs)
    swapped, back = cheapest_pairs(costs.T)
    assert sorted(zip(back.tolist(), swapped.tolist(), strict=True)) == list(
        zip(rows.tolist(), columns.tolist(), strict=True)
    )


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)])
def test_nothing_is_matched_with_nothing(shape):
    assert [side.numel() for side in cheapest_pairs(torch.zeros(shape))] == [0, 0]


def test_what_cannot_be_matched_is_refused():
    with pytest.raises(ValueError, match="hold NaN or infinity"):
        cheapest_pairs(torch.tensor([[0.0, float("nan")]]))
    with pytest.raises(ValueError, match="hold NaN or infinity"):
        cheapest_pairs(torch.tensor([[0.0, float("inf")]]))
    for shape in ((2,), (1, 2, 3), (LARGEST_SIDE + 1, 1)):
        with pytest.raises(ValueError, match="costs have shape"):
            cheapest_pairs(torch.zeros(shape))


def test_every_sentence_is_matched_by_itself():
    costs = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(3))
    there = torch.tensor([[True, False, True, False, False], [False] * 5, [True] * 5])
    row, query, span = match_queries(costs, there)
    assert torch.bincount(row, minlength=3).tolist() == [2, 0, 4]  # four queries for five spans
    for number in (0, 2):
        own, places = costs[number][:, there[number]], there[number].nonzero().flatten()
        rows, columns = cheapest_pairs(own)
        assert query[row == number].tolist() == rows.tolist()
        assert span[row == number].tolist() == places[columns].tolist()
