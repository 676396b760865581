"""Numbers of an answer -> its words, and where the copied ones stand in the image.

The first entries of a reader's vocabulary are special, whatever they are called: padding, start, end and unknown, as in
M4C's own vocabularies.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

PADDING, START, END, UNKNOWN = range(4)
SPECIAL_ANSWERS = ("<pad>", "<s>", "</s>", "<unk>")


class ReadWord(NamedTuple):
    """A word of an answer.

    place: which of the image's OCR words it is a copy of, from 0, None of the vocabulary; box: where that stands, xyxy
    in 0..1.
    """

    text: str
    place: int | None = None
    box: tuple[float, float, float, float] | None = None


class ReadAnswer(NamedTuple):
    """An answer, how likely it is by the model, 0..1, and its words in their order."""

    answer: str
    score: float
    words: list[ReadWord]


def read_words(
    numbers: Sequence[int],
    vocabulary: Mapping[int, str],
    texts: Sequence[str],
    boxes: Sequence[Sequence[float]],
) -> list[ReadWord]:
    """The words of an answer up to its end.

    numbers: those after the start; vocabulary: number -> word; texts, boxes: of the image's OCR words. Special entries
    before the end are words as well. Raises `ValueError` for a copy of an OCR word that is not there.

    >>> vocabulary = dict(enumerate((*SPECIAL_ANSWERS, "the")))
    >>> read_words([5, 4, 2, 4], vocabulary, ["STOP"], [(0, 0, 1, 1)])
    [ReadWord(text='STOP', place=0, box=(0, 0, 1, 1)), ReadWord(text='the', place=None, box=None)]
    """
    words = []
    for number in numbers:
        if number == END:
            break
        place = number - len(vocabulary)
        if place < 0:
            words.append(ReadWord(vocabulary[number]))
            continue
        if place >= len(texts):
            raise ValueError(
                f"the answer copies OCR word {place} of {len(texts)}: give the texts of the OCR words that the model "
                "was given"
            )
        x1, y1, x2, y2 = boxes[place]
        words.append(ReadWord(texts[place], place, (x1, y1, x2, y2)))
    return words


def joined_words(words: Sequence[ReadWord]) -> str:
    """The words of an answer with spaces between them, but for a genitive.

    >>> joined_words([ReadWord("joe"), ReadWord("'s"), ReadWord("diner")])
    "joe's diner"
    """
    return " ".join(word.text for word in words).replace(" 's", "'s")
