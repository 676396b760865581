"""Metrics of dense captions, equal to the reference evaluator: mean average precision over overlaps and METEOR."""

from .densecap import densecap_map

__all__ = ["densecap_map"]
