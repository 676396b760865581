"""Data sets of multiple choice by the name of their format -> one row per choice to be made, and the texts they name.

    files + image folder --load_choices--> ChoiceData of `rows.py` --training/tasks/multiple_choice.py--> inputs

The drawn scenes are `training/scenes/choices.py`'s; the task joins them to these.
"""

from collections.abc import Callable, Mapping
from typing import Any

from training.data.choices.rows import ChoiceData
from training.data.choices.vcr import read_vcr
from training.data.choices.visdial import read_visdial
from training.data.files import format_reader

CHOICE_FORMATS: dict[str, Callable[..., ChoiceData]] = {"vcr": read_vcr, "visdial": read_visdial}


def load_choices(
    format: str, *, formats: Mapping[str, Callable[..., ChoiceData]] = CHOICE_FORMATS, **options: Any
) -> ChoiceData:
    """Reads a data set of multiple choice by the name of its format, as recipes do.

    Args:
        format: a key of `formats`.
        formats: the function of each format.
        options: the keyword arguments of that format's function; every one has `split`, which keeps one split.

    Returns:
        `rows`: `item_id`, `group`, `kind` (answer, rationale or round), `image_id`, `image`, `context` and `candidates`
        (numbers of texts), `label` (-1: hidden), `relevance`, `boxes` xyxy in 0..1 and `names` of objects, `split`;
        `texts`: `text` and `links`, the objects that its words carry.

    Raises:
        ValueError: for an unknown format or option, a broken file, a tag without a region, an unknown split.
    """
    return format_reader(formats, format, options, kind="multiple choice")(**options)
