"""What the recipes of dense captioning say beside the common sections: which regions learn which sentences."""

from dataclasses import dataclass, field

from training.recipe_sections import Recipe, key


@dataclass
class MatchingRecipe:
    """How regions are matched with the boxes that people described.

    iou: 0..1, a region learns the sentences of the box that it overlaps most where it does so by this IoU or more; of
        an image without such a region the one with the largest IoU does.
    background_iou: 0..1, a region that overlaps no box by this IoU learns that nobody describes it; from here to `iou`
        that is left open.
    """

    iou: float = key(0.5, above=0, highest=1)
    background_iou: float = key(0.3, above=0, highest=1)


@dataclass
class DenseCaptioningRecipe(Recipe):
    """A recipe with `matching`."""

    matching: MatchingRecipe = field(default_factory=MatchingRecipe)


def check_recipe(recipe: DenseCaptioningRecipe) -> None:
    """`ValueError` for what cannot be withheld or matched."""
    if recipe.train.withhold in ("question", "text"):
        raise ValueError(
            f"train.withhold is {recipe.train.withhold!r}, which a described region has none of: set it to image, or "
            "to regions"
        )
    matching = recipe.matching
    if matching.background_iou > matching.iou:
        raise ValueError(
            f"matching.background_iou {matching.background_iou:g} is more than matching.iou {matching.iou:g}: a region "
            "would be described and not"
        )
