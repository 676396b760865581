"""What stands between a layer and its weight is heeded: adapters (peft) learn and merge, weights on disk are read."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import cpu_offload, disk_offload
from accelerate.hooks import remove_hook_from_module
from peft import LoraConfig, get_peft_model
from torch import nn

from modeling_updown.linear_updown import NormedLinear, is_plain, step_product, word_scores
from tests.tiny import (
    tiny_captioner,
    tiny_detector,
    tiny_fusion_vqa,
    tiny_masked_lm,
    tiny_prefix_lm,
    tiny_pretraining,
    tiny_vqa,
)

WIDTH, REGIONS = 10, 5
REGIONS_ALONE: dict[str, Any] = {"vision_config": None, "region_feature_size": WIDTH}
HENGYUAN_HU = {"attention": "multiply", "activation": "relu"}
EVERYTHING = {"num_attention_layers": 2, "counted_objects": 3, "reads_padding": True, "box_embedding": True}
MODELS: dict[str, Callable[[], Any]] = {
    "captioner": lambda: tiny_captioner(**REGIONS_ALONE),
    "vqa": lambda: tiny_vqa(**REGIONS_ALONE, **EVERYTHING),
    "vqa hengyuan-hu": lambda: folded(tiny_vqa(**REGIONS_ALONE, **HENGYUAN_HU, weight_norm=True)),
    "fusion vqa": lambda: tiny_fusion_vqa(**REGIONS_ALONE),
    "masked words": lambda: tiny_masked_lm(**REGIONS_ALONE),
    "pretraining": lambda: tiny_pretraining(**REGIONS_ALONE, objectives={"itc": 1, "itm": 1, "mlm": 1, "mrfr": 1}),
    "prefix lm": lambda: tiny_prefix_lm(**REGIONS_ALONE),
}
WRITERS = ("captioner", "prefix lm")


def folded(model: Any) -> Any:
    model.fold_weight_norm()
    return model


def inputs_of(name: str, model: Any) -> dict[str, torch.Tensor]:
    """Two images, two texts each, of three and six words, and labels."""
    chance = torch.Generator().manual_seed(0)
    corners = torch.rand(2, REGIONS, 2, generator=chance) / 2
    given = {
        "region_features": torch.randn(2, REGIONS, WIDTH, generator=chance),
        "region_boxes": torch.cat([corners, corners + 0.4], dim=-1),
        "region_mask": torch.arange(REGIONS) < torch.tensor([[REGIONS], [3]]),
        "input_ids": torch.randint(5, 20, (4, 6), generator=chance),
        "attention_mask": torch.arange(6) < torch.tensor([[3], [6], [6], [3]]),
    }
    if "vqa" in name:
        return given | {"labels": torch.rand(4, model.config.num_labels, generator=chance)}
    given["labels"] = given["input_ids"].masked_fill(~given["attention_mask"], -100)
    if name == "pretraining":
        given |= {"masked_regions": given["region_mask"] & (torch.arange(REGIONS) % 2 == 0)}
    return given


def adapted(model: Any, targets: Any) -> Any:
    """The model with adapters that change something, in evaluation mode."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        settings = LoraConfig(r=2, lora_alpha=8, target_modules=targets, init_lora_weights=False)
        return get_peft_model(model, settings).eval()


CASES = [(name, "all-linear") for name in MODELS] + [
    ("captioner", ["language_lstm"]),
    ("captioner", ["attention_lstm_state", "project_regions"]),
    ("vqa", ["state_gates", "embed_tokens"]),
    ("vqa", ["joint.linear", "score"]),
    ("vqa hengyuan-hu", ["score"]),
    ("masked words", ["word_embeddings"]),
]


@pytest.mark.parametrize(("name", "targets"), CASES)
def test_adapters_learn_and_merge(name: str, targets: Any) -> None:
    model = MODELS[name]()
    given = inputs_of(name, model)
    with torch.no_grad():
        before = model(**given).logits
    peft_model = adapted(model, targets)
    output = peft_model(**given)
    output.loss.backward()
    adapters = {key: weight for key, weight in peft_model.named_parameters() if "lora_" in key}
    silent = [key for key, weight in adapters.items() if weight.grad is None or not weight.grad.abs().max() > 0]
    assert adapters and not silent
    assert (output.logits - before).abs().max() > 1e-3
    words = {key: value for key, value in given.items() if key.startswith("region_")}
    written = peft_model.generate(**words, max_new_tokens=8, do_sample=False) if name in WRITERS else None
    merged = peft_model.merge_and_unload()
    with torch.no_grad():
        torch.testing.assert_close(merged(**given).logits, output.logits, atol=1e-4, rtol=1e-4)
    if written is not None:
        assert torch.equal(merged.generate(**words, max_new_tokens=8, do_sample=False), written)


@pytest.mark.parametrize("offload", [cpu_offload, disk_offload])
@pytest.mark.parametrize("name", [*MODELS, "vqa normed"])
def test_weights_elsewhere_are_fetched(name: str, offload: Any, tmp_path: Path) -> None:
    """accelerate keeps the weights in memory or on disk and brings those of one layer at a time, when it is called."""
    model = tiny_vqa(**REGIONS_ALONE, **HENGYUAN_HU, weight_norm=True) if name == "vqa normed" else MODELS[name]()
    given = inputs_of(name, model)
    with torch.no_grad():
        torch.manual_seed(0)
        expected = model(**given)
        offload(model, **({"offload_dir": tmp_path} if offload is disk_offload else {}), execution_device="cpu")
        torch.manual_seed(0)
        found = model(**given)
    torch.testing.assert_close(found.logits, expected.logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.loss, expected.loss, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("grad", [False, True])
def test_detector_on_disk(grad: bool, tmp_path: Path) -> None:
    model, image = tiny_detector(), torch.randn(1, 3, 96, 128, generator=torch.Generator().manual_seed(0))
    with torch.set_grad_enabled(grad):
        expected = model(image)
        disk_offload(model, tmp_path, execution_device="cpu", offload_buffers=True)
        found = model(image)
    assert found.object_ids.tolist() == expected.object_ids.tolist()
    torch.testing.assert_close(found.region_features, expected.region_features, atol=1e-4, rtol=1e-4)


def test_folded_weight_norm_answers_the_same(tmp_path: Path) -> None:
    model = tiny_vqa(**REGIONS_ALONE, weight_norm=True)
    given = inputs_of("vqa", model)
    with torch.no_grad():
        expected = model(**given).logits
        model.fold_weight_norm()
        torch.testing.assert_close(model(**given).logits, expected)
        assert not any(isinstance(module, NormedLinear) for module in model.modules())
        model.save_pretrained(tmp_path)
        torch.testing.assert_close(type(model).from_pretrained(tmp_path)(**given).logits, expected)


class TestPlainLayers:
    def test_any_hook_makes_a_layer_its_own(self):
        layer = nn.Linear(3, 2)
        assert is_plain(layer, nn.Linear) and not is_plain(layer, nn.Embedding)
        handle = layer.register_forward_pre_hook(lambda *_: None)
        assert not is_plain(layer, nn.Linear)
        handle.remove()
        handle = layer.register_full_backward_hook(lambda *_: None)
        assert not is_plain(layer, nn.Linear)
        handle.remove()
        assert is_plain(layer, nn.Linear)
        cpu_offload(layer)
        assert not is_plain(layer, nn.Linear)
        remove_hook_from_module(layer)
        nn.utils.parametrizations.orthogonal(layer)
        assert not is_plain(layer, nn.Linear)

    def test_a_frozen_weight_takes_the_layer_itself(self):
        layer = nn.Linear(3, 2)
        assert step_product(layer, num_steps=4) is not layer
        assert step_product(layer, num_steps=1) is layer
        layer.requires_grad_(False)
        assert step_product(layer, num_steps=4) is layer

    def test_bias_learns_beside_a_gradient_made_once(self):
        torch.manual_seed(0)
        gradients, inputs = [], torch.randn(3, 4, 5)
        layer = nn.Linear(5, 2)
        for once in (True, False):
            layer.zero_grad()
            product = step_product(layer, num_steps=4) if once else layer
            sum(product(step).square().sum() for step in inputs.unbind(dim=1)).backward()  # type: ignore[union-attr]
            gradients.append((layer.weight.grad.clone(), layer.bias.grad.clone()))
        torch.testing.assert_close(gradients[0], gradients[1])

    def test_words_are_scored_by_what_the_embedding_returns(self):
        class Doubled(nn.Embedding):
            def forward(self, words: torch.Tensor) -> torch.Tensor:
                return 2 * super().forward(words)

        embedding, states = Doubled(6, 3), torch.randn(2, 3)
        torch.testing.assert_close(word_scores(states, embedding), 2 * states @ embedding.weight.T)

    def test_scores_teach_the_padding_too_under_a_hook(self):
        embedding, states = nn.Embedding(6, 3, padding_idx=0), torch.randn(2, 3)
        embedding.register_forward_hook(lambda *given: given[2].requires_grad_())
        word_scores(states, embedding).sum().backward()
        torch.testing.assert_close(embedding.weight.grad, states.sum(dim=0).expand(6, -1))
