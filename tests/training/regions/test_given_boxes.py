"""Given boxes as regions: what a detector says of them, mirrored, refused, and by the command."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset, Image

from modeling_updown import UpDownDetector, UpDownImageProcessor
from tests import tiny
from tests.training.recipe_files import SHAPES, coco_boxes, coco_images, drawn_scenes, pixel_boxes, write_json
from tests.training.tiny_run import new_accelerator
from training import cli
from training.recipe_sections import RegionsRecipe
from training.regions.extract import ImageRegions, extract_regions
from training.regions.given_boxes import boxes_mark, marked_boxes
from training.regions.store import RegionStore
from training.scenes.draw import scenes_dataset

BOXES = {
    "0": np.array([[0.1, 0.2, 0.6, 0.9], [0.0, 0.0, 1.0, 1.0]], dtype=np.float32),
    "1": np.array([[0.5, 0.25, 0.75, 0.5]], dtype=np.float32),
}


@pytest.fixture(scope="module")
def detector() -> UpDownDetector:
    return tiny.tiny_pyramid_detector()


@pytest.fixture
def processor() -> UpDownImageProcessor:
    return UpDownImageProcessor(size={"shortest_edge": 64, "longest_edge": 96})


@pytest.fixture
def rows(tmp_path: Path) -> Dataset:
    """Two images of different sizes."""
    paths = [tmp_path / f"{number}.png" for number in range(2)]
    for number, path in enumerate(paths):
        tiny.tiny_image(number, width=80 + 16 * number).save(path)
    return Dataset.from_dict({"image_id": ["0", "1"], "image": list(map(str, paths))}).cast_column("image", Image())


@pytest.mark.parametrize("flipped", [False, True])
def test_regions_are_what_the_detector_says_of_the_boxes(
    detector: UpDownDetector, processor: UpDownImageProcessor, rows: Dataset, tmp_path: Path, flipped: bool
) -> None:
    """In float16, in their order, and none besides; of a mirrored image those of the mirrored boxes."""
    store = tmp_path / "store"
    options: dict[str, Any] = {"source": detector, "image_processor": processor, "soft_labels": True}
    assert extract_regions(rows, output=store, boxes=BOXES, flipped=flipped, **options) == []
    found = RegionStore(store)
    for number, (image_id, own) in enumerate(BOXES.items()):
        boxes = torch.from_numpy(own)
        pixels = processor(rows[number]["image"], return_tensors="pt").pixel_values
        if flipped:
            boxes = torch.tensor([[1 - x2, y1, 1 - x1, y2] for x1, y1, x2, y2 in own.tolist()])
            pixels = pixels.flip(-1)
        with torch.no_grad():
            expected = detector(pixels, boxes=boxes[None])
        kept = found[image_id]
        assert torch.allclose(kept["region_boxes"].float(), boxes, atol=1e-3)
        for name in ("region_features", "object_probs", "attribute_probs"):
            assert torch.allclose(kept[name].float(), expected[name][0], atol=2e-3, rtol=2e-3), name


def test_other_boxes_want_another_store(
    detector: UpDownDetector, processor: UpDownImageProcessor, rows: Dataset, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"image_processor": processor, "output": tmp_path / "store"}
    extract_regions(rows, source=detector, boxes=BOXES, **options)
    moved = {**BOXES, "1": BOXES["1"] / 2}
    assert boxes_mark(moved) != boxes_mark(BOXES) == boxes_mark(dict(reversed(BOXES.items())))
    for boxes in (moved, None):
        with pytest.raises(ValueError, match="given_boxes"):
            extract_regions(rows, source=detector, boxes=boxes, **options)
    recipe = RegionsRecipe(store=str(tmp_path / "store"))
    with pytest.raises(ValueError, match="given_boxes"):  # a model that owns the detector would see other regions
        ImageRegions(recipe, detector, processor, new_accelerator()).prepare(rows)
    with pytest.raises(ValueError, match="1 images have no entry among the given boxes, such as '1'"):
        extract_regions(rows, source=detector, boxes={"0": BOXES["0"]}, **options)
    with pytest.raises(ValueError, match="grid_sizes beside boxes: put the cells among the boxes"):
        extract_regions(rows, source=detector, boxes=BOXES, selection={"grid_sizes": [1]}, **options)
    with pytest.raises(ValueError, match="a source of type updown_grid has its own boxes"):
        extract_regions(rows, source=tiny.tiny_grid(), boxes=BOXES, **options)


def test_an_image_without_a_box_is_skipped_by_name(
    detector: UpDownDetector, processor: UpDownImageProcessor, rows: Dataset, tmp_path: Path
) -> None:
    boxes = {**BOXES, "1": np.zeros((0, 4), dtype=np.float32)}
    broken = extract_regions(rows, source=detector, image_processor=processor, output=tmp_path / "store", boxes=boxes)
    assert len(broken) == 1 and broken[0].startswith("1: ") and "has no box" in broken[0]
    assert RegionStore(tmp_path / "store").image_ids == ["0"]


def test_marked_boxes_without_crowds_behind_the_cells() -> None:
    rows = [
        {"image_id": "a", "boxes": [[0, 0, 1, 0.5], [0, 0, 0.5, 0.5]], "crowd": [True, False]},
        {"image_id": "b", "boxes": [], "crowd": []},
        {"image_id": "a", "boxes": [[0.5, 0, 1, 1]], "crowd": [False]},
    ]
    assert marked_boxes(rows)["a"].tolist() == [[0, 0, 0.5, 0.5], [0.5, 0, 1, 1]]
    assert marked_boxes(rows)["b"].shape == (0, 4)
    found = marked_boxes(rows, grid_sizes=[1, 2])
    assert len(found["b"]) == 5 and found["a"][[0, 2]].tolist() == [[0, 0, 1, 1], [0.5, 0, 1, 0.5]]


# -- the command -----------------------------------------------------------------------------------------------------


def test_the_command_takes_a_recipes_boxes(
    detector: UpDownDetector, processor: UpDownImageProcessor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "detector"
    detector.save_pretrained(model)
    processor.save_pretrained(model)
    scenes = [drawn for drawn in drawn_scenes() if drawn.number in (1, 2, 43)]
    for name, chosen in (("train", scenes[:2]), ("val", scenes[2:])):
        categories = [{"id": 1 + i, "name": shape} for i, shape in enumerate(SHAPES)]
        content = {"images": coco_images(chosen), "annotations": coco_boxes(chosen), "categories": categories}
        write_json(tmp_path / f"{name}.json", content)
    for drawn in scenes:
        drawn.image.save(tmp_path / f"{drawn.number:012d}.jpg")
    data = (
        f"{{format: coco, annotations: {{train: {tmp_path}/train.json, val: {tmp_path}/val.json}}, images: {tmp_path}}}"
    )
    changes = ["--boxes", "detection/coco", "--set", f"data={data}", "--grid-sizes", "1", "--flips"]
    output = tmp_path / "people"
    assert run("--source", model, "--output", output, *changes) == 0
    assert "people-flipped: the regions of 3 images" in capsys.readouterr().out
    store, mirrored = RegionStore(output), RegionStore(tmp_path / "people-flipped")
    for drawn in scenes:
        boxes = store[str(drawn.number)]["region_boxes"].float()
        expected = [[x / 64, y / 64, (x + w) / 64, (y + h) / 64] for _, x, y, w, h in pixel_boxes(drawn)]
        assert torch.allclose(boxes, torch.tensor([[0.0, 0.0, 1.0, 1.0], *expected]), atol=2e-3)
        left, top, right, bottom = boxes.T
        flipped = mirrored[str(drawn.number)]["region_boxes"].float()
        assert torch.allclose(flipped, torch.stack([1 - right, top, 1 - left, bottom], dim=1), atol=2e-3)


@pytest.mark.parametrize("recipe", ["grounding/scenes", "dense_captioning/scenes"])
def test_boxes_of_phrases_are_those_of_a_recipe(tmp_path: Path, recipe: str) -> None:
    """Each once, though several phrases speak of it, behind the whole image (which dense captions describe as well)."""
    model = tmp_path / "model"
    tiny.tiny_pyramid_detector().save_pretrained(model)
    UpDownImageProcessor(size={"shortest_edge": 64, "longest_edge": 96}).save_pretrained(model)
    data = "{format: scenes, image_size: 64, num_scenes: {train: 3, val: 2}}"
    changes = ["--boxes", recipe, "--set", f"data={data}", "--grid-sizes", "1"]
    assert run("--source", model, "--output", tmp_path / "people", *changes) == 0
    store = RegionStore(tmp_path / "people")
    assert len(store) == 5
    for scene in scenes_dataset(3, image_size=64):
        boxes = store[scene["image_id"]]["region_boxes"].float()
        expected = {tuple(np.round(thing["box"], 3)) for thing in scene["objects"]} | {(0.0, 0.0, 1.0, 1.0)}
        assert len(boxes) == len(expected) + (recipe == "dense_captioning/scenes")
        found = {tuple(box) for box in boxes.numpy().astype(float)}
        assert all(min(np.abs(np.subtract(box, other)).max() for other in expected) < 2e-3 for box in found)


def test_a_model_with_a_detector_is_scored_among_given_boxes_where_the_recipe_says_so(
    detector: UpDownDetector, processor: UpDownImageProcessor, rows: Dataset, tmp_path: Path
) -> None:
    """Images without given boxes are left out, none is extracted; another detector's descriptions are refused."""
    options: dict[str, Any] = {"image_processor": processor, "source": detector}
    extract_regions(rows.select([0]), output=tmp_path / "given", boxes=BOXES, **options)
    given = RegionsRecipe(store=str(tmp_path / "given"), given_boxes=True)
    images = ImageRegions(given, detector, processor, new_accelerator())
    with pytest.warns(UserWarning, match="1 of the 2 images have no regions"):
        kept = images.prepare(rows)
    assert kept["image_id"][:] == ["0"] and RegionStore(tmp_path / "given").image_ids == ["0"]
    batch = images.batch(kept, np.array([0]), flipped=np.array([False]))
    assert torch.allclose(batch["region_boxes"][0], torch.from_numpy(BOXES["0"]), atol=1e-3)
    extract_regions(rows, output=tmp_path / "found", **options)
    found = RegionsRecipe(store=str(tmp_path / "found"), given_boxes=True)
    with pytest.raises(ValueError, match="found holds regions that a source found: leave it out"):
        ImageRegions(found, detector, processor, new_accelerator()).prepare(rows)
    other = tiny.tiny_pyramid_detector(id2label={0: "background", 1: "dog"})
    with pytest.raises(ValueError, match="were not made as expected .*weights"):
        ImageRegions(given, other, processor, new_accelerator()).prepare(rows)
    with pytest.raises(ValueError, match="regions.given_boxes is of a store"):
        ImageRegions(RegionsRecipe(given_boxes=True), detector, processor, new_accelerator())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name images, or with --boxes a recipe of detection"),
        (["a.jpg", "--boxes", "detection/coco"], "one of both"),
        (["a.jpg", "--set", "train.epochs=3"], "--set changes the recipe of --boxes"),
        (["--boxes", "detection/coco", "--max-regions", "9"], "every box is kept: leave out --max-regions"),
        (["--boxes", "captioning/scenes"], "captioning/scenes is a recipe of the task captioning"),
    ],
)
def test_arguments_that_do_not_go_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert run("--output", tmp_path / "store", *arguments) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "store").exists()


def run(*arguments: Any) -> int:
    return cli.main(["extract", *map(str, arguments)])
