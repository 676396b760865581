"""Regions of what a text names: no features, only tags, so that a captioner learns words for what no image showed.

    things of a text + noise --pseudo_regions--> region_features (zeros), region_boxes, region_mask, object_probs, ...

A tag stands for a region of that name in an image (Oscar, Li et al. 2020). Tags of a detector are neither certain nor
all of what an image shows, and some are false; so names are dropped, others are added, and none has a probability of 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from training.tasks.captioning_recipe import TextsRecipe

BACKGROUND = 0  # the class of no object, and of no attribute
SMALLEST_SIDE = 0.1  # of a random box, as a part of the image's
MOST_REGIONS = 100  # of a text, as many as a detector gives of an image: a batch is as long as its longest row

Thing = tuple[int, tuple[int, ...]]  # the ids of an object and of its attributes, from 1


@dataclass(frozen=True)
class PseudoRegions:
    """Makes regions of things.

    Attributes:
        settings: the noise, and how boxes are drawn.
        feature_size: the width D of the model's region features.
        num_classes: the column of probabilities (`object_probs`, `attribute_probs`) -> its number of classes, without
            the background; those that the model reads.
        frequencies: (C,) how often texts name each object; false names are drawn by it.
    """

    settings: TextsRecipe
    feature_size: int
    num_classes: dict[str, int]
    frequencies: np.ndarray

    def batch(self, rows: Sequence[Sequence[Thing]], draws: Sequence[np.random.Generator]) -> dict[str, torch.Tensor]:
        """Regions of N texts as a model takes those of images, (N, R, ...), padded with zeros.

        Args:
            rows: the things of each text.
            draws: the generator of each text's noise.
        """
        chosen = [self.noisy(things, draw) for things, draw in zip(rows, draws, strict=True)]
        size = (len(chosen), max(map(len, chosen)))  # N, R
        made: dict[str, Any] = {
            "region_features": torch.zeros(*size, self.feature_size),
            "region_boxes": torch.zeros(*size, 4),
            "region_mask": torch.zeros(size, dtype=torch.bool),
            **{name: torch.zeros(*size, count + 1) for name, count in self.num_classes.items()},
        }
        for row, (things, draw) in enumerate(zip(chosen, draws, strict=True)):
            made["region_mask"][row, : len(things)] = True
            made["region_boxes"][row, : len(things)] = torch.from_numpy(self.boxes(len(things), draw))
            for place, (object_id, attribute_ids) in enumerate(things):
                certainty = draw.uniform(self.settings.certainty, 1.0)
                for name, ids in (("object_probs", (object_id,)), ("attribute_probs", attribute_ids)):
                    if name in made:
                        made[name][row, place] = self.probabilities(name, ids, certainty)
        return made

    def noisy(self, things: Sequence[Thing], draw: np.random.Generator) -> list[Thing]:
        """The things without those that are dropped and with false ones, `MOST_REGIONS` of them drawn where there are
        more; the background alone where none is left."""
        kept = [thing for thing in things if draw.random() >= self.settings.drop_names]
        said = {object_id for object_id, _ in things}
        total = self.frequencies.sum()
        if self.settings.false_names and total > 0:
            number = draw.poisson(self.settings.false_names)
            others = 1 + draw.choice(len(self.frequencies), size=number, p=self.frequencies / total)
            kept += [(int(object_id), ()) for object_id in others if object_id not in said]
        if len(kept) > MOST_REGIONS:
            kept = [kept[place] for place in np.sort(draw.permutation(len(kept))[:MOST_REGIONS])]
        return kept or [(BACKGROUND, ())]

    def boxes(self, number: int, draw: np.random.Generator) -> np.ndarray:
        """xyxy in 0..1, (number, 4) float32: the whole image, or boxes of any size and place."""
        if self.settings.boxes == "whole":
            return np.tile(np.array([0, 0, 1, 1], dtype=np.float32), (number, 1))
        side = draw.uniform(SMALLEST_SIDE, 1.0, (number, 2))
        corner = draw.random((number, 2)) * (1 - side)
        return np.concatenate([corner, corner + side], axis=1).astype(np.float32)

    def probabilities(self, name: str, ids: Sequence[int], certainty: float) -> torch.Tensor:
        """Of each class (C + 1,): the ids share `certainty`, the background has the rest."""
        found = torch.zeros(self.num_classes[name] + 1)
        named = [number for number in ids if number != BACKGROUND]
        found[BACKGROUND] = 1.0 - certainty if named else 1.0
        found[named] = certainty / max(len(named), 1)
        return found
