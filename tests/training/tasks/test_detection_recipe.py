"""Names held out of a detector's training: neither objects nor background, said by its config, and refused where they
were learnt before."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.training.tiny_run import new_accelerator, tiny_detection_recipe
from training.recipe_sections import Recipe
from training.tasks import build_task
from training.tasks.detection import DetectionTask
from training.tasks.detection_recipe import DetectionRecipe, HeldOutRecipe, check_recipe


def open_recipe(folder: Path, *names: str, **changes: Any) -> Recipe:
    recipe = tiny_detection_recipe(folder, **changes)
    recipe.held_out = HeldOutRecipe(list(names))  # type: ignore[attr-defined]
    return recipe


def prepared(recipe: Recipe) -> DetectionTask:
    task = build_task(recipe, new_accelerator())
    assert isinstance(task, DetectionTask)
    task.prepare()
    return task


def test_training_neither_names_nor_denies_what_is_held_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its boxes are crowds of the training split, and what the class head says of them changes no loss."""
    recipe = open_recipe(tmp_path, "star", "circle")
    recipe.regions.crops, recipe.regions.flips = 1.0, False
    task = prepared(recipe)
    assert task.model.config.held_out_names == ["star", "circle"] and task.held_out == ["star", "circle"]
    boxes = sum(sum(crowd) for crowd in task.train_rows["crowd"][:])
    assert f"held out: {boxes} boxes, 0 phrases; circle, star" in capsys.readouterr().out and boxes > 3
    names = {1: "circle", 5: "star"}
    rows = [task.train_rows[i] for i in range(len(task.train_rows))]
    assert all(crowd == (i in names) for row in rows for i, crowd in zip(row["object_ids"], row["crowd"], strict=True))
    labels = task.inputs(np.arange(len(rows)), epoch=0)["labels"]
    assert sorted(labels.unique().tolist()) == [-1, 0, 2, 3, 4]
    truth = task.evaluation_rows(recipe.evaluate.final_split)[1]
    assert {1, 5} & {i for ids in truth["object_ids"] for i in ids} and not any(map(any, truth["crowd"]))


def test_boxes_on_what_is_held_out_teach_no_background(tmp_path: Path) -> None:
    """With every object of an image held out, regions inside of them are never sampled."""
    from modeling_updown.detection_losses_updown import ImageObjects, sample_regions

    task = prepared(open_recipe(tmp_path, "star"))
    boxes = torch.tensor([[8.0, 8.0, 30.0, 30.0], [40.0, 8.0, 60.0, 30.0]])
    empty = torch.zeros(0, dtype=torch.long)
    objects = ImageObjects(torch.zeros(0, 4), empty, empty.view(0, 1), boxes[:1])
    sampled, _ = sample_regions(boxes, objects, config=task.model.config)
    assert sampled.tolist() == boxes[1:].tolist()


def test_a_detector_that_may_have_learnt_a_name_is_refused(tmp_path: Path) -> None:
    task = prepared(open_recipe(tmp_path, "star"))
    task.save(task.model, tmp_path / "start")
    start = {"init_from": str(tmp_path / "start"), "model": {}}
    with pytest.raises(ValueError, match="has 'circle', which the detector in .* may have learnt: start a new one"):
        prepared(open_recipe(tmp_path, "star", "circle", **start))
    assert prepared(open_recipe(tmp_path, "star", **start)).model.config.held_out_names == ["star"]
    assert prepared(open_recipe(tmp_path, **start)).model.config.held_out_names == []


def test_a_backbone_that_may_have_learnt_a_name_is_told(tmp_path: Path) -> None:
    first = prepared(open_recipe(tmp_path, "star"))
    first.save(first.model, tmp_path / "start")
    recipe = open_recipe(tmp_path, "star")
    recipe.regions.weights, recipe.regions.random_backbone = str(tmp_path / "start"), False
    with pytest.warns(UserWarning, match="may have learnt names held out here"):
        prepared(recipe)


def test_everything_held_out_leaves_nothing_to_learn(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="leaves no box to learn from: hold out fewer names"):
        prepared(open_recipe(tmp_path, "circle", "square", "triangle", "diamond", "star"))


def test_nanodet_has_learnt_coco() -> None:
    recipe = DetectionRecipe(task="detection", output="x", data={"format": "scenes"})
    recipe.model = {"proposal_model": "nanodet"}
    recipe.held_out.names = ["coco_novel"]
    with pytest.raises(ValueError, match="has 'airplane', which NanoDet has learnt"):
        check_recipe(recipe)
    recipe.held_out.names = ["star"]
    check_recipe(recipe)
