"""How many answers can be copied: the bound that OCR words set to every model that points at them (Hu et al. 2020)."""

from collections.abc import Callable, Collection, Sequence
from typing import Any

MAX_STEPS = 12  # words that M4C writes at most


def copied_answers(
    answers: Sequence[Sequence[str]],
    words: Sequence[Sequence[str]],
    *,
    vocabulary: Collection[str] = (),
    max_steps: int = MAX_STEPS,
    normalize: Callable[[str], str] = str.lower,
) -> dict[str, Any]:
    """Which questions have an accepted answer that is OCR words in some order, whole and each as often as needed.

    Args:
        answers: the accepted answers of each question.
        words: the texts of the OCR words (or lines) of each question's image.
        vocabulary: words that a model writes beside those that it copies.
        max_steps: how many words a model writes at most.
        normalize: applied to answers, OCR words and vocabulary before they are compared.

    Returns:
        `copied` and `in_one_step` (one OCR word is the answer), shares of the questions in 0..1, and as `..._x100`;
        `per_item`: `steps`, the fewest words that write an answer, 0 where none can be, and `answer`, of the answers
        that can be written the one that most people gave, "" where none can be. The score of these answers by any
        metric, `textvqa_accuracy(found["per_item"]["answer"], answers)`, is the upper bound of that metric.

    Raises:
        ValueError: for no question, different lengths, or max_steps below 1.

    >>> found = copied_answers([["Main Street", "main st"], ["red"]], [["STREET", "Main"], ["stop"]])
    >>> found["copied"], found["per_item"]
    (0.5, {'steps': [2, 0], 'answer': ['Main Street', '']})
    """
    if len(answers) != len(words) or not len(answers):
        raise ValueError(
            f"answers of {len(answers)} questions and words of {len(words)}; give one list of each a question"
        )
    if max_steps < 1:
        raise ValueError(f"max_steps is {max_steps}; an answer takes one word or more")
    known = {tuple(normalize(word).split()) for word in vocabulary} - {()}
    best = []
    for accepted, own in zip(answers, words, strict=True):
        pieces = ({tuple(normalize(word).split()) for word in own} - {()}) | known
        # the answer that most people gave first; of equal ones the first
        common = sorted(dict.fromkeys(accepted), key=lambda answer: -accepted.count(answer))
        found = ((fewest_pieces(normalize(answer).split(), pieces), answer) for answer in common)
        best.append(next(((steps, answer) for steps, answer in found if 0 < steps <= max_steps), (0, "")))
    steps = [count for count, _ in best]
    shares = {"copied": sum(map(bool, steps)) / len(steps), "in_one_step": steps.count(1) / len(steps)}
    figures = shares | {f"{name}_x100": 100 * value for name, value in shares.items()}
    return figures | {"per_item": {"steps": steps, "answer": [answer for _, answer in best]}}


def fewest_pieces(words: Sequence[str], pieces: Collection[tuple[str, ...]]) -> int:
    """The fewest pieces that written one after the other are `words`; 0 where none are, or for no word.

    >>> fewest_pieces("no 2 main street".split(), {("no",), ("2",), ("main", "street"), ("no", "2")})
    2
    """
    lengths = sorted({len(piece) for piece in pieces})
    fewest = [0] + [0] * len(words)  # of the words before each place, 0 where they cannot be written
    for end in range(1, len(words) + 1):
        starts = [end - length for length in lengths if length <= end]
        counts = [
            fewest[start] + 1 for start in starts if (start == 0 or fewest[start]) and tuple(words[start:end]) in pieces
        ]
        fewest[end] = min(counts, default=0)
    return fewest[-1]
