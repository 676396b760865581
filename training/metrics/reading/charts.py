"""ChartQA's relaxed accuracy (Masry et al. 2022): a number within 5 % counts, other texts must be equal."""

import math
from collections.abc import Sequence
from typing import Any

from training.metrics.vqa.exact_match import accuracy_scores, scorable_rows

TOLERANCE = 0.05


def chartqa_relaxed_accuracy(
    predictions: Sequence[str], answers: Sequence[str | Sequence[str]], *, tolerance: float = TOLERANCE
) -> dict[str, Any]:
    """The share of answers that are correct as `relaxed_correctness` says, equal to pix2struct's.

    Args:
        predictions: one answer per question.
        answers: the accepted answer of each question, or the list of them, of which one has to be met.
        tolerance: the relative error that a number may have, its bound included.

    Returns:
        As `accuracy_scores`.

    Raises:
        ValueError: for a negative tolerance, different lengths, or where no question can be scored.
        TypeError: for predictions that are not strings.

    >>> chartqa_relaxed_accuracy(["105", "12%", "yes"], ["100", "0.12", "No"])["per_item"]
    [1.0, 1.0, 0.0]
    """
    if not tolerance >= 0:
        raise ValueError(f"tolerance is {tolerance}; give the relative error that is allowed, such as 0.05")
    accepted = answers if isinstance(answers, str) else [[row] if isinstance(row, str) else row for row in answers]
    per_item = [math.nan] * len(predictions)
    for row in scorable_rows(predictions, accepted):
        found = (relaxed_correctness(predictions[row], target, tolerance=tolerance) for target in accepted[row])
        per_item[row] = float(any(found))
    return accuracy_scores(per_item)


def relaxed_correctness(prediction: str, target: str, *, tolerance: float = TOLERANCE) -> bool:
    """Whether |p - t| / |t| <= tolerance where both are numbers and t is not 0, else whether the texts are equal in
    lower case, blanks included.

    A target of 0 is compared as text, so "0.0" is wrong for "0", as in the reference.

    >>> relaxed_correctness("0.0", "0"), relaxed_correctness("95", "100"), relaxed_correctness("Blue", "blue")
    (False, True, True)
    """
    number, wanted = as_number(prediction), as_number(target)
    if number is not None and wanted:
        return abs(number - wanted) / abs(wanted) <= tolerance
    return prediction.lower() == target.lower()


def as_number(text: str) -> float | None:
    """What Python's `float` reads, in hundredths where it ends with "%"; None for other texts.

    >>> as_number("12.5%"), as_number(" 3 "), as_number("three")
    (0.125, 3.0, None)
    """
    try:
        return float(text.rstrip("%")) / 100 if text.endswith("%") else float(text)
    except ValueError:
        return None
