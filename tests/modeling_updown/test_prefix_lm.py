"""The prefix language model's own promises: a batch is its members, padding cannot be seen, regions see each other and
words only what is before them, a cache changes nothing, beam search is exhaustive where it can be, and what trains is
what was asked for. The language models are tiny GPT-2, Llama, Qwen2 and OPT."""

import itertools
import math
from typing import Any

import pytest
import torch
from torch.nn import functional as F
from transformers import (
    AutoConfig,
    DynamicCache,
)

from modeling_updown import (
    UpDownPrefixLMConfig,
    UpDownPrefixLMForImageCaptioning,
)
from modeling_updown.compat_updown import CACHE, checkpoint_activations
from modeling_updown.losses_updown import prefix_lm_loss, smoothed_cross_entropy
from modeling_updown.modeling_prefix_lm import PrefixCache

from ..tiny import (
    tiny_prefix_lm,
    tiny_text_config,
)

WIDTH, WORDS, BOS, EOS, PAD = 12, 20, 1, 2, 0
Model = UpDownPrefixLMForImageCaptioning


def prefix_lm(model_type: str = "gpt2", *, text: dict | None = None, **changes: Any) -> Model:
    """Fed with regions of width 12; 20 words."""
    fields: dict[str, Any] = {"vision_config": None, "region_feature_size": WIDTH}
    text_config = tiny_text_config(model_type, **{"vocab_size": WORDS, **(text or {})})
    return tiny_prefix_lm(**{**fields, "text_config": text_config, **changes})


def regions(images: int = 3, count: int = 5, *, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(images, count, 2, generator=generator) / 2
    return {
        "region_features": torch.randn(images, count, WIDTH, generator=generator),
        "region_boxes": torch.cat([corners, corners + 0.5], dim=-1),
        "region_mask": torch.ones(images, count, dtype=torch.bool),
    }


def words(rows: int, count: int = 6, *, seed: int = 0) -> torch.Tensor:
    return torch.randint(4, WORDS, (rows, count), generator=torch.Generator().manual_seed(seed))


def only(images: dict[str, torch.Tensor], image: int, kept: Any = slice(None)) -> dict[str, torch.Tensor]:
    """One image of a batch, with some of its regions."""
    return {name: value[image : image + 1][:, kept] for name, value in images.items()}


VARIANTS: dict[str, dict[str, Any]] = {
    "gpt2": {},
    "llama": {"model_type": "llama"},
    "qwen2": {"model_type": "qwen2", "prefix_attention": "causal"},
    "opt": {"model_type": "opt", "box_embedding": False},
}


@pytest.fixture(params=VARIANTS)
def model(request) -> Model:
    return prefix_lm(**VARIANTS[request.param])


class TestForward:
    def test_batch_equals_single(self, model):
        """Images of 5, 3 and 1 regions, padding between them too, captions of 6, 4 and 2 words."""
        images, ids = regions(), words(3)
        kept, lengths = [[0, 1, 2, 3, 4], [1, 2, 4], [3]], [6, 4, 2]
        for image, real in enumerate(kept):
            images["region_mask"][image] = torch.isin(torch.arange(5), torch.tensor(real))
        mask = torch.arange(6) < torch.tensor(lengths)[:, None]
        batch = model(ids, **images, attention_mask=mask, labels=ids.masked_fill(~mask, -100), output_attentions=True)
        total = 0.0
        for n, (real, length) in enumerate(zip(kept, lengths, strict=True)):
            row = ids[n : n + 1, :length]
            alone = model(row, **only(images, n, real), labels=row, output_attentions=True)
            torch.testing.assert_close(batch.logits[n, :length], alone.logits[0], atol=1e-5, rtol=1e-5)
            weights = batch.attentions[0][n, :length]
            torch.testing.assert_close(weights[:, real], alone.attentions[0][0], atol=1e-5, rtol=1e-5)
            assert weights[:, ~images["region_mask"][n]].abs().sum() == 0
            torch.testing.assert_close(batch.label_log_probs[n, :length], alone.label_log_probs[0])
            total += alone.loss * (length - 1)
        torch.testing.assert_close(batch.loss, total / sum(length - 1 for length in lengths))

    def test_several_captions_an_image_equal_each_alone(self, model):
        images, ids = regions(), words(6)
        together = model(ids, **images).logits
        for row in range(6):
            alone = model(ids[row : row + 1], **only(images, row // 2)).logits
            torch.testing.assert_close(together[row : row + 1], alone, atol=1e-5, rtol=1e-5)

    @pytest.mark.parametrize("use_cache", [True, False])
    def test_masked_words_leave_no_trace(self, model, use_cache):
        """On the left, on the right, and both in one batch."""
        ids, images = words(2, 4), regions(2)
        mask = torch.tensor([[0, 1, 1, 1], [1, 1, 1, 0]])
        logits = model(ids, **images, attention_mask=mask, use_cache=use_cache).logits
        for row, real in enumerate((slice(1, 4), slice(0, 3))):
            alone = model(ids[row : row + 1, real], **only(images, row)).logits[0]
            torch.testing.assert_close(logits[row, real], alone, atol=1e-5, rtol=1e-5)

    @pytest.mark.parametrize("first", [True, False])
    def test_nan_in_a_padded_region_stays_there(self, model, first):
        """At the end and at the start, where a causal prefix sees nothing but padding."""
        images, place = regions(), 0 if first else 4
        images["region_mask"][:, place] = False
        clean = model(words(3), **images, labels=words(3))
        images["region_features"][:, place] = float("nan")
        images["region_boxes"][:, place] = float("nan")
        dirty = model(words(3), **images, labels=words(3))
        torch.testing.assert_close(clean.logits, dirty.logits, rtol=0, atol=0)
        dirty.loss.backward()
        gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        assert all(gradient.isfinite().all() for gradient in gradients)
        eager = model(words(3), **images, output_attentions=True).logits
        torch.testing.assert_close(eager, clean.logits, atol=1e-5, rtol=1e-5)

    @pytest.mark.parametrize("prefix_attention", ["full", "causal"])
    @pytest.mark.parametrize("model_type", ["gpt2", "llama", "qwen2"])
    def test_equals_the_language_model_run_by_hand(self, model_type, prefix_attention):
        """In float64: one pass over region embeddings and words, with the mask written out."""
        model = prefix_lm(model_type, prefix_attention=prefix_attention).double()
        images = {name: x.double() if x.is_floating_point() else x for name, x in regions(2).items()}
        images["region_mask"][1, 3:] = False
        ids, embedding = words(2, 4), model.prefix_embedding
        boxes = images["region_boxes"]
        sides = boxes[..., 2:] - boxes[..., :2]
        geometry = torch.cat([boxes, sides, sides.prod(dim=-1, keepdim=True)], dim=-1)
        features = F.layer_norm(images["region_features"], (WIDTH,), embedding.norm.weight, embedding.norm.bias)
        prefix = features @ embedding.of_features.weight.T + embedding.of_features.bias
        prefix = prefix + geometry @ embedding.of_boxes.weight.T
        states = torch.cat([prefix, model.get_input_embeddings()(ids)], dim=1)
        for row, count in enumerate((5, 3)):
            real = torch.cat([states[row : row + 1, :count], states[row : row + 1, 5:]], dim=1)
            seen = torch.ones(count + 4, count + 4).tril().bool()
            seen[:count, :count] |= prefix_attention == "full"
            mask = torch.zeros(1, 1, *seen.shape, dtype=torch.float64)
            mask = mask.masked_fill(~seen, torch.finfo(torch.float64).min)
            expected = model.language_model(inputs_embeds=real, attention_mask=mask, use_cache=False).logits
            logits = model(ids, **images).logits[row]
            torch.testing.assert_close(logits, expected[0, count:], atol=1e-10, rtol=1e-10)

    def test_regions_see_each_other_and_words_look_back(self, model):
        """Change one region: every region's state changes, or with a causal prefix those after it. Change one word:
        nothing before it changes."""
        images, ids = regions(1), words(1)
        changed = {**images, "region_features": images["region_features"].clone()}
        changed["region_features"][0, 3] += torch.randn(WIDTH, generator=torch.Generator().manual_seed(1))
        keys = [model(ids, **given).cache.layers[1].keys for given in (images, changed)]
        moved = (keys[0] - keys[1]).abs().amax(dim=(0, 1, 3)) > 1e-6
        causal = model.config.prefix_attention == "causal"
        assert moved.tolist() == [not causal] * 3 + [True] * (2 + 6)
        other = ids.clone()
        other[0, 2] = ids[0, 2] % 15 + 4
        outputs = [model(given, **images) for given in (ids, other)]
        moved = (outputs[0].logits - outputs[1].logits).abs().amax(dim=(0, 2)) > 1e-6
        assert moved.tolist() == [False] * 2 + [True] * 4
        keys = [output.cache.layers[1].keys[:, :, :5] for output in outputs]
        assert torch.equal(*keys)

    def test_order_of_regions_is_told_by_positions_alone(self):
        """A language model whose positions are zeroed takes its full prefix as a set."""
        model, images, ids = prefix_lm("gpt2"), regions(2), words(2)
        turned = {name: value[:, [3, 1, 4, 0, 2]] for name, value in images.items()}
        assert not torch.allclose(model(ids, **images).logits, model(ids, **turned).logits, atol=1e-3)
        model.language_model.transformer.wpe.weight.data.zero_()
        torch.testing.assert_close(model(ids, **images).logits, model(ids, **turned).logits, atol=1e-5, rtol=1e-5)

    def test_labels(self, model):
        """Loss and log-probabilities by hand; shifted labels, a given number of words, the pure function."""
        images, ids = regions(), words(3)
        output = model(ids, **images, labels=ids)
        expected = output.logits[:, :-1].log_softmax(dim=-1).gather(2, ids[:, 1:, None]).squeeze(2)
        torch.testing.assert_close(output.label_log_probs[:, :-1], expected)
        assert output.label_log_probs[:, -1].abs().max() == 0
        torch.testing.assert_close(output.loss, -expected.mean())
        torch.testing.assert_close(output.loss, prefix_lm_loss(output.logits, ids))
        assert output.cache is None and list(output) == ["loss", "logits", "label_log_probs"]
        torch.testing.assert_close(model(ids, **images, logits_to_keep=2).logits, output.logits[:, -2:])
        shifted = F.pad(ids[:, 1:], (0, 1), value=-100)
        torch.testing.assert_close(model(ids, **images, shift_labels=shifted).loss, output.loss)
        counted = model(ids, **images, labels=ids, num_items_in_batch=30).loss
        torch.testing.assert_close(counted, output.loss * 15 / 30)
        model.config.label_smoothing = 0.1
        log_probs = output.logits[:, :-1].log_softmax(dim=-1).flatten(0, 1)
        smoothed = smoothed_cross_entropy(log_probs, ids[:, 1:].flatten(), label_smoothing=0.1).mean()
        torch.testing.assert_close(model(ids, **images, labels=ids).loss, smoothed)

    def test_gradient_checkpointing_changes_nothing(self, model):
        """Then regions and words go through in one pass: loss, states, weights and gradients are the same."""
        images, ids = regions(), words(6)
        images["region_mask"][1, 3:] = False
        mask = torch.arange(6) < torch.tensor([6, 5, 4, 3, 2, 6])[:, None]
        without_dropout(model).train()
        found = []
        for checkpointing in (False, True):
            if checkpointing:
                checkpoint_activations(model)
            model.zero_grad()
            output = model(
                ids, **images, attention_mask=mask, labels=ids.masked_fill(~mask, -100), output_hidden_states=True
            )
            output.loss.backward()
            gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
            states = [states[mask] for states in output.hidden_states]
            weights = model(ids, **images, attention_mask=mask, output_attentions=True).attentions[0][mask]
            found.append((output.loss, output.label_log_probs, states, weights, gradients))
        torch.testing.assert_close(found[0], found[1], atol=1e-4, rtol=1e-4)

    def test_states_and_weights(self, model):
        images, ids = regions(), words(6)
        output = model(ids, **images, output_hidden_states=True, output_attentions=True)
        assert [states.shape[:2] for states in output.hidden_states] == [(6, 6)] * 3
        (weights,) = output.attentions
        assert weights.shape == (6, 6, 5)
        torch.testing.assert_close(weights.sum(dim=-1), torch.ones(6, 6))
        assert torch.equal(output.region_boxes, images["region_boxes"])
        assert model.language_model.config._attn_implementation == "sdpa"
        torch.testing.assert_close(model(ids, **images).logits, output.logits, atol=1e-5, rtol=1e-5)
        assert model(ids, **images).attentions is None
        logits, cache = model(ids, **images, return_dict=False)
        assert torch.equal(logits, model(ids, **images).logits) and cache.get_seq_length() == 6

    def test_weights_are_the_last_layers(self):
        """One head, one layer, by hand."""
        text = {"num_hidden_layers": 1, "num_attention_heads": 1}
        model, images, ids = prefix_lm(text=text), regions(1), words(1, 3)
        layer = model.language_model.transformer.h[0]
        states = torch.cat([model.prefix_embedding(model.get_regions(**images)).states, model.embed_words(ids)], dim=1)
        states = layer.ln_1(states + model.language_model.transformer.wpe.weight[:8])
        query, key, _ = layer.attn.c_attn(states).split(32, dim=2)
        scores = (query @ key.transpose(1, 2) / 32**0.5)[:, 5:, :5]
        weights = model(ids, **images, output_attentions=True).attentions[0]
        torch.testing.assert_close(weights, scores.softmax(dim=-1), atol=1e-5, rtol=1e-5)

    def test_bfloat16_autocast(self, model):
        images, ids = regions(), words(3)
        full = model(ids, **images, labels=ids)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half = model(ids, **images, labels=ids)
        half.loss.backward()
        assert abs(half.loss.item() - full.loss.item()) < 0.03 * full.loss.item()
        assert half.loss.dtype == torch.float32
        assert model.prefix_embedding.of_features.weight.grad.dtype == torch.float32

    def test_dropout_only_in_training(self):
        model, images, ids = without_dropout(prefix_lm(region_dropout=0.5)), regions(), words(3)
        torch.testing.assert_close(model(ids, **images).logits, model(ids, **images).logits)
        model.train()
        assert not torch.allclose(model(ids, **images).logits, model(ids, **images).logits)


def without_dropout(model: Model) -> Model:
    for module in model.language_model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        elif isinstance(getattr(module, "dropout", None), float):
            module.dropout = 0.0
    return model


def filled_cache() -> DynamicCache:
    """Of other words than ours, without regions."""
    cache = DynamicCache()
    cache.update(torch.zeros(3, 4, 2, 8), torch.zeros(3, 4, 2, 8), 0)
    return cache


class TestMistakes:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"region_features": torch.zeros(3, 5, 11)}, "11.*expects.*12.*another detector"),
            ({"region_mask": torch.zeros(3, 5, dtype=torch.bool)}, r"images \[0, 1, 2\].*no region at all"),
            ({"region_features": torch.zeros(3, 0, WIDTH), "region_mask": torch.ones(3, 0)}, "no region at all"),
            ({"region_features": None}, "Give either pixel_values or region_features"),
            ({"region_boxes": None}, "give region_boxes as well"),
            ({"input_ids": None}, "Give input_ids"),
            ({"input_ids": torch.ones(4, 2, dtype=torch.long)}, "4 rows of words for 3 images"),
            ({"input_ids": torch.ones(2, 2, dtype=torch.long)}, "2 rows of words for 3 images"),
            ({"input_ids": torch.ones(3, 60, dtype=torch.long)}, "5 regions and 60 words are more than the 64"),
            ({"attention_mask": torch.ones(3, 4)}, r"shape \(3, 4\).*3 rows of 6 words"),
            ({"cache": filled_cache()}, "the cache is a DynamicCache that has no room"),
        ],
    )  # fmt: skip
    def test_inputs(self, changes, message):
        with pytest.raises(ValueError, match=message):
            prefix_lm()(**({"input_ids": words(3)} | regions() | changes))

    @pytest.mark.parametrize(
        ("model_type", "fields", "message"),
        [
            ("bloom", {"n_layer": 1, "n_head": 1}, "takes no position_ids"),
            ("bert", {"num_attention_heads": 1}, "is_decoder=True"),
            ("gpt_neo", {"num_heads": 1, "num_layers": 1, "attention_types": [[["global"], 1]]}, "causal mask of its"),
            ("jamba", {"num_attention_heads": 1, "num_key_value_heads": 1, "num_hidden_layers": 1}, "into a state"),
        ],
    )  # fmt: skip
    def test_language_models_that_cannot(self, model_type, fields, message):
        text_config = AutoConfig.for_model(model_type, vocab_size=20, hidden_size=8, **fields)
        with pytest.raises(ValueError, match=message):
            Model(UpDownPrefixLMConfig(text_config=text_config))

    def test_config(self):
        with pytest.raises(ValueError, match="model_type 'resnet'"):
            UpDownPrefixLMConfig(vision_config={"model_type": "resnet"})
        with pytest.raises(ValueError, match="lora_rank=0"):
            UpDownPrefixLMConfig(lora_rank=0)
        with pytest.raises(Exception, match="tuning"):
            UpDownPrefixLMConfig(tuning="half")

    def test_attention_that_is_causal_throughout(self):
        model = prefix_lm()
        model.language_model.config._attn_implementation = "paged|sdpa"  # one without a mask of its own
        with pytest.raises(ValueError, match='regions cannot see each other.*prefix_attention="causal"'):
            model(words(3), **regions())


SETTINGS: dict[str, dict[str, Any]] = {
    "greedy": {},
    "beam": {"num_beams": 3, "num_return_sequences": 3},
    "sampling": {"do_sample": True, "num_return_sequences": 2},
}


class TestGenerate:
    @pytest.mark.parametrize("settings", SETTINGS)
    def test_cache_changes_nothing(self, model, settings):
        found, images = [], regions()
        images["region_mask"][1, 3:] = False
        for use_cache in (True, False):
            torch.manual_seed(0)
            found.append(model.generate(**images, **SETTINGS[settings], max_new_tokens=8, use_cache=use_cache).tolist())
        assert found[0] == found[1]

    @pytest.mark.parametrize("settings", ["greedy", "beam"])
    def test_batch_equals_single(self, model, settings):
        """Images of 5, 3 and 1 regions."""
        images = regions()
        images["region_mask"] = torch.arange(5) < torch.tensor([5, 3, 1])[:, None]
        batch = model.generate(**images, **SETTINGS[settings], max_new_tokens=8)
        rows = len(batch) // 3
        for n, count in enumerate((5, 3, 1)):
            alone = model.generate(**only(images, n, slice(count)), **SETTINGS[settings], max_new_tokens=8)
            mine = batch[n * rows : (n + 1) * rows]
            assert mine[:, : alone.shape[1]].tolist() == alone.tolist()
            filler = mine[:, alone.shape[1] :]
            assert ((filler == PAD) | (filler == EOS)).all()

    @pytest.mark.parametrize("settings", ["greedy", "beam"])
    def test_left_padded_prompts(self, model, settings):
        prompts = torch.tensor([[PAD, PAD, BOS, 5], [BOS, 5, 6, 7], [PAD, BOS, 8, 9]])
        mask, images = (prompts != PAD).long(), regions()
        batch = model.generate(prompts, attention_mask=mask, **images, **SETTINGS[settings], max_new_tokens=6)
        rows = len(batch) // 3
        for n, prompt in enumerate(prompts):
            given = prompt[prompt != PAD][None]
            alone = model.generate(given, **only(images, n), **SETTINGS[settings], max_new_tokens=6)
            mine = batch[n * rows : (n + 1) * rows, (prompt == PAD).sum() :]
            length = min(mine.shape[1], alone.shape[1])
            assert mine[:, :length].tolist() == alone[:, :length].tolist()

    def test_beam_search_is_exhaustive_where_it_can_be(self):
        """5 words, 4 steps, as many beams as running captions can be: the best of all captions, and their order."""
        model, images, steps = prefix_lm("llama", text={"vocab_size": 5}), regions(2), 4
        running = [word for word in range(5) if word != EOS]
        captions = [
            (*start, last)
            for length in range(1, steps + 1)
            for start in itertools.product(running, repeat=length - 1)
            for last in (range(5) if length == steps else [EOS])
        ]
        lengths = torch.tensor([len(caption) for caption in captions])
        rows = torch.tensor([[BOS, *caption, *[PAD] * (steps - len(caption))] for caption in captions])
        with torch.no_grad():
            log_probs = model(rows.repeat(2, 1), **images).logits[:, :-1].log_softmax(dim=-1)
        chosen = log_probs.gather(2, rows[:, 1:, None].repeat(2, 1, 1)).squeeze(2).view(2, len(rows), steps)
        scores = (chosen * (torch.arange(steps) < lengths[:, None])).sum(dim=2) / lengths
        best = scores.topk(3, dim=1)
        output = model.generate(
            **images, num_beams=len(running) ** (steps - 1), num_return_sequences=3, max_new_tokens=steps,
            length_penalty=1.0, early_stopping="never", return_dict_in_generate=True, output_scores=True,
        )  # fmt: skip
        for n, (sequence, score) in enumerate(zip(output.sequences, output.sequences_scores, strict=True)):
            caption = captions[best.indices[n // 3, n % 3]]
            assert sequence[1 : len(caption) + 1].tolist() == list(caption)
            assert math.isclose(score.item(), best.values[n // 3, n % 3], abs_tol=1e-5)

    @pytest.mark.parametrize("beams", [1, 3])
    def test_attention_of_the_chosen_words(self, model, beams):
        """Follow the beams: the weights equal those of the finished caption, teacher-forced."""
        images = regions()
        images["region_mask"][1, 3:] = False
        output = model.generate(
            **images, num_beams=beams, max_new_tokens=6, output_attentions=True, return_dict_in_generate=True
        )
        ids, steps = output.sequences, output.sequences.shape[1] - 1
        rows = torch.arange(3)[:, None].expand(-1, steps) if beams == 1 else output.beam_indices.clamp(min=0)
        weights = torch.stack([output.attentions[t][0][rows[:, t], -1] for t in range(steps)], dim=1)
        forced = model(ids, **images, output_attentions=True).attentions[0]
        real = (ids[:, :-1] != PAD) & (ids[:, :-1] != EOS)
        torch.testing.assert_close(weights[real], forced[:, :-1][real], atol=1e-5, rtol=1e-5)
        assert weights[1, real[1], 3:].abs().max() == 0

    def test_regions_go_through_once(self):
        """Beams and steps add words alone, and a region source runs once, without a cache too."""
        model, seen, images_seen = tiny_prefix_lm(), [], []
        model.language_model.base_model.register_forward_pre_hook(
            lambda _, args, given: seen.append(given["inputs_embeds"].shape[:2]), with_kwargs=True
        )
        model.region_source.register_forward_pre_hook(lambda _, args: images_seen.append(len(args[0])))
        pixels = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        for use_cache in (True, False):
            model.generate(pixel_values=pixels, num_beams=3, max_new_tokens=3, min_new_tokens=3, use_cache=use_cache)
        assert seen[:4] == [(2, 9), (6, 1), (6, 1), (6, 1)]
        assert images_seen == [2, 2]

    @pytest.mark.parametrize("name", ["cache", "past_key_values"])
    def test_continuing_from_a_cache(self, model, name):
        """3 words, then one more from the returned keys and values: the caption of 4 words."""
        images, ids = regions(), words(3, 3)
        settings = {"eos_token_id": None, "suppress_tokens": [PAD], "return_dict_in_generate": True}
        whole = model.generate(ids, **images, **settings, max_new_tokens=4)
        part = model.generate(ids, **images, **settings, max_new_tokens=3)
        cache = part[CACHE]
        assert isinstance(cache, PrefixCache) and cache.get_seq_length() == 5  # the last word has not been read yet
        again = model.generate(part.sequences, **images, **{name: cache}, **settings, max_new_tokens=1)
        assert again.sequences.tolist() == whole.sequences.tolist()

    def test_rows_of_a_cache(self):
        """Repeated and chosen rows keep their own image."""
        model, images, ids = prefix_lm(), regions(), words(3)
        images["region_mask"] = torch.arange(5) < torch.tensor([5, 3, 1])[:, None]
        expected = model(torch.cat([ids, ids[:, :1]], dim=1), **images).logits[:, -1]
        cache = model(ids, **images).cache
        cache.batch_repeat_interleave(2)
        cache.batch_select_indices(torch.tensor([0, 5]))
        output = model(ids[[0, 2], :1], cache=cache, output_attentions=True)
        torch.testing.assert_close(output.logits[:, -1], expected[[0, 2]], atol=1e-5, rtol=1e-5)
        assert torch.equal(output.region_boxes, images["region_boxes"][[0, 2]])

    @pytest.mark.parametrize("beams", [1, 2])
    def test_prompt_as_embeddings(self, model, beams):
        images, ids = regions(), words(3, 3)
        settings = {"num_beams": beams, "max_new_tokens": 5, "min_new_tokens": 5}
        expected = model.generate(ids, **images, **settings)
        embeddings = model.get_input_embeddings()(ids)
        assert model.generate(ids, inputs_embeds=embeddings, **images, **settings).tolist() == expected.tolist()
        alone = model.generate(inputs_embeds=embeddings, **images, **settings)
        assert alone.tolist() == expected[:, 3:].tolist()

    def test_assisted_decoding_writes_the_same(self, model):
        images = regions(1)
        expected = model.generate(**images, max_new_tokens=8, min_new_tokens=8)
        for drafts in ({"prompt_lookup_num_tokens": 2}, {"assistant_model": model}):
            drafted = model.generate(**images, max_new_tokens=8, min_new_tokens=8, **drafts)
            assert drafted.tolist() == expected.tolist()

    def test_cache_of_fixed_size_is_refused(self):
        """It would be made for the words alone."""
        with pytest.raises(ValueError, match="StaticCache that has no room for regions"):
            prefix_lm("llama").generate(**regions(), max_new_tokens=4, cache_implementation="static")

    def test_special_tokens(self):
        """Given ones, else the text config's, else EOS; none that the vocabulary does not have."""
        own = tiny_text_config("llama", pad_token_id=7)
        assert (UpDownPrefixLMConfig(text_config=own).pad_token_id, own.eos_token_id) == (7, 2)
        given = UpDownPrefixLMConfig(text_config=own, pad_token_id=0, bos_token_id=4, eos_token_id=[5, 6])
        assert (given.pad_token_id, given.bos_token_id, given.eos_token_id) == (0, 4, [5, 6])
        bare = tiny_text_config(bos_token_id=None, pad_token_id=None, eos_token_id=9)
        config = UpDownPrefixLMConfig(text_config=bare)
        assert (config.pad_token_id, config.bos_token_id, config.eos_token_id) == (9, 9, 9)
        model = prefix_lm(text={"bos_token_id": None, "pad_token_id": None, "eos_token_id": 9})
        assert model.generate(**regions(2), max_new_tokens=3)[:, 0].tolist() == [9, 9]
        beyond = UpDownPrefixLMConfig(text_config={"model_type": "gpt2", "vocab_size": 20})
        assert (beyond.pad_token_id, beyond.bos_token_id, beyond.eos_token_id) == (None, None, None)
