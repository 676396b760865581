"""Strips of frames become regions with seconds: every frame through the region source as an image of its own."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import concatenate_datasets
from PIL import Image

from modeling_updown import UpDownGrid, UpDownGridConfig, UpDownImageProcessor
from processors.image_processing_updown import load_image
from tests.training.tiny_run import new_accelerator
from training.data.clips.strips import frames_of_strip
from training.recipe_sections import RegionsRecipe
from training.regions import strips
from training.regions.extract import ImageRegions, RegionExtractor, extract_regions, undecoded
from training.regions.store import RegionStore
from training.scenes.draw import scenes_dataset
from training.scenes.moving_rows import moving_scenes_dataset

SIDE = 32


@pytest.fixture(scope="module")
def source() -> Any:
    torch.manual_seed(1)
    return UpDownGrid(
        UpDownGridConfig(backbone="test_vit", image_size=SIDE, grid_size=2, region_feature_size=64)
    ).eval()


@pytest.fixture
def processor() -> UpDownImageProcessor:
    return UpDownImageProcessor(size={"height": SIDE, "width": SIDE})


def test_a_store_has_the_regions_of_all_frames(
    source: Any, processor: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a plain loop over frames has them, in passes of any number; an image beside clips is one frame at 0 s."""
    columns = ["image_id", "image", "split"]
    clips = moving_scenes_dataset(3, image_size=40, frames=5).select_columns(columns)
    rows = concatenate_datasets([clips, scenes_dataset(1, image_size=40).select_columns(columns)])
    monkeypatch.setattr(strips, "FRAMES_A_PASS", 2)
    options: Any = {"source": source, "image_processor": processor, "accelerator": new_accelerator()}
    assert not extract_regions(rows, output=tmp_path / "store", batch_size=4, **options)
    store = RegionStore(tmp_path / "store")
    for row in undecoded(rows):
        stored = store[row["image_id"]]
        frames, seconds = frames_of_strip(load_image(row["image"]["bytes"])) or (
            [load_image(row["image"]["bytes"])],
            [0.0],
        )
        with torch.no_grad():
            alone = [source(**processor(frame, return_tensors="pt")) for frame in frames]
        expected = torch.cat([one.region_features[0] for one in alone])
        assert len(expected) == 4 * len(frames)
        torch.testing.assert_close(
            stored["region_features"].float(), expected, atol=2e-2, rtol=2e-2
        )  # of half precision
        assert stored["region_seconds"].tolist() == pytest.approx([second for second in seconds for _ in range(4)])
        assert torch.allclose(stored["region_boxes"].float(), torch.cat([one.region_boxes[0] for one in alone]))
        assert stored["image_size"].tolist() == [40, 40]


def test_training_reads_the_seconds(source: Any, processor: Any, tmp_path: Path) -> None:
    rows = moving_scenes_dataset(2, image_size=40, frames=3)
    images = ImageRegions(RegionsRecipe(store=str(tmp_path / "store")), source, processor, new_accelerator())
    images.read("region_seconds", needed="for this test")
    prepared = images.prepare(rows)
    batch = images.batch(prepared, np.arange(2), flipped=np.zeros(2, dtype=bool))
    assert batch["region_seconds"].tolist() == [[0.75] * 4 + [2.25] * 4 + [3.75] * 4] * 2


def test_clips_are_no_pixels(source: Any, processor: Any) -> None:
    """A strip as one image would be read without a word, and boxes are of images."""
    rows = undecoded(moving_scenes_dataset(1, image_size=40))
    images = ImageRegions(RegionsRecipe(), source, processor, new_accelerator())
    with pytest.raises(ValueError, match="clips, whose frames a model reads as regions with seconds: .*regions.store"):
        images.batch(rows, np.array([0]), flipped=np.array([False]))
    strip = load_image(rows[0]["image"]["bytes"])
    extractor = RegionExtractor(source, processor, accelerator=new_accelerator(), flipped=False, soft_labels=False)
    with pytest.raises(ValueError, match="one of these is a clip: extract it without --boxes"):
        strips.regions_of_images([strip], extractor.regions, boxes=[np.zeros((1, 4))])


def test_clips_of_different_lengths_are_one_batch() -> None:
    """Padding of frames is left out, and words go with their regions."""

    def made(images: list[Any]) -> dict[str, Any]:
        mask = torch.tensor([[True, True], [True, False]])[: len(images)]
        return {"region_mask": mask, "region_features": torch.arange(4.0).view(2, 2, 1)[: len(images)],
                "region_texts": [["a", "b"], ["c", ""]][: len(images)]}  # fmt: skip

    blank: Any = [Image.new("RGB", (2, 2), colour) for colour in ("red", "blue")]
    clips = [strips.strip_regions(blank, [1.0, 2.0], made), strips.strip_regions(blank[:1], [5.0], made)]
    joined = strips.join_clips(clips)
    assert joined["region_features"].squeeze(-1).tolist() == [[0, 1, 2], [0, 1, 0]]
    assert joined["region_seconds"].tolist() == [[1, 1, 2], [5, 5, 0]]
    assert joined["region_mask"].tolist() == [[True] * 3, [True, True, False]]
    assert joined["region_texts"] == [["a", "b", "c"], ["a", "b", ""]]


def test_frames_with_the_same_pixels_are_read_once(source: Any, processor: Any) -> None:
    """A camera at rest: as many regions as frames, which are those of a reading frame by frame."""
    rng = np.random.default_rng(0)
    still, other = (Image.fromarray(rng.integers(0, 255, (40, 40, 3), dtype=np.uint8)) for _ in range(2))
    frames = [still, still.copy(), other, still.copy()]
    extractor = RegionExtractor(source, processor, accelerator=new_accelerator(), flipped=False, soft_labels=False)
    seen = []

    def regions_of(images: list[Any]) -> Any:
        seen.append(len(images))
        return extractor.regions(images)

    made = strips.strip_regions(frames, [0.0, 0.5, 1.0, 1.5], regions_of)
    assert seen == [2]
    alone = torch.cat([extractor.regions([frame])["region_features"][0] for frame in frames])
    torch.testing.assert_close(made["region_features"][0], alone, atol=1e-5, rtol=1e-5)
    assert made["region_seconds"][0].tolist() == [second for second in (0.0, 0.5, 1.0, 1.5) for _ in range(4)]
