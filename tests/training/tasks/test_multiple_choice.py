"""Multiple choice learns: on drawn scenes it needs the image; its inputs, figures, submissions and mistakes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from modeling_updown import UpDownFusionForMultipleChoice
from tests.training.tiny_run import new_accelerator, tiny_multiple_choice_recipe, train_here
from training.cli import main as updown
from training.recipe_sections import EvaluateRecipe, Recipe, RegionsRecipe, TextRecipe
from training.regions.store import RegionStoreWriter
from training.scenes.draw import COLOURS, CORNERS, SIDES, scenes_dataset
from training.tasks import build_task
from training.tasks.multiple_choice import drawn_candidates, object_regions
from training.tasks.multiple_choice_recipe import ChoicesRecipe

NUM_SCENES = {"train": 320, "val": 16, "test": 60}
SIZES = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96}
QUIET = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "initializer_range": 0.1}
VALUES = (*CORNERS, *COLOURS, *SIDES)
MOST = 8  # shapes of a scene, and the whole image


def scene_regions(folder: Path) -> None:
    """A region for each shape, in another order, and the whole image: features say what a shape is, with noise."""
    draw = torch.Generator().manual_seed(0)
    with RegionStoreWriter(folder / "store", fingerprint={}) as writer:
        for split, number in NUM_SCENES.items():
            for scene in scenes_dataset(number, image_size=32, split=split).remove_columns("image"):
                features, boxes = torch.zeros(1, MOST, len(VALUES)), torch.zeros(1, MOST, 4)
                boxes[0, 0] = torch.tensor([0.0, 0.0, 1.0, 1.0])
                things = scene["objects"]
                for slot, place in enumerate(torch.randperm(len(things), generator=draw).tolist(), start=1):
                    thing = things[place]
                    features[0, slot, [VALUES.index(thing[name]) for name in ("name", "colour", "size")]] = 1
                    boxes[0, slot] = torch.tensor(thing["box"])
                features += 0.05 * torch.randn(features.shape, generator=draw)
                mask = torch.arange(MOST)[None] <= len(things)
                regions = {"region_features": features, "region_boxes": boxes, "region_mask": mask}
                writer.append([scene["image_id"]], regions)


def scenes_recipe(folder: Path, *, asks: str, name: str = "run", train: Any = None, **changes: Any) -> Any:
    """A BERT of two layers on the scenes' regions."""
    settings = {"epochs": 14, "batch_size": 16, "questions_per_image": 4, "learning_rate": 3e-3, "warmup_steps": 20}
    values: dict[str, Any] = {
        "output": str(folder / name),
        "data": {"format": "scenes", "asks": asks, "num_scenes": NUM_SCENES, "image_size": 32},
        "regions": RegionsRecipe(store=str(folder / "store")),
        "model": {
            "text_config": {**SIZES, **QUIET},
            "initializer_range": 0.1,
            "choice_attention": "shared",
            "region_links": True,
        },
        "evaluate": EvaluateRecipe(batch_size=64, every_epochs=7),
    }
    return tiny_multiple_choice_recipe(folder, train={**settings, **(train or {})}, **{**values, **changes})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("choices")
    scene_regions(folder)
    return folder


@pytest.mark.parametrize("asks", ["commonsense", "dialogues"])
def test_it_learns(folder: Path, asks: str) -> None:
    import time

    start = time.process_time()
    print(asks, train_here(scenes_recipe(folder, asks=asks, name=asks)), time.process_time() - start)
