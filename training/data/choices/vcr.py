"""VCR (Zellers et al. 2019): questions on scenes of films, four answers to each, and four rationales of the right one.

    train.jsonl | val.jsonl | test.jsonl + vcr1images/ --read_vcr--> ChoiceData

Each question is an item of its answers and one of its rationales.

Their texts are lists of words, in which a list of numbers is a tag: `[0, 2]` are the objects 0 and 2 of the image,
whose boxes (and polygons) lie in the image's metadata. Written after the documented layout; the real files are under a
licence and were not at hand.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from processors.region_links_updown import RegionLink
from training.data.boxes.rows import ImageListing, clip_boxes, keep_images
from training.data.choices.rows import HIDDEN, ChoiceData, ChoiceItem, ChoiceText, choice_data
from training.data.files import PathLike, column, id_text, list_column, read_json, read_json_lines, text_column
from training.data.splits import NoSuchSplitError, split_in, split_name

NUM_CHOICES = 4
Naming = Literal["names", "classes", "tags"]
# what the released code calls the persons of an image, in their order
PERSON_NAMES = (
    *("Casey", "Riley", "Jessie", "Jackie", "Avery", "Jaime", "Peyton", "Kerry"),
    *("Jody", "Kendall", "Peyton", "Skyler", "Frankie", "Pat", "Quinn"),
)
TIGHT_BEFORE, TIGHT_AFTER = re.compile(r"^(?:[.,?!;:)\]%]|'\w*|n't)"), ("(", "[", "$")
Token = str | list[int]


class VcrImage(NamedTuple):
    """The metadata of an image: boxes (M, 4) xyxy in 0..1, names of the objects, width and height in pixels."""

    boxes: np.ndarray
    names: tuple[str, ...]
    size: tuple[int, int]


def read_vcr(
    annotations: PathLike,
    *,
    images: PathLike | None = None,
    metadata: PathLike | None = None,
    split: str = "train",
    file_split: str | None = None,
    naming: Naming = "names",
    polygons: bool = False,
) -> ChoiceData:
    """Reads VCR's files as they are released.

    Args:
        annotations: `train.jsonl`, `val.jsonl` or `test.jsonl`.
        images: the folder `vcr1images`, to which `img_fn` is relative; None reads no images.
        metadata: the folder that `metadata_fn` is relative to; by default that of the images.
        split: must be the file's.
        file_split: the file's split where its name does not tell.
        naming: what stands for an object in the text: `names`, for persons the gender-neutral names of the released
            code ("Casey and Riley") and for others their class; `classes`; or `tags`, the class with a number.
        polygons: boxes are those around the objects' polygons, where they have some, in the place of the detector's.

    Returns:
        Items of the kinds `answer` and `rationale` of each question (`group`: its `annot_id`), the rationales with the
        right answer in their context. Where the right answer is hidden, an item with the rationales after each of the
        four answers, `ID-rationale-0` to `-3`, which is what the organisers score.

    Raises:
        ValueError: for a broken file, a number of candidates other than four, a tag without a region, an unknown label
            or naming, and metadata that do not fit the question's objects.
    """
    if naming not in get_args(Naming):
        raise ValueError(f"naming is {naming!r}; choose one of {', '.join(get_args(Naming))}")
    name = split_name(file_split or split_in(Path(annotations).name) or split, annotations)
    if name != split_name(split, annotations):
        raise NoSuchSplitError(f"{annotations} has no question of the split {split!r}; it has {name}", present=[name])
    rows = read_json_lines(annotations)
    metadata_folder = metadata if metadata is not None else images
    if metadata_folder is None:
        raise ValueError(f"{annotations}: the boxes of objects lie beside the images: name their folder in metadata")
    for key in ("img_fn", "metadata_fn", "annot_id"):
        text_column(rows, key, annotations)
    listed = {row["img_fn"]: image_id_of(row["img_fn"]) for row in rows}
    listings = [ImageListing(image_id, file, images, name) for file, image_id in listed.items()]
    kept = {image.name: image for image in keep_images(listings, split=name, source=annotations)}
    found = (row for row in rows if row["img_fn"] in kept)
    read = lru_cache(maxsize=1)(read_metadata)  # questions of an image stand next to each other
    return choice_data(
        (
            item
            for row in found
            for item in question_items(
                row, kept[row["img_fn"]], read(Path(metadata_folder, row["metadata_fn"]), polygons), annotations, naming
            )
        ),
        source=annotations,
    )


def image_id_of(file: str) -> str:
    """`lsmdc_1/0.jpg` -> `lsmdc_1/0`, the id of an image."""
    return file.rpartition(".")[0] or file


def read_metadata(path: Path, polygons: bool = False) -> VcrImage:
    """An image's metadata file: `boxes` (x1, y1, x2, y2 in pixels, and a score), `names`, `width`, `height`, `segms`.

    Raises `ValueError` for other layouts, and for boxes that are none.
    """
    content = read_json(path)
    if not isinstance(content, dict) or not {"boxes", "names", "width", "height"} <= content.keys():
        raise ValueError(f"{path} has no boxes, names, width and height; is it the metadata of an image of VCR?")
    names = content["names"]
    try:
        corners = np.array([box[:4] for box in content["boxes"]], dtype=np.float64).reshape(-1, 4)
        size = (int(content["width"]), int(content["height"]))
        if polygons:
            outlines = content["segms"]
            if len(outlines) != len(names):
                raise ValueError(f"{len(outlines)} objects have polygons and {len(names)} names")
            for place, own in enumerate(outlines):
                points = np.array([point for polygon in own for point in polygon], dtype=np.float64).reshape(-1, 2)
                if len(points):
                    corners[place] = [*points.min(axis=0), *points.max(axis=0)]
    except (TypeError, ValueError, KeyError, IndexError) as error:
        raise ValueError(f"{path}: boxes or polygons are not numbers as VCR has them ({error})") from error
    if len(corners) != len(names) or min(size) < 1:
        raise ValueError(f"{path} has {len(corners)} boxes and {len(names)} names of an image of size {size}")
    sides = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
    boxes, usable = clip_boxes(sides, sizes=np.array(size, dtype=np.float64))
    if not usable.all():
        raise ValueError(f"{path}: the box of object {int((~usable).argmax())} is empty or outside of its image")
    return VcrImage(boxes, tuple(map(str, names)), size)


def question_items(
    row: dict[str, Any], image: ImageListing, metadata: VcrImage, source: PathLike, naming: Naming
) -> Iterator[ChoiceItem]:
    """The items of one line of the file."""
    place, group = f"{source}: the question {row['annot_id']!r}", id_text(row["annot_id"])
    objects = column([row], "objects", source)[0]
    if [*objects] != [*metadata.names]:
        raise ValueError(
            f"{place} has {len(objects)} objects, but the metadata of its image {len(metadata.names)} others"
        )
    (question,) = list_column([row], "question", source)
    words = object_words(objects, naming)
    asked = tagged_text(question, words, place)
    given: Any = {"image": image, "group": group, "boxes": metadata.boxes.tolist(), "names": metadata.names}
    candidates = {key: choices_of(row, key, words, place) for key in ("answer_choices", "rationale_choices")}
    right, reason = (label_of(row, key, place) for key in ("answer_label", "rationale_label"))
    answers, reasons = candidates["answer_choices"], candidates["rationale_choices"]
    yield ChoiceItem(f"{group}-answer", kind="answer", context=(asked,), candidates=answers, label=right, **given)
    for number in range(NUM_CHOICES) if right == HIDDEN else (right,):
        name = f"{group}-rationale" + (f"-{number}" if right == HIDDEN else "")
        context = (asked, answers[number])
        yield ChoiceItem(name, kind="rationale", context=context, candidates=reasons, label=reason, **given)


def choices_of(row: Mapping[str, Any], key: str, words: Sequence[str], place: str) -> tuple[ChoiceText, ...]:
    """The four answers or rationales of a question."""
    choices: Any = row.get(key)
    number = len(choices) if isinstance(choices, list) else 0
    if number != NUM_CHOICES:
        raise ValueError(
            f"{place} has {number} {key}, not {NUM_CHOICES}; is the file cut short, or of another data set?"
        )
    return tuple(tagged_text(choice, words, place) for choice in choices)


def label_of(row: Mapping[str, Any], key: str, place: str) -> int:
    """The right candidate, `HIDDEN` in the test set."""
    label = row.get(key)
    if label is None:
        return HIDDEN
    if isinstance(label, bool) or not isinstance(label, int) or not 0 <= label < NUM_CHOICES:
        raise ValueError(f"{place} has the {key} {label!r}, not a number from 0 to {NUM_CHOICES - 1}")
    return label


def object_words(objects: Sequence[str], naming: Naming) -> list[str]:
    """What stands for each object in a text.

    >>> object_words(["person", "cup", "person"], "names"), object_words(["person", "cup", "person"], "tags")
    (['Casey', 'cup', 'Riley'], ['person1', 'cup1', 'person2'])
    """
    words, seen = [], dict.fromkeys(objects, 0)
    for name in objects:
        number = seen[name]
        seen[name] += 1
        if naming == "tags":
            words.append(f"{name}{number + 1}")
        else:
            person = naming == "names" and name == "person"
            words.append(PERSON_NAMES[number % len(PERSON_NAMES)] if person else name)
    return words


def tagged_text(tokens: Sequence[Token], words: Sequence[str], place: str) -> ChoiceText:
    """Words and tags as VCR has them -> a text whose names carry their objects; place: where it stands, for errors.

    >>> tagged_text(["Why", "do", [0, 1], "smile", "?"], ["Casey", "Riley"], "here").text
    'Why do Casey and Riley smile?'
    """
    if not isinstance(tokens, list) or not tokens:
        raise ValueError(f"{place} has a text that is no list of words and tags: {tokens!r:.60}")
    text, links = "", []
    for token in tokens:
        if isinstance(token, str):
            tight = not text or TIGHT_BEFORE.match(token) or text.endswith(TIGHT_AFTER)
            text += token if tight else f" {token}"
            continue
        if not isinstance(token, list) or not token or not all(type(number) is int for number in token):
            raise ValueError(
                f"{place} has {token!r:.60} among its words, which is neither a word nor numbers of objects"
            )
        for count, number in enumerate(token):
            if not 0 <= number < len(words):
                raise ValueError(
                    f"{place} has a tag of object {number}, but its image has {len(words)} objects: a tag needs a "
                    "region"
                )
            before = " and " if count else " " if text and not text.endswith(TIGHT_AFTER) else ""
            text += before + words[number]
            links.append(RegionLink(len(text) - len(words[number]), len(text), (number,)))
    return ChoiceText(text, tuple(links))
