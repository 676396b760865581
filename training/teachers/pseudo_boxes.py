"""Boxes for unlabelled images: a teacher's detections, and attributes from captions, as a COCO instances file.

    images --training/teachers/detectors.py--> Detections --made_boxes.py: detect--> boxes.json
    boxes.json + captions --describe_boxes--> the same with "attributes" in every annotation
    boxes.json --training/data/boxes/formats.py--> rows of a detection data set

Three commands: `detect` makes boxes, `describe` adds attributes to existing boxes, `compare` finds the score threshold
at which a teacher's boxes agree best with real ones, and their average precision. Training on such boxes is
distillation: the student learns the teacher's predictions, including its mistakes.
"""

import argparse
import hashlib
import inspect
import json
import sys
import zlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import torch

from training.console import one_line, positive, say
from training.data.boxes.caption_attributes import attributes_of_boxes
from training.data.captions.formats import CAPTION_FORMATS, load_captions
from training.data.files import PathLike, column, read_json, read_lines, records, write_json
from training.regions.extract import undecoded
from training.teachers.agreement import average_precision, best_threshold
from training.teachers.box_journal import BoxJournal
from training.teachers.detectors import load_teacher
from training.teachers.made_boxes import attribute_records, detect, folder_rows

FORMATS = ("coco", "flickr30k_entities", "flickr_tokens", "karpathy", "nocaps", "vizwiz")
WEIGHTS_OF_A_FOLDER = "model.safetensors"
BLOCK_BYTES = 1 << 20

EXAMPLES = """\
examples:
  any images, a teacher in ONNX (NanoDet-Plus or FastestDet; pip install 'modeling-updown[distill]'); after a kill, the
  same command goes on where it was:
    python -m training.teachers.pseudo_boxes detect photos/ --teacher nanodet-plus-m_416.onnx --threshold 0.32 \\
        --workers 4 --output boxes.json
  the teacher is a detector of ours:
    python -m training.teachers.pseudo_boxes detect photos/ --teacher runs/detection/best --output boxes.json
  images with captions, so that boxes get attributes, and a teacher of the Hub:
    python -m training.teachers.pseudo_boxes detect data/flickr8k/images --format karpathy \\
        --annotations data/flickr8k/dataset_flickr8k.json --teacher facebook/detr-resnet-50 --output boxes.json
  attributes for real boxes (or again for made ones):
    python -m training.teachers.pseudo_boxes describe instances.json --annotations captions.json --output described.json
  find the best --threshold: detect with --threshold 0.05 on images that have real boxes, then
    python -m training.teachers.pseudo_boxes compare boxes.json instances.json
"""


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


def condition(text: str) -> tuple[str, str]:
    """The type of an argument: a field and its value."""
    field, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is no condition: write FIELD=VALUE")
    return field, value


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
    made.add_argument(
        "--teacher",
        required=True,
        help="an .onnx file of NanoDet-Plus or FastestDet, or a folder or Hub name of an UpDownDetector or of a "
        "detector of transformers",
    )
    made.add_argument(
        "--names",
        type=Path,
        help="its classes, one per line (default: coco.names in the ONNX file's folder, or COCO's 80)",
    )
    made.add_argument("--format", choices=FORMATS, help="the format of the captions")
    made.add_argument("--annotations", type=Path, help="the captions, which give boxes attributes and images a split")
    made.add_argument("--categories", type=Path, help="a COCO file with the categories to use (default: COCO's 80)")
    made.add_argument("--threshold", type=share, default=0.6, help="lowest score of a box (default: %(default)s)")
    made.add_argument("--nms-iou", type=share, default=0.45, help="overlap of two boxes of a class (%(default)s)")
    made.add_argument("--batch-size", type=positive, default=16, help="images per batch (default: %(default)s)")
    made.add_argument("--workers", type=positive, default=1, help="batches at a time (default: %(default)s)")
    made.set_defaults(run=run_detect)
    described = commands.add_parser("describe", help="attributes from captions for existing boxes")
    described.add_argument("boxes", type=Path, help="a COCO instances file")
    described.add_argument("--annotations", type=Path, required=True, help="captions of the same images, COCO layout")
    described.set_defaults(run=run_describe)
    for command in (made, described):
        command.add_argument("--output", type=Path, required=True, help="the JSON file to write")
    compared = commands.add_parser("compare", help="the best score threshold against real boxes, and AP")
    compared.add_argument("boxes", type=Path, help="boxes of `detect` with a low threshold")
    compared.add_argument("real", type=Path, help="a COCO instances file of the same images")
    compared.add_argument(
        "--without",
        metavar="FIELD=VALUE",
        type=condition,
        action="append",
        default=[],
        help="leave out images, such as karpathy_split=test; box_source=None: those that nobody labelled (repeatable)",
    )
    compared.set_defaults(run=run_compare)
    return parser


def run_detect(arguments: argparse.Namespace) -> None:
    """`detect`: images, and captions if given -> boxes.json."""
    rows, chosen = rows_of(arguments), arguments.categories
    categories = categories_of(read_json(chosen), chosen) if chosen else None
    teacher = load_teacher(arguments.teacher, names=arguments.names, threshold=arguments.threshold)
    torch.set_num_threads(max(1, torch.get_num_threads() // arguments.workers))
    settings = run_settings(arguments, rows, categories)
    journal = BoxJournal(arguments.output.with_name(f"{arguments.output.name}.unfinished"), settings)
    if journal.made:
        say(f"going on from {len(journal.made)} batches in {journal.path}", file=sys.stderr)
    try:
        content = detect(
            rows,
            teacher,
            folder=arguments.images,
            threshold=arguments.threshold,
            nms_iou=arguments.nms_iou,
            batch_size=arguments.batch_size,
            categories=categories,
            box_source=Path(arguments.teacher).stem if arguments.teacher.endswith(".onnx") else arguments.teacher,
            workers=arguments.workers,
            journal=journal,
        )
    finally:
        journal.close()
    write_json(arguments.output, content, indent=None)
    journal.remove()
    say(*summary(content).split("\n"))


def rows_of(arguments: argparse.Namespace) -> datasets.Dataset:
    """The images of `detect` as rows, with captions if they are given."""
    if (arguments.format is None) != (arguments.annotations is None):
        raise ValueError("--format and --annotations belong together: give the captions and their format")
    if not arguments.format:
        return folder_rows(arguments.images)
    annotations_option = next(iter(inspect.signature(CAPTION_FORMATS[arguments.format]).parameters))
    options = {annotations_option: arguments.annotations, "images": arguments.images}
    return load_captions(arguments.format, **options)


def run_settings(
    arguments: argparse.Namespace, rows: datasets.Dataset, categories: Mapping[str, int] | None
) -> dict[str, Any]:
    """All that decides the boxes of a run of `detect`, to recognise its unfinished work; images by their names."""
    described = undecoded(rows).remove_columns(["image"])
    digest = hashlib.sha256()
    for row in described:
        digest.update(json.dumps(row, sort_keys=True).encode())
    return {
        "images": str(arguments.images),
        "rows": digest.hexdigest()[:16],
        "teacher": arguments.teacher,
        "weights": weights_mark(Path(arguments.teacher)),
        "names": read_lines(arguments.names) if arguments.names else None,
        "categories": dict(categories) if categories else None,
        "threshold": arguments.threshold,
        "nms_iou": arguments.nms_iou,
        "batch_size": arguments.batch_size,
    }


def weights_mark(teacher: Path) -> str:
    """The checksum of an ONNX file, or of the weights of a model's folder; "" for a name on the Hub."""
    path, mark = teacher / WEIGHTS_OF_A_FOLDER if teacher.is_dir() else teacher, 0
    if not path.is_file():
        return ""
    with open(path, "rb") as file:
        while block := file.read(BLOCK_BYTES):
            mark = zlib.crc32(block, mark)
    return f"{mark:08x}"


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
    listed_images = _images_by_id(real, arguments.real)
    for field, _ in arguments.without:
        if not any(field in record for record in listed_images.values()):
            raise ValueError(f"--without {field}: no image of {arguments.real} has that field")
    kept = {
        image_id
        for image_id, record in listed_images.items()
        if not any(str(record.get(field)) == value for field, value in arguments.without)
    }
    kept &= _images_by_id(boxes, arguments.boxes).keys()
    made, notes = ([note for note in part if str(note["image_id"]) in kept] for part in (made, notes))
    best = best_threshold(made, notes)
    listed = records(real, "categories", arguments.real)
    precision = average_precision(made, notes, images=[{"id": image_id} for image_id in kept], categories=listed)
    figures = [f"{name} {figure:.3f}" for name, figure in best.items()]
    say("  ".join([f"{len(kept)} images", *figures, *(f"{name} {figure:.1f}" for name, figure in precision.items())]))


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
