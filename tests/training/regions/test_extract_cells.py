"""Cells, and boxes left out, in a store: what it holds, what its fingerprint says, and what a recipe makes of it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from modeling_updown import UpDownImageProcessor
from tests import tiny
from tests.training.tiny_run import new_accelerator
from training.regions.extract import extract_regions, source_fingerprint, undecoded
from training.regions.store import RegionStore
from training.tasks import build_task

from .test_extract import captioning_recipe, sized_images


@pytest.fixture
def detection_processor() -> UpDownImageProcessor:
    return UpDownImageProcessor(size={"shortest_edge": 48, "longest_edge": 96})


def test_cells_stand_in_the_store_before_the_boxes(tmp_path: Path, detection_processor: UpDownImageProcessor) -> None:
    rows = sized_images(tmp_path / "photos").select(range(4))
    detector = tiny.tiny_pyramid_detector(grid_sizes=[1, 2], min_regions=3, max_regions=6)
    options: dict[str, Any] = {"source": detector, "image_processor": detection_processor, "soft_labels": True}
    extract_regions(rows, output=tmp_path / "store", accelerator=new_accelerator(), batch_size=3, **options)
    store = RegionStore(tmp_path / "store")
    assert store.fingerprint["grid_sizes"] == [1, 2] and store.num_regions.min() >= 5 + 3
    for row in undecoded(rows):
        image = Image.open(row["image"]["path"]).convert("RGB")
        with torch.no_grad():
            expected = detector(**detection_processor(image, return_tensors="pt"))
        found = store[row["image_id"]]
        assert torch.equal(found["object_ids"], expected.object_ids[0])
        for name in ("region_features", "region_boxes", "region_scores", "object_probs", "attribute_probs"):
            torch.testing.assert_close(found[name].float(), expected[name][0], atol=4e-3, rtol=4e-3, msg=name)
        whole = torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 0.5, 0.5]])
        torch.testing.assert_close(found["region_boxes"][:2].float(), whole, atol=1e-3, rtol=0)


def test_a_store_knows_its_cells_and_what_was_left_out(
    tmp_path: Path, detection_processor: UpDownImageProcessor
) -> None:
    """A store made before there were cells serves a detector without them, and no other; and the other way round."""
    rows = sized_images(tmp_path / "photos").select(range(2))
    options: dict[str, Any] = {"image_processor": detection_processor}
    detectors = {
        "plain": tiny.tiny_pyramid_detector(),
        "cells": tiny.tiny_pyramid_detector(grid_sizes=[2]),
        "tidy": tiny.tiny_pyramid_detector(duplicate_iou=0.7, min_region_side=0.05),
    }
    for name, source in detectors.items():
        extract_regions(rows, output=tmp_path / name, accelerator=new_accelerator(), source=source, **options)
    manifest = json.loads((tmp_path / "plain" / "store.json").read_text())
    for later in ("grid_sizes", "duplicate_iou", "min_region_side"):
        assert manifest["fingerprint"].pop(later) is None
    (tmp_path / "plain" / "store.json").write_text(json.dumps(manifest))
    for place, expected in (
        ("plain", {"cells": r"grid_sizes: not recorded, expected \[2\]", "tidy": "duplicate_iou: not recorded"}),
        ("cells", {"plain": r"grid_sizes: stored \[2\], expected None", "tidy": "min_region_side: stored None"}),
        ("tidy", {"plain": "duplicate_iou: stored 0.7, expected None; min_region_side: stored 0.05, expected None"}),
    ):
        for name, source in detectors.items():
            into = {"output": tmp_path / place, "accelerator": new_accelerator(), "source": source}
            if name == place:
                extract_regions(rows, **into, **options)  # goes on
            elif name in expected:
                with pytest.raises(ValueError, match=expected[name]):
                    extract_regions(rows, **into, **options)
    cells = {"selection": {"grid_sizes": [2]}, "source": detectors["plain"]}
    extract_regions(rows, output=tmp_path / "cells", accelerator=new_accelerator(), **cells, **options)  # the same


def test_a_store_made_before_images_were_padded_is_refused(
    tmp_path: Path, detection_processor: UpDownImageProcessor
) -> None:
    """But for detectors that pad none: on a backbone of Caffe, or of images whose sides the stride divides."""
    rows = sized_images(tmp_path / "photos").select(range(2))
    sides: dict[str, Any] = {side: {"height": side, "width": 2 * side} for side in (64, 80)}
    fixed = {side: UpDownImageProcessor(size=size) for side, size in sides.items()}
    whole = UpDownImageProcessor(size=sides[64], do_resize=False)
    pyramid, caffe = tiny.tiny_pyramid_detector(), tiny.tiny_detector()
    assert pyramid.backbone.last_stride == 32
    for name, source, processor, stride in (
        ("edges", pyramid, detection_processor, 32),
        ("odd", pyramid, fixed[80], 32),
        ("as_they_are", pyramid, whole, 32),
        ("even", pyramid, fixed[64], None),
        ("caffe", caffe, detection_processor, None),
    ):
        options: dict[str, Any] = {"source": source, "image_processor": processor, "output": tmp_path / name}
        extract_regions(rows, accelerator=new_accelerator(), **options)
        file = tmp_path / name / "store.json"
        manifest = json.loads(file.read_text())
        assert manifest["fingerprint"].pop("padded_to") == stride, name
        file.write_text(json.dumps(manifest))
        if stride is None:
            extract_regions(rows, accelerator=new_accelerator(), **options)  # goes on
        else:
            with pytest.raises(ValueError, match=r"another fingerprint \(padded_to: not recorded, expected 32\)"):
                extract_regions(rows, accelerator=new_accelerator(), **options)
    grid = source_fingerprint(tiny.tiny_grid(), flipped=False)
    assert "padded_to" not in grid


def test_a_grids_fingerprint_names_its_scales_and_another_size(tmp_path: Path) -> None:
    plain, large = (UpDownImageProcessor(size={"height": side, "width": side}) for side in (64, 128))
    grid = tiny.tiny_grid()
    assert source_fingerprint(grid, flipped=False) == source_fingerprint(grid, flipped=False, image_processor=plain)
    off = {name: source_fingerprint(grid, flipped=False)[name] for name in ("grid_sizes", "image_scales", "size")}
    assert off == {"grid_sizes": None, "image_scales": None, "size": None}
    scaled = tiny.tiny_grid(image_scales=[0.5, 1.0])
    found = source_fingerprint(scaled, flipped=False, image_processor=large)
    assert found["image_scales"] == [0.5, 1.0] and found["size"] == {"height": 128, "width": 128}


def test_a_recipe_puts_cells_beside_a_saved_detectors_boxes(tmp_path: Path) -> None:
    """From pixels and from the store that the recipe fills: 5 cells and 3 boxes an image, the same of both."""
    recipes = [captioning_recipe(tmp_path, store=store) for store in (True, False)]
    tasks = []
    for recipe in recipes:
        recipe.regions.source = {"grid_sizes": [1, 2], "min_regions": 3, "max_regions": 3, "duplicate_iou": 0.9}
        tasks.append(build_task(recipe, new_accelerator()))
        tasks[-1].prepare()
    stored, seen = (task.inputs(np.arange(4), epoch=0) for task in tasks)
    with torch.no_grad():
        regions = tasks[1].model.eval().get_regions(seen["pixel_values"], pixel_mask=seen["pixel_mask"])
    assert regions.region_mask.shape == (4, 8) and regions.region_mask.all() and stored["region_mask"].all()
    torch.testing.assert_close(stored["region_features"], regions.region_features, atol=4e-3, rtol=4e-3)
    torch.testing.assert_close(stored["region_boxes"], regions.region_boxes, atol=1e-3, rtol=0)
    config = tasks[0].model.config.vision_config
    assert (config.grid_sizes, config.num_cells, config.duplicate_iou) == ([1, 2], 5, 0.9)
