"""True boxes to look for, and the groups that `region_recall` tells apart: types, sizes, how common their names are.

Flickr30k Entities | the data of a detection recipe --> NamedBoxes --groups_of--> groups of `box_recall`
"""

import gzip
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset

from training.data.boxes.formats import load_detection
from training.data.boxes.rows import DetectionData, ImageListing, detection_dataset, detection_row, keep_images
from training.data.files import PathLike
from training.metrics.detection.box_recall import frequency_groups, frequency_labels, size_groups
from training.recipe import read_recipe
from training.tasks.build import load_by_split
from training.tasks.detection import BY_SPLIT, FORMATS

ENTITY_TYPES = ("people", "clothing", "bodyparts", "animals", "vehicles", "instruments", "scene", "other")

Names = list[list[list[str]]]  # of each box of each image


@dataclass(frozen=True)
class NamedBoxes:
    """Images with boxes, each with its names and, in Flickr30k Entities, its types.

    rows: of `DETECTION_FEATURES`; names, types: for each image and each of its boxes (`types` empty where there are
    none); training_counts: how many training boxes have each name.
    """

    rows: Dataset
    names: Names
    training_counts: Mapping[str, int]
    types: Names = field(default_factory=list)

    def groups(self, truth: Iterable[Mapping[str, Any]]) -> dict[str, Names]:
        """The groups of each box, by kind: `type`, `size`, and `training boxes of the name`."""
        found = {"type": self.types} if self.types else {}
        frequency = frequency_groups(self.names, self.training_counts)
        return {**found, "size": size_groups(list(truth)), "training boxes of the name": frequency}

    def first(self, count: int) -> "NamedBoxes":
        """The same of the first images."""
        chosen = range(min(count, len(self.rows)))
        return NamedBoxes(self.rows.select(chosen), self.names[:count], self.training_counts, self.types[:count])


ORDER = (*ENTITY_TYPES, "small", "medium", "large", *frequency_labels())  # in which groups are shown


def entity_boxes(path: PathLike, *, images: PathLike | None, split: str) -> NamedBoxes:
    """The boxes of Flickr30k Entities' phrases, from the joined JSON; names are the last words of their phrases.

    Raises `ValueError` for a file of another layout and a split without boxes.
    """
    records = read_entities(path)
    listed = [
        ImageListing(Path(record["filename"]).stem, record["filename"], images, record["split"]) for record in records
    ]
    by_id = {Path(record["filename"]).stem: record for record in records}
    kept = keep_images(listed, split=split, source=path)
    found = [boxes_of_record(by_id[image.image_id]) for image in kept]
    training = Counter(
        name
        for record in records
        if record["split"] == "train"
        for _, names, _ in boxes_of_record(record)
        for name in names
    )
    rows = [
        detection_row(
            image,
            size=(by_id[image.image_id]["orig_width"], by_id[image.image_id]["orig_height"]),
            boxes=np.array([box for box, _, _ in own], dtype=np.float32).reshape(-1, 4),
            object_ids=[1] * len(own),
            attribute_ids=[[] for _ in own],
        )
        for image, own in zip(kept, found, strict=True)
    ]
    return NamedBoxes(
        rows=detection_dataset(rows),
        names=[[names for _, names, _ in own] for own in found],
        training_counts=training,
        types=[[types for _, _, types in own] for own in found],
    )


def read_entities(path: PathLike) -> list[dict[str, Any]]:
    """The records of the joined JSON, which may be compressed; `ValueError` for a file of another layout."""
    try:
        content = Path(path).read_bytes()
        records = json.loads(gzip.decompress(content) if str(path).endswith(".gz") else content)
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"cannot read {path}: {error}") from error
    fields = {"filename", "split", "orig_width", "orig_height", "boxes", "sentences"}
    if not isinstance(records, list) or not all(isinstance(own, dict) and fields <= {*own} for own in records):
        raise ValueError(f"{path} is no list of images with {', '.join(sorted(fields))}")
    return records


def boxes_of_record(record: Mapping[str, Any]) -> list[tuple[list[float], list[str], list[str]]]:
    """Each box of an image with the last words of its phrases, the commonest first, and the type that the first of its
    phrases has first.
    """
    names: dict[str, Counter[str]] = {}
    types: dict[str, list[str]] = {}
    for sentence in record["sentences"]:
        for phrase in sentence["phrases"]:
            names.setdefault(phrase["chain"], Counter())[phrase["phrase"].split()[-1].lower()] += 1
            types.setdefault(phrase["chain"], phrase["types"][:1])
    return [
        (box, [name for name, _ in names.get(chain, Counter()).most_common()], types.get(chain, []))
        for chain, boxes in record["boxes"].items()
        for box in boxes
    ]


def recipe_boxes(recipe: str, *, split: str, changes: list[str]) -> NamedBoxes:
    """The boxes of a detection recipe's data.

    Raises `ValueError` for a recipe of another task, and what its data raise.
    """
    found = read_recipe(recipe, changes)
    if found.task != "detection":
        raise ValueError(f"{recipe} is a recipe of the task {found.task}: name one of detection, whose data have boxes")
    load = partial(load_by_split, partial(load_detection, formats=FORMATS), found.data, names=BY_SPLIT)
    data, training = load(split=split), load(split=found.train.split)
    counts = Counter(name for image in names_of(training) for names in image for name in names)
    return NamedBoxes(data.rows, names_of(data), counts)


def names_of(data: DetectionData) -> Names:
    """Each box's names: its own and, where the data tell, those that are true as well."""
    rows, labels = data.rows, data.id2label
    others = rows["other_object_ids"][:] if "other_object_ids" in rows.column_names else None
    found: Names = []
    for number, ids in enumerate(rows["object_ids"][:]):
        more = others[number] if others is not None else [[] for _ in ids]
        found.append([[labels[i] for i in (own, *rest)] for own, rest in zip(ids, more, strict=True)])
    return found
