"""`updown compare`: a table of evaluated models, with intervals of their differences."""

import argparse
from collections.abc import Sequence
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
        summary="compare evaluated models in a table, with intervals of their differences",
        example="updown compare runs/captioning_flickr8k/best small=runs/captioning_flickr8k_1x1/best",
    )
    parser.add_argument("models", nargs="+", metavar="[NAME=]DIR", help="evaluated folders; the first is the reference")
    parser.add_argument(
        "--output", metavar="FILE.json", help="write it; comparisons.json in a model's folder goes into its card"
    )


def run_compare(arguments: argparse.Namespace) -> int:
    """Print the table, and write it with `--output`."""
    from training.compare import compare_models, differences_table, table
    from training.data.files import write_json

    rows = compare_models(named_folders(arguments.models))
    say(*table(rows).split("\n"))
    if differences_table(rows):
        say("", *differences_table(rows).split("\n"))
    if arguments.output:
        write_json(arguments.output, rows)
    return 0


def named_folders(arguments: Sequence[str]) -> dict[str, str]:
    """Name -> folder of each `NAME=DIR`; a folder without a name is named by its run, with parent folders if needed.

    Raises `ValueError` for a name, or a folder, that is given twice.

    >>> named_folders(["blind=runs/a/best", "runs/vqa_daquar/best"])
    {'blind': 'runs/a/best', 'vqa_daquar': 'runs/vqa_daquar/best'}
    >>> named_folders(["exp1/ok/best", "exp2/ok/best"])
    {'exp1/ok': 'exp1/ok/best', 'exp2/ok': 'exp2/ok/best'}
    """
    given = [("", text) if Path(text).is_dir() else split_name(text) for text in arguments]
    bare = [folder for name, folder in given if not name]
    twice = [word for words in (bare, [name for name, _ in given if name]) for word in words if words.count(word) > 1]
    if twice:
        raise ValueError(f"{twice[0]} is given twice: name each folder once, NAME=DIR")
    parts = {folder: run_parts(folder) for folder in bare}
    longest = max(map(len, parts.values()), default=1)
    length = next((n for n in range(1, longest) if len({part[-n:] for part in parts.values()}) == len(parts)), longest)
    named = {name or "/".join(parts[folder][-length:]): folder for name, folder in given}
    if len(named) < len(given):
        raise ValueError(f"two of {', '.join(arguments)} have the same name: name each with NAME=DIR")
    return named


def split_name(text: str) -> tuple[str, str]:
    """The name, or "", and the folder of `NAME=DIR`."""
    name, equals, folder = text.partition("=")
    return (name, folder) if equals else ("", text)


def run_parts(folder: str) -> tuple[str, ...]:
    """The parts of a folder's path, without the `best` at the end of a run's."""
    parts = Path(folder).parts
    return parts[:-1] if parts[-1:] == ("best",) and len(parts) > 1 else parts
