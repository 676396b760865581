"""Frames a second of clips into a region store, beside a plain loop of images through the same source.

    python -m tests.benchmarks.clips --clips 4 --frames 16

The loop decodes every frame of a clip by PyAV alone, takes those that are asked for, and runs the processor and the
source on one image at a time. The ratios printed are of the same frames: batched with decoding in a thread, the same
with bf16, and with the frames skipped that show nothing new (counted by the frames that were chosen). The last line is
the peak memory of reading a few frames of a long film.
"""

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from accelerate import Accelerator
from PIL import Image

from modeling_updown import ClipSampling, UpDownImageProcessor, load_clip
from tests import tiny
from tests.training.tiny_run import forget_accelerators
from tests.video_files import write_video
from training.data.clips.sources import NamedClip
from training.regions.extract_clips import FrameChoice, extract_clips


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=4, help="of 100 frames of 320 x 240 (%(default)s)")
    parser.add_argument("--frames", type=int, default=16, help="taken of each (%(default)s)")
    parser.add_argument("--film-minutes", type=int, default=10, help="of the film of the last line (%(default)s)")
    parser.add_argument("--source", help="a saved detector or grid (default: a tiny detector, random)")
    arguments = parser.parse_args()
    source, processor = region_source(arguments.source)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        clips = [moving_clip(folder / f"{number}.mp4", seed=number) for number in range(arguments.clips)]
        number = arguments.clips * arguments.frames
        plain_loop(clips[:1], 2, source, processor)  # the first images of a process take longer
        plain = number / seconds_of(lambda: plain_loop(clips, arguments.frames, source, processor))
        print(f"plain loop of images: {plain:.1f} frames/s")
        sampling = ClipSampling(num_frames=arguments.frames)
        for name, precision, skip in (("batched", "no", None), ("bf16", "bf16", None), ("skipping", "no", 0.05)):
            forget_accelerators()
            options: dict[str, Any] = {"choice": FrameChoice(sampling, skip_below=skip), "output": folder / name}
            options["accelerator"] = Accelerator(cpu=not torch.accelerator.is_available(), mixed_precision=precision)
            rate = number / seconds_of(lambda options=options: into_store(clips, source, processor, **options))
            print(f"{name}: {rate:.1f} frames/s = {rate / plain:.2f} x the plain loop")
        film = write_video(folder / "film.mp4", num_frames=arguments.film_minutes * 600, rate=10, width=320, height=180)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        clip = load_clip(film, ClipSampling(num_frames=32))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        rise = f"rose by {(peak - before) / 2**10:.0f} MiB to {peak / 2**20:.2f} GiB"
        print(f"{len(clip.frames)} frames of {clip.end_seconds / 60:.0f} minutes: the peak of memory {rise}")


def region_source(folder: str | None) -> tuple[Any, Any]:
    """A saved source and its image processor, or tiny ones."""
    if folder is None:
        return tiny.tiny_pyramid_detector(), UpDownImageProcessor(size={"shortest_edge": 96, "longest_edge": 160})
    from training.commands.shared import load_region_source

    source, processor = load_region_source(folder)
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
    extract_clips(named, source=source, image_processor=processor, batch_size=16, **options)


def seconds_of(work: Callable[[], None]) -> float:
    """The seconds that work takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
