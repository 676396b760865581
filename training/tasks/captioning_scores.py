"""Captions -> figures: the official metrics, those of each domain, and files of captions of any origin.

Where images have boxes, also what captions invent (CHAIR); of several captions an image, how they differ.
"""

import math
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset

from training.data.files import read_json
from training.metrics.captioning.chair import chair
from training.metrics.captioning.diversity import caption_diversity
from training.metrics.captioning.meteor_resources import MeteorResources
from training.metrics.captioning.scores import ONE_IMAGE, caption_scores, ptb_tokenize
from training.metrics.item_scores import item_scores
from training.tasks.spec import Scored

HIDDEN = "the captions of this split are hidden; its organisers score them"
NOT_ASKED = "needs Java; ask for it with --java"
PARSED = "spice_spacy"
SPICE_PARTS = {  # what SPICE's categories are called in tables
    "object": "objects",
    "attribute": "attributes",
    "relation": "relations",
    "color": "colour",
    "cardinality": "count",
    "size": "size",
}
MEANS = ("rouge_l", "cider", "cider_d", "cider_plain")  # of these the corpus value is the mean over images
DIVERSITY_MEANS = ("div_1", "div_2", "self_cider", "oracle_cider", "sample_cider")
NOTHING_NAMED = "no caption names one of COCO's 80 objects"
# No sentence ends in these words; captions that do ("a man with a") came of rewards without an end token.
UNFINISHED = re.compile(
    r"(?:^| )(?:an?|the|this|that|these|those|his|her|its|their|my|your|our|and|or|but|of|with|without|to|from|for|at"
    r"|by|into|onto|upon|near|between|behind|beside|against|through|during|before|after|while|as|than|is|are|in|on)$"
)


def scored_captions(
    captions: list[str], rows: Dataset, *, objects: Mapping[str, Collection[str]] | None = None
) -> Scored:
    """One caption a row, scored over all rows with human captions, over those of each domain, and image by image.

    objects: image id -> names of its boxes; captions of images with boxes are then scored by CHAIR as well.
    """
    predictions = caption_predictions(rows["image_id"][:], captions)
    told = [i for i, references in enumerate(rows["captions"]) if references]
    scored = Scored({"bad_endings_share": bad_endings_share(captions)}, [], {})
    if told:
        scored = _scored_told([captions[i] for i in told], rows if len(told) == len(rows) else rows.select(told))
    scored.predictions = predictions
    if objects is not None:
        boxed = [i for i, image_id in enumerate(rows["image_id"]) if image_id in objects]
        scored.numbers = {"captioned": len(told), "boxed": len(boxed)}
        _add_chair(scored, [captions[i] for i in boxed], rows.select(boxed), objects=objects)
    return scored


def _scored_told(captions: list[str], rows: Dataset) -> Scored:
    """The scores of rows that all have human captions, without the predictions."""
    references, names, ids = rows["captions"][:], rows["domain"][:], rows["image_id"][:]
    domains = {}
    for domain in sorted(set(names) - {""}):
        chosen = [i for i, name in enumerate(names) if name == domain]
        domains[domain], _ = summary([captions[i] for i in chosen], [references[i] for i in chosen])
    metrics, per_item = summary(captions, references)
    items = {name: item_scores(ids, per_item[name]) for name in MEANS if name in metrics}
    return Scored(metrics, [], domains, items)


def _add_chair(scored: Scored, captions: list[str], rows: Dataset, *, objects: Mapping[str, Collection[str]]) -> None:
    """CHAIR of captions of images with boxes: the official figures and, named so, the corrected ones.

    Of `chair_i`, a share of what is named, the items' weights are the numbers of objects that each caption names.
    """
    ids = rows["image_id"][:]
    names = [objects[image_id] for image_id in ids]
    for variant, ending in (("official", ""), ("corrected", "_corrected")):
        found = chair(captions, rows["captions"][:], names, variant=variant)  # type: ignore[arg-type]
        shown = {"chair_s": found["chair_s"], "chair_i": found["chair_i"], "chair_recall": found["recall"]}
        for name, value in shown.items():
            scored.metrics |= {f"{name}{ending}": value, f"{name}{ending}_x100": 100 * value}
        per_item = found["per_item"]
        scored.items[f"chair_s{ending}"] = item_scores(ids, [item["chair_s"] for item in per_item])
        scored.items[f"chair_i{ending}"] = {
            **item_scores(ids, [item["chair_i"] for item in per_item]),
            "own_weights": [len(item["objects"]) for item in per_item],
        }


def add_diversity(evaluation: dict[str, Any], scored: Scored, samples: Sequence[Sequence[str]], rows: Dataset) -> None:
    """How the captions drawn for each row differ, and the best of them, into an evaluation and its scores."""
    ids = rows["image_id"][:]
    found = caption_diversity(samples, rows["captions"][:])
    evaluation["metrics"] |= {**hundredfold(found), "distinct_words": found["distinct_words"]}
    scored.items |= {name: item_scores(ids, found["per_item"][name]) for name in DIVERSITY_MEANS}
    scored.samples = [
        {"image_id": image_id, "captions": list(drawn)} for image_id, drawn in zip(ids, samples, strict=True)
    ]


def caption_predictions(ids: Sequence[str], captions: Sequence[str]) -> list[dict[str, str]]:
    """Captions in COCO's result layout."""
    return [{"image_id": image_id, "caption": caption} for image_id, caption in zip(ids, captions, strict=True)]


def caption_figures(metrics: dict[str, float], domains: dict[str, dict[str, float]]) -> dict[str, Any]:
    """What an evaluation says of captions' metrics: the hundredfold ones that are numbers, for each domain too."""
    return {
        "metrics": hundredfold(metrics),
        "bad_endings_share": metrics["bad_endings_share"],
        "domains": {domain: hundredfold(values) for domain, values in domains.items()},
        "not_computed": not_computed(metrics),
    }


def not_computed(metrics: dict[str, float]) -> dict[str, str]:
    """The metrics of captions that are not there, with the reason."""
    lacking = {name: NOTHING_NAMED for name in ("chair_i",) if math.isnan(metrics.get(name, 0))}
    if "bleu_1" not in metrics:
        return {"captions": HIDDEN, **lacking}
    lacking |= {} if "cider" in metrics else {"cider": ONE_IMAGE}
    if "meteor" not in metrics:
        lacking["meteor"] = why_no_meteor()
    return {**lacking, "spice": NOT_ASKED}


def why_no_meteor() -> str:
    """What METEOR lacks on this machine, with the cure; "" where it can be computed."""
    try:
        MeteorResources.find()
    except (OSError, ValueError) as reason:
        return str(reason)
    return ""


def hundredfold(metrics: dict[str, float]) -> dict[str, float]:
    """The metrics times 100 alone, without those that are not numbers (NaN)."""
    return {name: value for name, value in metrics.items() if name.endswith("_x100") and not math.isnan(value)}


def summary(captions: list[str], references: list[list[str]]) -> tuple[dict[str, float], dict[str, list[float]]]:
    """The corpus values of `caption_scores` with the share of captions that stop in mid-phrase, and those of images.

    Of a single image without CIDEr, which would be 0 whatever the caption.
    """
    scores = caption_scores(captions, references)
    per_item, _ = scores.pop("per_item"), scores.pop("not_computed")
    if len(captions) == 1:
        scores = {name: value for name, value in scores.items() if not name.startswith("cider")}
    return {**scores, "bad_endings_share": bad_endings_share(captions)}, per_item


def bad_endings_share(captions: list[str]) -> float:
    """The share of captions whose last word no sentence ends in.

    >>> bad_endings_share(["a man with a", "a dog runs", "two of the.", ""])
    0.5
    """
    return sum(bool(UNFINISHED.search(caption)) for caption in ptb_tokenize(captions)) / len(captions)


def add_java_scores(evaluation: dict[str, Any], scored: Scored, rows: Dataset) -> None:
    """SPICE into an evaluation of captions, one a row, or why it could not be computed."""
    from training.metrics.captioning.java import all_caption_scores

    captions, references = told_captions(scored, rows)
    scores = all_caption_scores(captions, references)
    evaluation["metrics"] |= hundredfold(scores)
    others = {name: reason for name, reason in evaluation["not_computed"].items() if name != "spice"}
    evaluation["not_computed"] = others | scores["not_computed"]


def add_parsed_scores(evaluation: dict[str, Any], scored: Scored, rows: Dataset) -> None:
    """SPICE by spaCy and its categories into an evaluation of captions, its domains and the scores of images, or why it
    could not be computed; nothing where the captions are hidden. `spice_parser` is the model that parsed."""
    from training.metrics.captioning.scene_graph_parser import SceneGraphParser
    from training.metrics.captioning.spice_spacy import spice_spacy
    from training.metrics.captioning.unavailable import NotComputed

    if "bleu_1" not in scored.metrics:
        return
    told = [i for i, references in enumerate(rows["captions"][:]) if references]
    ids, domains = (rows.select(told)[name][:] for name in ("image_id", "domain"))
    try:
        parser = SceneGraphParser.find()
        _, per_item = spice_spacy(*told_captions(scored, rows), parser=parser)
    except NotComputed as reason:
        evaluation["not_computed"][PARSED] = str(reason)
        return
    columns = {"all": PARSED, **{part: f"{PARSED}_{part}" for part in SPICE_PARTS}}
    evaluation["metrics"] |= _parsed_means(per_item, columns)
    evaluation["spice_parser"] = parser.name
    for domain, values in evaluation["domains"].items():
        chosen = [item for item, name in zip(per_item, domains, strict=True) if name == domain]
        values |= _parsed_means(chosen, columns)
    for category, name in columns.items():
        entry = item_scores(ids, [item[category] for item in per_item])
        scored.items |= {name: entry} if entry["ids"] else {}


def _parsed_means(per_item: Sequence[dict[str, float]], columns: dict[str, str]) -> dict[str, float]:
    """The means of images' scores, x100, without categories that no image has."""
    from training.metrics.captioning.java import spice_means

    means = spice_means(per_item)
    return {f"{name}_x100": 100 * means[key] for key, name in columns.items() if not math.isnan(means[key])}


def told_captions(scored: Scored, rows: Dataset) -> tuple[list[str], list[list[str]]]:
    """The captions of the rows whose own captions are known, and those."""
    caption_of = {row["image_id"]: row["caption"] for row in scored.predictions}
    told = [(caption_of[i], texts) for i, texts in zip(rows["image_id"], rows["captions"], strict=True) if texts]
    return [caption for caption, _ in told], [texts for _, texts in told]


def read_predictions(path: str | Path) -> list[tuple[str, str]]:
    """(image_id, caption) of every entry of a file in COCO's result layout; `ValueError` for another layout."""
    content = read_json(path)
    if not isinstance(content, list) or not content:
        raise ValueError(f'{path} is no list of predictions: write [{{"image_id": 42, "caption": "a dog"}}, ...]')
    for number, entry in enumerate(content):
        fine = isinstance(entry, dict) and isinstance(entry.get("caption"), str)
        if not fine or not isinstance(entry.get("image_id"), str | int):
            raise ValueError(f"{path}: entry {number} lacks an image_id or a caption: {str(entry)[:120]}")
    return [(str(entry["image_id"]), entry["caption"]) for entry in content]


def captions_of(predictions: Sequence[tuple[str, str]], image_ids: Sequence[str], *, source: Any) -> list[str]:
    """The predictions in the order of the ids; `ValueError` listing ids that are missing, unknown or there twice.

    >>> captions_of([("7", "a cat"), ("3", "a dog")], ["3", "7"], source="captions.json")
    ['a dog', 'a cat']
    """
    caption_of, times = dict(predictions), Counter(image_id for image_id, _ in predictions)
    faults = {
        "caption given twice": [image_id for image_id, count in times.items() if count > 1],
        "caption missing": [image_id for image_id in image_ids if image_id not in times],
        "image unknown": sorted(set(times) - set(image_ids)),
    }
    told = [f"{len(ids)} x {fault}: {', '.join(ids[:5])}" for fault, ids in faults.items() if ids]
    if told:
        raise ValueError(f"the images of {source} are not those of the split ({'; '.join(told)})")
    return [caption_of[image_id] for image_id in image_ids]
