"""The names that occur: a vocabulary cut to what the boxes of some data sets show often enough.

    python -m training.data.boxes.vocabulary --vocabulary data/visual_genome --min-count 20 --output data/vocabulary \\
        --part "{format: flickr30k_entities, annotations: data/flickr30k_entities}" \\
        --part "{format: coco, annotations: data/coco/annotations/instances_train2017.json}"

A detector learns little of a name that it sees three times. The files written have Visual Genome's layout and order,
with the synonyms of every line; COCO's 80 classes are always kept, so that COCO's boxes can be read by them. Where no
box has an attribute, the file of attributes is empty, and a detector learns none.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from tqdm.auto import tqdm

from training.console import one_line, positive, say
from training.data.boxes.formats import DETECTION_FORMATS, load_detection
from training.data.boxes.names import COCO_NAMES, coco_id
from training.data.boxes.rows import DetectionData
from training.data.boxes.visual_genome import ATTRIBUTES_FILE, OBJECTS_FILE, Vocabulary, read_vocabularies
from training.data.files import PathLike, write_atomically

SHOWN = 20
EXAMPLES = f"""\
a part is what `data:` of a recipe says: a format ({", ".join(DETECTION_FORMATS)}) and its options.
  --part "{{format: flickr30k_entities, annotations: data/flickr8k/entities.json.gz}}"
  --part "{{format: coco, annotations: instances.json, split_file: captions.json}}"
Its boxes of the split are counted, of its own `split` where it names one. A name is counted once for each box
it was said of; the finer names that a COCO class covers (a person may be a skier) are not counted, and a teacher's
`more_boxes` are not. The recipe then takes `vocabulary: DIR` in each part, DIR being --output.
"""


def count_names(data: DetectionData) -> tuple[Counter[int], Counter[int]]:
    """In how many boxes each object id, and each attribute id, is right.

    Further names of a box count too, unless they are just those that its object covers, as COCO's categories have them:
    of these nobody knows which is right.
    """
    objects: Counter[int] = Counter()
    attributes: Counter[int] = Counter()
    columns = ("object_ids", "other_object_ids", "attribute_ids")
    for object_ids, others, adjectives in zip(*(data.rows[name][:] for name in columns), strict=True):
        for own, further, marks in zip(object_ids, others, adjectives, strict=True):
            said = [] if sorted(further) == data.covered.get(own, []) else further
            objects.update({own, *said})
            attributes.update(set(marks))
    return objects, attributes


def kept_lines(
    vocabulary: Vocabulary, counts: Mapping[int, int], *, min_count: int, always: Sequence[str] = ()
) -> list[str]:
    """The lines of a vocabulary's file whose name occurs often enough or is one of COCO's in `always`.

    COCO's names that no line has become lines of their own, at the end.
    """
    needed = {coco_id(name, vocabulary.ids): name for name in always}
    synonyms = _synonyms(vocabulary)
    kept = [
        ",".join(synonyms[number])
        for number in range(1, len(vocabulary.names) + 1)
        if counts.get(number, 0) >= min_count or number in needed
    ]
    return [*kept, *(name for name in always if coco_id(name, vocabulary.ids) is None)]


def cut_vocabulary(
    parts: Sequence[Mapping[str, Any]], *, vocabulary: PathLike, min_count: int, output: PathLike, split: str = "train"
) -> tuple[Counter[str], Counter[str]]:
    """Writes the vocabulary of the names that occur in `min_count` boxes of the parts; how often each name does.

    Where no box of the parts has an attribute, `attributes_vocab.txt` is an empty file.

    Raises:
        ValueError: for what `load_detection` raises of a part, and where no name is left of those that occur.
    """
    folder, target = Path(vocabulary), Path(output)
    if target.resolve() == folder.resolve():
        raise ValueError(f"--output is the folder of the vocabulary that is cut, {folder}; choose another")
    objects: Counter[int] = Counter()
    attributes: Counter[int] = Counter()
    for part in tqdm(parts, desc="counting names", unit="part"):
        found = count_names(_read_part(part, vocabulary=folder, split=split))
        objects.update(found[0])
        attributes.update(found[1])
    whole = read_vocabularies(folder)
    kept = (
        kept_lines(whole[0], objects, min_count=min_count, always=COCO_NAMES),
        kept_lines(whole[1], attributes, min_count=min_count),
    )
    if attributes and not kept[1]:
        raise ValueError(f"no name of {folder / ATTRIBUTES_FILE} occurs in {min_count} boxes; lower --min-count")
    target.mkdir(parents=True, exist_ok=True)
    for name, lines in zip((OBJECTS_FILE, ATTRIBUTES_FILE), kept, strict=True):
        write_atomically(target / name, "".join(f"{line}\n" for line in lines).encode())
    return _times(whole[0], objects, kept[0]), _times(whole[1], attributes, kept[1])


def _times(vocabulary: Vocabulary, counts: Mapping[int, int], lines: Sequence[str]) -> Counter[str]:
    """How often the first name of each line kept occurs."""
    first_names = dict.fromkeys((line.split(",")[0] for line in lines), 0)
    times = {own: counts.get(number, 0) for number, own in enumerate(vocabulary.names, start=1) if own in first_names}
    return Counter({**first_names, **times})


def _read_part(part: Mapping[str, Any], *, vocabulary: Path, split: str) -> DetectionData:
    options = {name: value for name, value in part.items() if name not in ("format", "more_boxes")}
    if not isinstance(part.get("format"), str):
        raise ValueError(f"a part needs a format: {part}")
    if "vocabulary" in options:
        raise ValueError(f"the vocabulary is one for all parts, --vocabulary: leave it out of {part}")
    return load_detection(part["format"], vocabulary=vocabulary, **{"split": split, **options})


def _synonyms(vocabulary: Vocabulary) -> dict[int, list[str]]:
    lines: dict[int, list[str]] = {}
    for name, number in vocabulary.ids.items():
        lines.setdefault(number, []).append(name)
    return lines


def part_of(text: str) -> dict[str, Any]:
    """The type of `--part`: YAML of a mapping."""
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise argparse.ArgumentTypeError(f"{one_line(error)}: write {{format: coco, annotations: a.json}}") from error
    if not isinstance(content, dict):
        raise argparse.ArgumentTypeError(f"{text!r} is no mapping: write {{format: coco, annotations: a.json}}")
    return content


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.data.boxes.vocabulary",
        description="Cut a vocabulary of objects and attributes to the names that occur in the boxes of data sets.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--part", type=part_of, action="append", required=True, help="a data set; once for each")
    parser.add_argument(
        "--vocabulary", type=Path, required=True, help=f"folder of {OBJECTS_FILE} and {ATTRIBUTES_FILE}"
    )
    parser.add_argument("--min-count", type=positive, default=20, help="boxes a name has to occur in (default: 20)")
    parser.add_argument(
        "--split", default="train", help="the splits to count, of parts that name none (default: train)"
    )
    parser.add_argument("--output", type=Path, required=True, help="folder for the two files")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; 2 for what is wrong with its arguments or files."""
    args = _parser().parse_args(arguments)
    try:
        objects, attributes = cut_vocabulary(
            args.part, vocabulary=args.vocabulary, min_count=args.min_count, output=args.output, split=args.split
        )
    except (ValueError, OSError) as error:
        say(f"error: {one_line(error)}", file=sys.stderr)
        return 2
    for kind, counts in (("objects", objects), ("attributes", attributes)):
        if not counts:
            say(f"no box has one of the {kind}: {ATTRIBUTES_FILE} is empty, and a detector learns none")
            continue
        common = ", ".join(f"{name} {count}" for name, count in counts.most_common(SHOWN))
        say(f"{len(counts)} {kind} in {sum(counts.values())} places: {common}{', ...' if len(counts) > SHOWN else ''}")
    rare = sorted(name for name, count in objects.items() if count < args.min_count)
    say(f"kept for COCO, though rarer: {', '.join(rare) or 'none'}")
    say(f"written to {args.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
