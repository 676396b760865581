"""Bootstrap intervals against a plain twin and the normal approximation."""

import numpy as np
import pytest

from training.metrics import bootstrap
from training.metrics.bootstrap import bootstrap_means, interval_x100


def test_the_bootstrap_is_of_the_seed() -> None:
    values = np.random.default_rng(0).normal(size=50)
    assert bootstrap_means(values, seed=3).tolist() == bootstrap_means(values, seed=3).tolist()
    assert bootstrap_means(values, seed=3).std() == pytest.approx(values.std() / 50**0.5, rel=0.1)


@pytest.mark.parametrize("at_once", [1, 7, 1 << 18])
def test_weighted_means_equal_a_plain_loop(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "DRAWS_AT_ONCE", at_once)
    values, weights = np.array([0.0, 1.0, 0.25]), np.array([1.0, 2.0, 4.0])
    generator, expected = np.random.default_rng(5), []
    for _ in range(20):
        drawn = generator.integers(3, size=3)
        expected.append(sum(values[i] * weights[i] for i in drawn) / sum(weights[i] for i in drawn))
    assert bootstrap_means(values, seed=5, samples=20, weights=weights) == pytest.approx(expected, abs=1e-15)


def test_an_interval_holds_the_middle_95_of_100() -> None:
    assert interval_x100(np.linspace(0, 1, 1001)) == [2.5, 97.5]


def test_samples_without_weight_are_left_out_of_the_interval() -> None:
    means = bootstrap_means(np.array([0.0, 1.0]), seed=0, samples=200, weights=np.array([0.0, 2.0]))
    assert np.isnan(means).any() and set(means[np.isfinite(means)]) == {1.0}
    assert interval_x100(means) == [100.0, 100.0]
