"""`updown compare`: evaluated models side by side, and whether their differences are more than luck."""

import argparse
from pathlib import Path
from typing import Any

from training.commands.shared import add_command
from training.console import say


def add_compare(commands: Any) -> None:
    """`updown compare`."""
    parser = add_command(
        commands,
        "compare",
        run_compare,
        summary="set evaluated models side by side, with intervals of their differences",
        example="updown compare runs/vqa_daquar/best blind=runs/vqa_daquar_blind/best",
    )
    parser.add_argument("models", nargs="+", metavar="[NAME=]DIR", help="evaluated folders; the first is the yardstick")
    parser.add_argument(
        "--output", metavar="FILE.json", help="keep it; comparisons.json in a folder goes into its card"
    )


def run_compare(arguments: argparse.Namespace) -> int:
    """Print the table, and keep it where asked."""
    from training.compare import compare_models, table
    from training.data.files import write_json

    rows = compare_models(dict(map(named_folder, arguments.models)))
    say(*table(rows).split("\n"))
    if arguments.output:
        write_json(arguments.output, rows)
    return 0


def named_folder(text: str) -> tuple[str, str]:
    """The name and folder of `NAME=DIR`; without a name, the run's.

    >>> named_folder("blind=runs/a/best"), named_folder("runs/vqa_daquar/best")
    (('blind', 'runs/a/best'), ('vqa_daquar', 'runs/vqa_daquar/best'))
    """
    name, equals, folder = text.partition("=")
    if equals:
        return name, folder
    path = Path(text)
    return (path.parent.name if path.name == "best" else path.name), text
