"""Clips from any source to a few frames with their seconds: video files, URLs, animations, folders and lists of frames.

    path | URL | bytes | folder | list --open_clip--> times, end --choose_frames--> frames(): position, seconds, image
    the same in one step --load_clip--> Clip: images (RGB) and seconds
    an image or a clip, by its content --load_image_or_clip--> image (RGB) or Clip

A still image is a clip of one frame at second 0. Video files are decoded by `clip_decoding_updown`, animated GIF, WebP
and PNG by Pillow; a folder or list of frames has no times of its own, so `frame_rate` gives them. However long a clip
is, only the chosen frames are held, and where those would take more than `MAX_CLIP_BYTES` they are reduced in size.
"""

import contextlib
import io
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from PIL import Image

from .clip_decoding_updown import Frame, VideoReader, reduced_image
from .clip_sampling_updown import ClipSampling, choose_frames
from .image_download_updown import MAX_DOWNLOAD_BYTES, download_image
from .image_processing_updown import IMAGE_FORMATS, MAX_IMAGE_PIXELS, check_image_array, load_image

ClipSource = Any  # what `open_clip` takes
MAX_CLIP_BYTES = 2**30  # of the frames of one clip in memory
PIXEL_BYTES = 4  # of an RGB image in Pillow
FRAME_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif"})
VIDEO_SUFFIXES = frozenset(
    {
        *(".mp4", ".avi", ".mkv", ".webm", ".mov", ".m4v", ".3gp", ".mpg", ".mpeg", ".gif"),
        *(".flv", ".wmv", ".ogv", ".ogg", ".mts", ".m2ts"),
    }
)
ANIMATED = ("GIF", "WEBP", "PNG")
# how files of the containers begin: Matroska and WebM, FLV, Ogg, ASF, and both kinds of MPEG
CONTAINER_STARTS = (b"\x1aE\xdf\xa3", b"FLV", b"OggS", b"0&\xb2u", b"\x00\x00\x01\xba", b"\x00\x00\x01\xb3")
MP4_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free")
IMAGE_BRANDS = (b"avif", b"avis", b"heic", b"heix", b"mif1", b"msf1")  # images in the container of MP4
LONGEST_NAME = 4096  # letters of a path; longer text may be an image in base64
SHORTEST_DELAY, USUAL_DELAY = 0.02, 0.1  # seconds: browsers show a GIF's frames of less than the one for the other


@dataclass(frozen=True)
class Clip:
    """The chosen frames of a clip.

    frames: K RGB images, in their order.
    seconds: (K,) float64, when each appears, counted from the clip's first frame.
    end_seconds: when the last frame of the whole clip disappears.
    note: what of a damaged clip could not be used, in one sentence; "" where nothing is amiss.
    part_seconds: start and end of the part that was looked at, where that is not the whole clip.
    """

    frames: list[Image.Image]
    seconds: np.ndarray
    end_seconds: float
    note: str = ""
    part_seconds: tuple[float, float] | None = None


def load_clip(
    source: ClipSource,
    sampling: ClipSampling | None = None,
    *,
    frame_rate: float | None = None,
    timeout: float | None = None,
    generator: np.random.Generator | None = None,
) -> Clip:
    """Loads a few frames of a clip; see `open_clip` for sources and `ClipSampling` for how they are chosen.

    Args:
        source: as `open_clip`.
        sampling: by default eight frames, evenly spread.
        frame_rate, timeout: as `open_clip`.
        generator: with `segments`, takes a random moment of each.

    Returns:
        The frames, each once. What of a damaged file can be decoded is used, with one warning.

    Raises:
        ImportError: for a video file without PyAV.
        OSError, ValueError, TypeError: as `open_clip` and `choose_frames`.

    >>> clip = load_clip([Image.new("RGB", (4, 2), colour) for colour in ("red", "blue")], frame_rate=2.0)
    >>> clip.seconds.tolist(), clip.frames[1].getpixel((0, 0)), clip.end_seconds
    ([0.0, 0.5], (0, 0, 255), 1.0)
    """
    sampling = sampling or ClipSampling(num_frames=8)
    with open_clip(source, frame_rate=frame_rate, timeout=timeout) as reader:
        check_times(reader, sampling)
        chosen = choose_frames(reader.times, sampling, end=reader.end, name=reader.name, generator=generator)
        found = list(reader.frames(chosen, max_pixels=MAX_CLIP_BYTES // (PIXEL_BYTES * len(chosen))))
        if reader.note:
            warnings.warn(reader.note, stacklevel=2)
        part = None
        if not sampling.is_whole:
            end = reader.end if sampling.end_seconds is None else min(sampling.end_seconds, reader.end)
            part = (float(sampling.start_seconds), float(end))
        images, seconds = [image for *_, image in found], np.array([moment for _, moment, _ in found])
        return Clip(images, seconds, reader.end, reader.note, part)


def load_image_or_clip(
    source: Any,
    sampling: ClipSampling | None = None,
    *,
    animated: bool = True,
    frame_rate: float | None = None,
    timeout: float | None = None,
) -> "Image.Image | Clip":
    """Loads an image, or a few frames of a clip, whichever a file holds; its name decides where its content does not.

    Args:
        source: as `load_image` or `open_clip` takes it, but no folder, which may be one of images; a list and an array
            of frames are clips, and a `Clip` is given back.
        sampling, frame_rate, timeout: as `load_clip`.
        animated: whether an animated GIF, WebP or PNG is a clip rather than the image of its first frame.

    Raises:
        OSError, ValueError, TypeError, ImportError: as `load_image` for an image, as `load_clip` for a clip.

    >>> still = Image.new("RGB", (4, 2))
    >>> load_image_or_clip(still).size, len(load_image_or_clip([still] * 3).frames)
    ((4, 2), 3)
    """
    if isinstance(source, Clip):
        return source
    if isinstance(source, Image.Image) or getattr(source, "ndim", 4) < 4:
        return _frame_image(source)
    if isinstance(source, str | os.PathLike) or _listed_frames(source) is None:
        source, is_clip = _file_or_clip(source, animated=animated, timeout=timeout)
        if not is_clip:
            return load_image(source, timeout=timeout)
    return load_clip(source, sampling, frame_rate=frame_rate, timeout=timeout)


def _file_or_clip(source: Any, *, animated: bool, timeout: float | None) -> tuple[Any, bool]:
    """A source, downloaded where it is a URL, and whether it is a clip rather than an image."""
    named = isinstance(source, str | os.PathLike)
    text = os.fsdecode(source) if named else ""
    suffix = Path(text.partition("?")[0]).suffix.lower() if len(text) < LONGEST_NAME else ""
    is_video_name = suffix in VIDEO_SUFFIXES - FRAME_SUFFIXES
    is_url = text[:8].lower().startswith(("http://", "https://"))
    if named and not is_url and not os.path.isfile(text):
        return source, is_video_name
    if not named and not isinstance(source, bytes | bytearray | memoryview) and not hasattr(source, "read"):
        return source, False
    name, file = _open_file(source, timeout=timeout)
    if is_url or hasattr(source, "read"):
        source = file
        with contextlib.suppress(AttributeError):
            file.name = name  # type: ignore[misc]
    try:
        is_image, moves = _image_in(file)
        file.seek(0)
        is_clip = is_video_name or (moves and animated if is_image else _is_container(file.read(512)))
    finally:
        file.seek(0)
        if source is not file:
            file.close()
    return source, is_clip


def _image_in(file: BinaryIO) -> tuple[bool, bool]:
    """Whether Pillow takes a file for an image, and for one of several frames."""
    try:
        image = Image.open(file, formats=IMAGE_FORMATS)
        return True, image.format in ANIMATED and bool(getattr(image, "is_animated", False))
    except Image.UnidentifiedImageError:
        return False, False
    except Exception:  # a broken header, of which `load_image` says what is wrong
        return True, False


def _is_container(head: bytes) -> bool:
    """Whether the first bytes of a file are those of a container of video.

    >>> _is_container(b"\\0\\0\\0 ftypisom"), _is_container(b"\\0\\0\\0 ftypavif"), _is_container(b"GIF89a")
    (True, False, False)
    """
    if head[4:8] in MP4_BOXES:
        return head[8:12] not in IMAGE_BRANDS
    stream = len(head) > 376 and head[0] == head[188] == head[376] == 0x47  # packets of an MPEG transport stream
    return head.startswith(CONTAINER_STARTS) or (head[:4] == b"RIFF" and head[8:12] == b"AVI ") or stream


@contextlib.contextmanager
def open_clip(
    source: ClipSource, *, frame_rate: float | None = None, timeout: float | None = None
) -> Iterator["VideoReader | AnimationReader | FramesReader"]:
    """Opens a clip: a reader with `name`, `times` (n,), `end` in seconds, `note`, and `frames(positions)`, a stream.

    Args:
        source: a path or http(s) URL of a video, an animation or a still image; their bytes, or a file opened in binary
            mode; a folder of frames, taken in the order of the numbers in their names; or a list of frames, each as
            `load_image` takes it or an array (H, W, 3) or (3, H, W); one array (F, H, W, 3) or (F, 3, H, W) is such a
            list.
        frame_rate: frames a second of a folder or list; by default 1, which serves where no seconds are asked for.
        timeout: seconds for the download from a URL.

    Raises:
        FileNotFoundError: if there is no such file.
        ConnectionError: if the download fails.
        ImportError: for a video file without PyAV.
        ValueError: for an empty folder or list, a file without a video stream or without a frame, a still image with
            the name of a video, a damaged file of which nothing can be used, and sizes that are not safe to decode.
        TypeError: for a source of another type.
    """
    if frame_rate is not None and not (isinstance(frame_rate, int | float) and 0 < frame_rate < float("inf")):
        raise ValueError(f"frame_rate is {frame_rate!r}, but must be frames a second, above 0")
    frames = _listed_frames(source)
    if frames is not None:
        yield FramesReader(frames, name=_name_of(source), frame_rate=frame_rate)
        return
    with contextlib.ExitStack() as opened:
        name, file = _open_file(source, timeout=timeout)
        if not hasattr(source, "read"):
            opened.callback(file.close)
        still = _animation(file, name)
        if isinstance(still, Image.Image):
            yield FramesReader([still], name=name, frame_rate=frame_rate)
        else:
            reader: VideoReader | AnimationReader = still or VideoReader(file, name=name)
            opened.callback(reader.close)
            yield reader


def check_times(reader: Any, sampling: ClipSampling) -> None:
    """Raises `ValueError` where seconds are asked of frames that have none."""
    if getattr(reader, "has_times", True) or (sampling.fps is None and sampling.is_whole):
        return
    raise ValueError(f"{reader.name} holds frames without times: give their frame_rate, or ask for num_frames alone")


class FramesReader:
    """Reads a list of frames, each when it is asked for; attributes as `VideoReader`, and `has_times`.

    Raises `ValueError` for an empty list.
    """

    def __init__(self, frames: Sequence[Any], *, name: str, frame_rate: float | None):
        if not frames:
            raise ValueError(f"{name} is empty: a clip needs one frame or more")
        self.name, self.has_times = name, frame_rate is not None or len(frames) == 1
        self.times: np.ndarray = np.arange(len(frames)) / (frame_rate or 1.0)
        self.end: float = len(frames) / (frame_rate or 1.0)
        self._frames = frames
        self._broken: list[str] = []

    @property
    def note(self) -> str:
        """Which frames could not be read, in one sentence; "" where all could."""
        lost = len(self._broken)
        return f"{lost} frames of {self.name} cannot be read ({self._broken[0]}); the rest is used" if lost else ""

    def frames(self, positions: Sequence[int] | np.ndarray, *, max_pixels: int | None = None) -> Iterator[Frame]:
        """The frames at these positions; one that cannot be read is left out. `ValueError` where none can."""
        found = 0
        for position in map(int, positions):
            try:
                image = _frame_image(self._frames[position])
            except (OSError, ValueError) as error:
                if len(self._frames) == 1:
                    raise
                self._broken.append(str(error))
                continue
            found += 1
            yield position, float(self.times[position]), reduced_image(image, max_pixels)
        if not found:
            raise ValueError(f"no frame of {self.name} can be read ({self._broken[0]}): copy them again")


class AnimationReader:
    """Reads an animated GIF, WebP or PNG by Pillow; attributes as `VideoReader`.

    Raises `ValueError` for a file of which no frame can be read.
    """

    def __init__(self, image: Image.Image, *, name: str):
        self.name, self._image, self._fault = name, image, ""
        begins: list[float] = []
        end = 0.0
        with self._reading():
            while True:
                image.seek(len(begins))
                if image.format == "WEBP":
                    image.load()  # which is when Pillow learns of its delay
                delay = float(image.info.get("duration") or 0) / 1000
                begins.append(end)
                end += USUAL_DELAY if delay < SHORTEST_DELAY else delay
        if not begins:
            raise ValueError(f"{name} is damaged or cut short ({self._fault}): download or copy it again")
        self.times: np.ndarray = np.array(begins)
        self.end: float = end

    def close(self) -> None:
        """Close the image."""
        self._image.close()

    @property
    def note(self) -> str:
        """What could not be used of the file, in one sentence; "" where nothing is amiss."""
        return f"{self.name} is damaged or cut short ({self._fault}); the rest of it is used" if self._fault else ""

    def frames(self, positions: Sequence[int] | np.ndarray, *, max_pixels: int | None = None) -> Iterator[Frame]:
        """The frames at increasing positions; `ValueError` where none can be read."""
        found = 0
        with self._reading():
            for position in map(int, positions):
                self._image.seek(position)
                image = load_image(self._image.copy())
                found += 1
                yield position, float(self.times[position]), reduced_image(image, max_pixels)
        if not found:
            raise ValueError(f"no frame of {self.name} can be decoded ({self._fault}): download or copy it again")

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        """Reading that the file's end, or its damage, ends."""
        try:
            yield
        except EOFError:
            return
        except (OSError, ValueError, SyntaxError, IndexError, TypeError, Image.DecompressionBombError) as error:
            self._fault = " ".join(str(error).split())[:120] or type(error).__name__


def _listed_frames(source: Any) -> Sequence[Any] | None:
    """The frames of a folder, list, array or image; None for a file."""
    if isinstance(source, Image.Image):
        return [source]
    if isinstance(source, list | tuple):
        return source
    if isinstance(source, np.ndarray | torch.Tensor):
        if source.ndim not in (2, 3, 4):
            raise ValueError(f"an array of shape {tuple(source.shape)} is no clip: give (frames, height, width, 3)")
        return list(source) if source.ndim == 4 else [source]
    if isinstance(source, str | os.PathLike) and os.path.isdir(source):
        inside = [path for path in Path(os.fsdecode(source)).iterdir() if path.suffix.lower() in FRAME_SUFFIXES]
        if not inside:
            raise ValueError(f"the folder {os.fsdecode(source)} holds no frame ({', '.join(sorted(FRAME_SUFFIXES))})")
        return sorted(inside, key=_natural)
    return None


def _name_of(source: Any) -> str:
    if isinstance(source, str | os.PathLike):
        return os.fsdecode(source)
    return "the given image" if isinstance(source, Image.Image) else "the given list of frames"


def _natural(path: Path) -> list[Any]:
    """frame_2 before frame_10."""
    parts = re.split(r"(\d+)", path.name)
    return [(int(part), "") if number % 2 else (0, part) for number, part in enumerate(parts)]


def _frame_image(frame: Any) -> Image.Image:
    """A frame as an RGB image."""
    if not isinstance(frame, np.ndarray | torch.Tensor):
        return load_image(frame)
    levels = np.asarray(torch.as_tensor(check_image_array(frame[None] if frame.ndim == 2 else frame, do_rescale=True)))
    if levels.shape[-1] not in (1, 3, 4):
        levels = levels.transpose(1, 2, 0)
    levels = levels if levels.dtype == np.uint8 else levels.clip(0, 255).round().astype(np.uint8)
    return load_image(Image.fromarray(levels[..., 0] if levels.shape[-1] == 1 else levels))


def _open_file(source: Any, *, timeout: float | None) -> tuple[str, BinaryIO]:
    """The name of a video or image, and its file, which can seek."""
    if isinstance(source, bytes | bytearray | memoryview):
        return "the given bytes", io.BytesIO(source)
    if hasattr(source, "read"):
        name = getattr(source, "name", None)
        return name if isinstance(name, str) else "the given file object", _seekable(source)
    if not isinstance(source, str | os.PathLike):
        raise TypeError(f"a clip is a path, URL, bytes, open file, list of frames or array, no {type(source).__name__}")
    text = os.fsdecode(source)
    if text[:8].lower().startswith(("http://", "https://")):
        return text, io.BytesIO(download_image(text, timeout=timeout))
    if not os.path.isfile(text):
        raise FileNotFoundError(f"there is no clip at {text[:200]}; check the path (working folder {Path.cwd()})")
    try:
        return text, open(text, "rb")
    except PermissionError:
        raise PermissionError(f"{text} may not be read; change its permissions or copy it") from None


def _seekable(file: Any) -> BinaryIO:
    try:
        if file.seekable():
            file.seek(0)
            if isinstance(file.read(0), bytes):
                return file
        else:
            content = file.read(MAX_DOWNLOAD_BYTES + 1)
            if isinstance(content, bytes) and len(content) <= MAX_DOWNLOAD_BYTES:
                return io.BytesIO(content)
    except (AttributeError, OSError, ValueError) as error:
        raise ValueError(f'the given file cannot be read ({error}); give its path, or open it with "rb"') from error
    raise ValueError(
        f"the given file is text, or longer than {MAX_DOWNLOAD_BYTES >> 20} MiB without a way to seek in it: open it "
        'with "rb"'
    )


def _animation(file: BinaryIO, name: str) -> "AnimationReader | Image.Image | None":
    """An animated image, or the one frame of a still one; None for what is no image.

    Raises `ValueError` for a still image with the name of a video, an empty file, and an animation of too many pixels.
    """
    head = file.read(1)
    file.seek(0)
    if not head:
        raise ValueError(f"{name} is empty (0 bytes); download or copy it again")
    try:
        image = Image.open(file, formats=IMAGE_FORMATS)
    except Exception:  # no image, or one with a broken header, which is no video either
        file.seek(0)
        return None
    if image.format in ANIMATED and getattr(image, "is_animated", False):
        if image.width * image.height > MAX_IMAGE_PIXELS:
            raise ValueError(f"{name} has {image.width} x {image.height} pixels, more than are safe to decode")
        return AnimationReader(image, name=name)
    suffix = Path(name.partition("?")[0]).suffix.lower()
    if suffix and suffix not in FRAME_SUFFIXES and os.path.isfile(name):
        raise ValueError(f"{name} is a still image ({image.format}), not a video: name it as the image that it is")
    return load_image(image)
