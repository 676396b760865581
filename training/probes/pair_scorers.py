"""How well texts fit an image, by any model that says so: a retrieval model by ITC and ITM, an entailment model.

    folder --MatchScorer--> regions of images; texts + regions --scores--> `itc`, `match` | `entailment`

`training/probes/pair_tests.py` compares these scores.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from modeling_updown import (
    UpDownFusionForImageTextRetrieval,
    UpDownFusionForVisualEntailment,
    UpDownProcessor,
    load_image,
)
from training.saved_models import load_with_processor, saved_class
from training.search.embedding import Embedder, inputs_of
from training.tasks.fusion import withheld_regions

JUDGES = "UpDownFusionForVisualEntailment"
TRUE_NAMES = ("entailment", "true", "yes")  # the class of a statement that holds
# log-odds: above this a text is held to fit; ITC's cosine has no such value
THRESHOLDS = {"match": 0.0, "entailment": 0.0}


class MatchScorer:
    """A saved model that scores texts and images, higher is a better fit.

    - a retrieval model: `itc`, the cosine of both embeddings, and `match`, ITM's log-odds, of those that it learnt;
    - an entailment model: `entailment`, the log-odds of the class of what holds.

    Args:
        folder: a folder or Hub id.
        batch_size: texts in a pass.

    Raises:
        ValueError: for a model of another kind, without a region source, or with neither objective or no such class.
    """

    def __init__(self, folder: str, *, batch_size: int = 32):
        self.judges = saved_class(folder) == JUDGES
        kind: Any = UpDownFusionForVisualEntailment if self.judges else UpDownFusionForImageTextRetrieval
        model, processor = load_with_processor(folder, kind, UpDownProcessor)
        self.embedder = Embedder(model, processor, batch_size=batch_size)
        if self.embedder.extractor is None:
            raise ValueError(f"the model in {folder} has no region source, so it takes no images")
        if self.judges:
            self.names, self.true_class = ["entailment"], true_class(model.config.id2label)
        else:
            self.names = [name for name, learnt in (("itc", "itc"), ("match", "itm")) if model.config.weight(learnt)]
        if not self.names:
            raise ValueError(f"the model in {folder} has learnt neither to compare (ITC) nor to match (ITM)")
        self.texts: list[str] = []
        self.vectors = np.zeros((0, 1))

    def read(self, texts: Sequence[str]) -> None:
        """Take the texts that are to be scored; those of ITC are embedded once."""
        self.texts = list(texts)
        if "itc" in self.names:
            self.vectors = self.embedder.text_vectors(self.texts).astype(np.float64)  # (N, E)

    def regions(self, path: str) -> dict[str, torch.Tensor]:
        """The regions of one image."""
        return self.embedder.regions([load_image(path)])

    def no_regions(self) -> dict[str, torch.Tensor]:
        """What stands in for an image that is withheld: one and the same region, as in training with
        `train.withhold=image`."""
        return {**withheld_regions(self.embedder.model.config, 1), "region_mask": torch.ones(1, 1, dtype=torch.bool)}

    def scores(self, chosen: np.ndarray, regions: Mapping[str, torch.Tensor]) -> dict[str, np.ndarray]:
        """The scores (n,) float64 of texts by their numbers (n,) with the regions of one image, by name."""
        texts = [self.texts[number] for number in chosen.tolist()]
        found: dict[str, np.ndarray] = {}
        if "itc" in self.names:
            image = self.embedder.regions_vectors(regions)[0].astype(np.float64)  # (E,)
            found["itc"] = self.vectors[chosen] @ image
        if "match" in self.names:
            found["match"] = self.embedder.match(texts, regions, image_index=[0] * len(texts)).astype(np.float64)
        if self.judges:
            found["entailment"] = self.judged(texts, regions)
        return found

    @torch.no_grad()
    def judged(self, texts: Sequence[str], regions: Mapping[str, torch.Tensor]) -> np.ndarray:
        """The log-odds (n,) that statements hold of one image."""
        embedder, found = self.embedder, []
        seen = {name: value.to(embedder.device) for name, value in inputs_of(regions).items()}
        for start in range(0, len(texts), embedder.batch_size):
            words = embedder.words(texts[start : start + embedder.batch_size])
            index = torch.zeros(len(words["input_ids"]), dtype=torch.long, device=embedder.device)
            logits = embedder.model(**words, **seen, image_index=index).logits.double().cpu()  # (n, C)
            own = logits[:, self.true_class]
            if embedder.model.config.problem_type != "multi_label_classification":
                others = [place for place in range(logits.shape[1]) if place != self.true_class]
                own = own - logits[:, others].logsumexp(dim=1)
            found.append(own)
        return torch.cat(found).numpy()


def true_class(id2label: Mapping[int, str]) -> int:
    """The number of the class of what holds; `ValueError` where none is called so.

    >>> true_class({0: "contradiction", 1: "Entailment"})
    1
    """
    numbers = {name.lower(): int(number) for number, name in id2label.items()}
    found = next((numbers[name] for name in TRUE_NAMES if name in numbers), None)
    if found is None or len(numbers) < 2:
        raise ValueError(f"the classes {', '.join(numbers)} have none that is called {' or '.join(TRUE_NAMES)}")
    return found
