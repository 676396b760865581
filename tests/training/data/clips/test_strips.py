"""Strips of frames: what comes out is what went in, and other files are no clips."""

import io
import json

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from processors.image_processing_updown import load_image
from tests.tiny import tiny_image
from training.data.clips.strips import frame_strip, frames_of_strip, sampled

FRAMES = [tiny_image(seed, width=24, height=16) for seed in range(5)]
SECONDS = [0.0, 0.25, 1.5, 2.0, 60.125]


@pytest.mark.parametrize("jpeg", [False, True])
def test_frames_and_seconds_come_back(jpeg: bool) -> None:
    """Also through the loader that every image passes; a frame of a JPEG does not run into its neighbours."""
    found = frames_of_strip(load_image(frame_strip(FRAMES, SECONDS, jpeg=jpeg)))
    assert found is not None and found[1] == SECONDS
    for frame, expected in zip(found[0], FRAMES, strict=True):
        difference = np.abs(np.asarray(frame, dtype=int) - np.asarray(expected, dtype=int))
        assert difference.max() == 0 if not jpeg else difference.mean() < 4
    if jpeg:
        alone = frames_of_strip(load_image(frame_strip(FRAMES[2:3], [0.0], jpeg=True)))
        assert alone is not None and np.array_equal(np.asarray(alone[0][0]), np.asarray(found[0][2]))


def test_other_images_are_no_clips() -> None:
    assert frames_of_strip(FRAMES[0]) is None
    file = io.BytesIO()
    FRAMES[0].save(file, format="JPEG", comment=b"a comment of somebody")
    assert frames_of_strip(load_image(file.getvalue())) is None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[0, 1", "are no JSON"),
        ("[" * 100_000, "are no JSON"),
        ("{}", "must be a list"),
        ("[]", "must be a list"),
        (json.dumps(list(range(5000))), "must be a list of 1 to 4096"),
        ("[0, 1, 2, 3, 4]", "divides its 24 pixels"),
        ("[0, 0]", "finite numbers that rise"),
        ("[0, NaN]", "finite numbers that rise"),
        ('[0, "1"]', "finite numbers that rise"),
        ("[false, true]", "finite numbers that rise"),
    ],
)
def test_broken_seconds_are_told(text: str, told: str) -> None:
    info, file = PngInfo(), io.BytesIO()
    info.add_text("frame_seconds", text)
    FRAMES[0].save(file, format="PNG", pnginfo=info)
    with pytest.raises(ValueError, match=told):
        frames_of_strip(Image.open(file))


def test_what_is_no_clip_is_refused() -> None:
    for frames, seconds, told in (
        ([], [], "one frame or more"),
        ([FRAMES[0], tiny_image()], [0.0, 1.0], "all of one size"),
        (FRAMES[:2], [0.0], "must be 2 finite numbers"),
        (FRAMES[:2], [1.0, 0.5], "that rise"),
    ):
        with pytest.raises(ValueError, match=told):
            frame_strip(frames, seconds)
    with pytest.raises(ValueError, match="make sides multiples of 8"):
        frame_strip([tiny_image(0, width=20, height=16)], [0.0], jpeg=True)
    with pytest.raises(ValueError, match="frames is -2"):
        sampled(4, -2)
