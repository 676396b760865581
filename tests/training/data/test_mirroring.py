"""No task mirrors an image whose texts tell left from right."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.training.tiny_run import new_accelerator, tiny_detection_recipe, tiny_recipe, tiny_retrieval_recipe
from training.recipe_sections import Recipe
from training.tasks import build_task

EPOCHS = 9


def prepared(recipe: Recipe) -> Any:
    recipe.regions.flips = True
    task: Any = build_task(recipe, new_accelerator())
    task.prepare()
    return task


@pytest.mark.parametrize("recipe_of", [tiny_recipe, tiny_retrieval_recipe])
def test_captions_of_left_and_right_keep_their_image(tmp_path: Path, recipe_of: Callable[[Path], Recipe]) -> None:
    task = prepared(recipe_of(tmp_path))
    told = [any(" left " in f" {text} " or " right " in f" {text} " for text in row) for row in
            task.train_rows["captions"]]  # fmt: skip
    assert task.sided.tolist() == told and 3 < sum(told) < len(told) - 3
    store, ids = task.images.stores[False], task.train_rows["image_id"][:]
    plain = store.batch(ids, dtype=torch.float32)["region_features"]
    places = np.arange(len(ids))
    seen = torch.stack([task.inputs(places, epoch=epoch)["region_features"] for epoch in range(EPOCHS)])
    mirrored = (seen != plain).flatten(2).any(dim=2).any(dim=0).numpy()
    assert not mirrored[task.sided].any()
    assert mirrored[~task.sided].all()


def test_names_of_left_and_right_keep_their_image(tmp_path: Path) -> None:
    recipe = tiny_detection_recipe(tmp_path)
    recipe.regions.crops = 1.0
    task = prepared(recipe)
    assert not task.sided.any()
    task.sided[0] = True
    for image in (0, 1):
        boxes = [task.drawn_image(image, np.random.default_rng(seed))[1]["boxes"].tolist() for seed in range(EPOCHS)]
        assert len({str(each) for each in boxes}) == (1 if image == 0 else 2)
    data = task.read("train")
    data.object_names[0] = "left " + data.object_names[0]
    task.read = lambda split: data
    task.check_labels = lambda *_: None
    task.prepare()
    assert task.sided.tolist() == [1 in ids for ids in data.rows["object_ids"]] and task.sided.any()
