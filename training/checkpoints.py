"""Checkpoints that survive a kill: written beside the last one, then given their name in one rename.

A checkpoint holds model, optimiser, scheduler, averaged weights and every process's random state (accelerate's
`save_state`), and `progress.json`: the position in the data, the best score so far, how long the log was.
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
    """Where a run stands: `step_in_epoch` steps of `epoch` are done, `step` in all.

    epoch_loss, epoch_words: sum of the loss over the words of the epoch so far, and their number.
    log_bytes: length of `log.jsonl` here; what a killed run wrote after it is cut off (None: nothing is).
    """

    epoch: int = 0
    step_in_epoch: int = 0
    step: int = 0
    epoch_loss: float = 0.0
    epoch_words: int = 0
    best_score: float | None = None
    evaluations_without_gain: int = 0
    log_bytes: int | None = None
    history: list[dict[str, Any]] = field(default_factory=list)


def save_checkpoint(accelerator: Accelerator, folder: Path, progress: Progress) -> None:
    """Write `folder/step-N-epoch-E`, then delete older ones; a kill at any moment leaves a whole one."""
    name = f"step-{progress.step:08d}-epoch-{progress.epoch:04d}"
    partial = folder / f".partial-{name}"
    if accelerator.is_main_process:
        for leftover in folder.glob(".partial-*"):
            shutil.rmtree(leftover)
        partial.mkdir(parents=True)
    accelerator.wait_for_everyone()
    accelerator.save_state(str(partial))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        (partial / PROGRESS_FILE).write_text(json.dumps(dataclasses.asdict(progress), indent=1))
        partial.rename(folder / name)
        for older in checkpoints(folder)[:-1]:
            shutil.rmtree(older)
    accelerator.wait_for_everyone()


def load_checkpoint(accelerator: Accelerator, folder: Path) -> Progress | None:
    """Load the newest whole checkpoint under `folder`; None where there is none."""
    found = checkpoints(folder)
    if not found:
        return None
    content = json.loads((found[-1] / PROGRESS_FILE).read_text())
    known = {entry.name for entry in dataclasses.fields(Progress)}  # another version may have written more
    progress = Progress(**{name: value for name, value in content.items() if name in known})
    accelerator.load_state(str(found[-1]))
    return progress


def checkpoints(folder: Path) -> list[Path]:
    """The whole checkpoints under `folder`, oldest first."""
    return sorted(path for path in folder.glob("step-*") if (path / PROGRESS_FILE).is_file())


def replace_folder(partial: Path, target: Path) -> None:
    """Put the finished folder `partial` in the place of `target`.

    A kill between the two renames leaves the old content as `.old-...`, which `restore_folder` puts back.
    """
    old = _set_aside(target)
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    partial.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def restore_folder(target: Path) -> None:
    """Undo a `replace_folder` that was killed half-way."""
    old = _set_aside(target)
    if old.is_dir() and not target.exists():
        old.rename(target)


def _set_aside(target: Path) -> Path:
    return target.with_name(f".old-{target.name}")
