"""`updown entail`: says whether statements hold of an image, or of several images together."""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from training.commands.ask import names_image
from training.commands.shared import TRAINED_ENTAILMENT, add_command, check_output_file, load_pipeline, model_folder
from training.console import say

ONE, SEVERAL = "visual-entailment", "visual-reasoning"
CLASSES = {"UpDownFusionForImagePairs": SEVERAL}  # of a saved model; any other is asked about one image


def add_entail(commands: Any) -> None:
    """`updown entail`."""
    parser = add_command(
        commands,
        "entail",
        run_entail,
        summary="say whether statements hold of an image",
        example='updown entail photo.jpg "people are outdoors"\n'
        '  updown entail left.jpg "both show a dog" --with right.jpg --model runs/pairs_nlvr2/best',
    )
    parser.add_argument("image", metavar="IMAGE", help="a file or a URL")
    parser.add_argument("statements", nargs="+", metavar="STATEMENT", help="in quotes; several are judged one by one")
    parser.add_argument(
        "--with",
        dest="others",
        action="append",
        default=[],
        metavar="IMAGE",
        help="a further image, for a model of statements about several; may be given several times",
    )
    add_trained_model(parser, recipes="entailment/snli_ve or pairs/nlvr2", default=TRAINED_ENTAILMENT)
    parser.add_argument("--json", type=Path, metavar="FILE.json", help="write labels and scores")


def add_trained_model(parser: argparse.ArgumentParser, *, recipes: str, default: str = "") -> None:
    """`--model` and `--regions`; recipes: that train one; default: the published one, "" where there is none."""
    known = f" (default: the published {default})" if default else ""
    parser.add_argument(
        "--model",
        required=not default,
        metavar="DIR_OR_HUB_ID",
        help=f"a saved model, of a recipe such as {recipes}{known}",
    )
    parser.add_argument(
        "--regions", metavar="DIR_OR_HUB_ID", help="a detector for a model that has none of its own: a converted UNITER"
    )


def run_entail(arguments: argparse.Namespace) -> int:
    """Judge the statements, print each class with its score, and write them with `--json`."""
    from training.saved_models import saved_class

    check_output_file(arguments.json)
    check_statements(arguments.statements)
    folder = model_folder(arguments.model, default=TRAINED_ENTAILMENT)
    task = CLASSES.get(saved_class(folder), ONE)
    judge = load_pipeline(task, folder, regions=arguments.regions)
    images = [arguments.image, *arguments.others]
    found = judge(images if len(images) > 1 else images[0], arguments.statements)
    print_ranked(found)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


def check_statements(statements: Sequence[str]) -> None:
    """Raises `ValueError` if a statement is an image."""
    for statement in statements:
        if names_image(statement):
            raise ValueError(
                f"{statement} is an image, not a statement: name a further image by --with, where the model reads "
                "several together, or run the command once for each"
            )


def print_ranked(found: Sequence[Mapping[str, Any]]) -> None:
    """Print each text, and one line a label with its score (0..1), the likeliest first."""
    for one in found:
        text = one["sequence"]
        say(text if isinstance(text, str) else text[-1])
        for label, score in zip(one["labels"], one["scores"], strict=True):
            say(f"  {label:<28} {score:.3f}")
