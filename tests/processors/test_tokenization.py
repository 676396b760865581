"""The word tokenizer: Karpathy's tokens exactly, given vocabularies, training rows for any tokenizer."""

import json
import re
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from processors.tokenization_updown import UpDownTokenizer, caption_token_ids, count_words
from tests.shared_files import shared

CAPTIONS = ["A dog runs.", "a cat runs, fast", "A dog sleeps"]
REFERENCE_VOCABULARY: dict[int | str, str] = {0: "<end>", "1": "a", "2": "dog", "3": "UNK"}


@pytest.fixture
def tokenizer() -> UpDownTokenizer:
    return UpDownTokenizer.from_captions(CAPTIONS, min_count=1)


@pytest.fixture
def reference_tokenizer() -> UpDownTokenizer:
    ends = dict.fromkeys(["pad_token", "bos_token", "eos_token"], "<end>")
    return UpDownTokenizer.from_vocabulary(REFERENCE_VOCABULARY, unk_token="UNK", **ends)


def split_words(text: str) -> list[str]:
    """The slow twin of the tokenizer's split, for text without combining marks."""
    return re.findall(r"\w+", text.lower())


def test_words_are_karpathys_tokens() -> None:
    images = json.loads(shared("data/flickr8k/dataset_flickr8k.json").read_text())["images"]
    sentences = [sentence for image in images for sentence in image["sentences"]][::4]
    words = sorted({token for sentence in sentences for token in sentence["tokens"]})
    tokenizer = UpDownTokenizer.from_vocabulary(["<pad>", "<bos>", "<eos>", "<unk>", *words])
    rows = tokenizer([sentence["raw"] for sentence in sentences], add_special_tokens=False).input_ids
    tokens = [tokenizer.convert_ids_to_tokens(row) for row in rows]
    exact = sum(row == sentence["tokens"] for row, sentence in zip(tokens, sentences, strict=True))
    assert exact == len(sentences) == 10_000


def test_ids_follow_frequency_then_the_alphabet(tokenizer: UpDownTokenizer) -> None:
    assert tokenizer.convert_ids_to_tokens(list(range(10))) == [
        *("<pad>", "<bos>", "<eos>", "<unk>"),
        *("a", "dog", "runs", "cat", "fast", "sleeps"),
    ]
    assert len(tokenizer) == tokenizer.vocab_size == 10
    reversed_captions = UpDownTokenizer.from_captions(reversed(CAPTIONS), min_count=1)
    assert reversed_captions.get_vocab() == tokenizer.get_vocab()


def test_min_count_keeps_words_seen_exactly_that_often() -> None:
    words = UpDownTokenizer.from_captions(["dog cat"] * 5 + ["dog bird"] * 4).get_vocab()
    assert set(words) == {"<pad>", "<bos>", "<eos>", "<unk>", "dog", "cat"}
    with pytest.raises(ValueError, match="no word occurs 5 times .* lower min_count"):
        UpDownTokenizer.from_captions(["dog"] * 4)


def test_count_words_matches_a_slow_count() -> None:
    captions = ["The man's T-shirt is RED, red!", "50% off; man_made", "", "..."]
    words = [word for caption in captions for word in split_words(caption)]
    assert count_words(captions) == {word: words.count(word) for word in set(words)}
    assert list(count_words(captions))[:3] == ["red", "50", "is"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("CAFÉ cafe\u0301", ["café", "café"]),  # composed and decomposed
        ("Ｆｕｌｌ ﬁre ²", ["full", "fire", "2"]),  # NFKC: full width, ligature, superscript
        ("ÄRGER straße ΣΟΦΟΣ", ["ärger", "straße", "σοφοσ"]),
        ("हिन्दी कुत्ता", ["हिन्दी", "कुत्ता"]),  # combining vowel signs stay inside their word
        ("dog🐶cat\x00bird\u00a0fish\n", ["dog", "cat", "bird", "fish"]),
        ("a—b “c” d…e", ["a", "b", "c", "d", "e"]),
        ("?!", []),
    ],
)
def test_ugly_text(text: str, words: list[str]) -> None:
    assert list(count_words([text])) == sorted(set(words), key=lambda word: (-words.count(word), word))


def test_prompt_begins_with_bos_and_has_no_eos(tokenizer: UpDownTokenizer) -> None:
    assert tokenizer("a dog").input_ids == [1, 4, 5]
    assert tokenizer("").input_ids == [1]
    assert tokenizer("a zebra").input_ids == [1, 4, 3]
    assert tokenizer("a dog", add_special_tokens=False).input_ids == [4, 5]


def test_prompts_are_padded_on_the_left(tokenizer: UpDownTokenizer) -> None:
    batch = tokenizer(["a", "a dog runs"], padding=True, return_tensors="pt")
    assert batch.input_ids.tolist() == [[0, 0, 1, 4], [1, 4, 5, 6]]
    assert batch.attention_mask.tolist() == [[0, 0, 1, 1], [1, 1, 1, 1]]
    assert set(batch) == {"input_ids", "attention_mask"}


def test_decode_gives_words_with_single_spaces(tokenizer: UpDownTokenizer) -> None:
    assert tokenizer.decode([1, 4, 5, 6, 2, 0, 0], skip_special_tokens=True) == "a dog runs"
    assert tokenizer.decode([1, 4, 2]) == "<bos> a <eos>"
    assert tokenizer.batch_decode(torch.tensor([[1, 4, 2], [1, 2, 0]]), skip_special_tokens=True) == ["a", ""]


def test_reference_vocabulary_shares_index_0(reference_tokenizer: UpDownTokenizer) -> None:
    tokenizer = reference_tokenizer
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.unk_token_id) == (
        0,
        0,
        0,
        3,
    )
    assert len(tokenizer) == 4
    assert tokenizer.decode([0, 1, 2, 3, 0], skip_special_tokens=True) == "a dog"
    assert tokenizer("UNKNOWN a unk DOG").input_ids == [0, 3, 1, 3, 2]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({0: "<pad>", 2: "<bos>"}, "no word for id 1"),
        (["<pad>", "<bos>", "<eos>", "<unk>", "dog", "dog"], "'dog' has two ids, 4 and 5"),
        (["<pad>", "<bos>", "<eos>", "<unk>", ""], "word of id 4 is ''"),
        (["<pad>", "<bos>", "<eos>", "dog"], "unk_token '<unk>' is not in the vocabulary"),
    ],
)
def test_bad_vocabularies_name_the_entry(words: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        UpDownTokenizer.from_vocabulary(words)


def test_one_string_is_not_a_list_of_captions() -> None:
    with pytest.raises(TypeError, match="not one string; wrap it in a list"):
        UpDownTokenizer.from_captions("a dog")
    with pytest.raises(TypeError, match="caption 1 is a list"):
        count_words(["a", ["b"]])  # type: ignore[list-item]


def test_caption_rows_are_bos_words_eos_padding(tokenizer: UpDownTokenizer) -> None:
    rows = caption_token_ids(tokenizer, ["a dog", "a dog runs fast", ""], max_tokens=3)
    assert rows["input_ids"].tolist() == [[1, 4, 5, 2, 0], [1, 4, 5, 6, 2], [1, 2, 0, 0, 0]]
    assert rows["attention_mask"].tolist() == [[1, 1, 1, 1, 0], [1, 1, 1, 1, 1], [1, 1, 0, 0, 0]]
    assert rows["input_ids"].dtype == rows["attention_mask"].dtype == torch.int64


def test_caption_rows_with_shared_specials(reference_tokenizer: UpDownTokenizer) -> None:
    rows = caption_token_ids(reference_tokenizer, ["a <end> dog", "a"], max_tokens=16)
    assert rows["input_ids"].tolist() == [[0, 1, 3, 2, 0], [0, 1, 0, 0, 0]]  # "end" is a word nobody knows
    assert rows["attention_mask"].tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]


def other_tokenizer(**special_tokens: str) -> PreTrainedTokenizerFast:
    """A case-sensitive tokenizer from elsewhere with the ids S=0, E=1, P=2, a=3, dog=4."""
    backend = Tokenizer(models.WordLevel({"S": 0, "E": 1, "P": 2, "a": 3, "dog": 4}, unk_token="P"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.decoder = decoders.WordPiece()
    return PreTrainedTokenizerFast(tokenizer_object=backend, **{"bos_token": None, "eos_token": None, **special_tokens})


@pytest.mark.parametrize(
    ("special_tokens", "row", "padded"),
    [
        ({"bos_token": "S", "eos_token": "E", "pad_token": "P"}, [0, 3, 4, 1], [0, 3, 1, 2]),
        ({"cls_token": "S", "sep_token": "E", "pad_token": "P"}, [0, 3, 4, 1], [0, 3, 1, 2]),  # as BERT
        ({"eos_token": "E"}, [1, 3, 4, 1], [1, 3, 1, 1]),  # as GPT-2
    ],
)
def test_caption_rows_for_any_tokenizer(special_tokens: dict[str, str], row: list[int], padded: list[int]) -> None:
    rows = caption_token_ids(other_tokenizer(**special_tokens), ["a dog", "a"], max_tokens=16)
    assert rows["input_ids"].tolist() == [row, padded]
    assert rows["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 1, 0]]


def test_caption_rows_refuse_what_they_cannot_end(tokenizer: UpDownTokenizer) -> None:
    with pytest.raises(ValueError, match="neither an EOS nor a SEP token; set tokenizer.eos_token"):
        caption_token_ids(other_tokenizer(), ["a"], max_tokens=16)
    with pytest.raises(ValueError, match="max_tokens=0"):
        caption_token_ids(tokenizer, ["a"], max_tokens=0)
    with pytest.raises(ValueError, match="got 0"):
        caption_token_ids(tokenizer, [], max_tokens=16)
    with pytest.raises(TypeError, match="wrap it in a list"):
        caption_token_ids(tokenizer, "a dog", max_tokens=16)


@pytest.mark.parametrize("auto", [False, True])
def test_saved_folder_loads_the_same(
    tokenizer: UpDownTokenizer, reference_tokenizer: UpDownTokenizer, tmp_path: Path, auto: bool
) -> None:
    for index, original in enumerate([tokenizer, reference_tokenizer]):
        folder = tmp_path / str(index)
        original.save_pretrained(folder)
        loaded = AutoTokenizer.from_pretrained(folder) if auto else UpDownTokenizer.from_pretrained(folder)
        text = ["A DOG, sleeps <unk> UNKNOWN", "a"]
        assert loaded(text, padding=True).input_ids == original(text, padding=True).input_ids
        assert loaded.get_vocab() == original.get_vocab()
        assert loaded.special_tokens_map == original.special_tokens_map


def test_tokenizer_json_alone_holds_the_normalisation(tokenizer: UpDownTokenizer, tmp_path: Path) -> None:
    tokenizer.save_pretrained(tmp_path)
    backend = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert backend.encode("A Dog; RUNS!").ids == [1, 4, 5, 6]
    assert backend.decode([1, 4, 5, 6, 2]) == "a dog runs"
