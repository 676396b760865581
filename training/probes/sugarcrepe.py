"""SugarCrepe (Hsieh et al. 2023): does a retrieval model prefer the right caption to one with a word added or changed?

    python -m training.probes.sugarcrepe hub_cards/updown-retrieval-flickr8k --pairs sugarcrepe/data \\
        --images coco/val2017

Prints the accuracy of each kind (add, replace or swap an object, attribute or relation) by ITC's cosine and, where the
model has one, by its match score, beside the same with the images shuffled: what the texts alone decide.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from modeling_updown import UpDownFusionForImageTextRetrieval, UpDownProcessor, load_image
from training.compare import markdown
from training.console import one_line, positive, say
from training.data.boxes.rows import LeftOut
from training.data.files import PathLike, read_json, write_json
from training.metrics.retrieval.caption_pairs import pair_accuracy
from training.probes.sources import named_sources
from training.saved_models import load_with_processor
from training.search.embedding import Embedder

FIELDS = ("filename", "caption", "negative_caption")
SHUFFLED = "images shuffled"


@dataclass(frozen=True)
class CaptionPairs:
    """N pairs of captions: their kind, image (a place in `paths`), and the right and the wrong text."""

    paths: list[Path]
    kinds: list[str]
    images: np.ndarray
    right: list[str]
    wrong: list[str]


def read_sugarcrepe(pairs: PathLike, *, images: PathLike) -> CaptionPairs:
    """The pairs whose image lies in the folder; one warning counts the others.

    Args:
        pairs: the folder of `add_att.json`, `swap_obj.json` ... as its authors publish them: of each pair's number, or
            in a list, `filename`, `caption` and `negative_caption`.
        images: the folder of COCO's val2017.

    Raises:
        ValueError: for a folder without such files, a pair that lacks a field, and where no image is there.
    """
    files = sorted(Path(pairs).glob("*.json"))
    if not files:
        raise ValueError(f"{pairs} holds no JSON of pairs, such as swap_obj.json")
    left_out = LeftOut(pairs)
    found: list[tuple[str, Path, str, str]] = []
    for file in files:
        for number, record in enumerate(_records(file)):
            wrong = [key for key in FIELDS if not isinstance(record.get(key), str) or not record[key].strip()]
            if wrong:
                raise ValueError(f"{file}: pair {number} lacks {wrong[0]!r}; each has {', '.join(FIELDS)}")
            path = Path(images) / Path(record["filename"]).name
            if path.is_file():
                found.append((file.stem, path, record["caption"], record["negative_caption"]))
            else:
                left_out.add("pairs whose image is not there", str(path))
    left_out.warn()
    if not found:
        raise ValueError(f"none of the pairs' images is in {images}; give the folder of COCO's val2017")
    kinds, paths, right, wrong_texts = (list(column) for column in zip(*found, strict=True))
    place_of = {path: place for place, path in enumerate(dict.fromkeys(paths))}
    places = np.array([place_of[path] for path in paths])
    return CaptionPairs(list(place_of), kinds, places, right, wrong_texts)


def _records(file: Path) -> list[dict[str, Any]]:
    content = read_json(file)
    records = list(content.values()) if isinstance(content, dict) else content
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise ValueError(f"{file} holds no pairs; each is an object of {', '.join(FIELDS)}")
    return records


def pair_scores(embedder: Embedder, pairs: CaptionPairs, *, shuffled: np.ndarray) -> dict[str, np.ndarray]:
    """The scores (2, N) of the right and of the wrong captions: `itc` and, where the model has it, `match`; and the
    same for the images that `shuffled` (N,) names, under `itc, images shuffled`.
    """
    texts = [*pairs.right, *pairs.wrong]
    words = embedder.text_vectors(texts).astype(np.float64)  # (2 N, E)
    owners = {"": np.tile(pairs.images, 2), f", {SHUFFLED}": np.tile(shuffled, 2)}
    names = ["itc", *(["match"] if embedder.model.config.weight("itm") else [])]
    scores = {f"{name}{which}": np.empty(len(texts)) for which in owners for name in names}
    for place, path in enumerate(tqdm(pairs.paths, desc="images", unit="image")):
        regions = embedder.regions([load_image(str(path))])
        vector = embedder.regions_vectors(regions)[0].astype(np.float64)  # (E,)
        for which, images in owners.items():
            own = np.flatnonzero(images == place)
            scores[f"itc{which}"][own] = words[own] @ vector
            if "match" in names:
                asked = [texts[i] for i in own]
                scores[f"match{which}"][own] = embedder.match(asked, regions, image_index=[0] * len(own))
    return {name: values.reshape(2, -1) for name, values in scores.items()}


def shuffled_images(images: np.ndarray, num_images: int, *, seed: int) -> np.ndarray:
    """For each pair another image than its own, the same for all pairs of an image.

    >>> shuffled_images(np.array([0, 0, 1]), 2, seed=0).tolist()
    [1, 1, 0]
    """
    if num_images < 2:
        raise ValueError("images cannot be shuffled where there is only one: give pairs of several images")
    order = np.random.default_rng(seed).permutation(num_images)
    following = np.empty(num_images, dtype=np.int64)
    following[order] = np.roll(order, -1)
    return following[images]


def sugarcrepe(models: Mapping[str, str], pairs: CaptionPairs, *, batch_size: int = 32, seed: int = 0) -> list[Any]:
    """Each model's `pair_accuracy` by each of its scores: `name`, `model`, `score` and `accuracy` a row."""
    shuffled = shuffled_images(pairs.images, len(pairs.paths), seed=seed)
    rows = []
    for name, folder in models.items():
        model, processor = load_with_processor(folder, UpDownFusionForImageTextRetrieval, UpDownProcessor)
        found = pair_scores(Embedder(model, processor, batch_size=batch_size), pairs, shuffled=shuffled)
        for score, (right, wrong) in sorted(found.items()):
            accuracy = pair_accuracy(right, wrong, kinds=pairs.kinds, images=pairs.images.tolist(), seed=seed)
            rows.append({"name": name, "model": folder, "score": score, "accuracy": accuracy})
    return rows


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """A Markdown table: a column a kind, a line a model and score."""
    kinds = rows[0]["accuracy"]["kinds"]
    titles = [f"{kind} ({own['num_pairs']})" for kind, own in kinds.items()]
    lines = [["model", "score", *titles, "mean of kinds", "all pairs (95 % interval)"]]
    lines.append(["---"] * len(lines[0]))
    for row in rows:
        accuracy = row["accuracy"]
        low, high = accuracy["all"]["interval_x100"]
        cells = [f"{accuracy['kinds'][kind]['accuracy_x100']:.1f}" for kind in kinds]
        whole = f"{accuracy['all']['accuracy_x100']:.1f} ({low:.1f} to {high:.1f})"
        lines.append([row["name"], row["score"], *cells, f"{accuracy['mean_of_kinds_x100']:.1f}", whole])
    return markdown(lines)


def build_parser() -> argparse.ArgumentParser:
    """The arguments of the command."""
    parser = argparse.ArgumentParser(
        prog="python -m training.probes.sugarcrepe",
        description="How often a retrieval model prefers the right caption to a subtly wrong one, by kind.",
        epilog="example:\n  python -m training.probes.sugarcrepe hub_cards/updown-retrieval-flickr8k \\\n"
        "      --pairs data/sugarcrepe --images data/coco/val2017",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("models", nargs="+", metavar="[NAME=]DIR", help="retrieval models")
    parser.add_argument("--pairs", type=Path, required=True, metavar="FOLDER", help="SugarCrepe's JSON files")
    parser.add_argument("--images", type=Path, required=True, metavar="FOLDER", help="COCO's val2017, or part of it")
    parser.add_argument("--batch-size", type=positive, default=32, metavar="N", help="texts at a time (%(default)s)")
    parser.add_argument("--output", type=Path, metavar="FILE.json", help="write all figures")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns 0, or 2 after an error of the user, which is printed on one line."""
    parsed = build_parser().parse_args(arguments)
    try:
        pairs = read_sugarcrepe(parsed.pairs, images=parsed.images)
        rows = sugarcrepe(named_sources(parsed.models), pairs, batch_size=parsed.batch_size)
        say(*table(rows).split("\n"))
        if parsed.output:
            write_json(parsed.output, rows)
    except (OSError, ValueError) as error:
        say(f"sugarcrepe: {one_line(error)}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
