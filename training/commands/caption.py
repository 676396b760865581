"""`updown caption`: captions of images, and the attention of each word."""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from training.commands.shared import (
    add_command,
    add_model,
    check_weights,
    exit_code,
    image_paths,
    model_folder,
    one_sentence,
    picture_path,
    quiet,
)
from training.console import positive, say


def add_caption(commands: Any) -> None:
    """`updown caption`."""
    parser = add_command(
        commands, "caption", run_caption, summary="describe images", example="updown caption dog.jpg --draw look.png"
    )
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="a file, a folder of images, or a URL")
    add_model(parser)
    parser.add_argument(
        "--num-beams", type=positive, metavar="K", help="beam search with K beams (default: the model's)"
    )
    parser.add_argument("--words", action="store_true", help="show the strongest region of each word")
    parser.add_argument(
        "--draw",
        type=Path,
        metavar="PICTURE.png",
        help="draw the attention of each word; with several images, into PICTURE_name.png for each",
    )


def run_caption(arguments: argparse.Namespace) -> int:
    """Describe each image; one that cannot be read is reported and skipped."""
    from modeling_updown import draw_attention, load_image
    from modeling_updown.drawing_updown import check_picture

    check_picture(arguments.draw)
    images = image_paths(arguments.images)
    captioner = load_captioner(arguments.model)
    options = {"num_beams": arguments.num_beams} if arguments.num_beams else {}
    broken = 0
    drawn: set[Path] = set()
    for path in images:
        try:
            image = load_image(path)
        except (OSError, ValueError) as error:
            say(f"updown caption: skipped: {one_sentence(error)}", file=sys.stderr)
            broken += 1
            continue
        result = describe(captioner, image, **options)
        say(f"{path}: {result['generated_text']}")
        if arguments.words:
            print_words(result, size=image.size)
        if arguments.draw:
            picture = picture_path(arguments.draw, path, alone=len(images) == 1, taken=drawn)
            draw_attention(image, result, path=picture)
            say(f"  drawn: {picture}")
    return exit_code(broken, of=len(images))


def load_captioner(model: str | None) -> Any:
    """The image-to-text pipeline of a model; raises `ValueError` for a model of another task."""
    folder = model_folder(model)

    from transformers import pipeline

    import modeling_updown
    from modeling_updown.heads_updown import models_for
    from training.saved_models import check_kind

    with quiet():
        check_kind(folder, [getattr(modeling_updown, name) for name in models_for("image-to-text")])
        check_weights(folder)
        return pipeline("image-to-text", model=folder)


def describe(captioner: Any, image: Any, **options: Any) -> Mapping[str, Any]:
    """The pipeline's first caption of an image, with its words, their region weights and the boxes."""
    result = captioner(image, return_regions=True, **options)
    return result[0] if isinstance(result, list) else result


def print_words(result: Mapping[str, Any], *, size: tuple[int, int]) -> None:
    """Print each word with its strongest region, in pixels of an image of `size` (width, height)."""
    width, height = size
    for word, weights in zip(result["words"], result["region_weights"], strict=True):
        strongest = max(range(len(weights)), key=lambda region: float(weights[region]))
        left, top, right, bottom = (float(side) for side in result["region_boxes"][strongest])
        place = f"{left * width:.0f},{top * height:.0f} to {right * width:.0f},{bottom * height:.0f}"
        say(f"  {word:<14} {float(weights[strongest]):4.0%} on region {strongest} at {place} pixels")
