"""Spaces that a recogniser of lines has missed, mended from the gaps between its characters.

    a line, its characters with their corners --split_at_gaps--> words

The recogniser says where its characters are to about a tenth of the line's height. A gap counts as a space where it is
wider than `SPACE_GAP` of the height, and wider by `WIDE_MARGIN` beside a wide letter, whose box is told too narrow.
Chinese, Japanese, Korean and Thai are written without spaces, so no gap of theirs counts.
"""

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from .words_updown import Corners, Word

SPACE_GAP = 0.28
WIDE_MARGIN = 0.12
WIDE = frozenset("mwMWOHQGDN@%&—…")
WITHOUT_SPACES = (  # code points of writing without spaces between words
    (0x0E00, 0x0EFF),
    (0x1000, 0x109F),
    (0x1780, 0x17FF),
    (0x2E80, 0x9FFF),
    (0xA960, 0xA97F),
    (0xAC00, 0xD7FF),
    (0xF900, 0xFAFF),
    (0xFF00, 0xFFEF),
    (0x20000, 0x3FFFF),
)


class Character(NamedTuple):
    """A character of a line, its corners in 0..1 and its score."""

    text: str
    corners: Corners
    score: float


def split_at_gaps(line: Word, characters: Sequence[Character], *, size: tuple[int, int]) -> list[Word]:
    """The words of a line: split at its spaces, and at gaps between its characters that are as wide as one.

    Args:
        characters: those of the line's text in its order; spaces may be among them or not. Where they are not those of
            the text, the line is split at its spaces alone, and each word has its share of the line's corners.
        size: width and height of the image in pixels, in whose unit gaps are measured.
    """
    shown = [one for one in characters if one.text.strip()]
    if "".join(one.text for one in shown) != "".join(line.text.split()):
        return line_words(line)
    groups: list[list[Character]] = []
    ends = _ends_of_words(line.text)
    place = 0  # of the character in the text without spaces
    for before, one in zip([None, *shown], shown, strict=False):
        if before is None or place in ends or is_gap(before, one, height=_height(shown, size), size=size):
            groups.append([])
        groups[-1].append(one)
        place += len(one.text)
    return [_joined(group, size=size) for group in groups]


def is_gap(before: Character, after: Character, *, height: float, size: tuple[int, int]) -> bool:
    """Whether two neighbours stand apart by a space; height: of the line in pixels."""
    if is_without_spaces(before.text) or is_without_spaces(after.text) or height <= 0:
        return False
    wide = before.text[-1] in WIDE or after.text[0] in WIDE
    along = _middle(after.corners, size) - _middle(before.corners, size)
    end, start = (_left, _right) if is_leftwards(before, after, size=size) else (_right, _left)
    step = abs(along)
    gap = ((start(after, size) - end(before, size)) * along.conjugate()).real / step if step else 0.0
    return gap > height * (SPACE_GAP + (WIDE_MARGIN if wide else 0.0))


def is_leftwards(before: Character, after: Character, *, size: tuple[int, int]) -> bool:
    """Whether a text goes on to the left, as Arabic and Hebrew do, by the own sides of its characters."""
    along = _middle(after.corners, size) - _middle(before.corners, size)
    across = _right(before, size) - _left(before, size)
    return (along * across.conjugate()).real < 0


def is_without_spaces(text: str) -> bool:
    """Whether a text has a character of writing that has no spaces between its words.

    >>> is_without_spaces("漢字"), is_without_spaces("stop"), is_without_spaces("سلام")
    (True, False, False)
    """
    return any(first <= ord(one) <= last for one in text for first, last in WITHOUT_SPACES)


def _ends_of_words(text: str) -> set[int]:
    """Where the words of a text end, counted without its spaces."""
    ends, length = set(), 0
    for word in text.split():
        length += len(word)
        ends.add(length)
    return ends


def _joined(group: Sequence[Character], *, size: tuple[int, int]) -> Word:
    """Characters as one word: from the left corners of its left end to the right corners of its right end."""
    ends = [group[0], group[-1]]
    first, last = (one.corners for one in (ends[::-1] if is_leftwards(*ends, size=size) else ends))
    score = math.prod(max(one.score, 0.0) for one in group) ** (1 / len(group))
    return Word("".join(one.text for one in group), (first[0], last[1], last[2], first[3]), score)


def line_words(line: Word) -> list[Word]:
    """The words of a line by its spaces, with corners in proportion to their letters.

    >>> [word.box for word in line_words(Word("go on", ((0, 0), (1, 0), (1, 1), (0, 1))))]
    [(0.0, 0.0, 0.4, 1.0), (0.6, 0.0, 1.0, 1.0)]
    """
    words, length, start = line.text.split(), max(len(" ".join(line.text.split())), 1), 0
    made = []
    for word in words:
        begin, end = start / length, (start + len(word)) / length
        upper_left, upper_right, lower_right, lower_left = line.corners
        corners = (
            _between(upper_left, upper_right, begin),
            _between(upper_left, upper_right, end),
            _between(lower_left, lower_right, end),
            _between(lower_left, lower_right, begin),
        )
        made.append(Word(word, corners, line.score))
        start += len(word) + 1
    return made


def _between(one: tuple[float, float], other: tuple[float, float], share: float) -> tuple[float, float]:
    return one[0] + share * (other[0] - one[0]), one[1] + share * (other[1] - one[1])


def _height(characters: Sequence[Character], size: tuple[int, int]) -> float:
    """The median distance, in pixels, from the upper to the lower edge of the characters."""
    sides = (abs(_middle(one.corners[2:], size) - _middle(one.corners[:2], size)) for one in characters)
    return statistics.median(sides)


def _left(character: Character, size: tuple[int, int]) -> complex:
    """The middle of a character's left side in pixels."""
    return _middle((character.corners[0], character.corners[3]), size)


def _right(character: Character, size: tuple[int, int]) -> complex:
    """The middle of a character's right side in pixels."""
    return _middle(character.corners[1:3], size)


def _middle(corners: Sequence[tuple[float, float]], size: tuple[int, int]) -> complex:
    """The mean of corners in pixels, across and down as one complex number."""
    return sum(complex(x * size[0], y * size[1]) for x, y in corners) / len(corners)
