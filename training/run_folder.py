"""A run's output folder, which one run of one recipe uses at a time.

output/recipe.yaml     the whole recipe, with every change
output/log.jsonl       one line per step and evaluation
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

# Keys that may change when a run is resumed, since no weight depends on them.
FREE_KEYS = {"train.num_workers", "train.checkpoint_steps", "train.log_with", "train.early_stopping"}
WRITTEN = ("best", "checkpoints", "log.jsonl")
LOCK_FILE = lock_file(0)  # never deleted, so that it marks a folder as a run's
EPOCH_FREE_SCHEDULES = ("step", "constant")  # do not depend on the number of epochs


class ClaimedOutput:
    """`with ClaimedOutput(recipe, accelerator):` locks the recipe's output folder for this run.

    Entering raises `ValueError`, on every process, for a folder with a run of another recipe, with files that no run
    wrote, or that another run uses. A folder that is still empty at exit is removed.
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
            with contextlib.suppress(OSError):  # it may hold a region store
                self.folder.rmdir()
        self.lock.close()

    def claim(self) -> None:
        """Check the folder and lock it."""
        check_output(self.recipe)
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self.lock = lock_writer(self.folder, 0)
        except RuntimeError as error:
            raise ValueError(
                f"another run trains into {self.folder}: wait until it ends, or choose another output"
            ) from error
        if hasattr(os, "register_at_fork"):  # loader workers outlive a killed run by seconds and would keep its lock
            os.register_at_fork(after_in_child=self.lock.close)


def check_output(recipe: Recipe) -> None:
    """Raises `ValueError` if the output folder holds a run of another recipe, or files that no run wrote."""
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
            f"{folder} holds {' and '.join(foreign)}, which no run wrote and training would replace: "
            "move it away, or choose another output"
        )


def check_epochs(before: Recipe, recipe: Recipe) -> None:
    """Raises `ValueError` with the cure if a run cannot continue with another number of epochs."""
    epochs = before.train.epochs
    if recipe.train.epochs < epochs:
        raise ValueError(f"{recipe.output} holds a run of {epochs} epochs: train.epochs can only be raised")
    if recipe.train.schedule not in EPOCH_FREE_SCHEDULES:
        raise ValueError(
            f"{recipe.output} holds a run of {epochs} epochs, whose {recipe.train.schedule} schedule depends on that "
            f"number; {how_to_go_on(recipe)}"
        )


def how_to_go_on(recipe: Recipe, *, stopped_early: bool = False) -> str:
    """How to train a finished run for more epochs.

    >>> how_to_go_on(Recipe(task="vqa", output="runs/a", data={}))
    'to train on, start from its best model: --set init_from=runs/a/best --set output=ANOTHER_FOLDER'
    """
    if stopped_early:
        return f"to train on, raise train.early_stopping (it is {recipe.train.early_stopping}; 0 never stops early)"
    if recipe.train.schedule in EPOCH_FREE_SCHEDULES and not recipe.train.max_steps:
        return f"to train on, raise train.epochs (it is {recipe.train.epochs})"
    best = Path(recipe.output) / "best"
    return f"to train on, start from its best model: --set init_from={best} --set output=ANOTHER_FOLDER"


def keep_recipe(recipe: Recipe, accelerator: Accelerator) -> None:
    """Write the whole recipe, with every change, into its output folder."""
    kept = Path(recipe.output) / "recipe.yaml"
    content = yaml.safe_dump(recipe.as_dict(), sort_keys=False).encode()
    if accelerator.is_main_process and (not kept.is_file() or read_recipe(kept).as_dict() != recipe.as_dict()):
        write_atomically(kept, content)
    accelerator.wait_for_everyone()
