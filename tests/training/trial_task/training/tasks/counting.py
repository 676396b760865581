"""Counting objects: rows -> inputs -> loss -> score, for `training/train.py` and `training/evaluate.py`."""

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import PreTrainedConfig

from training.data.counts import COUNT_FORMATS
from training.data.files import format_reader
from training.metrics.counting import count_scores
from training.metrics.item_scores import item_scores
from training.recipe_sections import Recipe, key
from training.tasks.build import load_by_split
from training.tasks.card_facts import text_facts
from training.tasks.fusion import FusionTask
from training.tasks.spec import LOOP_READS, Scored, TaskSpec


@dataclass
class CountsRecipe:
    """What can be counted.

    most: the largest count that the model can give.
    """

    most: int = key(9, lowest=1)


@dataclass
class CountingRecipe(Recipe):
    """A recipe with `counts`."""

    counts: CountsRecipe = field(default_factory=CountsRecipe)


class CountingTask(FusionTask):
    """A recipe's images with counts, model and processor, and the four verbs on them."""

    recipe: CountingRecipe

    def prepare(self) -> None:
        """Everything training needs: rows, model, regions."""
        recipe = self.recipe
        rows = self.rows(recipe.train.split)
        self.ask_store(rows)
        self.model = self.start_from(recipe.init_from) if recipe.init_from else self.build()
        self.set_trained()
        self.check_evaluation()
        self.trained = self.images.prepare(rows, flips=recipe.regions.flips)
        self.num_rows, self.labels = len(self.trained), torch.tensor(self.trained["count"][:])

    # -- rows ---------------------------------------------------------------------------------------------------------

    def rows(self, split: str) -> Dataset:
        """One row an image of that split; `ValueError` for counts that the model cannot give."""
        rows = load_by_split(read_counts, self.recipe.data, split=split, names=("folder",))
        if max(rows["count"]) > self.recipe.counts.most:
            raise ValueError(f"the split {split!r} has {max(rows['count'])} objects in an image: raise counts.most")
        return rows

    def evaluation_rows(self, split: str, *, max_images: int = 0) -> Dataset:
        """The rows of a split, or the first `max_images` of them, with regions."""
        key = (split, max_images)
        if key not in self.evaluated:
            rows = self.rows(split)
            self.evaluated[key] = self.images.prepare(rows.select(range(min(max_images or len(rows), len(rows)))))
        return self.evaluated[key]

    # -- model --------------------------------------------------------------------------------------------------------

    def build(self) -> Any:
        """A new model; it reads no words, but its transformer is a text encoder's, which has a tokenizer."""
        return self.build_fusion(list(self.id2label.values()), id2label=self.id2label)

    @property
    def id2label(self) -> dict[int, str]:
        """The counts by class."""
        return {count: str(count) for count in range(self.recipe.counts.most + 1)}

    def settled_fields(self) -> dict[str, Any]:
        """A fusion model of `init_from` that did not count gets these counts."""
        return {**super().settled_fields(), "id2label": self.id2label}

    # -- inputs and loss ----------------------------------------------------------------------------------------------

    def inputs(self, indices: np.ndarray, *, epoch: int) -> dict[str, Any]:
        """Images (P), mirrored by (seed, epoch, image), with their counts as labels (P,)."""
        chance = [np.random.default_rng([self.recipe.seed, epoch, int(index)]).random() for index in indices]
        flipped = (np.array(chance) < 0.5) & self.recipe.regions.flips
        return {**self.image_inputs(self.trained, indices, flipped=flipped), "labels": self.labels[indices].long()}

    def loss(
        self, model: torch.nn.Module, inputs: dict[str, Any]
    ) -> tuple[torch.Tensor, torch.Tensor, dict[str, float]]:
        """Sum of the loss over images, and their number."""
        output, labels = model(**inputs), inputs["labels"]
        if self.recipe.train.objective == "absolute_error":
            return (output.expected_counts - labels).abs().sum(), torch.tensor(len(labels)), {}
        return output.loss * len(labels), torch.tensor(len(labels)), {}

    # -- score --------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def score(self, model: Any, *, split: str, num_beams: int = 1, max_images: int = 0) -> Scored:
        """Count a split, every process its share of the images."""
        model.eval()
        rows = self.evaluation_rows(split, max_images=max_images)
        counted = self.in_shares(len(rows), partial(self.counted, model, rows), shown="counting").tolist()
        ids, true = rows["image_id"][:], rows["count"][:]
        predictions = [{"image_id": name, "count": count} for name, count in zip(ids, counted, strict=True)]
        right = [float(round(count) == number) for count, number in zip(counted, true, strict=True)]
        return Scored(count_scores(counted, true), predictions, {}, {"count_accuracy": item_scores(ids, right)})

    def counted(self, model: Any, rows: Dataset, indices: np.ndarray) -> torch.Tensor:
        """The expected counts of a few images."""
        return model(**self.on_device(self.image_inputs(rows, indices))).expected_counts

    def figures(self, scored: Scored, *, num_beams: int) -> dict[str, Any]:
        """What an evaluation says of the metrics."""
        return {"metrics": {name: scored.metrics[name] for name in ("count_error", "count_accuracy_x100")}}


def read_counts(*, format: str, **options: Any) -> Dataset:
    """The rows of a recipe's `data` section; `ValueError` for a format or an option that there is not."""
    return format_reader(COUNT_FORMATS, format, options, kind="count")(**options)


def card_facts(config: PreTrainedConfig, folder: Path) -> dict[str, str]:
    """What a counting model stands on and how far it counts, as name and value."""
    return {**text_facts(config), "Counts": f"0 to {config.num_labels - 1}"}


SPEC = TaskSpec(
    name="counting",
    task=CountingTask,
    hub_task="image-classification",
    counted="photos",
    models=("UpDownForImageCounting",),
    formats=COUNT_FORMATS,
    reads=(*LOOP_READS, "regions", "text", "train.gradient_checkpointing"),
    recipe=CountingRecipe,
    card_facts=card_facts,
    objectives=("cross_entropy", "absolute_error"),
    metrics={"count_error": "mean absolute error of counts", "count_accuracy": "counts that are right"},
    best_by=("count_accuracy",),
)
