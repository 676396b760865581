"""Extraction of a thousand images: killed at all kinds of moments, by several processes; nothing is lost or doubled."""

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from datasets import Dataset
from PIL import Image

from modeling_updown import UpDownImageProcessor
from tests import tiny
from tests.training.tiny_run import in_processes, new_process
from training.regions.extract import RegionExtractor, extract_regions
from training.regions.store import RegionStore, RegionStoreWriter

SIDE, BATCH = 32, 32
MOMENTS = (
    "training.regions.extract:RegionExtractor.regions:2",  # regions are made, none of the batch is written
    "training.regions.store:write_shard:3",  # a small shard is written, no manifest names it
    "training.regions.store:RegionStoreWriter._write_manifest:4",  # it is named
    "training.regions.store:write_shard:8",  # the full shard in the place of small ones is written, not named
    "training.regions.store:RegionStoreWriter._write_manifest:8",  # it is named, and they are still there
    "training.regions.store:RegionStoreWriter.append:2",
)


def many_images(folder: Path, count: int) -> list[str]:
    """Images of 32 x 32 and 32 x 40 pixels, whose colours follow from their number; their ids."""
    folder.mkdir()
    draw = np.random.default_rng(0)
    for number in range(count):
        levels = draw.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        image = Image.fromarray(levels).resize((SIDE, SIDE + 8 * (number % 3 == 0)), Image.Resampling.NEAREST)
        image.save(folder / f"{number:04d}.bmp")
    return [f"{number:04d}.bmp" for number in range(count)]


def extract_folder(images: str, store: str, log: str, batch_size: int = BATCH, **options: Any) -> None:
    """What a process does; the number of images in each call of the detector goes into `log`."""
    regions_of = RegionExtractor.regions

    def noted(maker: RegionExtractor, images: list[Any], **options: Any) -> dict[str, torch.Tensor]:
        with open(log, "a") as file:
            file.write(f"{len(images)}\n")
        return regions_of(maker, images, **options)

    RegionExtractor.regions = noted  # type: ignore
    try:
        paths = sorted(Path(images).iterdir())
        rows = Dataset.from_dict({"image_id": [path.name for path in paths], "image": [str(path) for path in paths]})
        extract_regions(
            rows,
            source=tiny.tiny_pyramid_detector(max_regions=6),
            image_processor=UpDownImageProcessor(size={"shortest_edge": SIDE, "longest_edge": 64}),
            output=store,
            batch_size=batch_size,
            accelerator=Accelerator(cpu=True),
            **options,
        )
    finally:
        RegionExtractor.regions = regions_of  # type: ignore[method-assign]


def calls_in(log: Path) -> list[int]:
    """The images of each call of the detector, of every process so far."""
    return [int(line) for line in log.read_text().split()] if log.is_file() else []


def assert_same_regions(store: RegionStore, expected: RegionStore) -> None:
    """The same images with the same regions, in whatever order."""
    assert sorted(store.image_ids) == sorted(expected.image_ids)
    order = store.image_ids
    columns = ["region_features", "region_boxes", "object_ids"]
    found, wanted = store.batch(order, columns=columns), expected.batch(order, columns=columns)
    assert torch.equal(found["region_mask"], wanted["region_mask"])
    assert torch.equal(found["object_ids"], wanted["object_ids"])
    assert torch.allclose(found["region_boxes"], wanted["region_boxes"], atol=1e-5)
    assert torch.allclose(found["region_features"].float(), wanted["region_features"].float(), atol=5e-3, rtol=5e-3)


def test_a_kill_at_any_moment_costs_one_batch(tmp_path: Path) -> None:
    count = 1000
    ids = many_images(tmp_path / "photos", count)
    images, store, log = str(tmp_path / "photos"), str(tmp_path / "store"), tmp_path / "log"
    process = new_process(extract_folder, images, store, str(log))
    process.start()
    while len(calls_in(log)) < 3:
        assert process.is_alive()
        time.sleep(0.01)
    process.kill()  # from outside, at whatever it is doing
    process.join()
    for number, moment in enumerate(MOMENTS, start=2):
        assert in_processes(extract_folder, images, store, str(log), kill=moment) == [-signal.SIGKILL], moment
        held = RegionStore(store).image_ids
        assert len(set(held)) == len(held) >= sum(calls_in(log)) - number * BATCH
    assert in_processes(extract_folder, images, store, str(log)) == [0]
    done = RegionStore(store)
    assert sorted(done.image_ids) == ids
    assert count <= sum(calls_in(log)) <= count + (len(MOMENTS) + 1) * BATCH
    files = {path.name for path in (tmp_path / "store").iterdir()}
    assert files == {".writer-0.lock", "store.json", *shards_of(tmp_path / "store")} and len(files) < 25
    extract_folder(images, str(tmp_path / "whole"), os.devnull, batch_size=50)  # never killed, other batches
    assert_same_regions(done, RegionStore(tmp_path / "whole"))
    assert in_processes(extract_folder, images, store, str(tmp_path / "again")) == [0]
    assert calls_in(tmp_path / "again") == []  # nothing is left to do


def shards_of(store: Path, process: int = 0) -> list[str]:
    """The shards that the manifest of a process names."""
    manifest = json.loads((store / (f"store-{process}.json" if process else "store.json")).read_text())
    return [entry["file"] for entry in manifest["shards"]]


def test_processes_share_the_images(tmp_path: Path) -> None:
    ids = many_images(tmp_path / "photos", 90)
    (tmp_path / "photos" / "0003.bmp").write_bytes(b"no image")
    (tmp_path / "photos" / "0040.bmp").write_bytes(b"")
    images, store, log = str(tmp_path / "photos"), tmp_path / "store", str(tmp_path / "log")
    moment = "training.regions.store:RegionStoreWriter.append:3"
    killed = in_processes(extract_folder, images, str(store), log, 8, num_processes=2, kill=moment)
    assert killed == [-signal.SIGKILL] * 2
    assert 0 < len(RegionStore(store)) < 60
    assert in_processes(extract_folder, images, str(store), log, 8, num_processes=2) == [0, 0]
    done = RegionStore(store)
    assert sorted(done.image_ids) == [image_id for image_id in ids if image_id not in ("0003.bmp", "0040.bmp")]
    for process in (0, 1):
        own = shards_of(store, process)
        assert own and all(name.startswith(f"shard-{process}-") for name in own)
    numbers = [int(image_id[:4]) for image_id in done.image_ids]
    assert {number % 2 for number in numbers[:44]} == {0} and {number % 2 for number in numbers[44:]} == {1}
    many_more = tmp_path / "photos" / "0040.bmp"
    Image.new("RGB", (SIDE, SIDE), "red").save(many_more)
    assert in_processes(extract_folder, images, str(store), str(tmp_path / "alone")) == [0]  # one goes on for two
    assert calls_in(tmp_path / "alone") == [1] and len(RegionStore(store)) == 89


def test_a_second_extraction_into_one_store_is_refused_while_the_first_runs(tmp_path: Path) -> None:
    many_images(tmp_path / "photos", 4)
    with RegionStoreWriter(tmp_path / "store", fingerprint={}), pytest.raises(RuntimeError, match="another process"):
        extract_folder(str(tmp_path / "photos"), str(tmp_path / "store"), os.devnull)
