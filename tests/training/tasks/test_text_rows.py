"""Texts beside images in captioning: which rows are texts, what they hold, and a word that no image showed."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.training.tiny_run import new_accelerator, recipe_of, tiny_recipe
from training.recipe_sections import EvaluateRecipe, RegionsRecipe, TrainRecipe
from training.regions.store import RegionStoreWriter
from training.tasks import build_task
from training.tasks.captioning import CaptioningTask
from training.tasks.captioning_recipe import TextsRecipe, check_texts

NAMES = ["cat", "dog", "horse"]
ATTRIBUTES = ["black", "white"]
DEEDS = {"cat": "sleeps", "dog": "runs", "horse": "stands"}
FEATURE_SIZE = 8
IMAGES = 12


def write_world(folder: Path) -> None:
    """12 images of dogs and horses to train on, two of cats to caption, all with features that say nothing; texts on
    all three, of which each is one image's and names it twice."""
    names = ["dog", "horse"] * (IMAGES // 2) + ["cat", "cat"]
    numbers = range(1, len(names) + 1)
    images = [{"id": n, "file_name": f"{n}.jpg", "split": "train" if n <= IMAGES else "val"} for n in numbers]
    notes = [{"image_id": n, "caption": sentence(name)} for n, name in zip(numbers, names, strict=True)]
    (folder / "captions.json").write_text(json.dumps({"images": images, "annotations": notes}))
    lines = [f"{n}\t{sentence(NAMES[n % 3])}" for n in range(18) for _ in range(2)]
    (folder / "texts.txt").write_text("\n".join(lines))
    regions = {
        "region_features": torch.randn(len(names), 2, FEATURE_SIZE, generator=torch.Generator().manual_seed(0)),
        "region_boxes": torch.tensor([0.0, 0.0, 1.0, 1.0]).expand(len(names), 2, 4),
        "region_mask": torch.ones(len(names), 2, dtype=torch.bool),
        "object_probs": torch.zeros(len(names), 2, len(NAMES) + 1),
        "attribute_probs": torch.zeros(len(names), 2, len(ATTRIBUTES) + 1),
    }
    for image, name in enumerate(names):
        regions["object_probs"][image, 0, 1 + NAMES.index(name)] = 0.8
        regions["object_probs"][image, :, 0] += torch.tensor([0.2, 1.0])
    known = {"object_probs": NAMES, "attribute_probs": ATTRIBUTES}
    with RegionStoreWriter(folder / "store", fingerprint={"model_type": "x"}, class_names=known) as writer:
        writer.append([str(n) for n in numbers], regions)


def sentence(name: str) -> str:
    return f"a {name} {DEEDS[name]}"


def recipe_in(folder: Path, *, tags: list[str] | None = None, train: dict[str, Any] | None = None, **texts: Any) -> Any:
    """Captioning on that world, with texts; `tags` are those of `regions`."""
    settings = {"batch_size": 8, "min_word_count": 1, "max_words": 6, "captions_per_image": 1, **(train or {})}
    return recipe_of(
        {
            "task": "captioning",
            "output": str(folder / "run"),
            "data": {"format": "coco", "annotations": str(folder / "captions.json")},
            "regions": RegionsRecipe(store=str(folder / "store"), tags=["objects"] if tags is None else tags),
            "model": {"hidden_size": 24, "word_embedding_size": 16, "attention_size": 16, "initializer_range": 0.1},
            "texts": TextsRecipe(**{"data": {"format": "texts", "texts": str(folder / "texts.txt")}, **texts}),
            "train": TrainRecipe(**settings),
            "evaluate": EvaluateRecipe(split="val", final_split="val", metric="rouge_l"),
        }
    )


def prepared(recipe: Any) -> CaptioningTask:
    torch.manual_seed(0)
    task = build_task(recipe, new_accelerator())
    task.prepare()
    return task


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("texts")
    write_world(folder)
    return folder


@pytest.fixture(scope="module")
def task(world: Path) -> CaptioningTask:
    return prepared(recipe_in(world, tags=["objects", "attributes"], train={"captions_per_image": 2}, share=0.4))


# -- rows ------------------------------------------------------------------------------------------------------------


def test_texts_are_their_share_of_an_epochs_rows(task: CaptioningTask) -> None:
    assert task.texts is not None
    assert (task.num_rows, task.texts.num_rows) == (20, 8)  # 8 of 20 are 0.4
    of_epochs = [task.texts.texts_of(range(IMAGES, 20), epoch=epoch) for epoch in range(9)]
    everything = [text for texts in of_epochs for text in texts]
    assert all(sorted(everything[start : start + 18]) == list(range(18)) for start in (0, 18, 36, 54))
    assert everything[:18] != everything[18:36] != sorted(everything[18:36])


def test_a_batch_holds_images_and_then_texts(task: CaptioningTask) -> None:
    assert task.texts is not None
    indices = np.array([14, 3, 17, 0])
    inputs = task.inputs(indices, epoch=1)
    assert inputs["image_index"].tolist() == [3, 0, 14, 17]
    assert inputs["region_mask"].any(dim=1).all() and len(inputs["input_ids"]) == 8
    stored = task.images.stores[False].batch(["4", "1"], dtype=torch.float32, columns=["region_features"])
    assert torch.equal(inputs["region_features"][:2, :2], stored["region_features"])
    assert not inputs["region_features"][2:].any() and inputs["region_features"][:2].any()
    texts = task.texts.texts_of([14, 17], epoch=1)
    said = task.processor.batch_decode(inputs["input_ids"], skip_special_tokens=True)
    expected = (
        [sentence("horse")] * 2 + [sentence("dog")] * 2 + [sentence(NAMES[text % 3]) for text in texts for _ in "12"]
    )
    assert [text.rstrip(".") for text in said] == expected
    total, count, _ = task.loss(task.model, inputs)
    assert total.isfinite() and count.item() == 8 * 4


def test_rows_depend_on_seed_epoch_and_row_alone(task: CaptioningTask) -> None:
    together, alone = task.inputs(np.array([2, 15, 13]), epoch=3), task.inputs(np.array([13]), epoch=3)
    regions = int(alone["region_mask"].sum())
    for name in ("region_boxes", "object_probs", "attribute_probs"):
        assert torch.equal(together[name][2, :regions], alone[name][0, :regions])
    assert torch.equal(together["input_ids"][-2:], alone["input_ids"])
    other = [task.inputs(np.array([13]), epoch=epoch)["region_boxes"][0, 0] for epoch in (4, 5)]
    assert not torch.equal(other[0], other[1])


def test_captions_of_other_splits_are_no_texts_unasked(world: Path) -> None:
    data = {"format": "coco", "annotations": str(world / "captions.json")}
    for options, number in (({}, IMAGES), ({"split": "val"}, 2)):
        task = prepared(recipe_in(world, data=data | options))
        assert task.texts is not None and len(task.texts.captions) == number


def test_the_vocabulary_and_evaluation(task: CaptioningTask) -> None:
    """Words of texts are words of the model; only images are scored."""
    assert "sleeps" in task.processor.tokenizer.get_vocab()
    assert task.evaluation_rows("val")["image_id"] == ["13", "14"]


# -- a word that no image showed -------------------------------------------------------------------------------------


def captions_after_training(recipe: Any) -> list[str]:
    """What a captioner says of the two cats after 80 steps on images of dogs and horses, and on texts."""
    task = prepared(recipe)
    optimizer = torch.optim.Adam(task.model.parameters(), lr=2e-2)
    task.model.train()
    for epoch in range(80):
        rows = np.random.default_rng([0, epoch]).permutation(task.num_rows)[: recipe.train.batch_size]
        total, count, _ = task.loss(task.model, task.inputs(rows, epoch=epoch))
        optimizer.zero_grad()
        (total / count).backward()
        optimizer.step()
    return task.captions(task.model, task.evaluation_rows("val"), num_beams=1)


def test_texts_teach_a_word_for_a_tag_that_no_image_had(world: Path) -> None:
    """Without tags the texts teach the word too, but not where it belongs; and tags do not without texts."""
    assert all("cat" in caption for caption in captions_after_training(recipe_in(world)))
    only_words, only_images = recipe_in(world, tags=[], named=False), recipe_in(world)
    only_images.texts = TextsRecipe()
    for control in (only_words, only_images):
        assert all("cat" not in caption for caption in captions_after_training(control))


# -- what is refused -------------------------------------------------------------------------------------------------


def test_texts_need_tags_a_store_and_a_format(world: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"reads no names of objects.* set regions\.tags"):
        prepared(recipe_in(world, tags=[]))
    recipe = tiny_recipe(tmp_path)
    for texts, fault in (
        ({"share": 0.3}, r"texts\.share says nothing without texts\.data"),
        ({"data": {"texts": "a.txt"}}, r"texts\.data lacks format"),
    ):
        recipe.texts = TextsRecipe(**texts)
        with pytest.raises(ValueError, match=fault):
            check_texts(recipe)
    recipe.texts, recipe.regions.store = TextsRecipe(data={"format": "texts", "texts": "a.txt"}), ""
    with pytest.raises(ValueError, match=r"texts\.data needs regions\.store"):
        check_texts(recipe)


def test_texts_that_cannot_be_learnt_are_refused(world: Path, tmp_path: Path) -> None:
    (tmp_path / "other.txt").write_text("ein Hund\neine Katze\n")
    for data, fault in (
        ({"format": "texts", "texts": str(tmp_path / "other.txt")}, "no text names anything that .* cat, dog, horse"),
        ({"format": "texts", "texts": "nowhere.txt"}, r"texts\.data: cannot read nowhere\.txt"),
        ({"format": "text", "texts": "nowhere.txt"}, r"texts\.data: unknown caption format 'text'"),
        ({"format": "texts", "text": "nowhere.txt"}, r"texts\.data: the caption format 'texts' does not take text"),
    ):
        with pytest.raises(ValueError, match=fault):
            prepared(recipe_in(world, data=data))


def test_synonyms_come_from_a_vocabulary_of_the_same_names(world: Path, tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("a moggy sleeps\n")
    (tmp_path / "objects_vocab.txt").write_text("dog\ncat,moggy\nbus\n")
    data = {"format": "texts", "texts": str(tmp_path / "texts.txt")}
    task = prepared(recipe_in(world, data=data, vocabulary=str(tmp_path)))
    assert task.texts is not None and task.texts.things == [[(1, ())]]
    (tmp_path / "objects_vocab.txt").write_text("bus\n")
    with pytest.raises(ValueError, match=r"has none of the model's names \(cat, \.\.\.\)"):
        prepared(recipe_in(world, data=data, vocabulary=str(tmp_path)))
