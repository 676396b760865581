"""A folder of images with `counts.jsonl`, one row an image: `{"image": "7.png", "count": 3, "split": "train"}`."""

from pathlib import Path

import datasets

from training.data.files import PathLike, column, image_paths, read_table, text_column
from training.data.splits import split_name, wanted_splits

COUNT_FEATURES = datasets.Features(
    {"image_id": datasets.Value("string"), "image": datasets.Image(), "count": datasets.Value("int32")}
)


def read_scene_counts(folder: PathLike, *, split: str = "train") -> datasets.Dataset:
    """The rows of a split, as `COUNT_FEATURES` has them; images without a file are left out, with a warning.

    Raises `ValueError` for a file of another layout, a count that is no number from 0 upwards, an unknown split, and
    an image that is listed twice.
    """
    path = Path(folder) / "counts.jsonl"
    rows = read_table(path)
    splits = [split_name(word, path) for word in text_column(rows, "split", path)]
    wanted = wanted_splits(split, present=set(splits), source=path)
    names, counts = text_column(rows, "image", path), column(rows, "count", path)
    wrong = [(name, count) for name, count in zip(names, counts, strict=True) if type(count) is not int or count < 0]
    if wrong:
        raise ValueError(f"{path}: the count of {wrong[0][0]} is {wrong[0][1]!r}: write a number from 0 upwards")
    if len(set(names)) < len(names):
        raise ValueError(f"{path} lists {len(names) - len(set(names))} images twice: leave one row an image")
    found = [
        {"image_id": name, "image": image, "count": count}
        for name, image, count, own in zip(names, image_paths(names, folder), counts, splits, strict=True)
        if own in wanted and image is not None
    ]
    return datasets.Dataset.from_list(found, features=COUNT_FEATURES)
