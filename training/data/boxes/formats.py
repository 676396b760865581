"""Detection data sets by the name of their format -> `DetectionData`, one row per image with its boxes.

    annotation file + image folder --load_detection--> rows, names --> the detector's targets and its metrics

The drawn scenes are `training/scenes/boxes.py`'s; `training/tasks/detection.py` joins them to these.
"""

from collections.abc import Callable, Mapping
from typing import Any

from training.data.boxes.coco import read_coco_instances
from training.data.boxes.flickr30k_entities import read_flickr30k_entities
from training.data.boxes.mixture import read_mixture
from training.data.boxes.rows import DetectionData
from training.data.boxes.visual_genome import read_visual_genome
from training.data.files import format_reader

DETECTION_FORMATS: dict[str, Callable[..., DetectionData]] = {
    "coco": read_coco_instances,
    "visual_genome": read_visual_genome,
    "flickr30k_entities": read_flickr30k_entities,
    "mixture": read_mixture,
}


def load_detection(
    format: str, *, formats: Mapping[str, Callable[..., DetectionData]] = DETECTION_FORMATS, **options: Any
) -> DetectionData:
    """Reads a detection data set by the name of its format, as recipes do.

    Args:
        format: a key of `formats`.
        formats: the function of each format, which a mixture may name too.
        options: the keyword arguments of that format's function; every one has `split`, which keeps one split
            (`"train"`) or several (`"train+val"`; the scenes draw one).

    Raises:
        ValueError: for an unknown format or option, a broken file, a file without images, an unknown split.
    """
    return format_reader(formats, format, options, kind="detection")(**options)
