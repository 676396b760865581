"""Where a region source looks: its boxes of every image, the surest first, for `box_recall`.

images --detector | grid | model with one | teacher | store | fixed boxes--> boxes (R, 4) xyxy 0..1 and their scores
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from datasets import Dataset
from PIL.Image import Image as PilImage
from torchvision.ops import nms
from tqdm.auto import tqdm

from modeling_updown import UpDownImageProcessor
from modeling_updown.boxes_updown import grid_boxes, pyramid_boxes
from training.regions.extract import RegionExtractor, image_of, undecoded
from training.regions.shards import read_manifests
from training.regions.store import RegionStore
from training.regions.stored_images import check_missing, rows_in_store
from training.tasks.build import load_region_source
from training.teachers.detectors import load_teacher
from training.teachers.made_boxes import keep_best

TEACHER, ONNX = "teacher:", ".onnx"
SAME_BOX_IOU = 0.9  # of two classes
TEACHER_NMS_IOU, TEACHER_THRESHOLD = 0.45, 0.01  # lower scores are not among the first regions
SOURCE_HELP = (
    "a folder of a detector, a grid or a model with one; a region store; a teacher (FILE.onnx, or teacher:NAME of "
    "transformers); grid:N for N x N cells; pyramid:1,2,3 for a pyramid of boxes"
)

Boxes = dict[str, Any]  # `boxes` (R, 4) and perhaps `scores` (R,), arrays


def source_boxes(source: str, rows: Dataset, *, most: int, batch_size: int = 16) -> list[Boxes]:
    """The regions of each row's image: `boxes` (R, 4) xyxy 0..1 and, where the source has them, `scores` (R,).

    Args:
        source: see `SOURCE_HELP`.
        rows: columns image_id and image; images are read only where the source looks at them.
        most: so many regions are asked of a detector, whatever its processor says; others give all they have.
        batch_size: images at a time.

    Raises:
        ValueError: for a source that is none of these, an image that cannot be read, or one that a store lacks.
    """
    kind, _, numbers = source.partition(":")
    if kind in FIXED_BOXES:
        return [{"boxes": FIXED_BOXES[kind](whole_numbers(numbers, source)).numpy()}] * len(rows)
    images = undecoded(rows)
    if read_manifests(Path(source)):
        return stored_boxes(RegionStore(source), images)
    if source.startswith(TEACHER) or source.endswith(ONNX):
        teacher = load_teacher(source.removeprefix(TEACHER), names=None, threshold=TEACHER_THRESHOLD)
        look = partial(teacher_boxes, teacher)
    else:
        look = partial(model_boxes, region_extractor(source, most=most))
    found: list[Boxes] = []
    with tqdm(total=len(images), desc=f"regions of {source}", unit="image") as bar:
        for batch in batches(images, batch_size):
            found += look(batch)
            bar.update(len(batch))
    return found


def whole_numbers(text: str, source: str) -> list[int]:
    """The numbers of `grid:7` or `pyramid:1,2,3`; `ValueError` where there is none, or one below 1."""
    parts = text.split(",")
    if not all(part.isdecimal() and int(part) for part in parts):
        raise ValueError(f"{source}: write the number of cells a side (grid:7), or the levels (pyramid:1,2,3)")
    return [int(part) for part in parts]


def square_cells(sides: list[int]) -> torch.Tensor:
    """The cells of one or several grids of so many cells a side, one grid after the other: (R, 4).

    >>> square_cells([1, 2]).shape
    torch.Size([5, 4])
    """
    return torch.cat([grid_boxes(side, side) for side in sides])


FIXED_BOXES: Mapping[str, Callable[[list[int]], torch.Tensor]] = {"grid": square_cells, "pyramid": pyramid_boxes}


def stored_boxes(store: RegionStore, rows: Dataset) -> list[Boxes]:
    """The boxes and scores that a store holds of undecoded rows; `ValueError` where it lacks an image."""
    names = rows_in_store(rows, store)
    ids = rows["image_id"][:]
    check_missing(ids, names, store=store, min_share=1.0)
    columns = ["region_boxes", *(["region_scores"] if "region_scores" in store.column_names else [])]
    return [kept_boxes(store.batch([names[image_id]], columns=columns), 0) for image_id in ids]


def region_extractor(folder: str, *, most: int | None = None) -> RegionExtractor:
    """The region source of a saved folder; a detector keeps `most` regions of an image, or as its processor says."""
    source, processor = load_region_source(folder), UpDownImageProcessor.from_pretrained(folder)
    accelerator = Accelerator()
    extractor = RegionExtractor(
        source.to(accelerator.device).eval(), processor, accelerator=accelerator, flipped=False, soft_labels=False
    )
    is_detector = source.config.model_type == "updown_detector"
    extractor.select({"min_regions": most, "max_regions": most} if most and is_detector else None)
    return extractor


@torch.no_grad()
def model_boxes(extractor: RegionExtractor, images: list[PilImage]) -> list[Boxes]:
    """The boxes and scores of a region source."""
    regions = extractor.regions(images)
    return [kept_boxes(regions, place) for place in range(len(images))]


def kept_boxes(regions: Mapping[str, torch.Tensor], place: int) -> Boxes:
    """The real regions' boxes of one image of a batch, and their scores if there are any."""
    kept, scores = regions["region_mask"][place], regions.get("region_scores")
    found = {"boxes": regions["region_boxes"][place][kept].float().cpu().numpy()}
    return found if scores is None else found | {"scores": scores[place][kept].float().cpu().numpy()}


def teacher_boxes(teacher: Any, images: list[PilImage]) -> list[Boxes]:
    """A teacher's boxes of images, after non-maximum suppression within each class; a box of several classes is one."""
    found = []
    for image, seen in zip(images, teacher(images), strict=True):
        best = keep_best(seen, nms_iou=TEACHER_NMS_IOU, size=image.size)
        kept = nms(best.boxes, best.scores.float(), SAME_BOX_IOU)
        boxes = best.boxes[kept].numpy() / np.array(image.size * 2)
        found.append({"boxes": boxes, "scores": best.scores[kept].numpy()})
    return found


def batches(rows: Dataset, size: int) -> Iterator[list[PilImage]]:
    """The images of undecoded rows, `size` at a time; `ValueError` naming one that cannot be read."""
    for start in range(0, len(rows), size):
        images = []
        for place in range(start, min(start + size, len(rows))):
            try:
                images.append(image_of(rows[place]).convert("RGB"))
            except (OSError, ValueError) as error:
                raise ValueError(f"image {rows[place]['image_id']!r} cannot be read: {error}") from error
        yield images
