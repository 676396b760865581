"""The splits of every data set: our names of them, and the words other projects use.

    "captions_val2017" --split_in--> "val"        "validation" --split_name--> "val"
    "train+restval" --wanted_splits--> {"train", "restval"}

Questions have further splits (`training/data/questions/rows.py`).
"""

import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from training.data.files import PathLike, read_lines

SPLITS = ("train", "restval", "val", "test")
OTHER_WORDS = {"validation": "val", "dev": "val"}
LISTED_SPLITS = ("train", "val", "test")  # of Visual Genome and others, each a `train.txt`
SPLIT_WORD = re.compile(r"(?<![a-z])(?:restval|train|validation|val|dev|test)(?![a-z])")


class NoSuchSplitError(ValueError):
    """A data set has no row of the wanted split.

    present: the splits it has.
    """

    def __init__(self, message: str, *, present: Collection[str] = ()) -> None:
        super().__init__(message)
        self.present = frozenset(present)


def split_in(name: str) -> str | None:
    """The word for a split in a file's name or in an image's split field; None where there is none.

    >>> split_in("captions_val2017"), split_in("Validation_GCC-1.1.0-Validation"), split_in("cc12m")
    ('val', 'validation', None)
    """
    found = SPLIT_WORD.search(name.lower())
    return found.group() if found else None


def split_name(word: str, source: PathLike) -> str:
    """Our name of a split (`validation` and `dev` are val); ValueError for a word that is none."""
    name = OTHER_WORDS.get(word, word) if isinstance(word, str) else None
    if name is None or name not in SPLITS:
        raise ValueError(f"{source}: unknown split {word!r}; the splits are {', '.join((*SPLITS, *OTHER_WORDS))}")
    return name


def wanted_splits(split: str, *, present: set[str], source: PathLike) -> set[str]:
    """The splits of `"train+restval"`; NoSuchSplitError where none of them is present."""
    wanted = {split_name(word, source) for word in split.split("+")}
    if not wanted & present:
        told = f"{source} has no image of the split {split!r}; it has {', '.join(sorted(present))}"
        raise NoSuchSplitError(told, present=present)
    return wanted


def listed_splits(
    split_lists: PathLike | Mapping[str, PathLike],
    *,
    id_of: Callable[[str], str] | None = None,
    name_of: Callable[[str, PathLike], str] = split_name,
) -> dict[str, str]:
    """The split of every image in list files, by its id.

    Args:
        split_lists: list files by split, or the folder of `train.txt`, `val.txt` and `test.txt`.
        id_of: the id in a line; by default the name, without folder and ending, that comes first in it.
        name_of: our name of a split's word.

    Raises `ValueError` for an image in the lists of two splits.
    """
    if not isinstance(split_lists, Mapping):
        split_lists = {word: Path(split_lists) / f"{word}.txt" for word in LISTED_SPLITS}
    split_of: dict[str, str] = {}
    for word, path in split_lists.items():
        name = name_of(word, path)
        for line in read_lines(path):
            image_id = (id_of or first_stem)(line)
            if split_of.setdefault(image_id, name) != name:
                raise ValueError(f"{path}: the image {image_id!r} is in the list of {split_of[image_id]} too")
    return split_of


def first_stem(line: str) -> str:
    """The file name, without folder and ending, that stands first in a line.

    >>> first_stem("VG_100K/2.jpg 1159910")
    '2'
    """
    return Path(line.split()[0]).stem
