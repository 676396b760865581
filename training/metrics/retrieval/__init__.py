"""Metrics of image-text retrieval: recall at K both ways, ranks and average precision."""

from .ranking import average_precision, ranking_scores
from .recall import fold_scores, rerank_scores, retrieval_scores, retrieval_scores_of_embeddings

__all__ = [
    "average_precision",
    "fold_scores",
    "ranking_scores",
    "rerank_scores",
    "retrieval_scores",
    "retrieval_scores_of_embeddings",
]
