"""Strips: the frames of a short clip side by side in one PNG or JPEG, with their seconds in its text or comment.

    frames, seconds --frame_strip--> bytes of a file --frames_of_strip--> frames, seconds

So a clip stands in the `image` column of any rows, next to images: the file says itself that it is a clip, and what
shows images shows its frames in a row. `training/regions/strips.py` makes regions of it.
"""

import io
import json
from collections.abc import Sequence

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

SECONDS_KEY = "frame_seconds"  # of a PNG's text, which is a JSON list, one number a frame
COMMENT = b'{"frame_seconds": '  # what a JPEG's comment starts with, the list and a brace following
JPEG_BLOCK = 8  # pixels: frames of whole blocks do not run into each other
MOST_FRAMES = 4096


def frame_strip(frames: Sequence[Image.Image], seconds: Sequence[float], *, jpeg: bool = False) -> bytes:
    """A PNG of frames of one size, from left to right, that says when each was seen; `jpeg`: a JPEG, for images.

    Raises `ValueError` without a frame, for frames of different sizes, of a JPEG for sides that are no multiple of 8,
    and for seconds that are not finite and rising, one a frame.
    """
    if not frames or len({frame.size for frame in frames}) > 1:
        sizes = sorted({frame.size for frame in frames})
        raise ValueError(f"a strip needs one frame or more, all of one size, and not {len(frames)} of sizes {sizes}")
    checked_seconds(list(seconds), len(frames))
    width, height = frames[0].size
    strip = Image.new("RGB", (width * len(frames), height))
    for place, frame in enumerate(frames):
        strip.paste(frame, (place * width, 0))
    told, file = json.dumps([round(float(second), 6) for second in seconds]), io.BytesIO()
    if not jpeg:
        text = PngInfo()
        text.add_text(SECONDS_KEY, told)
        strip.save(file, format="PNG", compress_level=1, pnginfo=text)
        return file.getvalue()
    if width % JPEG_BLOCK or height % JPEG_BLOCK:
        raise ValueError(f"frames of {width} x {height} pixels would run into each other: make sides multiples of 8")
    strip.save(file, format="JPEG", quality=95, subsampling=0, comment=COMMENT + told.encode() + b"}")
    return file.getvalue()


def frames_of_strip(image: Image.Image) -> tuple[list[Image.Image], list[float]] | None:
    """The frames of a strip and their seconds; None for an image that does not say that it is one.

    Raises `ValueError` for seconds that are none, or whose number does not divide the image's width.
    """
    text, comment = image.info.get(SECONDS_KEY), image.info.get("comment")
    if text is None and isinstance(comment, bytes) and comment.startswith(COMMENT):
        text = comment[len(COMMENT) : -1]
    if text is None:
        return None
    try:
        seconds = json.loads(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"the strip's {SECONDS_KEY} are no JSON ({error}): write it with frame_strip") from error
    if not isinstance(seconds, list) or not 1 <= len(seconds) <= MOST_FRAMES or image.width % len(seconds):
        raise ValueError(
            f"the strip's {SECONDS_KEY} must be a list of 1 to {MOST_FRAMES} numbers that divides its {image.width} "
            "pixels of width: write it with frame_strip"
        )
    width = image.width // len(seconds)
    frames = [image.crop((place * width, 0, (place + 1) * width, image.height)) for place in range(len(seconds))]
    return frames, checked_seconds(seconds, len(frames))


def checked_seconds(seconds: Sequence[float], count: int) -> list[float]:
    """The seconds of `count` frames; `ValueError` where they are no finite, rising numbers, one a frame."""
    numbers = all(isinstance(second, int | float) and not isinstance(second, bool) for second in seconds)
    values = np.asarray(seconds, dtype=np.float64) if numbers else np.empty(0)
    if len(values) != count or not np.isfinite(values).all() or (np.diff(values) <= 0).any():
        raise ValueError(f"{SECONDS_KEY} {list(seconds)!r:.80} must be {count} finite numbers that rise, one a frame")
    return values.tolist()


def sampled(num_frames: int, wanted: int) -> list[int]:
    """Which of the frames to keep: the middle of each of `wanted` equal parts, all for 0, or where there are fewer.

    Raises `ValueError` for a number below 0.

    >>> sampled(18, 1), sampled(18, 3), sampled(3, 0), sampled(3, 8)
    ([9], [3, 9, 15], [0, 1, 2], [0, 1, 2])
    """
    if wanted < 0:
        raise ValueError(f"frames is {wanted}; give how many frames of each clip to keep, or 0 for all")
    if not 0 < wanted < num_frames:
        return list(range(num_frames))
    return [int((part + 0.5) * num_frames / wanted) for part in range(wanted)]


def frames_mark(kept: int, of: int) -> str:
    """What the id of a clip ends with whose frames are not all kept, so that a store may hold both.

    >>> frames_mark(1, 18), frames_mark(18, 18)
    ('-1-of-18', '')
    """
    return "" if kept == of else f"-{kept}-of-{of}"
