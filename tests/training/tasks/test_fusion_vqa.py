"""Question answering by a fusion model: it needs question and image, its runs resume, it is scored and published."""

import itertools
import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from modeling_updown import UpDownFusionForVisualQuestionAnswering
from tests.training.tiny_run import (
    differences,
    ending,
    log_of,
    new_accelerator,
    tiny_retrieval_recipe,
    tiny_vqa_recipe,
    train_here,
    train_in_processes,
    write_questions,
)
from training.evaluate import evaluate_recipe
from training.recipe import read_recipe
from training.recipe_sections import EvaluateRecipe, Recipe, RegionsRecipe, TextRecipe
from training.regions.store import RegionStoreWriter
from training.tasks import build_task
from training.tasks.vqa_recipe import AnswersRecipe

FUSION = "UpDownFusionForVisualQuestionAnswering"
THINGS = ("dog", "cat", "bird")
SIZES = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
QUIET = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "initializer_range": 0.1}
BOXES = torch.tensor([[[0.0, 0.0, 0.5, 1.0], [0.5, 0.0, 1.0, 1.0]]])  # left, right
COPIES = {"train": 8, "val": 2, "test": 2}  # of each of the six pairs of two things


def write_sides(folder: Path) -> None:
    """Images of two things side by side, as regions, and what is left and what is right in each.

    Without the image three answers are as likely, without the question two.
    """
    draw = torch.Generator().manual_seed(0)
    rows = []
    with RegionStoreWriter(folder / "store", fingerprint={}) as writer:
        for split, copies in COPIES.items():
            for pair, copy in itertools.product(itertools.permutations(range(3), 2), range(copies)):
                image = f"{split}-{pair[0]}{pair[1]}-{copy}.jpg"
                features = 2 * torch.eye(8)[list(pair)] + 0.1 * torch.randn(2, 8, generator=draw)
                writer.append([image.removesuffix(".jpg")], {"region_features": features[None], "region_boxes": BOXES})
                for side, thing in zip(("left", "right"), pair, strict=True):
                    asked = {"question_id": f"{image}-{side}", "image": image, "split": split}
                    rows.append({**asked, "question": f"what is {side}", "answers": [THINGS[thing]]})
    write_questions(folder / "questions.jsonl", rows)


def sides_recipe(folder: Path, *, name: str = "run", train: dict[str, Any] | None = None, **changes: Any) -> Recipe:
    """A BERT of two layers on the sides in a folder."""
    recipe = tiny_vqa_recipe(
        folder,
        architecture=FUSION,
        output=str(folder / name),
        data={"format": "table", "table": str(folder / "questions.jsonl"), "images": None},
        regions=RegionsRecipe(store=str(folder / "store")),
        answers=AnswersRecipe(min_count=1, scores="single"),
        text=TextRecipe(vocabulary_size=300),
        model={"text_config": {**SIZES, **QUIET}, "initializer_range": 0.1},
        train={"min_word_count": 5, "epochs": 32, "learning_rate": 5e-3, "max_words": 12, **(train or {})},
        evaluate=EvaluateRecipe(metric="accuracy", batch_size=5, every_epochs=8),
    )
    for key, value in changes.items():
        setattr(recipe, key, value)
    return recipe


def prepared(recipe: Recipe) -> Any:
    """A task ready to train."""
    task: Any = build_task(recipe, new_accelerator())
    task.prepare()
    return task


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The images and questions of the tests here."""
    folder = tmp_path_factory.mktemp("fusion_vqa")
    write_sides(folder)
    return folder


@pytest.fixture(scope="module")
def trained(folder: Path) -> tuple[Recipe, dict[str, float]]:
    """A run and its final figures."""
    recipe = sides_recipe(folder)
    return recipe, train_here(recipe)


def test_questions_about_images_are_learnt_and_need_both(folder: Path, trained: tuple) -> None:
    found = {"": trained[1]["accuracy_x100"]}
    for withheld in ("image", "question"):
        recipe = sides_recipe(folder, name=f"without-{withheld}", train={"withhold": withheld})
        found[withheld] = train_here(recipe)["accuracy_x100"]
    assert found[""] > 95 and found["image"] < 45 and found["question"] < 60  # at best a third, and a half


def test_a_saved_model_is_scored_as_at_the_end_of_its_run(trained: tuple, tmp_path: Path) -> None:
    recipe, metrics = trained
    best = Path(recipe.output) / "best"
    assert isinstance(UpDownFusionForVisualQuestionAnswering.from_pretrained(best), torch.nn.Module)
    again = evaluate_recipe(Path(recipe.output) / "recipe.yaml", output=tmp_path / "scores")
    assert again["metrics"] == metrics and again["task"] == "visual-question-answering"
    rows = json.loads((tmp_path / "scores" / "predictions.json").read_text())
    assert len(rows) == 24 and np.mean([row["accuracy"] for row in rows]) * 100 == pytest.approx(
        metrics["accuracy_x100"]
    )


def test_a_killed_run_ends_with_the_weights_of_one_never_killed(folder: Path) -> None:
    hard = {"epochs": 2, "checkpoint_steps": 2, "ema": 0.9, "max_steps": 8}
    recipe, killed = (sides_recipe(folder, name=name, train=hard) for name in ("whole", "killed"))
    recipe.model["text_config"] = killed.model["text_config"] = {**SIZES, "hidden_dropout_prob": 0.2}
    assert train_in_processes(recipe) == [0]
    assert train_in_processes(killed, kill="training.train:Run.train_step:3") == [-signal.SIGKILL]
    assert train_in_processes(killed) == [0]
    assert len(log_of(recipe, "loss")) == 8 and differences(ending(killed), ending(recipe)) == []


def test_the_loss_of_groups_is_the_sum_over_questions_each_alone(folder: Path) -> None:
    """Words with the encoder's special tokens, each question with its own image, targets over the answers."""
    task = prepared(sides_recipe(folder))
    task.model.eval()
    inputs = task.inputs(np.arange(4), epoch=0)
    total, count, _ = task.loss(task.model, inputs)
    expected = 0.0
    for group in task.groups[:4]:
        for row in group.tolist():
            asked = task.trained.rows[row]
            words = task.processor.tokenizer(asked["question"], return_tensors="pt")
            image = task.images.stores[False].batch([asked["image_id"].removesuffix(".jpg")], dtype=torch.float32)
            assert words["input_ids"][0, [0, -1]].tolist() == [2, 3]  # [CLS] and [SEP]
            with torch.no_grad():
                logits = task.model(words["input_ids"], **image).logits[0].double()
            targets = torch.tensor([float(answer in asked["answers"]) for answer in task.vocabulary.answers])
            expected -= (targets * logits.sigmoid().log() + (1 - targets) * (-logits).sigmoid().log()).sum().item()
    assert count.item() == 8 and total.item() == pytest.approx(expected, rel=1e-5)


def test_a_new_model_starts_from_the_answers_frequencies(folder: Path) -> None:
    task = prepared(sides_recipe(folder))
    share = 32.5 / 97  # of each of three answers among 96 questions
    assert torch.allclose(task.model.answers.bias, torch.full((3,), share).logit(), atol=1e-6)


def test_a_fusion_model_that_learnt_otherwise_gets_answers(folder: Path, trained: tuple, tmp_path: Path) -> None:
    """The text encoder and the regions' embedding are its own, the answers and their bias those of the questions."""
    start = tiny_retrieval_recipe(tmp_path, regions=RegionsRecipe(store=str(folder / "store")))
    start.model = {"text_config": {**SIZES}}
    other: Any = build_task(start, new_accelerator())
    other.save(other.build([["what is left"], ["what is right"]]), tmp_path / "start")
    recipe = sides_recipe(folder, init_from=str(tmp_path / "start"), text=TextRecipe(), model={})
    task = prepared(recipe)
    own, taken = other.model.fusion.state_dict(), task.model.fusion.state_dict()
    assert own.keys() == taken.keys() and all(torch.equal(own[name], taken[name]) for name in own)
    assert task.vocabulary.answers == ["bird", "cat", "dog"] and task.model.config.id2label[2] == "dog"
    assert torch.allclose(task.model.answers.bias, torch.tensor(32.5 / 97).logit())
    tuned = prepared(sides_recipe(folder, init_from=str(Path(trained[0].output) / "best"), text=TextRecipe(), model={}))
    assert tuned.score(tuned.model, split="test").metrics["accuracy_x100"] == trained[1]["accuracy_x100"]


@pytest.mark.parametrize(
    ("change", "cure"),
    [
        (["model.scores_choices=true"], "unknown key 'scores_choices' in model"),
        (["train.word_vectors=glove.txt"], "does not read train.word_vectors"),
        (["architecture=UpDownForVisualQuestionAnswering", "model={}"], "does not read text.vocabulary_size"),
        (["architecture=UpDownFusionForQuestions"], "did you mean 'UpDownFusionForVisualQuestionAnswering'"),
    ],
)
def test_keys_of_the_other_model_are_refused(trained: tuple, change: list[str], cure: str) -> None:
    with pytest.raises(ValueError, match=cure):
        read_recipe(Path(trained[0].output) / "recipe.yaml", change)
