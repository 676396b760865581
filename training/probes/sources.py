"""What the probes' command lines share: things to compare, `[NAME=]WHAT`, the first of them the reference."""

from collections.abc import Sequence
from pathlib import Path


def named_sources(arguments: Sequence[str]) -> dict[str, str]:
    """Name -> what stands after `NAME=`; without a name, that is the name too.

    Raises `ValueError` for a name that is given twice.

    >>> named_sources(["light=hub_cards/updown-detector-lite", "grid:7"])
    {'light': 'hub_cards/updown-detector-lite', 'grid:7': 'grid:7'}
    """
    named: dict[str, str] = {}
    for text in arguments:
        name, equals, rest = text.partition("=")
        name, source = (name, rest) if equals and not Path(text).exists() else (text, text)
        if not name or not source or name in named:
            raise ValueError(f"{text}: write NAME=SOURCE, each name once")
        named[name] = source
    return named
