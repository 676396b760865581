"""The only training loop, for every task: `accelerate launch -m training.train RECIPE.yaml`.

The task owns rows, inputs, loss and score (`training/tasks/`); the loop owns the order of the data, the optimiser,
checkpoints, evaluation, early stopping and logs. Every step's batch is fixed by (seed, epoch, step) and shared out over
processes, and its loss is divided by the words of the whole batch: any number of processes takes the same steps.

Several processes without a GPU: `torchrun --nproc_per_node 2 -m training.train RECIPE.yaml` (accelerate's own launcher
starts one process where there is no GPU). Run the same command again to go on after a kill.
"""

import argparse
import contextlib
import errno
import importlib.util
import json
import math
import os
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, DistributedType, set_seed
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from modeling_updown.outputs_updown import NotFiniteError
from training.checkpoints import (
    Progress,
    RunState,
    load_checkpoint,
    replace_folder,
    restore_folder,
    save_checkpoint,
    sync_file,
)
from training.commands.shared import add_train_arguments, one_sentence
from training.console import say
from training.evaluate import evaluate_folder
from training.precision import warn_of_slow_precision
from training.recipe import read_recipe
from training.recipe_sections import Recipe
from training.run_folder import ClaimedOutput, how_to_go_on, keep_recipe
from training.schedule import build_optimizer, build_schedule, scheduled_sampling_probability
from training.tasks import TASKS, build_task
from training.tasks.spec import Task

STEADIER = "lower train.learning_rate, or set train.clip_norm"
DISK_FULL = (os.strerror(errno.ENOSPC), "quota exceeded")
GO_ON = "the same command goes on from the last checkpoint, if there is one"


def main(arguments: list[str] | None = None) -> int:
    """Read the command line, then train.

    Returns the exit code: 0 done, 2 a mistake or a failure, told in one sentence, 130 stopped by Ctrl-C.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_train_arguments(parser)
    return run(parser.parse_args(arguments), program="training.train")


def run(parsed: argparse.Namespace, *, program: str) -> int:
    """Train with the arguments of `add_train_arguments`; `program` is what was called, for messages and figures."""
    changes = [part for change in parsed.set for part in ("--set", change)]
    started = ["updown", "train"] if program == "updown train" else ["accelerate", "launch", "-m", "training.train"]
    command = shlex.join([*started, parsed.recipe, *changes])
    try:
        train(read_recipe(parsed.recipe, parsed.set), cpu=parsed.cpu, command=command)
    except KeyboardInterrupt:
        say("", f"{program}: stopped; {GO_ON}", file=sys.stderr)
        return 130
    except Exception as error:
        if os.environ.get("UPDOWN_DEBUG") == "1":
            raise
        say(f"{program}: {one_line(error)}", file=sys.stderr)
        return 2
    return 0


def one_line(error: Exception) -> str:
    """An error as one sentence; of one that a data loader worker passed on, what the worker said."""
    message = " ".join(str(error).split())
    if message.startswith("Caught "):
        return " ".join(str(error).strip().splitlines()[-1].partition(": ")[2].split())
    if "DataLoader worker" in message:
        return (
            f"a data loader worker was killed ({message}), often for want of memory: lower train.num_workers or "
            f"train.batch_size; {GO_ON}"
        )
    if any(fault in message for fault in DISK_FULL):
        return f"the disk is full ({message}): free some space; {GO_ON}"
    return one_sentence(error)


def train(recipe: Recipe, *, cpu: bool = False, command: str = "") -> dict[str, float]:
    """Run a recipe from wherever it stands to its end; returns the final split's metrics.

    `command` is what `evaluation.json` names as the way to these figures. Raises `ValueError` for a recipe, data or an
    output folder that cannot be used, and for a loss, weights or a score that are no numbers.
    """
    accelerator = build_accelerator(recipe, cpu=cpu)
    task = build_task(recipe, accelerator)  # before the output is compared: a mistake in the recipe is no other run
    with ClaimedOutput(recipe, accelerator):
        set_seed(recipe.seed)
        task.prepare()
        loop = Run(recipe, task, accelerator)
        keep_recipe(recipe, accelerator)
        loop.resume()
        while not loop.is_over():
            loop.train_epoch()
            loop.evaluate()
        return loop.finish(command or f"accelerate launch -m training.train {recipe.output}/recipe.yaml")


def build_accelerator(recipe: Recipe, *, cpu: bool) -> Accelerator:
    """accelerate's device, precision, processes and trackers for a recipe.

    Without a GPU each of several processes would take itself for the only one, so accelerate is told to use the CPU.
    """
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    tracker = recipe.train.log_with
    if tracker and importlib.util.find_spec(tracker) is None:
        raise ValueError(
            f"train.log_with is {tracker}, which is not installed: pip install 'modeling-updown[tracking]'"
        )
    # of several heads a step trains one
    heads = [DistributedDataParallelKwargs(find_unused_parameters=True)] if TASKS[recipe.task].parts else []
    accelerator = Accelerator(
        kwargs_handlers=heads,
        cpu=cpu or (several and not torch.accelerator.is_available()),
        mixed_precision=recipe.train.mixed_precision,
        log_with=tracker or None,
        project_dir=recipe.output,
    )
    check_whole_weights(accelerator.distributed_type)
    warn_of_slow_precision(accelerator, cure="--set train.mixed_precision=no")
    return accelerator


def check_whole_weights(kind: DistributedType) -> None:
    """`ValueError` where accelerate was told to share the weights out over processes, which nothing here would join."""
    if kind in (DistributedType.FSDP, DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM):
        raise ValueError(
            f"{kind.value} shares a model's weights out over processes, and every process here needs all of them: "
            "answer no to it in `accelerate config`"
        )


class StepPieces(Dataset):
    """This process's share of each step, in pieces for gradient accumulation, as the task's inputs."""

    def __init__(self, task: Task, batches: Sequence[np.ndarray], *, epoch: int, accelerator: Accelerator, pieces: int):
        shares = [batch[accelerator.process_index :: accelerator.num_processes] for batch in batches]
        self.pieces = [piece for share in shares for piece in np.array_split(share, pieces)]
        self.task, self.epoch = task, epoch

    def __len__(self) -> int:
        return len(self.pieces)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.task.inputs(self.pieces[index], epoch=self.epoch)


class Run:
    """One recipe in progress: model, optimiser, schedule, averaged weights, position, log."""

    def __init__(self, recipe: Recipe, task: Task, accelerator: Accelerator):
        self.recipe, self.task, self.accelerator = recipe, task, accelerator
        self.output = Path(recipe.output)
        self.progress = Progress()
        self.batches = TASKS[recipe.task].batches
        first_epoch = self.batches(task, 0)
        batch_size = min(map(len, first_epoch), default=0)
        if batch_size < accelerator.num_processes * recipe.train.accumulation:
            raise ValueError(
                f"{batch_size} images a step leave some of {accelerator.num_processes} processes x "
                f"{recipe.train.accumulation} pieces without any: raise train.batch_size or lower train.accumulation"
            )
        self.steps_per_epoch = len(first_epoch)
        self.averaged = averaged_model(task.model, decay=recipe.train.ema, device=accelerator.device)
        optimizer = build_optimizer(task.model, recipe.train, text_learning_rate=recipe.text.learning_rate)
        self.schedule = build_schedule(optimizer, recipe.train, steps_per_epoch=self.steps_per_epoch)
        self.model, self.optimizer = accelerator.prepare(task.model, optimizer)
        modules = {"model": task.model, **{f"task-{i}": module for i, module in enumerate(task.stateful)}}
        if self.averaged is not None:
            modules["averaged"] = self.averaged
        self.state = RunState(modules, self.optimizer, self.schedule)
        set_seed(recipe.seed, device_specific=True)
        if recipe.train.log_with:
            accelerator.init_trackers(self.output.name)

    def resume(self) -> None:
        """Go on from the newest checkpoint, if there is one; what was logged after it is forgotten.

        Raises `ValueError` where the best model so far is gone.
        """
        log = self.output / "log.jsonl"
        progress = load_checkpoint(self.accelerator, self.output / "checkpoints", self.state)
        if self.accelerator.is_main_process:
            restore_folder(self.output / "best")
            kept_bytes = progress.log_bytes if progress else 0
            if log.is_file() and kept_bytes is not None:
                os.truncate(log, min(kept_bytes, log.stat().st_size))
        if progress is not None:
            self.progress = progress
            self.accelerator.print(f"going on after step {progress.step}, {progress.epoch} epochs")
            if self.is_over():
                hint = how_to_go_on(self.recipe, stopped_early=self.stopped_early())
                self.accelerator.print(f"the run is over and is scored again; {hint}")
        self.accelerator.wait_for_everyone()
        best = self.output / "best"
        if self.progress.best_score is not None and not best.is_dir():
            raise ValueError(
                f"{best}, the best model of this run, was deleted: put it back, or delete {self.output} to start over"
            )

    def is_over(self) -> bool:
        """Whether all epochs are done and scored, or the score has not risen for long enough."""
        if self.progress.step_in_epoch:  # these steps are not scored yet, even where no more may follow
            return False
        return self.stopped_early() or self.progress.epoch >= self.recipe.train.epochs or not self.steps_left()

    def stopped_early(self) -> bool:
        """Whether the score has not risen for `train.early_stopping` evaluations."""
        patience = self.recipe.train.early_stopping
        return bool(patience) and self.progress.evaluations_without_gain >= patience

    def steps_left(self) -> int:
        """Steps until `train.max_steps`; as many as one likes without it."""
        most = self.recipe.train.max_steps
        return max(0, most - self.progress.step) if most else sys.maxsize

    def train_epoch(self) -> None:
        """The rest of the current epoch."""
        settings, progress = self.recipe.train, self.progress
        self.model.train()
        self.task.model.scheduled_sampling_probability = scheduled_sampling_probability(settings, progress.epoch)
        bar = tqdm(
            total=self.steps_per_epoch,
            initial=progress.step_in_epoch,
            desc=f"epoch {progress.epoch + 1}/{settings.epochs}",
            disable=not self.accelerator.is_main_process,
            mininterval=1.0,
        )
        with bar:
            for pieces in self.remaining_steps():
                values = self.train_step(pieces)
                bar.update()
                bar.set_postfix({name: f"{value:.3g}" for name, value in values.items()}, refresh=False)
                self.log(values)
                if progress.step % settings.checkpoint_steps == 0:
                    self.checkpoint()
        progress.history.append(
            {"epoch": progress.epoch + 1, "loss": progress.epoch_loss / max(progress.epoch_words, 1)}
        )

    def remaining_steps(self) -> Iterator[list[dict[str, Any]]]:
        """The pieces of every step of this epoch that is not done yet."""
        settings, progress = self.recipe.train, self.progress
        batches = self.batches(self.task, progress.epoch)[progress.step_in_epoch :][: self.steps_left()]
        data = StepPieces(
            self.task, batches, epoch=progress.epoch, accelerator=self.accelerator, pieces=settings.accumulation
        )
        own_draws = torch.Generator()  # a loader would draw from the run's, once per start, and a resumed run differ
        pieces = []
        for piece in DataLoader(data, batch_size=None, num_workers=settings.num_workers, generator=own_draws):
            pieces.append(piece)
            if len(pieces) == settings.accumulation:
                yield pieces
                pieces = []

    def train_step(self, pieces: list[dict[str, Any]]) -> dict[str, float]:
        """One optimiser step over this process's pieces; gradients are divided by the words of the whole batch.

        Returns what is logged: loss a word, learning rate, and what the task shows of this process's last piece.
        """
        accelerator, device, progress = self.accelerator, self.accelerator.device, self.progress
        sums = torch.zeros(2, device=device)  # loss, words
        shown: dict[str, float] = {}
        for number, piece in enumerate(pieces):
            inputs = {name: value.to(device) for name, value in piece.items()}
            last = number == len(pieces) - 1
            with contextlib.nullcontext() if last else accelerator.no_sync(self.model):
                with saying_how_to_be_steadier(progress.step):
                    total, count, shown = self.task.loss(self.model, inputs)
                accelerator.backward(total * accelerator.num_processes)  # the mean over processes becomes their sum
            sums += torch.stack([total.detach().float(), count.to(device).float()])
        loss, words = accelerator.reduce(sums, reduction="sum").tolist()
        if not math.isfinite(loss):
            raise ValueError(f"the loss is {loss} after step {progress.step}: {STEADIER}")
        rate = self.schedule.get_last_lr()[0]
        self.update_weights(1 / max(words, 1.0))
        progress.step, progress.step_in_epoch = progress.step + 1, progress.step_in_epoch + 1
        progress.epoch_loss, progress.epoch_words = progress.epoch_loss + loss, progress.epoch_words + int(words)
        return {"loss": loss / max(words, 1.0), "learning_rate": rate, **shown}

    def update_weights(self, gradient_factor: float) -> None:
        """Multiply every gradient, clip as the recipe says, take the optimiser's and the schedule's step, average."""
        settings = self.recipe.train
        self.accelerator.unscale_gradients()
        parameters = [parameter for parameter in self.model.parameters() if parameter.grad is not None]
        for parameter in parameters:
            parameter.grad.mul_(gradient_factor)  # type: ignore[union-attr]
        if settings.clip_value:
            torch.nn.utils.clip_grad_value_(parameters, settings.clip_value)
        if settings.clip_norm:
            torch.nn.utils.clip_grad_norm_(parameters, settings.clip_norm)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad()
        if self.averaged is not None:
            self.averaged.update_parameters(self.task.model)

    def evaluate(self) -> None:
        """Close the epoch: score the model, keep it if it is the best so far, write a checkpoint."""
        settings, progress = self.recipe.evaluate, self.progress
        progress.epoch, progress.step_in_epoch = progress.epoch + 1, 0
        progress.epoch_loss, progress.epoch_words = 0.0, 0
        if progress.epoch % settings.every_epochs == 0 or self.is_over():
            self.check_weights()
            model = self.task.model if self.averaged is None else self.averaged.module
            with saying_how_to_be_steadier(progress.step):
                metrics = self.task.score(
                    model, split=settings.split, num_beams=settings.num_beams, max_images=settings.max_images
                ).metrics
            score = metrics.get(settings.metric, math.nan)  # rows may lack what a metric is of
            if not math.isfinite(score):
                raise ValueError(
                    f"evaluate.metric {settings.metric} is {score} on {settings.split} after step {progress.step}: "
                    f"choose a metric that these data have; or {STEADIER}"
                )
            progress.history[-1].update(metrics)
            self.log(metrics)
            self.accelerator.print(
                f"epoch {progress.epoch}: loss {progress.history[-1]['loss']:.4f}, {settings.split} "
                + ", ".join(f"{name} {value:.2f}" for name, value in metrics.items() if name.endswith("_x100"))
            )
            better = progress.best_score is None or score > progress.best_score
            progress.evaluations_without_gain = 0 if better else progress.evaluations_without_gain + 1
            if better:
                progress.best_score = score
                self.keep_best(model)
        self.checkpoint()

    def check_weights(self) -> None:
        """`ValueError` where a weight is no number, as after a last step that went too far."""
        for module in self.state.modules.values():
            broken = [name for name, value in module.state_dict().items() if not torch.isfinite(value).all()]
            if broken:
                more = f" and {len(broken) - 1} more" if len(broken) > 1 else ""
                raise ValueError(
                    f"the weights {broken[0]}{more} hold NaN or infinity after step {self.progress.step}: {STEADIER}"
                )

    def keep_best(self, model: torch.nn.Module) -> None:
        """Write the model as a `save_pretrained` folder `best/`; the one before stays until it is whole."""
        if self.accelerator.is_main_process:
            partial = self.output / ".best.partial"
            shutil.rmtree(partial, ignore_errors=True)
            self.task.save(model, partial)
            replace_folder(partial, self.output / "best")
        self.accelerator.wait_for_everyone()

    def checkpoint(self) -> None:
        """Write where the run stands, the log's length included; `ValueError` for weights that are no numbers."""
        self.check_weights()
        log = self.output / "log.jsonl"
        if self.accelerator.is_main_process:
            sync_file(log)
        self.progress.log_bytes = log.stat().st_size
        save_checkpoint(self.accelerator, self.output / "checkpoints", self.state, progress=self.progress)

    def finish(self, command: str) -> dict[str, float]:
        """Score the best model on the final split and write `evaluation.json` beside its weights."""
        settings = self.recipe.evaluate
        evaluation = evaluate_folder(
            self.task,
            self.output / "best",
            split=settings.final_split,
            num_beams=settings.final_num_beams,
            command=command,
        )
        self.accelerator.print(json.dumps(evaluation["metrics"], indent=1))
        self.accelerator.end_training()
        return evaluation["metrics"]

    def log(self, values: dict[str, float]) -> None:
        """To `log.jsonl`, and to the tracker where the recipe names one."""
        if self.accelerator.is_main_process:
            with (self.output / "log.jsonl").open("a") as file:
                file.write(json.dumps({"step": self.progress.step, **values}) + "\n")
        if self.recipe.train.log_with:
            self.accelerator.log(values, step=self.progress.step)


@contextlib.contextmanager
def saying_how_to_be_steadier(step: int) -> Iterator[None]:
    """A model in training that makes numbers that are none is no damaged file: `ValueError` with the cure."""
    try:
        yield
    except NotFiniteError as error:
        raise ValueError(
            f"the model makes {error.what} that are no numbers (NaN or infinity) after step {step}: {STEADIER}"
        ) from error


class AveragedModel(torch.optim.swa_utils.AveragedModel):
    """The average of the weights that train; those that do not are the model's own, to the last bit.

    An average of a weight with itself may differ from it in the last bit or turn -0.0 into 0.0, and a region source
    that differs so is not the one that stored regions were made by.
    """

    def update_parameters(self, model: torch.nn.Module) -> None:
        """Take in the weights after one more step."""
        super().update_parameters(model)
        for average, weight in zip(self.module.parameters(), model.parameters(), strict=True):
            if not weight.requires_grad:
                average.detach().copy_(weight.detach())


def averaged_model(
    model: torch.nn.Module, *, decay: float, device: torch.device
) -> torch.optim.swa_utils.AveragedModel | None:
    """The exponential moving average of a model's weights; None for decay 0.

    It is made before `accelerator.prepare`, whose mixed-precision wrapper is not to be copied with the model.
    """
    if not decay:
        return None
    average = torch.optim.swa_utils.get_ema_multi_avg_fn(decay)
    return AveragedModel(model.to(device), multi_avg_fn=average)


if __name__ == "__main__":
    sys.exit(main())
