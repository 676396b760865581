"""Region extraction: resumable, shared out over processes, patient with broken images; and stores in training."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from PIL import Image
from torch.utils.data import DataLoader

from modeling_updown import UpDownDetector, UpDownGrid, UpDownGridConfig, UpDownImageProcessor
from tests import tiny
from tests.training.tiny_run import log_of, new_accelerator, tiny_recipe, train_here
from training.data.captions.formats import load_captions
from training.recipe_sections import RegionsRecipe
from training.regions.extract import (
    ImageRegions,
    RegionExtractor,
    batches_by_size,
    crop,
    extract_regions,
    join_padded,
    mirror,
    random_crop,
    source_fingerprint,
    undecoded,
)
from training.regions.store import RegionStore
from training.scenes.draw import scenes_dataset
from training.tasks import build_task
from training.train import StepPieces, one_line

SIDE = 32
SIZES = [(64, 48), (100, 60), (48, 64), (64, 48), (30, 90), (64, 64), (100, 60), (64, 48)]  # width, height
DETECTORS = {"caffe": tiny.tiny_detector, "pyramid": tiny.tiny_pyramid_detector}


@pytest.fixture(scope="module")
def source() -> UpDownGrid:
    torch.manual_seed(1)
    config = UpDownGridConfig(backbone="test_vit", image_size=SIDE, grid_size=2, region_feature_size=64)
    return UpDownGrid(config).eval()


@pytest.fixture
def processor() -> UpDownImageProcessor:
    return UpDownImageProcessor(size={"height": SIDE, "width": SIDE})


def image_folder(folder: Path, *, num_images: int, broken: tuple[int, ...] = ()) -> Path:
    """Drawn images `0.png ..` with a table of two captions each; the broken ones are cut short."""
    folder.mkdir()
    rows = scenes_dataset(num_images, image_size=SIDE)
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
    image = Image.open(path).convert("RGB")
    image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flipped else image
    with torch.no_grad():
        return source(processor(image, return_tensors="pt").pixel_values).region_features[0]


@pytest.mark.parametrize("flipped", [False, True])
def test_a_store_holds_each_images_own_features(
    tmp_path: Path, source: UpDownGrid, processor: UpDownImageProcessor, flipped: bool
) -> None:
    folder = image_folder(tmp_path / "photos", num_images=5)
    options: dict[str, Any] = {"source": source, "image_processor": processor, "batch_size": 2, "flipped": flipped}
    assert extract_regions(rows_of(folder), output=tmp_path / "store", accelerator=new_accelerator(), **options) == []
    store = RegionStore(tmp_path / "store")
    assert sorted(store.image_ids) == [f"{number}.png" for number in range(5)]
    for number in range(5):
        expected = features_of(source, processor, folder / f"{number}.png", flipped=flipped)
        assert torch.allclose(store[f"{number}.png"]["region_features"].float(), expected, atol=2e-3, rtol=2e-3)
    assert store.fingerprint == source_fingerprint(source, flipped=flipped)


def test_broken_images_are_listed_and_tried_again(
    tmp_path: Path, source: UpDownGrid, processor: UpDownImageProcessor, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = image_folder(tmp_path / "photos", num_images=6, broken=(1, 4))
    options: dict[str, Any] = {"source": source, "image_processor": processor, "output": tmp_path / "store"}
    broken = extract_regions(rows_of(folder), accelerator=new_accelerator(), batch_size=2, **options)
    assert [line.split(":")[0] for line in broken] == ["1.png", "4.png"]
    assert "2 images could not be read and were skipped" in capsys.readouterr().err
    assert len(RegionStore(tmp_path / "store")) == 4
    scenes_dataset(2, image_size=SIDE)[1]["image"].save(folder / "1.png")  # mended
    broken = extract_regions(rows_of(folder), accelerator=new_accelerator(), **options)
    assert [line.split(":")[0] for line in broken] == ["4.png"]
    assert len(RegionStore(tmp_path / "store")) == 5


def test_extraction_goes_on_where_it_was_killed(
    tmp_path: Path, source: UpDownGrid, processor: UpDownImageProcessor, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = image_folder(tmp_path / "photos", num_images=6)
    options: dict[str, Any] = {"source": source, "image_processor": processor, "output": tmp_path / "store"}
    calls = []

    def dies_in_the_third_batch(images: list[Any], **more: Any) -> Any:
        calls.append(len(images))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return processor(images, **more)

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
    rows = rows_of(image_folder(tmp_path / "photos", num_images=3))
    options: dict[str, Any] = {"image_processor": processor, "output": tmp_path / "store"}
    extract_regions(rows, source=source, accelerator=new_accelerator(), **options)
    other = UpDownGrid(source.config)
    with pytest.raises(ValueError, match="has another fingerprint .*weights.*; use another folder"):
        extract_regions(rows, source=other, accelerator=new_accelerator(), **options)
    images = ImageRegions(RegionsRecipe(store=str(tmp_path / "store")), other, processor, new_accelerator())
    with pytest.raises(ValueError, match="were not made as expected .*weights"):
        images.prepare(rows)  # it holds every image, so nothing would be extracted


def test_batches_mix_images_and_mirrored_images_in_order(
    tmp_path: Path, source: UpDownGrid, processor: UpDownImageProcessor
) -> None:
    folder = image_folder(tmp_path / "photos", num_images=4)
    indices, flipped = np.array([3, 0, 2, 1]), np.array([True, False, False, True])
    stored = ImageRegions(RegionsRecipe(store=str(tmp_path / "store")), source, processor, new_accelerator())
    pixels = ImageRegions(RegionsRecipe(), source, processor, new_accelerator())
    batch = stored.batch(stored.prepare(rows_of(folder), flips=True), indices, flipped=flipped)
    seen = pixels.batch(pixels.prepare(rows_of(folder)), indices, flipped=flipped)
    assert set(batch) == {"region_features", "region_boxes", "region_mask"} and set(seen) == {"pixel_values"}
    with torch.no_grad():
        from_pixels = source(seen["pixel_values"])
    assert torch.allclose(batch["region_features"], from_pixels.region_features, atol=2e-3, rtol=2e-3)
    assert torch.equal(batch["region_boxes"], from_pixels.region_boxes) and batch["region_mask"].all()
    alone = features_of(source, processor, folder / "3.png", flipped=True)
    assert torch.allclose(batch["region_features"][0], alone, atol=2e-3, rtol=2e-3)


def test_a_task_leaves_out_the_images_its_store_lacks(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "photos", num_images=12, broken=(0, 2))
    recipe = tiny_recipe(tmp_path, data={"format": "folder", "folder": str(folder)})
    task: Any = build_task(recipe, new_accelerator())
    with pytest.warns(UserWarning, match="images have no regions in the store .* they are left out") as told:
        task.prepare()
    lost = [str(one.message) for one in told if "no regions" in str(one.message)]
    assert [line.split(" images")[0] for line in lost] == ["1 of the 3", "1 of the 6"]
    assert task.train_rows["image_id"][:] == ["1.png", "4.png", "5.png", "8.png", "9.png"] and task.num_rows == 5
    assert task.evaluation_rows("val")["image_id"][:] == ["6.png", "10.png"]
    assert len(task.token_ids) == 5


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_broken_image_in_training_is_named_with_the_cure(tmp_path: Path, num_workers: int) -> None:
    folder = image_folder(tmp_path / "photos", num_images=8, broken=(5,))
    recipe = tiny_recipe(tmp_path, data={"format": "folder", "folder": str(folder)})
    recipe.regions.store = ""
    accelerator = new_accelerator()
    task = build_task(recipe, accelerator)
    task.prepare()
    pieces = StepPieces(task, np.array([[0, 1], [2, 3]]), epoch=0, accelerator=accelerator, pieces=1)
    with pytest.raises(ValueError) as caught:
        list(DataLoader(pieces, batch_size=None, num_workers=num_workers))
    told = one_line(caught.value)
    assert told.startswith("image '5.png' cannot be read (") and "cut short" in told
    assert told.endswith("take it out of the data, or set regions.store, which lists such images and leaves them out")


def test_images_that_a_table_names_but_nobody_has_are_listed(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "photos", num_images=8)
    (folder / "4.png").unlink()
    task = build_task(tiny_recipe(tmp_path, data={"format": "folder", "folder": str(folder)}), new_accelerator())
    with pytest.warns(UserWarning, match=r"1 of 4 images are not in .* and are left out: 4.png"):
        task.prepare()
    assert task.num_rows == 3


def test_ways_to_regions_that_lead_nowhere(tmp_path: Path, source: UpDownGrid, processor: UpDownImageProcessor) -> None:
    accelerator = new_accelerator()
    with pytest.raises(ValueError, match=r"regions.trained needs pixels at every step: leave regions.store empty"):
        ImageRegions(RegionsRecipe(store="x", trained=True), source, processor, accelerator)
    with pytest.raises(ValueError, match=r"has no region source: name the folder .* in regions.store"):
        ImageRegions(RegionsRecipe(), None, processor, accelerator)
    without_images = Dataset.from_dict({"image_id": ["a"], "image": [None]})
    with pytest.raises(ValueError, match="image 'a' cannot be read .the row has no image: name the image folder"):
        images = ImageRegions(RegionsRecipe(), source, processor, accelerator)
        images.batch(images.prepare(without_images), np.array([0]), flipped=np.array([False]))
    with pytest.raises(ValueError, match="is not a region store"):
        ImageRegions(RegionsRecipe(store=str(tmp_path)), None, processor, accelerator).prepare(without_images)


def test_padding_joins_batches_of_different_region_counts() -> None:
    joined = join_padded([torch.ones(2, 1, 3), torch.full((1, 2, 3), 2.0)])
    assert joined.tolist() == [[[1.0] * 3, [0.0] * 3]] * 2 + [[[2.0] * 3] * 2]


def test_a_crop_is_the_part_of_the_image_inside_its_box() -> None:
    levels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    image = Image.fromarray(levels).convert("RGB")
    part = np.asarray(crop(image, np.array([0.25, 0.0, 0.75, 2 / 3])))[..., 0]
    assert part.tolist() == [[1, 2], [5, 6]]
    assert crop(image, np.array([0.1, 0.1, 0.1, 0.1])).size == (1, 1)


def test_random_crops_keep_the_share_that_was_asked_for() -> None:
    boxes = np.stack([random_crop(np.random.default_rng(seed), 0.6) for seed in range(500)])
    sides = boxes[:, 2:] - boxes[:, :2]
    assert boxes.min() >= 0 and boxes.max() <= 1 + 1e-12
    assert sides.prod(axis=1).max() <= 1 + 1e-12 and sides.prod(axis=1).mean() < 0.85
    whole = (sides < 1).all(axis=1)  # neither side was cut off at the image's edge
    assert sides[whole].prod(axis=1).min() >= 0.6 - 1e-12
    assert (sides[whole, 0] / sides[whole, 1]).min() >= 3 / 4 - 1e-9


def test_crops_need_pixels(tmp_path: Path) -> None:
    regions = RegionsRecipe(store=str(tmp_path), crops=0.5)
    with pytest.raises(ValueError, match=r"regions\.crops needs pixels"):
        ImageRegions(regions, None, None, None)


# -- detectors -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=DETECTORS)
def detector(request: pytest.FixtureRequest) -> UpDownDetector:
    return DETECTORS[request.param]()


@pytest.fixture
def detection_processor() -> UpDownImageProcessor:
    return UpDownImageProcessor(size={"shortest_edge": 48, "longest_edge": 96})


def sized_images(folder: Path) -> Dataset:
    """Images of `SIZES`, their ids `0.png ..`."""
    folder.mkdir()
    for number, (width, height) in enumerate(SIZES):
        tiny.tiny_image(number, width=width, height=height).save(folder / f"{number}.png")
    return rows_in(folder)


def rows_in(folder: Path) -> Dataset:
    paths = sorted(folder.iterdir())
    return Dataset.from_dict({"image_id": [path.name for path in paths], "image": [str(path) for path in paths]})


def test_images_of_like_sizes_go_through_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = undecoded(sized_images(tmp_path / "photos"))
    (tmp_path / "photos" / "3.png").write_bytes(b"no image")
    batches = list(batches_by_size(rows, list(range(8)), batch_size=2))
    assert batches == [[4, 2], [0, 7], [5, 1], [6, 3]]  # by width, then height; what has no size comes last
    monkeypatch.setattr("training.regions.extract.WINDOW_BATCHES", 2)
    batches = list(batches_by_size(rows, list(range(8)), batch_size=2))
    assert batches == [[2, 0], [1, 3], [4, 7], [5, 6]]  # a window of four images after the other
    for count in range(len(batches)):
        done = {row for batch in batches[:count] for row in batch} | {4}
        left = [[row for row in batch if row not in done] for batch in batches[count:]]
        assert list(batches_by_size(rows, list(range(8)), batch_size=2, done=done)) == [part for part in left if part]


def test_a_detectors_regions_are_those_of_each_image_alone(
    tmp_path: Path, detector: UpDownDetector, detection_processor: UpDownImageProcessor
) -> None:
    rows = sized_images(tmp_path / "photos")
    stores, selection = [], {"max_regions": 40, "score_threshold": 0.6}
    for batch_size in (1, 3, 8):
        folder = tmp_path / f"store{batch_size}"
        options: dict[str, Any] = {"image_processor": detection_processor, "batch_size": batch_size}
        options["selection"] = selection
        assert extract_regions(rows, source=detector, output=folder, accelerator=new_accelerator(), **options) == []
        stores.append(RegionStore(folder))
    for number, (width, height) in enumerate(SIZES):
        inputs = detection_processor(str(tmp_path / "photos" / f"{number}.png"), return_tensors="pt")
        with torch.no_grad():
            alone = detector(**inputs, **selection)
        for store in stores:
            image = store[f"{number}.png"]
            assert image["object_ids"].tolist() == alone.object_ids[0].tolist()
            assert image["attribute_ids"].tolist() == alone.attribute_ids[0].tolist()
            assert torch.allclose(image["region_features"].float(), alone.region_features[0], rtol=2e-3, atol=2e-3)
            for name in ("region_boxes", "region_scores", "attribute_scores"):
                assert torch.allclose(image[name], alone[name][0], atol=1e-5), name
            assert image["image_size"].tolist() == [height, width]
    assert len({count for store in stores for count in store.num_regions.tolist()}) > 1


def test_mirrored_images_of_several_sizes_are_mirrored_inside_their_own_width(
    tmp_path: Path, detector: UpDownDetector, detection_processor: UpDownImageProcessor
) -> None:
    rows = sized_images(tmp_path / "photos")
    options: dict[str, Any] = {"image_processor": detection_processor, "output": tmp_path / "store", "flipped": True}
    extract_regions(rows, source=detector, accelerator=new_accelerator(), **options)
    store = RegionStore(tmp_path / "store")
    for number in (1, 4):
        image = Image.open(tmp_path / "photos" / f"{number}.png").transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        with torch.no_grad():
            expected = detector(**detection_processor(image, return_tensors="pt"))
        assert torch.allclose(store[f"{number}.png"]["region_boxes"], expected.region_boxes[0], atol=1e-3)
        assert store[f"{number}.png"]["object_ids"].tolist() == expected.object_ids[0].tolist()


def test_mirroring_leaves_the_padding_on_the_right() -> None:
    pixels = torch.arange(12.0).reshape(2, 1, 2, 3)
    mask = torch.ones(2, 2, 3, dtype=torch.bool)
    mask[0, :, 2] = False
    mirrored = mirror({"pixel_values": pixels, "pixel_mask": mask}, torch.tensor([True, False]))
    assert mirrored["pixel_values"][0, 0].tolist() == [[1, 0, 2], [4, 3, 5]]
    assert torch.equal(mirrored["pixel_values"][1], pixels[1]) and mirrored["pixel_mask"] is mask
    assert pixels[0, 0, 0].tolist() == [0, 1, 2]  # what was given stays as it is
    whole = mirror({"pixel_values": pixels}, torch.tensor([False, True]))
    assert whole["pixel_values"][1, 0].tolist() == [[8, 7, 6], [11, 10, 9]]


def test_strange_images_cost_no_others(
    tmp_path: Path, detector: UpDownDetector, detection_processor: UpDownImageProcessor
) -> None:
    rows = sized_images(tmp_path / "photos")
    folder = tmp_path / "photos"
    (folder / "cut.jpg").write_bytes((folder / "1.png").read_bytes()[:80])
    (folder / "empty.png").write_bytes(b"")
    (folder / "song.mp3.jpg").write_bytes(b"ID3" + bytes(range(256)))
    (folder / "folder.png").mkdir()
    Image.new("RGB", (1, 1), "red").save(folder / "dot.png")
    Image.new("RGB", (20000, 4), "blue").save(folder / "long.png")
    Image.new("RGB", (4, 3000), "blue").save(folder / "tall.png")
    rows = rows_in(folder)
    options: dict[str, Any] = {"source": detector, "image_processor": detection_processor, "batch_size": 4}
    broken = extract_regions(rows, output=tmp_path / "store", accelerator=new_accelerator(), **options)
    store = RegionStore(tmp_path / "store")
    listed = {line.split(": ")[0] for line in broken}
    assert listed >= {"cut.jpg", "empty.png", "folder.png", "song.mp3.jpg"}
    assert listed <= {"cut.jpg", "empty.png", "folder.png", "song.mp3.jpg", "long.png", "tall.png"}
    assert set(store.image_ids) == set(rows["image_id"]) - listed
    assert store["dot.png"]["image_size"].tolist() == [1, 1]
    assert all(len(line.split(": ", 1)[1]) > 20 and "\n" not in line for line in broken)
    again = extract_regions(rows, output=tmp_path / "store", accelerator=new_accelerator(), **options)
    assert sorted(again) == sorted(broken)


def test_an_image_whose_regions_are_no_numbers_is_listed(
    tmp_path: Path, detection_processor: UpDownImageProcessor, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, detector = sized_images(tmp_path / "photos"), tiny.tiny_detector()
    regions_of = RegionExtractor.regions

    def spoiled(maker: RegionExtractor, images: list[Any], **options: Any) -> dict[str, torch.Tensor]:
        regions = regions_of(maker, images, **options)
        for place, image in enumerate(images):
            if image.size == (30, 90):
                regions["region_features"][place, 0, 0] = float("nan")
        return regions

    monkeypatch.setattr(RegionExtractor, "regions", spoiled)
    options: dict[str, Any] = {"source": detector, "image_processor": detection_processor}
    broken = extract_regions(rows, output=tmp_path / "store", accelerator=new_accelerator(), **options)
    assert len(broken) == 1 and broken[0].startswith("4.png: image '4.png' has region_features that are NaN")
    assert len(RegionStore(tmp_path / "store")) == 7


def test_the_selection_is_the_processors_unless_given(
    tmp_path: Path, detector: UpDownDetector, detection_processor: UpDownImageProcessor
) -> None:
    rows = sized_images(tmp_path / "photos").select(range(3))
    detection_processor.min_regions = detection_processor.max_regions = 6
    options: dict[str, Any] = {"source": detector, "image_processor": detection_processor}
    extract_regions(rows, output=tmp_path / "six", accelerator=new_accelerator(), **options)
    assert RegionStore(tmp_path / "six").num_regions.tolist() == [6, 6, 6]
    selection = {"min_regions": 2, "max_regions": 3, "score_threshold": 0.99}
    extract_regions(rows, output=tmp_path / "few", accelerator=new_accelerator(), selection=selection, **options)
    store = RegionStore(tmp_path / "few")
    assert set(store.num_regions.tolist()) <= {2, 3}
    assert {name: store.fingerprint[name] for name in selection} == selection
    with pytest.raises(ValueError, match="min_regions: stored 2, expected 6; max_regions: stored 3, expected 6"):
        extract_regions(rows, output=tmp_path / "few", accelerator=new_accelerator(), **options)
    with pytest.raises(ValueError, match="min_regions 40 is more than max_regions 6: set the other one too"):
        wrong = {"min_regions": 40}
        extract_regions(rows, output=tmp_path / "new", accelerator=new_accelerator(), selection=wrong, **options)
    assert not (tmp_path / "new").exists()


def test_a_detectors_fingerprint_names_how_images_are_prepared(
    tmp_path: Path, detection_processor: UpDownImageProcessor
) -> None:
    rows = sized_images(tmp_path / "photos").select(range(2))
    detector = tiny.tiny_pyramid_detector()
    options: dict[str, Any] = {"output": tmp_path / "store", "accelerator": new_accelerator()}
    extract_regions(rows, source=detector, image_processor=detection_processor, **options)
    stored = RegionStore(tmp_path / "store").fingerprint
    assert stored["size"] == {"shortest_edge": 48, "longest_edge": 96} and stored["model_type"] == "updown_detector"
    detector.save_pretrained(tmp_path / "detector")
    detection_processor.save_pretrained(tmp_path / "detector")
    loaded = UpDownDetector.from_pretrained(tmp_path / "detector")
    processor = UpDownImageProcessor.from_pretrained(tmp_path / "detector")
    extract_regions(rows, source=loaded, image_processor=processor, **options)  # goes on
    larger = UpDownImageProcessor(size={"shortest_edge": 64, "longest_edge": 96})
    with pytest.raises(
        ValueError, match=r"has another fingerprint \(size: stored .*48.*, expected .*64.*\); use another"
    ):
        extract_regions(rows, source=detector, image_processor=larger, **options)
    detection_processor.channel_order = "bgr"
    with pytest.raises(ValueError, match="channel_order: stored 'rgb', expected 'bgr'"):
        extract_regions(rows, source=detector, image_processor=detection_processor, **options)
    other = tiny.tiny_pyramid_detector(nms_thresholds=[0.4])
    with pytest.raises(ValueError, match=r"nms_thresholds: stored \[0.5\], expected \[0.4\]"):
        extract_regions(rows, source=other, image_processor=processor, **options)


def test_soft_labels_are_kept_only_when_asked_for(
    tmp_path: Path, detector: UpDownDetector, detection_processor: UpDownImageProcessor
) -> None:
    rows = sized_images(tmp_path / "photos")
    options: dict[str, Any] = {"source": detector, "image_processor": detection_processor}
    for wanted in (False, True):
        folder = tmp_path / f"store-{wanted}"
        first = {"accelerator": new_accelerator(), "output": folder, "soft_labels": wanted, **options}
        extract_regions(rows.select(range(4)), **first)
        with pytest.raises(ValueError, match="soft labels: extract with" + ("" if wanted else "out")):
            extract_regions(rows, **{**first, "soft_labels": not wanted})
        extract_regions(rows, **first)
    plain, soft = RegionStore(tmp_path / "store-False"), RegionStore(tmp_path / "store-True")
    assert len(plain) == len(soft) == 8
    assert "object_probs" not in plain.column_names and "attribute_probs" not in plain.column_names
    assert {"region_scores", "object_ids", "attribute_ids", "attribute_scores"} <= set(plain.column_names)
    probs = soft["1.png"]["object_probs"]
    assert probs.shape[1] == 13 and torch.allclose(probs.float().sum(dim=1), torch.ones(len(probs)), atol=2e-3)
    best = probs[:, 1:].argmax(dim=1) + 1
    assert (best == soft["1.png"]["object_ids"]).float().mean() > 0.5  # suppression may leave another class
    assert soft["1.png"]["attribute_probs"].shape[1] == 6


def test_rough_numbers_reach_the_disk_batch_by_batch(
    tmp_path: Path,
    detector: UpDownDetector,
    detection_processor: UpDownImageProcessor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    images = sized_images(tmp_path / "photos")
    on_disk = []
    regions = RegionExtractor.regions

    def counted(maker: RegionExtractor, images: list[Any], **options: Any) -> dict[str, torch.Tensor]:
        found = tmp_path / "store" / "store.json"
        on_disk.append(sum(shard["photos"] for shard in json.loads(found.read_text())["shards"]))
        return regions(maker, images, **options)

    monkeypatch.setattr(RegionExtractor, "regions", counted)
    broken = extract_regions(
        images,
        source=detector,
        image_processor=detection_processor,
        output=tmp_path / "store",
        batch_size=2,
        accelerator=new_accelerator(mixed_precision="bf16"),
    )
    assert broken == [] and on_disk == list(range(0, len(images), 2))
    assert set(RegionStore(tmp_path / "store").image_ids) == set(images["image_id"])


def test_a_grid_selects_and_names_nothing(tmp_path: Path, source: UpDownGrid, processor: UpDownImageProcessor) -> None:
    rows = rows_of(image_folder(tmp_path / "photos", num_images=2))
    options: dict[str, Any] = {"source": source, "image_processor": processor, "output": tmp_path / "store"}
    for asked in ({"selection": {"max_regions": 3}}, {"selection": {"grid_sizes": [7]}}, {"soft_labels": True}):
        with pytest.raises(
            ValueError, match="a grid has neither a region selection nor soft labels: leave out min_regions"
        ):
            extract_regions(rows, accelerator=new_accelerator(), **asked, **options)


# -- captions from a detector's regions ------------------------------------------------------------------------------


def captioning_recipe(folder: Path, *, store: bool, flips: bool = False) -> Any:
    """Images of several sizes with captions, and a captioner on a saved tiny detector."""
    detector = folder / "detector"
    if not detector.is_dir():
        tiny.tiny_pyramid_detector().save_pretrained(detector)
        UpDownImageProcessor(size={"shortest_edge": 48, "longest_edge": 96}).save_pretrained(detector)
        sized_images(folder / "photos")
        lines = [
            f"{number}.png,{caption},{('train', 'val', 'test')[min(max(number - 5, 0), 2)]}"
            for number in range(len(SIZES))
            for caption in (tiny.CAPTIONS[number % 4], tiny.CAPTIONS[(number + 1) % 4])
        ]
        (folder / "photos" / "metadata.csv").write_text("\n".join(["file_name,caption,split", *lines]) + "\n")
    name = f"store-{flips}" if store else ""
    regions = RegionsRecipe(pretrained=str(detector), store=name and str(folder / name), flips=flips)
    recipe = tiny_recipe(
        folder,
        data={"format": "folder", "folder": str(folder / "photos")},
        regions=regions,
        train={"epochs": 8, "batch_size": 3, "learning_rate": 2e-2, "max_words": 12},
        output=str(folder / f"run-{store}-{flips}"),
    )
    recipe.model = {**recipe.model, "initializer_range": 0.5}
    recipe.evaluate.metric = "rouge_l"  # of one image, which has no CIDEr
    return recipe


@pytest.mark.filterwarnings("ignore:CIDEr of a single image is 0")
@pytest.mark.parametrize("flips", [False, True])
def test_a_captioner_learns_and_says_the_same_from_pixels_and_from_a_store(tmp_path: Path, flips: bool) -> None:
    """Images of several sizes: padded pixels with their mask in one run, a detector's store in the other."""
    recipes = [captioning_recipe(tmp_path, store=store, flips=flips) for store in (True, False)]
    for recipe in recipes:
        train_here(recipe)
    stored, seen = (log_of(recipe, "loss") for recipe in recipes)
    assert len(stored) == 16 and min(stored) < stored[0] - 0.4
    assert stored == pytest.approx(seen, abs=0.02)  # a store holds 16 bits
    said = [json.loads((Path(recipe.output) / "best" / "predictions.json").read_text()) for recipe in recipes]
    assert said[0] == said[1] and len(said[0]) == 1
    assert RegionStore(tmp_path / f"store-{flips}").fingerprint["model_type"] == "updown_detector"


def test_a_captioner_says_the_same_from_pixels_and_from_a_store(tmp_path: Path) -> None:
    recipes = [captioning_recipe(tmp_path, store=store) for store in (True, False)]
    model: Any = tiny.tiny_captioner(vision_config=tiny.tiny_pyramid_config())
    model.region_source.load_state_dict(tiny.tiny_pyramid_detector().state_dict())
    processor = tiny.tiny_processor()
    processor.image_processor = UpDownImageProcessor(size={"shortest_edge": 48, "longest_edge": 96})
    for part in (model, processor):
        part.save_pretrained(tmp_path / "captioner")
    stored, seen = (evaluated_from(recipe, tmp_path / "captioner") for recipe in recipes)
    assert stored == seen and len({row["caption"] for row in stored}) > 3
    assert len(RegionStore(tmp_path / "store-False")) == 6


def evaluated_from(recipe: Any, folder: Path) -> list[dict[str, str]]:
    """The captions of the training images, four at a time, by a saved model."""
    recipe.evaluate.batch_size = 4
    task = build_task(recipe, new_accelerator())
    model, _ = task.load(folder)
    return task.score(model, split="train", num_beams=2).predictions


def test_reward_training_takes_images_of_several_sizes(tmp_path: Path) -> None:
    recipe = captioning_recipe(tmp_path, store=False)
    recipe.train.objective, recipe.train.samples_per_image = "self_critical", 2
    task = build_task(recipe, new_accelerator())
    task.prepare()
    inputs = task.inputs(np.arange(4), epoch=0)
    assert set(inputs) == {"pixel_values", "pixel_mask", "image_index"}
    total, count, shown = task.loss(task.model.train(), inputs)
    assert torch.isfinite(total) and count > 0 and shown["reward_x100"] >= 0


def test_a_store_with_soft_labels_serves_and_is_completed(tmp_path: Path) -> None:
    recipe = captioning_recipe(tmp_path, store=True)
    rows = rows_in(tmp_path / "photos").filter(lambda row: row["image_id"] in ("0.png", "3.png"))
    detector = UpDownDetector.from_pretrained(tmp_path / "detector")
    processor = UpDownImageProcessor.from_pretrained(tmp_path / "detector")
    for name in ("min_regions", "max_regions", "score_threshold"):
        setattr(processor, name, getattr(detector.config, name))
    options: dict[str, Any] = {"source": detector, "image_processor": processor, "soft_labels": True}
    extract_regions(rows, output=tmp_path / "store-False", accelerator=new_accelerator(), **options)
    task = build_task(recipe, new_accelerator())
    task.prepare()
    store = RegionStore(tmp_path / "store-False")
    assert len(store) == 8 and "object_probs" in store.column_names
    assert set(task.inputs(np.arange(2), epoch=0)) >= {"region_features", "region_boxes", "region_mask"}
