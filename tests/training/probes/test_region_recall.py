"""Where sources look: boxes of folders, stores, teachers and fixed ones, and the command on Flickr30k Entities."""

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from PIL.Image import Image as PilImage

from modeling_updown import UpDownImageProcessor
from tests.shared_files import shared
from tests.tiny import save_tiny_captioner, tiny_detector, tiny_image
from training.probes import region_boxes
from training.probes.named_boxes import entity_boxes, recipe_boxes
from training.probes.region_boxes import source_boxes
from training.probes.region_recall import main, region_recall
from training.probes.sources import named_sources
from training.regions.store import RegionStoreWriter
from training.teachers.detectors import Detections

LEFT, WHOLE = [0.0, 0.0, 0.5, 1.0], [0.0, 0.0, 1.0, 1.0]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(3):
        tiny_image(number).save(folder / f"{number}.png")
    return folder


def rows_of(folder: Path) -> Dataset:
    paths = sorted(folder.glob("*.png"))
    return Dataset.from_dict({"image_id": [path.stem for path in paths], "image": [{"path": str(p)} for p in paths]})


@pytest.fixture
def rows(images: Path) -> Dataset:
    return Dataset.from_dict(
        {"image_id": ["0", "1", "2"], "image": [str(images / f"{number}.png") for number in range(3)]}
    ).cast_column("image", region_boxes.undecoded_feature())


def save_detector(folder: Path) -> Path:
    tiny_detector().save_pretrained(folder)
    UpDownImageProcessor(size={"height": 64, "width": 64}).save_pretrained(folder)
    return folder
