"""Text encoders of Hugging Face under the fusion model: those that read regions beside words, and refusals by name."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig

from modeling_updown import UpDownFusionConfig, UpDownFusionModel, modeling_fusion
from modeling_updown.modeling_fusion import check_passes

PAD = 1
SIZES: dict[str, Any] = {
    "vocab_size": 60,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
    "pad_token_id": PAD,
    "cls_token_id": 2,
}
MORE: dict[str, dict[str, Any]] = {
    "albert": {"embedding_size": 16},
    "convbert": {"embedding_size": 16},
    "deberta": {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
    "deberta-v2": {"relative_attention": True, "position_buckets": 8, "pos_att_type": ["p2c", "c2p"]},
    "electra": {"embedding_size": 16},
    "esm": {"mask_token_id": 5},
    "longformer": {"attention_window": 8},
    "luke": {"entity_vocab_size": 10, "entity_emb_size": 16},
    "modernbert": {"bos_token_id": 2, "eos_token_id": 3, "sep_token_id": 3},
    "qwen2": {"num_key_value_heads": 4},
    "xmod": {"languages": ["en_XX"], "default_language": "en_XX"},
}
ACCEPTED = [
    *("bert", "roberta", "xlm-roberta", "camembert", "distilbert", "electra", "albert", "modernbert", "ernie"),
    *("nomic_bert", "luke", "data2vec-text", "xmod"),
]
REFUSED = {
    "mpnet": "padding changes what it reads",  # its relative positions count places, so padding moves regions
    "convbert": "it reads words otherwise than alone",
    "esm": "it reads words otherwise than alone",
    "qwen2": "it reads words otherwise than alone",
    "deberta": "it fails over words and regions",
    "deberta-v2": "it fails over words and regions",
    "longformer": "it fails over words and regions",
    "canine": "does not take word embeddings",
    "roformer": "does not take position_ids",
    "fnet": "does not take attention_mask",
}


def fusion_config(model_type: str, **changes: Any) -> UpDownFusionConfig:
    text_config = AutoConfig.for_model(model_type, **SIZES, **MORE.get(model_type, {}))
    return UpDownFusionConfig(text_config=text_config, region_feature_size=8, **changes)


def wide_weights(model: Any) -> Any:
    """Large weights: what must not matter would show."""
    chance = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.Embedding | torch.nn.Linear):
                module.weight.normal_(std=0.3, generator=chance)
    return model.eval()


@pytest.mark.parametrize("model_type", ACCEPTED)
def test_words_and_regions_are_read_whatever_stands_beside(model_type: str) -> None:
    model, chance = wide_weights(UpDownFusionModel(fusion_config(model_type))), torch.Generator().manual_seed(1)
    words, padded = torch.tensor([[2, 7, 9, 11, 3]]), torch.tensor([[2, 7, 9, 11, 3, PAD, PAD]])
    features, boxes = torch.randn(1, 5, 8, generator=chance), torch.rand(1, 5, 4, generator=chance)
    real = torch.tensor([[True, True, True, False, False]])
    alone = model(words).last_hidden_state
    anything = torch.randn(1, 3, model.get_input_embeddings().embedding_dim)
    unseen = model(words, region_embeds=anything, region_mask=torch.zeros(1, 3).bool()).word_states
    torch.testing.assert_close(unseen, alone, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(model(padded).last_hidden_state[:, :5], alone, atol=1e-4, rtol=1e-4)
    both = model(words, region_features=features[:, :3], region_boxes=boxes[:, :3])
    wide = model(padded, region_features=features, region_boxes=boxes, region_mask=real)
    torch.testing.assert_close(wide.word_states[:, :5], both.word_states, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(wide.region_states[:, :3], both.region_states, atol=1e-4, rtol=1e-4)
    assert (both.word_states - alone).abs().max() > 1e-2  # words see regions


@pytest.mark.parametrize("model_type", REFUSED)
def test_what_cannot_read_both_is_refused(model_type: str) -> None:
    with pytest.raises(ValueError, match=f"'{model_type}'.*{REFUSED[model_type]}.*choose an encoder such as bert"):
        UpDownFusionModel(fusion_config(model_type))


@pytest.mark.parametrize(("layer", "value"), [("", torch.nan), ("output.dense", 3e38)], ids=["nan", "overflow"])
def test_weights_that_make_no_numbers_are_no_fault_of_the_kind(layer: str, value: float, tmp_path: Path) -> None:
    model = UpDownFusionModel(fusion_config("bert"))
    with torch.no_grad():
        for name, weight in model.text_model.named_parameters():
            if layer in name:
                weight.fill_(value)
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=f"{tmp_path} makes states of words that are no numbers .*its weights are"):
        UpDownFusionModel.from_pretrained(tmp_path)


def test_the_check_leaves_no_trace() -> None:
    model, state = UpDownFusionModel(fusion_config("roberta", return_dict=False)), torch.random.get_rng_state()
    check_passes(model)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert model.training and model.text_model.training
    with torch.device("meta"):  # as `from_pretrained` builds
        UpDownFusionModel(fusion_config("mpnet"))


def test_what_was_saved_before_is_refused_when_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as unchecked:
        unchecked.setattr(modeling_fusion, "check_passes", lambda model: None)
        UpDownFusionModel(fusion_config("mpnet")).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="'mpnet'.*padding changes what it reads"):
        UpDownFusionModel.from_pretrained(tmp_path)
