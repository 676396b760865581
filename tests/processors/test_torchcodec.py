"""Frames by torchcodec: those of PyAV at the same seconds, and PyAV where torchcodec has none or other ones."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
import torch

from processors import clip_decoding_updown
from processors.clip_loading_updown import load_clip
from processors.clip_sampling_updown import ClipSampling
from tests.shared_files import shared
from tests.video_files import number_of, turn, write_video

REAL_CLIPS = ("mmaction2_demo.mp4", "videollava_3.mp4", "msvd_j2Dhf-xFUxU_13_20.avi", "msvd_klteYv1Uv9A_27_33.avi")
EIGHT = ClipSampling(num_frames=8)


class FakeDecoder:
    """torchcodec's `VideoDecoder` as its documentation describes it; the frames are blue, so that they can be told."""

    asked: list[int] = []
    fails_from = 1000  # at which position decoding fails
    late_from = 1000  # from which position on a frame has another time
    rotation: float | None = None

    def __init__(self, source: Any, *, stream_index: int | None = None, dimension_order: str = "NCHW"):
        assert dimension_order == "NHWC" and source.tell() == 0
        with av.open(source) as container:
            stream = container.streams[stream_index or 0]
            frames = list(container.decode(stream))
            self.seconds = [float(frame.pts * stream.time_base) for frame in frames]
            self.levels = [frame.to_ndarray(format="rgb24") for frame in frames]
        self.metadata = SimpleNamespace(rotation=self.rotation)

    def get_frame_at(self, index: int) -> SimpleNamespace:
        FakeDecoder.asked.append(index)
        if index >= self.fails_from:
            raise RuntimeError("the frame cannot be decoded")
        levels = self.levels[index].copy()
        levels[:2, -2:] = (0, 0, 255)
        late = 0.1 if index >= self.late_from else 0.0
        return SimpleNamespace(data=torch.from_numpy(levels), pts_seconds=self.seconds[index] + late)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[FakeDecoder]:
    """torchcodec in place, by a class that a test may change."""
    made = type("Decoder", (FakeDecoder,), {})
    monkeypatch.setattr(FakeDecoder, "asked", [])
    monkeypatch.setattr(clip_decoding_updown, "VideoDecoder", made)
    return made


def are_blue(clip: Any) -> list[bool]:
    """Which frames came by the fake."""
    return [bool(np.asarray(frame)[0, -1, 2] > 200 and np.asarray(frame)[0, -1, 0] < 60) for frame in clip.frames]


def test_frames_come_by_torchcodec_at_the_seconds_of_pyav(tmp_path: Path, fake: type[FakeDecoder]) -> None:
    path = write_video(tmp_path / "a.mp4")
    clip = load_clip(path, ClipSampling(segments=4))
    assert FakeDecoder.asked == [2, 7, 12, 17] == [number_of(image) for image in clip.frames]
    assert are_blue(clip) == [True] * 4
    np.testing.assert_allclose(clip.seconds, [0.2, 0.7, 1.2, 1.7], atol=1e-9)


@pytest.mark.parametrize("fault", ["fails_from", "late_from"])
def test_pyav_goes_on_where_torchcodec_fails(tmp_path: Path, fake: type[FakeDecoder], fault: str) -> None:
    setattr(fake, fault, 10)
    clip = load_clip(write_video(tmp_path / "a.mp4"), ClipSampling(segments=4))
    assert are_blue(clip) == [True, True, False, False] and clip.note == ""
    assert [number_of(image) for image in clip.frames] == [2, 7, 12, 17] and FakeDecoder.asked == [2, 7, 12]


def test_files_that_torchcodec_may_read_otherwise_are_pyavs(tmp_path: Path, fake: type[FakeDecoder]) -> None:
    fake.rotation = -90.0
    turned = load_clip(turn(write_video(tmp_path / "turned.mp4", width=64)), EIGHT)
    assert turned.frames[0].size == (32, 64)
    content = write_video(tmp_path / "whole.mkv", num_frames=40).read_bytes()
    (tmp_path / "cut.mkv").write_bytes(content[: len(content) // 2])
    fake.rotation = None
    with pytest.warns(UserWarning, match="cut.mkv is damaged or cut short"):
        assert not any(are_blue(load_clip(tmp_path / "cut.mkv", EIGHT)))
    assert FakeDecoder.asked == []
    setattr(fake, "__init__", no_libraries)  # noqa: B010 - mypy refuses the plain assignment
    assert are_blue(load_clip(tmp_path / "whole.mkv", EIGHT)) == [False] * 8


def no_libraries(self: Any, *arguments: Any, **options: Any) -> None:
    """What torchcodec does without FFmpeg's libraries."""
    raise RuntimeError("Could not load libtorchcodec")


@pytest.mark.parametrize("name", REAL_CLIPS)
def test_real_clips_are_equal_by_both(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    decoders = pytest.importorskip("torchcodec.decoders", reason="torchcodec is not installed")
    path = shared(f"data/video/{name}")
    try:
        decoders.VideoDecoder(str(path))
    except RuntimeError:
        pytest.skip("torchcodec finds no libraries of FFmpeg")
    by_torchcodec = load_clip(path, EIGHT)
    monkeypatch.setattr(clip_decoding_updown, "VideoDecoder", None)
    by_pyav = load_clip(path, EIGHT)
    assert by_torchcodec.seconds.tolist() == by_pyav.seconds.tolist() and len(by_pyav.frames) == 8
    for one, other in zip(by_torchcodec.frames, by_pyav.frames, strict=True):
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))
