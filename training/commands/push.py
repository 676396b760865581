"""`updown push`: a saved model -> a repository on the Hub."""

import argparse
from typing import Any

from training.commands.shared import add_command, quiet
from training.console import say


def add_push(commands: Any) -> None:
    """`updown push`."""
    parser = add_command(
        commands,
        "push",
        run_push,
        summary="publish a saved model on the Hub, with its code and a card of measured figures",
        example="updown push runs/captioning/best my-name/my-captioner --dry-run --output published/",
    )
    parser.add_argument("folder", metavar="DIR", help="a save_pretrained folder: weights, config, processor")
    parser.add_argument("repo_id", metavar="REPO", help="NAME or OWNER/NAME on the Hub")
    parser.add_argument("--dry-run", action="store_true", help="do everything except the upload")
    parser.add_argument("--output", metavar="FOLDER", help="write the repository's folder here")
    parser.add_argument("--private", action="store_true", help="create a private repository")
    parser.add_argument("--half", action="store_true", help="publish the weights in float16, half the size")
    parser.add_argument("--evaluation", metavar="FILE.json", help="figures for the card (default: DIR/evaluation.json)")


def run_push(arguments: argparse.Namespace) -> int:
    """Publish, or with `--dry-run` write the folder only."""
    from training.publish.push import push

    with quiet():
        place = push(
            arguments.folder,
            arguments.repo_id,
            dry_run=arguments.dry_run,
            output=arguments.output,
            private=arguments.private,
            evaluation=arguments.evaluation,
            half=arguments.half,
        )
    say(f"{place}: as it would stand at {arguments.repo_id}" if arguments.dry_run else f"published: {place}")
    return 0
