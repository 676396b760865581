"""Adds the frames of clips to an index, so that a search finds a clip and the second within it.

    clip --frames, so many a second--> images --Embedder--> vectors; entries "clip.mp4 at 3.5 s" --IndexWriter-->

Resumable: the seconds of a clip's frames are read without decoding, and those in the index are skipped.
"""

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL.Image import Image as PilImage
from tqdm.auto import tqdm

from modeling_updown import ClipSampling, choose_frames, open_clip
from processors.clip_loading_updown import MAX_CLIP_BYTES, PIXEL_BYTES, VIDEO_SUFFIXES
from training.console import one_line
from training.data.files import IMAGE_SUFFIXES
from training.regions.image_marks import changed_images, check_same_images, image_mark
from training.search.embedding import OTHER_INDEX, Embedder, marks_in, unfinished
from training.search.index_files import IndexWriter

ONLY_VIDEO = VIDEO_SUFFIXES - IMAGE_SUFFIXES  # a GIF is indexed as an image, its first frame
SAME_MOMENT = 1e-3  # seconds: entries keep three digits


def split_clips(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Arguments of `updown index` -> those that name images, and the paths of videos, those in folders by name."""
    images, clips = [], []
    for argument in arguments:
        place = Path(argument)
        inside = sorted(place.iterdir()) if place.is_dir() else []
        videos = [str(path) for path in inside if path.suffix.lower() in ONLY_VIDEO and path.is_file()]
        if place.suffix.lower() in ONLY_VIDEO and not place.is_dir():
            clips.append(argument)
        elif not videos or any(path.suffix.lower() in IMAGE_SUFFIXES for path in inside):
            images.append(argument)
        clips += videos
    return images, clips


def clips_by_id(paths: Sequence[str]) -> dict[str, str]:
    """File name -> path of each clip; raises `ValueError` for a name that occurs twice."""
    found: dict[str, str] = {}
    for path in paths:
        if Path(path).name in found:
            raise ValueError(f"several clips have the name {Path(path).name}: index the folders one by one")
        found[Path(path).name] = path
    return found


def frame_id(clip_id: str, second: float) -> str:
    """The id of a clip's frame in an index.

    >>> frame_id("clip.mp4", 3.5)
    'clip.mp4 at 3.5 s'
    """
    return f"{clip_id} at {round(second, 3):g} s"


def index_clips(
    clips: Mapping[str, str], embedder: Embedder, writer: IndexWriter, *, paths: Mapping[str, str | None], fps: float
) -> list[str]:
    """Add the frames that an index lacks; returns one line for each clip that cannot be read.

    What can be decoded of a damaged clip is added, with a warning.

    Args:
        clips: id -> path of each.
        paths: id -> path relative to the index's image folder.
        fps: frames a second.

    Raises:
        ValueError: if the index holds frames of other clips under the same ids.
    """
    sampling, known, broken = ClipSampling(fps=fps), marks_in(writer), []
    for clip_id, path in tqdm(clips.items(), desc="clips", unit="clip", disable=not clips):
        try:
            with open_clip(path) as reader:
                chosen = choose_frames(reader.times, sampling, end=reader.end, name=reader.name)
                names = [frame_id(clip_id, float(second)) for second in reader.times[chosen]]
                mark = image_mark({"path": path})
                others = changed_images(names, [mark] * len(names), known=known)
                if not others:
                    about = {"path": paths.get(clip_id), "mark": mark}
                    add_frames(reader, chosen, names, embedder, writer, about=about, known=known)
                    if reader.note:
                        warnings.warn(reader.note, stacklevel=2)
        except (OSError, ValueError) as error:
            others = []
            broken.append(one_line(error))
        check_same_images(others[:1], of=len(clips), place=f"the index {writer.folder}", cure=OTHER_INDEX, kind="clips")
    return broken


def add_frames(
    reader: Any,
    chosen: np.ndarray,
    names: Sequence[str],
    embedder: Embedder,
    writer: IndexWriter,
    *,
    about: Mapping[str, Any],
    known: Mapping[str, int],
) -> None:
    """Add the frames of one clip, `chosen` (K,) with their ids `names`, that the index does not hold."""
    places = list(zip(chosen.tolist(), names, strict=True))
    done = [place for place in places if place[1] in known]
    for batch in unfinished(places, batch_size=embedder.batch_size, done=done):
        limit = MAX_CLIP_BYTES // (PIXEL_BYTES * len(batch))
        found = {position: image for position, _, image in reader.frames([p for p, _ in batch], max_pixels=limit)}
        kept = [(name, position) for position, name in batch if position in found]
        if not kept:
            continue
        vectors = embedder.regions_vectors(embedder.regions([found[position] for _, position in kept]))
        entries = [{"id": name, **about, "seconds": round(float(reader.times[position]), 3)} for name, position in kept]
        writer.append("photos", vectors, entries)


def frame_at(path: str | os.PathLike[str], second: float) -> PilImage:
    """The frame of a clip that is on the screen at a second; raises as `open_clip`."""
    with open_clip(path) as reader:
        place = max(int(np.searchsorted(reader.times, second + SAME_MOMENT, side="right")) - 1, 0)
        return next(image for *_, image in reader.frames([place]))
