"""ANLS, the average normalised Levenshtein similarity of answers (Biten et al. 2019), and ST-VQA's accuracy.

    ANLS = mean over questions of the best s(p, g) over accepted answers g,   s = 1 - edits(p, g) / max(|p|, |g|)

A similarity of about a half and below counts 0. The implementations differ in what they do to the texts before and in
whether exactly a half counts, so `anls` has a variant for each.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from processors.answer_text_updown import normalize_answer_evalai
from training.metrics.vqa.exact_match import exact_match_accuracy, mean, scorable_rows

LEAST_SIMILARITY = 0.5


class AnlsVariant(NamedTuple):
    """What is done to both texts, and whether a similarity of exactly a half counts."""

    normalize: Callable[[str], str]
    half_counts: bool


def lowered(text: str) -> str:
    """Lower case without blanks at both ends."""
    return text.lower().strip()


def one_space(text: str) -> str:
    """Lower case with one space between words and none at the ends."""
    return " ".join(text.lower().split())


ANLS_VARIANTS = {
    "mmf": AnlsVariant(lowered, half_counts=True),
    "pix2struct": AnlsVariant(str.lower, half_counts=False),
    "docvqa": AnlsVariant(one_space, half_counts=False),
}


def anls(predictions: Sequence[str], answers: Sequence[Sequence[str]], *, variant: str = "mmf") -> dict[str, Any]:
    """The average normalised Levenshtein similarity, the metric of ST-VQA, DocVQA and InfographicVQA.

    Args:
        predictions: one answer per question.
        answers: the accepted answers of each question.
        variant: "mmf", of MMF's `STVQAANLSEvaluator`; "pix2struct", of Google's, which keeps blanks; "docvqa", of the
            package `anls`, which is DocVQA's evaluation. Only the first counts a similarity of exactly 0.5.

    Returns:
        `anls` in 0..1, `anls_x100`, and `per_item`: 0..1 per question, NaN where it has no answers.

    Two empty texts, on which the references divide by zero, are equal here: similarity 1.

    Raises:
        ValueError: for an unknown variant, different lengths, or where no question can be scored.
        TypeError: for predictions that are not strings.

    >>> anls(["1/8/98", "Total"], [["1/8/93"], ["sum", "total"]])["per_item"]
    [0.8333333333333334, 1.0]
    """
    if variant not in ANLS_VARIANTS:
        raise ValueError(f"variant is {variant!r}; it can be one of {', '.join(ANLS_VARIANTS)}")
    rule = ANLS_VARIANTS[variant]
    per_item = [math.nan] * len(predictions)
    for row in scorable_rows(predictions, answers):
        prediction = rule.normalize(predictions[row])
        found = (similarity(prediction, rule.normalize(answer)) for answer in answers[row])
        per_item[row] = max(
            s if s > LEAST_SIMILARITY or (s == LEAST_SIMILARITY and rule.half_counts) else 0 for s in found
        )
    score = mean(per_item)
    return {"anls": score, "anls_x100": 100 * score, "per_item": per_item}


def stvqa_accuracy(predictions: Sequence[str], answers: Sequence[Sequence[str]]) -> dict[str, Any]:
    """ST-VQA's accuracy: an accepted answer is met exactly, both sides normalised as TextVQA's.

    Equal to MMF's `STVQAAccuracyEvaluator`. Returns and raises as `exact_match_accuracy`.

    >>> stvqa_accuracy(["The STOP."], [["stop"]])["accuracy"]
    1.0
    """
    return exact_match_accuracy(predictions, answers, normalize=normalize_answer_evalai)


def similarity(text: str, other: str) -> float:
    """1 - edits / length of the longer text, 0..1; 1 for two empty texts, 0 without counting where it is below 0.5.

    >>> similarity("stop", "stoop"), similarity("a", "stop")
    (0.8, 0.0)
    """
    longest, shortest = max(len(text), len(other)), min(len(text), len(other))
    if not longest:
        return 1.0
    if shortest < LEAST_SIMILARITY * longest:  # each character that one text has more is an edit
        return 0.0
    return 1.0 - edit_distance(text, other) / longest


def edit_distance(text: str, other: str) -> int:
    """The Levenshtein distance: the fewest insertions, deletions and replacements of code points.

    A column of the table of distances is two numbers of len(text) bits, steps up and steps down (Hyyrö 2003), so memory
    is that of the texts.

    >>> edit_distance("kitten", "sitting"), edit_distance("", "abc")
    (3, 3)
    """
    if not text:
        return len(other)
    places: dict[str, int] = {}
    for place, character in enumerate(text):
        places[character] = places.get(character, 0) | 1 << place
    every, last = (1 << len(text)) - 1, 1 << (len(text) - 1)
    up, down, distance = every, 0, len(text)
    for character in other:
        equal = places.get(character, 0)
        diagonal = (((equal & up) + up) ^ up) | equal | down
        right_up, right_down = down | (~(diagonal | up) & every), up & diagonal
        distance += bool(right_up & last) - bool(right_down & last)
        right_up = (right_up << 1) | 1
        up = ((right_down << 1) | ~(diagonal | right_up)) & every
        down = right_up & diagonal & every
    return distance
