"""Tiny videos of the tests, made by PyAV: frame number n is grey of level 8 n + 4, so that a frame says which it is."""

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

STEP = 8  # levels of grey between neighbours
CODECS = {".mp4": "libx264", ".mov": "libx264", ".mkv": "libx264", ".avi": "mpeg4", ".webm": "libvpx"}


def levels_of(number: int, *, height: int = 32, width: int = 32) -> np.ndarray:
    """A frame (height, width, 3) of the number's grey, with a dark upper half in its left quarter."""
    levels = np.full((height, width, 3), STEP * (number % 30) + 4, dtype=np.uint8)
    levels[: height // 2, : width // 4] = 0
    return levels


def write_video(
    path: Path,
    *,
    num_frames: int = 20,
    rate: int = 10,
    times: Sequence[int] | None = None,
    keyframes: int = 8,
    **size: int,
) -> Path:
    """A video of `num_frames`, one every 1 / rate s, or at `times` in hundredths of a second."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(CODECS[path.suffix], rate=rate)
        stream.width, stream.height, stream.pix_fmt = size.get("width", 32), size.get("height", 32), "yuv420p"
        stream.codec_context.gop_size = keyframes
        unit = Fraction(1, 100) if times else Fraction(1, rate)
        stream.codec_context.time_base = unit
        for number in range(num_frames):
            frame = av.VideoFrame.from_ndarray(levels_of(number, **size), format="rgb24")
            frame.pts, frame.time_base = (times[number] if times else number), unit
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_colours(path: Path, *, red: range, num_frames: int = 16, rate: int = 4) -> Path:
    """An MP4 whose frames are green, and red where their numbers are in `red`."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for number in range(num_frames):
            levels = np.zeros((32, 32, 3), dtype=np.uint8)
            levels[..., 0 if number in red else 1] = 250
            container.mux(stream.encode(av.VideoFrame.from_ndarray(levels, format="rgb24")))
        container.mux(stream.encode())
    return path


def write_sound(path: Path) -> Path:
    """A file of sound alone."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("aac", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 2048), dtype=np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_words(path: Path) -> Path:
    """An MKV of subtitles alone."""
    with av.open(str(path), "w") as container:
        packet = av.Packet(b"words")
        packet.stream = container.add_stream("ass")
        packet.time_base, packet.pts, packet.dts, packet.duration = Fraction(1, 1000), 0, 0, 1000
        container.mux(packet)
    return path


def turn(path: Path) -> Path:
    """Have an MP4's header say that players turn it by a quarter clockwise."""
    content = path.read_bytes()
    place = content.index(b"tkhd") + 4 + 40  # the matrix stands behind 40 bytes of version 0
    matrix = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
    path.write_bytes(content[:place] + matrix + content[place + 36 :])
    return path


def number_of(image: Any) -> int:
    """Which frame an image is."""
    levels = np.asarray(image, dtype=np.float32)
    return round((float(levels[-4:, -4:].mean()) - 4) / STEP)
