"""`UpDownVideoProcessor`: frames as the image processor prepares them, with their seconds; saved and loaded."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoVideoProcessor

from modeling_updown import UpDownImageProcessor, UpDownVideoProcessor
from tests import tiny
from tests.video_files import levels_of, number_of, write_video

SQUARE = {"height": 32, "width": 32}


def test_frames_are_prepared_as_images() -> None:
    images = [Image.fromarray(levels_of(number, height=24, width=40)) for number in range(3)]
    for settings in (
        {"size": SQUARE},
        {"size": {"shortest_edge": 20, "longest_edge": 60}, "exact_resize": True, "channel_order": "bgr"},
    ):
        inputs = UpDownVideoProcessor(**settings)(images, return_tensors="pt")
        expected = UpDownImageProcessor(**settings)(images, return_tensors="pt")
        assert torch.equal(inputs.pixel_values_videos[0], expected.pixel_values)
        if "pixel_mask" in expected:
            assert torch.equal(inputs.pixel_mask_videos[0], expected.pixel_mask)
        assert inputs.frame_seconds.tolist() == [[0.0, 1.0, 2.0]] and inputs.frame_mask.all()


def test_clips_of_different_lengths_share_a_batch(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4")
    processor = UpDownVideoProcessor(size=SQUARE, fps=2.0)
    still = Image.fromarray(levels_of(9))
    both = processor([str(path), still], return_tensors="pt")
    assert both.frame_mask.tolist() == [[True] * 4, [True, False, False, False]]
    assert both.frame_seconds.tolist() == [[0.0, 0.5, 1.0, 1.5], [0.0] * 4]
    for row, clip in enumerate((path, still)):
        alone = processor(clip, return_tensors="pt")
        assert torch.equal(both.pixel_values_videos[row][both.frame_mask[row]], alone.pixel_values_videos[0])
    assert both.pixel_values_videos[1, 1:].abs().sum() == 0


def test_a_call_changes_the_choice(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4")
    processor = UpDownVideoProcessor(size=SQUARE, fps=1.0, max_frames=2)
    assert processor(path).frame_seconds.tolist() == [[0.0, 1.0]]
    assert processor(path, num_frames=3).frame_seconds.shape == (1, 3)
    assert processor(path, segments=2, start_seconds=1.0).frame_seconds.tolist() == [
        [pytest.approx(1.2), pytest.approx(1.7)]
    ]
    random = processor(path, segments=2, generator=np.random.default_rng(0)).frame_seconds
    assert random[0, 0] < 1.0 <= random[0, 1]
    frames = [levels_of(number) for number in range(9)]
    assert processor(frames, do_sample_frames=False).frame_seconds.shape == (1, 9)
    assert [number_of(image) for image in processor.load(path, num_frames=2).frames] == [0, 19]


def test_it_is_saved_and_loaded_by_transformers(tmp_path: Path) -> None:
    UpDownVideoProcessor(size=SQUARE, fps=2.0, max_regions=5).save_pretrained(tmp_path)
    loaded: Any = AutoVideoProcessor.from_pretrained(tmp_path)
    assert type(loaded) is UpDownVideoProcessor and (loaded.fps, loaded.num_frames) == (2.0, None)
    assert dict(loaded.size) == SQUARE and loaded.region_selection() == {"max_regions": 5}
    assert AutoVideoProcessor.from_pretrained(tmp_path, segments=3).sampling().segments == 3
    folder = tmp_path / "model"
    tiny.tiny_grid().save_pretrained(folder)
    UpDownImageProcessor(size=SQUARE, image_mean=[0.1, 0.2, 0.3]).save_pretrained(folder)
    from_images: Any = AutoVideoProcessor.from_pretrained(folder)  # a folder that was saved for images
    assert type(from_images) is UpDownVideoProcessor and list(from_images.image_mean) == [0.1, 0.2, 0.3]
    same = UpDownVideoProcessor.from_image_processor(UpDownImageProcessor.from_pretrained(folder), num_frames=2)
    assert dict(same.size) == SQUARE and list(same.image_mean) == [0.1, 0.2, 0.3] and same.num_frames == 2


def test_a_published_one_brings_its_code(tmp_path: Path) -> None:
    processor = UpDownVideoProcessor(size=SQUARE)
    processor.auto_map = {"AutoVideoProcessor": "video_processing_updown.UpDownVideoProcessor"}
    processor.save_pretrained(tmp_path)
    names = {path.name for path in tmp_path.glob("*.py")}
    assert {"video_processing_updown.py", "clip_loading_updown.py", "clip_decoding_updown.py"} <= names
    saved = json.loads((tmp_path / "video_preprocessor_config.json").read_text()) if names else {}
    assert saved["auto_map"] == {"AutoVideoProcessor": "video_processing_updown.UpDownVideoProcessor"}


def test_bad_input_has_one_sentence() -> None:
    processor = UpDownVideoProcessor(size=SQUARE)
    for given, told in (
        ({"num_frames": 2, "fps": 1.0}, "num_frames and fps given: give one"),
        ({"start_seconds": 3.0, "end_seconds": 1.0}, "start_seconds is 3, which is not before end_seconds, 1"),
        ({"fps": 1.0}, "the given list of frames holds frames without times: give their frame_rate"),
    ):
        with pytest.raises(ValueError, match=told):
            processor([levels_of(1), levels_of(2)], **given)
    with pytest.raises(TypeError, match="takes no argument 'frames'"):
        processor([levels_of(1)], frames=2)
    with pytest.raises(ValueError, match="the list of clips is empty; give at least one clip"):
        processor([])
    with pytest.raises(ValueError, match="do_sample_frames=False takes all frames of a list"):
        processor("clip.mp4", do_sample_frames=False)
    with pytest.raises(ValueError, match="fps and segments given: give one"):
        UpDownVideoProcessor(fps=1.0, segments=2)
