"""What other libraries keep private or do not document, and what differs between their versions, in one place.

Other files use documented names only, but for `registration_updown`, which may not import torch, and `code_updown`,
since processors import nothing of the models. Each function says why there is no documented way;
tests/modeling_updown/test_compat.py fails for each name that a later version lacks. transformers is 5.21 to 5.24.

transformers 5.24 renamed the cache of `generate` from `past_key_values` to `cache`: in the outputs it looks into, in
the inputs it hands to `forward`, in the language models and in the mask functions. An output under the other name is
dropped without a word and every step then starts anew, so each place that says the name takes it from `CACHE`.
"""

import importlib
import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import torch
from torch import nn
from transformers import GenerationMixin
from transformers.dynamic_module_utils import get_relative_imports
from transformers.masking_utils import create_causal_mask
from transformers.modeling_outputs import BaseModelOutputWithPast

# in the names of weights that peft puts adapters beside, and of the adapters' own: it has no question for either
WRAPPED, ADAPTER = ".base_layer.", ".lora_"
ATTENTION_LAYERS = {"full_attention", "sliding_attention", "chunked_attention"}  # of a text config's `layer_types`

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


def checkpoints_layers(model: nn.Module) -> bool:
    """Whether layers forget what they computed until the backward pass needs it: a flag on each layer says so."""
    return any(getattr(layer, "gradient_checkpointing", False) and layer.training for layer in model.modules())


def is_loaded(weight: Any) -> bool:
    """Whether a weight came from a checkpoint, so that `_init_weights` must leave it alone.

    transformers keeps its own functions from filling such a weight; a part of one, or a value read off another, has to
    be asked about.
    """
    return getattr(weight, "_is_hf_initialized", False)


def keep_as_loaded(weight: Any) -> None:
    """Have transformers treat a weight as loaded, for instance one that another library has drawn."""
    weight._is_hf_initialized = True


def attention_of(model: Any) -> str:
    """The attention that a model computes with; `set_attn_implementation` is public, what it has set is not."""
    return model.config._attn_implementation


@contextmanager
def eager_attention(model: Any, wanted: bool | None) -> Iterator[None]:
    """Have a transformer attend eagerly while weights are wanted: no other kernel gives them out.

    Raises `ValueError` for a model that does not change over.
    """
    before = attention_of(model)
    if not wanted or before == "eager":
        yield
        return
    model.set_attn_implementation("eager")
    if attention_of(model) != "eager":
        raise ValueError(
            f"{type(model).__name__} cannot give out attention weights as it is: "
            'load the model with attn_implementation="eager"'
        )
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def prefix_mask(config: Any, states: torch.Tensor, mask: torch.Tensor, *, num_first: int) -> torch.Tensor:
    """(N, 1, L, L): what each of L states sees, those before it and each of the first `num_first` all of these.

    config: of a text model; states (N, L, E), mask (N, L) bool, True = real. Raises `ValueError` where the model's
    attention takes no such mask. The mask functions of transformers are documented, `block_sequence_ids` is not.
    """
    block = torch.arange(mask.shape[1], device=mask.device) >= num_first  # 0 the first ones, -1 a word of its own
    seen = create_causal_mask(
        config=config,
        inputs_embeds=states,
        attention_mask=mask,
        block_sequence_ids=-block.long().expand(mask.shape),
        **{CACHE: None},
    )
    if seen is None or len(seen.shape) != 4:
        raise ValueError(
            f"regions cannot see each other in {config._attn_implementation!r} attention: load the model with "
            'attn_implementation="sdpa", or set prefix_attention="causal" in its config'
        )
    return seen


def has_fixed_size(cache: Any) -> bool:
    """Whether a cache was made for a number of words, as those that compile are."""
    return cache.is_compileable


def keeps_a_state(language_model: Any) -> bool:
    """Whether layers read words into a state, as recurrent ones do: from their kinds, and a flag that `generate` reads.

    A config without `layer_types` has layers that attend.
    """
    kinds = getattr(language_model.config.get_text_config(decoder=True), "layer_types", None) or ()
    return language_model._is_stateful or bool(set(kinds) - ATTENTION_LAYERS)


def padding_position(text_model: Any) -> int | None:
    """The place of padding in an encoder's table of positions, None where it has none.

    RoBERTa and its kin count words from there on, inside their embeddings' module, whose names are not documented.
    """
    embeddings = getattr(text_model, "embeddings", None)
    return getattr(getattr(embeddings, "position_embeddings", None), "padding_idx", None)


def adapted_layers(model: nn.Module) -> list[tuple[str, Any]]:
    """The layers with adapters beside them, by name; peft's class for them is not exported."""
    return [(name, layer) for name, layer in model.named_modules() if hasattr(layer, "base_layer")]


def has_hooks(module: nn.Module) -> bool:
    """Whether something is called before or after a module; torch has no question for it."""
    hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    return any(hooks)


def sibling_imports(path: str | Path) -> list[str]:
    """The files, without `.py`, that a file imports from beside it, as transformers reads them when it copies them."""
    return get_relative_imports(path)


def pipeline_tools() -> Any:
    """The data sets and iterators that transformers' pipelines run on, which it does not document.

    Imported when they are asked for: whoever imports `transformers.pipelines` first has our pipelines registered, and
    these need this file whole.
    """
    from transformers.pipelines import pt_utils

    return pt_utils


def pipeline_settings(pipeline: Any) -> Mapping[str, Any]:
    """The settings of `generate` that a pipeline was made with; it keeps them for every call."""
    return pipeline._generate_kwargs


def prepared_settings(pipeline: Any, settings: dict[str, Any], **fixed: Any) -> dict[str, Any]:
    """A call's settings of `generate` joined with the pipeline's own, and with those that the pipeline itself needs."""
    return pipeline._prepare_generate_kwargs(settings, **fixed)


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
