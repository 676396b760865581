"""Boxes of a teacher for images: the batches of a run, several at a time, kept on disk as they are made.

rows --detect--> batches --BatchMaker, in `workers` threads--> images and annotations --> a COCO instances file
"""

import os
import sys
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import torch
from PIL.Image import Image as PilImage
from torchvision.ops import batched_nms, box_convert
from tqdm.auto import tqdm

from training.console import say
from training.data.boxes.caption_attributes import ATTRIBUTES, attributes_of_boxes, labels_by_captions
from training.data.captions.rows import CAPTION_FEATURES
from training.data.files import IMAGE_SUFFIXES, PathLike
from training.regions.extract import readable_images, undecoded
from training.teachers.box_journal import BoxJournal
from training.teachers.coco_classes import COCO_CATEGORIES, OTHER_NAMES
from training.teachers.detections import Detections, Teacher

SMALLEST_SIDE_PIXELS = 1.0

Batch = dict[str, Any]  # images, annotations, the errors of broken images, counts of unknown classes; all JSON


def keep_best(found: Detections, *, nms_iou: float, size: tuple[int, int]) -> Detections:
    """The boxes, clipped to the image, after non-maximum suppression per class.

    Args:
        found: a teacher's boxes of one image.
        nms_iou: overlap above which the lower-scored of two boxes of one class is removed (1.0 keeps all).
        size: (width, height) of the image in pixels.

    Returns:
        The remaining boxes, best first, without those less than one pixel wide or high.
    """
    boxes = found.boxes.float().clamp(min=0).minimum(torch.tensor(size * 2, dtype=torch.float32))
    numbers = {label: number for number, label in enumerate(dict.fromkeys(found.labels))}
    classes = torch.tensor([numbers[label] for label in found.labels], dtype=torch.int64)
    wide = (boxes[:, 2:] - boxes[:, :2] >= SMALLEST_SIDE_PIXELS).all(dim=1)
    rows = torch.nonzero(wide).squeeze(1)
    rows = rows[batched_nms(boxes[rows], found.scores[rows].float(), classes[rows], nms_iou)]
    return replace(found, boxes=boxes).select(rows.tolist())


def folder_rows(folder: PathLike) -> datasets.Dataset:
    """The images under a folder, sorted, as caption rows without captions; an image's id is its path in the folder."""
    if not os.path.isdir(folder):
        raise ValueError(f"there is no image folder {folder}")
    paths = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    if not paths:
        raise ValueError(f"{folder} holds no image ({', '.join(sorted(IMAGE_SUFFIXES))})")
    ids = [path.relative_to(folder).as_posix() for path in paths]
    columns = {
        "image_id": ids,
        "image": [str(path) for path in paths],
        "captions": [[] for _ in ids],
        "split": ["train"] * len(ids),
        "domain": [""] * len(ids),
    }
    return datasets.Dataset.from_dict(columns, features=CAPTION_FEATURES)


def detect(
    rows: datasets.Dataset,
    teacher: Teacher,
    *,
    folder: PathLike = "",
    threshold: float = 0.6,
    nms_iou: float = 0.45,
    batch_size: int = 16,
    categories: Mapping[str, int] | None = None,
    box_source: str = "teacher",
    workers: int = 1,
    journal: BoxJournal | None = None,
) -> dict[str, Any]:
    """Boxes of a teacher for every readable image, as the content of a COCO instances file.

    Args:
        rows: columns image_id, image, captions, split (training/data/captions/rows.py, or `folder_rows`).
        teacher: images -> Detections; called by several threads at once if there are several workers.
        folder: the images' folder; `file_name` is written relative to it.
        threshold: lowest score of a box.
        nms_iou: see `keep_best`.
        batch_size: images per call of the teacher.
        categories: class name -> COCO id, by default COCO's; boxes of other classes are counted and left out.
        box_source: the maker of the boxes, recorded with every image.
        workers: batches at a time; the result is the same with any number.
        journal: batches that it has are not made again, and those that are made are added.

    Returns:
        `images` (id, file_name, width, height, image_id, split, box_source), `annotations` (bbox xywh in pixels, area,
        score, iscrowd 0, and the `attributes` that the captions give them), `categories`, `attributes`. The id of an
        image is its `image_id` as a number (`000000000009.jpg`: 9) if all are different numbers, else its `image_id`.
        Captions also correct the names of animals (`labels_by_captions`).

    Raises:
        ValueError: if no image can be read, or none of the teacher's classes is a category.
    """
    rows, categories = undecoded(rows), COCO_CATEGORIES if categories is None else categories
    maker = BatchMaker(
        rows,
        teacher,
        folder=folder,
        threshold=threshold,
        nms_iou=nms_iou,
        categories=categories,
        box_source=box_source,
    )
    batches = [list(range(start, min(start + batch_size, len(rows)))) for start in range(0, len(rows), batch_size)]
    made = made_batches(maker, batches, workers=workers, journal=journal)
    images, annotations, broken = (
        [record for batch in made for record in batch[name]] for name in ("images", "annotations", "broken")
    )
    if broken:
        head = f"{len(broken)} images could not be read and were skipped:"
        say(head, *(f"  {line}" for line in broken), file=sys.stderr)
    if not images:
        raise ValueError("none of the images can be read")
    _report_unknown(sum((Counter(batch["unknown"]) for batch in made), Counter()), annotations)
    return coco_instances(images, annotations, categories)


def made_batches(
    maker: "BatchMaker", batches: Sequence[list[int]], *, workers: int, journal: BoxJournal | None
) -> list[Batch]:
    """The content of every batch of row numbers, in their order; each is in the journal as soon as it is made."""
    made: dict[int, Batch] = dict(journal.made) if journal else {}
    done = sum(len(batches[number]) for number in made)
    make = partial(_make_and_keep, maker=maker, batches=batches, made=made, journal=journal)
    pool = ThreadPoolExecutor(workers)
    try:
        left = {pool.submit(make, n): n for n in range(len(batches)) if n not in made}
        with tqdm(total=sum(map(len, batches)), initial=done, desc="boxes", unit="image") as bar:
            for future in as_completed(left):
                future.result()
                bar.update(len(batches[left[future]]))
    finally:
        pool.shutdown(cancel_futures=True)
    return [made[number] for number in range(len(batches))]


def _make_and_keep(
    number: int,
    *,
    maker: "BatchMaker",
    batches: Sequence[list[int]],
    made: dict[int, Batch],
    journal: BoxJournal | None,
) -> None:
    """Make a batch, in a thread of its own; it is kept at once, also where another batch fails meanwhile."""
    made[number] = maker(batches[number])
    if journal:
        journal.add(number, made[number])


class BatchMaker:
    """Makes the boxes of a batch of rows; the arguments are those of `detect`."""

    def __init__(
        self,
        rows: datasets.Dataset,
        teacher: Teacher,
        *,
        folder: PathLike,
        threshold: float,
        nms_iou: float,
        categories: Mapping[str, int],
        box_source: str,
    ):
        self.rows, self.teacher, self.folder = rows, teacher, folder
        self.threshold, self.nms_iou = threshold, nms_iou
        self.categories, self.box_source = categories, box_source
        names = rows["image_id"][:]
        self.places = dict(zip(names, enumerate(_image_ids(names)), strict=True))

    def __call__(self, indices: list[int]) -> Batch:
        """Images and boxes of the rows of these numbers; images that cannot be read are listed in `broken`."""
        broken: list[str] = []
        unknown: Counter[str] = Counter()
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        batch = list(readable_images(self.rows, indices, broken))
        boxes = self.teacher([image for _, image in batch]) if batch else []
        for (name, image), found in zip(batch, boxes, strict=True):
            number, image_id = self.places[name]
            row = self.rows[number]
            record = _image_record(row, image, folder=self.folder)
            images.append({"id": image_id, **record, "box_source": self.box_source})
            found = _known(found, self.categories, unknown=unknown, threshold=self.threshold)
            found = _relabelled(found, labels_by_captions(found.labels, row["captions"]))
            found = keep_best(found, nms_iou=self.nms_iou, size=image.size)
            annotations += _box_records(found, row["captions"], image_id=image_id, categories=self.categories)
        return {"images": images, "annotations": annotations, "broken": broken, "unknown": dict(unknown)}


def coco_instances(
    images: list[dict[str, Any]], annotations: list[dict[str, Any]], categories: Mapping[str, int]
) -> dict[str, Any]:
    """The content of an instances file: numbers the annotations from 1, lists categories and `ATTRIBUTES`."""
    return {
        "images": images,
        "annotations": [{"id": number, **record} for number, record in enumerate(annotations, start=1)],
        "categories": [{"id": number, "name": name} for name, number in categories.items()],
        "attributes": attribute_records(),
    }


def attribute_records() -> list[dict[str, Any]]:
    """`ATTRIBUTES` as records of an instances file."""
    return [{"id": number, "name": name} for number, name in enumerate(ATTRIBUTES, start=1)]


def _image_ids(image_ids: Sequence[str]) -> list[int | str]:
    """The numbers in the ids, as COCO's ids are numbers, if all have different ones; else the ids unchanged."""
    stems = [Path(image_id).stem for image_id in image_ids]
    if all(stem.isdecimal() for stem in stems) and len({int(stem) for stem in stems}) == len(stems):
        return [int(stem) for stem in stems]
    return list(image_ids)


def _image_record(row: Mapping[str, Any], image: PilImage, *, folder: PathLike) -> dict[str, Any]:
    path = row["image"]["path"]
    name = os.path.relpath(path, folder) if path and folder else path or row["image_id"]
    width, height = image.size
    return {
        "file_name": Path(name).as_posix(),
        "width": width,
        "height": height,
        "image_id": row["image_id"],
        "split": row["split"],
    }


def _known(found: Detections, categories: Mapping[str, int], *, unknown: Counter[str], threshold: float) -> Detections:
    """The boxes with a score of at least `threshold`, with the categories' names; other names are counted."""
    rows = torch.nonzero(found.scores >= threshold).squeeze(1).tolist()
    labels = [OTHER_NAMES.get(found.labels[row], found.labels[row]) for row in rows]
    unknown.update(label for label in labels if label not in categories)
    return _relabelled(found.select(rows, labels), [label if label in categories else None for label in labels])


def _relabelled(found: Detections, labels: Sequence[str | None]) -> Detections:
    """The boxes with new labels, without those whose label is None."""
    rows = [row for row, label in enumerate(labels) if label is not None]
    return found.select(rows, [label for label in labels if label is not None])


def _report_unknown(unknown: Counter[str], annotations: Sequence[Any]) -> None:
    names = ", ".join(name for name, _ in unknown.most_common(5))
    if unknown and not annotations:
        raise ValueError(f"none of the teacher's classes ({names}, ...) is a category; give them in --categories")
    if unknown:
        warnings.warn(f"{unknown.total()} boxes are of classes outside the categories: {names}", stacklevel=3)


def _box_records(
    found: Detections, captions: Iterable[str], *, image_id: int | str, categories: Mapping[str, int]
) -> list[dict[str, Any]]:
    boxes = box_convert(found.boxes, "xyxy", "xywh").double()
    areas = boxes[:, 2:].prod(dim=1).tolist()
    attributes = attributes_of_boxes(found.labels, areas, captions)
    return [
        {
            "image_id": image_id,
            "category_id": categories[label],
            "bbox": [round(side, 2) for side in box],
            "area": round(area, 2),
            "iscrowd": 0,
            "score": round(score, 4),
            "attributes": names,
        }
        for label, box, area, score, names in zip(
            found.labels, boxes.tolist(), areas, found.scores.tolist(), attributes, strict=True
        )
    ]
