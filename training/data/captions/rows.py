"""The row of a caption data set, and the one function that builds rows from columns.

a reader of training/data/captions/formats.py, or training/scenes/draw.py --caption_dataset--> datasets.Dataset
"""

import warnings
from collections import Counter
from collections.abc import Sequence
from typing import Any

import datasets

from training.data.files import PathLike, all_texts, image_paths
from training.data.splits import split_name, wanted_splits

CAPTION_FEATURES = datasets.Features(
    {
        "image_id": datasets.Value("string"),
        "image": datasets.Image(),
        "captions": datasets.List(datasets.Value("string")),
        "split": datasets.Value("string"),
        "domain": datasets.Value("string"),
    }
)


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
