"""Accuracy on pairs of captions: by hand, against a plain count, and what is refused."""

from typing import Any

import numpy as np
import pytest
import torch

from training.metrics.retrieval.caption_pairs import pair_accuracy


@pytest.mark.parametrize("seed", range(3))
def test_accuracies_equal_a_plain_count(seed: int) -> None:
    generator = np.random.default_rng(seed)
    right, wrong = generator.integers(0, 4, (2, 60))
    kinds = generator.choice(["add_obj", "swap_att", "replace_rel"], 60).tolist()
    images = generator.integers(0, 15, 60).tolist()
    found = pair_accuracy(torch.from_numpy(right), wrong, kinds=kinds, images=images)
    assert found["all"]["accuracy_x100"] == pytest.approx(
        100 * sum(a > b for a, b in zip(right, wrong, strict=True)) / 60
    )
    assert found["all"]["num_ties"] == sum(a == b for a, b in zip(right, wrong, strict=True))
    for kind, own in found["kinds"].items():
        chosen = [i for i in range(60) if kinds[i] == kind]
        assert own["num_pairs"] == len(chosen) and own["num_images"] == len({images[i] for i in chosen})
        assert own["accuracy_x100"] == pytest.approx(100 * sum(right[i] > wrong[i] for i in chosen) / len(chosen))
        assert own["interval_x100"][0] <= own["accuracy_x100"] <= own["interval_x100"][1]
    mean = np.mean([own["accuracy_x100"] for own in found["kinds"].values()])
    assert found["mean_of_kinds_x100"] == pytest.approx(mean)
    assert found["per_item"] == [bool(a > b) for a, b in zip(right, wrong, strict=True)]


def test_pairs_of_one_image_are_drawn_together() -> None:
    """Ten images of ten pairs each, five of them all right: the error is that of ten coins, not of a hundred."""
    right, images = np.repeat(np.arange(10) % 2, 10), np.repeat(np.arange(10), 10).tolist()
    found = pair_accuracy(right, np.full(100, 0.5), kinds=["a"] * 100, images=images)
    assert found["all"]["interval_x100"] == pytest.approx([20, 80], abs=1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"right": [0.1]}, "two scores, a kind and an image"),
        ({"right": [], "wrong": [], "kinds": [], "images": []}, "two scores, a kind and an image"),
        ({"right": [0.1, float("nan")]}, "pair 1 has a score that is no number"),
    ],
)
def test_what_is_no_pair_is_refused(changes: dict[str, Any], message: str) -> None:
    given = {"right": [0.1, 0.2], "wrong": [0.1, 0.1], "kinds": ["a", "b"], "images": [1, 2], **changes}
    with pytest.raises(ValueError, match=message):
        pair_accuracy(**given)
