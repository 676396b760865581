"""Images -> region source -> region store: `updown extract`, and the start of a training with `regions.store`.

Resumable: images whose id is in the store are skipped, and a run that was killed and started again writes the same
files as an uninterrupted one. Unreadable images are listed and skipped. An image that differs from the one stored under
its id is an error.
"""

import io
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from datasets import Dataset, Image
from PIL.Image import Image as PilImage
from PIL.Image import open as open_image
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from modeling_updown import load_image
from modeling_updown.configuration_tags_updown import TAG_KINDS, class_names
from modeling_updown.regions_updown import entries
from training.console import one_line, say
from training.recipe_sections import RegionsRecipe
from training.regions.clips import ClipStore, task_store
from training.regions.given_boxes import GivenBoxes, box_inputs, boxes_mark, check_boxes, given_fingerprint, word_fields
from training.regions.image_marks import changed_images, check_same_images, image_mark
from training.regions.passes import in_passes
from training.regions.store import RegionStore, RegionStoreWriter
from training.regions.stored_images import check_missing, rows_in_store
from training.regions.strips import check_no_clips, regions_of_images
from training.saved_models import weights_mark

GRID_FIELDS = ("backbone", "image_size", "regions", "grid_size", "pyramid_levels", "joined_levels")
DETECTOR_FIELDS = ("backbone", "joined_features", "region_boxes", "nms_per_class", "nms_thresholds")
# fields that older stores did not record: None where they are off
LATER_GRID_FIELDS = ("grid_sizes", "image_scales")
LATER_DETECTOR_FIELDS = ("grid_sizes", "duplicate_iou", "min_region_side")
SELECTION_FIELDS = ("min_regions", "max_regions", "score_threshold")
PROCESSOR_FIELDS = ("size", "exact_resize", "channel_order")
# columns of a store; soft labels are thousands of numbers per region, so they are stored only on request
STORED_COLUMNS = (
    *("region_features", "region_boxes", "region_mask", "region_scores", "object_ids", "attribute_ids"),
    *("attribute_scores", "region_seconds", "region_texts", "region_masks", "clip_ids"),
)
SOFT_LABELS = ("object_probs", "attribute_probs")
OTHER_FOLDER = "give another folder, or delete that one to extract its regions again"
WINDOW_BATCHES = 32  # number of batches that are sorted by size together


def source_fingerprint(
    source: PreTrainedModel,
    *,
    flipped: bool,
    image_processor: Any = None,
    selection: Mapping[str, Any] | None = None,
    boxes: GivenBoxes | None = None,
) -> dict[str, Any]:
    """What determines a region source's features: its config and a hash of its weights; for a detector also its image
    processing and which regions it selects, or a hash of the `boxes` that it is given; for a grid the size of images
    where it is not `config.image_size`.
    """
    config = source.config
    is_detector = config.model_type == "updown_detector"
    described = {name: getattr(config, name) for name in (DETECTOR_FIELDS if is_detector else GRID_FIELDS)}
    later = LATER_DETECTOR_FIELDS if is_detector else LATER_GRID_FIELDS
    selection = dict(selection or {})
    described |= {name: selection.pop(name, getattr(config, name)) or None for name in later}
    if is_detector:
        chosen = {name: getattr(config, name) for name in SELECTION_FIELDS} | selection
        prepared = {name: getattr(image_processor, name, None) for name in PROCESSOR_FIELDS}
        described["padded_to"] = padded_to(source, image_processor)
        described |= chosen | {**prepared, "size": dict(prepared["size"] or {})}
    else:
        size = dict(getattr(image_processor, "size", None) or {})
        square = {"height": config.image_size, "width": config.image_size}
        described["size"] = None if size in ({}, square) else size
    described["given_boxes"] = None if boxes is None else boxes_mark(boxes)
    return {"model_type": config.model_type, **described, "weights": weights_mark(source), "flipped": flipped}


def padded_to(detector: Any, image_processor: Any) -> int | None:
    """The stride, in pixels, to a multiple of which a detector pads the sides of images; None where none is padded.

    A store of padded images without this field was made before they were, with boxes up to half a cell beside theirs.
    """
    if detector.config.is_caffe_resnet:
        return None
    stride = int(detector.backbone.last_stride)
    size = dict(getattr(image_processor, "size", None) or {})
    fixed = getattr(image_processor, "do_resize", True) and size.keys() == {"height", "width"}
    return None if fixed and not any(side % stride for side in size.values()) else stride


@torch.no_grad()
def extract_regions(
    images: Dataset,
    *,
    source: PreTrainedModel,
    image_processor: Any,
    output: str | Path,
    batch_size: int = 32,
    flipped: bool = False,
    selection: Mapping[str, Any] | None = None,
    soft_labels: bool = False,
    boxes: GivenBoxes | None = None,
    accelerator: Accelerator | None = None,
) -> list[str]:
    """Add the regions of every image of the rows to the store `output`, which is created if absent.

    Images of similar size share a batch. Every batch is written before the next begins, so a kill loses one batch.

    Args:
        images: columns image_id (string) and image (a path, or `datasets.Image`).
        source, image_processor: the region source and its image processor; the store records their fingerprint.
        batch_size: images per batch.
        flipped: mirror every image first.
        selection: for a detector: `min_regions`, `max_regions`, `score_threshold` in place of its processor's, and
            `grid_sizes` in place of its config's.
        soft_labels: store a detector's probabilities of all classes and attributes (masked region classification).
        boxes: for a detector: each image's regions are exactly these; an image without any is skipped as unreadable.
        accelerator: its device is used; several processes share the rows.

    Returns:
        One line for each image that could not be read; it is skipped, and tried again by the next call.

    Raises:
        ValueError: if the store has another fingerprint, holds other images under the same ids, `output` is not a
            store, the selection or the boxes do not fit the source, or an image has no entry in `boxes`.
    """
    accelerator = accelerator or Accelerator()
    options: dict[str, Any] = {"flipped": flipped, "soft_labels": soft_labels, "accelerator": accelerator}
    extractor = RegionExtractor(source.to(accelerator.device).eval(), image_processor, **options)
    extractor.select(selection)
    rows = undecoded(images)
    extractor.give(boxes, rows["image_id"][:])
    share = range(accelerator.process_index, len(rows), accelerator.num_processes)
    with extractor.writer(output) as writer:
        check_soft_labels(Path(output), soft_labels)
        accelerator.wait_for_everyone()  # an opening writer reads all shards, which other writers later replace
        ids = rows["image_id"][:]
        done = {row for row in share if ids[row] in writer.done_ids}
        others = gather_object(changed_rows(rows, sorted(done), known=writer.done_marks))
        check_same_images(others, of=len(rows), place=f"the store {output}", cure=OTHER_FOLDER)
        todo = len(share) - len(done)
        with tqdm(total=todo, desc=f"regions -> {output}", unit="image", disable=not todo) as bar:
            for indices in batches_by_size(rows, share, batch_size=batch_size, done=done):
                extractor.add(writer, list(marked_images(rows, indices, extractor.broken)))
                bar.update(len(indices))
    broken = gather_object(extractor.broken)  # a barrier: every process waits here
    if accelerator.is_main_process:
        say_skipped(broken)
    return broken


def say_skipped(broken: Sequence[str], kind: str = "images", fate: str = "could not be read and were skipped") -> None:
    """Tell of images (or clips) that could not be read, a line each, where there are any."""
    if not broken:
        return
    say(f"{len(broken)} {kind} {fate}:", *(f"  {line}" for line in broken), file=sys.stderr)


class RegionExtractor:
    """Writes the regions of images into a store; `broken` has a line for each image that failed."""

    def __init__(
        self,
        source: PreTrainedModel,
        image_processor: Any,
        *,
        accelerator: Accelerator,
        flipped: bool,
        soft_labels: bool,
    ):
        self.source, self.image_processor, self.accelerator = source, image_processor, accelerator
        self.flipped, self.soft_labels = flipped, soft_labels
        self.selection: dict[str, Any] = {}
        self.given: GivenBoxes | None = None  # each image's boxes, where the source looks for none
        self.broken: list[str] = []

    def select(self, selection: Mapping[str, Any] | None) -> None:
        """Set which regions a detector keeps: its processor's numbers, updated with `selection`.

        Raises `ValueError` for numbers that contradict each other, and for a selection or soft labels of a grid.
        """
        config = self.source.config
        if config.model_type == "updown_detector":
            self.selection = {**self.image_processor.region_selection(), **dict(selection or {})}
            least, most = (self.selection.get(name, getattr(config, name)) for name in ("min_regions", "max_regions"))
            if least > most:
                raise ValueError(f"min_regions {least} is more than max_regions {most}: set the other one too")
        elif selection or self.soft_labels:
            raise ValueError(
                "a grid has neither a region selection nor soft labels: leave out min_regions, max_regions, "
                "score_threshold, grid_sizes and soft labels"
            )

    def give(self, boxes: GivenBoxes | None, ids: Sequence[str]) -> None:
        """Take each image's regions to be its entry in `boxes`; None lets the source find them.

        Raises `ValueError` for a source that describes no boxes, for cells beside them, and for one of the `ids`
        without an entry.
        """
        if boxes is not None:
            if self.selection.get("grid_sizes"):
                raise ValueError("grid_sizes beside boxes: put the cells among the boxes (`marked_boxes(grid_sizes=)`)")
            check_boxes(boxes, ids, model_type=self.source.config.model_type)
        self.given = boxes

    def fingerprint(self) -> dict[str, Any]:
        """The `source_fingerprint` of these regions."""
        return source_fingerprint(
            self.source,
            flipped=self.flipped,
            image_processor=self.image_processor,
            selection=self.selection,
            boxes=self.given,
        )

    def writer(self, output: str | Path) -> RegionStoreWriter:
        """This process's writer of the store `output`; with soft labels the store keeps their classes' names."""
        config = self.source.config
        return RegionStoreWriter(
            output,
            fingerprint=self.fingerprint(),
            process_index=self.accelerator.process_index,
            images_at_risk=1,
            class_names={kind.probs: class_names(config, kind) for kind in TAG_KINDS} if self.soft_labels else None,
        )

    def add(self, writer: RegionStoreWriter, images: list[tuple[str, PilImage, int]]) -> None:
        """Add one batch; if it fails, add its images one by one, so that a bad image does not cost the others."""
        if not images:
            return
        ids, opened, marks = zip(*images, strict=True)
        try:
            given = None if self.given is None else [self.given[image_id] for image_id in ids]
            regions = regions_of_images(list(opened), self.regions, boxes=given)
            regions |= {**word_fields(self.given, ids, regions), "photo_mark": torch.tensor(marks)}
        except (ValueError, RuntimeError) as error:  # torch raises RuntimeError for images too thin or too large
            fault = one_line(error)
        else:
            fault = self.try_append(writer, list(ids), regions)
        if not fault:
            return
        if len(images) == 1:
            self.broken.append(f"{ids[0]}: {fault}")
            return
        for image in images:
            self.add(writer, [image])

    def try_append(self, writer: RegionStoreWriter, ids: list[str], regions: dict[str, Any]) -> str:
        """Add a batch to the store; returns the error of a refused batch (such as NaN features), or ""."""
        try:
            writer.append(ids, regions)
        except ValueError as error:
            return one_line(error)
        return ""

    def regions(self, images: list[PilImage], *, boxes: Sequence[np.ndarray] | None = None) -> dict[str, Any]:
        """The regions of images, or of each one's given `boxes` (R, 4), as columns of the store."""
        inputs = self.image_processor(images, return_tensors="pt").to(self.source.device)
        if self.flipped:
            inputs = mirror(inputs, torch.ones(len(images), dtype=torch.bool))
        with self.accelerator.autocast():  # only the source runs under autocast, not the writer
            given = {} if boxes is None else box_inputs(boxes, flipped=self.flipped)
            kept = (*STORED_COLUMNS, *SOFT_LABELS) if self.soft_labels else STORED_COLUMNS
            return in_passes(self.source, {**inputs, **given}, columns=kept, **self.selection)


def mirror(inputs: Mapping[str, torch.Tensor], flipped: torch.Tensor) -> dict[str, torch.Tensor]:
    """`pixel_values` with the images where `flipped` (P,) mirrored, each inside its own width; padding stays right."""
    pixels, mask = inputs["pixel_values"].clone(), inputs.get("pixel_mask")
    for image in flipped.nonzero().flatten().tolist():
        width = pixels.shape[-1] if mask is None else int(mask[image].any(dim=0).sum())
        pixels[image, ..., :width] = pixels[image, ..., :width].flip(-1)
    return {**inputs, "pixel_values": pixels}


def batches_by_size(
    rows: Dataset, indices: Sequence[int], *, batch_size: int, done: Collection[int] = frozenset()
) -> Iterator[list[int]]:
    """Batches of rows whose images have similar sizes, window by window, without the rows that are done.

    Batches are formed before the done rows are removed, so that a resumed run computes bit for bit what an
    uninterrupted one does. Only the headers of the images are read; images without a readable header come last.
    """
    window = batch_size * WINDOW_BATCHES
    for start in range(0, len(indices), window):
        within: Sequence[int] = indices[start : start + window]
        if all(row in done for row in within):
            continue
        within = sorted(within, key=partial(size_in_header, rows))
        batches = (within[place : place + batch_size] for place in range(0, len(within), batch_size))
        left = ([row for row in batch if row not in done] for batch in batches)
        yield from (batch for batch in left if batch)


def size_in_header(rows: Dataset, index: int) -> tuple[int, int]:
    """Width and height of an undecoded image from its header; `sys.maxsize` for both if it cannot be read."""
    stored = rows[index]["image"] or {}
    try:
        with open_image(io.BytesIO(stored["bytes"]) if stored.get("bytes") else stored["path"]) as image:
            return image.size
    except Exception:  # a header may be broken in any way; loading the image reports it later
        return (sys.maxsize, sys.maxsize)


def undecoded(rows: Dataset) -> Dataset:
    """The rows with `image` as `{"path", "bytes"}`, so that a broken image fails where it is loaded, with its id."""
    return rows.cast_column("image", Image(decode=False))


def readable_images(rows: Dataset, indices: list[int], broken: list[str]) -> Iterator[tuple[str, PilImage]]:
    """(image_id, image) of the undecoded rows that can be read; the errors of the others are added to `broken`."""
    yield from ((image_id, image) for image_id, image, _ in marked_images(rows, indices, broken))


def marked_images(rows: Dataset, indices: list[int], broken: list[str]) -> Iterator[tuple[str, PilImage, int]]:
    """The same with the mark of each image's content."""
    for index in indices:
        row = rows[index]
        try:
            image = image_of(row)
        except (OSError, ValueError) as error:
            broken.append(f"{row['image_id']}: {error}")
        else:
            yield row["image_id"], image, image_mark(row["image"])


def marks_of(rows: Dataset, chosen: Sequence[int]) -> list[int]:
    """The marks of the chosen undecoded rows' images; only the hashed parts of embedded images are read."""
    images = rows.select_columns(["image"]).with_format("arrow")
    found = (images[row].column("image")[0] for row in chosen)
    return [
        image_mark(
            {"path": image["path"].as_py(), "bytes": image["bytes"].as_buffer() if image["bytes"].is_valid else None}
            if image.is_valid
            else None
        )
        for image in found
    ]


def changed_rows(
    rows: Dataset, chosen: Sequence[int], *, known: Mapping[str, int], names: Mapping[str, str] | None = None
) -> list[str]:
    """The ids of the chosen undecoded rows whose images have another mark than `known` has for them.

    names: row id -> key of `known`, where they differ.
    """
    names = names or {}
    ids = rows["image_id"][:]
    with_mark = [row for row in chosen if known.get(names.get(ids[row], ids[row]))]
    marks = marks_of(rows, with_mark)
    by_row = {ids[row]: known[names.get(ids[row], ids[row])] for row in with_mark}
    return changed_images([ids[row] for row in with_mark], marks, known=by_row)


def image_of(row: dict[str, Any]) -> PilImage:
    """The image of an undecoded row; raises `OSError` or `ValueError` if it cannot be read."""
    if row["image"] is None:
        raise ValueError("the row has no image: name the image folder in data.images")
    return load_image(row["image"]["bytes"] or row["image"]["path"])


class ImageRegions:
    """A task's images as the model takes them: regions of a store, to which missing images are added, or pixels.

    Raises `ValueError` if the recipe gives neither a usable store nor a region source.
    """

    def __init__(
        self, regions: RegionsRecipe, source: PreTrainedModel | None, image_processor: Any, accelerator: Accelerator
    ):
        self.store_folder, self.source, self.soft_labels = regions.store, source, regions.soft_labels
        self.image_processor, self.accelerator = image_processor, accelerator
        self.min_share, self.given_boxes = regions.min_share, regions.given_boxes
        self.stores: dict[bool, RegionStore | ClipStore] = {}
        self.names: dict[bool, dict[str, str]] = {False: {}, True: {}}  # the stores' ids of rows, where they differ
        self.columns = dict.fromkeys(("region_features", "region_boxes"), "")  # what `batch` reads of a store: why
        self.classes: dict[str, tuple[int, Sequence[str] | None]] = {}  # of columns of probabilities: number and names
        if self.store_folder and regions.trained:
            raise ValueError("regions.trained needs pixels at every step: leave regions.store empty")
        if self.store_folder and regions.crops < 1:
            raise ValueError("regions.crops needs pixels at every step: leave regions.store empty")
        if self.given_boxes and not self.store_folder:
            raise ValueError("regions.given_boxes is of a store: name that of updown extract --boxes in regions.store")
        if not self.store_folder and source is None:
            raise ValueError("the model has no region source: name the folder of its region features in regions.store")

    def read(self, column: str, *, needed: str) -> None:
        """Let `batch` return another column of the store; `needed` says what needs it, and the cure if it is missing.

        Raises `ValueError` if images are given as pixels.
        """
        if not self.store_folder:
            raise ValueError(f"pixels have no {column}, {needed}: name the folder of their regions in regions.store")
        self.columns[column] = needed

    def read_classes(self, column: str, names: Sequence[str] | None, *, number: int, needed: str) -> None:
        """As `read`, of the probabilities of so many classes with these names; new regions get them with their
        features. Pixels may be given too: their region source says the probabilities."""
        self.soft_labels = True
        if self.store_folder:
            self.read(column, needed=needed)
            self.classes[column] = (number, names)

    def prepare(self, rows: Dataset, *, flips: bool = False, warns: bool = True) -> Dataset:
        """The rows that `batch` can serve: with a store, those whose images it holds after extracting the missing ones.

        Every process must call it. One warning counts the rows that are left out (`warns=False`: none). Raises
        `ValueError` if the store holds fewer than `regions.min_share` of them, other images under the same ids, or not
        all columns that are read.
        """
        rows = undecoded(rows)
        if not self.store_folder:
            return rows
        ids = rows["image_id"][:]
        held: dict[str, str] = dict(zip(ids, ids, strict=True))
        for flipped in (False, True) if flips else (False,):
            store = self.stores[flipped] = self.open_store(rows, flipped=flipped)
            missing = next((name for name in self.columns if name not in store.column_names), None)
            if missing:
                raise ValueError(f"the regions of {store.folder} have no {missing}, {self.columns[missing]}")
            for column, (number, known) in self.classes.items():
                store.check_classes(column, known, number=number)
            names = rows_in_store(rows, store)
            check_missing(dict.fromkeys(ids), names, store=store, min_share=self.min_share, warns=warns)
            self.check_marks(rows, store, names)
            self.names[flipped] |= {image_id: name for image_id, name in names.items() if name != image_id}
            held = {image_id: image_id for image_id in held if image_id in names}
        return rows if len(held) == len(set(ids)) else rows.select([i for i, one in enumerate(ids) if one in held])

    def check_marks(self, rows: Dataset, store: RegionStore | ClipStore, names: Mapping[str, str]) -> None:
        """Raises `ValueError` if images of the rows are not those that the store's regions were made from."""
        known = store.marks
        mine = range(self.accelerator.process_index, len(rows), self.accelerator.num_processes)
        others = gather_object(changed_rows(rows, mine, known=known, names=names))
        check_same_images(
            others, of=len(rows), place=f"the store {store.folder}", cure=f"{OTHER_FOLDER} (regions.store)"
        )

    def open_store(self, rows: Dataset, *, flipped: bool) -> RegionStore | ClipStore:
        """The store (`...-flipped` for mirrored images), after extracting the images of the rows that it lacks; to one
        of clips nothing is added."""
        folder = Path(self.store_folder + ("-flipped" if flipped else ""))
        found = existing_store(folder)
        ids = rows["image_id"][:]
        names = rows_in_store(rows, found) if found is not None else {}
        self.accelerator.wait_for_everyone()  # every process has read the store before one of them writes
        if self.source is None:
            return task_store(folder)
        if not self.given_boxes and not isinstance(found, ClipStore) and not names.keys() >= set(ids):
            renamed = {image_id for image_id, name in names.items() if name != image_id}
            extract_regions(
                unique_rows(rows, without=renamed),
                source=self.source,
                image_processor=self.image_processor,
                output=folder,
                flipped=flipped,
                soft_labels=self.soft_labels or (found is not None and keeps_soft_labels(found)),
                accelerator=self.accelerator,
            )
        store = task_store(folder)
        extractor = RegionExtractor(
            self.source, self.image_processor, accelerator=self.accelerator, flipped=flipped, soft_labels=False
        )
        extractor.select(None)
        expected = extractor.fingerprint()
        if self.given_boxes:
            expected = given_fingerprint(store, expected)
        store.check_fingerprint(expected, on_mismatch="error")
        return store

    def batch(
        self, rows: Dataset, indices: np.ndarray, *, flipped: np.ndarray, crops: np.ndarray | None = None
    ) -> dict[str, torch.Tensor]:
        """`pixel_values` or regions of images by their index in prepared rows.

        flipped: (P,) bool, which images are mirrored; crops: (P, 4) xyxy in 0..1, the part of each image to take.
        """
        if not self.store_folder:
            return self.pixels(rows, indices, flipped=torch.from_numpy(flipped), crops=crops)
        ids = rows[indices.tolist()]["image_id"]
        sides = [side for side in (False, True) if (flipped == side).any()]
        chosen = [np.flatnonzero(flipped == side) for side in sides]
        parts = [
            self.stores[side].batch(
                [self.names[side].get(ids[i], ids[i]) for i in images], dtype=torch.float32, columns=list(self.columns)
            )
            for side, images in zip(sides, chosen, strict=True)
        ]
        back = torch.from_numpy(np.argsort(np.concatenate(chosen)))
        return {name: entries(join_padded([part[name] for part in parts]), back) for name in parts[0]}

    def pixels(
        self, rows: Dataset, indices: np.ndarray, *, flipped: torch.Tensor, crops: np.ndarray | None = None
    ) -> dict[str, torch.Tensor]:
        """`pixel_values` (P, 3, height, width) and, where the processor pads, `pixel_mask`.

        Raises `ValueError` for an image that cannot be read.
        """
        images = []
        for row in map(rows.__getitem__, indices.tolist()):
            try:
                images.append(image_of(row))
            except (OSError, ValueError) as error:
                raise ValueError(
                    f"image {row['image_id']!r} cannot be read ({error}): take it out of the data, "
                    "or set regions.store, which lists such images and leaves them out"
                ) from error
        check_no_clips(images)
        if crops is not None:
            images = [crop(image, box) for image, box in zip(images, crops, strict=True)]
        return mirror(self.image_processor(images, return_tensors="pt"), flipped)


def crop(image: PilImage, box: np.ndarray) -> PilImage:
    """The part of an image inside a box xyxy in 0..1."""
    width, height = image.size
    left, top, right, bottom = (box * (width, height, width, height)).round().astype(int).tolist()
    return image.crop((left, top, max(right, left + 1), max(bottom, top + 1)))


def random_crop(generator: np.random.Generator, smallest: float) -> np.ndarray:
    """A box of `smallest` to 1 of the image's area, 3:4 to 4:3 of its shape: xyxy in 0..1, (4,)."""
    area, shape = generator.uniform(smallest, 1.0), np.exp(generator.uniform(np.log(3 / 4), np.log(4 / 3)))
    side = np.minimum(1.0, np.sqrt([area * shape, area / shape]))  # width, height
    corner = generator.uniform(0, 1 - side)
    return np.concatenate([corner, corner + side])


def ask_store(regions: RegionsRecipe, rows: Dataset, *, flips: bool = False) -> None:
    """Check, before a model is built, that a store to which nothing is added holds the images of the rows.

    Raises `ValueError` if there is no store, or it holds fewer than `regions.min_share` of the images.
    """
    rows, ids = undecoded(rows.select_columns(["image_id", "image"])), rows["image_id"][:]
    for ending in ("", "-flipped") if flips else ("",):
        store = task_store(regions.store + ending)
        names = rows_in_store(rows, store)
        check_missing(dict.fromkeys(ids), names, store=store, min_share=regions.min_share, warns=False)


def unique_rows(rows: Dataset, *, without: Collection[str]) -> Dataset:
    """The first row of every id, except the ids in `without`."""
    places: dict[str, int] = {}
    for place, image_id in enumerate(rows["image_id"][:]):
        places.setdefault(image_id, place)
    kept = [place for image_id, place in places.items() if image_id not in without]
    return rows if len(kept) == len(rows) else rows.select(kept)


def existing_store(folder: Path) -> RegionStore | ClipStore | None:
    """A store with images in it; None if there is none yet, or a broken one, which its writer reports."""
    try:
        return task_store(folder)
    except ValueError:
        return None


def check_soft_labels(folder: Path, wanted: bool) -> None:
    """Raises `ValueError` if an existing store has soft labels and the new images would not, or the reverse."""
    store = existing_store(folder)
    if store is not None and wanted != keeps_soft_labels(store):
        raise ValueError(
            f"the store {folder} keeps {'no ' if wanted else ''}soft labels: extract "
            f"{'without' if wanted else 'with'} them, or give another folder"
        )


def keeps_soft_labels(store: RegionStore | ClipStore) -> bool:
    """Whether a store has soft labels."""
    return bool(set(SOFT_LABELS) & set(store.column_names))


def join_padded(parts: list[Any]) -> Any:
    """Batches of different region counts (P_i, R_i, ...) -> one (sum of P_i, max R_i, ...), padded with zeros; lists of
    the words of regions are padded with "", lists of a string an image are one after the other.

    >>> join_padded([torch.ones(1, 2), torch.ones(1, 3)]).tolist(), join_padded([[["a"]], [["b", "c"]]])
    ([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0]], [['a', ''], ['b', 'c']])
    """
    if isinstance(parts[0], list):
        rows = [row for part in parts for row in part]
        most = max(0 if isinstance(row, str) else len(row) for row in rows)
        return [row if isinstance(row, str) else row + [""] * (most - len(row)) for row in rows]
    longest = max(part.shape[1] for part in parts)
    padded = [
        torch.cat([part, part.new_zeros(len(part), longest - part.shape[1], *part.shape[2:])], dim=1) for part in parts
    ]
    return torch.cat(padded)
