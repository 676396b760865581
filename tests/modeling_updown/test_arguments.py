"""What every `forward` begins and ends with: flags by name, by position and of the config; dict or tuple."""

import inspect
from typing import Any

import pytest
import torch

from tests.tiny import (
    tiny_captioner,
    tiny_detector,
    tiny_fusion_vqa,
    tiny_grid,
    tiny_masked_lm,
    tiny_prefix_lm,
    tiny_pretraining,
    tiny_retrieval,
    tiny_vqa,
)

MODELS = [
    tiny_captioner, tiny_prefix_lm, tiny_vqa, tiny_fusion_vqa, tiny_retrieval, tiny_masked_lm, tiny_pretraining,
    tiny_grid, tiny_detector,
]  # fmt: skip
FLAGS = ("output_attentions", "output_hidden_states", "return_dict")


def inputs_of(model: Any) -> dict[str, Any]:
    pixels = {"pixel_values": torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))}
    words = {"input_ids": torch.tensor([[2, 7, 9], [2, 8, 10]])}
    return pixels | words if "input_ids" in inspect.signature(model.forward).parameters else pixels


@pytest.mark.parametrize("make", MODELS)
@torch.no_grad()
def test_flags_may_be_named_placed_or_left_to_the_config(make: Any) -> None:
    model = make()
    if hasattr(model, "set_attn_implementation"):
        model.set_attn_implementation("eager")  # in which alone the config may ask for attentions
    given, names = inputs_of(model), list(inspect.signature(model.forward).parameters)
    flags = [flag for flag in FLAGS if flag in names]
    whole = model(**given, **dict.fromkeys(flags, True))
    assert {name for name in ("attentions", "hidden_states") if f"output_{name}" in flags} <= whole.keys()
    wanted = dict.fromkeys(flags, True) | {"return_dict": False}
    tensors = [tensor for tensor in whole.to_tuple() if isinstance(tensor, torch.Tensor)]
    arguments = [(given | wanted).get(name, inspect.signature(model.forward).parameters[name].default)
                 for name in names[: names.index("return_dict") + 1]]  # fmt: skip
    for flag in flags:
        setattr(model.config, flag, wanted[flag])
    by_config = model(**given)
    none_is_the_config = model(**given, **dict.fromkeys(flags))
    for flag in flags:
        setattr(model.config, flag, not wanted[flag])
    for found in (by_config, none_is_the_config, model(**given, **wanted), model(*arguments)):
        assert isinstance(found, tuple) and len(found) == len(whole)
        same = [tensor for tensor in found if isinstance(tensor, torch.Tensor)]
        assert len(same) == len(tensors) and all(map(torch.equal, same, tensors))
    assert isinstance(model(**given, return_dict=True), dict)
    with pytest.raises(TypeError, match=f"multiple values for argument '{names[0]}'"):
        model(None, **{names[0]: given[names[0]]})


def test_the_signature_is_that_of_the_model() -> None:
    """Trainer, generate, exporters and peft read it."""
    parameters = inspect.signature(tiny_vqa().forward).parameters
    assert list(parameters)[:3] == ["input_ids", "pixel_values", "region_features"] and "self" not in parameters
    assert (tiny_vqa().forward.__doc__ or "").startswith("Score every answer")
