"""Regions of clips that come as strips of frames: every frame through the region source, with its second.

strip --frames_of_strip--> frames, seconds --strip_regions--> regions of all frames, `region_seconds`
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from PIL.Image import Image as PilImage
from torch.nn.utils.rnn import pad_sequence

from training.data.clips.strips import frames_of_strip

FRAMES_A_PASS = 64  # that go through the region source together
Frames = tuple[list[PilImage], list[float]]


def clips_of(images: Sequence[PilImage]) -> list[Frames] | None:
    """The frames and seconds of each image's clip, an image being one frame at 0 s; None where no image is a strip."""
    found = [frames_of_strip(image) for image in images]
    if not any(found):
        return None
    return [clip or ([image], [0.0]) for clip, image in zip(found, images, strict=True)]


def check_no_clips(images: Sequence[PilImage]) -> None:
    """Raises `ValueError` where images that a model is to take as pixels are strips of frames."""
    if clips_of(images) is not None:
        raise ValueError(
            "these images are clips, whose frames a model reads as regions with seconds: name a folder for them in "
            "regions.store"
        )


def regions_of_images(
    images: list[PilImage], regions_of: Callable[..., dict[str, Any]], *, boxes: Any = None
) -> dict[str, Any]:
    """The regions of images, or of the clips whose strips they are, as columns of a store, with their `image_size`.

    regions_of: as `RegionExtractor.regions`. boxes: those given of each image. Raises `ValueError` for boxes of clips.
    """
    clips = clips_of(images)
    if clips is None:
        regions, shown = regions_of(images, boxes=boxes), images
    elif boxes is not None:
        raise ValueError("boxes are given of images, and one of these is a clip: extract it without --boxes")
    else:
        regions = join_clips([strip_regions(frames, seconds, regions_of) for frames, seconds in clips])
        shown = [frames[0] for frames, _ in clips]
    regions["image_size"] = torch.tensor([[image.height, image.width] for image in shown])
    return regions


def strip_regions(
    frames: Sequence[PilImage], seconds: Sequence[float], regions_of: Callable[[list[PilImage]], Mapping[str, Any]]
) -> dict[str, Any]:
    """The regions of one clip, those of all its frames in order, as columns of a store for one image.

    Frames with the same pixels, such as those of a camera at rest, go through the region source once.

    regions_of: makes the regions of images (P, R, ...), such as `RegionExtractor.regions`. Padding is left out. Adds
    `region_seconds` (1, R): when each region's frame is.
    """
    parts = []
    for start in range(0, len(frames), FRAMES_A_PASS):
        some, places = different_frames(frames[start : start + FRAMES_A_PASS])
        found = {name: value for name, value in regions_of(some).items() if name != "clip_ids"}  # the row's own id is
        made = {name: at_places(value, places) for name, value in found.items()}
        mask = made["region_mask"].bool()  # (P, R)
        times = torch.tensor(seconds[start : start + len(places)], dtype=torch.float32, device=mask.device)
        made["region_seconds"] = times[:, None].expand(mask.shape)
        parts.append({name: real_entries(value, mask) for name, value in made.items()})
    return {name: _one_clip([part[name] for part in parts]) for name in parts[0]}


def different_frames(frames: Sequence[PilImage]) -> tuple[list[PilImage], list[int]]:
    """Frames without those whose pixels are another's, and where among them each of all is.

    >>> from PIL import Image
    >>> red, blue = (Image.new("RGB", (2, 2), colour) for colour in ("red", "blue"))
    >>> different_frames([red, blue, red.copy()]) == ([red, blue], [0, 1, 0])
    True
    """
    kept: list[PilImage] = []
    place_of: dict[tuple[tuple[int, int], bytes], int] = {}
    places = []
    for frame in frames:
        pixels = frame.size, frame.tobytes()
        if pixels not in place_of:
            place_of[pixels] = len(kept)
            kept.append(frame)
        places.append(place_of[pixels])
    return kept, places


def at_places(values: Any, places: list[int]) -> Any:
    """The entries of a tensor (P, ...) or of a list at `places`."""
    return values[places] if isinstance(values, torch.Tensor) else [values[place] for place in places]


def real_entries(values: Any, mask: torch.Tensor) -> Any:
    """Those of values (P, R, ...), or of P lists of R strings, that are real by mask (P, R), one after the other."""
    if isinstance(values, torch.Tensor):
        return values[mask]
    rows = zip(values, mask.tolist(), strict=True)
    return [text for texts, real in rows for text, kept in zip(texts, real, strict=True) if kept]


def join_clips(clips: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The regions of several clips (1, R_i, ...) as one batch, padded with zeros ("" for words)."""
    most = max(clip["region_mask"].shape[1] for clip in clips)
    joined: dict[str, Any] = {}
    for name in clips[0]:
        values = [clip[name] for clip in clips]
        if isinstance(values[0], torch.Tensor):
            joined[name] = pad_sequence([value[0] for value in values], batch_first=True)
        else:
            joined[name] = [[*value[0], *[""] * (most - len(value[0]))] for value in values]
    return joined


def _one_clip(parts: list[Any]) -> Any:
    if isinstance(parts[0], torch.Tensor):
        return torch.cat(parts)[None]
    return [[text for part in parts for text in part]]
