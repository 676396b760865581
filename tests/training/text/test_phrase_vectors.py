"""Phrases as vectors of a sentence encoder: against one phrase at a time, kept for the next start, and mistakes."""

import shutil
from pathlib import Path

import pytest
import torch
from transformers import BertModel

from tests.tiny import tiny_encoder_config, tiny_tokenizer
from training.text.phrase_vectors import PhraseVectors, TextEncoder

PHRASES = ["a red dog", "a man in a red shirt on the grass", "a dog", "a red dog"]


@pytest.fixture
def encoder(tmp_path: Path) -> str:
    torch.manual_seed(0)
    folder = tmp_path / "encoder"
    tokenizer = tiny_tokenizer()
    BertModel(tiny_encoder_config(vocab_size=len(tokenizer))).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def test_a_phrase_has_the_mean_of_its_words_states(encoder):
    vectors = PhraseVectors(encoder, PHRASES)
    model, tokenizer = BertModel.from_pretrained(encoder).eval(), tiny_tokenizer()
    assert len(vectors.rows) == 3 and vectors.size == model.config.hidden_size
    for text, found in zip(PHRASES, vectors(PHRASES), strict=True):
        with torch.no_grad():
            states = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        wanted = states.mean(dim=0) / states.mean(dim=0).norm()
        torch.testing.assert_close(found, wanted, atol=2e-3, rtol=0)  # float16
    with pytest.raises(KeyError):
        vectors(["a cat"])
    assert vectors([]).shape == (0, vectors.size) and TextEncoder(encoder)([]).shape == (0, vectors.size)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many texts each encoding made vectors of."""
    counts: list[int] = []
    encode = TextEncoder.__call__
    monkeypatch.setattr(TextEncoder, "__call__", lambda *args, **more: counts.append(len(args[1])) or encode(*args))
    return counts


def test_vectors_are_kept_for_the_same_phrases_alone(encoder, tmp_path, made):
    cache = tmp_path / "run" / "phrases.safetensors"
    first = PhraseVectors(encoder, PHRASES, cache=cache)
    made.clear()
    assert torch.equal(PhraseVectors(encoder, PHRASES[::-1], cache=cache).vectors, first.vectors) and not made
    more = PhraseVectors(encoder, [*PHRASES, "the grass"], cache=cache)
    assert made == [4] and len(more.rows) == 4
    cache.write_bytes(cache.read_bytes()[:50])  # cut short
    again = PhraseVectors(encoder, PHRASES, cache=cache)
    assert made == [4, 3] and torch.equal(again.vectors, first.vectors)


def test_an_encoder_changed_under_its_name_makes_new_vectors(encoder, tmp_path, made):
    """Other weights, another tokenizer, other settings; the same encoder in another place makes none."""
    cache = tmp_path / "phrases.safetensors"
    first = PhraseVectors(encoder, PHRASES, cache=cache)
    shutil.copytree(encoder, tmp_path / "moved")
    assert torch.equal(PhraseVectors(str(tmp_path / "moved"), PHRASES, cache=cache).vectors, first.vectors)
    assert made == [3]
    model = BertModel.from_pretrained(encoder)
    with torch.no_grad():
        model.embeddings.word_embeddings.weight.mul_(-1)
    model.save_pretrained(encoder)
    second = PhraseVectors(encoder, PHRASES, cache=cache)
    assert made == [3, 3] and not torch.allclose(second.vectors, first.vectors, atol=1e-2)
    model.config.hidden_act = "relu"
    model.config.save_pretrained(encoder)
    assert not torch.equal(PhraseVectors(encoder, PHRASES, cache=cache).vectors, second.vectors)
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["dog"])
    tokenizer.save_pretrained(encoder)
    assert TextEncoder(encoder).mark() != TextEncoder(str(tmp_path / "moved")).mark()
    tiny_tokenizer().save_pretrained(encoder)
    first_model = BertModel.from_pretrained(tmp_path / "moved")
    first_model.save_pretrained(encoder)
    assert TextEncoder(encoder).mark() == TextEncoder(str(tmp_path / "moved")).mark()


def test_what_is_no_encoder_is_named(encoder, tmp_path):
    with pytest.raises(ValueError, match="phrases.encoder: no tokenizer in"):
        PhraseVectors(str(tmp_path), PHRASES)
    for weights in Path(encoder).glob("*.safetensors"):
        weights.unlink()
    with pytest.raises(ValueError, match="phrases.encoder: no text encoder in"):
        PhraseVectors(encoder, PHRASES)
