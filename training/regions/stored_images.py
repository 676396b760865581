"""Which image of a region store is which row of a data set, where the two may name it differently.

    rows' ids and files + a store's ids --stored_ids--> row id -> store id
    rows that a store lacks --tell_lost--> a warning, or an error

Annotations call an image `42`, its file is `COCO_val2014_000000000042.jpg`, and `updown extract FOLDER` goes by file
names. So an id that the store lacks is looked for by the name of the row's image, with its ending and without.
"""

import os
import re
import warnings
from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from typing import Any

IMAGE_ENDING = re.compile(r"\.[A-Za-z]{2,5}$")


def stored_ids(ids: Sequence[str], files: Sequence[str | None], *, store: Any) -> dict[str, str]:
    """The store's id of each row that it holds, by the row's id.

    Args:
        ids: each row's id, which the store is asked for first.
        files: each row's image, None where it has none; the store is asked for the name of the file, then for the one
            image of that name without its ending. A row without an image is looked for by its id without its ending.
        store: with `image_ids` and `in`.

    Raises:
        ValueError: where a name fits several images of the store, or an image of the store several rows.

    >>> from types import SimpleNamespace
    >>> class Store(list):
    ...     image_ids = property(list)
    >>> stored_ids(["7", "8", "9"], ["a/7.jpg", None, "x.png"], store=Store(["7.jpg", "8"]))
    {'8': '8', '7': '7.jpg'}
    """
    found: dict[str, str] = {image_id: image_id for image_id in ids if image_id in store}
    if len(found) == len(set(ids)):
        return found
    alike = named_alike(store.image_ids)
    owner_of = {image_id: image_id for image_id in found}
    for image_id, file in zip(ids, files, strict=True):
        if image_id in found:
            continue
        held = named_among(file or image_id, store, alike=alike, place=f"the region store{_place(store)}", cure=TABLE)
        if held is not None:
            found[image_id] = held
            if owner_of.setdefault(held, image_id) != image_id:
                raise ValueError(
                    f"the images {owner_of[held]!r} and {image_id!r} both go by the name of {held!r} in the region "
                    f"store{_place(store)}: {TABLE}"
                )
    return found


def rows_in_store(rows: Any, store: Any) -> dict[str, str]:
    """`stored_ids` of undecoded rows; the images of those that the store knows by their ids are not touched."""
    ids = rows["image_id"][:]
    absent = [place for place, image_id in enumerate(ids) if image_id not in store]
    files: list[str | None] = [None] * len(ids)
    for place, file in zip(absent, files_of(rows.select(absent)) if absent else [], strict=True):
        files[place] = file
    return stored_ids(ids, files, store=store)


def named_alike(names: Iterable[str]) -> dict[str, list[str]]:
    """Names by what they are without folder and ending.

    >>> named_alike(["6.jpg", "6.png", "7"])
    {'6': ['6.jpg', '6.png'], '7': ['7']}
    """
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault(plain_name(name), []).append(name)
    return alike


def named_among(
    name: str, names: Container[str], *, alike: Mapping[str, Sequence[str]], place: str, cure: str
) -> str | None:
    """The one of the names that is meant by a name: itself, else that of the file, else the only one that is the same
    where one of both has no ending: `6` may be `6.jpg`, but `6.jpg` is not `6.png`.

    Raises:
        ValueError: where several are; `place` says where they are.
    """
    found = next((one for one in (name, os.path.basename(name)) if one in names), None)
    if found is not None:
        return found
    fitting = [one for one in alike.get(plain_name(name), []) if not (has_ending(name) and has_ending(one))]
    if len(fitting) > 1:
        raise ValueError(f"the image {name!r} may be any of {', '.join(map(repr, fitting[:3]))} in {place}: {cure}")
    return fitting[0] if fitting else None


def has_ending(name: str) -> bool:
    """Whether a name ends as an image's file does."""
    return IMAGE_ENDING.search(name) is not None


def plain_name(name: str) -> str:
    """A file's name without its folder and ending.

    >>> plain_name("val/6.jpg"), plain_name("6"), plain_name("v1.5")
    ('6', '6', 'v1.5')
    """
    return IMAGE_ENDING.sub("", os.path.basename(name))


def files_of(rows: Any) -> list[str | None]:
    """The file of each row's undecoded image, None where it has none."""
    return [
        (image or {}).get("path")
        for batch in rows.select_columns(["image"]).iter(batch_size=1000)
        for image in batch["image"]
    ]


def tell_lost(
    ids: Collection[str], held: Mapping[str, str], *, store: Any, min_share: float, warns: bool = True
) -> None:
    """One warning with the number of images that a store lacks; nothing where it lacks none.

    Raises:
        ValueError: where it holds fewer than `min_share` of them, 0..1.
    """
    lost = [image_id for image_id in ids if image_id not in held]
    if not lost:
        return
    listed = ", ".join(map(repr, lost[:3])) + (", ..." if len(lost) > 3 else "")
    if len(lost) == len(ids):
        raise ValueError(
            f"none of the {len(ids)} images is in the region store{_place(store)}: the data call them {listed}, the "
            f"store {', '.join(map(repr, store.image_ids[:3]))}; {TABLE}"
        )
    fault = f"{len(lost)} of the {len(ids)} images have no regions in the store{_place(store)}, such as {listed}"
    if len(ids) - len(lost) < min_share * len(ids):
        raise ValueError(
            f"{fault}: extract them too, or lower regions.min_share, which is {min_share:g}, to do without them"
        )
    if warns:
        warnings.warn(f"{fault}: they are left out", stacklevel=2)


TABLE = "extract them with a table of file_name and image_id, as `updown extract TABLE.csv` takes it"


def _place(store: Any) -> str:
    return f" {store.folder}" if hasattr(store, "folder") else ""
