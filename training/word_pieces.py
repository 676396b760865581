"""A text model's tokenizer: a pretrained one's, or word pieces trained on the captions (Schuster and Nakajima 2012)."""

from collections.abc import Iterable
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

SPECIAL = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}


def pretrained_tokenizer(name: str) -> Any:
    """The tokenizer of a folder or Hub id; `ValueError` where there is none."""
    try:
        return AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise ValueError(f"text.pretrained: no tokenizer in {name} ({' '.join(str(error).split())})") from error


def train_word_pieces(captions: Iterable[str], *, vocabulary_size: int) -> PreTrainedTokenizerFast:
    """A lower-casing WordPiece tokenizer with BERT's special tokens, of at most so many pieces.

    >>> tokenizer = train_word_pieces(["a dog runs", "a dog sits"], vocabulary_size=60)
    >>> tokenizer.convert_ids_to_tokens(tokenizer("A dog!")["input_ids"])
    ['[CLS]', 'a', 'dog', '[UNK]', '[SEP]']
    """
    tokenizer = Tokenizer(models.WordPiece(unk_token=SPECIAL["unk_token"]))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocabulary_size, special_tokens=list(SPECIAL.values()), show_progress=False
    )
    tokenizer.train_from_iterator(captions, trainer)
    start, end = SPECIAL["cls_token"], SPECIAL["sep_token"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in (start, end)],
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **SPECIAL)
