"""Metrics of reasoning about images, equal to the reference evaluators: entailment, pairs, VCR, visual dialogue."""

from .statements import nlvr2, snli_ve
from .true_false import area_under_roc, best_threshold, true_false
from .vcr import vcr
from .visdial import visdial, visdial_ndcg

__all__ = ["area_under_roc", "best_threshold", "nlvr2", "snli_ve", "true_false", "vcr", "visdial", "visdial_ndcg"]
