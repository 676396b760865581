"""Checkpoints: whole or absent, whenever a kill comes."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.tiny_run import new_accelerator
from training.checkpoints import (
    Progress,
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


def test_the_newest_whole_checkpoint_is_loaded(tmp_path: Path) -> None:
    accelerator = new_accelerator()
    layer = accelerator.prepare(torch.nn.Linear(1, 1, bias=False))
    history = [{"epoch": 1, "loss": 0.5}]
    for step in (3, 10):
        layer.weight.data.fill_(step)
        save_checkpoint(accelerator, tmp_path, Progress(step=step, step_in_epoch=step, history=history))
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000010-epoch-0000"]
    (tmp_path / "step-00000099-epoch-0000").mkdir()  # without progress.json it was never finished
    layer.weight.data.fill_(0)
    assert load_checkpoint(accelerator, tmp_path) == Progress(step=10, step_in_epoch=10, history=history)
    assert layer.weight.item() == 10
    assert load_checkpoint(accelerator, tmp_path / "empty") is None


@pytest.mark.parametrize("moment", ["accelerate.Accelerator.save_state", "pathlib.Path.rename", "shutil.rmtree"])
def test_a_kill_while_saving_leaves_a_whole_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    accelerator = new_accelerator()
    layer = accelerator.prepare(torch.nn.Linear(1, 1, bias=False))
    layer.weight.data.fill_(1)
    save_checkpoint(accelerator, tmp_path, Progress(step=5, step_in_epoch=5))
    layer.weight.data.fill_(2)
    with monkeypatch.context() as patch, pytest.raises(Killed):  # an epoch's end: the same step again
        patch.setattr(moment, kill)
        save_checkpoint(accelerator, tmp_path, Progress(step=5, epoch=1))
    renamed = moment == "shutil.rmtree"  # the new one was in place, the old one not yet gone
    progress = load_checkpoint(accelerator, tmp_path)
    assert progress == (Progress(step=5, epoch=1) if renamed else Progress(step=5, step_in_epoch=5))
    assert layer.weight.item() == (2 if renamed else 1)
    save_checkpoint(accelerator, tmp_path, Progress(step=6, epoch=1, step_in_epoch=1))
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000006-epoch-0001"]  # leftovers are gone


def test_progress_of_another_version_can_be_read(tmp_path: Path) -> None:
    accelerator = new_accelerator()
    save_checkpoint(accelerator, tmp_path, Progress(step=1))
    (checkpoint,) = checkpoints(tmp_path)
    (checkpoint / "progress.json").write_text(json.dumps({"step": 1, "epoch": 2, "finished": False}))
    assert load_checkpoint(accelerator, tmp_path) == Progress(step=1, epoch=2)


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
