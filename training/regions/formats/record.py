"""`ImageRecord`, one image between a file of another project and a region store, with its checks and conversions."""

from pathlib import Path
from typing import Any

import numpy as np

from training.regions.unpadding import BOX_TOLERANCE, LARGEST_SIDE

ImageRecord = dict[str, np.ndarray]
"""The columns of one image, named as in a region store: `region_features` (R, D), `region_boxes` (R, 4) xyxy 0..1,
optionally `region_scores`, `object_ids`, `attribute_ids`, `attribute_scores` (R,), `object_probs`, `attribute_probs`
(R, classes), and `image_size` (2,), height and width in pixels."""

LONGEST_ROW = 2**26  # bytes of one image in a file; 100 regions of width 2048 take 1.1 MB in base64
MOST_REGIONS = 10_000
LARGEST_ID = 2**31 - 2


def check_image(image: ImageRecord) -> None:
    """Raises `ValueError` for columns of different lengths and for numbers that are not finite."""
    odd = next((name for name, column in image.items() if column.dtype.kind not in "fiu" or column.itemsize > 8), None)
    if odd is not None:
        raise ValueError(f"its {odd} are of the type {image[odd].dtype}, not numbers")
    num_regions = len(image["region_features"])
    for name, column in image.items():
        if name == "image_size":
            continue
        if len(column) != num_regions:
            raise ValueError(f"it has {num_regions} feature vectors but {len(column)} {name}")
        if column.dtype.kind == "f" and not np.isfinite(column).all():
            region = int(np.flatnonzero(~np.isfinite(column.reshape(num_regions, -1)).all(axis=1))[0])
            raise ValueError(f"{name} of region {region} hold NaN or infinity")


def normalised_boxes(boxes: np.ndarray, size: tuple[int, int] | None) -> np.ndarray:
    """Boxes xyxy in pixels (R, 4) -> 0..1 of an image of `size` (height, width); boxes all in 0..1 are kept.

    Raises `ValueError` for boxes that reach outside the image or are not xyxy, and if the size is needed but None.
    """
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"its boxes have the shape {boxes.shape}, not (regions, 4)")
    if boxes.dtype.kind not in "fiu":
        raise ValueError(f"its boxes are of the type {boxes.dtype}, not numbers")
    with np.errstate(over="ignore"):  # what is too large becomes infinity, which is refused below
        boxes = boxes.astype(np.float32)
    if not np.isfinite(boxes).all():
        raise ValueError("its boxes hold NaN or infinity")
    in_pixels = boxes.size > 0 and boxes.max() > 1 + BOX_TOLERANCE
    if in_pixels and size is None:
        raise ValueError("its boxes are in pixels of an image whose size is not known: give --sizes SIZES.json")
    sides = np.array([size[1], size[0]] * 2 if in_pixels and size else [1.0] * 4, dtype=np.float32)
    scaled = boxes / sides
    outside = np.flatnonzero(((scaled < -BOX_TOLERANCE) | (scaled > 1 + BOX_TOLERANCE)).any(axis=1))
    if len(outside):
        image = f"an image of {sides[0]:.0f} x {sides[1]:.0f} pixels" if in_pixels else "0..1"
        raise ValueError(f"box {outside[0]} {_rounded(boxes[outside[0]])} reaches outside {image}")
    turned = np.flatnonzero((boxes[:, 2:] < boxes[:, :2]).any(axis=1))
    if len(turned):
        raise ValueError(f"box {turned[0]} {_rounded(boxes[turned[0]])} is not x1 y1 x2 y2: it ends before it begins")
    return scaled.clip(0, 1)


def size_of_boxes(in_pixels: np.ndarray, boxes: np.ndarray) -> tuple[int, int] | None:
    """(height, width) of an image from its boxes in pixels and in 0..1; None if these are all 0.

    Raises `ValueError` if the result is not a valid size.
    """
    right, lower = (int(boxes[:, side].argmax()) for side in (2, 3))
    if not boxes[right, 2] > 0 or not boxes[lower, 3] > 0:
        return None
    height, width = in_pixels[lower, 3] / boxes[lower, 3], in_pixels[right, 2] / boxes[right, 2]
    return checked_size(np.rint(height), np.rint(width))


def pixel_boxes(image: ImageRecord) -> np.ndarray:
    """An image's boxes in pixels, (R, 4) float32; raises `ValueError` if its size is not known."""
    height, width = image_size(image)
    return image["region_boxes"] * np.array([width, height] * 2, dtype=np.float32)


def image_size(image: ImageRecord) -> tuple[int, int]:
    """Height and width in pixels; raises `ValueError` if they are not known."""
    if "image_size" not in image:
        raise ValueError("the store does not have the image's size in pixels, which this format needs: give --sizes")
    height, width = image["image_size"].tolist()
    return height, width


def box_numbers(boxes: np.ndarray) -> np.ndarray:
    """Boxes 0..1 (R, 4) -> (R, 6): x1, y1, x2, y2, width, height, as several projects append them to the features."""
    return np.concatenate([boxes, boxes[:, 2:] - boxes[:, :2]], axis=1)


def with_classes(image: ImageRecord) -> ImageRecord:
    """The image with `object_ids` and `region_scores`, `attribute_ids` and `attribute_scores` from its probabilities,
    if it has them: the best class other than background, the best attribute other than "none"."""
    image = dict(image)
    for probs, ids, scores in (
        ("object_probs", "object_ids", "region_scores"),
        ("attribute_probs", "attribute_ids", "attribute_scores"),
    ):
        if probs in image and ids not in image:
            image[ids] = image[probs][:, 1:].argmax(axis=1).astype(np.int32) + 1
            image.setdefault(scores, image[probs][:, 1:].max(axis=1))
    return image


def checked_ids(ids: np.ndarray, *, name: str) -> np.ndarray:
    """Class ids as int32; raises `ValueError` if one is not a whole number in 0 .. 2^31 - 2."""
    if ids.dtype.kind not in "iuf" or (ids.dtype.kind == "f" and not (ids == np.trunc(ids)).all()):
        raise ValueError(f"its {name} are {ids.reshape(-1)[:3].tolist()!s:.40}, not whole numbers")
    if ids.size and (ids.min() < 0 or ids.max() > LARGEST_ID):
        raise ValueError(f"its {name} go from {ids.min()} to {ids.max()}, which are not class ids")
    return ids.astype(np.int32)


def checked_size(height: Any, width: Any) -> tuple[int, int]:
    """Height and width as whole numbers; raises `ValueError` if they cannot be those of an image."""
    try:
        sides = int(float(height)), int(float(width))
    except (TypeError, ValueError, OverflowError):
        sides = 0, 0
    if not all(0 < side <= LARGEST_SIDE for side in sides):
        raise ValueError(f"{width!s:.20} x {height!s:.20} pixels are not the size of an image")
    return sides


def checked_count(count: Any) -> int:
    """A number of regions as an int; raises `ValueError` if it is not in 1 .. `MOST_REGIONS`."""
    try:
        number = int(count)
        whole = isinstance(count, str | bytes) or number == count
    except (TypeError, ValueError, OverflowError):
        whole = False
    if not whole:
        raise ValueError(f"its number of boxes is {count!r:.40}, not a whole number")
    if not 1 <= number <= MOST_REGIONS:
        raise ValueError(f"it has {number} boxes; an image needs at least one, and at most {MOST_REGIONS}")
    return number


def file_name(image_id: str, suffix: str) -> str:
    """The name of an image's file; raises `ValueError` if its id cannot be a file name."""
    if not image_id or Path(image_id).name != image_id or image_id.startswith(".") or "\0" in image_id:
        raise ValueError(f"image {image_id!r} cannot be a file's name: write one of the formats that are a single file")
    return image_id + suffix


def _rounded(box: np.ndarray) -> str:
    return "(" + ", ".join(f"{side:.6g}" for side in box.tolist()) + ")"
