"""Regions of what texts name: their tags, boxes and noise, by numbers."""

from typing import Any

import numpy as np
import pytest
import torch

from training.tasks.captioning_recipe import TextsRecipe
from training.tasks.pseudo_regions import MOST_REGIONS, SMALLEST_SIDE, PseudoRegions

ROWS = [[(1, (2,)), (3, ())], [(2, (1, 3))], []]


def made(
    *, num_classes: dict[str, int] | None = None, frequencies: Any = (5, 0, 2, 3), **settings: Any
) -> PseudoRegions:
    quiet = {"drop_names": 0.0, "false_names": 0.0, "certainty": 1.0}
    return PseudoRegions(
        TextsRecipe(**(quiet | settings)),
        feature_size=6,
        num_classes={"object_probs": 4, "attribute_probs": 3} if num_classes is None else num_classes,
        frequencies=np.array(frequencies, dtype=np.float64),
    )


def draws(number: int, *, epoch: int = 0) -> list[np.random.Generator]:
    return [np.random.default_rng([0, epoch, row]) for row in range(number)]


def test_without_noise_every_thing_is_a_region_with_its_tags_alone() -> None:
    batch = made().batch(ROWS, draws(3))
    assert batch["region_mask"].tolist() == [[True, True], [True, False], [True, False]]
    assert batch["region_features"].shape == (3, 2, 6) and not batch["region_features"].any()
    assert batch["object_probs"].tolist() == [
        [[0, 1, 0, 0, 0], [0, 0, 0, 1, 0]],
        [[0, 0, 1, 0, 0], [0, 0, 0, 0, 0]],
        [[1, 0, 0, 0, 0], [0, 0, 0, 0, 0]],  # what names nothing is background
    ]
    assert batch["attribute_probs"].tolist() == [
        [[0, 0, 1, 0], [1, 0, 0, 0]],
        [[0, 0.5, 0, 0.5], [0, 0, 0, 0]],
        [[1, 0, 0, 0], [0, 0, 0, 0]],
    ]


def test_boxes_are_random_or_the_whole_image() -> None:
    whole = made(boxes="whole").batch(ROWS, draws(3))
    assert whole["region_boxes"][0].tolist() == [[0, 0, 1, 1]] * 2 and not whole["region_boxes"][1, 1].any()
    drawn = made().boxes(4000, np.random.default_rng(0))
    side = drawn[:, 2:] - drawn[:, :2]
    assert drawn.min() >= 0 and drawn.max() <= 1 and side.min() >= SMALLEST_SIDE - 1e-6
    assert side.mean() == pytest.approx((1 + SMALLEST_SIDE) / 2, abs=0.01)
    assert ((drawn[:, :2] + drawn[:, 2:]) / 2).mean() == pytest.approx(0.5, abs=0.01)


def test_certainty_is_drawn_and_the_rest_is_the_backgrounds() -> None:
    batch = made(certainty=0.4).batch([[(2, (1, 3))]] * 500, draws(500))
    objects, attributes = batch["object_probs"][:, 0], batch["attribute_probs"][:, 0]
    assert torch.allclose(objects.sum(dim=1), torch.ones(500)) and not objects[:, [1, 3, 4]].any()
    assert 0.4 <= objects[:, 2].min() < 0.41 and objects[:, 2].mean() == pytest.approx(0.7, abs=0.03)
    assert torch.allclose(attributes[:, 1] + attributes[:, 3], objects[:, 2])  # one certainty a region
    assert torch.equal(attributes[:, 1], attributes[:, 3])


def test_names_are_dropped_and_false_ones_drawn_by_their_frequency() -> None:
    noisy = made(drop_names=0.25, false_names=2.0)
    found = [noisy.noisy([(1, (2,))], draw) for draw in draws(4000)]
    kept = [[thing for thing in things if thing == (1, (2,))] for things in found]
    assert np.mean([len(things) for things in kept]) == pytest.approx(0.75, abs=0.03)
    false = [object_id for things in found for object_id, attributes in things if not attributes and object_id]
    assert set(false) == {3, 4}  # never what the text names, nor what no text does
    assert len(false) / 4000 == pytest.approx(2.0 * 0.5, abs=0.06)  # half of those drawn are names that are said
    assert false.count(4) / false.count(3) == pytest.approx(1.5, rel=0.1)
    assert all(things == [(0, ())] for things in found if not {object_id for object_id, _ in things} - {0})


def test_a_text_that_names_everything_has_no_more_regions_than_an_image() -> None:
    many = [(1 + number % 4, (number,)) for number in range(3 * MOST_REGIONS)]
    found = made().noisy(many, np.random.default_rng(0))
    assert len(found) == MOST_REGIONS and [thing for thing in many if thing in found] == found
    assert found[-1][1][0] > 2 * MOST_REGIONS  # drawn from all of them
    assert made().noisy(many[:MOST_REGIONS], np.random.default_rng(0)) == many[:MOST_REGIONS]


def test_noise_depends_on_the_generator_alone() -> None:
    noisy = made(drop_names=0.5, false_names=1.0, certainty=0.2)
    first, again = (noisy.batch(ROWS * 5, draws(15)) for _ in range(2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    alone = noisy.batch(ROWS[1:2], draws(2)[1:])
    regions = int(alone["region_mask"].sum())
    assert torch.equal(first["object_probs"][1, :regions], alone["object_probs"][0, :regions])
    other = noisy.batch(ROWS * 5, draws(15, epoch=1))
    assert not torch.equal(first["region_mask"].sum(dim=1), other["region_mask"].sum(dim=1))


def test_only_the_tags_that_a_model_reads_are_made() -> None:
    batch = made(num_classes={}, frequencies=()).batch([[], []], draws(2))
    assert set(batch) == {"region_features", "region_boxes", "region_mask"} and batch["region_mask"].all()
    assert batch["region_mask"].shape == (2, 1)
