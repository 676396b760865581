"""The training loop on questions: the same steps however they are shared out, the same weights after any kill."""

import copy
import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from modeling_updown import UpDownForVisualQuestionAnswering
from tests.training.tiny_run import (
    differences,
    ending,
    log_of,
    new_accelerator,
    tiny_vqa_recipe,
    train_here,
    train_in_processes,
    write_questions,
    write_scene_questions,
)
from training.data.files import read_table
from training.recipe_sections import Recipe
from training.tasks import build_task
from training.train import Run, main

HARD = {"epochs": 2, "checkpoint_steps": 2, "ema": 0.9, "early_stopping": 5}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images, questions and regions of the runs here."""
    return tmp_path_factory.mktemp("vqa")


def recipe_in(folder: Path, name: str, **changes: Any) -> Recipe:
    """A recipe whose run lies in `folder / name`."""
    return tiny_vqa_recipe(folder, output=str(folder / name), **changes)


# -- the same steps --------------------------------------------------------------------------------------------------


def test_two_processes_take_the_steps_of_one(tmp_path: Path) -> None:
    recipes = [tiny_vqa_recipe(tmp_path / name, train={"epochs": 3, "learning_rate": 2e-2}) for name in ("one", "two")]
    for recipe in recipes:
        recipe.regions.flips = True
    train_here(recipes[0])
    assert train_in_processes(recipes[1], num_processes=2) == [0, 0]
    expected, found = (log_of(recipe, "loss") for recipe in recipes)
    assert len(expected) == 18 and sum(expected[-6:]) < 0.9 * sum(expected[:6])  # it learns
    assert found == pytest.approx(expected, abs=1e-4)
    assert log_of(recipes[1], "accuracy") == pytest.approx(log_of(recipes[0], "accuracy"), abs=1e-4)
    alone, both = (json.loads((Path(recipe.output) / "best" / "predictions.json").read_text()) for recipe in recipes)
    assert [(row["question_id"], row["answer"]) for row in both] == [
        (row["question_id"], row["answer"]) for row in alone
    ]
    assert len(both) == len({row["question_id"] for row in both}) > 24


def test_accumulated_pieces_take_the_steps_of_one_batch(folder: Path) -> None:
    losses = []
    for pieces in (1, 2, 3):
        recipe = recipe_in(folder, f"pieces{pieces}", train={"learning_rate": 1e-2, "accumulation": pieces})
        train_here(recipe)
        losses.append(log_of(recipe, "loss"))
    assert len(losses[0]) == 12
    assert losses[1] == pytest.approx(losses[0], abs=1e-4)
    assert losses[2] == pytest.approx(losses[0], abs=1e-4)


# -- kill and resume -------------------------------------------------------------------------------------------------


def test_a_killed_run_ends_with_the_weights_of_one_never_killed(tmp_path: Path) -> None:
    recipe = recipe_in(tmp_path, "whole", train={**HARD, "optimizer": "adamax"})
    recipe.regions.flips = True
    recipe.model = {**recipe.model, "word_dropout": 0.2, "question_dropout": 0.3, "answer_dropout": 0.5}
    recipe.model |= {"region_dropout": 0.1, "attention_dropout": 0.2}
    killed = copy.deepcopy(recipe)
    killed.output = str(tmp_path / "killed")
    assert train_in_processes(recipe) == [0]
    for moment in ("training.train:Run.train_step:3", "training.tasks.vqa:VqaTask.score:1"):
        assert train_in_processes(killed, kill=moment) == [-signal.SIGKILL]
    assert train_in_processes(killed) == [0]
    assert differences(ending(killed), ending(recipe)) == []


def test_averaged_weights_are_what_is_scored_and_kept(folder: Path) -> None:
    recipe = recipe_in(folder, "averaged", train={"ema": 0.8, "learning_rate": 1e-2})
    accelerator = new_accelerator()
    task = build_task(recipe, accelerator)
    task.prepare()
    run = Run(recipe, task, accelerator)
    expected: Any = None
    for pieces, _ in zip(run.remaining_steps(), range(4), strict=False):
        run.train_step(pieces)
        now = task.model.answers.weight.detach().clone()
        expected = now if expected is None else 0.8 * expected + 0.2 * now
    (folder / "averaged").mkdir()
    run.progress.history.append({"loss": 0.0})
    run.evaluate()
    best = UpDownForVisualQuestionAnswering.from_pretrained(folder / "averaged" / "best")
    assert torch.allclose(best.answers.weight, expected, atol=1e-6)
    assert not torch.allclose(task.model.answers.weight, expected, atol=1e-3)


# -- learning --------------------------------------------------------------------------------------------------------

PAINTS = {"red": (220, 30, 30), "green": (20, 160, 40), "blue": (30, 60, 220), "yellow": (240, 220, 30)}


@pytest.mark.parametrize("activation", ["gated_tanh", "relu"])
def test_without_the_image_questions_can_still_be_learnt(tmp_path: Path, activation: str) -> None:
    """A region of zeros would make h = f_q(q) * f_v(0) zero for every question, and ReLUs would never leave it."""
    write_scene_questions(tmp_path / "photos", num_scenes={"train": 6})
    taught = {"What color is it?": "red", "How many are there?": "2", "Where is it?": "here"}
    rows = [
        {"image": f"train-{image}.png", "question": question, "answer": answer, "split": "train"}
        for image in range(6)
        for question, answer in taught.items()
    ]
    write_questions(tmp_path / "photos" / "questions.jsonl", rows)
    model = {"hidden_size": 24, "word_embedding_size": 16, "activation": activation}
    train = {"withhold": "image", "epochs": 25, "learning_rate": 2e-2, "schedule": "constant"}
    recipe = tiny_vqa_recipe(tmp_path, model=model, train=train)
    recipe.evaluate.split, recipe.evaluate.final_split, recipe.evaluate.every_epochs = "train", "train", 25
    assert train_here(recipe)["accuracy_x100"] == 100.0


def test_the_image_teaches_what_the_question_cannot(tmp_path: Path) -> None:
    """Colours of plain images: learnt with the image, guessed without it."""
    (tmp_path / "plain").mkdir()
    noise, rows = np.random.default_rng(0), []
    for index in range(32):
        name = list(PAINTS)[index % 4]
        pixels = np.array(PAINTS[name]) + noise.integers(-15, 15, (32, 32, 3))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(tmp_path / "plain" / f"{index}.png")
        rows.append({"image": f"{index}.png", "question": "What color is it?", "answer": name})
        rows[-1] |= {"split": "train" if index < 20 else "val"}
    table = write_questions(tmp_path / "paints.jsonl", rows)
    scores = {}
    for withheld in ("", "image"):
        recipe = tiny_vqa_recipe(
            tmp_path,
            data={"format": "table", "table": str(table), "images": str(tmp_path / "plain")},
            output=str(tmp_path / f"run{withheld}"),
            train={"epochs": 20, "learning_rate": 2e-2, "withhold": withheld},
        )
        recipe.evaluate.final_split, recipe.evaluate.every_epochs = "val", 20
        scores[withheld] = train_here(recipe)["accuracy_x100"]
    assert scores["image"] == 25.0
    assert scores[""] > 90.0


def test_questions_on_drawn_scenes_train_without_any_file(tmp_path: Path) -> None:
    numbers = {"train": 24, "val": 8, "test": 8}
    recipe = tiny_vqa_recipe(tmp_path, data={"format": "scenes", "num_scenes": numbers, "image_size": 32})
    recipe.train.learning_rate, recipe.train.questions_per_image = 1e-2, 8
    recipe.train.epochs = recipe.evaluate.every_epochs = 8
    figures = train_here(recipe)
    assert set(figures) == {"accuracy_x100", "multiple_choice_x100"} and 0 < figures["multiple_choice_x100"] < 100
    losses = log_of(recipe, "loss")
    assert len(losses) == 24 and sum(losses[-3:]) < 0.9 * sum(losses[:3])
    evaluation = json.loads((tmp_path / "run" / "best" / "evaluation.json").read_text())
    assert evaluation["dataset"] == {"name": "scenes", "type": "scenes", "split": "test", "num_questions": 64}
    assert sum(value["questions"] for name, value in evaluation["domains"].items() if "questions: " in name) == 64
    assert not (tmp_path / "photos").exists()


# -- mistakes --------------------------------------------------------------------------------------------------------

MISTAKES: dict[str, dict[str, Any]] = {
    "evaluate.metric is 'cider_d'; the task vqa takes accuracy, multiple_choice": {"evaluate": {"metric": "cider_d"}},
    "train.objective is 'cross_entropy'; the task vqa takes binary": {"train": {"objective": "cross_entropy"}},
    "train.objective is 'bce'; the task vqa takes binary_cross_entropy": {"train": {"objective": "bce"}},
    "give one of min_count (9 for VQA v2's 3,129 answers) and top": {"answers": {}},
    "unknown key 'minimum' in answers; it takes file, min_count, top": {"answers": {"minimum": 9}},
    "answers: scores is 'soft'; choose one of 'leave_one_out', 'table', 'single'": {"answers": {"scores": "soft"}},
    "answers: top is -1, but must be 0 or more": {"answers": {"top": -1}},
    "cannot read nowhere.json": {"answers": {"file": "nowhere.json"}},
    "answers.pkl is a pickle": {"answers": {"file": "answers.pkl"}},
    "train.withhold is 'regions': set it to image, of which questions": {"train": {"withhold": "regions"}},
    "train: questions_per_image is 0, but must be 1 or more": {"train": {"questions_per_image": 0}},
    "data.format is 'karpathy'; the task vqa takes vqa_v2": {"data": {"format": "karpathy", "images": "."}},
    "the VQA format 'vqa_v2' needs questions": {"data": {"format": "vqa_v2"}},
    "evaluate.final_split is 'dev2'": {"evaluate": {"metric": "accuracy", "final_split": "dev2"}},
    "regions.crops is 0.5: questions ask about whole images, leave it out": {"regions": {"crops": 0.5}},
    "of whose questions none has a choice that is known to be right": {"evaluate": {"metric": "multiple_choice"}},
    "unknown key 'glimpses' in model": {"model": {"glimpses": 2}},
    "num_glimpses=0 must be 1 or more": {"model": {"num_glimpses": 0}},
    "there is no file nowhere.txt; GloVe's vectors": {"train": {"word_vectors": "nowhere.txt"}},
    "no word occurs 999 times in the questions": {"train": {"min_word_count": 999}},
}


@pytest.mark.parametrize("sentence", MISTAKES)
def test_a_mistake_is_told_in_one_line(folder: Path, capsys: pytest.CaptureFixture[str], sentence: str) -> None:
    values = recipe_in(folder, "mistaken").as_dict()
    changes = MISTAKES[sentence]
    for section, fields in changes.items():
        values[section] = {**values[section], **fields} if section in ("train", "evaluate") else fields
    (folder / "recipe.yaml").write_text(yaml.safe_dump(values))
    assert main([str(folder / "recipe.yaml"), "--cpu"]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "training.train: " in line]
    assert len(lines) == 1 and sentence in lines[0]
    assert not (folder / "mistaken").exists()  # a mended recipe finds no leftovers


def test_the_scenes_have_questions_of_every_kind(folder: Path) -> None:
    rows = read_table(folder / "photos" / "questions.jsonl")
    assert {row["answer_type"] for row in rows} == {"number", "other", "yes/no"} and len(rows) > 120
    assert {row["answer"] for row in rows} >= {"yes", "no", "two", "red"}
    assert any("left" in row["question"] for row in rows) and {len(row["answers"]) for row in rows} == {10}
