"""Pair tests of fine points: does a model prefer what fits an image to what nearly fits?

    python -m training.probes.pair_tests sugarcrepe hub_cards/updown-retrieval-flickr8k --annotations sugarcrepe/data \\
        --images coco/val2017
    python -m training.probes.pair_tests winoground MODEL --annotations examples.jsonl --images winoground/images
    python -m training.probes.pair_tests vsr MODEL --annotations random/test.jsonl --validation random/dev.jsonl \\
        --images trainval2017

SugarCrepe, VALSE and FOIL count how often the right caption has the higher score, Winoground its text, image and group
score. VSR, and VALSE and FOIL beside their pairs, count how often a text is rightly held to be true or false, by a
match probability of 0.5 or by the best threshold of a validation split. Beside each figure stands the same with every
image replaced by another, and with one and the same region in the place of all images: what the words alone decide.
Winoground has no such control: its scores compare two images, and are 0 where these are the same.
"""

import argparse
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from training.compare import markdown
from training.console import one_line, positive, say, whole_number
from training.data.files import write_json
from training.data.pair_tests.formats import PAIR_TESTS
from training.data.pair_tests.rows import CaptionPairs, CaptionSquares, PairTest, Statements
from training.metrics.reasoning.true_false import area_under_roc, best_threshold, true_false
from training.metrics.retrieval.caption_pairs import pair_accuracy
from training.metrics.retrieval.winoground import CHANCE_X100, winoground
from training.probes.pair_scorers import THRESHOLDS, MatchScorer
from training.probes.sources import named_sources

SHUFFLED, WITHHELD = ", images shuffled", ", image withheld"
MOST_KINDS = 12  # that a table has columns for


def asked_scores(scorer: Any, test: PairTest, *, seed: int = 0) -> dict[str, np.ndarray]:
    """The scores (M,) of what a test asks, by name: `itc`, and of a test with controls also `itc, images shuffled` and
    `itc, image withheld`, and so on.

    scorer: a `MatchScorer`.
    """
    texts, images = test.asked
    numbers = {text: number for number, text in enumerate(dict.fromkeys(texts))}
    scorer.read(list(numbers))
    asked = np.array([numbers[text] for text in texts])
    shown = {"": images}
    if not isinstance(test, CaptionSquares):
        shown[SHUFFLED] = shuffled_images(images, len(test.paths), seed=seed)
    scores = {f"{name}{which}": np.empty(len(texts)) for which in shown for name in scorer.names}
    for place, path in enumerate(tqdm(test.paths, desc="images", unit="image")):
        regions = scorer.regions(str(path))
        for which, owners in shown.items():
            own = np.flatnonzero(owners == place)
            found = scorer.scores(asked[own], regions) if len(own) else {}
            for name, values in found.items():
                scores[f"{name}{which}"][own] = values
    if not isinstance(test, CaptionSquares):
        each = scorer.scores(np.arange(len(numbers)), scorer.no_regions())
        scores |= {f"{name}{WITHHELD}": values[asked] for name, values in each.items()}
    return scores


def shuffled_images(images: np.ndarray, num_images: int, *, seed: int) -> np.ndarray:
    """For each text another image than its own, the same for all texts of an image.

    >>> shuffled_images(np.array([0, 0, 1]), 2, seed=0).tolist()
    [1, 1, 0]
    """
    if num_images < 2:
        raise ValueError("images cannot be shuffled where there is only one: give pairs of several images")
    order = np.random.default_rng(seed).permutation(num_images)
    following = np.empty(num_images, dtype=np.int64)
    following[order] = np.roll(order, -1)
    return following[images]


def labels_of(test: PairTest) -> np.ndarray:
    """Whether each of the asked texts is right of its image, (M,) bool."""
    if isinstance(test, Statements):
        return test.labels
    if isinstance(test, CaptionPairs):
        return np.repeat([True, False], len(test.right))
    return np.tile([True, False, False, True], len(test.captions))


def figures_of(test: PairTest, scores: np.ndarray, *, threshold: float | None, seed: int = 0) -> dict[str, Any]:
    """A test's figures by the scores (M,) of what it asks: those of `winoground`, `pair_accuracy` or `true_false`.

    threshold: above which a text is held to be right; None for none, where statements have the area under the ROC curve
    alone. Pairs have with one also `told_apart`, `true_false` of right and wrong captions (a caption counts once for
    each wrong one beside it).
    """
    if isinstance(test, CaptionSquares):
        return winoground(scores.reshape(-1, 2, 2), kinds=test.kinds, seed=seed)
    labels, images = labels_of(test), test.asked[1].tolist()
    kinds = test.kinds if isinstance(test, Statements) else [*test.kinds, *test.kinds]
    options: dict[str, Any] = {"kinds": kinds, "images": images, "seed": seed}
    told = None if threshold is None else true_false(scores, labels.tolist(), threshold=threshold, **options)
    area = area_under_roc(scores, labels.tolist())
    if isinstance(test, Statements):
        return told or {"all": {"roc_x100": None if area is None else 100 * area}}
    right, wrong = scores.reshape(2, -1)
    found = pair_accuracy(right, wrong, kinds=test.kinds, images=test.images.tolist(), seed=seed)
    found["all"]["roc_x100"] = None if area is None else 100 * area
    return found if told is None else {**found, "told_apart": told}


def pair_tests(
    models: Mapping[str, str],
    test: PairTest,
    *,
    validation: PairTest | None = None,
    batch_size: int = 32,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Each model's figures by each of its scores: `name`, `model`, `score` and `figures` a row.

    validation: a test of the same kind, on which each score's threshold is chosen; None takes a match probability of
    0.5, which ITC has not.
    """
    rows = []
    for name, folder in models.items():
        scorer = MatchScorer(folder, batch_size=batch_size)
        thresholds = dict(THRESHOLDS)
        if validation is not None:
            known, labels = asked_scores(scorer, validation, seed=seed), labels_of(validation).tolist()
            thresholds = {score: best_threshold(values, labels) for score, values in known.items()}
        for score, values in sorted(asked_scores(scorer, test, seed=seed).items()):
            threshold = thresholds.get(score, thresholds.get(score.partition(",")[0]))
            figures = figures_of(test, values, threshold=threshold, seed=seed)
            rows.append({"name": name, "model": folder, "score": score, "figures": figures})
    return rows


def table(test: PairTest, rows: Sequence[Mapping[str, Any]]) -> str:
    """A Markdown table: a line a model and score."""
    if isinstance(test, CaptionSquares):
        lines = square_lines(rows)
    else:
        lines = statement_lines(rows) if isinstance(test, Statements) else pair_lines(rows)
    return markdown([lines[0], ["---"] * len(lines[0]), *lines[1:]])


def pair_lines(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """The titles and cells of tests of pairs; with a threshold also how captions and foils are told apart."""
    kinds = rows[0]["figures"]["kinds"]
    kinds = kinds if 1 < len(kinds) <= MOST_KINDS else {}
    titles = [f"{kind} ({own['num_pairs']})" for kind, own in kinds.items()]
    lines = [["model", "score", *titles, "mean of kinds", "all pairs (95 % interval)", "ROC", "right, wrong told"]]
    for row in rows:
        found = row["figures"]
        cells = [shown(found["kinds"][kind]["accuracy_x100"]) for kind in kinds]
        told = found["told_apart"]["all"] if "told_apart" in found else {}
        sides = f"{shown(told.get('true_x100'))}, {shown(told.get('false_x100'))}" if told else "-"
        whole = [shown(found["mean_of_kinds_x100"]), ranged(found["all"]), shown(found["all"]["roc_x100"]), sides]
        lines.append([row["name"], row["score"], *cells, *whole])
    return lines


def square_lines(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """The titles and cells of Winoground, and chance."""
    number = rows[0]["figures"]["all"]["num_examples"]
    lines = [["model", "score", *(f"{name} (95 % interval), {number}" for name in CHANCE_X100)]]
    for row in rows:
        found = row["figures"]["all"]
        cells = [ranged(found, figure=f"{name}_x100", interval=f"{name}_interval_x100") for name in CHANCE_X100]
        lines.append([row["name"], row["score"], *cells])
    return [*lines, ["chance", "", *(shown(value) for value in CHANCE_X100.values())]]


def statement_lines(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """The titles and cells of statements."""
    number = next((row["figures"]["all"].get("num_statements") for row in rows), None)
    titles = ["true ones", "false ones", "ROC", "threshold"]
    lines = [["model", "score", f"accuracy (95 % interval){f', {number}' if number else ''}", *titles]]
    for row in rows:
        found, threshold = row["figures"]["all"], row["figures"].get("threshold")
        whole = ranged(found) if threshold is not None else "-"
        cells = [shown(found.get(name)) for name in ("true_x100", "false_x100", "roc_x100")]
        lines.append([row["name"], row["score"], whole, *cells, "-" if threshold is None else f"{threshold:.3f}"])
    return lines


def ranged(found: Mapping[str, Any], *, figure: str = "accuracy_x100", interval: str = "interval_x100") -> str:
    """A figure with its interval.

    >>> ranged({"accuracy_x100": 63.4, "interval_x100": [59.2, 67.6]})
    '63.4 (59.2 to 67.6)'
    """
    low, high = found[interval]
    return f"{found[figure]:.1f} ({low:.1f} to {high:.1f})"


def shown(value: float | None) -> str:
    """A figure, "-" for none.

    >>> shown(51.25), shown(None)
    ('51.2', '-')
    """
    return "-" if value is None else f"{value:.1f}"


def build_parser() -> argparse.ArgumentParser:
    """The arguments of the command."""
    parser = argparse.ArgumentParser(
        prog="python -m training.probes.pair_tests",
        description="How often a model prefers what fits an image to what nearly fits.",
        epilog="example:\n  python -m training.probes.pair_tests sugarcrepe hub_cards/updown-retrieval-flickr8k \\\n"
        "      --annotations data/sugarcrepe --images data/coco/val2017",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("test", choices=sorted(PAIR_TESTS), help="whose official layout the annotations have")
    parser.add_argument("models", nargs="+", metavar="[NAME=]DIR", help="retrieval or entailment models")
    parser.add_argument(
        "--annotations", type=Path, required=True, metavar="PATH", help="the test's file, or its folder"
    )
    parser.add_argument(
        "--images", type=Path, nargs="+", required=True, metavar="FOLDER", help="its images, or part of them"
    )
    parser.add_argument(
        "--validation", type=Path, metavar="PATH", help="annotations on whose images the thresholds are chosen"
    )
    parser.add_argument("--all-foils", action="store_true", help="of VALSE also the foils that people did not validate")
    parser.add_argument("--batch-size", type=positive, default=32, metavar="N", help="texts at a time (%(default)s)")
    parser.add_argument("--seed", type=whole_number, default=0, help="of the shuffling and the intervals (%(default)s)")
    parser.add_argument("--output", type=Path, metavar="FILE.json", help="write all figures")
    return parser


def read_tests(parsed: argparse.Namespace) -> tuple[PairTest, PairTest | None]:
    """The test and what its thresholds are chosen on, as the arguments name them; `ValueError` for what is wrong."""
    if parsed.all_foils and parsed.test != "valse":
        raise ValueError(f"--all-foils keeps foils of valse, and the test is {parsed.test}: leave it out")
    if parsed.validation and parsed.test == "winoground":
        raise ValueError("winoground compares scores with each other and has no threshold: leave --validation out")
    options: dict[str, Any] = {"images": parsed.images} | ({"all_foils": True} if parsed.all_foils else {})
    if parsed.output and parsed.output.is_dir():
        raise ValueError(f"--output {parsed.output} is a folder: name a file in it")
    read = PAIR_TESTS[parsed.test]
    test = read(parsed.annotations, **options)
    if not parsed.validation:
        return test, None
    validation = read(parsed.validation, **options)
    if len(set(labels_of(validation).tolist())) < 2:
        raise ValueError(
            f"{parsed.validation} holds no true or no false statement, so no threshold: give a split of both"
        )
    if parsed.validation.resolve() == parsed.annotations.resolve():
        warnings.warn("thresholds are chosen on the test itself, which flatters it: give another split", stacklevel=2)
    return test, validation


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns 0, or 2 after an error of the user, which is printed on one line."""
    parsed = build_parser().parse_args(arguments)
    try:
        test, validation = read_tests(parsed)
        options: dict[str, Any] = {"validation": validation, "batch_size": parsed.batch_size, "seed": parsed.seed}
        rows = pair_tests(named_sources(parsed.models), test, **options)
        say(*table(test, rows).split("\n"))
        if parsed.output:
            write_json(parsed.output, rows)
    except (OSError, ValueError) as error:
        say(f"pair_tests: {one_line(error)}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
