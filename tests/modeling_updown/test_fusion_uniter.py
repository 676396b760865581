"""UNITER's embedding, pooler and word bias on the fusion model: by hand, in a batch, saved, resized, refused; its own
figures are in tests/training/convert/test_uniter.py."""

from typing import Any

import pytest
import torch
from torch.nn import functional as F
from transformers import RobertaConfig

from modeling_updown import UpDownFusionForMaskedLM, UpDownFusionModel

from ..tiny import tiny_encoder_config, tiny_fusion, tiny_fusion_config, tiny_masked_lm, tiny_pretraining
from .test_fusion import SIZES, texts, uneven
from .vqa_twin import WIDTH, one_image

FIELDS: dict[str, Any] = {"vision_config": None, "region_feature_size": WIDTH, "region_embedding": "uniter"}


@torch.no_grad()
def test_regions_reach_the_first_layer_as_they_are_embedded() -> None:
    """LN(LN(W f) + LN(W box)) without position or type; words with theirs; a first layer that is given both."""
    model = tiny_fusion(**FIELDS)
    embedding, batch = model.region_embedding, uneven()
    x1, y1, x2, y2 = batch["region_boxes"].unbind(-1)
    geometry = torch.stack([x1, y1, x2, y2, x2 - x1, y2 - y1, (x2 - x1) * (y2 - y1)], dim=-1)
    of_parts = [
        F.layer_norm(values @ layer.weight.T + layer.bias, (32,), norm.weight, norm.bias, 1e-12)
        for values, layer, norm in (
            (batch["region_features"], embedding.of_features, embedding.norm_features),
            (geometry, embedding.of_boxes, embedding.norm_boxes),
        )
    ]
    expected = F.layer_norm(sum(of_parts), (32,), embedding.norm.weight, embedding.norm.bias, 1e-12)
    words = texts()
    states = model(words, **batch, output_hidden_states=True).hidden_states[0]
    torch.testing.assert_close(
        states[:, 12:][batch["region_mask"]], expected[batch["region_mask"]], atol=1e-5, rtol=1e-5
    )
    alone = model(words, output_hidden_states=True).hidden_states[0]
    torch.testing.assert_close(states[:, :12], alone)


@torch.no_grad()
def test_a_batch_is_its_members() -> None:
    model, batch, words = tiny_fusion(**FIELDS, pooler=True), uneven(), texts()
    together = model(words, **batch)
    for row, length in enumerate([12, 5, 9]):
        real = int(batch["region_mask"][row].sum())
        image = one_image(batch, row, count=real)
        alone = model(words[row : row + 1, :length], **image)
        torch.testing.assert_close(together.pooler_output[row : row + 1], alone.pooler_output, atol=1e-5, rtol=1e-5)
        found = together.region_states[row : row + 1, :real]
        torch.testing.assert_close(found, alone.region_states, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_the_pooler_maps_the_first_state() -> None:
    model, batch, words = tiny_fusion(**FIELDS, pooler=True), uneven(), texts()
    for output in (model(words, **batch), model(words), model(**batch)):
        first = output.last_hidden_state[:, 0]
        torch.testing.assert_close(output.pooler_output, (first @ model.pooler.weight.T + model.pooler.bias).tanh())
    mean = tiny_fusion(**FIELDS, pooler=True, pooling="mean")
    torch.testing.assert_close(mean(words[:1]).pooler_output, mean(words[:1]).last_hidden_state.mean(dim=1))


def test_dropout_and_gradients_reach_the_own_norm() -> None:
    model, batch = tiny_fusion(**FIELDS), uneven()
    model(texts(), **batch).last_hidden_state.square().sum().backward()
    assert model.region_embedding.norm.weight.grad.abs().min() > 0
    model.train()
    torch.manual_seed(0)
    embedded = model.embed_regions(model.get_regions(**batch))[batch["region_mask"]]
    dropped = (embedded == 0).float().mean().item()
    assert 0.05 < dropped < 0.15  # BERT's 0.1 of 9 regions of width 32


@torch.no_grad()
def test_masked_regions_get_the_learnt_vector() -> None:
    """Zeros and the vector, or what is given in their place and the vector; regions that are not masked stay."""
    fields = {**FIELDS, "objectives": {"mrfr": 1.0}, "mask_embedding": True}
    model, batch = tiny_pretraining(**fields), uneven()
    masked = torch.zeros(3, 5, dtype=torch.bool)
    masked[0, 1] = masked[1, 2] = True
    vector = model.fusion.region_embedding.of_masked.weight[0]
    for seen in (None, torch.ones(3, 5, WIDTH)):
        output = model(texts(), **batch, masked_regions=masked, seen_features=seen, output_hidden_states=True)
        features = batch["region_features"].clone()
        features[masked] = vector if seen is None else vector + 1
        expected = model.fusion(texts(), **{**batch, "region_features": features}).last_hidden_state
        torch.testing.assert_close(output.hidden_states[-1], expected)


@torch.no_grad()
def test_words_have_a_bias_that_grows_with_them(tmp_path) -> None:
    model, words = tiny_masked_lm(**FIELDS, word_bias=True, head_norm_eps=1e-12), texts()
    assert model.word_head.norm.eps == 1e-12 and not model.word_head.word_bias.any()
    plain, size = model(words).logits, model.config.vocab_size
    model.word_head.word_bias.copy_(torch.arange(float(size)))
    torch.testing.assert_close(model(words).logits, plain + torch.arange(float(size)), atol=1e-4, rtol=1e-5)
    model.resize_token_embeddings(size + 3)
    bias = torch.cat([torch.arange(float(size)), torch.zeros(3)])
    assert torch.equal(model.word_head.word_bias, bias) and model.word_head.word_bias.requires_grad
    model.save_pretrained(tmp_path)
    loaded = UpDownFusionForMaskedLM.from_pretrained(tmp_path)
    assert loaded(words).logits.shape[-1] == size + 3
    torch.testing.assert_close(loaded(words, **uneven()).logits, model(words, **uneven()).logits, atol=1e-4, rtol=1e-5)
    model.resize_token_embeddings(size - 1)
    assert torch.equal(model.word_head.word_bias, torch.arange(float(size - 1)))


def test_defaults_add_nothing() -> None:
    names = UpDownFusionModel(tiny_fusion_config(vision_config=None)).state_dict()
    assert not [name for name in names if name.startswith("pooler") or "of_masked" in name or "embedding.norm." in name]
    assert "word_head.word_bias" not in tiny_masked_lm(vision_config=None).state_dict()


def test_only_a_bert_of_two_types_is_taken() -> None:
    with pytest.raises(
        ValueError, match=r"needs a text_config of BERT .* 'roberta' with 1: use region_embedding='sum'"
    ):
        tiny_fusion_config(**FIELDS, text_config=RobertaConfig(**SIZES, type_vocab_size=1))
    with pytest.raises(ValueError, match="'bert' with 1"):
        tiny_fusion_config(**FIELDS, text_config=tiny_encoder_config(type_vocab_size=1))
