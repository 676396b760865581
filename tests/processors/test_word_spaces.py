"""Spaces mended from gaps: upright, rotated, right-to-left and Chinese lines, by hand."""

import cmath
import math

import pytest

from processors.word_spaces_updown import Character, split_at_gaps
from processors.words_updown import Word

SIZE = (400, 200)
HEIGHT = 20.0


def line_of(
    text: str, *, gaps: dict[int, float], degrees: float = 0.0, leftwards: bool = False, step: float = 10.0
) -> tuple[Word, list[Character]]:
    """A line whose characters are `step` pixels wide, with gaps before some of them, turned about (200, 100)."""
    turn, position, characters = cmath.exp(1j * math.radians(degrees)), -60.0, []
    for place, one in enumerate(text):
        position += gaps.get(place, 0.0)
        left = -position - step if leftwards else position
        around = [complex(left, 0), complex(left + step, 0), complex(left + step, HEIGHT), complex(left, HEIGHT)]
        turned = [corner * turn + complex(200, 100) for corner in around]
        characters.append(Character(one, tuple((c.real / SIZE[0], c.imag / SIZE[1]) for c in turned), 0.9))
        position += step
    first, last = characters[0].corners, characters[-1].corners
    first, last = (last, first) if leftwards else (first, last)
    return Word(text, (first[0], last[1], last[2], first[3]), 0.8), characters


@pytest.mark.parametrize("degrees", [0, 30, 90, 180, -45])
def test_a_wide_gap_is_a_space_however_the_line_is_turned(degrees: float) -> None:
    line, characters = line_of("taxinvoice", gaps={3: 7.0, 6: 3.0}, degrees=degrees)
    words = split_at_gaps(line, characters, size=SIZE)
    assert [word.text for word in words] == ["tax", "invoice"]
    assert words[0].corners[0] == characters[0].corners[0] and words[0].corners[1] == characters[2].corners[1]
    assert words[1].corners[2] == characters[-1].corners[2] and words[1].score == pytest.approx(0.9)


def test_right_to_left_words_keep_their_order_and_box() -> None:
    line, characters = line_of("שלוםעולם", gaps={4: 8.0}, leftwards=True)
    words = split_at_gaps(line, characters, size=SIZE)
    assert [word.text for word in words] == ["שלום", "עולם"]
    assert words[0].box[0] > words[1].box[2]  # the first word stands right of the second
    assert words[1].corners[0] == characters[-1].corners[0] and words[1].corners[1] == characters[4].corners[1]


def test_gaps_beside_wide_letters_must_be_wider() -> None:
    for text, count in (("amok", 1), ("tack", 2)):  # 7 pixels are 0.35 of the height
        line, characters = line_of(text, gaps={2: 7.0})
        assert len(split_at_gaps(line, characters, size=SIZE)) == count


def test_writing_without_spaces_is_not_split() -> None:
    line, characters = line_of("東京駅出口", gaps={3: 15.0})
    assert [word.text for word in split_at_gaps(line, characters, size=SIZE)] == ["東京駅出口"]


def test_spaces_that_were_read_stay() -> None:
    line, characters = line_of("noentry", gaps={})
    spaced = Word("no entry", line.corners, line.score)
    assert [word.text for word in split_at_gaps(spaced, characters, size=SIZE)] == ["no", "entry"]
    blank = Character(" ", characters[2].corners, 0.5)
    with_blank = [*characters[:2], blank, *characters[2:]]
    assert [word.text for word in split_at_gaps(spaced, with_blank, size=SIZE)] == ["no", "entry"]


def test_without_its_characters_a_line_is_shared_out() -> None:
    line = Word("go on", ((0.0, 0.0), (0.5, 0.0), (0.5, 0.2), (0.0, 0.2)), 0.7)
    for characters in ([], [Character("x", line.corners, 0.5)]):
        words = split_at_gaps(line, characters, size=SIZE)
        assert [word.text for word in words] == ["go", "on"] and words[0].score == 0.7
        assert words[0].box == pytest.approx((0, 0, 0.2, 0.2)) and words[1].box == pytest.approx((0.3, 0, 0.5, 0.2))


def test_a_line_of_one_character_or_none() -> None:
    line, characters = line_of("7", gaps={})
    assert [word.text for word in split_at_gaps(line, characters, size=SIZE)] == ["7"]
    assert split_at_gaps(Word(" ", line.corners), [], size=SIZE) == []
