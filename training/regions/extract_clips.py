"""Clips -> frames -> region source -> region store: `updown extract` of clips.

    NamedClip, ... --clip_frames, in a thread--> frames --batches of one size--> regions --> store

Every frame is an image of the store: `region_seconds` says when it appears, `clip_ids` of which clip it is, its id is
the clip's with the number of the frame in it (`dog.mp4#000025`). Resumable as `extract.py` is: a run that was killed
and started again writes the same files as an uninterrupted one. What of a damaged clip can be decoded is used and said.
"""

import itertools
import queue
import threading
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from PIL.Image import Image as PilImage
from PIL.Image import Resampling
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from modeling_updown import ClipSampling, check_times, choose_frames, open_clip
from processors.clip_loading_updown import PIXEL_BYTES
from training.console import one_line
from training.data.clips.sources import NamedClip
from training.regions.clips import FRAMES_OF_CLIPS
from training.regions.extract import OTHER_FOLDER, RegionExtractor, check_soft_labels, say_skipped
from training.regions.image_marks import changed_images, check_same_images, image_mark
from training.regions.store import RegionStoreWriter

WINDOW_CLIPS = 16  # whose frames may share a batch
AHEAD_BATCHES = 2  # that are decoded while the source looks at one
BATCH_BYTES = 2**27  # of the frames of a batch, of which four are in memory
CELLS = 16  # a side, in which frames are compared


@dataclass(frozen=True)
class FrameChoice:
    """Which frames of every clip are extracted.

    sampling: by number, rate or segments; a clip's own span, where a table gives one, lies inside it.
    seed: of random moments in segments; None takes their middles.
    skip_below: 0..1, frames are skipped that differ less from the last one that was kept (`difference`); None keeps
        all. The first and the last chosen frame of a clip are always kept.
    frame_rate: of clips that are folders of frames.
    """

    sampling: ClipSampling
    seed: int | None = None
    skip_below: float | None = None
    frame_rate: float | None = None

    def described(self) -> dict[str, Any]:
        """What of this determines a store, as JSON values; what is off is left out."""
        return {name: value for name, value in ({**asdict(self.sampling), **self.others}).items() if value}

    @property
    def others(self) -> dict[str, Any]:
        """The fields besides `sampling`."""
        return {"seed": None if self.seed is None else str(self.seed), "skip_below": self.skip_below} | {
            "frame_rate": self.frame_rate
        }

    def positions(self, reader: Any, clip: NamedClip) -> np.ndarray:
        """The chosen frames of an open clip, increasing; `ValueError` as `choose_frames`."""
        sampling = self.sampling
        if (clip.start_seconds, clip.end_seconds) != (0.0, None):
            sampling = replace(sampling, start_seconds=clip.start_seconds, end_seconds=clip.end_seconds)
        check_times(reader, sampling)
        draw = None if self.seed is None else np.random.default_rng([self.seed, zlib.crc32(clip.clip_id.encode())])
        return choose_frames(reader.times, sampling, end=reader.end, name=clip.path, generator=draw)


class ClipFrame(NamedTuple):
    """A frame on its way to the store: `mark` is of its clip's file."""

    frame_id: str
    clip_id: str
    seconds: float
    image: PilImage
    mark: int


@dataclass(frozen=True)
class ExtractedClips:
    """What an extraction did, over all processes: frames that the store holds of these clips, those of them that are
    new, frames that were skipped since they show nothing new, and a line for each clip or frame that could not be used,
    or not wholly."""

    num_frames: int
    num_new: int
    num_skipped: int
    broken: list[str]


@torch.no_grad()
def extract_clips(
    clips: Sequence[NamedClip],
    *,
    source: PreTrainedModel,
    image_processor: Any,
    output: str | Path,
    choice: FrameChoice,
    batch_size: int = 32,
    flipped: bool = False,
    selection: Mapping[str, Any] | None = None,
    soft_labels: bool = False,
    accelerator: Accelerator | None = None,
) -> ExtractedClips:
    """Add the regions of the chosen frames of every clip to the store `output`, which is created if absent.

    Args:
        clips: with ids of their own.
        choice: which frames; the store records it.
        source, image_processor, batch_size, flipped, selection, soft_labels, accelerator: as `extract_regions`.

    Raises:
        ValueError: as `extract_regions`, and for another choice of frames than the store's.
    """
    accelerator = accelerator or Accelerator()
    options: dict[str, Any] = {"flipped": flipped, "soft_labels": soft_labels, "accelerator": accelerator}
    extractor = ClipExtractor(source.to(accelerator.device).eval(), image_processor, choice=choice, **options)
    extractor.select(selection)
    share = clips[accelerator.process_index :: accelerator.num_processes]
    with extractor.writer(output) as writer:
        extractor.held.update(clip_of(name) for name in writer.done_ids)
        check_soft_labels(Path(output), soft_labels)
        accelerator.wait_for_everyone()
        others = gather_object(changed_clips(share, writer))
        check_same_images(others, of=len(clips), place=f"the store {output}", cure=OTHER_FOLDER, kind="clips")
        with tqdm(desc=f"regions -> {output}", unit="frame", disable=not share) as bar:
            for start in range(0, len(share), WINDOW_CLIPS):
                extractor.extract(share[start : start + WINDOW_CLIPS], writer, bar=bar, batch_size=batch_size)
    broken = gather_object(extractor.broken)
    counts = gather_object([(extractor.num_frames, extractor.num_new, extractor.num_skipped)])
    if accelerator.is_main_process:
        say_skipped(broken, kind="clips or frames", fate="could not be used wholly")
    frames, new, skipped = (sum(column) for column in zip(*counts, strict=True))
    return ExtractedClips(frames, new, skipped, broken)


class ClipExtractor(RegionExtractor):
    """Writes the regions of clips' frames into a store."""

    def __init__(self, source: PreTrainedModel, image_processor: Any, *, choice: FrameChoice, **options: Any):
        super().__init__(source, image_processor, **options)
        self.choice = choice
        self.num_frames = self.num_new = self.num_skipped = 0
        self.frames: dict[str, ClipFrame] = {}  # of the batch in work, by id
        self.held: Counter[str] = Counter()  # how many frames of each clip the store had at first

    def fingerprint(self) -> dict[str, Any]:
        """As of images, and which frames are taken."""
        return {**super().fingerprint(), FRAMES_OF_CLIPS: self.choice.described()}

    def extract(self, clips: Sequence[NamedClip], writer: RegionStoreWriter, *, bar: Any, batch_size: int) -> None:
        """Add the frames of clips, of which those of one size share batches, unless all are there.

        Batches are formed before the frames that are done are taken out, so that a resumed run computes bit for bit
        what an uninterrupted one does.
        """
        done = [self.frames_done(clip, writer) for clip in clips]
        if all(done):
            self.num_frames += sum(done)
            return
        for batch in decoded_ahead(batches(self.clip_frames(clips), batch_size)):
            self.frames = {frame.frame_id: frame for frame in batch if frame.frame_id not in writer.done_ids}
            self.add(writer, [(frame.frame_id, frame.image, frame.mark) for frame in self.frames.values()])
            self.num_frames += sum(frame.frame_id in writer.done_ids for frame in batch)
            self.num_new += sum(name in writer.done_ids for name in self.frames)
            bar.update(len(self.frames))

    def frames_done(self, clip: NamedClip, writer: RegionStoreWriter) -> int:
        """How many frames the store holds of a clip whose last chosen frame is there; else 0."""
        if not self.held[clip.clip_id]:
            return 0
        try:
            with open_clip(clip.path, frame_rate=self.choice.frame_rate) as reader:
                last = int(self.choice.positions(reader, clip)[-1])
        except (OSError, ValueError):  # told of when its frames are asked for
            return 0
        return self.held[clip.clip_id] if frame_name(clip, last) in writer.done_ids else 0

    def clip_frames(self, clips: Sequence[NamedClip]) -> Iterator[ClipFrame]:
        """The frames of clips that are kept; a clip that cannot be read, or not wholly, has a line in `broken`."""
        for clip in clips:
            try:
                with open_clip(clip.path, frame_rate=self.choice.frame_rate) as reader:
                    yield from self.kept_frames(clip, reader)
                    if reader.note:
                        self.broken.append(f"{clip.clip_id}: {one_line(reader.note)}")
            except (OSError, ValueError) as error:
                self.broken.append(f"{clip.clip_id}: {one_line(error)}")

    def kept_frames(self, clip: NamedClip, reader: Any) -> Iterator[ClipFrame]:
        """The chosen frames of an open clip but those that show nothing new."""
        chosen, mark = self.choice.positions(reader, clip), clip_mark(clip)
        last_kept: np.ndarray | None = None
        for position, seconds, image in reader.frames(chosen):
            if self.choice.skip_below is not None:
                cells = frame_cells(image)
                still = last_kept is not None and difference(cells, last_kept) < self.choice.skip_below
                if still and position != chosen[-1]:
                    self.num_skipped += 1
                    continue
                last_kept = cells
            yield ClipFrame(frame_name(clip, position), clip.clip_id, seconds, image, mark)

    def try_append(self, writer: RegionStoreWriter, ids: list[str], regions: dict[str, Any]) -> str:
        """As of images, with the seconds and the clip of each frame."""
        frames = [self.frames[name] for name in ids]
        seconds = torch.tensor([frame.seconds for frame in frames])
        timed = {"region_seconds": seconds[:, None].expand(regions["region_features"].shape[:2])}
        return super().try_append(writer, ids, {**regions, **timed, "clip_ids": [frame.clip_id for frame in frames]})


def frame_name(clip: NamedClip, position: int) -> str:
    """The id of a frame in the store."""
    return f"{clip.clip_id}#{position:06d}"


def clip_of(frame_id: str) -> str:
    """The clip of a frame.

    >>> clip_of("dog.mp4#000025")
    'dog.mp4'
    """
    return frame_id.rpartition("#")[0]


def changed_clips(clips: Sequence[NamedClip], writer: RegionStoreWriter) -> list[str]:
    """The ids of the clips whose files have another mark than the one that the store has for their frames."""
    known = {clip_of(name): mark for name, mark in writer.done_marks.items()}
    there = [clip for clip in clips if known.get(clip.clip_id)]
    return changed_images([clip.clip_id for clip in there], [clip_mark(clip) for clip in there], known=known)


def clip_mark(clip: NamedClip) -> int:
    """The mark of a clip's file and of its span; 0 for a folder or a URL, which have none."""
    mark, span = image_mark({"path": clip.path}), (clip.start_seconds, clip.end_seconds)
    return mark ^ zlib.crc32(repr(span).encode()) if mark and span != (0.0, None) else mark


def batches(frames: Iterator[ClipFrame], batch_size: int) -> Iterator[list[ClipFrame]]:
    """Neighbouring frames of one size, at most so many, and no more than `BATCH_BYTES` where one is less."""
    for (width, height), alike in itertools.groupby(frames, key=frame_size):
        most = max(1, min(batch_size, BATCH_BYTES // (PIXEL_BYTES * width * height)))
        while batch := list(itertools.islice(alike, most)):
            yield batch


def frame_size(frame: ClipFrame) -> tuple[int, int]:
    """Width and height in pixels."""
    return frame.image.size


def frame_cells(image: PilImage) -> np.ndarray:
    """The mean colour of each of 16 x 16 cells of a frame, 0..1, (16, 16, 3)."""
    return np.asarray(image.resize((CELLS, CELLS), Resampling.BOX), dtype=np.float32) / 255


def difference(cells: np.ndarray, others: np.ndarray) -> float:
    """How much two frames differ, 0..1: by the cell that differs most, so that a small new thing counts.

    >>> difference(np.zeros((16, 16, 3)), np.full((16, 16, 3), 0.25))
    0.25
    """
    return float(np.abs(cells - others).mean(axis=-1).max())


class Decoding(threading.Thread):
    """Draws items from an iterator into a queue; ends soon after `stop` is set."""

    def __init__(self, items: Iterator[Any]):
        super().__init__(daemon=True, name="clip-decoding")
        self.items = items
        self.error: BaseException | None = None
        self.found: queue.Queue = queue.Queue(maxsize=AHEAD_BATCHES)
        self.stop = threading.Event()

    def run(self) -> None:
        """Put every item, then None."""
        try:
            for item in self.items:
                self.put(item)
                if self.stop.is_set():
                    return
        except BaseException as error:  # raised again where the items are read
            self.error = error
        self.put(None)

    def put(self, item: Any) -> None:
        """Put an item once there is room for it, unless nobody waits for it any more."""
        while not self.stop.is_set():
            try:
                self.found.put(item, timeout=0.1)
                return
            except queue.Full:
                continue


def decoded_ahead(items: Iterator[Any]) -> Iterator[Any]:
    """The same items, drawn in a thread while the reader works on those before; errors are raised here.

    >>> list(decoded_ahead(iter([1, 2, 3])))
    [1, 2, 3]
    """
    thread = Decoding(items)
    thread.start()
    try:
        while (item := thread.found.get()) is not None:
            yield item
        if thread.error is not None:
            raise thread.error
    finally:
        thread.stop.set()
        thread.join()
