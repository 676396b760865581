"""What every model's `forward` begins and ends with: names of arguments, flags, and dict or tuple.

What a region source returns and a model does not read passes, a misspelt name does not.
"""

import difflib
import inspect
import warnings
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import fields
from functools import lru_cache, wraps
from typing import Any, TypeVar

import torch
from torch import nn

from .outputs_updown import UpDownDetectorOutput

REGION_FIELDS = {field.name for field in fields(UpDownDetectorOutput)}  # what region sources return
ALMOST = 0.86  # of difflib's ratio: a letter or two of a word
OLD_NAMES = {  # an argument's earlier name -> its name
    "photo_index": "image_index",
    "photo_ids": "image_ids",
    "photo_sizes": "image_sizes",
    "photo": "image",
    "photos": "images",
    "query_photo": "query_image",
    "label_boxes": "true_boxes",
    "label_attributes": "true_attributes",
    "choice_labels": "correct_choice",
}
LIBRARIES = (__name__.split(".")[0], "torch", "transformers", "accelerate", "peft")  # between a user and `forward`
FLAGS = ("output_attentions", "output_hidden_states", "return_dict")

Forward = TypeVar("Forward", bound=Callable[..., Any])


def refuse_misspelt(model: nn.Module, names: Iterable[str]) -> None:
    """`TypeError` for an argument that `forward` does not take but that looks like one it does.

    Others pass unread, as transformers has it: fields of `Regions`, and what `generate`, a tokenizer or a Trainer adds.
    """
    if torch.compiler.is_compiling():
        return
    for name in names:
        meant = "" if name in REGION_FIELDS else _meant(type(model).forward, name)
        if meant:
            raise TypeError(f"{type(model).__name__} takes no argument {name!r}: is {meant!r} meant?")


@lru_cache(maxsize=512)
def _meant(forward: Callable[..., Any], name: str) -> str:
    """The argument that a name is almost, or nothing."""
    known = list(inspect.signature(forward).parameters)
    return "" if name in known else next(iter(difflib.get_close_matches(name, known, n=1, cutoff=ALMOST)), "")


def standard_forward(forward: Forward) -> Forward:
    """Decorates the `forward` of a model with what each of them begins and ends with.

    Misspelt arguments are refused, those under an earlier name are taken for what they are called now. Where
    `output_attentions`, `output_hidden_states` or `return_dict` is None, the config's stands in its place;
    `return_dict=False` returns a tuple of all that is not None. (transformers' `can_return_tuple` does only the last,
    and only where `return_dict` is given by name.)
    """
    places = {name: place for place, name in enumerate(list(inspect.signature(forward).parameters)[1:])}
    decorated: Any = wraps(forward)(lambda model, *args, **kwargs: run_forward(forward, places, model, args, kwargs))
    return decorated


def run_forward(
    forward: Callable[..., Any], places: Mapping[str, int], model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """A call of a decorated `forward`; places: of its arguments, by name, where they are given by position."""
    take_old_names(kwargs, places)
    refuse_misspelt(model, [name for name in kwargs if name not in places])
    flags = {}
    for name in FLAGS:
        place = places.get(name, -1)
        given = args[place] if 0 <= place < len(args) else kwargs.get(name)
        flags[name] = getattr(model.config, name) if given is None else given
        if 0 <= place < len(args):
            args = (*args[:place], flags[name], *args[place + 1 :])
        elif place >= 0:
            kwargs[name] = flags[name]
    output = forward(model, *args, **kwargs)
    return output if flags["return_dict"] else output.to_tuple()


def with_old_names(function: Forward) -> Forward:
    """Decorates a function whose arguments may also be given under their earlier names, with a warning."""
    known = inspect.signature(function).parameters
    decorated: Any = wraps(function)(lambda *args, **kwargs: run_with_old_names(function, known, args, kwargs))
    return decorated


def run_with_old_names(
    function: Callable[..., Any], known: Container[str], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """A call of a function decorated by `with_old_names`."""
    take_old_names(kwargs, known)
    return function(*args, **kwargs)


def take_old_names(kwargs: dict[str, Any], known: Container[str]) -> None:
    """Puts arguments that stand under an earlier name under that of today, where this is `known`.

    Each of them is a `DeprecationWarning`. Raises `TypeError` where one is given under both names.
    """
    for old, name in OLD_NAMES.items():
        if old not in kwargs or name not in known:
            continue
        given = kwargs.pop(old)
        if given is None:
            continue
        if kwargs.get(name) is not None:
            raise TypeError(f"{old} is the earlier name of {name}: give {name} alone")
        warnings.warn(f"{old} is now called {name}", DeprecationWarning, stacklevel=_callers_level())
        kwargs[name] = given


def _callers_level() -> int:
    """The `stacklevel` that puts a warning of the calling function at the user's line, outside of `LIBRARIES`."""
    if torch.compiler.is_compiling():
        return 2
    level, frame = 0, inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__", "").split(".")[0] in LIBRARIES:
        level, frame = level + 1, frame.f_back
    return level
