"""Rewards of token ids against slow twins through text, by words, and ugly rows."""

import itertools
import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch

from training.metrics.captioning.rewards import BLEUS, REWARDS, CaptionRewards
from training.metrics.captioning.scores import CiderD, bleu, rouge_l

END, PAD = 2, 0


def drawn_captions(seed: int, *, images: int = 5, each: int = 7) -> tuple[list[Any], np.ndarray, np.ndarray]:
    """References of 1 to 4 captions an image, and samples (N, T) of few words: ended, padded, cut and empty ones."""
    random = np.random.default_rng(seed)
    references = [
        [[*random.integers(3, 9, random.integers(0, 9)).tolist(), END] for _ in range(random.integers(1, 5))]
        for _ in range(images)
    ]
    rows = random.integers(3, 9, (images * each, 8))
    for row, length in zip(rows, random.integers(0, 10, len(rows)), strict=True):
        row[length:] = PAD
        row[length : length + 1] = END
    return references, rows, np.repeat(np.arange(images), each)


def in_words(ids: Any) -> str:
    """Token ids up to and including the end token, as words."""
    ids = [int(token) for token in ids]
    cut = ids[: ids.index(END) + 1] if END in ids else ids
    return " ".join("END" if token == END else f"w{token}" for token in cut)


def slow_bleu(candidate: str, references: list[str]) -> list[float]:
    """Papineni et al. 2002 by counting, with the official evaluator's smoothing."""
    words, others = candidate.split(), [reference.split() for reference in references]
    closest = min((abs(len(other) - len(words)), len(other)) for other in others)[1]
    ratio = (len(words) + 1e-15) / (closest + 1e-9)
    product, found = 1.0, []
    for order in (1, 2, 3, 4):
        mine, theirs = ngrams(words, order), [ngrams(other, order) for other in others]
        matched = sum(min(count, max(other[ngram] for other in theirs)) for ngram, count in mine.items())
        product *= (matched + 1e-15) / (max(len(words) - order + 1, 0) + 1e-9)
        found.append(product ** (1 / order) * (math.exp(1 - 1 / ratio) if ratio < 1 else 1.0))
    return found


def ngrams(words: list[str], order: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[start : start + order]) for start in range(len(words) - order + 1))


def slow_rouge_l(candidate: str, references: list[str]) -> float:
    """Lin 2004 by trying every subsequence of the candidate, longest first."""
    words = candidate.split()
    common = [longest_common(words, reference.split()) for reference in references]
    precision = max(common) / len(words)
    recall = max(length / len(reference.split()) for length, reference in zip(common, references, strict=True))
    return 2.44 * precision * recall / (recall + 1.44 * precision) if max(common) else 0.0


def longest_common(words: list[str], other: list[str]) -> int:
    for length in range(len(words), 0, -1):
        for chosen in itertools.combinations(words, length):
            rest = iter(other)
            if all(word in rest for word in chosen):
                return length
    return 0


@pytest.mark.parametrize("seed", range(4))
def test_every_reward_equals_its_slow_twin_through_text(seed: int) -> None:
    references, rows, images = drawn_captions(seed)
    weights = {name: 0.5 + place for place, name in enumerate(REWARDS)}
    rewards = CaptionRewards(references, weights, end_token_id=END, pad_token_id=PAD)
    each = rewards.each(torch.from_numpy(rows), torch.from_numpy(images))
    texts = [[in_words(reference) for reference in image] for image in references]
    captions = [in_words(row) for row in rows]
    scorer = CiderD(texts)
    twins = {
        "cider_d": scorer.score(captions, images),
        "cider": scorer.score(captions, images),
        "cider_plain": scorer.score_plain(captions, images),
        "rouge_l": [slow_rouge_l(caption, texts[image]) for caption, image in zip(captions, images, strict=True)],
    }
    slow = [slow_bleu(caption, texts[image]) for caption, image in zip(captions, images, strict=True)]
    twins |= dict(zip(BLEUS, zip(*slow, strict=True), strict=True))
    assert list(each) == list(REWARDS)
    for name, values in each.items():
        assert values == pytest.approx(np.asarray(twins[name]), abs=1e-12), name
    total = sum(weight * np.asarray(twins[name]) for name, weight in weights.items())
    assert rewards.total(each) == pytest.approx(total, abs=1e-11)


def test_they_are_the_scores_of_captions() -> None:
    """The official values per image of the same words, as `caption_scores` has them."""
    references, rows, images = drawn_captions(9, each=1)
    texts = [[in_words(reference) for reference in image] for image in references]
    captions = [in_words(row) for row in rows]
    each = CaptionRewards(references, {"bleu_4": 1, "rouge_l": 1}, end_token_id=END, pad_token_id=PAD).each(
        rows, images
    )
    assert each["bleu_4"] == pytest.approx(bleu(captions, texts)[1][3], abs=1e-12)
    assert each["rouge_l"] == pytest.approx(rouge_l(captions, texts)[1], abs=1e-12)


def test_by_hand() -> None:
    """Against "4 5 6 END" a caption "4 6 END": three of three words, one of two pairs, a subsequence of three."""
    rewards = CaptionRewards([[[4, 5, 6, 2]]], {"bleu_1": 1, "bleu_2": 1, "rouge_l": 1}, end_token_id=END)
    each = rewards.each(np.array([[4, 6, 2, 9]]), np.array([0]))
    brevity = math.exp(1 - 4 / 3)
    assert each["bleu_1"].item() == pytest.approx(brevity, abs=1e-8)
    assert each["bleu_2"].item() == pytest.approx(brevity * 0.5**0.5, abs=1e-8)
    assert each["rouge_l"].item() == pytest.approx(2.44 * 0.75 / (0.75 + 1.44))


def test_the_end_is_a_word() -> None:
    """The caption that ends scores above the one that stops in mid-phrase."""
    names = ("bleu_1", "bleu_4", "rouge_l", "cider_d", "cider_plain")
    references = [[[4, 5, 6, 7, 2]], [[8, 9, 2]]]
    rewards = CaptionRewards(references, dict.fromkeys(names, 1.0), end_token_id=END, pad_token_id=PAD)
    each = rewards.each(np.array([[4, 5, 6, 7, 2], [4, 5, 6, 7, 0]]), np.zeros(2, int))
    assert all(values[0] > values[1] for values in each.values())


def test_ugly_rows() -> None:
    """No word at all scores 0 or the smoothing's floor; a weight of 0 is computed and left out of the sum."""
    weights = {"rouge_l": 2.0, "bleu_1": 0}
    rewards = CaptionRewards([[[4, 2], [5, 2]], [[6, 2]]], weights, end_token_id=END, pad_token_id=PAD)
    each = rewards.each(np.array([[0, 0, 0], [2, 0, 0], [4, 2, 0]]), np.array([0, 0, 0]))
    assert each["rouge_l"].tolist() == pytest.approx([0.0, 1.22 / 1.94, 1.0])
    assert each["bleu_1"][0] < 1e-5 and each["bleu_1"][2] == pytest.approx(1.0)
    assert rewards.total(each).tolist() == pytest.approx([0.0, 2.44 / 1.94, 2.0])
    assert rewards.each(np.zeros((0, 3), int), np.zeros(0, int))["bleu_1"].shape == (0,)


def test_mistakes_name_their_cure() -> None:
    with pytest.raises(ValueError, match="there is no reward 'meteor'; choose of cider_d, cider, cider_plain, bleu_1"):
        CaptionRewards([[[4, 2]]], {"meteor": 1.0}, end_token_id=END)
    with pytest.raises(ValueError, match="CIDEr-D of a single image is 0 whatever the caption"):
        CaptionRewards([[[4, 2]]], {"cider": 1.0}, end_token_id=END)
    rewards = CaptionRewards([[[4, 2]]], {"bleu_1": 1.0}, end_token_id=END)
    with pytest.raises(ValueError, match="image_indices reach from 1 to 1; there are 1 images"):
        rewards.each(np.array([[4, 2]]), np.array([1]))
    with pytest.raises(ValueError, match="negative token ids before their end token"):
        rewards.each(np.array([[4, -1]]), np.array([0]))
