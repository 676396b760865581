"""accelerate keeps precision and processes for the whole life of a process; here every test gets a fresh start."""

import sys
from collections.abc import Iterator

import pytest

collect_ignore = ["trial_task"]  # it runs in a copy of the product alone: test_trial_task.py


@pytest.fixture(autouse=True)
def fresh_accelerators() -> Iterator[None]:
    """Forget the accelerators of a test once it is over."""
    yield
    if "tests.training.tiny_run" in sys.modules:
        sys.modules["tests.training.tiny_run"].forget_accelerators()
