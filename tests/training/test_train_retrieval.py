"""Retrieval in the training loop: the contrast of a batch over two processes is that of one, and after a kill it goes
on as it would have."""

import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.training.tiny_run import log_of, tiny_retrieval_recipe, train_here, train_in_processes
from training.recipe_sections import Recipe

STILL = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}  # processes draw dropout masks of their own


def contrastive_recipe(folder: Path, **train: Any) -> Recipe:
    """A tiny retrieval run without dropout and without matching, whose wrong pairs are drawn process by process."""
    recipe = tiny_retrieval_recipe(folder, train={"epochs": 4, **train})
    recipe.model = {**recipe.model, "objectives": {"itc": 1}}
    recipe.model["text_config"] |= STILL
    return recipe


@pytest.mark.parametrize("queue", [0, 20])
def test_two_processes_take_the_steps_of_one(queue: int, tmp_path: Path) -> None:
    recipes = [contrastive_recipe(tmp_path / name, momentum_queue=queue) for name in ("alone", "both")]
    train_here(recipes[0])
    assert train_in_processes(recipes[1], num_processes=2) == [0, 0]
    expected, found = (log_of(recipe, "loss") for recipe in recipes)
    assert len(expected) == 12 and max(expected) - min(expected) > 0.1  # steps depend on earlier ones
    assert found == pytest.approx(expected, abs=1e-4)
    assert log_of(recipes[1], "t2i_map") == pytest.approx(log_of(recipes[0], "t2i_map"), abs=1e-2)
    assert log_of(recipes[1], "rsum") == pytest.approx(log_of(recipes[0], "rsum"), abs=0.3)


@pytest.mark.parametrize("task", ["retrieval", "pretraining"])
def test_a_killed_run_ends_with_the_weights_of_one_that_was_not(task: str, tmp_path: Path) -> None:
    recipe, killed = (
        tiny_retrieval_recipe(tmp_path / name, task=task, train={"momentum_queue": 12, "checkpoint_steps": 2})
        for name in ("whole", "killed")
    )
    for one in (recipe, killed):
        names = ("itc", "itm") if task == "retrieval" else ("itc", "itm", "mlm", "mrfr", "prefix_lm")
        one.model = {**one.model, "objectives": dict.fromkeys(names, 1)}
    assert train_in_processes(recipe) == [0]
    assert train_in_processes(killed, kill="training.train:Run.train_step:5") == [-signal.SIGKILL]
    assert train_in_processes(killed) == [0]
    assert log_of(killed, "loss") == log_of(recipe, "loss")
    weights, expected = (load_file(Path(one.output) / "best" / "model.safetensors") for one in (killed, recipe))
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
