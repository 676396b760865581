"""Top-down attention against the paper's equations 3 to 5, one region at a time."""

import pytest
import torch

from modeling_updown.modeling_attention import TopDownAttention, masked_softmax

PHOTOS, ROWS, REGIONS, WIDTH, QUERY = 3, 2, 5, 8, 6


def made(*, bias: bool) -> tuple[TopDownAttention, torch.Tensor, torch.Tensor, torch.Tensor]:
    """attention, regions (P, R, D), queries (P x S, H), mask (P, R) with 5, 3 and 1 real regions."""
    torch.manual_seed(0)
    attention = TopDownAttention(region_size=WIDTH, query_size=QUERY, attention_size=4, bias=bias)
    mask = torch.arange(REGIONS) < torch.tensor([5, 3, 1])[:, None]
    return attention, torch.randn(PHOTOS, REGIONS, WIDTH), torch.randn(PHOTOS * ROWS, QUERY), mask


@pytest.mark.parametrize("bias", [False, True])
def test_equations_of_the_paper(bias):
    attention, regions, queries, mask = made(bias=bias)
    attended, weights = attention(queries, attention.project_regions(regions), regions, mask)
    for row in range(PHOTOS * ROWS):
        real = regions[row // ROWS][mask[row // ROWS]]
        scores = []
        for region in real:
            hidden = attention.project_regions(region) + attention.project_query(queries[row])
            scores.append(attention.score(hidden.tanh()))
        alpha = torch.cat(scores).exp() / torch.cat(scores).exp().sum()
        torch.testing.assert_close(weights[row, : len(real)], alpha)
        torch.testing.assert_close(attended[row], (alpha[:, None] * real).sum(dim=0))
        assert weights[row, len(real) :].tolist() == [0.0] * (REGIONS - len(real))


@pytest.mark.parametrize("rows", [[0, 1, 2, 3, 4, 5], [5, 0, 3], [2], [4, 4, 1]])
def test_some_rows_equal_those_of_all(rows):
    attention, regions, queries, mask = made(bias=True)
    keys, index = attention.project_regions(regions), torch.tensor(rows)
    expected = attention(queries, keys, regions, mask)
    found = attention(queries[index], keys, regions, mask, rows=index, rows_per_photo=ROWS)
    for mine, of_all in zip(found, expected, strict=True):
        if len(set(rows)) == len(rows):
            torch.testing.assert_close(mine, of_all[index])


def test_gradients_of_some_rows_equal_those_of_all():
    attention, regions, queries, mask = made(bias=True)
    index, gradients = torch.tensor([4, 0, 3]), []
    for rows in (None, index):
        features, given = regions.clone().requires_grad_(), queries.clone().requires_grad_()
        attention.zero_grad()
        keys = attention.project_regions(features)
        if rows is None:
            attended = attention(given, keys, features, mask)[0][index]
        else:
            attended = attention(given[rows], keys, features, mask, rows=rows, rows_per_photo=ROWS)[0]
        attended.square().sum().backward()
        gradients.append([features.grad, given.grad, *(p.grad.clone() for p in attention.parameters())])
    torch.testing.assert_close(gradients[0], gradients[1])


def test_masked_softmax():
    scores = torch.tensor([[1.0, 2.0, 700.0], [-1e4, -1e4, 0.0]])
    mask = torch.tensor([[True, True, False], [True, True, False]])
    weights = masked_softmax(scores, mask)
    torch.testing.assert_close(weights[0], torch.tensor([0.26894143, 0.7310586, 0.0]))
    assert weights[1].tolist() == [0.5, 0.5, 0.0]  # softmax first and masking after, as some do, would divide 0 by 0
