"""VALSE (Parcalabescu et al. 2022): captions beside foils of six linguistic phenomena.

    existence.json, plurals.json ... + images --read_valse--> CaptionPairs, a kind a file

Written after the documented layout: an object of id -> `image_file`, `caption`, `foil`, and `mturk`, the votes of three
people: its `caption` says how many chose the caption, but not the foil. Valid are foils with two or three of these.
"""

from pathlib import Path
from typing import Any

import numpy as np

from training.data.files import PathLike, read_json
from training.data.pair_tests.rows import CaptionPairs, ImagePlaces, texts_of

VALID_VOTES = 2
UNSURE = "foils that fewer than two people told from their caption"


def read_valse(annotations: PathLike, *, images: Any, all_foils: bool = False) -> CaptionPairs:
    """The valid pairs whose image is there; one warning counts the others.

    Args:
        annotations: a file, or the folder of all.
        images: the folders of the images; those of VALSE are from several data sets (Visual7W, SWiG, VisDial, COCO).
        all_foils: also those that people did not validate.

    Raises:
        ValueError: for a broken file, a pair that lacks a field or its votes, and where no valid pair has its image.
    """
    path = Path(annotations)
    files = sorted(path.glob("*.json")) if path.is_dir() else [path]
    if not files:
        raise ValueError(f"{annotations} holds no JSON of foils, such as existence.json")
    places = ImagePlaces(images, source=annotations)
    found: list[tuple[str, int, str, str]] = []
    for file in files:
        content = read_json(file)
        if not isinstance(content, dict) or not all(isinstance(record, dict) for record in content.values()):
            raise ValueError(f"{file} holds no foils by their id; is it a file of VALSE?")
        for name, record in content.items():
            own = f"{file}: the foil {name!r}"
            if not all_foils and votes_of(record, place=own) < VALID_VOTES:
                places.left_out.add(UNSURE, str(name))
                continue
            caption = next(iter(as_texts(record.get("caption"))), None)
            for foil in as_texts(record.get("foil")) or [None]:
                given = {**record, "caption": caption, "foil": foil}
                image, right, wrong = texts_of(given, ("image_file", "caption", "foil"), place=own)
                place = places.place(image)
                if place is not None:
                    found.append((file.stem, place, right, wrong))
    paths = places.paths()
    kinds, owners, rights, wrongs = (list(column) for column in zip(*found, strict=True))
    return CaptionPairs(paths, kinds, np.array(owners), rights, wrongs)


def votes_of(record: dict[str, Any], *, place: str) -> int:
    """How many people chose the caption; `ValueError` where nobody was asked."""
    votes = record.get("mturk")
    number = votes.get("caption") if isinstance(votes, dict) else None
    if isinstance(number, bool) or not isinstance(number, int):
        raise ValueError(f"{place} has no votes (mturk, caption): keep the foils that nobody validated by --all-foils")
    return number


def as_texts(value: Any) -> list[Any]:
    """A text, or a list of texts as some files have it, as a list.

    >>> as_texts("a dog"), as_texts(["a dog", "a cat"]), as_texts(None)
    (['a dog'], ['a dog', 'a cat'], [None])
    """
    return list(value) if isinstance(value, list) else [value]
