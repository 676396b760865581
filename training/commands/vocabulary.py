"""`updown build-vocabulary`: Visual Genome's raw names -> the classes of a detector."""

import argparse
from pathlib import Path
from typing import Any

from training.commands.shared import add_command
from training.console import positive, say

NUM_SHOWN = 12


def add_build_vocabulary(commands: Any) -> None:
    """`updown build-vocabulary`."""
    parser = add_command(
        commands,
        "build-vocabulary",
        run_build_vocabulary,
        summary="count Visual Genome's names of objects and attributes, join synonyms, leave out what you name, and "
        "write the most common classes for a detector, with a report of what was left out and why",
        example="updown build-vocabulary data/visual_genome --synonyms object_alias.txt --drop abstract.txt "
        "--output data/vocabulary\n"
        "  updown build-vocabulary data/visual_genome --objects 2000 --attributes 500 --output candidates/   to choose "
        "what to drop from",
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="holds objects.json and attributes.json")
    parser.add_argument(
        "--objects", type=positive, default=1600, metavar="N", help="classes of objects to keep (%(default)s)"
    )
    parser.add_argument(
        "--attributes", type=positive, default=400, metavar="N", help="classes of attributes to keep (%(default)s)"
    )
    parser.add_argument(
        "--synonyms",
        type=Path,
        metavar="FILE",
        help="names that mean the same, `name,other name` a line (Visual Genome's object_alias.txt)",
    )
    parser.add_argument("--attribute-synonyms", type=Path, metavar="FILE", help="the same of attributes")
    parser.add_argument(
        "--drop",
        type=Path,
        metavar="FILE",
        help="names of objects to leave out, one a line: abstract ones, and those a detector finds badly",
    )
    parser.add_argument("--drop-attributes", type=Path, metavar="FILE", help="the same of attributes")
    parser.add_argument(
        "--split-list", type=Path, metavar="FILE", help="count these images alone (train.txt), so that no test image is"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="for the files of the vocabulary")


def run_build_vocabulary(arguments: argparse.Namespace) -> int:
    """Count, clean, write, and print how much the classes cover."""
    from training.data.boxes.raw_names import (
        REPORT_FILE,
        clean_vocabulary,
        count_raw_names,
        read_dropped,
        read_synonyms,
        write_clean_vocabularies,
    )
    from training.data.splits import listed_splits

    if arguments.output.resolve() == arguments.folder.resolve():
        raise ValueError(f"--output is the folder that is read, {arguments.folder}: choose another")
    images = listed_splits({"train": arguments.split_list}).keys() if arguments.split_list else None
    lists = {  # read before minutes of counting
        "objects": (arguments.objects, arguments.synonyms, arguments.drop),
        "attributes": (arguments.attributes, arguments.attribute_synonyms, arguments.drop_attributes),
    }
    options: dict[str, dict[str, Any]] = {
        kind: {
            "size": size,
            "synonyms": read_synonyms(synonyms) if synonyms else (),
            "dropped": read_dropped(dropped) if dropped else (),
        }
        for kind, (size, synonyms, dropped) in lists.items()
    }
    names = count_raw_names(arguments.folder, images=images)
    found = {}
    for kind, counts in (("objects", names.objects), ("attributes", names.attributes)):
        try:
            found[kind] = clean_vocabulary(counts, **options[kind])
        except ValueError as error:
            raise ValueError(f"{kind}: {error}") from error
    write_clean_vocabularies(arguments.output, objects=found["objects"], attributes=found["attributes"])
    for kind, counts in (("objects", names.objects), ("attributes", names.attributes)):
        kept = found[kind]
        common = ", ".join(
            f"{line[0]} {count:,}" for line, count in list(zip(kept.lines, kept.counts, strict=True))[:NUM_SHOWN]
        )
        say(
            f"{kind}: {len(kept.lines):,} classes of {len(counts):,} names, {kept.share:.1%} of what boxes are called; "
            f"the rarest stands at {kept.counts[-1]:,} boxes",
            f"  {common}, ...",
        )
    say(f"{arguments.output}: from {names.num_images:,} images; {REPORT_FILE} lists what was left out and why")
    return 0
