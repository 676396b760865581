"""Names that keys and values of a recipe had before: they are still read, with a `FutureWarning` of the new one.

YAML's content --with_new_names--> content as `Recipe` has it; `--set KEY=VALUE` --changed_name--> the same
"""

import warnings
from typing import Any

# section -> key before -> key now; in `data` at any depth, as in the parts of a mixture
OLD_KEYS = {
    "train": {
        "questions_per_photo": "questions_per_image",
        "captions_per_photo": "captions_per_image",
        "samples_per_photo": "samples_per_image",
        "photo_size": "image_size",
    },
    "evaluate": {"max_photos": "max_images"},
    "data": {"photo_ids": "image_ids", "per_photo": "per_image", "photos": "image_list"},
}


def with_new_names(content: dict[str, Any], *, source: str = "") -> dict[str, Any]:
    """A recipe's content under the names of today; `ValueError` (after `source`) for a key under both of its names.

    >>> with_new_names({"task": "vqa", "train": {"epochs": 3}})
    {'task': 'vqa', 'train': {'epochs': 3}}
    """
    content = {key: _renamed(value, OLD_KEYS.get(key, {}), place=key, source=source) for key, value in content.items()}
    train = content.get("train")
    if isinstance(train, dict) and train.get("withhold") == "photo":
        warnings.warn("train.withhold=photo is now called train.withhold=image", FutureWarning, stacklevel=3)
        content["train"] = {**train, "withhold": "image"}
    return content


def changed_name(change: str) -> str:
    """A `--set KEY=VALUE` with the name that the key has today."""
    key, equals, value = change.partition("=")
    section, _, name = key.partition(".")
    parents, _, last = name.rpartition(".")
    now = OLD_KEYS.get(section, {}).get(last)
    if now is None or (parents and section != "data"):
        return change
    warnings.warn(f"{section}.{last} is now called {section}.{now}", FutureWarning, stacklevel=3)
    return f"{key.removesuffix(last)}{now}{equals}{value}"


def _renamed(content: Any, names: dict[str, str], *, place: str, source: str) -> Any:
    if isinstance(content, list):
        return [_renamed(part, names, place=place, source=source) for part in content]
    if not isinstance(content, dict) or not names:
        return content
    for old, now in names.items():
        if old in content and now in content:
            raise ValueError(f"{source}{place}.{old} is the earlier name of {place}.{now}: give {now} alone")
        if old in content:
            warnings.warn(f"{place}.{old} is now called {place}.{now}", FutureWarning, stacklevel=4)
    return {names.get(key, key): _renamed(value, names, place=place, source=source) for key, value in content.items()}
