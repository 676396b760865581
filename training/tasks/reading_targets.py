"""Answers and OCR words -> what is learnt of each step of an answer, as M4C does (Hu et al. 2020, section 3.4).

    answers --answer_tokens--> words --matched_sequences--> every way of writing them --reading_targets--> scores, steps

Numbers are those of the vocabulary, then V + w for OCR word w. An answer may be written in several ways: a word may
stand in the vocabulary and in several places of the image. At the first step every beginning is as right as its answer;
from then on one way of writing, drawn by chance, is followed.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from modeling_updown.reading_answers_updown import END, SPECIAL_ANSWERS, START

MOST_SEQUENCES = 20  # of one answer
NUM_PEOPLE = 10  # whose answers are compared; fewer answers stand for as many of them
AGREEING = 3  # people who make an answer right


def answer_tokens(text: str) -> list[str]:
    """The words of an answer or OCR word as they are compared: in small letters, without commas and question marks.

    >>> answer_tokens("Joe's Diner, 24")
    ['joe', "'s", 'diner', '24']
    """
    return text.lower().replace(",", "").replace("?", "").replace("'s", " 's").split()


def whole_answer(text: str) -> str:
    """The same as one text.

    >>> whole_answer("Main  Street?")
    'main street'
    """
    return " ".join(answer_tokens(text))


def answer_scores(answers: Sequence[str]) -> dict[str, float]:
    """How right each answer is, 0..1: the mean, leaving out each of ten people in turn, of min(1, agreeing others / 3).

    Answers of fewer people than ten are repeated in turn until there are ten.

    >>> scores = answer_scores(["cola"] * 2 + ["coca cola"] * 7 + ["pepsi"])
    >>> {answer: round(score, 4) for answer, score in scores.items()}
    {'cola': 0.6, 'coca cola': 1.0, 'pepsi': 0.3}
    """
    people = [answers[number % len(answers)] for number in range(max(NUM_PEOPLE, len(answers)))] if answers else []
    counts = Counter(people)
    scores = {}
    for answer, count in counts.items():
        own = count * min(1.0, (count - 1) / AGREEING)  # of the people who said it
        others = (len(people) - count) * min(1.0, count / AGREEING)
        scores[answer] = (own + others) / len(people)
    return scores


def matched_sequences(
    tokens: Sequence[str], vocabulary: Mapping[str, int], places: Mapping[str, Sequence[int]], *, size: int
) -> list[tuple[int, ...]]:
    """Every way of writing an answer, its first twenty; none where a word is neither in the vocabulary nor read.

    vocabulary: word -> number; places: word -> the OCR words that are it; size: V.

    >>> matched_sequences(["red", "bus"], {"red": 4}, {"bus": [0, 2]}, size=9)
    [(4, 9), (4, 11)]
    """
    sequences: list[tuple[int, ...]] = [()]
    for token in tokens:
        numbers = [vocabulary[token]] if token in vocabulary else []
        numbers += [size + place for place in places.get(token, ())]
        sequences = [(*start, number) for start in sequences for number in numbers][:MOST_SEQUENCES]
    return sequences if tokens else []


@dataclass(frozen=True)
class ReadingTargets:
    """What is learnt of a question: first, the numbers that an answer begins with and how right each is, 0..1;
    sequences, every way of writing each person's answer, of which one is drawn."""

    first: dict[int, float]
    sequences: list[tuple[int, ...]]

    def drawn(self, draw: np.random.Generator, *, size: int, steps: int) -> tuple[np.ndarray, np.ndarray]:
        """Scores (steps, size) float32 of every number at each step, and what was chosen before each (steps,) int64.

        The way of writing is drawn; one that is longer than `steps` is cut, and then has no end.
        """
        return self.along(self.sequences[int(draw.integers(len(self.sequences)))], size=size, steps=steps)

    def along(self, sequence: Sequence[int], *, size: int, steps: int) -> tuple[np.ndarray, np.ndarray]:
        """As `drawn`, of one way of writing.

        >>> scores, before = ReadingTargets({4: 0.6}, [(4,)]).along((4,), size=5, steps=3)
        >>> scores.argmax(axis=1).tolist(), scores.sum(axis=1).round(1).tolist(), before.tolist()
        ([4, 2, 0], [0.6000000238418579, 1.0, 0.0], [1, 4, 0])
        """
        scores, before = np.zeros((steps, size), dtype=np.float32), np.zeros(steps, dtype=np.int64)
        written = [*sequence, END][:steps]
        for number, score in self.first.items():
            scores[0, number] = score
        scores[np.arange(1, len(written)), written[1:]] = 1.0
        before[: len(written)] = [START, *written[:-1]]
        return scores, before


def reading_targets(
    answers: Sequence[str],
    words: Sequence[str],
    vocabulary: Mapping[str, int],
    *,
    size: int,
    whole: bool = False,
) -> ReadingTargets | None:
    """What is learnt of a question; None where no answer can be written.

    answers: people's; words: the texts of the OCR words; vocabulary: word -> number, V = size of them and special ones;
    whole: an answer is one entry or OCR word, as models of a single pass have it.
    """
    places: dict[str, list[int]] = {}
    for place, word in enumerate(words):
        places.setdefault(whole_answer(word), []).append(place)
    spelt = [whole_answer(answer) for answer in answers]
    first: dict[int, float] = {}
    ways: dict[str, list[tuple[int, ...]]] = {}
    for answer, score in answer_scores(spelt).items():
        tokens = [answer] if whole else answer.split()
        ways[answer] = matched_sequences(tokens, vocabulary, places, size=size) if answer else []
        for number in (way[0] for way in ways[answer]):
            first[number] = max(first.get(number, 0.0), score)
    sequences = [way for answer in spelt for way in ways[answer]]
    return ReadingTargets(first, sequences) if sequences else None


def common_words(answers: Iterable[Sequence[str]], *, most: int, min_count: int, whole: bool = False) -> list[str]:
    """A vocabulary of training answers: the special entries, then the words (or whole answers) that stand in so many
    questions' answers, the commonest first, at most `most` of them.

    >>> common_words([["red bus"], ["bus", "stop"]], most=2, min_count=1)
    ['<pad>', '<s>', '</s>', '<unk>', 'bus', 'red']
    """
    counts: Counter[str] = Counter()
    for own in answers:
        spelt = [whole_answer(answer) for answer in own]
        own_words = spelt if whole else [word for answer in spelt for word in answer.split()]
        counts.update([*dict.fromkeys(own_words)])
    ranked = sorted(
        (word for word, count in counts.items() if word and count >= min_count), key=lambda w: (-counts[w], w)
    )
    return [*SPECIAL_ANSWERS, *(word for word in ranked if word not in SPECIAL_ANSWERS)][: len(SPECIAL_ANSWERS) + most]
