"""The frames of a video file: its times first, then the chosen frames alone, as a stream.

    file --VideoReader--> times (n,), end --choose_frames--> positions --frames()--> (position, seconds, image), ...

The times are read from the packets without decoding, so they are exact where the frame rate varies. Frames are decoded
one after the other and only one is held; where a keyframe lies between here and the next chosen frame, the file is read
on from there. PyAV opens the file and reads its times; torchcodec, where it is installed with FFmpeg's libraries,
decodes the frames of files that are whole, upright and have times of their own, PyAV all others: the pixels are equal.
Files are not trusted: only containers of video are opened (a playlist could make FFmpeg read other files and
addresses), frames over `MAX_IMAGE_PIXELS` are refused, and what cannot be decoded is left out and counted.
"""

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from .image_processing_updown import MAX_IMAGE_PIXELS

try:
    import av
except ImportError:  # an extra; `check_pyav` names it where a file is to be decoded
    av = None  # type: ignore[assignment]

try:
    from torchcodec.decoders import VideoDecoder
except (ImportError, OSError, RuntimeError):  # absent, or built for another torch
    VideoDecoder = None

# FFmpeg's names of containers; those that lead to other files (hls, dash, concat, sdp, image2) are not among them
CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,avi,matroska,webm,flv,live_flv,asf,ogg,mpeg,mpegts,mpegvideo"
WORTH_A_SEEK = 16  # frames that a jump to a keyframe must save: a jump itself takes about as long as some of them
BROKEN_PACKETS = 1000  # one after the other, after which a file is given up
SAME_SECONDS = 1e-6  # by which rounding may move a frame's time
SHORT_SECONDS = 1.0  # by which a file may end before its header says so without a word
TURNS = {1: Image.Transpose.ROTATE_90, 2: Image.Transpose.ROTATE_180, 3: Image.Transpose.ROTATE_270}
Frame = tuple[int, float, Image.Image]  # position among the clip's frames, seconds, RGB


class VideoReader:
    """Reads a video file; close it, or use it in a `with` statement.

    Args:
        file: opened in binary mode, which can seek; it is not closed.
        name: of the file, for errors.

    Attributes:
        times: (n,) seconds at which each frame appears, from the first frame on, increasing.
        end: seconds at which the last frame disappears.
        size: width and height of a frame in pixels, as it is stored.
        lost: how many of the frames asked for could not be decoded, those that a neighbour replaced among them.

    Raises:
        ImportError: without PyAV.
        ValueError: for a file that is no video, holds no picture or sound alone, is cut short before its first frame,
            or has frames that are too large to decode safely.
    """

    def __init__(self, file: BinaryIO, *, name: str) -> None:
        check_pyav()
        self.name, self.lost, self._file = name, 0, file
        self._open()
        try:
            self._read_times()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "VideoReader":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the decoder; the file itself stays open."""
        self.container.close()

    def _open(self) -> None:
        """Open the file, at its beginning."""
        self._file.seek(0)
        # the options bind the decoders that probe the file as well
        options = {"format_whitelist": CONTAINERS, "max_pixels": str(MAX_IMAGE_PIXELS)}
        try:
            self.container: Any = av.open(self._file, options=options, metadata_errors="replace")
        except (av.FFmpegError, ValueError, UnicodeDecodeError) as error:
            raise ValueError(
                f"{self.name} is not a video, or it is damaged or cut short ({_reason(error)}): give a video file such "
                "as MP4, WebM, AVI, MKV or MOV, or download or copy it again"
            ) from None
        try:
            self._stream = self._video_stream()
        except BaseException:
            self.close()
            raise

    def _video_stream(self) -> Any:
        attached = av.stream.Disposition.attached_pic  # the cover of a song
        streams = [stream for stream in self.container.streams.video if not stream.disposition & attached]
        if not streams:
            holds = "sound only" if self.container.streams.audio else "no video stream"
            raise ValueError(f"{self.name} holds {holds}: give a file with a video stream")
        stream = streams[0]
        context = stream.codec_context
        if context is None:
            raise ValueError(f"{self.name} is coded in a way that PyAV cannot decode: convert it to H.264 in MP4")
        self.size = (int(context.width), int(context.height))
        if self.size[0] * self.size[1] > MAX_IMAGE_PIXELS:
            raise ValueError(
                f"{self.name} has frames of {self.size[0]} x {self.size[1]} pixels, more than are safe to decode: "
                "scale it down"
            )
        context.options = {"max_pixels": str(MAX_IMAGE_PIXELS)}
        return stream

    def _read_times(self) -> None:
        """Read the time of every frame, and which are keyframes, from the packets."""
        pts, keys, longest, whole = [], [], 0, True
        with contextlib.suppress(av.FFmpegError):  # the file is cut short: what is before counts
            for packet in self.container.demux(self._stream):
                time = packet.dts if packet.pts is None else packet.pts
                if time is None or not packet.size or packet.is_discard:
                    continue
                whole = whole and packet.pts is not None and not packet.is_corrupt
                pts.append(time)
                longest = packet.duration or longest
                if packet.is_keyframe:
                    keys.append(time)
        self._pts = np.unique(np.array(pts, dtype=np.int64))
        self._keys = np.unique(np.array(keys, dtype=np.int64))
        if not len(self._pts):
            raise ValueError(f"{self.name} holds no frame: download or copy it again")
        unit = float(self._stream.time_base)
        self.times = (self._pts - self._pts[0]) * unit
        step = longest * unit or (float(np.median(np.diff(self.times))) if len(self.times) > 1 else 0.0)
        self.end = float(self.times[-1]) + step
        known = self._stream.duration
        said = known * unit if known else (self.container.duration or 0) / av.time_base
        self._said_seconds = max(said, self.end * (self._stream.frames or 0) / len(self._pts))
        self._is_plain = whole and self._said_seconds - self.end <= SHORT_SECONDS

    @property
    def note(self) -> str:
        """What of the file could not be used, in one sentence; "" where nothing is amiss."""
        faults = []
        if self._said_seconds - self.end > SHORT_SECONDS:
            faults.append(f"it ends after {self.end:.1f} of {self._said_seconds:.1f} s")
        if self.lost:
            faults.append(f"{self.lost} of its chosen frames could not be decoded")
        return f"{self.name} is damaged or cut short ({', '.join(faults)}); the rest of it is used" if faults else ""

    def frames(self, positions: Sequence[int] | np.ndarray, *, max_pixels: int | None = None) -> Iterator[Frame]:
        """The frames at increasing positions among `times`, decoded one by one.

        Where one cannot be decoded, the one on the screen before it or after it takes its place, unless that one is
        given too.

        Args:
            positions: (K,) increasing.
            max_pixels: larger frames are reduced by a whole factor.

        Raises:
            ValueError: if none can be decoded.
        """
        found, last = 0, -1
        for frame in self._by_torchcodec(positions, max_pixels):
            found, last = found + 1, frame[0]
            yield frame
        for frame in self._by_pyav(positions[found:], max_pixels):
            if frame[0] > last:
                found += 1
                yield frame
        self.lost += len(positions) - found
        if len(positions) and not found:
            raise ValueError(f"no frame of {self.name} can be decoded: download or copy it again")

    def _by_torchcodec(self, positions: Sequence[int] | np.ndarray, max_pixels: int | None) -> Iterator[Frame]:
        """The frames up to the first that torchcodec cannot decode or has at another time; none without torchcodec.

        A damaged frame that FFmpeg repairs by its neighbours is given as repaired: torchcodec does not tell of it.
        """
        if VideoDecoder is None or not self._is_plain:
            return
        self._file.seek(0)
        try:
            decoder = VideoDecoder(self._file, stream_index=self._stream.index, dimension_order="NHWC")
        except (RuntimeError, ValueError, TypeError):  # without FFmpeg's libraries, which are looked for only here
            return
        if getattr(decoder.metadata, "rotation", True):  # versions that do not tell of it do not turn frames
            return
        for position in map(int, positions):
            try:
                frame = decoder.get_frame_at(position)
            except (RuntimeError, IndexError, ValueError):
                return
            if abs(frame.pts_seconds - float(int(self._pts[position]) * self._stream.time_base)) > SAME_SECONDS:
                return
            image = Image.fromarray(frame.data.numpy())  # (H, W, 3) uint8
            yield position, float(self.times[position]), reduced_image(image, max_pixels)

    def _by_pyav(self, positions: Sequence[int] | np.ndarray, max_pixels: int | None) -> Iterator[Frame]:
        """The frames at the positions that can be decoded."""
        wanted = [int(self._pts[position]) for position in positions]
        for place, frame in self._shown(wanted):
            pts = int(frame.pts)
            self.lost += pts != wanted[place]
            position = int(np.searchsorted(self._pts, pts, side="right")) - 1
            seconds = float((pts - self._pts[0]) * float(self._stream.time_base))
            yield (position if pts != wanted[place] else int(positions[place])), seconds, _upright(frame, max_pixels)

    def _shown(self, wanted: Sequence[int]) -> Iterator[tuple[int, Any]]:
        """(place, frame) of the wanted moments at which a frame is on the screen that was not given before."""
        place, last = 0, None  # the last frame whose time has come, while it is not given yet
        for frame in self._decoded(wanted):
            given = False
            while place < len(wanted) and frame.pts >= wanted[place]:
                following = wanted[place + 1] if place + 1 < len(wanted) else None
                if last is not None and frame.pts > wanted[place]:
                    yield place, last
                elif not given and (following is None or frame.pts < following):
                    yield place, frame
                    given = True
                last, place = None, place + 1
            if not given:
                last = frame
        if last is not None and place < len(wanted):
            yield place, last

    def _decoded(self, wanted: Sequence[int]) -> Iterator[Any]:
        """The frames in the order of their times, with jumps over those that are before the next wanted moment."""
        start = int(self._pts[0])
        frames, reached, place, jumped, jumps = self._frames_from(None), start - 1, 0, start, True
        while place < len(wanted):
            if reached >= wanted[place]:
                place += 1
                continue
            key = self._key_before(wanted[place])
            if jumps and key > jumped and self._frames_between(reached, key) > WORTH_A_SEEK:
                ahead, jumped = self._frames_from(key), key
                found = next(ahead, None)
                jumps = found is not None and found.pts <= wanted[place]
                # where the container's index is wrong, all of it is read
                frames = chain([found], ahead) if jumps else self._frames_from(None)
            frame = next(frames, None)
            if frame is None:
                return
            if frame.pts > reached:
                reached = frame.pts
                yield frame

    def _key_before(self, moment: int) -> int:
        """The time of the last keyframe that is not after a moment; the first frame's where there is none."""
        place = int(np.searchsorted(self._keys, moment, side="right")) - 1
        return int(self._keys[place] if place >= 0 else self._pts[0])

    def _frames_between(self, low: int, high: int) -> int:
        return int(np.searchsorted(self._pts, high) - np.searchsorted(self._pts, low, side="right"))

    def _frames_from(self, key: int | None) -> Iterator[Any]:
        """The whole frames from a keyframe on, or all of them, in the order of their times."""
        if key is None:  # opened anew, since not every file can be wound back: an AVI without its index cannot
            self.close()
            self._open()
        else:
            with contextlib.suppress(av.FFmpegError):  # where it stays is seen by the frames that come
                self.container.seek(key, stream=self._stream, backward=True)
        return _in_order(self._decode(self.container.demux(self._stream)))

    def _decode(self, packets: Iterator[Any]) -> Iterator[Any]:
        """The whole frames of packets; damaged packets are passed over."""
        broken = 0
        while broken < BROKEN_PACKETS:
            try:
                packet = next(packets)
                frames = packet.decode()
            except StopIteration:
                return
            except (av.FFmpegError, MemoryError):
                broken += 1
                continue
            for frame in frames:
                if frame.pts is not None and not frame.is_corrupt:
                    broken = 0
                    yield frame


def _in_order(frames: Iterator[Any]) -> Iterator[Any]:
    """Frames whose times increase: a decoder gives them in the order in which they are shown, but where a container has
    no times of its own, as AVI, the times of two neighbours may be exchanged."""
    waiting: Any = None
    for frame in frames:
        if waiting is not None:
            if frame.pts < waiting.pts:
                frame.pts, waiting.pts = waiting.pts, frame.pts
            yield waiting
        waiting = frame
    if waiting is not None:
        yield waiting


def check_pyav() -> None:
    """Raises `ImportError` with the command that installs PyAV where it is absent."""
    if av is None:
        raise ImportError("clips are decoded by PyAV, which is not installed: pip install 'modeling-updown[video]'")


def reduced_image(image: Image.Image, max_pixels: int | None) -> Image.Image:
    """An image, reduced by a whole factor where it has more pixels than asked for; None: as it is."""
    factor = 1
    while max_pixels and (image.width // factor) * (image.height // factor) > max_pixels:
        factor += 1
    return image if factor == 1 else image.reduce(factor)


def _upright(frame: Any, max_pixels: int | None) -> Image.Image:
    """A decoded frame as RGB, turned as its container says, and reduced where it is larger than asked for."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image: Image.Image = frame.to_image()
    turns = round(frame.rotation / 90) % 4  # counterclockwise
    image = reduced_image(image, max_pixels)
    return image.transpose(TURNS[turns]) if turns else image


def _reason(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__)[:120]
