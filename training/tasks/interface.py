"""What `training/train.py` and `training/evaluate.py` ask of a task: the four verbs, and what goes with them."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from accelerate import Accelerator

from training.metrics.item_scores import ItemScores
from training.recipe_sections import Recipe

# the recipe's keys that `training/train.py` and `training/evaluate.py` read, whatever the task
LOOP_READS = (
    *("train.split", "train.epochs", "train.max_steps", "train.batch_size", "train.accumulation", "train.ema"),
    *("train.optimizer", "train.learning_rate", "train.region_learning_rate", "train.weight_decay", "train.betas"),
    *("train.momentum", "train.schedule", "train.warmup_steps", "train.decay", "train.decay_epochs"),
    *("train.decay_steps", "train.clip_norm", "train.clip_value", "train.mixed_precision", "train.early_stopping"),
    *("train.checkpoint_steps", "train.num_workers", "train.log_with", "evaluate.split", "evaluate.final_split"),
    *("evaluate.batch_size", "evaluate.metric", "evaluate.every_epochs", "evaluate.max_images"),
)


@dataclass
class Scored:
    """What `score` returns: the split's metrics, each image's prediction, and the metrics of each domain.

    items: metric -> what each image or question scored, as `training/metrics/item_scores.py` has it, for the metrics
        that are means over them.
    """

    metrics: dict[str, float]
    predictions: list[dict[str, Any]]
    domains: dict[str, dict[str, float]]
    items: ItemScores = field(default_factory=dict)


class Task(Protocol):
    """A recipe's data and model. `prepare` (for training) or `load` (for evaluation) comes first.

    hub_task: the Hub's name of the task, which the card shows.
    counted: what a split has so many of, `images` or `questions`.
    reads: the recipe's keys that mean something to the task, `train.epochs`, or a whole section, `masks`.
    objectives: the values of `train.objective` that mean something to it.
    num_rows: images to train on; known once prepared.
    stateful: modules that a checkpoint keeps besides the model.
    """

    hub_task: str
    counted: str
    reads: tuple[str, ...]
    objectives: tuple[str, ...]
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
        """Sum of the loss, what it is divided by over the whole batch (words, images), and what else is logged."""

    def score(self, model: Any, *, split: str, num_beams: int, max_images: int = 0) -> Scored:
        """The metrics of a split; `num_beams` means something to tasks that write."""

    def figures(self, scored: Scored, *, num_beams: int) -> dict[str, Any]:
        """What `evaluation.json` says of the scores: `metrics` (x100) and whatever belongs to the task."""
