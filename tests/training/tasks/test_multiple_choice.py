"""Multiple choice learns: on drawn scenes it needs the image; its inputs, figures, submissions and mistakes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from modeling_updown import UpDownFusionForMultipleChoice
from tests.training.recipe_choices import write_visdial
from tests.training.recipe_files import drawn_scenes, link_images, of_split
from tests.training.tiny_run import new_accelerator, tiny_multiple_choice_recipe, train_here
from training.cli import main as updown
from training.evaluate import evaluate_recipe
from training.recipe_sections import EvaluateRecipe, Recipe, RegionsRecipe, TextRecipe
from training.regions.store import RegionStoreWriter
from training.scenes.draw import COLOURS, CORNERS, SIDES, scenes_dataset
from training.tasks import build_task
from training.tasks.multiple_choice import drawn_candidates
from training.tasks.multiple_choice_recipe import ChoicesRecipe

NUM_SCENES = {"train": 160, "val": 6, "test": 50}
SIZES = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96}
QUIET = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "initializer_range": 0.1}
VALUES = (*CORNERS, *COLOURS, *SIDES)
MOST = 8  # shapes of a scene, and the whole image


def scene_regions(folder: Path) -> None:
    """A region for each shape, in another order, and the whole image: features say what a shape is, with noise."""
    draw = torch.Generator().manual_seed(0)
    with RegionStoreWriter(folder / "store", fingerprint={}) as writer:
        for split, number in NUM_SCENES.items():
            for scene in scenes_dataset(number, image_size=32, split=split).remove_columns("image"):
                features, boxes = torch.zeros(1, MOST, len(VALUES)), torch.zeros(1, MOST, 4)
                boxes[0, 0] = torch.tensor([0.0, 0.0, 1.0, 1.0])
                things = scene["objects"]
                for slot, place in enumerate(torch.randperm(len(things), generator=draw).tolist(), start=1):
                    thing = things[place]
                    features[0, slot, [VALUES.index(thing[name]) for name in ("name", "colour", "size")]] = 1
                    boxes[0, slot] = torch.tensor(thing["box"])
                features += 0.05 * torch.randn(features.shape, generator=draw)
                mask = torch.arange(MOST)[None] <= len(things)
                regions = {"region_features": features, "region_boxes": boxes, "region_mask": mask}
                writer.append([scene["image_id"]], regions)


def scenes_recipe(folder: Path, *, asks: str, name: str = "run", train: Any = None, **changes: Any) -> Any:
    """A BERT of two layers on the scenes' regions."""
    settings = {"epochs": 7, "batch_size": 16, "questions_per_image": 4, "learning_rate": 3e-3, "warmup_steps": 20}
    values: dict[str, Any] = {
        "output": str(folder / name),
        "data": {"format": "scenes", "asks": asks, "num_scenes": NUM_SCENES, "image_size": 32},
        "regions": RegionsRecipe(store=str(folder / "store")),
        "model": {
            "text_config": {**SIZES, **QUIET},
            "initializer_range": 0.1,
            "choice_attention": "shared",
            "region_links": True,
        },
        "evaluate": EvaluateRecipe(batch_size=64, every_epochs=4),
    }
    return tiny_multiple_choice_recipe(folder, train={**settings, **(train or {})}, **{**values, **changes})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("choices")
    scene_regions(folder)
    return folder


def prepared(recipe: Recipe) -> Any:
    """A task ready to train."""
    task: Any = build_task(recipe, new_accelerator())
    task.prepare()
    return task


@pytest.fixture(scope="module")
def trained(folder: Path) -> tuple[Recipe, dict[str, float]]:
    """A run and its final figures."""
    recipe = scenes_recipe(folder, asks="commonsense")
    return recipe, train_here(recipe)


def test_it_learns_and_needs_the_image(folder: Path, trained: tuple) -> None:
    control = scenes_recipe(folder, asks="commonsense", name="words", train={"withhold": "image", "epochs": 1})
    words = train_here(control)
    assert trained[1]["q_to_ar_x100"] > 22 and trained[1]["choice_accuracy_x100"] > 50
    assert words["q_to_ar_x100"] < 18 and words["choice_accuracy_x100"] < 40
    evaluation = json.loads((Path(control.output) / "best" / "evaluation.json").read_text())
    assert evaluation["withheld"] == "image" and set(evaluation["domains"]) == {"answer", "rationale"}


def test_answers_follow_their_regions(trained: tuple) -> None:
    """The regions of two things swapped, a question about one of them is answered as of the other."""
    task: Any = build_task(trained[0], new_accelerator())
    model, _ = task.load(Path(trained[0].output) / "best")
    choices = task.evaluation_choices("test")
    texts = task.data_of("test").texts["text"][:]
    changed = asked = 0
    for item in range(len(choices)):
        rows = choices.rows[[item]]
        if texts[rows["context"][0][0]] != "what color is thing?" or len(rows["boxes"][0]) < 2:
            continue
        (linked,) = task.data_of("test").texts[rows["context"][0][0]]["links"][0]["objects"]
        other = (linked + 1) % len(rows["boxes"][0])
        given: Any = (choices, rows, choices.image_of[[item]], np.zeros(1, dtype=int))
        known = model(**task.item_inputs(*given)).logits
        own = rows["boxes"][0]
        own[linked], own[other] = own[other], own[linked]  # the boxes of two things, as annotated
        swapped = model(**task.item_inputs(*given)).logits
        assert not torch.allclose(known, swapped)
        changed, asked = changed + int(known.argmax() != swapped.argmax()), asked + 1
    assert asked > 10 and changed > asked / 4


def test_a_saved_model_is_scored_as_at_the_end_of_its_run(trained: tuple, tmp_path: Path) -> None:
    recipe, metrics = trained
    again = evaluate_recipe(Path(recipe.output) / "recipe.yaml", output=tmp_path / "scores")
    assert again["metrics"] == metrics and again["task"] == "multiple-choice"
    rows = json.loads((tmp_path / "scores" / "predictions.json").read_text())
    assert 100 * np.mean([row["right"] for row in rows]) == pytest.approx(metrics["choice_accuracy_x100"])
    assert all(int(np.argmax(row["scores"])) == row["choice"] and len(row["scores"]) == 4 for row in rows)
    assert again["dataset"]["num_items"] == len(rows)


def test_dialogues_rank_a_hundred(folder: Path) -> None:
    """A few steps take the right answer above chance (MRR 5.2, mean rank 50.5); relevances can be learnt instead."""
    recipe = scenes_recipe(folder, asks="dialogues", name="dialogues", train={"epochs": 2})
    recipe.choices = ChoicesRecipe(per_item=24)
    metrics = train_here(recipe)
    assert metrics["mrr_x100"] > 6 and metrics["mean_rank"] < 40 and 0 < metrics["ndcg_x100"] < 100
    dense = scenes_recipe(folder, asks="dialogues", name="dense", train={"max_steps": 3})
    dense.choices = ChoicesRecipe(learn_relevance=True)
    inputs = prepared(dense).inputs(np.arange(3), epoch=0)
    assert inputs["labels"].shape == inputs["choice_input_ids"].shape[:2] and inputs["labels"].max() == 1


def test_inputs_are_items_of_their_images(folder: Path) -> None:
    task = prepared(scenes_recipe(folder, asks="commonsense"))
    inputs = task.inputs(np.arange(4), epoch=0)
    items, candidates, words = inputs["choice_input_ids"].shape
    assert candidates == 4 and len(inputs["region_features"]) == 4 and items == len(inputs["labels"]) > 4
    assert inputs["image_index"].max() == 3 and inputs["choice_word_regions"].shape[:3] == (items, 4, words)
    links = inputs["word_regions"]
    assert (links >= 0).any(dim=(1, 2)).all()  # every question has a thing
    item = 0
    tokens = inputs["input_ids"][item][(links[item] >= 0).any(dim=1)]
    assert "".join(task.processor.tokenizer.convert_ids_to_tokens(tokens)).replace("Ġ", "").replace("thing", "") == ""
    row = task.trained.rows[int(task.groups[0][0])]
    things = [link["objects"][0] for link in task.data_of("train").texts[row["context"][0]]["links"]]
    boxes = inputs["region_boxes"][0, links[item][links[item] >= 0].unique_consecutive()]
    assert torch.allclose(boxes, torch.tensor([row["boxes"][thing] for thing in things]), atol=1e-3)


def test_a_long_history_is_cut_and_said_once(folder: Path) -> None:
    recipe = scenes_recipe(folder, asks="dialogues", evaluate=EvaluateRecipe(batch_size=8, max_images=4))
    recipe.choices = ChoicesRecipe(context_words=14)
    with pytest.warns(UserWarning, match=r"\d+ of \d+ contexts are longer than 14 word pieces: .* oldest rounds"):
        task = prepared(recipe)
    assert task.inputs(np.arange(8), epoch=0)["input_ids"].shape[1] <= 14


def test_drawn_candidates_hold_the_right_one() -> None:
    rows = {"candidates": [list(range(20))], "label": [7], "relevance": [[]]}
    for seed in range(20):
        kept = drawn_candidates(rows, 0, most=3, draw=np.random.default_rng(seed))
        assert 7 in kept and len(set(kept)) == 3
    assert drawn_candidates(rows, 0, most=0, draw=np.random.default_rng(0)) == list(range(20))


def test_what_organisers_take_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """VisDial's hidden test set by the command; a split whose labels are all hidden has no figures."""
    monkeypatch.chdir(tmp_path)
    data = write_files(tmp_path)
    recipe = tiny_multiple_choice_recipe(tmp_path, data=data, train={"max_steps": 2})
    with pytest.raises(ValueError, match="the labels of evaluate.final_split 'test' are hidden: score another split"):
        train_here(recipe)
    recipe.evaluate.final_split = "val"
    train_here(recipe)
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe.as_dict()))
    command = ["evaluate", str(path), "--split", "test"]
    assert updown([*command, "--submission", "ranks.json"]) == 0
    ranks = json.loads((tmp_path / "ranks.json").read_text())
    assert {row["round_id"] for row in ranks} == {3} and sorted(ranks[0]["ranks"]) == list(range(1, 7))
    assert updown(command) == 2


def write_files(folder: Path) -> dict[str, Any]:
    """Tiny VisDial files, and the `data` section that names them."""
    pool = folder / "pool"
    pool.mkdir()
    for drawn in drawn_scenes():
        drawn.image.save(pool / f"{drawn.number}.jpg")
    write_visdial(folder / "visdial")
    link_images(folder / "visdial" / "train", {drawn.number: f"{drawn.number}.jpg" for drawn in of_split("train")})
    splits = ("train", "val", "test")
    folders = {"train": "train", "val": "VisualDialog_val2018", "test": "VisualDialog_test2018"}
    return {
        "format": "visdial",
        "annotations": {split: f"visdial/visdial_1.0_{split}.json" for split in splits},
        "images": {split: f"visdial/{folders[split]}" for split in splits},
    }


def test_mistakes_are_named(folder: Path) -> None:
    with pytest.raises(ValueError, match="name a store of regions in regions.store"):
        build_task(scenes_recipe(folder, asks="commonsense", regions=RegionsRecipe(source={"backbone": "test_vit"})),
                   new_accelerator())  # fmt: skip
    for change, told in (
        ({"train": {"withhold": "text"}}, "set it to question, which leaves the candidates alone"),
        ({"choices": ChoicesRecipe(per_item=1)}, "choices.per_item is 1, of which nothing is chosen"),
        ({"regions": RegionsRecipe(store="x", flips=True)}, "dialogues tell left from right"),
    ):
        with pytest.raises(ValueError, match=told):
            build_task(scenes_recipe(folder, asks="commonsense", **change), new_accelerator())
    task: Any = build_task(scenes_recipe(folder, asks="commonsense"), new_accelerator())
    with pytest.raises(ValueError, match="data.format is 'scenes', for which nobody takes choices"):
        task.check_submission("test")


def test_a_model_of_another_head_starts_it(folder: Path, trained: tuple, tmp_path: Path) -> None:
    """Its layers are kept, candidates are read apart or each with its context as the recipe says."""
    recipe = scenes_recipe(folder, asks="commonsense", name="again", init_from=f"{trained[0].output}/best")
    recipe.model, recipe.text = {"choice_attention": "full"}, TextRecipe()
    task = prepared(recipe)
    assert task.model.config.choice_attention == "full" and isinstance(task.model, UpDownFusionForMultipleChoice)
    assert task.model.config.region_links
