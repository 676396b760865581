"""What the tasks on questions share: formats, the rows of a recipe, which answers there are, what is learnt of them.

recipe's data --question_rows--> rows --listed_answers--> AnswerVocabulary --answer_targets--> soft scores
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from datasets import Dataset, concatenate_datasets
from transformers import AutoConfig

from training.data.clips.task_rows import QUESTIONS as CLIP_QUESTIONS
from training.data.clips.travelling_rows import read_travelling_questions
from training.data.mirroring import tell_sides
from training.data.questions.answer_vocabulary import AnswerVocabulary, build_answers, read_answers
from training.data.questions.answers import answer_lists, learned_answers
from training.data.questions.formats import VQA_FORMATS, load_vqa
from training.data.questions.from_captions import read_caption_questions
from training.metrics.vqa.soft_targets import SoftTargets, soft_targets
from training.saved_models import saved_class
from training.scenes.moving_rows import read_moving_questions
from training.scenes.questions import read_scene_questions
from training.tasks.build import load_by_split
from training.tasks.captions import FORMATS as CAPTION_FORMATS
from training.tasks.vqa_recipe import ListedAnswersRecipe

FORMATS: dict[str, Callable[..., Dataset]] = {
    **VQA_FORMATS,
    "captions": partial(read_caption_questions, caption_formats=CAPTION_FORMATS),
    "scenes": read_scene_questions,
    "moving_scenes": read_moving_questions,
    "travelling": read_travelling_questions,
    **CLIP_QUESTIONS,
}
OF_CLIPS = ("answers", "reference_answers", "clips")
BY_SPLIT = ("questions", "annotations", "pairs", "table", "images", "folder", "num_scenes", *OF_CLIPS)


@dataclass
class Questions:
    """Questions about prepared images: their rows, one row an image, and each question's image (Q,)."""

    rows: Dataset
    images: Dataset
    image_of: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)


def question_rows(data: Mapping[str, Any], *, split: str, images: bool = True) -> Dataset:
    """The rows of a recipe's `data` section, whose options `BY_SPLIT` may be mappings by split.

    The splits of `train+val` may lie in different files. Without `images` their folder, or that of clips, need not be
    there.
    """
    if not images:
        data = without_folders(data)
        if "parts" in data:
            data["parts"] = [without_folders(part) for part in data["parts"]]
    apart = any(isinstance(data.get(name), dict) and split not in data[name] for name in BY_SPLIT)
    words = split.split("+") if apart else [split]
    load = partial(load_vqa, formats=FORMATS)
    return concatenate_datasets([load_by_split(load, data, split=word, names=BY_SPLIT) for word in words])


def without_folders(data: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a data set without the folder of its images or clips.

    >>> without_folders({"format": "vqa_v2", "images": "coco/"})
    {'format': 'vqa_v2', 'images': None}
    """
    return {name: None if name in ("images", "clips") else value for name, value in data.items()}


def mentions_sides(questions: Questions) -> np.ndarray:
    """Which questions (Q,) tell left from right, in question, answer or choices; mirrored images make them wrong."""
    rows = questions.rows
    texts = zip(rows["question"][:], rows["answer"][:], rows["answers"][:], rows["choices"][:], strict=True)
    return tell_sides([asked, answer, *more, *choices] for asked, answer, more, choices in texts)


def listed_answers(rows: Dataset, settings: ListedAnswersRecipe) -> AnswerVocabulary:
    """The answers of the recipe's file, or the common ones of the training questions.

    Raises `ValueError` as `read_answers` and `build_answers` do.
    """
    if settings.file:
        return read_answers(settings.file)
    found = build_answers(
        rows, min_count=settings.min_count or None, top=settings.top or None, spelling=settings.spelling
    )
    return AnswerVocabulary([answer.replace("_", " ") for answer in found.answers], counts=found.counts)


def answer_targets(rows: Dataset, vocabulary: AnswerVocabulary, *, form: str) -> SoftTargets:
    """What each question is trained towards over the vocabulary; form: the recipe's `scores`."""
    if form != "single":
        return soft_targets(answer_lists(rows), vocabulary, form=form)  # type: ignore[arg-type]
    numbers, texts = learned_answers(rows)
    return soft_targets([[texts[number]] if number >= 0 else [] for number in numbers.tolist()], vocabulary)


def answer_bias(rows: Dataset, answers: AnswerVocabulary) -> torch.Tensor:
    """Each answer's log-odds among the training questions (A,), which the output layer starts from."""
    numbers, texts = learned_answers(rows)
    ids = answers.ids_of(texts)[numbers[numbers >= 0]]
    counts = np.bincount(ids[ids >= 0], minlength=len(answers)) + 0.5
    return torch.from_numpy(counts / (len(numbers) + 1)).float().logit()


def saved_answers(folder: str) -> list[str]:
    """The answers that a saved fusion model has learnt, one a column; none where it has no head for them."""
    kind = saved_class(folder)
    if kind not in ("UpDownFusionForPreTraining", "UpDownFusionForVisualQuestionAnswering"):
        return []
    config = AutoConfig.from_pretrained(folder)
    learnt = kind != "UpDownFusionForPreTraining" or config.weight("qa")
    return list(config.id2label.values()) if learnt else []


@torch.no_grad()
def take_answers(model: Any, answers: AnswerVocabulary, *, known: Sequence[str], bias: torch.Tensor) -> int:
    """Give a fusion model the answers of a list; those that it has learnt keep their weights.

    Args:
        model: with the head of answers (`build_answers`), changed in place.
        answers: its answers from now on; normalised, they are compared with the known ones.
        known: what its columns have learnt; none where they are new.
        bias: (A,) what answers that are not among the known ones start from.

    Returns:
        How many of the answers are known. Where both lists are the same, nothing is changed.
    """
    if not known:
        model.answers.bias.copy_(bias)
        return 0
    if [*known] == [*answers.answers]:
        return len(known)
    columns = torch.from_numpy(AnswerVocabulary([*known]).ids_of(answers.answers))  # (A,)
    own, kept = model.answers, columns >= 0
    new = torch.nn.Linear(own.in_features, len(answers), device=own.weight.device, dtype=own.weight.dtype)
    torch.nn.init.normal_(new.weight, std=model.config.initializer_range)
    new.bias.copy_(bias)
    new.weight[kept], new.bias[kept] = own.weight[columns[kept]], own.bias[columns[kept]]
    model.answers = new
    model.config.id2label = dict(enumerate(answers.answers))
    return int(kept.sum())
