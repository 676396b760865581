"""What the tasks on captioned images share: rows of an image with its captions, which are drawn and encoded together.

Flips, crops and captions are drawn by (seed, epoch, image), so any process that gets an image draws the same.
"""

import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from datasets import Dataset

from training.data.captions.formats import CAPTION_FORMATS, load_captions
from training.data.clips.task_rows import CAPTIONS as CLIP_CAPTIONS
from training.data.clips.travelling_rows import read_travelling_captions
from training.data.mirroring import tell_sides
from training.metrics.captioning.chair_words import objects_named
from training.regions.extract import random_crop
from training.regions.tags import read_tags
from training.scenes.draw import scenes_dataset
from training.scenes.moving_rows import moving_scenes_dataset
from training.tasks.build import load_by_split
from training.tasks.top_down import TopDownTask

FORMATS: dict[str, Callable[..., Dataset]] = {
    **CAPTION_FORMATS,
    "tags": read_tags,
    "scenes": scenes_dataset,
    "moving_scenes": moving_scenes_dataset,
    "travelling": read_travelling_captions,
    **CLIP_CAPTIONS,
}
BY_SPLIT = ("annotations", "images", "folder", "table", "num_scenes", "pairs", "region_descriptions", "clips")


class CaptionedTask(TopDownTask):
    """A task whose rows are images with their captions; the subclass encodes texts (`encode`) and learns from them."""

    warns_of_lost = True  # whether each lost image of an evaluation is named in a warning

    def rows(self, split: str) -> Dataset:
        """One row an image of that split: image_id, image, captions, split, domain."""
        return caption_rows(self.recipe.data, split=split)

    def training_rows(self) -> Dataset:
        """The rows of `train.split`; `ValueError` where an image has no caption."""
        rows = self.rows(self.recipe.train.split)
        uncaptioned = [
            image_id for image_id, texts in zip(rows["image_id"], rows["captions"], strict=True) if not texts
        ]
        if uncaptioned:
            raise ValueError(
                f"{len(uncaptioned)} training images have no caption, such as {uncaptioned[0]}: "
                "give them captions or another split"
            )
        return rows

    def evaluation_rows(self, split: str, *, max_images: int = 0) -> Dataset:
        """The rows of a split that have captions to compare with and an image to look at."""
        key = (split, max_images)
        if key not in self.evaluated:
            rows = captioned_rows(self.rows(split), split=split)
            rows = rows.select(range(min(max_images, len(rows)))) if max_images else rows
            self.evaluated[key] = self.images.prepare(rows, warns=self.warns_of_lost)
            self.check_lost(len(rows) - len(self.evaluated[key]), of=len(rows), split=split)
        return self.evaluated[key]

    def check_lost(self, lost: int, *, of: int, split: str) -> None:
        """Meet what it means for a score that `lost` images of a split have no regions."""

    def take_rows(self, rows: Dataset) -> None:
        """Prepare the training rows: their images' regions, and their captions as token ids."""
        flips = self.recipe.regions.flips
        self.train_rows = self.images.prepare(rows, flips=flips)
        self.num_rows = len(self.train_rows)
        captions = self.train_rows["captions"][:]
        self.sided = tell_sides(captions if flips else [[]] * self.num_rows)
        self.token_ids = self.encode_captions(captions)

    def encode_captions(self, captions: list[list[str]]) -> list[list[torch.Tensor]]:
        """Captions as token ids: a list an image."""
        rows = iter(self.encode(list(itertools.chain.from_iterable(captions))))
        return [list(itertools.islice(rows, len(texts))) for texts in captions]

    def draws(self, indices: np.ndarray, *, epoch: int) -> list[np.random.Generator]:
        """The generator of each image's flip, crop and captions in one epoch."""
        return [np.random.default_rng([self.recipe.seed, epoch, int(index)]) for index in indices]

    def drawn_images(self, indices: np.ndarray, draws: Sequence[np.random.Generator]) -> dict[str, Any]:
        """Training images by number, flipped and cropped as drawn; not flipped where captions tell left from right."""
        settings = self.recipe.regions
        flipped = np.array([settings.flips and draw.random() < 0.5 for draw in draws]) & ~self.sided[indices]
        crops = np.stack([random_crop(draw, settings.crops) for draw in draws]) if settings.crops < 1 else None
        return self.images.batch(self.train_rows, indices, flipped=flipped, crops=crops)


def caption_rows(data: dict[str, Any], *, split: str) -> Dataset:
    """The rows of a recipe's `data` section, whose options `BY_SPLIT` may be mappings by split."""
    return load_by_split(partial(load_captions, formats=FORMATS), data, split=split, names=BY_SPLIT)


def boxed_rows(rows: Dataset, objects: Mapping[str, Collection[str]], *, split: str) -> Dataset:
    """The rows that have captions to score against, or boxes; `ValueError` where none has boxes.

    objects: image id -> names of its boxes; `ValueError` too where none of them is one of COCO's 80 objects.
    """
    ids = rows["image_id"][:]
    names = {name for boxes in objects.values() for name in boxes}
    if names and not objects_named(names):
        raise ValueError(
            f"no box in the file of --objects is called by one of COCO's 80 objects, but {min(names)!r} and the like, "
            "and CHAIR counts no others: name a file with COCO's categories"
        )
    if not any(image_id in objects for image_id in ids):
        raise ValueError(
            f"none of the {len(ids)} images of the split {split!r}, such as {ids[0]}, has boxes in the file of "
            "--objects: name the instances file of these images, whose ids are the same"
        )
    kept = [i for i, texts in enumerate(rows["captions"]) if texts or ids[i] in objects]
    return rows if len(kept) == len(rows) else rows.select(kept)


def captioned_rows(rows: Dataset, *, split: str) -> Dataset:
    """The rows that have captions to score against; `ValueError` where there is none."""
    with_captions = [i for i, captions in enumerate(rows["captions"]) if captions]
    if not with_captions:
        raise ValueError(
            f"the split {split!r} has no captions to score against: evaluate on another split, or write what its "
            "organisers score with updown evaluate --submission FILE.json"
        )
    return rows if len(with_captions) == len(rows) else rows.select(with_captions)
