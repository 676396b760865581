"""What each task declares (`SPEC`), and the keys it declares against what its verbs look up while they run."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.training.tiny_run import (
    new_accelerator,
    tiny_dense_captioning_recipe,
    tiny_detection_recipe,
    tiny_grounding_recipe,
    tiny_moments_recipe,
    tiny_multi_recipe,
    tiny_multiple_choice_recipe,
    tiny_reading_recipe,
    tiny_recipe,
    tiny_retrieval_recipe,
    tiny_statements_recipe,
    tiny_vqa_recipe,
)
from training.recipe_sections import Recipe, is_read, sections_of
from training.tasks import TASKS, build_task
from training.train import Run

GPT = {"model_type": "gpt2", "n_layer": 1, "n_head": 2, "n_embd": 16, "n_positions": 40}
BERT = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
RECIPES: dict[str, Any] = {
    "captioning": tiny_recipe,
    "dense_captioning": tiny_dense_captioning_recipe,
    "detection": tiny_detection_recipe,
    "entailment": tiny_statements_recipe,
    "grounding": tiny_grounding_recipe,
    "moments": tiny_moments_recipe,
    "multi": tiny_multi_recipe,
    "multiple_choice": tiny_multiple_choice_recipe,
    "pairs": tiny_statements_recipe,
    "prefix_lm": tiny_recipe,
    "pretraining": tiny_retrieval_recipe,
    "reading": tiny_reading_recipe,
    "retrieval": tiny_retrieval_recipe,
    "vqa": tiny_vqa_recipe,
}


def watch(recipe: Recipe) -> set[str]:
    """Let every section note the names of its keys that are looked up from now on; returns the growing set of them."""
    seen: set[str] = set()
    for section, kind in sections_of(type(recipe)).items():
        names = set(kind.__dataclass_fields__)
        getattr(recipe, section).__class__ = type(
            kind.__name__, (kind,), {"__getattribute__": noting(section, names, seen)}
        )
    return seen


def noting(section: str, names: set[str], seen: set[str]) -> Any:
    """A `__getattribute__` that notes which of the names are looked up."""
    return lambda self, name: (name in names and seen.add(f"{section}.{name}"), object.__getattribute__(self, name))[1]  # type: ignore[func-returns-value]


def recipe_of(folder: Path, task: str, model: str) -> Any:
    """A tiny recipe of a task that trains one of its models."""
    recipe = RECIPES[task](folder, task=task, architecture=model)
    if task == "prefix_lm":
        recipe.model = {"text_config": GPT}
    if task == "pretraining":
        recipe.model["objectives"] = {"itc": 1, "mlm": 1, "mrfr": 1}
    if model == "UpDownFusionForMaskedLM":
        recipe.model["objectives"], recipe.evaluate.metric = {"mlm": 1}, "mlm_accuracy"
    if model == "UpDownPrefixLMForVisualQuestionAnswering":
        recipe.train.objective = "cross_entropy"
        recipe.model, recipe.text.vocabulary_size = {"text_config": {**GPT, "n_positions": 64}}, 300
    if model == "UpDownFusionForVisualQuestionAnswering":
        recipe.model, recipe.text.vocabulary_size = {"text_config": BERT}, 300
    return recipe


@pytest.mark.parametrize(("task", "model"), [(task, model) for task, spec in TASKS.items() for model in spec.models])
def test_what_a_task_looks_up_in_the_recipe_is_what_it_declares(tmp_path: Path, task: str, model: str) -> None:
    recipe = recipe_of(tmp_path, task, model)
    built: Any = build_task(recipe, new_accelerator())
    seen = watch(recipe)
    built.prepare()
    built.loss(built.model, built.inputs(np.arange(2), epoch=0))
    built.score(built.model, split="val", num_beams=1, max_images=2)
    undeclared = {key for key in seen if not is_read(key, TASKS[task].keys_read(recipe.architecture))}
    assert len(seen) > 3 and not undeclared  # of several tasks each part reads its own recipe
    Run(recipe, built, built.accelerator)
    assert {"train.learning_rate", "train.ema"} <= seen


def test_a_metric_has_one_name_on_all_cards() -> None:
    named = {(key, name) for spec in TASKS.values() for key, name in spec.metrics.items()}
    assert len(named) == len({key for key, _ in named}), "two tasks name one figure differently"
