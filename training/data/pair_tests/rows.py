"""The three kinds of pair tests, and what their readers share: which text is scored against which image.

    a reader of training/data/pair_tests/formats.py --> CaptionPairs | CaptionSquares | Statements, with `asked`

`training/probes/pair_tests.py` has a model score what is asked, and counts.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from training.data.boxes.rows import LeftOut
from training.data.files import IMAGE_SUFFIXES, PathLike

YEARS = re.compile(r"COCO_(?:train|val|test)\d{4}_(\d{12}\.jpg)")  # the names of COCO's images before 2017
NO_IMAGE = "pairs whose image is not there"


@dataclass(frozen=True)
class CaptionPairs:
    """N pairs of captions: their kind, image (a place in `paths`), and the right and the wrong text."""

    paths: list[Path]
    kinds: list[str]
    images: np.ndarray
    right: list[str]
    wrong: list[str]

    @property
    def asked(self) -> tuple[list[str], np.ndarray]:
        """The 2 N texts, the right ones first, and the image of each."""
        return [*self.right, *self.wrong], np.tile(self.images, 2)


@dataclass(frozen=True)
class CaptionSquares:
    """N examples of two images and two captions, of which the first belongs to the first image: images (N, 2)."""

    paths: list[Path]
    kinds: list[str]
    images: np.ndarray
    captions: list[tuple[str, str]]

    @property
    def asked(self) -> tuple[list[str], np.ndarray]:
        """The 4 N texts and images: of each example caption 0 with images 0 and 1, then caption 1."""
        texts = [text for pair in self.captions for text in pair for _ in range(2)]
        return texts, np.tile(self.images, (1, 2)).ravel()


@dataclass(frozen=True)
class Statements:
    """N statements, each about an image, and whether it is true: labels (N,) bool."""

    paths: list[Path]
    kinds: list[str]
    images: np.ndarray
    texts: list[str]
    labels: np.ndarray

    @property
    def asked(self) -> tuple[list[str], np.ndarray]:
        """The texts and the image of each."""
        return self.texts, self.images


PairTest = CaptionPairs | CaptionSquares | Statements


class ImagePlaces:
    """The images of folders by their bare names, each numbered when it is first placed; counts what is not there.

    Names of COCO's images are found with and without `COCO_val2014_` before them, and names without a suffix as well.

    Raises `ValueError` for folders that are absent or hold no image.
    """

    def __init__(self, folders: PathLike | Sequence[PathLike], *, source: PathLike):
        given = [folders] if isinstance(folders, str | os.PathLike) else list(folders)
        self.files: dict[str, Path] = {}
        for folder in map(Path, given):
            if not folder.is_dir():
                raise ValueError(f"there is no image folder {folder}; give a folder of images, unpacked")
            for path in sorted(folder.iterdir()):
                if path.suffix.lower() in IMAGE_SUFFIXES:
                    for name in dict.fromkeys((path.name, short_name(path.name), path.stem)):
                        self.files.setdefault(name, path)
        self.folders, self.source = ", ".join(map(str, given)), source
        if not self.files:
            raise ValueError(f"{self.folders} holds no image ({', '.join(sorted(IMAGE_SUFFIXES))}): unpack it there")
        self.places: dict[Path, int] = {}
        self.left_out = LeftOut(source)

    def place(self, name: str) -> int | None:
        """The number of an image by its name; None, which is counted, where it is not there."""
        bare = Path(name).name
        path = self.files.get(bare) or self.files.get(short_name(bare))
        if path is None:
            self.left_out.add(NO_IMAGE, bare)
            return None
        return self.places.setdefault(path, len(self.places))

    def paths(self) -> list[Path]:
        """The images that were placed, by their numbers; warns of what was left out. `ValueError` where none was."""
        if not self.places:
            told = "; ".join(
                f"{count} {reason} (first: {self.left_out.first[reason]})"
                for reason, count in self.left_out.counts.items()
            )
            raise ValueError(
                f"nothing of {self.source} can be scored on the images in {self.folders}: {told or 'it is empty'}"
            )
        self.left_out.warn()
        return list(self.places)


def short_name(name: str) -> str:
    """A file's name without what COCO wrote before the number until 2017.

    >>> short_name("COCO_val2014_000000000042.jpg"), short_name("a.jpg")
    ('000000000042.jpg', 'a.jpg')
    """
    found = YEARS.fullmatch(name)
    return found.group(1) if found else name


def texts_of(record: Any, keys: Sequence[str], *, place: str) -> list[str]:
    """Fields of a record that must be texts that say something; `ValueError` names the first that is none.

    place: the file and record, as errors call it.
    """
    fields = record if isinstance(record, dict) else {}
    wrong = next((key for key in keys if not isinstance(fields.get(key), str) or not fields[key].strip()), None)
    if wrong is not None:
        raise ValueError(f"{place} lacks {wrong!r}; each has {', '.join(keys)}")
    return [fields[key] for key in keys]
