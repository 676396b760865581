"""`load_image_or_clip`: what a file holds decides, and its name only where that does not."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from processors.clip_loading_updown import Clip, load_clip, load_image_or_clip
from processors.clip_sampling_updown import ClipSampling
from processors.image_processing_updown import load_image
from tests.tiny import tiny_image
from tests.video_files import number_of, write_sound, write_video

FOUR = ClipSampling(num_frames=4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video, the same under the name of an image, an animated GIF, and a still image."""
    made = tmp_path_factory.mktemp("media")
    video = write_video(made / "clip.mp4", num_frames=8)
    (made / "video.jpg").write_bytes(video.read_bytes())
    frames = [Image.new("RGB", (32, 32), (level, 0, 0)) for level in (0, 80, 160, 240)]
    frames[0].save(made / "moves.gif", save_all=True, append_images=frames[1:], duration=100)
    tiny_image(1).save(made / "still.png")
    return made


@pytest.mark.parametrize("name", ["clip.mp4", "video.jpg"])
def test_a_video_is_a_clip_whatever_its_name(folder: Path, name: str) -> None:
    sources: list[Any] = [str(folder / name), folder / name, (folder / name).read_bytes()]
    sources.append(io.BytesIO((folder / name).read_bytes()))
    for source in sources:
        clip = load_image_or_clip(source, FOUR)
        assert isinstance(clip, Clip) and len(clip.frames) == 4
        assert [number_of(frame) for frame in clip.frames] == [0, 2, 4, 7]
        np.testing.assert_allclose(clip.seconds, [0, 0.2, 0.4, 0.7], atol=1e-6)


def test_an_animation_is_a_clip_or_its_first_frame(folder: Path) -> None:
    clip = load_image_or_clip(folder / "moves.gif")
    assert isinstance(clip, Clip) and len(clip.frames) == 4 and clip.end_seconds == pytest.approx(0.4)
    first = load_image_or_clip(folder / "moves.gif", animated=False)
    assert isinstance(first, Image.Image)
    assert np.array_equal(np.asarray(first), np.asarray(load_image(folder / "moves.gif")))


def test_an_image_is_what_load_image_makes_of_it(folder: Path) -> None:
    expected = np.asarray(load_image(folder / "still.png"))
    with open(folder / "still.png", "rb") as file:
        for source in (
            folder / "still.png",
            (folder / "still.png").read_bytes(),
            Image.open(folder / "still.png"),
            file,
        ):
            assert np.array_equal(np.asarray(load_image_or_clip(source)), expected)


def test_a_clip_is_given_back_and_frames_are_one(folder: Path) -> None:
    clip = load_clip(folder / "clip.mp4", FOUR)
    assert load_image_or_clip(clip) is clip
    joined = load_image_or_clip(clip.frames, ClipSampling(num_frames=2))
    assert isinstance(joined, Clip) and [number_of(frame) for frame in joined.frames] == [0, 7]


def test_what_is_neither_is_refused_in_one_sentence(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "photo.mp4").write_bytes((folder / "still.png").read_bytes())
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "words.jpg").write_text("no image")
    sound = write_sound(tmp_path / "sound.mp4")
    for source, message in (
        (tmp_path / "photo.mp4", r"photo.mp4 is a still image \(PNG\), not a video"),
        (tmp_path / "empty.mp4", "empty.mp4 is empty"),
        (tmp_path / "words.jpg", "words.jpg is not an image"),
        (sound, "holds sound only: give a file with a video stream"),
        (tmp_path, "is a folder; give the path of one image in it"),
        (tmp_path / "gone.mp4", "there is no clip at"),
        (tmp_path / "gone.png", "there is no image at"),
        ([], "is empty: a clip needs one frame or more"),
    ):
        with pytest.raises((OSError, ValueError), match=message):
            load_image_or_clip(source)
    with pytest.raises(ValueError, match=r"the span from 5 s to its end lies outside of .*clip.mp4"):
        load_image_or_clip(folder / "clip.mp4", ClipSampling(num_frames=2, start_seconds=5.0))
