"""Rows of clips as the rows of tasks on images: captions, paragraphs, questions, and choices among given answers.

    a reader of `captions.py`, `questions.py`, `moments.py` --captions_of | paragraphs_of | questions_of | choices_of-->
    rows of captions/rows.py, questions/rows.py, choices/rows.py

A clip stands where an image does: its id is the `image_id`, by which a region store of clips
(`training/regions/clips.py`) has its regions, and `image` is null, since no file is opened.
"""

from collections.abc import Callable
from functools import partial, update_wrapper
from typing import Any

import datasets

from training.data.boxes.rows import ImageListing
from training.data.captions.rows import caption_dataset
from training.data.choices.rows import ChoiceData, ChoiceItem, ChoiceText, choice_data
from training.data.clips.captions import read_msrvtt, read_msvd, read_vatex
from training.data.clips.moments import read_activitynet_captions, read_didemo
from training.data.clips.questions import read_activitynet_qa, read_msrvtt_qa, read_next_qa, read_tgif_qa
from training.data.questions.rows import vqa_dataset

Reader = Callable[..., Any]


def captions_of(read: Reader, /, *files: Any, **options: Any) -> datasets.Dataset:
    """Clips with captions as rows of `CAPTION_FEATURES`; `ValueError` as `read` and `caption_dataset`."""
    rows = read(*files, **options)
    return caption_dataset(
        image_ids=rows["clip_id"][:],
        names=rows["clip_id"][:],
        captions=rows["captions"][:],
        splits=rows["split"][:],
        images=None,
        split=None,
        source=source_of(files, options),
    )


def paragraphs_of(read: Reader, /, *files: Any, **options: Any) -> datasets.Dataset:
    """Sentences about moments as rows of `CAPTION_FEATURES`: all those of a clip, in the order of the file, are its one
    caption, as paragraphs are found (Zhang et al. 2018). `ValueError` as `read`."""
    rows = read(*files, **options)
    texts: dict[str, list[str]] = {}
    split_of: dict[str, str] = {}
    for name, text, split in zip(rows["clip_id"], rows["caption"], rows["split"], strict=True):
        texts.setdefault(name, []).append(text.strip())
        split_of[name] = split
    return caption_dataset(
        image_ids=list(texts),
        names=list(texts),
        captions=[[" ".join(own)] for own in texts.values()],
        splits=list(split_of.values()),
        images=None,
        split=None,
        source=source_of(files, options),
    )


def questions_of(read: Reader, /, *files: Any, **options: Any) -> datasets.Dataset:
    """Questions about clips as rows of `VQA_FEATURES`; `ValueError` as `read` and `vqa_dataset`."""
    rows = read(*files, **options)
    chosen = any(rows["choices"][:])
    columns = {
        "question_id": rows["question_id"][:],
        "image_id": rows["clip_id"][:],
        "name": rows["clip_id"][:],
        "question": rows["question"][:],
        "answers": rows["answers"][:],
        "answer": [answer or "" for answer in rows["answer"]],
        "question_type": [kind or "" for kind in rows["question_type"]],
        "split": rows["split"][:],
        **({name: rows[name][:] for name in ("choices", "correct_choice")} if chosen else {}),
    }
    return vqa_dataset([columns], images=None, split=None, source=source_of(files, options))


def choices_of(read: Reader, /, *files: Any, **options: Any) -> ChoiceData:
    """Questions about clips as items of multiple choice; `ValueError` as `read`, and for questions without choices."""
    rows, source = read(*files, **options), source_of(files, options)
    if not all(rows["choices"][:]):
        raise ValueError(f"{source} has questions without candidates, which the task vqa answers: choose task: vqa")
    return choice_data(map(_item, rows), source=source)


def _item(row: dict[str, Any]) -> ChoiceItem:
    return ChoiceItem(
        row["question_id"],
        group=row["clip_id"],
        kind="answer",
        image=ImageListing(row["clip_id"], row["clip_id"], None, row["split"]),
        context=(ChoiceText(row["question"]),),
        candidates=tuple(map(ChoiceText, row["choices"])),
        label=row["correct_choice"],
        question_type=row["question_type"] or "",
    )


def source_of(files: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """The annotation file, as errors name it."""
    return files[0] if files else options.get("annotations", options.get("questions", "the annotations"))


def reader(make: Reader, read: Reader, **bound: Any) -> Reader:
    """`read` with rows made by `make`, and its options but those that are bound."""
    return update_wrapper(partial(make, read, **bound), read)


CAPTIONS: dict[str, Reader] = {
    "msrvtt": reader(captions_of, read_msrvtt),
    "msvd": reader(captions_of, read_msvd),
    "vatex": reader(captions_of, read_vatex),
    "activitynet_captions": reader(paragraphs_of, read_activitynet_captions),
    "didemo": reader(paragraphs_of, read_didemo),
}
QUESTIONS: dict[str, Reader] = {
    "tgif_qa": reader(questions_of, read_tgif_qa),
    "activitynet_qa": reader(questions_of, read_activitynet_qa),
    "msrvtt_qa": reader(questions_of, read_msrvtt_qa, prefix="video"),
    "msvd_qa": reader(questions_of, read_msrvtt_qa, prefix="vid"),
    "next_oe": reader(questions_of, read_next_qa),
}
CHOICES: dict[str, Reader] = {
    "tgif_qa": reader(choices_of, read_tgif_qa),
    "next_qa": reader(choices_of, read_next_qa),
}
