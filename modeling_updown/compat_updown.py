"""What differs between the versions of transformers that we run on (5.21 to 5.24): asked here, once, and nowhere else.

transformers 5.24 renamed the cache of `generate` from `past_key_values` to `cache`: in the outputs it looks into, in
the inputs it hands to `forward`, in the language models and in the mask functions. An output under the other name is
dropped without a word and every step then starts anew, so each place that says the name takes it from `CACHE`.
"""

import importlib
import inspect
from dataclasses import fields
from types import ModuleType
from typing import Any, TypeVar

import torch
from transformers import GenerationMixin
from transformers.modeling_outputs import BaseModelOutputWithPast

CACHE = "cache" if any(field.name == "cache" for field in fields(BaseModelOutputWithPast)) else "past_key_values"

Output = TypeVar("Output", bound=type)


def cache_field_by_version(output_class: Output) -> Output:
    """Under `@dataclass`: the field `cache` of a ModelOutput takes the name that this transformers looks for.

    Both names can be read in every version: transformers answers to the old one where it has the new one, and `cache`
    becomes a property where it has the old one.
    """
    if CACHE != "cache":
        output_class.__annotations__ = {
            CACHE if name == "cache" else name: kind for name, kind in output_class.__annotations__.items()
        }
        setattr(output_class, CACHE, None)
        output_class.cache = property(_read_cache)  # type: ignore[attr-defined]
    return output_class


def _read_cache(output: Any) -> Any:
    return getattr(output, CACHE)


def one_cache(cache: Any, past_key_values: Any) -> Any:
    """The cache given to `forward` under either of its names, which `generate` of 5.23 and of 5.24 use.

    Raises `ValueError` where two different ones are given.
    """
    if cache is not None and past_key_values is not None and cache is not past_key_values:
        raise ValueError("cache and past_key_values are two names of one thing: give one of them")
    return past_key_values if cache is None else cache


class CachedGenerationMixin(GenerationMixin):
    """`generate` that takes a cache under either name; transformers would let the other one pass and decode wrongly."""

    def generate(self, *args: Any, cache: Any = None, past_key_values: Any = None, **kwargs: Any) -> Any:
        """As `GenerationMixin.generate`; `cache` (or `past_key_values`): of an earlier call, to continue from."""
        given = one_cache(cache, past_key_values)
        return super().generate(*args, **kwargs, **({} if given is None else {CACHE: given}))


def checkpoint_activations(model: Any) -> None:
    """Spend time to save memory: make what lies between a transformer's layers twice.

    `gradient_checkpointing_enable` goes in transformers 6; its successor came with 5.23.
    """
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable()


def is_traced() -> bool:
    """Whether a compiler, an exporter or a tracer follows the code, to which numbers are unknown."""
    return torch.compiler.is_compiling() or torch.compiler.is_exporting() or torch.jit.is_tracing()


def loading_pipeline() -> str:
    """The task of the pipeline that is loading a model at this moment; "" where somebody else loads one.

    `pipeline` hands `from_pretrained` no sign of itself that gets past the Auto classes, so callers are looked through.
    """
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_globals.get("__name__", "").startswith("transformers.pipelines"):
            return str(frame.f_locals.get("task") or "pipeline")
        frame = frame.f_back
    return ""


def optional_sibling(name: str, *, package: str | None) -> ModuleType | None:
    """The module of that name beside the caller's (package: its `__package__`); None where there is none.

    transformers copies every file that another one imports by a `from .name import` in its text, and `saving_updown`
    publishes it. This import is of what a model runs without, or of what its config decides on.
    """
    full_name = f"{package}.{name}"
    try:
        return importlib.import_module(full_name)
    except ModuleNotFoundError as error:
        if error.name != full_name:  # it is there, and something that it imports is not
            raise
        return None
