"""The only training loop, for every task: `accelerate launch -m training.train RECIPE.yaml`.

The task owns rows, inputs, loss and score (`training/tasks/`); the loop owns the order of the data, the optimiser,
checkpoints, evaluation, early stopping and logs. Every step's batch is fixed by (seed, epoch, step) and shared out over
processes, and its loss is divided by the words of the whole batch: any number of processes takes the same steps.

Several processes without a GPU: `torchrun --nproc_per_node 2 -m training.train RECIPE.yaml --cpu` (accelerate's own
launcher starts one process where there is no GPU).
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from training.checkpoints import Progress, load_checkpoint, replace_folder, save_checkpoint
from training.recipe import Recipe, read_recipe
from training.schedule import build_optimizer, build_schedule, scheduled_sampling_probability
from training.tasks.captioning import CaptioningTask

TASKS = {"captioning": CaptioningTask}


def main(arguments: list[str] | None = None) -> None:
    """Read the command line, then train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", help="a YAML file, for example training/recipes/captioning_scenes.yaml")
    parser.add_argument("--set", action="append", metavar="KEY=VALUE", help="change a value, e.g. train.epochs=3")
    parser.add_argument("--cpu", action="store_true", help="stay on the CPU even where there is a GPU")
    parsed = parser.parse_args(arguments)
    try:
        recipe = read_recipe(parsed.recipe, parsed.set)
        if recipe.task not in TASKS:
            raise ValueError(f"unknown task {recipe.task!r}; choose one of {', '.join(TASKS)}")
    except ValueError as error:
        parser.error(str(error))
    train(recipe, cpu=parsed.cpu)


def train(recipe: Recipe, *, cpu: bool = False) -> dict[str, float]:
    """Run a recipe from wherever it stands to its end; returns the final split's metrics."""
    accelerator = build_accelerator(recipe, cpu=cpu)
    keep_recipe(recipe, accelerator)
    set_seed(recipe.seed)
    task = TASKS[recipe.task](recipe, accelerator)
    run = Run(recipe, task, accelerator)
    run.resume()
    while not run.is_over():
        run.train_epoch()
        run.evaluate()
    return run.finish()


def build_accelerator(recipe: Recipe, *, cpu: bool) -> Accelerator:
    """accelerate's device, precision, processes and trackers for a recipe."""
    return Accelerator(
        cpu=cpu,
        mixed_precision=recipe.train.mixed_precision,
        log_with=recipe.train.log_with or None,
        project_dir=recipe.output,
    )


def keep_recipe(recipe: Recipe, accelerator: Accelerator) -> None:
    """Write the recipe into its output folder; refuse to go on there with another one."""
    kept = Path(recipe.output) / "recipe.yaml"
    if kept.is_file():
        before = yaml.safe_load(kept.read_text())
        changed = sorted(key for key, value in recipe.as_dict().items() if before.get(key) != value)
        if changed:
            raise SystemExit(
                f"{recipe.output} holds a run with other values of {', '.join(changed)}: "
                "choose another output, or delete that folder to start over"
            )
    elif accelerator.is_main_process:
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(yaml.safe_dump(recipe.as_dict(), sort_keys=False))
    accelerator.wait_for_everyone()


def epoch_batches(num_rows: int, *, batch_size: int, seed: int, epoch: int) -> np.ndarray:
    """The photos of every step of an epoch, (steps, batch_size); what does not fill a batch waits for the next epoch."""
    order = np.random.default_rng([seed, epoch]).permutation(num_rows)
    batch_size = min(batch_size, num_rows)
    return order[: num_rows // batch_size * batch_size].reshape(-1, batch_size)


class StepPieces(Dataset):
    """This process's share of each step, in pieces for gradient accumulation, as the task's inputs."""

    def __init__(self, task: CaptioningTask, batches: np.ndarray, *, epoch: int, accelerator: Accelerator, pieces: int):
        shares = [batch[accelerator.process_index :: accelerator.num_processes] for batch in batches]
        self.pieces = [piece for share in shares for piece in np.array_split(share, pieces)]
        self.task, self.epoch = task, epoch

    def __len__(self) -> int:
        return len(self.pieces)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.task.inputs(self.pieces[index], epoch=self.epoch)


class Run:
    """One recipe in progress: model, optimiser, schedule, averaged weights, position, log."""

    def __init__(self, recipe: Recipe, task: CaptioningTask, accelerator: Accelerator):
        self.recipe, self.task, self.accelerator = recipe, task, accelerator
        self.output = Path(recipe.output)
        self.progress = Progress()
        batch_size = min(recipe.train.batch_size, task.num_rows)
        if batch_size < accelerator.num_processes * recipe.train.accumulation:
            raise SystemExit(
                f"train.batch_size={batch_size} gives nothing to some of {accelerator.num_processes} processes "
                f"x {recipe.train.accumulation} pieces: raise it"
            )
        self.steps_per_epoch = task.num_rows // batch_size
        optimizer = build_optimizer(task.model, recipe.train)
        self.schedule = build_schedule(optimizer, recipe.train, steps_per_epoch=self.steps_per_epoch)
        self.model, self.optimizer = accelerator.prepare(task.model, optimizer)
        accelerator.register_for_checkpointing(self.schedule)
        self.averaged = None
        if recipe.train.ema:
            average = torch.optim.swa_utils.get_ema_multi_avg_fn(recipe.train.ema)
            self.averaged = torch.optim.swa_utils.AveragedModel(task.model, multi_avg_fn=average)
            accelerator.register_for_checkpointing(self.averaged)
        set_seed(recipe.seed, device_specific=True)
        if recipe.train.log_with:
            accelerator.init_trackers(self.output.name)

    def resume(self) -> None:
        """Go on from the newest checkpoint, if there is one."""
        progress = load_checkpoint(self.accelerator, self.output / "checkpoints")
        if progress is not None:
            self.progress = progress
            self.accelerator.print(f"going on after step {progress.step} (epoch {progress.epoch + 1})")

    def is_over(self) -> bool:
        """Whether all epochs are done, or the score has not risen for long enough."""
        patience = self.recipe.train.early_stopping
        if patience and self.progress.evaluations_without_gain >= patience:
            return True
        return self.progress.epoch >= self.recipe.train.epochs

    def train_epoch(self) -> None:
        """The rest of the current epoch."""
        settings, progress = self.recipe.train, self.progress
        self.model.train()
        self.task.model.scheduled_sampling_probability = scheduled_sampling_probability(settings, progress.epoch)
        total, words = 0.0, 0
        bar = tqdm(
            total=self.steps_per_epoch,
            initial=progress.step_in_epoch,
            desc=f"epoch {progress.epoch + 1}/{settings.epochs}",
            disable=not self.accelerator.is_main_process,
            mininterval=1.0,
        )
        for pieces in self.remaining_steps():
            losses = self.train_step(pieces)
            total, words = total + losses["total"], words + losses["count"]
            bar.update()
            bar.set_postfix(loss=f"{losses['total'] / max(losses['count'], 1):.3f}", **losses["shown"])
            self.log({"loss": losses["total"] / max(losses["count"], 1), "learning_rate": losses["rate"]})
            if progress.step % settings.checkpoint_steps == 0:
                save_checkpoint(self.accelerator, self.output / "checkpoints", progress)
        bar.close()
        progress.history.append({"epoch": progress.epoch + 1, "loss": total / max(words, 1)})

    def remaining_steps(self) -> Iterator[list[dict[str, Any]]]:
        """The pieces of every step of this epoch that is not done yet."""
        settings, progress = self.recipe.train, self.progress
        batches = epoch_batches(
            self.task.num_rows, batch_size=settings.batch_size, seed=self.recipe.seed, epoch=progress.epoch
        )[progress.step_in_epoch :]
        data = StepPieces(
            self.task, batches, epoch=progress.epoch, accelerator=self.accelerator, pieces=settings.accumulation
        )
        pieces = []
        for piece in DataLoader(data, batch_size=None, num_workers=settings.num_workers):
            pieces.append(piece)
            if len(pieces) == settings.accumulation:
                yield pieces
                pieces = []

    def train_step(self, pieces: list[dict[str, Any]]) -> dict[str, Any]:
        """One optimiser step over this process's pieces; gradients are divided by the words of the whole batch."""
        accelerator, device = self.accelerator, self.accelerator.device
        sums = torch.zeros(2, device=device)  # loss, words
        shown: dict[str, str] = {}
        for number, piece in enumerate(pieces):
            inputs = {name: value.to(device) if torch.is_tensor(value) else value for name, value in piece.items()}
            last = number == len(pieces) - 1
            with accelerator.autocast() if last else accelerator.no_sync(self.model), accelerator.autocast():
                total, count, shown = self.task.loss(self.model, inputs)
            accelerator.backward(total * accelerator.num_processes)  # processes' gradients are averaged: sum them
            sums += torch.stack([total.detach().float(), count.to(device).float()])
        sums = accelerator.reduce(sums, reduction="sum")
        accelerator.unscale_gradients()
        self.rescale_gradients(1 / max(sums[1].item(), 1.0))
        self.optimizer.step()
        rate = self.schedule.get_last_lr()[0]
        self.schedule.step()
        self.optimizer.zero_grad()
        if self.averaged is not None:
            self.averaged.update_parameters(self.task.model)
        self.progress.step += 1
        self.progress.step_in_epoch += 1
        return {"total": sums[0].item(), "count": int(sums[1]), "rate": rate, "shown": shown}

    def rescale_gradients(self, factor: float) -> None:
        """Multiply every gradient, then clip as the recipe says."""
        parameters = [parameter for parameter in self.model.parameters() if parameter.grad is not None]
        torch._foreach_mul_([parameter.grad for parameter in parameters], factor)
        if self.recipe.train.clip_value:
            torch.nn.utils.clip_grad_value_(parameters, self.recipe.train.clip_value)
        if self.recipe.train.clip_norm:
            torch.nn.utils.clip_grad_norm_(parameters, self.recipe.train.clip_norm)

    def evaluate(self) -> None:
        """Close the epoch: score the model, keep it if it is the best so far, write a checkpoint."""
        settings, progress = self.recipe.evaluate, self.progress
        progress.epoch, progress.step_in_epoch = progress.epoch + 1, 0
        if progress.epoch % settings.every_epochs == 0 or progress.epoch == self.recipe.train.epochs:
            model = self.task.model if self.averaged is None else self.averaged.module
            metrics = self.task.score(
                model, split=settings.split, num_beams=settings.num_beams, max_photos=settings.max_photos
            ).metrics
            score = metrics[settings.metric]
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
        save_checkpoint(self.accelerator, self.output / "checkpoints", progress)

    def keep_best(self, model: torch.nn.Module) -> None:
        """Write the model as a `save_pretrained` folder `best/`; the one before stays until it is whole."""
        if self.accelerator.is_main_process:
            partial = self.output / ".best.partial"
            self.task.save(model, partial)
            replace_folder(partial, self.output / "best")
        self.accelerator.wait_for_everyone()

    def finish(self) -> dict[str, float]:
        """Score the best model on the final split and write `evaluation.json` beside its weights."""
        from training.evaluate import evaluate_folder  # it needs the tasks, which need nothing of it

        settings = self.recipe.evaluate
        evaluation = evaluate_folder(
            self.task, self.output / "best", split=settings.final_split, num_beams=settings.final_num_beams
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


if __name__ == "__main__":
    main()
