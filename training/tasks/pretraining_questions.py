"""Questions that pretraining asks about its images (objective `qa`), joined to them by image id.

    recipe's questions.data --TrainingQuestions--> questions of each training image, drawn by (seed, epoch, image)
                            --questions_about--> those of a split's images, all of them asked at an evaluation

Formats, answers and soft scores are those of question answering (`questions.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from datasets import Dataset

from training.console import did_you_mean
from training.metrics.vqa.scores import question_items, question_scores, scored_format
from training.recipe_sections import key
from training.regions.stored_images import find_name, names_by_stem
from training.tasks import vqa_recipe
from training.tasks.questions import (
    FORMATS,
    Questions,
    answer_bias,
    answer_targets,
    listed_answers,
    mentions_sides,
    question_rows,
)
from training.tasks.vqa_recipe import ListedAnswersRecipe

ACCURACY = "qa_accuracy"
DRAW = 1  # tells the draw of an image's questions from those of its captions


@dataclass
class QuestionsRecipe(ListedAnswersRecipe):
    """Which questions pretraining asks about its images, where `model.objectives` name `qa`.

    data: `format` and the options of that format, as the `data` of the task `vqa` has them; a question belongs to the
        image of the same id (with or without a file's suffix), and those about other images are left out. No image
        folder is needed.
    per_image: how many questions of an image a step learns, drawn where it has more.
    file, min_count, top, spelling, scores: the answers, as in `answers` of the task `vqa`; they are listed from the
        questions about the training images.
    """

    min_count: int = key(0, lowest=0, beside={"questions.file": ("",)})
    top: int = key(0, lowest=0, beside={"questions.file": ("",)})
    spelling: Literal["normalized", "as_written"] = key("normalized", beside={"questions.file": ("",)})
    data: dict[str, Any] = field(default_factory=dict)
    per_image: int = key(1, lowest=1)


class TrainingQuestions:
    """The questions about the images of training that have an answer in the list.

    rows: one row a question, Q; image_ids (Q,): the image of each, by its id among the captions'; vocabulary: the list
    of A answers; targets: the soft scores of each question; bias (A,): what new answers start from; of_image: image id
    -> the questions about it.
    """

    def __init__(self, settings: QuestionsRecipe, images: Dataset, *, split: str):
        """Raises `ValueError` where no question is about one of the `images`, or none has an answer in the list."""
        try:
            asked = question_rows(settings.data, split=split, images=False)
            found = questions_about(asked, images)
        except ValueError as error:
            raise ValueError(f"questions.data: {error}") from error
        joined, names = found.rows, np.array(images["image_id"][:])[found.image_of]
        if not len(joined):
            raise ValueError(
                f"none of the {len(asked)} questions of questions.data, such as one about image "
                f"{asked['image_id'][0]!r}, is about one of the {len(images)} images of train.split {split!r}, such as "
                f"{images['image_id'][0]!r}: name the questions of these images, whose ids are the same"
            )
        try:
            self.vocabulary = listed_answers(joined, settings)
        except ValueError as error:
            raise ValueError(f"questions: {error}") from error
        answered = np.flatnonzero(answer_targets(joined, self.vocabulary, form=settings.scores).best_scores() > 0)
        if not len(answered):
            raise ValueError(
                f"none of the {len(joined)} questions about the training images has an answer of the list: name a list "
                "that fits them in questions.file, or leave it out and set questions.min_count"
            )
        self.bias = answer_bias(joined, self.vocabulary)
        self.rows = joined.select(answered)
        self.targets = answer_targets(self.rows, self.vocabulary, form=settings.scores)
        self.left_out = {
            "about other images": len(asked) - len(joined),
            "without a listed answer": len(joined) - len(answered),
        }
        self.image_ids = names[answered]
        self.of_image = questions_of_images(self.image_ids)

    def __len__(self) -> int:
        return len(self.rows)

    def drawn(self, image_id: str, *, most: int, seeds: Sequence[int]) -> np.ndarray:
        """At most so many of the questions about an image; seeds: seed, epoch and number of the image."""
        own = self.of_image.get(image_id, np.zeros(0, dtype=np.int64))
        return np.random.default_rng([*seeds, DRAW]).permutation(own)[:most]

    def sided_images(self) -> set[str]:
        """The images one of whose questions tells left from right, so that none of them may be mirrored."""
        sided = mentions_sides(Questions(self.rows, self.rows, np.arange(len(self.rows))))
        return set(self.image_ids[sided].tolist())

    def told(self, image_ids: Sequence[str], *, split: str) -> str:
        """How many questions and images have found each other; `ValueError` where no image has a question.

        image_ids: those of training that have regions.
        """
        asked = [len(self.of_image[name]) for name in dict.fromkeys(image_ids) if name in self.of_image]
        images = len({*image_ids})
        if not asked:
            raise ValueError(
                f"none of the {images} images of train.split {split!r} that have regions has a question of "
                "questions.data: name the questions of these images, or a store that holds the others"
            )
        left_out = ", ".join(f"{number:,} {why}" for why, number in self.left_out.items())
        return (
            f"{sum(asked):,} questions about {len(asked):,} of the {images:,} images of {split}, of which "
            f"{images - len(asked):,} have none; {len(self.vocabulary):,} answers; left out: {left_out}"
        )


def questions_about(rows: Dataset, images: Dataset) -> Questions:
    """The questions about these images, by `image_id`; those about others are left out.

    Ids match as those of region stores do: `6` is `6.jpg`. Raises `ValueError` for one that matches several images.
    """
    place = {image_id: number for number, image_id in enumerate(images["image_id"][:])}
    asked, by_stem = rows["image_id"][:], names_by_stem(place)
    where: Any = {"place": "the data of the captions", "cure": "give the images of questions and captions the same ids"}
    found = {name: find_name(name, place, by_stem=by_stem, **where) for name in dict.fromkeys(asked)}
    image_of = np.array([place.get(found[name] or "", -1) for name in asked], dtype=np.int64)
    kept = np.flatnonzero(image_of >= 0)
    return Questions(rows.select(kept), images, image_of[kept])


def questions_of_images(image_ids: np.ndarray) -> dict[str, np.ndarray]:
    """The image of each question (Q,) -> image id -> the numbers of its questions, in their order.

    >>> {name: numbers.tolist() for name, numbers in questions_of_images(np.array(["7", "9", "7"])).items()}
    {'7': [0, 2], '9': [1]}
    """
    names, image_of = np.unique(image_ids, return_inverse=True)
    order = np.argsort(image_of, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(image_of[order])) + 1)
    return dict(zip(names.tolist(), groups, strict=True))


def answer_accuracy(
    answers: Sequence[str], rows: Dataset, *, settings: QuestionsRecipe, split: str
) -> tuple[dict[str, float], dict[str, Any]]:
    """The accuracy of an answer a row, as the data set's own evaluation has it, 0..1 and x100, and what each scored.

    Nothing where all answers of the split are hidden, or none is scored by an accuracy.
    """
    format = scored_format(settings.data, split)
    found, _, _ = question_scores(answers, rows, format=format, targets=settings.scores)
    accuracy = found.get("accuracy", np.nan)
    if np.isnan(accuracy):
        return {}, {}
    items = question_items(answers, rows, choices=(), metrics=found, format=format)
    figures = {ACCURACY: accuracy, f"{ACCURACY}_x100": 100 * accuracy}
    return figures, {ACCURACY: items["accuracy"]} if "accuracy" in items else {}


def check_questions(recipe: Any) -> None:
    """`ValueError` for a recipe that learns `qa` without questions, of an unknown format, or from crops."""
    format = recipe.questions.data.get("format", "")
    if not format:
        raise ValueError(
            "model.objectives names qa, but questions.data has no format: name questions as the data of the task vqa "
            "has them, or leave qa out"
        )
    if format not in FORMATS:
        fault = f"questions.data.format is {format!r}; it can be {', '.join(FORMATS)}"
        raise ValueError(fault + did_you_mean(format, FORMATS))
    vqa_recipe.check_recipe(recipe)
