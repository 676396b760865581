"""Guesses the floating-point type of features from their bytes: float32, float16 or float64.

    bytes + number of boxes --float_array--> (R, D)

The formats of base64 specify float32, but some files hold their detector's type instead. Half precision read as float32
is a finite array of half the width, whose numbers are spread over the whole range of the type. The same holds for any
other wrong type, since its exponents are made of other bits, and so a wrong type is detected:

    size: some numbers are denormals or millions, which features never are
    spread: the standard deviation of log2|x|; 1 to 3 for features, 8 and more for bytes read as another type
    sides: even and odd columns of features are alike; if a type is read as a narrower one, some hold only low bits

Whole numbers (counts, one-hot vectors) have exponents of few bits, which look like features in any type; but only in
their true type are they whole.
"""

from collections.abc import Mapping, Sequence

import numpy as np

FLOATS = {"float32": "<f4", "float16": "<f2", "float64": "<f8"}  # the type that the formats specify comes first
LARGEST_SPREAD = 6.0
SMALLEST_FEATURE, LARGEST_FEATURE = 1e-20, 1e7
SMALLEST_NORMAL = float(np.finfo(np.float32).tiny)
ABSURD_SHARE = 1 / 128  # the largest share of numbers outside this range in the true type
LARGEST_SHIFT = 1.5  # of mean and standard deviation of log2|x| between even and odd columns, with many numbers
SHIFT_OF_FEW = 6.0  # added to it, divided by the root of the smaller number of nonzero values
LARGEST_ZERO_SHIFT = 0.15  # of the share of zeros between even and odd columns; likewise
ZERO_SHIFT_OF_FEW = 2.0
ENOUGH_NONZERO = 4  # nonzero numbers that are not on one side by chance
ENOUGH_BYTES = 16  # distinct bytes that are not all below 128 by chance, as those of small integers are
ENOUGH_NUMBERS = 256  # to accept another type if the bytes are not a whole number of values of the first
NUMBERS_CHECKED = 2**14  # the first ones of an array


def float_array(
    content: bytes, *, name: str, rows: int, types: Sequence[str], given: bool = False
) -> tuple[np.ndarray, str]:
    """(rows, width) numbers of the first of the `types` (keys of `FLOATS`) that fits the bytes, and that type.

    Bytes that fit none of them are read as the first, for later checks to report their fault; float64 is returned as
    float32.

    Args:
        given: the type is known, so the numbers are not checked.

    Raises:
        ValueError: if the bytes are not a whole number of values per row, if several types fit, and if the values of
            the first type are outside the range of features.
    """
    readings = {kind: _reading(content, kind, rows) for kind in types}
    whole = {kind: array for kind, array in readings.items() if array is not None}
    likely = [] if given else _likely(whole, types)
    if types[0] not in whole and (given or not likely):
        raise ValueError(
            f"its {name} are {len(content)} bytes, which are not {types[0]} numbers for each of {rows} boxes"
        )
    if len(likely) > 1:
        widths = " or ".join(f"{kind} of width {whole[kind].shape[1]}" for kind in likely)
        raise ValueError(f"its {name} may be {widths}: give the type with --source-dtype")
    found = likely[0] if likely else types[0]
    array = whole[found]
    if not (given or likely) and _is_absurd(array, smallest=SMALLEST_NORMAL):
        raise ValueError(
            f"its {name} are not features if read as {', '.join(whole)}: if they have another type write them as "
            "float32, else give their type with --source-dtype"
        )
    with np.errstate(over="ignore"):  # too large numbers become infinity, which is refused later
        return array.astype(np.float32) if found == "float64" else array, found


def _likely(readings: Mapping[str, np.ndarray], types: Sequence[str]) -> list[str]:
    """The types that the features may have; several if they are equally likely."""
    first = readings.get(types[0])
    if first is not None and not np.isfinite(first).all() and looks_like_features(first[np.isfinite(first)]):
        return [types[0]]  # for later checks to report the NaN
    enough = 0 if first is not None else ENOUGH_NUMBERS  # else the row may be cut short
    possible = {kind: array for kind, array in readings.items() if array.size >= enough and _is_possible(array)}
    integers = [kind for kind, array in possible.items() if (_first(array) == np.round(_first(array))).all()]
    if len(integers) == 1:
        return integers
    likely = [kind for kind, array in possible.items() if looks_like_features(array)]
    if "float32" in likely:  # float64 read as float32 does not look like features, unless there are few numbers
        likely = [kind for kind in likely if kind != "float64"]
    if types[0] in likely and types[0] != "float32":  # the type of an earlier image
        likely = [types[0]]
    return likely or list(possible)


def looks_like_features(array: np.ndarray) -> bool:
    """Whether numbers (R, D) are distributed as features are: not over the whole range of their type.

    >>> features = np.random.default_rng(0).standard_normal((4, 64)).astype(np.float16)
    >>> looks_like_features(features), looks_like_features(features.view(np.float32))
    (True, False)
    """
    if not _is_possible(array):
        return False
    numbers = np.abs(_first(array))
    logs = np.log2(numbers, where=numbers > 0, out=np.full(len(numbers), np.nan))
    return bool(np.nanstd(logs) <= LARGEST_SPREAD) and _sides_alike(numbers, logs)


def _first(array: np.ndarray) -> np.ndarray:
    """The numbers of an array that are checked, an even number of them."""
    flat = array.reshape(-1)[:NUMBERS_CHECKED]
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(flat[: len(flat) // 2 * 2 or 1], dtype=np.float64)


def _is_possible(array: np.ndarray) -> bool:
    """Whether numbers are finite, not all zero, in the range of features, and not bytes of small integers."""
    numbers = _first(array)
    if not (np.isfinite(numbers).all() and numbers.any()) or _is_absurd(array, smallest=SMALLEST_FEATURE):
        return False
    flat = np.ascontiguousarray(array.reshape(-1)[:NUMBERS_CHECKED])
    lowest = flat.view(np.uint8)[:: array.itemsize]  # of the mantissa in the true type, where half of them are >= 128
    return bool(lowest.max() >= 128 or len(np.unique(lowest)) < ENOUGH_BYTES)


def _is_absurd(array: np.ndarray, *, smallest: float) -> bool:
    """Whether too many of the finite nonzero numbers are below `smallest` or above `LARGEST_FEATURE` in magnitude."""
    numbers = np.abs(_first(array))
    numbers = numbers[np.isfinite(numbers) & (numbers > 0)]
    absurd = (numbers < smallest) | (numbers > LARGEST_FEATURE)
    return bool(absurd.sum() > ABSURD_SHARE * len(numbers))


def _sides_alike(numbers: np.ndarray, logs: np.ndarray) -> bool:
    """Whether even and odd columns have similar shares of zeros and magnitudes, within sampling error."""
    counts = [int((numbers[side::2] > 0).sum()) for side in (0, 1)]
    if min(counts) == 0:  # alike if they may all be on one side by chance
        return sum(counts) < ENOUGH_NONZERO
    (mean, spread), (other_mean, other_spread) = (
        (np.nanmean(logs[side::2]), np.nanstd(logs[side::2])) for side in (0, 1)
    )
    shift = max(abs(mean - other_mean), abs(spread - other_spread))
    zero_shift = abs(counts[0] - counts[1]) / (len(numbers) // 2)
    return bool(
        shift < LARGEST_SHIFT + SHIFT_OF_FEW / min(counts) ** 0.5
        and zero_shift < LARGEST_ZERO_SHIFT + ZERO_SHIFT_OF_FEW / len(numbers) ** 0.5
    )


def _reading(content: bytes, kind: str, rows: int) -> np.ndarray | None:
    """The bytes as (rows, width) numbers of a type; None if they are not a whole number of values per row."""
    dtype = np.dtype(FLOATS[kind])
    width, rest = divmod(len(content), rows * dtype.itemsize)
    return None if rest or not width else np.frombuffer(content, dtype).reshape(rows, width)
