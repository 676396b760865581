"""What the recipes of captioning say beside the common sections: texts that are learnt without images."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from training.console import did_you_mean
from training.metrics.captioning.rewards import REWARDS
from training.recipe_sections import Recipe, key, own_values

BY_WORDS: dict[str, tuple[Any, ...]] = {"train.objective": ("cross_entropy",)}


@dataclass
class TextsRecipe:
    """Captions without images, learnt in one run with those of the images: words for what no image shows.

    A text's regions have no features, only the names of what its captions name (`object_tag_names` and
    `attribute_tag_names` of `model`), so the model must read such tags, and `regions.store` must have them of images.

    data: `format`, above all `texts`, and the options of that format; without an option `split` the rows of
        `train.split` are learnt. Empty: no texts.
    share: 0..1, of the rows of an epoch that are texts; every text is learnt once before any is again.
    vocabulary: the folder of `objects_vocab.txt` and `attributes_vocab.txt` (Visual Genome's layout), whose synonyms
        are other words for the names; empty knows the names alone.
    named: false gives every text one region without a name, also with a model without tags: the control that learns
        from words alone.
    drop_names: 0..1, the probability that a thing that is named has no region, since images show what nobody names.
    false_names: mean number of regions of things that a text does not name, drawn by how often texts name them, since
        detectors err.
    certainty: 0..1, the smallest probability that a region's tags have; each has one drawn from here to 1, and the rest
        is the background's.
    boxes: of these regions: `random`, or the `whole` image.
    """

    data: dict[str, Any] = field(default_factory=dict, metadata={"beside": BY_WORDS})
    share: float = key(0.5, above=0, below=1, beside=BY_WORDS)
    vocabulary: str = key("", beside=BY_WORDS)
    named: bool = key(True, beside=BY_WORDS)
    drop_names: float = key(0.1, lowest=0, below=1, beside=BY_WORDS)
    false_names: float = key(1.0, lowest=0, beside=BY_WORDS)
    certainty: float = key(0.3, above=0, highest=1, beside=BY_WORDS)
    boxes: Literal["random", "whole"] = key("random", beside=BY_WORDS)


@dataclass
class CaptioningRecipe(Recipe):
    """A recipe with `texts`."""

    texts: TextsRecipe = field(default_factory=TextsRecipe)


def check_texts(recipe: CaptioningRecipe) -> None:
    """`ValueError` for texts that cannot be learnt beside the images of a recipe, and for their keys without texts."""
    given = own_values(recipe.texts)
    if given and not recipe.texts.data:
        raise ValueError(f"texts.{given[0]} says nothing without texts.data: name the texts there, or leave it out")
    if not recipe.texts.data:
        return
    if not recipe.texts.data.get("format"):
        raise ValueError("texts.data lacks format, such as `format: texts`")
    if not recipe.regions.store:
        raise ValueError(
            "texts.data needs regions.store: texts have regions without pixels, and images share their batches"
        )


def check_rewards(rewards: Mapping[str, Any]) -> None:
    """`ValueError` for a metric that is no reward, a weight that is no number of 0 or more, and for all weights 0."""
    for name, weight in rewards.items():
        if name not in REWARDS:
            raise ValueError(
                f"train.rewards has no metric {name!r}; choose of {', '.join(REWARDS)}{did_you_mean(name, REWARDS)}"
            )
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < math.inf:
            raise ValueError(f"train.rewards.{name} is {weight!r}, but must be a number of 0 or more")
    if not any(rewards.values()):
        raise ValueError("train.rewards weighs nothing: give a metric a weight above 0, such as {cider_d: 1}")
