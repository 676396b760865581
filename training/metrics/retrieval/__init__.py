"""Metrics of image-text retrieval: recall at K both ways, ranks, average precision, pairs of captions, Winoground."""

from .caption_pairs import pair_accuracy
from .ranking import average_precision, ranking_scores
from .recall import fold_scores, rerank_scores, retrieval_scores, retrieval_scores_of_embeddings
from .winoground import winoground

__all__ = [
    "average_precision",
    "fold_scores",
    "pair_accuracy",
    "ranking_scores",
    "rerank_scores",
    "retrieval_scores",
    "retrieval_scores_of_embeddings",
    "winoground",
]
