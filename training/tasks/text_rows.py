"""Texts as rows to train on beside those of images: their captions, and regions of what these name.

    texts.data of a recipe --TextRows--> captions and pseudo-regions, N rows at a time --captioning.py--> inputs

Rows of texts follow those of images: `share` of an epoch's rows. Which texts an epoch takes, and all noise, depend on
(seed, epoch, row) alone.
"""

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from training.data.boxes.visual_genome import ATTRIBUTES_FILE, OBJECTS_FILE, Vocabulary, read_vocabulary
from training.data.captions.formats import load_captions
from training.data.captions.named_things import ThingFinder, vocabulary_of, with_things
from training.data.files import listed
from training.tasks.captioning_recipe import CaptioningRecipe
from training.tasks.captions import FORMATS
from training.tasks.pseudo_regions import PseudoRegions, Thing

FILES = {"object_probs": OBJECTS_FILE, "attribute_probs": ATTRIBUTES_FILE}  # of a vocabulary's folder


class TextRows:
    """The texts of a recipe; `prepare` comes after the model is made.

    captions: those of each row.
    """

    def __init__(self, recipe: CaptioningRecipe):
        """Raises `ValueError` for texts that cannot be read, and for a row without captions."""
        self.recipe, self.settings = recipe, recipe.texts
        try:
            self.rows = load_captions(**{"split": recipe.train.split, **self.settings.data}, formats=FORMATS)
        except ValueError as error:
            raise ValueError(f"texts.data: {error}") from error
        self.rows = self.rows.select([i for i, texts in enumerate(self.rows["captions"]) if texts])
        if not len(self.rows):
            raise ValueError("texts.data has no caption")
        self.captions: list[list[str]] = self.rows["captions"][:]
        self.num_rows = 0  # of an epoch
        self.first = 0  # number of the first row of a text, which is that of images

    def prepare(self, config: Any, *, num_images: int) -> None:
        """Find what the texts name, in the words of the model's tags.

        Args:
            config: of the model.
            num_images: rows of images in an epoch.

        Raises:
            ValueError: for a model without tags, and for texts that name nothing that it has a tag for.
        """
        share, kinds = self.settings.share, config.tag_kinds
        self.first, self.num_rows = num_images, max(round(num_images * share / (1 - share)), 1)
        self.things: list[list[Thing]] = [[] for _ in self.captions]
        if self.settings.named:
            self.things = self.named({kind.probs: list(getattr(config, kind.names) or []) for kind in kinds})
        num_classes = {kind.probs: getattr(config, kind.name) for kind in kinds}
        counts = Counter(object_id for things in self.things for object_id, _ in things)
        self.regions = PseudoRegions(
            self.settings,
            feature_size=config.region_feature_size,
            num_classes=num_classes,
            frequencies=np.array([counts[number + 1] for number in range(num_classes.get("object_probs", 0))], float),
        )

    def named(self, names: dict[str, list[str]]) -> list[list[Thing]]:
        """The things of each text as ids of the tags `names`; `ValueError` as `prepare`."""
        if not names.get("object_probs"):
            raise ValueError(
                "texts.data: the model reads no names of objects, which are all that a text's regions have: set "
                "regions.tags to [objects, attributes], or learn from words alone with texts.named: false"
            )
        vocabularies = {column: self.vocabulary(column, names.get(column, [])) for column in FILES}
        self.rows = with_things(self.rows, ThingFinder(vocabularies["object_probs"], vocabularies["attribute_probs"]))
        objects, attributes = (vocabularies[column].ids for column in FILES)
        found: list[list[Thing]] = [
            [(objects[thing["name"]], tuple(attributes[name] for name in thing["attributes"])) for thing in things]
            for things in self.rows["things"]
        ]
        if not any(found):
            told = listed(names["object_probs"])
            raise ValueError(f"texts.data: no text names anything that the model has a tag for: {told}")
        return found

    def vocabulary(self, column: str, names: Sequence[str]) -> Vocabulary:
        """The names of the model's tags of a column, with the synonyms of `texts.vocabulary`.

        Raises `ValueError` where that has none of the names.
        """
        folder = self.settings.vocabulary
        if not folder or not names:
            return vocabulary_of(names)
        file = read_vocabulary(Path(folder) / FILES[column])
        own = vocabulary_of(names)
        if file.ids.keys().isdisjoint(own.ids):
            raise ValueError(
                f"texts.vocabulary: {Path(folder) / FILES[column]} has none of the model's names ({names[0]}, ...): "
                "name the folder that its detector was trained with, or leave it out"
            )
        return vocabulary_of(names, {synonym: file.names[number - 1] for synonym, number in file.ids.items()})

    def texts_of(self, indices: Sequence[int], *, epoch: int) -> list[int]:
        """Which texts the rows of an epoch are: all of them in a random order, then again in another."""
        places = (epoch * self.num_rows + index - self.first for index in indices)
        turns = (divmod(place, len(self.captions)) for place in places)
        return [int(shuffled(self.recipe.seed, turn, len(self.captions))[place]) for turn, place in turns]

    def batch(self, texts: Sequence[int], draws: Sequence[np.random.Generator]) -> dict[str, torch.Tensor]:
        """The regions of those texts; draws: the generator of each row."""
        return self.regions.batch([self.things[text] for text in texts], draws)


@lru_cache(maxsize=4)
def shuffled(seed: int, turn: int, number: int) -> Any:
    """A random order of 0 .. number - 1, another for each turn."""
    return np.random.default_rng([seed, turn, number]).permutation(number)
