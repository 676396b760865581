"""One file per task, each with the same four verbs (rows, inputs, loss, score) and a `SPEC`; and the list of them."""

import warnings

from accelerate import Accelerator

from training.recipe_sections import Recipe

from . import (
    captioning,
    dense_captioning,
    detection,
    entailment,
    grounding,
    moments,
    multi,
    multiple_choice,
    pairs,
    prefix_lm,
    pretraining,
    reading,
    retrieval,
    vqa,
)
from .spec import Task, TaskSpec

TASKS: dict[str, TaskSpec] = {
    spec.name: spec
    for spec in (
        *(captioning.SPEC, dense_captioning.SPEC, detection.SPEC, entailment.SPEC, grounding.SPEC, moments.SPEC),
        *(multi.SPEC, multiple_choice.SPEC, pairs.SPEC, prefix_lm.SPEC, pretraining.SPEC, reading.SPEC),
        *(retrieval.SPEC, vqa.SPEC),
    )
}


def build_task(recipe: Recipe, accelerator: Accelerator) -> Task:
    """The recipe's task; `ValueError` for what it cannot be run with, and a warning for keys that say nothing."""
    spec = TASKS[recipe.task]
    spec.settle(recipe)
    for sentence in spec.idle_keys(recipe):
        warnings.warn(sentence, stacklevel=2)
    return spec.task_with.get(recipe.architecture, spec.task)(recipe, accelerator)
