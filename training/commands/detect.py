"""`updown detect`: images -> boxes with object and attribute names, printed, as JSON, or drawn."""

import argparse
import json
import sys
from operator import itemgetter
from pathlib import Path
from typing import Any

from training.commands.masks import add_masks, check_mask_head, check_masks_shown, region_records
from training.commands.shared import (
    TRAINED_DETECTOR,
    add_command,
    check_output_file,
    exit_code,
    image_paths,
    load_region_source,
    one_sentence,
    picture_path,
)
from training.console import say


def add_detect(commands: Any) -> None:
    """`updown detect`."""
    parser = add_command(
        commands,
        "detect",
        run_detect,
        summary="detect and name the objects of images, or name given boxes",
        example="updown detect street.jpg --draw street_boxes.png\n"
        "  updown detect street.jpg --model runs/detector_coco_masks/best --masks --draw street_masks.png",
    )
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="a file, a folder of images, or a URL")
    parser.add_argument(
        "--model", metavar="DIR_OR_HUB_ID", help="a saved detector, or a model with one (default: the light detector)"
    )
    parser.add_argument("--threshold", type=float, default=0.3, help="the lowest score to show (%(default)s)")
    parser.add_argument(
        "--box",
        action="append",
        type=pixel_box,
        metavar="X1,Y1,X2,Y2",
        help="name this box, in pixels, and detect no others; may be given several times",
    )
    parser.add_argument(
        "--names", nargs="+", metavar="NAME", help="name regions by these, two or more of any names, not by the classes"
    )
    parser.add_argument(
        "--encoder", metavar="DIR_OR_HUB_ID", help="with --names: the text encoder that the detector learnt with"
    )
    add_masks(parser, of="the mask of each region")
    parser.add_argument(
        "--draw",
        type=Path,
        metavar="PICTURE.png",
        help="draw the boxes; with several images, into PICTURE_name.png for each",
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE.json", help="write the regions of every image, boxes in 0..1"
    )


def pixel_box(text: str) -> list[float]:
    """The type of `--box`, such as `10,20,110,220`."""
    try:
        sides = [float(side) for side in text.split(",")]
    except ValueError:
        sides = []
    if len(sides) != 4 or sides[2] <= sides[0] or sides[3] <= sides[1]:
        raise argparse.ArgumentTypeError(f"{text!r} is not a box: write left,top,right,bottom in pixels")
    return sides


def run_detect(arguments: argparse.Namespace) -> int:
    """Detect the objects of each image; one that cannot be read is reported and skipped."""
    from modeling_updown import draw_regions, load_image
    from modeling_updown.drawing_updown import check_picture

    check_picture(arguments.draw)
    check_output_file(arguments.json)
    check_masks_shown(arguments)
    paths = image_paths(arguments.images)
    detector, image_processor = load_region_source(arguments.model, default=TRAINED_DETECTOR)
    if detector.config.model_type != "updown_detector":
        raise ValueError(f"{arguments.model} holds a grid, which finds no objects: name a detector with --model")
    if arguments.masks:
        check_mask_head(detector, cure="name a detector with one (updown train detection/coco_masks trains it)")
    detector.float().eval()  # saved in float16, it does not take the processor's float32 images
    asked = asked_names(detector, arguments)
    broken, found = 0, {}
    drawn: set[Path] = set()
    for path in paths:
        try:
            image = load_image(path)
            options: dict[str, Any] = {"boxes": arguments.box, "asked": asked, "masks": arguments.masks}
            regions = detect_regions(detector, image_processor, image, **options)
        except (OSError, ValueError, RuntimeError) as error:  # torch raises RuntimeError for an image that is too thin
            say(f"updown detect: skipped {path}: {one_sentence(error)}", file=sys.stderr)
            broken += 1
            continue
        shown = [region for region in regions if arguments.box or region["score"] >= arguments.threshold]
        found[path] = region_records(shown, size=image.size)
        print_regions(path, shown, size=image.size)
        if arguments.draw and shown:
            picture = picture_path(arguments.draw, path, alone=len(paths) == 1, taken=drawn)
            draw_regions(image, shown, path=picture)
            say(f"  drawn: {picture}")
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return exit_code(broken, of=len(paths))


def asked_names(detector: Any, arguments: argparse.Namespace) -> tuple[list[str], Any] | None:
    """The names of `--names` and their vectors (N, E), None where there are none.

    Raises `ValueError` for names without an encoder, or the other way round, and what `embed_names` raises.
    """
    from modeling_updown import embed_names
    from modeling_updown.detector_batch_updown import check_asked

    if not arguments.names and not arguments.encoder:
        return None
    if not (arguments.names and arguments.encoder):
        raise ValueError(
            "--names and --encoder belong together: the encoder is that of the phrases the detector learnt"
        )
    check_asked(detector.config)
    return arguments.names, embed_names(arguments.names, arguments.encoder)


def detect_regions(
    detector: Any,
    image_processor: Any,
    image: Any,
    *,
    boxes: list[list[float]] | None = None,
    asked: tuple[list[str], Any] | None = None,
    masks: bool = False,
) -> list[dict[str, Any]]:
    """The named regions of one image, the highest score first; or those of `boxes`, in pixels, in the given order.

    asked: other names than the classes, and their vectors; with them the highest score comes first, always. masks: with
    the mask of each region inside its box.
    Raises `ValueError` for a box outside of the image, and for scores that are not finite.
    """
    import torch

    from modeling_updown import named_regions, open_regions
    from modeling_updown.outputs_updown import check_detections

    inputs = image_processor(image, return_tensors="pt")
    names, asking = ([], {}) if asked is None else (asked[0], {"name_embeds": asked[1]})
    with torch.no_grad():
        if not boxes:
            output = detector(**inputs, **image_processor.region_selection(), **asking)
            check_detections(output, detector)
            if names:
                return open_regions(output, names, masks=masks)[0]
            found = named_regions(output, detector.config, masks=masks)[0]
            return sorted(found, key=itemgetter("score"), reverse=True)
        width, height = image.size
        outside = next((box for box in boxes if min(box) < 0 or box[2] > width or box[3] > height), None)
        if outside:
            sides = ",".join(f"{side:g}" for side in outside)
            raise ValueError(f"the box {sides} is outside of the image of {width} x {height} pixels")
        given = torch.tensor([boxes]) / torch.tensor([width, height, width, height])
        output = detector(**inputs, boxes=given, **asking)
        check_detections(output, detector)
        if names:
            return open_regions(output, names, masks=masks)[0]
        return named_regions(output, detector.config, masks=masks)[0]


def print_regions(path: str, regions: list[dict[str, Any]], *, size: tuple[int, int]) -> None:
    """Print one line per region, with its box in pixels of an image of `size` (width, height)."""
    from modeling_updown.drawing_regions_updown import region_text

    say(f"{path}: {len(regions)} regions")
    width, height = size
    for region in regions:
        left, top, right, bottom = region["box"]
        place = f"{left * width:.0f},{top * height:.0f} to {right * width:.0f},{bottom * height:.0f}"
        say(f"  {region_text(region):<28} at {place} pixels")
