"""What stands beside a grounding model: boxes that no words choose, by the same metric and on the same phrases.

    python -m training.probes.grounding whole=grid:1 light=hub_cards/updown-detector-lite \\
        --recipe grounding/flickr8k_entities --split test --evaluated model=runs/grounding_flickr8k_entities/best

For a source of regions each phrase with a referent gets the regions of its image, the surest first: R@1 is that of the
best single region by the detector's score (`grid:1`: of the whole image), the upper bound what choosing among them
could reach.
Models are named by the folders of their evaluations; a control without image or text is one (`train.withhold`).
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset

from training.compare import difference, markdown, read_evaluation, shown
from training.console import one_line, positive, say
from training.data.files import write_json
from training.metrics.grounding.phrases import phrase_recall
from training.metrics.item_scores import item_scores
from training.probes.region_boxes import SOURCE_HELP, source_boxes
from training.probes.sources import named_sources
from training.recipe import read_recipe
from training.tasks.grounding import FIGURES, grounding_rows

CHIEF = "recall_1"
MOST_REGIONS = 36


def source_row(name: str, source: str, rows: Dataset, *, most: int, batch_size: int) -> dict[str, Any]:
    """The figures of a source's regions for every phrase.

    Returns `name`, `metrics` and `types` (figures x100, of all phrases and by type) and `items` (of each image).
    """
    ranked = [by_score(own) for own in source_boxes(source, rows, most=most, batch_size=batch_size)]
    phrases, owners = rows["phrases"][:], []
    flat = []
    for image, sentences in enumerate(phrases):
        own = [phrase for sentence in sentences for phrase in sentence if phrase["boxes"]]
        flat += own
        owners += [image] * len(own)
    scores = phrase_recall(
        [ranked[image] for image in owners],
        [phrase["boxes"] for phrase in flat],
        types=[phrase["kinds"] for phrase in flat],
    )
    items = {key: item_scores(rows["image_id"][:], scores["per_item"][key], owners=owners) for key in FIGURES}
    return {
        "name": name,
        "metrics": {f"{key}_x100": scores[f"{key}_x100"] for key in FIGURES},
        "types": {kind: own[f"{CHIEF}_x100"] for kind, own in scores["per_type"].items()},
        "items": items,
    }


def by_score(found: Mapping[str, Any]) -> np.ndarray:
    """An image's regions (R, 4), the surest first where they have scores."""
    boxes = np.asarray(found["boxes"], dtype=np.float64)
    scores = found.get("scores")
    return boxes if scores is None else boxes[np.argsort(-np.asarray(scores), kind="stable")]


def evaluated_row(name: str, folder: str) -> dict[str, Any]:
    """The figures of an evaluation, as `source_row` has them; `ValueError` for one of another task."""
    evaluation, items = read_evaluation(Path(folder))
    missing = [key for key in FIGURES if f"{key}_x100" not in evaluation["metrics"] or key not in items]
    if missing:
        raise ValueError(f"{folder} is no evaluation of grounding (it has no {missing[0]}): name another folder")
    return {
        "name": name,
        "metrics": {f"{key}_x100": evaluation["metrics"][f"{key}_x100"] for key in FIGURES},
        "types": {kind: own[f"{CHIEF}_x100"] for kind, own in evaluation["domains"].items()},
        "items": items,
    }


def add_differences(rows: list[dict[str, Any]], *, seed: int = 0) -> None:
    """Each row's difference at R@1 to the first, paired by image, under `difference`."""
    first = rows[0]
    for row in rows[1:]:
        row["difference"] = difference(
            row["items"][CHIEF], first["items"][CHIEF], seed=seed, names=(row["name"], first["name"])
        )


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """A Markdown table: a line a source or model, its figures and its difference to the first."""
    lines = [["", *FIGURES.values(), f"R@1 minus that of {rows[0]['name']}"]]
    lines.append(["---"] * len(lines[0]))
    for row in rows:
        gain = shown(row["difference"]) if "difference" in row else ""
        lines.append([row["name"], *(f"{row['metrics'][f'{key}_x100']:.1f}" for key in FIGURES), gain])
    return markdown(lines)


def types_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """A Markdown table of R@1 by the phrases' types."""
    kinds = list(dict.fromkeys(kind for row in rows for kind in row["types"]))
    lines = [["R@1", *kinds], ["---"] * (1 + len(kinds))]
    lines += [[row["name"], *(f"{row['types'].get(kind, float('nan')):.1f}" for kind in kinds)] for row in rows]
    return markdown(lines)


def build_parser() -> argparse.ArgumentParser:
    """The arguments of the command."""
    parser = argparse.ArgumentParser(
        prog="python -m training.probes.grounding",
        description="Grounding of phrases by boxes that no words choose, beside evaluated models.",
    )
    parser.add_argument("sources", nargs="+", metavar="[NAME=]SOURCE", help=SOURCE_HELP)
    parser.add_argument("--recipe", required=True, metavar="RECIPE", help="a recipe of grounding, whose data are read")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a value of the recipe")
    parser.add_argument("--split", default="test", help="of the data (%(default)s)")
    parser.add_argument(
        "--evaluated", nargs="+", default=[], metavar="[NAME=]FOLDER", help="evaluations on the same split"
    )
    parser.add_argument(
        "--most", type=positive, default=MOST_REGIONS, metavar="R", help="regions of a detector (%(default)s)"
    )
    parser.add_argument("--batch-size", type=positive, default=16, metavar="N", help="images at a time (%(default)s)")
    parser.add_argument("--output", type=Path, metavar="FILE.json", help="write all figures")
    return parser


def run(arguments: argparse.Namespace) -> None:
    """Measure, print the tables, and write the figures with `--output`."""
    recipe = read_recipe(arguments.recipe, arguments.set)
    if recipe.task != "grounding":
        raise ValueError(f"{arguments.recipe} is a recipe of {recipe.task}: name one of grounding")
    data = grounding_rows(recipe.data, split=arguments.split)
    options = {"most": arguments.most, "batch_size": arguments.batch_size}
    rows = [source_row(name, source, data, **options) for name, source in named_sources(arguments.sources).items()]
    rows += [evaluated_row(name, folder) for name, folder in named_sources(arguments.evaluated).items()]
    add_differences(rows)
    say(*table(rows).split("\n"), "", *types_table(rows).split("\n"))
    if arguments.output:
        shown_rows = [{key: value for key, value in row.items() if key != "items"} for row in rows]
        write_json(arguments.output, {"split": arguments.split, "num_images": len(data), "rows": shown_rows})


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns 0, or 2 after an error of the user, which is printed on one line."""
    parsed = build_parser().parse_args(arguments)
    try:
        run(parsed)
    except (OSError, ValueError, ImportError) as error:
        say(f"grounding: {one_line(error)}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
