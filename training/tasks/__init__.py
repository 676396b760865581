"""One file per task, each with the same four verbs: rows, inputs, loss, score; and the dict that names them."""

from accelerate import Accelerator

from training.recipe import Recipe

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
    """The recipe's task; `ValueError` for one that does not exist."""
    if recipe.task not in TASKS:
        raise ValueError(f"unknown task {recipe.task!r}; choose one of {', '.join(TASKS)}")
    return TASKS[recipe.task](recipe, accelerator)
