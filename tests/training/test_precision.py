"""The warning of half precision on processors that imitate it."""

import pytest
import torch

from tests.training.tiny_run import new_accelerator
from training import precision
from training.precision import product_seconds, slowdown, warn_of_slow_precision


def test_a_precision_is_timed_against_float32() -> None:
    assert 0.2 < slowdown(torch.float32) < 5 and product_seconds(torch.float64) > 0


@pytest.mark.parametrize(("times", "told"), [(46.2, True), (2.1, True), (1.9, False), (0.3, False)])
def test_a_slow_precision_is_told_with_its_cure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], times: float, told: bool
) -> None:
    monkeypatch.setattr(precision, "slowdown", lambda dtype: {torch.bfloat16: times}[dtype])
    warn_of_slow_precision(new_accelerator(mixed_precision="bf16"), cure="--set train.mixed_precision=no")
    line = f"warning: this processor multiplies {times:.0f} times slower in bf16 than in float32"
    error = capsys.readouterr().err
    assert (line in error and "--set train.mixed_precision=no" in error) if told else not error


def test_float32_is_not_timed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(precision, "slowdown", lambda dtype: pytest.fail("timed"))
    warn_of_slow_precision(new_accelerator(), cure="")
    assert not capsys.readouterr().err
