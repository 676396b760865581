"""Phrases -> vectors of a frozen sentence encoder: what a detector's regions are compared with while it learns.

    ["a pink dress", ...] + a sentence encoder --PhraseVectors--> (E,) a phrase, made once, at start

Vectors are those of `modeling_updown/open_names_updown.py`, by which a trained detector is asked for names. Any text
encoder of Hugging Face works.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch.nn import functional as F
from tqdm.auto import tqdm
from transformers import AutoModel

from modeling_updown.open_names_updown import text_vectors
from training.console import one_line
from training.data.files import write_atomically
from training.saved_models import weights_mark
from training.text.word_pieces import pretrained_tokenizer

UNMARKED = ("_name_or_path", "transformers_version")  # of an encoder's config: where it lies, and what wrote it


class TextEncoder:
    """A frozen text encoder with its tokenizer.

    Args:
        name: a folder or Hub id.

    Raises:
        ValueError: for what is no text encoder.
    """

    def __init__(self, name: str):
        self.tokenizer: Any = pretrained_tokenizer(name, key="phrases.encoder")
        try:
            self.model: Any = AutoModel.from_pretrained(name, dtype=torch.float32).eval()
        except (OSError, ValueError) as error:
            raise ValueError(f"phrases.encoder: no text encoder in {name} ({one_line(error)})") from error

    def mark(self) -> str:
        """A hash of everything that decides a text's vector: weights, config and the files of the tokenizer."""
        config = {name: value for name, value in self.model.config.to_dict().items() if name not in UNMARKED}
        digest = hashlib.sha256(json.dumps([weights_mark(self.model), config], sort_keys=True, default=str).encode())
        with TemporaryDirectory() as folder:
            self.tokenizer.save_pretrained(folder)
            for path in sorted(Path(folder).iterdir()):
                digest.update(path.name.encode() + path.read_bytes())
        return digest.hexdigest()

    def __call__(self, texts: Sequence[str], *, device: torch.device | str = "cpu") -> torch.Tensor:
        """Texts (N) -> vectors (N, E) of length 1, float32, on the CPU; they are computed on `device`."""
        model = self.model.to(device)
        parts = [torch.zeros(0, model.config.hidden_size)]
        with tqdm(total=len(texts), desc="phrases", unit="phrase") as bar:
            for part in text_vectors(texts, model, self.tokenizer):
                parts.append(part)
                bar.update(len(part))
        return torch.cat(parts)


class PhraseVectors:
    """The vectors of all the phrases of a training set, equal ones once.

    Args:
        encoder: a folder or Hub id of a text encoder with its tokenizer.
        phrases: the texts, in any order, repeated or not.
        device: where the encoder runs; the vectors are kept in memory, in float16.
        cache: a file that keeps the vectors for the next start; it is written anew for other phrases, and for an
            encoder with other weights or another tokenizer, whatever its name.

    Raises:
        ValueError: for what is no text encoder.
    """

    def __init__(
        self,
        encoder: str,
        phrases: Iterable[str],
        *,
        device: torch.device | str = "cpu",
        cache: Path | None = None,
    ):
        texts = sorted(dict.fromkeys(phrases), key=len)  # alike lengths pad little
        self.rows = {text: row for row, text in enumerate(texts)}
        encode = TextEncoder(encoder)
        mark = hashlib.sha256("\n".join([encode.mark(), *texts]).encode()).hexdigest()
        kept = None if cache is None else _kept_vectors(cache, mark=mark)
        self.vectors = encode(texts, device=device).half() if kept is None else kept  # (U, E)
        if cache is not None and kept is None:
            cache.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(cache, save({"vectors": self.vectors}, metadata={"made_of": mark}))

    @property
    def size(self) -> int:
        """E, the width of a vector."""
        return self.vectors.shape[1]

    def __call__(self, phrases: Sequence[str]) -> torch.Tensor:
        """The vectors (P, E) of phrases that were given, float32; `KeyError` for another one."""
        rows = torch.tensor([self.rows[text] for text in phrases], dtype=torch.long)
        return F.normalize(self.vectors[rows].float(), dim=1)


def _kept_vectors(cache: Path, *, mark: str) -> torch.Tensor | None:
    """The vectors of a cache file made of the same encoder and phrases; None where there are none."""
    try:
        with safe_open(cache, "pt") as file:
            return file.get_tensor("vectors") if (file.metadata() or {}).get("made_of") == mark else None
    except (OSError, SafetensorError):
        return None
