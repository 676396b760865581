"""Which type of float some bytes are: telling it right for features of every shape of distribution."""

from typing import Any

import numpy as np
import pytest

from training.regions.formats.floats import FLOATS, float_array

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


@pytest.mark.parametrize("kind", FLOATS)
@pytest.mark.parametrize("distribution", sorted(DISTRIBUTIONS.keys() - {"sparse"}))
def test_few_numbers_of_other_types_are_told_too(kind: str, distribution: str) -> None:
    numbers = DISTRIBUTIONS[distribution][:3, :64].astype(FLOATS[kind])
    array, found = float_array(numbers.tobytes(), name="features", rows=3, types=list(FLOATS))
    assert found == kind and np.array_equal(array, numbers.astype(array.dtype))


@pytest.mark.parametrize("kind", FLOATS)
@pytest.mark.parametrize("columns", ["the same", "others"])
@pytest.mark.parametrize("shape", [(36, 2048), (3, 64)])
def test_one_hot_vectors_are_told_by_their_ones(kind: str, columns: str, shape: tuple[int, int]) -> None:
    numbers = np.zeros(shape, FLOATS[kind])
    numbers[np.arange(len(numbers)), 3 if columns == "the same" else 3 * np.arange(len(numbers))] = 1
    array, found = float_array(numbers.tobytes(), name="features", rows=len(numbers), types=list(FLOATS))
    assert found == kind and np.array_equal(array, numbers)


@pytest.mark.parametrize("value", [0.25, 1.5])
def test_one_number_may_be_of_several_types(value: float) -> None:
    numbers = np.zeros((3, 64), np.float16)
    numbers[1, 5] = value
    with pytest.raises(
        ValueError, match="may be float32 of width 32 or float16 of width 64: give the type with --source"
    ):
        float_array(numbers.tobytes(), name="features", rows=3, types=list(FLOATS))
    array, _ = float_array(numbers.tobytes(), name="features", rows=3, types=["float16"], given=True)
    assert np.array_equal(array, numbers)


@pytest.mark.parametrize("shape", [(36, 2048), (3, 64)])
def test_bytes_of_no_float_are_refused(shape: tuple[int, int]) -> None:
    numbers = np.random.default_rng(0).integers(0, 40, shape).astype(np.int8)
    with pytest.raises(
        ValueError, match="its features are not features if read as float32, float16, float64: .* as float32, el"
    ):
        float_array(numbers.tobytes(), name="features", rows=len(numbers), types=list(FLOATS))
    array, _ = float_array(numbers.tobytes(), name="features", rows=len(numbers), types=["float32"], given=True)
    assert array.shape == (shape[0], shape[1] // 4)


@pytest.mark.parametrize(("kind", "told"), [("float32", True), ("float64", True), ("float32", False)])
def test_bytes_of_no_whole_numbers(kind: str, told: Any) -> None:
    with pytest.raises(
        ValueError, match=f"its features are 90 bytes, which are not {kind} numbers for each of 3 boxes"
    ):
        float_array(bytes(90), name="features", rows=3, types=[kind], given=told)


def test_what_looks_like_nothing_is_what_the_format_says() -> None:
    array, found = float_array(bytes(4096), name="features", rows=4, types=list(FLOATS))
    assert found == "float32" and array.shape == (4, 256)
    nan = np.full((4, 256), np.nan, dtype=np.float32)
    array, found = float_array(nan.tobytes(), name="features", rows=4, types=list(FLOATS))
    assert found == "float32" and np.isnan(array).all()
