"""One code for every version of the libraries that we run on: where a name that we use is gone, a test says which."""

import inspect
import sys
from dataclasses import fields

import huggingface_hub.dataclasses
import pytest
import torch
import transformers
import transformers.pipelines
from torch import nn
from transformers import (
    Cache,
    CacheLayerMixin,
    DynamicCache,
    GenerationMixin,
    PreTrainedModel,
    dynamic_module_utils,
    initialization,
)
from transformers.cache_utils import DynamicLayer
from transformers.generation.utils import GenerateDecoderOnlyOutput
from transformers.image_processing_utils import BaseImageProcessor
from transformers.loss.loss_utils import ForCausalLMLoss
from transformers.masking_utils import create_causal_mask
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.models.auto import configuration_auto
from transformers.pipelines import Pipeline, pt_utils

import modeling_updown
from modeling_updown import registration_updown
from modeling_updown.compat_updown import (
    ADAPTER,
    ATTENTION_LAYERS,
    CACHE,
    WRAPPED,
    adapted_layers,
    attention_of,
    checkpoint_activations,
    checkpoints_layers,
    eager_attention,
    has_fixed_size,
    has_hooks,
    is_loaded,
    keep_as_loaded,
    keeps_a_state,
    one_cache,
    optional_sibling,
    padding_position,
    prefix_mask,
    sibling_imports,
)
from modeling_updown.modeling_captioning import CaptioningCache, LSTMState
from modeling_updown.modeling_prefix_lm import PrefixCache
from modeling_updown.outputs_updown import UpDownCaptioningOutput, UpDownPrefixLMOutput
from processors.image_processing_updown import ImagePreparation

from ..tiny import tiny_captioner, tiny_prefix_lm

NAMES = ("cache", "past_key_values")
WIDTH = 96  # of the tiny models' regions
WRITERS = {"captioner": tiny_captioner, "prefix_lm": tiny_prefix_lm}


HOOKED = ("forward", "forward_pre", "backward", "backward_pre")
# what is used of others without being documented: where it is, its name, and what goes without it
USED = [
    (configuration_auto, "CONFIG_MAPPING_NAMES", "our model types are not entered (registration_updown)"),
    (transformers.TOKENIZER_MAPPING, "_model_mapping", "our classes are not entered (registration_updown)"),
    (transformers.TOKENIZER_MAPPING, "_reverse_config_mapping", "our configs are not found (registration_updown)"),
    (transformers.AutoModel, "_model_mapping", "our models are not entered (registration_updown)"),
    (transformers.pipelines, "_resolve_deprecated_task", "image-to-text is redirected (registration_updown)"),
    (transformers.pipelines.PIPELINE_REGISTRY, "supported_tasks", "our pipelines are entered twice"),
    (transformers.pipelines.PIPELINE_REGISTRY, "task_aliases", "the task vqa is not found"),
    (pt_utils, "PipelineDataset", "pipelines read no lists (compat_updown.pipeline_tools)"),
    (pt_utils, "PipelineIterator", "pipelines read no streams (compat_updown.pipeline_tools)"),
    (pt_utils, "PipelineChunkIterator", "questions about one image are not told apart (compat_updown.pipeline_tools)"),
    (Pipeline, "_prepare_generate_kwargs", "settings of generate are lost (compat_updown.prepared_settings)"),
    (dynamic_module_utils, "get_relative_imports", "no code is published (compat_updown.sibling_imports)"),
    (
        transformers.dynamic_module_utils,
        "get_relative_import_files",
        "processors write no code (processors/code_updown)",
    ),
    (DynamicCache, "is_compileable", "a cache of fixed size is not refused (compat_updown.has_fixed_size)"),
    (PreTrainedModel, "_is_stateful", "recurrent language models are not refused (compat_updown.keeps_a_state)"),
    (transformers.PreTrainedConfig(), "_attn_implementation", "attention weights are not given out"),
    (huggingface_hub.dataclasses, "strict", "configs are not checked"),
    *((nn.Module(), f"_{when}_hooks", "hooks are passed over (compat_updown.has_hooks)") for when in HOOKED),
]
# keywords, or local names, that functions of others have or pass on to us
KEYWORDS = [
    (create_causal_mask, "block_sequence_ids", "regions cannot see each other (compat_updown.prefix_mask)"),
    (ForCausalLMLoss, "shift_labels", "labels shifted by a collator are taken for labels"),
    (ForCausalLMLoss, "num_items_in_batch", "losses of accumulated batches are averaged wrongly"),
    (transformers.pipelines.pipeline, "task", "a pipeline is not recognised (compat_updown.loading_pipeline)"),
]
# attributes that others set on objects: found in the text of what sets or reads them
ATTRIBUTES = [
    (Pipeline.__init__, "self._generate_kwargs =", "settings of a pipeline are lost (compat_updown.pipeline_settings)"),
    (initialization, '"_is_hf_initialized"', "loaded weights are drawn anew (compat_updown.is_loaded)"),
    (transformers.pipelines.pipeline, '"custom_pipelines"', "published folders bring no pipelines"),
]
HOOKS = {  # what our classes override of each base, as subclasses of it do; a hook that is gone is called by nobody
    PreTrainedModel: {
        *("_init_weights", "_no_split_modules", "_supports_sdpa", "_supports_flash_attn", "_is_stateful"),
        "_keys_to_ignore_on_load_missing",
    },
    GenerationMixin: {"_expand_inputs_for_generation", "_supports_default_dynamic_cache"},
    Pipeline: {
        *("_sanitize_parameters", "_forward", "_pipeline_calls_generate", "_default_generation_config"),
        *("_load_processor", "_load_image_processor", "_load_tokenizer"),
        *("_load_feature_extractor", "_load_video_processor"),
    },
    BaseImageProcessor: {"_preprocess"},
}
PUBLIC_HOOKS = {
    GenerationMixin: {"prepare_inputs_for_generation", "generate"},
    Pipeline: {"preprocess", "postprocess", "get_iterator"},
    CacheLayerMixin: {"lazy_initialization", "update", "get_seq_length", "get_mask_sizes", "get_max_length", "reset"},
    DynamicLayer: {"batch_repeat_interleave", "batch_select_indices", "crop"},  # as `LSTMState` has them
    Cache: {"get_seq_length", "batch_repeat_interleave", "batch_select_indices"},
    PreTrainedModel: {
        *("save_pretrained", "from_pretrained", "supports_gradient_checkpointing", "input_modalities"),
        *("get_input_embeddings", "set_input_embeddings", "get_output_embeddings", "set_output_embeddings"),
    },
}


def by_name(value):
    """What stands in a test's name of one of the lines above."""
    return value if isinstance(value, str) and " " not in value else ""


@pytest.mark.parametrize(("place", "name", "loss"), USED, ids=by_name)
def test_undocumented_names_are_there(place, name, loss):
    assert hasattr(place, name), f"{place} has no {name} any more, so {loss}"


@pytest.mark.parametrize(
    ("function", "name", "loss"), KEYWORDS, ids=lambda value: value if isinstance(value, str) else ""
)
def test_undocumented_keywords_are_there(function, name, loss):
    assert name in inspect.signature(function).parameters, f"{function} takes no {name} any more, so {loss}"


@pytest.mark.parametrize(
    ("code", "text", "loss"), ATTRIBUTES, ids=lambda value: value if isinstance(value, str) else ""
)
def test_undocumented_attributes_are_there(code, text, loss):
    assert text in inspect.getsource(code), f"{code} says {text} no more, so {loss}"


@pytest.mark.parametrize("base", {**PUBLIC_HOOKS, **HOOKS}, ids=lambda base: base.__name__)
def test_what_we_override_is_there(base):
    names = HOOKS.get(base, set()) | PUBLIC_HOOKS.get(base, set())
    assert not [name for name in names if not hasattr(base, name)], f"{base} has these hooks no more"


def test_every_private_override_is_listed():
    ours = [getattr(modeling_updown, name) for name in modeling_updown.HOMES]
    kinds = {kind for one in ours if isinstance(one, type) for kind in one.__mro__}
    kinds |= {LSTMState, CaptioningCache, PrefixCache, ImagePreparation}
    own = {kind for kind in kinds if kind.__module__.startswith(("modeling_updown", "processors"))}
    found = {
        (base, name)
        for kind in own
        for name in vars(kind)
        for base in kind.__mro__
        if name.startswith("_") and not name.startswith(("__", "_abc_")) and base not in own and name in vars(base)
    }
    assert found and not [(base, name) for base, name in found if not any(name in names for names in HOOKS.values())]


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


def test_loaded_weights_are_left_alone():
    drawn, loaded = (nn.Linear(2, 2) for _ in range(2))
    keep_as_loaded(loaded.weight)
    assert is_loaded(loaded.weight) and not is_loaded(drawn.weight)
    for layer in (drawn, loaded):
        initialization.zeros_(layer.weight)
    assert not drawn.weight.any() and loaded.weight.any()


def test_attention_is_eager_only_while_its_weights_are_wanted():
    model = tiny_prefix_lm().language_model
    before = attention_of(model)
    with eager_attention(model, True):
        assert attention_of(model) == "eager" != before
    with eager_attention(model, False):
        assert attention_of(model) == before
    assert attention_of(model) == before


def test_first_states_see_each_other_and_the_rest_what_is_before():
    model = tiny_prefix_lm().language_model
    real = torch.tensor([[True, False, True, True, True]])
    seen = prefix_mask(model.config, torch.zeros(1, 5, model.config.hidden_size), real, num_first=3)
    seen = seen if seen.dtype == torch.bool else seen == 0
    expected = torch.tensor([[1, 0, 1, 0, 0]] * 3 + [[1, 0, 1, 1, 0], [1, 0, 1, 1, 1]], dtype=torch.bool)
    assert torch.equal(seen[0, 0], expected)


def test_states_caches_and_positions_are_recognised():
    text = transformers.GPT2Config(n_layer=1, n_embd=8, n_head=1, vocab_size=9, n_positions=8)
    gpt2 = transformers.GPT2LMHeadModel(text)
    mamba = transformers.MambaConfig(vocab_size=9, hidden_size=8, state_size=2, num_hidden_layers=1)
    assert not keeps_a_state(gpt2) and keeps_a_state(transformers.MambaForCausalLM(mamba))
    assert set(transformers.Qwen2Config(num_hidden_layers=2).layer_types) <= ATTENTION_LAYERS
    assert has_fixed_size(transformers.StaticCache(config=text, max_cache_len=4)) and not has_fixed_size(DynamicCache())
    sizes = {"hidden_size": 8, "num_attention_heads": 1, "num_hidden_layers": 1, "intermediate_size": 8}
    roberta = transformers.RobertaConfig(vocab_size=9, max_position_embeddings=8, pad_token_id=3, **sizes)
    bert = transformers.BertConfig(vocab_size=9, max_position_embeddings=8, **sizes)
    assert padding_position(transformers.RobertaModel(roberta)) == 3
    assert padding_position(transformers.BertModel(bert)) is None


def test_layers_that_checkpoint_are_recognised_in_training_alone():
    model = tiny_prefix_lm().language_model.train()
    assert not checkpoints_layers(model)
    checkpoint_activations(model)
    assert checkpoints_layers(model) and not checkpoints_layers(model.eval())


def test_hooks_are_seen():
    layer = nn.Linear(1, 1)
    for add in ("forward_hook", "forward_pre_hook", "full_backward_hook", "full_backward_pre_hook"):
        assert not has_hooks(layer)
        handle = getattr(layer, f"register_{add}")(print)
        assert has_hooks(layer)
        handle.remove()


def test_adapters_have_their_names():
    peft = pytest.importorskip("peft")
    model = nn.ModuleDict({"layer": nn.Linear(4, 4), "other": nn.Linear(4, 4)})
    peft.inject_adapter_in_model(peft.LoraConfig(r=1, target_modules=["layer"]), model)
    names = [f".{name}" for name, _ in model.named_parameters()]
    assert sum(WRAPPED in name for name in names) == 2 and sum(ADAPTER in name for name in names) == 2
    ((name, layer),) = adapted_layers(model)
    assert name == "layer" and layer.get_base_layer().in_features == 4


def test_imports_of_siblings_are_read(tmp_path):
    (tmp_path / "one.py").write_text("import torch\nfrom .two import name\nfrom .three import (\n    other,\n)\n")
    assert sorted(sibling_imports(tmp_path / "one.py")) == ["three", "two"]


def test_dropped_tasks_are_ours_again():
    assert transformers.pipelines._resolve_deprecated_task.func is registration_updown.resolve_task
