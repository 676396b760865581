"""The prefix language model's life: what of it trains, adapters, folders, pretrained language models, pipelines."""

import sys
from typing import Any

import pytest
import tokenizers
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
    PreTrainedTokenizerFast,
    pipeline,
)

from modeling_updown import (
    UpDownImageProcessor,
    UpDownPrefixLMConfig,
    UpDownPrefixLMForImageCaptioning,
    UpDownProcessor,
    draw_attention,
)

from ..tiny import (
    CAPTIONS,
    save_tiny_prefix_lm,
    tiny_grid_config,
    tiny_image,
    tiny_prefix_lm,
    tiny_processor,
    tiny_text_config,
)
from .test_prefix_lm import VARIANTS, WIDTH, WORDS, prefix_lm, regions, words

Model = UpDownPrefixLMForImageCaptioning


@pytest.fixture(params=VARIANTS)
def model(request) -> Model:
    return prefix_lm(**VARIANTS[request.param])


class TestTuning:
    def trained(self, model: Model) -> set[str]:
        """The names of the weights that one step of training changes."""
        model.train()
        before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)
        for step in range(2):  # an adapter's first factor learns once its second is no longer 0
            model(words(3, seed=step), **regions(), labels=words(3, seed=step)).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        model.eval()
        return {name for name, parameter in model.named_parameters() if not torch.equal(before[name], parameter)}

    def test_full_and_frozen(self):
        embedding = {name for name, _ in prefix_lm().named_parameters() if name.startswith("prefix_embedding.")}
        assert len(embedding) == 5
        model = prefix_lm(tuning="frozen")
        assert self.trained(model) == embedding
        model.set_tuning("full")
        assert embedding < self.trained(model) and model.config.tuning == "full"
        assert "language_model.transformer.h.0.attn.c_attn.weight" in self.trained(model)

    @pytest.mark.parametrize("model_type", ["gpt2", "llama"])
    def test_adapters(self, model_type, tmp_path):
        """They change nothing at first, they alone train with the regions' embedding, they come back from a folder,
        and merged they are weights like all others."""
        pytest.importorskip("peft")
        plain, images, ids = prefix_lm(model_type), regions(), words(3)
        model = prefix_lm(model_type)
        model.set_tuning("lora")
        torch.testing.assert_close(model(ids, **images).logits, plain(ids, **images).logits, rtol=0, atol=0)
        trained = self.trained(model)
        adapters = {name for name in trained if ".lora_" in name}
        assert trained - adapters == {name for name in trained if name.startswith("prefix_embedding.")}
        layers = 4 if model_type == "gpt2" else 7  # c_attn, c_proj, c_fc, c_proj; q, k, v, o, gate, up, down
        assert len(adapters) == 2 * layers * 2
        expected = model(ids, **images).logits
        model.save_pretrained(tmp_path / "adapters")
        loaded = AutoModelForImageTextToText.from_pretrained(tmp_path / "adapters")
        assert loaded.config.tuning == "lora" and self.trained(loaded) == trained
        loaded = Model.from_pretrained(tmp_path / "adapters")
        torch.testing.assert_close(loaded(ids, **images).logits, expected, rtol=0, atol=1e-6)
        loaded.merge_adapters()
        assert loaded.config.tuning == "full" and all(p.requires_grad for p in loaded.parameters())
        torch.testing.assert_close(loaded(ids, **images).logits, expected, atol=1e-5, rtol=1e-5)
        assert loaded.state_dict().keys() == plain.state_dict().keys()
        loaded.save_pretrained(tmp_path / "merged")
        again = Model.from_pretrained(tmp_path / "merged")
        torch.testing.assert_close(again(ids, **images).logits, expected, atol=1e-5, rtol=1e-5)
        ids = again.generate(**images, max_new_tokens=6)
        assert ids.tolist() == model.generate(**images, max_new_tokens=6).tolist()

    def test_adapters_of_a_new_model(self):
        """Second factors start at 0; rank, scale and layers are the config's."""
        pytest.importorskip("peft")
        fields = {"lora_rank": 3, "lora_alpha": 6, "lora_target_modules": ["q_proj", "v_proj"]}
        model = prefix_lm("llama", tuning="lora", **fields)
        weights = {name: p for name, p in model.named_parameters() if ".lora_" in name}
        assert len(weights) == 2 * 2 * 2 and all(("q_proj" in name) or ("v_proj" in name) for name in weights)
        assert all(min(weight.shape) == 3 for weight in weights.values())
        assert all((".lora_B." in name) == bool(weight.eq(0).all()) for name, weight in weights.items())
        assert model.language_model.model.layers[0].self_attn.q_proj.scaling["default"] == 2.0

    @pytest.mark.parametrize(("saved", "asked"), [("full", "lora"), ("lora", "full")])
    def test_another_tuning_than_the_saved_one_is_refused(self, saved, asked, tmp_path):
        """Else the weights would not be found, and be drawn at random."""
        pytest.importorskip("peft")
        prefix_lm(tuning=saved).save_pretrained(tmp_path)
        for loader in (Model, AutoModelForImageTextToText):
            with pytest.raises(ValueError, match=rf"saved with another `tuning`.*set_tuning\('{asked}'\)"):
                loader.from_pretrained(tmp_path, tuning=asked)
        model = Model.from_pretrained(tmp_path, tuning=saved)
        expected = model(words(3), **regions()).logits
        model.set_tuning(asked)
        torch.testing.assert_close(model(words(3), **regions()).logits, expected, atol=1e-5, rtol=1e-5)

    def test_missing_peft_is_named(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "peft", None)
        with pytest.raises(ImportError, match=r"pip install 'modeling-updown\[lora\]'"):
            prefix_lm(tuning="lora")


class TestLife:
    def test_save_and_load(self, model, tmp_path):
        model.save_pretrained(tmp_path)
        loaded, info = Model.from_pretrained(tmp_path, output_loading_info=True)
        assert not info["missing_keys"] and not info["unexpected_keys"]
        assert type(AutoModelForImageTextToText.from_pretrained(tmp_path)) is Model
        for name, value in model.state_dict().items():
            assert torch.equal(value, loaded.state_dict()[name]), name
        images, ids = regions(), words(3)
        torch.testing.assert_close(loaded(ids, **images).logits, model(ids, **images).logits, rtol=0, atol=1e-5)
        half = Model.from_pretrained(tmp_path, dtype=torch.bfloat16)
        assert {parameter.dtype for parameter in half.parameters()} == {torch.bfloat16}
        assert half(ids, **images).logits.isfinite().all()

    @pytest.mark.parametrize("model_type", ["gpt2", "llama"])
    def test_from_pretrained_text(self, model_type, tmp_path):
        """The language model's weights are the pretrained ones to the bit, and written words go on as it writes."""
        torch.manual_seed(0)
        text = AutoModelForCausalLM.from_config(tiny_text_config(model_type, vocab_size=WORDS))
        text.to(torch.bfloat16).save_pretrained(tmp_path)
        model = Model.from_text_pretrained(tmp_path, region_feature_size=WIDTH, tuning="frozen")
        assert not model.training and {parameter.dtype for parameter in model.parameters()} == {torch.float32}
        for name, value in text.state_dict().items():
            assert torch.equal(value.float(), model.language_model.state_dict()[name]), name
        assert model.config.text_config.model_type == model_type and model.config.tuning == "frozen"
        assert model.generate(**regions(), max_new_tokens=3).shape == (3, 4)

    def test_pickled_text_weights_are_refused(self, tmp_path):
        tiny_text_config().save_pretrained(tmp_path)
        torch.save({}, tmp_path / "pytorch_model.bin")
        with pytest.raises(OSError, match="safetensors"):
            Model.from_text_pretrained(tmp_path)

    def test_initialisation(self):
        """The language model's own (GPT-2 scales what enters the residual path), and ours for the rest."""
        text = tiny_text_config(hidden_size=128, num_hidden_layers=8, initializer_range=0.1)
        config = UpDownPrefixLMConfig(text_config=text, region_feature_size=256, initializer_range=0.02)
        model = Model(config)
        layer = model.language_model.transformer.h[3]
        assert abs(layer.attn.c_attn.weight.std().item() - 0.1) < 0.002
        assert abs(layer.attn.c_proj.weight.std().item() - 0.1 / 16**0.5) < 0.002
        assert abs(model.prefix_embedding.of_features.weight.std().item() - 0.02) < 0.001
        assert model.language_model.lm_head.weight is model.language_model.transformer.wte.weight

    def test_pixels_equal_their_regions(self, tmp_path):
        model = tiny_prefix_lm(vision_config=tiny_grid_config(trainable_stages=1))
        pixels = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        expected = model.generate(**model.region_source(pixels), max_new_tokens=6, num_beams=2)
        assert model.generate(pixel_values=pixels, max_new_tokens=6, num_beams=2).tolist() == expected.tolist()
        model.save_pretrained(tmp_path)
        loaded = Model.from_pretrained(tmp_path).train()
        assert loaded.eval().generate(pixel_values=pixels, max_new_tokens=6, num_beams=2).tolist() == expected.tolist()
        ids = words(2)
        loaded.train()(ids, pixel_values=pixels, labels=ids).loss.backward()
        assert all(parameter.grad is None for parameter in loaded.region_source.parameters())
        loaded.unfreeze_regions()
        loaded(ids, pixel_values=pixels, labels=ids).loss.backward()
        assert any(parameter.grad is not None for parameter in loaded.region_source.parameters())

    def test_resized_vocabulary(self, model):
        images, ids = regions(), words(3)
        before = model(ids, **images).logits
        model.resize_token_embeddings(WORDS + 3)
        assert (model.config.vocab_size, model.config.text_config.vocab_size) == (23, 23)
        torch.testing.assert_close(model(ids, **images).logits[..., :WORDS], before)
        assert model.generate(**images, max_new_tokens=3).shape == (3, 4)


class TestPipeline:
    def test_image_to_text(self, tmp_path):
        """Captions with the regions behind their words, which can be drawn."""
        captioner = pipeline("image-to-text", model=str(save_tiny_prefix_lm(tmp_path)))
        images = [tiny_image(seed) for seed in range(3)]
        results = captioner(images, return_regions=True, num_beams=2, max_new_tokens=5, batch_size=2)
        model, processor = captioner.model, AutoProcessor.from_pretrained(tmp_path)
        assert type(model) is Model and type(processor) is UpDownProcessor
        ids = model.generate(**processor(images=images, return_tensors="pt"), num_beams=2, max_new_tokens=5)
        expected = [text.strip() for text in tiny_processor().batch_decode(ids, skip_special_tokens=True)]
        assert [result["generated_text"] for (result,) in results] == expected
        for (result,) in results:
            assert result["region_weights"].shape == (len(result["words"]), 9)
            torch.testing.assert_close(result["region_weights"].sum(dim=-1), torch.ones(len(result["words"])))
            assert result["region_boxes"].shape == (9, 4)
        assert draw_attention(images[0], results[0]).width > 0

    def test_any_hugging_face_tokenizer(self, tmp_path):
        """Byte pairs, whose end token is BOS and padding too, as GPT-2 has it."""
        byte_pairs = PreTrainedTokenizerFast(
            tokenizer_object=byte_pair_tokenizer(), **dict.fromkeys(("bos_token", "eos_token", "pad_token"), "<end>")
        )
        text = tiny_text_config(vocab_size=len(byte_pairs), pad_token_id=None, bos_token_id=0, eos_token_id=0)
        tiny_prefix_lm(text_config=text).save_pretrained(tmp_path)
        side = {"height": 64, "width": 64}
        UpDownProcessor(UpDownImageProcessor(size=side), byte_pairs).save_pretrained(tmp_path)
        captioner = pipeline("image-to-text", model=str(tmp_path))
        settings = {"max_new_tokens": 4, "min_new_tokens": 4, "return_token_ids": True}
        (result,) = captioner(tiny_image(), **settings)
        assert result["generated_text"] == byte_pairs.decode(result["generated_token_ids"][1:]).strip()
        assert captioner.tokenizer.encode("a brown dog") == byte_pairs.encode("a brown dog")
        (asked,) = captioner(tiny_image(), prompt="a brown dog", **settings)
        assert asked["generated_text"].startswith("a brown dog")
        words = byte_pairs.encode("a brown dog")
        assert asked["generated_token_ids"][: len(words) + 1] == [0, *words]  # as it was trained: the start token first


def byte_pair_tokenizer() -> Any:
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel()
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<end>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(CAPTIONS, trainer)
    return tokenizer
