"""`updown train`: a recipe, trained in this process; `accelerate launch -m training.train` starts several."""

import argparse
from typing import Any

from training.commands.shared import add_command, add_train_arguments


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


def run_train(arguments: argparse.Namespace) -> int:
    """Train, and report mistakes as `python -m training.train` does."""
    from training.train import run

    return run(arguments, program="updown train")
