"""What the recipes of multiple choice say beside the common sections: how much is read, and what is learnt of it."""

from dataclasses import dataclass, field

from training.recipe_sections import Recipe, key


@dataclass
class ChoicesRecipe:
    """How contexts and candidates are read, and what is learnt.

    per_item: training reads so many candidates of each item, those that are right and others that are drawn; 0 reads
        all. Scoring always does.
    context_words: the longest context in word pieces; a longer history of a dialogue loses its oldest rounds, with one
        warning. 0: as long as the text encoder can read beside the longest candidate.
    learn_relevance: learn how right each candidate is (dense annotation) in place of the right one; items without
        relevances are left out.
    """

    per_item: int = key(0, lowest=0)
    context_words: int = key(0, lowest=0)
    learn_relevance: bool = False


@dataclass
class MultipleChoiceRecipe(Recipe):
    """A recipe with `choices`."""

    choices: ChoicesRecipe = field(default_factory=ChoicesRecipe)


def check_recipe(recipe: MultipleChoiceRecipe) -> None:
    """`ValueError` for images that are cut or mirrored, for one candidate an item, and for what cannot be withheld."""
    if recipe.regions.crops < 1:
        raise ValueError(f"regions.crops is {recipe.regions.crops}: choices are about whole images, leave it out")
    if recipe.regions.flips:
        raise ValueError(
            "regions.flips is set, but questions, answers and dialogues tell left from right: leave it out"
        )
    if recipe.train.withhold == "text":
        raise ValueError("train.withhold is 'text': set it to question, which leaves the candidates alone, or to image")
    if recipe.choices.per_item == 1:
        raise ValueError("choices.per_item is 1, of which nothing is chosen: set it to 2 or more, or 0 for all")
    if recipe.model.get("region_links") and not (recipe.regions.store or recipe.train.withhold == "image"):
        raise ValueError(
            "model.region_links finds the regions of words by their boxes: name a store of regions in regions.store"
        )
