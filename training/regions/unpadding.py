"""A padded batch of regions -> the images of a shard: real regions one after the other, checked before any is kept."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import torch

from training.regions.shards import CLIPS, STORED_DTYPES, TEXTS, ShardImages, starts_of_counts

BOX_TOLERANCE = 1e-3
LARGEST_SIDE = 2**24  # pixels
NOTHING_STORED = "; nothing of this batch was stored"


def unpadded(image_ids: Sequence[str], regions: Mapping[str, Any], *, feature_dtype: torch.dtype) -> ShardImages:
    """A padded batch -> its real regions one after the other, in the stored dtypes, on the CPU.

    Raises `ValueError` for fields that are not of the same images and regions.
    """
    given = {name: torch.as_tensor(regions[name]) for name in STORED_DTYPES if regions.get(name) is not None}
    for name in ("region_features", "region_boxes"):
        if name not in given:
            raise ValueError(f"the regions hold no {name}; they hold {', '.join(given) or 'nothing'}")
    shape = given["region_features"].shape[:2]
    mask = torch.as_tensor(regions["region_mask"]) if regions.get("region_mask") is not None else torch.ones(shape)
    mask = mask.bool().cpu()
    wrong = {name: tuple(t.shape) for name, t in {**given, "region_mask": mask}.items() if t.shape[:2] != shape}
    if wrong or shape[0] != len(image_ids):
        raise ValueError(
            f"{len(image_ids)} images came with region_features of shape {tuple(given['region_features'].shape)}"
            + (f" and {wrong}" if wrong else "")
            + "; expected (images, regions, width)"
        )
    dtypes = {**STORED_DTYPES, "region_features": feature_dtype}
    real = {name: value.detach().cpu()[mask] for name, value in given.items()}
    if "region_masks" in real:
        real["region_masks"] = _mask_levels(real["region_masks"])
    return ShardImages(
        image_ids=list(image_ids),
        starts=starts_of_counts(mask.sum(dim=1)),
        columns={name: value.to(dtypes[name]).contiguous() for name, value in real.items()},
        strings=_strings(regions, mask),
        image_sizes=_image_sizes(regions.get("image_size"), num_images=len(image_ids)),
        image_marks=_image_marks(regions.get("photo_mark"), num_images=len(image_ids)),
    )


def _mask_levels(masks: torch.Tensor) -> torch.Tensor:
    """Masks (N, M, M) in 0..1, or bool -> the nearest 255ths, (N, M x M) uint8."""
    if masks.dim() != 3 or masks.shape[1] != masks.shape[2] or not ((masks >= 0) & (masks <= 1)).all():
        raise ValueError(f"region_masks of shape {tuple(masks.shape[1:])} a region should be (M, M), and in 0..1")
    return (masks.float() * 255).round().to(torch.uint8).flatten(1)


def _strings(regions: Mapping[str, Any], mask: torch.Tensor) -> dict[str, pa.Array]:
    """The words of all real regions and the clip of each image, where they are given; mask (B, R)."""
    found, (num_images, num_regions) = {}, mask.shape
    texts, clips = regions.get(TEXTS), regions.get(CLIPS)
    if texts is not None:
        flat = [text for row in texts for text in row]
        if [len(row) for row in texts] != [num_regions] * num_images or not all(isinstance(one, str) for one in flat):
            raise ValueError(f"region_texts should be {num_images} lists of {num_regions} strings, one of each region")
        real = mask.flatten().tolist()
        found[TEXTS] = pa.array([text for text, is_real in zip(flat, real, strict=True) if is_real], pa.string())
    if clips is not None:
        if len(clips) != num_images:
            raise ValueError(f"clip_ids name the clip of {len(clips)} images, but there are {num_images}")
        found[CLIPS] = pa.array(
            [str(clip) for clip in (clips.tolist() if isinstance(clips, torch.Tensor) else clips)], pa.string()
        )
    return found


def _image_marks(given: Any, *, num_images: int) -> torch.Tensor:
    """(N,) int64, 0 where they are not known."""
    marks = torch.zeros(num_images, dtype=torch.int64) if given is None else torch.as_tensor(given).cpu()
    if marks.shape != (num_images,) or marks.dtype != torch.int64:
        raise ValueError(f"photo_mark should hold an int64 for each of {num_images} images, got {tuple(marks.shape)}")
    return marks


def _image_sizes(given: Any, *, num_images: int) -> torch.Tensor:
    """(N, 2) int32: height and width in pixels, 0 where they are not known."""
    if given is None:
        return torch.zeros(num_images, 2, dtype=torch.int32)
    sizes = torch.as_tensor(given).cpu()
    if sizes.shape != (num_images, 2) or (sizes < 0).any() or (sizes > LARGEST_SIDE).any():
        raise ValueError(
            f"image_size should hold a height and a width in pixels for each of {num_images} images, got "
            f"{sizes.tolist() if sizes.numel() < 9 else tuple(sizes.shape)}"
        )
    return sizes.to(torch.int32)


def check_numbers(images: ShardImages) -> None:
    """`ValueError` naming an image without regions, with numbers that are not finite, or boxes that are not xyxy."""
    counts = images.starts.diff()
    empty = (counts == 0).nonzero()
    if len(empty):
        raise ValueError(f"image {images.image_ids[int(empty[0])]!r} has no region; lower the detector's threshold")
    for name, column in images.columns.items():
        bad = ~torch.isfinite(column.reshape(len(column), -1)).all(dim=1)
        limit = " or beyond float16 (65504)" if column.dtype == torch.float16 else ""
        _refuse(bad, images, f"{name} that are NaN, infinite{limit}")
        if STORED_DTYPES[name] == torch.int32:
            _refuse(column < 0, images, f"{name} below 0, which is background or none")
    boxes = images.columns["region_boxes"]
    outside = (boxes < -BOX_TOLERANCE).any(dim=1) | (boxes > 1 + BOX_TOLERANCE).any(dim=1)
    _refuse(outside, images, "region_boxes outside 0..1 (divide them by the image's width and height)")
    _refuse((boxes[:, 2:] < boxes[:, :2]).any(dim=1), images, "region_boxes that are not xyxy (x2 < x1 or y2 < y1)")
    boxes.clamp_(0, 1)


def _refuse(bad: torch.Tensor, images: ShardImages, fault: str) -> None:
    """ValueError naming the image of the first bad region; `bad` (all regions,) bool."""
    if bad.any():
        region = bad.nonzero()[0, 0]
        image = int(torch.searchsorted(images.starts, region, right=True)) - 1
        raise ValueError(f"image {images.image_ids[image]!r} has {fault}{NOTHING_STORED}")
