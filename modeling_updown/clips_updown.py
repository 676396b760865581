"""Clips to `Regions`: any region source looks at each frame, and the regions of a clip's frames become one row.

    frames of B clips --video processor--> pixel_values_videos (B, F, 3, H, W), frame_seconds (B, F), frame_mask (B, F)
    those --clip_regions(source)--> Regions (B, F x R) with `region_seconds` --> any top-down model

Padding frames are never looked at, so a clip in a batch has the regions that it has alone.
"""

from dataclasses import fields, replace
from typing import Any

import torch

from .regions_updown import Regions, pad_regions_to

CPU_IMAGES, GPU_IMAGES = 2, 32  # that a region source looks at together


def clip_regions(
    source: Any,
    pixel_values_videos: torch.Tensor,
    frame_seconds: torch.Tensor,
    frame_mask: torch.Tensor | None = None,
    pixel_mask_videos: torch.Tensor | None = None,
    *,
    batch_size: int | None = None,
    **selection: Any,
) -> Regions:
    """The regions of B clips, a row each.

    Args:
        source: a detector or a grid, or the `region_source` of a model.
        pixel_values_videos: (B, F, 3, height, width), as the video processor makes them.
        frame_seconds: (B, F) seconds of each frame.
        frame_mask: (B, F) bool, True = a real frame; by default all are.
        pixel_mask_videos: (B, F, height, width) bool, True on the frame where frames were padded to one size.
        batch_size: frames that the source looks at together; by default `images_at_once`.
        selection: arguments of a detector's `forward`, such as `max_regions`.

    Returns:
        `Regions` of F x R regions a clip, those of the first frame first, with `region_seconds`; `region_images` tells
        the frames of several apart.

    Raises:
        ValueError: for tensors of other shapes, a clip without a frame, and what the source raises.
    """
    shape = tuple(pixel_values_videos.shape)
    if len(shape) != 5 or shape[2] != 3 or 0 in shape:
        raise ValueError(
            f"pixel_values_videos have shape {shape}, not (clips, frames, 3, height, width): make them with the "
            "model's video processor"
        )
    mask = torch.ones(shape[:2], dtype=torch.bool) if frame_mask is None else frame_mask.bool().cpu()
    for name, given in (("frame_seconds", frame_seconds), ("frame_mask", mask)):
        if tuple(given.shape) != shape[:2]:
            raise ValueError(
                f"{name} has shape {tuple(given.shape)}, but there are {shape[0]} clips of {shape[1]} frames"
            )
    if not mask.any(dim=1).all():
        empty = (~mask.any(dim=1)).nonzero().flatten().tolist()
        raise ValueError(f"clips {empty} of the batch have no frame at all: frame_mask is False everywhere")
    pixels = pixel_values_videos[mask.to(pixel_values_videos.device)]  # (P, 3, H, W) of the real frames
    masks = None if pixel_mask_videos is None else pixel_mask_videos[mask.to(pixel_mask_videos.device)]
    batch_size, parts = batch_size or images_at_once(pixels.device), []
    for start in range(0, len(pixels), batch_size):
        several = slice(start, start + batch_size)
        padded = {} if masks is None else {"pixel_mask": masks[several]}
        parts.append(source(pixels[several], return_dict=True, **padded, **selection))
    frames = join_batches(parts)
    seconds = frame_seconds.to(frames.region_features.device, torch.float32)[mask.to(frames.region_features.device)]
    frames = replace(frames, region_seconds=seconds[:, None].expand(frames.region_features.shape[:2]))
    places = torch.full(shape[:2], -1)
    places[mask] = torch.arange(len(pixels))
    clips = frames.of_rows(places)
    return clips if shape[1] > 1 else replace(clips, region_images=None)  # a still image is a clip of one frame


def images_at_once(device: torch.device) -> int:
    """How many images a region source looks at together on a device.

    On a CPU the maps of more than a few are too large for its caches, and their memory is mapped anew by the system for
    every layer, which takes longer than a batch saves.

    >>> images_at_once(torch.device("cpu"))
    2
    """
    return CPU_IMAGES if device.type == "cpu" else GPU_IMAGES


def join_batches(parts: list[Any]) -> Regions:
    """Batches of regions of different counts as one, padded to the most regions; what is no field of `Regions` is left.

    >>> one, two = (torch.ones(1, count).bool() for count in (1, 2))
    >>> parts = [Regions(mask[..., None].float(), mask[..., None].expand(1, -1, 4), mask) for mask in (one, two)]
    >>> join_batches(parts).region_mask.tolist()
    [[True, False], [True, True]]
    """
    longest = max(part.region_features.shape[1] for part in parts)
    joined: dict[str, Any] = {}
    for name in (field.name for field in fields(Regions)):
        values = [part.get(name) for part in parts]
        if any(value is None for value in values):
            continue
        if isinstance(values[0], torch.Tensor):
            joined[name] = torch.cat([pad_regions_to(value, longest) for value in values])
        else:
            joined[name] = [list(row) + [""] * (longest - len(row)) for value in values for row in value]
    return Regions(**joined)
