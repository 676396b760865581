"""Expressions that a captioner has written for boxes: are they people's words, and does a reader find the box again?

    python -m training.probes.written_expressions written.json --recipe grounding/refcoco --split val \\
        --model runs/grounding_refcoco/best

`written.json` is a list of `{"image_id", "box", "expression"}`, boxes xyxy in 0..1 of the image, such as the
`expressions.json` of a dense captioner's evaluation. Caption metrics compare an expression with those that people wrote
for the same box (an IoU of 0.9 or more) in the recipe's data; a grounding model reads it, and its best box should
overlap the box it was written for by an IoU of 0.5 (Yu et al. 2017 judge a speaker by a listener so). Beside it stand
people's own expressions of these boxes (the most that can be found), each image's expressions handed on to its next box
and expressions of other images (what is found by the image alone).
"""

import argparse
import random
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from accelerate import Accelerator
from datasets import Dataset, Image

from training.compare import markdown
from training.console import one_line, positive, say
from training.data.boxes.rows import ImageListing, LeftOut, dataset_of
from training.data.files import PathLike, all_texts, id_text, read_json, write_json
from training.data.phrases.rows import PHRASE_FEATURES, GroundedPhrase, phrase_row
from training.metrics.bootstrap import bootstrap_means, interval_x100
from training.metrics.box_arrays import share_of, shared_and_joint_area
from training.metrics.captioning.scores import caption_scores
from training.recipe import read_recipe
from training.tasks import build_task
from training.tasks.grounding import grounding_rows

SAME_BOX = 0.9  # the IoU from which people's expressions are of the same box
FOUND = 0.5  # the IoU from which a box is found again
SHOWN = ("cider", "bleu_4", "rouge_l", "meteor")
WRITTEN, HUMAN, OTHER, SHUFFLED = "written", "people's", "the next box's", "another image's"


class Written(NamedTuple):
    """An expression written for a box of an image, xyxy in 0..1."""

    image_id: str
    box: tuple[float, ...]
    expression: str


def read_written(path: PathLike) -> list[Written]:
    """The expressions of a file; `ValueError` naming the first record that is none."""
    content = read_json(path)
    if not isinstance(content, list) or not content:
        raise ValueError(f"{path} holds no list of expressions; each is an object of image_id, box and expression")
    return [_written(record, f"{path}: record {number}") for number, record in enumerate(content)]


def _written(record: Any, place: str) -> Written:
    if not isinstance(record, Mapping) or record.get("image_id") is None or not all_texts([record.get("expression")]):
        raise ValueError(f"{place} is no expression; it needs image_id, box and expression: {str(record)[:80]}")
    try:
        box = tuple(float(side) for side in record["box"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{place} has no box of four numbers: {str(record)[:80]}") from error
    if len(box) != 4 or not (0 <= box[0] < box[2] <= 1 and 0 <= box[1] < box[3] <= 1):
        raise ValueError(
            f"{place} has the box {list(box)}; give x1, y1, x2, y2 in 0..1 of the image's width and height"
        )
    if not record["expression"].strip():
        raise ValueError(f"{place} has an empty expression; leave the box out, or write one")
    return Written(id_text(record["image_id"]), box, record["expression"].strip())


def of_some_images(written: Sequence[Written], number: int, *, seed: int) -> list[Written]:
    """The expressions of so many images, drawn by the seed; all where there are no more.

    >>> [one.image_id for one in of_some_images([Written(i, (0,), "it") for i in "abc"], 2, seed=0)]
    ['a', 'c']
    """
    images = sorted({one.image_id for one in written})
    random.Random(seed).shuffle(images)
    kept = set(images[:number])
    return [one for one in written if one.image_id in kept]


def human_expressions(rows: Dataset, written: Sequence[Written]) -> list[list[str]]:
    """For each expression those that people wrote for its box, none where no true box is the same."""
    texts: dict[str, list[tuple[str, list[float]]]] = defaultdict(list)
    for image_id, captions, phrases in zip(rows["image_id"], rows["captions"], rows["phrases"], strict=True):
        for text, own in zip(captions, phrases, strict=True):
            texts[image_id] += [(text[p["start"] : p["end"]], box) for p in own for box in p["boxes"]]
    return [
        list(dict.fromkeys(text for text, box in texts[one.image_id] if overlap(one.box, box) >= SAME_BOX))
        for one in written
    ]


def overlap(box: Sequence[float], other: Sequence[float]) -> float:
    """The IoU of two boxes xyxy.

    >>> overlap((0, 0, 1, 1), (0, 0, 0.5, 1))
    0.5
    """
    return float(share_of(*shared_and_joint_area(np.asarray(box, dtype=float), np.asarray(other, dtype=float))))


def next_boxes(written: Sequence[Written]) -> list[Written]:
    """The expressions of images with several boxes, each handed on to the next of its image's boxes.

    >>> boxes = [Written("7", (0, 0, 0.5, 1), "left"), Written("7", (0.5, 0, 1, 1), "right"), Written("8", (0,), "it")]
    >>> [(one.box[0], one.expression) for one in next_boxes(boxes)]
    [(0.5, 'left'), (0, 'right')]
    """
    boxes: dict[str, list[tuple[float, ...]]] = defaultdict(list)
    for one in written:
        if one.box not in boxes[one.image_id]:
            boxes[one.image_id].append(one.box)
    found = []
    for one in written:
        own = boxes[one.image_id]
        if len(own) > 1:
            found.append(one._replace(box=own[(own.index(one.box) + 1) % len(own)]))
    return found


def of_other_images(written: Sequence[Written], *, seed: int) -> list[Written]:
    """Each box with an expression, drawn by the seed, that was written for a box of another image; none of one image.

    >>> boxes = [Written("7", (0, 0, 0.5, 1), "left"), Written("7", (0.5, 0, 1, 1), "right"), Written("8", (0,), "it")]
    >>> [(one.image_id, one.expression) for one in of_other_images(boxes, seed=0)]
    [('7', 'it'), ('7', 'it'), ('8', 'right')]
    """
    if len({one.image_id for one in written}) < 2:
        return []
    draw, found = np.random.default_rng(seed), []
    for one in written:
        other = one
        while other.image_id == one.image_id:
            other = written[int(draw.integers(len(written)))]
        found.append(one._replace(expression=other.expression))
    return found


def found_again(task: Any, model: Any, rows: Dataset, asked: Sequence[Written]) -> np.ndarray:
    """Whether the model's best box for each expression overlaps its box by `FOUND`: (len(asked),) bool.

    rows: of the data, by whose `image_id` the images are found. Raises `ValueError` for images that are not there, or
    have no regions in the recipe's store.
    """
    order: dict[str, list[int]] = defaultdict(list)
    for number, one in enumerate(asked):
        order[one.image_id].append(number)
    prepared = task.images.prepare(asked_rows(rows, asked, order))
    if len(prepared) < len(order):
        raise ValueError(
            f"{len(order) - len(prepared)} of {len(order)} images have no regions in the store of the recipe: extract "
            "them, or leave the expressions of these images out"
        )
    hits = np.zeros(len(asked), dtype=bool)
    numbers = [number for image_id in prepared["image_id"] for number in order[image_id]]
    for number, phrase in zip(numbers, task.grounded(model, prepared), strict=True):
        hits[number] = bool(len(phrase.boxes)) and overlap(phrase.boxes[0], asked[number].box) >= FOUND
    return hits


def asked_rows(rows: Dataset, asked: Sequence[Written], order: Mapping[str, Sequence[int]]) -> Dataset:
    """A row an image, its expressions with the boxes that they were written for."""
    images = rows.select_columns(["image_id", "image", "split"]).cast_column("image", Image(decode=False))
    place_of = {image_id: place for place, image_id in enumerate(images["image_id"])}
    absent = [image_id for image_id in order if image_id not in place_of]
    if absent:
        raise ValueError(
            f"{len(absent)} images, such as {absent[0]!r}, are not in this split of the recipe's data: give its "
            "image_ids, or another --split"
        )
    return dataset_of(
        (_asked_row(images[place_of[i]], [asked[n] for n in own]) for i, own in order.items()), PHRASE_FEATURES
    )


def _asked_row(image: Mapping[str, Any], own: Sequence[Written]) -> dict[str, Any]:
    sentences = [
        (one.expression, [GroundedPhrase(0, len(one.expression), np.asarray([one.box], dtype=np.float32))])
        for one in own
    ]
    listing = ImageListing(image["image_id"], "", None, image["split"], (image["image"] or {}).get("path"))
    return phrase_row(listing, sentences=sentences, image_bytes=(image["image"] or {}).get("bytes"))


def written_scores(
    task: Any, model: Any, rows: Dataset, written: Sequence[Written], *, source: PathLike = "the file", seed: int = 0
) -> dict[str, Any]:
    """The scores of written expressions.

    Args:
        task: of grounding, which `model` was loaded with.
        rows: of its data, with the images and people's expressions.

    Returns:
        `captions`, the caption metrics of the expressions whose box people wrote any for (`num_compared` of them),
        `found`: by whose expressions are read, `number`, the share of boxes found again `x100` and its 95 % interval,
        and `people_less_written`, the difference of the two on the boxes compared, with its interval. Intervals are of
        a bootstrap over images.

    Raises:
        ValueError: where people wrote expressions for none of the boxes, and as `found_again`.
    """
    human = human_expressions(rows, written)
    compared = [number for number, own in enumerate(human) if own]
    if not compared:
        raise ValueError(
            f"people wrote expressions for none of the {len(written)} boxes of {source} (an IoU of {SAME_BOX} or more "
            "with a true box of its image): are the ids and boxes those of the recipe's data?"
        )
    left_out = LeftOut(source)
    if len(compared) < len(written):
        without = next(one for one, own in zip(written, human, strict=True) if not own)
        reason = "boxes of caption metrics that people wrote nothing for"
        left_out.add(reason, f"of image {without.image_id}", count=len(written) - len(compared))
    left_out.warn()
    captions = caption_scores([written[n].expression for n in compared], [human[n] for n in compared])
    asked = {
        WRITTEN: list(written),
        HUMAN: [written[n]._replace(expression=human[n][0]) for n in compared],
        OTHER: next_boxes(written),
        SHUFFLED: of_other_images(written, seed=seed),
    }
    hits = {who: found_again(task, model, rows, own).astype(np.float64) for who, own in asked.items() if own}
    found = {who: mean_of_images(values, asked[who], seed=seed) for who, values in hits.items()}
    more = mean_of_images(hits[HUMAN] - hits[WRITTEN][compared], asked[HUMAN], seed=seed)
    return {
        "num_compared": len(compared),
        "captions": {f"{name}_x100": captions[f"{name}_x100"] for name in SHOWN if f"{name}_x100" in captions},
        "found": {
            who: {"number": len(hits[who]), "found_x100": mean, "interval_x100": ends}
            for who, (mean, ends) in found.items()
        },
        "people_less_written": {"difference_x100": more[0], "interval_x100": more[1]},
    }


def mean_of_images(values: np.ndarray, asked: Sequence[Written], *, seed: int) -> tuple[float, list[float]]:
    """The mean of the values of expressions x100, and its 95 % interval, of a bootstrap over their images.

    >>> mean_of_images(np.array([1.0, 0.0]), [Written("7", (0,), "it"), Written("8", (0,), "it")], seed=0)
    (50.0, [0.0, 100.0])
    """
    _, owners, counts = np.unique([one.image_id for one in asked], return_inverse=True, return_counts=True)
    means = np.bincount(owners, weights=values) / counts
    return 100 * float(values.mean()), interval_x100(bootstrap_means(means, seed=seed, weights=counts))


def table(scores: Mapping[str, Any]) -> str:
    """A Markdown table: whose expressions, how many of their boxes are found again, and the caption metrics; below, how
    many more are found by people's.
    """
    names = list(scores["captions"])
    lines = [["expressions", "number", f"found again (IoU {FOUND:g})", *(name for name in names)]]
    lines.append(["---"] * len(lines[0]))
    for who, found in scores["found"].items():
        low, high = found["interval_x100"]
        cells = [f"{scores['captions'][name]:.1f}" if who == WRITTEN else "" for name in names]
        lines.append([who, str(found["number"]), f"{found['found_x100']:.1f} ({low:.1f} to {high:.1f})", *cells])
    more = scores["people_less_written"]
    low, high = more["interval_x100"]
    said = f"People's less written, on the same boxes: {more['difference_x100']:+.1f} ({low:+.1f} to {high:+.1f})."
    return f"{markdown(lines)}\n\n{said}"


def build_parser() -> argparse.ArgumentParser:
    """The arguments of the command."""
    parser = argparse.ArgumentParser(
        prog="python -m training.probes.written_expressions",
        description="Expressions written for boxes: caption metrics, and whether a model finds the box again.",
    )
    parser.add_argument("written", metavar="WRITTEN.json", help="a list of image_id, box (xyxy in 0..1) and expression")
    parser.add_argument("--recipe", required=True, metavar="RECIPE", help="a recipe of grounding, whose data are read")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a value of the recipe")
    parser.add_argument("--model", required=True, metavar="FOLDER", help="the grounding model that reads")
    parser.add_argument("--split", default="test", help="of the data (%(default)s)")
    parser.add_argument("--max-images", type=positive, metavar="N", help="those of N images alone, drawn by the seed")
    parser.add_argument("--output", type=Path, metavar="FILE.json", help="write all figures")
    return parser


def run(arguments: argparse.Namespace) -> None:
    """Measure, print the table, and write the figures with `--output`."""
    recipe = read_recipe(arguments.recipe, arguments.set)
    if recipe.task != "grounding":
        raise ValueError(f"{arguments.recipe} is a recipe of {recipe.task}: name one of grounding")
    written = read_written(arguments.written)
    if arguments.max_images:
        written = of_some_images(written, arguments.max_images, seed=recipe.seed)
    rows = grounding_rows(recipe.data, split=arguments.split)
    task: Any = build_task(recipe, Accelerator())
    model, _ = task.load(arguments.model)
    model = model.to(task.accelerator.device).eval()
    scores = written_scores(task, model, rows, written, source=arguments.written, seed=recipe.seed)
    say(*table(scores).split("\n"))
    if arguments.output:
        write_json(arguments.output, {"split": arguments.split, "model": arguments.model, **scores})


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns 0, or 2 after an error of the user, which is printed on one line."""
    parsed = build_parser().parse_args(arguments)
    try:
        run(parsed)
    except (OSError, ValueError, ImportError) as error:
        say(f"written_expressions: {one_line(error)}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
