"""The sentences of knowledge nearest to questions or images, by a retrieval model.

    file of facts --embedded_facts--> vectors (N, E), kept beside it --FactSearch.nearest--> sentences of each question

The text side of the model compares questions with sentences, its image side images with sentences
(`modeling_retrieval.py`). Sentences are embedded once: their vectors lie in `FILE.HASH.safetensors` beside the file,
with the hash of the file and of the model's weights, and are made anew where either has changed.
"""

import hashlib
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from modeling_updown import UpDownFusionForImageTextRetrieval, UpDownProcessor
from training.data.files import write_atomically
from training.data.knowledge import Knowledge, read_facts
from training.saved_models import load_with_processor, weights_mark
from training.search.embedding import Embedder, VectorSink, embed_images
from training.search.nearest import exact_top_k

VECTORS = "vectors"


class FactSearch:
    """Finds the sentences of a file that are nearest to questions or images.

    Args:
        knowledge: the file, the retrieval model, how many sentences, and near to what.
        batch_size: texts or images a batch.

    Raises:
        ValueError: for a file as `read_facts` refuses it, and a model that cannot be loaded or compares no embeddings.
    """

    def __init__(self, knowledge: Knowledge, *, batch_size: int = 64):
        self.knowledge, self.sentences = knowledge, read_facts(knowledge.file)
        try:
            model, processor = load_with_processor(knowledge.model, UpDownFusionForImageTextRetrieval, UpDownProcessor)
            model.check_objective("itc", "compares no embeddings")
        except ValueError as error:
            raise ValueError(f"data.knowledge: the model that finds sentences: {error}") from error
        self.embedder = Embedder(model, processor, batch_size=batch_size)
        self.vectors = embedded_facts(knowledge.file, self.sentences, self.embedder)  # (N, E)
        self.found: dict[tuple[str, str], list[str]] = {}  # (question, image id) -> sentences
        self.image_vectors: dict[str, np.ndarray] = {}

    def nearest(self, questions: Sequence[str], images: Any = None, image_ids: Sequence[str] = ()) -> list[list[str]]:
        """The sentences beside each question, the nearest first; what was found before is kept.

        Args:
            questions: Q texts; a blank one has no sentence, where they are found by the question alone.
            images: where they are found by images: a `datasets.Dataset` with `image_id` and `image`.
            image_ids: the image of each question, where `images` are given.
        """
        by_image = self.knowledge.by != "question"
        keys = list(zip(questions, image_ids if by_image else [""] * len(questions), strict=True))
        wanted = [key for key in dict.fromkeys(keys) if key not in self.found]
        if by_image and images is not None:
            self.add_images(images, {image_id for _, image_id in wanted})
        asked = [key for key in wanted if self.knowledge.by == "image" or key[0].strip()]
        self.found |= {key: [] for key in wanted}
        if asked:
            _, rows = exact_top_k(self.queries(asked), self.vectors, top_k=self.knowledge.sentences)
            for key, places in zip(asked, rows.tolist(), strict=True):
                self.found[key] = [self.sentences[place] for place in places]
        return [self.found[key] for key in keys]

    def queries(self, asked: Sequence[tuple[str, str]]) -> np.ndarray:
        """What sentences are compared with, (Q, E) of length 1: embeddings of questions, of images, or their sum."""
        total = np.zeros((len(asked), self.vectors.shape[1]), dtype=np.float32)
        if self.knowledge.by != "image":
            total += self.embedder.text_vectors([question for question, _ in asked])
        if self.knowledge.by != "question":
            total += np.stack([self.image_vectors[image_id] for _, image_id in asked])
        return total / np.linalg.norm(total, axis=1, keepdims=True).clip(min=1e-12)

    def add_images(self, images: Any, wanted: set[str]) -> None:
        """Embed those of the images that are wanted and not known; `ValueError` for one that cannot be read."""
        ids = images["image_id"][:]
        first = {image_id: place for place, image_id in reversed(list(enumerate(ids)))}
        places = sorted(first[image_id] for image_id in wanted - self.image_vectors.keys())
        if not places:
            return
        sink = VectorSink(self.embedder)
        broken = embed_images(images.select_columns(["image_id", "image"]).select(places), sink)
        if broken:
            raise ValueError(f"{len(broken)} images cannot be read, so no knowledge is near to them: {broken[0]}")
        self.image_vectors |= dict(sink.kept)


def embedded_facts(path: str | Path, sentences: Sequence[str], embedder: Embedder) -> np.ndarray:
    """The vectors (N, E) float32 of a file's sentences: those beside it where file and model are the same, else new."""
    marks = {"file": hashlib.sha256("\n".join(sentences).encode()).hexdigest(), "model": weights_mark(embedder.model)}
    kept = Path(f"{path}.{marks['model'][:8]}.safetensors")
    found = read_vectors(kept, marks=marks, number=len(sentences))
    if found is not None:
        return found
    vectors = embedder.text_vectors(sentences)
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(bad):
        raise ValueError(f"sentence {bad[0] + 1} of {path} has a vector that is not finite: is the model whole?")
    try:
        write_atomically(kept, save({VECTORS: torch.from_numpy(vectors)}, metadata=marks))
    except OSError as error:
        warnings.warn(f"{kept} cannot be written ({error.strerror}): sentences are embedded in every run", stacklevel=2)
    return vectors


def read_vectors(path: Path, *, marks: dict[str, str], number: int) -> np.ndarray | None:
    """The vectors in a file, None where there are none of these marks and of so many sentences."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            if file.metadata() != marks or VECTORS not in file.keys():  # noqa: SIM118 (it is no dict)
                return None
            vectors = file.get_tensor(VECTORS)
    except (OSError, SafetensorError):
        return None  # cut short: made anew
    fits = vectors.dim() == 2 and len(vectors) == number and bool(vectors.isfinite().all())
    return vectors.float().numpy() if fits else None
