"""CLIPScore and RefCLIPScore of captions (Hessel et al. 2021) with any model that embeds images and texts.

    images, captions --ClipScorer--> unit vectors --clip_score--> 2.5 max(cos, 0), and its harmonic mean with references

The figures are of the model that made the vectors and mean nothing beside another's, so the result names it. Published
figures are of `openai/clip-vit-base-patch32`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .cider import check_captions

WEIGHT = 2.5
PREFIX = "A photo depicts "  # before every text, as published


@dataclass
class ClipScorer:
    """A model that embeds images and texts into one space, with its processor.

    model: transformers' `CLIPModel`, our `UpDownFusionForImageTextRetrieval`, or any with their `get_image_features`
        and `get_text_features`.
    processor: of images and texts (`images=`, `text=`).
    name: what the result calls the scorer; by default the folder or Hub id that the model was loaded from.
    prefix: before every text; "" suits models that learnt from whole captions, as ours did.
    batch_size: images or texts per batch.
    """

    model: Any
    processor: Any
    name: str = ""
    prefix: str = PREFIX
    batch_size: int = 32

    def __post_init__(self) -> None:
        lacking = [name for name in ("get_image_features", "get_text_features") if not hasattr(self.model, name)]
        if lacking:
            raise ValueError(
                f"a {type(self.model).__name__} has no {lacking[0]}: give a CLIPModel or a retrieval model as scorer"
            )
        self.name = self.name or getattr(self.model, "name_or_path", "") or type(self.model).__name__

    def image_vectors(self, images: Sequence[Any]) -> np.ndarray:
        """Images as the processor takes them -> vectors (N, E) of length 1."""
        return self._vectors(images, self._images, self.model.get_image_features)

    def text_vectors(self, texts: Sequence[str]) -> np.ndarray:
        """Texts -> vectors (N, E) of length 1; the prefix stands before each, and long texts are cut."""
        return self._vectors([self.prefix + text for text in texts], self._texts, self.model.get_text_features)

    def _images(self, images: Sequence[Any]) -> Mapping[str, Any]:
        return self.processor(images=list(images), return_tensors="pt")

    def _texts(self, texts: Sequence[str]) -> Mapping[str, Any]:
        text_config = getattr(self.model.config, "text_config", self.model.config)
        limits = [getattr(text_config, "max_position_embeddings", None), self.processor.tokenizer.model_max_length]
        longest = min(limit for limit in limits if limit)
        return self.processor(text=list(texts), padding=True, truncation=True, max_length=longest, return_tensors="pt")

    def _vectors(self, items: Sequence[Any], prepare: Callable[..., Any], embed: Callable[..., Any]) -> np.ndarray:
        import torch

        self.model.eval()
        parts = []
        with torch.no_grad():
            for start in range(0, len(items), self.batch_size):
                inputs = prepare(items[start : start + self.batch_size])
                found = embed(**{name: value.to(self.model.device) for name, value in inputs.items()})
                found = getattr(found, "pooler_output", found)  # CLIP's, from transformers 5 on
                parts.append(torch.nn.functional.normalize(found.double(), dim=-1).cpu().numpy())
        vectors = np.concatenate(parts)
        if not np.isfinite(vectors).all():
            raise ValueError(f"{self.name} embeds into NaN or infinity: its weights are damaged, or load it in float32")
        return vectors


def clip_score(
    images: Sequence[Any],
    captions: Sequence[str],
    scorer: ClipScorer,
    *,
    references: Sequence[Sequence[str]] | None = None,
) -> dict[str, Any]:
    """CLIPScore of one caption per image and, with references, RefCLIPScore.

    CLIPScore is 2.5 max(cos(image, caption), 0), 0..2.5; RefCLIPScore is its harmonic mean with the largest cosine, not
    below 0, between the caption and the image's references (Hessel et al. 2021, equations 1 and 2). Equal to
    jmhessel/clipscore on vectors that are the same.

    Args:
        images: PIL images, or whatever the scorer's processor takes.
        captions: one for each image.
        scorer: the model that compares them.
        references: for each image its human captions, at least one.

    Returns:
        `scorer` (its name), `clip_score` and, with references, `ref_clip_score`, means over images, each also times 100
        under `..._x100`; `per_item`: the same names, a list of one value per image.

    Raises:
        ValueError: for no image, different numbers of images, captions and references, an image without references,
            and a scorer whose vectors are not finite.
        TypeError: for one string in the place of a list, and what else is no string among the texts.
    """
    if not len(images) or len(images) != len(captions):
        raise ValueError(f"{len(images)} images but {len(captions)} captions: pass one caption for each of the images")
    if references is not None and (len(references) != len(captions) or not all(map(len, references))):
        raise ValueError("references should hold at least one human caption for each image: add them or leave them out")
    check_captions(captions, [[""]] * len(captions) if references is None else references)
    said = scorer.text_vectors(captions)
    values = WEIGHT * np.maximum((scorer.image_vectors(images) * said).sum(axis=1), 0)
    per_item = {"clip_score": values}
    if references is not None:
        texts = scorer.text_vectors([text for image in references for text in image])
        firsts = np.cumsum([0, *map(len, references)])[:-1]
        cosines = (texts * said.repeat([len(image) for image in references], axis=0)).sum(axis=1)
        nearest = np.maximum(np.maximum.reduceat(cosines, firsts), 0)
        total = values + nearest
        per_item["ref_clip_score"] = np.divide(2 * values * nearest, total, out=np.zeros_like(total), where=total > 0)
    means = {name: float(scores.mean()) for name, scores in per_item.items()}
    hundredfold = {f"{name}_x100": 100 * value for name, value in means.items()}
    items = {name: scores.tolist() for name, scores in per_item.items()}
    return {"scorer": scorer.name, **means, **hundredfold, "per_item": items}
