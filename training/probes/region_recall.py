"""Recall of true boxes by region sources: which share of them one of an image's first K regions covers.

    python -m training.probes.region_recall hub_cards/updown-detector-lite grid:7 --entities entities.json.gz \\
        --images data/flickr8k/images --split test

Prints a table of the sources, with 95 % intervals over images and paired differences to the first, and for each source
one of the groups of boxes: by type (Flickr30k Entities), by size, by how many training boxes have the name.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from training.compare import difference, markdown, shown
from training.console import one_line, positive, say
from training.data.files import write_json
from training.metrics.detection.box_recall import MIN_IOU, RECALL_AT, box_recall, check_limits
from training.metrics.item_scores import item_scores
from training.probes.named_boxes import ORDER, NamedBoxes, entity_boxes, recipe_boxes
from training.probes.region_boxes import SOURCE_HELP, source_boxes
from training.probes.sources import named_sources

EXAMPLES = """\
examples:
  python -m training.probes.region_recall hub_cards/updown-detector-lite pyramid:1,2,3 grid:7 \\
      --entities data/flickr8k/entities.json.gz --images data/flickr8k/images --split test --output recall.json
  python -m training.probes.region_recall runs/detector_coco/best --recipe detection/coco --split val
"""


def region_recall(
    sources: Mapping[str, str],
    data: NamedBoxes,
    *,
    at: Sequence[int] = RECALL_AT,
    min_iou: float = MIN_IOU,
    batch_size: int = 16,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Each source's recall of the boxes, and its paired difference to the first source's.

    Args:
        sources: name -> source, as `SOURCE_HELP` says.
        data: the images and their boxes.
        at, min_iou, seed: as for `box_recall`.

    Returns:
        For each source `name`, `source`, `regions` (how many an image has on average), `recall` (what `box_recall`
        returns without `per_item`) and, but for the first, `differences`: `recall_K` -> difference and interval.

    Raises:
        ValueError: as `source_boxes` and `box_recall`.
    """
    check_limits(at, min_iou)
    truth = list(data.rows.select_columns(["boxes", "crowd"]))
    ids, groups = data.rows["image_id"][:], data.groups(truth)
    found: list[dict[str, Any]] = []
    reference: dict[str, Any] = {}
    for name, source in sources.items():
        boxes = source_boxes(source, data.rows, most=max(at), batch_size=batch_size)
        recall = box_recall(boxes, truth, at=at, min_iou=min_iou, groups=groups, seed=seed)
        items = items_of(recall.pop("per_item"), ids)
        row = {"name": name, "source": source, "regions": sum(len(own["boxes"]) for own in boxes) / len(boxes)}
        found.append(row | {"recall": recall})
        if reference:
            found[-1]["differences"] = {
                metric: difference(items[metric], reference[metric], seed=seed, names=(name, next(iter(sources))))
                for metric in items
            }
        reference = reference or items
    return found


def items_of(per_item: Mapping[str, Sequence[Any]], ids: Sequence[str]) -> dict[str, Any]:
    """Each `recall_K` of images that have a box, weighted by their boxes, as `difference` takes it."""
    weights = [count for count in per_item["num_boxes"] if count]
    return {
        metric: item_scores(ids, values) | {"weights": weights}
        for metric, values in per_item.items()
        if metric != "num_boxes"
    }


def sources_table(rows: Sequence[Mapping[str, Any]], *, at: Sequence[int]) -> str:
    """A Markdown table of all boxes: a line a source."""
    lines = [["source", "regions", *(f"recall at {k} (95 % interval)" for k in at)]]
    several = len(rows) > 1
    lines[0] += [f"difference at {k}" for k in at] if several else []
    lines.append(["---"] * len(lines[0]))
    for row in rows:
        cells = [row["name"], f"{row['regions']:.1f}", *(cell(row["recall"]["all"], k) for k in at)]
        gains = row.get("differences")
        lines.append(cells + ([shown(gains[f"recall_{k}"]) if gains else "" for k in at] if several else []))
    return markdown(lines)


def groups_table(row: Mapping[str, Any], *, at: Sequence[int]) -> str:
    """A Markdown table of one source's groups of boxes."""
    lines = [[row["name"], "boxes", *(f"recall at {k} (95 % interval)" for k in at)], ["---"] * (2 + len(at))]
    for kind, groups in row["recall"].items():
        named = (
            {"all": groups} if kind == "all" else {f"{kind}: {name}": groups[name] for name in ORDER if name in groups}
        )
        lines += [[name, str(own["num_boxes"]), *(cell(own, k) for k in at)] for name, own in named.items()]
    return markdown(lines)


def cell(figures: Mapping[str, Any], k: int) -> str:
    """A recall with its interval as text."""
    low, high = figures[f"recall_{k}_interval_x100"]
    return f"{figures[f'recall_{k}_x100']:.1f} ({low:.1f} to {high:.1f})"


def build_parser() -> argparse.ArgumentParser:
    """The arguments of the command."""
    parser = argparse.ArgumentParser(
        prog="python -m training.probes.region_recall",
        description="The share of true boxes that one of an image's first K regions covers, by source.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("sources", nargs="+", metavar="[NAME=]SOURCE", help=SOURCE_HELP)
    boxes = parser.add_mutually_exclusive_group(required=True)
    boxes.add_argument(
        "--entities",
        type=Path,
        metavar="PATH",
        help="Flickr30k Entities: Annotations' and Sentences' folder, or a JSON",
    )
    boxes.add_argument("--recipe", metavar="RECIPE", help="a recipe of detection, whose data are read")
    parser.add_argument("--images", type=Path, metavar="FOLDER", help="with --entities: the image folder")
    parser.add_argument(
        "--split-lists", type=Path, metavar="FOLDER", help="with --entities: train.txt, val.txt and test.txt"
    )
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a value of the recipe")
    parser.add_argument("--split", default="test", help="of the data (%(default)s)")
    parser.add_argument("--first", type=positive, metavar="N", help="only the first N images of the split")
    parser.add_argument(
        "--at", type=positive, nargs="+", default=list(RECALL_AT), metavar="K", help="regions (%(default)s)"
    )
    parser.add_argument("--iou", type=float, default=MIN_IOU, help="overlap that counts as covered (%(default)s)")
    parser.add_argument("--batch-size", type=positive, default=16, metavar="N", help="images at a time (%(default)s)")
    parser.add_argument("--output", type=Path, metavar="FILE.json", help="write all figures")
    return parser


def run(arguments: argparse.Namespace) -> None:
    """Measure, print the tables, and write the figures with `--output`."""
    if arguments.entities:
        data = entity_boxes(
            arguments.entities, images=arguments.images, split=arguments.split, split_lists=arguments.split_lists
        )
    else:
        data = recipe_boxes(arguments.recipe, split=arguments.split, changes=arguments.set)
    data = data.first(arguments.first) if arguments.first else data
    at = sorted(arguments.at)
    rows = region_recall(
        named_sources(arguments.sources), data, at=at, min_iou=arguments.iou, batch_size=arguments.batch_size
    )
    say(*sources_table(rows, at=at).split("\n"))
    for row in rows:
        say("", *groups_table(row, at=at).split("\n"))
    if arguments.output:
        figures = {"split": arguments.split, "num_images": len(data.rows), "iou": arguments.iou, "sources": rows}
        write_json(arguments.output, figures)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns 0, or 2 after an error of the user, which is printed on one line."""
    parsed = build_parser().parse_args(arguments)
    try:
        run(parsed)
    except (OSError, ValueError, ImportError) as error:
        say(f"region_recall: {one_line(error)}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
