"""Recipes under the names their keys had before: they read as those of today, and a name twice is refused."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from training.recipe import Recipe, read_recipe
from training.recipe_names import OLD_KEYS, changed_name, with_new_names

OLD: dict[str, Any] = {
    "task": "vqa",
    "output": "runs/a",
    "data": {
        "format": "mixture",
        "parts": [{"format": "captions", "photo_ids": "coco", "per_photo": 3}, {"format": "x", "photos": "list.txt"}],
    },
    "train": {
        "questions_per_photo": 8,
        "captions_per_photo": 2,
        "samples_per_photo": 4,
        "photo_size": 32,
        "withhold": "photo",
    },
    "evaluate": {"max_photos": 7},
}

VQA = {
    "task": "vqa",
    "output": "runs/a",
    "data": {"format": "scenes"},
    "train": {"questions_per_photo": 8, "withhold": "photo"},
    "evaluate": {"max_images": 7},
}


def read(folder: Path, content: dict[str, Any], *changes: str) -> Recipe:
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(content))
    return read_recipe(path, list(changes))


def test_every_old_name_is_read() -> None:
    with pytest.warns(FutureWarning) as told:
        content = with_new_names(OLD)
    assert content["train"] == {
        "questions_per_image": 8,
        "captions_per_image": 2,
        "samples_per_image": 4,
        "image_size": 32,
        "withhold": "image",
    }
    assert content["evaluate"] == {"max_images": 7}
    assert content["data"]["parts"] == [
        {"format": "captions", "image_ids": "coco", "per_image": 3},
        {"format": "x", "image_list": "list.txt"},
    ]
    messages = {str(one.message) for one in told if one.category is FutureWarning}
    names = {
        f"{section}.{old} is now called {section}.{now}"
        for section in OLD_KEYS
        for old, now in OLD_KEYS[section].items()
    }
    assert messages == names | {"train.withhold=photo is now called train.withhold=image"}


def test_changes_may_use_either_name(tmp_path: Path) -> None:
    changes = ("train.questions_per_photo=64", "train.withhold=photo", "data.per_photo=5", "evaluate.max_images=1")
    with pytest.warns(FutureWarning, match="train.questions_per_photo is now called train.questions_per_image"):
        recipe = read(tmp_path, VQA, *changes)
    assert (recipe.train.questions_per_image, recipe.train.withhold, recipe.evaluate.max_images) == (64, "image", 1)
    assert recipe.data == {"format": "scenes", "per_image": 5}


def test_a_base_may_use_the_other_name(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(VQA))
    with pytest.warns(FutureWarning):
        recipe = read(tmp_path, {"base": "base.yaml", "train": {"withhold": ""}, "evaluate": {"max_photos": 3}})
    assert (recipe.train.questions_per_image, recipe.train.withhold, recipe.evaluate.max_images) == (8, "", 3)


@pytest.mark.parametrize(
    ("section", "content"),
    [
        ("train", {"photo_size": 1, "image_size": 1}),
        ("data", {"format": "a", "parts": [{"photo_ids": 1, "image_ids": 1}]}),
    ],
)
def test_both_names_are_an_error(tmp_path: Path, section: str, content: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=rf"recipe.yaml: {section}\.photo_\w+ is the earlier name of {section}.image_"):
        read(tmp_path, {"task": "vqa", "output": "runs/a", "data": {"format": "a"}, section: content})


def test_names_of_today_pass_in_silence(recwarn: pytest.WarningsRecorder) -> None:
    content = {"task": "vqa", "model": {"photo_size": 3}, "train": {"image_size": 3, "withhold": "question"}}
    assert with_new_names(content) == content and changed_name("model.photo_size=3") == "model.photo_size=3"
    assert changed_name("train.image_size=photo") == "train.image_size=photo" and not recwarn.list
