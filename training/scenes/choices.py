"""The drawn scenes as rows of multiple choice, by what is asked: questions with rationales, or dialogues."""

from collections.abc import Callable
from typing import Any

from training.data.choices.rows import ChoiceData
from training.scenes.commonsense import read_scene_commonsense
from training.scenes.dialogues import read_scene_dialogues

ASKS: dict[str, Callable[..., ChoiceData]] = {"commonsense": read_scene_commonsense, "dialogues": read_scene_dialogues}


def read_scene_choices(
    num_scenes: int, *, asks: str = "commonsense", seed: int = 0, image_size: int = 128, split: str = "train"
) -> ChoiceData:
    """`read_scene_commonsense` or `read_scene_dialogues`, as `asks` says (`commonsense`, `dialogues`).

    The other arguments, and what is raised, are theirs; `ValueError` for another value of `asks` too.
    """
    if asks not in ASKS:
        raise ValueError(f"asks is {asks!r}; choose one of {', '.join(ASKS)}")
    options: Any = {"seed": seed, "image_size": image_size, "split": split}
    return ASKS[asks](num_scenes, **options)
