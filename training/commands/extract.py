"""`updown extract`: photos -> a region store."""

import argparse
from pathlib import Path
from typing import Any

from training.commands.shared import add_command, exit_code, load_region_source, photo_paths, positive


def add_extract(commands: Any) -> None:
    """`updown extract`."""
    parser = add_command(
        commands,
        "extract",
        run_extract,
        summary="make the region features of photos; run again, it goes on where it stopped",
        example="updown extract photos/ --output regions/ --batch-size 64",
    )
    parser.add_argument("photos", nargs="+", metavar="PHOTO", help="a file or a folder of photos")
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="the region store to write")
    parser.add_argument("--batch-size", type=positive, default=32, metavar="N", help="photos at a time (%(default)s)")
    parser.add_argument(
        "--source",
        metavar="DIR_OR_HUB_ID",
        help="a region source, or a model with one (default: the trained captioner's)",
    )


def run_extract(arguments: argparse.Namespace) -> int:
    """Region features of every photo into a store."""
    paths = photo_paths(arguments.photos)
    names = [Path(path).name for path in paths]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(
            f"several photos are called {twice[0]}, which would be their id: extract the folders one by one"
        )

    from datasets import Dataset

    from training.extract_regions import extract_regions

    source, image_processor = load_region_source(arguments.source)
    rows = Dataset.from_dict({"image_id": names, "image": paths})
    broken = extract_regions(
        rows, source=source, image_processor=image_processor, output=arguments.output, batch_size=arguments.batch_size
    )
    print(f"{arguments.output}: the regions of {len(paths) - len(broken)} photos")
    return exit_code(len(broken), of=len(paths))
