"""Grounding data sets by the name of their format -> one row per image with its sentences and their phrases' boxes.

    annotation files + image folder --load_phrases--> rows of `rows.py` --training/tasks/grounding.py--> inputs

The drawn scenes are `training/scenes/expressions.py`'s; the task joins them to these.
"""

from collections.abc import Callable, Mapping
from typing import Any

import datasets

from training.data.files import format_reader
from training.data.phrases.flickr30k_entities import read_flickr30k_entities
from training.data.phrases.guesswhat import read_guesswhat
from training.data.phrases.refcoco import read_refcoco
from training.data.phrases.visual7w import read_visual7w_pointing
from training.data.phrases.visual_genome import read_genome_phrases

PHRASE_FORMATS: dict[str, Callable[..., datasets.Dataset]] = {
    "flickr30k_entities": read_flickr30k_entities,
    "refcoco": read_refcoco,
    "visual_genome": read_genome_phrases,
    "visual7w_pointing": read_visual7w_pointing,
    "guesswhat": read_guesswhat,
}


def load_phrases(
    format: str, *, formats: Mapping[str, Callable[..., datasets.Dataset]] = PHRASE_FORMATS, **options: Any
) -> datasets.Dataset:
    """Reads a grounding data set by the name of its format, as recipes do.

    Args:
        format: a key of `formats`.
        formats: the function of each format.
        options: the keyword arguments of that format's function; every one has `split`, which keeps one split
            (`"train"`) or several (`"train+val"`).

    Returns:
        One row per image: `image_id`, `image`, `captions` (its sentences), `phrases` (of each sentence, `start` and
        `end` in characters, `kinds`, `boxes` xyxy in 0..1, `candidates` and `polygons`) and `split`.

    Raises:
        ValueError: for an unknown format or option, a broken file, no phrase with a box, an unknown split.
    """
    return format_reader(formats, format, options, kind="grounding")(**options)
