"""Compares two stores or files of regions image by image and box by box (`updown check-regions A B`), and verifies
that a store is as it was written (`updown check-regions STORE --verify`).

    A, B --match_boxes--> pairs of regions --image_difference--> ImageDifference --RegionsComparison--> verdict
    store --verify_store--> StoreCheck

For checking extracted features, a ported detector or a converted file: it reports how far boxes, features and classes
differ, and the images that differ most. The order of an image's regions does not matter; boxes are matched by IoU.
"""

import contextlib
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm

from modeling_updown.boxes_updown import pairwise_iou
from training.data.files import PathLike
from training.regions.formats import STORE, guess_format, open_region_file
from training.regions.formats.base import Entry, RegionFile
from training.regions.formats.record import ImageRecord
from training.regions.formats.sidecar import Sidecar
from training.regions.image_marks import UNKNOWN
from training.regions.store import RegionStore, verified_shards

MATCHING_IOU = 0.5
SAME_BOX = 1e-4  # of the image's sides; boxes this close match even if they are empty, when IoU is 0
FIRST_NAMED, MOST_LISTED = 5, 100
ID_COLUMNS = ("object_ids", "attribute_ids")
SCORE_COLUMNS = ("region_scores", "attribute_scores")


@dataclass(frozen=True)
class ImageDifference:
    """The difference of one image's regions in A and B; differences are the largest over the matched regions.

    num_regions: in A and in B; num_matched: pairs with an IoU of at least `MATCHING_IOU`.
    box_difference: of a coordinate, 0..1 of the image's side; box_pixels: in pixels, None if the size is unknown.
    cosine: the lowest of the matched feature vectors; feature_difference: of two numbers of a feature.
    feature_error: that difference over the larger of the two numbers and 1; rounding to float16 gives at most 5e-4.
    score_difference: of the scores that both sides have; num_other_classes: matched regions of another object or
        attribute, where both sides have ids.
    """

    image_id: str
    num_regions: tuple[int, int]
    num_matched: int
    box_difference: float
    box_pixels: float | None
    cosine: float
    feature_difference: float
    feature_error: float
    score_difference: float
    num_other_classes: int

    def same(self, *, tolerance: float, box_tolerance: float) -> bool:
        """Whether every region is matched within the tolerances."""
        return (
            self.num_regions == (self.num_matched, self.num_matched)
            and self.box_difference <= box_tolerance
            and self.feature_error <= tolerance
            and self.score_difference <= tolerance
            and not self.num_other_classes
        )

    def line(self) -> str:
        """The difference as a line of text."""
        pixels = "" if self.box_pixels is None else f" ({self.box_pixels:.2f} pixels)"
        classes = f", {self.num_other_classes} of another class" if self.num_other_classes else ""
        return (
            f"{self.image_id}: {self.num_regions[0]} and {self.num_regions[1]} regions, {self.num_matched} matched, "
            f"boxes {self.box_difference:.2g}{pixels}, cosine {self.cosine:.6f}, features {self.feature_difference:.2g}"
            + classes
        )


@dataclass(frozen=True)
class RegionsComparison:
    """The result of comparing A and B; `images` holds the images that both have, the worst first.

    broken: a line for each row that could not be read.
    """

    tolerance: float
    box_tolerance: float
    num_images: tuple[int, int]
    only_in_a: list[str]
    only_in_b: list[str]
    broken: list[str]
    images: list[ImageDifference]

    @property
    def differing(self) -> list[ImageDifference]:
        """The images that differ by more than the tolerances."""
        return [
            image for image in self.images if not image.same(tolerance=self.tolerance, box_tolerance=self.box_tolerance)
        ]

    @property
    def same(self) -> bool:
        """Whether A and B hold the same images and, within the tolerances, the same regions."""
        return bool(self.images) and not (self.only_in_a or self.only_in_b or self.broken or self.differing)

    def summary(self) -> dict[str, Any]:
        """The figures over all images, as JSON values."""
        matched = [image for image in self.images if image.num_matched]
        pixels = [image.box_pixels for image in matched if image.box_pixels is not None]
        return {
            "same": self.same,
            "tolerance": self.tolerance,
            "box_tolerance": self.box_tolerance,
            "num_photos": list(self.num_images),
            "num_photos_in_both": len(self.images),
            "num_differing": len(self.differing),
            "only_in_a": self.only_in_a,
            "only_in_b": self.only_in_b,
            "broken": self.broken,
            "num_regions": [sum(image.num_regions[side] for image in self.images) for side in (0, 1)],
            "num_matched": sum(image.num_matched for image in self.images),
            "largest_box_difference": max((image.box_difference for image in matched), default=0.0),
            "largest_box_pixels": max(pixels, default=None),
            "lowest_cosine": min((image.cosine for image in matched), default=None),
            "median_cosine": float(np.median([image.cosine for image in matched])) if matched else None,
            "largest_feature_difference": max((image.feature_difference for image in matched), default=0.0),
            "largest_feature_error": max((image.feature_error for image in matched), default=0.0),
            "largest_score_difference": max((image.score_difference for image in matched), default=0.0),
            "num_other_classes": sum(image.num_other_classes for image in matched),
        }

    def as_json(self, *, worst: int) -> dict[str, Any]:
        """The summary and the worst images."""
        return {**self.summary(), "worst": [asdict(image) for image in self.images[:worst]]}

    def lines(self, *, worst: int) -> list[str]:
        """The summary, the worst images, and the verdict, as lines of text."""
        found = self.summary()
        lines = [
            f"images: {self.num_images[0]:,} in A, {self.num_images[1]:,} in B, {len(self.images):,} in both",
            *(f"only in {side}: {named(ids)}" for side, ids in (("A", self.only_in_a), ("B", self.only_in_b)) if ids),
            *(f"cannot be read: {line}" for line in self.broken[:MOST_LISTED]),
            f"regions: {found['num_regions'][0]:,} in A, {found['num_regions'][1]:,} in B, "
            f"{found['num_matched']:,} matched by an IoU of at least {MATCHING_IOU}",
        ]
        if found["num_matched"]:
            pixels = found["largest_box_pixels"]
            in_pixels = "" if pixels is None else f", {pixels:.2f} pixels"
            lines += [
                f"boxes: at most {found['largest_box_difference']:.2g} of the image apart{in_pixels}",
                f"features: cosine at least {found['lowest_cosine']:.6f}, in the median image "
                f"{found['median_cosine']:.6f}; at most {found['largest_feature_difference']:.2g} apart, "
                f"relative {found['largest_feature_error']:.2g}",
                f"scores: at most {found['largest_score_difference']:.2g} apart; "
                f"{found['num_other_classes']:,} matched regions of another class",
            ]
        if worst and self.differing:
            lines += ["worst images:", *(f"  {image.line()}" for image in self.differing[:worst])]
        return [*lines, self.verdict()]

    def verdict(self) -> str:
        """One line: "the same", or what differs."""
        within = f"within {self.tolerance:g} (boxes {self.box_tolerance:g})"
        if self.same:
            return f"the same: all {len(self.images):,} images agree {within}"
        if not self.images and not self.broken:
            return "different: A and B have no image in common; do they spell their ids the same way?"
        faults = [
            f"{len(self.differing):,} of {len(self.images):,} images do not agree {within}" if self.differing else "",
            f"{len(self.only_in_a) + len(self.only_in_b):,} images are on one side only"
            if self.only_in_a or self.only_in_b
            else "",
            f"{len(self.broken):,} rows cannot be read" if self.broken else "",
        ]
        return "different: " + "; ".join(fault for fault in faults if fault)


@dataclass(frozen=True)
class StoreCheck:
    """The result of reading every byte of a store; `faults` has a line for each damaged shard.

    num_marked: images with a mark of their content. has_checksums: whether damage to any byte is detected.
    """

    folder: str
    num_images: int
    num_marked: int
    has_checksums: bool
    faults: list[str]

    @property
    def sound(self) -> bool:
        """Whether the store is undamaged."""
        return not self.faults

    def lines(self) -> list[str]:
        """The result as lines of text."""
        checked = (
            "every byte is what was written"
            if self.has_checksums
            else "its numbers are in their ranges; it was written without checksums, so other damage is not detected"
        )
        unknown = self.num_images - self.num_marked
        marks = (
            f"{unknown:,} of {self.num_images:,} images have an id but no mark of their content (converted from files, "
            "or written by an earlier version): images replaced under the same names are not noticed"
        )
        return [
            *self.faults,
            *([marks] if unknown and not self.faults else []),
            f"{self.folder}: {len(self.faults):,} damaged shards"
            if self.faults
            else f"{self.folder}: {self.num_images:,} images, {checked}",
        ]


def verify_store(folder: PathLike) -> StoreCheck:
    """Read every byte of a region store.

    Raises:
        ValueError: for a folder that is not a store, and for one whose shards do not belong together.
    """
    num_images, num_marked, checksums, faults = 0, 0, [], []
    with tqdm(desc=f"verifying {folder}", unit="B", unit_scale=True) as bar:
        for entry, images, fault in verified_shards(folder):
            num_images += entry["photos"]
            num_marked += 0 if images is None else int((images.image_marks != UNKNOWN).sum())
            checksums.append("crc32" in entry)
            faults += [fault] if fault else []
            bar.update(entry["bytes"])
    if not faults:
        RegionStore(folder)
    return StoreCheck(
        folder=str(folder),
        num_images=num_images,
        num_marked=num_marked,
        has_checksums=all(checksums),
        faults=faults,
    )


def compare_regions(
    a: PathLike,
    b: PathLike,
    *,
    tolerance: float = 1e-3,
    box_tolerance: float = 1e-3,
    sidecar: Sidecar | None = None,
) -> RegionsComparison:
    """Compare the images of two region stores, or of files of any format that can be converted.

    Args:
        tolerance: of features, relative to the larger of a number and 1, and of scores.
        box_tolerance: of the sides of boxes, 0..1 of the image's.
        sidecar: sizes of images and boxes that the files do not hold; sizes in one side are used for the other too.

    Raises:
        ValueError: for a path that is neither a store nor of a known format, and for features of different widths.
    """
    sidecar = sidecar or Sidecar()
    paths = [Path(a), Path(b)]
    known = {image_id: size for path in paths for image_id, size in stored_sizes(path).items()}
    sidecar = replace(sidecar, sizes={**known, **sidecar.sizes})
    broken: list[str] = []
    images = []
    with contextlib.ExitStack() as opened:
        files = {path: opened.enter_context(open_region_file(path, sidecar=sidecar)) for path in dict.fromkeys(paths)}
        entries = [entries_by_id(files[path], broken) for path in paths]
        for image_id in tqdm([one for one in entries[0] if one in entries[1]], desc="comparing", unit="image"):
            pair = [read(files[path], side[image_id], broken) for path, side in zip(paths, entries, strict=True)]
            if pair[0] is not None and pair[1] is not None:
                images.append(image_difference(image_id, pair[0], pair[1]))
    images.sort(key=lambda image: severity(image, tolerance, box_tolerance), reverse=True)
    return RegionsComparison(
        tolerance=tolerance,
        box_tolerance=box_tolerance,
        num_images=(len(entries[0]), len(entries[1])),
        only_in_a=[one for one in entries[0] if one not in entries[1]],
        only_in_b=[one for one in entries[1] if one not in entries[0]],
        broken=broken,
        images=images,
    )


def stored_sizes(path: Path) -> dict[str, tuple[int, int]]:
    """The sizes of images in a region store; {} for anything else."""
    if guess_format(path) != STORE:
        return {}
    store = RegionStore(path)
    sizes = zip(store.image_ids, store.image_sizes.tolist(), strict=True)
    return {image_id: (height, width) for image_id, (height, width) in sizes if height and width}


def entries_by_id(file: RegionFile, broken: list[str]) -> dict[str, Entry]:
    """The images of a file by id; rows without an id and repeated ids are added to `broken`."""
    entries: dict[str, Entry] = {}
    for entry in file.entries():
        if entry.fault is not None:
            broken.append(f"{entry.place}: {entry.fault}")
        elif entry.image_id in entries:
            first = entries[entry.image_id].place
            broken.append(f"{entry.place}: image {entry.image_id!r} occurred before, at {first}")
        else:
            entries[entry.image_id] = entry
    return entries


def read(file: RegionFile, entry: Entry, broken: list[str]) -> ImageRecord | None:
    """An image; None if it cannot be read, with the error added to `broken`."""
    try:
        return file.image(entry)
    except ValueError as error:
        broken.append(f"{entry.place}: {error}")
        return None


def image_difference(image_id: str, a: ImageRecord, b: ImageRecord) -> ImageDifference:
    """The difference of one image in A and B; raises `ValueError` for features of different widths."""
    features = [image["region_features"].astype(np.float32) for image in (a, b)]
    if features[0].shape[1] != features[1].shape[1]:
        raise ValueError(
            f"image {image_id!r} has features of width {features[0].shape[1]} in A and {features[1].shape[1]} in B: "
            "these are features of two detectors, or one side has box coordinates appended to them"
        )
    cosines = cosine_matrix(*features)
    rows, columns = match_boxes(a["region_boxes"], b["region_boxes"], cosines=cosines)
    pair = [features[0][rows], features[1][columns]]
    boxes_apart = np.abs(a["region_boxes"][rows] - b["region_boxes"][columns])
    apart = np.abs(pair[0] - pair[1])
    size = a.get("image_size", b.get("image_size"))
    return ImageDifference(
        image_id=image_id,
        num_regions=(len(features[0]), len(features[1])),
        num_matched=len(rows),
        box_difference=largest(boxes_apart),
        box_pixels=None if size is None else largest(boxes_apart * np.tile(size[::-1], 2)),
        cosine=float(cosines[rows, columns].min(initial=1.0)),
        feature_difference=largest(apart),
        feature_error=largest(apart / np.maximum(1, np.maximum(*np.abs(pair)))),
        score_difference=max(
            [largest(np.abs(a[name][rows] - b[name][columns])) for name in SCORE_COLUMNS if name in a and name in b],
            default=0.0,
        ),
        num_other_classes=int(other_classes(a, b, rows, columns).sum()),
    )


def match_boxes(boxes: np.ndarray, others: np.ndarray, *, cosines: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Match boxes (R, 4) and (S, 4) greedily, the closest first; each box is in at most one pair.

    Closeness is the IoU, which must reach `MATCHING_IOU`; among equally close boxes, such as a box detected twice, the
    more similar features, by `cosines` (R, S), are matched.

    Returns:
        (M,) rows of `boxes` and (M,) rows of `others`.
    """
    closeness = pairwise_iou(torch.from_numpy(boxes), torch.from_numpy(others)).numpy().astype(np.float64)
    closeness[np.abs(boxes[:, None] - others[None]).max(axis=-1) < SAME_BOX] = 1.0
    closeness[closeness < MATCHING_IOU] = -np.inf
    closeness = closeness.round(3) + 1e-4 * cosines
    pairs = []
    for _ in range(min(closeness.shape)):
        row, column = np.unravel_index(closeness.argmax(), closeness.shape)
        if np.isneginf(closeness[row, column]):
            break
        pairs.append((row, column))
        closeness[row, :] = closeness[:, column] = -np.inf
    rows, columns = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    return rows, columns


def cosine_matrix(features: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Cosines of (R, D) and (S, D) -> (R, S); 1 for two vectors of zeros."""
    directions = []
    for vectors in (features, others):
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        directions.append(np.where(lengths > 0, vectors / np.maximum(lengths, np.finfo(np.float32).tiny), 0))
    zero = [(vectors == 0).all(axis=1) for vectors in directions]
    return (directions[0] @ directions[1].T).clip(-1, 1) + np.logical_and.outer(*zero)


def other_classes(a: ImageRecord, b: ImageRecord, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """(M,) bool: matched regions whose object or attribute differs, where both sides have ids."""
    differs = np.zeros(len(rows), dtype=bool)
    for name in ID_COLUMNS:
        if name in a and name in b:
            differs |= a[name][rows] != b[name][columns]
    return differs


def severity(image: ImageDifference, tolerance: float, box_tolerance: float) -> tuple[int, int, float]:
    """Sort key of the worst images: unmatched regions, then other classes, then the difference over the tolerance."""
    return (
        sum(image.num_regions) - 2 * image.num_matched,
        image.num_other_classes,
        max(
            image.box_difference / max(box_tolerance, 1e-12),
            image.feature_error / max(tolerance, 1e-12),
            image.score_difference / max(tolerance, 1e-12),
        ),
    )


def largest(numbers: np.ndarray) -> float:
    """The largest number, 0 for an empty array."""
    return float(numbers.max(initial=0.0))


def named(ids: list[str]) -> str:
    """The number of ids and the first few of them."""
    return f"{len(ids):,} ({', '.join(ids[:FIRST_NAMED])}{', ...' if len(ids) > FIRST_NAMED else ''})"
