"""What mixtures of captions, questions and boxes share: reading one part, in the splits that it takes part in.

part --part_rows--> its rows --drawn--> its share of them --repeated--> the rows to train on several times
"""

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from training.data.files import Formats, PathLike, format_reader
from training.data.splits import NoSuchSplitError, split_name

REPEATED_SPLITS = ("train", "restval")


def part_rows(
    part: Mapping[str, Any],
    *,
    kind: str,
    part_keys: Collection[str],
    splits_in: Callable[[str, str], set[str]],
    formats: Formats,
    images: PathLike | None,
    split: str | None,
    **shared: Any,
) -> Any:
    """What the reader of a part of a mixture returns, None where it does not take part in the split.

    kind: of the formats, for errors. part_keys: of the part that its reader does not take. splits_in: (`"train+val"`,
    where it stands) -> the splits that are meant. shared: options of all parts, as `images` is one, for those whose
    reader takes them and that give none of their own. Raises `ValueError` for what the part's reader raises.
    """
    if "split" in part:
        raise ValueError(f"name its splits as splits: [{part['split']}]")
    options = {name: value for name, value in part.items() if name not in part_keys}
    wanted = None if split is None else splits_in(split, "the mixture")
    if "splits" in part:
        words = part["splits"]
        stated = splits_in(words if isinstance(words, str) else "+".join(map(str, words)), "splits")
        wanted = stated if wanted is None else stated & wanted
        if not wanted:
            return None
    if wanted is not None:
        options["split"] = "+".join(sorted(wanted))
    own = formats.get(part["format"])
    for name, value in {"images": images, **shared}.items():
        if value is not None and own is not None and name in inspect.signature(own).parameters:
            options.setdefault(name, value)
    reader = format_reader(formats, part["format"], options, kind=kind)
    try:
        return reader(**options)
    except NoSuchSplitError:
        return None


def part_names(parts: Sequence[Mapping[str, Any]]) -> list[str]:
    """What each part is called: its `name`, or its format, with its number where an earlier part is called so."""
    found: list[str] = []
    for number, part in enumerate(parts, start=1):
        name = str(part.get("name", part["format"]))
        found.append(f"{name}{number}" if name in found else name)
    return found


def splits_of_images(words: str, source: str) -> set[str]:
    """The splits of `"train+restval"`."""
    return {split_name(word, source) for word in words.split("+")}


def check_draw(part: Mapping[str, Any]) -> None:
    """`ValueError` for a `share`, `limit` or `repeat` that is none."""
    share, limit, repeat = part.get("share", 1.0), part.get("limit", 1), part.get("repeat", 1)
    whole = all(type(number) is int and number >= 1 for number in (limit, repeat))
    if not isinstance(share, int | float) or not 0 < share <= 1 or not whole:
        raise ValueError(
            f"share is {share}, limit {limit} and repeat {repeat}; a share lies in 0..1, the others count images and "
            "times"
        )


def drawn(table: pa.Table, part: Mapping[str, Any], *, rng: np.random.Generator) -> pa.Table:
    """The part's share of its images, in their order."""
    size = min(max(round(part.get("share", 1.0) * len(table)), 1), part.get("limit", len(table)))
    return table if size == len(table) else table.take(np.sort(rng.permutation(len(table))[:size]))


def repeated(table: pa.Table, part: Mapping[str, Any]) -> pa.Table:
    """The rows to train on `repeat` times, one copy of all after the other; what is scored stands once."""
    again = table.filter(pc.is_in(table["split"], value_set=pa.array(REPEATED_SPLITS)))
    return pa.concat_tables([table, *[again] * (part.get("repeat", 1) - 1)])


def with_column(table: pa.Table, name: str, values: pa.Array | pa.ChunkedArray) -> pa.Table:
    """The table with other values in one of its columns."""
    return table.set_column(table.schema.get_field_index(name), table.schema.field(name), values)
