"""The metric of dense captions under a short name; it is defined in `training/metrics/dense_captioning/`."""

from .dense_captioning import densecap_map

__all__ = ["densecap_map"]
