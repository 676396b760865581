"""The caption metrics under a short name; they are defined in `training/metrics/captioning/`."""

from .captioning import (
    CiderD,
    ClipScorer,
    all_caption_scores,
    caption_diversity,
    caption_scores,
    chair,
    clip_score,
    ptb_tokenize,
)

__all__ = [
    "CiderD",
    "ClipScorer",
    "all_caption_scores",
    "caption_diversity",
    "caption_scores",
    "chair",
    "clip_score",
    "ptb_tokenize",
]
