"""What the recipes of question answering say beside the common sections: which answers, and what is learnt of them."""

from dataclasses import dataclass, field
from typing import Literal

from training.data.knowledge import knowledge_of
from training.recipe_sections import Recipe, key

WRITES = "UpDownPrefixLMForVisualQuestionAnswering"
READS_FEW_WORDS = "UpDownForVisualQuestionAnswering"


@dataclass
class ListedAnswersRecipe:
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
class AnswersRecipe(ListedAnswersRecipe):
    """The same, and what a model that writes learns of them.

    learn: a prefix language model learns to write one of a question's answers, drawn by their scores in every epoch
        (`sample`), or all, each weighed by its score (`weigh`).
    """

    learn: Literal["sample", "weigh"] = key("sample", beside={"architecture": (WRITES,)})


@dataclass
class VqaRecipe(Recipe):
    """A recipe with `answers`."""

    answers: AnswersRecipe = field(default_factory=AnswersRecipe)


def check_recipe(recipe: VqaRecipe) -> None:
    """`ValueError` for crops, which may lack what is asked about, for what cannot be withheld, and for knowledge that
    the model does not read or that tells what is withheld."""
    if recipe.regions.crops < 1:
        raise ValueError(f"regions.crops is {recipe.regions.crops}: questions ask about whole images, leave it out")
    if recipe.train.withhold == "text":
        raise ValueError("train.withhold is 'text', which questions call the question: set it to question, or to image")
    if recipe.train.withhold == "regions":
        raise ValueError("train.withhold is 'regions': set it to image, of which questions have nothing left then")
    knowledge = knowledge_of(recipe.data)
    if knowledge is None:
        return
    if recipe.architecture == READS_FEW_WORDS:
        raise ValueError(
            f"data.knowledge is given, but {READS_FEW_WORDS} reads a question's few words alone: set architecture to "
            f"{WRITES} or UpDownFusionForVisualQuestionAnswering"
        )
    if recipe.train.withhold and knowledge.by in (recipe.train.withhold, "both"):
        raise ValueError(
            f"train.withhold is {recipe.train.withhold!r}, but data.knowledge finds sentences by it (by: "
            f"{knowledge.by}), which would tell of it: leave data.knowledge out, or find them by the other"
        )
