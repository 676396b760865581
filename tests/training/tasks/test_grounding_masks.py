"""Referring segmentation: masks of phrases against the same by hand, sizes of images, and what is not known."""

import io
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from tests.training.tiny_run import new_accelerator, tiny_grounding_recipe
from training.data.boxes.rows import ImageListing, dataset_of
from training.data.phrases.rows import PHRASE_FEATURES, GroundedPhrase, phrase_row
from training.data.polygons import rasterise
from training.metrics.grounding.refexp import refexp_mask_iou
from training.recipe_sections import RegionsRecipe
from training.regions.store import RegionStoreWriter
from training.scenes.draw import scenes_dataset, shape_polygon
from training.tasks import build_task
from training.tasks.grounding_masks import (
    FIGURES,
    MaskedPhrase,
    PhraseMask,
    best_mask,
    has_masks,
    image_size,
    mask_figures,
    read_masks,
)

SIZES = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
NOTHING_STORED = SimpleNamespace(stores={}, names={False: {}}, columns={"region_features": ""})
LEFT_HALF = [[0, 0, 0.5, 0, 0.5, 1, 0, 1]]


def png(width: int, height: int) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (width, height)).save(content, format="PNG")
    return content.getvalue()


def rows_of(*sizes: tuple[int, int], polygons: tuple = (LEFT_HALF,), image: bool = True):
    boxes = np.array([[0.0, 0.0, 0.5, 1.0]])
    phrase = GroundedPhrase(0, 3, boxes, polygons=polygons)
    listings = [ImageListing(str(number), "", None, "test") for number in range(len(sizes))]
    return dataset_of(
        (
            phrase_row(listing, sentences=[("dog", [phrase])], image_bytes=png(*size) if image else None)
            for listing, size in zip(listings, sizes, strict=True)
        ),
        PHRASE_FEATURES,
    )


def test_figures_are_those_of_the_masks_of_the_images() -> None:
    """A mask of a quarter in a box of a half, one exact, one that was cut off; two images of different sizes."""
    rows = rows_of((20, 10), (8, 8))
    upper = np.repeat(np.array([1, 1, 0, 0], dtype=np.float32)[:, None], 4, axis=1)
    quarter = PhraseMask(upper, np.array([0, 0, 0.5, 1], dtype=np.float32))
    exact = PhraseMask(np.ones((4, 4), dtype=np.float32), np.array([0, 0, 0.5, 1], dtype=np.float32))
    phrases = [MaskedPhrase(found, LEFT_HALF, owner) for found, owner in ((quarter, 0), (exact, 1), (None, 1))]
    phrases.append(MaskedPhrase(exact, [], 0))  # without a true mask
    scores = mask_figures(phrases, rows, NOTHING_STORED)
    true, shown = np.zeros((10, 20), dtype=bool), np.zeros((10, 20), dtype=bool)
    true[:, :10], shown[:5, :10] = True, True
    small = np.zeros((8, 8), dtype=bool)
    small[:, :4] = True
    expected = refexp_mask_iou([shown, small, np.zeros_like(small)], [true, small, small])
    boxes = refexp_mask_iou([true, small, np.zeros_like(small)], [true, small, small])
    named = {f"mask_{name}": value for name, value in expected.items()} | {
        f"mask_{name}_box": value for name, value in boxes.items()
    }
    assert scores == {name: pytest.approx(named[name], abs=1e-9) for name in FIGURES}
    assert scores["mask_mean_iou_box"] == pytest.approx(2 / 3)
    assert scores["mask_mean_iou"] == pytest.approx(0.5) and scores["mask_overall_iou"] == pytest.approx(82 / 164)
    assert scores["mask_precision_50"] == pytest.approx(2 / 3)


def test_nothing_is_scored_where_there_is_nothing_to_compare() -> None:
    rows = rows_of((20, 10))
    assert mask_figures([MaskedPhrase(None, LEFT_HALF, 0)], rows, NOTHING_STORED) == {}
    found = PhraseMask(np.ones((2, 2), dtype=np.float32), np.array([0, 0, 1, 1], dtype=np.float32))
    speck = [[0.001, 0.001, 0.002, 0.001, 0.002, 0.002]]
    with pytest.warns(UserWarning, match="1 of 1 true masks have no pixel"):
        assert mask_figures([MaskedPhrase(found, speck, 0)], rows, NOTHING_STORED) == {}
    assert has_masks(rows) and not has_masks(rows_of((20, 10), polygons=()))


def test_masks_are_read_of_a_store_that_has_them_where_rows_do() -> None:
    store = SimpleNamespace(column_names=["region_features", "region_masks"])
    for stored, rows, read in (
        (store, rows_of((4, 4)), True),
        (store, rows_of((4, 4), polygons=()), False),
        (SimpleNamespace(column_names=["region_features"]), rows_of((4, 4)), False),
    ):
        images = SimpleNamespace(stores={False: stored}, columns={"region_features": ""})
        assert read_masks(images, rows) == read == ("region_masks" in images.columns)
    assert not read_masks(NOTHING_STORED, rows_of((4, 4)))


class Store(dict):
    """Images by id."""


def test_the_size_is_that_of_the_file_or_of_the_store() -> None:
    assert image_size(rows_of((30, 20)), 0, NOTHING_STORED) == (30, 20)
    rows = rows_of((30, 20), image=False)
    images = SimpleNamespace(stores={False: Store(a={"image_size": torch.tensor([7, 9])})}, names={False: {"0": "a"}})
    assert image_size(rows, 0, images) == (9, 7)
    with pytest.raises(ValueError, match="the size of the image '0' is not known.*data.images"):
        image_size(rows, 0, NOTHING_STORED)


def test_the_mask_of_a_region_is_taken_whole() -> None:
    output = SimpleNamespace(region_masks=torch.rand(2, 3, 4, 4), region_boxes=torch.rand(2, 3, 4))
    found = best_mask(output, 1, 2)
    assert np.array_equal(found.mask, output.region_masks[1, 2]) and np.array_equal(
        found.box, output.region_boxes[1, 2]
    )
    assert best_mask(SimpleNamespace(region_masks=None), 0, 0) is None


def test_polygons_of_some_boxes_alone_are_refused() -> None:
    two = GroundedPhrase(0, 3, np.array([[0.0, 0.0, 0.5, 1.0]] * 2), polygons=[LEFT_HALF])
    with pytest.raises(ValueError, match="2 boxes, but polygons of 1: give those of each, or none"):
        phrase_row(ImageListing("7", "", None, "test"), sentences=[("dog", [two])])


def test_a_split_is_scored_by_the_masks_of_best_regions(tmp_path: Path) -> None:
    """A store whose regions are the shapes, with their outlines as masks: an untrained model's choices, by hand."""
    numbers = {"train": 3, "val": 2, "test": 6}
    scenes = {}
    with RegionStoreWriter(tmp_path / "store", fingerprint={}) as writer:
        for split, number in numbers.items():
            for scene in scenes_dataset(number, image_size=32, split=split).remove_columns("image"):
                things = scenes[scene["image_id"]] = scene["objects"]
                outlines = [[shape_polygon(thing["name"], thing["box"])] for thing in things]
                boxes = torch.tensor([thing["box"] for thing in things])
                masks = [rasterise(own, height=28, width=28, box=b) for own, b in zip(outlines, boxes, strict=True)]
                features = torch.randn(1, len(things), 5, generator=torch.Generator().manual_seed(len(scenes)))
                regions = {"region_features": features, "region_boxes": boxes[None]}
                writer.append([scene["image_id"]], regions | {"region_masks": torch.tensor(np.stack(masks))[None]})
    recipe = tiny_grounding_recipe(
        tmp_path,
        data={"format": "scenes", "num_scenes": numbers, "image_size": 32},
        regions=RegionsRecipe(store=str(tmp_path / "store")),
        model={"grounding_box_weight": 0.0, "text_config": SIZES},
    )
    task = build_task(recipe, new_accelerator())
    task.prepare()
    assert "region_masks" not in task.inputs(np.arange(2), epoch=0), "training has no use for them"
    scored = task.score(task.model, split="test", num_beams=1)
    rows = task.evaluation_rows("test")
    phrases = [phrase for own in rows["phrases"][:] for sentence in own for phrase in sentence]
    assert len(phrases) == len(scored.predictions)
    overlaps = []
    for found, phrase in zip(scored.predictions, phrases, strict=True):
        things = scenes[found["image_id"]]
        thing = min(things, key=lambda one: np.abs(np.array(one["box"]) - found["box"]).sum())
        shown = rasterise([shape_polygon(thing["name"], thing["box"])], height=32, width=32)
        true = rasterise([part for own in phrase["polygons"] for part in own], height=32, width=32)
        overlaps.append((shown & true).sum() / (shown | true).sum())
    assert scored.metrics["mask_mean_iou"] == pytest.approx(np.mean(overlaps), abs=0.03)
    assert scored.metrics["mask_mean_iou_x100"] == pytest.approx(100 * scored.metrics["mask_mean_iou"])
    assert "region_masks" not in task.images.columns
