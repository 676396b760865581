"""The fusion model: words alone are the text encoder's own pass, a batch is its members, padding cannot be seen,
regions have no order, nothing leaks back in a causal pass, mistakes are named."""

import math
from typing import Any

import pytest
import torch
from transformers import (
    AutoModel,
    DistilBertConfig,
    ModernBertConfig,
    PreTrainedConfig,
    RobertaConfig,
    T5Config,
)

from modeling_updown import UpDownFusionConfig, UpDownFusionModel
from modeling_updown.compat_updown import checkpoint_activations
from modeling_updown.modeling_fusion import region_attention
from modeling_updown.time_updown import time_features

from ..tiny import (
    CAPTIONS,
    tiny_encoder_config,
    tiny_fusion,
    tiny_fusion_config,
    tiny_fusion_processor,
    tiny_grid_config,
    tiny_image,
)
from .vqa_twin import WIDTH, gradients_of, images, one_image

SIZES: dict[str, Any] = {
    "vocab_size": 40,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,
}
ENCODERS: dict[str, PreTrainedConfig] = {
    "bert": tiny_encoder_config(vocab_size=40),
    "roberta": RobertaConfig(**SIZES, pad_token_id=1, bos_token_id=0, eos_token_id=2),
    "distilbert": DistilBertConfig(
        vocab_size=40, dim=32, n_layers=2, n_heads=4, hidden_dim=48, max_position_embeddings=64, initializer_range=0.2
    ),
    "modernbert": ModernBertConfig(  # its second layer sees 4 words to either side
        **SIZES, local_attention=8, pad_token_id=0, cls_token_id=2, initializer_cutoff_factor=1.0
    ),
}
LENGTHS = [12, 5, 9]


def fusion(**changes: Any) -> UpDownFusionModel:
    """Fed with regions of width 10."""
    fields: dict[str, Any] = {"vision_config": None, "region_feature_size": WIDTH, "text_config": ENCODERS["bert"]}
    return tiny_fusion(**(fields | changes))


@pytest.fixture(params=ENCODERS)
def model(request) -> UpDownFusionModel:
    return fusion(text_config=ENCODERS[request.param])


def texts(config: Any = None, lengths: list[int] = LENGTHS, *, seed: int = 0) -> torch.Tensor:
    """[CLS] and words, of these lengths, padded on the right."""
    pad, cls = (0, 2) if config is None else (config.pad_token_id, config.cls_token_id)
    ids = torch.randint(4, 40, (len(lengths), max(lengths)), generator=torch.Generator().manual_seed(seed))
    ids[:, 0] = cls
    return ids.masked_fill(torch.arange(max(lengths)) >= torch.tensor(lengths)[:, None], pad)


def uneven() -> dict[str, torch.Tensor]:
    """Three images of 5, 3 and 1 regions."""
    batch = images()
    batch["region_mask"] = torch.arange(5) < torch.tensor([5, 3, 1])[:, None]
    return batch


def normed(values: list[float], norm: torch.nn.LayerNorm) -> list[float]:
    """LayerNorm by its definition."""
    mean = sum(values) / len(values)
    deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / len(values) + norm.eps)
    return [
        (value - mean) / deviation * gain + bias
        for value, gain, bias in zip(values, norm.weight.tolist(), norm.bias.tolist(), strict=True)
    ]


def product(layer: Any, values: list[float]) -> list[float]:
    return [
        sum(w * x for w, x in zip(row, values, strict=True)) + bias
        for row, bias in zip(layer.weight.tolist(), layer.bias.tolist(), strict=True)
    ]


class TestWordsAlone:
    @torch.no_grad()
    def test_equal_the_text_encoder(self, model):
        """Hidden states and attentions of words, right-padded, with and without a mask given."""
        encoder = AutoModel.from_config(model.text_model.config).eval()
        encoder.load_state_dict(model.text_model.state_dict(), strict=False)  # all but a pooler
        ids = texts(model.config)
        mask = ids != model.config.pad_token_id
        for implementation in ("sdpa", "eager"):
            encoder.set_attn_implementation(implementation)
            expected = encoder(ids, attention_mask=mask.long(), output_hidden_states=True)
            for given in ({}, {"attention_mask": mask.long()}, {"attention_mask": mask}):
                found = model(ids, **given, output_hidden_states=True)
                assert len(found.hidden_states) == 3
                for ours, theirs in zip(found.hidden_states, expected.hidden_states, strict=True):
                    torch.testing.assert_close(ours[mask], theirs[mask], atol=1e-6, rtol=1e-6)
                torch.testing.assert_close(
                    found.word_states[mask], expected.last_hidden_state[mask], atol=1e-6, rtol=1e-6
                )
            assert found.region_states is None and found.region_boxes is None
        expected = encoder(ids, attention_mask=mask, output_attentions=True).attentions
        found = model(ids, output_attentions=True).attentions
        for ours, theirs in zip(found, expected, strict=True):
            rows = mask[:, None, :, None].expand_as(ours)
            torch.testing.assert_close(ours[rows], theirs[rows], atol=1e-6, rtol=1e-6)

    @torch.no_grad()
    def test_started_from_a_pretrained_encoder(self, model, tmp_path):
        torch.manual_seed(3)
        encoder = AutoModel.from_config(model.text_model.config).eval()
        encoder.save_pretrained(tmp_path)
        started = UpDownFusionModel.from_text_pretrained(str(tmp_path), region_feature_size=7, pooling="mean").eval()
        assert started.config.region_feature_size == 7 and started.config.text_config.model_type in ENCODERS
        ids = texts(model.config)
        mask = ids != model.config.pad_token_id
        expected = encoder(ids, attention_mask=mask).last_hidden_state
        output = started(ids)
        torch.testing.assert_close(output.word_states[mask], expected[mask], atol=1e-6, rtol=1e-6)
        means = torch.stack([states[row].mean(dim=0) for states, row in zip(expected, mask, strict=True)])
        torch.testing.assert_close(output.pooler_output, means, atol=1e-6, rtol=1e-5)
        assert not torch.allclose(model(ids).word_states[mask], expected[mask], atol=1e-2)

    def test_code_and_pickles_of_a_folder_are_not_run(self, tmp_path):
        encoder = AutoModel.from_config(ENCODERS["bert"])
        encoder.config.save_pretrained(tmp_path)
        torch.save(encoder.state_dict(), tmp_path / "pytorch_model.bin")
        with pytest.raises(OSError, match=r"model\.safetensors"):
            UpDownFusionModel.from_text_pretrained(str(tmp_path))
        (tmp_path / "config.json").write_text(
            '{"model_type": "their_own", "auto_map": {"AutoConfig": "code.C", "AutoModel": "code.M"}}'
        )
        (tmp_path / "code.py").write_text("raise AssertionError('run')")
        with pytest.raises(ValueError, match="trust_remote_code"):
            UpDownFusionModel.from_text_pretrained(str(tmp_path))

    @torch.no_grad()
    def test_pooling(self):
        ids = texts()
        states = fusion()(ids).word_states
        torch.testing.assert_close(fusion()(ids).pooler_output, states[:, 0])
        means = torch.stack([row[:length].mean(dim=0) for row, length in zip(states, LENGTHS, strict=True)])
        torch.testing.assert_close(fusion(pooling="mean")(ids).pooler_output, means)
        left = torch.tensor([[0, 0, 2, 9]])
        output = fusion()(left)
        torch.testing.assert_close(output.pooler_output, output.word_states[:, 2])  # [CLS], wherever it stands
        assert fusion()(torch.zeros(1, 4, dtype=torch.long)).pooler_output.isfinite().all()


class TestRegionEmbedding:
    @pytest.mark.parametrize("timed", [False, True])
    def test_formula(self, timed):
        """LN(W_f f + b) + LN(W_b box + b), number by number (UNITER, section 3.1), and of time LN(W_t time + b)."""
        model, batch = fusion(time_embedding=timed).double(), images(1)
        batch |= {name: batch[name].double() for name in ("region_features", "region_boxes")}
        seconds = torch.tensor([[0.0, 1.5, 3.0, 60.0, 4000.0]])
        embedding = model.region_embedding
        with torch.no_grad():
            for parameter in embedding.parameters():
                parameter.normal_(generator=torch.Generator().manual_seed(parameter.numel()))
        found = model.embed_regions(model.get_regions(None, *batch.values(), region_seconds=seconds))[0]
        for r in range(5):
            left, top, right, bottom = batch["region_boxes"][0, r].tolist()
            box = [left, top, right, bottom, right - left, bottom - top, (right - left) * (bottom - top)]
            angles = [2 * math.pi * seconds[0, r].item() / 10_000 ** (k / 15) for k in range(16)]
            time = [math.sin(angle) for angle in angles] + [math.cos(angle) for angle in angles]
            feature = product(embedding.of_features, batch["region_features"][0, r].tolist())
            parts = [
                normed(feature, embedding.norm_features),
                normed(product(embedding.of_boxes, box), embedding.norm_boxes),
            ]
            if timed:
                parts.append(normed(product(embedding.of_times, time), embedding.norm_times))
            expected = torch.tensor([sum(values) for values in zip(*parts, strict=True)], dtype=torch.float64)
            accuracy = 1e-3 if timed else 1e-9  # angles are of float32
            torch.testing.assert_close(found[r], expected, atol=accuracy, rtol=accuracy)

    def test_time_features(self):
        """A period of one second first, of 10,000 seconds last."""
        features = time_features(torch.tensor([0.25, 2500.0]))
        torch.testing.assert_close(features[0, [0, 16]], torch.tensor([1.0, 0.0]), atol=1e-4, rtol=0)
        torch.testing.assert_close(features[1, [15, 31]], torch.tensor([1.0, 0.0]), atol=1e-4, rtol=0)

    def test_time_matters_where_it_is_embedded(self):
        batch = images(1)
        seconds = torch.tensor([[0.0, 1.5, 3.0, 4.5, 6.0]])
        timed = fusion(time_embedding=True)
        states = timed(texts(lengths=[4]), **batch, region_seconds=seconds).word_states
        assert not torch.allclose(timed(texts(lengths=[4]), **batch, region_seconds=seconds + 9).word_states, states)
        with pytest.raises(ValueError, match="give region_seconds as well"):
            timed(texts(lengths=[4]), **batch)
        plain = fusion()
        torch.testing.assert_close(
            plain(texts(lengths=[4]), **batch, region_seconds=seconds).word_states,
            plain(texts(lengths=[4]), **batch).word_states,
        )


class TestTogether:
    @torch.no_grad()
    def test_equal_the_encoder_over_embeddings_side_by_side(self, model):
        """Words at their own positions, all regions at the text's first one."""
        ids, batch = texts(model.config, [6, 6, 6]), images()
        output = model(ids, **batch)
        words = model.get_input_embeddings()(ids)
        regions = model.embed_regions(model.get_regions(None, *batch.values()))
        start = 2 if model.config.text_config.model_type == "roberta" else 0
        positions = torch.cat([torch.arange(start, start + 6), torch.full((5,), start)]).expand(3, -1)
        expected = model.text_model(
            inputs_embeds=torch.cat([words, regions], dim=1),
            attention_mask=torch.zeros(3, 1, 11, 11),
            position_ids=positions,
        ).last_hidden_state
        torch.testing.assert_close(output.last_hidden_state, expected, atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(output.word_states, expected[:, :6], atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(output.region_states, expected[:, 6:], atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(output.pooler_output, expected[:, 0], atol=1e-6, rtol=1e-6)
        assert torch.equal(output.region_boxes, batch["region_boxes"])

    @torch.no_grad()
    def test_batch_equals_single(self, model):
        """Texts of 12, 5 and 9 words about images of 5, 3 and 1 regions: together, and each alone without padding."""
        ids, batch = texts(model.config), uneven()
        together, seen = model(ids, **batch), model(**batch)
        for n, (length, count) in enumerate(zip(LENGTHS, [5, 3, 1], strict=True)):
            one = one_image(batch, n, count=count)
            alone = model(ids[n : n + 1, :length], **one)
            for ours, expected in (
                (together.word_states[n, :length], alone.word_states[0]),
                (together.region_states[n, :count], alone.region_states[0]),
                (together.pooler_output[n], alone.pooler_output[0]),
                (seen.pooler_output[n], model(**one).pooler_output[0]),
                (seen.region_states[n, :count], model(**one).region_states[0]),
            ):
                torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)

    @torch.no_grad()
    def test_regions_alone_stand_after_a_cls(self, model):
        batch = images()
        ids = torch.full((3, 1), model.config.cls_token_id)
        found, expected = model(**batch), model(ids, **batch, attention_mask=torch.ones(3, 1))
        torch.testing.assert_close(found.last_hidden_state, expected.last_hidden_state, rtol=0, atol=0)
        assert found.word_states.shape[1] == 1 and found.region_states.shape[1] == 5
        model.config.pooling = "mean"
        torch.testing.assert_close(model(**batch).pooler_output, expected.last_hidden_state.mean(dim=1))
        torch.testing.assert_close(model(ids, **batch).pooler_output, expected.word_states[:, 0])  # of both: [CLS]

    @torch.no_grad()
    def test_order_of_regions_does_not_matter(self, model):
        ids, batch = texts(model.config), uneven()
        order = torch.tensor([3, 0, 4, 1, 2])
        first, second = model(ids, **batch), model(ids, **{name: value[:, order] for name, value in batch.items()})
        torch.testing.assert_close(second.word_states, first.word_states, atol=1e-5, rtol=1e-5)
        real = batch["region_mask"][:, order]
        torch.testing.assert_close(
            second.region_states[real], first.region_states[:, order][real], atol=1e-5, rtol=1e-5
        )
        moved = batch | {"region_boxes": batch["region_boxes"].flip(1)}  # but where they are does
        assert not torch.allclose(model(ids, **moved).word_states[0], first.word_states[0], atol=1e-3)

    def test_nan_in_a_padded_region_stays_there(self, model):
        ids, batch = texts(model.config), uneven()
        batch["region_mask"][0, :2] = False  # gaps may stand anywhere
        gaps = ~batch["region_mask"][..., None]
        dirty = batch | {name: batch[name].masked_fill(gaps, float("nan")) for name in batch if name != "region_mask"}
        results = []
        for given in (batch, dirty):
            output = model(ids, **given)
            loss = output.word_states.square().sum() + output.region_states[batch["region_mask"]].square().sum()
            results.append((output.word_states, output.pooler_output, gradients_of(model, loss)))
        torch.testing.assert_close(results[0], results[1], rtol=0, atol=0)
        assert all(gradient.isfinite().all() for gradient in results[1][2].values())

    def test_nan_in_padded_seconds_stays_there(self):
        model, ids, batch = fusion(time_embedding=True), texts(), uneven()
        seconds = torch.arange(5.0).expand(3, 5)
        dirty = seconds.masked_fill(~batch["region_mask"], float("nan"))
        expected = model(ids, **batch, region_seconds=seconds).word_states
        torch.testing.assert_close(model(ids, **batch, region_seconds=dirty).word_states, expected, rtol=0, atol=0)

    @pytest.mark.parametrize("index", [None, [0, 0, 1, 1, 2, 2], [2, 0, 0, 2, 0, 1], [1, 1, 1, 1, 1, 1]])
    def test_several_texts_an_image_equal_each_alone(self, index):
        model, batch = fusion(), uneven()
        ids = texts(lengths=[6, 2, 3, 1, 6, 5])
        owners = [0, 0, 1, 1, 2, 2] if index is None else index
        results = []
        for together in (True, False):
            regions = batch | {"region_features": batch["region_features"].clone().requires_grad_()}
            if together:
                joint = model(ids, **regions, image_index=None if index is None else torch.tensor(index)).pooler_output
            else:
                joint = torch.cat(
                    [model(ids[n : n + 1], **one_image(regions, owner)).pooler_output for n, owner in enumerate(owners)]
                )
            gradients = gradients_of(model, joint.square().sum())
            results.append((joint, gradients, regions["region_features"].grad))
        torch.testing.assert_close(results[0], results[1], atol=1e-4, rtol=1e-4)

    @torch.no_grad()
    def test_embeddings_may_be_given(self, model):
        """Of words, and of regions made once for many texts."""
        ids, batch = texts(model.config, [6, 6, 6]), uneven()
        expected = model(ids, **batch).last_hidden_state
        regions = model.get_regions(None, *batch.values())
        embedded = model.embed_regions(regions)
        found = model(ids, region_embeds=embedded, region_mask=regions.region_mask).last_hidden_state
        torch.testing.assert_close(found, expected, rtol=0, atol=0)
        words = model.get_input_embeddings()(ids)
        torch.testing.assert_close(model(inputs_embeds=words, **batch).last_hidden_state, expected, rtol=0, atol=0)
        everything = model(ids, region_embeds=embedded).last_hidden_state
        torch.testing.assert_close(everything[0], expected[0], atol=1e-5, rtol=1e-5)
        assert not torch.allclose(everything[1, :6], expected[1, :6], atol=1e-3)  # without a mask all are real

    @torch.no_grad()
    def test_text_of_padding_alone(self, model):
        """It is read as it stands; with a mask that hides all of it, the image is."""
        batch = images(1)
        ids = torch.full((1, 3), model.config.pad_token_id)
        assert model(ids, **batch).pooler_output.isfinite().all()
        output = model(ids, **batch, attention_mask=torch.zeros(1, 3))
        torch.testing.assert_close(output.pooler_output, output.region_states[:, 0])

    @torch.no_grad()
    def test_hidden_states_and_tuples(self, model):
        ids, batch = texts(model.config), images()
        output = model(ids, **batch, output_hidden_states=True)
        assert len(output.hidden_states) == 3
        torch.testing.assert_close(output.hidden_states[-1], output.last_hidden_state)
        assert model(ids, **batch).hidden_states is None and model(ids, **batch).attentions is None
        as_tuple = model(ids, **batch, return_dict=False)
        torch.testing.assert_close(as_tuple[0], output.pooler_output)


class TestCausalWords:
    @torch.no_grad()
    def test_nothing_leaks_back(self, model):
        """Another word at t changes no word before t and no region; in an ordinary pass it changes all."""
        ids, batch = texts(model.config, [8, 8, 8]), uneven()
        before = model(ids, **batch, causal_words=True)
        ordinary = model(ids, **batch)
        for t in range(1, 8):
            changed = ids.clone()
            changed[:, t] = 4 + (changed[:, t] - 3) % 36
            after = model(changed, **batch, causal_words=True)
            torch.testing.assert_close(after.word_states[:, :t], before.word_states[:, :t], atol=1e-6, rtol=1e-6)
            torch.testing.assert_close(after.region_states, before.region_states, atol=1e-6, rtol=1e-6)
            moved = (after.word_states - before.word_states).abs().amax(dim=(0, 2))
            assert (moved[t:] > 1e-4).all()
            leaked = model(changed, **batch).word_states - ordinary.word_states
            assert (leaked.abs().amax(dim=2) > 1e-5).all()

    @torch.no_grad()
    def test_is_each_prefix_read_alone(self, model):
        ids, batch = texts(model.config, [6, 6, 6]), uneven()
        whole = model(ids, **batch, causal_words=True).word_states
        for t in range(1, 7):
            part = model(ids[:, :t], **batch, causal_words=True).word_states
            torch.testing.assert_close(whole[:, t - 1], part[:, -1], atol=1e-5, rtol=1e-5)

    @torch.no_grad()
    def test_words_see_every_region(self, model):
        """And regions see each other."""
        ids, batch = texts(model.config, [4]), images(1)
        before = model(ids, **batch, causal_words=True)
        changed = batch["region_features"].clone()
        changed[:, 4] += 1
        after = model(ids, **(batch | {"region_features": changed}), causal_words=True)
        assert ((after.last_hidden_state - before.last_hidden_state).abs().amax(dim=(0, 2)) > 1e-4).all()

    @torch.no_grad()
    def test_words_alone(self, model):
        """A prefix is the same whatever follows; padding, on either side, is not seen."""
        ids = texts(model.config)
        whole = model(ids, causal_words=True).word_states
        torch.testing.assert_close(model(ids[:, :4], causal_words=True).word_states, whole[:, :4], atol=1e-5, rtol=1e-5)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            left = torch.cat([torch.full((3, 2), model.config.pad_token_id), ids], dim=1)
            assert model(left, causal_words=True).word_states.isfinite().all()


class TestAttention:
    @torch.no_grad()
    def test_eager_equals_sdpa(self, model):
        ids, batch = texts(model.config), uneven()
        assert model.text_model.config._attn_implementation == "sdpa"
        first = model(ids, **batch)
        model.set_attn_implementation("eager")
        second = model(ids, **batch)
        mask = ids != model.config.pad_token_id
        torch.testing.assert_close(first.word_states[mask], second.word_states[mask], atol=1e-5, rtol=1e-5)

    @torch.no_grad()
    def test_shown_where_asked_for(self, model):
        """Without a lasting change of how attention runs, also where the pass fails."""
        ids, batch = texts(model.config), uneven()
        shown = model(ids, **batch, output_attentions=True)
        assert [layer.shape for layer in shown.attentions] == [(3, 4, 17, 17)] * 2
        assert model.text_model.config._attn_implementation == "sdpa"
        mask = ids != model.config.pad_token_id
        torch.testing.assert_close(shown.word_states[mask], model(ids, **batch).word_states[mask], atol=1e-5, rtol=1e-5)
        with pytest.raises(IndexError):
            model(ids + 100, **batch, output_attentions=True)
        assert model.text_model.config._attn_implementation == "sdpa"
        model.set_attn_implementation("eager")  # without which transformers refuses the field
        model.config.output_attentions = True
        assert len(model(ids, **batch).attentions) == 2

    def test_region_attention_equals_its_slow_twin(self):
        model, ids, batch = fusion(), texts(), uneven()
        attentions = model(ids, **batch, output_attentions=True).attentions
        shown = region_attention(attentions, batch["region_mask"], num_words=12)
        for layer, found in zip(attentions, shown, strict=True):
            assert found.shape == (3, 12, 5)
            torch.testing.assert_close(found.sum(dim=-1), torch.ones(3, 12))
            for n in range(3):
                for word in range(12):
                    weights = [
                        sum(layer[n, head, word, 12 + r].item() for head in range(4)) if real else 0.0
                        for r, real in enumerate(batch["region_mask"][n].tolist())
                    ]
                    expected = [weight / sum(weights) for weight in weights]
                    assert found[n, word].tolist() == pytest.approx(expected, abs=1e-6)
            assert found[~batch["region_mask"][:, None].expand_as(found)].eq(0).all()

    def test_word_that_looks_away_from_all_regions(self):
        """It is shown to weigh the real ones evenly."""
        attention = torch.tensor([1.0, 0, 0, 0]).expand(1, 1, 4, 4)
        shown = region_attention((attention,), torch.tensor([[True, False, True]]), num_words=1)
        assert shown[0].tolist() == [[[0.5, 0, 0.5]]]


class TestTraining:
    def test_gradients_reach_every_weight(self, model):
        ids, batch = texts(model.config), images()
        output = model(ids, **batch)
        gradients = gradients_of(model, output.last_hidden_state.square().sum())
        missing = [name for name, _ in model.named_parameters() if name not in gradients]
        assert not missing
        assert all(gradient.isfinite().all() for gradient in gradients.values())

    def test_gradient_checkpointing_changes_nothing(self, model):
        ids, batch = texts(model.config), uneven()
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
            for name in ("dropout", "attention_dropout", "dropout_prob"):
                if isinstance(getattr(module, name, None), float):
                    setattr(module, name, 0.0)
        model.train()
        expected = gradients_of(model, model(ids, **batch).pooler_output.square().sum())
        checkpoint_activations(model)
        on = (
            "is_activation_checkpointing"
            if hasattr(model, "is_activation_checkpointing")
            else "is_gradient_checkpointing"
        )
        assert getattr(model, on)
        found = gradients_of(model, model(ids, **batch).pooler_output.square().sum())
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)

    def test_bfloat16(self, model):
        """Under autocast, and with weights of that type."""
        ids, batch = texts(model.config), uneven()
        full = model(ids, **batch).pooler_output
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half = model(ids, **batch)
        gradients = gradients_of(model, half.pooler_output.float().square().sum())
        assert all(gradient.isfinite().all() for gradient in gradients.values())
        light = model.bfloat16()(ids, **batch)
        assert light.last_hidden_state.dtype == torch.bfloat16
        for output in (half, light):
            cosine = torch.nn.functional.cosine_similarity(output.pooler_output.float(), full)
            assert cosine.min() > 0.99
        assert light.last_hidden_state.isfinite().all()

    @torch.no_grad()
    def test_compiled_forward(self):
        model, ids, batch, index = fusion(), texts(), uneven(), torch.tensor([2, 0, 0])
        compiled = torch.compile(model, backend="eager")
        expected = model(ids, **batch, image_index=index).last_hidden_state
        found = compiled(ids, **batch, image_index=index).last_hidden_state
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


class TestMistakes:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"region_features": torch.zeros(3, 5, 11)}, "11.*expects.*10.*another detector"),
            ({"region_mask": torch.zeros(3, 5, dtype=torch.bool)}, r"images \[0, 1, 2\].*no region at all"),
            ({"region_mask": torch.ones(3, 4, dtype=torch.bool)}, r"region_mask has shape \(3, 4\)"),
            ({"region_boxes": None}, "embeds boxes: give region_boxes as well"),
            ({"pixel_values": torch.zeros(3, 3, 8, 8), "region_features": None}, "owns no region source"),
            ({"pixel_values": torch.zeros(3, 3, 8, 8)}, "Give either pixel_values or region_features"),
            ({"input_ids": texts(lengths=[3] * 4)}, "4 texts for 3 images.*image_index"),
            ({"input_ids": texts(lengths=[3])[0]}, r"of shape \(texts, words\)"),
            ({"attention_mask": torch.ones(3, 5)}, r"attention_mask has shape \(3, 5\).*\(3, 12\)"),
            ({"image_index": torch.tensor([0, 1, 3])}, "one of 3 images"),
            ({"image_index": torch.tensor([0, 1])}, "one of 3 images"),
            ({"input_ids": None, "region_features": None}, "nothing to read"),
        ],
    )
    def test_inputs(self, changes, message):
        with pytest.raises(ValueError, match=message):
            fusion()(**({"input_ids": texts()} | images() | changes))

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"text_config": T5Config(vocab_size=20, d_model=8, num_layers=1)}, "'t5'.*choose an encoder such as bert"),
            ({"objectives": {"itc": 1, "guessing": 1}}, "objectives names guessing; known are itc, itm"),
            ({"temperature": 0.9}, "temperature=0.9.*must be above 0 and rise"),
            ({"vision_config": {"model_type": "resnet"}}, "model_type 'resnet'"),
        ],
    )
    def test_config(self, fields, message):
        with pytest.raises(ValueError, match=message):
            UpDownFusionModel(UpDownFusionConfig(**fields))


class TestLife:
    def test_config_stands_on_the_encoders(self):
        config = UpDownFusionConfig(text_config={"model_type": "distilbert", "dim": 24, "n_heads": 2, "n_layers": 3})
        assert (config.hidden_size, config.num_attention_heads, config.num_hidden_layers) == (24, 2, 3)
        assert UpDownFusionConfig(text_config=ENCODERS["roberta"]).cls_token_id == 0
        assert UpDownFusionConfig(text_config=ENCODERS["roberta"]).pad_token_id == 1
        assert UpDownFusionConfig(text_config=ENCODERS["modernbert"]).cls_token_id == 2
        assert tiny_fusion_config().region_feature_size == tiny_grid_config().region_feature_size

    @torch.no_grad()
    def test_save_and_load(self, model, tmp_path):
        model.save_pretrained(tmp_path)
        loaded = AutoModel.from_pretrained(tmp_path)
        assert type(loaded) is UpDownFusionModel and not loaded.training
        for name, value in model.state_dict().items():
            assert torch.equal(value, loaded.state_dict()[name]), name
        ids, batch = texts(model.config), uneven()
        torch.testing.assert_close(
            loaded(ids, **batch).last_hidden_state, model(ids, **batch).last_hidden_state, rtol=0, atol=0
        )
        assert [path.name for path in tmp_path.glob("*.safetensors")] == ["model.safetensors"]
        half = AutoModel.from_pretrained(tmp_path, dtype=torch.bfloat16)
        assert {value.dtype for value in half.parameters()} == {torch.bfloat16}
        assert AutoModel.from_pretrained(tmp_path, attn_implementation="eager").text_model.config._attn_implementation

    @torch.no_grad()
    def test_pixels_equal_their_regions(self, tmp_path):
        model, processor = tiny_fusion(), tiny_fusion_processor()
        inputs = processor(images=[tiny_image(0), tiny_image(1)], text=CAPTIONS, padding=True, return_tensors="pt")
        regions = model.region_source(inputs["pixel_values"])
        words = {name: inputs[name] for name in ("input_ids", "attention_mask")}
        given = {name: regions[name] for name in ("region_features", "region_boxes", "region_mask")}
        expected = model(**words, **given).pooler_output
        torch.testing.assert_close(model(**inputs).pooler_output, expected, rtol=0, atol=0)
        model.save_pretrained(tmp_path)
        torch.testing.assert_close(AutoModel.from_pretrained(tmp_path)(**inputs).pooler_output, expected)
        assert not torch.allclose(expected[0], expected[1], atol=0.01)

    def test_gradient_reaches_the_region_source_once_unfrozen(self):
        model = tiny_fusion(vision_config=tiny_grid_config(trainable_stages=1)).train()
        inputs = {"input_ids": texts(lengths=[4, 3]), "pixel_values": torch.rand(2, 3, 64, 64)}
        model(**inputs).pooler_output.square().sum().backward()
        assert all(parameter.grad is None for parameter in model.region_source.parameters())
        model.unfreeze_regions()
        model(**inputs).pooler_output.square().sum().backward()
        trained = {name for name, p in model.region_source.named_parameters() if p.grad is not None}
        assert trained and all(name.startswith("backbone.layer4") for name in trained)

    @torch.no_grad()
    def test_resized_vocabulary(self, model):
        ids, batch = texts(model.config), uneven()
        before = model(ids, **batch).word_states
        model.resize_token_embeddings(43)
        assert model.config.vocab_size == model.config.text_config.vocab_size == 43
        torch.testing.assert_close(model(ids, **batch).word_states, before)
        assert model(torch.full((3, 2), 42), **batch).word_states.isfinite().all()
