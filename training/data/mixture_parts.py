"""What mixtures of captions and of questions share: reading one part, in the splits that it takes part in."""

import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any

import datasets

from training.data.files import Formats, PathLike, format_reader
from training.data.splits import NoSuchSplitError


def part_rows(
    part: Mapping[str, Any],
    *,
    kind: str,
    part_keys: Collection[str],
    splits_in: Callable[[str, str], set[str]],
    formats: Formats,
    images: PathLike | None,
    split: str | None,
) -> datasets.Dataset | None:
    """The rows of a part of a mixture, None where it does not take part in the split.

    kind: of the formats, for errors. part_keys: of the part that its reader does not take. splits_in: (`"train+val"`,
    where it stands) -> the splits that are meant. Raises `ValueError` for what the part's reader raises.
    """
    if "split" in part:
        raise ValueError(f"name its splits as splits: [{part['split']}]")
    options = {name: value for name, value in part.items() if name not in part_keys}
    wanted = None if split is None else splits_in(split, "the mixture")
    if "splits" in part:
        words = part["splits"]
        own = splits_in(words if isinstance(words, str) else "+".join(map(str, words)), "splits")
        wanted = own if wanted is None else own & wanted
        if not wanted:
            return None
    if wanted is not None:
        options["split"] = "+".join(sorted(wanted))
    reader = format_reader(formats, part["format"], options, kind=kind)
    if images is not None and "images" in inspect.signature(reader).parameters:
        options.setdefault("images", images)
    try:
        return reader(**options)
    except NoSuchSplitError:
        return None
