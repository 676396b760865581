"""The task of reading: rows, inputs, training on copied words, words in a store, mistakes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from modeling_updown.reading_answers_updown import END, SPECIAL_ANSWERS, START
from tests.training.tiny_run import new_accelerator, tiny_reading_recipe, train_here
from tests.training.written_forms import written_questions
from training.data.reading.written_questions import read_written_questions
from training.regions.store import RegionStoreWriter
from training.tasks import build_task
from training.tasks.reading import ReadingSettings

DOCUMENTS: dict[str, Any] = {"reading_objects": False, "reading_max_steps": 3, "reading_max_ocr": 8}


def built(folder: Path, **changes: Any) -> Any:
    task: Any = build_task(tiny_reading_recipe(folder, **changes), new_accelerator())
    task.prepare()
    return task


def document_recipe(folder: Path, **changes: Any) -> Any:
    recipe = tiny_reading_recipe(folder, **changes)
    recipe.data.pop("images", None)
    recipe.regions = type(recipe.regions)()
    recipe.model = {**recipe.model, **DOCUMENTS}
    return recipe


def test_inputs_hold_one_way_of_writing_an_answer(tmp_path):
    task = built(tmp_path)
    inputs = task.inputs(np.arange(6), epoch=0)
    size = task.model.config.num_labels
    assert inputs["ocr_boxes"].shape == (6, 6, 4) and inputs["labels"].shape[2] == size + 6
    assert inputs["labels"].shape[1] == 2 and inputs["decoder_input_ids"][:, 0].tolist() == [START] * 6
    vocabulary = task.model.config.id2label
    for row in range(6):
        asked = task.trained.rows[int(task.learnt[row])]
        chosen = int(inputs["decoder_input_ids"][row, 1])
        words = [*(vocabulary[i] for i in range(size)), *(word["text"] for word in asked["words"])]
        assert words[chosen] == asked["answers"][0] and inputs["labels"][row, 1, END] == 1
        right = [words[i] for i in inputs["labels"][row, 0].nonzero().flatten().tolist()]
        assert set(right) == set(asked["answers"])
    again = task.inputs(np.arange(6), epoch=0)
    assert all(torch.equal(part, again[name]) for name, part in inputs.items())


def test_copied_words_are_learnt_from_documents(tmp_path):
    train = {"epochs": 30, "batch_size": 12, "learning_rate": 8e-3}
    recipe = document_recipe(tmp_path, train=train, evaluate=tiny_reading_recipe(tmp_path).evaluate)
    recipe.evaluate.every_epochs, recipe.reading.vocabulary = 30, str(tmp_path / "words.txt")
    (tmp_path / "words.txt").write_text("yes\nno\n")
    recipe.evaluate.split = recipe.evaluate.final_split = "train"
    train_here(recipe)
    told = json.loads((tmp_path / "run" / "best" / "evaluation.json").read_text())
    assert told["metrics"]["reading_exact_match_x100"] > 55 and told["copied"] >= 8
    predictions = json.loads((tmp_path / "run" / "best" / "predictions.json").read_text())
    assert all(len(box) == 4 for own in predictions for box in own["copied"] if box)


def test_words_of_a_store_are_read_with_their_appearance(tmp_path):
    recipe = tiny_reading_recipe(tmp_path)
    draw = torch.Generator().manual_seed(0)
    with RegionStoreWriter(tmp_path / "words", fingerprint={"made": "words"}) as writer:
        for seed, count in enumerate((24, 8, 8)):
            for question in written_questions(count, seed=seed):
                boxes = [[0.0, 0.0, 1.0, 1.0], *(word["box"] for word in question["words"])]
                texts = ["", *(word["text"] for word in question["words"])]
                features = torch.randn(1, len(boxes), 12, generator=draw)
                regions = {"region_features": features, "region_boxes": torch.tensor([boxes]), "region_texts": [texts]}
                writer.append([question["image_id"]], regions)
    recipe.regions = type(recipe.regions)(store=str(tmp_path / "words"))
    recipe.reading.words = "regions"
    recipe.model = {**recipe.model, "reading_appearance": True}
    task: Any = build_task(recipe, new_accelerator())
    task.prepare()
    inputs = task.inputs(np.arange(4), epoch=0)
    assert inputs["region_features"].shape == (4, 1, 12) and inputs["ocr_features"].shape == (4, 6, 12)
    own = task.trained.rows[int(task.learnt[0])]["words"]
    torch.testing.assert_close(inputs["ocr_boxes"][0], torch.tensor([word["box"] for word in own]), atol=1e-3, rtol=0)
    total, steps, _ = task.loss(task.model, inputs)
    assert total.isfinite() and int(steps) == 8
    assert len(task.score(task.model, split="val").predictions) == 8


@pytest.mark.parametrize("withheld", ["image", "question"])
def test_what_is_withheld_is_not_read(tmp_path, withheld):
    task = built(tmp_path, train={"withhold": withheld})
    inputs = task.inputs(np.arange(4), epoch=0)
    if withheld == "question":
        assert inputs["input_ids"].shape[1] == 2 and inputs["ocr_mask"].any()
    else:
        assert not inputs["ocr_mask"].any() and inputs["region_features"].eq(1).all()


def test_words_in_lines_are_learnt_as_copies(tmp_path):
    recipe = document_recipe(tmp_path, reading=ReadingSettings(vocabulary=str(tmp_path / "words.txt")))
    (tmp_path / "words.txt").write_text("yes\n")
    words = [{"text": "ACME Trading Ltd.", "box": [0.1, 0.1, 0.9, 0.2]}, {"text": "2020", "box": [0.1, 0.3, 0.4, 0.4]}]
    asked = {"question": "who is it?", "image_id": "r", "answers": ["trading ltd."], "words": words}
    for split in ("train", "val", "test"):
        (tmp_path / f"{split}.json").write_text(json.dumps([asked]))
    task: Any = build_task(recipe, new_accelerator())
    task.prepare()
    size = task.model.config.num_labels
    assert [word["text"] for word in task.trained.words[0]] == ["ACME", "Trading", "Ltd.", "2020"]
    assert task.targets[0].sequences == [(size + 1, size + 2)]
    recipe.model["reading_split_lines"] = False
    with pytest.raises(ValueError, match="no training answer can be written"):
        build_task(recipe, new_accelerator()).prepare()


def test_a_control_without_words_reads_the_image_alone(tmp_path):
    task = built(tmp_path, reading=ReadingSettings(words="none"))
    inputs = task.inputs(np.arange(4), epoch=0)
    assert not inputs["ocr_mask"].any() and inputs["region_features"].shape[1] > 1


def test_drawn_images_are_scored_by_kind(tmp_path):
    data = {"format": "scenes", "num_scenes": {"train": 8, "val": 4, "test": 4}, "image_size": 96}
    recipe = document_recipe(tmp_path, data=data, reading=ReadingSettings(top=9))
    recipe.model["reading_max_ocr"] = 24
    task: Any = build_task(recipe, new_accelerator())
    task.prepare()
    scored = task.score(task.model, split="val")
    told = task.figures(scored)
    assert told["writable"] <= told["questions"] == 16 and "chartqa_relaxed_accuracy_x100" in told["metrics"]
    assert told["domains"]["copied"]["questions"] + told["domains"]["not copied"]["questions"] == 16
    assert sum(own["questions"] for kind, own in told["domains"].items() if "_" in kind) == 16


def test_a_vocabulary_of_the_training_answers(tmp_path):
    task = built(tmp_path)
    answers = {answer for own in task.trained.rows["answers"] for answer in own}
    assert set(task.model.config.id2label.values()) == {*SPECIAL_ANSWERS, *answers}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"regions": {"flips": True}}, "cut and mirror"),
        ({"train": {"withhold": "text"}}, "set it to question or image"),
        ({"model": {"reading_appearance": True}}, "set reading.words to regions"),
        ({"reading": {"words": "regions"}}, "region_texts"),
        ({"reading": {"min_count": 99}}, "vocabulary of answers is empty"),
        ({"evaluate": {"metric": "chartqa_relaxed_accuracy"}}, "are not scored by: choose one of reading_exact_match"),
    ],
)
def test_recipes_that_cannot_be_run_are_refused(tmp_path, change, told):
    recipe = tiny_reading_recipe(tmp_path)
    for section, values in change.items():
        if section == "model":
            recipe.model = {**recipe.model, **values}
            continue
        for name, value in values.items():
            setattr(getattr(recipe, section), name, value)
    with pytest.raises(ValueError, match=told):
        build_task(recipe, new_accelerator()).prepare()


@pytest.mark.parametrize(
    ("record", "told"),
    [
        ({"image_id": "a"}, "question 0 of own.json lacks a question"),
        ({"question": "what?"}, "lacks image_id"),
        ({"question": "what?", "image_id": "a", "answers": "yes"}, "give a list of texts"),
        ({"question": "what?", "image_id": "a", "words": ["stop"]}, "give a list of"),
        ({"question": "what?", "image_id": "a", "words": [{"text": "stop"}]}, "OCR word 0"),
    ],
)
def test_files_that_cannot_be_read_are_named(tmp_path, record, told):
    path = tmp_path / "own.json"
    path.write_text(json.dumps([record]))
    with pytest.raises(ValueError, match=told):
        read_written_questions(annotations=path)
