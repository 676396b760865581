"""Reading data sets in their official formats -> one `datasets.Dataset`, one row per question, with the words given.

    files + image folder + words --load_reading--> rows of training/data/reading/rows.py

`scene_text.py` has those about photos, `documents.py` those about documents and charts; `word_layouts.py` says in which
layouts words may come, and `written_questions.py` has a file of your own. The drawn ones are
`training/scenes/reading.py`'s; `training/tasks/reading.py` joins them.
"""

from collections.abc import Callable, Mapping
from typing import Any

import datasets

from training.data.files import format_reader
from training.data.reading.documents import read_chartqa, read_docvqa, read_sroie
from training.data.reading.scene_text import read_ocrvqa, read_stvqa, read_textcaps, read_textvqa, read_vizwiz_vqa
from training.data.reading.written_questions import read_written_questions

READING_FORMATS: dict[str, Callable[..., datasets.Dataset]] = {
    "textvqa": read_textvqa,
    "textcaps": read_textcaps,
    "stvqa": read_stvqa,
    "ocrvqa": read_ocrvqa,
    "vizwiz_vqa": read_vizwiz_vqa,
    "docvqa": read_docvqa,
    "infographicvqa": read_docvqa,
    "chartqa": read_chartqa,
    "sroie": read_sroie,
    "written_questions": read_written_questions,
}


def load_reading(
    format: str, *, formats: Mapping[str, Callable[..., datasets.Dataset]] = READING_FORMATS, **options: Any
) -> datasets.Dataset:
    """Reads a reading data set by the name of its format, as recipes do.

    Args:
        format: a key of `formats`.
        formats: the function of each format.
        options: the keyword arguments of that format's function; every one has `split`, which keeps one split
            (`"train"`) or several (`"train+val"`), and `words` where words can be given.

    Returns:
        One row per question: the columns of `load_vqa`, and `words`, the OCR words of the image in reading order, each
        `text`, `box` (xyxy in 0..1) and `score` (0..1).

    Raises:
        ValueError: for an unknown format or option, a broken file, no question, no image, an unknown split.
    """
    return format_reader(formats, format, options, kind="reading")(**options)
