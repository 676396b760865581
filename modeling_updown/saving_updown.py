"""The code that lies with a published model: written again wherever the model is saved again.

A published folder's `config.json` names files beside it (`auto_map`, `custom_pipelines`), so a copy opens only with
those files wherever somebody says `trust_remote_code=True`.
"""

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download
from transformers.utils import logging

from .compat_updown import sibling_imports
from .configuration_updown import REGION_SOURCES

logger = logging.get_logger(__name__)

RENAMED = {"pipeline_updown": "pipeline_captioning"}  # files that earlier published folders name, and what they are now

# How region_sources_updown.py goes on in the folder of a model that owns a region source; it is never run.
OWNED_SOURCE = "\n\nif TYPE_CHECKING:  # the region source of this folder's model, which is copied with this file\n"


def code_folders() -> list[Path]:
    """Where our code lies: beside this file, and where the package is installed that of the processors too."""
    here = Path(__file__).resolve().parent
    processors = here.parent / "processors"
    installed = here.name == "modeling_updown" and (processors / "processing_updown.py").is_file()
    return [here, processors] if installed else [here]


def write_code(folder: str | Path, names: Iterable[str], *, config: Any, origin: str = "") -> None:
    """Copy the files named, without `.py`, and every sibling that they import, all flat.

    config: the model's, which says whose region source's code it needs. origin: the folder or Hub id that may hold what
    does not lie with this file. Raises `ValueError` for an import that cannot work on the Hub.
    """
    waiting, done = list(names), set()
    while waiting:
        name = waiting.pop()
        if name in done:
            continue
        done.add(name)
        source = code_file(name, origin=origin)
        if source is None:
            raise ValueError(f"{name}.py is imported by published code but lies in none of {code_folders()}")
        target = Path(folder) / f"{name}.py"
        if name == "region_sources_updown":
            text = with_region_source(source.read_text(encoding="utf-8"), config)
            target.unlink(missing_ok=True)  # it may be a link to somebody's source, which stays as it is
            target.write_text(text, encoding="utf-8", newline="\n")
        elif not target.exists() or not target.samefile(source):
            target.unlink(missing_ok=True)
            shutil.copyfile(source, target)
        waiting += sibling_imports(target)


def with_region_source(text: str, config: Any) -> str:
    """The text of region_sources_updown.py as a model's folder holds it: with the import of the region source, if any,
    that its config describes, and of no other one.
    """
    text = text.partition(OWNED_SOURCE)[0]
    owned = getattr(config, "vision_config", None)
    if owned is None:
        return text
    file, name = REGION_SOURCES[owned.model_type][1].split(".")
    return f"{text}{OWNED_SOURCE}    from .{file} import {name}\n"


def code_file(name: str, *, origin: str = "") -> Path | None:
    """The file of that name, without `.py`; None where there is none."""
    for folder in code_folders():
        if (folder / f"{name}.py").is_file():
            return folder / f"{name}.py"
    if not origin or Path(origin).is_dir():
        found = Path(origin) / f"{name}.py"
        return found if origin and found.is_file() else None
    try:
        return Path(hf_hub_download(origin, f"{name}.py"))
    except (OSError, ValueError):  # no network, no such repository or file, no name of a repository
        return None


def references_in(value: Any) -> Iterable[str]:
    """Every string in a nested JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from references_in(part)


def code_of(config: Any) -> set[str]:
    """The files, without `.py`, that a published model's config names; none where it was never published."""
    auto_map = getattr(config, "auto_map", None)
    if not auto_map:
        return set()
    pipelines = vars(config).get("custom_pipelines") or {}
    named = {*references_in(auto_map), *(entry["impl"] for entry in pipelines.values())}
    return {reference.split(".")[0] for reference in named}


def write_code_again(folder: str | Path, config: Any, *, origin: str) -> None:
    """The code of a published model beside what was saved of it; warns of what cannot be had."""
    names = code_of(config)
    if not names:
        return
    absent = {name for name in names if code_file(name, origin=origin) is None}
    write_code(folder, names - absent, config=config, origin=origin)
    if absent:
        logger.warning(
            f"{folder} lacks {', '.join(sorted(absent))}, which its config.json names and {origin} does not give: "
            "copy these files from where the model was published"
        )


def without_origin(value: Any) -> Any:
    """References as a folder names its own files: `owner/name--file.Class`, as loading from the Hub has it, without
    the repository, and by the file's name of today.

    >>> without_origin({"AutoModel": "someone/model--file.Class", "AutoTokenizer": [None, "file.Class"]})
    {'AutoModel': 'file.Class', 'AutoTokenizer': [None, 'file.Class']}
    """
    if isinstance(value, str):
        file, dot, name = value.split("--")[-1].partition(".")
        return RENAMED.get(file, file) + dot + name
    if isinstance(value, Mapping):
        return {name: without_origin(part) for name, part in value.items()}
    return [without_origin(part) for part in value] if isinstance(value, list | tuple) else value
