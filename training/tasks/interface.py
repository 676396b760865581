"""What `training/train.py` and `training/evaluate.py` ask of a task: the four verbs, and what goes with them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from accelerate import Accelerator

from training.recipe import Recipe


@dataclass
class Scored:
    """What `score` returns: the split's metrics, each photo's prediction, and the metrics of each domain."""

    metrics: dict[str, float]
    predictions: list[dict[str, Any]]
    domains: dict[str, dict[str, float]]


class Task(Protocol):
    """A recipe's data and model. `prepare` (for training) or `load` (for evaluation) comes first.

    hub_task: the Hub's name of the task, which the card shows.
    counted: what a split has so many of, `photos` or `questions`.
    num_rows: photos to train on; known once prepared.
    stateful: modules that a checkpoint keeps besides the model.
    """

    hub_task: str
    counted: str
    recipe: Recipe
    accelerator: Accelerator
    model: Any
    num_rows: int
    stateful: list[torch.nn.Module]

    def prepare(self) -> None:
        """Everything training needs; `ValueError` for data or models that the recipe cannot be run with."""

    def load(self, folder: str | Path) -> tuple[Any, Any]:
        """The model (in float32) and processor of a saved folder, from now on those of the task."""

    def save(self, model: Any, folder: Path) -> None:
        """Write model and processor as one `save_pretrained` folder."""

    def inputs(self, indices: np.ndarray, *, epoch: int) -> dict[str, Any]:
        """The rows of those numbers as tensors; any chance in it is decided by (seed, epoch, row)."""

    def loss(
        self, model: torch.nn.Module, inputs: dict[str, Any]
    ) -> tuple[torch.Tensor, torch.Tensor, dict[str, float]]:
        """Sum of the loss, what it is divided by over the whole batch (words, photos), and what else is logged."""

    def score(self, model: Any, *, split: str, num_beams: int, max_photos: int = 0) -> Scored:
        """The metrics of a split; `num_beams` means something to tasks that write."""

    def figures(self, scored: Scored, *, num_beams: int) -> dict[str, Any]:
        """What `evaluation.json` says of the scores: `metrics` (x100) and whatever belongs to the task."""
