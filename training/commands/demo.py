"""`updown demo`: captions of a few images that are shipped, and the attention of each word."""

import argparse
from pathlib import Path
from typing import Any

from training.commands.caption import describe, load_captioner, print_words
from training.commands.shared import add_command, add_model
from training.console import say
from training.shipped import DEMO_FOLDER

DEMO_IMAGES = ("elephant", "bathroom", "bus", "mountain")  # their licences: demo_photos/README.md


def add_demo(commands: Any) -> None:
    """`updown demo`."""
    parser = add_command(
        commands, "demo", run_demo, summary="describe a few images that are shipped", example="updown demo"
    )
    add_model(parser)
    parser.add_argument(
        "--output", type=Path, default=Path("demo_output"), metavar="FOLDER", help="for the pictures (%(default)s)"
    )


def run_demo(arguments: argparse.Namespace) -> int:
    """Describe the shipped images, with the strongest region of each word and a picture of the attention."""
    from modeling_updown import draw_attention

    images = demo_images()
    arguments.output.mkdir(parents=True, exist_ok=True)
    captioner = load_captioner(arguments.model)
    for name, image in images.items():
        result = describe(captioner, image)
        say(f"{name}: {result['generated_text']}")
        print_words(result, size=image.size)
        picture = arguments.output / f"demo_{name}.png"
        draw_attention(image, result, path=picture)
        say(f"  drawn: {picture}")
    return 0


def demo_images() -> dict[str, Any]:
    """The shipped images, by name."""
    from modeling_updown import load_image

    return {name: load_image(DEMO_FOLDER / f"{name}.jpg") for name in DEMO_IMAGES}
