"""What a task declares (`TaskSpec`), and what `training/train.py` and `training/evaluate.py` ask of it (`Task`).

SPEC = TaskSpec(...) in the task's own file --training/tasks/__init__.py--> TASKS --> recipes, loop, scores, cards
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from accelerate import Accelerator
from datasets import Dataset
from transformers import PreTrainedConfig

import modeling_updown
from training.console import did_you_mean
from training.metrics.item_scores import ItemScores
from training.recipe_sections import Recipe, is_read, own_values, section_keys, sections_of, value_of
from training.tasks.build import check_fields

# the recipe's keys that `training/train.py` and `training/evaluate.py` read, whatever the task
LOOP_READS = (
    *("train.split", "train.epochs", "train.max_steps", "train.batch_size", "train.accumulation", "train.ema"),
    *("train.optimizer", "train.learning_rate", "train.region_learning_rate", "train.weight_decay", "train.betas"),
    *("train.momentum", "train.schedule", "train.warmup_steps", "train.decay", "train.decay_epochs"),
    *("train.decay_steps", "train.clip_norm", "train.clip_value", "train.mixed_precision", "train.early_stopping"),
    *("train.checkpoint_steps", "train.num_workers", "train.log_with", "evaluate.split", "evaluate.final_split"),
    *("train.objective", "evaluate.batch_size", "evaluate.metric", "evaluate.every_epochs", "evaluate.max_images"),
)
# of these, what a recipe that is part of another says for itself (`training/tasks/multi.py`); the rest is of the run
PART_READS = (
    *("train.split", "train.batch_size", "train.objective", "evaluate.split", "evaluate.final_split"),
    *("evaluate.batch_size", "evaluate.metric"),
)
RUN_READS = (
    *(key for key in LOOP_READS if key not in PART_READS),
    "train.gradient_checkpointing",
    "train.frozen_encoder",
)


@dataclass
class Scored:
    """What `score` returns: the split's metrics, each image's prediction, and the metrics of each domain.

    items: metric -> what each image or question scored, as `training/metrics/item_scores.py` has it, for the metrics
        that are means over them.
    numbers: of the split's images or questions, how many are scored by what: `captioned`, `boxed`.
    samples: of each image, `image_id` and the `captions` that were drawn for it, where several were asked for.
    expressions: what was written for people's boxes, `image_id`, `box` (xyxy in 0..1) and `expression` each, as
        `training/probes/written_expressions.py` reads it.
    parts: of a task that composes others, what each of these scored, and `split`, what that calls the split.
    """

    metrics: dict[str, float]
    predictions: list[dict[str, Any]]
    domains: dict[str, dict[str, float]]
    items: ItemScores = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)
    samples: list[dict[str, Any]] = field(default_factory=list)
    expressions: list[dict[str, Any]] = field(default_factory=list)
    parts: dict[str, "Scored"] = field(default_factory=dict)
    split: str = ""


class Task(Protocol):
    """A recipe's data and model. `prepare` (for training) or `load` (for evaluation) comes first.

    num_rows: images to train on; set by `prepare`.
    stateful: modules that a checkpoint keeps besides the model.

    The three verbs on submissions belong to tasks that submit predictions, `evaluation_rows` to those with figures of
    Java or of a parser, and `add_samples` to those that draw several predictions.
    """

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

    def evaluation_rows(self, split: str) -> Any:
        """The rows of a split that can be scored."""

    def check_submission(self, split: str) -> None:
        """`ValueError` for a split whose predictions no organisers take."""

    def score_all(self, model: Any, *, split: str, num_beams: int) -> Scored:
        """As `score`, with a prediction for every row of the split, those that cannot be scored too."""

    def write_submission(self, scored: Scored, path: str | Path, *, split: str) -> None:
        """Write the predictions as the data set's organisers take them."""

    def add_samples(
        self, evaluation: dict[str, Any], scored: Scored, model: Any, *, split: str, num_samples: int
    ) -> None:
        """Draw predictions, and add how they differ to an evaluation and its scores."""


def epoch_batches(num_rows: int, *, batch_size: int, seed: int, epoch: int) -> np.ndarray:
    """The rows of every step of an epoch, (steps, batch_size); what does not fill a batch waits for the next epoch.

    >>> epoch_batches(5, batch_size=2, seed=0, epoch=0).tolist()
    [[2, 4], [3, 0]]
    """
    order = np.random.default_rng([seed, epoch]).permutation(num_rows)
    batch_size = max(1, min(batch_size, num_rows))
    return order[: num_rows // batch_size * batch_size].reshape(-1, batch_size)


def shuffled_batches(task: Task, epoch: int) -> Sequence[np.ndarray]:
    """The `epoch_batches` of a task's rows, as its recipe says."""
    recipe = task.recipe
    return [*epoch_batches(task.num_rows, batch_size=recipe.train.batch_size, seed=recipe.seed, epoch=epoch)]


def no_facts(config: PreTrainedConfig, folder: Path) -> dict[str, str]:
    """No rows of a card's table beside those on regions."""
    return {}


@dataclass(frozen=True)
class TaskSpec:
    """All that recipes, the loop, evaluation and cards need to know of a task.

    name: of the task in a recipe; its model file, metrics, recipes and part of a card (`NAME_card.md`) have it too.
    task: the class with the verbs (see `Task`), made with a recipe and an accelerator.
    hub_task: the Hub's name of the task, which the card shows.
    counted: what a split has a number of, in `evaluation.json`: `photos` or `questions`.
    models: the names of the classes that it trains; a recipe picks one by its `architecture`, by default the first.
    task_with: models -> the class with the verbs, where it is another one than `task`.
    formats: what `data.format` may be -> its reader.
    reads: the keys of the common sections that mean something to the task, `train.epochs`, or a whole section, `text`.
    reads_with: models -> the keys that are read with them alone.
    runs: what folders of its runs begin with (and its recipes did before they had a folder), where it is not the name.
    recipe: the class of its recipes, which may add sections that the task alone reads.
    check: `ValueError` for a recipe whose keys do not go together.
    card_facts: (config, folder) -> what a card's table says of a saved model of its classes.
    objectives: the values of `train.objective`; the first is the default.
    objectives_with: models -> those that are learnt with them, where they are others.
    metrics: each of its figures, without `_x100` -> what a card calls it.
    best_by: the values of `evaluate.metric`; the first is the default.
    score_file: (recipe, path, split=...) -> scores, figures and rows of a file of predictions of any origin.
    submits: whether predictions are written for a data set's organisers; the task then has the last three verbs.
    add_java: (evaluation, scores, rows) adds the figures that need Java.
    add_parsed: (evaluation, scores, rows) adds the figures that need a parser, and says why where there is none.
    scores_objects: whether `score` and `score_file` take `objects`, image id -> names of its boxes.
    draws_samples: whether several predictions can be drawn; the task then has `add_samples`.
    batches: (task, epoch) -> the rows of every step of an epoch; by default all, in a random order.
    parts: the tasks that it composes, by name; its data are recipes of these. Empty for a task with data of its own.
    """

    name: str
    task: type[Any]
    hub_task: str
    counted: str
    models: tuple[str, ...]
    formats: Mapping[str, Callable[..., Any]]
    reads: tuple[str, ...]
    objectives: tuple[str, ...]
    metrics: Mapping[str, str]
    best_by: tuple[str, ...]
    score_file: Callable[..., tuple[Scored, dict[str, Any], Dataset]] | None = None
    submits: bool = False
    add_java: Callable[[dict[str, Any], Scored, Dataset], None] | None = None
    add_parsed: Callable[[dict[str, Any], Scored, Dataset], None] | None = None
    scores_objects: bool = False
    draws_samples: bool = False
    runs: str = ""
    recipe: type[Recipe] = Recipe
    check: Callable[[Any], None] | None = None
    card_facts: Callable[[PreTrainedConfig, Path], dict[str, str]] = no_facts
    reads_with: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    task_with: Mapping[str, type[Any]] = field(default_factory=dict)
    objectives_with: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    batches: Callable[[Any, int], Sequence[np.ndarray]] = shuffled_batches
    parts: Mapping[str, "TaskSpec"] = field(default_factory=dict)

    def settle(self, recipe: Recipe) -> None:
        """Fill in what a recipe leaves to its task; `ValueError` for what the task cannot be run with."""
        recipe.architecture = recipe.architecture or self.models[0]
        objectives = self.objectives_with.get(recipe.architecture, self.objectives)
        recipe.train.objective = recipe.train.objective or objectives[0]
        recipe.evaluate.metric = recipe.evaluate.metric or self.best_by[0]
        for key, value, choices in (
            ("architecture", recipe.architecture, self.models),
            ("data.format", recipe.data["format"], tuple(self.formats)),
            ("train.objective", recipe.train.objective, objectives),
            ("evaluate.metric", recipe.evaluate.metric, self.best_by),
        ):
            if value not in choices:
                fault = f"{key} is {value!r}; the task {self.name} takes {', '.join(choices)}"
                raise ValueError(fault + did_you_mean(value, choices))
        check_fields(getattr(modeling_updown, recipe.architecture).config_class, recipe.model, section="model")
        if self.check is not None:
            self.check(recipe)

    @property
    def sections(self) -> dict[str, type[Any]]:
        """The sections that the task alone reads: name -> dataclass."""
        return {name: kind for name, kind in sections_of(self.recipe).items() if name not in sections_of(Recipe)}

    def keys_read(self, architecture: str) -> tuple[str, ...]:
        """The keys, or whole sections, that mean something to the task with that model."""
        return (*self.reads, *self.sections, *self.reads_with.get(architecture, ()))

    def idle_keys(self, recipe: Recipe) -> list[str]:
        """A sentence for each group of keys that have values of their own, but are not read beside the value of another
        key: `momentum` beside another optimiser."""
        reads, idle = self.keys_read(recipe.architecture), defaultdict(list)
        sections = sections_of(self.recipe)
        given = {f"{name}.{last}" for name in sections for last in own_values(getattr(recipe, name))}
        for name, entry in section_keys(sections).items():
            for other, values in entry.metadata.get("beside", {}).items():
                if name in given and is_read(other, reads) and value_of(recipe, other) not in values:
                    idle[other, values].append(name)
        return [
            f"{', '.join(names)} of the recipe says nothing, since {other} is {value_of(recipe, other)!r}: it is read "
            f"where that is {' or '.join(map(repr, values))}"
            for (other, values), names in idle.items()
        ]
