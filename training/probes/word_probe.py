"""What features know of the words that people say: a linear probe for the commonest content words of captions.

    python -m training.probes.word_probe cells=runs/regions/flickr8k_7x7 boxes=runs/regions/flickr8k_detector \\
        both=runs/regions/flickr8k_7x7+runs/regions/flickr8k_detector --recipe captioning/flickr8k

    regions of an image --mean and maximum--> features (P, F) --logistic regression--> words (P, W) --> mAP x 100

A word is true of an image where one of its captions says it. The regression is learnt on the training split; how much
it is held back (L2) is chosen on the validation split. No model of language plays a part, so that it tells features
from each other where captioners differ by chance.
"""

import argparse
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch.nn import functional as F
from tqdm.auto import tqdm

from training.compare import markdown
from training.console import one_line, positive, say
from training.data.files import write_json
from training.metrics.bootstrap import interval_x100
from training.metrics.retrieval.ranking import RankedPairs, average_precisions
from training.probes.region_boxes import batches, region_extractor
from training.probes.sources import named_sources
from training.recipe import read_recipe
from training.regions.extract import undecoded
from training.regions.shards import read_manifests
from training.regions.store import RegionStore
from training.regions.stored_images import check_missing, rows_in_store
from training.tasks.captions import caption_rows, captioned_rows

NUM_WORDS = 400
STRENGTHS = (1.0, 0.3, 0.1, 0.03, 0.01)  # of L2, the strongest first: each starts where the one before ended
STEPS = 30  # of L-BFGS for each
SAMPLES = 300
IMAGES_AT_ONCE = 64
COLUMNS = ("region_features", "object_probs", "attribute_probs")
# words that name nothing to be seen
FUNCTION_WORDS = frozenset(
    (
        *("a", "an", "the", "this", "that", "these", "those", "some", "any", "each", "every", "all", "both", "another"),
        *("other", "others", "his", "her", "hers", "their", "theirs", "our", "my", "your", "its", "it", "he", "she"),
        *("they", "them", "him", "we", "us", "you", "i", "who", "whom", "whose", "which", "what", "where", "when"),
        *("while", "as", "if", "than", "then", "so", "and", "or", "but", "nor", "not", "no", "yes", "of", "in", "on"),
        *("at", "by", "for", "from", "to", "into", "onto", "with", "without", "over", "under", "above", "below"),
        *("between", "among", "through", "across", "along", "around", "about", "against", "behind", "beside"),
        *("besides", "beyond", "down", "up", "out", "off", "near", "toward", "towards", "upon", "within", "inside"),
        *("outside", "during", "before", "after", "until", "since", "via", "per", "is", "are", "was", "were", "be"),
        *("been", "being", "am", "do", "does", "did", "done", "has", "have", "had", "having", "can", "could", "will"),
        *("would", "shall", "should", "may", "might", "must", "there", "here", "also", "very", "too", "just", "only"),
        *("even", "s", "t", "himself", "herself", "itself", "themselves", "something", "someone"),
    )
)


# -- words ------------------------------------------------------------------------------------------------------------


def content_words(captions: Sequence[Sequence[str]]) -> list[set[str]]:
    """The words said of each image, without those that name nothing to be seen.

    >>> sorted(content_words([["A dog is on the grass.", "Two dogs"]])[0])
    ['dog', 'dogs', 'grass', 'two']
    """
    return [set(re.findall(r"[a-z]+", " ".join(texts).lower())) - FUNCTION_WORDS for texts in captions]


def commonest_words(said: Iterable[set[str]], *, most: int) -> list[str]:
    """The words that are said of most images, the commonest first, of equal ones in the order of the alphabet."""
    counts = Counter(word for words in said for word in words)
    return sorted(counts, key=lambda word: (-counts[word], word))[:most]


def word_labels(said: Sequence[set[str]], words: Sequence[str]) -> np.ndarray:
    """Whether each word is said of each image: (P, W) bool."""
    return np.array([[word in own for word in words] for own in said], dtype=bool).reshape(len(said), len(words))


# -- features ---------------------------------------------------------------------------------------------------------


def pooled_features(source: str, rows: Dataset, *, columns: Sequence[str] = COLUMNS[:1]) -> np.ndarray:
    """The mean and the maximum over an image's regions of each column, side by side: (P, F) float32.

    Args:
        source: a region store or a folder of a region source (or of a model with one); several, joined by "+", stand
            side by side.
        rows: image_id and image; images are opened only where a source looks at them.
        columns: of a store; a folder gives `region_features` alone.

    Raises:
        ValueError: for what is no source, an image or a column that a store lacks.
    """
    parts = []
    for place in source.split("+"):
        stored = bool(read_manifests(Path(place)))
        if not stored and tuple(columns) != COLUMNS[:1]:
            raise ValueError(f"{place} is no region store: {', '.join(columns)} are read from one (updown extract)")
        batched = stored_regions(place, rows, columns) if stored else made_regions(place, rows)
        with tqdm(total=len(rows), desc=f"features of {place}", unit="image") as bar:
            pooled = []
            for regions in batched:
                pooled.append(pooled_regions(regions, columns))
                bar.update(len(pooled[-1]))
        parts.append(np.concatenate(pooled))
    return np.concatenate(parts, axis=1)


def pooled_regions(regions: Mapping[str, torch.Tensor], columns: Sequence[str]) -> np.ndarray:
    """Mean and maximum over the real regions of a batch, (B, R, D) a column -> (B, 2 D of all columns)."""
    mask = regions["region_mask"][..., None]  # (B, R, 1)
    counts = mask.sum(dim=1).clamp(min=1)
    parts = []
    for column in columns:
        values = regions[column].float()
        parts.append(values.masked_fill(~mask, 0).sum(dim=1) / counts)
        parts.append(values.masked_fill(~mask, float("-inf")).amax(dim=1).masked_fill(~mask.any(dim=1), 0))
    return torch.cat(parts, dim=1).cpu().numpy()


def stored_regions(folder: str, rows: Dataset, columns: Sequence[str]) -> Iterator[dict[str, torch.Tensor]]:
    """The regions of the rows' images from a store, a batch at a time; `ValueError` where it lacks one."""
    store, images = RegionStore(folder), undecoded(rows)
    absent = [column for column in columns if column not in store.column_names]
    if absent:
        raise ValueError(f"the store {folder} holds no {absent[0]}; it holds {', '.join(store.column_names)}")
    names, ids = rows_in_store(images, store), images["image_id"][:]
    check_missing(ids, names, store=store, min_share=1.0)
    for start in range(0, len(ids), IMAGES_AT_ONCE):
        chosen = [names[image_id] for image_id in ids[start : start + IMAGES_AT_ONCE]]
        yield store.batch(chosen, columns=list(columns), dtype=torch.float32)


@torch.no_grad()
def made_regions(folder: str, rows: Dataset) -> Iterator[dict[str, torch.Tensor]]:
    """The regions that a region source makes of the rows' images, a batch at a time."""
    extractor = region_extractor(folder)
    for images in batches(undecoded(rows), IMAGES_AT_ONCE // 4):
        yield extractor.regions(images)


# -- the probe --------------------------------------------------------------------------------------------------------


def fit_probe(
    features: torch.Tensor, labels: torch.Tensor, *, strengths: Sequence[float] = STRENGTHS, steps: int = STEPS
) -> Iterator[tuple[float, torch.Tensor, torch.Tensor]]:
    """Logistic regressions of all words at once, for each strength of L2: the strength, weights (F, W), biases (W,).

    Minimises, for each word, the mean of -log p over images + strength / F * the weights' sum of squares, by L-BFGS on
    all images. features (P, F) of mean 0 and deviation 1, labels (P, W).

    Every regression starts where the one before ended; the first at weights of 0 and the words' frequencies.
    """
    targets = labels.float()
    share = targets.mean(dim=0).clamp(1e-6, 1 - 1e-6)
    weights = torch.zeros(features.shape[1], labels.shape[1])
    biases = torch.logit(share)
    for strength in strengths:
        weights, biases = weights.clone().requires_grad_(), biases.clone().requires_grad_()
        descent = torch.optim.LBFGS([weights, biases], max_iter=steps, line_search_fn="strong_wolfe")
        descent.step(ProbeLoss(descent, features, targets, weights, biases, strength / features.shape[1]))
        weights, biases = weights.detach(), biases.detach()
        yield strength, weights, biases


class ProbeLoss:
    """The loss that L-BFGS asks for again and again, with its gradient: summed over words, so that each is learnt as if
    it was alone."""

    def __init__(
        self,
        descent: torch.optim.LBFGS,
        features: torch.Tensor,
        targets: torch.Tensor,
        weights: torch.Tensor,
        biases: torch.Tensor,
        strength: float,
    ) -> None:
        self.descent, self.features, self.targets = descent, features, targets
        self.weights, self.biases, self.strength = weights, biases, strength

    def __call__(self) -> torch.Tensor:
        """The loss, after the gradient was computed."""
        self.descent.zero_grad()
        logits = torch.addmm(self.biases, self.features, self.weights)  # (P, W)
        error = F.binary_cross_entropy_with_logits(logits, self.targets, reduction="sum") / len(logits)
        loss = error + self.strength * self.weights.square().sum()
        loss.backward()
        return loss


def word_precisions(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The average precision of each word over images, (W,), NaN where it is true of none; scores, labels (P, W).

    >>> word_precisions(np.array([[0.9, 0.1], [0.4, 0.2]]), np.array([[True, False], [False, False]]))
    array([ 1., nan])
    """
    found = np.full(labels.shape[1], np.nan)
    columns, rows = np.nonzero(labels.T)
    if not len(columns):
        return found
    ordered = np.sort(scores, axis=0)
    own = scores[rows, columns]
    place = {side: np.empty(len(own), dtype=np.int64) for side in ("left", "right")}
    for column in np.unique(columns):
        chosen = columns == column
        for side, values in place.items():
            values[chosen] = np.searchsorted(ordered[:, column], own[chosen], side=side)  # type: ignore[call-overload]
    pairs = RankedPairs(columns, len(scores) - place["right"], len(scores) - place["left"])
    found[np.unique(columns)] = average_precisions(pairs)
    return found


def sampled_means(scores: np.ndarray, labels: np.ndarray, *, seed: int, samples: int = SAMPLES) -> np.ndarray:
    """Mean average precision in bootstrap samples of images, (samples,); the same images for every source.

    An image that is drawn k times counts as k images whose precision is that of the middle one.
    """
    order = np.argsort(-scores, axis=0, kind="stable")
    right = np.take_along_axis(labels, order, axis=0)  # (P, W)
    generator, means = np.random.default_rng(seed), np.empty(samples)
    for number in range(samples):
        counts = np.bincount(generator.integers(len(scores), size=len(scores)), minlength=len(scores))
        drawn = counts[order].astype(np.float32)
        hits = drawn * right
        middle = (drawn - 1) / 2
        precision = (hits.cumsum(axis=0) - middle * right) / np.maximum(drawn.cumsum(axis=0) - middle, 1)
        total = hits.sum(axis=0)
        present = total > 0
        means[number] = ((hits * precision).sum(axis=0)[present] / total[present]).mean()
    return means


def probe(
    features: Mapping[str, np.ndarray], labels: Mapping[str, np.ndarray], *, steps: int = STEPS
) -> tuple[dict[str, Any], np.ndarray]:
    """Learn on `train`, choose the strength on `val`, score on `test`: figures, and the scores (P, W) on `test`.

    features (P, F) and labels (P, W) of each split.
    """
    mean = features["train"].mean(axis=0)
    deviation = features["train"].std(axis=0)
    deviation[deviation < 1e-6] = 1.0  # of what never changes nothing is learnt
    inputs = {split: torch.from_numpy((values - mean) / deviation).float() for split, values in features.items()}
    best: dict[str, Any] = {}
    scores = np.empty(0)
    fits = fit_probe(inputs["train"], torch.from_numpy(labels["train"]), steps=steps)
    for strength, weights, biases in tqdm(fits, total=len(STRENGTHS), desc="probe", unit="fit"):
        chosen_by = 100 * float(np.nanmean(word_precisions((inputs["val"] @ weights + biases).numpy(), labels["val"])))
        if not best or chosen_by > best["val_map_x100"]:
            best = {"val_map_x100": chosen_by, "strength": strength, "width": features["train"].shape[1]}
            scores = (inputs["test"] @ weights + biases).numpy()
    return best, scores


def word_probe(
    sources: Mapping[str, str],
    rows: Mapping[str, Dataset],
    *,
    num_words: int = NUM_WORDS,
    columns: Sequence[str] = COLUMNS[:1],
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Each source's mAP over words, with intervals over images and its paired difference to the first source's.

    Args:
        sources: name -> source, as `pooled_features` takes it.
        rows: of `train`, `val` and `test`: image_id, image, captions.
        num_words: so many of the content words that are said of most training images.
        columns: of region stores.

    Returns:
        For each source `name`, `source`, `map_x100` and its `interval_x100` on `test`, `val_map_x100`, `width` F,
        `strength`, `per_word` (AP x 100; None where no image has the word) and, but for the first, `difference_x100`
        with `difference_interval_x100`.
    """
    said = {split: content_words(own["captions"][:]) for split, own in rows.items()}
    words = commonest_words(said["train"], most=num_words)
    labels = {split: word_labels(own, words) for split, own in said.items()}
    if not words or not labels["test"].any() or not labels["val"].any():
        raise ValueError("no content word of the training captions is said in the other splits: is it one language?")
    found: list[dict[str, Any]] = []
    samples: list[np.ndarray] = []
    for name, source in sources.items():
        features = {split: pooled_features(source, own, columns=columns) for split, own in rows.items()}
        figures, scores = probe(features, labels)
        precisions = word_precisions(scores, labels["test"])
        samples.append(sampled_means(scores, labels["test"], seed=seed))
        row = {"name": name, "source": source, "map_x100": 100 * float(np.nanmean(precisions)), **figures}
        row["interval_x100"] = interval_x100(samples[-1])
        row["per_word"] = {
            word: None if np.isnan(own) else round(100 * own, 2)
            for word, own in zip(words, precisions.tolist(), strict=True)
        }
        if found:
            row["difference_x100"] = row["map_x100"] - found[0]["map_x100"]
            row["difference_interval_x100"] = interval_x100(samples[-1] - samples[0])
        found.append(row)
    return found


# -- the command ------------------------------------------------------------------------------------------------------


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """A Markdown table: a line a source."""
    lines = [["features", "width", "mAP x 100 on val", "on test (95 % interval)", "difference (95 % interval)"]]
    lines.append(["---"] * len(lines[0]))
    for row in rows:
        low, high = row["interval_x100"]
        cells = [
            row["name"],
            str(row["width"]),
            f"{row['val_map_x100']:.2f}",
            f"{row['map_x100']:.2f} ({low} to {high})",
        ]
        gain = ""
        if "difference_x100" in row:
            low, high = row["difference_interval_x100"]
            gain = f"{row['difference_x100']:+.2f} ({low:+.2f} to {high:+.2f})"
        lines.append([*cells, gain])
    return markdown(lines)


def build_parser() -> argparse.ArgumentParser:
    """The arguments of the command."""
    parser = argparse.ArgumentParser(
        prog="python -m training.probes.word_probe",
        description="A linear probe of region features for the commonest content words of captions.",
        epilog="example:\n  python -m training.probes.word_probe cells=runs/regions/flickr8k_7x7 \\\n"
        "      new=hub_cards/updown-detector-lite --recipe captioning/flickr8k --output probe.json",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "sources", nargs="+", metavar="[NAME=]SOURCE[+SOURCE]", help="region stores, or folders of region sources"
    )
    parser.add_argument(
        "--recipe", default="captioning/flickr8k", help="of captioning, whose data are read (%(default)s)"
    )
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a value of the recipe")
    parser.add_argument("--test", default="test", metavar="SPLIT", help="the split to score (%(default)s)")
    parser.add_argument("--words", type=positive, default=NUM_WORDS, metavar="N", help="(%(default)s)")
    parser.add_argument("--columns", nargs="+", choices=COLUMNS, default=list(COLUMNS[:1]), help="of region stores")
    parser.add_argument("--output", type=Path, metavar="FILE.json", help="write all figures, each word's among them")
    return parser


def run(arguments: argparse.Namespace) -> None:
    """Measure, print the table, and write the figures with `--output`."""
    recipe = read_recipe(arguments.recipe, arguments.set)
    splits = {"train": recipe.train.split, "val": "val", "test": arguments.test}
    rows = {name: captioned_rows(caption_rows(recipe.data, split=split), split=split) for name, split in splits.items()}
    found = word_probe(named_sources(arguments.sources), rows, num_words=arguments.words, columns=arguments.columns)
    say(*table(found).split("\n"))
    if arguments.output:
        write_json(arguments.output, found)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns 0, or 2 after an error of the user, which is printed on one line."""
    parsed = build_parser().parse_args(arguments)
    try:
        run(parsed)
    except (OSError, ValueError) as error:
        say(f"word_probe: {one_line(error)}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
