"""Which frames of a clip are taken: evenly spread ones, so many a second, or one of each of its segments.

    times of the frames (pts) + ClipSampling --choose_frames--> positions of the chosen frames

The times need not be evenly spaced: at any moment the frame on the screen is the last one whose time has come, and that
one is chosen. Segments are those of TSN (Wang et al. 2016, section 3.1): its middle at test time, a random moment of
each in training.
"""

import math
from dataclasses import dataclass

import numpy as np

SLACK_SECONDS = 2.0  # an end may lie so far behind its clip, as rounding in annotations has it
SAME_MOMENT = 1e-6  # seconds; rounding must not put a moment before the frame that begins there
MOST_FRAMES = 2**20  # that can be asked of one clip


@dataclass(frozen=True)
class ClipSampling:
    """How frames are chosen: by exactly one of `num_frames`, `fps` and `segments`.

    Args:
        num_frames: so many, evenly spread from the first frame to the last; all frames of a clip that has fewer.
        fps: so many a second, from the start on; at least one.
        segments: one of each of so many segments of equal length; fewer where several segments show the same frame.
        max_frames: with `fps`, of more than so many that number is taken, evenly spread.
        start_seconds, end_seconds: the part of the clip that is looked at, counted from its beginning; None is its end.

    Raises:
        ValueError: for none or several of the three, numbers that are not above 0, a start that is not before its end.

    >>> ClipSampling(fps=2.0, start_seconds=3.0, end_seconds=1.0)
    Traceback (most recent call last):
    ...
    ValueError: start_seconds is 3, which is not before end_seconds, 1: swap them, or leave one out
    """

    num_frames: int | None = None
    fps: float | None = None
    segments: int | None = None
    max_frames: int | None = None
    start_seconds: float = 0.0
    end_seconds: float | None = None

    def __post_init__(self) -> None:
        given = [name for name in ("num_frames", "fps", "segments") if getattr(self, name) is not None]
        if len(given) != 1:
            found = " and ".join(given) or "none of them is"
            raise ValueError(f"frames are chosen by one of num_frames, fps and segments, but {found} given: give one")
        for name in ("num_frames", "segments", "max_frames"):
            number = getattr(self, name)
            whole = isinstance(number, int | np.integer) and not isinstance(number, bool)
            if number is not None and not (whole and 1 <= number <= MOST_FRAMES):
                raise ValueError(f"{name} is {number!r}, but must be a whole number from 1 to {MOST_FRAMES}")
        if self.fps is not None and not (_is_number(self.fps) and 0 < self.fps <= MOST_FRAMES):
            raise ValueError(f"fps is {self.fps!r}, but must be a number of frames a second, above 0")
        if self.max_frames is not None and self.fps is None:
            raise ValueError("max_frames bounds the frames of fps: leave it out, or give fps")
        for name in ("start_seconds", "end_seconds"):
            value = getattr(self, name)
            if not (value is None and name == "end_seconds") and not (_is_number(value) and value >= 0):
                raise ValueError(f"{name} is {value!r}, but must be seconds from the clip's beginning, 0 or more")
        if self.end_seconds is not None and self.start_seconds >= self.end_seconds:
            raise ValueError(
                f"start_seconds is {self.start_seconds:g}, which is not before end_seconds, {self.end_seconds:g}: "
                "swap them, or leave one out"
            )

    @property
    def is_whole(self) -> bool:
        """Whether all of a clip is looked at."""
        return self.start_seconds == 0 and self.end_seconds is None


def choose_frames(
    times: np.ndarray,
    sampling: ClipSampling,
    *,
    end: float,
    name: str = "the clip",
    generator: np.random.Generator | None = None,
) -> np.ndarray:
    """The positions (K,) of the chosen frames among `times`, increasing, each once.

    Args:
        times: (n,) seconds from the clip's beginning at which each frame appears, increasing.
        sampling: how they are chosen.
        end: seconds at which the last frame disappears.
        name: of the clip, for errors.
        generator: with `segments`, a random moment of each is taken rather than its middle.

    Raises:
        ValueError: for a clip without frames, and a span outside the clip (an end up to `SLACK_SECONDS` behind the
            clip is the clip's end).

    >>> choose_frames(np.arange(10) / 5, ClipSampling(segments=2), end=2.0).tolist()
    [2, 7]
    >>> choose_frames(np.array([0.0, 0.1, 0.2, 5.0]), ClipSampling(fps=1.0), end=6.0).tolist()
    [0, 2, 3]
    """
    if not len(times):
        raise ValueError(f"{name} holds no frame: download or copy it again")
    start, stop = sampling.start_seconds, min(end if sampling.end_seconds is None else sampling.end_seconds, end)
    if start >= end or (sampling.end_seconds or 0) > end + SLACK_SECONDS:
        asked = f"from {start:g} s to " + ("its end" if sampling.end_seconds is None else f"{sampling.end_seconds:g} s")
        raise ValueError(f"the span {asked} lies outside of {name}, which ends at {end:.6g} s: give a span inside it")
    first = max(_shown(times, np.array([start]))[0], 0)
    last = max(int(np.searchsorted(times, stop - SAME_MOMENT)) - 1, first)
    if sampling.fps is not None:
        chosen = _by_rate(times, sampling.fps, start=start, stop=stop, first=first, last=last)
        return chosen if sampling.max_frames is None else _thinned(chosen, sampling.max_frames)
    if sampling.num_frames is not None:
        if last - first < sampling.num_frames:
            return np.arange(first, last + 1)
        moments = _spread(max(start, times[first]), max(start, times[last]), sampling.num_frames)
    else:
        segments = int(sampling.segments or 1)
        inside = np.full(segments, 0.5) if generator is None else generator.random(segments)
        moments = start + (np.arange(segments) + inside) * ((stop - start) / segments)
    return np.unique(_shown(times, moments).clip(first, last))


def _shown(times: np.ndarray, moments: np.ndarray) -> np.ndarray:
    """The position of the frame on the screen at each moment; -1 before the first."""
    return np.searchsorted(times, moments + SAME_MOMENT, side="right") - 1


def _by_rate(times: np.ndarray, fps: float, *, start: float, stop: float, first: int, last: int) -> np.ndarray:
    """The frames on the screen at start + k / fps, k = 0, 1, ... before `stop`.

    Each frame is asked whether it is on the screen at such a moment, so that a clip whose times leap by years costs no
    more than its frames do.
    """
    begins = np.maximum(times[first : last + 1], start)
    begins[0] = start
    ends = np.append(begins[1:], max(stop, begins[-1] + SAME_MOMENT))
    moments = np.ceil((begins - start - SAME_MOMENT) * fps) / fps + start  # the first such moment of each frame
    return first + np.flatnonzero(moments < ends - SAME_MOMENT / 2)


def _thinned(chosen: np.ndarray, most: int) -> np.ndarray:
    """At most so many of the chosen frames, evenly spread."""
    if len(chosen) <= most:
        return chosen
    return chosen[np.unique(_spread(0, len(chosen) - 1, most).round().astype(int))]


def _spread(low: float, high: float, number: int) -> np.ndarray:
    """Evenly spread numbers from `low` to `high`; of one, the middle."""
    return np.linspace(low, high, number) if number > 1 else np.array([(low + high) / 2])


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool) and math.isfinite(float(value))
