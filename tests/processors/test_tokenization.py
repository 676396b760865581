"""The word tokenizer: Karpathy's tokens exactly, given vocabularies, questions, training rows for any tokenizer."""

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


QUESTIONS = ["Is it a dog?", "Is it a cat?", "what's the man's dog doing"]
REFERENCE_WORDS = ["what", "is", "the", "man", "'s", "name", "t-shirt", "5", "o'clock"]


@pytest.fixture
def question_tokenizer() -> UpDownTokenizer:
    return UpDownTokenizer.from_questions(QUESTIONS)


@pytest.fixture
def hu_tokenizer() -> UpDownTokenizer:
    return UpDownTokenizer.from_question_vocabulary(REFERENCE_WORDS)


class TestQuestions:
    def test_ids(self, question_tokenizer: UpDownTokenizer) -> None:
        """Padding, the unknown word, then words by frequency and the alphabet; nothing begins or ends a question."""
        words = ["<pad>", "<unk>", "a", "dog", "is", "it", "s", "cat", "doing", "man", "the", "what"]
        assert question_tokenizer.convert_ids_to_tokens(list(range(12))) == words
        assert len(question_tokenizer) == 12
        assert (question_tokenizer.pad_token_id, question_tokenizer.unk_token_id) == (0, 1)
        assert question_tokenizer.bos_token is None and question_tokenizer.eos_token is None
        assert question_tokenizer("Is it the man's CAT?").input_ids == [4, 5, 10, 9, 6, 7]

    def test_padding_on_the_right_and_cut_at_14_words(self, question_tokenizer: UpDownTokenizer) -> None:
        batch = question_tokenizer(["a dog", "is it a cat", ""], padding=True, return_tensors="pt")
        assert batch.input_ids.tolist() == [[2, 3, 0, 0], [4, 5, 2, 7], [0, 0, 0, 0]]
        assert batch.attention_mask.tolist() == [[1, 1, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]]
        long = question_tokenizer("is it " * 250, truncation=True).input_ids
        assert long == [4, 5] * 7
        short = UpDownTokenizer.from_questions(QUESTIONS, max_words=3)
        assert short("is it a dog", truncation=True).input_ids == [4, 5, 2]

    @pytest.mark.parametrize(
        ("text", "ids"),
        [
            ("", []),
            ("?!... \u00a0", []),
            ("🐶🐕", []),
            ("is 🐶 it?", [4, 5]),
            ("zebra GIRAFFE", [1, 1]),
            ("<pad> is <unk>", [0, 4, 1]),
            ("IS\tIT\n", [4, 5]),
        ],
    )
    def test_ugly_questions(self, question_tokenizer: UpDownTokenizer, text: str, ids: list[int]) -> None:
        assert question_tokenizer(text).input_ids == ids

    def test_min_count_and_other_texts(self) -> None:
        """Answers to choose from are counted with the questions."""
        words = UpDownTokenizer.from_questions(
            QUESTIONS, min_count=2, texts=["the man", "a horse", "horse"]
        ).get_vocab()
        assert set(words) == {"<pad>", "<unk>", "a", "dog", "horse", "is", "it", "man", "s", "the"}
        with pytest.raises(ValueError, match="no word occurs 9 times in the questions; give more or lower min_count"):
            UpDownTokenizer.from_questions(QUESTIONS, min_count=9)
        with pytest.raises(TypeError, match="not one string; wrap it in a list"):
            UpDownTokenizer.from_questions("is it a dog")
        with pytest.raises(TypeError, match="not one string"):
            UpDownTokenizer.from_questions(QUESTIONS, texts="a dog")

    def test_specials_among_the_words(self) -> None:
        """A question that names them cannot make them twice."""
        tokenizer = UpDownTokenizer.from_questions(["<unk> pad unk", "is it <pad>"])
        assert tokenizer.convert_ids_to_tokens([0, 1]) == ["<pad>", "<unk>"]
        assert len(set(tokenizer.get_vocab().values())) == len(tokenizer) == 6


class TestReferenceQuestions:
    """hengyuan-hu's words; its golden questions are in tests/modeling_updown/test_vqa_parity.py."""

    def test_ids(self, hu_tokenizer: UpDownTokenizer) -> None:
        """The last id pads, and stands for words that nobody knows."""
        assert len(hu_tokenizer) == 10
        assert hu_tokenizer.pad_token_id == hu_tokenizer.unk_token_id == 9
        assert hu_tokenizer("What is the man's name?").input_ids == [0, 1, 2, 3, 4, 5]
        assert hu_tokenizer("What, is the T-shirt... 5 o'clock").input_ids == [0, 1, 2, 9, 7, 8]
        assert hu_tokenizer("the t-shirt").input_ids == [2, 6]

    @pytest.mark.parametrize(
        ("text", "ids"), [("", []), ("  ?,", []), ("🐶 the", [9, 2]), ("zebra", [9]), ("THE\tMAN\n", [2, 3])]
    )
    def test_ugly_questions(self, hu_tokenizer: UpDownTokenizer, text: str, ids: list[int]) -> None:
        assert hu_tokenizer(text).input_ids == ids

    def test_slow_twin(self, hu_tokenizer: UpDownTokenizer) -> None:
        questions = ["What's the man's name?", "IS, the ?man 's", "a'sb 's's", "name,is?the", "'s"]
        known = {word: index for index, word in enumerate(REFERENCE_WORDS)}
        for question in questions:
            words = question.lower().replace(",", "").replace("?", "").replace("'s", " 's").split()
            assert hu_tokenizer(question).input_ids == [known.get(word, 9) for word in words], question

    def test_padding_on_the_left_to_14_words(self, hu_tokenizer: UpDownTokenizer) -> None:
        batch = hu_tokenizer(["the man", "", "is " * 20], padding="max_length", truncation=True, return_tensors="pt")
        assert batch.input_ids.tolist() == [[9] * 12 + [2, 3], [9] * 14, [1] * 14]
        assert batch.attention_mask.sum(dim=1).tolist() == [2, 0, 14]

    def test_vocabulary_by_id_and_its_mistakes(self) -> None:
        by_id: dict[int | str, str] = {"1": "dog", 0: "a"}
        assert UpDownTokenizer.from_question_vocabulary(by_id)("a dog").input_ids == [0, 1]
        with pytest.raises(ValueError, match="no word for id 0"):
            UpDownTokenizer.from_question_vocabulary({1: "a"})
        with pytest.raises(ValueError, match="'a' has two ids, 0 and 1"):
            UpDownTokenizer.from_question_vocabulary(["a", "a"])
        with pytest.raises(ValueError, match="'<pad>' has two ids, 1 and 2"):
            UpDownTokenizer.from_question_vocabulary(["a", "<pad>"])


@pytest.mark.parametrize("auto", [False, True])
def test_saved_folder_of_questions_loads_the_same(
    question_tokenizer: UpDownTokenizer, hu_tokenizer: UpDownTokenizer, tmp_path: Path, auto: bool
) -> None:
    texts = ["What's the MAN's name, zebra?", "", "is it <unk> <pad>", "a " * 20]
    for index, original in enumerate([question_tokenizer, hu_tokenizer]):
        folder = tmp_path / str(index)
        original.save_pretrained(folder)
        loaded = AutoTokenizer.from_pretrained(folder) if auto else UpDownTokenizer.from_pretrained(folder)
        found, expected = (one(texts, padding=True, truncation=True) for one in (loaded, original))
        assert dict(found) == dict(expected)
        assert (loaded.padding_side, loaded.model_max_length) == (original.padding_side, 14)
        assert loaded.get_vocab() == original.get_vocab()
        assert loaded.special_tokens_map == original.special_tokens_map
