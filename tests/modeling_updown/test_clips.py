"""Regions of clips: frame by frame, a still image as a clip of one frame, batches as single clips."""

from typing import Any

import pytest
import torch

from modeling_updown import UpDownVideoProcessor, clip_regions
from tests import tiny
from tests.video_files import levels_of


def pixels(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def test_each_frame_is_looked_at_by_itself() -> None:
    for source, selection in ((tiny.tiny_grid(), {}), (tiny.tiny_pyramid_detector(), {"max_regions": 5})):
        videos, seconds = pixels(2, 3), torch.tensor([[0.0, 0.5, 1.5], [2.0, 3.0, 9.0]])
        with torch.no_grad():
            found = clip_regions(source, videos, seconds, batch_size=4, **selection)
            count = found.region_features.shape[1] // 3
            for clip in range(2):
                for frame in range(3):
                    alone = source(videos[clip, frame][None], **selection)
                    own = slice(frame * count, frame * count + alone.region_mask.shape[1])
                    assert torch.allclose(
                        found.region_features[clip, own], alone.region_features[0], rtol=1e-4, atol=1e-3
                    )
                    assert torch.allclose(found.region_boxes[clip, own], alone.region_boxes[0], atol=1e-4)
                    assert found.region_mask[clip, own].equal(alone.region_mask[0])
                    assert (found.region_seconds[clip, own] == seconds[clip, frame]).all()
                    assert (found.region_images[clip, own] == frame).all()


def test_a_batch_of_clips_of_different_lengths_equals_single_ones() -> None:
    captioner = tiny.tiny_captioner()
    videos, seconds = pixels(2, 3), torch.arange(3.0).expand(2, -1)
    mask = torch.tensor([[True, True, True], [True, False, False]])
    videos[1, 1:] = torch.nan  # padding is never looked at
    words = torch.tensor([[1, 5, 6, 7]])
    with torch.no_grad():
        both = clip_regions(captioner.region_source, videos, seconds, mask)
        for clip, length in enumerate((3, 1)):
            alone = clip_regions(captioner.region_source, videos[clip, None, :length], seconds[clip, None, :length])
            row = {name: value[clip, None] for name, value in both.items()}
            batched = captioner(input_ids=words, **row).logits
            assert torch.allclose(batched, captioner(input_ids=words, **alone).logits, atol=1e-5)
            assert row["region_mask"].sum() == 9 * length


@pytest.mark.parametrize("make", [tiny.tiny_captioner, tiny.tiny_vqa, tiny.tiny_retrieval])
def test_a_still_image_is_a_clip_of_one_frame(make: Any) -> None:
    model = make()
    clip = UpDownVideoProcessor(size={"height": 64, "width": 64})(
        levels_of(9, height=40, width=50), return_tensors="pt"
    )
    assert clip.frame_seconds.tolist() == [[0.0]]
    words = {"input_ids": torch.tensor([[2, 5, 6, 3]])}
    with torch.no_grad():
        image = model(pixel_values=clip.pixel_values_videos[:, 0], **words)
        regions = clip_regions(model.region_source, **clip)
        assert (regions.region_seconds == 0).all() and regions.region_images is None
        assert torch.equal(model(**regions, **words).logits, image.logits)


def test_padded_frames_keep_their_masks() -> None:
    processor = UpDownVideoProcessor(size={"shortest_edge": 48, "longest_edge": 96})
    wide, high = levels_of(3, height=48, width=80), levels_of(4, height=80, width=48)
    inputs = processor([[wide], [high]], return_tensors="pt")
    detector = tiny.tiny_pyramid_detector()
    with torch.no_grad():
        found = clip_regions(detector, **inputs)
        expected = detector(inputs.pixel_values_videos[:, 0], pixel_mask=inputs.pixel_mask_videos[:, 0])
    assert torch.equal(found.region_boxes, expected.region_boxes)


def test_bad_input_has_one_sentence() -> None:
    grid, videos, seconds = tiny.tiny_grid(), pixels(1, 2), torch.zeros(1, 2)
    with pytest.raises(ValueError, match=r"have shape \(2, 3, 64, 64\), not \(clips, frames, 3, height, width\)"):
        clip_regions(grid, videos[0], seconds)
    with pytest.raises(ValueError, match=r"frame_seconds has shape \(1, 1\), but there are 1 clips of 2 frames"):
        clip_regions(grid, videos, seconds[:, :1])
    with pytest.raises(ValueError, match=r"clips \[0\] of the batch have no frame at all"):
        clip_regions(grid, videos, seconds, torch.zeros(1, 2).bool())
