"""Questions in pretraining: joined by image id, drawn by (seed, epoch, image), learnt, scored and taken over by vqa."""

import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from modeling_updown import UpDownFusionForPreTraining
from tests.training.tasks.test_fusion_vqa import COPIES, QUIET, SIZES, sides_recipe, write_sides
from tests.training.tiny_run import (
    differences,
    ending,
    log_of,
    new_accelerator,
    tiny_retrieval_recipe,
    train_here,
    train_in_processes,
    write_questions,
)
from training.evaluate import evaluate_recipe
from training.recipe_sections import EvaluateRecipe, Recipe, RegionsRecipe, TextRecipe
from training.tasks import build_task
from training.tasks.pretraining_questions import QuestionsRecipe
from training.tasks.questions import take_answers
from training.tasks.vqa_recipe import AnswersRecipe

BLIND = "train-01-0"  # an image without a question


def write_captioned_sides(folder: Path) -> None:
    """The images and questions of `write_sides` and captions, the same of every image, that name no thing; one image
    has no question, and one question is about no image."""
    write_sides(folder)
    rows = [json.loads(line) for line in (folder / "questions.jsonl").read_text().splitlines()]
    names = dict.fromkeys((row["image"].removesuffix(".jpg"), row["split"]) for row in rows)
    images = [{"id": name, "file_name": f"{name}.jpg", "split": split} for name, split in names]
    captions = [{"image_id": name, "caption": "two things side by side"} for name, _ in names]
    (folder / "captions.json").write_text(json.dumps({"images": images, "annotations": captions}))
    asked = [row for row in rows if row["image"] != f"{BLIND}.jpg"]
    stranger = {"question_id": "x", "image": "elsewhere.jpg", "split": "train", "question": "what", "answers": ["dog"]}
    rare = {**asked[0], "question_id": "y", "question": "what is behind", "answers": ["unicorn"]}
    write_questions(folder / "questions.jsonl", [*asked, stranger, rare])


def asking_recipe(
    folder: Path,
    *,
    name: str = "run",
    train: dict[str, Any] | None = None,
    asked: dict[str, Any] | None = None,
    **more: Any,
) -> Any:
    """Pretraining on the sides in a folder by questions alone; asked: keys of `questions`."""
    settings = {"data": {"format": "table", "table": str(folder / "questions.jsonl")}, "per_image": 2, "min_count": 2}
    values: dict[str, Any] = {
        "task": "pretraining",
        "output": str(folder / name),
        "data": {"format": "coco", "annotations": str(folder / "captions.json")},
        "regions": RegionsRecipe(store=str(folder / "store")),
        "model": {"text_config": {**SIZES, **QUIET}, "initializer_range": 0.1, "objectives": {"qa": 1}},
        "questions": QuestionsRecipe(**{**settings, "scores": "single", **(asked or {})}),
        "train": {"epochs": 32, "learning_rate": 5e-3, "captions_per_image": 1, **(train or {})},
        "evaluate": EvaluateRecipe(metric="qa_accuracy", batch_size=5, every_epochs=8),
    }
    return tiny_retrieval_recipe(folder, **{**values, **more})


def prepared(recipe: Recipe) -> Any:
    """A task ready to train."""
    task: Any = build_task(recipe, new_accelerator())
    task.prepare()
    return task


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("asking")
    write_captioned_sides(folder)
    return folder


@pytest.fixture(scope="module")
def trained(folder: Path) -> tuple[Recipe, dict[str, float]]:
    """A run and its final figures."""
    recipe = asking_recipe(folder)
    return recipe, train_here(recipe)


def test_answers_need_question_and_image(folder: Path, trained: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of three things without the image, of two without the question."""
    recipe, metrics = trained
    assert metrics["qa_accuracy_x100"] > 95 and set(metrics) == {"qa_accuracy_x100"}
    assert log_of(recipe, "qa")[-1] < 0.2 * log_of(recipe, "qa")[0]
    task: Any = build_task(recipe, new_accelerator())
    model, _ = task.load(Path(recipe.output) / "best")
    seen = task.image_inputs
    same = torch.ones(1, 2, 8)
    monkeypatch.setattr(
        task, "image_inputs", lambda *given: {**seen(*given), "region_features": same.expand(len(given[1]), -1, -1)}
    )
    assert task.score(model, split="test", num_beams=1).metrics["qa_accuracy_x100"] <= 50
    monkeypatch.setattr(task, "image_inputs", seen)
    monkeypatch.setattr(task, "encode", lambda texts: [torch.tensor([2, 3])] * len(texts))
    assert task.score(model, split="test", num_beams=1).metrics["qa_accuracy_x100"] <= 60


def test_a_saved_model_is_scored_as_at_the_end_of_its_run(trained: tuple, tmp_path: Path) -> None:
    recipe, metrics = trained
    again = evaluate_recipe(Path(recipe.output) / "recipe.yaml", output=tmp_path / "scores")
    assert again["metrics"] == metrics
    items = json.loads((tmp_path / "scores" / "item_scores.json").read_text())["qa_accuracy"]
    assert len(items["ids"]) == 24 and 100 * np.mean(items["values"]) == pytest.approx(metrics["qa_accuracy_x100"])


def test_questions_find_their_images_and_are_counted(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Ids with a suffix and without are the same; 94 of 48 images but one, and the list has the three things."""
    task = prepared(asking_recipe(folder))
    assert (
        "94 questions about 47 of the 48 images of train, of which 1 have none; 3 answers; left out: 1 about other "
        "images, 1 without a listed answer"
    ) in capsys.readouterr().out
    assert [*task.model.config.id2label.values()] == task.asked.vocabulary.answers == ["bird", "cat", "dog"]
    inputs = task.inputs(np.arange(48), epoch=0)
    asked, things = task.asked.rows, task.asked.vocabulary.answers
    assert len(inputs["answer_labels"]) == 94
    names = task.train_rows["image_id"][:]
    words = task.processor.tokenizer.batch_decode(inputs["question_input_ids"], skip_special_tokens=True)
    expected = {(row["image_id"].removesuffix(".jpg"), row["question"], row["answers"][0]) for row in asked}
    places, scores = inputs["question_image_index"].tolist(), inputs["answer_labels"]
    found = {(names[p], text.strip(), things[row.argmax()]) for p, text, row in zip(places, words, scores, strict=True)}
    assert found == expected and scores.sum(dim=1).eq(1).all()


def test_questions_are_drawn_by_seed_epoch_and_image(folder: Path) -> None:
    task, other = (prepared(asking_recipe(folder, asked={"per_image": 1}, seed=seed)) for seed in (0, 1))
    together, alone = task.inputs(np.array([3, 5]), epoch=1), task.inputs(np.array([5]), epoch=1)
    length = alone["question_input_ids"].shape[1]
    assert torch.equal(together["question_input_ids"][1:, :length], alone["question_input_ids"])
    everything = np.arange(1, 48)
    drawn = [one.inputs(everything, epoch=epoch)["answer_labels"] for one, epoch in ((task, 0), (task, 1), (other, 0))]
    assert all(len(labels) == 47 for labels in drawn)
    assert not torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])


def test_a_batch_without_questions_is_learnt_of(folder: Path) -> None:
    """The image that nobody asks about: a loss of 0, whose gradients reach the answers' weights."""
    task = prepared(asking_recipe(folder))
    inputs = task.inputs(np.array([task.train_rows["image_id"][:].index(BLIND)]), epoch=0)
    assert inputs["question_input_ids"].shape == (0, 1) and inputs["answer_labels"].shape == (0, 3)
    total, count, shown = task.loss(task.model, inputs)
    total.backward()
    assert total.item() == 0 and count.item() == 1 and shown == {"qa": 0.0}
    assert task.model.answers.weight.grad.eq(0).all()


def test_images_whose_questions_tell_sides_are_not_mirrored(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = asking_recipe(folder)
    task = prepared(recipe)
    recipe.regions.flips = True
    task.take_questions(task.asked)
    assert [name for name, sided in zip(task.train_rows["image_id"], task.sided, strict=True) if not sided] == [BLIND]


def test_a_killed_run_asks_the_same_questions(folder: Path) -> None:
    hard: dict[str, Any] = {"epochs": 2, "checkpoint_steps": 2, "max_steps": 8}
    recipe, killed = (asking_recipe(folder, name=name, train=hard, asked={"per_image": 1}) for name in ("a", "b"))
    assert train_in_processes(recipe) == [0]
    assert train_in_processes(killed, kill="training.train:Run.train_step:3") == [-signal.SIGKILL]
    assert train_in_processes(killed) == [0]
    assert len(log_of(recipe, "qa")) == 8 and differences(ending(killed), ending(recipe)) == []


@pytest.mark.parametrize("listed", [["bird", "cat", "dog"], ["dog", "horse", "bird", "cow"]])
def test_question_answering_takes_the_answers_over(
    folder: Path, trained: tuple, tmp_path: Path, listed: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The whole head where both lists agree; else the answers of both, and the others start new."""
    best = Path(trained[0].output) / "best"
    (tmp_path / "answers.json").write_text(json.dumps(listed))
    recipe = sides_recipe(folder, init_from=str(best), model={})
    recipe.text.vocabulary_size = 8000
    recipe.answers = AnswersRecipe(file=str(tmp_path / "answers.json"), scores="single")
    recipe.output = str(tmp_path / "tuned")
    task = prepared(recipe)
    kept = [name for name in listed if name in ("bird", "cat", "dog")]
    assert f"{len(kept)} of the {len(listed)} answers start with the weights of" in capsys.readouterr().out
    pretrained = UpDownFusionForPreTraining.from_pretrained(best)
    inputs = task.inputs(np.arange(4), epoch=0)
    labels = inputs.pop("labels")
    task.model.eval()
    with torch.no_grad():
        found, own = task.model(**inputs).logits, pretrained.answer(**inputs)
    for name in kept:
        column = [*pretrained.config.id2label.values()].index(name)
        torch.testing.assert_close(found[:, listed.index(name)], own[:, column], rtol=1e-5, atol=1e-5)
    assert found.shape == labels.shape and labels.shape[1] == len(listed)
    assert [*task.model.config.id2label.values()] == task.vocabulary.answers == listed
    if len(kept) == len(listed):
        assert task.score(task.model, split="test").metrics["accuracy_x100"] == trained[1]["qa_accuracy_x100"]
    else:
        assert task.model.answers.bias[1].item() == pytest.approx(float(torch.tensor(0.5 / 97).logit()), abs=1e-6)


def test_pretraining_goes_on_from_answers_and_from_none(folder: Path, trained: tuple, tmp_path: Path) -> None:
    best = str(Path(trained[0].output) / "best")
    changes: dict[str, Any] = {"init_from": best, "model": {"objectives": {"itc": 1, "qa": 1}}}
    task = prepared(asking_recipe(folder, name="on", **changes, text=TextRecipe()))
    found = task.score(task.model, split="test", num_beams=1).metrics
    assert found["qa_accuracy_x100"] == trained[1]["qa_accuracy_x100"] and "rsum_x100" in found
    other: dict[str, Any] = {"model": {"objectives": {"itc": 1}}, "questions": QuestionsRecipe(), "text": TextRecipe()}
    other["evaluate"] = EvaluateRecipe(metric="rsum")
    silent = prepared(asking_recipe(folder, name="silent", init_from=best, **other))
    silent.save(silent.model, tmp_path / "silent")
    changes = {"init_from": str(tmp_path / "silent"), "model": {"objectives": {"qa": 1}, "answer_hidden_size": 20}}
    task = prepared(asking_recipe(folder, name="new", **changes, text=TextRecipe()))
    torch.testing.assert_close(task.model.answers.bias, task.asked.bias)
    assert task.model.answers.weight.shape == (3, 20)


def test_answers_in_another_order_are_still_the_same(trained: tuple) -> None:
    model = UpDownFusionForPreTraining.from_pretrained(Path(trained[0].output) / "best")
    before, known = model.answers.weight.detach().clone(), [*model.config.id2label.values()]
    vocabulary = type("Vocabulary", (), {"answers": known[::-1], "__len__": lambda self: 3})()
    assert take_answers(model, vocabulary, known=known, bias=torch.zeros(3)) == 3
    torch.testing.assert_close(model.answers.weight, before.flip(0), rtol=0, atol=0)
    assert model.config.label2id == {name: 2 - number for number, name in enumerate(known)}


def of_others(folder: Path) -> dict[str, Any]:
    """Questions about images that have no captions here."""
    row = {"question_id": "1", "image": "9.jpg", "split": "train", "question": "what", "answers": ["dog"]}
    return {"data": {"format": "table", "table": str(write_questions(folder / "others.jsonl", [row]))}}


@pytest.mark.parametrize(
    ("changes", "cure"),
    [
        ({"asked": of_others}, "none of the 1 questions .* image '9.jpg', is about one of the 48 .* whose ids are the"),
        ({"asked": {"min_count": 99}}, "questions: no answer is seen 99 times.*lower the minimum"),
        ({"asked": {"min_count": 0}}, "questions: give one of min_count"),
        ({"asked": {"file": "horses.json", "min_count": 0}}, "none of the 95 questions .* has an answer of the list"),
        ({"asked": {"data": {}}}, "model.objectives names qa, but questions.data has no format"),
        ({"asked": {"data": {"format": "tabel"}}}, "questions.data.format is 'tabel'.*did you mean 'table'"),
        (
            {"asked": {"data": {"format": "table", "table": {"train": "t.jsonl"}}}},
            "evaluate.split is 'val': questions.data:",
        ),
        ({"regions": RegionsRecipe(crops=0.5)}, "questions ask about whole images"),
        ({"model": {"objectives": {"mlm": 1}}}, "evaluate.metric is 'qa_accuracy', which needs qa in model.objectives"),
        ({"architecture": "UpDownFusionForMaskedLM", "model": {}}, "answers no questions: leave questions.min_count"),
    ],
)
def test_mistakes_are_named_with_their_cure(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], cure: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "horses.json").write_text('["horse"]')
    (tmp_path / "t.jsonl").symlink_to(folder / "questions.jsonl")
    asked = changes.get("asked")
    changes = {**changes, "asked": asked(tmp_path)} if callable(asked) else changes
    recipe = asking_recipe(folder, **changes)
    if "model" in changes:
        recipe.model = {"text_config": {**SIZES}, **changes["model"]}
    with pytest.raises(ValueError, match=cure):
        prepared(recipe)


def test_hidden_answers_pick_no_model(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Those of the split that picks it are refused; of the last one there is no figure then, and a line says so."""
    rows = [json.loads(line) for line in (folder / "questions.jsonl").read_text().splitlines()]
    for hidden in ("val", "test"):
        kept = [row | ({"answers": []} if row["split"] == hidden else {}) for row in rows]
        table = str(write_questions(tmp_path / f"{hidden}.jsonl", kept))
        recipe = asking_recipe(folder, name=hidden, asked={"data": {"format": "table", "table": table}})
        if hidden == "val":
            with pytest.raises(
                ValueError, match="no question about the images of evaluate.split 'val' has a known ans"
            ):
                prepared(recipe)
        else:
            task = prepared(recipe)
            assert "no qa_accuracy of test: no question about its images has a known" in capsys.readouterr().out
            assert task.score(task.model, split="test", num_beams=1).metrics == {}


def test_questions_that_nobody_learns_are_named(folder: Path) -> None:
    recipe = asking_recipe(folder, model={"text_config": {**SIZES}, "objectives": {"itc": 1}})
    recipe.evaluate.metric = "rsum"
    with pytest.warns(
        UserWarning, match="questions.min_count.*questions.data.*say nothing: model.objectives leave out"
    ):
        prepared(recipe)


def test_there_are_as_many_images_as_the_sides_have() -> None:
    assert {split: 6 * copies for split, copies in COPIES.items()} == {"train": 48, "val": 12, "test": 12}
