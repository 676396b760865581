"""WUPS: accuracy of answers that gives credit for similar meaning (Malinowski and Fritz 2014).

    (prediction, truth) --words or comma-separated items--> WordSimilarity of each two --products--> 0..1

The score of a question is min(prod over a in A of max over t in T of s(a, t), prod over t in T of max over a in A of
s(a, t)) with A the words of the prediction and T those of the truth. s is Wu and Palmer's similarity in WordNet
(`wordnet.py`), a tenth of it below the threshold alpha: WUPS@0.9 and, without a threshold, WUPS@0.0. Two published
scripts differ in how they split words and which senses they compare; `form` selects one.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from .exact_match import mean
from .wordnet import Synset, WordNet

BELOW_THRESHOLD = 0.1  # the factor on a similarity below alpha
FORMS = ("daquar", "next_oe")


class Taxonomy(Protocol):
    """The interface of WordNet that WUPS uses; any object with these two methods can be given."""

    def synsets(self, word: str, *, parts_of_speech: str = "nvar") -> list[Synset]:
        """The senses of a word, the most common first."""

    def wup_similarity(self, first: Synset, second: Synset) -> float:
        """The similarity of two senses, 0..1."""


class WordSimilarity:
    """Similarity 0..1 of two words; each pair is computed once.

    Args:
        taxonomy: the source of senses and their similarities.
        form: "daquar": the two nouns' most similar senses; "next_oe": the first sense of each word, of any part of
            speech.
        alpha: similarities below it are multiplied by 0.1.

    The similarity of a word to itself is 1, also for unknown words; to another word it is 0 if one of the two is
    unknown.
    """

    def __init__(self, taxonomy: Taxonomy, *, form: str, alpha: float) -> None:
        self.taxonomy, self.form, self.alpha = taxonomy, form, alpha
        self._senses: dict[str, list[Synset]] = {}
        self._known: dict[tuple[str, str], float] = {}

    def __call__(self, first: str, second: str) -> float:
        if first == second:
            return 1.0
        pair = first, second
        if pair not in self._known:
            value = max(
                (self.taxonomy.wup_similarity(a, b) for a in self.senses(first) for b in self.senses(second)),
                default=0.0,
            )
            self._known[pair] = value if value >= self.alpha else BELOW_THRESHOLD * value
        return self._known[pair]

    def senses(self, word: str) -> list[Synset]:
        """The senses to compare: all noun senses, or the first sense."""
        if word not in self._senses:
            if self.form == "daquar":
                self._senses[word] = self.taxonomy.synsets(word, parts_of_speech="n")
            else:
                self._senses[word] = self.taxonomy.synsets(word)[:1]
        return self._senses[word]


def wups(
    pairs: Sequence[tuple[str, str]],
    alpha: float = 0.9,
    *,
    form: str = "next_oe",
    taxonomy: Taxonomy | None = None,
) -> dict[str, Any]:
    """WUPS of predictions against truths.

    Args:
        pairs: prediction and truth of each question.
        alpha: the threshold, 0..1: 0.9 for WUPS@0.9, 0 for WUPS@0.0.
        form: "daquar", the script of DAQUAR's authors: both texts are lists separated by commas ("book, cup") and
            compared item by item over all noun senses; an item with similarity 0 to all others makes the score 0.
            "next_oe", NExT-OE's script: both texts are phrases, split into words by nltk; the first sense of each word
            is compared, and words with similarity 0 to all others are skipped, unless all are.
        taxonomy: WordNet; by default `WordNet.find()`.

    Returns:
        `wups` in 0..1 (the mean), `wups_x100`, and `per_item`.

    Raises:
        ValueError, TypeError: for an unknown form, an alpha outside 0..1, no pairs, or pairs that are not two strings.
        OSError: if WordNet is not on this machine; the message names the cure.
        ImportError: for the form "next_oe" without nltk.
    """
    if form not in FORMS:
        raise ValueError(f"form is {form!r}; it can be one of {', '.join(FORMS)}")
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha is {alpha}; a similarity is in 0..1")
    check_pairs(pairs)
    parts = answer_items if form == "daquar" else word_tokenizer()
    compare = fuzzy_match if form == "daquar" else fuzzy_match_of_known
    similarity = WordSimilarity(taxonomy or WordNet.find(), form=form, alpha=alpha)
    per_item = [
        min(compare(predicted, true, similarity), compare(true, predicted, similarity))
        for predicted, true in ((parts(prediction), parts(truth)) for prediction, truth in pairs)
    ]
    score = mean(per_item)
    return {"wups": score, "wups_x100": 100 * score, "per_item": per_item}


def check_pairs(pairs: Sequence[tuple[str, str]]) -> None:
    """Raises `ValueError` or `TypeError` naming the first pair that is not a prediction and a truth."""
    if not len(pairs):
        raise ValueError("there are no pairs to score; give a prediction and a truth for each question")
    for number, pair in enumerate(pairs):
        if isinstance(pair, str) or len(pair) != 2 or not all(isinstance(text, str) for text in pair):
            raise TypeError(f"pairs[{number}] is {pair!r:.80}; it must be two strings, the prediction and the truth")


def answer_items(text: str) -> list[str]:
    """The items of an answer such as "book, garbage bin"; words of one item are joined by underscores, as in DAQUAR.

    >>> answer_items("book, garbage bin")
    ['book', 'garbage_bin']
    """
    return ["_".join(item.split()) for item in text.split(",")]


def word_tokenizer() -> Callable[[str], list[str]]:
    """nltk's word tokeniser, which gives the result of `word_tokenize` for a single sentence."""
    try:
        from nltk.tokenize import NLTKWordTokenizer
    except ImportError as error:
        raise ImportError(
            "WUPS of phrases splits words with nltk: pip install 'modeling-updown[wups]', or use form='daquar' for "
            "answers separated by commas"
        ) from error
    tokenizer: Callable[[str], list[str]] = NLTKWordTokenizer().tokenize
    return tokenizer


def fuzzy_match(items: Sequence[str], others: Sequence[str], similarity: Callable[[str, str], float]) -> float:
    """The product, over the items, of the similarity to the most similar of the others; 0..1.

    >>> fuzzy_match(["cup", "mug"], ["cup"], lambda a, b: 1.0 if a == b else 0.5)
    0.5
    """
    return math.prod(max((similarity(item, other) for other in others), default=0.0) for item in items)


def fuzzy_match_of_known(items: Sequence[str], others: Sequence[str], similarity: Callable[[str, str], float]) -> float:
    """As `fuzzy_match`, over the items with a similarity above 0 to any of the others; 0 without such items."""
    best = [max((similarity(item, other) for other in others), default=0.0) for item in items]
    known = [value for value in best if value > 0]
    return math.prod(known) if known else 0.0
