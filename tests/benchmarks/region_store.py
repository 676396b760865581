"""Images a second from a region store in a warm cache, beside two yardsticks measured in the same run.

    python -m tests.benchmarks.region_store --images 2000

The yardsticks: a 2048-cube float32 matrix product (how fast this machine is at all), and one .npy file an image (what
most code for region features does). Every batch is read to its last number, so that a view of the file counts as read.
"""

import argparse
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from training.regions.store import RegionStore, RegionStoreWriter

NUM_REGIONS, FEATURE_WIDTH, BATCH_SIZE, REPEATS = 36, 2048, 64, 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=2000, help="images of 36 x 2048 float16, 148 kB each")
    num_images = parser.parse_args().images
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_seconds = write_both(folder, num_images)
        store = RegionStore(folder / "store")
        shuffled = random.Random(0).sample(range(num_images), num_images)
        npy = images_a_second(lambda batch: read_npy(folder / "npy", batch), shuffled)
        gflops = matrix_gflops()
        print(f"matrix product, 2048 cube, float32, {torch.get_num_threads()} threads: {gflops:.0f} GFLOP/s")
        print(f"store written, fsync included: {num_images / write_seconds:.0f} images/s")
        print(f"one .npy an image, shuffled: {npy:.0f} images/s")
        for name, order in {"shuffled": shuffled, "in order": range(num_images)}.items():
            for dtype in (torch.float16, torch.float32):
                rate = images_a_second(lambda batch, dtype=dtype: store.batch(batch, dtype=dtype), order)
                print(
                    f"store, {name}, {dtype}: {rate:.0f} images/s = {rate / npy:.1f} x one .npy an image, "
                    f"{rate / gflops:.0f} images/GFLOP"
                )


def write_both(folder: Path, num_images: int) -> float:
    """Writes random features as a store and as .npy files; the seconds the store took."""
    (folder / "npy").mkdir()
    generator = torch.Generator().manual_seed(0)
    features = torch.rand(BATCH_SIZE, NUM_REGIONS, FEATURE_WIDTH, generator=generator).half()
    boxes = torch.tensor([0.0, 0.0, 1.0, 1.0]).expand(BATCH_SIZE, NUM_REGIONS, 4)
    seconds = 0.0
    with RegionStoreWriter(folder / "store", fingerprint={"backbone": "none"}) as writer:
        for first in range(0, num_images, BATCH_SIZE):
            ids = [str(i) for i in range(first, min(first + BATCH_SIZE, num_images))]
            start = time.perf_counter()
            writer.append(ids, {"region_features": features[: len(ids)], "region_boxes": boxes[: len(ids)]})
            seconds += time.perf_counter() - start
            for image_id, image in zip(ids, features.numpy(), strict=False):
                np.save(folder / "npy" / f"{image_id}.npy", image)
        start = time.perf_counter()
        writer.flush()
        return seconds + time.perf_counter() - start


def read_npy(folder: Path, positions: Sequence[int]) -> dict[str, torch.Tensor]:
    images = [np.load(folder / f"{position}.npy") for position in positions]
    return {"region_features": torch.from_numpy(np.stack(images))}


def images_a_second(read: Callable[[Sequence[int]], dict[str, torch.Tensor]], order: Sequence[int]) -> float:
    """The best of a few passes over all images in batches; the first pass warms the cache."""
    best = 0.0
    for _ in range(REPEATS + 1):
        start = time.perf_counter()
        for first in range(0, len(order), BATCH_SIZE):
            read(order[first : first + BATCH_SIZE])["region_features"].view(torch.int16).max()
        best = max(best, len(order) / (time.perf_counter() - start))
    return best


def matrix_gflops() -> float:
    left, right = torch.rand(2048, 2048), torch.rand(2048, 2048)
    seconds = []
    for _ in range(REPEATS + 1):
        start = time.perf_counter()
        left @ right
        seconds.append(time.perf_counter() - start)
    return 2 * 2048**3 / min(seconds) / 1e9


if __name__ == "__main__":
    main()
