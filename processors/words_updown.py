"""Words that are written in an image, as regions: text, confidence and the four corners around each.

    OCR engine | a file of words --Word--> checked_words --word_regions--> region_boxes, region_texts, region_scores

Words stand in reading order, as the engine or the file gives them. They become regions of `Regions`: the box around
the corners, `region_texts` and `region_scores`; regions of objects have the text "". `word_rows` is how data sets hold
them.
"""

import math
import unicodedata
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

MAX_WORDS = 500  # of one image; a page of dense print has about as many
LEAST_SIDE = 1e-6  # of a box inside the image, as a part of the image's side
LARGEST_CORNER = 2.0  # of a box in 0..1 that reaches out of the image; beyond it the box is in pixels
FAULTS = (NO_TEXT, OUTSIDE, NOT_FINITE) = (
    "have no text",
    "lie outside of the image",
    "have numbers that are not finite",
)
Corners = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Word:
    """A word or a line of words in an image.

    text: as it is read, in the order in which it is spoken (of right-to-left writing too).
    corners: four (x, y) in 0..1 of the image's width and height, from the text's upper left corner on, clockwise as the
        text is read, so that they also say how it is turned.
    score: the engine's confidence, 0..1; 1 for words that people typed.

    >>> Word("stop", ((0.1, 0.2), (0.3, 0.1), (0.4, 0.2), (0.2, 0.3))).box
    (0.1, 0.1, 0.4, 0.3)
    """

    text: str
    corners: Corners
    score: float = 1.0

    @property
    def box(self) -> tuple[float, float, float, float]:
        """The upright box around the corners, xyxy."""
        across, down = zip(*self.corners, strict=True)
        return min(across), min(down), max(across), max(down)


def word_in_box(text: str, box: Sequence[float], *, score: float = 1.0) -> Word:
    """A word that stands upright in a box xyxy in 0..1.

    >>> word_in_box("go", (0, 0, 0.5, 1)).corners
    ((0, 0), (0.5, 0), (0.5, 1), (0, 1))
    """
    left, top, right, bottom = box
    return Word(text, ((left, top), (right, top), (right, bottom), (left, bottom)), score)


def checked_words(words: Iterable[Word], *, max_words: int = MAX_WORDS, source: str = "the image") -> list[Word]:
    """Words as models can take them, in their order; one warning says what was left out and what was cut.

    Blanks at the ends and characters of control are taken away. Left out: words without a text, without an area inside
    the image or with numbers that are not finite, and of more than `max_words` the least confident. Corners outside of
    the image are moved to its edge, scores into 0..1.

    Args:
        source: the image or file that a warning names.

    Raises:
        ValueError: for max_words below 1.

    >>> [word.text for word in checked_words([word_in_box(" exit\\n", (0, 0, 1, 1))])]
    ['exit']
    """
    if max_words < 1:
        raise ValueError(f"max_words is {max_words}; keep one word or more")
    faults = dict.fromkeys(FAULTS, 0)
    kept = []
    for word in words:
        fault = fault_of(word)
        if fault:
            faults[fault] += 1
        else:
            kept.append(moved_inside(word))
    told = [f"{count} words {fault} and are left out" for fault, count in faults.items() if count]
    if len(kept) > max_words:
        told.append(f"{len(kept)} words are more than {max_words}, of which the most confident are kept")
        kept = [kept[place] for place in most_confident([word.score for word in kept], max_words)]
    if told:
        warnings.warn(f"{source}: {'; '.join(told)}", stacklevel=2)
    return kept


def fault_of(word: Word) -> str:
    """Why a word cannot be a region, one of `FAULTS`; "" where it can."""
    numbers = [number for corner in word.corners for number in corner]
    if not clean_text(word.text):
        return NO_TEXT
    if not all(map(math.isfinite, [*numbers, word.score])):
        return NOT_FINITE
    left, top, right, bottom = moved_inside(word).box
    return OUTSIDE if min(right - left, bottom - top) < LEAST_SIDE else ""


def moved_inside(word: Word) -> Word:
    """A word with its text as `clean_text` leaves it, its corners moved into the image and its score into 0..1."""
    corners = tuple((_in_unit(x), _in_unit(y)) for x, y in word.corners)
    return Word(clean_text(word.text), corners, _in_unit(word.score))


def most_confident(scores: Sequence[float], count: int) -> list[int]:
    """The places of the `count` highest scores, in their order; of equal scores the first.

    >>> most_confident([0.5, 0.9, 0.9, 1.0], 2)
    [1, 3]
    """
    return sorted(sorted(range(len(scores)), key=lambda place: -scores[place])[:count])


def clean_text(text: str) -> str:
    """A text on one line: blanks as single spaces, none at the ends, no characters of control or half surrogate pairs.

    >>> clean_text(" a\\tb\\u200b\\x00 ")
    'a b'
    """
    plain = "".join(" " if one.isspace() else one for one in text if one.isspace() or _is_written(one))
    return " ".join(plain.split())


def word_rows(words: Iterable[Word]) -> list[dict[str, Any]]:
    """Words as rows of data sets hold them: `text`, `box` (xyxy in 0..1) and `score`.

    >>> word_rows([word_in_box("go", (0, 0, 0.5, 1))])
    [{'text': 'go', 'box': [0, 0, 0.5, 1], 'score': 1.0}]
    """
    return [{"text": word.text, "box": list(word.box), "score": word.score} for word in words]


def words_of_rows(rows: Iterable[Mapping[str, Any]]) -> list[Word]:
    """The words of `word_rows`, each upright in its box; `ValueError` as `word_of_row`."""
    return [word_of_row(row, number=number) for number, row in enumerate(rows)]


def word_of_row(row: Mapping[str, Any], *, number: int) -> Word:
    """The word of one such row, whose score may be left out (1); number: its place, which an error names.

    Raises:
        ValueError: for a row without text or box, and for a box that is no four numbers, ends before it begins, or is
            in pixels.

    >>> word_of_row({"text": "go", "box": [0, 0, 0.5, 1]}, number=0).score
    1.0
    """
    text, box, score = row.get("text"), row.get("box"), row.get("score", 1.0)
    if not isinstance(text, str) or box is None or len(box) != 4:
        raise ValueError(f"OCR word {number} is {row!r:.80}; give a text and a box [x1, y1, x2, y2] in 0..1")
    corners, score = [float(corner) for corner in box], 1.0 if score is None else float(score)
    if not all(map(math.isfinite, [*corners, score])) or corners[0] > corners[2] or corners[1] > corners[3]:
        raise ValueError(
            f"OCR word {number}, {text!r:.40}, has the box {corners} and the score {score}; give x1, y1, x2, y2 that "
            "rise, and a score in 0..1"
        )
    if max(corners) > LARGEST_CORNER:
        raise ValueError(
            f"OCR word {number}, {text!r:.40}, has the box {corners}, which is in pixels; divide x by the image's "
            "width and y by its height"
        )
    return word_in_box(text, corners, score=score)


def word_regions(words: Sequence[Sequence[Word]]) -> dict[str, Any]:
    """The words of B images as the fields of `Regions` that need no features, padded to the most words R.

    Returns:
        `region_boxes` (B, R, 4) xyxy in 0..1, `region_mask` (B, R) bool, True = a word, `region_scores` (B, R), and
        `region_texts`, B lists of R strings, "" on padding. R is 0 where no image has a word.

    >>> fields = word_regions([[word_in_box("go", (0, 0, 0.5, 1))], []])
    >>> fields["region_texts"], fields["region_mask"].tolist()
    ([['go'], ['']], [[True], [False]])
    """
    most = max(map(len, words), default=0)
    boxes, scores = torch.zeros(len(words), most, 4), torch.zeros(len(words), most)
    mask = torch.zeros(len(words), most, dtype=torch.bool)
    for row, own in enumerate(words):
        if own:
            boxes[row, : len(own)] = torch.tensor([word.box for word in own])
            scores[row, : len(own)] = torch.tensor([word.score for word in own])
            mask[row, : len(own)] = True
    texts = [[*(word.text for word in own), *[""] * (most - len(own))] for own in words]
    return {"region_boxes": boxes, "region_mask": mask, "region_scores": scores, "region_texts": texts}


def _in_unit(value: float) -> float:
    return min(max(float(value), 0.0), 1.0)


def _is_written(character: str) -> bool:
    """Whether a character is neither a control, a half of a surrogate pair nor unassigned; of the invisible ones the
    joiners of Arabic and Indic writing stay."""
    return character in "\u200c\u200d" or unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Cn")
