"""Clips from every source: the right frames at the right seconds, and one sentence for what is none."""

import http.server
import io
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image

from processors import clip_decoding_updown, clip_loading_updown
from processors.clip_decoding_updown import VideoReader
from processors.clip_loading_updown import load_clip, open_clip
from processors.clip_sampling_updown import ClipSampling
from tests.shared_files import shared
from tests.video_files import CODECS, levels_of, number_of, turn, write_sound, write_video, write_words

ALL = ClipSampling(num_frames=1000)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video of each kind of container, of 20 frames in 2 seconds."""
    made = tmp_path_factory.mktemp("videos")
    for suffix in CODECS:
        write_video(made / f"clip{suffix}")
    return made


def numbers(clip: Any) -> list[int]:
    return [number_of(image) for image in clip.frames]


# -- video files -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", sorted(CODECS))
def test_every_container_gives_its_frames_and_seconds(folder: Path, suffix: str) -> None:
    clip = load_clip(folder / f"clip{suffix}", ALL)
    assert numbers(clip) == list(range(20)) and clip.note == ""
    np.testing.assert_allclose(clip.seconds, np.arange(20) / 10, atol=2e-3)  # WebM counts milliseconds
    assert clip.end_seconds == pytest.approx(2.0, abs=0.05)
    some = load_clip(folder / f"clip{suffix}", ClipSampling(segments=4))
    assert numbers(some) == [2, 7, 12, 17]
    part = load_clip(folder / f"clip{suffix}", ClipSampling(fps=5.0, start_seconds=1.0, end_seconds=1.5))
    assert numbers(part) == [10, 12, 14]


@pytest.mark.parametrize("suffix", sorted(CODECS))
def test_jumps_to_keyframes_change_no_frame(folder: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = ClipSampling(num_frames=5)
    sequential = load_clip(folder / f"clip{suffix}", wanted)
    monkeypatch.setattr(clip_decoding_updown, "WORTH_A_SEEK", 0)
    jumping = load_clip(folder / f"clip{suffix}", wanted)
    assert all((np.asarray(a) == np.asarray(b)).all() for a, b in zip(sequential.frames, jumping.frames, strict=True))
    assert numbers(jumping) == [0, 4, 9, 14, 19]


def test_jumps_skip_what_is_not_wanted(tmp_path: Path) -> None:
    path = write_video(tmp_path / "long.mp4", num_frames=240, keyframes=12)
    with open(path, "rb") as file, VideoReader(file, name="long.mp4") as reader:
        decoded = [frame.pts for frame in reader._decoded([int(reader._pts[100]), int(reader._pts[239])])]
        places = np.searchsorted(reader._pts, decoded)
    assert 100 in places and 239 in places and len(places) < 60


def test_a_varying_frame_rate_keeps_its_times(tmp_path: Path) -> None:
    hundredths = [0, 10, 20, 150, 160, 400]
    path = write_video(tmp_path / "uneven.mp4", num_frames=6, times=hundredths)
    assert load_clip(path, ALL).seconds.tolist() == pytest.approx([0, 0.1, 0.2, 1.5, 1.6, 4.0])
    clip = load_clip(path, ClipSampling(fps=1.0))
    assert numbers(clip)[:4] == [0, 2, 4, 5] and clip.seconds[:4].tolist() == pytest.approx([0, 0.2, 1.6, 4.0])


def test_a_turned_video_is_upright(tmp_path: Path) -> None:
    path = write_video(tmp_path / "phone.mp4", num_frames=2, width=64, height=32)
    flat = np.asarray(load_clip(path, ALL).frames[1])
    upright = np.asarray(load_clip(turn(path), ALL).frames[1])
    assert upright.shape == (64, 32, 3)
    np.testing.assert_array_equal(upright, np.rot90(flat, k=-1))  # a quarter clockwise
    assert upright[4, -4].max() < 8  # the dark corner, upper left before


def test_frames_are_equal_from_bytes_files_and_addresses(folder: Path) -> None:
    path, wanted = folder / "clip.mp4", ClipSampling(num_frames=3)
    content = path.read_bytes()
    expected = numbers(load_clip(path, wanted))
    with open(path, "rb") as file:
        assert numbers(load_clip(file, wanted)) == expected == [0, 9, 19]
        assert not file.closed
    for source in (content, str(path), io.BytesIO(content)):
        assert numbers(load_clip(source, wanted)) == expected
    with served(folder) as address:
        assert numbers(load_clip(f"{address}/clip.mp4", wanted)) == expected
        with pytest.raises(ConnectionError, match="none.mp4 cannot be downloaded .*404"):
            load_clip(f"{address}/none.mp4", wanted)


class served:  # noqa: N801 - reads as the function that it is
    """A folder behind an address on this machine."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __enter__(self) -> str:
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self.handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{self.server.server_port}"

    def handler(self, *arguments: Any) -> Any:
        return QuietHandler(*arguments, directory=str(self.folder))

    def __exit__(self, *exception: object) -> None:
        self.server.shutdown()
        self.server.server_close()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    """Writes no log."""

    def log_message(self, *arguments: Any) -> None:
        return


def test_real_clips_are_decoded_as_by_pyav_alone() -> None:
    for name in ("msvd_j2Dhf-xFUxU_13_20.avi",):
        path = shared(f"data/video/{name}")
        with av.open(str(path)) as container:
            plain = [np.asarray(frame.to_image()) for frame in container.decode(video=0)]
        with open_clip(path) as reader:
            found = {
                place: np.asarray(image) for place, _, image in reader.frames([0, len(plain) // 2, len(plain) - 1])
            }
        assert len(reader.times) == len(plain) and reader.note == "" and len(found) == 3
        assert all((plain[place] == image).all() for place, image in found.items())


# -- folders, lists, animations, stills ------------------------------------------------------------------------------


def test_a_folder_of_frames_is_in_the_order_of_its_numbers(tmp_path: Path) -> None:
    for number in (10, 2, 1):
        Image.fromarray(levels_of(number)).save(tmp_path / f"frame_{number}.png")
    (tmp_path / "notes.txt").write_text("no frame")
    clip = load_clip(tmp_path, ALL, frame_rate=4.0)
    assert numbers(clip) == [1, 2, 10] and clip.seconds.tolist() == [0, 0.25, 0.5] and clip.end_seconds == 0.75
    with pytest.raises(ValueError, match="holds frames without times: give their frame_rate, or ask for num_frames"):
        load_clip(tmp_path, ClipSampling(fps=1.0))
    (tmp_path / "frame_2.png").write_bytes(b"none")
    with pytest.warns(UserWarning, match="1 frames of .* cannot be read .*frame_2.png is not an image.*; the rest is"):
        assert numbers(load_clip(tmp_path, ALL)) == [1, 10]


def test_lists_of_images_arrays_and_tensors_are_clips() -> None:
    arrays = [levels_of(number) for number in range(3)]
    tensor = torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2)
    lists = ([Image.fromarray(array) for array in arrays], arrays, np.stack(arrays), tensor, tensor.float() / 255)
    for frames in lists:
        clip = load_clip(frames, ALL)
        assert [np.asarray(image).tolist() for image in clip.frames] == [array.tolist() for array in arrays]


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_animations_have_the_times_of_their_delays(kind: str) -> None:
    made, frames = io.BytesIO(), [Image.fromarray(levels_of(number)) for number in range(4)]
    options: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {}
    delays = [100, 300, 100, 0] if kind == "GIF" else [100, 300, 100, 100]  # none is shown as a tenth of a second
    frames[0].save(made, kind, save_all=True, append_images=frames[1:], duration=delays, loop=0, **options)
    clip = load_clip(made.getvalue(), ALL)
    assert numbers(clip) == [0, 1, 2, 3] and clip.seconds.tolist() == pytest.approx([0, 0.1, 0.4, 0.5])
    assert clip.end_seconds == pytest.approx(0.6)


def test_a_still_image_is_one_frame_at_second_0(tmp_path: Path) -> None:
    image = Image.fromarray(levels_of(5))
    image.save(tmp_path / "still.png")
    for source in (image, tmp_path / "still.png", (tmp_path / "still.png").read_bytes(), levels_of(5), [image]):
        clip = load_clip(source, ClipSampling(fps=1.0))
        assert numbers(clip) == [5] and clip.seconds.tolist() == [0.0]


# -- damage, bounds, what is no clip ---------------------------------------------------------------------------------


def test_what_of_a_broken_file_can_be_decoded_is_used_and_said(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "clip.mkv", num_frames=60).read_bytes()
    (tmp_path / "cut.mkv").write_bytes(whole[: len(whole) * 6 // 10])
    with pytest.warns(UserWarning, match=r"cut.mkv is damaged or cut short \(it ends after .* of 6.0 s\); the rest"):
        clip = load_clip(tmp_path / "cut.mkv", ALL)
    assert numbers(clip) == [number % 30 for number in range(len(clip.frames))] and 10 < len(clip.frames) < 60
    avi = write_video(tmp_path / "clip.avi", num_frames=60).read_bytes()
    (tmp_path / "cut.avi").write_bytes(avi[: (avi.index(b"movi") + len(avi)) // 2])
    with pytest.warns(UserWarning, match="cut.avi is damaged or cut short"):
        clip = load_clip(tmp_path / "cut.avi", ClipSampling(segments=4))
    assert len(clip.frames) == 4 and clip.seconds[0] < 0.6  # the first of them, although an index is gone


def test_frames_in_memory_are_bounded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clip_loading_updown, "MAX_CLIP_BYTES", 20 * 16 * 16 * 4)
    clip = load_clip(folder / "clip.mp4", ALL)
    assert numbers(clip) == list(range(20)) and clip.frames[0].size == (16, 16)
    monkeypatch.setattr(clip_decoding_updown, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ValueError, match="frames of 32 x 32 pixels, more than are safe to decode|not a video, or"):
        load_clip(folder / "clip.mp4", ALL)


def test_only_wanted_frames_are_held(folder: Path) -> None:
    with open_clip(folder / "clip.mp4") as reader:
        stream = reader.frames(range(20))
        assert iter(stream) is stream and number_of(next(stream)[2]) == 0  # nothing is decoded before it is asked for


def broken_files(folder: Path) -> Iterator[tuple[str, str]]:
    """(name, what is said) of files that are no clips."""
    Image.fromarray(levels_of(1)).save(folder / "photo.jpg")
    (folder / "photo.jpg").rename(folder / "photo.mp4")
    yield "photo.mp4", r"photo.mp4 is a still image \(JPEG\), not a video: name it as the image that it is"
    yield write_sound(folder / "song.m4a").name, "song.m4a holds sound only: give a file with a video stream"
    yield write_words(folder / "talk.mkv").name, "talk.mkv holds no video stream: give a file with a video stream"
    (folder / "words.mp4").write_text("these are words " * 100)
    yield "words.mp4", "words.mp4 is not a video, or it is damaged or cut short .*: give a video file such as MP4"
    (folder / "none.mp4").write_bytes(b"")
    yield "none.mp4", r"none.mp4 is empty \(0 bytes\); download or copy it again"
    content = write_video(folder / "whole.mp4").read_bytes()
    (folder / "cut.mp4").write_bytes(content[: len(content) // 2])  # its index stood at the end
    yield "cut.mp4", "cut.mp4 is not a video, or it is damaged or cut short"
    with av.open(str(folder / "frameless.avi"), "w") as container:
        stream: Any = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        container.start_encoding()
    yield "frameless.avi", "frameless.avi (holds no frame|is not a video)"
    (folder / "list.mp4").write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{folder / 'whole.mp4'}\n")
    yield "list.mp4", "list.mp4 is not a video"  # a playlist would open other files
    (folder / "other.mp4").write_text(f"ffconcat version 1.0\nfile {folder / 'whole.mp4'}\n")
    yield "other.mp4", "other.mp4 is not a video"


def test_what_is_no_clip_has_one_sentence(tmp_path: Path) -> None:
    for name, told in broken_files(tmp_path):
        with pytest.raises(ValueError, match=told) as caught:
            load_clip(tmp_path / name)
        assert "\n" not in str(caught.value) and str(tmp_path) in re.split(" (is|holds) ", str(caught.value))[0]
    with pytest.raises(FileNotFoundError, match="there is no clip at gone.mp4; check the path"):
        load_clip("gone.mp4")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"the folder .*empty holds no frame \(.avif"):
        load_clip(tmp_path / "empty")
    with pytest.raises(ValueError, match="the given list of frames is empty: a clip needs one frame or more"):
        load_clip([])
    with pytest.raises(TypeError, match="a clip is a path, URL, bytes, open file, list of frames or array, no int"):
        load_clip(7)
    with pytest.raises(ValueError, match="frame_rate is -1, but must be frames a second, above 0"):
        load_clip([levels_of(1)], frame_rate=-1)


def test_without_pyav_its_extra_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clip_decoding_updown, "av", None)
    with pytest.raises(ImportError, match=re.escape("not installed: pip install 'modeling-updown[video]'")):
        load_clip(folder / "clip.mp4")
    assert load_clip(Image.new("RGB", (4, 4))).seconds.tolist() == [0.0]
