"""One file per task, each with the same four verbs: rows, inputs, loss, score; and the dict that names them."""

from accelerate import Accelerator

from training.recipe import check_keys, did_you_mean
from training.recipe_sections import Recipe

from .captioning import CaptioningTask
from .detection import DetectionTask
from .interface import Task
from .prefix_lm import PrefixLMTask
from .pretraining import PretrainingTask
from .retrieval import RetrievalTask
from .vqa import VqaTask

TASKS: dict[str, type[CaptioningTask] | type[DetectionTask] | type[RetrievalTask] | type[VqaTask]] = {
    "captioning": CaptioningTask,
    "detection": DetectionTask,
    "prefix_lm": PrefixLMTask,
    "pretraining": PretrainingTask,
    "retrieval": RetrievalTask,
    "vqa": VqaTask,
}


def build_task(recipe: Recipe, accelerator: Accelerator) -> Task:
    """The recipe's task; `ValueError` for a recipe that `check_recipe` refuses and an objective of another task."""
    check_recipe(recipe)
    kind = TASKS[recipe.task]
    if recipe.train.objective not in kind.objectives:
        raise ValueError(
            f"train.objective is {recipe.train.objective!r}; "
            f"the task {recipe.task} takes {' or '.join(kind.objectives)}"
        )
    return kind(recipe, accelerator)


def check_recipe(recipe: Recipe) -> None:
    """`ValueError` for an unknown task and for a key that the task does not read; see `check_keys`."""
    if recipe.task not in TASKS:
        raise ValueError(
            f"unknown task {recipe.task!r}; choose one of {', '.join(TASKS)}" + did_you_mean(recipe.task, TASKS)
        )
    check_keys(recipe, {name: task.reads for name, task in TASKS.items()})
