"""Which frames of a clip are chosen: against a slow twin, at uneven times, and what is refused."""

from typing import Any

import numpy as np
import pytest

from processors.clip_sampling_updown import ClipSampling, choose_frames


def on_screen(times: list[float], moment: float) -> int:
    """The frame that is shown at a moment, looked for one by one."""
    found = 0
    for position, time in enumerate(times):
        if time <= moment + 1e-6:
            found = position
    return found


def twin(times: list[float], end: float, *, start: float, stop: float | None, **rule: Any) -> list[int]:
    """`choose_frames` by asking what is on the screen at every moment."""
    stop = min(end, end if stop is None else stop)
    if "fps" in rule:
        moments = [start + k / rule["fps"] for k in range(10_000) if start + k / rule["fps"] < stop - 1e-6]
    elif "segments" in rule:
        moments = [start + (k + 0.5) * (stop - start) / rule["segments"] for k in range(rule["segments"])]
    else:
        first, count = on_screen(times, start), rule["num_frames"]
        last = max([position for position, time in enumerate(times) if time < stop - 1e-6] + [first])
        if last - first < count:
            return list(range(first, last + 1))
        low, high = max(start, times[first]), max(start, times[last])
        moments = [low + (high - low) * k / (count - 1) for k in range(count)] if count > 1 else [(low + high) / 2]
    return sorted({on_screen(times, moment) for moment in moments})


@pytest.mark.parametrize("seed", range(60))
def test_the_choice_equals_asking_at_every_moment(seed: int) -> None:
    draw = np.random.default_rng(seed)
    steps = draw.choice([0.04, 0.1, 0.5, 2.0], size=int(draw.integers(1, 30)))
    times = np.concatenate([[0.0], steps.cumsum()])[: len(steps)]
    end = float(times[-1]) + 0.1
    start = float(draw.choice([0.0, end * 0.3]))
    stop = draw.choice([None, end * 0.8])
    rules: list[dict[str, Any]] = [{"fps": 1.0}, {"fps": 7.0}, {"segments": 4}, {"num_frames": 3}, {"num_frames": 1}]
    for rule in rules:
        sampling = ClipSampling(**rule, start_seconds=start, end_seconds=None if stop is None else float(stop))
        expected = twin(times.tolist(), end, start=start, stop=stop, **rule)
        assert choose_frames(times, sampling, end=end).tolist() == expected, (rule, start, stop)


def test_random_moments_stay_in_their_segments() -> None:
    times, sampling = np.arange(40) / 10, ClipSampling(segments=4)
    found = [choose_frames(times, sampling, end=4.0, generator=np.random.default_rng(seed)) for seed in range(50)]
    assert all((chosen // 10 == np.arange(4)).all() for chosen in found)
    assert len({tuple(chosen) for chosen in found}) > 40
    same = (choose_frames(times, sampling, end=4.0, generator=np.random.default_rng(3)) for _ in range(2))
    assert next(same).tolist() == next(same).tolist()


def test_a_rate_is_thinned_to_the_most_frames() -> None:
    times = np.arange(100) / 10
    assert choose_frames(times, ClipSampling(fps=10, max_frames=4), end=10.0).tolist() == [0, 33, 66, 99]
    assert choose_frames(times, ClipSampling(fps=0.1, max_frames=4), end=10.0).tolist() == [0]


def test_times_that_leap_by_years_cost_nothing() -> None:
    chosen = choose_frames(np.array([0.0, 1.0, 1e12]), ClipSampling(fps=1000.0), end=1e12 + 1)
    assert chosen.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, "by one of num_frames, fps and segments, but none of them is given"),
        ({"fps": 1, "segments": 2}, "but fps and segments given: give one"),
        ({"num_frames": 0}, "num_frames is 0, but must be a whole number from 1 to"),
        ({"segments": 2.5}, "segments is 2.5, but must be a whole number"),
        ({"num_frames": 2**40}, "must be a whole number from 1 to"),
        ({"fps": 0}, "fps is 0, but must be a number of frames a second, above 0"),
        ({"fps": float("nan")}, "fps is nan, but must be"),
        ({"segments": 2, "max_frames": 3}, "max_frames bounds the frames of fps"),
        ({"fps": 1, "start_seconds": -1}, "start_seconds is -1, but must be seconds"),
        ({"fps": 1, "start_seconds": 5, "end_seconds": 5}, "start_seconds is 5, which is not before end_seconds, 5"),
    ],
)
def test_contradictions_are_refused(given: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        ClipSampling(**given)


def test_spans_outside_the_clip_are_refused() -> None:
    times = np.arange(10) / 5
    for span in ({"start_seconds": 2.0}, {"start_seconds": 1.0, "end_seconds": 4.1}):
        with pytest.raises(ValueError, match="the span from .* lies outside of dog.mp4, which ends at 2 s"):
            choose_frames(times, ClipSampling(fps=1, **span), end=2.0, name="dog.mp4")
    assert choose_frames(times, ClipSampling(fps=1, end_seconds=3.9), end=2.0).tolist() == [0, 5]
    with pytest.raises(ValueError, match="dog.mp4 holds no frame"):
        choose_frames(times[:0], ClipSampling(fps=1), end=0.0, name="dog.mp4")
