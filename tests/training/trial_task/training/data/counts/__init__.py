"""Images with the number of objects that they show: one file a format, and `COUNT_FORMATS`, the list of them."""

from .scene_counts import COUNT_FEATURES, read_scene_counts

COUNT_FORMATS = {"scene_counts": read_scene_counts}

__all__ = ["COUNT_FEATURES", "COUNT_FORMATS", "read_scene_counts"]
