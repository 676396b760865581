"""Boxes for unlabelled images: a teacher's detections, and attributes from captions, as a COCO instances file.

    images --training/teachers/detectors.py--> Detections --detect--> boxes.json
    boxes.json + captions --describe_boxes--> the same with "attributes" in every annotation
    boxes.json --training/data/boxes/formats.py--> rows of a detection data set

Three commands: `detect` makes boxes, `describe` adds attributes to existing boxes, `compare` finds the score threshold
at which a teacher's boxes agree best with real ones. Training on such boxes is distillation: the student learns the
teacher's predictions, including its mistakes.
"""

import argparse
import inspect
import os
import sys
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from PIL.Image import Image as PilImage
from torchvision.ops import batched_nms, box_convert
from tqdm.auto import tqdm

from modeling_updown.boxes_updown import pairwise_iou
from training.console import one_line, positive, say
from training.data.boxes.caption_attributes import ATTRIBUTES, attributes_of_boxes, labels_by_captions
from training.data.boxes.names import COCO_NAMES
from training.data.captions.formats import CAPTION_FORMATS, load_captions
from training.data.captions.rows import CAPTION_FEATURES
from training.data.files import IMAGE_SUFFIXES, PathLike, column, read_json, records, write_json
from training.regions.extract import readable_images, undecoded
from training.teachers.detectors import Detections, Teacher, load_teacher

# COCO does not use 10 of the ids 1..90; the names are in the order of the ids
COCO_ABSENT_IDS = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
COCO_IDS = tuple(number for number in range(1, 91) if number not in COCO_ABSENT_IDS)
COCO_CATEGORIES = dict(zip(COCO_NAMES, COCO_IDS, strict=True))
# Darknet's names of COCO classes, which many detectors use
OTHER_NAMES = {
    "motorbike": "motorcycle",
    "aeroplane": "airplane",
    "sofa": "couch",
    "pottedplant": "potted plant",
    "diningtable": "dining table",
    "tvmonitor": "tv",
}
FORMATS = ("coco", "flickr30k_entities", "flickr_tokens", "karpathy", "nocaps", "vizwiz")
SMALLEST_SIDE_PIXELS = 1.0
MATCHING_IOU = 0.5

EXAMPLES = """\
examples:
  any images, the FastestDet teacher (pip install 'modeling-updown[distill]'; coco.names is in the ONNX file's folder):
    python -m training.teachers.pseudo_boxes detect photos/ --teacher FastestDet.onnx --output boxes.json
  images with captions, so that boxes get attributes, and a teacher of the Hub:
    python -m training.teachers.pseudo_boxes detect data/flickr8k/images --format karpathy \\
        --annotations data/flickr8k/dataset_flickr8k.json --teacher facebook/detr-resnet-50 --output boxes.json
  attributes for real boxes (or again for made ones):
    python -m training.teachers.pseudo_boxes describe instances.json --annotations captions.json --output described.json
  find the best --threshold: detect with --threshold 0.01 on images that have real boxes, then
    python -m training.teachers.pseudo_boxes compare boxes.json instances.json
"""


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
    return Detections(boxes[rows], found.scores[rows], [found.labels[row] for row in rows.tolist()])


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
) -> dict[str, Any]:
    """Boxes of a teacher for every readable image, as the content of a COCO instances file.

    Args:
        rows: columns image_id, image, captions, split (training/data/captions/rows.py, or `folder_rows`).
        teacher: images -> Detections.
        folder: the images' folder; `file_name` is written relative to it.
        threshold: lowest score of a box.
        nms_iou: see `keep_best`.
        batch_size: images per call of the teacher.
        categories: class name -> COCO id, by default COCO's; boxes of other classes are counted and left out.
        box_source: the maker of the boxes, recorded with every image.

    Returns:
        `images` (id, file_name, width, height, image_id, split, box_source), `annotations` (bbox xywh in pixels, area,
        score, iscrowd 0, and the `attributes` that the captions give them), `categories`, `attributes`. The id of an
        image is its `image_id` as a number (`000000000009.jpg`: 9) if all are different numbers, else its `image_id`.
        Captions also correct the names of animals (`labels_by_captions`).

    Raises:
        ValueError: if no image can be read, or none of the teacher's classes is a category.
    """
    rows, categories = undecoded(rows), COCO_CATEGORIES if categories is None else categories
    names = rows["image_id"][:]
    place = {name: (row, image_id) for row, (name, image_id) in enumerate(zip(names, _image_ids(names), strict=True))}
    broken: list[str] = []
    unknown: Counter[str] = Counter()
    images, annotations = [], []
    with tqdm(total=len(rows), desc="boxes", unit="image") as bar:
        for start in range(0, len(rows), batch_size):
            indices = list(range(start, min(start + batch_size, len(rows))))
            batch = list(readable_images(rows, indices, broken))
            boxes = teacher([image for _, image in batch]) if batch else []
            for (name, image), found in zip(batch, boxes, strict=True):
                number, image_id = place[name]
                row = rows[number]
                record = _image_record(row, image, folder=folder)
                images.append({"id": image_id, **record, "box_source": box_source})
                found = _known(found, categories, unknown=unknown, threshold=threshold)
                found = _relabelled(found, labels_by_captions(found.labels, row["captions"]))
                found = keep_best(found, nms_iou=nms_iou, size=image.size)
                annotations += _box_records(found, row["captions"], image_id=image_id, categories=categories)
            bar.update(len(indices))
    if broken:
        head = f"{len(broken)} images could not be read and were skipped:"
        say(head, *(f"  {line}" for line in broken), file=sys.stderr)
    if not images:
        raise ValueError("none of the images can be read")
    _report_unknown(unknown, annotations)
    return coco_instances(images, annotations, categories)


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


def checked_boxes(content: Any, path: PathLike) -> list[dict[str, Any]]:
    """The annotations of an instances file; raises `ValueError` for one without an image or box."""
    notes = records(content, "annotations", path)
    column(notes, "image_id", path)
    for number, bbox in enumerate(column(notes, "bbox", path)):
        if not (isinstance(bbox, list) and len(bbox) == 4 and all(isinstance(side, int | float) for side in bbox)):
            raise ValueError(f"{path}: record {number} of 'annotations' has the bbox {bbox!r}, not x, y, width, height")
    return notes


def categories_of(content: Any, path: PathLike) -> dict[str, int]:
    """Class name -> id, from the categories of a COCO file."""
    found = records(content, "categories", path)
    return dict(zip(column(found, "name", path), column(found, "id", path), strict=True))


def describe_boxes(boxes: PathLike, annotations: PathLike) -> dict[str, Any]:
    """An instances file with `attributes` from a captions file of the COCO layout, matched by image ids.

    Boxes of crowds get no attributes. Fields of an image that only the captions file has (such as a split) are added.

    Raises:
        ValueError: for files of another layout, and files without a common image.
    """
    content, written = read_json(boxes), read_json(annotations)
    images, others = _images_by_id(content, boxes), _images_by_id(written, annotations)
    if not images.keys() & others.keys():
        raise ValueError(f"{boxes} and {annotations} share no image id; are they of the same data set?")
    captions: dict[Any, list[str]] = defaultdict(list)
    sentences = records(written, "annotations", annotations)
    for note, text in zip(sentences, column(sentences, "caption", annotations), strict=True):
        captions[str(note.get("image_id"))].append(str(text))
    name_of = {number: name for name, number in categories_of(content, boxes).items()}
    notes_of: dict[str, list[dict[str, Any]]] = defaultdict(list)
    notes = [dict(note) for note in checked_boxes(content, boxes)]
    for note in notes:
        notes_of[str(note["image_id"])].append(note)
    for image_id, group in notes_of.items():
        labels = [name_of.get(note.get("category_id", 0), "") for note in group]
        # with area 0 a crowd is neither the largest box nor in the foreground, so it gets no attributes
        areas = [0.0 if note.get("iscrowd") else note["bbox"][2] * note["bbox"][3] for note in group]
        for note, attributes in zip(group, attributes_of_boxes(labels, areas, captions[image_id]), strict=True):
            note["attributes"] = [] if note.get("iscrowd") else attributes
    listed = [{**others.get(image_id, {}), **record} for image_id, record in images.items()]
    return {**content, "images": listed, "annotations": notes, "attributes": attribute_records()}


def best_threshold(made: Sequence[Mapping[str, Any]], real: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The score threshold at which made boxes agree best with real ones, by F1 over all boxes.

    In the order of their scores, made boxes are matched with the free real box of their class that they overlap most,
    by an IoU of at least 0.5. Real crowds are left out.

    Args:
        made, real: annotations of the same images (image_id, category_id, bbox xywh), the made ones with a score.

    Returns:
        threshold, precision, recall, f1.

    Raises:
        ValueError: if there are no real boxes, or no made ones.

    >>> box = {"image_id": 1, "category_id": 1, "bbox": [0, 0, 10, 10]}
    >>> best_threshold([{**box, "score": 0.9}, {**box, "score": 0.4}], [box])["threshold"]
    0.9
    """
    truths: dict[tuple[str, Any], list[Sequence[float]]] = defaultdict(list)
    for note in real:
        if not note.get("iscrowd"):
            truths[str(note["image_id"]), note["category_id"]].append(note["bbox"])
    total, ranked = sum(map(len, truths.values())), sorted(made, key=lambda note: -note["score"])
    if not total or not ranked:
        raise ValueError("there is no box to compare; give made and real boxes of the same images")
    free = {key: box_convert(torch.tensor(boxes).double(), "xywh", "xyxy") for key, boxes in truths.items()}
    hits = np.array([_takes_real_box(note, free) for note in ranked])
    correct, count = hits.cumsum(), np.arange(1, len(ranked) + 1)
    f1 = 2 * correct / (count + total)
    best = int(f1.argmax())
    return {
        "threshold": float(ranked[best]["score"]),
        "precision": float(correct[best] / count[best]),
        "recall": float(correct[best] / total),
        "f1": float(f1[best]),
    }


def _takes_real_box(note: Mapping[str, Any], free: dict[tuple[str, Any], torch.Tensor]) -> bool:
    """Whether a made box matches one of the free real boxes (each (N, 4) xyxy), which is then removed."""
    key = str(note["image_id"]), note["category_id"]
    boxes = free.get(key)
    if boxes is None or not len(boxes):
        return False
    overlaps = pairwise_iou(box_convert(torch.tensor([note["bbox"]]).double(), "xywh", "xyxy"), boxes)[0]  # (N,)
    best = int(overlaps.argmax())
    if overlaps[best] < MATCHING_IOU:
        return False
    free[key] = torch.cat([boxes[:best], boxes[best + 1 :]])
    return True


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
    enough = Detections(found.boxes[rows], found.scores[rows], labels)
    return _relabelled(enough, [label if label in categories else None for label in labels])


def _relabelled(found: Detections, labels: Sequence[str | None]) -> Detections:
    """The boxes with new labels, without those whose label is None."""
    rows = [row for row, label in enumerate(labels) if label is not None]
    return Detections(found.boxes[rows], found.scores[rows], [label for label in labels if label is not None])


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


def _images_by_id(content: Any, path: PathLike) -> dict[str, dict[str, Any]]:
    """Image id as text -> record, since files of one data set write ids as numbers or as text."""
    found = records(content, "images", path)
    return {str(image_id): record for image_id, record in zip(column(found, "id", path), found, strict=True)}


def share(text: str) -> float:
    """The type of an argument: a number in 0..1."""
    number = float(text)
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not in 0..1")
    return number


def build_parser() -> argparse.ArgumentParser:
    """The parser of the three commands."""
    parser = argparse.ArgumentParser(
        prog="python -m training.teachers.pseudo_boxes",
        description="Boxes and attributes for images that have none, as COCO instances files.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    made = commands.add_parser("detect", help="boxes of a teacher for every image")
    made.add_argument("images", type=Path, help="the image folder")
    made.add_argument("--teacher", required=True, help="a FastestDet .onnx file, or a transformers name or folder")
    made.add_argument(
        "--names", type=Path, help="its classes, one per line (default: coco.names in the ONNX file's folder)"
    )
    made.add_argument("--format", choices=FORMATS, help="the format of the captions")
    made.add_argument("--annotations", type=Path, help="the captions, which give boxes attributes and images a split")
    made.add_argument("--categories", type=Path, help="a COCO file with the categories to use (default: COCO's 80)")
    made.add_argument("--threshold", type=share, default=0.6, help="lowest score of a box (default: %(default)s)")
    made.add_argument("--nms-iou", type=share, default=0.45, help="overlap of two boxes of a class (%(default)s)")
    made.add_argument("--batch-size", type=positive, default=16, help="images per batch (default: %(default)s)")
    made.set_defaults(run=run_detect)
    described = commands.add_parser("describe", help="attributes from captions for existing boxes")
    described.add_argument("boxes", type=Path, help="a COCO instances file")
    described.add_argument("--annotations", type=Path, required=True, help="captions of the same images, COCO layout")
    described.set_defaults(run=run_describe)
    for command in (made, described):
        command.add_argument("--output", type=Path, required=True, help="the JSON file to write")
    compared = commands.add_parser("compare", help="the score threshold with the best F1 against real boxes")
    compared.add_argument("boxes", type=Path, help="boxes of `detect` with a low threshold")
    compared.add_argument("real", type=Path, help="a COCO instances file of the same images")
    compared.add_argument("--without", metavar="FIELD=VALUE", help="leave out images, such as karpathy_split=test")
    compared.set_defaults(run=run_compare)
    return parser


def run_detect(arguments: argparse.Namespace) -> None:
    """`detect`: images, and captions if given -> boxes.json."""
    if (arguments.format is None) != (arguments.annotations is None):
        raise ValueError("--format and --annotations belong together: give the captions and their format")
    if arguments.format:
        annotations_option = next(iter(inspect.signature(CAPTION_FORMATS[arguments.format]).parameters))
        options = {annotations_option: arguments.annotations, "images": arguments.images}
        rows = load_captions(arguments.format, **options)
    else:
        rows = folder_rows(arguments.images)
    chosen = arguments.categories
    categories = categories_of(read_json(chosen), chosen) if chosen else None
    content = detect(
        rows,
        load_teacher(arguments.teacher, names=arguments.names, threshold=arguments.threshold),
        folder=arguments.images,
        threshold=arguments.threshold,
        nms_iou=arguments.nms_iou,
        batch_size=arguments.batch_size,
        categories=categories,
        box_source=Path(arguments.teacher).stem if arguments.teacher.endswith(".onnx") else arguments.teacher,
    )
    write_json(arguments.output, content, indent=None)
    say(*summary(content).split("\n"))


def run_describe(arguments: argparse.Namespace) -> None:
    """`describe`: boxes and captions -> boxes with attributes."""
    content = describe_boxes(arguments.boxes, arguments.annotations)
    write_json(arguments.output, content, indent=None)
    say(*summary(content).split("\n"))


def run_compare(arguments: argparse.Namespace) -> None:
    """`compare`: made boxes and real ones -> the best threshold."""
    boxes, real = read_json(arguments.boxes), read_json(arguments.real)
    made, notes = checked_boxes(boxes, arguments.boxes), checked_boxes(real, arguments.real)
    column(made, "score", arguments.boxes)
    field, _, value = (arguments.without or "").partition("=")
    kept = {
        image_id
        for image_id, record in _images_by_id(real, arguments.real).items()
        if not field or str(record.get(field)) != value
    }
    kept &= _images_by_id(boxes, arguments.boxes).keys()
    best = best_threshold(*([note for note in part if str(note["image_id"]) in kept] for part in (made, notes)))
    say(f"{len(kept)} images  " + "  ".join(f"{name} {figure:.3f}" for name, figure in best.items()))


def summary(content: Mapping[str, Any]) -> str:
    """The numbers of images and boxes, and the counts of the most common classes and of each attribute."""
    names = {record["id"]: record["name"] for record in content["categories"]}
    notes = content["annotations"]
    classes = Counter(names.get(note["category_id"], "?") for note in notes)
    attributes = Counter(attribute for note in notes for attribute in note.get("attributes", ()))
    images = len(content["images"])
    return "\n".join(
        [
            f"{images} images, {len(notes)} boxes, {len(notes) / max(images, 1):.2f} per image, "
            f"{sum(bool(note.get('attributes')) for note in notes)} of them with attributes",
            "classes: " + ", ".join(f"{name} {count}" for name, count in classes.most_common(20)),
            "attributes: " + ", ".join(f"{name} {count}" for name, count in attributes.most_common()),
        ]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns 0, or 2 after an error of the user, which is printed on one line."""
    parsed = build_parser().parse_args(arguments)
    try:
        parsed.run(parsed)
    except (OSError, ValueError, ImportError) as error:
        say(f"pseudo_boxes {parsed.command}: {one_line(error)}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
