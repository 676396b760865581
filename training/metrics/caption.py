"""The caption metrics under a short name; they are defined in `training/metrics/captioning/`."""

from .captioning import CiderD, all_caption_scores, caption_scores, ptb_tokenize

__all__ = ["CiderD", "all_caption_scores", "caption_scores", "ptb_tokenize"]
