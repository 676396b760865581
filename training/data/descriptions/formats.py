"""Dense captioning data sets by the name of their format -> one row per image with its boxes and their sentences.

    annotation files + image folder --load_descriptions--> rows --training/tasks/dense_captioning.py--> inputs

The drawn scenes are `training/scenes/descriptions.py`'s; the task joins them to these.
"""

from collections.abc import Callable, Mapping
from typing import Any

import datasets

from training.data.descriptions.flickr30k_entities import read_flickr30k_entities
from training.data.descriptions.visual_genome import read_genome_descriptions
from training.data.files import format_reader

DESCRIPTION_FORMATS: dict[str, Callable[..., datasets.Dataset]] = {
    "flickr30k_entities": read_flickr30k_entities,
    "visual_genome": read_genome_descriptions,
}


def load_descriptions(
    format: str, *, formats: Mapping[str, Callable[..., datasets.Dataset]] = DESCRIPTION_FORMATS, **options: Any
) -> datasets.Dataset:
    """Reads a dense captioning data set by the name of its format, as recipes do.

    Args:
        format: a key of `formats`.
        formats: the function of each format.
        options: the keyword arguments of that format's function; every one has `split`, which keeps one split
            (`"train"`) or several (`"train+val"`).

    Returns:
        One row per image: `image_id`, `image`, `boxes` (xyxy in 0..1), `captions` (of all boxes), `caption_boxes` (of
        each caption, the place of its box) and `split`.

    Raises:
        ValueError: for an unknown format or option, a broken file, no described box, an unknown split.
    """
    return format_reader(formats, format, options, kind="dense captioning")(**options)
