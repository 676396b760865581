"""The row of a caption data set, and the one function that builds rows from columns.

a reader of training/data/captions/formats.py, or training/scenes/draw.py --caption_dataset--> datasets.Dataset
"""

import re
import warnings
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

import datasets

from training.data.files import PathLike, all_texts, image_paths

CAPTION_FEATURES = datasets.Features(
    {
        "image_id": datasets.Value("string"),
        "image": datasets.Image(),
        "captions": datasets.List(datasets.Value("string")),
        "split": datasets.Value("string"),
        "domain": datasets.Value("string"),
    }
)
SPLITS = ("train", "restval", "val", "test")
OTHER_WORDS = {"validation": "val", "dev": "val"}
SPLIT_WORD = re.compile(r"(?<![a-z])(?:restval|train|validation|val|dev|test)(?![a-z])")


class NoSuchSplitError(ValueError):
    """A data set has no row of the wanted split.

    present: the splits it has.
    """

    def __init__(self, message: str, *, present: Collection[str] = ()) -> None:
        super().__init__(message)
        self.present = frozenset(present)


def caption_dataset(
    *,
    image_ids: Sequence[str],
    names: Sequence[str],
    captions: Sequence[Sequence[str]],
    splits: Sequence[str],
    images: PathLike | None,
    split: str | None,
    source: PathLike,
    domains: Sequence[str] | None = None,
) -> datasets.Dataset:
    """Rows of `CAPTION_FEATURES` from equally long columns; no image is opened.

    Args:
        names: each image's path relative to `images`; rows whose image is missing are left out with a warning.
        captions: blank ones are dropped; images left without any are kept in the test split, and elsewhere left out
            with a warning.
        splits: `SPLITS`, or the words other projects use for them.
        images: image folder; None gives rows whose `image` is None.
        split: `"train"` or `"train+restval"` keeps these, None keeps all.
        source: the file named in errors.

    Raises:
        ValueError: for a caption that is no text, an image name that is none, an unknown split, an id that appears
            twice, no caption at all, and what `image_paths` raises.
    """
    if len(set(image_ids)) < len(image_ids):
        raise ValueError(f"{source}: the image {Counter(image_ids).most_common(1)[0][0]!r} is listed twice")
    for what, values in (("image name", names), ("domain", domains or [])):
        if not all_texts(values):
            strange = next(value for value in values if not all_texts([value]))
            raise ValueError(f"{source}: the {what} {strange!a:.60} is not text")
    rows: dict[str, list[Any]] = {
        "image_id": list(image_ids),
        "image": list(names),
        "captions": [_clean(texts, image_id, source) for texts, image_id in zip(captions, image_ids, strict=True)],
        "split": [split_name(word, source) for word in splits],
        "domain": list(domains) if domains is not None else [""] * len(image_ids),
    }
    if split is not None:
        wanted = wanted_splits(split, present=set(rows["split"]), source=source)
        rows = _keep(rows, [name in wanted for name in rows["split"]])
    rows = _keep(rows, _usable(rows["captions"], splits=rows["split"], source=source))
    if images is None:
        rows["image"] = [None] * len(rows["image"])
    else:
        rows["image"] = image_paths(rows["image"], images)
        rows = _keep(rows, [path is not None for path in rows["image"]])
    return datasets.Dataset.from_dict(rows, features=CAPTION_FEATURES)


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


def _clean(texts: Sequence[str], image_id: str, source: PathLike) -> list[str]:
    if not all_texts(texts):
        raise ValueError(f"{source}: a caption of the image {image_id!r} is not text: {str(list(texts))[:120]}")
    return [text.strip() for text in texts if text.strip()]


def _usable(captions: Sequence[Sequence[str]], *, splits: Sequence[str], source: PathLike) -> list[bool]:
    keep = [bool(texts) or split == "test" for texts, split in zip(captions, splits, strict=True)]
    if not any(keep):
        raise ValueError(f"{source} holds no caption; is it cut short, or a test file (then name its split 'test')?")
    if not all(keep):
        warnings.warn(
            f"{source}: {keep.count(False)} of {len(keep)} images have no caption and are left out", stacklevel=2
        )
    return keep


def _keep(rows: dict[str, list[Any]], keep: Sequence[bool]) -> dict[str, list[Any]]:
    return {name: [value for value, kept in zip(values, keep, strict=True) if kept] for name, values in rows.items()}
