"""The captioner's losses against torch's own and brute force."""

import pytest
import torch
from torch.nn import functional as F

from modeling_updown.losses_updown import caption_loss, self_critical_loss, smoothed_cross_entropy


def made() -> tuple[torch.Tensor, torch.Tensor]:
    """log p (6, 5) and labels (6,), two of them not scored."""
    generator = torch.Generator().manual_seed(0)
    log_probs = torch.randn(6, 5, generator=generator).log_softmax(dim=-1)
    return log_probs, torch.tensor([0, 4, -100, 2, 2, -100])


def test_caption_loss_is_cross_entropy():
    log_probs, labels = made()
    torch.testing.assert_close(caption_loss(log_probs, labels), F.cross_entropy(log_probs, labels))
    total = F.cross_entropy(log_probs, labels, reduction="sum")
    for count in (10, torch.tensor(10)):
        torch.testing.assert_close(caption_loss(log_probs, labels, num_items_in_batch=count), total / 10)


def test_nothing_to_score():
    log_probs, labels = made()
    log_probs.requires_grad_()
    loss = caption_loss(log_probs, torch.full_like(labels, -100))
    loss.backward()
    assert loss.item() == 0 and log_probs.grad.abs().max() == 0


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_smoothing_is_a_divergence(smoothing):
    """KL from (1 - s) on the label and s / (V - 1) elsewhere, word by word."""
    log_probs, labels = made()
    for row, label in enumerate(labels.clamp(min=0).tolist()):
        target = torch.full((5,), smoothing / 4)
        target[label] = 1 - smoothing
        known = [t * (t.log() - q) for t, q in zip(target, log_probs[row], strict=True) if t > 0]
        found = smoothed_cross_entropy(log_probs[row : row + 1], torch.tensor([label]), label_smoothing=smoothing)
        torch.testing.assert_close(found[0], sum(known), atol=1e-6, rtol=1e-5)


def test_smoothing_of_a_perfect_model_costs_nothing():
    target = torch.tensor([[0.9, 0.05, 0.05]])
    loss = smoothed_cross_entropy(target.log(), torch.tensor([0]), label_smoothing=0.1)
    assert abs(loss.item()) < 1e-6


def test_self_critical_loss():
    """-sum over real words of reward x log p, over their number, by a loop."""
    generator = torch.Generator().manual_seed(0)
    log_probs, rewards = -torch.rand(3, 4, generator=generator), torch.tensor([1.5, -0.5, 0.25])
    mask = torch.arange(4) < torch.tensor([4, 2, 1])[:, None]
    total, count = 0.0, 0
    for row in range(3):
        for word in range(4):
            if mask[row, word]:
                total -= rewards[row].item() * log_probs[row, word].item()
                count += 1
    expected = torch.tensor(total / count)
    torch.testing.assert_close(self_critical_loss(log_probs, rewards, mask), expected)
    each_word = rewards[:, None].expand(-1, 4)
    torch.testing.assert_close(self_critical_loss(log_probs, each_word, mask), expected)
    torch.testing.assert_close(self_critical_loss(log_probs, rewards.double(), mask), expected)


def test_self_critical_gradient_favours_what_scored_above_the_baseline():
    log_probs = torch.full((2, 3), -1.0, requires_grad=True)
    mask = torch.tensor([[True, True, False], [True, False, False]])
    self_critical_loss(log_probs, torch.tensor([2.0, -1.0]), mask).backward()
    torch.testing.assert_close(log_probs.grad, torch.tensor([[-2.0, -2.0, 0.0], [1.0, 0.0, 0.0]]) / 3)


def test_self_critical_loss_of_no_word():
    assert self_critical_loss(torch.zeros(1, 2), torch.ones(1), torch.zeros(1, 2, dtype=torch.bool)).item() == 0
