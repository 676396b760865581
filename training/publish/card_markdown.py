"""Text that others wrote -> Markdown that shows it and does nothing more: no links, no HTML, no new lines, no cells.

`training/publish/card.py` puts names of data sets, recipes' words and reasons of failures into a card's body by it.
"""

import re
from collections.abc import Mapping
from typing import Any

from training.console import UNSAFE

MARKUP = re.compile(r"[\[\]|\\]")
ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
FENCED_KEYS = {"command", "commands"}  # what stands in a fence, literally


def as_markdown(value: Any) -> Any:
    r"""Every text in a value as inline Markdown, its mappings and lists kept; commands as they stand in a fence.

    >>> as_markdown({"name": "a\n# [b](http://c) <img> | d", "command": "x <y\n```\n# z"})
    {'name': 'a # \\[b\\](http://c) &lt;img&gt; \\| d', 'command': "x <y\n'''\n# z"}
    """
    if isinstance(value, Mapping):
        return {
            as_markdown(key): fenced(content) if key in FENCED_KEYS else as_markdown(content)
            for key, content in value.items()
        }
    if isinstance(value, list | tuple):
        return [as_markdown(part) for part in value]
    if not isinstance(value, str):
        return value
    line = UNSAFE.sub("", " ".join(value.split()))
    return re.sub("[&<>]", _entity, MARKUP.sub(r"\\\g<0>", line))


def fenced(value: Any) -> Any:
    """A command, or a list of them, that cannot end the fence it stands in."""
    if isinstance(value, list | tuple):
        return [fenced(part) for part in value]
    if not isinstance(value, str):
        return value
    return "\n".join(UNSAFE.sub("", line).replace("```", "'''") for line in value.split("\n"))


def _entity(match: re.Match[str]) -> str:
    return ENTITIES[match.group()]
