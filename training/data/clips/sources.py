"""Clips named by paths: files, URLs, folders of clips or of frames, lists and tables -> the clips to extract.

    arguments of a command --named_clips--> NamedClip, ... --open_clip--> frames

A still image is a clip of one frame.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from processors.clip_loading_updown import VIDEO_SUFFIXES
from training.data.clips.rows import is_number
from training.data.files import IMAGE_SUFFIXES, column, read_lines, read_table

LIST_SUFFIXES = frozenset({".txt", ".csv", ".tsv", ".jsonl"})
CLIP_COLUMNS = ("clip", "video", "file_name", "path")
ONLY_VIDEO = VIDEO_SUFFIXES - IMAGE_SUFFIXES  # a GIF may be meant as an image


@dataclass(frozen=True)
class NamedClip:
    """A clip to extract: its id, its path or URL, and the part of it that is meant, in seconds; None: to its end."""

    clip_id: str
    path: str
    start_seconds: float = 0.0
    end_seconds: float | None = None


def named_clips(arguments: Sequence[str]) -> list[NamedClip]:
    """The clips that arguments name.

    Args:
        arguments: each a file or URL; a folder, whose clips and still images are taken, and each of whose folders of
            frames is a clip, or which is a clip itself where it holds frames alone; a list of paths (.txt) or a table
            (.csv, .tsv, .jsonl) with a column clip (or video, file_name, path) and optionally clip_id, start_seconds
            and end_seconds; paths are relative to it.

    Returns:
        Each clip with an id of its own, by default its file's name.

    Raises:
        ValueError: for a folder without a clip, a list without one, a table without such a column or with a time that
            is no number, and an id that occurs twice.
    """
    found: list[NamedClip] = []
    for argument in arguments:
        place = Path(argument)
        if place.suffix.lower() in LIST_SUFFIXES and place.is_file():
            found += listed_clips(place)
        elif place.is_dir():
            found += [NamedClip(path.name, str(path)) for path in clips_in(place)]
        else:
            found.append(NamedClip(Path(argument.partition("?")[0]).name or argument, argument))
    check_ids(clip.clip_id for clip in found)
    return found


def clips_in(folder: Path) -> list[Path]:
    """The clips of a folder by name: its videos, its still images where there are any, its folders of frames.

    A folder of images alone is one clip. Raises `ValueError` for a folder without any.
    """
    inside = sorted(folder.iterdir())
    videos = [path for path in inside if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file()]
    stills = [path for path in inside if path.suffix.lower() in IMAGE_SUFFIXES - VIDEO_SUFFIXES and path.is_file()]
    folders = [path for path in inside if path.is_dir() and holds(path, IMAGE_SUFFIXES)]
    if stills and not videos and not folders:
        return [folder]
    found = sorted([*videos, *stills, *folders])
    if not found:
        raise ValueError(f"{folder} holds no clip ({', '.join(sorted(VIDEO_SUFFIXES))}) and no folder of frames")
    return found


def holds(folder: Path, suffixes: Iterable[str]) -> bool:
    """Whether a folder holds a file with one of these endings."""
    return any(path.suffix.lower() in suffixes for path in folder.iterdir())


def listed_clips(path: Path) -> list[NamedClip]:
    """The clips of a list or table; see `named_clips`."""
    if path.suffix.lower() == ".txt":
        rows: list[dict[str, Any]] = [{"clip": line} for line in read_lines(path)]
    else:
        rows = read_table(path, text_columns=(*CLIP_COLUMNS, "clip_id"))
    if not rows:
        raise ValueError(f"{path} lists no clip")
    chosen = next((name for name in CLIP_COLUMNS if name in rows[0]), None)
    if chosen is None:
        raise ValueError(f"{path} has no column {' or '.join(CLIP_COLUMNS)}; it has {', '.join(rows[0])}")
    names = [str(name) for name in column(rows, chosen, path)]
    found = []
    for name, row in zip(names, rows, strict=True):
        start, end = (seconds_in(row.get(key), key, path) for key in ("start_seconds", "end_seconds"))
        given = row.get("clip_id")
        clip_id = str(given) if given not in (None, "") else Path(name.partition("?")[0]).name
        whole = name if "://" in name else os.path.join(path.parent, name)
        found.append(NamedClip(clip_id, whole, start or 0.0, end))
    return list(dict.fromkeys(found))


def seconds_in(value: Any, key: str, path: Path) -> float | None:
    """A time of a table; None where it gives none. Raises `ValueError` for what is no number of seconds."""
    if value in (None, ""):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = -1.0
    if not is_number(number) or number < 0:
        raise ValueError(f"{path} has {value!r:.40} as {key}, which is no number of seconds")
    return number


def check_ids(ids: Iterable[str]) -> None:
    """Raises `ValueError` for an id that occurs twice."""
    seen: set[str] = set()
    for clip_id in ids:
        if clip_id in seen:
            raise ValueError(
                f"several clips have the id {clip_id}: extract the folders one by one, or give a table with clip_id"
            )
        seen.add(clip_id)
