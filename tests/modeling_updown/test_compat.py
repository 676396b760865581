"""One code for every version of transformers that we run on: the cache travels, and where it is lost a test fails."""

import sys
from dataclasses import fields

import pytest
import torch
from transformers.cache_utils import DynamicCache
from transformers.generation.utils import GenerateDecoderOnlyOutput
from transformers.modeling_outputs import CausalLMOutputWithPast

from modeling_updown.compat_updown import CACHE, checkpoint_activations, one_cache, optional_sibling
from modeling_updown.outputs_updown import UpDownCaptioningOutput, UpDownPrefixLMOutput

from ..tiny import tiny_captioner, tiny_prefix_lm

NAMES = ("cache", "past_key_values")
WIDTH = 96  # of the tiny models' regions
WRITERS = {"captioner": tiny_captioner, "prefix_lm": tiny_prefix_lm}


@pytest.fixture(params=WRITERS)
def model(request):
    return WRITERS[request.param]().eval()


def images(count=2):
    draw = torch.Generator().manual_seed(0)
    corners = torch.rand(count, 3, 2, generator=draw) / 2
    boxes = torch.cat([corners, corners + 0.4], dim=-1)
    return {"region_features": torch.randn(count, 3, WIDTH, generator=draw), "region_boxes": boxes}


@pytest.mark.parametrize("output", [CausalLMOutputWithPast, GenerateDecoderOnlyOutput])
def test_the_name_is_the_one_of_this_transformers(output):
    assert {CACHE} == {field.name for field in fields(output)} & set(NAMES)


@pytest.mark.parametrize("output", [UpDownCaptioningOutput, UpDownPrefixLMOutput])
def test_outputs_are_read_under_both_names(output):
    made = output(logits=torch.zeros(1), **{CACHE: "state"})
    assert (made.cache, made.past_key_values, made[CACHE]) == ("state", "state", "state")
    assert list(made) == ["logits", CACHE]
    assert [field.name for field in fields(output)][:4] == ["loss", "logits", "label_log_probs", CACHE]


@pytest.mark.parametrize("name", NAMES)
def test_forward_reads_one_word_after_the_cache(model, name):
    ids = torch.tensor([[1, 5, 6, 7], [1, 8, 9, 10]])
    whole = model(ids, **images()).logits[:, -1]
    cache = model(ids[:, :3], **images()).cache
    torch.testing.assert_close(model(ids[:, 3:], **{name: cache}).logits[:, -1], whole, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("num_beams", [1, 3])
def test_generate_reads_each_word_once(model, num_beams):
    """A cache that `generate` loses, or that `forward` swallows, shows here: all words would be read at every step."""
    settings = {"num_beams": num_beams, "max_new_tokens": 5, "min_new_tokens": 5}
    without = model.generate(**images(), **settings, use_cache=False)
    read: list[int] = []
    model.register_forward_pre_hook(lambda _, args, given: read.append(given["input_ids"].shape[1]), with_kwargs=True)
    assert torch.equal(model.generate(**images(), **settings), without)
    assert read == [1] * 5


def test_two_caches_are_refused(model):
    caches = {name: DynamicCache() for name in NAMES}
    assert one_cache(caches["cache"], caches["cache"]) is caches["cache"]
    with pytest.raises(ValueError, match="two names of one thing"):
        model(torch.tensor([[1]]), **images(1), **caches)
    with pytest.raises(ValueError, match="two names of one thing"):
        model.generate(**images(1), **caches)


def test_activations_are_made_twice():
    model = tiny_prefix_lm()
    checkpoint_activations(model)
    layers = [layer for layer in model.modules() if hasattr(layer, "gradient_checkpointing")]
    assert layers and all(layer.gradient_checkpointing for layer in layers)


def test_a_sibling_may_be_absent_but_not_broken(tmp_path, monkeypatch):
    package = tmp_path / "sibling_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "there.py").write_text("value = 3")
    (package / "broken.py").write_text("import a_library_that_nobody_has")
    monkeypatch.syspath_prepend(tmp_path)
    assert optional_sibling("there", package="sibling_package").value == 3
    assert optional_sibling("absent", package="sibling_package") is None
    with pytest.raises(ModuleNotFoundError, match="a_library_that_nobody_has"):
        optional_sibling("broken", package="sibling_package")
    for name in [name for name in sys.modules if name.startswith("sibling_package")]:
        del sys.modules[name]
