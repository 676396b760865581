"""One file per task, each with the same four verbs (rows, inputs, loss, score) and a `SPEC`; and the list of them."""

from accelerate import Accelerator

from training.recipe_sections import Recipe

from . import captioning, detection, prefix_lm, pretraining, retrieval, vqa
from .spec import Task, TaskSpec

TASKS: dict[str, TaskSpec] = {
    spec.name: spec
    for spec in (captioning.SPEC, detection.SPEC, prefix_lm.SPEC, pretraining.SPEC, retrieval.SPEC, vqa.SPEC)
}


def build_task(recipe: Recipe, accelerator: Accelerator) -> Task:
    """The recipe's task; `ValueError` for what that task cannot be run with (`TaskSpec.settle`)."""
    spec = TASKS[recipe.task]
    spec.settle(recipe)
    return spec.task_with.get(recipe.architecture, spec.task)(recipe, accelerator)
