"""Which part each step of an epoch is of, as a function of the seed and the epoch alone (`sampling` of a recipe).

steps of a pass over each part --steps_of_epoch--> steps of each in an epoch --parts_of_steps--> a part a step
"""

from collections.abc import Sequence

import numpy as np

from training.tasks.multi_recipe import SamplingRecipe


def power_of(settings: SamplingRecipe, epoch: int) -> float:
    """The power of an epoch (from 0) that the sizes of parts are raised to; 1 where it is not annealed.

    >>> [power_of(SamplingRecipe("annealed", epochs=5), epoch) for epoch in (0, 2, 4, 9)]
    [1.0, 0.6, 0.2, 0.2]
    """
    if settings.by != "annealed":
        return 1.0
    share = min(epoch / max(settings.epochs - 1, 1), 1.0)
    return round(settings.first_power + (settings.last_power - settings.first_power) * share, 12)


def steps_of_epoch(sizes: Sequence[int], *, power: float) -> np.ndarray:
    """How many of an epoch's steps are of each part, (P,): in proportion to sizes ** power, in all as many as sizes.

    sizes: the steps of a pass over each part, (P,). What is left over by rounding down goes to the largest fractions
    (the first of equal ones), so that every number is less than 1 from its exact share.

    >>> steps_of_epoch([90, 10], power=1.0).tolist(), steps_of_epoch([90, 10], power=0.5).tolist()
    ([90, 10], [75, 25])
    """
    total = sum(sizes)
    raised = np.asarray(sizes, dtype=float) ** power
    exact = total * raised / raised.sum()
    exact = np.asarray(sizes, dtype=float) if power == 1 else exact
    steps = np.floor(exact).astype(int)
    rest = np.argsort(steps - exact, kind="stable")[: total - int(steps.sum())]
    steps[rest] += 1
    return steps


def parts_of_steps(sizes: Sequence[int], settings: SamplingRecipe, *, seed: int, epoch: int) -> np.ndarray:
    """The number of each step's part in an epoch, (sum of sizes,).

    sizes: the steps of a pass over each part.

    >>> parts_of_steps([3, 2], SamplingRecipe("round_robin"), seed=0, epoch=0).tolist()
    [0, 1, 0, 1, 0]
    >>> sorted(parts_of_steps([3, 2], SamplingRecipe(), seed=0, epoch=0).tolist())
    [0, 0, 0, 1, 1]
    """
    total = sum(sizes)
    if settings.by == "round_robin":
        return (epoch * total + np.arange(total)) % len(sizes)
    steps = steps_of_epoch(sizes, power=power_of(settings, epoch))
    return np.random.default_rng([seed, epoch]).permutation(np.repeat(np.arange(len(sizes)), steps))
