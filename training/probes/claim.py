"""A claim in one table, by one command: every row a recipe with changes, trained for each seed and compared in pairs.

    python -m training.probes.claim flickr8k_captioning --output runs/claim

A claims file (`claims_file.py`) --plan--> a run for each row and seed --train_apart--> OUTPUT/ROW/SEED, as any recipe's
run --write_table--> OUTPUT/table.md and OUTPUT/table.json (`claim_table.py`), written anew after every run. Beside the
run's folder lie what it printed (SEED.log), and its minutes and error (SEED.json).

The same command goes on: a finished run stands, one that was killed continues at its last checkpoint, and one whose
recipe or settings have changed since is refused. A run that fails is listed and does not stop the others.
"""

import argparse
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from training.compare import read_evaluation
from training.console import one_line, say
from training.data.files import read_json, write_atomically, write_json
from training.probes.claim_table import claim_markdown, claim_rows
from training.probes.claims_file import Claim, Row, read_claim
from training.recipe import changed_keys, read_recipe
from training.run_folder import FREE_KEYS

PROGRAM = "training.train"
NOTED_EVERY = 20.0  # seconds; a kill loses as much of the minutes
EXAMPLES = """\
examples:
  python -m training.probes.claim flickr8k_captioning --output runs/claim --dry-run
  python -m training.probes.claim flickr8k_captioning --output runs/claim --rows "7x7 cells, ImageNet" --seeds 0,1,2
"""


@dataclass(frozen=True)
class PlannedRun:
    """A row's run of one seed, below the folder `output` of the claim."""

    row: Row
    seed: int
    output: Path

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return self.output / self.row.folder / str(self.seed)

    @property
    def notes(self) -> Path:
        """Its minutes and its last error, as JSON."""
        return self.folder.with_name(f"{self.seed}.json")

    @property
    def log(self) -> Path:
        """What its training printed."""
        return self.folder.with_name(f"{self.seed}.log")

    @property
    def command(self) -> list[str]:
        """The recipe and its settings, as `training.train` takes them."""
        changes = self.row.run_changes(self.output, self.seed)
        return [self.row.recipe, *(part for change in changes for part in ("--set", change))]

    def changed(self) -> str:
        """What is wrong with the folder: a run of another recipe, with the cure; "" where it may be used."""
        kept = self.folder / "recipe.yaml"
        if not kept.is_file():
            unknown = (
                f"{self.folder} holds figures without the recipe.yaml that they came of: delete it to train it anew"
            )
            return unknown if self.is_finished() else ""
        try:
            before = read_recipe(kept).as_dict()
        except ValueError as error:
            return f"{one_line(error)}: delete {self.folder} to train it again"
        now = self.row.run_recipe(self.output, self.seed).as_dict()
        changed = [key for key in changed_keys(before, now) if key not in {*FREE_KEYS, "output"}]
        if not changed:
            return ""
        return (
            f"{self.folder} holds a run with another {', '.join(changed)}: delete that folder to train it again, or "
            "choose another --output"
        )

    def is_finished(self) -> bool:
        """Whether the loop came to its end, which writes the evaluation last."""
        return (self.folder / "best" / "evaluation.json").is_file()

    def noted(self) -> dict[str, Any]:
        """Its `minutes` (None where nobody counted them) and its last `error`, "" without one."""
        return {"minutes": None, "error": ""} | (read_json(self.notes) if self.notes.is_file() else {})

    def state(self) -> str:
        """`finished`, `begun`, `new`, or what is wrong."""
        begun = "begun" if (self.folder / "recipe.yaml").is_file() else "new"
        return self.changed() or ("finished" if self.is_finished() else begun)

    def result(self) -> dict[str, Any]:
        """What the table needs of it (`claim_rows`)."""
        facts = {"seed": self.seed, "folder": str(self.folder), **self.noted()}
        changed = self.changed()
        if changed or not self.is_finished():
            return facts | ({"error": changed} if changed else {})
        try:
            evaluation, items = read_evaluation(self.folder / "best")
        except ValueError as error:
            return facts | {"error": one_line(error)}
        return facts | {"error": "", "evaluation": evaluation, "items": items}


@dataclass
class Stopwatch:
    """Keeps a run's minutes in its notes while it trains, those of earlier starts included."""

    run: PlannedRun
    earlier: float = 0.0
    started: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        if self.run.folder.is_dir():  # else it begins from the start
            self.earlier = self.run.noted()["minutes"] or 0.0

    def note(self, error: str = "") -> float:
        """Write the minutes so far and the error; returns the minutes."""
        minutes = self.earlier + (time.monotonic() - self.started) / 60
        self.run.notes.parent.mkdir(parents=True, exist_ok=True)
        write_json(self.run.notes, {"minutes": round(minutes, 3), "error": error})
        return minutes


Train = Callable[[PlannedRun, Stopwatch], str]  # the error, "" where it came to its end


def train_apart(run: PlannedRun, watch: Stopwatch, *, more: Sequence[str] = ()) -> str:
    """Train in a process of its own, which a failing run cannot take others along with; returns its error.

    more: further arguments of `training.train`, such as `--cpu`.
    """
    run.log.parent.mkdir(parents=True, exist_ok=True)
    with run.log.open("ab") as log:
        begins = log.tell()  # of what this start prints
        process = subprocess.Popen([sys.executable, "-m", PROGRAM, *run.command, *more], stdout=log, stderr=log)
        try:
            while process.poll() is None:
                watch.note()
                wait(process, NOTED_EVERY)
        finally:
            if process.poll() is None:  # this command was stopped
                process.terminate()
                process.wait()
    if not process.returncode:
        return ""
    lines = run.log.read_bytes()[begins:].decode("utf-8", errors="replace").splitlines()
    told = next((line for line in reversed(lines) if line.startswith(f"{PROGRAM}: ")), "")
    return told.removeprefix(f"{PROGRAM}: ") or f"ended with exit code {process.returncode}; see {run.log}"


def wait(process: subprocess.Popen[bytes], seconds: float) -> None:
    """Wait until a process ends, so many seconds at most."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return


def plan(claim: Claim, output: Path, *, names: Sequence[str] = (), seeds: Sequence[int] = ()) -> list[PlannedRun]:
    """The runs of the rows of those names (all without one), each for its own seeds or those given.

    The first seed of every row comes first: the whole table stands soonest. Raises `ValueError` for an unknown name.
    """
    chosen = [claim.row(name) for name in names] if names else list(claim.rows)
    most = max(len(seeds or row.seeds) for row in chosen)
    by_row = [(row, list(seeds or row.seeds)) for row in chosen]
    return [PlannedRun(row, own[turn], output) for turn in range(most) for row, own in by_row if turn < len(own)]


def known_runs(claim: Claim, output: Path, planned: Sequence[PlannedRun]) -> Iterator[PlannedRun]:
    """All runs that the table tells of: the planned ones, those of the file's seeds, and others that lie there."""
    for row in claim.rows:
        seeds = {*row.seeds, *(run.seed for run in planned if run.row.name == row.name)}
        seeds |= {
            int(path.parent.name)
            for path in (output / row.folder).glob("*/recipe.yaml")
            if path.parent.name.isdecimal()
        }
        yield from (PlannedRun(row, seed, output) for seed in sorted(seeds))


def write_table(claim: Claim, output: Path, planned: Sequence[PlannedRun], *, command: str) -> list[dict[str, Any]]:
    """Write table.json and table.md of what stands in the folder; returns the rows."""
    runs: dict[str, list[dict[str, Any]]] = {row.name: [] for row in claim.rows}
    for run in known_runs(claim, output, planned):
        runs[run.row.name].append(run.result())
    rows = claim_rows(claim, runs)
    output.mkdir(parents=True, exist_ok=True)
    content = {"title": claim.title, "command": command, "metrics": list(claim.metrics), "rows": rows}
    write_json(output / "table.json", content)
    write_atomically(output / "table.md", claim_markdown(claim, rows, command=command).encode())
    return rows


def measure(
    claim: Claim, output: Path, planned: Sequence[PlannedRun], *, command: str = "", train: Train = train_apart
) -> list[dict[str, Any]]:
    """Train what is not finished, one run after the other, and write the table after each; returns its rows.

    Args:
        claim: all rows of the table.
        output: the folder of all runs.
        planned: the runs to be finished (`plan`).
        command: what the table names as the way to it.
        train: trains one run and returns its error.
    """
    rows = write_table(claim, output, planned, command=command)
    for number, run in enumerate(planned, start=1):
        place = f"[{number}/{len(planned)}] {run.row.name}, seed {run.seed}:"
        state = run.state()
        if state in ("begun", "new"):
            say(f"{place} {'goes on' if state == 'begun' else 'starts'} ({run.folder})")
            watch = Stopwatch(run)
            error = train(run, watch)
            if not error and not run.is_finished():
                error = f"ended without an evaluation; see {run.log}"
            minutes = watch.note(error)
            rows = write_table(claim, output, planned, command=command)
            state = f"failed: {error}" if error else f"finished, {minutes:.1f} minutes"
        say(f"{place} {state}{figures(run, claim)}")
    return rows


def figures(run: PlannedRun, claim: Claim) -> str:
    """The metrics of a finished run on one line."""
    found = run.result().get("evaluation", {}).get("metrics", {})
    shown = [f"{claim.labels[name]} {found[f'{name}_x100']:.1f}" for name in claim.metrics if f"{name}_x100" in found]
    return f" ({', '.join(shown)})" if shown else ""


def seed_list(text: str) -> list[int]:
    """The type of `--seeds`.

    >>> seed_list("0,1,2")
    [0, 1, 2]
    """
    parts = text.split(",")
    if not all(part.isdecimal() for part in parts) or len(set(parts)) < len(parts):
        raise argparse.ArgumentTypeError(f"{text!r} is no list of different seeds: write 0,1,2")
    return [int(part) for part in parts]


def build_parser() -> argparse.ArgumentParser:
    """The arguments of the command."""
    parser = argparse.ArgumentParser(
        prog="python -m training.probes.claim",
        description="Trains the rows of a table, each for several seeds, and compares them in pairs. Goes on where it "
        "stood.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("claim", metavar="CLAIM", help="a YAML file, or one that comes along: flickr8k_captioning")
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="of all runs and the table")
    parser.add_argument("--rows", nargs="+", default=[], metavar="NAME", help="train these alone; the table has all")
    parser.add_argument("--seeds", type=seed_list, default=[], metavar="N,N", help="in the place of the file's")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change a value of all recipes; what a row sets itself stands",
    )
    parser.add_argument("--cpu", action="store_true", help="stay on the CPU even where there is a GPU")
    parser.add_argument("--dry-run", action="store_true", help="list the runs, their state and settings; train nothing")
    return parser


def run(arguments: argparse.Namespace, *, command: str) -> int:
    """Measure, or list what would be trained; returns 1 where one of the rows has an error, else 0."""
    claim = read_claim(arguments.claim, changes=arguments.set)
    planned = plan(claim, arguments.output, names=arguments.rows, seeds=arguments.seeds)
    if arguments.dry_run:
        for each in planned:
            say(f"{each.row.name}, seed {each.seed}: {each.state()}", f"  {shlex.join(each.command)}")
        return 0
    more = ["--cpu"] if arguments.cpu else []
    rows = measure(claim, arguments.output, planned, command=command, train=partial(train_apart, more=more))
    say("", *claim_markdown(claim, rows, command=command).rstrip().split("\n"))
    chosen = {each.row.name for each in planned}
    return int(any(row["errors"] for row in rows if row["name"] in chosen))


def stop(*_: object) -> None:
    """End as Ctrl-C does, so that the training ends too."""
    raise KeyboardInterrupt


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Returns 0; 1 where a run failed; 2 after an error of the user, which is printed on one line; 130 when stopped.
    """
    parsed = build_parser().parse_args(arguments)
    given = sys.argv[1:] if arguments is None else [str(argument) for argument in arguments]
    before = signal.signal(signal.SIGTERM, stop)
    try:
        return run(parsed, command=shlex.join(["python", "-m", "training.probes.claim", *given]))
    except KeyboardInterrupt:
        say("", "claim: stopped; the same command goes on", file=sys.stderr)
        return 130
    except (OSError, ValueError) as error:
        say(f"claim: {one_line(error)}", file=sys.stderr)
        return 2
    finally:
        signal.signal(signal.SIGTERM, before)


if __name__ == "__main__":
    sys.exit(main())
