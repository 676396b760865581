"""Extraction and indexing killed at random moments: does the end equal an undisturbed run, bit for bit?

    python -m tests.benchmarks.kills_extraction --kills 20 --seed 0

For each kill the work begins anew, is ended by SIGKILL at a random moment of the time that an undisturbed run takes,
and is gone on with. Every second time the newest file is moreover cut short at a random byte before it goes on. Exit
code 0 where every file of every end is that of the undisturbed run. It takes a quarter of an hour on two cores.
"""

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from PIL import Image

from modeling_updown import UpDownImageProcessor
from tests import tiny
from tests.training.search import retrieval_fake
from tests.training.search.retrieval_fake import ColourModel, colour_processor
from tests.training.tiny_run import new_accelerator, new_process
from training.regions.extract import extract_regions
from training.search.embedding import Embedder, index_images, index_texts
from training.search.index_files import IndexWriter

NUM_IMAGES = 300  # one full shard, and small ones
SIZES = [(32, 32), (32, 40), (48, 32), (40, 40), (64, 32)]  # width, height
JOURNALS = ("shard-*.arrow", "*.npy", "*.jsonl")  # what grows; manifests are replaced whole


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20, help="of each kind (%(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--images", type=int, default=NUM_IMAGES)
    arguments = parser.parse_args()
    os.environ["TQDM_DISABLE"] = "1"
    faults = []
    for work in (extract, index):
        with tempfile.TemporaryDirectory() as scratch:
            images = draw_images(Path(scratch) / "photos", count=arguments.images)
            told = kills(work, images, Path(scratch), count=arguments.kills, seed=arguments.seed)
            for number, (moment, cut, fault) in enumerate(told, start=1):
                what = f"{work.__name__}, kill {number} after {moment:.2f} s" + (f", {cut} cut short" if cut else "")
                print(f"{what}: {fault or 'equal'}", flush=True)
                faults += [fault] if fault else []
    print(f"{2 * arguments.kills} kills, {len(faults)} ends differ")
    return 1 if faults else 0


def draw_images(folder: Path, *, count: int) -> Path:
    """Images of several sizes, whose content follows from their number."""
    folder.mkdir(parents=True)
    draw = np.random.default_rng(0)
    for number in range(count):
        levels = draw.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        image = Image.fromarray(levels).resize(SIZES[number % len(SIZES)], Image.Resampling.NEAREST)
        image.save(folder / f"{number:04d}.png")
    return folder


def rows_in(images: Path) -> Dataset:
    paths = sorted(images.iterdir())
    return Dataset.from_dict({"image_id": [path.name for path in paths], "image": [str(path) for path in paths]})


def extract(images: str, output: str) -> None:
    """What the killed process of an extraction does."""
    warnings.simplefilter("ignore")  # of files that were cut short: they are meant to be
    extract_regions(
        rows_in(Path(images)),
        source=tiny.tiny_pyramid_detector(max_regions=6),
        image_processor=UpDownImageProcessor(size={"shortest_edge": 32, "longest_edge": 64}),
        output=output,
        batch_size=16,
        accelerator=new_accelerator(),
    )


def index(images: str, output: str) -> None:
    """What the killed process of an indexing does: images and texts, counted on the disk after every batch."""
    warnings.simplefilter("ignore")
    embedder = Embedder(ColourModel(), colour_processor(), batch_size=8)
    places = {"model": "m", "photo_folder": None, "region_store": None}
    words = list(retrieval_fake.COLOURS)
    texts = [(f"a {words[number % 3]} thing {'and another ' * (number % 7)}{number}", None) for number in range(200)]
    with IndexWriter(output, fingerprint=embedder.fingerprint(), places=places, commit_seconds=0) as writer:
        index_images(rows_in(Path(images)), embedder, writer, paths={})
        index_texts(texts, embedder, writer)


def kills(
    work: Callable[[str, str], None], images: Path, scratch: Path, *, count: int, seed: int
) -> Iterator[tuple[float, str, str]]:
    """Of each kill: when it fell, in seconds; the file that was cut short, or ""; and what differs in the end, or "".

    Raises `RuntimeError` where a run that nobody kills does not come to its end.
    """
    draw = random.Random(seed)
    whole, output = scratch / "whole", scratch / "killed"
    run(work, images, whole)
    seconds = run(work, images, output)  # the second process starts faster than the first
    for number in range(count):
        shutil.rmtree(output, ignore_errors=True)
        moment = draw.uniform(0, seconds)
        run(work, images, output, kill_after=moment)
        cut = cut_newest(output, draw) if number % 2 else ""
        run(work, images, output)
        yield moment, cut, difference(whole, output)


def run(work: Callable[[str, str], None], images: Path, output: Path, *, kill_after: float | None = None) -> float:
    """The seconds that the work took in a process of its own, which is killed after so many."""
    process: Any = new_process(work, str(images), str(output))
    started = time.monotonic()
    process.start()
    process.join(timeout=kill_after)
    if kill_after is not None:
        process.kill()
        process.join()
    elif process.exitcode:
        raise RuntimeError(f"{work.__name__} ended with exit code {process.exitcode}")
    return time.monotonic() - started


def cut_newest(folder: Path, draw: random.Random) -> str:
    """Cut the file that was written last at a random byte; returns its name, or "" where there is none."""
    files = [path for pattern in JOURNALS for path in folder.glob(pattern)]
    if not files:
        return ""
    newest = max(files, key=lambda path: (path.stat().st_mtime_ns, path.name))
    content = newest.read_bytes()
    newest.write_bytes(content[: draw.randrange(len(content) + 1)])
    return newest.name


def difference(whole: Path, output: Path) -> str:
    """The first file that differs, or is in one of the folders only; "" where there is none."""
    names = [{path.name for path in folder.glob("[!.]*")} for folder in (whole, output)]
    if names[0] != names[1]:
        return f"only in one: {', '.join(sorted(names[0] ^ names[1]))}"
    different = [name for name in sorted(names[0]) if (whole / name).read_bytes() != (output / name).read_bytes()]
    return f"differs: {different[0]}" if different else ""


if __name__ == "__main__":
    sys.exit(main())
