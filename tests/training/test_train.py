"""The training loop: the same steps in any number of processes, the same weights after any kill, and its errors."""

import copy
import errno
import json
import os
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from accelerate.utils import DistributedType
from safetensors import SafetensorError
from safetensors.torch import load_file

import training.checkpoints
from modeling_updown import UpDownForImageCaptioning
from tests.training.tiny_run import (
    differences,
    ending,
    log_of,
    new_accelerator,
    tiny_detection_recipe,
    tiny_recipe,
    tiny_vqa_recipe,
    train_here,
    train_in_processes,
)
from training.checkpoints import checkpoints
from training.regions.store import RegionStore
from training.tasks import build_task
from training.tasks.spec import Scored, epoch_batches
from training.train import Run, StepPieces, check_whole_weights, main, one_line, train

HARD = {"epochs": 2, "checkpoint_steps": 2, "ema": 0.9, "label_smoothing": 0.1, "early_stopping": 5}


def tiny_run(folder: Path, **options: Any) -> Run:
    """A run that stands before its first step."""
    recipe = tiny_recipe(folder, **options)
    accelerator = new_accelerator(mixed_precision=recipe.train.mixed_precision)
    task = build_task(recipe, accelerator)
    task.prepare()
    return Run(recipe, task, accelerator)


def one_step(run: Run) -> dict[str, float]:
    return run.train_step(next(run.remaining_steps()))


# -- the same steps --------------------------------------------------------------------------------------------------


def test_two_processes_take_the_steps_of_one(tmp_path: Path) -> None:
    recipes = [tiny_recipe(tmp_path / name, train={"epochs": 4, "learning_rate": 1e-2}) for name in ("alone", "both")]
    for recipe in recipes:
        recipe.regions.flips = True
    train_here(recipes[0])
    assert train_in_processes(recipes[1], num_processes=2) == [0, 0]
    expected, found = (log_of(recipe, "loss") for recipe in recipes)
    assert len(expected) == 24
    assert sum(expected[:6]) / 6 - sum(expected[-6:]) / 6 > 0.05  # it learns, so later steps depend on earlier ones
    assert found == pytest.approx(expected, abs=1e-4)
    assert log_of(recipes[1], "rouge_l") == pytest.approx(log_of(recipes[0], "rouge_l"), abs=1e-4)
    store = RegionStore(tmp_path / "both" / "store")  # both processes made it
    assert len(store) == 40 and len(list(store.folder.glob("shard-1-*"))) == 1  # taken up again for val and test
    assert len(RegionStore(tmp_path / "both" / "store-flipped")) == 24


def test_two_processes_train_a_detector_as_one_does(tmp_path: Path) -> None:
    recipes = [tiny_detection_recipe(tmp_path / name, train={"epochs": 3}) for name in ("alone", "both")]
    train_here(recipes[0])
    assert train_in_processes(recipes[1], num_processes=2) == [0, 0]
    expected, found = (log_of(recipe, "loss") for recipe in recipes)
    assert len(expected) == 18 and sum(expected[-6:]) < 0.75 * sum(expected[:6])
    assert found == pytest.approx(expected, abs=1e-4)
    for name in ("map_50", "mar_100", "attribute_mean_ap"):
        assert log_of(recipes[1], name) == pytest.approx(log_of(recipes[0], name), abs=1e-4)
    evaluations = [json.loads((Path(recipe.output) / "best" / "evaluation.json").read_text()) for recipe in recipes]
    assert evaluations[1]["metrics"] == pytest.approx(evaluations[0]["metrics"], abs=1e-2)
    assert evaluations[0]["dataset"]["num_photos"] == 8


def test_accumulated_pieces_take_the_steps_of_one_batch(tmp_path: Path) -> None:
    losses = []
    for pieces in (1, 2, 3):
        recipe = tiny_recipe(
            tmp_path, train={"learning_rate": 1e-2, "accumulation": pieces}, output=str(tmp_path / f"run{pieces}")
        )
        train_here(recipe)
        losses.append(log_of(recipe, "loss"))
    assert len(losses[0]) == 12
    assert losses[1] == pytest.approx(losses[0], abs=1e-4)
    assert losses[2] == pytest.approx(losses[0], abs=1e-4)


def test_an_epoch_sees_every_image_once_in_an_order_of_its_own() -> None:
    batches = [
        epoch_batches(10, batch_size=3, seed=seed, epoch=epoch) for seed, epoch in ((0, 0), (0, 0), (0, 1), (1, 0))
    ]
    assert batches[0].shape == (3, 3) and len(set(batches[0].flatten())) == 9
    assert (batches[0] == batches[1]).all()
    assert (batches[0] != batches[2]).any() and (batches[0] != batches[3]).any()
    assert epoch_batches(4, batch_size=50, seed=0, epoch=0).shape == (1, 4)  # fewer images than a batch


# -- kill and resume -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("objective", ["cross_entropy", "self_critical"])
def test_a_killed_run_ends_with_the_weights_of_one_never_killed(tmp_path: Path, objective: str) -> None:
    settings = {**HARD, "objective": objective, "scheduled_sampling_increase": 0.5, "scheduled_sampling_max": 0.5}
    settings |= {"samples_per_image": 3, "baseline": "mean_of_others"}
    recipe = tiny_recipe(tmp_path, train=settings, output=str(tmp_path / "whole"))
    recipe.regions.flips = True
    recipe.model = {**recipe.model, "word_dropout": 0.3, "output_dropout": 0.3}
    killed = copy.deepcopy(recipe)
    killed.output = str(tmp_path / "killed")
    assert train_in_processes(recipe) == [0]
    moments = (
        "training.train:Run.train_step:4",  # the step is done, its line in the log and its checkpoint are not
        "training.checkpoints:write_state:2",  # a checkpoint's weights are written, its name is not given
        "training.train:Run.keep_best:1",  # a new best model stands, the checkpoint that knows of it does not
    )
    for moment in moments if objective == "cross_entropy" else moments[1:2]:
        assert train_in_processes(killed, kill=moment) == [-signal.SIGKILL]
    assert train_in_processes(killed) == [0]
    expected = ending(recipe)
    assert differences(ending(killed), expected) == []
    assert {f"checkpoint/{name}.safetensors" for name in ("model", "averaged", "optimizer")} <= set(expected)


def test_a_killed_detection_run_ends_with_the_weights_of_one_never_killed(tmp_path: Path) -> None:
    hard = {"epochs": 2, "checkpoint_steps": 2, "ema": 0.9, "early_stopping": 5, "repeat_threshold": 0.5}
    recipe = tiny_detection_recipe(tmp_path, train=hard, output=str(tmp_path / "whole"))
    killed = copy.deepcopy(recipe)
    killed.output = str(tmp_path / "killed")
    assert train_in_processes(recipe) == [0]
    for moment in ("training.train:Run.train_step:3", "training.tasks.detection:DetectionTask.score:1"):
        assert train_in_processes(killed, kill=moment) == [-signal.SIGKILL]
    assert train_in_processes(killed) == [0]
    assert differences(ending(killed), ending(recipe)) == []


def test_two_killed_processes_end_with_the_weights_of_two_never_killed(tmp_path: Path) -> None:
    settings = {**HARD, "objective": "self_critical", "samples_per_image": 3, "baseline": "mean_of_others"}
    recipe = tiny_recipe(tmp_path, train=settings, output=str(tmp_path / "whole"))
    killed = copy.deepcopy(recipe)
    killed.output = str(tmp_path / "killed")
    assert train_in_processes(recipe, num_processes=2) == [0, 0]
    assert train_in_processes(killed, num_processes=2, kill="training.train:Run.train_step:3") == [-signal.SIGKILL] * 2
    assert train_in_processes(killed, num_processes=2) == [0, 0]
    expected = ending(recipe)
    assert differences(ending(killed), expected) == []
    assert expected["checkpoint/random-0.json"] != expected["checkpoint/random-1.json"]  # each draws its own samples


def test_a_run_of_so_many_steps_that_is_killed_while_it_scores_is_scored(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path, train={"max_steps": 4, "checkpoint_steps": 2}, output=str(tmp_path / "whole"))
    killed = copy.deepcopy(recipe)
    killed.output = str(tmp_path / "killed")
    train_here(recipe)
    assert train_in_processes(killed, kill="training.tasks.captioning:CaptioningTask.score:1") == [-signal.SIGKILL]
    assert [path.name for path in checkpoints(tmp_path / "killed" / "checkpoints")][-1] == "step-00000004-epoch-0000"
    assert train_in_processes(killed) == [0]
    assert differences(ending(killed), ending(recipe)) == []
    assert len(log_of(killed, "loss")) == 4 and len(log_of(killed, "cider_d")) == 1


def test_a_finished_run_is_not_trained_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tiny_recipe(tmp_path, train={"epochs": 1})
    first = train_here(recipe)
    log = (tmp_path / "run" / "log.jsonl").read_text()
    assert train_here(recipe) == first
    assert (tmp_path / "run" / "log.jsonl").read_text() == log
    assert "after step 6" in capsys.readouterr().out


def test_a_run_killed_before_its_first_checkpoint_starts_over_with_an_empty_log(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path, train={"epochs": 1})
    train_here(recipe)
    log = (tmp_path / "run" / "log.jsonl").read_text()
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    train_here(recipe)
    assert (tmp_path / "run" / "log.jsonl").read_text() == log


# -- the recipe's knobs ----------------------------------------------------------------------------------------------


def test_early_stopping_counts_evaluations_without_gain(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path, train={"epochs": 9, "learning_rate": 0.0, "early_stopping": 2})
    train_here(recipe)
    assert len(log_of(recipe, "cider_d")) == 3  # the first is the best, two bring nothing


def test_weights_that_do_not_train_are_not_averaged(tmp_path: Path) -> None:
    """To the last bit, since stored regions are known by a hash of the weights that made them."""
    run = tiny_run(tmp_path, train={"ema": 0.8})
    frozen = {name: one for name, one in run.task.model.named_parameters() if not one.requires_grad}
    assert run.averaged is not None and frozen
    with torch.no_grad():
        for weight in frozen.values():
            weight.view(-1)[::3] = -0.0
            weight.view(-1)[1::3] *= 1.0 + 2.0**-20
    for _ in range(3):
        one_step(run)
    kept = dict(run.averaged.module.named_parameters())
    for name, weight in frozen.items():
        assert torch.equal(kept[name].detach().view(torch.int32), weight.detach().view(torch.int32)), name
    assert any(
        not torch.equal(kept[name], one) for name, one in run.task.model.named_parameters() if name not in frozen
    )


def test_averaged_weights_are_the_exponential_mean_and_are_what_is_kept(tmp_path: Path) -> None:
    run = tiny_run(tmp_path, train={"ema": 0.8, "mixed_precision": "bf16"})
    assert "forward" not in vars(run.averaged.module)  # accelerate wraps the trained model's, not the copy's
    expected = None
    for _ in range(4):
        one_step(run)
        now = run.task.model.lm_head.weight.detach().clone()
        expected = now if expected is None else 0.8 * expected + 0.2 * now
    assert torch.allclose(run.averaged.module.lm_head.weight, expected, atol=1e-6)
    assert not torch.allclose(run.task.model.lm_head.weight, expected, atol=1e-3)
    (tmp_path / "run").mkdir()
    run.progress.history.append({"loss": 0.0})
    run.evaluate()
    best = UpDownForImageCaptioning.from_pretrained(tmp_path / "run" / "best")
    assert torch.allclose(best.lm_head.weight, expected, atol=1e-6)


def test_gradients_are_clipped_by_value_or_norm(tmp_path: Path) -> None:
    sgd = {"optimizer": "sgd", "learning_rate": 1.0, "momentum": 0.0, "weight_decay": 0.0, "schedule": "constant"}
    steps = {}
    for name, limits in {"free": {}, "value": {"clip_value": 1e-3}, "norm": {"clip_norm": 0.05}}.items():
        run = tiny_run(tmp_path, train={**sgd, "clip_norm": 0.0, **limits})
        before = [weight.detach().clone() for weight in run.model.parameters()]
        one_step(run)
        steps[name] = torch.cat(
            [(b - a).flatten() for b, a in zip(before, run.model.parameters(), strict=True)]
        ).detach()
    assert steps["free"].norm() > 0.06
    assert torch.allclose(steps["value"], steps["free"].clamp(-1e-3, 1e-3), atol=1e-6)
    assert torch.allclose(steps["norm"], steps["free"] * 0.05 / steps["free"].norm(), atol=1e-6)


def test_bf16_stays_close_to_float32(tmp_path: Path) -> None:
    recipes = [
        tiny_recipe(tmp_path, train={"mixed_precision": kind}, output=str(tmp_path / kind)) for kind in ("no", "bf16")
    ]
    for recipe in recipes:
        train_here(recipe)
    exact, rough = (log_of(recipe, "loss") for recipe in recipes)
    assert exact != rough
    assert rough == pytest.approx(exact, abs=0.03)
    best = load_file(Path(recipes[1].output) / "best" / "model.safetensors")
    assert {value.dtype for value in best.values()} <= {torch.float32, torch.int64}


def test_the_log_names_every_step_and_score(tmp_path: Path) -> None:
    recipe = tiny_recipe(
        tmp_path, train={"epochs": 1, "learning_rate": 1e-2, "warmup_steps": 4, "schedule": "constant"}
    )
    train_here(recipe)
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6, 6]
    assert [line["learning_rate"] for line in lines[:-1]] == pytest.approx([0.0025, 0.005, 0.0075, 0.01, 0.01, 0.01])
    assert {"bleu_4", "rouge_l", "cider_d", "cider_d_x100", "bad_endings_share"} <= set(lines[-1])
    kept = yaml.safe_load((tmp_path / "run" / "recipe.yaml").read_text())
    assert kept == recipe.as_dict()


def test_tensorboard_gets_the_losses(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    recipe = tiny_recipe(tmp_path, train={"epochs": 1, "log_with": "tensorboard"})
    train_here(recipe)
    (events,) = (tmp_path / "run").rglob("events.out.tfevents.*")
    read = EventAccumulator(str(events)).Reload()
    assert [event.value for event in read.Scalars("loss")] == pytest.approx(log_of(recipe, "loss"), abs=1e-5)
    assert [event.step for event in read.Scalars("cider_d")] == [6]


# -- mistakes --------------------------------------------------------------------------------------------------------


def write_recipe(folder: Path, **changes: Any) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump({**tiny_recipe(folder).as_dict(), **changes}))
    return path


MISTAKES = {
    "unknown key 'colour' in the recipe": {"colour": "red"},
    "unknown key 'epoch' in train": {"train": {"epoch": 3}},
    "unknown task 'singing'; choose one of captioning": {"task": "singing"},
    "cannot read nowhere.json": {"data": {"format": "karpathy", "annotations": "nowhere.json", "images": "."}},
    "there is no folder nowhere": {"data": {"format": "folder", "folder": "nowhere"}},
    "data.num_scenes names no split 'val'; it has train": {"data": {"format": "scenes", "num_scenes": {"train": 4}}},
    "evaluate.final_split is 'dev': data.num_scenes names no split 'dev'": {"evaluate": {"final_split": "dev"}},
    "unknown key 'hidden_sise' in model": {"model": {"hidden_sise": 3}},
    "unknown key 'bakbone' in regions.source": {
        "regions": {"source": {"bakbone": "resnet18"}, "random_backbone": True}
    },
    "timm knows no backbone 'tf_efficientnet_lite9'; it has tf_efficientnet_lite4": {
        "regions": {"source": {"backbone": "tf_efficientnet_lite9"}}
    },
    "regions.source is empty": {"regions": {}},
    "there is no file or folder nowhere.safetensors": {
        "regions": {"source": {"backbone": "resnet18"}, "weights": "nowhere.safetensors"}
    },
    "there is no model folder runs/nowhere/best: train the recipe": {"init_from": "runs/nowhere/best"},
    "evaluate.metric is 'glory'; the task captioning takes cider_d": {"evaluate": {"metric": "glory"}},
    "images a step leave some of 1 processes x 8 pieces without any": {
        "train": {"batch_size": 4, "accumulation": 8, "min_word_count": 1}
    },
}


@pytest.mark.parametrize("sentence", MISTAKES)
def test_a_mistake_is_told_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, sentence: str
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert main([str(write_recipe(tmp_path, **MISTAKES[sentence])), "--cpu"]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "training.train: " in line]
    assert len(lines) == 1 and sentence in lines[0]
    assert not (tmp_path / "run").exists()  # a mended recipe finds no leftovers


def test_main_names_a_missing_and_a_broken_recipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "none.yaml")]) == 2
    assert "none.yaml is not there" in capsys.readouterr().err
    (tmp_path / "broken.yaml").write_text("task: [captioning\noutput: x\n")
    assert main([str(tmp_path / "broken.yaml")]) == 2
    captured = capsys.readouterr().err
    assert "broken.yaml is not valid YAML" in captured and captured.count("\n") == 1


def test_main_trains_with_changes_and_names_its_command(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path)
    assert main([str(recipe), "--set", "train.epochs=1", "--set", "data_name=drawn scenes", "--cpu"]) == 0
    evaluation = json.loads((tmp_path / "run" / "best" / "evaluation.json").read_text())
    assert evaluation["command"] == (
        f"accelerate launch -m training.train {recipe} --set train.epochs=1 --set 'data_name=drawn scenes'"
    )
    assert evaluation["dataset"] == {"name": "drawn scenes", "type": "scenes", "split": "test", "num_photos": 8}


def test_an_output_of_another_recipe_is_left_alone(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path, train={"epochs": 1})
    train_here(recipe)
    recipe.train.learning_rate, recipe.seed = 0.5, 3
    with pytest.raises(ValueError, match="holds a run with another seed, train.learning_rate: choose another output"):
        train_here(recipe)
    recipe.train.learning_rate, recipe.seed, recipe.train.checkpoint_steps = 3e-3, 0, 7
    train_here(recipe)  # what no weight depends on may change


def test_a_loss_that_is_no_number_ends_the_run(tmp_path: Path) -> None:
    run = tiny_run(tmp_path)
    run.task.model.lm_head.bias.data[:] = float("nan")
    with pytest.raises(ValueError, match="the loss is nan after step 0: lower train.learning_rate"):
        one_step(run)


def test_weights_that_are_no_numbers_after_the_last_step_end_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    update, done = Run.update_weights, []

    def update_too_far(self: Run, gradient_factor: float) -> None:
        done.append(None)
        update(self, gradient_factor if len(done) < 12 else float("nan"))

    monkeypatch.setattr(Run, "update_weights", update_too_far)
    assert main([str(write_recipe(tmp_path)), "--cpu", "--set", "train.checkpoint_steps=4"]) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert re.fullmatch(
        r"training.train: the weights \S+ and \d+ more hold NaN or infinity after step 12: "
        "lower train.learning_rate, or set train.clip_norm",
        told,
    )
    assert len(done) == 12 and not (tmp_path / "run" / "best" / "evaluation.json").exists()
    steps = [path.name for path in checkpoints(tmp_path / "run" / "checkpoints")]
    assert steps == ["step-00000006-epoch-0001", "step-00000008-epoch-0001"]  # none of what is broken
    best = load_file(tmp_path / "run" / "best" / "model.safetensors")  # of the first epoch
    assert all(value.isfinite().all() for value in best.values())


@pytest.mark.parametrize(
    ("make_recipe", "rate", "what"),
    [(tiny_recipe, 3e37, "scores of words"), (tiny_vqa_recipe, 3e37, "scores of answers")],
    ids=["captioner", "vqa"],
)
def test_finite_weights_that_make_no_numbers_end_the_run(
    make_recipe: Any, rate: float, what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "recipe.yaml"
    settings = {"learning_rate": rate, "schedule": "constant", "epochs": 1, "max_steps": 1}
    path.write_text(yaml.safe_dump(make_recipe(tmp_path, train=settings).as_dict()))
    assert main([str(path), "--cpu"]) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert told == (
        f"training.train: the model makes {what} that are no numbers (NaN or infinity) after step 1: "
        "lower train.learning_rate, or set train.clip_norm"
    )
    assert not (tmp_path / "run" / "best").exists()


def test_a_score_that_is_no_number_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scored = Scored(metrics={"cider_d": float("nan")}, predictions=[], domains={})
    monkeypatch.setattr("training.tasks.captioning.CaptioningTask.score", lambda *args, **kwargs: scored)
    with pytest.raises(ValueError, match="evaluate.metric cider_d is nan on val after step 6: choose a metric"):
        train_here(tiny_recipe(tmp_path))
    assert not (tmp_path / "run" / "best").exists()


def test_trackers_that_are_not_installed_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"trackio, which is not installed: pip install 'modeling-updown\[tracking\]'"):
        train(tiny_recipe(tmp_path, train={"log_with": "trackio"}), cpu=True)


# -- ends that are nobody's mistake ----------------------------------------------------------------------------------


def told_in_one_line(captured: str) -> str:
    """The line of an error; that there is no traceback goes with it."""
    assert "Traceback" not in captured
    (line,) = [line for line in captured.splitlines() if line.startswith("training.train: ")]
    return line


def interrupt(*args: Any) -> None:
    raise KeyboardInterrupt  # a process in the background may ignore the signal itself


def test_ctrl_c_ends_a_run_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Run, "update_weights", interrupt)
    assert main([str(write_recipe(tmp_path)), "--cpu"]) == 130
    line = told_in_one_line(capsys.readouterr().err)
    assert line == "training.train: stopped; the same command goes on from the last checkpoint, if there is one"


def test_a_killed_loader_worker_ends_a_run_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(StepPieces, "__getitem__", lambda self, index: os.kill(os.getpid(), signal.SIGKILL))
    assert main([str(write_recipe(tmp_path)), "--cpu", "--set", "train.num_workers=1"]) == 2
    line = told_in_one_line(capsys.readouterr().err)
    assert re.match(r"training.train: a data loader worker was killed \(.*worker.*\), often for want of memory: ", line)
    assert "lower train.num_workers or train.batch_size; the same command goes on" in line


@pytest.mark.parametrize(
    "error",
    [
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
    ],
)
def test_a_full_disk_ends_a_run_in_one_line_and_it_goes_on_once_there_is_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    train_here(tiny_recipe(tmp_path, train={"checkpoint_steps": 4}, output=str(tmp_path / "whole")))
    write, done = training.checkpoints.save_file, []

    def write_until_full(tensors: Any, path: Path) -> None:
        done.append(path)
        if len(done) == 2:
            path.write_bytes(b"half of it")
            raise error
        write(tensors, path)

    command = [str(write_recipe(tmp_path)), "--cpu", "--set", "train.checkpoint_steps=4"]
    with monkeypatch.context() as patch:
        patch.setattr(training.checkpoints, "save_file", write_until_full)
        assert main(command) == 2
    line = told_in_one_line(capsys.readouterr().err)
    assert re.match(r"training.train: the disk is full \(.*No space left.*\): free some space; the same command", line)
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-00000004-epoch-0000"]
    assert main(command) == 0
    recipes = [tiny_recipe(tmp_path, output=str(tmp_path / name)) for name in ("run", "whole")]
    assert differences(*map(ending, recipes)) == []


def test_what_nobody_thought_of_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_recipe(tmp_path)
    monkeypatch.setattr("training.train.train", lambda *args, **kwargs: {}["nothing"])
    assert main([str(path)]) == 2
    line = told_in_one_line(capsys.readouterr().err)
    assert line == "training.train: unexpected KeyError: 'nothing' (UPDOWN_DEBUG=1 shows where)"
    monkeypatch.setenv("UPDOWN_DEBUG", "1")
    with pytest.raises(KeyError):
        main([str(path)])


def test_weights_that_are_shared_out_are_refused() -> None:
    with pytest.raises(ValueError, match="^FSDP shares a model's weights out .* `accelerate config`$"):
        check_whole_weights(DistributedType.FSDP)
    check_whole_weights(DistributedType.MULTI_GPU)


def test_what_a_loader_worker_said_is_what_is_shown() -> None:
    error = ValueError(
        "Caught ValueError in DataLoader worker process 0.\nOriginal Traceback:\n  File x\nValueError: no: it"
    )
    assert one_line(error) == "no: it"
    assert one_line(ValueError("two\n  lines")) == "two lines"
    assert one_line(OSError(122, "Disk quota exceeded")).startswith("the disk is full ([Errno 122] Disk quota")
