"""Rewards of self-critical training: a weighted sum of metrics of sampled token ids (Rennie et al. 2017, section 3).

    token ids (N, T), images (N,) --CIDEr, BLEU, ROUGE-L--> {name: (N,)} --weights--> reward (N,)

All metrics count the end token as a word, else training learns captions that stop in mid-phrase.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .cider import CiderD, columns_until_end, rows_until_end
from .ngrams import MAX_ORDER, ImageReferences
from .scores import bleu_of_ids, rouge_l_of_ids

CIDERS = ("cider_d", "cider", "cider_plain")  # `cider` is what tables call CIDEr: CIDEr-D
BLEUS = tuple(f"bleu_{order}" for order in range(1, MAX_ORDER + 1))
REWARDS = (*CIDERS, *BLEUS, "rouge_l")


class CaptionRewards:
    """Metrics of captions as token ids against the references of their images, and their weighted sum.

    Values are those of `caption_scores` per image: CIDEr 0..10 with document frequencies of these references, BLEU and
    ROUGE-L 0..1, of captions whose end token is a word.

    Args:
        references: for each image its references, each a row of token ids that ends in `end_token_id`; a row without
            one is a truncated caption.
        weights: name of `REWARDS` -> weight of that metric in the sum.
        end_token_id, pad_token_id: as `CiderD.from_token_ids` takes them.

    Raises:
        ValueError: for a name that there is not, and, with a CIDEr, for references of a single image.

    Example:
        >>> rewards = CaptionRewards([[[4, 5, 2]], [[6, 5, 2]]], {"bleu_1": 1.0, "rouge_l": 0.5}, end_token_id=2)
        >>> each = rewards.each(np.array([[4, 5, 2], [4, 5, 2]]), np.array([0, 1]))
        >>> {name: values.round(4).tolist() for name, values in each.items()}
        {'bleu_1': [1.0, 0.6667], 'rouge_l': [1.0, 0.6667]}
        >>> rewards.total(each).round(4).tolist()
        [1.5, 1.0]
    """

    def __init__(
        self,
        references: Sequence[Sequence[Sequence[int]] | np.ndarray],
        weights: Mapping[str, float],
        *,
        end_token_id: int,
        pad_token_id: int | None = None,
    ) -> None:
        unknown = [name for name in weights if name not in REWARDS]
        if unknown:
            raise ValueError(f"there is no reward {unknown[0]!r}; choose of {', '.join(REWARDS)}")
        self.weights = dict(weights)
        self.end_token_id, self.pad_token_id = end_token_id, pad_token_id
        self.cider: CiderD | None = None
        if self.weights.keys() & {*CIDERS}:
            self.cider = CiderD.from_token_ids(references, end_token_id=end_token_id, pad_token_id=pad_token_id)
            self.references = self.cider.references
        else:
            self.references = ImageReferences(
                [rows_until_end(image, end_token_id, pad_token_id) for image in references]
            )

    def each(self, sequences: Any, image_indices: Any) -> dict[str, np.ndarray]:
        """Every metric (N,) float64 of token ids (N, T) for the images (N,), a tensor or an array each.

        A row is read up to and including its first end token; a row without one is a caption truncated at T words.
        """
        words, images = columns_until_end(
            sequences, image_indices, end_token_id=self.end_token_id, pad_token_id=self.pad_token_id
        )
        if len(images) and not 0 <= images.min() <= images.max() < len(self.references):
            raise ValueError(
                f"image_indices reach from {images.min()} to {images.max()}; there are {len(self.references)} images"
            )
        found: dict[str, np.ndarray] = {}
        if self.cider is not None:
            ciders = {"cider_d": self.cider.reward, "cider": self.cider.reward, "cider_plain": self.cider.reward_plain}
            found |= {name: ciders[name](sequences, images) for name in CIDERS if name in self.weights}
        if self.weights.keys() & {*BLEUS}:
            found |= dict(zip(BLEUS, bleu_of_ids(words, images, self.references).T, strict=True))
        if "rouge_l" in self.weights:
            found["rouge_l"] = rouge_l_of_ids(words, images, self.references)
        return {name: found[name] for name in self.weights}

    def total(self, each: Mapping[str, np.ndarray]) -> np.ndarray:
        """The weighted sum (N,) of what `each` returned."""
        return np.sum([weight * each[name] for name, weight in self.weights.items()], axis=0)
