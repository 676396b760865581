"""Visual question answering data sets in their official formats -> one `datasets.Dataset`, one row per question.

    files + image folder --load_vqa--> rows of training/data/questions/rows.py --training/tasks/vqa.py--> model inputs

The readers lie by family: `coco.py` (VQA v1, v2, OK-VQA, A-OKVQA, LXMERT), `visual_genome.py` (GQA, Visual7W, Visual
Genome), `daquar.py`, `pope.py` (POPE, of boxes too), `tables.py` (your own tables, the Hub), `from_captions.py`;
`mixture.py` joins several. The drawn scenes are `training/scenes/questions.py`'s; `training/tasks/questions.py` joins
them to these.

No image is opened here: whether it exists is asked of one listing per folder, and the `image` column decodes lazily.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import datasets

from training.data.captions.formats import CAPTION_FORMATS
from training.data.files import format_reader
from training.data.questions.coco import read_aokvqa, read_lxmert_gqa, read_lxmert_vqa, read_vqa_v2
from training.data.questions.daquar import read_daquar
from training.data.questions.from_captions import read_caption_questions
from training.data.questions.mixture import read_mixture
from training.data.questions.pope import read_pope, read_pope_questions
from training.data.questions.tables import read_folder, read_hub, read_table_questions
from training.data.questions.visual_genome import read_gqa, read_visual7w, read_visual_genome_qa

VQA_FORMATS: dict[str, Callable[..., datasets.Dataset]] = {
    "vqa_v2": read_vqa_v2,
    "lxmert_vqa": read_lxmert_vqa,
    "gqa": read_gqa,
    "lxmert_gqa": read_lxmert_gqa,
    "aokvqa": read_aokvqa,
    "visual7w": read_visual7w,
    "visual_genome_qa": read_visual_genome_qa,
    "daquar": read_daquar,
    "table": read_table_questions,
    "folder": read_folder,
    "hub": read_hub,
    "captions": partial(read_caption_questions, caption_formats=CAPTION_FORMATS),
    "pope": read_pope,
    "pope_questions": read_pope_questions,
    "mixture": read_mixture,
}


def load_vqa(
    format: str, *, formats: Mapping[str, Callable[..., datasets.Dataset]] = VQA_FORMATS, **options: Any
) -> datasets.Dataset:
    """Reads a VQA data set by the name of its format, as recipes do.

    Args:
        format: a key of `formats`.
        formats: the function of each format, which a mixture may name too.
        options: the keyword arguments of that format's function; every one has `split`, which keeps one split
            (`"train"`) or several (`"train+val"`).

    Returns:
        One row per question: `question_id` (str), `image_id` (str), `image` (`datasets.Image`, None without an image
        folder), `question` (str), `answers` (list of str, the human answers as the file has them, empty where they are
        hidden), `answer` (str, the one answer to learn where the file names one, else ""), `question_type`,
        `answer_type` (str), `choices` (list of str, empty for open questions), `correct_choice` (int, row of `choices`
        or -1), `split` (train, restval, val, test-dev, test or challenge), `details` (str: a JSON object for the data
        set's own evaluation, or "").

    Raises:
        ValueError: for an unknown format or option, a broken file, no question, no image, an unknown split.
    """
    return format_reader(formats, format, options, kind="VQA")(**options)
