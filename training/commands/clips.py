"""Images and clips on the command line: what is one or the other, which frames are taken, and what is drawn of them."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from training.commands.extract_clips import seconds
from training.commands.shared import image_paths
from training.console import positive

DEFAULT_FRAMES = 8


def add_frames(parser: argparse.ArgumentParser, *, default: str = f"{DEFAULT_FRAMES} frames") -> None:
    """Which frames of clips are looked at."""
    group = parser.add_argument_group(
        "clips",
        "a video (MP4, AVI, WebM, MKV, MOV, ...), an animated GIF or a folder of clips; a file is told by its content. "
        "Videos take PyAV: pip install 'modeling-updown[video]'",
    )
    which = group.add_mutually_exclusive_group()
    which.add_argument("--frames", type=positive, metavar="N", help=f"N frames, evenly spread (default: {default})")
    which.add_argument("--fps", type=seconds, metavar="X", help="or X frames a second")
    group.add_argument("--start", type=seconds, metavar="S", help="look at the clip from this second on")
    group.add_argument("--end", type=seconds, metavar="S", help="look at the clip up to this second")


def sampling_of(arguments: argparse.Namespace, **default: Any) -> Any:
    """The `ClipSampling` that the arguments ask for; `ValueError` for a start that is not before the end.

    default: how frames are chosen without --frames and --fps, such as `num_frames=8`.
    """
    from modeling_updown import ClipSampling

    rule = {"num_frames": arguments.frames} if arguments.frames else {"fps": arguments.fps}
    if arguments.frames is None and arguments.fps is None:
        rule = default or {"num_frames": DEFAULT_FRAMES}
    return ClipSampling(**rule, start_seconds=arguments.start or 0.0, end_seconds=arguments.end)


def load_media(path: str, sampling: Any) -> Any:
    """An image, or the `Clip` of a video or an animation; `ValueError` for a folder."""
    from modeling_updown import load_image_or_clip

    if Path(path).is_dir():
        raise ValueError(
            f"{path} is a folder; give the path of one image or video in it (a folder of frames is a clip of the "
            'pipelines in Python: {"video": folder})'
        )
    return load_image_or_clip(path, sampling)


def is_clip(media: Any) -> bool:
    """Whether what was loaded is a clip rather than an image."""
    return hasattr(media, "frames")


def media_paths(arguments: Sequence[str]) -> list[str]:
    """Files and URLs unchanged, and each folder's images and videos sorted by name.

    Raises `ValueError` for a folder without any.
    """
    from processors.clip_loading_updown import VIDEO_SUFFIXES

    paths: list[str] = []
    for argument in arguments:
        inside = sorted(Path(argument).iterdir()) if Path(argument).is_dir() else []
        if not any(path.suffix.lower() in VIDEO_SUFFIXES - {".gif"} for path in inside):
            paths += image_paths([argument])
            continue
        images = {*image_paths([argument])} if any(is_image_name(path) for path in inside) else set()
        paths += [str(path) for path in inside if str(path) in images or path.suffix.lower() in VIDEO_SUFFIXES]
    return paths


def is_image_name(path: Path) -> bool:
    """Whether a file's ending is that of an image."""
    from training.data.files import IMAGE_SUFFIXES

    return path.suffix.lower() in IMAGE_SUFFIXES
