"""Winoground (Thrush et al. 2022): two images and two captions of the same words in another order.

    examples.jsonl + images --read_winoground--> CaptionSquares, a kind a collapsed tag (Object, Relation, Both)

Written after the documented layout, since the files are given out on request: a line an example with `id`, `image_0`,
`image_1` (names, with or without a suffix), `caption_0`, `caption_1`, `tag` and `collapsed_tag`; the images are in
`images.zip`.
"""

from pathlib import Path
from typing import Any

import numpy as np

from training.data.files import PathLike, read_json_lines
from training.data.pair_tests.rows import CaptionSquares, ImagePlaces, texts_of

FIELDS = ("image_0", "image_1", "caption_0", "caption_1")
UNTAGGED = "untagged"


def read_winoground(annotations: PathLike, *, images: Any) -> CaptionSquares:
    """The examples whose images are both there; one warning counts the images that are not.

    Args:
        annotations: `examples.jsonl`, or its folder.
        images: the folder of the unpacked images (`ex_0_img_0.png`), or several.

    Raises:
        ValueError: for a broken line, an example that lacks a field or whose captions or images are the same, and
            where no example has both of its images.
    """
    file = Path(annotations, "examples.jsonl") if Path(annotations).is_dir() else Path(annotations)
    places = ImagePlaces(images, source=file)
    kinds, owners, captions = [], [], []
    for number, record in enumerate(read_json_lines(file)):
        first, second, *texts = texts_of(record, FIELDS, place=f"{file}: example {number}")
        if texts[0] == texts[1]:
            raise ValueError(f"{file}: example {number} has the same caption twice: {texts[0][:80]!r}")
        if first == second:
            raise ValueError(f"{file}: example {number} has the same image twice: {first[:80]!r}")
        pair = [places.place(name) for name in (first, second)]
        if None not in pair:
            tag = record.get("collapsed_tag")
            kinds.append(tag if isinstance(tag, str) and tag else UNTAGGED)
            owners.append(pair)
            captions.append((texts[0], texts[1]))
    paths = places.paths()
    if not owners:
        raise ValueError(f"no example of {file} has both of its images in {places.folders}")
    return CaptionSquares(paths, kinds, np.array(owners), captions)
