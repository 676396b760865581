"""`updown extract`: images -> a region store."""

import argparse
import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from training.commands.extract_clips import add_clip_arguments, are_clips, check_clip_arguments, extract_named_clips
from training.commands.shared import add_command, exit_code, image_paths, load_region_source
from training.console import positive, say

MORE_IMAGE_COLUMNS = ("photo", "path")  # image columns of tables, besides those of caption tables
SELECTION = ("min_regions", "max_regions", "score_threshold", "grid_sizes")
LIST_SUFFIXES = {".txt", ".csv", ".tsv", ".jsonl"}


def add_extract(commands: Any) -> None:
    """`updown extract`."""
    parser = add_command(
        commands,
        "extract",
        run_extract,
        summary="extract the region features of images or clips; run again, it continues where it stopped",
        example="updown extract photos/ --output regions/ --source hub_cards/updown-detector-lite\n"
        "  updown extract clips/ --fps 2 --output clip_regions/   a store of clips\n"
        "  updown extract --boxes detection/flickr30k_entities --output people/ --source updown-detector-lite\n"
        "  accelerate launch -m training.cli extract photos.txt --output regions/   on several GPUs",
    )
    parser.add_argument(
        "images",
        nargs="*",
        metavar="IMAGE",
        help="a file, a folder of images, a list of paths (.txt), a table with file_name (or image, photo, path) and "
        "optionally image_id (.csv, .tsv, .jsonl), or a folder that datasets' save_to_disk wrote; or clips: see --fps",
    )
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="the region store to write")
    parser.add_argument("--batch-size", type=positive, default=32, metavar="N", help="images per batch (%(default)s)")
    parser.add_argument(
        "--source",
        metavar="DIR_OR_HUB_ID",
        help="a detector or grid, or a model with one (default: the trained captioner's)",
    )
    parser.add_argument(
        "--boxes",
        metavar="RECIPE",
        help="for a detector: the regions are the boxes that this recipe of detection, grounding, dense captioning or "
        "multiple choice marks (people's, say), and the images are theirs; --grid-sizes 1 puts the whole image before "
        "them",
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="with --boxes: change a value of the recipe"
    )
    parser.add_argument(
        "--flips",
        action="store_true",
        help="also FOLDER-flipped, of the images mirrored, for recipes with regions.flips",
    )
    parser.add_argument("--min-regions", type=positive, metavar="N", help="for a detector: keep at least N regions")
    parser.add_argument("--max-regions", type=positive, metavar="N", help="for a detector: keep at most N regions")
    parser.add_argument("--score-threshold", type=float, metavar="P", help="for a detector: keep all regions over P")
    parser.add_argument(
        "--grid-sizes",
        type=grid_sizes,
        metavar="N,N",
        help="for a detector: before its regions the cells of N x N grids, such as 1,7 (0: none)",
    )
    parser.add_argument(
        "--soft-labels", action="store_true", help="also store the probabilities of all classes and attributes"
    )
    parser.add_argument(
        "--mixed-precision", choices=("no", "bf16", "fp16"), default="no", help="faster, less precise (%(default)s)"
    )
    add_clip_arguments(parser)


def grid_sizes(text: str) -> list[int]:
    """The type of `--grid-sizes`.

    >>> grid_sizes("1,7"), grid_sizes("0")
    ([1, 7], [])
    """
    try:
        sides = [int(side) for side in text.split(",")]
    except ValueError:
        sides = [-1]
    if min(sides) < 1 and sides != [0]:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of cells a side: write 7, or 1,7 for two grids, or 0")
    return [side for side in sides if side]


def run_extract(arguments: argparse.Namespace) -> int:
    """Extract the region features of every image, or of every clip's frames, into a store."""
    selection = {name: getattr(arguments, name) for name in SELECTION if getattr(arguments, name) is not None}
    check_arguments(arguments, selection)
    check_clip_arguments(arguments)
    if not arguments.boxes and are_clips(arguments):
        extract = extract_named_clips(arguments)
    elif arguments.boxes:
        rows, boxes = boxed_images(arguments.boxes, arguments.set, grid_sizes=selection.pop("grid_sizes", []))
        extract = partial(extract_images, rows, boxes=boxes)
    else:
        extract = partial(extract_images, image_rows(arguments.images))

    import torch
    from accelerate import Accelerator

    from training.precision import warn_of_slow_precision

    source, image_processor = load_region_source(arguments.source)
    # without cpu=True each of several CPU processes would regard itself as the only one
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    accelerator = Accelerator(
        cpu=several and not torch.accelerator.is_available(), mixed_precision=arguments.mixed_precision
    )
    warn_of_slow_precision(accelerator, cure="leave --mixed-precision out")
    codes = []
    for flipped in (False, True) if arguments.flips else (False,):
        code = extract(
            source=source.float(),  # saved in float16, it does not take the processor's float32 images
            image_processor=image_processor,
            output=arguments.output.with_name(f"{arguments.output.name}-flipped") if flipped else arguments.output,
            batch_size=arguments.batch_size,
            flipped=flipped,
            selection=selection,
            soft_labels=arguments.soft_labels,
            accelerator=accelerator,
        )
        codes.append(code)
    return max(codes)


def extract_images(rows: Any, *, output: Path, accelerator: Any, **options: Any) -> int:
    """`extract_regions` and a line on what the store has got; returns the exit code."""
    from training.regions.extract import extract_regions

    broken = extract_regions(rows, output=output, accelerator=accelerator, **options)
    if accelerator.is_main_process:
        say(f"{output}: the regions of {len(rows) - len(broken)} images")
    return exit_code(len(broken), of=len(rows))


def check_arguments(arguments: argparse.Namespace, selection: Mapping[str, Any]) -> None:
    """`ValueError` for neither images nor boxes, for both, and for what is idle beside `--boxes` or without it."""
    if bool(arguments.images) == bool(arguments.boxes):
        raise ValueError(
            "name images, or with --boxes a recipe of detection, grounding, dense captioning or multiple choice, whose "
            "own images are taken: one of both"
        )
    if arguments.set and not arguments.boxes:
        raise ValueError("--set changes the recipe of --boxes: leave it out, or name one")
    idle = [f"--{name.replace('_', '-')}" for name in selection if name != "grid_sizes"]
    if arguments.boxes and idle:
        raise ValueError(f"with --boxes every box is kept: leave out {', '.join(idle)}")


def boxed_images(recipe: str, changes: list[str], *, grid_sizes: Sequence[int] = ()) -> tuple[Any, Any]:
    """The images of a recipe's data, of all splits, each once, and the boxes of each (`marked_boxes`).

    recipe: of detection; of grounding, whose boxes are those of its phrases; of dense captioning; or of multiple
    choice, whose boxes are those of its objects. Raises `ValueError` for a recipe of another task, and what its data
    raise.
    """
    from datasets import concatenate_datasets

    from training.data.descriptions.rows import with_crowds
    from training.data.phrases.rows import with_boxes
    from training.recipe import read_recipe
    from training.regions.extract import unique_rows
    from training.regions.given_boxes import marked_boxes
    from training.tasks import dense_captioning, detection, grounding, multiple_choice
    from training.tasks.build import load_by_split

    found = read_recipe(recipe, changes)
    if found.task == "detection":
        load: Any = partial(marked_rows, formats=detection.FORMATS)
        names: Sequence[str] = detection.BY_SPLIT
    elif found.task == "grounding":
        load, names = partial(grounding.load_phrases, formats=grounding.FORMATS), grounding.BY_SPLIT
    elif found.task == "dense_captioning":
        load = partial(dense_captioning.load_descriptions, formats=dense_captioning.FORMATS)
        names = dense_captioning.BY_SPLIT
    elif found.task == "multiple_choice":
        load, names = multiple_choice.object_rows, multiple_choice.BY_SPLIT
    else:
        raise ValueError(
            f"{recipe} is a recipe of the task {found.task}: name one of detection, grounding, dense_captioning or "
            "multiple_choice"
        )
    apart = next((list(found.data[name]) for name in names if isinstance(found.data.get(name), dict)), [])
    parts = [load_by_split(load, found.data, split=split, names=names) for split in apart]
    rows = concatenate_datasets(parts or [load(**found.data)])
    if found.task in ("detection", "multiple_choice"):
        marked: Any = rows.select_columns(["image_id", "boxes", "crowd"])
    else:
        marked = (with_boxes if found.task == "grounding" else with_crowds)(rows.remove_columns("image"))
    boxes = marked_boxes(marked, grid_sizes=grid_sizes)
    return unique_rows(rows.select_columns(["image_id", "image"]), without=()), boxes


def marked_rows(**options: Any) -> Any:
    """The rows of a detection data set."""
    from training.data.boxes.formats import load_detection

    return load_detection(**options).rows


def image_rows(arguments: Sequence[str]) -> Any:
    """The images named by the arguments, as a data set of `image_id` (default: the file name) and `image`.

    Raises `ValueError` for a list without an image, a table without a column of images, a data set of several splits,
    and for an id that occurs twice.
    """
    from datasets import Dataset, Image, concatenate_datasets

    parts, names, paths = [], [], []
    for argument in arguments:
        place = Path(argument)
        if place.suffix.lower() in LIST_SUFFIXES and place.is_file():
            listed = listed_images(place)
            names += [name for name, _ in listed]
            paths += [path for _, path in listed]
        elif (place / "dataset_info.json").is_file():
            parts.append(saved_images(place))
        elif (place / "dataset_dict.json").is_file():
            raise ValueError(f"{place} holds the splits of a data set: name one of the folders in it")
        else:
            found = image_paths([argument])
            names += [Path(path).name for path in found]
            paths += found
    parts += [Dataset.from_dict({"image_id": names, "image": paths})] if names else []
    rows = concatenate_datasets([part.cast_column("image", Image(decode=False)) for part in parts])
    ids = rows["image_id"][:]
    if len(set(ids)) < len(ids):
        seen: set[str] = set()
        twice = next(name for name in ids if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise ValueError(
            f"several images have the id {twice}: extract the folders one by one, or give a table with image_id"
        )
    return rows


def listed_images(path: Path) -> list[tuple[str, str]]:
    """(image_id, path) of each image of a list or table, once where several rows have it; paths are relative to it.

    Raises `ValueError` for a table without a column of `MORE_IMAGE_COLUMNS` or of the captions' tables.
    """
    from training.data.captions.formats import IMAGE_COLUMNS
    from training.data.files import column, read_lines, read_table

    if path.suffix.lower() == ".txt":
        names: list[str] = read_lines(path)
        ids = [Path(name).name for name in names]
    else:
        table = read_table(path)
        usual = (*IMAGE_COLUMNS, *MORE_IMAGE_COLUMNS)
        chosen = next((name for name in usual if name in table[0]), None)
        if chosen is None:
            raise ValueError(f"{path} has no column {' or '.join(usual)}; it has {', '.join(table[0])}")
        names = [str(name) for name in column(table, chosen, path)]
        given = [str(value) if (value := row.get("image_id")) is not None else "" for row in table]
        ids = [image_id or Path(name).name for image_id, name in zip(given, names, strict=True)]
    if not names:
        raise ValueError(f"{path} lists no image")
    return [(image_id, str(path.parent / name)) for image_id, name in dict.fromkeys(zip(ids, names, strict=True))]


def saved_images(folder: Path) -> Any:
    """A saved data set's images: columns `image` and `image_id` (if it has none, the row numbers)."""
    from datasets import load_from_disk

    rows = load_from_disk(str(folder))
    if "image" not in (rows.column_names or []):
        raise ValueError(f"{folder} has no column image; it has {', '.join(map(str, rows.column_names))}")
    ids = rows["image_id"] if "image_id" in rows.column_names else range(len(rows))
    return rows.select_columns(["image"]).add_column("image_id", [str(image_id) for image_id in ids])
