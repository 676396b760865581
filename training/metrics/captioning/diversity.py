"""How much the captions of one image differ from each other: distinct n-grams, mBLEU, self-CIDEr, LSA, oracle CIDEr.

    samples of each image + its references --caption_diversity--> corpus values and one value per image

Equal to ruotianluo/ImageCaptioning.pytorch (`div_utils.py`, `eval_multi.py`; distinct n-grams, mBLEU and self-CIDEr of
plain CIDEr) and to qingzwang/DiversityMetrics (Wang and Chan 2019: self-CIDEr of CIDEr-D, LSA, mBLEU image by image).
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from .cider import CiderD, check_references, document_frequencies
from .ngrams import MAX_ORDER
from .ptb_tokenizer import ptb_tokenize
from .scores import bleu

__all__ = ["caption_diversity", "distinct_ngrams", "global_distinct_ngrams", "lsa", "mean_bleu", "self_cider"]

TINY = 1e-6  # beside the number of words
SCALE = 10.0  # of CIDEr


def caption_diversity(samples: Sequence[Sequence[str]], references: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Score several captions per image by how much they differ, and by the best of them.

    Args:
        samples: for each image its captions as they are written, everywhere the same number of them, at least two.
        references: for each image its human captions, whose n-grams have the document frequencies of every CIDEr here.

    Returns:
        `div_1`, `div_2`: distinct words and pairs of words of an image's captions over their number of words, the mean
        over images; `mbleu_1` .. `mbleu_4`: BLEU of each caption against the image's others, lower for more diverse
        ones; `self_cider`: 0 (all alike) to 1 (nothing shared); `oracle_cider`: the mean of each image's best CIDEr-D,
        and `sample_cider`, that of all, 0..10; each also times 100 under `..._x100`. `distinct_words`: of all captions.
        `per_item`: `div_1`, `div_2`, `mbleu_2`, `self_cider`, `oracle_cider` and `sample_cider` of each image.

    Raises:
        ValueError, TypeError: for images with different numbers of captions, fewer than two captions or images, and
            what `CiderD` refuses.

    Example:
        >>> found = caption_diversity(
        ...     [["a dog runs", "a brown dog"], ["a cat", "a cat"]], [["a dog runs fast"], ["a cat sleeps"]])
        >>> round(found["div_1"], 4), round(found["mbleu_1"], 4), round(found["self_cider"], 4)
        (0.5833, 0.8, 0.4419)
    """
    number = check_samples(samples, references)
    tokenised, texts = _tokenised(samples), _tokenised(references)
    per_item = {f"div_{order}": distinct_ngrams(tokenised, order) for order in (1, 2)}
    corpus = {name: float(np.mean(values)) for name, values in per_item.items()}
    mbleus, mbleus_per_item = mean_bleu(tokenised)
    corpus |= {f"mbleu_{order}": value for order, value in enumerate(mbleus, start=1)}
    per_item["mbleu_2"] = mbleus_per_item[1]
    per_item["self_cider"] = self_cider(tokenised, texts)
    ciders = CiderD(texts).score(*_flat(tokenised)).reshape(len(samples), number)
    per_item |= {"oracle_cider": ciders.max(axis=1).tolist(), "sample_cider": ciders.mean(axis=1).tolist()}
    corpus |= {name: float(np.mean(per_item[name])) for name in ("self_cider", "oracle_cider", "sample_cider")}
    hundredfold = {f"{name}_x100": 100 * value for name, value in corpus.items()}
    words = {word for image in tokenised for caption in image for word in caption.split()}
    return corpus | hundredfold | {"distinct_words": len(words), "per_item": per_item}


def check_samples(samples: Sequence[Sequence[str]], references: Sequence[Sequence[str]]) -> int:
    """The number of captions of every image; raises as `caption_diversity` does."""
    if len(samples) != len(references):
        raise ValueError(
            f"samples of {len(samples)} images but references of {len(references)}: pass both of each image"
        )
    check_references(samples)
    check_references(references)
    numbers = sorted({len(image) for image in samples})
    if len(numbers) > 1:
        raise ValueError(f"the images have {', '.join(map(str, numbers))} captions: sample the same number of each")
    if not numbers or numbers[0] < 2:
        raise ValueError("diversity is between captions of one image: sample at least two of each")
    return numbers[0]


def distinct_ngrams(captions: Sequence[Sequence[str]], order: int) -> list[float]:
    """Div-n of each image's tokenised captions: distinct n-grams over words (not over n-grams), 0..1.

    >>> [round(value, 3) for value in distinct_ngrams([["a dog runs", "a dog"]], 2)]
    [0.4]
    """
    return [len(_ngrams(image, order)) / (TINY + sum(len(caption.split()) for caption in image)) for image in captions]


def global_distinct_ngrams(captions: Sequence[Sequence[str]], order: int) -> float:
    """The same over the captions of all images: of one word the plain number of words, as the reference has it."""
    every = [caption for image in captions for caption in image]
    return float(len(_ngrams(every, order))) if order == 1 else distinct_ngrams([every], order)[0]


def mean_bleu(captions: Sequence[Sequence[str]]) -> tuple[list[float], list[list[float]]]:
    """mBLEU-1 .. mBLEU-4, 0..1: BLEU of each tokenised caption against the others of its image.

    Returns, for each order, the mean over j of the corpus BLEU of the j-th captions (ruotianluo's), and for each image
    the mean over its captions' own BLEU (qingzwang's mBLEU). Every image has the same number of captions.
    """
    corpora, items = [], []
    for place in range(len(captions[0])):
        others = [[caption for j, caption in enumerate(image) if j != place] for image in captions]
        corpus, per_item = bleu([image[place] for image in captions], others)
        corpora.append(corpus)
        items.append(per_item)
    return np.mean(corpora, axis=0).tolist(), np.mean(items, axis=0).tolist()


def self_cider(
    captions: Sequence[Sequence[str]],
    references: Sequence[Sequence[str]],
    *,
    similarity: Literal["cider", "cider_d"] = "cider",
) -> list[float]:
    """Self-CIDEr of each image's tokenised captions, 0 (all alike) to 1: how even the eigenvalues of their CIDErs are.

    Args:
        captions: of each image, two or more; their number may differ.
        references: of each image, tokenised, for the document frequencies.
        similarity: `cider`, plain CIDEr and eigenvalues (ruotianluo's), or `cider_d`, CIDEr-D, of which the upper
            triangle counts, and singular values (qingzwang's).

    Raises `ValueError` for an image with fewer than two captions.
    """
    _check_several(captions)
    matrices = cider_matrices(captions, references, similarity=similarity)
    if similarity == "cider":
        spectra = [np.maximum(np.linalg.eigvalsh(matrix / SCALE), 0) for matrix in matrices]
    else:
        spectra = [np.linalg.svd(matrix / SCALE, compute_uv=False) for matrix in matrices]
    return [_evenness(np.sqrt(values), number=len(values)) for values in spectra]


def cider_matrices(
    captions: Sequence[Sequence[str]],
    references: Sequence[Sequence[str]],
    *,
    similarity: Literal["cider", "cider_d"] = "cider",
) -> list[np.ndarray]:
    """Each image's CIDErs between its captions, symmetric (m, m), 0..10; arguments as of `self_cider`."""
    if similarity not in ("cider", "cider_d"):
        raise ValueError(f"similarity is {similarity!r}: choose cider or cider_d")
    flat, _ = _flat(captions)
    scorer = CiderD(
        [[caption] for caption in flat],
        document_frequency=document_frequencies(references),
        num_documents=len(references),
    )
    firsts = np.cumsum([0, *map(len, captions)])
    pairs = [
        (i, j)
        for first, end in itertools.pairwise(firsts.tolist())
        for i in range(first, end)
        for j in range(first, end)
    ]
    score = scorer.score_plain if similarity == "cider" else scorer.score
    values = score([flat[i] for i, _ in pairs], [j for _, j in pairs])
    ends = np.cumsum([0, *(len(image) ** 2 for image in captions)])
    matrices = [
        values[first:end].reshape(len(image), len(image))
        for image, (first, end) in zip(captions, itertools.pairwise(ends.tolist()), strict=True)
    ]
    return matrices if similarity == "cider" else [np.triu(matrix) + np.triu(matrix, 1).T for matrix in matrices]


def lsa(captions: Sequence[Sequence[str]]) -> list[float]:
    """Evenness, 0 to 1, of the singular values of each image's counts of words by caption (Wang and Chan 2019).

    Captions are split at single blanks, so that an empty one is one empty word. Raises `ValueError` for an image with
    fewer than two captions.
    """
    _check_several(captions)
    return [_evenness(np.linalg.svd(_counts(image), compute_uv=False), number=len(image)) for image in captions]


def _check_several(captions: Sequence[Sequence[str]]) -> None:
    if any(len(image) < 2 for image in captions):
        raise ValueError("diversity is between captions of one image: sample at least two of each")


def _evenness(values: np.ndarray, *, number: int) -> float:
    """-log of the largest value's share in the sum, over log of the number of captions: 0 for rank one."""
    total = float(values.sum())
    return -math.log(float(values.max()) / total) / math.log(number) if total > 0 else 0.0


def _counts(captions: Sequence[str]) -> np.ndarray:
    """How often each word is in each caption, (words, captions)."""
    split = [caption.split(" ") for caption in captions]
    places = {word: place for place, word in enumerate(dict.fromkeys(itertools.chain.from_iterable(split)))}
    counts = np.zeros((len(places), len(captions)))
    for column, words in enumerate(split):
        for word in words:
            counts[places[word], column] += 1
    return counts


def _ngrams(captions: Sequence[str], order: int) -> set[tuple[str, ...]]:
    if not 1 <= order <= MAX_ORDER:
        raise ValueError(f"n-grams of {order} words: give 1 to {MAX_ORDER}")
    split = [caption.split() for caption in captions]
    return {tuple(words[i : i + order]) for words in split for i in range(len(words) - order + 1)}


def _tokenised(captions: Sequence[Sequence[str]]) -> list[list[str]]:
    words = iter(ptb_tokenize([caption for image in captions for caption in image]))
    return [list(itertools.islice(words, len(image))) for image in captions]


def _flat(captions: Sequence[Sequence[str]]) -> tuple[list[str], list[int]]:
    """All captions, and the image of each."""
    return (
        [caption for image in captions for caption in image],
        [number for number, image in enumerate(captions) for _ in image],
    )
