"""Metrics of captions, equal to the reference evaluators: one module per family, all importable from here.

BLEU, METEOR, ROUGE-L, CIDEr, SPICE, and SPICE by spaCy's parses, which is not equal (`spice_spacy.py`); CHAIR, what
captions invent; the diversity of several captions; CLIPScore.
"""

from .chair import chair
from .cider import CiderD
from .clip_score import ClipScorer, clip_score
from .diversity import caption_diversity
from .java import all_caption_scores
from .ptb_tokenizer import ptb_tokenize
from .scores import caption_scores

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
