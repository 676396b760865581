"""The clip inputs of pipelines: an image or a clip -> pixels -> `Regions`, which of a clip have `region_seconds`.

    path | URL | Clip | {"video": frames} --media_inputs--> pixel_values, or pixel_values_videos and frame_seconds
    several of these --join_media--> one batch --regions_of_media--> `Regions`, a row for each image or clip

A video is told from an image by what its file holds. An animated GIF, WebP or PNG is an image, its first frame, unless
the call says which frames are meant. In a batch with clips an image is a clip of one frame.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import torch
from torch.nn import functional as F

from .clips_updown import clip_regions
from .pipeline_images import image_inputs, join_images, stored_image
from .regions_updown import Regions

CLIP_SETTINGS = {  # arguments of a call that say which frames of a clip are taken
    *("num_frames", "fps", "segments", "max_frames", "start_seconds", "end_seconds", "frame_rate")
}
RULES = ("num_frames", "fps", "segments")
NUM_FRAMES = 8  # evenly spread, where a call does not say
MANY_FRAMES = 256  # from which on their memory is looked at
MAX_PIXEL_BYTES = 2**31  # of the prepared frames of one clip
PIXELS = ("pixel_values", "pixel_mask", "pixel_values_videos", "pixel_mask_videos", "frame_seconds", "frame_mask")


def media_inputs(
    image_processor: Any, source: Any, *, timeout: float | None = None, **settings: Any
) -> dict[str, torch.Tensor]:
    """One image as `image_inputs` has it; or of one clip `pixel_values_videos` (1, F, 3, height, width),
    `frame_seconds` (1, F), `frame_mask` (1, F), and optionally `pixel_mask_videos` (1, F, height, width).

    timeout: seconds for a download; settings: of `CLIP_SETTINGS` and of the image processor. Raises `ValueError` for a
    clip of which no frame can be read, and for a span of seconds outside of it.
    """
    loaded, settings = loaded_media(source, {**settings, **({} if timeout is None else {"timeout": timeout})})
    if not hasattr(loaded, "frames"):
        return image_inputs(image_processor, loaded, **settings)
    return clip_pixels(image_processor, loaded, **settings)


def loaded_media(
    source: Any,
    settings: Mapping[str, Any],
    *,
    rule: Mapping[str, Any] = MappingProxyType({"num_frames": NUM_FRAMES}),
    animated: bool = False,
) -> tuple[Any, dict[str, Any]]:
    """The `Clip` of a clip, or the image, which may be unread, and the settings that are still to be used with it.

    rule: how frames are chosen where the settings do not say. animated: whether an animated image is a clip even then.
    """
    frames = {name: value for name, value in settings.items() if name in CLIP_SETTINGS}
    others = {name: value for name, value in settings.items() if name not in CLIP_SETTINGS}
    is_clip = isinstance(source, Mapping) and source.get("video") is not None
    source = source["video"] if is_clip else stored_image(source)
    is_file = isinstance(source, str | os.PathLike | bytes | bytearray | memoryview) or hasattr(source, "read")
    if not (is_clip or is_file or hasattr(source, "frames")):
        return source, others
    sampling_class, load, load_clip = clip_tools()
    options: dict[str, Any] = {"frame_rate": frames.pop("frame_rate", None), "timeout": others.pop("timeout", None)}
    sampling = sampling_class(**({} if any(name in frames for name in RULES) else rule), **frames)
    if is_clip and not hasattr(source, "frames"):
        return load_clip(source, sampling, **options), others
    return load(source, sampling, animated=animated or bool(frames), **options), others


def clip_pixels(image_processor: Any, clip: Any, **settings: Any) -> dict[str, torch.Tensor]:
    """The frames of a `Clip` as `media_inputs` has them; settings: of the image processor.

    Raises `ValueError` for frames that would take more memory than `MAX_PIXEL_BYTES`.
    """
    settings.pop("timeout", None)
    frames = list(clip.frames)
    if len(frames) > MANY_FRAMES:
        pixels = image_processor(images=frames[:1], return_tensors="pt", **settings)["pixel_values"]
        check_memory(len(frames), pixels)
    prepared = image_processor(images=frames, return_tensors="pt", **settings)
    inputs = {"pixel_values_videos": prepared["pixel_values"][None]}
    if "pixel_mask" in prepared:
        inputs["pixel_mask_videos"] = prepared["pixel_mask"].bool()[None]
    seconds = torch.as_tensor(clip.seconds).float()[None]
    return inputs | {"frame_seconds": seconds, "frame_mask": torch.ones_like(seconds, dtype=torch.bool)}


def check_memory(number: int, pixels: torch.Tensor) -> None:
    """`ValueError` where so many frames of the size of `pixels` (1, 3, height, width) take more than `MAX_PIXEL_BYTES`.

    >>> check_memory(10_000, torch.zeros(1, 3, 320, 480))
    Traceback (most recent call last):
    ...
    ValueError: 10000 frames of 480 x 320 pixels take 17.2 GiB, more than the 2.0 GiB of one clip: take 1165 frames or \
fewer (num_frames, max_frames, or a lower fps), or a part of the clip (start_seconds, end_seconds)
    """
    own = pixels.numel() * pixels.element_size()
    most, (height, width) = MAX_PIXEL_BYTES // own, pixels.shape[-2:]
    if number > most:
        raise ValueError(
            f"{number} frames of {width} x {height} pixels take {number * own / 2**30:.1f} GiB, more than the "
            f"{MAX_PIXEL_BYTES / 2**30:.1f} GiB of one clip: take {most} frames or fewer (num_frames, max_frames, or a "
            "lower fps), or a part of the clip (start_seconds, end_seconds)"
        )


def join_media(items: Sequence[Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Inputs of single images and clips -> one batch, padded with 0 on the right, below, and behind the last frame.

    >>> image = {"pixel_values": torch.ones(1, 3, 2, 4)}
    >>> clip = {"pixel_values_videos": torch.ones(1, 2, 3, 3, 2), "frame_seconds": torch.tensor([[0.0, 0.5]]),
    ...         "frame_mask": torch.ones(1, 2).bool()}
    >>> joined = join_media([image, clip])
    >>> joined["pixel_values_videos"].shape, joined["frame_mask"].tolist()
    (torch.Size([2, 2, 3, 3, 4]), [[True, False], [True, True]])
    """
    if not any("pixel_values_videos" in item for item in items):
        return join_images(items)
    clips = [as_clip(item) for item in items]
    most = max(clip["frame_mask"].shape[1] for clip in clips)
    joined = {}
    for name in clips[0]:
        parts = [clip[name] for clip in clips]
        if name.startswith("pixel"):
            height, width = (max(part.shape[side] for part in parts) for side in (-2, -1))
            parts = [F.pad(part, (0, width - part.shape[-1], 0, height - part.shape[-2])) for part in parts]
        if name in PIXELS:
            parts = [torch.cat([part, part.new_zeros(1, most - part.shape[1], *part.shape[2:])], 1) for part in parts]
        joined[name] = torch.cat(parts)
    return joined


def as_clip(item: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The inputs of an image as those of a clip of one frame at second 0; those of a clip unchanged."""
    if "pixel_values_videos" in item:
        return dict(item)
    others = {name: value for name, value in item.items() if name not in PIXELS}
    pixels = {f"{name}_videos": item[name][:, None] for name in ("pixel_values", "pixel_mask") if name in item}
    if "pixel_mask_videos" in pixels:
        pixels["pixel_mask_videos"] = pixels["pixel_mask_videos"].bool()
    return {**others, **pixels, "frame_seconds": torch.zeros(1, 1), "frame_mask": torch.ones(1, 1).bool()}


def regions_of_media(look: Callable[..., Regions], pixels: Mapping[str, Any], *, timed: bool = False) -> Regions:
    """The regions of B images or clips, a row each.

    Args:
        look: makes regions of `pixel_values` and `pixel_mask`, such as a model's `get_regions`.
        pixels: as `join_media` has them.
        timed: whether the model embeds times, so that an image needs its second, 0, as well.
    """
    if "pixel_values_videos" in pixels:
        return clip_regions(FrameSource(look), **pixels)
    regions = look(**pixels)
    if timed and regions.region_seconds is None:
        seconds = torch.zeros(regions.region_features.shape[:2], device=regions.region_features.device)
        regions = replace(regions, region_seconds=seconds)
    return regions


class FrameSource:
    """A function that makes regions of pixels, called as region sources are."""

    def __init__(self, look: Callable[..., Regions]) -> None:
        self.look = look

    def __call__(self, pixel_values: torch.Tensor, *, return_dict: bool = True, **masks: Any) -> Regions:
        """pixel_values (P, 3, height, width) -> the regions of P frames."""
        return self.look(pixel_values=pixel_values, **masks)


def cast_pixels(pixels: dict[str, Any], dtype: torch.dtype) -> dict[str, Any]:
    """The pixels of images and clips in a model's dtype; masks and seconds unchanged."""
    names = ("pixel_values", "pixel_values_videos")
    return {name: value.to(dtype) if name in names else value for name, value in pixels.items()}


def number_of_media(pixels: Mapping[str, Any]) -> int:
    """How many images or clips a batch holds."""
    return len(pixels["pixel_values_videos"] if "pixel_values_videos" in pixels else pixels["pixel_values"])


def seconds_of_regions(regions: Mapping[str, Any], row: int, real: torch.Tensor) -> dict[str, torch.Tensor]:
    """`region_seconds` (R,) of the real regions of a row, where the regions have any; else nothing."""
    seconds = regions.get("region_seconds")
    return {} if seconds is None else {"region_seconds": seconds[row][real].float()}


def clip_tools() -> tuple[Any, Any, Any]:
    """`ClipSampling`, `load_image_or_clip` and `load_clip`."""
    try:
        from .clip_loading_updown import load_clip, load_image_or_clip  # in a published folder
        from .clip_sampling_updown import ClipSampling
    except ImportError:
        from . import ClipSampling, load_clip, load_image_or_clip  # the installed package has them at its door
    return ClipSampling, load_image_or_clip, load_clip
