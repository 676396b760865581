"""Losses of multiple choice beside loops, and what labels are refused."""

import math

import pytest
import torch

from modeling_updown.choice_losses_updown import best_choice_loss, check_labels, each_choice_loss

MASK = torch.tensor([[True, True, True], [True, True, False], [True, True, True]])


def test_the_best_choice_equals_a_loop() -> None:
    draw = torch.Generator().manual_seed(0)
    scores, labels = torch.randn(3, 3, generator=draw), torch.tensor([2, 0, -100])
    terms = []
    for row, (label, there) in enumerate(zip(labels.tolist(), MASK.tolist(), strict=True)):
        if label >= 0:
            weights = [math.exp(score) for score, real in zip(scores[row].tolist(), there, strict=True) if real]
            terms.append(-math.log(weights[label] / sum(weights)))
    assert best_choice_loss(scores, labels, MASK).item() == pytest.approx(sum(terms) / 2, abs=1e-6)


def test_shares_weigh_candidates_and_items_without_any_are_left_out() -> None:
    scores = torch.tensor([[0.0, 1.0, 2.0], [0.0, 0.0, 9.0], [5.0, 1.0, 1.0]])
    shares = torch.tensor([[0.5, 0.0, 1.0], [0.2, 0.2, 0.0], [0.0, 0.0, 0.0]])
    total = math.log(1 + math.e + math.e**2)
    first = (0.5 * total + 1.0 * (total - 2)) / 1.5
    assert best_choice_loss(scores, shares, MASK).item() == pytest.approx((first + math.log(2)) / 2, abs=1e-5)


def test_each_choice_equals_a_loop() -> None:
    draw = torch.Generator().manual_seed(1)
    scores, labels = torch.randn(3, 3, 2, generator=draw), torch.tensor([2, 0, -100])
    terms = [
        -(scores[row, place].log_softmax(dim=0)[int(place == labels[row])].item())
        for row in range(2)
        for place in range(3)
        if MASK[row, place]
    ]
    assert each_choice_loss(scores, labels, MASK).item() == pytest.approx(sum(terms) / 5, abs=1e-6)


def test_no_label_is_no_loss_but_has_gradients() -> None:
    scores = torch.randn(3, 3, requires_grad=True)
    loss = best_choice_loss(scores, torch.full((3,), -100), MASK)
    loss.backward()
    assert loss.item() == 0 and scores.grad is not None and not scores.grad.any()


def test_other_labels_are_refused() -> None:
    check_labels(torch.tensor([2, 1, -100]), MASK)
    check_labels(torch.rand(3, 3), MASK)
    with pytest.raises(ValueError, match="the label of item 1 is 2, but it has 2 candidates"):
        check_labels(torch.tensor([0, 2, 0]), MASK)
    with pytest.raises(ValueError, match="the label of item 2 is -1"):
        check_labels(torch.tensor([0, 1, -1]), MASK)
    with pytest.raises(ValueError, match="but must be"):
        check_labels(torch.tensor([0.0, 1.0, 1.0]), MASK)
