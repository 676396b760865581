"""Data sets of statements by the name of their format -> one row a statement with its image or images.

    annotation files + image folder --load_statements--> rows of `rows.py` --training/tasks/statements.py--> inputs

The drawn scenes are `training/scenes/statements.py`'s; the tasks join them to these.
"""

from collections.abc import Callable, Mapping
from typing import Any

import datasets

from training.data.files import format_reader
from training.data.statements.nlvr import read_nlvr, read_nlvr2
from training.data.statements.snli_ve import read_esnlive, read_snli_ve

ENTAILMENT_FORMATS: dict[str, Callable[..., datasets.Dataset]] = {"snli_ve": read_snli_ve, "esnlive": read_esnlive}
PAIR_FORMATS: dict[str, Callable[..., datasets.Dataset]] = {"nlvr2": read_nlvr2, "nlvr": read_nlvr}


def load_statements(
    format: str, *, formats: Mapping[str, Callable[..., datasets.Dataset]], **options: Any
) -> datasets.Dataset:
    """Reads a data set of statements by the name of its format, as recipes do.

    Args:
        format: a key of `formats`.
        formats: the function of each format.
        options: the keyword arguments of that format's function; every one has `split`, which keeps one split
            (`"train"`) or several (`"train+val"`).

    Returns:
        One row a statement: `statement_id`, `image_ids` and `images` (lists), `statement`, `label`, `group`, `split`.

    Raises:
        ValueError: for an unknown format or option, a broken file, no statement that can be used, an unknown split.
    """
    return format_reader(formats, format, options, kind="statements")(**options)
