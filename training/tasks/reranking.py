"""The best of each query in a new order: pairs that contrast (ITC) likes -> matched one by one (ITM) -> scores."""

import itertools
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from datasets import Dataset

from training.metrics.retrieval.recall import rerank_scores


def reranked(
    task: Any, model: Any, rows: Dataset, captions: list[list[str]], similarity: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Scores (P, N) of texts for images and (N, P) of images for texts: the best of each query by match.

    task: a `RetrievalTask`, whose recipe says how many are matched (`evaluate.rerank`) and how much ITC counts beside
    (`evaluate.rerank_weight`); similarity (P, N): cosines of rows and captions.
    """
    settings = task.recipe.evaluate
    num_images, num_texts = similarity.shape
    texts = list(itertools.chain.from_iterable(captions))
    best_texts = best_places(similarity, settings.rerank)  # (P, k)
    best_images = best_places(similarity.T, settings.rerank)  # (N, k)
    for_images = np.arange(num_images)[:, None] * num_texts + best_texts
    for_texts = best_images * num_texts + np.arange(num_texts)[:, None]
    pairs = np.unique(np.concatenate([for_images.ravel(), for_texts.ravel()]))  # those of an image stand side by side:
    share = partial(match_scores, task, model, rows, texts, pairs)  # a batch looks at few images, and at each once
    scores = task.in_shares(len(pairs), share, shown="pairs").numpy()
    weight = settings.rerank_weight / float(model.bounded_temperature())
    scores = scores + weight * similarity.ravel()[pairs]
    texts_of_image = rerank_scores(similarity, best_texts, scores[np.searchsorted(pairs, for_images)])
    images_of_text = rerank_scores(similarity.T, best_images, scores[np.searchsorted(pairs, for_texts)])
    return texts_of_image, images_of_text


def match_scores(
    task: Any, model: Any, rows: Dataset, texts: Sequence[str], pairs: np.ndarray, indices: np.ndarray
) -> torch.Tensor:
    """Log-odds (n,) of pairs by number; a pair is image x captions + caption."""
    images, words = np.divmod(pairs[indices], len(texts))
    used, image_index = np.unique(images, return_inverse=True)
    inputs = {**task.tokenize([texts[i] for i in words]), **task.image_inputs(rows, used)}
    return model.match(**task.on_device({**inputs, "image_index": torch.from_numpy(image_index)}))


def best_places(scores: np.ndarray, most: int) -> np.ndarray:
    """The columns of each row's best scores, best first, (Q, k); of equal ones the first.

    >>> best_places(np.array([[0.1, 0.9, 0.9, 0.3]]), 3).tolist()
    [[1, 2, 3]]
    """
    return np.argsort(-scores, axis=1, kind="stable")[:, :most]
