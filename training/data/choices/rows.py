"""The row of multiple choice: an image, a context of one or several texts, and candidates, one of which is right.

    a reader of training/data/choices/formats.py --ChoiceItem--> choice_data --> ChoiceData: rows, and their texts

Rows name texts by number, since a hundred candidates of each of a million rounds of dialogue stand in a list of a
third of a million. Words of a text may carry objects of the image ("[person1]"), whose boxes the row has.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import datasets

from processors.region_links_updown import RegionLink
from training.data.boxes.rows import BOX, ImageListing, dataset_of
from training.data.files import PathLike

KINDS = ("answer", "rationale", "round")
HIDDEN = -1  # in place of the label
CHOICE_FEATURES = datasets.Features(
    {
        "item_id": datasets.Value("string"),
        "group": datasets.Value("string"),
        "kind": datasets.Value("string"),
        "image_id": datasets.Value("string"),
        "image": datasets.Image(),
        "context": datasets.List(datasets.Value("int32")),
        "candidates": datasets.List(datasets.Value("int32")),
        "label": datasets.Value("int32"),
        "relevance": datasets.List(datasets.Value("float32")),
        "boxes": datasets.List(BOX),
        "names": datasets.List(datasets.Value("string")),
        "question_type": datasets.Value("string"),
        "split": datasets.Value("string"),
    }
)
TEXT_FEATURES = datasets.Features(
    {
        "text": datasets.Value("string"),
        "links": datasets.List(
            {
                "start": datasets.Value("int32"),
                "end": datasets.Value("int32"),
                "objects": datasets.List(datasets.Value("int32")),
            }
        ),
    }
)


@dataclass(frozen=True)
class ChoiceText:
    """A text, and the objects of its image that its words carry; `regions` of a link are places in the row's boxes."""

    text: str
    links: tuple[RegionLink, ...] = ()


@dataclass(frozen=True)
class ChoiceItem:
    """One choice to be made.

    group: what belongs together: the answers and rationales of a question, the rounds of a dialogue. kind: see `KINDS`.
    context: texts in their order, of a dialogue its caption, then questions and answers in turn, the last a question.
    label: the right candidate, `HIDDEN` where nobody says. relevance: how right each candidate is, 0..1, () where
    nobody says. boxes: xyxy in 0..1 of the image's objects, names: theirs. question_type: as the data set calls it, ""
    where it has none.
    """

    item_id: str
    group: str
    kind: str
    image: ImageListing
    context: tuple[ChoiceText, ...]
    candidates: tuple[ChoiceText, ...]
    label: int = HIDDEN
    relevance: tuple[float, ...] = ()
    boxes: Sequence[Sequence[float]] = ()
    names: Sequence[str] = ()
    image_bytes: bytes | None = field(default=None, repr=False)
    question_type: str = ""


@dataclass(frozen=True)
class ChoiceData:
    """What a reader returns: rows of `CHOICE_FEATURES`, and the texts (`TEXT_FEATURES`) that they name by number."""

    rows: datasets.Dataset
    texts: datasets.Dataset


def choice_data(items: Iterable[ChoiceItem], *, source: PathLike) -> ChoiceData:
    """Items -> their data set, each text once.

    Raises `ValueError` for an item without two candidates or with a label, relevances or links that do not fit, an id
    that stands twice, and no item at all; source: the file named there.
    """
    numbers: dict[ChoiceText, int] = {}
    rows = dataset_of(_rows(items, numbers, source), CHOICE_FEATURES)
    if not len(rows):
        raise ValueError(f"{source} has no item to choose for; is it the file of another split?")
    texts = dataset_of(map(_text_row, numbers), TEXT_FEATURES)
    return ChoiceData(rows, texts)


def _rows(items: Iterable[ChoiceItem], numbers: dict[ChoiceText, int], source: PathLike) -> Iterator[dict[str, Any]]:
    seen: set[str] = set()
    for item in items:
        check_item(item, source)
        if item.item_id in seen:
            raise ValueError(f"{source}: the item {item.item_id!r} stands in it twice; is it joined of several files?")
        seen.add(item.item_id)
        empty = item.image.path is None and item.image_bytes is None
        yield {
            "item_id": item.item_id,
            "group": item.group,
            "kind": item.kind,
            "image_id": item.image.image_id,
            "image": None if empty else {"bytes": item.image_bytes, "path": item.image.path},
            "context": [numbers.setdefault(text, len(numbers)) for text in item.context],
            "candidates": [numbers.setdefault(text, len(numbers)) for text in item.candidates],
            "label": item.label,
            "relevance": list(item.relevance),
            "boxes": [list(box) for box in item.boxes],
            "names": list(item.names),
            "question_type": item.question_type,
            "split": item.image.split,
        }


def check_item(item: ChoiceItem, source: PathLike) -> None:
    """`ValueError` for what does not fit together in an item."""
    place, number = f"{source}: the item {item.item_id!r}", len(item.candidates)
    if item.kind not in KINDS:
        raise ValueError(f"{place} is of the kind {item.kind!r}; choose one of {', '.join(KINDS)}")
    if number < 2 or not item.context:
        raise ValueError(f"{place} has {number} candidates and {len(item.context)} texts before them: give two and one")
    if not HIDDEN <= item.label < number:
        raise ValueError(f"{place} has the label {item.label}, which names none of its {number} candidates")
    if item.relevance and len(item.relevance) != number:
        raise ValueError(f"{place} has {len(item.relevance)} relevances of {number} candidates: give one each")
    if not all(0 <= value <= 1 for value in item.relevance):
        raise ValueError(f"{place} has a relevance that is not in 0..1")
    if len(item.boxes) != len(item.names):
        raise ValueError(f"{place} has {len(item.boxes)} boxes and {len(item.names)} names of objects")
    for text in (*item.context, *item.candidates):
        for link in text.links:
            strange = [number for number in link.regions if not 0 <= number < len(item.boxes)]
            if strange or not link.regions:
                tag = text.text[link.start : link.end]
                raise ValueError(
                    f"{place} has the tag {tag!r} of object {strange[0] if strange else None}, but its image has "
                    f"{len(item.boxes)} objects: a tag needs a region"
                )


def _text_row(text: ChoiceText) -> dict[str, Any]:
    links = [{"start": link.start, "end": link.end, "objects": list(link.regions)} for link in text.links]
    return {"text": text.text, "links": links}
