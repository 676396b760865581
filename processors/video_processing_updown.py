"""Clips to `pixel_values_videos` and the seconds of each frame: choosing frames, decoding, resizing and normalising.

The first step of the flow for clips: clip -> video processor -> `pixel_values_videos`, `frame_seconds`, `frame_mask` ->
`clip_regions` -> regions with seconds. Frames are prepared by `UpDownImageProcessor`, so a still image and a clip of
that one frame have equal pixel values.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers.image_processing_base import BatchFeature
from transformers.processing_utils import VideosKwargs
from transformers.video_processing_utils import BaseVideoProcessor

from .clip_loading_updown import Clip, load_clip
from .clip_sampling_updown import ClipSampling
from .code_updown import write_code
from .image_processing_updown import ImagePreparation, UpDownImageProcessor, UpDownImageProcessorKwargs

SAMPLING = ("num_frames", "fps", "segments", "max_frames", "start_seconds", "end_seconds")
RULES = ("num_frames", "fps", "segments")
# what a call may set of the preparation of frames
PREPARATION = (
    *("do_convert_rgb", "do_resize", "size", "default_to_square", "resample", "do_rescale", "rescale_factor"),
    *("do_normalize", "image_mean", "image_std", "exact_resize", "channel_order"),
    *("min_regions", "max_regions", "score_threshold"),
)


class UpDownVideoProcessorKwargs(VideosKwargs, UpDownImageProcessorKwargs, total=False):  # type: ignore[call-arg,misc]
    """Arguments of our video processor besides those of transformers and of our image processors.

    num_frames, fps, segments, max_frames, start_seconds, end_seconds (*optional*): which frames are taken; see
        `ClipSampling`. One of the first three in a call stands in the place of the saved one.
    frame_rate (`float`, *optional*): frames a second of clips that are folders or lists of frames.
    """

    segments: int | None
    max_frames: int | None
    start_seconds: float | int | None
    end_seconds: float | int | None
    frame_rate: float | int | None


class UpDownVideoProcessor(BaseVideoProcessor):
    """Clips to `pixel_values_videos` (B, F, 3, H, W) float32, `frame_seconds` (B, F) and `frame_mask` (B, F) bool.

    Frames are chosen as `ClipSampling` says, by default eight, evenly spread, and prepared as `UpDownImageProcessor`
    prepares images; clips of fewer frames are padded with zeros behind them, where `frame_mask` is False. Where the
    aspect ratio is kept, `pixel_mask_videos` (B, F, H, W) bool is True on real pixels. Takes a clip as `load_clip`
    does, or a list of clips; in a list of images every image is a frame of one clip.

    Example:
        >>> processor = UpDownVideoProcessor(num_frames=2, frame_rate=4.0)
        >>> frames = [Image.new("RGB", (64, 48), colour) for colour in ("red", "lime", "blue")]
        >>> inputs = processor(frames, return_tensors="pt")
        >>> inputs.pixel_values_videos.shape, inputs.frame_seconds.tolist()
        (torch.Size([1, 2, 3, 224, 224]), [[0.0, 0.5]])
    """

    resample = ImagePreparation.resample
    image_mean = ImagePreparation.image_mean
    image_std = ImagePreparation.image_std
    size = ImagePreparation.size
    do_convert_rgb = ImagePreparation.do_convert_rgb
    do_resize = ImagePreparation.do_resize
    do_rescale = ImagePreparation.do_rescale
    do_normalize = ImagePreparation.do_normalize
    exact_resize = ImagePreparation.exact_resize
    channel_order = ImagePreparation.channel_order
    min_regions: int | None = None
    max_regions: int | None = None
    score_threshold: float | None = None
    do_sample_frames = True
    num_frames: int | None = 8
    fps: float | None = None
    segments: int | None = None
    max_frames: int | None = None
    start_seconds: float | None = None
    end_seconds: float | None = None
    frame_rate: float | None = None
    valid_kwargs = UpDownVideoProcessorKwargs

    def __init__(self, **kwargs: Any):
        if any(kwargs.get(name) is not None for name in RULES):
            kwargs = {**dict.fromkeys(RULES), **kwargs}
        super().__init__(**kwargs)
        self.sampling()
        self.image_processor()

    @classmethod
    def from_image_processor(cls, image_processor: Any, **kwargs: Any) -> "UpDownVideoProcessor":
        """A video processor that prepares frames as an image processor of ours does."""
        known = {name: getattr(image_processor, name) for name in PREPARATION if hasattr(image_processor, name)}
        return cls(**{**known, **kwargs})

    @classmethod
    def from_dict(cls, video_processor_dict: dict[str, Any], **kwargs: Any) -> Any:
        """As transformers does it; of num_frames, fps and segments a given one takes the place of the saved one."""
        if any(kwargs.get(name) is not None for name in RULES):
            video_processor_dict = {**video_processor_dict, **dict.fromkeys(RULES)}
        return super().from_dict(video_processor_dict, **kwargs)

    @property
    def model_input_names(self) -> list[str]:  # type: ignore[override]
        """The names of the returned inputs."""
        names = ["pixel_values_videos", "frame_seconds", "frame_mask"]
        return [*names, "pixel_mask_videos"] if self.size.shortest_edge else names

    def sampling(self, **given: Any) -> ClipSampling:
        """Which frames are taken, `given` or else as saved; `ValueError` where that contradicts itself."""
        rules: Any = self if all(given.get(name) is None for name in RULES) else None
        chosen: dict[str, Any] = {name: given.get(name, getattr(rules, name, None)) for name in RULES}
        if chosen["num_frames"] is not None or chosen["segments"] is not None:
            given = {"max_frames": None, **given}
        others: dict[str, Any] = {name: given.get(name, getattr(self, name)) for name in SAMPLING if name not in RULES}
        return ClipSampling(**chosen, **{**others, "start_seconds": others["start_seconds"] or 0.0})

    def image_processor(self, **given: Any) -> UpDownImageProcessor:
        """What prepares the frames, `given` or else as saved; `ValueError` for settings out of range."""
        return UpDownImageProcessor(**{name: given.get(name, getattr(self, name)) for name in PREPARATION})

    def region_selection(self) -> dict[str, Any]:
        """The processor's region selection as arguments of the detector's `forward`."""
        return self.image_processor().region_selection()

    def load(
        self, clip: Any, *, generator: np.random.Generator | None = None, timeout: float | None = None, **given: Any
    ) -> Clip:
        """The chosen frames of one clip; see `load_clip`. given: of `ClipSampling`, and `frame_rate`."""
        frame_rate = given.pop("frame_rate", self.frame_rate)
        return load_clip(clip, self.sampling(**given), frame_rate=frame_rate, timeout=timeout, generator=generator)

    def preprocess(self, videos: Any, **kwargs: Any) -> BatchFeature:
        """Clips -> the inputs named above.

        Raises:
            TypeError: for unknown arguments.
            ValueError, OSError, ImportError: as `load_clip`, `ClipSampling` and the image processor.
        """
        return_tensors, device = kwargs.pop("return_tensors", None), kwargs.pop("device", None)
        generator = kwargs.pop("generator", None)
        unknown = sorted(kwargs.keys() - self.valid_kwargs.__annotations__.keys())
        if unknown:
            raise TypeError(f"UpDownVideoProcessor takes no argument {unknown[0]!r}")
        kwargs = {name: value for name, value in kwargs.items() if value is not None}
        clips = [self._clip(clip, kwargs, generator) for clip in self._clips(videos)]
        counts = [len(clip.frames) for clip in clips]
        prepared = self.image_processor(**{name: kwargs[name] for name in PREPARATION if name in kwargs})(
            [frame for clip in clips for frame in clip.frames], return_tensors="pt"
        )
        made = {"pixel_values_videos": _rows(prepared["pixel_values"], counts)}
        if "pixel_mask" in prepared:
            made["pixel_mask_videos"] = _rows(prepared["pixel_mask"].bool(), counts)
        seconds = torch.from_numpy(np.concatenate([clip.seconds for clip in clips])).float()
        made |= {"frame_seconds": _rows(seconds, counts)}
        made |= {"frame_mask": _rows(torch.ones(sum(counts), dtype=torch.bool), counts)}
        made = {name: value if device is None else value.to(device) for name, value in made.items()}
        return BatchFeature(made, tensor_type=return_tensors)

    def _clip(self, clip: Any, given: dict[str, Any], generator: np.random.Generator | None) -> Clip:
        """The frames of a clip that are taken; with `do_sample_frames=False` all of a list."""
        if given.get("do_sample_frames", self.do_sample_frames):
            wanted = {name: given[name] for name in (*SAMPLING, "frame_rate") if name in given}
            return self.load(clip, generator=generator, **wanted)
        if isinstance(clip, str | os.PathLike | bytes):
            raise ValueError(
                "do_sample_frames=False takes all frames of a list: give one, or choose frames of the file"
            )
        return load_clip(clip, ClipSampling(num_frames=len(clip)), frame_rate=given.get("frame_rate", self.frame_rate))

    def _clips(self, videos: Any) -> list[Any]:
        """A clip or a list of clips as a list."""
        if isinstance(videos, np.ndarray | torch.Tensor) and videos.ndim == 5:
            return list(videos)
        if not isinstance(videos, list | tuple):
            return [videos]
        if not videos:
            raise ValueError("the list of clips is empty; give at least one clip")
        frames = (isinstance(one, Image.Image) or getattr(one, "ndim", 4) < 4 for one in videos)
        return [videos] if all(frames) else list(videos)

    def save_pretrained(self, save_directory: str | os.PathLike[str], push_to_hub: bool = False, **kwargs: Any) -> Any:
        """Save as transformers does; the video processor of a published model is saved with its code."""
        if getattr(self, "auto_map", None):
            write_code(__file__, save_directory)
            self.auto_map = {"AutoVideoProcessor": f"{Path(__file__).stem}.{type(self).__name__}"}
        return super().save_pretrained(save_directory, push_to_hub=push_to_hub, **kwargs)


def _rows(values: torch.Tensor, counts: list[int]) -> torch.Tensor:
    """The values of all frames (P, ...) -> (B, F, ...), with zeros behind the frames of shorter clips."""
    rows = values.new_zeros(len(counts), max(counts), *values.shape[1:])
    for row, part in zip(rows, values.split(counts), strict=True):
        row[: len(part)] = part
    return rows
