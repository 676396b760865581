"""Data sets of clips by the name of their format -> rows of clips with captions, questions or moments.

    annotation files + folder of clips --load_clips--> rows of `rows.py`

Moments are read by `training/tasks/moments.py`; captions and questions by the tasks on images, whose rows
`task_rows.py` makes of them.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import datasets

from training.data.clips.captions import read_msrvtt, read_msvd, read_vatex
from training.data.clips.moments import (
    read_activitynet_captions,
    read_charades_sta,
    read_didemo,
    read_qvhighlights,
)
from training.data.clips.questions import read_activitynet_qa, read_msrvtt_qa, read_next_qa, read_tgif_qa
from training.data.files import format_reader

Readers = Mapping[str, Callable[..., datasets.Dataset]]
CLIP_CAPTION_FORMATS: Readers = {"msrvtt": read_msrvtt, "msvd": read_msvd, "vatex": read_vatex}
CLIP_QUESTION_FORMATS: Readers = {
    "tgif_qa": read_tgif_qa,
    "next_qa": read_next_qa,
    "activitynet_qa": read_activitynet_qa,
    "msrvtt_qa": read_msrvtt_qa,
    "msvd_qa": partial(read_msrvtt_qa, prefix="vid"),
}
MOMENT_FORMATS: Readers = {
    "charades_sta": read_charades_sta,
    "activitynet_captions": read_activitynet_captions,
    "didemo": read_didemo,
    "qvhighlights": read_qvhighlights,
}


def load_clips(format: str, *, formats: Readers, **options: Any) -> datasets.Dataset:
    """Reads a data set of clips by the name of its format.

    Args:
        format: a key of `formats`.
        formats: `CLIP_CAPTION_FORMATS`, `CLIP_QUESTION_FORMATS` or `MOMENT_FORMATS`.
        options: the keyword arguments of that format's function; every one has `clips`, the folder of the video files,
            and `split`, which keeps one split (`"train"`) or several (`"train+val"`).

    Returns:
        Rows of `CLIP_CAPTION_FEATURES`, `CLIP_QUESTION_FEATURES` or `MOMENT_FEATURES`; `clip` is a path.

    Raises:
        ValueError: for an unknown format or option, a broken file, no row that can be used, an unknown split.
    """
    return format_reader(formats, format, options, kind="clip")(**options)
