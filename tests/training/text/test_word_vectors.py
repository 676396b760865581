"""Word vectors out of text files of every layout and out of tokenizers' models: the numbers, and what is refused."""

import gzip
import logging
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import BertConfig, BertForMaskedLM, BertModel, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from tests.tiny import drop_weights
from training.text.word_vectors import glove_vectors, tokenizer_vectors, word_vectors

VECTORS = {
    "the": [0.1, -0.25, 3.0],
    "dog": [1.0, 2.0, 3.0],
    "Dog": [4.0, 5.0, 6.0],
    "'s": [0.5, 0.5, 0.5],
    "café": [7.0, 8.0, 9.0],
    ". . .": [-1.0, -2.0, -3.0],
    "at name@domain.com": [-4.0, -5.0, -6.0],
    "2": [2.0, 2.0, 2.0],
    "\u00a0": [9.0, 9.0, 9.0],  # a no-break space is a word of GloVe's, not a blank
}


def vector_text(vectors: dict[str, list[float]] | None = None) -> str:
    return "".join(f"{word} {' '.join(map(str, row))}\n" for word, row in (vectors or VECTORS).items())


@pytest.fixture
def glove(tmp_path: Path) -> Path:
    path = tmp_path / "glove.3d.txt"
    path.write_text(vector_text(), encoding="utf-8")
    return path


def check(vectors: torch.Tensor, expected: Sequence[list[float]]) -> None:
    assert vectors.dtype == torch.float32
    assert torch.equal(vectors, torch.tensor(expected))


# -- text files --------------------------------------------------------------------------------------------------------


def test_words_get_their_vectors(glove: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="training.text.word_vectors")
    words = ["dog", "zebra", "Dog", "'s", "café", ". . .", "at name@domain.com", "\u00a0", "dog"]
    vectors, found = glove_vectors(glove, words)
    check(vectors, [VECTORS.get(word, [0.0] * 3) for word in words])
    assert found == [word for word in words if word != "zebra"]
    assert caplog.messages == [f"{glove} has vectors for 8 of 9 words (88.9 %)"]
    assert torch.equal(glove_vectors(glove, words, size=3)[0], vectors)


def test_words_are_looked_up_as_they_are_then_in_lower_case(tmp_path: Path) -> None:
    path = tmp_path / "v.txt"
    path.write_text("dog 1 2\nDog 3 4\ncat 5 6\ncat 7 8\n")
    vectors, found = glove_vectors(path, ["Dog", "DOG", "dog", "Cat", "cat", "DoG's"])
    check(vectors, [[3, 4], [1, 2], [1, 2], [5, 6], [5, 6], [0, 0]])
    assert found == ["Dog", "DOG", "dog", "Cat", "cat"]
    path.write_text("Dog 3 4\ndog 1 2\n")  # the other order
    check(glove_vectors(path, ["Dog", "dog"])[0], [[3, 4], [1, 2]])


def test_no_words_and_no_hits(glove: Path) -> None:
    vectors, found = glove_vectors(glove, [])
    assert vectors.shape == (0, 3) and found == []
    vectors, found = glove_vectors(glove, ["zebra", "", "a b"])
    assert vectors.shape == (3, 3) and not vectors.any() and found == []


@pytest.mark.parametrize(
    "text", ["2 3\ndog 1 2 3 \ncat 4 5 6 \n", "dog 1 2 3\r\n\r\ncat 4 5 6", "dog  1 2 3\ncat 4e0 5. 6"]
)
def test_headers_and_loose_blanks(text: str, tmp_path: Path) -> None:
    path = tmp_path / "wiki.vec"
    path.write_bytes(text.encode())
    check(glove_vectors(path, ["cat", "dog"])[0], [[4, 5, 6], [1, 2, 3]])


def test_archives(glove: Path, tmp_path: Path) -> None:
    packed = tmp_path / "glove.txt.gz"
    packed.write_bytes(gzip.compress(glove.read_bytes()))
    check(glove_vectors(packed, ["dog"])[0], [VECTORS["dog"]])
    with zipfile.ZipFile(tmp_path / "one.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(glove, "in/glove.3d.txt")
        archive.writestr("readme.md", "no vectors")
        archive.writestr("__MACOSX/._glove.3d.txt", "no vectors")
    check(glove_vectors(tmp_path / "one.zip", ["dog"])[0], [VECTORS["dog"]])
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
        archive.write(glove, "glove.3d.txt")
        archive.writestr("glove.1d.txt", "dog 5\n")
    check(word_vectors(tmp_path / "two.zip" / "glove.1d.txt", ["dog"])[0], [[5]])
    check(word_vectors(str(tmp_path / "two.zip" / "glove.3d.txt"), ["dog"])[0], [VECTORS["dog"]])
    with pytest.raises(ValueError, match=r"holds glove.3d.txt, glove.1d.txt: 2 texts: name one, as .*/NAME.txt"):
        glove_vectors(tmp_path / "two.zip", ["dog"])
    with pytest.raises(ValueError, match=r"two.zip holds glove.3d.txt, glove.1d.txt: not one glove.9d.txt"):
        glove_vectors(tmp_path / "two.zip" / "glove.9d.txt", ["dog"])


def test_broken_archives_are_refused(glove: Path, tmp_path: Path) -> None:
    text = vector_text({f"word{i}": np.random.default_rng(i).random(9).tolist() for i in range(500)}).encode()
    (tmp_path / "cut.gz").write_bytes(gzip.compress(text)[:-2000])
    (tmp_path / "bent.gz").write_bytes(gzip.compress(text)[:3000] + b"\0" * 3000)
    (tmp_path / "text.gz").write_bytes(text)
    (tmp_path / "text.zip").write_bytes(text)
    with zipfile.ZipFile(tmp_path / "bent.zip", "w") as archive:
        archive.writestr("v.txt", text)
    content = (tmp_path / "bent.zip").read_bytes()
    (tmp_path / "bent.zip").write_bytes(content.replace(b"word250", b"word999"))
    for name in ("cut.gz", "bent.gz", "text.gz", "text.zip", "bent.zip"):
        with pytest.raises(ValueError, match=f"{name} cannot be unpacked .* is it cut short, or encrypted"):
            glove_vectors(tmp_path / name, ["word1"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no word vectors; expected lines such as `dog"),
        (b"400000 300\n", "holds no word vectors"),
        (b"dog\n", "line 1 is not a word with numbers, separated by blanks: 'dog'"),
        (b"dog\t1\t2\n", r"line 1 is not a word with numbers, separated by blanks: 'dog\\t1"),
        (b"dog 1 2\ncat 1\n", "line 2 has 1 numbers, not 2 as the first line: 'cat 1'; is the file cut short?"),
        (b"dog 1 2\ncat 1 2 3\n", "line 2 has 3 numbers, not 2 as the first line: 'cat 1 2 3'"),
        (b"dog 1 2\ncat 1 x\n", "line 2, the word 'cat': could not convert string to float"),
        (b"2 2\ndog 1 2\ncat 1 nan\n", "line 3: the vector of 'cat' holds a number that is not finite"),
        (b"dog 1 2\ncat 1 1e39\n", "line 2: the vector of 'cat' holds a number that is not finite"),
        (b"dog 1 2\ncaf\xe9 1 2\n", "line 2 is not UTF-8: 'caf\ufffd 1 2'; save the vectors as text in UTF-8"),
        (b"3000000 2\ndog \x00\x81\x12\xfa\x00\x00\n", "line 2 is not a word with numbers"),  # word2vec's binary layout
    ],
)
def test_broken_lines_are_named(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "vectors.txt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"vectors.txt,? {message}"):
        glove_vectors(path, ["cat"])


def test_numbers_of_unwanted_words_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "vectors.txt"
    path.write_text("dog 1 2\ncat 1 nan\nbird x y\n")
    check(glove_vectors(path, ["dog"])[0], [[1, 2]])


def test_wrong_widths_and_hostile_sizes_are_refused(
    glove: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match=r"glove.3d.txt has 3 numbers per word, not 300: choose another file"):
        glove_vectors(glove, ["dog"], size=300)
    with pytest.raises(ValueError, match="there is no file .*gone.txt; GloVe's vectors are published as glove.6B.zip"):
        word_vectors(tmp_path / "gone.txt", ["dog"])
    monkeypatch.setattr("training.text.word_vectors.LARGEST_SIZE", 2)
    with pytest.raises(ValueError, match="has 3 numbers per word, more than 2"):
        glove_vectors(glove, ["dog"])
    monkeypatch.setattr("training.text.word_vectors.LONGEST_LINE_BYTES", 20)
    with pytest.raises(ValueError, match="line 6 is longer than 20 bytes; is it a text file"):
        monkeypatch.setattr("training.text.word_vectors.LARGEST_SIZE", 3)
        glove_vectors(glove, ["dog"])


# -- tokenizers --------------------------------------------------------------------------------------------------------


def save_tokenizer(tokenizer: Tokenizer, folder: Path, **special: str) -> None:
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A masked language model of 8 lower-case pieces: its embeddings stand under the prefix `bert.`."""
    folder = tmp_path_factory.mktemp("bert")
    pieces = ["[UNK]", "[PAD]", "dog", "cat", "snow", "##board", "##s", "'"]
    tokenizer = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    save_tokenizer(tokenizer, folder, unk_token="[UNK]", pad_token="[PAD]")
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    BertForMaskedLM(BertConfig(vocab_size=8, **sizes)).save_pretrained(folder)
    return folder


def test_a_word_is_the_mean_of_its_pieces(bert: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="training.text.word_vectors")
    table = BertModel.from_pretrained(bert).embeddings.word_embeddings.weight.detach()
    vectors, found = word_vectors(bert, ["dog", "Snowboards", "zebra", "cats", ""])
    assert found == ["dog", "Snowboards", "cats"]
    torch.testing.assert_close(vectors[0], table[2])
    torch.testing.assert_close(vectors[1], (table[4] + table[5] + table[6]) / 3)  # lower-cased, for want of "Snow"
    torch.testing.assert_close(vectors[3], (table[3] + table[6]) / 2)
    assert not vectors[[2, 4]].any()
    assert caplog.messages[-1] == f"{bert} has vectors for 3 of 5 words (60.0 %)"
    assert tokenizer_vectors(bert, [])[0].shape == (0, 8)


def test_only_the_embeddings_are_read(bert: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("training.text.word_vectors.AutoModel.from_pretrained", None)  # to load the model would fail
    expected = tokenizer_vectors(str(bert), ["dog", "cats"])[0]
    shards = shutil.copytree(bert, tmp_path / "shards")
    BertForMaskedLM.from_pretrained(bert).save_pretrained(shards, max_shard_size="1KB")
    (shards / "model.safetensors").unlink(missing_ok=True)
    assert (shards / "model.safetensors.index.json").is_file()
    assert torch.equal(tokenizer_vectors(shards, ["dog", "cats"])[0], expected)


def test_weights_under_strange_names_are_loaded_whole(bert: Path, tmp_path: Path, monkeypatch: Any) -> None:
    expected = tokenizer_vectors(bert, ["dog", "cats"])[0]
    other = shutil.copytree(bert, tmp_path / "other")
    tensors = load_file(bert / "model.safetensors")
    (other / "model.safetensors").unlink()
    torch.save(tensors, other / "pytorch_model.bin")
    assert torch.equal(tokenizer_vectors(other, ["dog", "cats"])[0], expected)


def test_a_byte_tokenizers_word_is_the_one_inside_a_sentence(tmp_path: Path) -> None:
    pieces = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "do", "dog", "Ġdog", "'s"]
    merges = [("d", "o"), ("do", "g"), ("Ġ", "dog"), ("'", "s")]
    tokenizer = Tokenizer(models.BPE({piece: i for i, piece in enumerate(pieces)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    save_tokenizer(tokenizer, tmp_path)
    special = {"bos_token_id": 0, "eos_token_id": 0}
    config = GPT2Config(vocab_size=len(pieces), n_embd=8, n_layer=1, n_head=2, n_positions=8, **special)
    model = GPT2LMHeadModel(config).bfloat16()
    model.save_pretrained(tmp_path)
    table = model.transformer.wte.weight.detach().float()
    vectors, found = tokenizer_vectors(tmp_path, ["dog", "'s", "ß"])
    assert found == ["dog", "'s", "ß"] and vectors.dtype == torch.float32
    assert torch.equal(vectors[0], table[pieces.index("Ġdog")])
    assert torch.equal(vectors[1], table[pieces.index("'s")])  # one piece, where " 's" has two
    both = [pieces.index(piece) for piece in ("Ã", "Ł")]  # its bytes, without the blank that would be a third
    torch.testing.assert_close(vectors[2], table[both].mean(0))


def test_what_has_no_word_vectors_is_refused(bert: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no tokenizer can be loaded from .*none"):
        word_vectors(tmp_path / "none", ["dog"])
    alone = tmp_path / "alone"
    PreTrainedTokenizerFast.from_pretrained(bert).save_pretrained(alone)
    with pytest.raises(ValueError, match="no word embeddings can be read from .*alone"):
        tokenizer_vectors(alone, ["dog"])
    cut = shutil.copytree(bert, tmp_path / "cut")
    (cut / "model.safetensors").write_bytes((bert / "model.safetensors").read_bytes()[:1000])
    with pytest.raises(ValueError, match="no word embeddings can be read from .*cut"):
        tokenizer_vectors(cut, ["dog"])
    without = shutil.copytree(bert, tmp_path / "without")
    drop_weights(without, "bert.embeddings.word_embeddings")
    with pytest.raises(ValueError, match="read from .*without: its weights lack embeddings.word_embeddings.weight"):
        tokenizer_vectors(without, ["dog"])
    wrong = shutil.copytree(bert, tmp_path / "wrong")
    longer = Tokenizer(models.WordLevel({"[UNK]": 0, "dog": 8}, unk_token="[UNK]"))
    longer.pre_tokenizer, longer.normalizer = pre_tokenizers.Whitespace(), normalizers.Lowercase()
    save_tokenizer(longer, wrong, unk_token="[UNK]")
    with pytest.raises(ValueError, match="the tokenizer has the id 8, but the model embeds 8 pieces"):
        tokenizer_vectors(wrong, ["dog"])
    broken = shutil.copytree(bert, tmp_path / "broken")
    tensors = load_file(bert / "model.safetensors")
    tensors["bert.embeddings.word_embeddings.weight"][2] = float("nan")
    save_file(tensors, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="broken: the embeddings hold numbers that are not finite"):
        tokenizer_vectors(broken, ["dog"])
    assert tokenizer_vectors(broken, ["cat"])[1] == ["cat"]
