"""Checkpoints that survive a kill, a full disk and a damaged file; nothing is unpickled.

    folder/step-00000500-epoch-0002/
        model.safetensors, ...            the weights of each module
        optimizer.safetensors             the optimiser's tensors, as PARAMETER.NAME
        state.json                        the optimiser's groups, the schedule, the loss scaler
        random-0.json                     the states of the random number generators of process 0
        progress.json                     the position in the data, the best score so far, the length of the log
        manifest.json                     bytes and SHA-256 of every other file

A checkpoint is written under another name, synced to the disk, and then renamed; the newest two are kept. One that does
not match its manifest is renamed to `damaged-...` with a warning, and the run resumes from the one before.
"""

import dataclasses
import hashlib
import os
import random
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from safetensors.torch import load_file, load_model, save_file, save_model
from torch.optim.lr_scheduler import LRScheduler

from training.data.files import read_json, write_json

OPTIMIZER_FILE, STATE_FILE, PROGRESS_FILE, MANIFEST_FILE = (
    *("optimizer.safetensors", "state.json"),
    *("progress.json", "manifest.json"),
)
NUM_KEPT = 2


@dataclass
class Progress:
    """The progress of a run: `step_in_epoch` steps of `epoch` are done, `step` in total.

    epoch_loss, epoch_words: the sum of the loss over the words of the epoch so far, and their number.
    log_bytes: the length of `log.jsonl`, to which a resumed run truncates it (None: it does not).
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


@dataclass
class RunState:
    """The state in a checkpoint besides the progress and the random numbers; modules by the name of their file."""

    modules: dict[str, torch.nn.Module]
    optimizer: torch.optim.Optimizer
    schedule: LRScheduler


def save_checkpoint(accelerator: Accelerator, folder: Path, state: RunState, *, progress: Progress) -> None:
    """Write `folder/step-N-epoch-E`, then delete all but the newest two; a kill leaves only complete checkpoints."""
    name = f"step-{progress.step:08d}-epoch-{progress.epoch:04d}"
    partial_folder = folder / f".partial-{name}"
    if accelerator.is_main_process:
        for leftover in folder.glob(".partial-*"):
            shutil.rmtree(leftover)
        partial_folder.mkdir(parents=True)
    accelerator.wait_for_everyone()
    try:
        write_checkpoint(accelerator, partial_folder, state, progress=progress)
    except Exception:
        shutil.rmtree(partial_folder, ignore_errors=True)  # frees the space of an incomplete checkpoint on a full disk
        raise
    if accelerator.is_main_process:
        partial_folder.rename(folder / name)
        sync_folder(folder)
        delete_older(folder)
    accelerator.wait_for_everyone()


def write_checkpoint(accelerator: Accelerator, folder: Path, state: RunState, *, progress: Progress) -> None:
    """Write every process's part of a checkpoint, then the manifest, and sync them to the disk."""
    write_json(folder / random_file(accelerator.process_index), random_state(accelerator.device), indent=None)
    if accelerator.is_main_process:
        write_state(folder, state, scaler=accelerator.scaler)
        write_json(folder / PROGRESS_FILE, dataclasses.asdict(progress))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        write_manifest(folder)
        sync_folder(folder)


def load_checkpoint(accelerator: Accelerator, folder: Path, state: RunState) -> Progress | None:
    """Load the newest undamaged checkpoint under `folder`; returns None if there is none.

    Raises `ValueError` for checkpoints that cannot be used, on every process.
    """
    name = on_main_process(accelerator, lambda: newest_whole(folder))
    if name is None:
        return None
    checkpoint = folder / name
    try:
        read_state(checkpoint, state, scaler=accelerator.scaler)
    except (RuntimeError, KeyError) as error:  # tensors of other names or shapes
        raise ValueError(f"{checkpoint} does not fit this recipe's model: {error}") from error
    randomness = checkpoint / random_file(accelerator.process_index)
    if randomness.is_file():
        set_random_state(read_json(randomness), accelerator.device)
    else:
        warnings.warn(
            f"{checkpoint} has no random state of process {accelerator.process_index}, it was written by "
            f"{len(list(checkpoint.glob(random_file('*'))))} processes: from here on dropout and samples differ",
            stacklevel=2,
        )
    names = {entry.name for entry in dataclasses.fields(Progress)}  # another version may have written more fields
    return Progress(**{key: value for key, value in read_json(checkpoint / PROGRESS_FILE).items() if key in names})


def on_main_process(accelerator: Accelerator, act: Callable[[], Any]) -> Any:
    """Call `act` on the main process; returns its result, or raises its ValueError or OSError, on every process."""
    outcome: list[Any] = [None]
    if accelerator.is_main_process:
        try:
            outcome = [act()]
        except (ValueError, OSError) as error:
            outcome = [error]
    broadcast_object_list(outcome)
    if isinstance(outcome[0], Exception):
        raise outcome[0]
    return outcome[0]


# -- which checkpoint ------------------------------------------------------------------------------------------------


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints under `folder`, oldest first."""
    return sorted(path for path in folder.glob("step-*") if path.is_dir())


def newest_whole(folder: Path) -> str | None:
    """The name of the newest undamaged checkpoint; damaged ones are renamed with a warning.

    None if there is no checkpoint, or only the first of a run, which is damaged: the run starts over. Raises
    `ValueError` if all of several are damaged, and for those that an earlier version pickled.
    """
    found, faults = checkpoints(folder), {}
    for path in reversed(found):
        fault = damage(path)
        if fault is None:
            break
        faults[path] = f"{path} is damaged ({fault})"
    if faults and len(faults) == len(found) and (len(found) > 1 or any(folder.glob("damaged-*"))):
        raise ValueError(
            f"{'; '.join(faults.values())}: delete {folder} to start over, "
            f"or train on from the run's best model with init_from in another output"
        )
    whole = None if len(faults) == len(found) else found[-1 - len(faults)].name
    for path, sentence in faults.items():
        warnings.warn(f"{sentence}: resuming from {whole or 'the start'}", stacklevel=2)
        aside = folder / f"damaged-{path.name}"
        shutil.rmtree(aside, ignore_errors=True)
        path.rename(aside)
    return whole


def damage(checkpoint: Path) -> str | None:
    """The fault of a checkpoint's files; None if they match their manifest."""
    if not (checkpoint / MANIFEST_FILE).is_file() and (checkpoint / "optimizer.bin").is_file():
        raise ValueError(
            f"{checkpoint} was written by an earlier version as pickles, which may run code and are not read: finish "
            f"that run with that version, or delete {checkpoint.parent} to start over"
        )
    try:
        files = read_json(checkpoint / MANIFEST_FILE)["files"]
        missing = {OPTIMIZER_FILE, STATE_FILE, PROGRESS_FILE, random_file(0)} - set(files)
        if missing:
            return f"{MANIFEST_FILE} lacks {min(missing)}"
        for name, written in files.items():
            path = checkpoint / Path(name).name
            if not path.is_file():
                return f"{name} is missing"
            if path.stat().st_size != written["bytes"]:
                return f"{name} has {path.stat().st_size:,} bytes of {written['bytes']:,}"
            if checksum(path) != written["sha256"]:
                return f"{name} does not match its checksum"
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"{MANIFEST_FILE} cannot be read"
    return None


def write_manifest(folder: Path) -> None:
    """Sync every file of a folder to the disk, and write its size and checksum to the manifest."""
    files = {}
    for path in sorted(folder.iterdir()):
        sync_file(path)
        files[path.name] = {"bytes": path.stat().st_size, "sha256": checksum(path)}
    write_json(folder / MANIFEST_FILE, {"files": files})


def delete_older(folder: Path) -> None:
    """Delete all but the newest two checkpoints, and the damaged ones once there are two."""
    found = checkpoints(folder)
    damaged = list(folder.glob("damaged-*")) if len(found) >= NUM_KEPT else []
    for path in [*found[:-NUM_KEPT], *damaged]:
        shutil.rmtree(path)


def checksum(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_file(path: Path) -> None:
    """Sync a file's content to the disk, so that a power cut does not lose it."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Sync the names in a folder to the disk (on POSIX systems)."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


# -- what is in it ---------------------------------------------------------------------------------------------------


def write_state(folder: Path, state: RunState, *, scaler: Any) -> None:
    """Write modules and the optimiser's tensors as safetensors, the rest of the state as JSON."""
    for name, module in state.modules.items():
        save_model(module, str(folder / f"{name}.safetensors"))
    optimizer = state.optimizer.state_dict()
    tensors = {
        f"{parameter}.{name}": value.contiguous()
        for parameter, values in optimizer["state"].items()
        for name, value in values.items()
        if value is not None  # the momentum of a weight that never had a gradient
    }
    save_file(tensors, folder / OPTIMIZER_FILE)
    content = {
        "optimizer_groups": optimizer["param_groups"],
        "schedule": state.schedule.state_dict(),
        "scaler": None if scaler is None else scaler.state_dict(),
    }
    write_json(folder / STATE_FILE, content)


def read_state(folder: Path, state: RunState, *, scaler: Any) -> None:
    """Load what `write_state` wrote; raises `RuntimeError` or `KeyError` for another model's folder."""
    content = read_json(folder / STATE_FILE)
    for name, module in state.modules.items():
        path = folder / f"{name}.safetensors"
        if not path.is_file():
            raise KeyError(path.name)
        load_model(module, path)
    values: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in load_file(folder / OPTIMIZER_FILE).items():
        parameter, _, kind = name.partition(".")
        values.setdefault(int(parameter), {})[kind] = tensor
    state.optimizer.load_state_dict({"state": values, "param_groups": content["optimizer_groups"]})
    state.schedule.load_state_dict(content["schedule"])
    if scaler is not None and content["scaler"] is not None:
        scaler.load_state_dict(content["scaler"])


def random_file(process: int | str) -> str:
    return f"random-{process}.json"


def random_state(device: torch.device) -> dict[str, Any]:
    """The random states of Python, NumPy, torch and the device in this process, as JSON values."""
    kind, numbers, *rest = np.random.get_state(legacy=True)
    state = {
        "python": random.getstate(),
        "numpy": [kind, np.asarray(numbers).tolist(), *rest],
        "torch": torch.get_rng_state().tolist(),
    }
    if device.type != "cpu":
        state["device"] = torch.get_device_module(device).get_rng_state().tolist()
    return state


def set_random_state(state: dict[str, Any], device: torch.device) -> None:
    """Restore the states of `random_state`."""
    version, numbers, next_gauss = state["python"]
    random.setstate((version, tuple(numbers), next_gauss))
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), *rest))
    torch.set_rng_state(torch.tensor(state["torch"], dtype=torch.uint8))
    if device.type != "cpu" and "device" in state:
        torch.get_device_module(device).set_rng_state(torch.tensor(state["device"], dtype=torch.uint8))


# -- folders that are replaced ---------------------------------------------------------------------------------------


def replace_folder(partial: Path, target: Path) -> None:
    """Replace the folder `target` by the finished folder `partial`, after syncing that to the disk.

    A kill between the two renames leaves the old content as `.old-...`, which `restore_folder` restores.
    """
    for path in partial.rglob("*"):
        if path.is_file():
            sync_file(path)
    sync_folder(partial)
    old = _set_aside(target)
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    partial.rename(target)
    sync_folder(target.parent)
    shutil.rmtree(old, ignore_errors=True)


def restore_folder(target: Path) -> None:
    """Restore the old folder after a `replace_folder` that was killed between its two renames."""
    old = _set_aside(target)
    if old.is_dir() and not target.exists():
        old.rename(target)


def _set_aside(target: Path) -> Path:
    return target.with_name(f".old-{target.name}")
