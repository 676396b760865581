"""Names of arguments: what a region source returns and a model does not read passes, a misspelt name does not."""

import difflib
import inspect
import warnings
from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import nn

from .outputs_updown import UpDownDetectorOutput

REGION_FIELDS = {field.name for field in fields(UpDownDetectorOutput)}  # what region sources return
ALMOST = 0.86  # of difflib's ratio: a letter or two of a word
OLD_NAMES = {"image_index": "photo_index", "image_ids": "photo_ids"}  # argument -> its name before


def refuse_misspelt(model: nn.Module, kwargs: Mapping[str, Any]) -> None:
    """`TypeError` for an argument that `forward` does not take but that looks like one it does.

    Others pass unread, as transformers has it: fields of `Regions`, and what `generate`, a tokenizer or a Trainer adds.
    """
    if not kwargs or torch.compiler.is_compiling():
        return
    for name in kwargs:
        meant = "" if name in REGION_FIELDS else _meant(type(model).forward, name)
        if meant:
            raise TypeError(f"{type(model).__name__} takes no argument {name!r}: is {meant!r} meant?")


@lru_cache(maxsize=512)
def _meant(forward: Callable[..., Any], name: str) -> str:
    """The argument that a name is almost, or nothing."""
    known = list(inspect.signature(forward).parameters)
    return "" if name in known else next(iter(difflib.get_close_matches(name, known, n=1, cutoff=ALMOST)), "")


class OutputFlags(NamedTuple):
    """What a call returns beside logits and loss."""

    attentions: bool
    hidden_states: bool
    as_dict: bool


def output_flags(
    model: Any,
    kwargs: Mapping[str, Any],
    output_attentions: bool | None,
    output_hidden_states: bool | None,
    return_dict: bool | None,
) -> OutputFlags:
    """How a `forward` begins: misspelt arguments are refused, and None stands for what the config says."""
    refuse_misspelt(model, kwargs)
    given = {
        "output_attentions": output_attentions,
        "output_hidden_states": output_hidden_states,
        "return_dict": return_dict,
    }
    return OutputFlags(*(getattr(model.config, name) if value is None else value for name, value in given.items()))


def by_old_names(kwargs: dict[str, Any], **arguments: Any) -> tuple[Any, ...]:
    """The arguments, of which `kwargs` may hold some under the name they had before; these are taken out of it.

    Each of them is a `DeprecationWarning`. Raises `TypeError` where one is given under both names.
    """
    for name, value in arguments.items():
        old = OLD_NAMES[name]
        given = kwargs.pop(old, None)
        if given is None:
            continue
        if value is not None:
            raise TypeError(f"{old} is the earlier name of {name}: give {name} alone")
        warnings.warn(f"{old} is now called {name}", DeprecationWarning, stacklevel=3)
        arguments[name] = given
    return tuple(arguments.values())
