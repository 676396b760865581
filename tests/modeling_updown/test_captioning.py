"""The captioner's own promises: a batch is its members, a cache changes nothing, beam search is exhaustive where it can
be, padding cannot be seen, mistakes are named. Parity with the reference is in test_captioning_parity.py."""

import itertools
import math
from typing import Any

import pytest
import torch
from transformers import AutoModelForImageTextToText
from transformers.cache_utils import DynamicCache

from modeling_updown import UpDownCaptioningConfig, UpDownForImageCaptioning
from modeling_updown.compat_updown import CACHE

from ..tiny import tiny_captioner, tiny_captioning_config, tiny_grid_config

WIDTH, WORDS, BOS, EOS, PAD = 12, 20, 1, 2, 0


def captioner(**changes: Any) -> UpDownForImageCaptioning:
    """Fed with regions of width 12; 20 words."""
    return tiny_captioner(**{"vision_config": None, "region_feature_size": WIDTH, "vocab_size": WORDS, **changes})


def regions(images: int = 3, count: int = 5, *, seed: int = 0, width: int = WIDTH) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(images, count, 2, generator=generator) / 2
    return {
        "region_features": torch.randn(images, count, width, generator=generator),
        "region_boxes": torch.cat([corners, corners + 0.5], dim=-1),
        "region_mask": torch.ones(images, count, dtype=torch.bool),
    }


def words(rows: int, count: int = 6, *, seed: int = 0) -> torch.Tensor:
    return torch.randint(4, WORDS, (rows, count), generator=torch.Generator().manual_seed(seed))


VARIANTS: dict[str, dict[str, Any]] = {
    "paper": {},
    "ruotianluo": {"region_embedding_size": 10, "word_embedding_relu": True, "attention_bias": True},
    "boxes": {"region_embedding_size": 10, "box_embedding": True},
}


@pytest.fixture(params=VARIANTS)
def model(request) -> UpDownForImageCaptioning:
    return captioner(**VARIANTS[request.param])


class TestForward:
    def test_batch_equals_single(self, model):
        """Images of 5, 3 and 1 regions, captions of 6, 4 and 2 words: padded together, and each alone."""
        images, ids = regions(), words(3)
        counts, lengths = [5, 3, 1], [6, 4, 2]
        images["region_mask"] = torch.arange(5) < torch.tensor(counts)[:, None]
        mask = torch.arange(6) < torch.tensor(lengths)[:, None]
        labels = ids.masked_fill(~mask, -100)
        batch = model(ids, **images, attention_mask=mask, labels=labels, output_attentions=True)
        total = 0.0
        for n, (count, length) in enumerate(zip(counts, lengths, strict=True)):
            one = {name: value[n : n + 1, :count] for name, value in images.items()}
            alone = model(ids[n : n + 1, :length], **one, labels=ids[n : n + 1, :length], output_attentions=True)
            torch.testing.assert_close(batch.logits[n, :length], alone.logits[0], atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(
                batch.attentions[0][n, :length, :count], alone.attentions[0][0], atol=1e-5, rtol=1e-5
            )
            assert batch.attentions[0][n, :, count:].abs().max() == 0 if count < 5 else True
            torch.testing.assert_close(batch.label_log_probs[n, :length], alone.label_log_probs[0])
            total += alone.loss * (length - 1)
        torch.testing.assert_close(batch.loss, total / sum(length - 1 for length in lengths))

    def test_several_captions_an_image_equal_each_alone(self, model):
        images, ids = regions(), words(6)
        together = model(ids, **images).logits
        for row in range(6):
            one = {name: value[row // 2 : row // 2 + 1] for name, value in images.items()}
            torch.testing.assert_close(together[row : row + 1], model(ids[row : row + 1], **one).logits)

    def test_finished_captions_are_skipped_without_a_trace(self, model):
        """40 captions of 1 to 8 words: with the mask (rows leave as they end), and with every row run to the end."""
        images, ids = regions(8), words(40, 8)
        lengths = torch.arange(40) % 8 + 1
        mask = torch.arange(8) < lengths[:, None]
        labels = ids.masked_fill(~mask, -100)
        gradients = []
        for attention_mask in (mask, None):
            model.zero_grad()
            output = model(ids, **images, attention_mask=attention_mask, labels=labels, output_hidden_states=True)
            output.loss.backward()
            gradients.append([parameter.grad.clone() for parameter in model.parameters()])
            if attention_mask is not None:
                skipped = output
        torch.testing.assert_close(skipped.loss, output.loss)
        torch.testing.assert_close(skipped.logits[mask], output.logits[mask], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(skipped.label_log_probs, output.label_log_probs, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(gradients[0], gradients[1], atol=1e-5, rtol=1e-4)
        assert skipped.logits[lengths == 1, 7].abs().max() == 0

    @pytest.mark.parametrize("use_cache", [True, False])
    def test_masked_words_leave_no_trace(self, model, use_cache):
        """On the left, on the right, and both in one batch."""
        ids, images = words(2, 4), regions(2)
        mask = torch.tensor([[0, 1, 1, 1], [1, 1, 1, 0]])
        logits = model(ids, **images, attention_mask=mask, use_cache=use_cache).logits
        for row, real in enumerate((slice(1, 4), slice(0, 3))):
            one = {name: value[row : row + 1] for name, value in images.items()}
            torch.testing.assert_close(logits[row, real], model(ids[row : row + 1, real], **one).logits[0])

    def test_nan_in_a_padded_region_stays_there(self, model):
        images = regions()
        images["region_mask"][:, 4] = False
        clean = model(words(3), **images, labels=words(3))
        images["region_features"][:, 4] = float("nan")
        images["region_boxes"][:, 4] = float("nan")
        model.zero_grad()
        dirty = model(words(3), **images, labels=words(3))
        torch.testing.assert_close(clean.logits, dirty.logits, rtol=0, atol=0)
        dirty.loss.backward()
        assert all(parameter.grad.isfinite().all() for parameter in model.parameters())

    def test_mean_region_is_of_the_real_ones(self):
        """An image of one region twice and a padded one is the image of that region once."""
        model, images = captioner(), regions(1, 3)
        images["region_features"][:, 1] = images["region_features"][:, 0]
        images["region_mask"][:, 2] = False
        once = {name: value[:, :1] for name, value in images.items()}
        torch.testing.assert_close(model(words(1), **images).logits, model(words(1), **once).logits)

    def test_equations_of_the_paper(self):
        """Equations 1 to 7 with torch's own LSTM cells, and every gate matrix cut from ours."""
        model, images, ids = captioner(), regions(2), words(2, 4)
        h, v = 32, images["region_features"]
        cells = [torch.nn.LSTMCell(h + WIDTH + 16, h), torch.nn.LSTMCell(WIDTH + h, h)]
        state = model.attention_lstm_state.weight
        cells[0].weight_ih.data = torch.cat(
            [state[:, :h], model.attention_lstm_photo.weight, model.attention_lstm_word.weight], dim=1
        )
        cells[0].weight_hh.data, cells[0].bias_ih.data = state[:, h:], model.attention_lstm_photo.bias
        language = model.language_lstm.weight
        cells[1].weight_ih.data, cells[1].weight_hh.data = language[:, : WIDTH + h], language[:, WIDTH + h :]
        cells[1].bias_ih.data = model.language_lstm.bias
        cells[0].bias_hh.data, cells[1].bias_hh.data = torch.zeros(4 * h), torch.zeros(4 * h)
        h1 = c1 = h2 = c2 = torch.zeros(2, h)
        logits = []
        for word in ids.T:
            h1, c1 = cells[0](torch.cat([h2, v.mean(dim=1), model.embed_tokens.weight[word]], dim=1), (h1, c1))
            attention = model.attention
            hidden = v @ attention.project_regions.weight.T + (h1 @ attention.project_query.weight.T)[:, None]
            alpha = (hidden.tanh() @ attention.score.weight.T).softmax(dim=1)  # (2, R, 1)
            h2, c2 = cells[1](torch.cat([(alpha * v).sum(dim=1), h1], dim=1), (h2, c2))
            logits.append(h2 @ model.lm_head.weight.T + model.lm_head.bias)
        torch.testing.assert_close(model(ids, **images).logits, torch.stack(logits, dim=1), atol=1e-5, rtol=1e-5)

    def test_label_log_probs_and_logits_to_keep(self, model):
        images, ids = regions(), words(3)
        output = model(ids, **images, labels=ids)
        log_probs = output.logits.log_softmax(dim=-1)[:, :-1]
        expected = log_probs.gather(2, ids[:, 1:, None]).squeeze(2)
        torch.testing.assert_close(output.label_log_probs[:, :-1], expected)
        assert output.label_log_probs[:, -1].abs().max() == 0
        torch.testing.assert_close(output.loss, -expected.mean())
        torch.testing.assert_close(model(ids, **images, logits_to_keep=2).logits, output.logits[:, -2:])
        shifted = torch.nn.functional.pad(ids[:, 1:], (0, 1), value=-100)
        torch.testing.assert_close(model(ids, **images, shift_labels=shifted).loss, output.loss)
        counted = model(ids, **images, labels=ids, num_items_in_batch=30).loss
        torch.testing.assert_close(counted, output.loss * 15 / 30)

    def test_scheduled_sampling(self):
        """0 is teacher forcing; at 1 the words fed are the model's own, whatever the caption says; only in training."""
        model, images = captioner().train(), regions()
        model.scheduled_sampling_probability = 1.0
        ids = words(3)
        other = torch.cat([ids[:, :1], words(3, 5, seed=1)], dim=1)
        outputs = []
        for given in (ids, other):
            torch.manual_seed(0)
            outputs.append(model(given, **images, labels=ids).logits)
        torch.testing.assert_close(outputs[0], outputs[1])
        assert not torch.allclose(outputs[0], model.eval()(ids, **images, labels=ids).logits)

    def test_dropout_only_in_training(self):
        model = captioner(region_embedding_size=10, region_dropout=0.5, word_dropout=0.5, output_dropout=0.5)
        images, ids = regions(), words(3)
        torch.testing.assert_close(model(ids, **images).logits, model(ids, **images).logits)
        model.train()
        assert not torch.allclose(model(ids, **images).logits, model(ids, **images).logits)

    def test_bfloat16_autocast(self, model):
        images, ids = regions(), words(3)
        full = model(ids, **images, labels=ids)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half = model(ids, **images, labels=ids)
        half.loss.backward()
        assert abs(half.loss.item() - full.loss.item()) < 0.03 * full.loss.item()
        assert half.loss.dtype == torch.float32
        assert model.language_lstm.weight.grad.dtype == torch.float32

    def test_compiled_forward(self):
        model, images, ids = captioner(), regions(), words(3)
        compiled, results = torch.compile(model, backend="aot_eager"), []
        for run in (model, compiled):
            model.zero_grad()
            logits = run(ids, **images).logits
            logits.square().mean().backward()
            results.append((logits, model.language_lstm.weight.grad, model.attention_lstm_state.weight.grad))
        torch.testing.assert_close(results[1], results[0], atol=1e-5, rtol=1e-5)


class TestMistakes:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"region_features": torch.zeros(3, 5, 11)}, "11.*expects.*12.*another detector"),
            ({"region_features": torch.zeros(5, WIDTH)}, r"\(5, 12\)"),
            ({"region_mask": torch.zeros(3, 5, dtype=torch.bool)}, r"images \[0, 1, 2\].*no region at all"),
            ({"region_mask": torch.ones(3, 4, dtype=torch.bool)}, r"region_mask has shape \(3, 4\)"),
            ({"region_features": None}, "Give either pixel_values or region_features"),
            ({"pixel_values": torch.zeros(3, 3, 8, 8)}, "Give either"),
            ({"pixel_values": torch.zeros(3, 3, 8, 8), "region_features": None}, "owns no region source"),
            ({"input_ids": torch.ones(4, 2, dtype=torch.long)}, "4 rows of words for 3 images"),
            ({"input_ids": torch.ones(2, 2, dtype=torch.long)}, "2 rows of words for 3 images"),
        ],
    )
    def test_inputs(self, changes, message):
        with pytest.raises(ValueError, match=message):
            captioner()(**({"input_ids": words(3)} | regions() | changes))

    def test_one_image_without_regions_is_named(self):
        images = regions()
        images["region_mask"][1] = False
        with pytest.raises(ValueError, match=r"images \[1\] of the batch"):
            captioner().generate(**images)

    def test_config(self):
        with pytest.raises(ValueError, match="give region_embedding_size as well"):
            UpDownCaptioningConfig(box_embedding=True)
        with pytest.raises(ValueError, match="model_type 'resnet'"):
            UpDownCaptioningConfig(vision_config={"model_type": "resnet"})
        with pytest.raises(ValueError, match="owns no region source"):
            captioner().unfreeze_regions()
        with pytest.raises(ValueError, match="give region_boxes as well"):
            captioner(**VARIANTS["boxes"])(words(3), region_features=regions()["region_features"])


SETTINGS: dict[str, dict[str, Any]] = {
    "greedy": {},
    "beam": {"num_beams": 3, "num_return_sequences": 3},
    "sampling": {"do_sample": True, "num_return_sequences": 2},
    "beam sampling": {"do_sample": True, "num_beams": 2},
    "constrained": {"num_beams": 3, "no_repeat_ngram_size": 2, "min_new_tokens": 5, "bad_words_ids": [[7]]},
}


class TestGenerate:
    @pytest.mark.parametrize("settings", SETTINGS)
    def test_cache_changes_nothing(self, model, settings):
        found = []
        for use_cache in (True, False):
            torch.manual_seed(0)
            found.append(
                model.generate(**regions(), **SETTINGS[settings], max_new_tokens=8, use_cache=use_cache).tolist()
            )
        assert found[0] == found[1]

    @pytest.mark.parametrize("settings", ["greedy", "beam"])
    def test_batch_equals_single(self, model, settings):
        """Images of 5, 3 and 1 regions."""
        images = regions()
        images["region_mask"] = torch.arange(5) < torch.tensor([5, 3, 1])[:, None]
        batch = model.generate(**images, **SETTINGS[settings], max_new_tokens=8)
        rows = len(batch) // 3
        for n, count in enumerate((5, 3, 1)):
            one = {name: value[n : n + 1, :count] for name, value in images.items()}
            alone = model.generate(**one, **SETTINGS[settings], max_new_tokens=8)
            mine = batch[n * rows : (n + 1) * rows]
            assert mine[:, : alone.shape[1]].tolist() == alone.tolist()
            filler = mine[:, alone.shape[1] :]  # transformers' beam search fills with EOS where PAD is 0
            assert ((filler == PAD) | (filler == EOS)).all()

    @pytest.mark.parametrize("settings", ["greedy", "beam"])
    def test_left_padded_prompts(self, model, settings):
        prompts = torch.tensor([[PAD, PAD, BOS, 5], [BOS, 5, 6, 7], [PAD, BOS, 8, 9]])
        mask, images = (prompts != PAD).long(), regions()
        batch = model.generate(prompts, attention_mask=mask, **images, **SETTINGS[settings], max_new_tokens=6)
        rows = len(batch) // 3
        for n, prompt in enumerate(prompts):
            one = {name: value[n : n + 1] for name, value in images.items()}
            alone = model.generate(prompt[prompt != PAD][None], **one, **SETTINGS[settings], max_new_tokens=6)
            start = (prompt == PAD).sum()
            mine = batch[n * rows : (n + 1) * rows, start:]
            length = min(mine.shape[1], alone.shape[1])
            assert mine[:, :length].tolist() == alone[:, :length].tolist()

    def test_long_padding_on_the_left(self, model):
        """As transformers' own test has it: 32 padding tokens change no logit."""
        ids, images = words(3), regions()
        padded = torch.nn.functional.pad(ids, (32, 0), value=PAD)
        mask = (torch.arange(38) >= 32).long().expand(3, -1)
        for use_cache in (True, False):
            logits = model(padded, attention_mask=mask, **images, use_cache=use_cache).logits[:, -1]
            torch.testing.assert_close(logits, model(ids, **images).logits[:, -1], atol=1e-5, rtol=1e-5)

    @pytest.mark.parametrize("length_penalty", [0.0, 1.0])
    def test_beam_search_is_exhaustive_where_it_can_be(self, length_penalty):
        """5 words, 4 steps, as many beams as running captions can be: the best of all captions, and their order."""
        model, images, steps = captioner(vocab_size=5), regions(4), 4
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
            log_probs = model(rows.repeat(4, 1), **images).logits[:, :-1].log_softmax(dim=-1)
        chosen = log_probs.gather(2, rows[:, 1:, None].repeat(4, 1, 1)).squeeze(2).view(4, len(rows), steps)
        scores = (chosen * (torch.arange(steps) < lengths[:, None])).sum(dim=2) / lengths**length_penalty
        best = scores.topk(3, dim=1)
        beams = len(running) ** (steps - 1)
        output = model.generate(
            **images,
            num_beams=beams,
            num_return_sequences=3,
            max_new_tokens=steps,
            length_penalty=length_penalty,
            early_stopping="never",
            return_dict_in_generate=True,
            output_scores=True,
        )
        for n, (sequence, score) in enumerate(zip(output.sequences, output.sequences_scores, strict=True)):
            caption = captions[best.indices[n // 3, n % 3]]
            assert sequence[1 : len(caption) + 1].tolist() == list(caption)
            assert (sequence[len(caption) + 1 :] == EOS).all()  # transformers' filler where PAD is 0
            assert math.isclose(score.item(), best.values[n // 3, n % 3], abs_tol=1e-5)

    def test_early_stopping_keeps_the_best_without_length_penalty(self):
        """With length_penalty=0 a longer caption cannot win later, so False and "never" agree; True may stop sooner."""
        model, images = captioner(), regions(6)
        settings = {"num_beams": 4, "length_penalty": 0.0, "max_new_tokens": 8, "return_dict_in_generate": True}
        found = {
            early_stopping: model.generate(**images, **settings, early_stopping=early_stopping, output_scores=True)
            for early_stopping in (False, "never", True)
        }
        assert found[False].sequences.tolist() == found["never"].sequences.tolist()
        assert (found[True].sequences_scores <= found["never"].sequences_scores + 1e-6).all()

    @pytest.mark.parametrize("beams", [1, 4])
    def test_attention_of_the_chosen_words(self, model, beams):
        """Follow the beams: weights sum to 1 and equal those of the finished caption, teacher-forced."""
        images = regions()
        images["region_mask"][1, 3:] = False
        output = model.generate(
            **images, num_beams=beams, max_new_tokens=7, output_attentions=True, return_dict_in_generate=True,
            output_scores=True,
        )  # fmt: skip
        ids = output.sequences
        rows = torch.arange(3)[:, None].expand(-1, len(output.attentions))
        rows = rows if beams == 1 else output.beam_indices.clamp(min=0)
        steps = ids.shape[1] - 1
        weights = torch.stack([output.attentions[t][0][rows[:, t], -1] for t in range(steps)], dim=1)
        torch.testing.assert_close(weights.sum(dim=-1), torch.ones(3, steps))
        forced = model(ids, **images, output_attentions=True).attentions[0]
        real = (ids[:, :-1] != PAD) & (ids[:, :-1] != EOS)
        torch.testing.assert_close(weights[real], forced[:, :-1][real], atol=1e-5, rtol=1e-5)
        assert weights[1, :, 3:].abs().max() == 0
        if beams > 1:
            scores = model.compute_transition_scores(ids, output.scores, output.beam_indices, normalize_logits=False)
            lengths = (output.beam_indices >= 0).sum(dim=1)
            torch.testing.assert_close(scores.sum(dim=1) / lengths, output.sequences_scores, atol=1e-5, rtol=1e-5)

    def test_sampling_follows_the_seed(self):
        model, images = captioner(), regions()
        drawn = []
        for seed in (0, 0, 1):
            torch.manual_seed(seed)
            drawn.append(model.generate(**images, do_sample=True, num_return_sequences=4, max_new_tokens=8).tolist())
        assert drawn[0] == drawn[1] != drawn[2]

    def test_sampling_draws_the_models_distribution(self):
        """2,000 first words of one image against its softmax."""
        model, images = captioner(initializer_range=0.3), regions(1)
        torch.manual_seed(0)
        drawn = model.generate(**images, do_sample=True, top_k=0, num_return_sequences=2000, max_new_tokens=1)[:, 1]
        expected = model(torch.tensor([[BOS]]), **images).logits[0, -1].softmax(dim=-1)
        observed = torch.bincount(drawn, minlength=WORDS) / 2000
        assert (observed - expected).abs().max() < 4 * (0.25 / 2000) ** 0.5

    @pytest.mark.parametrize("name", ["cache", "past_key_values"])
    def test_continuing_from_a_cache(self, model, name):
        """3 words, then one more from the returned state: the caption of 4 words."""
        images, ids = regions(), words(3, 3)
        settings = {"do_sample": False, "eos_token_id": None, "return_dict_in_generate": True}
        whole = model.generate(ids, **images, **settings, max_new_tokens=4)
        part = model.generate(ids, **images, **settings, max_new_tokens=3)
        assert part[CACHE].get_seq_length() == 5  # the last word has not been read yet
        again = model.generate(part.sequences, **images, **{name: part[CACHE]}, **settings, max_new_tokens=1)
        assert again.sequences.tolist() == whole.sequences.tolist()
        for layer, expected in zip(again[CACHE].layers, whole[CACHE].layers, strict=True):
            torch.testing.assert_close(layer.keys, expected.keys)
            torch.testing.assert_close(layer.values, expected.values)

    @pytest.mark.parametrize("beams", [1, 2])
    def test_prompt_as_embeddings(self, model, beams):
        """`inputs_embeds` in place of the prompt's ids: the same caption, with the ids given beside them or not."""
        images, ids = regions(), words(3, 3)
        settings = {"num_beams": beams, "max_new_tokens": 5, "min_new_tokens": 5}
        expected = model.generate(ids, **images, **settings)
        embeddings = model.get_input_embeddings()(ids)
        assert model.generate(ids, inputs_embeds=embeddings, **images, **settings).tolist() == expected.tolist()
        alone = model.generate(inputs_embeds=embeddings, **images, **settings)
        assert alone.tolist() == expected[:, 3:].tolist()

    def test_wrong_cache_is_refused(self):
        with pytest.raises((ValueError, AttributeError)):
            captioner().generate(**regions(), cache=DynamicCache())

    @pytest.mark.parametrize("settings", [{"num_beam_groups": 2, "num_beams": 4, "diversity_penalty": 0.5}])
    def test_diverse_beam_search_has_left_transformers(self, settings):
        """transformers 5 takes it only as code from its hub, which is never run unasked; it says so."""
        with pytest.raises(ValueError, match="(?i)trust_remote_code|custom_generate|transformers-community"):
            captioner().generate(**regions(), **settings, max_new_tokens=4)

    def test_assisted_decoding_is_refused(self):
        """A recurrent state cannot be rolled back."""
        model = captioner()
        with pytest.raises(ValueError, match="(?i)assisted|stateful"):
            model.generate(**regions(1), assistant_model=captioner(), max_new_tokens=4)


class TestLife:
    def test_save_and_load(self, model, tmp_path):
        model.save_pretrained(tmp_path)
        loaded = AutoModelForImageTextToText.from_pretrained(tmp_path)
        assert type(loaded) is UpDownForImageCaptioning
        images, ids = regions(), words(3)
        for name, value in model.state_dict().items():
            assert torch.equal(value, loaded.state_dict()[name]), name
        torch.testing.assert_close(loaded(ids, **images).logits, model(ids, **images).logits, rtol=0, atol=1e-5)
        assert [path.name for path in tmp_path.glob("*.safetensors")] == ["model.safetensors"]

    def test_pixels_equal_their_regions(self, tmp_path):
        """A model that owns its source captions images as it captions that source's regions, after loading too."""
        model = tiny_captioner()
        pixels = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        expected = model.generate(**model.region_source(pixels), max_new_tokens=6, num_beams=2)
        assert model.generate(pixel_values=pixels, max_new_tokens=6, num_beams=2).tolist() == expected.tolist()
        model.save_pretrained(tmp_path)
        loaded = UpDownForImageCaptioning.from_pretrained(tmp_path)
        assert loaded.generate(pixel_values=pixels, max_new_tokens=6, num_beams=2).tolist() == expected.tolist()
        torch.testing.assert_close(loaded.get_regions(pixels), model.get_regions(pixels), rtol=0, atol=0)

    def test_gradient_reaches_the_region_source_once_unfrozen(self):
        model = tiny_captioner(vision_config=tiny_grid_config(trainable_stages=1)).train()
        pixels, ids = torch.rand(2, 3, 64, 64), words(2)
        model(ids, pixel_values=pixels, labels=ids).loss.backward()
        assert all(parameter.grad is None for parameter in model.region_source.parameters())
        model.unfreeze_regions()
        model(ids, pixel_values=pixels, labels=ids).loss.backward()
        trained = {name for name, p in model.region_source.named_parameters() if p.grad is not None}
        assert trained and all(name.startswith("backbone.layer4") for name in trained)
        assert model.config.freeze_regions is False
        assert not model.region_source.backbone.training

    def test_resized_vocabulary(self):
        model, images, ids = captioner(), regions(), words(3)
        before = model(ids, **images).logits
        model.resize_token_embeddings(WORDS + 3)
        assert (model.config.vocab_size, model.lm_head.out_features, len(model.lm_head.bias)) == (23, 23, 23)
        torch.testing.assert_close(model(ids, **images).logits[..., :WORDS], before)
        model.generate(**images, max_new_tokens=3)

    def test_initialisation(self):
        """Forget gates start at 1, weights at 0.01 (both the paper's), other biases at 0."""
        config = tiny_captioning_config(vision_config=None, initializer_range=0.01, hidden_size=64)
        model = UpDownForImageCaptioning(config)
        for lstm in (model.attention_lstm_photo, model.language_lstm):
            gates = lstm.bias.view(4, 64)
            assert gates[1].eq(1).all() and gates[[0, 2, 3]].eq(0).all()
        assert abs(model.language_lstm.weight.std().item() - 0.01) < 5e-4

    def test_published_number_of_weights(self):
        """The paper's captioner on 36 regions of 2048 with 10,010 words, by hand."""
        with torch.device("meta"):
            model = UpDownForImageCaptioning(UpDownCaptioningConfig())
        attention_lstm = 4000 * (1000 + 2048 + 1000 + 1000) + 4000
        attention = 512 * 2048 + 512 * 1000 + 512
        language_lstm = 4000 * (2048 + 1000 + 1000) + 4000
        words_in_and_out = 10010 * 1000 + 10010 * 1000 + 10010
        assert model.num_parameters() == attention_lstm + attention + language_lstm + words_in_and_out
