"""Names that training must not learn: their boxes are neither objects nor background, their phrases are left out.

    names | a list of `open_classes.json` --listed_names--> names --hold_out--> DetectionData without them

For open sets: `training/metrics/detection/open_set.py` measures what a detector makes of names that it never learnt.
COCO's usual parts, 48 base and 17 novel classes, are those of Bansal et al. 2018 (Zero-Shot Object Detection), which
Zareian et al. 2021 (OVR-CNN) and those after them use: `coco_base` and `coco_novel`.
"""

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import pyarrow as pa
import torch

from modeling_updown.boxes_updown import pairwise_iou
from training.data.boxes.caption_attributes import plural_of
from training.data.boxes.names import finer_names
from training.data.boxes.rows import DETECTION_FEATURES, DetectionData
from training.data.files import read_json
from training.data.mixture_parts import with_column

LISTS = Path(__file__).with_name("open_classes.json")
WHOLE_IMAGE = 0.9  # of its area: a phrase of so much tells the image, not a thing in it
SAME_BOX = 0.5  # IoU of a phrase's place and a box of the same thing
NAMED = ("object_ids", "other_object_ids", "attribute_ids")  # columns
CHANGED = (*NAMED, "boxes", "crowd", "polygons", "regions")


class HeldOut(NamedTuple):
    """What `hold_out` left out: the names of objects and attributes, and how many boxes and phrases."""

    names: list[str]
    num_boxes: int
    num_phrases: int


def listed_names(names: Sequence[str]) -> list[str]:
    """Names, and those of the lists that are named, each once, in their order.

    >>> listed_names(["coco_novel"])[:3], len(listed_names(["coco_base", "coco_novel"]))
    (['airplane', 'bus', 'cat'], 65)
    """
    lists = read_json(LISTS)
    return list(dict.fromkeys(own for name in names for own in lists.get(name, [name])))


def hold_out(data: DetectionData, names: Sequence[str]) -> tuple[DetectionData, HeldOut]:
    """The data without what training must not learn of these names.

    A name is held out wherever its words stand, in singular or plural, with the finer nouns of COCO's classes ("dog":
    puppy, poodle): in names of objects, in attributes and in phrases; "hot dog" goes with "dog". Boxes with such a
    name, and places of such phrases, become crowds, in which nothing counts as background; the phrases are dropped. The
    ids of the data stay what they are.

    Args:
        data: rows of training, whose images are not opened.
        names: as `listed_names` takes them.

    Raises:
        ValueError: for an empty name, and for one that nothing in the data has: it would hold out nothing.
    """
    wanted = listed_names(names)
    if not wanted or not all(isinstance(name, str) and name.strip() for name in wanted):
        raise ValueError(f"the names to hold out are {wanted}: give one or more, none of them empty")
    patterns = {name: re.compile(rf"\b(?:{'|'.join(map(re.escape, nouns_of(name)))})\b") for name in wanted}
    said = re.compile("|".join(pattern.pattern for pattern in patterns.values()))
    objects = _ids_of(data.id2label, said)
    objects |= {finer for own in objects for finer in data.covered.get(own, ())}
    marks = _Marks(objects, _ids_of(data.attribute_id2label, said), said, data.covered)
    table = _undecoded(data.rows)
    columns = {name: table[name].to_pylist() for name in CHANGED}
    changed = [marks.change(dict(zip(CHANGED, values, strict=True))) for values in zip(*columns.values(), strict=True)]
    texts = [data.id2label[i] for i in sorted(objects)] + [data.attribute_id2label[i] for i in sorted(marks.attributes)]
    told = " | ".join([*texts, *sorted(marks.phrases)]).lower()
    absent = [name for name, pattern in patterns.items() if not pattern.search(told)]
    if len(absent) == len(wanted):
        raise ValueError(f"nothing in the data is called {', '.join(absent)}: there is nothing to hold out")
    if absent:
        warnings.warn(f"held out, but in no name and no phrase of the data: {', '.join(absent)}", stacklevel=2)
    for name in CHANGED:
        values = pa.array([row[name] for row in changed], DETECTION_FEATURES.arrow_schema.field(name).type)
        table = with_column(table, name, values)
    rows = datasets.Dataset(table, info=datasets.DatasetInfo(features=DETECTION_FEATURES))
    return replace(data, rows=rows), HeldOut(texts, marks.num_boxes, marks.num_phrases)


def nouns_of(name: str) -> list[str]:
    """A name and the finer nouns of COCO's classes, in lower case, in singular and plural, the longest first.

    >>> nouns_of("couch")
    ['loveseats', 'loveseat', 'couches', 'couch', 'sofas', 'sofa']
    """
    nouns = [name.strip().lower(), *finer_names(name)]
    return sorted({form for noun in nouns for form in (noun, plural_of(noun))}, key=_longest_first)


def _longest_first(noun: str) -> tuple[int, str]:
    return -len(noun), noun[::-1]


def _ids_of(labels: Mapping[int, str], said: re.Pattern[str]) -> set[int]:
    """The ids, without 0, whose names a pattern finds."""
    return {number for number, name in labels.items() if number and said.search(name.lower())}


def _undecoded(rows: datasets.Dataset) -> pa.Table:
    """The columns of `DETECTION_FEATURES`, images undecoded."""
    chosen = rows.select_columns(list(DETECTION_FEATURES)).cast_column("image", datasets.Image(decode=False))
    return chosen.with_format("arrow")[:].cast(DETECTION_FEATURES.arrow_schema)


class _Marks:
    """What is held out, by id and by word, and what of it rows had so far."""

    def __init__(
        self, objects: set[int], attributes: set[int], said: re.Pattern[str], covered: Mapping[int, Sequence[int]]
    ):
        self.objects, self.attributes, self.said, self.covered = objects, attributes, said, covered
        self.num_boxes = self.num_phrases = 0
        self.phrases: set[str] = set()

    def change(self, row: dict[str, Any]) -> dict[str, Any]:
        """A row of the columns `CHANGED` without what is held out."""
        held = [self.is_held(*box) for box in zip(*(row[name] for name in NAMED), strict=True)]
        self.num_boxes += sum(held)
        row["crowd"] = [crowd or own for crowd, own in zip(row["crowd"], held, strict=True)]
        row["other_object_ids"] = [[i for i in own if i not in self.objects] for own in row["other_object_ids"]]
        dropped = [region for region in row["regions"] if self.said.search(region["phrase"].lower())]
        row["regions"] = [region for region in row["regions"] if not self.said.search(region["phrase"].lower())]
        self.num_phrases += len(dropped)
        self.phrases.update(region["phrase"] for region in dropped)
        for region in dropped:
            crowds = [box for box, crowd in zip(row["boxes"], row["crowd"], strict=True) if crowd]
            if _area(region["box"]) < WHOLE_IMAGE and not _is_one_of(region["box"], crowds):
                row["boxes"].append(region["box"])
                row["object_ids"].append(min(self.objects, default=1))  # of a crowd, whose name nobody learns
                row["other_object_ids"].append([])
                row["attribute_ids"].append([])
                row["crowd"].append(True)
                row["polygons"].append([])
        return row

    def is_held(self, own: int, others: Sequence[int], attributes: Sequence[int]) -> bool:
        """Whether a box has a held-out name. Finer names that its object covers may be right, but nobody said them."""
        said = {own, *others}.difference(self.covered.get(own, ()))
        return bool(said & self.objects or self.attributes.intersection(attributes))


def _is_one_of(box: Sequence[float], boxes: Sequence[Sequence[float]]) -> bool:
    """Whether a box xyxy overlaps one of several by `SAME_BOX` or more."""
    if not boxes:
        return False
    return bool((pairwise_iou(torch.tensor([box]), torch.tensor(boxes)) >= SAME_BOX).any())


def _area(box: Sequence[float]) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])
