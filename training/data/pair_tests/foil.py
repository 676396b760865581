"""FOIL-COCO (Shekhar et al. 2017): captions of COCO beside ones with a noun exchanged.

    foilv1.0_test_2017.json + images --read_foil--> CaptionPairs, of the kind `noun`

Written after the documented layout: `images` with `id` and `file_name`, and `annotations` with `id`, `image_id`,
`caption` and `foil`; a caption and its foils share their `id`. FOIL's first task, to tell captions from foils, is
scored beside the pairs; its word detection and correction are not, since they ask for the words of a caption.
"""

from typing import Any

import numpy as np

from training.data.files import PathLike, id_text, read_json, records
from training.data.pair_tests.rows import CaptionPairs, ImagePlaces, texts_of

KIND = "noun"
NO_CAPTION = "foils without the caption that they were made of"


def read_foil(annotations: PathLike, *, images: Any) -> CaptionPairs:
    """A pair for every foil whose caption and image are there; one warning counts the others.

    Args:
        annotations: `foilv1.0_test_2017.json` (images of val2014) or `foilv1.0_train_2017.json`.
        images: the folder of the images, or several.

    Raises:
        ValueError: for a broken file, an annotation that lacks a field, and where no pair has its image.
    """
    content = read_json(annotations)
    listed = records(content, "images", annotations)
    names = {id_text(one.get("id")): one["file_name"] for one in listed if isinstance(one.get("file_name"), str)}
    places = ImagePlaces(images, source=annotations)
    right: dict[str, str] = {}
    foils: list[tuple[str, str, str]] = []
    for number, record in enumerate(records(content, "annotations", annotations)):
        place = f"{annotations}: annotation {number}"
        (caption,) = texts_of(record, ("caption",), place=place)
        if not isinstance(record.get("foil"), bool) or "id" not in record or "image_id" not in record:
            raise ValueError(f"{place} lacks id, image_id or foil (true or false); is it a file of FOIL?")
        own, image = id_text(record["id"]), id_text(record["image_id"])
        if record["foil"]:
            foils.append((own, names.get(image) or f"COCO_val2014_{image:0>12}.jpg", caption))
        else:
            right[own] = caption
    found: list[tuple[int, str, str]] = []
    for own, name, caption in foils:
        owner = places.place(name) if own in right else None
        if own not in right:
            places.left_out.add(NO_CAPTION, own)
        elif owner is not None:
            found.append((owner, right[own], caption))
    paths = places.paths()
    owners, rights, wrongs = (list(column) for column in zip(*found, strict=True))
    return CaptionPairs(paths, [KIND] * len(found), np.array(owners), rights, wrongs)
