"""Phrases -> vectors of a frozen sentence encoder: what a detector's regions are compared with while it learns.

    ["a pink dress", ...] + a sentence encoder --PhraseVectors--> (E,) a phrase, made once, at start

The mean of the last layer's states over the words, of length 1, as sentence-transformers' all-MiniLM models pool
(Reimers and Gurevych 2019). Any text encoder of Hugging Face works.
"""

from collections.abc import Iterable, Sequence

import torch
from torch.nn import functional as F
from tqdm.auto import tqdm
from transformers import AutoModel

from training.console import one_line
from training.text.word_pieces import pretrained_tokenizer

MOST_WORD_PIECES = 64
TEXTS_A_BATCH = 256


class PhraseVectors:
    """The vectors of all the phrases of a training set, equal ones once.

    Args:
        encoder: a folder or Hub id of a text encoder with its tokenizer.
        phrases: the texts, in any order, repeated or not.
        device: where the encoder runs; the vectors are kept in memory, in float16.

    Raises:
        ValueError: for what is no text encoder.
    """

    def __init__(self, encoder: str, phrases: Iterable[str], *, device: torch.device | str = "cpu"):
        unique = dict.fromkeys(phrases)
        self.rows = {text: row for row, text in enumerate(sorted(unique, key=len))}  # alike lengths pad little
        self.vectors = encode_texts(encoder, list(self.rows), device=device).half()  # (U, E)

    @property
    def size(self) -> int:
        """E, the width of a vector."""
        return self.vectors.shape[1]

    def __call__(self, phrases: Sequence[str]) -> torch.Tensor:
        """The vectors (P, E) of phrases that were given, float32; `KeyError` for another one."""
        rows = torch.tensor([self.rows[text] for text in phrases], dtype=torch.long)
        return F.normalize(self.vectors[rows].float(), dim=1)


@torch.no_grad()
def encode_texts(encoder: str, texts: Sequence[str], *, device: torch.device | str = "cpu") -> torch.Tensor:
    """Texts (N) -> vectors (N, E) of length 1, float32, on the CPU; raises `ValueError` for what is no text encoder."""
    tokenizer = pretrained_tokenizer(encoder)
    try:
        model = AutoModel.from_pretrained(encoder, dtype=torch.float32).eval().to(device)
    except (OSError, ValueError) as error:
        raise ValueError(f"phrases.encoder: no text encoder in {encoder} ({one_line(error)})") from error
    parts = [torch.zeros(0, model.config.hidden_size)]
    with tqdm(total=len(texts), desc="phrases", unit="phrase") as bar:
        for start in range(0, len(texts), TEXTS_A_BATCH):
            batch = list(texts[start : start + TEXTS_A_BATCH])
            words = tokenizer(
                batch, padding=True, truncation=True, max_length=MOST_WORD_PIECES, return_tensors="pt"
            ).to(device)
            states = model(**words).last_hidden_state  # (n, T, E)
            mask = words["attention_mask"][..., None].to(states.dtype)
            mean = (states * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)
            parts.append(F.normalize(mean, dim=1).cpu())
            bar.update(len(batch))
    return torch.cat(parts)
