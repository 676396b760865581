"""The row of a detection data set, and what its readers share: which images, how large, which boxes.

    Image records --keep_images--> images of a split that exist
    pixel boxes --clip_boxes--> xyxy 0..1 --detection_row--> rows --detection_dataset--> datasets.Dataset

training/data/boxes/formats.py lists the readers.
"""

import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, BinaryIO

import datasets
import numpy as np
import pyarrow as pa
from PIL import Image

from training.data.files import PathLike, image_paths
from training.data.polygons import POLYGONS, Polygons
from training.data.splits import split_name, wanted_splits

BOX = datasets.List(datasets.Value("float32"), length=4)
DETECTION_FEATURES = datasets.Features(
    {
        "image_id": datasets.Value("string"),
        "image": datasets.Image(),
        "width": datasets.Value("int32"),
        "height": datasets.Value("int32"),
        "split": datasets.Value("string"),
        "boxes": datasets.List(BOX),
        "object_ids": datasets.List(datasets.Value("int32")),
        "other_object_ids": datasets.List(datasets.List(datasets.Value("int32"))),
        "attribute_ids": datasets.List(datasets.List(datasets.Value("int32"))),
        "crowd": datasets.List(datasets.Value("bool")),
        "polygons": POLYGONS,
        "relations": datasets.List(
            {
                "subject": datasets.Value("int32"),
                "object": datasets.Value("int32"),
                "predicate": datasets.Value("string"),
            }
        ),
        "regions": datasets.List({"phrase": datasets.Value("string"), "box": BOX}),
    }
)
UNUSABLE_BOXES = "boxes that are empty, not finite or outside their image"
SMALLEST_SIDE = 1e-6  # of a box, as a part of the image's: below, float32 differences of corners are rounding
LARGEST_SIDE = 2**31 - 1  # pixels, what an int32 column holds
SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that swap width and height
ROWS_A_CHUNK = 1000
SIZES_LOOKED_AT = 20
SQUARE = 1.05  # up to this ratio of the sides, nobody can tell which is which
BOX_SLACK = 1.05  # of the image's side, how far a box may reach without a word
SIDE_ROUNDING = 1e-3  # by which a box given as parts of its image's sides may end beyond 1
SHORTEST_SIDE = 8  # pixels: in an image as small a box of one pixel is an object
SWAPPED_SHARE = 0.1  # of the images with boxes


@dataclass(frozen=True)
class DetectionData:
    """What a detection reader returns: the rows, and the names behind their ids.

    Attributes:
        rows: one image a row, the columns of `DETECTION_FEATURES`: `width` and `height` in pixels; `boxes` xyxy 0..1;
            `object_ids` 1..C and `attribute_ids` 1..A (none for an object without known attributes) as in `id2label`
            and `attribute_id2label`; `other_object_ids`, of each box the further names that are right; `crowd` as
            COCO's `iscrowd`: neither trained on nor counted as a miss; `polygons`, of each box those of its object as
            `training/data/polygons.py` has them, none where its mask is not known; `relations` with positions in
            `boxes`; `regions` with a phrase and a box.
        object_names: C names without the background.
        attribute_names: A names without "no attribute"; empty where the data set has none.
        covered: of an object id, the ids of finer names (of person: man, skier): an object said to be one of these is
            one of it, too (`training/data/boxes/names.py`).
    """

    rows: datasets.Dataset
    object_names: list[str]
    attribute_names: list[str]
    covered: dict[int, list[int]] = field(default_factory=dict)

    @property
    def id2label(self) -> dict[int, str]:
        """Names of the object ids, 0 the background, as a detector's config keeps them."""
        return dict(enumerate(["background", *self.object_names]))

    @property
    def attribute_id2label(self) -> dict[int, str]:
        """Names of the attribute ids, 0 for none, as a detector's config keeps them."""
        return dict(enumerate(["no attribute", *self.attribute_names]))


@dataclass(frozen=True)
class ImageListing:
    """An image a file lists: its id, its name relative to a folder (None where no images are given) and its split.

    `path` is known once `keep_images` found it.
    """

    image_id: str
    name: str
    folder: PathLike | None
    split: str
    path: str | None = None


@dataclass(frozen=True)
class MarkedBox:
    """A box xyxy 0..1 (4,) with its object's id, further right ones, its attributes, whether it is a crowd's, and the
    polygons of its object's mask, if known.
    """

    box: np.ndarray
    object_id: int
    attribute_ids: tuple[int, ...] = ()
    other_object_ids: tuple[int, ...] = ()
    crowd: bool = False
    polygons: Polygons = ()


class LeftOut:
    """Counts what a reader leaves out, by reason and with the first case, to tell all of it in one warning."""

    def __init__(self, source: PathLike) -> None:
        self.source = source
        self.counts: Counter[str] = Counter()
        self.first: dict[str, str] = {}

    def add(self, reason: str, example: str, *, count: int = 1) -> None:
        """Counts `count` more of `reason` ("boxes that are empty"); the first `example` is kept."""
        self.counts[reason] += count
        self.first.setdefault(reason, example)

    def warn(self) -> None:
        """Tells the counts, where there are any."""
        if self.counts:
            told = "; ".join(f"{count} {reason} (first: {self.first[reason]})" for reason, count in self.counts.items())
            warnings.warn(f"{self.source}: left out {told}", stacklevel=4)


def keep_images(images: Sequence[ImageListing], *, split: str | None, source: PathLike) -> list[ImageListing]:
    """The images of the split that lie in their folder, with their paths; no image is opened.

    Args:
        images: `split` is one of `SPLITS` or a word other projects use for it.
        split: `"train"` or `"train+restval"` keeps these, None keeps all.
        source: the file named in errors.

    Raises:
        ValueError: for an id listed twice, a name that is no text, an unknown split, a split without an image, and what
            `image_paths` raises (it warns of images that are missing).
    """
    if not images:
        raise ValueError(f"{source} lists no image; is it cut short?")
    twice, times = Counter(image.image_id for image in images).most_common(1)[0]
    if times > 1:
        raise ValueError(f"{source}: the image {twice!r} is listed twice")
    strange = next((image.name for image in images if not isinstance(image.name, str)), None)
    if strange is not None:
        raise ValueError(f"{source}: the image name {strange!r} is not text")
    named = [split_name(image.split, source) for image in images]
    wanted = wanted_splits(split, present=set(named), source=source) if split is not None else set(named)
    kept = [(image, name) for image, name in zip(images, named, strict=True) if name in wanted]
    paths: dict[str, str | None] = {}
    for folder in dict.fromkeys(image.folder for image, _ in kept):
        own = [image for image, _ in kept if image.folder == folder]
        found = [None] * len(own) if folder is None else image_paths([image.name for image in own], folder)
        paths.update(zip((image.image_id for image in own), found, strict=True))
    return [
        ImageListing(image.image_id, image.name, image.folder, name, paths[image.image_id])
        for image, name in kept
        if image.folder is None or paths[image.image_id] is not None
    ]


def image_size(image: ImageListing, *, width: Any, height: Any, source: PathLike) -> tuple[int, int]:
    """Width and height in pixels as an annotation file gives them, else as the header of the image's file does.

    Raises:
        ValueError: for sizes that are no pixel counts, and where neither file nor image tells.
    """
    if width is None or height is None:
        if image.path is None:
            raise ValueError(
                f"{source}: the image {image.image_id!r} has no width and height; write them into the file, or give "
                "the image folder with images="
            )
        return size_in_file(image.path)
    sides = (width, height)
    if not all(isinstance(side, int | float) and 1 <= side <= LARGEST_SIDE and side % 1 == 0 for side in sides):
        raise ValueError(
            f"{source}: the image {image.image_id!r} has width {width!r} and height {height!r}, which are no pixel "
            "counts; correct them, or leave them out to have them read from the image"
        )
    return int(width), int(height)


def check_sizes(sizes: Mapping[ImageListing, tuple[int, int]], *, source: PathLike) -> None:
    """Compares the sizes (width, height) that a file gives with the headers of a few of its images.

    Images may be larger or smaller than the file says, as copies are; but where one is upright and the file says it is
    not, its boxes are those of another image. Raises ValueError where most are so, and warns of fewer.
    """
    oblong = [
        image for image, (width, height) in sizes.items() if image.path is not None and not _square(width, height)
    ]
    turned: list[str] = []
    looked_at = 0
    for image in oblong[:: max(len(oblong) // SIZES_LOOKED_AT, 1)]:
        try:
            own = size_in_file(image.path or "")
        except ValueError:  # is met where the image is opened
            continue
        looked_at += 1
        width, height = sizes[image]
        if not _square(*own) and (own[0] > own[1]) != (width > height):
            turned.append(f"{image.path} is {own[0]} x {own[1]} pixels, but the file says {width} x {height}")
    if not turned:
        return
    told = (
        f"{source}: {len(turned)} of {looked_at} images looked at are not as the file says (first: {turned[0]}); are "
        "width and height swapped, or the images turned?"
    )
    if 2 * len(turned) > looked_at:
        raise ValueError(told)
    warnings.warn(told, stacklevel=4)


def check_reach(boxes: np.ndarray, *, sizes: np.ndarray, owners: Sequence[str], source: PathLike) -> None:
    """Tells of boxes that reach beyond their image, where they would not if its width and height were swapped.

    Boxes of which none reaches beyond the first pixel are parts of their images' sides instead.

    Args:
        boxes: (N, 4) x, y, width, height in pixels.
        sizes: (N, 2) width and height of their images.
        owners: (N,) the images' ids.

    Raises:
        ValueError: where that is so for a tenth of the images with boxes; fewer are warned of. Where all boxes lie in
            0..1.
    """
    finite = boxes[np.isfinite(boxes).all(axis=1)]
    if finite.any() and np.abs(finite).max() <= 1 + SIDE_ROUNDING and sizes.min() >= SHORTEST_SIDE:
        raise ValueError(
            f"{source}: all {len(finite)} boxes lie in 0..1, so they are parts of the images' sides; write them as x, "
            "y, width, height in pixels (times the image's width and height)"
        )
    with np.errstate(invalid="ignore", over="ignore"):
        ends = boxes[:, :2] + boxes[:, 2:]
        beyond = (ends > sizes * BOX_SLACK).any(axis=1)
        fits_swapped = (ends <= sizes[:, ::-1] * BOX_SLACK).all(axis=1)
    wrong = {owner for owner, out in zip(owners, beyond, strict=True) if out}
    wrong -= {owner for owner, fits in zip(owners, fits_swapped, strict=True) if not fits}
    if not wrong:
        return
    row = next(row for row in np.flatnonzero(beyond).tolist() if owners[row] in wrong)
    told = (
        f"{source}: the boxes of {len(wrong)} images reach beyond them and would not if width and height were swapped "
        f"(first: image {owners[row]} of {sizes[row, 0]:g} x {sizes[row, 1]:g} pixels with a box to "
        f"{ends[row, 0]:g}, {ends[row, 1]:g}); correct the sizes in the file"
    )
    if SWAPPED_SHARE * len(set(owners)) <= len(wrong):
        raise ValueError(told)
    warnings.warn(told, stacklevel=4)


def pixel_boxes(boxes: Sequence[Any], *, source: PathLike, place: str) -> np.ndarray:
    """N lists of four numbers -> (N, 4) float64; ValueError naming the first that is none: record i of `place`."""
    array = _as_numbers(boxes)
    if len(boxes) and array.shape != (len(boxes), 4):
        strange = next(i for i, box in enumerate(boxes) if _as_numbers(box).shape != (4,))
        raise ValueError(f"{source}: the box of record {strange} of {place} is not four numbers: {boxes[strange]!r}")
    return array.reshape(-1, 4)


def clip_boxes(boxes: np.ndarray, *, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Boxes x, y, width, height in pixels -> xyxy 0..1 clipped to the image, and which of them are usable.

    Args:
        boxes: (N, 4) float64.
        sizes: (2,) width and height of their image in pixels, or (N, 2).

    Returns:
        (N, 4) float32, and (N,) bool: False where the box holds NaN or infinity, or less than `SMALLEST_SIDE` of it is
        in the image.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)  # (N, 4)
        clipped = (corners / np.concatenate([sizes, sizes], axis=-1)).clip(0, 1).astype(np.float32)
    usable = np.isfinite(corners).all(axis=1) & (clipped[:, 2:] - clipped[:, :2] > SMALLEST_SIDE).all(axis=1)
    return clipped, usable


def detection_row(
    image: ImageListing,
    *,
    size: tuple[int, int],
    boxes: np.ndarray,
    object_ids: Sequence[int],
    attribute_ids: Sequence[Sequence[int]],
    other_object_ids: Sequence[Sequence[int]] | None = None,
    crowd: Sequence[bool] | None = None,
    polygons: Sequence[Polygons] | None = None,
    relations: Iterable[tuple[int, int, str]] = (),
    regions: Iterable[tuple[str, np.ndarray]] = (),
    image_bytes: bytes | None = None,
) -> dict[str, Any]:
    """A row of `DETECTION_FEATURES`.

    Args:
        size: width and height, pixels.
        boxes: (N, 4) xyxy 0..1; `object_ids`, `attribute_ids`, `other_object_ids` (None: none) and `crowd` (None: no
            crowd) are as long, and so are `polygons` (None: no masks).
        relations: (subject, object, predicate), the first two positions in `boxes`.
        regions: (phrase, box (4,) xyxy 0..1).
        image_bytes: the image itself, where it lies in no file.
    """
    others = [[] for _ in object_ids] if other_object_ids is None else other_object_ids
    crowds = [False] * len(boxes) if crowd is None else crowd
    masks = [[] for _ in object_ids] if polygons is None else polygons
    if not len(boxes) == len(object_ids) == len(attribute_ids) == len(others) == len(crowds) == len(masks):
        raise ValueError(
            f"the image {image.image_id!r} has unequal numbers of boxes, objects, attributes, crowds and masks"
        )
    empty = image.path is None and image_bytes is None
    return {
        "image_id": image.image_id,
        "image": None if empty else {"bytes": image_bytes, "path": image.path},
        "width": size[0],
        "height": size[1],
        "split": image.split,
        "boxes": boxes.tolist(),
        "object_ids": object_ids,
        "other_object_ids": others,
        "attribute_ids": attribute_ids,
        "crowd": crowds,
        "polygons": masks,
        "relations": [{"subject": s, "object": o, "predicate": predicate} for s, o, predicate in relations],
        "regions": [{"phrase": phrase, "box": box.tolist()} for phrase, box in regions],
    }


def marked_row(
    image: ImageListing,
    *,
    size: tuple[int, int],
    boxes: Sequence[MarkedBox],
    regions: Iterable[tuple[str, np.ndarray]] = (),
) -> dict[str, Any]:
    """`detection_row` of boxes that hold their own marks."""
    return detection_row(
        image,
        size=size,
        boxes=np.asarray([marked.box for marked in boxes], dtype=np.float32).reshape(-1, 4),
        object_ids=[marked.object_id for marked in boxes],
        attribute_ids=[list(marked.attribute_ids) for marked in boxes],
        other_object_ids=[list(marked.other_object_ids) for marked in boxes],
        crowd=[marked.crowd for marked in boxes],
        polygons=[marked.polygons for marked in boxes],
        regions=regions,
    )


def detection_dataset(rows: Iterable[dict[str, Any]]) -> datasets.Dataset:
    """Rows of `DETECTION_FEATURES` -> a data set, as `dataset_of` makes it."""
    return dataset_of(rows, DETECTION_FEATURES)


def dataset_of(rows: Iterable[dict[str, Any]], features: datasets.Features) -> datasets.Dataset:
    """Rows -> a data set in Arrow memory; `rows` may be a generator, of which a chunk at a time is in Python memory."""
    rows = iter(rows)
    schema = features.arrow_schema
    chunks = [
        pa.Table.from_pylist(chunk, schema=schema) for chunk in iter(lambda: list(islice(rows, ROWS_A_CHUNK)), [])
    ]
    table = pa.concat_tables(chunks) if chunks else schema.empty_table()
    return datasets.Dataset(table, info=datasets.DatasetInfo(features=features))


def size_in_file(path: str | BinaryIO) -> tuple[int, int]:
    """Width and height of the image as it is decoded: `datasets` turns it as its EXIF orientation says.

    Only the header is read. Raises `ValueError` where it cannot be.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
            turned = image.getexif().get(0x0112) in SIDEWAYS
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"cannot read the width and height of the image {path}: {error}") from error
    return (height, width) if turned else (width, height)


def _square(width: int, height: int) -> bool:
    return max(width, height) <= SQUARE * min(width, height)


def _as_numbers(values: Any) -> np.ndarray:
    """An array of floats (None becomes NaN), or an empty one of shape (0, 0, 0) where the values are none."""
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        return np.empty((0, 0, 0))
