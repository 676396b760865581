"""Metrics of reasoning about images, equal to the reference evaluators: entailment, pairs, VCR, visual dialogue."""

from .statements import nlvr2, snli_ve
from .vcr import vcr
from .visdial import visdial, visdial_ndcg

__all__ = ["nlvr2", "snli_ve", "vcr", "visdial", "visdial_ndcg"]
