"""How the detectors of Caffe's line are fed: exact resizing, the order of channels, regions kept in the processor."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor
from transformers.image_utils import SizeDict

from processors.image_processing_updown import (
    UpDownImageProcessor,
    UpDownImageProcessorPil,
    aspect_size,
    resize_exactly,
)

BACKENDS = pytest.mark.parametrize("backend", [UpDownImageProcessor, UpDownImageProcessorPil])
RED = (255, 0, 0)
CAFFE: dict[str, Any] = {
    "size": {"shortest_edge": 60, "longest_edge": 100},
    "exact_resize": True,
    "do_rescale": False,
    "channel_order": "bgr",
    "image_mean": [102.9801, 115.9465, 122.7717],
    "image_std": [1.0, 1.0, 1.0],
}


def noise(width: int, height: int, *, seed: int = 0) -> Image.Image:
    levels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(levels)


# ---- sizes


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ((512, 512), (600, 600)),
        ((400, 600), (600, 900)),
        ((427, 640), (600, 899)),
        ((640, 427), (899, 600)),
        ((300, 1000), (300, 1000)),  # the longer side allows no more
        ((333, 1500), (222, 1000)),
        ((1, 20_000), (1, 1000)),  # a side has at least one pixel
        ((20_000, 3), (1000, 1)),
        ((1, 1), (600, 600)),
    ],
)
def test_size_keeps_the_aspect_ratio(image, expected):
    assert aspect_size(image, SizeDict(shortest_edge=600, longest_edge=1000)) == expected


def test_without_a_longest_edge_only_the_shorter_counts():
    assert aspect_size((100, 1000), SizeDict(shortest_edge=50)) == (50, 500)


def slow_resize(levels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear by hand: each target pixel's middle, mapped back, between the four next to it; no smoothing."""
    old_height, old_width = levels.shape
    made = np.zeros((height, width))
    for row in range(height):
        for column in range(width):
            y = max((row + 0.5) * old_height / height - 0.5, 0)
            x = max((column + 0.5) * old_width / width - 0.5, 0)
            top, left = int(y), int(x)
            bottom, right = min(top + 1, old_height - 1), min(left + 1, old_width - 1)
            upper = levels[top, left] * (1 - x + left) + levels[top, right] * (x - left)
            lower = levels[bottom, left] * (1 - x + left) + levels[bottom, right] * (x - left)
            made[row, column] = upper * (1 - y + top) + lower * (y - top)
    return made


@pytest.mark.parametrize(("width", "height"), [(7, 5), (40, 30), (13, 50)])
def test_resizing_against_slow_twin(width, height):
    levels = np.asarray(noise(width, height))
    size = SizeDict(shortest_edge=11, longest_edge=16)
    target = aspect_size((height, width), size)
    for given in (levels.transpose(2, 0, 1), torch.tensor(levels).permute(2, 0, 1)):
        (resized,) = resize_exactly([given], size)
        assert resized.dtype == torch.float32 and resized.shape == (3, *target)
        for channel in range(3):
            expected = slow_resize(levels[..., channel].astype(float), *target)
            np.testing.assert_allclose(resized[channel], expected, atol=1e-3)
    (square,) = resize_exactly([levels.transpose(2, 0, 1)], SizeDict(height=9, width=4))
    assert square.shape == (3, 9, 4)


# ---- channels


@BACKENDS
@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_red_square(backend, order):
    """A red image, and which plane of `pixel_values` is bright; means are in the order of the planes."""
    processor = backend(**(CAFFE | {"channel_order": order}))
    pixels = processor(Image.new("RGB", (80, 60), RED), return_tensors="pt").pixel_values[0, :, 30, 30]
    planes = torch.tensor([0.0, 0.0, 255.0] if order == "bgr" else [255.0, 0.0, 0.0])
    torch.testing.assert_close(pixels, planes - torch.tensor(CAFFE["image_mean"]))


@BACKENDS
def test_order_is_that_of_arrays_too(backend):
    image = noise(80, 60)
    processor = backend(**CAFFE)
    expected = processor(image, return_tensors="pt").pixel_values
    for same in (np.asarray(image), torch.tensor(np.asarray(image)).permute(2, 0, 1)):
        assert torch.equal(processor(same, return_tensors="pt").pixel_values, expected)
    reversed_planes = backend(**(CAFFE | {"channel_order": "rgb", "image_mean": CAFFE["image_mean"][::-1]}))
    torch.testing.assert_close(reversed_planes(image, return_tensors="pt").pixel_values.flip(1), expected)


@BACKENDS
def test_order_can_be_chosen_at_the_call(backend):
    processor, image = backend(**CAFFE), noise(80, 60)
    there = processor(image, channel_order="rgb", return_tensors="pt").pixel_values
    assert torch.equal(there, backend(**(CAFFE | {"channel_order": "rgb"}))(image, return_tensors="pt").pixel_values)
    with pytest.raises(ValueError, match="channel_order is 'gbr'; choose 'rgb' or 'bgr'"):
        processor(image, channel_order="gbr")


# ---- both together


def test_backends_agree():
    images = [noise(90, 60), noise(30, 200, seed=1)]
    first, second = (
        backend(**CAFFE)(images, return_tensors="pt") for backend in (UpDownImageProcessor, UpDownImageProcessorPil)
    )
    torch.testing.assert_close(first.pixel_values, second.pixel_values, atol=1e-4, rtol=0)
    assert torch.equal(first.pixel_mask, second.pixel_mask)


@BACKENDS
def test_batch_is_padded_after_the_means(backend):
    images = [noise(90, 60), noise(30, 200, seed=1), Image.new("L", (50, 50), 7)]
    processor = backend(**CAFFE)
    batch = processor(images, return_tensors="pt")
    assert batch.pixel_values.shape == (3, 3, 100, 90) and batch.pixel_mask.dtype == torch.bool
    for row, image in enumerate(images):
        alone = processor(image, return_tensors="pt").pixel_values[0]
        height, width = alone.shape[1:]
        assert torch.equal(batch.pixel_values[row, :, :height, :width], alone)
        assert batch.pixel_mask[row].sum() == height * width == batch.pixel_mask[row, :height, :width].sum()
        assert batch.pixel_values[row].abs().sum() == pytest.approx(alone.abs().sum())  # padding is 0


@BACKENDS
def test_nothing_is_rounded_to_8_bits(backend):
    """Halfway between two grey levels is halfway: the resizing of transformers would round it."""
    levels = np.zeros((2, 2, 3), np.uint8)
    levels[:, 1] = 1
    settings = CAFFE | {"size": {"shortest_edge": 4, "longest_edge": 8}, "image_mean": [0.0, 0.0, 0.0]}
    pixels = backend(**settings)(levels, return_tensors="pt").pixel_values
    assert pixels[0, 0, 0].tolist() == [0, 0.25, 0.75, 1]


@BACKENDS
def test_panorama_stays_small(backend):
    """20,000 pixels wide: at most 1,000 after resizing, whatever its height."""
    processor = backend(**(CAFFE | {"size": {"shortest_edge": 600, "longest_edge": 1000}}))
    for height, expected in ((1, 1), (200, 10)):
        batch = processor(Image.new("RGB", (20_000, height), RED), return_tensors="pt")
        assert batch.pixel_values.shape == (1, 3, expected, 1000)
    with pytest.raises(ValueError, match='20000 x 1 pixels is too long and thin .* add "longest_edge"'):
        backend(**(CAFFE | {"size": {"shortest_edge": 600}}))(Image.new("RGB", (20_000, 1)))


# ---- the regions to keep


@BACKENDS
def test_saved_with_the_processor(backend, tmp_path: Path):
    processor = backend(**CAFFE, min_regions=5, max_regions=20, score_threshold=0.25)
    processor.save_pretrained(tmp_path)
    loaded = backend.from_pretrained(tmp_path)
    assert loaded.to_dict() == processor.to_dict()
    assert loaded.region_selection() == {"min_regions": 5, "max_regions": 20, "score_threshold": 0.25}
    assert loaded.channel_order == "bgr" and loaded.exact_resize is True
    image = noise(90, 60)
    assert torch.equal(
        loaded(image, return_tensors="pt").pixel_values, processor(image, return_tensors="pt").pixel_values
    )
    assert type(AutoImageProcessor.from_pretrained(tmp_path)) is UpDownImageProcessor
    assert backend().region_selection() == {}  # nothing chosen: the detector's config decides


def outputs() -> Any:
    return {
        "region_mask": torch.tensor([[True, True, True, False], [True, True, True, True]]),
        "region_scores": torch.tensor([[0.3, 0.9, 0.6, 0.0], [0.1, 0.2, 0.3, 0.9]]),
        "object_ids": torch.tensor([[4, 7, 4, 0], [1, 2, 3, 4]]),
        "region_boxes": torch.zeros(2, 4, 4),
        "pred_boxes": torch.tensor([[0.0, 0.25, 0.5, 1.0], [0.1, 0.1, 0.2, 0.2]])[:, None].expand(2, 4, 4),
    }


def test_post_processing_names_boxes_in_pixels():
    processor = UpDownImageProcessor(score_threshold=0.25)
    first, second = processor.post_process_object_detection(outputs(), target_sizes=[(60, 80), (100, 10)])
    assert first["scores"].tolist() == pytest.approx([0.9, 0.6, 0.3])  # the best first, padding left out
    assert first["labels"].tolist() == [7, 4, 4]
    assert first["boxes"].tolist() == [[0, 15, 40, 60]] * 3
    assert second["labels"].tolist() == [4, 3]
    torch.testing.assert_close(second["boxes"][0], torch.tensor([1.0, 10.0, 2.0, 20.0]))


def test_post_processing_threshold_and_units():
    processor = UpDownImageProcessor(score_threshold=0.25)
    (first, second) = processor.post_process_object_detection(outputs(), threshold=0.7)
    assert first["labels"].tolist() == [7] and second["labels"].tolist() == [4]
    assert first["boxes"].tolist() == [[0, 0.25, 0.5, 1]]
    everything = UpDownImageProcessor().post_process_object_detection(
        outputs(), target_sizes=torch.tensor([[1, 1]] * 2)
    )
    assert [len(image["labels"]) for image in everything] == [3, 4]
    none = processor.post_process_object_detection(outputs(), threshold=0.95)
    assert [image["boxes"].shape for image in none] == [(0, 4), (0, 4)]


def test_selection_settings_do_not_reach_the_pixels():
    image = noise(90, 60)
    plain = UpDownImageProcessor()(image, return_tensors="pt").pixel_values
    chosen = UpDownImageProcessor(min_regions=3, score_threshold=0.5)
    assert torch.equal(chosen(image, return_tensors="pt").pixel_values, plain)
    assert SimpleNamespace(**chosen.to_dict()).min_regions == 3
