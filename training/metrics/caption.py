"""The caption metrics under their short name; they lie in `training/metrics/captioning/`."""

from .captioning import CiderD, all_caption_scores, caption_scores, ptb_tokenize

__all__ = ["CiderD", "all_caption_scores", "caption_scores", "ptb_tokenize"]
