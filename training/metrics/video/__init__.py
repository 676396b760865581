"""Metrics of videos, equal to the reference evaluators: moments and highlights, retrieval, questions.

Answers that are scored by their meaning (NExT-OE, ActivityNet-QA) are `wups`, as those about images are.
"""

from training.metrics.vqa.wups import wups

from .answers import activitynet_qa, nextqa_mc, tgif_count
from .didemo import didemo
from .retrieval import video_retrieval
from .temporal_map import temporal_grounding_map
from .temporal_recall import temporal_grounding_recall

__all__ = [
    "activitynet_qa",
    "didemo",
    "nextqa_mc",
    "temporal_grounding_map",
    "temporal_grounding_recall",
    "tgif_count",
    "video_retrieval",
    "wups",
]
