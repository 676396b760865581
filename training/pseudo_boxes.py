"""Boxes for photos that have none: a teacher's detections, and attributes from captions, as a COCO instances file.

    photos --teacher--> Detections --coco_instances--> boxes.json --read by training/data as any COCO instances file
    boxes.json + captions --describe_boxes--> the same with "attributes" in every annotation

Three commands: `detect` makes boxes, `describe` gives boxes that are there attributes, `compare` finds the score from
which on a teacher's boxes agree best with real ones. A teacher is any callable from photos to `Detections`: FastestDet
(github.com/dog-qiuqiu/FastestDet) through onnxruntime, or any object detector of transformers. Training on such boxes
is distillation: the student learns what the teacher believes, its mistakes included.
"""

import argparse
import inspect
import json
import os
import sys
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from PIL import Image
from PIL.Image import Image as PilImage
from torchvision.ops import batched_nms, box_convert, box_iou
from tqdm.auto import tqdm

from training.data.caption_attributes import ATTRIBUTES, attributes_of_boxes, labels_by_captions
from training.data.caption_rows import CAPTION_FEATURES
from training.data.captioning import CAPTION_FORMATS, load_captions
from training.data.files import PathLike, column, read_json, read_lines, records
from training.extract_regions import readable_photos, undecoded

# COCO leaves out 10 of the ids 1..90; the names stand in the order of the ids
COCO_NAMES = (
    *("person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light"),
    *("fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow"),
    *("elephant", "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee"),
    *("skis", "snowboard", "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard"),
    *("tennis racket", "bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple"),
    *("sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch"),
    *("potted plant", "bed", "dining table", "toilet", "tv", "laptop", "mouse", "remote", "keyboard", "cell phone"),
    *("microwave", "oven", "toaster", "sink", "refrigerator", "book", "clock", "vase", "scissors", "teddy bear"),
    *("hair drier", "toothbrush"),
)
COCO_ABSENT_IDS = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
COCO_IDS = tuple(number for number in range(1, 91) if number not in COCO_ABSENT_IDS)
COCO_CATEGORIES = dict(zip(COCO_NAMES, COCO_IDS, strict=True))
# Darknet's names of COCO classes, which many detectors keep
OTHER_NAMES = {
    "motorbike": "motorcycle",
    "aeroplane": "airplane",
    "sofa": "couch",
    "pottedplant": "potted plant",
    "diningtable": "dining table",
    "tvmonitor": "tv",
}
FORMATS = ("coco", "flickr30k_entities", "flickr_tokens", "karpathy", "nocaps", "vizwiz")
PHOTO_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif"}
FASTESTDET_OUTPUTS = 5  # numbers of a cell before its class scores
SMALLEST_SIDE_PIXELS = 1.0
MATCHING_IOU = 0.5

EXAMPLES = """\
examples:
  any photos, the FastestDet teacher (pip install 'updown[distill]'; coco.names lies beside the ONNX file):
    python -m training.pseudo_boxes detect photos/ --teacher FastestDet.onnx --output boxes.json
  photos with captions, so that boxes get attributes, and a teacher of the Hub:
    python -m training.pseudo_boxes detect data/flickr8k/images --format karpathy \\
        --annotations data/flickr8k/dataset_flickr8k.json --teacher facebook/detr-resnet-50 --output boxes.json
  attributes for real boxes (or again for made ones):
    python -m training.pseudo_boxes describe instances.json --annotations captions.json --output described.json
  which --threshold to take: detect with --threshold 0.01 on photos that have real boxes, then
    python -m training.pseudo_boxes compare boxes.json instances.json
"""


@dataclass(frozen=True)
class Detections:
    """What a teacher sees in one photo: `boxes` (N, 4) xyxy in pixels, `scores` (N,) 0..1, N class `labels`."""

    boxes: torch.Tensor
    scores: torch.Tensor
    labels: list[str]


Teacher = Callable[[Sequence[PilImage]], list[Detections]]


class FastestDetTeacher:
    """The FastestDet detector in ONNX, on one core of the CPU.

    Args:
        model: the ONNX file; one input (1, 3, height, width), one output (1, 5 + classes, rows, columns).
        names: the class names, one a line in the order of the outputs; by default `coco.names` beside the model.

    Raises:
        ImportError: without onnxruntime.
        ValueError: for a file that is no such model, or names that are not as many as its classes.
    """

    def __init__(self, model: PathLike, *, names: PathLike | None = None):
        try:
            import onnxruntime
        except ImportError as error:
            raise ImportError("an ONNX teacher needs onnxruntime: pip install 'updown[distill]'") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        try:
            self.session = onnxruntime.InferenceSession(
                os.fspath(model), sess_options=options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime has an exception class for each of its status codes, and no base
            raise ValueError(f"{model} is no ONNX model that onnxruntime can run: {error}") from error
        entry, result = self.session.get_inputs()[0], self.session.get_outputs()[0]
        self.input_name, (self.height, self.width) = entry.name, entry.shape[2:]
        self.names = read_lines(Path(model).with_name("coco.names") if names is None else names)
        if result.shape[1] != FASTESTDET_OUTPUTS + len(self.names):
            raise ValueError(
                f"{model} gives {result.shape[1]} numbers a cell, but {len(self.names)} class names need "
                f"{FASTESTDET_OUTPUTS + len(self.names)}; give the model's own list with --names"
            )

    def __call__(self, photos: Sequence[PilImage]) -> list[Detections]:
        """Every cell of every photo, unfiltered."""
        return [self.detect(photo) for photo in photos]

    def detect(self, photo: PilImage) -> Detections:
        """One photo, squashed to the input's size as in its training; bicubic agrees best with real boxes."""
        squashed = photo.convert("RGB").resize((self.width, self.height), Image.Resampling.BICUBIC)
        bgr = np.asarray(squashed, dtype=np.float32)[:, :, ::-1].transpose(2, 0, 1) / 255
        cells = self.session.run(None, {self.input_name: np.ascontiguousarray(bgr[None])})[0][0]
        boxes, scores, classes = decode_fastestdet(torch.from_numpy(cells))
        size = torch.tensor([photo.width, photo.height] * 2)
        return Detections(boxes * size, scores, [self.names[number] for number in classes.tolist()])


def decode_fastestdet(cells: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The output map of one photo -> a box for every cell.

    The box's centre lies tanh(output) cells from the cell's corner, its sides are sigmoid(output) of the photo's; the
    score is objectness^0.6 times the best class's probability^0.4, as in the reference implementation.

    Args:
        cells: (5 + C, rows, columns): objectness 0..1, x, y, width, height, and C class probabilities.

    Returns:
        boxes (rows * columns, 4) xyxy in 0..1, scores (rows * columns,), classes (rows * columns,) from 0.
    """
    _, rows, columns = cells.shape
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    class_probs, classes = cells[FASTESTDET_OUTPUTS:].max(dim=0)  # (rows, columns)
    centre_x, centre_y = (x + cells[1].tanh()) / columns, (y + cells[2].tanh()) / rows
    boxes = torch.stack([centre_x, centre_y, cells[3].sigmoid(), cells[4].sigmoid()], dim=-1).flatten(0, 1)
    scores = cells[0] ** 0.6 * class_probs**0.4
    return box_convert(boxes, "cxcywh", "xyxy").clamp(0, 1), scores.flatten(), classes.flatten()


class TransformersTeacher:
    """Any object detector of transformers, by Hub name or folder; runs on a GPU where there is one.

    Args:
        model: what `pipeline("object-detection", model=...)` takes.
        threshold: boxes of a lower score are not even looked at.
    """

    def __init__(self, model: str, *, threshold: float = 0.0):
        from transformers import pipeline

        self.pipeline = pipeline("object-detection", model=model)
        self.threshold = threshold

    def __call__(self, photos: Sequence[PilImage]) -> list[Detections]:
        """The pipeline's boxes over `threshold`."""
        found = self.pipeline(list(photos), threshold=self.threshold, batch_size=len(photos))
        return [
            Detections(
                boxes=torch.tensor(
                    [[box["box"][side] for side in ("xmin", "ymin", "xmax", "ymax")] for box in boxes],
                    dtype=torch.float32,
                ).view(-1, 4),
                scores=torch.tensor([box["score"] for box in boxes], dtype=torch.float32),
                labels=[box["label"] for box in boxes],
            )
            for boxes in found
        ]


def keep_best(found: Detections, *, threshold: float, nms_iou: float, size: tuple[int, int]) -> Detections:
    """The boxes of at least `threshold`, cut to the photo, without those that overlap a better one of their class.

    Args:
        found: a teacher's boxes of one photo.
        threshold: lowest score.
        nms_iou: overlap from which on the lower of two boxes of one class goes (1.0 keeps all).
        size: (width, height) of the photo in pixels.

    Returns:
        The boxes left, best first; those under a pixel wide or high are gone too.
    """
    boxes = found.boxes.float().clamp(min=0).minimum(torch.tensor(size * 2, dtype=torch.float32))
    numbers = {label: number for number, label in enumerate(dict.fromkeys(found.labels))}
    classes = torch.tensor([numbers[label] for label in found.labels], dtype=torch.int64)
    wide = (boxes[:, 2:] - boxes[:, :2]).min(dim=1).values >= SMALLEST_SIDE_PIXELS if len(boxes) else boxes[:, 0] > 0
    rows = torch.nonzero((found.scores >= threshold) & wide).squeeze(1)
    rows = rows[batched_nms(boxes[rows], found.scores[rows].float(), classes[rows], nms_iou)]
    return Detections(boxes[rows], found.scores[rows], [found.labels[row] for row in rows.tolist()])


def folder_rows(folder: PathLike) -> datasets.Dataset:
    """The photos under a folder, sorted, as caption rows without captions; their id is the path in the folder."""
    if not os.path.isdir(folder):
        raise ValueError(f"there is no photo folder {folder}")
    paths = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in PHOTO_SUFFIXES)
    if not paths:
        raise ValueError(f"{folder} holds no photo ({', '.join(sorted(PHOTO_SUFFIXES))})")
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
) -> dict[str, Any]:
    """Boxes of a teacher for every readable photo, as the content of a COCO instances file.

    Args:
        rows: columns image_id, image, captions, split (training/data/caption_rows.py, or `folder_rows`).
        teacher: photos -> Detections.
        folder: where the photos lie; `file_name` is written relative to it.
        threshold, nms_iou: see `keep_best`.
        batch_size: photos the teacher gets at a time.
        categories: class name -> COCO id, COCO's own by default; boxes of other classes are counted and left out.

    Returns:
        `images` (id, file_name, width, height, image_id, split), `annotations` (bbox xywh in pixels, area, score,
        iscrowd 0, and the `attributes` that the captions give them), `categories`, `attributes`. The id of a photo is
        the number its `image_id` is (`000000000009.jpg`: 9) where all are different numbers, else its place among the
        rows, from 1. Captions also correct the names of animals (`labels_by_captions`).

    Raises:
        ValueError: where no photo can be read, or the teacher knows none of the categories.
    """
    rows, categories = undecoded(rows), COCO_CATEGORIES if categories is None else categories
    numbers = _photo_numbers(rows["image_id"][:])
    row_of = {image_id: row for row, image_id in enumerate(rows["image_id"][:])}
    broken: list[str] = []
    unknown: Counter[str] = Counter()
    images, annotations = [], []
    with tqdm(total=len(rows), desc="boxes", unit="photo") as bar:
        for start in range(0, len(rows), batch_size):
            indices = list(range(start, min(start + batch_size, len(rows))))
            batch = list(readable_photos(rows, indices, broken))
            boxes = teacher([photo for _, photo in batch]) if batch else []
            for (image_id, photo), found in zip(batch, boxes, strict=True):
                row = rows[row_of[image_id]]
                images.append(_image_record(row, photo, number=numbers[image_id], folder=folder))
                found = _known(found, categories, unknown)
                found = _corrected(found, labels_by_captions(found.labels, row["captions"]))
                found = keep_best(found, threshold=threshold, nms_iou=nms_iou, size=photo.size)
                annotations += _box_records(found, row["captions"], number=numbers[image_id], categories=categories)
            bar.update(len(indices))
    if broken:
        print(f"{len(broken)} photos could not be read and were skipped:", *broken, sep="\n  ", file=sys.stderr)
    if not images:
        raise ValueError("none of the photos can be read")
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
        "attributes": [{"id": number, "name": name} for number, name in enumerate(ATTRIBUTES, start=1)],
    }


def describe_boxes(boxes: PathLike, annotations: PathLike) -> dict[str, Any]:
    """An instances file with `attributes` from a captions file of the COCO layout, read by the photos' ids.

    Boxes of crowds get none, and count as further boxes of their class. Fields that only the captions file gives an
    image (a split, say) are added to it.

    Raises:
        ValueError: for files of another layout, and where they share no photo.
    """
    content, written = read_json(boxes), read_json(annotations)
    images = {record["id"]: record for record in _with_ids(content, boxes)}
    others = {record["id"]: record for record in _with_ids(written, annotations)}
    if not images.keys() & others.keys():
        raise ValueError(f"{boxes} and {annotations} share no photo id; are they of the same data set?")
    captions: dict[Any, list[str]] = defaultdict(list)
    for note in records(written, "annotations", annotations):
        captions[note.get("image_id")].append(str(note.get("caption", "")))
    name_of = {record["id"]: record["name"] for record in records(content, "categories", boxes)}
    notes_of: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    notes = [dict(note) for note in records(content, "annotations", boxes)]
    for note, image_id in zip(notes, column(notes, "image_id", boxes), strict=True):
        notes_of[image_id].append(note)
    for image_id, group in notes_of.items():
        labels = [name_of.get(note.get("category_id"), "") for note in group]
        areas = [note["bbox"][2] * note["bbox"][3] for note in group]
        for note, attributes in zip(group, attributes_of_boxes(labels, areas, captions[image_id]), strict=True):
            note["attributes"] = [] if note.get("iscrowd") else attributes
    listed = [{**others.get(image_id, {}), **record} for image_id, record in images.items()]
    known = [{"id": number, "name": name} for number, name in enumerate(ATTRIBUTES, start=1)]
    return {**content, "images": listed, "annotations": notes, "attributes": known}


def best_threshold(boxes: Mapping[str, Any], real: Mapping[str, Any]) -> dict[str, float]:
    """The score from which on made boxes agree best with real ones, by F1 over all boxes.

    Best first, a made box takes the free real box of its class that it overlaps most, by half at least (intersection
    over union); real crowds are no boxes. Photos that are in one file only do not count.

    Returns:
        threshold, precision, recall, f1.

    Raises:
        ValueError: where the files share no photo, or the shared ones have no box.
    """
    shared = {record["id"] for record in boxes["images"]} & {record["id"] for record in real["images"]}
    truths: dict[tuple[Any, Any], list[list[float]]] = defaultdict(list)
    for note in real["annotations"]:
        if note["image_id"] in shared and not note.get("iscrowd"):
            truths[note["image_id"], note["category_id"]].append(note["bbox"])
    made = [note for note in boxes["annotations"] if note["image_id"] in shared]
    made.sort(key=lambda note: -note["score"])
    total = sum(map(len, truths.values()))
    if not total or not made:
        raise ValueError("the two files share no photo with boxes; compare boxes of the same photos")
    taken: dict[tuple[Any, Any], set[int]] = defaultdict(set)
    hits = np.array([_takes_real_box(note, truths, taken) for note in made])
    correct, count = hits.cumsum(), np.arange(1, len(made) + 1)
    f1 = 2 * correct / (count + total)
    best = int(f1.argmax())
    return {
        "threshold": float(made[best]["score"]),
        "precision": float(correct[best] / count[best]),
        "recall": float(correct[best] / total),
        "f1": float(f1[best]),
    }


def _takes_real_box(
    note: Mapping[str, Any],
    truths: Mapping[tuple[Any, Any], list[list[float]]],
    taken: dict[tuple[Any, Any], set[int]],
) -> bool:
    key = note["image_id"], note["category_id"]
    if not truths.get(key):
        return False
    made = box_convert(torch.tensor([note["bbox"]], dtype=torch.float32), "xywh", "xyxy")
    overlaps = box_iou(made, box_convert(torch.tensor(truths[key], dtype=torch.float32), "xywh", "xyxy"))[0]
    overlaps[list(taken[key])] = 0
    best = int(overlaps.argmax())
    if overlaps[best] < MATCHING_IOU:
        return False
    taken[key].add(best)
    return True


def _photo_numbers(image_ids: Sequence[str]) -> dict[str, int]:
    stems = [Path(image_id).stem for image_id in image_ids]
    numbers = [int(stem) if stem.isdecimal() else 0 for stem in stems]
    if 0 in numbers or len(set(numbers)) < len(numbers):
        numbers = list(range(1, len(image_ids) + 1))
    return dict(zip(image_ids, numbers, strict=True))


def _image_record(row: Mapping[str, Any], photo: PilImage, *, number: int, folder: PathLike) -> dict[str, Any]:
    path = row["image"]["path"]
    name = os.path.relpath(path, folder) if path and folder else path or row["image_id"]
    width, height = photo.size
    return {
        "id": number,
        "file_name": Path(name).as_posix(),
        "width": width,
        "height": height,
        "image_id": row["image_id"],
        "split": row["split"],
    }


def _known(found: Detections, categories: Mapping[str, int], unknown: Counter[str]) -> Detections:
    labels = [OTHER_NAMES.get(label, label) for label in found.labels]
    unknown.update(label for label in labels if label not in categories)
    return _corrected(found, [label if label in categories else None for label in labels])


def _corrected(found: Detections, labels: Sequence[str | None]) -> Detections:
    """The same boxes under other labels, without those whose label is None."""
    rows = [row for row, label in enumerate(labels) if label is not None]
    return Detections(found.boxes[rows], found.scores[rows], [label for label in labels if label is not None])


def _report_unknown(unknown: Counter[str], annotations: Sequence[Any]) -> None:
    names = ", ".join(name for name, _ in unknown.most_common(5))
    if unknown and not annotations:
        raise ValueError(f"the teacher's classes ({names}, ...) are none of the categories; give them in --categories")
    if unknown:
        warnings.warn(f"{unknown.total()} boxes are of classes outside the categories: {names}", stacklevel=3)


def _box_records(
    found: Detections, captions: Iterable[str], *, number: int, categories: Mapping[str, int]
) -> list[dict[str, Any]]:
    boxes = box_convert(found.boxes, "xyxy", "xywh").double()
    areas = boxes[:, 2:].prod(dim=1).tolist()
    attributes = attributes_of_boxes(found.labels, areas, captions)
    return [
        {
            "image_id": number,
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


def _with_ids(content: Any, path: PathLike) -> list[dict[str, Any]]:
    found = records(content, "images", path)
    column(found, "id", path)
    return found


def build_parser() -> argparse.ArgumentParser:
    """The three commands and what they take."""
    parser = argparse.ArgumentParser(
        prog="python -m training.pseudo_boxes",
        description="Boxes and attributes for photos that have none, as COCO instances files.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    made = commands.add_parser("detect", help="boxes of a teacher for every photo")
    made.add_argument("photos", type=Path, help="the photo folder")
    made.add_argument("--teacher", required=True, help="a FastestDet .onnx file, or a transformers name or folder")
    made.add_argument("--names", type=Path, help="its classes, one a line (default: coco.names beside the ONNX)")
    made.add_argument("--format", choices=FORMATS, help="the format of the captions")
    made.add_argument("--annotations", type=Path, help="the captions, which give boxes attributes and photos a split")
    made.add_argument("--categories", type=Path, help="a COCO file whose categories are taken (default: COCO's 80)")
    made.add_argument("--threshold", type=float, default=0.6, help="lowest score of a box (default: %(default)s)")
    made.add_argument("--nms-iou", type=float, default=0.45, help="overlap of two boxes of a class (%(default)s)")
    made.add_argument("--batch-size", type=int, default=16, help="photos at a time (default: %(default)s)")
    made.set_defaults(run=run_detect)
    described = commands.add_parser("describe", help="attributes from captions for boxes that are there")
    described.add_argument("boxes", type=Path, help="a COCO instances file")
    described.add_argument("--annotations", type=Path, required=True, help="captions of the same photos, COCO layout")
    described.set_defaults(run=run_describe)
    for command in (made, described):
        command.add_argument("--output", type=Path, required=True, help="the JSON file to write")
    compared = commands.add_parser("compare", help="the score threshold with the best F1 against real boxes")
    compared.add_argument("boxes", type=Path, help="made boxes, of a low threshold")
    compared.add_argument("real", type=Path, help="a COCO instances file of the same photos")
    compared.add_argument("--without", metavar="FIELD=VALUE", help="leave out photos, such as karpathy_split=test")
    compared.set_defaults(run=run_compare)
    return parser


def run_detect(arguments: argparse.Namespace) -> None:
    """`detect`: photos, and captions where there are some -> boxes.json."""
    if (arguments.format is None) != (arguments.annotations is None):
        raise ValueError("--format and --annotations go together: the captions, and how they are written")
    if arguments.format:
        annotations_option = next(iter(inspect.signature(CAPTION_FORMATS[arguments.format]).parameters))
        options = {annotations_option: arguments.annotations, "images": arguments.photos}
        rows = load_captions(arguments.format, **options)
    else:
        rows = folder_rows(arguments.photos)
    content = detect(
        rows,
        load_teacher(arguments.teacher, names=arguments.names, threshold=arguments.threshold),
        folder=arguments.photos,
        threshold=arguments.threshold,
        nms_iou=arguments.nms_iou,
        batch_size=arguments.batch_size,
        categories=read_categories(arguments.categories) if arguments.categories else None,
    )
    write_json(content, arguments.output)
    print(summary(content))


def run_describe(arguments: argparse.Namespace) -> None:
    """`describe`: boxes and captions -> boxes with attributes."""
    content = describe_boxes(arguments.boxes, arguments.annotations)
    write_json(content, arguments.output)
    print(summary(content))


def run_compare(arguments: argparse.Namespace) -> None:
    """`compare`: made boxes against real ones -> the threshold to take."""
    boxes, real = read_json(arguments.boxes), read_json(arguments.real)
    if arguments.without:
        field, _, value = arguments.without.partition("=")
        kept = [record for record in records(real, "images", arguments.real) if str(record.get(field)) != value]
        real = {**real, "images": kept}
    print("  ".join(f"{name} {value:.3f}" for name, value in best_threshold(boxes, real).items()))


def load_teacher(teacher: str, *, names: PathLike | None, threshold: float) -> Teacher:
    """An ONNX file is FastestDet, everything else a transformers model."""
    if teacher.endswith(".onnx"):
        return FastestDetTeacher(teacher, names=names)
    return TransformersTeacher(teacher, threshold=threshold)


def read_categories(path: PathLike) -> dict[str, int]:
    """Class name -> id, from the categories of a COCO file."""
    found = records(read_json(path), "categories", path)
    return dict(zip(column(found, "name", path), column(found, "id", path), strict=True))


def write_json(content: Mapping[str, Any], path: PathLike) -> None:
    """Writes under another name first, so that a kill leaves no half file."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    part = Path(f"{os.fspath(path)}.part")
    part.write_text(json.dumps(content), encoding="utf-8")
    part.replace(path)


def summary(content: Mapping[str, Any]) -> str:
    """Photos, boxes, and how often the commonest classes and each attribute occur."""
    names = {record["id"]: record["name"] for record in content["categories"]}
    notes = content["annotations"]
    classes = Counter(names.get(note["category_id"], "?") for note in notes)
    attributes = Counter(attribute for note in notes for attribute in note.get("attributes", ()))
    photos = len(content["images"])
    return "\n".join(
        [
            f"{photos} photos, {len(notes)} boxes, {len(notes) / max(photos, 1):.2f} a photo, "
            f"{sum(bool(note.get('attributes')) for note in notes)} of them with attributes",
            "classes: " + ", ".join(f"{name} {count}" for name, count in classes.most_common(20)),
            "attributes: " + ", ".join(f"{name} {count}" for name, count in attributes.most_common()),
        ]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command: 0 done, 2 a mistake of the user's, told in one sentence."""
    parsed = build_parser().parse_args(arguments)
    try:
        parsed.run(parsed)
    except (OSError, ValueError, ImportError) as error:
        print(f"pseudo_boxes {parsed.command}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
