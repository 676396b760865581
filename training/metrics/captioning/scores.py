"""BLEU, METEOR, ROUGE-L and CIDEr of captions, equal to the official evaluator (`pycocoevalcap`), without Java.

Two entry points:

- `caption_scores` takes raw captions, tokenises them as the official evaluator does and returns every score:
  captions --ptb_tokenize--> words --bleu, meteor, rouge_l, CiderD--> corpus values and one value per image.
- `CiderD` is also the reward of self-critical training (Rennie et al. 2017): built once from the training captions, its
  `reward` scores whole batches of sampled token ids; so do `bleu_of_ids` and `rouge_l_of_ids` for
  `training.metrics.captioning.rewards`.

Sources: Papineni et al. 2002 (BLEU), Lin 2004 (ROUGE-L), Vedantam et al. 2015 (CIDEr, CIDEr-D), Denkowski and Lavie
2014 (METEOR 1.5, whose data come from `pycocoevalcap`). SPICE, which needs Java, is in
`training.metrics.captioning.java`.
"""

import itertools
import math
import warnings
from typing import Any

import numpy as np

from .cider import CiderD, check_captions, document_frequencies
from .meteor import corpus_meteor, meteor_scores, meteor_statistics
from .meteor_resources import MeteorResources
from .ngrams import (
    CANDIDATE_PADDING,
    MAX_ORDER,
    REFERENCE_PADDING,
    ImageReferences,
    WordLists,
    ngram_ranks,
    word_ids,
)
from .ptb_tokenizer import ptb_tokenize

__all__ = ["CiderD", "bleu", "caption_scores", "document_frequencies", "ptb_tokenize", "rouge_l"]

BLEU_TINY, BLEU_SMALL = 1e-15, 1e-9
ROUGE_BETA = 1.2
ONE_IMAGE = (
    "CIDEr of a single image is 0 whatever the caption, because every document frequency is 1 of 1; score more images "
    "together"
)


def caption_scores(candidates: list[str], references: list[list[str]]) -> dict[str, Any]:
    """Score one caption per image against that image's references, as the official evaluator does.

    Args:
        candidates: one raw caption per image.
        references: for each image, in the same order, its raw reference captions (at least one).

    Returns:
        `bleu_1` .. `bleu_4` and `rouge_l` in 0..1; `cider` (what tables call CIDEr: the official evaluator's CIDEr is
        CIDEr-D) and `cider_d`, the same number, in 0..10; `cider_plain`, CIDEr without clipping and length penalty;
        each also times 100 under `..._x100`; and `per_item`: the same names without `_x100`, each a list of one value
        per image. BLEU and METEOR of the corpus are not the means of their items. Document frequencies are those of
        `references`. Where METEOR's data are found, `meteor` in 0..1, likewise; and `not_computed`: `meteor` -> the
        reason and the cure, where they are not. The first call on a machine reads METEOR's table of paraphrases, which
        takes a few seconds, into an index in the user's cache folder.

    Raises:
        ValueError, TypeError: different numbers of captions, an image without references, something not a string, or
            no reference with any word at all.

    Example:
        >>> scores = caption_scores(["a dog runs", "a cat"], [["a dog runs fast"], ["a cat sleeps", "the cat"]])
        >>> round(scores["bleu_1"], 4), round(scores["cider"], 4)
        (0.8187, 4.1984)
    """
    check_captions(candidates, references)
    first_references = np.cumsum([0, *map(len, references)])
    flat_references = ptb_tokenize([reference for image in references for reference in image])
    tokenised = [flat_references[a:b] for a, b in itertools.pairwise(first_references)]
    return tokenised_caption_scores(ptb_tokenize(candidates), tokenised)


def tokenised_caption_scores(candidates: list[str], references: list[list[str]]) -> dict[str, Any]:
    """`caption_scores` of captions that are already tokenised (words separated by spaces)."""
    check_captions(candidates, references)
    bleus, bleus_per_item = bleu(candidates, references)
    rouge, rouge_per_item = rouge_l(candidates, references)
    corpus = {f"bleu_{order}": value for order, value in enumerate(bleus, start=1)} | {"rouge_l": rouge}
    per_item = {f"bleu_{order}": values for order, values in enumerate(bleus_per_item, start=1)}
    per_item |= {"rouge_l": rouge_per_item}
    for name, values in _corpus_ciders(candidates, references).items():
        corpus[name] = float(values.mean())
        per_item[name] = values.tolist()
    not_computed = {}
    try:
        resources = MeteorResources.find()
    except (OSError, ValueError) as reason:
        not_computed["meteor"] = str(reason)
    else:
        statistics = meteor_statistics(candidates, references, resources)
        corpus["meteor"], per_item["meteor"] = corpus_meteor(statistics), meteor_scores(statistics).tolist()
    hundredfold = {f"{name}_x100": 100 * value for name, value in corpus.items()}
    return corpus | hundredfold | {"per_item": per_item, "not_computed": not_computed}


def bleu(candidates: list[str], references: list[list[str]]) -> tuple[list[float], list[list[float]]]:
    """BLEU-1 .. BLEU-4 in 0..1 of tokenised captions: the corpus values, and for each order a list per image.

    As in the official evaluator, the reference length is the closest one (the shorter of two equally close), also for a
    single image; precisions are smoothed by 1e-15 over 1e-9, so a caption without a matching 4-gram has a BLEU-4 near
    1e-5, not 0.
    """
    vocabulary: dict[str, int] = {}
    words = WordLists.of([word_ids(caption.split(), vocabulary) for caption in candidates])
    owned = ImageReferences([[word_ids(text.split(), vocabulary) for text in image] for image in references])
    everyone = np.arange(len(candidates))
    columns = words.padded(everyone, padding=CANDIDATE_PADDING)  # (T, N)
    correct, num_ngrams, lengths, reference_lengths = bleu_counts(columns, everyone, owned)
    corpus = _bleu_value(correct.sum(axis=0), num_ngrams.sum(axis=0), lengths.sum(), reference_lengths.sum())
    per_item = _bleu_value(correct, num_ngrams, lengths, reference_lengths)
    return corpus.tolist(), per_item.T.tolist()


def bleu_of_ids(words: np.ndarray, images: np.ndarray, owned: ImageReferences) -> np.ndarray:
    """BLEU-1 .. BLEU-4 (N, 4) of captions: columns of word ids (T, N) and their images (N,); as `bleu` per image."""
    return _bleu_value(*bleu_counts(words, images, owned))


def bleu_counts(words: np.ndarray, images: np.ndarray, owned: ImageReferences) -> tuple[np.ndarray, ...]:
    """What BLEU is made of: columns of word ids (T, N), padded, and their images (N,) ->

    matching and all n-grams (N, 4) each for n = 1 .. 4, and the lengths (N,) of candidates and of their closest
    references (of two equally close ones the shorter).
    """
    lengths = (words >= 0).sum(axis=0)
    num_ngrams = np.maximum(lengths[:, None] - np.arange(MAX_ORDER), 0)
    correct, reference_lengths = np.zeros_like(num_ngrams), np.zeros_like(lengths)
    for block in owned.blocks(images):
        columns = words[: int(lengths[block].max()), block]
        references, counts = owned.matches(columns, images[block])
        for order, (rank, count) in enumerate(zip(ngram_ranks(columns), counts, strict=True)):
            correct[block, order] = (rank < count.max(axis=2)).sum(axis=0)
        theirs = owned.captions.lengths[references]  # (N, R)
        gaps = np.abs(theirs - lengths[block, None])
        far = np.iinfo(np.int64).max
        order_of_choice = np.where(references >= 0, gaps * (theirs.max(initial=0) + 1) + theirs, far)
        reference_lengths[block] = np.take_along_axis(theirs, order_of_choice.argmin(axis=1)[:, None], axis=1)[:, 0]
    return correct, num_ngrams, lengths, reference_lengths


def _bleu_value(correct: np.ndarray, num_ngrams: np.ndarray, length: np.ndarray, reference_length: np.ndarray) -> Any:
    """correct, num_ngrams (..., 4) -> BLEU-1 .. BLEU-4 (..., 4)."""
    precisions = np.cumprod((correct + BLEU_TINY) / (num_ngrams + BLEU_SMALL), axis=-1)
    ratio = (length + BLEU_TINY) / (reference_length + BLEU_SMALL)
    with np.errstate(under="ignore"):
        brevity = np.exp(np.minimum(0.0, 1 - 1 / ratio))
    return precisions ** (1 / np.arange(1, MAX_ORDER + 1)) * np.expand_dims(brevity, -1)


def rouge_l(candidates: list[str], references: list[list[str]]) -> tuple[float, list[float]]:
    """ROUGE-L in 0..1 of tokenised captions: the mean over images, and the list of one value per image.

    As in the official evaluator, the best precision and the best recall over the references are taken separately
    (beta 1.2), captions are split at single spaces, so an empty caption is one empty word and equals another.
    """
    per_item = [
        _rouge_l_of_one(c.split(" "), [r.split(" ") for r in rs]) for c, rs in zip(candidates, references, strict=True)
    ]
    return math.fsum(per_item) / len(per_item), per_item


def _rouge_l_of_one(candidate: list[str], references: list[list[str]]) -> float:
    bits_of_word: dict[str, int] = {}
    for place, word in enumerate(candidate):
        bits_of_word[word] = bits_of_word.get(word, 0) | 1 << place
    common = [_longest_common_subsequence(bits_of_word, len(candidate), reference) for reference in references]
    precision = max(common) / len(candidate)
    recall = max(length / len(reference) for length, reference in zip(common, references, strict=True))
    if precision == 0 or recall == 0:
        return 0.0
    return (1 + ROUGE_BETA**2) * precision * recall / (recall + ROUGE_BETA**2 * precision)


def rouge_l_of_ids(words: np.ndarray, images: np.ndarray, owned: ImageReferences) -> np.ndarray:
    """ROUGE-L (N,) of each caption: columns of word ids (T, N) and their images (N,); as `rouge_l` per image.

    A caption without any word scores 0. The longest common subsequences of all captions and references grow together,
    a word of the captions at a time.
    """
    scores = np.zeros(len(images))
    lengths = (words >= 0).sum(axis=0)
    for block in owned.blocks(images):
        references = owned.numbers(images[block])  # (N, R)
        others = owned.captions.padded(references.ravel(), padding=REFERENCE_PADDING)  # (L, N * R)
        common = np.zeros((len(others) + 1, others.shape[1]), np.int32)  # of the words so far and the first l of others
        for row in words[: int(lengths[block].max()), block]:
            longer = common[:-1] + (others == np.repeat(row, references.shape[1]))
            common[1:] = np.maximum.accumulate(np.maximum(common[1:], longer), axis=0)
        shared = common[-1].reshape(references.shape)
        theirs = np.where(references >= 0, np.maximum(owned.captions.lengths[references], 1), 1)
        precision = shared.max(axis=1) / np.maximum(lengths[block], 1)
        recall = (shared / theirs).max(axis=1)
        weighted = recall + ROUGE_BETA**2 * precision
        product = (1 + ROUGE_BETA**2) * precision * recall
        scores[block] = np.divide(product, weighted, out=np.zeros(len(product)), where=weighted > 0)
    return scores


def _longest_common_subsequence(bits_of_word: dict[str, int], length: int, others: list[str]) -> int:
    """Its length, by Hyyro's bit-parallel recurrence: bit t of `open_places` is 0 once place t lengthened it."""
    everywhere = (1 << length) - 1
    open_places = everywhere
    for word in others:
        matched = open_places & bits_of_word.get(word, 0)
        open_places = ((open_places + matched) | (open_places - matched)) & everywhere
    return length - open_places.bit_count()


def _corpus_ciders(candidates: list[str], references: list[list[str]]) -> dict[str, np.ndarray]:
    """`cider`, `cider_d` and `cider_plain` of every image, (N,) each."""
    if len(candidates) == 1:
        warnings.warn(
            f"{ONE_IMAGE}, or give CiderD document frequencies",
            stacklevel=4,
        )
        return {name: np.zeros(1) for name in ("cider", "cider_d", "cider_plain")}
    scorer = CiderD(references)
    cider_d = scorer.score(candidates)
    return {"cider": cider_d, "cider_d": cider_d, "cider_plain": scorer.score_plain(candidates)}
