"""Which floating-point numbers the bytes of features are, where a format does not say: float32, float16 or float64.

    bytes + number of boxes --float_array--> (R, D)

The formats of base64 say float32, and people write what their detector had: half precision read as float32 is a finite
array of half the width, whose numbers are spread over the whole range of the type. So are those of any other wrong
reading, since an exponent is then made of bits that were none, and that is how a wrong reading shows:

    size: some numbers are denormals or millions, which no feature is
    spread: the standard deviation of log2|x|; 1 to 3 for features, 8 and more for bytes read as another type
    sides: even and odd columns of features are alike; of a type read as a narrower one, some are low bits alone

Whole numbers (counts, one-hot vectors) have exponents of few bits, which any type reads as features; but they are whole
as what they are alone.
"""

from collections.abc import Mapping, Sequence

import numpy as np

FLOATS = {"float32": "<f4", "float16": "<f2", "float64": "<f8"}  # the formats' own first
LARGEST_SPREAD = 6.0
SMALLEST_FEATURE, LARGEST_FEATURE = 1e-20, 1e7
SMALLEST_NORMAL = float(np.finfo(np.float32).tiny)
ABSURD_SHARE = 1 / 128  # of numbers beyond these that a true reading may have
LARGEST_SHIFT = 1.5  # of mean and standard deviation of log2|x| between even and odd columns, where there are many
SHIFT_OF_FEW = 6.0  # added to it, divided by the root of the numbers on the poorer side
LARGEST_ZERO_SHIFT = 0.15  # of the share of zeros between them; likewise
ZERO_SHIFT_OF_FEW = 2.0
ENOUGH_NONZERO = 4  # that chance does not put on one side
ENOUGH_BYTES = 16  # that would not all be below 128 by chance, as those of small integers are
ENOUGH_NUMBERS = 256  # to take bytes for another type where they are no whole numbers of the first
NUMBERS_LOOKED_AT = 2**14  # of an array, the first


def float_array(
    content: bytes, *, name: str, rows: int, types: Sequence[str], told: bool = False
) -> tuple[np.ndarray, str]:
    """(rows, width) numbers of the first of the `types` (keys of `FLOATS`) that the bytes look like, and that type.

    Bytes that look like none of them are of the first, for later checks to say what is wrong with them; float64 comes
    as float32.

    Args:
        told: the type is known, so the numbers are not looked at.

    Raises:
        ValueError: where the bytes are no whole numbers of each row, where they may be of several types, and where as
            the first they are numbers that no feature is.
    """
    readings = {kind: _reading(content, kind, rows) for kind in types}
    whole = {kind: array for kind, array in readings.items() if array is not None}
    likely = [] if told else _likely(whole, types)
    if types[0] not in whole and (told or not likely):
        raise ValueError(
            f"its {name} are {len(content)} bytes, which are no {types[0]} numbers of each of {rows} boxes"
        )
    if len(likely) > 1:
        widths = " or ".join(f"{kind} of width {whole[kind].shape[1]}" for kind in likely)
        raise ValueError(f"its {name} may be {widths}: say which with --source-dtype")
    found = likely[0] if likely else types[0]
    array = whole[found]
    if not (told or likely) and _is_absurd(array, smallest=SMALLEST_NORMAL):
        raise ValueError(
            f"its {name} are no features as {', '.join(whole)}: where they are numbers of another type write them as "
            "float32, else say which they are with --source-dtype"
        )
    with np.errstate(over="ignore"):  # what is too large becomes infinity, which is refused later
        return array.astype(np.float32) if found == "float64" else array, found


def _likely(readings: Mapping[str, np.ndarray], types: Sequence[str]) -> list[str]:
    """The types as which the numbers may be features; of those as likely as each other all."""
    first = readings.get(types[0])
    if first is not None and not np.isfinite(first).all() and looks_like_features(first[np.isfinite(first)]):
        return [types[0]]  # for later checks to say where it holds NaN
    enough = 0 if first is not None else ENOUGH_NUMBERS  # a row that was cut short
    possible = {kind: array for kind, array in readings.items() if array.size >= enough and _is_possible(array)}
    integers = [kind for kind, array in possible.items() if (_first(array) == np.round(_first(array))).all()]
    if len(integers) == 1:
        return integers
    likely = [kind for kind, array in possible.items() if looks_like_features(array)]
    if "float32" in likely:  # float64 read as float32 never looks like features, but for a few of both kinds
        likely = [kind for kind in likely if kind != "float64"]
    if types[0] in likely and types[0] != "float32":  # settled by an image before this one
        likely = [types[0]]
    return likely or list(possible)


def looks_like_features(array: np.ndarray) -> bool:
    """Whether numbers (R, D) are spread as features are: not over the whole range of their type.

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
    """The numbers of an array that are looked at, an even number of them."""
    flat = array.reshape(-1)[:NUMBERS_LOOKED_AT]
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(flat[: len(flat) // 2 * 2 or 1], dtype=np.float64)


def _is_possible(array: np.ndarray) -> bool:
    """Whether numbers are finite, not all zero, as large as those of features, and not made of small integers."""
    numbers = _first(array)
    if not (np.isfinite(numbers).all() and numbers.any()) or _is_absurd(array, smallest=SMALLEST_FEATURE):
        return False
    flat = np.ascontiguousarray(array.reshape(-1)[:NUMBERS_LOOKED_AT])
    lowest = flat.view(np.uint8)[:: array.itemsize]  # of a true reading's mantissa, so half of them are 128 and more
    return bool(lowest.max() >= 128 or len(np.unique(lowest)) < ENOUGH_BYTES)


def _is_absurd(array: np.ndarray, *, smallest: float) -> bool:
    """Whether more than a few of the finite numbers that are not 0 are smaller than one, or larger than any feature."""
    numbers = np.abs(_first(array))
    numbers = numbers[np.isfinite(numbers) & (numbers > 0)]
    absurd = (numbers < smallest) | (numbers > LARGEST_FEATURE)
    return bool(absurd.sum() > ABSURD_SHARE * len(numbers))


def _sides_alike(numbers: np.ndarray, logs: np.ndarray) -> bool:
    """Whether even and odd columns have as many zeros and numbers as large, as far as so many can tell."""
    counts = [int((numbers[side::2] > 0).sum()) for side in (0, 1)]
    if min(counts) == 0:  # alike where chance may have put them on one side
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
    """The bytes as (rows, width) numbers of a type; None where they are no whole number of them."""
    dtype = np.dtype(FLOATS[kind])
    width, rest = divmod(len(content), rows * dtype.itemsize)
    return None if rest or not width else np.frombuffer(content, dtype).reshape(rows, width)
