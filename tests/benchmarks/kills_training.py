"""Does a killed run end as one that was never killed? Kills at random moments, and checkpoints that are cut short.

    python -m tests.benchmarks.kills_training [--kills 20] [--truncations 20] [--seed 0]

Each trial trains the same small captioner on drawn scenes in a process of its own and kills it (SIGKILL) at a random
moment of a random phase: while it starts, within a step, while it writes a checkpoint, scores, or keeps its best model.
A truncation then cuts a random file of the newest checkpoint at a random byte. The run is started again, and at its end
its newest checkpoint (weights, averages, optimiser, random numbers), `best/`, figures and log are compared with those
of a run that was left alone, bit for bit. Prints a line a trial and a summary; the exit code is 1 where any differs.
"""

import argparse
import importlib
import os
import random
import signal
import tempfile
import time
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tests.training.tiny_run import differences, ending, new_process, tiny_recipe
from training.checkpoints import checkpoints
from training.recipe_sections import Recipe
from training.train import train

PHASES = {
    "start": "training.tasks.captioning:CaptioningTask.prepare",
    "step": "training.train:Run.train_step",
    "checkpoint": "training.train:save_checkpoint",
    "scoring": "training.tasks.captioning:CaptioningTask.score",
    "best model": "training.train:Run.keep_best",
}
DROPPED = {"word_dropout": 0.3, "output_dropout": 0.3}
SETTINGS: dict[str, Any] = {"epochs": 3, "checkpoint_steps": 2, "ema": 0.9, "label_smoothing": 0.1}
SETTINGS |= {"scheduled_sampling_increase": 0.5, "scheduled_sampling_max": 0.5}


@dataclass
class Moment:
    """When a run is killed: in the call of that number (from 0) of a phase, once a share of its time is over."""

    phase: str
    call: int
    share: float
    seconds: float

    def __str__(self) -> str:
        return f"{self.phase} {self.call + 1}, {self.share:.0%} in ({1000 * self.share * self.seconds:.1f} ms)"


def main(arguments: list[str] | None = None) -> int:
    """All trials; returns 1 where one ends otherwise than the run that was left alone."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="trials (%(default)s)")
    parser.add_argument("--truncations", type=int, default=20, help="trials that cut a checkpoint too (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (%(default)s)")
    parsed = parser.parse_args(arguments)
    draw = random.Random(parsed.seed)
    with tempfile.TemporaryDirectory() as folder:
        whole = small_recipe(Path(folder) / "whole")
        timings = left_alone(whole)
        expected = ending(whole)
        seen = ", ".join(f"{len(calls)} x {phase} of {1000 * max(calls):.0f} ms" for phase, calls in timings.items())
        print(f"left alone: {seen}", flush=True)
        differing, killed, trials = 0, 0, parsed.kills + parsed.truncations
        for number in range(trials):
            recipe = small_recipe(Path(folder) / f"trial{number}")
            in_time, told = interrupted(recipe, draw, timings, number=number, cut=number >= parsed.kills)
            left_alone(recipe)
            found = differences(ending(recipe), expected)
            differing, killed = differing + bool(found), killed + in_time
            outcome = f"DIFFERS in {', '.join(found)}" if found else "the same end"
            print(f"{number + 1}: {told}: {outcome}", flush=True)
    print(f"{trials} trials, {killed} killed in the midst, {differing} with another end")
    return int(differing > 0)


def small_recipe(folder: Path) -> Recipe:
    """18 steps in 3 epochs, with dropout, averages and the model's own words, so that every state matters."""
    recipe = tiny_recipe(folder, train=SETTINGS)
    recipe.model = {**recipe.model, **DROPPED}
    recipe.regions.flips = True
    recipe.evaluate.metric = "bleu_1"  # which rises more than once, so that the best model is replaced
    return recipe


def random_moment(draw: random.Random, timings: dict[str, list[float]], *, phase: str) -> Moment:
    """A moment of that phase, by how often it came and how long it took in the run that was left alone."""
    call = draw.randrange(len(timings[phase]))
    return Moment(phase, call, draw.random(), timings[phase][call])


def interrupted(
    recipe: Recipe, draw: random.Random, timings: dict[str, list[float]], *, number: int, cut: bool
) -> tuple[bool, str]:
    """Kill a run and, where asked to, cut its newest checkpoint (it is killed again until it has one).

    Returns whether the kill came before the run's end, and what was done.
    """
    phases = list(PHASES)[1:] if cut else list(PHASES)  # a run that has not started has no checkpoint
    while True:
        moment = random_moment(draw, timings, phase=phases[number % len(phases)])
        in_time = kill_at(recipe, moment)
        done = cut_newest(recipe, draw) if cut else ""
        if done or not cut:
            return in_time, f"{moment}{'' if in_time else ' (it ended first)'}{done}"


def left_alone(recipe: Recipe) -> dict[str, list[float]]:
    """Train a recipe to its end; returns the seconds of each phase's calls."""
    reader, process = started(recipe)
    timings: dict[str, list[float]] = {phase: [] for phase in PHASES}
    began: dict[str, float] = {}
    while message := received(reader):
        phase, begins, moment = message
        if begins:
            began[phase] = moment
        else:
            timings[phase].append(moment - began[phase])
    process.join()
    if process.exitcode:
        raise RuntimeError(f"a run ended with exit code {process.exitcode}")
    return timings


def kill_at(recipe: Recipe, moment: Moment) -> bool:
    """Train until that moment, then SIGKILL; whether it came before the run's end."""
    reader, process = started(recipe)
    calls = -1
    while calls < moment.call and (message := received(reader)):
        phase, begins, _ = message
        calls += begins and phase == moment.phase
    time.sleep(moment.share * moment.seconds)
    process.kill()
    process.join()
    return process.exitcode == -signal.SIGKILL


def started(recipe: Recipe) -> tuple[Connection, Any]:
    """A process that trains, and where it says what it begins and ends."""
    reader, writer = Pipe(duplex=False)
    process = new_process(train_watched, recipe, writer)
    process.start()
    writer.close()
    return reader, process


def received(reader: Connection) -> Any:
    """The next message; None once the process is gone."""
    try:
        return reader.recv()
    except EOFError:
        return None


def train_watched(recipe: Recipe, writer: Connection) -> None:
    """Train without a word; every call of a phase is announced as it begins and as it ends."""
    for phase, place in PHASES.items():
        module, _, name = place.partition(":")
        owner: Any = importlib.import_module(module)
        *owners, last = name.split(".")
        for part in owners:
            owner = getattr(owner, part)
        setattr(owner, last, Announced(getattr(owner, last), phase, writer))
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        train(recipe, cpu=True)


class Announced:
    """A function or method that says when it is called and when it is done."""

    def __init__(self, function: Any, phase: str, writer: Connection):
        self.function, self.phase, self.writer = function, phase, writer

    def __get__(self, instance: Any, owner: Any = None) -> "Announced":
        return self if instance is None else Announced(self.function.__get__(instance, owner), self.phase, self.writer)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.writer.send((self.phase, True, time.perf_counter()))
        result = self.function(*args, **kwargs)
        self.writer.send((self.phase, False, time.perf_counter()))
        return result


def cut_newest(recipe: Recipe, draw: random.Random) -> str:
    """Cut a random file of the newest checkpoint at a random byte; returns what was done, "" where there is none."""
    found = checkpoints(Path(recipe.output) / "checkpoints")
    if not found:
        return ""
    path = draw.choice(sorted(found[-1].iterdir()))
    content = path.read_bytes()
    length = draw.randrange(len(content))
    path.write_bytes(content[:length])
    return f"; {path.name} of {found[-1].name} cut to {length:,} of {len(content):,} bytes"


if __name__ == "__main__":
    raise SystemExit(main())
