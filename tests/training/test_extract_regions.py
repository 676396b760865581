"""Region extraction: resumable, shared out over processes, patient with broken photos; and stores in training."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from PIL import Image
from torch.utils.data import DataLoader

from modeling_updown import UpDownGrid, UpDownGridConfig, UpDownImageProcessor
from tests.training.tiny_run import new_accelerator, tiny_recipe
from training.data.captioning import load_captions
from training.data.region_store import RegionStore
from training.extract_regions import PhotoRegions, crop, extract_regions, join_padded, random_crop, source_fingerprint
from training.recipe import RegionsRecipe
from training.scenes import scenes_dataset
from training.tasks import build_task
from training.train import StepPieces, one_line

SIDE = 32


@pytest.fixture(scope="module")
def source() -> UpDownGrid:
    torch.manual_seed(1)
    config = UpDownGridConfig(backbone="test_vit", image_size=SIDE, grid_size=2, region_feature_size=64)
    return UpDownGrid(config).eval()


@pytest.fixture
def processor() -> UpDownImageProcessor:
    return UpDownImageProcessor(size={"height": SIDE, "width": SIDE})


def photo_folder(folder: Path, *, num_photos: int, broken: tuple[int, ...] = ()) -> Path:
    """Drawn photos `0.png ..` with a table of two captions each; the broken ones are cut short."""
    folder.mkdir()
    rows = scenes_dataset(num_photos, image_size=SIDE)
    lines = ["file_name,caption,split"]
    for number, row in enumerate(rows):
        row["image"].save(folder / f"{number}.png")
        if number in broken:
            content = (folder / f"{number}.png").read_bytes()
            (folder / f"{number}.png").write_bytes(content[: len(content) // 2])
        split = ("train", "train", "val", "test")[number % 4]
        lines += [f"{number}.png,{caption},{split}" for caption in row["captions"][:2]]
    (folder / "metadata.csv").write_text("\n".join(lines) + "\n")
    return folder


def rows_of(folder: Path) -> Dataset:
    return load_captions("folder", folder=str(folder))


def features_of(
    source: UpDownGrid, processor: UpDownImageProcessor, path: Path, *, flipped: bool = False
) -> torch.Tensor:
    photo = Image.open(path).convert("RGB")
    photo = photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flipped else photo
    with torch.no_grad():
        return source(processor(photo, return_tensors="pt").pixel_values).region_features[0]


@pytest.mark.parametrize("flipped", [False, True])
def test_a_store_holds_each_photos_own_features(
    tmp_path: Path, source: UpDownGrid, processor: UpDownImageProcessor, flipped: bool
) -> None:
    folder = photo_folder(tmp_path / "photos", num_photos=5)
    options: dict[str, Any] = {"source": source, "image_processor": processor, "batch_size": 2, "flipped": flipped}
    assert extract_regions(rows_of(folder), output=tmp_path / "store", accelerator=new_accelerator(), **options) == []
    store = RegionStore(tmp_path / "store")
    assert sorted(store.image_ids) == [f"{number}.png" for number in range(5)]
    for number in range(5):
        expected = features_of(source, processor, folder / f"{number}.png", flipped=flipped)
        assert torch.allclose(store[f"{number}.png"]["region_features"].float(), expected, atol=2e-3, rtol=2e-3)
    assert store.fingerprint == source_fingerprint(source, flipped=flipped)


def test_broken_photos_are_listed_and_tried_again(
    tmp_path: Path, source: UpDownGrid, processor: UpDownImageProcessor, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = photo_folder(tmp_path / "photos", num_photos=6, broken=(1, 4))
    options: dict[str, Any] = {"source": source, "image_processor": processor, "output": tmp_path / "store"}
    broken = extract_regions(rows_of(folder), accelerator=new_accelerator(), batch_size=2, **options)
    assert [line.split(":")[0] for line in broken] == ["1.png", "4.png"]
    assert "2 photos could not be read and were skipped" in capsys.readouterr().err
    assert len(RegionStore(tmp_path / "store")) == 4
    scenes_dataset(2, image_size=SIDE)[1]["image"].save(folder / "1.png")  # mended
    broken = extract_regions(rows_of(folder), accelerator=new_accelerator(), **options)
    assert [line.split(":")[0] for line in broken] == ["4.png"]
    assert len(RegionStore(tmp_path / "store")) == 5


def test_extraction_goes_on_where_it_was_killed(
    tmp_path: Path, source: UpDownGrid, processor: UpDownImageProcessor, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = photo_folder(tmp_path / "photos", num_photos=6)
    options: dict[str, Any] = {"source": source, "image_processor": processor, "output": tmp_path / "store"}
    calls = []

    def dies_in_the_third_batch(photos: list[Any], **more: Any) -> Any:
        calls.append(len(photos))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return processor(photos, **more)

    with pytest.raises(KeyboardInterrupt):
        interrupted = {**options, "image_processor": dies_in_the_third_batch}
        extract_regions(rows_of(folder), accelerator=new_accelerator(), batch_size=2, **interrupted)
    assert len(RegionStore(tmp_path / "store")) == 4
    extract_regions(rows_of(folder), accelerator=new_accelerator(), batch_size=2, **options)
    assert len(RegionStore(tmp_path / "store")) == 6
    extract_regions(rows_of(folder), accelerator=new_accelerator(), **options)  # nothing is left to do
    assert len(RegionStore(tmp_path / "store").image_ids) == 6


def test_a_store_of_another_source_is_refused(
    tmp_path: Path, source: UpDownGrid, processor: UpDownImageProcessor
) -> None:
    rows = rows_of(photo_folder(tmp_path / "photos", num_photos=3))
    options: dict[str, Any] = {"image_processor": processor, "output": tmp_path / "store"}
    extract_regions(rows, source=source, accelerator=new_accelerator(), **options)
    other = UpDownGrid(source.config)
    with pytest.raises(ValueError, match="was made otherwise .*weights.*; use another folder"):
        extract_regions(rows, source=other, accelerator=new_accelerator(), **options)
    photos = PhotoRegions(RegionsRecipe(store=str(tmp_path / "store")), other, processor, new_accelerator())
    with pytest.raises(ValueError, match="were not made as expected .*weights"):
        photos.prepare(rows)  # it holds every photo, so nothing would be extracted


def test_batches_mix_photos_and_mirrored_photos_in_order(
    tmp_path: Path, source: UpDownGrid, processor: UpDownImageProcessor
) -> None:
    folder = photo_folder(tmp_path / "photos", num_photos=4)
    indices, flipped = np.array([3, 0, 2, 1]), np.array([True, False, False, True])
    stored = PhotoRegions(RegionsRecipe(store=str(tmp_path / "store")), source, processor, new_accelerator())
    pixels = PhotoRegions(RegionsRecipe(), source, processor, new_accelerator())
    batch = stored.batch(stored.prepare(rows_of(folder), flips=True), indices, flipped=flipped)
    seen = pixels.batch(pixels.prepare(rows_of(folder)), indices, flipped=flipped)
    assert set(batch) == {"region_features", "region_boxes", "region_mask"} and set(seen) == {"pixel_values"}
    with torch.no_grad():
        from_pixels = source(seen["pixel_values"])
    assert torch.allclose(batch["region_features"], from_pixels.region_features, atol=2e-3, rtol=2e-3)
    assert torch.equal(batch["region_boxes"], from_pixels.region_boxes) and batch["region_mask"].all()
    alone = features_of(source, processor, folder / "3.png", flipped=True)
    assert torch.allclose(batch["region_features"][0], alone, atol=2e-3, rtol=2e-3)


def test_a_task_leaves_out_the_photos_its_store_lacks(tmp_path: Path) -> None:
    folder = photo_folder(tmp_path / "photos", num_photos=12, broken=(0, 2))
    recipe = tiny_recipe(tmp_path, data={"format": "folder", "folder": str(folder)})
    task = build_task(recipe, new_accelerator())
    task.prepare()
    assert task.train_rows["image_id"][:] == ["1.png", "4.png", "5.png", "8.png", "9.png"] and task.num_rows == 5
    assert task.evaluation_rows("val")["image_id"][:] == ["6.png", "10.png"]
    assert len(task.token_ids) == 5


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_broken_photo_in_training_is_named_with_the_cure(tmp_path: Path, num_workers: int) -> None:
    folder = photo_folder(tmp_path / "photos", num_photos=8, broken=(5,))
    recipe = tiny_recipe(tmp_path, data={"format": "folder", "folder": str(folder)})
    recipe.regions.store = ""
    accelerator = new_accelerator()
    task = build_task(recipe, accelerator)
    task.prepare()
    pieces = StepPieces(task, np.array([[0, 1], [2, 3]]), epoch=0, accelerator=accelerator, pieces=1)
    with pytest.raises(ValueError) as caught:
        list(DataLoader(pieces, batch_size=None, num_workers=num_workers))
    told = one_line(caught.value)
    assert told.startswith("photo '5.png' cannot be read (") and "cut short" in told
    assert told.endswith("take it out of the data, or set regions.store, which lists such photos and leaves them out")


def test_photos_that_a_table_names_but_nobody_has_are_listed(tmp_path: Path) -> None:
    folder = photo_folder(tmp_path / "photos", num_photos=8)
    (folder / "4.png").unlink()
    task = build_task(tiny_recipe(tmp_path, data={"format": "folder", "folder": str(folder)}), new_accelerator())
    with pytest.warns(UserWarning, match=r"1 of 4 photos are not in .* and are left out: 4.png"):
        task.prepare()
    assert task.num_rows == 3


def test_ways_to_regions_that_lead_nowhere(tmp_path: Path, source: UpDownGrid, processor: UpDownImageProcessor) -> None:
    accelerator = new_accelerator()
    with pytest.raises(ValueError, match=r"regions.trained needs pixels at every step: leave regions.store empty"):
        PhotoRegions(RegionsRecipe(store="x", trained=True), source, processor, accelerator)
    with pytest.raises(ValueError, match=r"owns no region source: name the folder .* in regions.store"):
        PhotoRegions(RegionsRecipe(), None, processor, accelerator)
    without_photos = Dataset.from_dict({"image_id": ["a"], "image": [None]})
    with pytest.raises(ValueError, match="photo 'a' cannot be read .the row has no photo: name the photo folder"):
        photos = PhotoRegions(RegionsRecipe(), source, processor, accelerator)
        photos.batch(photos.prepare(without_photos), np.array([0]), flipped=np.array([False]))
    with pytest.raises(ValueError, match="is no region store"):
        PhotoRegions(RegionsRecipe(store=str(tmp_path)), None, processor, accelerator).prepare(without_photos)


def test_padding_joins_batches_of_different_region_counts() -> None:
    joined = join_padded([torch.ones(2, 1, 3), torch.full((1, 2, 3), 2.0)])
    assert joined.tolist() == [[[1.0] * 3, [0.0] * 3]] * 2 + [[[2.0] * 3] * 2]


def test_a_crop_is_the_part_of_the_photo_inside_its_box() -> None:
    levels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    photo = Image.fromarray(levels).convert("RGB")
    part = np.asarray(crop(photo, np.array([0.25, 0.0, 0.75, 2 / 3])))[..., 0]
    assert part.tolist() == [[1, 2], [5, 6]]
    assert crop(photo, np.array([0.1, 0.1, 0.1, 0.1])).size == (1, 1)


def test_random_crops_keep_the_share_that_was_asked_for() -> None:
    boxes = np.stack([random_crop(np.random.default_rng(seed), 0.6) for seed in range(500)])
    sides = boxes[:, 2:] - boxes[:, :2]
    assert boxes.min() >= 0 and boxes.max() <= 1 + 1e-12
    assert sides.prod(axis=1).max() <= 1 + 1e-12 and sides.prod(axis=1).mean() < 0.85
    whole = (sides < 1).all(axis=1)  # neither side was cut off at the photo's edge
    assert sides[whole].prod(axis=1).min() >= 0.6 - 1e-12
    assert (sides[whole, 0] / sides[whole, 1]).min() >= 3 / 4 - 1e-9


def test_crops_need_pixels(tmp_path: Path) -> None:
    regions = RegionsRecipe(store=str(tmp_path), crops=0.5)
    with pytest.raises(ValueError, match=r"regions\.crops needs pixels"):
        PhotoRegions(regions, None, None, None)
