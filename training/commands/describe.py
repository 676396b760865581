"""`updown describe`: sentences on the parts of an image, each with its box, drawn with labels that do not overlap."""

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from training.commands.shared import (
    TRAINED_DENSE,
    add_command,
    check_output_file,
    check_weights,
    model_folder,
    quiet,
)
from training.console import positive, say

TASK = "dense-captioning"


def add_describe(commands: Any) -> None:
    """`updown describe`."""
    parser = add_command(
        commands,
        "describe",
        run_describe,
        summary="describe the parts of an image, a sentence and a box each",
        example="updown describe photo.jpg --draw described.png\n"
        "  updown describe photo.jpg --top-k 20 --nms-iou 0.7 --json described.json",
    )
    parser.add_argument("image", metavar="IMAGE", help="a file or a URL")
    parser.add_argument(
        "--model", metavar="DIR_OR_HUB_ID", help=f"a saved dense captioner (default: the published {TRAINED_DENSE})"
    )
    parser.add_argument("--top-k", type=positive, default=10, metavar="K", help="sentences at most (%(default)s)")
    parser.add_argument(
        "--num-beams", type=positive, metavar="K", help="beam search with K beams (default: the model's)"
    )
    parser.add_argument(
        "--nms-iou",
        type=overlap,
        metavar="IOU",
        help="of sentences whose boxes overlap by more the best alone is kept (default: the model's; 1 keeps all)",
    )
    parser.add_argument("--draw", type=Path, metavar="PICTURE.png", help="draw the boxes with their sentences")
    parser.add_argument("--json", type=Path, metavar="FILE.json", help="write what is said, boxes in pixels")


def overlap(text: str) -> float:
    """The type of `--nms-iou`: a number above 0 and at most 1.

    >>> overlap("0.7")
    0.7
    """
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no overlap above 0 and up to 1")
    return number


def run_describe(arguments: argparse.Namespace) -> int:
    """Describe the parts of an image, print the sentences, and draw them with `--draw`."""
    from modeling_updown import draw_phrases, load_image
    from modeling_updown.drawing_updown import check_picture

    check_picture(arguments.draw)
    check_output_file(arguments.json)
    image = load_image(arguments.image)
    describer = load_describer(arguments.model)
    chosen = {"num_beams": arguments.num_beams, "nms_iou": arguments.nms_iou}
    given = {name: value for name, value in chosen.items() if value is not None}
    found = describer(image, top_k=arguments.top_k, **given)
    for one in found:
        box = one["box"]
        place = f"{box['xmin']},{box['ymin']} to {box['xmax']},{box['ymax']}"
        say(f"{one['score']:.3f} {one['text']} at {place} pixels")
    if arguments.draw:
        draw_phrases(image, labelled(found), path=arguments.draw)
        say(f"  drawn: {arguments.draw}")
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


def load_describer(model: str | None) -> Any:
    """The dense-captioning pipeline of a model, by default the published one.

    Raises `ValueError` for a model of another task.
    """
    folder = model_folder(model, default=TRAINED_DENSE)

    from transformers import pipeline

    import modeling_updown
    from modeling_updown.heads_updown import models_for
    from training.saved_models import check_kind

    with quiet():
        check_kind(folder, [getattr(modeling_updown, name) for name in models_for(TASK)])
        check_weights(folder)
        return pipeline(TASK, model=folder)


def labelled(found: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Sentences with their boxes as `draw_phrases` takes phrases.

    >>> labelled([{"text": "a dog", "score": 0.5, "box": {"xmin": 1}}])
    [{'phrase': 'a dog', 'boxes': [{'score': 0.5, 'box': {'xmin': 1}}]}]
    """
    return [{"phrase": one["text"], "boxes": [{"score": one["score"], "box": one["box"]}]} for one in found]
