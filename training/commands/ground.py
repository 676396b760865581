"""`updown ground`: finds what an expression, or the phrases of a sentence, speak of in an image, and draws it."""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from training.commands.masks import add_masks, check_mask_head, check_masks_shown, lend_masks, phrase_records
from training.commands.shared import (
    TRAINED_GROUNDING,
    add_command,
    check_output_file,
    check_weights,
    load_region_source,
    model_folder,
    quiet,
)
from training.console import positive, say
from training.data.captions.phrase_places import noun_phrase_places

TASK = "phrase-grounding"


def add_ground(commands: Any) -> None:
    """`updown ground`."""
    parser = add_command(
        commands,
        "ground",
        run_ground,
        summary="find what words speak of in an image",
        example='updown ground photo.jpg "the brown dog left of the boy" --draw found.png\n'
        '  updown ground photo.jpg "a boy throws a ball" --phrases\n'
        '  updown ground photo.jpg "a boy throws a ball" --phrase "a ball" --top-k 3 --json found.json\n'
        '  updown ground photo.jpg "the red bus" --masks --regions runs/detector_coco_masks/best --draw found.png',
    )
    parser.add_argument("image", metavar="IMAGE", help="a file or a URL")
    parser.add_argument("text", metavar="TEXT", help="an expression, or with --phrase or --phrases a sentence")
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--phrase", action="append", metavar="WORDS", help="words of the sentence to find; may be given several times"
    )
    which.add_argument("--phrases", action="store_true", help="find whatever the sentence names")
    parser.add_argument(
        "--model", metavar="DIR_OR_HUB_ID", help=f"a saved grounding model (default: the published {TRAINED_GROUNDING})"
    )
    parser.add_argument(
        "--regions",
        metavar="DIR_OR_HUB_ID",
        help="a detector for a model without one (a converted UNITER), or the model's own with a mask head for --masks",
    )
    parser.add_argument("--top-k", type=positive, default=1, metavar="K", help="boxes of each phrase (%(default)s)")
    add_masks(parser, of="the mask of each box's region")
    parser.add_argument("--draw", type=Path, metavar="PICTURE.png", help="draw the boxes with their phrases")
    parser.add_argument("--json", type=Path, metavar="FILE.json", help="write what is found, boxes in pixels")


def run_ground(arguments: argparse.Namespace) -> int:
    """Find the boxes, print them, and draw them with `--draw`."""
    from modeling_updown import draw_phrases, load_image
    from modeling_updown.drawing_updown import check_picture

    check_picture(arguments.draw)
    check_output_file(arguments.json)
    check_masks_shown(arguments)
    phrases = named_phrases(arguments.text) if arguments.phrases else arguments.phrase
    image = load_image(arguments.image)
    grounder = load_grounder(arguments.model, regions=arguments.regions)
    if arguments.masks:
        cure = "name its detector with one by --regions (updown train detection/coco_masks trains it)"
        check_mask_head(grounder.region_source or grounder.model.region_source, cure=cure)
    found = grounder(image, arguments.text, phrases=phrases, top_k=arguments.top_k, masks=arguments.masks)
    print_found(found)
    if arguments.draw:
        draw_phrases(image, found, path=arguments.draw)
        say(f"  drawn: {arguments.draw}")
    if arguments.json:
        arguments.json.write_text(json.dumps(phrase_records(found), indent=1) + "\n", encoding="utf-8")
    return 0


def named_phrases(text: str) -> list[tuple[int, int]]:
    """The characters of what a sentence names; raises `ValueError` where it names nothing that is known."""
    places = noun_phrase_places(text)
    if not places:
        raise ValueError(f"no noun was found in {text!r}: give the words to find with --phrase")
    return places


def load_grounder(model: str | None, *, regions: str | None = None) -> Any:
    """The phrase-grounding pipeline of a model; raises `ValueError` for a model of another task.

    regions: a detector for a model without one, or the model's own with a mask head, which it is lent.
    """
    folder = model_folder(model, default=TRAINED_GROUNDING)

    from transformers import pipeline

    import modeling_updown
    from modeling_updown.heads_updown import models_for
    from training.saved_models import check_kind

    more: dict[str, Any] = {}
    with quiet():
        config = check_kind(folder, [getattr(modeling_updown, name) for name in models_for(TASK)])
        check_weights(folder)
    source, image_processor = (None, None) if regions is None else load_region_source(regions, flag="--regions")
    owns_source = config.vision_config is not None
    if source is not None and not owns_source:
        more = {"region_source": source, "image_processor": image_processor}
    with quiet():
        grounder = pipeline(TASK, model=folder, **more)
    if source is not None and owns_source:
        lend_masks(grounder.model.region_source, source, name=f"--regions {regions}")
    return grounder


def print_found(found: Sequence[Mapping[str, Any]], *, indent: str = "") -> None:
    """Print each phrase, and one line a box: its score (0..1) and where it is, in pixels.

    Of a model that says so also how likely (0..1) nothing in the image is the phrase's.
    """
    for phrase in found:
        absent = f"  (not there: {phrase['none_score']:.3f})" if "none_score" in phrase else ""
        say(f"{indent}{phrase['phrase']}{absent}")
        if not phrase["boxes"]:
            say(f"{indent}  not found: the text was cut before it")
        for one in phrase["boxes"]:
            box = one["box"]
            place = f"{box['xmin']},{box['ymin']} to {box['xmax']},{box['ymax']} pixels"
            say(f"{indent}  {one['score']:.3f} at {place}")
