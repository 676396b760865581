"""Frames a second of clips into a region store, beside a plain loop of images through the same source.

    python -m tests.benchmarks.clips --clips 4 --frames 8

The loop decodes every frame of a clip by PyAV alone, takes those that are asked for, and runs the processor and the
source on one image at a time. The ratios printed are of the same frames, in seconds of the clock and of the CPU: by
`updown extract`, the same with bf16, with the frames skipped that show nothing new (counted by the frames that were
chosen), and with both. Then where the CPU's time goes: a line for each stage, and the slowest operators of the source.
The last line is the peak memory of a process that extracts a long film.
"""

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
import torch
from accelerate import Accelerator
from PIL import Image

from modeling_updown import ClipSampling, UpDownGrid, UpDownGridConfig, UpDownImageProcessor, load_clip
from tests import tiny
from tests.training.tiny_run import forget_accelerators, new_process
from tests.video_files import write_video
from training.data.clips.sources import NamedClip
from training.regions.extract_clips import FrameChoice, extract_clips
from training.regions.passes import in_passes
from training.regions.store import RegionStoreWriter

CARDS = Path(__file__).parents[2] / "hub_cards"
PUBLISHED = {"captioner": "updown-captioning-flickr8k", "detector": "updown-detector-lite"}
WAYS = {
    "batched": ("no", None),
    "bf16": ("bf16", None),
    "skipping": ("no", 0.05),
    "bf16, skipping": ("bf16", 0.05),
}
OPERATORS = 5  # that are printed


class Seconds(NamedTuple):
    """What work took."""

    wall: float
    cpu: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=4, help="of 100 frames of 320 x 240 (%(default)s)")
    parser.add_argument("--frames", type=int, default=8, help="taken of each (%(default)s)")
    parser.add_argument("--film-minutes", type=int, default=10, help="of the film of the last line, 0: none")
    parser.add_argument(
        "--sources",
        nargs="+",
        default=["grid", "detector"],
        help="grid (7 x 7, random weights), captioner or detector (published), tiny, or folders (%(default)s)",
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        clips = [moving_clip(folder / f"{number}.mp4", seed=number) for number in range(arguments.clips)]
        for name in arguments.sources:
            print(f"-- {name}", flush=True)
            source, processor = region_source(name)
            print_ratios(clips, arguments.frames, source, processor, folder=folder / Path(name).name)
            print_stages(clips[0], arguments.frames, source, processor, folder=folder / Path(name).name)
        if arguments.film_minutes:
            print_film(folder, arguments.sources[0], minutes=arguments.film_minutes)


def region_source(name: str) -> tuple[Any, Any]:
    """A region source and its image processor: of random weights, published, or saved in a folder."""
    if name == "tiny":
        return tiny.tiny_pyramid_detector(), UpDownImageProcessor(size={"shortest_edge": 96, "longest_edge": 160})
    if name == "grid":
        config = UpDownGridConfig(backbone="tf_efficientnet_lite0", image_size=224, grid_size=7)
        config.region_feature_size = 1280
        return UpDownGrid(config).eval(), UpDownImageProcessor(size={"height": 224, "width": 224})
    from training.commands.shared import load_region_source

    source, processor = load_region_source(str(CARDS / PUBLISHED[name]) if name in PUBLISHED else name)
    return source.float().eval(), processor


def moving_clip(path: Path, *, seed: int) -> Path:
    """A hundred frames of a noisy background on which a square moves, and stands still half of the time."""
    draw = np.random.default_rng(seed)
    background = np.asarray(Image.fromarray(draw.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize((320, 240)))
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for number in range(100):
            levels, left = background.copy(), 2 * min(number, 50)
            levels[100:160, left : left + 60] = (250, 30, 30)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(levels, format="rgb24")))
        container.mux(stream.encode())
    return path


def print_ratios(clips: list[Path], count: int, source: Any, processor: Any, *, folder: Path) -> None:
    """A line for the plain loop and for each of `WAYS`."""
    number = len(clips) * count
    plain_loop(clips[:1], 2, source, processor)  # the first images of a process take longer
    plain = seconds_of(lambda: plain_loop(clips, count, source, processor))
    print(
        f"plain loop of images: {number / plain.wall:.1f} frames/s, {1000 * plain.cpu / number:.0f} ms of CPU a frame"
    )
    for name, (precision, skip) in WAYS.items():
        forget_accelerators()
        choice = FrameChoice(ClipSampling(num_frames=count), skip_below=skip)
        options: dict[str, Any] = {"choice": choice, "output": folder / name}
        options["accelerator"] = Accelerator(cpu=not torch.accelerator.is_available(), mixed_precision=precision)
        took = seconds_of(lambda options=options: into_store(clips, source, processor, **options))
        ratios = f"{plain.wall / took.wall:.2f} x the plain loop, {plain.cpu / took.cpu:.2f} x by CPU"
        print(f"{name}: {number / took.wall:.1f} frames/s = {ratios}", flush=True)


@torch.no_grad()
def plain_loop(clips: list[Path], count: int, source: Any, processor: Any) -> None:
    """One image at a time."""
    for path in clips:
        with av.open(str(path)) as container:
            frames = [frame.to_image() for frame in container.decode(video=0)]
        for place in np.linspace(0, len(frames) - 1, count).astype(int):
            source(**processor(frames[place], return_tensors="pt"))


def into_store(clips: list[Path], source: Any, processor: Any, **options: Any) -> None:
    """What `updown extract` does."""
    named = [NamedClip(path.name, str(path)) for path in clips]
    extract_clips(named, source=source, image_processor=processor, **options)


@torch.no_grad()
def print_stages(path: Path, count: int, source: Any, processor: Any, *, folder: Path) -> None:
    """The CPU's milliseconds of each stage a frame, and the share of the source's slowest operators."""
    kept: dict[str, Any] = {}
    columns = ("region_features", "region_boxes", "region_mask", "region_scores")
    stages = {
        "decode": lambda: kept.update(frames=load_clip(path, ClipSampling(num_frames=count)).frames),
        "prepare": lambda: kept.update(inputs=processor(kept["frames"], return_tensors="pt")),
        "source": lambda: kept.update(regions=in_passes(source, kept["inputs"], columns=columns)),
        "store": lambda: write(folder / "stages", kept["regions"]),
    }
    times = {name: 1000 * seconds_of(work).cpu / count for name, work in stages.items()}
    print("CPU ms a frame: " + ", ".join(f"{name} {time:.1f}" for name, time in times.items()))
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        in_passes(source, kept["inputs"], columns=columns)
    found = sorted(profiler.key_averages(), key=lambda entry: -entry.self_cpu_time_total)
    whole = sum(entry.self_cpu_time_total for entry in found)
    shares = (f"{entry.key} {entry.self_cpu_time_total / whole:.0%}" for entry in found[:OPERATORS])
    print("of the source: " + ", ".join(shares), flush=True)


def write(folder: Path, regions: dict[str, Any]) -> None:
    """The regions of one batch into a new store."""
    with RegionStoreWriter(folder, fingerprint={}, images_at_risk=1) as writer:
        writer.append([str(number) for number in range(len(regions["region_mask"]))], regions)


def print_film(folder: Path, source: str, *, minutes: int) -> None:
    """The peak memory of a process that extracts a frame a second of a long film."""
    film = write_video(folder / "film.mp4", num_frames=minutes * 300, rate=5, width=320, height=180)
    process = new_process(extract_film, str(film), source)
    process.start()
    process.join()
    peak = int((folder / "film.peak").read_text()) / 2**20
    print(f"{minutes} minutes of film, a frame a second by {source}: the peak of memory is {peak:.2f} GiB")


def extract_film(film: str, source: str) -> None:
    """What the process of its own does; its peak in KiB is written beside the film."""
    choice = FrameChoice(ClipSampling(fps=1.0))
    into_store([Path(film)], *region_source(source), choice=choice, output=Path(film).with_suffix(".store"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    Path(film).with_suffix(".peak").write_text(str(peak))


def seconds_of(work: Callable[[], None]) -> Seconds:
    """The seconds that work takes."""
    started, used = time.perf_counter(), time.process_time()
    work()
    return Seconds(time.perf_counter() - started, time.process_time() - used)


if __name__ == "__main__":
    main()
