"""`updown convert-regions` and `updown check-regions`: convert other projects' region features, and compare stores."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from training.commands.shared import add_command, exit_code
from training.console import say, say_json, whole_number

FORMAT_HELP = "tsv, lxmert-tsv, vinvl-tsv, npz, att-box, hdf5 or lmdb"
MOST_LISTED = 100


def add_convert_regions(commands: Any) -> None:
    """`updown convert-regions`."""
    parser = add_command(
        commands,
        "convert-regions",
        run_convert_regions,
        summary="turn region features of other projects into a region store, or a store into their files",
        example="updown convert-regions trainval_36.tsv --output regions/\n"
        "  updown convert-regions regions/ --to lxmert-tsv --output val_obj36.tsv",
    )
    parser.add_argument("source", nargs="+", type=Path, metavar="SOURCE", help="files or folders; with --to, a store")
    parser.add_argument("--output", type=Path, required=True, metavar="PATH", help="the store, or with --to the file")
    parser.add_argument(
        "--format",
        metavar="F",
        help=f"of the source: {FORMAT_HELP} (default: guessed from its content; npz: also .npy and .pth)",
    )
    parser.add_argument("--to", metavar="F", help="write a store in this format instead")
    parser.add_argument(
        "--dtype",
        choices=("float16", "float32"),
        default="float16",
        help="of the features in the store (%(default)s, half the disk; float32 keeps every bit)",
    )
    parser.add_argument("--made-by", metavar="TEXT", help="the detector that made the features, recorded in the store")
    parser.add_argument(
        "--id-prefix",
        default="",
        metavar="TEXT",
        help="before every id, for the images of a second data set in one store: visual_genome- where a recipe "
        "mixes its questions with COCO's",
    )
    parser.add_argument("--index", type=Path, metavar="FILE.json", help='hdf5: {"image id": row}')
    parser.add_argument("--labels", type=Path, metavar="FILE.json", help="vinvl-tsv: ids of classes and attributes")
    add_sidecar(parser)


def add_check_regions(commands: Any) -> None:
    """`updown check-regions`."""
    parser = add_command(
        commands,
        "check-regions",
        run_check_regions,
        summary="compare two region stores or files box by box, or verify one store; exit code 0 if they agree or it "
        "is undamaged, 1 if not",
        example="updown check-regions regions/ trainval_36.tsv --tolerance 0.001\n"
        "  updown check-regions regions/ --verify",
    )
    parser.add_argument("a", type=Path, metavar="A", help="a region store, or a file that convert-regions takes")
    parser.add_argument("b", type=Path, nargs="?", metavar="B", help="another one")
    parser.add_argument(
        "--verify", action="store_true", help="read every byte of the store A and compare it with its checksums"
    )
    parser.add_argument(
        "--tolerance",
        type=tolerance,
        default=1e-3,
        metavar="T",
        help="of features, relative, and of scores (%(default)s)",
    )
    parser.add_argument(
        "--box-tolerance", type=tolerance, default=1e-3, metavar="T", help="of boxes, 0..1 of the image (%(default)s)"
    )
    parser.add_argument("--worst", type=whole_number, default=5, metavar="N", help="images to print (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    add_sidecar(parser)


def add_sidecar(parser: argparse.ArgumentParser) -> None:
    """`--sizes` and `--boxes`, which both commands take for files that hold neither."""
    parser.add_argument(
        "--sizes",
        type=Path,
        metavar="FILE.json",
        help='for boxes in pixels: image sizes as {"image id": [height, width]}, or {"images": [...]} as in COCO',
    )
    parser.add_argument(
        "--source-dtype",
        choices=("float16", "float32", "float64"),
        help="of the features in tsv, lxmert-tsv, vinvl-tsv and lmdb, if it cannot be guessed from the bytes",
    )
    parser.add_argument("--boxes", type=Path, metavar="FOLDER", help="att-box, lmdb: the folder of ID.npy boxes")


def tolerance(text: str) -> float:
    """The type of an argument: a finite number >= 0."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number >= 0")
    return number


def run_convert_regions(arguments: argparse.Namespace) -> int:
    """Convert files to a store, or with `--to` a store to files."""
    return export(arguments) if arguments.to else convert(arguments)


def convert(arguments: argparse.Namespace) -> int:
    """Files -> a store; broken rows are listed, with exit code 1."""
    import torch

    from training.regions.convert import convert_region_files

    done = convert_region_files(
        arguments.source,
        output=arguments.output,
        format=arguments.format,
        sidecar=sidecar_of(arguments),
        fingerprint={"made_by": arguments.made_by} if arguments.made_by else None,
        feature_dtype={"float16": torch.float16, "float32": torch.float32}[arguments.dtype],
        id_prefix=arguments.id_prefix,
    )
    if not done.num_images:
        raise ValueError(f"{arguments.source[0]} holds no image")
    print_broken(done.broken)
    there = f", {done.num_existing:,} were in it already" if done.num_existing else ""
    say(f"{arguments.output}: {done.num_added:,} images added{there}")
    return exit_code(len(done.broken), of=done.num_images)


def export(arguments: argparse.Namespace) -> int:
    """A store -> files of another format."""
    from training.regions.convert import export_region_files

    if len(arguments.source) > 1:
        raise ValueError("--to writes one store: name one SOURCE")
    if arguments.id_prefix:
        raise ValueError("--id-prefix names the images of a store that is made: leave it out beside --to")
    lost = export_region_files(
        arguments.source[0], output=arguments.output, format=arguments.to, sidecar=sidecar_of(arguments)
    )
    left_out = f" (without {', '.join(lost)}, which it cannot hold)" if lost else ""
    say(f"{arguments.output}: written as {arguments.to}{left_out}")
    return 0


def run_check_regions(arguments: argparse.Namespace) -> int:
    """Compare or verify; 0 if the two agree or the store is undamaged, else 1."""
    from training.regions.compare import compare_regions, verify_store

    if arguments.verify == (arguments.b is not None):
        raise ValueError("give A and B to compare them, or one region store and --verify")
    if arguments.verify:
        check = verify_store(arguments.a)
        if arguments.json:
            facts = {name.replace("num_images", "num_photos"): value for name, value in asdict(check).items()}
            say_json({**facts, "sound": check.sound})
        else:
            say(*check.lines())
        return 0 if check.sound else 1
    found = compare_regions(
        arguments.a,
        arguments.b,
        tolerance=arguments.tolerance,
        box_tolerance=arguments.box_tolerance,
        sidecar=sidecar_of(arguments),
    )
    if arguments.json:
        say_json(found.as_json(worst=arguments.worst))
    else:
        say(*found.lines(worst=arguments.worst))
    return 0 if found.same else 1


def sidecar_of(arguments: argparse.Namespace) -> Any:
    """The `Sidecar` given on the command line."""
    from training.regions.formats.sidecar import Sidecar, read_labels, read_sizes

    labels = getattr(arguments, "labels", None)
    return Sidecar(
        sizes=read_sizes(arguments.sizes) if arguments.sizes else {},
        index=getattr(arguments, "index", None),
        boxes=arguments.boxes,
        labels=read_labels(labels) if labels else None,
        feature_type=arguments.source_dtype,
    )


def print_broken(broken: Sequence[str]) -> None:
    """Print the broken rows on stderr, at most the first hundred."""
    if broken:
        more = [f"... and {len(broken) - MOST_LISTED:,} more"] if len(broken) > MOST_LISTED else []
        listed = [f"  {line}" for line in (*broken[:MOST_LISTED], *more)]
        say(f"{len(broken):,} rows are broken and were left out:", *listed, file=sys.stderr)
