"""`updown train`: a recipe, trained in this process; `accelerate launch -m training.train` starts several."""

import argparse
from typing import Any

from training.commands.shared import add_command


def add_train(commands: Any) -> None:
    """`updown train`."""
    parser = add_command(
        commands,
        "train",
        run_train,
        summary="train what a recipe describes, or go on where its run stands",
        example="updown train captioning/scenes --set train.epochs=1",
    )
    add_train_arguments(parser)


def add_train_arguments(parser: argparse.ArgumentParser) -> None:
    """What `updown train` and `python -m training.train` both take."""
    parser.add_argument("recipe", metavar="RECIPE", help="a YAML file, or a recipe that comes along: captioning_scenes")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change a value, e.g. train.epochs=3"
    )
    parser.add_argument("--cpu", action="store_true", help="stay on the CPU even where there is a GPU")


def run_train(arguments: argparse.Namespace) -> int:
    """Train, and report mistakes as `python -m training.train` does."""
    from training.train import run

    return run(arguments, program="updown train")
