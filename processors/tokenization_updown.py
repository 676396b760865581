"""Captions, prompts and questions to word ids and back: the word-level tokenizer of Anderson et al. 2018, section 4.2.

The paper lower-cases captions, splits them into words and keeps every word seen at least 5 times. Here a `tokenizers`
pipeline does so (NFKC, lower case, runs of letters, marks, digits and underscores), so the saved `tokenizer.json`
behaves the same with or without this package. Every captioning model uses it: captions -> `caption_token_ids` ->
`labels` in training, prompt -> tokenizer -> `generate` -> `batch_decode` afterwards.

Captions of languages without spaces must be split into words before.
"""

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from .code_updown import write_code

NORMALIZER = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
QUESTION_NORMALIZER = normalizers.Sequence(  # as in hengyuan-hu/bottom-up-attention-vqa
    [
        normalizers.Lowercase(),
        normalizers.Replace(",", ""),
        normalizers.Replace("?", ""),
        normalizers.Replace("'s", " 's"),
    ]
)
WORD_SPLITTER = pre_tokenizers.Split(Regex(r"[^\p{L}\p{M}\p{N}_]+"), behavior="removed")


def count_words(captions: Iterable[str]) -> dict[str, int]:
    """Counts the words of captions exactly as `UpDownTokenizer` splits them.

    Args:
        captions: texts of any length.

    Returns:
        word -> number of occurrences, most frequent first, ties in alphabetical order.

    Raises:
        TypeError: if captions is one string, or holds something that is not a string.

    >>> count_words(["A dog runs.", "a dog's T-shirt"])
    {'a': 2, 'dog': 2, 'runs': 1, 's': 1, 'shirt': 1, 't': 1}
    """
    counts: Counter[str] = Counter()
    for caption in _checked_captions(captions):
        text = NORMALIZER.normalize_str(caption)
        counts.update(word for word, _ in WORD_SPLITTER.pre_tokenize_str(text))
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


class UpDownTokenizer(PreTrainedTokenizerFast):
    """A tokenizer of whole words, made from captions, questions or a checkpoint's vocabulary.

    An encoded caption or prompt starts with the BOS token and does not end with EOS, so that `generate` continues it.
    Padding is on the left for the same reason; `caption_token_ids` makes the right-padded rows for training.

    Example:
        >>> tokenizer = UpDownTokenizer.from_captions(["a dog runs", "a cat sleeps"], min_count=1)
        >>> tokenizer("A dog sleeps!").input_ids
        [1, 4, 6, 8]
        >>> tokenizer.decode([1, 4, 6, 8, 2], skip_special_tokens=True)
        'a dog sleeps'
    """

    vocab_files_names = {"tokenizer_file": "tokenizer.json"}
    model_input_names = ["input_ids", "attention_mask"]

    def save_pretrained(self, save_directory: str | os.PathLike[str], *args: Any, **kwargs: Any) -> tuple[str, ...]:
        """Save as transformers does; the tokenizer of a published model is saved with its code."""
        if self.init_kwargs.get("auto_map"):
            write_code(__file__, save_directory)
            self.init_kwargs["auto_map"] = {"AutoTokenizer": [None, f"{Path(__file__).stem}.{type(self).__name__}"]}
        return super().save_pretrained(save_directory, *args, **kwargs)

    @classmethod
    def from_captions(
        cls,
        captions: Iterable[str],
        *,
        min_count: int = 5,
        pad_token: str = "<pad>",
        bos_token: str = "<bos>",
        eos_token: str = "<eos>",
        unk_token: str = "<unk>",
    ) -> "UpDownTokenizer":
        """Makes a tokenizer of the words that occur at least `min_count` times.

        Args:
            captions: the training captions.
            min_count: keep words seen at least this often (5 in the paper, 10,010 words on COCO).
            pad_token, bos_token, eos_token, unk_token: ids 0, 1, 2, 3 in this order; one name may have several roles,
                which then share one id.

        Returns:
            The tokenizer; words follow the special tokens, most frequent first, ties in alphabetical order.

        Raises:
            ValueError: if no word occurs `min_count` times.
        """
        words = [word for word, count in count_words(captions).items() if count >= min_count]
        if not words:
            raise ValueError(f"no word occurs {min_count} times in the captions; give more captions or lower min_count")
        return cls.from_vocabulary(
            list(dict.fromkeys([pad_token, bos_token, eos_token, unk_token, *words])),
            pad_token=pad_token,
            bos_token=bos_token,
            eos_token=eos_token,
            unk_token=unk_token,
        )

    @classmethod
    def from_vocabulary(
        cls,
        words: Sequence[str] | Mapping[int | str, str],
        *,
        pad_token: str = "<pad>",
        bos_token: str = "<bos>",
        eos_token: str = "<eos>",
        unk_token: str = "<unk>",
    ) -> "UpDownTokenizer":
        """Makes a tokenizer with given ids, for a converted checkpoint.

        For example, ruotianluo/ImageCaptioning.pytorch begins, ends and pads with index 0, which is not a word, and its
        last word is UNK: `from_vocabulary({0: "<end>", **vocab}, pad_token="<end>", bos_token="<end>",
        eos_token="<end>", unk_token="UNK")`.

        Args:
            words: a list of words in the order of their ids, or a mapping id -> word (ids may be strings of digits, as
                in JSON), without gaps, including the special tokens.
            pad_token, bos_token, eos_token, unk_token: words of that list; one word may have several roles.

        Raises:
            ValueError: for a gap in the ids, an empty or repeated word, or a special token that is not among the words.
        """
        special_tokens = {
            "pad_token": pad_token,
            "bos_token": bos_token,
            "eos_token": eos_token,
            "unk_token": unk_token,
        }
        vocabulary = _word_ids(words)
        for role, token in special_tokens.items():
            if token not in vocabulary:
                raise ValueError(f"{role} {token!r} is not in the vocabulary; add it to words or name one that is")
        backend = _build_backend(vocabulary, special_tokens=special_tokens)
        return cls(tokenizer_object=backend, padding_side="left", clean_up_tokenization_spaces=False, **special_tokens)

    @classmethod
    def from_questions(
        cls, questions: Iterable[str], *, min_count: int = 1, max_words: int = 14, texts: Iterable[str] = ()
    ) -> "UpDownTokenizer":
        """Makes a tokenizer for questions, which neither begin nor end with a special token.

        Args:
            questions: the training questions.
            min_count: keep words seen at least this often.
            max_words: `model_max_length`, to which `truncation=True` truncates (14 in the paper).
            texts: more texts whose words are counted, such as answers to choose from.

        Returns:
            The tokenizer: id 0 is padding, id 1 the unknown word, then words as in `from_captions`.

        Raises:
            ValueError: if no word occurs `min_count` times.

        >>> tokenizer = UpDownTokenizer.from_questions(["Is it a dog?", "Is it a cat?"])
        >>> tokenizer("Is it a horse?").input_ids
        [3, 4, 2, 1]
        """
        counts = count_words([*_checked_captions(questions), *_checked_captions(texts)])
        words = [word for word, count in counts.items() if count >= min_count]
        if not words:
            raise ValueError(f"no word occurs {min_count} times in the questions; give more or lower min_count")
        special_tokens = {"pad_token": "<pad>", "unk_token": "<unk>"}
        vocabulary = _word_ids(list(dict.fromkeys([*special_tokens.values(), *words])))
        backend = _build_backend(vocabulary, special_tokens=special_tokens)
        return cls(
            tokenizer_object=backend,
            padding_side="right",
            model_max_length=max_words,
            clean_up_tokenization_spaces=False,
            **special_tokens,
        )

    @classmethod
    def from_question_vocabulary(cls, words: Sequence[str] | Mapping[int | str, str]) -> "UpDownTokenizer":
        """Makes the tokenizer of hengyuan-hu/bottom-up-attention-vqa from its words in the order of their ids.

        A question is lower-cased, commas and question marks are removed, `'s` is separated, and it is split at spaces.
        One more id, after the words, is the padding (on the left) and the unknown word, whose vector is then zero (the
        original raises an error for unknown words).

        >>> tokenizer = UpDownTokenizer.from_question_vocabulary(["what", "is", "the", "man", "'s", "name"])
        >>> tokenizer("The man's name?").input_ids
        [2, 3, 4, 5]
        """
        padding = "<pad>"
        vocabulary = _word_ids([*_word_ids(words), padding])
        roles = {"pad_token": padding, "unk_token": padding}
        backend = _build_backend(vocabulary, special_tokens=roles)
        backend.normalizer, backend.pre_tokenizer = QUESTION_NORMALIZER, pre_tokenizers.WhitespaceSplit()
        return cls(
            tokenizer_object=backend,
            padding_side="left",
            model_max_length=14,
            clean_up_tokenization_spaces=False,
            **roles,
        )


def caption_token_ids(
    tokenizer: PreTrainedTokenizerBase, captions: Sequence[str], *, max_tokens: int, config: Any = None
) -> dict[str, torch.Tensor]:
    """Captions as training rows of a captioner: BOS, the caption's tokens, EOS, padding on the right.

    Works with any Hugging Face tokenizer: a missing BOS is replaced by CLS, else by EOS (as in GPT-2), a missing EOS by
    SEP, a missing PAD by EOS. The names of special tokens inside a caption are read as ordinary text.

    Args:
        tokenizer: an `UpDownTokenizer` or any other.
        captions: N texts; an empty one gives BOS EOS.
        max_tokens: keep at most this number of tokens of a caption (16 to 20 in the paper), without BOS and EOS.
        config: of the trained model; its BOS, EOS and padding ids, which `generate` uses, take precedence.

    Returns:
        `input_ids` and `attention_mask`, both (N, T) int64 with T <= max_tokens + 2.

    Raises:
        TypeError: if captions is one string, or holds something that is not a string.
        ValueError: for no captions, max_tokens below 1, or a tokenizer with neither EOS nor SEP.

    >>> tokenizer = UpDownTokenizer.from_captions(["a dog runs"], min_count=1)
    >>> caption_token_ids(tokenizer, ["a dog", ""], max_tokens=16)["input_ids"].tolist()
    [[1, 4, 5, 2], [1, 2, 0, 0]]
    """
    captions = list(_checked_captions(captions))
    if not captions or max_tokens < 1:
        raise ValueError(f"need at least one caption and one token, got {len(captions)} and max_tokens={max_tokens}")
    bos, eos, pad = boundary_token_ids(tokenizer, config=config).values()
    encoded = tokenizer(
        captions,
        add_special_tokens=False,
        split_special_tokens=True,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,
    )
    rows = [[bos, *ids[:max_tokens], eos] for ids in encoded["input_ids"]]
    lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
    attention_mask = np.arange(lengths.max()) < lengths[:, None]  # (N, T)
    input_ids = np.full(attention_mask.shape, pad, dtype=np.int64)  # (N, T)
    input_ids[attention_mask] = np.fromiter((token for row in rows for token in row), dtype=np.int64)
    return {"input_ids": torch.from_numpy(input_ids), "attention_mask": torch.from_numpy(attention_mask).long()}


def _checked_captions(captions: Iterable[str]) -> Iterable[str]:
    if isinstance(captions, str):
        raise TypeError("captions must be a list of strings, not one string; wrap it in a list")
    for index, caption in enumerate(captions):
        if not isinstance(caption, str):
            raise TypeError(f"caption {index} is a {type(caption).__name__}, not a string; flatten nested lists first")
        yield caption


def _word_ids(words: Sequence[str] | Mapping[int | str, str]) -> dict[str, int]:
    pairs = words.items() if isinstance(words, Mapping) else enumerate(words)
    by_id = {int(index): word for index, word in pairs}
    gaps = sorted(set(range(len(by_id))) - set(by_id))
    if gaps:
        raise ValueError(f"the vocabulary has no word for id {gaps[0]}; give every id from 0 to the last a word")
    vocabulary: dict[str, int] = {}
    for index in range(len(by_id)):
        word = by_id[index]
        if not isinstance(word, str) or not word:
            raise ValueError(f"the word of id {index} is {word!r}; every id needs a non-empty string")
        if word in vocabulary:
            raise ValueError(f"the word {word!r} has two ids, {vocabulary[word]} and {index}; rename one of them")
        vocabulary[word] = index
    return vocabulary


def _build_backend(vocabulary: dict[str, int], *, special_tokens: Mapping[str, str]) -> Tokenizer:
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token=special_tokens["unk_token"]))
    backend.normalizer = NORMALIZER
    backend.pre_tokenizer = WORD_SPLITTER
    # single_word keeps a special token named UNK from being found inside UNKNOWN
    names = dict.fromkeys(special_tokens.values())
    backend.add_special_tokens([AddedToken(name, special=True, normalized=False, single_word=True) for name in names])
    bos = special_tokens.get("bos_token")
    if bos is not None:
        backend.post_processor = processors.TemplateProcessing(
            single=[bos, "$A"], pair=[bos, "$A", "$B"], special_tokens=[(bos, vocabulary[bos])]
        )
    return backend


def boundary_token_ids(tokenizer: PreTrainedTokenizerBase, *, config: Any = None) -> dict[str, int]:
    """`bos_token_id`, `eos_token_id` and `pad_token_id` of captions: those of a model config if given (the first of
    several EOS), else the tokenizer's, with the replacements of `caption_token_ids` for missing ones.

    Raises `ValueError` if neither has an EOS.
    """
    own_bos, own_eos, own_pad = (
        getattr(config, name, None) for name in ("bos_token_id", "eos_token_id", "pad_token_id")
    )
    own_eos = next(iter(own_eos), None) if isinstance(own_eos, list) else own_eos
    eos = _first_given(own_eos, tokenizer.eos_token_id, tokenizer.sep_token_id)
    if eos is None:
        raise ValueError(
            f"{type(tokenizer).__name__} has neither an EOS nor a SEP token; set tokenizer.eos_token first"
        )
    bos = _first_given(own_bos, tokenizer.bos_token_id, tokenizer.cls_token_id, eos)
    pad = _first_given(own_pad, tokenizer.pad_token_id, eos)
    assert bos is not None and pad is not None
    return {"bos_token_id": bos, "eos_token_id": eos, "pad_token_id": pad}


def _first_given(*token_ids: int | None) -> int | None:
    return next((token_id for token_id in token_ids if token_id is not None), None)
