"""True boxes to look for, and the groups that `region_recall` tells apart: types, sizes, how common their names are.

Flickr30k Entities | the data of a detection recipe --> NamedBoxes --groups_of--> groups of `box_recall`
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset

from training.data.boxes.entities_files import (
    EntityImage,
    joined_image,
    joined_records,
    official_image,
    official_images,
)
from training.data.boxes.formats import load_detection
from training.data.boxes.noun_phrases import split_phrase
from training.data.boxes.rows import DetectionData, ImageListing, detection_dataset, detection_row, keep_images
from training.data.files import PathLike
from training.data.splits import listed_splits
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


def entity_boxes(
    path: PathLike, *, images: PathLike | None, split: str, split_lists: PathLike | None = None
) -> NamedBoxes:
    """All boxes of Flickr30k Entities' phrases, as they are drawn; named by the nouns that their phrases are about.

    A box has one type, that of the first phrase on it (of a phrase's several types the first).

    Args:
        path: the joined JSON, or the folder of `Annotations` and `Sentences` (`data/boxes/entities_files.py`).
        images: the image folder; None where no source looks at images.
        split: whose boxes; the names of `train` are counted.
        split_lists: the folder with `train.txt`, `val.txt` and `test.txt`, which the official files need.

    Raises:
        ValueError: for files of another layout, and a split without images.
    """
    records = None if Path(path).is_dir() else joined_records(path)
    known = [*records] if records else official_images(path)
    split_of = {name: own["split"] for name, own in (records or {}).items()}
    split_of = split_of if split_lists is None else listed_splits(split_lists)
    if not split_of:
        raise ValueError(f"{path} names no splits: give the folder of train.txt, val.txt and test.txt in --split-lists")
    read = partial(entity_image, path, records)
    listed = [ImageListing(name, f"{name}.jpg", images, split_of[name]) for name in known if name in split_of]
    if records:
        listed = [replace(image, name=records[image.image_id]["filename"]) for image in listed]
    kept = [(image, read(image.image_id)) for image in keep_images(listed, split=split, source=path)]
    found = [boxes_of_entity(entity) for _, entity in kept]
    training = Counter(
        name
        for image in listed
        if image.split == "train"
        for _, names, _ in boxes_of_entity(read(image.image_id))
        for name in names
    )
    rows = [
        detection_row(
            image,
            size=(entity.width, entity.height),
            boxes=np.array([box for box, _, _ in own], dtype=np.float32).reshape(-1, 4),
            object_ids=[1] * len(own),
            attribute_ids=[[] for _ in own],
        )
        for (image, entity), own in zip(kept, found, strict=True)
    ]
    return NamedBoxes(
        rows=detection_dataset(rows),
        names=[[names for _, names, _ in own] for own in found],
        training_counts=training,
        types=[[types for _, _, types in own] for own in found],
    )


def entity_image(path: PathLike, records: Mapping[str, Any] | None, image_id: str) -> EntityImage:
    """An image of the joined JSON's records or, where there are none, of the official folder."""
    return joined_image(records[image_id], source=path) if records else official_image(path, image_id)


def boxes_of_entity(image: EntityImage) -> list[tuple[np.ndarray, list[str], list[str]]]:
    """Each box of an image xyxy in 0..1, with the nouns of its phrases, the commonest first, and its type."""
    names: dict[str, Counter[str]] = {}
    types: dict[str, tuple[str, ...]] = {}
    for sentence in image.sentences:
        for phrase in sentence.phrases:
            heads = split_phrase(phrase.text.lower().split())
            names.setdefault(phrase.chain, Counter()).update(head.words[-1] for head in heads if head.words)
            types.setdefault(phrase.chain, phrase.kinds[:1])
    size = np.array([image.width, image.height] * 2, dtype=np.float64)
    return [
        (box, [name for name, _ in names.get(chain, Counter()).most_common()], list(types.get(chain, ())))
        for chain, boxes in image.boxes.items()
        for box in (boxes / size).clip(0, 1)
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
    return [
        [[labels[i] for i in (own, *rest)] for own, rest in zip(ids, others, strict=True)]
        for ids, others in zip(rows["object_ids"][:], rows["other_object_ids"][:], strict=True)
    ]
