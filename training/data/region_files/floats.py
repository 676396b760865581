"""Which floating-point numbers the bytes of features are, where a format does not say: float32, float16 or float64.

    bytes + number of boxes --float_array--> (R, D)

The formats of base64 say float32, and people write what their detector had: half precision read as float32 is a finite
array of half the width, whose numbers are spread over the whole range of the type. So are those of any other wrong
reading, since an exponent is then made of bits that were none, and that is how a wrong reading shows:

    spread: the standard deviation of log2|x|; 1 to 3 for features, 8 and more for bytes read as another type
    sides: even and odd columns of features are alike; of a type read as a narrower one, some are low bits alone
"""

from collections.abc import Sequence

import numpy as np

FLOATS = {"float32": "<f4", "float16": "<f2", "float64": "<f8"}  # the formats' own first
LARGEST_SPREAD = 6.0
LARGEST_FEATURE = 1e7
ENOUGH_NUMBERS = 256  # to tell a type by; fewer look like anything
LARGEST_SHIFT = 1.5  # of mean and standard deviation of log2|x| between even and odd columns
LARGEST_ZERO_SHIFT = 0.15  # of the share of zeros between them
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
        ValueError: where the bytes are no whole numbers of each row, and where they may be of several types.
    """
    readings = {kind: _reading(content, kind, rows) for kind in types}
    whole = {kind: array for kind, array in readings.items() if array is not None}
    likely = [
        kind
        for kind, array in whole.items()
        if (kind == types[0] or array.size >= ENOUGH_NUMBERS) and looks_like_features(array)
    ]
    if "float32" in likely:  # float64 read as float32 never looks like features, but for a few of both kinds
        likely = [kind for kind in likely if kind != "float64"]
    if types[0] in likely and types[0] != "float32":  # settled by a photo before this one
        likely = [types[0]]
    if types[0] not in whole and (told or not likely):
        raise ValueError(
            f"its {name} are {len(content)} bytes, which are no {types[0]} numbers of each of {rows} boxes"
        )
    if len(likely) > 1 and not told:
        widths = " or ".join(f"{kind} of width {whole[kind].shape[1]}" for kind in likely)
        raise ValueError(f"its {name} may be {widths}: say which with --source-dtype")
    found = likely[0] if likely and not told else types[0]
    array = whole[found]
    with np.errstate(over="ignore"):  # what is too large becomes infinity, which is refused later
        return array.astype(np.float32) if found == "float64" else array, found


def looks_like_features(array: np.ndarray) -> bool:
    """Whether numbers (R, D) are spread as features are: not over the whole range of their type.

    >>> features = np.random.default_rng(0).standard_normal((4, 64)).astype(np.float16)
    >>> looks_like_features(features), looks_like_features(features.view(np.float32))
    (True, False)
    """
    flat = array.reshape(-1)[:NUMBERS_LOOKED_AT]
    with np.errstate(over="ignore", invalid="ignore"):
        numbers = np.abs(flat[: len(flat) // 2 * 2].astype(np.float64))
    if not len(numbers) or not np.isfinite(numbers).all() or numbers.max() > LARGEST_FEATURE:
        return False
    logs = np.log2(numbers, where=numbers > 0, out=np.full(len(numbers), np.nan))
    if not numbers.any() or np.nanstd(logs) > LARGEST_SPREAD:
        return False
    return len(numbers) < ENOUGH_NUMBERS or _sides_alike(numbers, logs)


def _sides_alike(numbers: np.ndarray, logs: np.ndarray) -> bool:
    """Whether even and odd columns have as many zeros and numbers as large."""
    zeros = [float((numbers[side::2] == 0).mean()) for side in (0, 1)]
    if max(zeros) == 1:
        return False
    (mean, spread), (other_mean, other_spread) = (
        (np.nanmean(logs[side::2]), np.nanstd(logs[side::2])) for side in (0, 1)
    )
    alike = max(abs(mean - other_mean), abs(spread - other_spread)) < LARGEST_SHIFT
    return bool(alike and abs(zeros[0] - zeros[1]) < LARGEST_ZERO_SHIFT)


def _reading(content: bytes, kind: str, rows: int) -> np.ndarray | None:
    """The bytes as (rows, width) numbers of a type; None where they are no whole number of them."""
    dtype = np.dtype(FLOATS[kind])
    width, rest = divmod(len(content), rows * dtype.itemsize)
    return None if rest or not width else np.frombuffer(content, dtype).reshape(rows, width)
