"""Statements about two images or more, true or false: NLVR2, NLVR, drawn scenes.

The verbs are `statements.py`'s; `model.image_pairs` is the form in which images are read together.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from transformers import PreTrainedConfig

from modeling_updown import UpDownProcessor
from training.data.statements.formats import PAIR_FORMATS
from training.data.statements.rows import TRUTH
from training.metrics.item_scores import item_scores
from training.metrics.reasoning.statements import nlvr2
from training.recipe_sections import Recipe
from training.scenes.statements import read_scene_pairs
from training.tasks import statements
from training.tasks.card_facts import text_facts
from training.tasks.spec import Scored, TaskSpec
from training.tasks.statements import STATEMENT_READS, Statements, StatementsTask

FORMATS: dict[str, Callable[..., Dataset]] = {**PAIR_FORMATS, "scenes": read_scene_pairs}


class PairsTask(StatementsTask):
    """Statements about several images each, as many as the data have."""

    labels = TRUTH
    formats = FORMATS
    head = ("image_pairs", "image_pairs_dropout", "problem_type")

    def new_fields(self) -> dict[str, Any]:
        """As the base class has it, and the number of images that are told apart."""
        return {**super().new_fields(), "num_images": self.num_images}

    def adopt(self, model: Any, processor: UpDownProcessor) -> None:
        """As the base class has it; a statement is about as many images as the model reads together."""
        super().adopt(model, processor)
        if self.num_images not in (1, model.config.num_images):
            raise ValueError(
                f"the model reads {model.config.num_images} images together, and statements of the data are about "
                f"{self.num_images}: start from another, or train a new one"
            )
        self.num_images = model.config.num_images

    def scored(self, found: Sequence[str], asked: Statements) -> Scored:
        """Accuracy and consistency; what is drawn anew for intervals are groups of one sentence."""
        groups = asked.rows["group"][:]
        scores = nlvr2(found, asked.rows["label"][:], groups=groups)
        metrics = {name: scores[name] for name in ("accuracy", "accuracy_x100", "consistency", "consistency_x100")}
        names, owners = np.unique(groups, return_inverse=True)
        items = {
            "accuracy": item_scores(names.tolist(), scores["per_item"], owners=owners),
            "consistency": item_scores(names.tolist(), [scores["per_group"][name] for name in names.tolist()]),
        }
        return Scored(metrics, [], {}, items)


def check_recipe(recipe: Recipe) -> None:
    """As `statements.check_recipe`; `ValueError` too for `model.num_images`, which the data have."""
    statements.check_recipe(recipe)
    if "num_images" in recipe.model:
        raise ValueError("model.num_images is that of the data: leave it out")


def card_facts(config: PreTrainedConfig, folder: Path) -> dict[str, str]:
    """What a model of pairs reads, and how."""
    forms = {
        "pair": "each with the statement by itself, joint vectors joined",
        "triplet": "all in one pass",
        "pair_biattention": "each with the statement by itself, then each looks at the others",
    }
    return {**text_facts(config), "Images together": f"{config.num_images}, {forms[config.image_pairs]}"}


SPEC = TaskSpec(
    name="pairs",
    task=PairsTask,
    hub_task="visual-reasoning",
    counted="statements",
    models=("UpDownFusionForImagePairs",),
    formats=FORMATS,
    reads=STATEMENT_READS,
    objectives=("cross_entropy",),
    metrics={"accuracy": "accuracy", "consistency": "consistency"},
    best_by=("accuracy", "consistency"),
    check=check_recipe,
    card_facts=card_facts,
)
