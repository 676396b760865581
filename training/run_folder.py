"""A run's output folder: one run of one recipe at a time, and nothing in it that no run made.

output/recipe.yaml     the recipe, whole and with every change
output/log.jsonl       a line a step and an evaluation
output/checkpoints/    the newest two
output/best/           the best model so far, a `save_pretrained` folder
"""

import contextlib
import os
from pathlib import Path
from typing import BinaryIO

import yaml
from accelerate import Accelerator

from training.checkpoints import on_main_process
from training.data.files import write_atomically
from training.recipe import changed_keys, read_recipe
from training.recipe_sections import Recipe
from training.regions.shards import lock_file, lock_writer

# What may change between two starts of a run, since no weight depends on it.
FREE_KEYS = {"train.num_workers", "train.checkpoint_steps", "train.log_with", "train.early_stopping"}
WRITTEN = ("best", "checkpoints", "log.jsonl")
LOCK_FILE = lock_file(0)  # stays, so that a run's folder can be told from another
UNFITTED_SCHEDULES = ("step", "constant")  # those that are the same for any number of epochs


class ClaimedOutput:
    """`with ClaimedOutput(recipe, accelerator):` the recipe's output folder is this run's alone.

    Entering raises `ValueError`, on every process, for a folder with a run of another recipe, with what no run made, or
    in which another run is at work. A folder in which nothing came to stand is removed in the end.
    """

    def __init__(self, recipe: Recipe, accelerator: Accelerator):
        self.recipe, self.accelerator = recipe, accelerator
        self.folder = Path(recipe.output)
        self.lock: BinaryIO | None = None

    def __enter__(self) -> None:
        on_main_process(self.accelerator, self.claim)

    def __exit__(self, *exception: object) -> None:
        if self.lock is None:
            return
        if not (self.folder / "recipe.yaml").is_file():
            (self.folder / LOCK_FILE).unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # a store may lie there
                self.folder.rmdir()
        self.lock.close()

    def claim(self) -> None:
        """Check the folder and keep other runs out of it."""
        check_output(self.recipe)
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self.lock = lock_writer(self.folder, 0)
        except RuntimeError as error:
            raise ValueError(
                f"another run trains into {self.folder}: wait for its end, or choose another output"
            ) from error
        if hasattr(os, "register_at_fork"):  # loader workers outlive a killed run by seconds, and would keep its lock
            os.register_at_fork(after_in_child=self.lock.close)


def check_output(recipe: Recipe) -> None:
    """`ValueError` where the output folder holds a run of another recipe, or what no run made."""
    folder = Path(recipe.output)
    kept = folder / "recipe.yaml"
    if kept.is_file():
        before = read_recipe(kept)
        changed = [key for key in changed_keys(before.as_dict(), recipe.as_dict()) if key not in FREE_KEYS]
        if changed == ["train.epochs"]:
            check_epochs(before, recipe)
        elif changed:
            raise ValueError(
                f"{folder} holds a run with another {', '.join(changed)}: "
                "choose another output, or delete that folder to start over"
            )
    of_a_run = (folder / LOCK_FILE).is_file() or (kept.is_file() and (folder / "checkpoints").is_dir())
    foreign = [name for name in WRITTEN if (folder / name).exists()]
    if foreign and not of_a_run:
        raise ValueError(
            f"{folder} holds {' and '.join(foreign)}, which no run made and training would replace: "
            "move it away, or choose another output"
        )


def check_epochs(before: Recipe, recipe: Recipe) -> None:
    """`ValueError` where a run cannot have another number of epochs, with what can be done instead."""
    epochs = before.train.epochs
    if recipe.train.epochs < epochs:
        raise ValueError(f"{recipe.output} holds a run of {epochs} epochs: train.epochs can only be raised")
    if recipe.train.schedule not in UNFITTED_SCHEDULES:
        raise ValueError(
            f"{recipe.output} holds a run of {epochs} epochs, whose {recipe.train.schedule} schedule is fitted to that "
            f"number; {how_to_go_on(recipe)}"
        )


def how_to_go_on(recipe: Recipe, *, stopped_early: bool = False) -> str:
    """What gives a run that is over more epochs.

    >>> how_to_go_on(Recipe(task="vqa", output="runs/a", data={}))
    'to train on, start from its best model: --set init_from=runs/a/best --set output=ANOTHER_FOLDER'
    """
    if stopped_early:
        return f"to train on, raise train.early_stopping (it is {recipe.train.early_stopping}; 0 never stops early)"
    if recipe.train.schedule in UNFITTED_SCHEDULES and not recipe.train.max_steps:
        return f"to train on, raise train.epochs (it is {recipe.train.epochs})"
    best = Path(recipe.output) / "best"
    return f"to train on, start from its best model: --set init_from={best} --set output=ANOTHER_FOLDER"


def keep_recipe(recipe: Recipe, accelerator: Accelerator) -> None:
    """Write the recipe, whole and with every change, into its output folder."""
    kept = Path(recipe.output) / "recipe.yaml"
    content = yaml.safe_dump(recipe.as_dict(), sort_keys=False).encode()
    if accelerator.is_main_process and (not kept.is_file() or read_recipe(kept).as_dict() != recipe.as_dict()):
        write_atomically(kept, content)
    accelerator.wait_for_everyone()
