"""Open sets: what detectors and grounding models make of names, those held out of training among them.

    python -m training.probes.open_set hub_cards/updown-detector-lite --recipe detection/coco \\
        --set data.annotations=data/coco_subset/instances.json --set data.images=data/coco_subset/images \\
        --encoder sentence-transformers/all-MiniLM-L6-v2 --known coco_base --novel coco_novel

Every name is scored for every region (`name_scores.py`), known and novel names against each other; a table shows the
average precision of both parts, and how well the best known name's score on a true box tells known boxes from novel
ones. Beside each model stand the same with names that are shuffled among all, and of a detector its class scores.
"""

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset

from modeling_updown import UpDownDetector, UpDownFusionForGrounding, UpDownImageProcessor, UpDownProcessor
from modeling_updown.detector_batch_updown import check_asked
from modeling_updown.open_names_updown import PROMPT, embed_names, prompted
from training.compare import markdown
from training.console import one_line, positive, say
from training.data.boxes.formats import load_detection
from training.data.boxes.held_out import listed_names
from training.data.files import write_json
from training.metrics.detection.open_set import known_unknown_auroc, open_set_scores
from training.probes.name_scores import ScoredImage, detector_scores, grounding_scores, name_columns
from training.probes.sources import named_sources
from training.recipe import read_recipe
from training.regions.extract import undecoded
from training.saved_models import load_with_processor
from training.tasks.build import load_by_split
from training.tasks.detection import BY_SPLIT, FORMATS

PARTS = ("known", "novel")
KEPT = ("image_id", "width", "height")
NO_FIGURE = "-"


def named_rows(rows: Dataset, names: Sequence[str], *, id2label: Mapping[int, str]) -> list[dict[str, Any]]:
    """Rows of `DETECTION_FEATURES` -> the same without images, their ids 1 .. N in the order of the names; boxes of
    other names are left out.

    Raises `ValueError` where no box has any of the names.
    """
    places = {name: place for place, name in enumerate(names, start=1)}
    ids = {number: places[name] for number, name in id2label.items() if name in places}
    found = []
    for row in rows.remove_columns(["image"]):
        kept = [i for i, own in enumerate(row["object_ids"]) if own in ids]
        own = {key: [row[key][i] for i in kept] for key in ("boxes", "crowd")}
        found.append({key: row[key] for key in KEPT} | own | {"object_ids": [ids[row["object_ids"][i]] for i in kept]})
    if not any(row["boxes"] for row in found):
        raise ValueError(f"no box of the data has any of the names, such as {names[0]!r}: name those of the data")
    return found


def shuffled_names(count: int, *, seed: int = 0) -> np.ndarray:
    """An order (N,) in which no name keeps its place: a circle through all names, drawn by the seed.

    >>> sorted(shuffled_names(4).tolist()), (shuffled_names(4) == np.arange(4)).any().item()
    ([0, 1, 2, 3], False)
    """
    circle = np.random.default_rng(seed).permutation(count)
    order = np.empty(count, dtype=np.int64)
    order[circle] = np.roll(circle, 1)
    return order


def figures(images: Sequence[ScoredImage], rows: Sequence[Mapping[str, Any]], *, num_known: int) -> dict[str, Any]:
    """The figures of `open_set_scores` and `known_unknown_auroc` for images scored by N names, the known ones first.

    AUROC is over true boxes that are no crowds, None where they are all known or all novel.
    """
    num_names = images[0].scores.shape[1]
    known, novel = range(1, num_known + 1), range(num_known + 1, num_names + 1)
    found: dict[str, Any] = dict(
        open_set_scores([image.detections() for image in images], rows, known=known, novel=novel)
    )
    scores, is_known, owners = [], [], []
    for number, (image, row) in enumerate(zip(images, rows, strict=True)):
        for own, name, crowd in zip(image.of_true, row["object_ids"], row["crowd"], strict=True):
            if not crowd:
                scores.append(float(own[:num_known].max()))
                is_known.append(name <= num_known)
                owners.append(number)
    told = any(is_known) and not all(is_known)
    return found | {"known_unknown": known_unknown_auroc(scores, is_known, images=owners) if told else None}


def model_rows(
    name: str, folder: str, rows: Dataset, *, known: Sequence[str], novel: Sequence[str], encoder: str, prompt: str
) -> list[dict[str, Any]]:
    """A model's lines of the table: its own figures, and its controls.

    rows: undecoded, their boxes those of the names alone, with ids 1 .. N. Raises `ValueError` for a model that is no
    detector or grounding model with a detector, and for a detector that needs an encoder and is given none.
    """
    names = [*known, *novel]
    truth = list(rows.remove_columns(["image"]))
    kinds = asked(folder, rows, names=names, encoder=encoder, prompt=prompt)
    held_out = kinds.pop("held_out")
    first = next(iter(kinds))
    kinds = {first: kinds[first], "names shuffled": renamed(kinds[first]), **kinds}
    lines = []
    for kind, images in kinds.items():
        line = {"name": name if kind == first else f"{name}: {kind}", "kind": kind}
        lines.append(line | figures(images, truth, num_known=len(known)))
    lines[0]["held_out"] = [own for own in novel if own in held_out]
    return lines


def renamed(images: Iterable[ScoredImage]) -> list[ScoredImage]:
    """Images with their names shuffled."""
    return [image.renamed(shuffled_names(image.scores.shape[1])) for image in images]


def asked(folder: str, rows: Dataset, *, names: Sequence[str], encoder: str, prompt: str) -> dict[str, Any]:
    """The images by kind of score, that by names first, and under `held_out` the names that training held out."""
    from transformers import AutoConfig

    kind = AutoConfig.from_pretrained(folder).model_type
    if kind == "updown_detector":
        detector, processor = load_with_processor(folder, UpDownDetector, UpDownImageProcessor)
        check_asked(detector.config)
        if not encoder:
            raise ValueError("a detector is asked by a text encoder: name the one that it learnt with in --encoder")
        vectors = embed_names(names, encoder, prompt=prompt)
        columns = name_columns(names, detector.config.id2label)
        pairs = detector_scores(detector.eval(), processor, rows, name_embeds=vectors, columns=columns)
        by_name, by_class = zip(*pairs, strict=True)
        absent = [name for name, own in zip(names, columns, strict=True) if not own]
        classes = "class scores" if not absent else f"class scores (no class: {', '.join(absent)})"
        return {"names": by_name, classes: by_class, "held_out": detector.config.held_out_names or []}
    if kind != "updown_fusion":
        raise ValueError(f"{folder} holds {kind}: name a detector or a grounding model")
    model, processor = load_with_processor(folder, UpDownFusionForGrounding, UpDownProcessor)
    source = model.region_source
    if source is None or source.config.model_type != "updown_detector":
        raise ValueError(f"{folder} owns no detector, whose regions and true boxes names are compared with")
    images = grounding_scores(model.eval(), processor, rows, texts=prompted(names, prompt))
    return {"names": list(images), "held_out": []}


def table(lines: Sequence[Mapping[str, Any]]) -> str:
    """A Markdown table: a line a model and control."""
    first = lines[0]
    counts = [f"{first[f'{part}_names']} {part} names" for part in PARTS]
    cells = [["", *(f"AP50, {own}" for own in counts), *(f"mAP, {own}" for own in counts), "AP50, all", "AUROC"]]
    cells.append(["---"] * len(cells[0]))
    keys = [f"{part}_{name}_x100" for name in ("map_50", "map") for part in PARTS] + ["all_map_50_x100"]
    for line in lines:
        cells.append([line["name"], *(NO_FIGURE if line[key] < 0 else f"{line[key]:.1f}" for key in keys), auroc(line)])
    return markdown(cells)


def auroc(line: Mapping[str, Any]) -> str:
    """A line's AUROC with its interval."""
    found = line["known_unknown"]
    if found is None:
        return NO_FIGURE
    low, high = found["auroc_interval_x100"]
    return f"{found['auroc_x100']:.1f} ({low:.1f} to {high:.1f})"


def build_parser() -> argparse.ArgumentParser:
    """The arguments of the command."""
    parser = argparse.ArgumentParser(
        prog="python -m training.probes.open_set",
        description="Average precision of known and novel names, and known against unknown boxes, by any names.",
    )
    parser.add_argument("models", nargs="+", metavar="[NAME=]MODEL", help="detectors and grounding models, folders")
    parser.add_argument("--recipe", required=True, metavar="RECIPE", help="a recipe of detection, whose data are read")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a value of the recipe")
    parser.add_argument("--split", default="test", help="of the data (%(default)s)")
    parser.add_argument(
        "--novel", nargs="+", metavar="NAME", help="names, or coco_novel; default: the recipe's held_out.names"
    )
    parser.add_argument(
        "--known", nargs="+", metavar="NAME", help="names, or coco_base; default: all other names of the data"
    )
    parser.add_argument("--encoder", default="", metavar="DIR_OR_HUB_ID", help="a detector's text encoder")
    parser.add_argument("--prompt", default=PROMPT, help="what is read of a name (%(default)r)")
    parser.add_argument("--first", type=positive, metavar="N", help="only the first N images of the split")
    parser.add_argument("--output", type=Path, metavar="FILE.json", help="write all figures")
    return parser


def run(arguments: argparse.Namespace) -> None:
    """Measure, print the table, and write the figures with `--output`."""
    recipe = read_recipe(arguments.recipe, arguments.set)
    if recipe.task != "detection":
        raise ValueError(
            f"{arguments.recipe} is a recipe of {recipe.task}: name one of detection, whose data have boxes"
        )
    load = partial(load_by_split, partial(load_detection, formats=FORMATS), recipe.data, names=BY_SPLIT)
    data = load(split=arguments.split)
    novel = listed_names(arguments.novel or recipe.held_out.names)  # type: ignore[attr-defined]
    known = listed_names(arguments.known or [name for name in data.object_names if name not in novel])
    both = sorted({*known} & {*novel})
    if not novel or both:
        raise ValueError(f"{both[0]!r} is known and novel" if both else "no name is novel: give --novel")
    images = undecoded(data.rows)
    images = images.select(range(min(arguments.first or len(images), len(images))))
    named = named_rows(images, [*known, *novel], id2label=data.id2label)
    columns = {key: [row[key] for row in named] for key in named[0]}
    rows = with_columns(images, columns)
    options: dict[str, Any] = {"known": known, "novel": novel, "encoder": arguments.encoder, "prompt": arguments.prompt}
    lines: list[dict[str, Any]] = []
    for name, folder in named_sources(arguments.models).items():
        lines += model_rows(name, folder, rows, **options)
    say(*table(lines).split("\n"), "")
    for line in lines:
        if "held_out" in line:
            say(f"{line['name']}: its training held out {len(line['held_out'])} of the {len(novel)} novel names")
    if arguments.output:
        figures_of = {"split": arguments.split, "num_images": len(rows), "known": known, "novel": novel}
        write_json(arguments.output, {**figures_of, "prompt": arguments.prompt, "lines": lines})


def with_columns(images: Dataset, columns: Mapping[str, list[Any]]) -> Dataset:
    """The images of undecoded rows beside other columns."""
    rows = images.select_columns(["image"])
    for name, values in columns.items():
        rows = rows.add_column(name, values)
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns 0, or 2 after an error of the user, which is printed on one line."""
    parsed = build_parser().parse_args(arguments)
    try:
        run(parsed)
    except (OSError, ValueError, ImportError) as error:
        say(f"open_set: {one_line(error)}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
