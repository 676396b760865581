"""POPE's yes/no questions on whether an object is in an image (Li et al. 2023): made of boxes, or official files.

    boxes of a detection format --pope_questions--> questions of three samplings --read_pope_questions--> VQA rows
    official JSON lines --read_pope--> VQA rows

Every object that is there is asked of beside one that is not: a random one, the most frequent one ("popular"), or the
one that most often stands beside the object just asked of ("adversarial"). The kind is the row's `question_type`.
"""

import json
import random
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import datasets
import pyarrow as pa
import pyarrow.compute as pc

from training.data.boxes.formats import load_detection
from training.data.files import PathLike, id_text, read_json_lines
from training.data.questions.rows import (
    COCO_NAME,
    as_paths,
    field,
    id_field,
    joined,
    official_image_paths,
    question_table,
    vqa_dataset,
    vqa_split,
    with_images,
)

SAMPLINGS = ("random", "popular", "adversarial")
TEMPLATE = "Is there a {} in the image?"
ASKED = re.compile(r"^is there an? (?P<object>.+?)(?: in the iman?ge)?\s*\?*$", flags=re.IGNORECASE)
VOWELS = frozenset("aeiou")


class PopeQuestion(NamedTuple):
    """One question: `number` from 1 within its sampling, the image's id, and whether the object is there."""

    number: int
    image: str
    question: str
    label: str
    object: str


def read_pope(
    questions: PathLike | Sequence[PathLike],
    *,
    images: PathLike | None = None,
    split: str | None = None,
    file_split: str = "test",
) -> datasets.Dataset:
    """POPE's official files: a JSON object a line, `{"question_id", "image", "text", "label": "yes" or "no"}`.

    Args:
        questions: one file, such as `coco_pope_popular.json`, or those of several samplings. The sampling is the one
            that the file's name speaks of.
        images: folder of the images; COCO's are found by their names of any edition.
        split: keep only this split.
        file_split: the split of every question; POPE has no other than its test.

    Returns:
        Rows with `question_id` as in the file (before it the sampling, where there are several files), COCO's number
        or the file's name without its ending as `image_id`, the sampling as `question_type`, and `{"object": ...}` as
        `details` where the question asks "Is there a ...".

    Raises:
        ValueError: for a file that is no such file, naming the line.
    """
    paths, rows = as_paths(questions), []
    for path in paths:
        sampling = next((name for name in SAMPLINGS if name in Path(path).stem), "")
        for number, record in enumerate(read_json_lines(path), start=1):
            place = f"{path}: line {number}"
            name = id_field(record, "image", place=place)
            label = field(record, "label", place=place)
            if label not in ("yes", "no"):
                raise ValueError(f"{place}: the label is {label!r:.40}; it is yes or no")
            own = id_field(record, "question_id", place=place)
            coco, asked = COCO_NAME.fullmatch(name), field(record, "text", place=place)
            rows.append(
                {
                    "question_id": f"{sampling or Path(path).stem}-{own}" if len(paths) > 1 else own,
                    "image_id": id_text(int(coco[1])) if coco else Path(name).stem,
                    "name": name,
                    "question": asked,
                    "details": _details(asked),
                    **_answer_columns(label, sampling=sampling, split=vqa_split(file_split, path)),
                }
            )
    chunks = [{name: [row[name] for row in rows] for name in rows[0]}] if rows else []
    return vqa_dataset(chunks, images=images, split=split, source=joined(paths), find_images=official_image_paths)


def read_pope_questions(
    boxes: Mapping[str, Any],
    *,
    images: PathLike | None = None,
    split: str | None = None,
    sampling: str | Collection[str] = SAMPLINGS,
    seed: int = 0,
    num_images: int = 0,
    objects_per_image: int = 3,
) -> datasets.Dataset:
    """POPE's questions made of the boxes of a detection data set.

    Args:
        boxes: the `data` section of a detection recipe, `{"format": "coco", "annotations": ...}`.
        images: the image folder, where `boxes` names none.
        split: keep only the images of this split, before anything is counted or drawn.
        sampling: `random`, `popular`, `adversarial`, or a list of them; the same images are asked of in each.
        seed, num_images, objects_per_image: as of `pope_questions`; 0 images are all that have enough objects.

    Returns:
        Rows with `random-1`, ... as `question_id`, the sampling as `question_type` and `{"object": ...}` as `details`.
        Objects are asked of in the order of their first boxes.

    Raises:
        ValueError: as `load_detection` and `pope_questions`, and for a sampling that there is not.
    """
    wanted = [sampling] if isinstance(sampling, str) else list(sampling)
    unknown = [name for name in wanted if name not in SAMPLINGS]
    if unknown or not wanted:
        raise ValueError(f"sampling is {sampling!r}: choose of {', '.join(SAMPLINGS)}")
    options = {**({"images": images} if images is not None else {}), **boxes}
    data = load_detection(**(options if split is None else {**options, "split": split}))
    ids, splits = data.rows["image_id"][:], data.rows["split"][:]
    objects = {
        image_id: list(dict.fromkeys(data.object_names[number - 1] for number in numbers))
        for image_id, numbers in zip(ids, data.rows["object_ids"][:], strict=True)
    }
    made = pope_questions(objects, num_images=num_images, objects_per_image=objects_per_image, seed=seed)
    place = {image_id: number for number, image_id in enumerate(ids)}
    rows = [
        {
            "question_id": f"{name}-{asked.number}",
            "image_id": asked.image,
            "name": str(place[asked.image]),
            "question": asked.question,
            "details": json.dumps({"object": asked.object}),
            **_answer_columns(asked.label, sampling=name, split=splits[place[asked.image]]),
        }
        for name in wanted
        for asked in made[name]
    ]
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    table = question_table([columns], split=None, source="the questions made of boxes")
    stored = data.rows.cast_column("image", datasets.Image(decode=False)).with_format("arrow")["image"][:]
    return with_images(table, stored.take(pc.cast(table["name"], pa.int64())))


def pope_questions(
    objects: Mapping[str, Sequence[str]],
    *,
    num_images: int = 0,
    objects_per_image: int = 3,
    seed: int = 0,
    template: str = TEMPLATE,
    article: Literal["corrected", "official"] = "corrected",
) -> dict[str, list[PopeQuestion]]:
    """The questions of each sampling, equal to AoiDragon/POPE's for the same objects, seed and template.

    Args:
        objects: image -> the names of what is in it, each once; the first `objects_per_image` are asked of.
        num_images: so many are drawn of those with as many objects; 0 takes all, in their order.
        objects_per_image: as many are asked of that are not there.
        seed: of Python's generator, which draws the images and then the samplings' objects, in one sequence.
        template: with `{}` for the object.
        article: before a vowel `corrected` turns the "a" before the object into "an"; `official` turns every letter a
            of the template into "an" ("Is there an apple in the imange?"), as the code, but no published file, has it.

    Returns:
        sampling -> 2 x `objects_per_image` questions an image, yes and no in turn.

    Raises:
        ValueError: where fewer images have enough objects than are to be drawn, and where no object is left that is
            not in an image (the script would never end).
    """
    if objects_per_image < 1 or num_images < 0 or "{}" not in template:
        raise ValueError(
            f"objects_per_image is {objects_per_image}, num_images {num_images} and template {template!r}: give at "
            "least 1, at least 0, and a template with {}"
        )
    fitting = [image for image, names in objects.items() if len(names) >= objects_per_image]
    if len(fitting) < max(num_images, 1):
        raise ValueError(
            f"{len(fitting)} images have {objects_per_image} objects or more, and {max(num_images, 1)} are to be asked "
            "of: lower objects_per_image or num_images"
        )
    draw = random.Random(seed)
    chosen = draw.sample(fitting, num_images) if num_images else fitting
    sampler = _Sampler({image: list(objects[image]) for image in chosen}, draw=draw)
    found: dict[str, list[PopeQuestion]] = {}
    for sampling in SAMPLINGS:
        asked = [one for image in chosen for one in sampler.asked(image, sampling, number=objects_per_image)]
        found[sampling] = [
            PopeQuestion(place, image, question_text(name, template=template, article=article), label, name)
            for place, (image, name, label) in enumerate(asked, start=1)
        ]
    return found


def question_text(name: str, *, template: str = TEMPLATE, article: str = "corrected") -> str:
    """The question after an object.

    >>> question_text("apple"), question_text("apple", article="official")
    ('Is there an apple in the image?', 'Is there an apple in the imange?')
    """
    if name[:1] in VOWELS:
        official = template.replace("a", "an")
        template = official if article == "official" else re.sub(r"\b([Aa])(?= \{\})", r"\1n", template)
    return template.format(name)


def asked_object(details: str, question: str) -> str:
    """The object a question asks of, from the row's `details` or its wording; "" where neither tells.

    >>> asked_object("", "Is there an apple in the image?"), asked_object("", "What is it?")
    ('apple', '')
    """
    if details:
        return str(json.loads(details).get("object", ""))
    match = ASKED.match(question.strip())
    return match["object"].lower() if match else ""


class _Sampler:
    """Draws what is asked of: frequencies and neighbours of objects, counted over the images that are asked of."""

    def __init__(self, objects: Mapping[str, Sequence[str]], *, draw: random.Random) -> None:
        self.objects, self.draw = objects, draw
        counts = Counter(name for names in objects.values() for name in names)
        beside: dict[str, Counter[str]] = defaultdict(Counter)
        for names in objects.values():
            for name in names:
                beside[name].update(other for other in names if other != name)
        self.names = list(counts)
        self.popular = [name for name, _ in counts.most_common()]
        self.beside = {name: [other for other, _ in near.most_common()] for name, near in beside.items()}

    def asked(self, image: str, sampling: str, *, number: int) -> list[tuple[str, str, str]]:
        """(image, object, label) of one image's questions."""
        found, taken = [], {*self.objects[image]}
        for name in self.objects[image][:number]:
            absent = self._absent(name, taken, sampling=sampling)
            taken.add(absent)
            found += [(image, name, "yes"), (image, absent, "no")]
        return found

    def _absent(self, name: str, taken: Collection[str], *, sampling: str) -> str:
        """An object that is not taken, by the sampling; a random one where its list is used up."""
        order = {"popular": self.popular, "adversarial": self.beside.get(name, [])}.get(sampling, [])
        best = next((other for other in order if other not in taken), None)
        if best is not None:
            return best
        if len(taken) >= len(self.names):
            raise ValueError(
                f"an image shows all {len(self.names)} objects, or was asked of the others already: give more images, "
                "or ask of fewer objects_per_image"
            )
        while (other := self.draw.choice(self.names)) in taken:
            pass
        return other


def _details(question: Any) -> str:
    match = ASKED.match(question.strip()) if isinstance(question, str) else None
    return json.dumps({"object": match["object"].lower()}) if match else ""


def _answer_columns(label: str, *, sampling: str, split: str) -> dict[str, Any]:
    return {
        "answers": [label],
        "answer": label,
        "question_type": sampling,
        "answer_type": "yes/no",
        "split": split,
    }
