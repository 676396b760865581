"""What the tasks of top-down models share: models by folder, and splits that are checked before the first epoch."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from modeling_updown import UpDownGrid, UpDownGridConfig, UpDownImageProcessor
from tests.tiny import save_tiny_captioner, save_tiny_vqa
from tests.training.tiny_run import new_accelerator, tiny_recipe, tiny_vqa_recipe
from training.recipe_sections import Recipe, RegionsRecipe
from training.tasks import build_task
from training.tasks.build import change_region_source
from training.tasks.top_down import TopDownTask

SAVED = {"captioning": save_tiny_captioner, "vqa": save_tiny_vqa}
RECIPES = {"captioning": tiny_recipe, "vqa": tiny_vqa_recipe}


def task_of(recipe: Recipe) -> Any:
    return build_task(recipe, new_accelerator())


@pytest.mark.parametrize("word", SAVED)
def test_a_saved_model_is_loaded_and_saved_as_it_is(tmp_path: Path, word: str) -> None:
    first = SAVED[word](tmp_path / "first")
    task = task_of(RECIPES[word](tmp_path))
    model, processor = task.load(first)
    assert task.processor is processor and {weight.dtype for weight in model.parameters()} == {torch.float32}
    assert task.images.source is model.region_source and task.images.image_processor is processor.image_processor
    task.save(model, tmp_path / "second")
    again, _ = task.load(tmp_path / "second")
    assert all(torch.equal(weight, again.state_dict()[name]) for name, weight in model.state_dict().items())
    assert {path.name for path in first.iterdir()} == {path.name for path in (tmp_path / "second").iterdir()}


def test_a_halved_model_is_loaded_in_full_precision(tmp_path: Path) -> None:
    model, _ = task_of(tiny_vqa_recipe(tmp_path)).load(save_tiny_vqa(tmp_path / "first"))
    model.half().save_pretrained(tmp_path / "first")
    loaded, _ = task_of(tiny_vqa_recipe(tmp_path)).load(tmp_path / "first")
    assert {weight.dtype for weight in loaded.parameters()} == {torch.float32}


def test_what_is_no_model_is_named(tmp_path: Path) -> None:
    task = task_of(tiny_vqa_recipe(tmp_path))
    for name in (str(tmp_path / "none"), "./none", "~/none", "one/two/three"):
        with pytest.raises(ValueError, match=f"there is no model folder {name}: train the recipe that writes it first"):
            task.load(name)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=f"no model can be loaded: {tmp_path / 'empty'} holds no config.json: give"):
        task.load(tmp_path / "empty")
    folder = save_tiny_vqa(tmp_path / "cut")
    weights = folder / "model.safetensors"
    weights.unlink()
    with pytest.raises(ValueError, match=f"no model can be loaded from {folder}: "):
        task.load(folder)


def test_a_model_that_starts_a_run_takes_the_recipes_dropout_alone(tmp_path: Path) -> None:
    folder = str(save_tiny_vqa(tmp_path / "first"))
    recipe = tiny_vqa_recipe(tmp_path, model={"question_dropout": 0.4, "hidden_size": 16})
    recipe.regions.source = {"trainable_stages": 1, "backbone": "test_resnet"}
    model = task_of(recipe).start_from(folder)
    assert (model.config.question_dropout, model.region_source.config.trainable_stages) == (0.4, 1)
    recipe.regions.source = {"grid_size": 7}
    with pytest.raises(ValueError, match="regions.source: grid_size is 7, but the model of init_from has 3: leave it"):
        task_of(recipe).start_from(folder)


def test_a_run_may_see_larger_images_than_the_model_it_starts_from(tmp_path: Path) -> None:
    """A convolutional grid's images, in its config and in its image processor; what is saved has them too."""
    folder = str(save_tiny_vqa(tmp_path / "first"))
    recipe = tiny_vqa_recipe(tmp_path, model={})
    recipe.regions.source, recipe.regions.processor = {"image_size": 96}, {"image_mean": [0.1, 0.2, 0.3]}
    task = task_of(recipe)
    model = task.start_from(folder)
    task.save(model, tmp_path / "larger")
    again, processor = task.load(tmp_path / "larger")
    assert again.region_source.config.image_size == again.config.vision_config.image_size == 96
    assert processor.image_processor.image_mean == (0.1, 0.2, 0.3)
    image = np.zeros((50, 70, 3), dtype=np.uint8)
    assert processor.image_processor(image, return_tensors="pt")["pixel_values"].shape == (1, 3, 96, 96)
    recipe.regions.processor = {"colour": 1}
    with pytest.raises(ValueError, match="unknown key 'colour' in regions.processor"):
        task_of(recipe).start_from(folder)


def test_a_transformers_grid_keeps_its_images_size() -> None:
    """A ViT's positions are weights."""
    grid = UpDownGrid(UpDownGridConfig(backbone="test_vit", image_size=64, grid_size=4, region_feature_size=64))
    recipe = RegionsRecipe(source={"image_size": 96})
    with pytest.raises(ValueError, match="image_size is 96, but the model of init_from has 64: leave it out"):
        change_region_source(grid, UpDownImageProcessor(), recipe)


def test_both_splits_are_checked_before_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = tiny_vqa_recipe(tmp_path)
    recipe.evaluate.max_images = 3
    task = TopDownTask(recipe, new_accelerator())
    with pytest.raises(NotImplementedError):
        task.check_evaluation()
    seen: list[tuple[str, int]] = []
    monkeypatch.setattr(task, "evaluation_rows", lambda split, *, max_images: seen.append((split, max_images)))
    task.check_evaluation()
    assert seen == [("val", 3), ("test", 0)]  # the final figures are those of all images
    recipe.evaluate.final_split = "dev9"
    with pytest.raises(
        ValueError, match="evaluate.final_split is 'dev9': .*unknown split 'dev9'; the splits are train"
    ):
        task_of(recipe).prepare()
