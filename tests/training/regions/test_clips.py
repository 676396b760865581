"""Stores of clips: what is a clip of which frames, how it is found, and its regions beside those of its frames."""

from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from datasets import Dataset

from training.recipe_sections import RegionsRecipe
from training.regions.clips import FRAMES_OF_CLIPS, ClipStore, task_store
from training.regions.extract import ImageRegions, ask_store
from training.regions.store import RegionStore, RegionStoreWriter
from training.tasks.statements import IMAGE_FEATURES

FRAMES = {"a.mp4": [0.0, 2.0, 4.0], "v_b.mov": [0.0, 1.5], "c_60.0_210.0.mp4": [3.0]}


def write_clips(folder: Path, frames: dict[str, list[float]] = FRAMES) -> Path:
    """Frames with two regions each, the second frame of a clip with one, written against the order of time."""
    draw = torch.Generator().manual_seed(0)
    with RegionStoreWriter(folder, fingerprint={FRAMES_OF_CLIPS: "all"}) as writer:
        for name, seconds in frames.items():
            for number, second in reversed(list(enumerate(seconds))):
                size = (1, 1 if number == 1 else 2)
                regions = {
                    "region_features": torch.randn(*size, 5, generator=draw),
                    "region_boxes": torch.tensor([0.0, 0.0, 1.0, 1.0]).expand(*size, 4),
                    "region_seconds": torch.full(size, second),
                    "clip_ids": [name],
                }
                writer.append([f"{name}#{number:06d}"], regions)
    return folder


def rows_of(*ids: str) -> Dataset:
    return Dataset.from_dict({"image_id": list(ids), "image": [None] * len(ids)}, features=IMAGE_FEATURES)


def test_a_clip_has_the_regions_of_its_frames_in_their_order(tmp_path: Path) -> None:
    store = RegionStore(write_clips(tmp_path / "store"))
    clips = ClipStore(store)
    assert set(clips.image_ids) == FRAMES.keys() and len(clips) == 3
    batch = clips.batch(["b", "a"], columns=["region_features", "region_boxes", "region_seconds"])
    for row, (name, seconds) in enumerate((("v_b.mov", FRAMES["v_b.mov"]), ("a.mp4", FRAMES["a.mp4"]))):
        own = [store[f"{name}#{number:06d}"] for number in range(len(seconds))]
        mask = batch["region_mask"][row]
        stored = torch.cat([one["region_features"] for one in own]).float()
        assert torch.equal(batch["region_features"][row][mask].float(), stored)
        counts = [len(one["region_features"]) for one in own]
        assert batch["region_seconds"][row][mask].tolist() == np.repeat(seconds, counts).tolist()
    assert "region_seconds" not in clips.batch(["a"], columns=["region_features", "region_boxes"])


def test_a_clip_is_found_without_its_ending_and_prefix(tmp_path: Path) -> None:
    clips = task_store(write_clips(tmp_path / "store"))
    assert isinstance(clips, ClipStore)
    found = {name: clips.held_as(name) for name in ("a", "a.webm", "v_b", "b.mp4", "c_60.0_210.0", "d")}
    assert found == {
        "a": "a.mp4",
        "a.webm": "a.mp4",
        "v_b": "v_b.mov",
        "b.mp4": "v_b.mov",
        "c_60.0_210.0": "c_60.0_210.0.mp4",
        "d": None,
    }
    assert "a" in clips and "d" not in clips and 3 not in clips
    with pytest.raises(KeyError, match="clip 'd' is not in the store"):
        clips.batch(["d"])
    twice = ClipStore(RegionStore(write_clips(tmp_path / "twice", {"a.mp4": [0.0], "a.avi": [0.0]})))
    assert twice.held_as("a.avi") == "a.avi"
    with pytest.raises(ValueError, match="the clip 'a' may be any of 'a.avi', 'a.mp4' in the region store .*clip_id"):
        twice.held_as("a")


def test_a_store_of_images_is_no_store_of_clips(tmp_path: Path) -> None:
    with RegionStoreWriter(tmp_path, fingerprint={"made": "images"}) as writer:
        boxes = torch.tensor([[[0.0, 0.0, 1.0, 1.0]]])
        writer.append(["7"], {"region_features": torch.ones(1, 1, 5), "region_boxes": boxes})
    store = task_store(tmp_path)
    assert isinstance(store, RegionStore)
    with pytest.raises(ValueError, match="holds no clips: make them with `updown extract CLIPS --output FOLDER`"):
        ClipStore(store)


def test_tasks_read_clips_as_they_read_images(tmp_path: Path) -> None:
    folder = write_clips(tmp_path / "store")
    images = ImageRegions(RegionsRecipe(store=str(folder)), None, None, Accelerator(cpu=True))
    images.read("region_seconds", needed="here")
    with pytest.warns(UserWarning, match="1 of the 3 images have no regions in the store .*, such as 'd'"):
        kept = images.prepare(rows_of("b", "d", "a"))
    assert kept["image_id"] == ["b", "a"]
    batch = images.batch(kept, np.array([0, 1]), flipped=np.zeros(2, dtype=bool))
    own = ClipStore(RegionStore(folder)).batch(["v_b.mov", "a.mp4"], dtype=torch.float32)
    assert batch.keys() == own.keys() and all(torch.equal(batch[name], own[name]) for name in own)


def test_clips_that_a_store_lacks_are_told_before_a_model_is_built(tmp_path: Path) -> None:
    regions = RegionsRecipe(store=str(write_clips(tmp_path / "store")))
    ask_store(regions, rows_of("a", "b", "d"))
    with pytest.raises(ValueError, match="2 of the 3 images have no regions .*, or lower regions.min_share"):
        ask_store(regions, rows_of("a", "d", "e"))
    with pytest.raises(
        ValueError, match="none of the 1 images is in .*: the ids of the data are 'd'.*clip and clip_id"
    ):
        ask_store(regions, rows_of("d"))
