"""Exact n-gram counts of whole batches of captions, for BLEU and CIDEr.

Captions are columns of word ids. An n-gram is identified by the place where it starts, so n-grams are not built as
tuples: two n-grams are equal if their (n-1)-grams and their last words are equal. `training.metrics.captioning.scores`
computes its scores from these counts:

- a place's rank is the number of earlier places of the same caption with the same n-gram, so an n-gram that occurs
  c times has the ranks 0 .. c-1, and summing `rank < r` over its places gives min(c, r), the clipped count;
- summing 2 rank + 1 gives c * c, the n-gram's share of a squared norm.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

MAX_ORDER = 4
CANDIDATE_PADDING = -1
REFERENCE_PADDING = -2  # differs from the candidates' padding, so that padding never matches padding
COMPARISONS_PER_BLOCK = 1 << 21  # bounds the memory of one comparison table to 2 MiB, about a core's cache
PAIRS_PER_BLOCK = 2048  # (candidate, reference) pairs
HASH_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio, Knuth's multiplicative hashing


@dataclass(frozen=True)
class WordLists:
    """Captions of different lengths, concatenated.

    words: (sum of lengths,) int64, one id per word; starts, lengths: (number of captions,) int64.
    """

    words: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray

    @classmethod
    def of(cls, captions: Sequence[Sequence[int]]) -> "WordLists":
        """Concatenate captions, each a list of non-negative word ids."""
        lengths = np.fromiter(map(len, captions), np.int64, len(captions))
        words = np.fromiter((word for caption in captions for word in caption), np.int64, int(lengths.sum()))
        return cls(words, np.cumsum(lengths) - lengths, lengths)

    def padded(self, chosen: np.ndarray, *, padding: int) -> np.ndarray:
        """Columns of words, (longest chosen caption, *chosen.shape) int32; a caption chosen as -1 is empty."""
        lengths = np.where(chosen >= 0, self.lengths[chosen], 0) if len(self.lengths) else np.zeros_like(chosen)
        longest = int(lengths.max(initial=0))
        if longest == 0:
            return np.full((0, *chosen.shape), padding, np.int32)
        steps = np.arange(longest).reshape(-1, *[1] * chosen.ndim)
        places = np.minimum(self.starts[chosen] + steps, len(self.words) - 1)  # (T, *chosen.shape)
        return np.where(steps < lengths, self.words[places], padding).astype(np.int32)


def word_ids(words: Sequence[str], vocabulary: dict[str, int]) -> list[int]:
    """The id of every word, from 0; new words are added to the vocabulary."""
    return [vocabulary.setdefault(word, len(vocabulary)) for word in words]


def ngram_matches(words: np.ndarray, others: np.ndarray) -> list[np.ndarray]:
    """For n = 1 .. 4, how often the n-gram that starts at each place of `words` occurs in the same column of `others`.

    words: (T, C) int32; others: (L, C) int32. Returns four (T, C) integer arrays.
    """
    return _count_equal(words, others, earlier_only=False)


def ngram_ranks(words: np.ndarray) -> list[np.ndarray]:
    """For n = 1 .. 4, how often the n-gram at each place of `words` (T, C) started earlier in the same column."""
    return _count_equal(words, words, earlier_only=True)


def _count_equal(words: np.ndarray, others: np.ndarray, *, earlier_only: bool) -> list[np.ndarray]:
    total, columns = words.shape
    length = len(others)
    dtype = np.uint8 if length < 256 else np.int64
    counts = [np.zeros((total, columns), dtype) for _ in range(MAX_ORDER)]
    rows = max(1, COMPARISONS_PER_BLOCK // max(1, length * columns))
    for start in range(0, total, rows):
        block = words[start : start + rows + MAX_ORDER - 1]
        same_word = block[:, None, :] == others[None, :, :]  # (rows + 3, L, C)
        if earlier_only:
            same_word &= (np.arange(start, start + len(block))[:, None] > np.arange(length))[:, :, None]
        same = same_word
        for order, count in enumerate(counts, start=1):
            found = same[:rows].view(np.uint8).sum(axis=1, dtype=dtype)
            count[start : start + len(found)] = found
            same = same[:-1, :-1] & same_word[order:, order:]
    return counts


class ExactIndex:
    """A hash table of int64 keys >= 0: key -> its place in `keys`, -1 if absent. Whole keys are compared.

    Looking up thousands of keys takes a few array operations, ten times faster than a binary search if the table is
    larger than the cache.
    """

    def __init__(self, keys: np.ndarray) -> None:
        self.keys = np.append(keys, -1)  # empty slots, -1, refer to the last one
        bits = max(4, int(2 * len(keys)).bit_length())  # at most half full
        self._shift = np.uint64(64 - bits)
        self._last_slot = (1 << bits) - 1
        self._slots = np.full(1 << bits, -1, np.int32)
        waiting = np.arange(len(keys), dtype=np.int32)
        slots = self._first_slots(keys)
        while len(waiting):
            free = self._slots[slots] < 0
            self._slots[slots[free]] = waiting[free]
            unplaced = self._slots[slots] != waiting
            waiting, slots = waiting[unplaced], (slots[unplaced] + 1) & self._last_slot

    def __len__(self) -> int:
        """The number of keys."""
        return len(self.keys) - 1

    def find(self, keys: np.ndarray) -> np.ndarray:
        """keys (N,) int64 -> places (N,) int32, -1 if absent."""
        slots = self._first_slots(keys)
        places = self._slots[slots]
        unsure = np.flatnonzero((places >= 0) & (self.keys[places] != keys))
        while len(unsure):
            slots[unsure] = (slots[unsure] + 1) & self._last_slot
            places[unsure] = self._slots[slots[unsure]]
            unsure = unsure[(places[unsure] >= 0) & (self.keys[places[unsure]] != keys[unsure])]
        return places

    def _first_slots(self, keys: np.ndarray) -> np.ndarray:
        return ((keys.astype(np.uint64) * HASH_MULTIPLIER) >> self._shift).astype(np.int64)


class ImageReferences:
    """The reference captions of images as word ids, and the image of each caption."""

    def __init__(self, references: Sequence[Sequence[Sequence[int]]]) -> None:
        self.captions = WordLists.of([caption for image in references for caption in image])
        self.first = np.cumsum(
            [0, *map(len, references)]
        )  # (images + 1,) the first caption of every image, and the end

    def __len__(self) -> int:
        """The number of images."""
        return len(self.first) - 1

    def owners(self) -> np.ndarray:
        """The image of every word, (words,)."""
        images = np.repeat(np.arange(len(self)), np.diff(self.first))
        return np.repeat(images, self.captions.lengths)

    def blocks(self, images: np.ndarray) -> Iterator[slice]:
        """Slices of candidates for these images (N,), so small that each has at most `PAIRS_PER_BLOCK` pairs."""
        most = int(np.diff(self.first)[images].max(initial=1))
        size = max(1, PAIRS_PER_BLOCK // most)
        return (slice(start, min(start + size, len(images))) for start in range(0, len(images), size))

    def numbers(self, images: np.ndarray) -> np.ndarray:
        """The numbers of the references of images (N,): (N, R), -1 where an image has fewer than R."""
        first, end = self.first[images], self.first[images + 1]
        references = first[:, None] + np.arange(int((end - first).max(initial=0)))
        return np.where(references < end[:, None], references, -1)

    def matches(self, words: np.ndarray, images: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
        """How often each n-gram of candidates occurs in each reference of the candidates' images.

        words: (T, N), images: (N,). Returns the references' numbers (N, R), -1 if an image has fewer than R, and for
        n = 1 .. 4 the counts (T, N, R) of the n-gram that starts at each place.
        """
        references = self.numbers(images)
        others = self.captions.padded(references.ravel(), padding=REFERENCE_PADDING)  # (L, N * R)
        counts = ngram_matches(np.repeat(words, references.shape[1], axis=1), others)
        return references, [count.reshape(len(words), *references.shape) for count in counts]


class NgramTable:
    """The n-grams of a collection of captions with their weights, n = 1 .. 4; other n-grams have the weight `absent`.

    An n-gram's key combines the place of its first n-1 words among the (n-1)-grams and the place of its last word among
    the words, so keys are far below 2**63 and unique.
    """

    def __init__(self, captions: WordLists) -> None:
        ends = np.repeat(captions.starts + captions.lengths, captions.lengths)
        words, places = np.unique(captions.words, return_inverse=True)
        self.indices = [ExactIndex(words)]
        self.places = [places]  # the place of the n-gram that starts at each word of the collection, -1 past the end
        for order in range(2, MAX_ORDER + 1):
            whole = np.flatnonzero(np.arange(len(ends)) + order <= ends)
            keys = self.places[-1][whole] * len(words) + places[whole + order - 1]
            unique, inverse = np.unique(keys, return_inverse=True)
            self.indices.append(ExactIndex(unique))
            self.places.append(np.full(len(ends), -1))
            self.places[-1][whole] = inverse
        self.num_words = len(words)
        self.weights: list[np.ndarray] = []

    def document_frequencies(self, owners: np.ndarray) -> list[np.ndarray]:
        """For n = 1 .. 4, the number of documents with each n-gram; owners (words,): the document of every word."""
        num_documents = int(owners.max(initial=-1)) + 1
        frequencies = []
        for index, places in zip(self.indices, self.places, strict=True):
            whole = places >= 0
            pairs = np.unique(places[whole] * num_documents + owners[whole])
            frequencies.append(np.bincount(pairs // max(1, num_documents), minlength=len(index)))
        return frequencies

    def set_weights(self, weights: list[np.ndarray], *, absent: float) -> None:
        """Set every n-gram's weight, and free the collection, which is not needed any more."""
        self.weights = [np.append(weight, absent) for weight in weights]
        self.places = []

    def weigh(self, words: np.ndarray) -> list[np.ndarray]:
        """For n = 1 .. 4, the weight of the n-gram at each place of padded columns (T, C); 0 past its last n-gram."""
        real = words >= 0
        word_places = self.indices[0].find(words.ravel()).reshape(words.shape).astype(np.int64)
        places, weighed = word_places, []
        for order, weight in enumerate(self.weights, start=1):
            if order > 1:
                last = word_places[order - 1 :]
                known = (places[: len(last)] >= 0) & (last >= 0)
                keys = np.where(known, places[: len(last)] * self.num_words + last, -1)
                places = self.indices[order - 1].find(keys.ravel()).reshape(keys.shape).astype(np.int64)
            weights = np.zeros(words.shape)
            weights[: len(places)] = np.where(real[order - 1 :], weight[places], 0.0)
            weighed.append(weights)
        return weighed
