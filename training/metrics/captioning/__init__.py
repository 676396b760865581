"""Metrics of captions: BLEU, ROUGE-L, CIDEr, METEOR and SPICE, equal to the official evaluator's; and SPICE by spaCy's
parses (`spice_spacy.py`), which is not."""

from .cider import CiderD
from .java import all_caption_scores
from .ptb_tokenizer import ptb_tokenize
from .scores import caption_scores

__all__ = ["CiderD", "all_caption_scores", "caption_scores", "ptb_tokenize"]
