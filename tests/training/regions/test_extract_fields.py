"""Extraction hands on every field that a region source returns, and training reads those that it asks for."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from modeling_updown import Regions, UpDownGrid, UpDownGridConfig, UpDownImageProcessor
from tests.training.tiny_run import new_accelerator
from training.recipe_sections import RegionsRecipe
from training.regions.extract import ImageRegions, extract_regions
from training.regions.store import RegionStore

from .test_extract import SIDE, image_folder, rows_of


class Reader(UpDownGrid):
    """A grid that also says when, what is written, masks and clips, as a source of frames with words would."""

    def forward(self, pixel_values: torch.Tensor, **kwargs: Any) -> Regions:
        regions = super().forward(pixel_values, **kwargs)
        shape = regions.region_mask.shape
        bright = pixel_values.mean(dim=(1, 2, 3)).clamp(0, 1)  # of the image, so that rows differ
        return Regions(
            **regions,
            region_seconds=bright[:, None].expand(shape),
            region_texts=[[f"{value:.3f} {place}" for place in range(shape[1])] for value in bright.tolist()],
            region_masks=bright[:, None, None, None].expand(*shape, 2, 2),
            clip_ids=[f"clip {value:.3f}" for value in bright.tolist()],
        )


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Regions of five images, and of them mirrored, brighter by a half."""
    folder = tmp_path_factory.mktemp("fields")
    rows = rows_of(image_folder(folder / "photos", num_images=5))
    torch.manual_seed(1)
    config = UpDownGridConfig(backbone="test_vit", image_size=SIDE, grid_size=2, region_feature_size=64)
    for flipped, mean in ((False, 0.0), (True, 0.1)):
        extract_regions(
            rows,
            source=Reader(config).eval(),
            image_processor=UpDownImageProcessor(
                size={"height": SIDE, "width": SIDE}, image_mean=[mean] * 3, image_std=[1.0] * 3
            ),
            output=folder / f"store{'-flipped' if flipped else ''}",
            batch_size=2,
            flipped=flipped,
            accelerator=new_accelerator(),
        )
    return folder


def test_a_store_keeps_what_the_source_returned(stores: Path) -> None:
    store = RegionStore(stores / "store")
    assert {"region_seconds", "region_texts", "region_masks", "clip_ids"} < set(store.column_names)
    values = []
    for name in store.image_ids:
        image = store[name]
        value = image["region_seconds"][0].item()
        values.append(value)
        assert image["region_texts"] == [f"{value:.3f} {place}" for place in range(4)]
        assert image["clip_ids"] == f"clip {value:.3f}" and image["region_masks"].shape == (4, 2, 2)
        assert abs(image["region_masks"].mean().item() - value) <= 0.5 / 255 + 1e-6
    assert len(set(values)) == 5


def test_training_reads_words_of_images_and_of_mirrored_ones(stores: Path) -> None:
    """In the order asked for, whichever of the two stores each image is read of."""
    rows = rows_of(stores / "photos")
    images = ImageRegions(RegionsRecipe(store=str(stores / "store")), None, None, new_accelerator())
    images.columns = (*images.columns, "region_texts", "clip_ids", "region_masks")
    rows = images.prepare(rows, flips=True)
    order, flipped = np.array([4, 0, 3, 0]), np.array([True, False, True, True])
    batch = images.batch(rows, order, flipped=flipped)
    for row, (place, mirrored) in enumerate(zip(order.tolist(), flipped.tolist(), strict=True)):
        one = RegionStore(stores / f"store{'-flipped' if mirrored else ''}")[rows[place]["image_id"]]
        assert batch["region_texts"][row] == one["region_texts"] and batch["clip_ids"][row] == one["clip_ids"]
        torch.testing.assert_close(batch["region_masks"][row], one["region_masks"])
        torch.testing.assert_close(batch["region_features"][row], one["region_features"].float())
    assert len(set(batch["clip_ids"])) == 4
