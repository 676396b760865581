"""Heads trained together on one encoder, in one file of weights: each folder a whole model, the file there once.

    python -m training.publish.one_file runs/multi/best/retrieval runs/multi/best/entailment

folders of `task: multi` --one_file--> the first holds all weights, `model.safetensors` of the others is a link to it

A class reads its own weights out of the file and passes over those of the other heads, as the fusion model's heads do.
`updown push` copies the file into each repository.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from training.console import one_line, say
from training.saved_models import no_config

WEIGHTS = "model.safetensors"


def one_file(folders: Sequence[str | Path]) -> int:
    """Joins the weights of saved models in the first folder's file, to which those of the others become links.

    Args:
        folders: of `save_pretrained`, two or more, one file of weights each.

    Returns:
        How many bytes less the files take together.

    Raises:
        ValueError: for fewer than two folders, one without a model, and a weight that differs between two of them.
    """
    places = [Path(folder) for folder in folders]
    if len({place.resolve() for place in places}) < max(len(places), 2):
        raise ValueError("name two or more different folders, of models that share their encoder")
    for place in places:
        if not (place / "config.json").is_file() or not (place / WEIGHTS).is_file():
            raise ValueError(no_config(place) if not (place / "config.json").is_file() else f"{place} has no {WEIGHTS}")
    before = sum(file.stat().st_size for file in {(place / WEIGHTS).resolve() for place in places})
    joined: dict[str, torch.Tensor] = {}
    for place in places:
        for name, weight in load_file(place / WEIGHTS).items():
            known = joined.setdefault(name, weight)
            if known.dtype != weight.dtype or not torch.equal(known, weight):
                raise ValueError(
                    f"{name} of {place} differs from that of {places[0]}: only models that were trained together on "
                    "one encoder (task: multi) share a file"
                )
    first = places[0] / WEIGHTS
    partial = first.with_name(f".{WEIGHTS}.partial")
    save_file(joined, partial, metadata={"format": "pt"})
    os.replace(partial, first)
    for place in places[1:]:
        link = place / f".{WEIGHTS}.link"
        link.unlink(missing_ok=True)
        link.symlink_to(os.path.relpath(first, place))
        os.replace(link, place / WEIGHTS)
    return before - first.stat().st_size


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m training.publish.one_file",
        description="Keep the weights of heads that were trained together once, in the first folder's file.",
    )
    parser.add_argument("folders", nargs="+", metavar="FOLDER", help="of models that share their encoder (task: multi)")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; 2 for what is wrong with the folders."""
    parsed = build_parser().parse_args(arguments)
    try:
        saved = one_file(parsed.folders)
    except (OSError, ValueError) as error:
        say(f"one_file: {one_line(error)}", file=sys.stderr)
        return 2
    say(f"{saved / 1e6:.1f} MB less: all weights in {Path(parsed.folders[0]) / WEIGHTS}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
