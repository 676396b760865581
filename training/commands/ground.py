"""`updown ground`: finds what an expression, or the phrases of a sentence, speak of in an image, and draws it."""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from training.commands.shared import (
    add_command,
    check_output_file,
    check_weights,
    load_region_source,
    model_folder,
    quiet,
)
from training.console import positive, say

TASK = "phrase-grounding"


def add_ground(commands: Any) -> None:
    """`updown ground`."""
    parser = add_command(
        commands,
        "ground",
        run_ground,
        summary="find what words speak of in an image",
        example='updown ground photo.jpg "the brown dog left of the boy" --model runs/ground/best --draw found.png\n'
        '  updown ground photo.jpg "a boy throws a ball" --phrase "a boy" --phrase "a ball" --model runs/ground/best',
    )
    parser.add_argument("image", metavar="IMAGE", help="a file or a URL")
    parser.add_argument("text", metavar="TEXT", help="an expression, or with --phrase a sentence; in quotes")
    parser.add_argument(
        "--phrase", action="append", metavar="WORDS", help="words of the sentence to find; may be given several times"
    )
    parser.add_argument("--model", metavar="DIR_OR_HUB_ID", help="a saved grounding model, such as a run's best/")
    parser.add_argument(
        "--regions", metavar="DIR_OR_HUB_ID", help="a detector for a model that has none of its own: a converted UNITER"
    )
    parser.add_argument("--top-k", type=positive, default=1, metavar="K", help="boxes of each phrase (%(default)s)")
    parser.add_argument("--draw", type=Path, metavar="PICTURE.png", help="draw the boxes with their phrases")
    parser.add_argument("--json", type=Path, metavar="FILE.json", help="write what is found, boxes in pixels")


def run_ground(arguments: argparse.Namespace) -> int:
    """Find the boxes, print them, and draw them with `--draw`."""
    from modeling_updown import draw_phrases, load_image
    from modeling_updown.drawing_updown import check_picture

    check_picture(arguments.draw)
    check_output_file(arguments.json)
    image = load_image(arguments.image)
    grounder = load_grounder(arguments.model, regions=arguments.regions)
    found = grounder(image, arguments.text, phrases=arguments.phrase, top_k=arguments.top_k)
    print_found(found)
    if arguments.draw:
        draw_phrases(image, found, path=arguments.draw)
        say(f"  drawn: {arguments.draw}")
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


def load_grounder(model: str | None, *, regions: str | None = None) -> Any:
    """The phrase-grounding pipeline of a model; raises `ValueError` for a model of another task.

    regions: a detector for a model without one.
    """
    if model is None:
        raise ValueError(
            "name a grounding model with --model; none is published, so train one (updown train "
            "grounding/flickr8k_entities) and name its best/, or convert a UNITER"
        )
    folder = model_folder(model)

    from transformers import pipeline

    import modeling_updown
    from modeling_updown.heads_updown import models_for
    from training.saved_models import check_kind

    more: dict[str, Any] = {}
    if regions is not None:
        more["region_source"], more["image_processor"] = load_region_source(regions, flag="--regions")
    with quiet():
        check_kind(folder, [getattr(modeling_updown, name) for name in models_for(TASK)])
        check_weights(folder)
        return pipeline(TASK, model=folder, **more)


def print_found(found: Sequence[Mapping[str, Any]]) -> None:
    """Print each phrase, and one line a box: its score (0..1) and where it is, in pixels.

    Of a model that says so also how likely (0..1) nothing in the image is the phrase's.
    """
    for phrase in found:
        absent = f"  (not there: {phrase['none_score']:.3f})" if "none_score" in phrase else ""
        say(f"{phrase['phrase']}{absent}")
        if not phrase["boxes"]:
            say("  not found: the text was cut before it")
        for one in phrase["boxes"]:
            box = one["box"]
            say(f"  {one['score']:.3f} at {box['xmin']},{box['ymin']} to {box['xmax']},{box['ymax']} pixels")
