"""Checkpoints that survive a kill: written beside the last one, then put in its place in one rename.

A checkpoint holds model, optimiser, scheduler, averaged weights and every process's random state (accelerate's
`save_state`), and `progress.json`: the position in the data and the best score so far.
"""

import dataclasses
import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from accelerate import Accelerator

PROGRESS_FILE = "progress.json"


@dataclass
class Progress:
    """Where a run stands: `step_in_epoch` steps of `epoch` are done, `step` in all."""

    epoch: int = 0
    step_in_epoch: int = 0
    step: int = 0
    best_score: float | None = None
    evaluations_without_gain: int = 0
    finished: bool = False
    history: list[dict[str, Any]] = field(default_factory=list)


def save_checkpoint(accelerator: Accelerator, folder: Path, progress: Progress) -> None:
    """Write `folder/step-N`, then delete older ones; a kill at any moment leaves a whole one."""
    target = folder / f"step-{progress.step:08d}"
    partial = folder / f".partial-{progress.step:08d}"
    if accelerator.is_main_process:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
    accelerator.wait_for_everyone()
    accelerator.save_state(str(partial))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        (partial / PROGRESS_FILE).write_text(json.dumps(dataclasses.asdict(progress), indent=1))
        shutil.rmtree(target, ignore_errors=True)  # the same step saved again, at an epoch's end
        partial.rename(target)
        for older in checkpoints(folder)[:-1]:
            shutil.rmtree(older)
    accelerator.wait_for_everyone()


def load_checkpoint(accelerator: Accelerator, folder: Path) -> Progress | None:
    """Load the newest whole checkpoint under `folder`; None where there is none."""
    found = checkpoints(folder)
    if not found:
        return None
    progress = Progress(**json.loads((found[-1] / PROGRESS_FILE).read_text()))
    accelerator.load_state(str(found[-1]))
    return progress


def checkpoints(folder: Path) -> list[Path]:
    """The whole checkpoints under `folder`, oldest first."""
    return sorted(path for path in folder.glob("step-*") if (path / PROGRESS_FILE).is_file())


def replace_folder(partial: Path, target: Path) -> None:
    """Put the finished folder `partial` in the place of `target`; one of both is whole at any moment."""
    old = target.with_name(f".old-{target.name}")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    partial.rename(target)
    shutil.rmtree(old, ignore_errors=True)
