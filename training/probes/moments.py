"""Moments without a model: random windows, the clip's middle, and the windows that find most training sentences.

    python -m training.probes.moments moments/moving_scenes --evaluated runs/moments_moving_scenes/best

Prints a table of the figures of the recipe's format for these three on a split and, beside them, those of evaluated
models with the paired difference to the last of the three. What they are is in
`training/metrics/video/constant_spans.py`.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from training.compare import difference, markdown, read_evaluation, shown
from training.console import one_line, positive, say
from training.data.files import write_json
from training.metrics.item_scores import ItemScores, item_scores
from training.metrics.video.constant_spans import grid_windows, middle_window, prior_windows
from training.recipe import read_recipe
from training.tasks.moment_scores import FoundMoment, figures_of, moment_figures
from training.tasks.moments import MomentsRecipe, moment_rows, with_spans

SEGMENTS = 16  # of a clip, where the recipe's map has no number of its own
MOST_SEGMENTS = 128
Row = Mapping[str, Any]
EXAMPLES = """\
examples:
  python -m training.probes.moments moments/travelling_flickr8k
  python -m training.probes.moments moments/didemo --split val --evaluated map=runs/moments_didemo/best
"""


def constant_moments(
    rows: Sequence[Row], training: Sequence[Row], *, format: str, segments: int, draws: int = 20, seed: int = 0
) -> dict[str, tuple[dict[str, float], ItemScores]]:
    """The figures of `random`, `middle` and `prior`, and what each sentence scores.

    Args:
        rows: sentences of the split that is scored, with `spans` and `duration_seconds`.
        training: those of the training split.
        format: of the data, whose figures are taken.
        segments: into how many parts clips are cut; windows are the runs of these.
        draws: orders of all windows that are drawn for each sentence; `random` is their mean.
        seed: of the draws.

    Raises:
        ValueError: for a number of segments out of 1..128, and rows whose duration is not known.
    """
    if not 1 <= segments <= MOST_SEGMENTS:
        raise ValueError(f"segments is {segments}: cut clips into 1 to {MOST_SEGMENTS} parts")
    windows, learnt = grid_windows(segments), [spans_of(row) for row in training]
    most = len(windows) if format == "didemo" else 10  # DiDeMo ranks all
    generator = np.random.default_rng(seed)
    random = []
    for _ in range(draws):
        orders = [generator.permutation(len(windows))[:most] for _ in rows]
        random.append(figures_with([windows[order] for order in orders], rows, format=format))
    constant = {
        "middle": middle_window(learnt),
        "prior": prior_windows(learnt, segments=segments, most=most),
    }
    return {
        "random": mean_figures(random),
        **{name: figures_with([own] * len(rows), rows, format=format) for name, own in constant.items()},
    }


def figures_with(
    windows: Sequence[np.ndarray], rows: Sequence[Row], *, format: str
) -> tuple[dict[str, float], ItemScores]:
    """The figures of windows (W, 2) of each sentence as parts of its clip, the best first."""
    found = []
    for own, row in zip(windows, rows, strict=True):
        scores = 1 - np.arange(len(own)) / len(own)
        seconds = own * row["duration_seconds"]
        found.append(FoundMoment(np.column_stack([seconds, scores]), None, np.zeros((1, 2))))
    return moment_figures(found, rows, format=format)


def mean_figures(
    found: Sequence[tuple[dict[str, float], ItemScores]],
) -> tuple[dict[str, float], ItemScores]:
    """The means of several figures of the same sentences."""
    figures = {name: float(np.mean([own[name] for own, _ in found])) for name in found[0][0]}
    items = {
        name: item_scores(item["ids"], np.mean([own[name]["values"] for _, own in found], axis=0).tolist())
        for name, item in found[0][1].items()
    }
    return figures, items


def spans_of(row: Row) -> np.ndarray:
    """The spans of a sentence as parts of its clip, (n, 2) in 0..1."""
    return np.clip(np.array(row["spans"], dtype=float) / row["duration_seconds"], 0, 1)


def rows_with_durations(recipe: MomentsRecipe, split: str) -> list[dict[str, Any]]:
    """The sentences of a split whose spans are known; `ValueError` where a clip's duration is not known."""
    rows = with_spans(moment_rows(recipe.data, split=split), split=split)
    kept = ["moment_id", "clip_id", "spans", "duration_seconds", "relevant_clip_ids", "saliency_scores"]
    found = rows.select_columns(kept).to_list()
    for row in found:
        row["duration_seconds"] = row["duration_seconds"] or recipe.moments.duration_seconds
        if not row["duration_seconds"]:
            raise ValueError(
                f"the clip {row['clip_id']!r} has no duration: name the durations in the data of the recipe, or set "
                "moments.duration_seconds"
            )
    return found


def moments_table(rows: Sequence[Mapping[str, Any]], *, metrics: Sequence[str]) -> str:
    """A Markdown table, a line a row of `name`, `metrics` (x100) and, of models, `differences` to `prior`."""
    several = any("differences" in row for row in rows)
    lines = [["windows", *metrics, *(f"{name}, difference to prior" for name in metrics if several)]]
    lines.append(["---"] * len(lines[0]))
    for row in rows:
        cells = [f"{row['metrics'][name]:.1f}" if name in row["metrics"] else "" for name in metrics]
        gains = row.get("differences", {})
        lines.append(
            [row["name"], *cells, *(shown(gains[name]) if name in gains else "" for name in metrics if several)]
        )
    return markdown(lines)


def evaluated_row(name: str, folder: Path, reference: ItemScores, *, seed: int) -> dict[str, Any]:
    """An evaluated model as a row of the table; `ValueError` where it was evaluated on other sentences."""
    evaluation, scores = read_evaluation(folder)
    shared = [metric for metric in scores if metric in reference]
    if not shared:
        raise ValueError(
            f"{folder} has no scores of sentences: evaluate it with updown evaluate RECIPE --model FOLDER --save"
        )
    metrics = {metric.removesuffix("_x100"): value for metric, value in evaluation["metrics"].items()}
    differences = {
        metric: difference(scores[metric], reference[metric], seed=seed, names=(name, "prior")) for metric in shared
    }
    return {"name": name, "metrics": metrics, "differences": differences}


def build_parser() -> argparse.ArgumentParser:
    """The arguments of the command."""
    parser = argparse.ArgumentParser(
        prog="python -m training.probes.moments",
        description="What random windows, the clip's middle and the commonest spans score at moment retrieval.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("recipe", metavar="RECIPE", help="a recipe of moments, whose data are read")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a value of the recipe")
    parser.add_argument("--split", default="", help="that is scored; by default the recipe's evaluate.final_split")
    parser.add_argument(
        "--segments",
        type=positive,
        metavar="N",
        help=f"parts of a clip, of which windows are made; by default model.moment_segments, or {SEGMENTS}",
    )
    parser.add_argument("--draws", type=positive, default=20, metavar="N", help="of random windows (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of draws and intervals (%(default)s)")
    parser.add_argument(
        "--evaluated",
        nargs="+",
        default=[],
        metavar="[NAME=]FOLDER",
        help="models that updown evaluate or a run has scored on the same split",
    )
    parser.add_argument("--output", type=Path, metavar="FILE.json", help="write all figures")
    return parser


def run(arguments: argparse.Namespace) -> None:
    """Score, print the table, and write the figures with `--output`."""
    recipe: Any = read_recipe(arguments.recipe, arguments.set)
    if not isinstance(recipe, MomentsRecipe):
        raise ValueError(f"{arguments.recipe} is a recipe of {recipe.task}: name one of moments")
    split, format = arguments.split or recipe.evaluate.final_split, recipe.data["format"]
    segments = arguments.segments or recipe.model.get("moment_segments", SEGMENTS)
    found = constant_moments(
        rows_with_durations(recipe, split),
        rows_with_durations(recipe, recipe.train.split),
        format=format,
        segments=segments,
        draws=arguments.draws,
        seed=arguments.seed,
    )
    metrics = [name for name in figures_of(format) if name in found["prior"][0]]
    rows: list[dict[str, Any]] = [
        {"name": name, "metrics": {metric: figures[f"{metric}_x100"] for metric in metrics}}
        for name, (figures, _) in found.items()
    ]
    for entry in arguments.evaluated:
        name, _, folder = entry.rpartition("=")
        rows.append(evaluated_row(name or folder, Path(folder), found["prior"][1], seed=arguments.seed))
    say(*moments_table(rows, metrics=metrics).split("\n"))
    if arguments.output:
        said = {"split": split, "num_sentences": len(next(iter(found["prior"][1].values()))["ids"])}
        write_json(arguments.output, {**said, "segments": segments, "draws": arguments.draws, "rows": rows})


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns 0, or 2 after an error of the user, which is printed on one line."""
    parsed = build_parser().parse_args(arguments)
    try:
        run(parsed)
    except (OSError, ValueError, ImportError) as error:
        say(f"moments: {one_line(error)}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
