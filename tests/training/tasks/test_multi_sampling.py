"""How often each part is drawn: equal to the formula, whole passes, the same for a seed and an epoch."""

import numpy as np
import pytest

from training.tasks.multi_recipe import SamplingRecipe
from training.tasks.multi_sampling import parts_of_steps, power_of, steps_of_epoch

SIZES = [70, 25, 5]


def counts(settings: SamplingRecipe, *, epoch: int, seed: int = 0) -> list[int]:
    """How many steps of an epoch each part has."""
    return np.bincount(parts_of_steps(SIZES, settings, seed=seed, epoch=epoch), minlength=len(SIZES)).tolist()


def test_proportional_steps_are_one_pass_over_every_part() -> None:
    for epoch in range(3):
        assert counts(SamplingRecipe(), epoch=epoch) == SIZES


@pytest.mark.parametrize(("first", "last"), [(1.0, 0.2), (0.0, 1.0), (0.5, 0.5)])
def test_annealed_frequencies_are_those_of_the_formula(first: float, last: float) -> None:
    """p ~ N ** power, power linear in the epoch: 1 - 0.8 (e - 1) / (E - 1) in Stickland and Murray's first case."""
    settings = SamplingRecipe("annealed", first_power=first, last_power=last, epochs=5)
    for epoch in range(7):
        power = first + (last - first) * min(epoch, 4) / 4
        raised = [size**power for size in SIZES]
        exact = [sum(SIZES) * one / sum(raised) for one in raised]
        found = counts(settings, epoch=epoch)
        assert sum(found) == sum(SIZES) and power_of(settings, epoch) == pytest.approx(power)
        assert all(abs(number - share) < 1 for number, share in zip(found, exact, strict=True))


def test_what_rounding_leaves_goes_to_the_largest_fractions() -> None:
    assert steps_of_epoch([1, 1, 1], power=0.0).tolist() == [1, 1, 1]
    assert steps_of_epoch([4, 3, 3], power=0.0).tolist() == [4, 3, 3]  # a third of ten each, and one more
    assert steps_of_epoch([8, 1], power=0.5).tolist() == [7, 2]  # 6.65 and 2.35


def test_parts_take_turns_across_epochs() -> None:
    settings = SamplingRecipe("round_robin")
    drawn = np.concatenate([parts_of_steps([3, 1, 1], settings, seed=seed, epoch=seed) for seed in range(3)])
    assert drawn.tolist() == [0, 1, 2] * 5


def test_the_order_is_that_of_the_seed_and_the_epoch() -> None:
    orders = [parts_of_steps(SIZES, SamplingRecipe(), seed=s, epoch=e) for s, e in ((0, 0), (0, 0), (0, 1), (1, 0))]
    assert (orders[0] == orders[1]).all()
    assert (orders[0] != orders[2]).any() and (orders[0] != orders[3]).any()


def test_one_epoch_of_annealing_has_the_first_power() -> None:
    assert power_of(SamplingRecipe("annealed", epochs=1), 0) == 1.0
    assert power_of(SamplingRecipe(first_power=0.3), 0) == 1.0  # proportional
