"""Images and the stores of their regions: told apart by content, found by any of their names, missed aloud."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset

from modeling_updown import UpDownGrid, UpDownGridConfig, UpDownImageProcessor
from tests import tiny
from tests.training.regions.test_extract import SIDE, features_of, image_folder, rows_of
from tests.training.tiny_run import (
    new_accelerator,
    tiny_recipe,
    tiny_retrieval_recipe,
    tiny_vqa_recipe,
    write_questions,
)
from training.recipe_sections import RegionsRecipe
from training.regions.extract import ImageRegions, extract_regions
from training.regions.store import RegionStore, RegionStoreWriter
from training.tasks import build_task


@pytest.fixture(scope="module")
def source() -> UpDownGrid:
    torch.manual_seed(1)
    config = UpDownGridConfig(backbone="test_vit", image_size=SIDE, grid_size=2, region_feature_size=64)
    return UpDownGrid(config).eval()


@pytest.fixture
def processor() -> UpDownImageProcessor:
    return UpDownImageProcessor(size={"height": SIDE, "width": SIDE})


def changed_images(folder: Path, *, num_images: int) -> Path:
    """As `image_folder`, of the same names, but none of the images is the same."""
    image_folder(folder, num_images=num_images)
    for number in range(num_images):
        tiny.tiny_image(number + 50, width=SIDE, height=SIDE).save(folder / f"{number}.png")
    return folder


def test_images_of_the_same_names_are_told_apart(
    tmp_path: Path, source: UpDownGrid, processor: UpDownImageProcessor
) -> None:
    first, second = image_folder(tmp_path / "a", num_images=4), changed_images(tmp_path / "b", num_images=6)
    options: dict[str, Any] = {"source": source, "image_processor": processor, "output": tmp_path / "store"}
    extract_regions(rows_of(first), accelerator=new_accelerator(), **options)
    message = (
        r"4 of 6 images are not those that the store .* holds under the same ids \(0.png, 1.png, 2.png, ...\): give"
    )
    with pytest.raises(ValueError, match=message):
        extract_regions(rows_of(second), accelerator=new_accelerator(), **options)
    assert len(RegionStore(tmp_path / "store")) == 4  # nothing was added either
    images = ImageRegions(RegionsRecipe(store=str(tmp_path / "store")), source, processor, new_accelerator())
    with pytest.raises(ValueError, match=r"4 of 4 images are not those .* \(regions.store\)"):
        images.prepare(rows_of(second).select(range(4)))  # it holds every id, so nothing would be extracted
    assert len(images.prepare(rows_of(first))) == 4


def test_an_image_replaced_under_its_name_is_noticed_and_a_copied_folder_is_not(
    tmp_path: Path, source: UpDownGrid, processor: UpDownImageProcessor
) -> None:
    folder = image_folder(tmp_path / "photos", num_images=3)
    options: dict[str, Any] = {"source": source, "image_processor": processor, "output": tmp_path / "store"}
    extract_regions(rows_of(folder), accelerator=new_accelerator(), **options)
    shutil.copytree(folder, tmp_path / "moved")
    extract_regions(rows_of(tmp_path / "moved"), accelerator=new_accelerator(), **options)
    tiny.tiny_image(9, width=SIDE, height=SIDE).save(folder / "1.png")
    with pytest.raises(ValueError, match=r"1 of 3 images are not those .*\(1.png\)"):
        extract_regions(rows_of(folder), accelerator=new_accelerator(), **options)


def test_a_store_that_marked_no_image_serves_as_before(
    tmp_path: Path, source: UpDownGrid, processor: UpDownImageProcessor, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = rows_of(image_folder(tmp_path / "photos", num_images=3))
    options: dict[str, Any] = {"source": source, "image_processor": processor, "output": tmp_path / "store"}
    with monkeypatch.context() as before:
        before.setattr("training.regions.extract.image_mark", lambda image: 0)
        extract_regions(rows.select(range(2)), accelerator=new_accelerator(), **options)
    extract_regions(rows, accelerator=new_accelerator(), **options)
    assert (RegionStore(tmp_path / "store").image_marks == 0).tolist() == [True, True, False]
    other = rows_of(changed_images(tmp_path / "other", num_images=2))
    images = ImageRegions(RegionsRecipe(store=str(tmp_path / "store")), source, processor, new_accelerator())
    assert len(images.prepare(other)) == 2


def test_a_store_by_file_names_serves_annotations_by_numbers(
    tmp_path: Path, source: UpDownGrid, processor: UpDownImageProcessor
) -> None:
    """`updown extract FOLDER` calls an image by its file, COCO and Karpathy by a number."""
    folder = image_folder(tmp_path / "photos", num_images=4)
    options: dict[str, Any] = {"source": source, "image_processor": processor, "output": tmp_path / "store"}
    extract_regions(rows_of(folder), accelerator=new_accelerator(), **options)
    numbered = rows_of(folder).remove_columns("image_id").add_column("image_id", ["70", "71", "72", "73"])
    images = ImageRegions(
        RegionsRecipe(store=str(tmp_path / "store"), flips=True), source, processor, new_accelerator()
    )
    rows = images.prepare(numbered, flips=True)
    assert rows["image_id"][:] == ["70", "71", "72", "73"] and len(images.stores[False]) == 4
    assert images.stores[True].image_ids == ["70", "71", "72", "73"]  # made here, by the names of here
    for flipped in (False, True):
        found = images.batch(rows, np.array([2]), flipped=np.array([flipped]))["region_features"][0]
        expected = features_of(source, processor, folder / "2.png", flipped=flipped)
        assert torch.allclose(found, expected, atol=2e-3, rtol=2e-3)
    unplaced = Dataset.from_dict({"image_id": ["a", "b"], "image": [None, None]})
    message = (
        r"none of the 2 images is in the region store .*: the ids of the data are 'a', 'b', those .* '0.png', .*extract"
    )
    with pytest.raises(ValueError, match=message):
        ImageRegions(RegionsRecipe(store=str(tmp_path / "store")), None, processor, new_accelerator()).prepare(unplaced)


def test_rows_that_repeat_an_image_are_extracted_once(
    tmp_path: Path, source: UpDownGrid, processor: UpDownImageProcessor
) -> None:
    rows = rows_of(image_folder(tmp_path / "photos", num_images=2)).select([0, 1, 0])
    images = ImageRegions(RegionsRecipe(store=str(tmp_path / "store")), source, processor, new_accelerator())
    assert images.prepare(rows)["image_id"][:] == ["0.png", "1.png", "0.png"] and len(images.stores[False]) == 2


TASKS: dict[str, Any] = {"captioning": tiny_recipe, "vqa": tiny_vqa_recipe, "retrieval": tiny_retrieval_recipe}


@pytest.mark.parametrize("task", TASKS)
def test_every_task_asks_its_store_before_it_builds_anything(
    task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that nobody adds to holds 3 of the images: one warning or an error, with numbers and an example."""
    folder = image_folder(tmp_path / "photos", num_images=12)
    questions = [
        {"image": f"{number}.png", "image_id": f"{number}.png", "split": ("train", "train", "val", "test")[number % 4]}
        | {"question_id": str(number), "question": "how many?", "answer": "two", "answers": ["two"] * 10}
        for number in range(12)
    ]
    if task == "vqa":
        write_questions(folder / "questions.jsonl", questions)
        (folder / "metadata.csv").unlink()
    held = {"0.png", "1.png", "4.png", "6.png", "2.png", "10.png", "3.png", "7.png", "11.png"}
    with RegionStoreWriter(tmp_path / "regions", fingerprint={}) as writer:
        for image_id in sorted(held):
            box = torch.tensor([[[0.0, 0.0, 1.0, 1.0]]])
            writer.append([image_id], {"region_features": torch.ones(1, 1, 8), "region_boxes": box})
    regions = RegionsRecipe(store=str(tmp_path / "regions"), min_share=0.6)
    recipe = TASKS[task](tmp_path, data={"format": "folder", "folder": str(folder)}, regions=regions)
    monkeypatch.setattr("training.tasks.top_down.TopDownTask.adopt", never_called)
    with pytest.raises(
        ValueError, match=r"3 of the 6 images have no regions in the store .*, such as '5.png', '8.png'"
    ):
        build_task(recipe, new_accelerator()).prepare()
    monkeypatch.undo()
    recipe.regions.min_share = 0.5
    with pytest.warns(UserWarning, match="no regions") as told:
        prepared: Any = build_task(recipe, new_accelerator())
        prepared.prepare()
    assert len([one for one in told if "no regions" in str(one.message)]) == 1
    recipe.regions.min_share, recipe.train.split, recipe.evaluate.split = 0.6, "val", "train"
    with pytest.raises(ValueError, match=r"evaluate.split is 'train': 3 of the 6 images have no regions"):
        build_task(recipe, new_accelerator()).prepare()


def never_called(*arguments: Any) -> None:
    raise AssertionError("a model was built")
