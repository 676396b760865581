"""The rows of data sets of clips: captions of a clip, a question about one, a sentence with the moments it is about.

    a reader of training/data/clips/formats.py --rows, names of files--> clip_dataset --> datasets.Dataset

A clip is the path of its file, which is not opened. What cannot be used is left out, and one warning counts it.
"""

import math
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import datasets

from processors.clip_loading_updown import VIDEO_SUFFIXES
from training.data.boxes.rows import LeftOut, dataset_of
from training.data.files import PathLike, all_texts, leads_out, listed
from training.data.splits import wanted_splits

SLACK_SECONDS = 2.0  # an end may lie so far behind its clip, as rounding has it

_TEXT = datasets.Value("string")
_SECONDS = datasets.Value("float64")
_CLIP = {"clip_id": _TEXT, "clip": _TEXT, "split": _TEXT}
_SOURCE = {"source_start_seconds": _SECONDS, "source_end_seconds": _SECONDS}
CLIP_CAPTION_FEATURES = datasets.Features({**_CLIP, "captions": datasets.List(_TEXT), **_SOURCE})
CLIP_QUESTION_FEATURES = datasets.Features(
    {
        "question_id": _TEXT,
        **_CLIP,
        "question": _TEXT,
        "answer": _TEXT,
        "answers": datasets.List(_TEXT),
        "choices": datasets.List(_TEXT),
        "correct_choice": datasets.Value("int32"),
        "question_type": _TEXT,
    }
)
MOMENT_FEATURES = datasets.Features(
    {
        "moment_id": _TEXT,
        **_CLIP,
        "caption": _TEXT,
        "duration_seconds": _SECONDS,
        "spans": datasets.List(datasets.List(_SECONDS, length=2)),
        "relevant_clip_ids": datasets.List(datasets.Value("int32")),
        "saliency_scores": datasets.List(datasets.List(datasets.Value("int32"))),
        **_SOURCE,
    }
)
CLIP_MOMENT_FEATURES = datasets.Features(  # of clips that are strips of frames
    {"image_id": _TEXT, "image": datasets.Image(), **MOMENT_FEATURES}
)
Row = dict[str, Any]


def clip_dataset(
    rows: Iterable[Row],
    features: datasets.Features,
    *,
    clips: PathLike | None,
    split: str | None,
    source: PathLike,
    left_out: LeftOut,
) -> datasets.Dataset:
    """Rows -> a data set.

    Args:
        rows: the columns of `features` but `clip`, of which those that are null may be absent, and `names`, what the
            clip's file may be called, with or without its ending, relative to `clips`.
        features: one of this module's.
        clips: the folder of the video files; None for rows whose `clip` is null.
        split: `"train"` or `"train+val"` keeps these, None keeps all.
        source: the file named in errors and warnings.
        left_out: what the reader has left out so far; told here.

    Returns:
        A row for each whose clip is there.

    Raises:
        ValueError: where no row is left, an unknown split, and as `clip_paths`; `NoSuchSplitError` where there is none
            of the wanted split.
    """
    found = list(rows)
    if split is not None and found:
        present = {row["split"] for row in found}
        wanted = wanted_splits(split, present=present, source=source)
        found = [row for row in found if row["split"] in wanted]
    left_out.warn()
    if not found:
        raise ValueError(f"{source} holds no row that can be used; is it the file of another format?")
    if clips is not None:
        paths = clip_paths([row["names"] for row in found], clips)
        found = [row | {"clip": path} for row, path in zip(found, paths, strict=True) if path is not None]
    return dataset_of(({name: row.get(name) for name in features} for row in found), features)


def clip_paths(names: Sequence[Sequence[str]], folder: PathLike) -> list[str | None]:
    """The file of each clip in `folder`, None (and one warning naming up to five) where it is missing.

    Args:
        names: of each clip what its file may be called, relative to `folder`, with or without the ending of a video; a
            file of another ending is taken too, and one that lies in the folder itself.

    Raises:
        ValueError: where the folder is absent, a name leads out of it, or every clip is missing.
    """
    root = os.path.abspath(folder)
    if not os.path.isdir(root):
        raise ValueError(f"there is no folder of clips {folder}")
    known: dict[str, dict[str, str]] = {}
    found = [_path_of(own, root, known) for own in names]
    missing = sorted({own[0] for own, path in zip(names, found, strict=True) if path is None})
    if missing and not any(found):
        raise ValueError(f"none of the clips is in {folder} (looked for {listed(missing)}); is it the right folder?")
    if missing:
        warnings.warn(f"{len(missing)} clips are not in {folder} and are left out: {listed(missing)}", stacklevel=3)
    return found


def usable_spans(
    spans: Iterable[Any], *, duration: float | None, left_out: LeftOut, example: str
) -> list[tuple[float, float]]:
    """The spans that can be used, start and end in seconds; the others are counted in `left_out`.

    Args:
        duration: seconds of the clip, None where the file does not say. An end up to `SLACK_SECONDS` behind it is the
            clip's end.
        example: the item named in the warning.
    """
    usable = []
    for span in spans:
        fault = span_fault(span, duration)
        if fault:
            left_out.add(f"spans that {fault}", f"{example}: {span!r:.40}")
        else:
            start, end = map(float, span)
            usable.append((start, end if duration is None else min(end, duration)))
    return usable


def span_fault(span: Any, duration: float | None) -> str:
    """Why a span cannot be used, "" where it can.

    >>> span_fault([3, 2], None), span_fault([3, 9], 5), span_fault([3, 5.5], 5.2)
    ('start after they end', 'lie outside of their clip', '')
    """
    if not isinstance(span, list | tuple) or len(span) != 2 or not all(map(is_number, span)):
        return "are not two numbers"
    start, end = span
    if start > end:
        return "start after they end"
    outside = start < 0 or (duration is not None and (start >= duration or end > duration + SLACK_SECONDS))
    return "lie outside of their clip" if outside else ""


def is_number(value: Any) -> bool:
    """Whether a value is a finite number, which True is not.

    >>> is_number(2.5), is_number(True), is_number(float("nan")), is_number("2")
    (True, False, False, False)
    """
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def number_in(text: Any, place: str) -> float:
    """A text's number, as tables have it; `ValueError` naming the place where it is none."""
    try:
        value = float(text)
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{place} has {text!r:.40} where a number is expected; is it the file of another format?")
    return value


def is_text(value: Any) -> bool:
    """Whether a value is text that is not blank."""
    return isinstance(value, str) and bool(value.strip()) and all_texts([value])


def texts_of(values: Any, *, left_out: LeftOut, example: str) -> list[str]:
    """The captions among a list's values; the others are counted."""
    given = values if isinstance(values, list) else [values]
    usable = [value for value in given if is_text(value)]
    if len(usable) < len(given):
        left_out.add("captions that are empty or no text", example, count=len(given) - len(usable))
    return usable


def question_row(record: Mapping[str, Any], *, left_out: LeftOut, seen: set[str]) -> Row | None:
    """The row of a question, None where it cannot be used: no text, an id that stood before, no such candidate.

    Args:
        record: `question_id`, `question` and others of `CLIP_QUESTION_FEATURES`, and `names`.
        left_out: where it is counted.
        seen: the ids before it; its own is added.
    """
    row: Row = {"answers": [], "choices": [], "correct_choice": -1, **record}
    name, right = row["question_id"], row["correct_choice"]
    fault = ""
    if name in seen:
        fault = "questions whose id stood before"
    elif not is_text(row["question"]) or not all_texts([*row["answers"], *row["choices"]]):
        fault = "questions that are empty, or have answers that are no text"
    elif row["choices"] and not -1 <= right < len(row["choices"]):
        fault = "questions whose right answer is none of the candidates"
    seen.add(name)
    if fault:
        left_out.add(fault, name)
        return None
    answer = row["choices"][right] if right >= 0 else next(iter(row["answers"]), None)
    return {"answer": answer, **row, "answers": row["answers"] or ([] if answer is None else [answer])}


def _path_of(names: Sequence[str], root: str, known: dict[str, dict[str, str]]) -> str | None:
    for name in names:
        if leads_out(name) or "://" in name:
            raise ValueError(f"the name of a clip {name!r} leads out of {root}; write names relative to that folder")
        folder, bare = os.path.split(os.path.normpath(os.path.join(root, name)))
        for place in dict.fromkeys((folder, root)):
            if place not in known:
                known[place] = _files_in(place)
            path = known[place].get(bare) or known[place].get(without_suffix(bare))
            if path is not None:
                return path
    return None


def without_suffix(name: str) -> str:
    """A name without the ending of a video.

    >>> without_suffix("a_60.0_210.0.mp4"), without_suffix("a_60.0_210.0")
    ('a_60.0_210.0', 'a_60.0_210.0')
    """
    stem, suffix = os.path.splitext(name)
    return stem if suffix.lower() in VIDEO_SUFFIXES else name


def _files_in(place: str) -> dict[str, str]:
    """The videos in a folder by their names, with and without the ending."""
    if not os.path.isdir(place):
        return {}
    with os.scandir(place) as entries:
        paths = sorted(entry.path for entry in entries if not entry.is_dir())
    videos = [path for path in paths if os.path.splitext(path)[1].lower() in VIDEO_SUFFIXES]
    bare = {without_suffix(os.path.basename(path)): path for path in reversed(videos)}
    return bare | {os.path.basename(path): path for path in videos}
