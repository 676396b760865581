"""Checkpoints: whole or absent, whenever a kill comes; a damaged one is named, and nothing of one is executed."""

import os
import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch.optim.lr_scheduler import LambdaLR

from tests.training.tiny_run import new_accelerator
from training.checkpoints import (
    Progress,
    RunState,
    checkpoints,
    load_checkpoint,
    replace_folder,
    restore_folder,
    save_checkpoint,
)


class Killed(BaseException):
    """Stands for a SIGKILL."""


def kill(*args: Any, **kwargs: Any) -> None:
    raise Killed


class Trap:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.path),)


def tiny_state() -> tuple[Accelerator, RunState]:
    """One weight, its optimiser and its schedule."""
    accelerator = new_accelerator()
    layer = torch.nn.Linear(1, 1, bias=False)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.5)
    schedule = LambdaLR(optimizer, lambda step: 1 / (1 + step))
    layer, optimizer = accelerator.prepare(layer, optimizer)
    return accelerator, RunState({"model": layer}, optimizer, schedule)


def take_step(state: RunState) -> None:
    state.modules["model"].weight.grad = torch.ones(1, 1)
    state.optimizer.step()
    state.schedule.step()


def weight(state: RunState) -> float:
    return state.modules["model"].weight.item()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def save_steps(folder: Path, *steps: int) -> tuple[Accelerator, RunState]:
    """A checkpoint a step, whose weight is the step's number."""
    accelerator, state = tiny_state()
    for step in steps:
        state.modules["model"].weight.data.fill_(step)
        save_checkpoint(accelerator, folder, state, progress=Progress(step=step))
    return accelerator, state


# -- the whole of it -------------------------------------------------------------------------------------------------


def test_the_newest_two_are_kept_and_the_newest_is_loaded(tmp_path: Path) -> None:
    history = [{"epoch": 1, "loss": 0.5}]
    accelerator, state = save_steps(tmp_path, 3, 7)
    state.modules["model"].weight.data.fill_(10)
    progress = Progress(step=10, step_in_epoch=10, history=history)
    save_checkpoint(accelerator, tmp_path, state, progress=progress)
    assert names(tmp_path) == ["step-00000007-epoch-0000", "step-00000010-epoch-0000"]
    state.modules["model"].weight.data.fill_(0)
    assert load_checkpoint(accelerator, tmp_path, state) == progress
    assert weight(state) == 10
    assert load_checkpoint(accelerator, tmp_path / "empty", state) is None


def test_weights_optimizer_schedule_and_random_numbers_go_on_where_they_stood(tmp_path: Path) -> None:
    accelerator, state = tiny_state()
    take_step(state)
    random.gauss(0, 1), np.random.standard_normal()  # each draws two and keeps one
    save_checkpoint(accelerator, tmp_path, state, progress=Progress(step=1))
    outcomes = []
    for _ in range(2):
        take_step(state)
        drawn = [random.gauss(0, 1), np.random.standard_normal(), torch.rand(1).item(), random.random()]
        outcomes.append([weight(state), state.schedule.get_last_lr(), *drawn])
        accelerator, state = tiny_state()
        load_checkpoint(accelerator, tmp_path, state)
    assert outcomes[0] == outcomes[1]
    assert outcomes[0][1] == [0.5 / 3]


def test_tied_weights_are_kept_once_and_stay_tied(tmp_path: Path) -> None:
    accelerator, state = tiny_state()
    tied = torch.nn.Sequential(torch.nn.Linear(8, 8, bias=False), torch.nn.Linear(8, 8, bias=False))
    tied[1].weight = tied[0].weight
    state.modules["task-0"] = tied
    expected = tied[0].weight.detach().clone()
    save_checkpoint(accelerator, tmp_path, state, progress=Progress())
    tied[0].weight.data.zero_()
    load_checkpoint(accelerator, tmp_path, state)
    assert torch.equal(tied[1].weight, expected) and tied[1].weight is tied[0].weight
    assert (checkpoints(tmp_path)[0] / "task-0.safetensors").stat().st_size < 2 * expected.nbytes


@pytest.mark.parametrize("moment", ["training.checkpoints.write_state", "pathlib.Path.rename", "shutil.rmtree"])
def test_a_kill_while_saving_leaves_a_whole_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    accelerator, state = save_steps(tmp_path, 4, 5)
    state.modules["model"].weight.data.fill_(6)
    with monkeypatch.context() as patch, pytest.raises(Killed):  # an epoch's end: the same step again
        patch.setattr(moment, kill)
        save_checkpoint(accelerator, tmp_path, state, progress=Progress(step=5, epoch=1))
    renamed = moment == "shutil.rmtree"  # the new one was in place, the old one not yet gone
    assert load_checkpoint(accelerator, tmp_path, state) == Progress(step=5, epoch=int(renamed))
    assert weight(state) == (6 if renamed else 5)
    save_checkpoint(accelerator, tmp_path, state, progress=Progress(step=6, epoch=1, step_in_epoch=1))
    newest = "step-00000005-epoch-0001" if renamed else "step-00000005-epoch-0000"
    assert names(tmp_path) == [newest, "step-00000006-epoch-0001"]  # leftovers are gone


def test_progress_of_another_version_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    accelerator, state = tiny_state()
    written = {"step": 1, "epoch": 2, "finished": False}
    with monkeypatch.context() as patch:
        patch.setattr("dataclasses.asdict", lambda progress: written)
        save_checkpoint(accelerator, tmp_path, state, progress=Progress(step=1))
    assert load_checkpoint(accelerator, tmp_path, state) == Progress(step=1, epoch=2)


# -- damage ----------------------------------------------------------------------------------------------------------

FILES = [
    *("manifest.json", "model.safetensors", "optimizer.safetensors"),
    *("progress.json", "random-0.json", "state.json"),
]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("harm", ["cut", "flipped", "deleted"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(tmp_path: Path, name: str, harm: str) -> None:
    accelerator, state = save_steps(tmp_path, 1, 2)
    newest = tmp_path / "step-00000002-epoch-0000"
    assert names(newest) == FILES
    content = (newest / name).read_bytes()
    middle = len(content) // 2
    flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    (newest / name).write_bytes(content[:middle] if harm == "cut" else flipped)
    if harm == "deleted":
        (newest / name).unlink()
    with pytest.warns(UserWarning, match="step-00000002-epoch-0000 is damaged .*: resuming from step-00000001"):
        assert load_checkpoint(accelerator, tmp_path, state) == Progress(step=1)
    assert weight(state) == 1
    assert names(tmp_path) == ["damaged-step-00000002-epoch-0000", "step-00000001-epoch-0000"]
    save_checkpoint(accelerator, tmp_path, state, progress=Progress(step=2))
    assert names(tmp_path) == ["step-00000001-epoch-0000", "step-00000002-epoch-0000"]


def test_the_fault_of_a_damaged_checkpoint_is_told(tmp_path: Path) -> None:
    accelerator, state = save_steps(tmp_path, 1, 2)
    path = tmp_path / "step-00000002-epoch-0000" / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    with pytest.warns(UserWarning, match=f"model.safetensors has {len(content) - 1} bytes of {len(content)}"):
        load_checkpoint(accelerator, tmp_path, state)


def test_a_run_whose_first_checkpoint_is_damaged_starts_over(tmp_path: Path) -> None:
    accelerator, state = save_steps(tmp_path, 1)
    (tmp_path / "step-00000001-epoch-0000" / "progress.json").unlink()
    with pytest.warns(UserWarning, match="progress.json is missing.: resuming from the start"):
        assert load_checkpoint(accelerator, tmp_path, state) is None


def test_damage_to_every_checkpoint_is_told_and_nothing_is_touched(tmp_path: Path) -> None:
    accelerator, state = save_steps(tmp_path, 1, 2)
    for path in tmp_path.iterdir():
        (path / "progress.json").unlink()
    before = names(tmp_path)
    with pytest.raises(ValueError, match="is damaged .*; .*is damaged .*: delete .* to start over") as told:
        load_checkpoint(accelerator, tmp_path, state)
    assert all(name in str(told.value) for name in before) and names(tmp_path) == before


def test_a_checkpoint_of_another_model_is_told(tmp_path: Path) -> None:
    accelerator, state = save_steps(tmp_path, 1)
    state.modules["averaged"] = torch.nn.Linear(1, 1)
    with pytest.raises(ValueError, match="step-00000001-epoch-0000 does not fit this recipe's model: .*averaged"):
        load_checkpoint(accelerator, tmp_path, state)


def test_missing_random_numbers_of_a_process_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    accelerator, state = save_steps(tmp_path, 1)
    monkeypatch.setattr(Accelerator, "process_index", 1)
    with pytest.warns(UserWarning, match="has no random state of process 1, it was written by 1 processes: from here"):
        assert load_checkpoint(accelerator, tmp_path, state) == Progress(step=1)


# -- nothing is executed ---------------------------------------------------------------------------------------------


def test_nothing_of_a_checkpoint_is_unpickled(tmp_path: Path) -> None:
    accelerator, state = save_steps(tmp_path / "run", 1)
    (checkpoint,) = checkpoints(tmp_path / "run")
    trap, planted = tmp_path / "trapped", ("custom_checkpoint_0.pkl", "scheduler.bin", "random_states_0.pkl")
    for name in (*planted, "optimizer.bin", "pytorch_model.bin"):
        torch.save(Trap(trap), checkpoint / name)
    assert load_checkpoint(accelerator, tmp_path / "run", state) == Progress(step=1)
    for path in checkpoint.iterdir():
        path.write_bytes(pickle.dumps(Trap(trap)))
    with pytest.warns(UserWarning, match="damaged"):
        assert load_checkpoint(accelerator, tmp_path / "run", state) is None
    assert not trap.exists()
    pickle.loads((tmp_path / "run" / f"damaged-{checkpoint.name}" / "optimizer.bin").read_bytes())
    assert trap.exists()  # the trap works


def test_pickles_of_an_earlier_version_are_refused_with_the_cure(tmp_path: Path) -> None:
    accelerator, state = tiny_state()
    accelerator.save_state(str(tmp_path / "step-00000005-epoch-0001"))
    with pytest.raises(ValueError, match="earlier version as pickles, .* or delete .* to start over"):
        load_checkpoint(accelerator, tmp_path, state)


# -- folders that are replaced ---------------------------------------------------------------------------------------


def folder_with(folder: Path, text: str) -> Path:
    folder.mkdir()
    (folder / "file").write_text(text)
    return folder


@pytest.mark.parametrize("renames", [0, 1, 2])
def test_a_replaced_folder_is_the_old_or_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renames: int
) -> None:
    target, partial = folder_with(tmp_path / "best", "old"), folder_with(tmp_path / ".partial", "new")
    done = []
    rename = Path.rename

    def rename_or_die(self: Path, other: Path) -> Path:
        if len(done) == renames:
            raise Killed
        done.append(other)
        return rename(self, other)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", rename_or_die)
        if renames < 2:
            with pytest.raises(Killed):
                replace_folder(partial, target)
        else:
            replace_folder(partial, target)
    restore_folder(target)
    assert (target / "file").read_text() == ("new" if renames == 2 else "old")
    if renames < 2:
        replace_folder(partial, target)
    assert (target / "file").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["best"]
