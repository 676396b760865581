"""Which type of float some bytes are: telling it right for features of every shape of distribution."""

from typing import Any

import numpy as np
import pytest

from training.data.region_files.floats import FLOATS, float_array

DRAW = np.random.default_rng(0)
NORMAL = DRAW.standard_normal((36, 512))
DISTRIBUTIONS = {
    "normal": NORMAL,
    "after ReLU": NORMAL.clip(0),
    "pooled": np.abs(NORMAL) ** 3 / 2,
    "sparse": np.abs(NORMAL) * (DRAW.random(NORMAL.shape) < 0.02),
    "of length 1": NORMAL / np.linalg.norm(NORMAL, axis=1, keepdims=True),
    "long-tailed": np.exp(2 * NORMAL),
    "large": 50 * NORMAL,
    "counted": DRAW.integers(0, 8, NORMAL.shape),
    "once of half precision": NORMAL.astype(np.float16),
    "once of single precision": NORMAL.astype(np.float32),
    "once of bfloat16": (NORMAL.astype(np.float32).view(np.uint32) & 0xFFFF0000).view(np.float32),
}


@pytest.mark.parametrize("kind", FLOATS)
@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_the_type_is_told_by_the_numbers(kind: str, distribution: str) -> None:
    numbers = DISTRIBUTIONS[distribution].astype(FLOATS[kind])
    array, found = float_array(numbers.tobytes(), name="features", rows=36, types=list(FLOATS))
    assert found == kind and np.array_equal(array, numbers.astype(array.dtype))


@pytest.mark.parametrize("seed", range(20))
def test_few_numbers_are_of_the_type_the_format_says(seed: int) -> None:
    numbers = np.random.default_rng(seed).standard_normal((2, 8)).astype(np.float32)
    array, _ = float_array(numbers.tobytes(), name="features", rows=2, types=list(FLOATS))
    assert np.array_equal(array, numbers)


@pytest.mark.parametrize(("kind", "told"), [("float32", True), ("float64", True), ("float32", False)])
def test_bytes_of_no_whole_numbers(kind: str, told: Any) -> None:
    with pytest.raises(ValueError, match=f"its features are 90 bytes, which are no {kind} numbers of each of 3 boxes"):
        float_array(bytes(90), name="features", rows=3, types=[kind], told=told)


def test_what_looks_like_nothing_is_what_the_format_says() -> None:
    array, found = float_array(bytes(4096), name="features", rows=4, types=list(FLOATS))
    assert found == "float32" and array.shape == (4, 256)
    nan = np.full((4, 256), np.nan, dtype=np.float32)
    array, found = float_array(nan.tobytes(), name="features", rows=4, types=list(FLOATS))
    assert found == "float32" and np.isnan(array).all()
