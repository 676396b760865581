"""SugarCrepe (Hsieh et al. 2023): captions of COCO's val2017 beside ones with a thing, attribute or relation changed.

add_att.json, swap_obj.json ... + images --read_sugarcrepe--> CaptionPairs, a kind a file
"""

from pathlib import Path
from typing import Any

import numpy as np

from training.data.files import PathLike, read_json
from training.data.pair_tests.rows import CaptionPairs, ImagePlaces, texts_of

FIELDS = ("filename", "caption", "negative_caption")


def read_sugarcrepe(annotations: PathLike, *, images: Any) -> CaptionPairs:
    """The pairs whose image lies in the folder; one warning counts the others.

    Args:
        annotations: the folder of `add_att.json`, `swap_obj.json` ... as its authors publish them: of each pair's
            number, or in a list, `filename`, `caption` and `negative_caption`.
        images: the folder of COCO's val2017, or several.

    Raises:
        ValueError: for a folder without such files, a pair that lacks a field, and where no image is there.
    """
    files = sorted(Path(annotations).glob("*.json"))
    if not files:
        raise ValueError(f"{annotations} holds no JSON of pairs, such as swap_obj.json")
    places = ImagePlaces(images, source=annotations)
    found: list[tuple[str, int, str, str]] = []
    for file in files:
        for number, record in enumerate(_records(file)):
            name, right, wrong = texts_of(record, FIELDS, place=f"{file}: pair {number}")
            place = places.place(name)
            if place is not None:
                found.append((file.stem, place, right, wrong))
    paths = places.paths()
    kinds, owners, rights, wrongs = (list(column) for column in zip(*found, strict=True))
    return CaptionPairs(paths, kinds, np.array(owners), rights, wrongs)


def _records(file: Path) -> list[dict[str, Any]]:
    content = read_json(file)
    records = list(content.values()) if isinstance(content, dict) else content
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise ValueError(f"{file} holds no pairs; each is an object of {', '.join(FIELDS)}")
    return records
