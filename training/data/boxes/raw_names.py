"""A vocabulary of a detector out of Visual Genome's raw names: the most common ones, cleaned.

    objects.json, attributes.json --count_raw_names--> how often each name is said of a box
    counts, synonyms, names to drop --clean_vocabulary--> lines of a vocabulary, and what was left out and why

The annotators wrote tens of thousands of names. Anderson et al. 2018 (section 3.1) took the 2,000 most common objects
and 500 attributes, and by hand dropped abstract classes that their detector found badly, which left 1,600 and 400.
"""

import dataclasses
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from training.data.boxes.visual_genome import (
    ATTRIBUTES_FILE,
    OBJECTS_FILE,
    clean_name,
    entry_names,
    entry_texts,
)
from training.data.files import PathLike, read_text, write_atomically, write_json
from training.data.json_stream import stream_records

REPORT_FILE = "vocabulary.json"
DROPPED, RARE = "dropped by --drop", "rarer than the ones kept"
FORBIDDEN = ","  # between the synonyms of a line
UNLISTED = 200  # of the rare names, so many stand in the report


@dataclass
class RawNames:
    """How often each cleaned name is said of a box: objects of objects.json, attributes of attributes.json."""

    objects: Counter[str] = field(default_factory=Counter)
    attributes: Counter[str] = field(default_factory=Counter)
    num_images: int = 0


@dataclass
class CleanVocabulary:
    """The classes kept, most common first, each a name with its synonyms, and what became of the other names.

    lines: `("sneaker", "sneakers")`; counts: boxes of each line; dropped: a class's most common name -> (boxes, why);
    share: 0..1, of all names said of boxes those that the vocabulary has.
    """

    lines: list[tuple[str, ...]]
    counts: list[int]
    dropped: dict[str, tuple[int, str]]
    share: float


def count_raw_names(folder: PathLike, *, images: Collection[str] | None = None) -> RawNames:
    """Count the names in `objects.json` and `attributes.json` of a folder, streamed: memory is that of the names.

    images: the ids of the images to count, such as those of train.txt; None counts all. Raises `ValueError` for files
    of another layout, and where no image is left.
    """
    names = RawNames()
    for entries in _entries(Path(folder) / "objects.json", key="objects", images=images):
        names.num_images += 1
        names.objects.update(_cleaned(name for entry in entries for name in entry_names(entry)))
    if not names.num_images:
        raise ValueError(f"{folder}: objects.json holds none of the images to count; leave --split-list out")
    for entries in _entries(Path(folder) / "attributes.json", key="attributes", images=images):
        names.attributes.update(_cleaned(text for entry in entries for text in entry_texts(entry.get("attributes"))))
    return names


def _cleaned(texts: Iterator[str]) -> Iterator[str]:
    """Names as a vocabulary holds them; none of nothing or of several names in one."""
    for text in texts:
        name = " ".join(clean_name(text).split())
        if name and FORBIDDEN not in name:
            yield name


def _entries(path: Path, *, key: str, images: Collection[str] | None) -> Iterator[list[dict[str, Any]]]:
    """What a file says of each image's boxes."""
    for number, record in enumerate(tqdm(stream_records(path), desc=path.name, unit="image")):
        entries = record.get(key)
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise ValueError(f"{path}: record {number} has no list {key!r} of objects: {str(record)[:120]}")
        if images is None or str(record.get("image_id", record.get("id"))) in images:
            yield entries


def read_synonyms(path: PathLike) -> list[tuple[str, ...]]:
    """Lines of names that mean the same, `name,other name`, as Visual Genome's object_alias.txt has them."""
    lines = (tuple(dict.fromkeys(filter(None, map(clean_name, line.split(","))))) for line in _lines(path))
    return [line for line in lines if len(line) > 1]


def read_dropped(path: PathLike) -> set[str]:
    """Names to leave out, one a line; what follows a `#` is a comment."""
    return {name for line in _lines(path) if (name := clean_name(line.partition("#")[0]))}


def _lines(path: PathLike) -> list[str]:
    return read_text(path).splitlines()


def clean_vocabulary(
    counts: Mapping[str, int],
    *,
    size: int,
    synonyms: Sequence[Sequence[str]] = (),
    dropped: Collection[str] = (),
) -> CleanVocabulary:
    """The `size` most common classes; names that mean the same are one class, called by the most common of them.

    A class of which any name is in `dropped` is left out before they are counted off. Classes that are equally common
    stand in alphabetical order. Raises `ValueError` where fewer classes are there, and for a name to drop that nobody
    wrote.

    >>> found = clean_vocabulary({"dog": 3, "dogs": 2, "thing": 9, "cat": 4, "cow": 1}, size=2,
    ...                          synonyms=[("dogs", "dog")], dropped={"thing"})
    >>> found.lines, found.counts, found.dropped["thing"], round(found.share, 3)
    ([('dog', 'dogs'), ('cat',)], [5, 4], (9, 'dropped by --drop'), 0.474)
    """
    unknown = sorted(name for name in dropped if name not in counts)
    if unknown:
        raise ValueError(f"the names to drop hold {unknown[0]!r}, which no box is called: correct it, or take it out")
    unwanted = set(dropped)
    kept, out = CleanVocabulary([], [], {}, 0.0), {}
    for count, names in _classes(counts, synonyms):
        if not unwanted.isdisjoint(names):
            out[names[0]] = (count, DROPPED)
        elif len(kept.lines) == size:
            out[names[0]] = (count, RARE)
        else:
            kept.lines.append(names)
            kept.counts.append(count)
    if len(kept.lines) < size:
        raise ValueError(f"only {len(kept.lines)} classes are there, and {size} are wanted: ask for fewer")
    return dataclasses.replace(kept, dropped=out, share=sum(kept.counts) / sum(counts.values()))


def _classes(counts: Mapping[str, int], synonyms: Sequence[Sequence[str]]) -> list[tuple[int, tuple[str, ...]]]:
    """Boxes and names of each class, most common first; a name of two lines of synonyms joins them."""
    members = {name: [name] for name in counts}  # the names of one class share one list
    for line in synonyms:
        first, *others = [name for name in line if name in members] or [""]
        for other in others:
            if members[other] is not members[first]:
                members[first].extend(members[other])
                members.update(dict.fromkeys(members[other], members[first]))
    groups = {id(names): names for names in members.values()}.values()
    classes = [
        (sum(counts[name] for name in names), tuple(sorted(names, key=lambda name: (-counts[name], name))))
        for names in groups
    ]
    return sorted(classes, key=lambda one: (-one[0], one[1]))


def write_clean_vocabularies(folder: PathLike, *, objects: CleanVocabulary, attributes: CleanVocabulary) -> None:
    """Write both files of a vocabulary, and `vocabulary.json`: boxes of every class, and the names left out and why.

    Of the names left out for being rare, the most common `UNLISTED` are listed.
    """
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    report: dict[str, Any] = {}
    for kind, file, found in (("objects", OBJECTS_FILE, objects), ("attributes", ATTRIBUTES_FILE, attributes)):
        write_atomically(target / file, "".join(f"{','.join(names)}\n" for names in found.lines).encode())
        rare = [name for name, (_, why) in found.dropped.items() if why == RARE]
        listed = [name for name, (_, why) in found.dropped.items() if why != RARE] + rare[:UNLISTED]
        report[kind] = {
            "share_of_names": round(found.share, 4),
            "kept": [
                {"names": list(names), "boxes": count} for names, count in zip(found.lines, found.counts, strict=True)
            ],
            "left_out": [
                {"name": name, "boxes": found.dropped[name][0], "why": found.dropped[name][1]} for name in listed
            ],
            "rare_and_not_listed": max(0, len(rare) - UNLISTED),
        }
    write_json(target / REPORT_FILE, report)
