"""What `updown extract` takes for clips: which frames of them, and when its arguments are clips at all."""

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from training.commands.shared import exit_code
from training.console import positive, say, whole_number
from training.data.files import IMAGE_SUFFIXES

FRAME_OPTIONS = ("frames", "fps", "segments", "start", "end", "frame_rate", "seed", "skip_still")
RULES = ("frames", "fps", "segments")
DEFAULT_FPS = 1.0
LIST_SUFFIXES = {".txt", ".csv", ".tsv", ".jsonl"}


def add_clip_arguments(parser: argparse.ArgumentParser) -> None:
    """Which frames of clips are taken; any of these makes the arguments clips."""
    group = parser.add_argument_group(
        "clips",
        "videos (MP4, AVI, WebM, MKV, MOV, ...) and, with one of these options, GIFs, folders of frames and still "
        "images; tables have a column clip (or video, file_name, path), and may have clip_id, start_seconds and "
        "end_seconds",
    )
    which = group.add_mutually_exclusive_group()
    which.add_argument("--frames", type=positive, metavar="N", help="N frames of each clip, evenly spread")
    which.add_argument("--fps", type=seconds, metavar="X", help=f"X frames a second (default: {DEFAULT_FPS:g})")
    which.add_argument("--segments", type=positive, metavar="N", help="the middle frame of each of N equal parts (TSN)")
    group.add_argument("--seed", type=whole_number, metavar="N", help="with --segments: a random frame of each instead")
    group.add_argument("--start", type=seconds, metavar="S", help="from this second of each clip on")
    group.add_argument("--end", type=seconds, metavar="S", help="up to this second of each clip")
    group.add_argument(
        "--frame-rate", type=seconds, metavar="X", help="frames a second of clips that are folders of frames"
    )
    group.add_argument(
        "--skip-still",
        type=share,
        metavar="P",
        help="skip frames that differ less than P (0..1, such as 0.05) from the last one that was kept",
    )


def seconds(text: str) -> float:
    """The type of an argument: a number of 0 or more.

    >>> seconds("2.5")
    2.5
    """
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 0 or more")
    return value


def share(text: str) -> float:
    """The type of an argument: a number from 0 to 1."""
    value = seconds(text)
    if value > 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 1")
    return value


def check_clip_arguments(arguments: argparse.Namespace) -> None:
    """`ValueError` for what is idle beside other arguments."""
    given = [f"--{name.replace('_', '-')}" for name in FRAME_OPTIONS if getattr(arguments, name) is not None]
    if arguments.boxes and given:
        raise ValueError(f"--boxes describes images, not clips: leave out {', '.join(given)}")
    if arguments.seed is not None and arguments.segments is None:
        raise ValueError("--seed draws a random frame of each of --segments: name their number, or leave it out")


def are_clips(arguments: argparse.Namespace) -> bool:
    """Whether the arguments are clips: an option of clips is given, or they name videos.

    Of a folder that holds images as well, the images are meant, and a line tells of the videos that are left out.
    """
    if any(getattr(arguments, name) is not None for name in FRAME_OPTIONS):
        return True
    from training.data.clips.sources import ONLY_VIDEO

    for argument in arguments.images:
        place = Path(argument)
        if place.is_dir():
            suffixes = [path.suffix.lower() for path in place.iterdir()]
            videos = sum(suffix in ONLY_VIDEO for suffix in suffixes)
            if videos and not any(suffix in IMAGE_SUFFIXES for suffix in suffixes):
                return True
            if videos:
                say(f"{argument}: {videos} videos are left out; --fps, --frames or --segments takes all as clips")
        elif place.suffix.lower() in LIST_SUFFIXES and place.is_file():
            if names_a_video(place):
                return True
        elif Path(argument.partition("?")[0]).suffix.lower() in ONLY_VIDEO:
            return True
    return False


def names_a_video(path: Path) -> bool:
    """Whether a list or table names a video in its first rows."""
    from training.data.clips.sources import ONLY_VIDEO, listed_clips

    try:
        clips = listed_clips(path)
    except ValueError:  # a table of images, say, whose own reader tells what is wrong with it
        return False
    return any(Path(clip.path.partition("?")[0]).suffix.lower() in ONLY_VIDEO for clip in clips[:100])


def extract_named_clips(arguments: argparse.Namespace) -> Callable[..., int]:
    """What extracts the clips that the arguments name, once a source is loaded; `ValueError` for what is wrong."""
    from modeling_updown import ClipSampling
    from training.data.clips.sources import named_clips
    from training.regions.extract_clips import FrameChoice

    rate = arguments.fps if any(getattr(arguments, name) is not None for name in RULES) else DEFAULT_FPS
    sampling = ClipSampling(
        num_frames=arguments.frames,
        fps=rate,
        segments=arguments.segments,
        start_seconds=arguments.start or 0.0,
        end_seconds=arguments.end,
    )
    choice = FrameChoice(
        sampling, seed=arguments.seed, skip_below=arguments.skip_still, frame_rate=arguments.frame_rate
    )
    return partial(extract_all, named_clips(arguments.images), choice=choice)


def extract_all(clips: list[Any], *, output: Path, accelerator: Any, **options: Any) -> int:
    """`extract_clips` and a line on what the store has got; returns the exit code."""
    from training.regions.extract_clips import extract_clips

    started = time.monotonic()
    found = extract_clips(clips, output=output, accelerator=accelerator, **options)
    if accelerator.is_main_process:
        rate = found.num_new / max(time.monotonic() - started, 1e-9)
        more = f", {found.num_skipped} with nothing new skipped" if found.num_skipped else ""
        more += f", {found.num_new} of them new, {rate:.1f} a second" if found.num_new else ""
        say(f"{output}: the regions of {found.num_frames} frames of {len(clips)} clips{more}")
    if not found.broken:
        return 0
    return exit_code(1, of=2 if found.num_frames else 1)
