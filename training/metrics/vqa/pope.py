"""POPE's figures of yes/no answers on whether an object is in an image (Li et al. 2023).

answers, labels --pope--> accuracy, precision, recall, F1 and the share of yes; a yes to what is not there is invented

Captioners are asked too: what a caption names is a yes (`caption_answers`).
"""

import math
import re
from collections.abc import Sequence
from typing import Any, Literal, get_args

from training.metrics.captioning.chair_words import mentions, object_words

Variant = Literal["official", "corrected"]
OFFICIAL_NO = frozenset(("No", "not", "no"))
NO = re.compile(r"\b(?:no|not|none|nope|nothing|nobody|never|zero|cannot)\b|n't\b")
YES = re.compile(r"\b(?:yes|yeah|yep)\b")


def pope(answers: Sequence[str], labels: Sequence[str], *, variant: Variant = "official") -> dict[str, Any]:
    """POPE's figures, equal to AoiDragon/POPE's `evaluate.py`.

    Args:
        answers: what was said to each question, one word or sentences.
        labels: `yes` or `no`.
        variant: how answers are read, see `says_yes`.

    Returns:
        `accuracy`, `precision`, `recall`, `f1` of yes, and `yes_share` of the answers, 0..1; a figure that divides by
        zero is NaN (the script stops there). `counts`: `true_positives`, `false_positives`, `true_negatives`,
        `false_negatives`. `per_item`: 1.0 for each right answer, else 0.0; `said_yes`: a bool for each answer.

    Raises:
        ValueError: for different numbers of answers and labels, none, and another label.
        TypeError: for answers that are no list of strings.

    >>> pope(["Yes, there is.", "No.", "yes"], ["yes", "no", "no"])["f1"]
    0.6666666666666666
    """
    if len(answers) != len(labels) or not len(answers):
        raise ValueError(f"{len(answers)} answers to {len(labels)} questions: give one answer to each question")
    if isinstance(answers, str) or not all(isinstance(answer, str) for answer in answers):
        raise TypeError("answers should be a list of strings, one for each question: write yes, no or a sentence")
    strange = next((label for label in labels if label not in ("yes", "no")), None)
    if strange is not None:
        raise ValueError(f"the label {strange!r} is neither yes nor no: keep the questions that ask for one of these")
    said = [says_yes(answer, variant=variant) for answer in answers]
    pairs = list(zip(said, (label == "yes" for label in labels), strict=True))
    hits, false_alarms = pairs.count((True, True)), pairs.count((True, False))
    rejections, misses = pairs.count((False, False)), pairs.count((False, True))
    precision, recall = _ratio(hits, hits + false_alarms), _ratio(hits, hits + misses)
    return {
        "accuracy": (hits + rejections) / len(pairs),
        "precision": precision,
        "recall": recall,
        "f1": _ratio(2 * precision * recall, precision + recall),
        "yes_share": sum(said) / len(said),
        "counts": {
            "true_positives": hits,
            "false_positives": false_alarms,
            "true_negatives": rejections,
            "false_negatives": misses,
        },
        "per_item": [float(is_yes == is_there) for is_yes, is_there in pairs],
        "said_yes": said,
    }


def says_yes(answer: str, *, variant: Variant = "official") -> bool:
    """Whether an answer counts as yes.

    official: up to the first full stop, without commas, split at single blanks: no if a word is exactly `No`, `no` or
        `not`; all else is a yes, "NO" and "nothing" too.
    corrected: by the first of the words for yes and no, in any case, that the whole answer has; an answer without
        either of them is a yes where it says anything.

    >>> says_yes("NO!"), says_yes("NO!", variant="corrected"), says_yes("I see nothing", variant="corrected")
    (True, False, False)
    """
    if variant not in get_args(Variant):
        raise ValueError(f"there is no variant {variant!r} of POPE: choose {' or '.join(get_args(Variant))}")
    if variant == "official":
        words = answer.split(".")[0].replace(",", "").split(" ")
        return OFFICIAL_NO.isdisjoint(words)
    text = answer.lower().replace("\u2019", "'")
    no, yes = NO.search(text), YES.search(text)
    if no and yes:
        return yes.start() < no.start()
    return not no and bool(text.strip())


def caption_answers(captions: Sequence[str], objects: Sequence[str]) -> list[str]:
    """What captions answer to whether an object is there: `yes` where they name it, else `no`.

    Args:
        captions: of each question's image.
        objects: what each question asks of, in any case; COCO's 80 by their synonyms (the corrected reading of
            `training/metrics/captioning/chair_words.py`), other names word by word.

    Raises:
        ValueError: for different numbers of captions and objects.

    >>> caption_answers(["two men on a bus", "two men on a bus"], ["bus", "dog"])
    ['yes', 'no']
    """
    names = object_words("corrected").object_of
    if len(captions) != len(objects):
        raise ValueError(
            f"{len(captions)} captions but {len(objects)} objects: give the caption of each question's image"
        )
    answers = []
    for caption, asked in zip(captions, map(str.lower, objects), strict=True):
        said = mentions(caption, variant="corrected")
        named = names[asked] in said.objects if asked in names else f" {asked} " in f" {' '.join(said.words)} "
        answers.append("yes" if named else "no")
    return answers


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan
