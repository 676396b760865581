"""Metrics of tasks that ask for a judgement, equal to the reference evaluators: VCR, visual dialogue."""

from .vcr import vcr
from .visdial import visdial, visdial_ndcg

__all__ = ["vcr", "visdial", "visdial_ndcg"]
