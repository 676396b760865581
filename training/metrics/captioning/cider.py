"""CIDEr-D (Vedantam et al. 2015), a score of captions and the reward of self-critical training (Rennie et al. 2017).

References are converted to arrays once; `CiderD.score` then takes captions as text and `CiderD.reward` batches of
sampled token ids, some hundred thousand captions per second on one core.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .ngrams import CANDIDATE_PADDING, MAX_ORDER, ImageReferences, NgramTable, WordLists, ngram_ranks, word_ids

SIGMA_BIGRAMS = 6.0
SCALE = 10.0
REFERENCES_PER_BLOCK = 2048


class CiderD:
    """CIDEr-D, in 0..10, of captions of known images (Vedantam et al. 2015); also the reward of self-critical training.

    Built once from every image's references; `score` takes captions as text, `reward` as token ids. As in the official
    evaluator and the popular self-critical implementation: n = 1..4, weights tf (ln N - ln max(1, df)), counts clipped
    in the product but not in the norms, a Gaussian penalty (sigma 6) on the difference in the number of bigrams, no
    stemming.

    Args:
        references: for each image its reference captions: words separated by white space, as `ptb_tokenize` returns.
        document_frequency: n-grams (a string of words separated by spaces, or a tuple of words) -> number of images
            with it; by default counted over `references`. The count of an absent n-gram is 1.
        num_documents: the number of images behind `document_frequency`.
        tokenizer: applied to lists of captions, references and candidates alike, e.g. `ptb_tokenize` for raw text.

    Raises:
        ValueError: for one image without `document_frequency` (every weight would be ln 1 = 0, every score 0); for
            references without any word; for a frequency over `num_documents`.

    Example:
        >>> scorer = CiderD([["a dog runs fast"], ["a cat sleeps", "the cat"]])
        >>> scorer.score(["a dog runs", "a cat"]).round(4).tolist()
        [5.7696, 2.6273]
    """

    def __init__(
        self,
        references: Sequence[Sequence[str]],
        *,
        document_frequency: Mapping[Any, float] | None = None,
        num_documents: int | None = None,
        tokenizer: Callable[[list[str]], list[str]] | None = None,
    ) -> None:
        check_references(references)
        self.tokenizer = tokenizer
        self._vocabulary: dict[str, int] = {}
        self._end_token_id: int | None = None
        self._pad_token_id: int | None = None
        if (document_frequency is None) != (num_documents is None):
            raise ValueError("document_frequency and num_documents belong together: give both or neither")
        texts = [self._tokenised(list(image)) for image in references]
        owned = ImageReferences([[word_ids(text.split(), self._vocabulary) for text in image] for image in texts])
        if document_frequency is None or num_documents is None:
            self._prepare(owned, *_counted_frequencies(owned), num_documents=len(owned))
        else:
            table, frequencies = _given_frequencies(document_frequency, num_documents, self._vocabulary)
            self._prepare(owned, table, frequencies, num_documents=num_documents)

    @classmethod
    def from_token_ids(
        cls,
        references: Sequence[Sequence[Sequence[int]] | np.ndarray],
        *,
        end_token_id: int,
        pad_token_id: int | None = None,
    ) -> "CiderD":
        """A scorer whose words are token ids, for `reward`.

        Args:
            references: for each image its references, each a row of token ids. A row is read up to and including its
                first `end_token_id`, which counts as a word here, in document frequencies and in rewards: without it
                training learns captions that stop in mid-phrase. A row without one is a truncated caption.
            pad_token_id: also ends a row, and is not a word; needed only for rows that are padded without an end token.
        """
        scorer = cls.__new__(cls)
        scorer.tokenizer, scorer._vocabulary = None, {}
        scorer._end_token_id, scorer._pad_token_id = end_token_id, pad_token_id
        owned = ImageReferences([rows_until_end(image, end_token_id, pad_token_id) for image in references])
        scorer._prepare(owned, *_counted_frequencies(owned), num_documents=len(owned))
        return scorer

    def __len__(self) -> int:
        """The number of images."""
        return len(self._owned.first) - 1

    def score(self, candidates: Sequence[str], image_indices: Sequence[int] | None = None) -> np.ndarray:
        """CIDEr-D of captions, (N,) float64; `image_indices` (N,): the image of each, by default one each, in order."""
        return self._blockwise(*self._read(candidates, image_indices), clipped=True)

    def score_plain(self, candidates: Sequence[str], image_indices: Sequence[int] | None = None) -> np.ndarray:
        """As `score`, but plain CIDEr: without clipped counts and length penalty, and without stemming."""
        return self._blockwise(*self._read(candidates, image_indices), clipped=False)

    def reward(self, sequences: Any, image_indices: Any) -> np.ndarray:
        """CIDEr-D, (N,) float64, of token ids (N, T) for the images (N,), a tensor or an array each.

        A row is read up to and including its first end token; a row without one is a caption truncated at T words.
        """
        return self._rewards(sequences, image_indices, clipped=True)

    def reward_plain(self, sequences: Any, image_indices: Any) -> np.ndarray:
        """As `reward`, but plain CIDEr: without clipped counts and length penalty."""
        return self._rewards(sequences, image_indices, clipped=False)

    @property
    def references(self) -> ImageReferences:
        """The references as word ids."""
        return self._owned

    def _rewards(self, sequences: Any, image_indices: Any, *, clipped: bool) -> np.ndarray:
        if self._end_token_id is None:
            raise ValueError("reward needs a scorer made by CiderD.from_token_ids; this one was made from text")
        words, images = columns_until_end(
            sequences, image_indices, end_token_id=self._end_token_id, pad_token_id=self._pad_token_id
        )
        return self._blockwise(words, self._checked_images(images), clipped=clipped)

    def _prepare(
        self, owned: ImageReferences, table: NgramTable, frequencies: list[np.ndarray], *, num_documents: int
    ) -> None:
        self._owned, self._table = owned, table
        table.set_weights(
            [math.log(num_documents) - np.log(np.maximum(1.0, frequency)) for frequency in frequencies],
            absent=math.log(num_documents),
        )
        captions = owned.captions
        self._reference_norms = np.zeros((len(captions.lengths), MAX_ORDER))
        by_length = np.argsort(captions.lengths, kind="stable")
        for start in range(0, len(by_length), REFERENCES_PER_BLOCK):
            chosen = by_length[start : start + REFERENCES_PER_BLOCK]
            columns = captions.padded(chosen, padding=CANDIDATE_PADDING)  # (T, references)
            self._reference_norms[chosen] = _norms(table.weigh(columns), ngram_ranks(columns))

    def _tokenised(self, captions: list[str]) -> list[str]:
        return captions if self.tokenizer is None else self.tokenizer(captions)

    def _read(self, candidates: Sequence[str], image_indices: Sequence[int] | None) -> tuple[np.ndarray, np.ndarray]:
        if self._end_token_id is not None:
            raise ValueError("this scorer's words are token ids: call reward(sequences, image_indices)")
        images = np.arange(len(self)) if image_indices is None else np.asarray(image_indices)
        if len(candidates) != len(images):
            raise ValueError(f"{len(candidates)} candidates for {len(images)} images; pass image_indices for them")
        unknown: dict[str, int] = {}
        known, first_unknown = self._vocabulary, len(self._vocabulary)
        ids = [
            [known[w] if w in known else unknown.setdefault(w, first_unknown + len(unknown)) for w in caption.split()]
            for caption in self._tokenised(list(candidates))
        ]
        words = WordLists.of(ids).padded(np.arange(len(ids)), padding=CANDIDATE_PADDING)  # (T, N)
        return words, self._checked_images(images)

    def _checked_images(self, images: np.ndarray) -> np.ndarray:
        if len(images) and not 0 <= images.min() <= images.max() < len(self):
            raise ValueError(f"image_indices reach from {images.min()} to {images.max()}; there are {len(self)} images")
        return images.astype(np.int64)

    def _blockwise(self, words: np.ndarray, images: np.ndarray, *, clipped: bool) -> np.ndarray:
        scores = np.zeros(len(images))
        for block in self._owned.blocks(images):
            columns = words[:, block]
            longest = int((columns >= 0).sum(axis=0).max())
            scores[block] = self._block_scores(columns[:longest], images[block], clipped=clipped)
        return scores

    def _block_scores(self, words: np.ndarray, images: np.ndarray, *, clipped: bool) -> np.ndarray:
        """words (T, N) of N candidates -> CIDEr-D or, where not `clipped`, plain CIDEr (N,)."""
        weights, ranks = self._table.weigh(words), ngram_ranks(words)
        references, counts = self._owned.matches(words, images)  # (N, R), four of (T, N, R)
        norms = _norms(weights, ranks)[:, None] * self._reference_norms[references]  # (N, R, 4)
        similarity = np.zeros(references.shape)
        for order, (weight, rank, count) in enumerate(zip(weights, ranks, counts, strict=True)):
            product = np.where(rank[:, :, None] < count, count, 0) if clipped else count  # (T, N, R)
            shared = np.einsum("tn,tnr->nr", np.square(weight), product)
            similarity += np.divide(shared, norms[..., order], out=np.zeros_like(shared), where=norms[..., order] > 0)
        if clipped:
            lengths = np.maximum((words >= 0).sum(axis=0) - 1, 0)[:, None]  # in bigrams
            gap = lengths - np.maximum(self._owned.captions.lengths[references] - 1, 0)
            similarity *= np.exp(-np.square(gap) / (2 * SIGMA_BIGRAMS**2))
        similarity[references < 0] = 0
        return similarity.sum(axis=1) / (references >= 0).sum(axis=1) * (SCALE / MAX_ORDER)


def _norms(weights: list[np.ndarray], ranks: list[np.ndarray]) -> np.ndarray:
    """The length of each column's tf-idf vector for n = 1 .. 4: four of (T, N) each -> (N, 4)."""
    squares = [(np.square(w) * (2.0 * rank + 1)).sum(axis=0) for w, rank in zip(weights, ranks, strict=True)]
    return np.sqrt(np.stack(squares, axis=1))


def _counted_frequencies(owned: ImageReferences) -> tuple[NgramTable, list[np.ndarray]]:
    if len(owned) == 1:
        raise ValueError(
            "CIDEr-D of a single image is 0 whatever the caption, because every document frequency is 1 of 1; give "
            "more images, or document_frequency and num_documents counted elsewhere"
        )
    bare = np.flatnonzero(np.diff(owned.first) == 0)
    if len(bare):
        raise ValueError(f"references[{bare[0]}] is empty: every image needs at least one reference caption")
    if not len(owned.captions.words):
        raise ValueError("no reference caption holds any word, so CIDEr-D has nothing to compare with")
    table = NgramTable(owned.captions)
    return table, table.document_frequencies(owned.owners())


def _given_frequencies(
    document_frequency: Mapping[Any, float], num_documents: int, vocabulary: dict[str, int]
) -> tuple[NgramTable, list[np.ndarray]]:
    """A table of the given n-grams, each added as a separate caption, so that its prefixes are in the table too."""
    ngrams = [key.split() if isinstance(key, str) else [str(word) for word in key] for key in document_frequency]
    wrong = next((ngram for ngram in ngrams if not 1 <= len(ngram) <= MAX_ORDER), None)
    if wrong is not None:
        raise ValueError(f"document_frequency has the key {' '.join(wrong)!r}; keys are n-grams of 1 to 4 words")
    counts = np.fromiter(document_frequency.values(), np.float64, len(ngrams))
    if counts.max(initial=1) > num_documents:
        raise ValueError(f"num_documents is {num_documents} but an n-gram stands in {counts.max():.0f} documents")
    captions = WordLists.of([word_ids(ngram, vocabulary) for ngram in ngrams])
    table = NgramTable(captions)
    frequencies = []
    for order, (index, places) in enumerate(zip(table.indices, table.places, strict=True), start=1):
        frequency = np.zeros(len(index))
        of_this_order = captions.lengths == order
        frequency[places[captions.starts[of_this_order]]] = counts[of_this_order]
        frequencies.append(frequency)
    return table, frequencies


def rows_until_end(
    rows: Sequence[Sequence[int]] | np.ndarray, end_token_id: int, pad_token_id: int | None
) -> list[list[int]]:
    """Each row of token ids up to and including its first end token, or up to its padding.

    Raises `ValueError` for negative ids before it.
    """
    cut = []
    for row in rows:
        ids = [int(word) for word in row]
        ids = ids[: ids.index(end_token_id) + 1] if end_token_id in ids else ids
        if pad_token_id is not None and pad_token_id != end_token_id and pad_token_id in ids:
            ids = ids[: ids.index(pad_token_id)]
        if min(ids, default=0) < 0:
            raise ValueError("references hold negative token ids before their end token; is pad_token_id missing?")
        cut.append(ids)
    return cut


def columns_until_end(
    sequences: Any, image_indices: Any, *, end_token_id: int, pad_token_id: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """Token ids (N, T) and images (N,), a tensor or an array each -> columns of words (T, N) int32, and images (N,).

    A row is read up to and including its first end token, or up to its padding. Raises `ValueError` for other shapes,
    and for negative ids before the end.
    """
    rows = np.asarray(sequences.cpu() if hasattr(sequences, "cpu") else sequences)  # (N, T)
    images = np.asarray(image_indices.cpu() if hasattr(image_indices, "cpu") else image_indices)
    if rows.ndim != 2 or images.shape != rows.shape[:1]:
        raise ValueError(f"sequences {rows.shape} and image_indices {images.shape} should be (N, T) and (N,)")
    ended = np.cumsum(rows == end_token_id, axis=1) - (rows == end_token_id)  # ends before each place
    real = ended == 0
    if pad_token_id not in (None, end_token_id):
        real &= np.cumsum(rows == pad_token_id, axis=1) == 0
    if (rows[real] < 0).any():
        raise ValueError("sequences hold negative token ids before their end token; is pad_token_id missing?")
    return np.where(real, rows, CANDIDATE_PADDING).T.astype(np.int32), images


def check_captions(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> None:
    """Raises `ValueError` or `TypeError` for captions or references that cannot be scored."""
    if isinstance(candidates, str):
        raise TypeError("candidates is one string; pass a list with one caption per image")
    if len(candidates) != len(references):
        raise ValueError(
            f"{len(candidates)} candidates but {len(references)} lists of references; pass one caption and one list of "
            "references per image, in the same order"
        )
    if not len(candidates):
        raise ValueError("there are no candidates to score")
    for number, candidate in enumerate(candidates):
        if not isinstance(candidate, str):
            raise TypeError(f"candidates[{number}] is a {type(candidate).__name__}, not a string")
    check_references(references)


def check_references(references: Sequence[Sequence[str]]) -> None:
    """Raises `ValueError` or `TypeError` unless every image has a list of at least one reference string."""
    for number, image in enumerate(references):
        if isinstance(image, str):
            raise TypeError(f"references[{number}] is one string; pass a list of references, even if it holds only one")
        if not len(image):
            raise ValueError(f"references[{number}] is empty: every image needs at least one reference caption")
        for reference in image:
            if not isinstance(reference, str):
                raise TypeError(f"references[{number}] holds a {type(reference).__name__}, not only strings")


def document_frequencies(references: Sequence[Sequence[str]]) -> dict[str, int]:
    """N-gram of 1 to 4 words -> number of images with it in their tokenised references: an argument of `CiderD`."""
    frequencies: dict[str, int] = {}
    for image in references:
        captions = [caption.split() for caption in image]
        ngrams = {
            " ".join(words[start : start + order])
            for words in captions
            for order in range(1, MAX_ORDER + 1)
            for start in range(len(words) - order + 1)
        }
        for ngram in ngrams:
            frequencies[ngram] = frequencies.get(ngram, 0) + 1
    return frequencies
