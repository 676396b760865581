"""What the recipes of question answering say beside the common sections: which answers, and what is learnt of them."""

from dataclasses import dataclass, field
from typing import Literal

from training.recipe_sections import Recipe, key


@dataclass
class AnswersRecipe:
    """Which answers a question answerer can give, and what it is trained towards.

    file: a list of answers, as `updown build-answers` writes it; empty builds one from the training questions.
    min_count, top: keep answers seen so often, or so many of the commonest; one of both where there is no file.
    spelling: `normalized`, as VQA scores them, or `as_written`, for data sets whose answers are lists ("red, white").
    scores: soft targets from the annotators, `leave_one_out` (as VQA is scored), `table` (hengyuan-hu's) or
        `agree_of_three`, the paper's min(n/3, 1), in which models are then scored too; `single` trains towards the one
        answer of each question alone.
    """

    file: str = ""
    min_count: int = key(0, lowest=0, beside={"answers.file": ("",)})
    top: int = key(0, lowest=0, beside={"answers.file": ("",)})
    spelling: Literal["normalized", "as_written"] = key("normalized", beside={"answers.file": ("",)})
    scores: Literal["leave_one_out", "table", "single", "agree_of_three"] = "leave_one_out"


@dataclass
class VqaRecipe(Recipe):
    """A recipe with `answers`."""

    answers: AnswersRecipe = field(default_factory=AnswersRecipe)


def check_recipe(recipe: VqaRecipe) -> None:
    """`ValueError` for crops, which may lack what is asked about, and for what cannot be withheld."""
    if recipe.regions.crops < 1:
        raise ValueError(f"regions.crops is {recipe.regions.crops}: questions ask about whole images, leave it out")
    if recipe.train.withhold == "text":
        raise ValueError("train.withhold is 'text', which questions call the question: set it to question, or to image")
    if recipe.train.withhold == "regions":
        raise ValueError("train.withhold is 'regions': set it to image, of which questions have nothing left then")
