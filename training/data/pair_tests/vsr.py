"""VSR (Liu et al. 2023): statements on how two things of an image lie to each other, true or false.

    test.jsonl + images --read_vsr--> Statements, a kind a relation ("in front of")

The layout as its authors show it: a line a statement with `image`, `caption`, `label` (0 or 1) and `relation`; the
images are those of COCO's train2017 and val2017.
"""

from typing import Any

import numpy as np

from training.data.files import PathLike, read_json_lines
from training.data.pair_tests.rows import ImagePlaces, Statements, texts_of

LABELS = {0: False, 1: True}


def read_vsr(annotations: PathLike, *, images: Any) -> Statements:
    """The statements whose image is there; one warning counts the others.

    Args:
        annotations: `test.jsonl` of `splits/random` or `splits/zeroshot`, or another split.
        images: the folder of the images, or several.

    Raises:
        ValueError: for a broken line, a statement that lacks a field or has another label, and where no image is there.
    """
    places = ImagePlaces(images, source=annotations)
    found: list[tuple[str, int, str, bool]] = []
    for number, record in enumerate(read_json_lines(annotations)):
        place = f"{annotations}: statement {number}"
        name, text, relation = texts_of(record, ("image", "caption", "relation"), place=place)
        label = record.get("label")
        if type(label) is not int or label not in LABELS:
            raise ValueError(f"{place} has the label {label!r}, which is neither 0 nor 1")
        owner = places.place(name)
        if owner is not None:
            found.append((relation, owner, text, LABELS[label]))
    paths = places.paths()
    kinds, owners, texts, labels = (list(column) for column in zip(*found, strict=True))
    return Statements(paths, kinds, np.array(owners), texts, np.array(labels))
