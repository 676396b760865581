"""Top-down attention against the paper's equations 3 to 5, one region at a time, and the layers of question answering;
their attention as a whole is in test_vqa.py."""

import pytest
import torch

from modeling_updown.linear_updown import NormedLinear
from modeling_updown.modeling_attention import (
    GatedLayer,
    TextRows,
    TopDownAttention,
    masked_softmax,
)

IMAGES, ROWS, REGIONS, WIDTH, QUERY = 3, 2, 5, 8, 6


def made(*, bias: bool) -> tuple[TopDownAttention, torch.Tensor, torch.Tensor, torch.Tensor]:
    """attention, regions (P, R, D), queries (P x S, H), mask (P, R) with 5, 3 and 1 real regions."""
    torch.manual_seed(0)
    attention = TopDownAttention(region_size=WIDTH, query_size=QUERY, attention_size=4, bias=bias)
    mask = torch.arange(REGIONS) < torch.tensor([5, 3, 1])[:, None]
    return attention, torch.randn(IMAGES, REGIONS, WIDTH), torch.randn(IMAGES * ROWS, QUERY), mask


@pytest.mark.parametrize("bias", [False, True])
def test_equations_of_the_paper(bias):
    attention, regions, queries, mask = made(bias=bias)
    attended, weights = attention(queries, attention.project_regions(regions), regions, mask)
    for row in range(IMAGES * ROWS):
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
    found = attention(queries[index], keys, regions, mask, rows=index, rows_per_image=ROWS)
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
            attended = attention(given[rows], keys, features, mask, rows=rows, rows_per_image=ROWS)[0]
        attended.square().sum().backward()
        gradients.append([features.grad, given.grad, *(p.grad.clone() for p in attention.parameters())])
    torch.testing.assert_close(gradients[0], gradients[1])


def test_masked_softmax():
    scores = torch.tensor([[1.0, 2.0, 700.0], [-1e4, -1e4, 0.0]])
    mask = torch.tensor([[True, True, False], [True, True, False]])
    weights = masked_softmax(scores, mask)
    torch.testing.assert_close(weights[0], torch.tensor([0.26894143, 0.7310586, 0.0]))
    assert weights[1].tolist() == [0.5, 0.5, 0.0]  # softmax first and masking after, as some do, would divide 0 by 0


def test_weight_norm_is_torchs():
    """One length for the whole matrix: outputs, and gradients of direction, length, bias and input."""
    ours, torchs = NormedLinear(5, 4), torch.nn.Linear(5, 4)
    torchs = torch.nn.utils.parametrizations.weight_norm(torchs, dim=None)
    length, direction = torchs.parametrizations.weight.original0, torchs.parametrizations.weight.original1
    with torch.no_grad():
        ours.gain.copy_(length.fill_(2.5))
        ours.weight.copy_(direction)
        ours.bias.copy_(torchs.bias)
    results, given = [], torch.randn(3, 5)
    for layer in (ours, torchs):
        inputs = given.clone().requires_grad_()
        outputs = layer(inputs)
        outputs.square().sum().backward()
        results.append([outputs, inputs.grad, layer.bias.grad])
    torch.testing.assert_close(results[0], results[1])
    torch.testing.assert_close(ours.weight.grad, direction.grad)
    torch.testing.assert_close(ours.gain.grad, length.grad.squeeze())


@pytest.mark.parametrize("weight_norm", [False, True])
def test_gated_tanh_and_relu(weight_norm):
    inputs = torch.randn(3, 5)
    for activation in ("gated_tanh", "relu"):
        layer = GatedLayer(5, 4, activation=activation, weight_norm=weight_norm)
        weight = layer.linear.effective_weight() if weight_norm else layer.linear.weight
        products = inputs @ weight.T + layer.linear.bias
        expected = products.relu() if activation == "relu" else products[:, :4].tanh() * products[:, 4:].sigmoid()
        torch.testing.assert_close(layer(inputs), expected)


@pytest.mark.parametrize("index", [None, [0, 1, 2], [2, 0, 0, 2, 0], [1], [0, 0, 0, 0, 0, 0, 2]])
def test_rows_of_questions(index):
    """Questions to images and back; products of each question with its own image."""
    owners = [0, 0, 1, 1, 2, 2] if index is None else index
    image_index = None if index is None else torch.tensor(index)
    rows = TextRows.of(image_index, num_texts=len(owners), num_images=IMAGES, device="cpu")
    assert rows.image_index.tolist() == owners
    assert rows.slot.tolist() == [owners[:place].count(owner) for place, owner in enumerate(owners)]
    assert rows.slots == max(owners.count(image) for image in range(IMAGES))
    images, questions = torch.randn(IMAGES, REGIONS, WIDTH), torch.randn(len(owners), 2, WIDTH)
    torch.testing.assert_close(rows.of_images(images), images[owners])
    torch.testing.assert_close(rows.by_text(rows.by_image(questions)), questions)
    expected = torch.stack([
        question @ images[owner].T for question, owner in zip(questions, owners, strict=True)
    ])  # fmt: skip
    torch.testing.assert_close(rows.products(images, questions), expected)
