"""Matches rows of a data set with images of a region store, which may have other ids.

    rows' ids and files + a store's ids --stored_ids--> row id -> store id
    rows that a store lacks --check_missing--> a warning, or an error

Annotations call an image `42`, its file is `COCO_val2014_000000000042.jpg`, and `updown extract FOLDER` uses file names
as ids. So an id that the store lacks is looked up by the row's file name, with its suffix and without.
"""

import os
import re
import warnings
from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from typing import Any

IMAGE_SUFFIX = re.compile(r"\.[A-Za-z]{2,5}$")


def stored_ids(ids: Sequence[str], files: Sequence[str | None], *, store: Any) -> dict[str, str]:
    """Row id -> store id, for each row that the store holds.

    Args:
        ids: each row's id, which is looked up first.
        files: each row's image file, None if it has none; looked up next are the file's name, then the only image of
            that name without its suffix. A row without a file is looked up by its id without its suffix.
        store: has `image_ids` and supports `in`.

    Raises:
        ValueError: if a name fits several images of the store, or an image of the store several rows.

    >>> from types import SimpleNamespace
    >>> class Store(list):
    ...     image_ids = property(list)
    >>> stored_ids(["7", "8", "9"], ["a/7.jpg", None, "x.png"], store=Store(["7.jpg", "8"]))
    {'8': '8', '7': '7.jpg'}
    """
    found: dict[str, str] = {image_id: image_id for image_id in ids if image_id in store}
    if len(found) == len(set(ids)):
        return found
    by_stem = names_by_stem(store.image_ids)
    owner_of = {image_id: image_id for image_id in found}
    for image_id, file in zip(ids, files, strict=True):
        if image_id in found:
            continue
        held = find_name(file or image_id, store, by_stem=by_stem, place=f"the region store{_place(store)}", cure=TABLE)
        if held is not None:
            found[image_id] = held
            if owner_of.setdefault(held, image_id) != image_id:
                raise ValueError(
                    f"the images {owner_of[held]!r} and {image_id!r} both match {held!r} in the region "
                    f"store{_place(store)}: {TABLE}"
                )
    return found


def rows_in_store(rows: Any, store: Any) -> dict[str, str]:
    """`stored_ids` of undecoded rows; image columns are read only for rows whose id is not in the store."""
    ids = rows["image_id"][:]
    absent = [place for place, image_id in enumerate(ids) if image_id not in store]
    files: list[str | None] = [None] * len(ids)
    for place, file in zip(absent, files_of(rows.select(absent)) if absent else [], strict=True):
        files[place] = file
    return stored_ids(ids, files, store=store)


def names_by_stem(names: Iterable[str]) -> dict[str, list[str]]:
    """Names grouped by their `stem_of`.

    >>> names_by_stem(["6.jpg", "6.png", "7"])
    {'6': ['6.jpg', '6.png'], '7': ['7']}
    """
    by_stem: dict[str, list[str]] = {}
    for name in names:
        by_stem.setdefault(stem_of(name), []).append(name)
    return by_stem


def find_name(
    name: str, names: Container[str], *, by_stem: Mapping[str, Sequence[str]], place: str, cure: str
) -> str | None:
    """The one of `names` that matches `name`: itself, else its file name, else the only one with the same stem if one
    of both has no suffix: `6` matches `6.jpg`, but `6.jpg` does not match `6.png`. None if nothing matches.

    Raises:
        ValueError: if several match; the message says that they are in `place`, and the `cure`.
    """
    found = next((one for one in (name, os.path.basename(name)) if one in names), None)
    if found is not None:
        return found
    fitting = [one for one in by_stem.get(stem_of(name), []) if not (has_image_suffix(name) and has_image_suffix(one))]
    if len(fitting) > 1:
        raise ValueError(f"the image {name!r} may be any of {', '.join(map(repr, fitting[:3]))} in {place}: {cure}")
    return fitting[0] if fitting else None


def has_image_suffix(name: str) -> bool:
    """Whether a name ends in a suffix of two to five letters."""
    return IMAGE_SUFFIX.search(name) is not None


def stem_of(name: str) -> str:
    """A file's name without its folder and suffix.

    >>> stem_of("val/6.jpg"), stem_of("6"), stem_of("v1.5")
    ('6', '6', 'v1.5')
    """
    return IMAGE_SUFFIX.sub("", os.path.basename(name))


def files_of(rows: Any) -> list[str | None]:
    """The file of each undecoded row's image, None if it has none."""
    return [
        (image or {}).get("path")
        for batch in rows.select_columns(["image"]).iter(batch_size=1000)
        for image in batch["image"]
    ]


def check_missing(
    ids: Collection[str], held: Mapping[str, str], *, store: Any, min_share: float, warns: bool = True
) -> None:
    """Warn once with the number of images that a store lacks, if any.

    Raises:
        ValueError: if it holds none of the images, or fewer than `min_share` (0..1) of them.
    """
    missing = [image_id for image_id in ids if image_id not in held]
    if not missing:
        return
    listed = ", ".join(map(repr, missing[:3])) + (", ..." if len(missing) > 3 else "")
    if len(missing) == len(ids):
        raise ValueError(
            f"none of the {len(ids)} images is in the region store{_place(store)}: the ids of the data are {listed}, "
            f"those of the store {', '.join(map(repr, store.image_ids[:3]))}; {getattr(store, 'cure', TABLE)}"
        )
    fault = f"{len(missing)} of the {len(ids)} images have no regions in the store{_place(store)}, such as {listed}"
    if len(ids) - len(missing) < min_share * len(ids):
        raise ValueError(
            f"{fault}: extract them too, or lower regions.min_share, which is {min_share:g}, to do without them"
        )
    if warns:
        warnings.warn(f"{fault}: they are left out", stacklevel=2)


TABLE = "extract them with a table of file_name and image_id (`updown extract TABLE.csv`)"


def _place(store: Any) -> str:
    return f" {store.folder}" if hasattr(store, "folder") else ""
