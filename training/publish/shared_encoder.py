"""Models that were trained together, with the weights of their encoder on the disk once.

    python -m training.publish.shared_encoder runs/multi/best/retrieval runs/multi/best/entailment

folders of `task: multi` --share_encoder--> in each a shard of what all have in common, a file in the first folder and a
link to it in the others, a shard of its own, and the index that transformers reads both by

Each folder stays a whole model; `updown push` copies both shards into its repository. A first folder whose weights are
split already keeps its files: what stands there as shared must be in the others, number for number, as in models that
were trained from it with `train.frozen_encoder`.
"""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from training.console import one_line, say
from training.data.files import write_json
from training.saved_models import no_config

WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"
SHARED, OWN = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
LEAST_SHARE = 0.5  # of the bytes of the smallest model


def share_encoder(folders: Sequence[str | Path]) -> int:
    """Splits the weights of saved models into what all have in common, kept once, and what each has alone.

    Args:
        folders: of `save_pretrained`, two or more, one file of weights each.

    Returns:
        How many bytes the files take less together.

    Raises:
        ValueError: for fewer than two folders, one without a model or one file of weights, for models whose equal
            weights are less than half of the smallest: they were not trained together; and for one that has changed
            what a first folder shares already.
    """
    places = [Path(folder) for folder in folders]
    if len({place.resolve() for place in places}) < max(len(places), 2):
        raise ValueError("name two or more different folders, of models that share their encoder")
    if (places[0] / SHARED).is_file():
        return join_encoder(places[0], places[1:])
    check_whole_files(places)
    models = [load_file(place / WHOLE) for place in places]
    common = {name for name in models[0] if all(_same(model.get(name), models[0][name]) for model in models)}
    smallest = min(_num_bytes(model, set(model)) for model in models)
    if _num_bytes(models[0], common) < LEAST_SHARE * smallest:
        raise ValueError(
            f"{places[0]} and {places[1]} have too few weights in common: models of one run (task: multi) share an "
            "encoder, also where each has been made smaller by the same texts (fewer_pieces)"
        )
    before = sum((place / WHOLE).stat().st_size for place in places)
    save_file({name: models[0][name] for name in common}, places[0] / SHARED, metadata={"format": "pt"})
    for place, model in zip(places, models, strict=True):
        split_weights(place, model, common, shared_in=places[0])
    after = (places[0] / SHARED).stat().st_size + sum((place / OWN).stat().st_size for place in places)
    return before - after


def join_encoder(first: Path, others: Sequence[Path]) -> int:
    """As `share_encoder`, for a first folder whose weights are split already and stay as they are."""
    check_whole_files(others)
    shared = load_file(first / SHARED)
    saved = 0
    for place in others:
        model = load_file(place / WHOLE)
        changed = sorted(name for name, weight in shared.items() if not _same(model.get(name), weight))
        if changed:
            raise ValueError(
                f"{place} does not hold {len(changed)} of the {len(shared)} weights that {first} shares, such as "
                f"{changed[0]}: train it from there with train.frozen_encoder, and save it in the same type"
            )
        before = (place / WHOLE).stat().st_size
        split_weights(place, model, set(shared), shared_in=first)
        saved += before - (place / OWN).stat().st_size
    return saved


def check_whole_files(places: Sequence[Path]) -> None:
    """`ValueError` for a folder without a model, or whose weights are not one file."""
    for place in places:
        if not (place / "config.json").is_file():
            raise ValueError(no_config(place))
        if not (place / WHOLE).is_file():
            raise ValueError(f"{place} has no {WHOLE}: give a folder whose weights are one file")


def split_weights(place: Path, model: Mapping[str, torch.Tensor], common: set[str], *, shared_in: Path) -> None:
    """Writes a model's own weights, links what is `common` and lies `shared_in` a folder, and writes the index."""
    own = {name: weight for name, weight in model.items() if name not in common}
    save_file(own, place / OWN, metadata={"format": "pt"})
    if place != shared_in:
        _link(place / SHARED, os.path.relpath(shared_in / SHARED, place))
    weight_map = {name: SHARED if name in common else OWN for name in sorted(model)}
    write_json(place / INDEX, {"metadata": {"total_size": _num_bytes(model, set(model))}, "weight_map": weight_map})
    (place / WHOLE).unlink()


def _same(one: torch.Tensor | None, other: torch.Tensor) -> bool:
    return one is not None and one.dtype == other.dtype and torch.equal(one, other)


def _num_bytes(weights: Mapping[str, torch.Tensor], names: set[str]) -> int:
    return sum(weights[name].numel() * weights[name].element_size() for name in names)


def _link(path: Path, target: str) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(target)


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m training.publish.shared_encoder",
        description="Keep the encoder of models that were trained together once, in the first folder.",
    )
    parser.add_argument("folders", nargs="+", metavar="FOLDER", help="of models that share their encoder (task: multi)")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; 2 for what is wrong with the folders."""
    parsed = build_parser().parse_args(arguments)
    try:
        saved = share_encoder(parsed.folders)
    except (OSError, ValueError) as error:
        say(f"shared_encoder: {one_line(error)}", file=sys.stderr)
        return 2
    say(f"{saved / 1e6:.1f} MB less: the encoder is in {Path(parsed.folders[0]) / SHARED}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
