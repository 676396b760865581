"""METEOR's four stages: which words and phrases of a caption match which of a reference.

    captions + resources --Phrases--> phrases of every caption, and the pairs of phrases that match
    pairs of captions --Phrases.matches--> Matches: every possible match of every pair

Stage 0 matches equal words, 1 words of the same stem, 2 words that share a synset, 3 paraphrases of up to seven words,
whichever of the two phrases the table names first. A pair of words may match in several stages, and a pair of phrases
twice in the last; the order of the matches decides between equally good alignments.
"""

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from .meteor_paraphrases import phrase_hashes
from .meteor_resources import MeteorResources, java_hash
from .meteor_stemmer import english_stem

EXACT, STEM, SYNONYM, PARAPHRASE = range(4)
TURNED = 4  # the order of paraphrases that the table names the other way round
FILTER_BITS = 24
FILTER_FACTOR = np.uint64(0x9E3779B97F4A7C15)
ABSENT = -1

Words = Sequence[str]


class Matches(NamedTuple):
    """Possible matches (K,) of pairs of captions, by pair, then by `start`, then in METEOR's order of preference.

    In pair `pair`, `length` words of the reference from word `start` match `caption_length` words of the caption from
    word `caption_start`, in stage `stage`.
    """

    pair: np.ndarray
    start: np.ndarray
    length: np.ndarray
    caption_start: np.ndarray
    caption_length: np.ndarray
    stage: np.ndarray


class Phrases:
    """The phrases of captions, and which of them match which.

    Args:
        captions: C captions, each a sequence of METEOR's words.
        resources: METEOR's data.
    """

    def __init__(self, captions: Sequence[Words], resources: MeteorResources) -> None:
        self.lengths = np.array([len(words) for words in captions], int)
        flat = list(itertools.chain.from_iterable(captions))
        vocabulary = list(dict.fromkeys(flat))
        ids = {word: number for number, word in enumerate(vocabulary)}
        words = np.array([ids[word] for word in flat], int)
        self.keys = np.array([java_hash(word) for word in vocabulary], int)[words]  # (T,)
        is_function = np.array([word in resources.function_words for word in vocabulary], bool)[words]
        self.function_words_before = np.concatenate([[0], np.cumsum(is_function)])  # (T + 1,)
        self.first = np.concatenate([[0], np.cumsum(self.lengths)])
        entries = self._add_phrases(flat, words, resources)
        self._relate(word_relations(vocabulary, resources), entries)

    def _add_phrases(self, flat: Words, words: np.ndarray, resources: MeteorResources) -> tuple[np.ndarray, np.ndarray]:
        """Find every n-gram with a paraphrase; returns the ids of phrases and paraphrases, in the table's order."""
        longest = min(resources.paraphrases.longest, int(self.lengths.max(initial=1)))
        hashes = phrase_hashes(flat, longest=longest)  # (n, T)
        owner = np.repeat(np.arange(len(self.lengths)), self.lengths)
        place = np.arange(len(flat)) - self.first[owner]
        inside = place + np.arange(1, longest + 1)[:, None] <= self.lengths[owner]  # (n, T)
        unique = np.unique(hashes[inside])
        known, paraphrase = resources.paraphrases.among(unique)
        wanted = np.zeros(len(unique), bool)
        wanted[known] = wanted[paraphrase] = True
        number = np.searchsorted(unique, hashes)
        number[number == len(unique)] = 0
        kept = inside & wanted[number]
        kept[0] = False
        size, at = np.nonzero(kept)
        # Words come first, with their own ids, so that a word's phrase is the word.
        phrase_id = np.full(len(unique), ABSENT)
        phrase_id[number[0]] = words
        several = np.flatnonzero(wanted & (phrase_id == ABSENT))
        num_words = int(words.max(initial=-1)) + 1
        phrase_id[several] = num_words + np.arange(len(several))
        self.num_phrases = num_words + len(several)
        order = np.argsort(np.concatenate([owner, owner[at]]), kind="stable")
        self.phrase = np.concatenate([words, phrase_id[number[size, at]]])[order]
        self.phrase_start = np.concatenate([place, place[at]])[order]
        self.phrase_length = np.concatenate([np.ones(len(flat), int), size + 1])[order]
        self.num_of_caption = self.lengths + np.bincount(owner[at], minlength=len(self.lengths))
        self.first_phrase = np.concatenate([[0], np.cumsum(self.num_of_caption)])
        return phrase_id[known], phrase_id[paraphrase]

    def _relate(self, relations: np.ndarray, entries: tuple[np.ndarray, np.ndarray]) -> None:
        """Sort all matching pairs of phrases by their code; relations (K, 3): reference's word, caption's, stage."""
        known, paraphrase = entries
        in_table = np.arange(len(known))
        reference = np.concatenate([relations[:, 0], known, paraphrase])
        caption = np.concatenate([relations[:, 1], paraphrase, known])
        kind = np.concatenate([relations[:, 2], np.full(len(known), PARAPHRASE), np.full(len(known), TURNED)])
        entry = np.concatenate([np.zeros(len(relations), int), in_table, in_table])
        code = reference * self.num_phrases + caption
        order = np.argsort(code, kind="stable")
        self._codes, self._kinds, self._entries = code[order], kind[order], entry[order]
        self._filter = np.zeros(2**FILTER_BITS, bool)
        self._filter[_filter_place(self._codes)] = True

    def matches(self, captions: np.ndarray, references: np.ndarray) -> Matches:
        """All possible matches of P pairs of captions, given by their numbers (P,) and (P,)."""
        pair, phrase, other, low, high = self._related(captions, references)
        counts = high - low
        relation = np.repeat(low - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())
        pair, phrase, other = (np.repeat(values, counts) for values in (pair, phrase, other))
        kind, entry = self._kinds[relation], self._entries[relation]
        kept = (kind == EXACT) | ~self._identical(captions, references)[pair]
        pair, phrase, other, kind, entry = (values[kept] for values in (pair, phrase, other, kind, entry))
        start, length = self.phrase_start[phrase], self.phrase_length[phrase]
        caption_start, caption_length = self.phrase_start[other], self.phrase_length[other]
        preference = np.select(
            [kind < PARAPHRASE, kind == PARAPHRASE],
            [caption_start, (length << 56) | (entry << 20) | caption_start],
            (caption_start << 42) | (caption_length << 36) | entry,
        )
        order = np.lexsort((preference, kind, start, pair))
        stage = np.minimum(kind, PARAPHRASE)
        return Matches(*(values[order] for values in (pair, start, length, caption_start, caption_length, stage)))

    def _related(self, captions: np.ndarray, references: np.ndarray) -> tuple[np.ndarray, ...]:
        """Pair, phrase of the reference, phrase of the caption, and the bounds of their relations, (K,) each."""
        rows, columns = self._padded(references), self._padded(captions)  # (P, A), (P, B)
        rows_ids = np.where(rows == ABSENT, ABSENT, self.phrase[rows])
        columns_ids = np.where(columns == ABSENT, ABSENT, self.phrase[columns])
        codes = rows_ids[:, :, None] * self.num_phrases + columns_ids[:, None]  # (P, A, B)
        likely = self._filter[_filter_place(codes)] & (rows_ids >= 0)[:, :, None] & (columns_ids >= 0)[:, None]
        pair, row, column = np.nonzero(likely)
        wanted = codes[pair, row, column]
        low = np.searchsorted(self._codes, wanted)
        high = np.searchsorted(self._codes, wanted, side="right")
        real = high > low
        return pair[real], rows[pair, row][real], columns[pair, column][real], low[real], high[real]

    def _padded(self, captions: np.ndarray) -> np.ndarray:
        """The places (P, A) of the phrases of captions in `phrase`, padded with ABSENT."""
        counts = self.num_of_caption[captions]
        steps = np.arange(counts.max(initial=0))
        return np.where(steps < counts[:, None], self.first_phrase[captions][:, None] + steps, ABSENT)

    def _identical(self, captions: np.ndarray, references: np.ndarray) -> np.ndarray:
        """Which pairs have the same words (P,); METEOR matches these exactly alone."""
        same = self.lengths[captions] == self.lengths[references]
        for place in range(int(self.lengths[captions].max(initial=0))):
            there = np.flatnonzero(same & (self.lengths[captions] > place))
            keys = self.keys[self.first[captions[there]] + place], self.keys[self.first[references[there]] + place]
            same[there[keys[0] != keys[1]]] = False
        return same


def word_relations(vocabulary: Words, resources: MeteorResources) -> np.ndarray:
    """(K, 3): a word, another or the same that matches it, and the stage; words by their places in the vocabulary."""
    keys = [java_hash(word) for word in vocabulary]
    stems = [java_hash(english_stem(word)) for word in vocabulary]
    synsets: dict[str, list[int]] = defaultdict(list)
    for number, word in enumerate(vocabulary):
        for sense in resources.senses(word):
            synsets[sense].append(number)
    found = {(a, b, EXACT) for a, b in _pairs(_groups(keys))}
    found |= {(a, b, STEM) for a, b in _pairs(_groups(stems)) if keys[a] != keys[b]}
    found |= {(a, b, SYNONYM) for a, b in _pairs(synsets.values()) if keys[a] != keys[b]}
    return np.array(sorted(found), int).reshape(-1, 3)


def _groups(keys: Iterable[int]) -> Iterable[list[int]]:
    groups: dict[int, list[int]] = defaultdict(list)
    for number, key in enumerate(keys):
        groups[key].append(number)
    return groups.values()


def _pairs(groups: Iterable[list[int]]) -> Iterator[tuple[int, int]]:
    return ((one, other) for group in groups for one in group for other in group)


def _filter_place(codes: np.ndarray) -> np.ndarray:
    return (codes.astype(np.uint64) * FILTER_FACTOR) >> np.uint64(64 - FILTER_BITS)
