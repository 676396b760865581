"""The tokenizer of a text model: a pretrained one, or word pieces trained on the captions."""

from collections.abc import Iterable
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from training.console import one_line

SPECIAL = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}


def pretrained_tokenizer(name: str, *, key: str = "text.pretrained") -> Any:
    """The tokenizer of a folder or Hub id; raises `ValueError`, which tells the recipe's key, if there is none."""
    try:
        return AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise ValueError(f"{key}: no tokenizer in {name} ({one_line(error)})") from error


def train_word_pieces(captions: Iterable[str], *, vocabulary_size: int) -> PreTrainedTokenizerFast:
    """A lower-casing byte-level BPE tokenizer (Sennrich et al. 2016) of `vocabulary_size` pieces, with BERT's special
    tokens.

    The same captions give the same pieces in every process, unlike with the library's WordPiece trainer.

    Raises `ValueError` for fewer pieces than there are bytes and special tokens.

    >>> tokenizer = train_word_pieces(["a dog runs", "a dog sits"], vocabulary_size=270)
    >>> tokenizer.convert_ids_to_tokens(tokenizer("A dog!")["input_ids"])
    ['[CLS]', 'Ġa', 'Ġdog', '!', '[SEP]']
    """
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    fewest = len(alphabet) + len(SPECIAL)
    if vocabulary_size < fewest:
        raise ValueError(
            f"text.vocabulary_size is {vocabulary_size}, but it must be at least {fewest}: bytes and special tokens"
        )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        special_tokens=list(SPECIAL.values()),
        initial_alphabet=alphabet,
        show_progress=False,
    )
    tokenizer.train_from_iterator(captions, trainer)
    start, end = SPECIAL["cls_token"], SPECIAL["sep_token"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in (start, end)],
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **SPECIAL)
