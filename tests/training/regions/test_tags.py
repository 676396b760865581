"""Captions made of a region store's objects and attributes, against tags written by hand."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from training.data.captions.formats import load_captions
from training.data.captions.rows import CAPTION_FEATURES
from training.data.splits import NoSuchSplitError
from training.regions.store import RegionStoreWriter
from training.regions.tags import read_tags

CONFIG = {
    "id2label": {"0": "background", "1": "dog", "2": "grass", "3": "fire hydrant"},
    "attribute_id2label": {"0": "no attribute", "1": "brown", "2": "green"},
}
# image -> regions of (object, attribute, score, attribute score)
IMAGES = {
    "a": [(2, 2, 0.5, 0.9), (1, 1, 0.9, 0.9), (1, 1, 0.8, 0.9), (3, 0, 0.7, 0.9)],
    "b": [(1, 2, 0.6, 0.1)],
    "c": [(0, 1, 0.9, 0.9), (1, 1, 0.1, 0.9)],
}


def make_store(folder: Path, columns: tuple[str, ...], images: dict[str, Any] = IMAGES) -> Path:
    names = ("object_ids", "attribute_ids", "region_scores", "attribute_scores")
    with RegionStoreWriter(folder, fingerprint={"kind": "test"}) as writer:
        for image_id, regions in images.items():
            values = dict(zip(names, zip(*regions, strict=True), strict=True))
            boxes = torch.tensor([0.0, 0.0, 1.0, 1.0]).repeat(1, len(regions), 1)
            given = {"region_features": torch.ones(1, len(regions), 4), "region_boxes": boxes}
            writer.append([image_id], {**given, **{name: torch.tensor([values[name]]) for name in columns}})
    return folder


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return make_store(tmp_path / "store", ("object_ids", "attribute_ids", "region_scores", "attribute_scores"))


@pytest.fixture
def detector(tmp_path: Path) -> Path:
    (tmp_path / "detector").mkdir()
    (tmp_path / "detector" / "config.json").write_text(json.dumps(CONFIG))
    return tmp_path / "detector"


def captions(*arguments: Any, **options: Any) -> dict[str, list[str]]:
    rows = read_tags(*arguments, **options)
    return dict(zip(rows["image_id"], rows["captions"], strict=True))


def test_tags_are_the_surest_objects_with_their_attributes(store: Path, detector: Path) -> None:
    with pytest.warns(UserWarning, match="1 images have no tag and are left out"):
        rows = load_captions("tags", formats={"tags": read_tags}, regions=store, detector=detector)
    assert dict(rows.features) == dict(CAPTION_FEATURES) and rows["image_id"][:] == ["a", "b"]
    assert rows["captions"][:] == [["brown dog, fire hydrant, green grass"], ["dog"]]
    assert rows["split"][:] == ["train"] * 2 and rows["image"][:] == [None] * 2


def test_thresholds_and_numbers_of_tags(store: Path, detector: Path) -> None:
    path = detector / "config.json"
    every = captions(store, detector=path, object_threshold=0.0, attribute_threshold=0.0)
    assert every == {"a": ["brown dog, fire hydrant, green grass"], "b": ["green dog"], "c": ["brown dog"]}
    with pytest.warns(UserWarning, match="2 images have no tag"):
        assert captions(store, detector=path, object_threshold=0.65, most_tags=1) == {"a": ["brown dog"]}
    with pytest.raises(ValueError, match="has a tag; lower object_threshold"):
        captions(store, detector=path, object_threshold=1.0)
    for wrong in ({"most_tags": 0}, {"object_threshold": 1.5}, {"attribute_threshold": float("nan")}):
        with pytest.raises(ValueError, match="give a number above 0, and thresholds in 0..1"):
            captions(store, detector=path, **wrong)


def test_a_store_without_scores_or_attributes(tmp_path: Path, detector: Path) -> None:
    objects = make_store(tmp_path / "objects", ("object_ids",))
    assert captions(objects, detector=detector) == {"a": ["grass, dog, fire hydrant"], "b": ["dog"], "c": ["dog"]}
    features = make_store(tmp_path / "features", ())
    with pytest.raises(
        ValueError, match="keeps region_features, region_boxes but no object_ids; extract it with a det"
    ):
        captions(features, detector=detector)


def test_splits_by_lists_of_ids(store: Path, detector: Path, tmp_path: Path) -> None:
    lists = {word: tmp_path / f"{word}.txt" for word in ("train", "val")}
    lists["train"].write_text("a\n")
    lists["val"].write_text("b\nunknown\n")
    rows = read_tags(store, detector=detector, split_lists=lists)
    assert rows["image_id"][:] == ["a", "b"] and rows["split"][:] == ["train", "val"]
    assert captions(store, detector=detector, split_lists=lists, split="val") == {"b": ["dog"]}
    with pytest.raises(NoSuchSplitError, match="no image of the split 'test'"):
        captions(store, detector=detector, split_lists=lists, split="test")
    with pytest.raises(ValueError, match="the image 'a' is in the list of train too"):
        captions(store, detector=detector, split_lists={**lists, "val": lists["train"]})


@pytest.mark.filterwarnings("ignore:.*1 images have no tag:UserWarning")
def test_images_are_found_by_the_ids(store: Path, detector: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for name in ("a.jpg", "c.jpg"):
        (tmp_path / "photos" / name).touch()
    with pytest.warns(UserWarning, match="1 of 2 images are not in .*: b"):
        rows = read_tags(store, detector=detector, images=tmp_path / "photos")
    paths = [image["path"] for image in rows.with_format("arrow")["image"][:].to_pylist()]
    assert rows["image_id"][:] == ["a"] and paths == [str(tmp_path / "photos" / "a.jpg")]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({**CONFIG, "id2label": {"1": "dog"}}, "holds the id 3, which the detector's config does not name"),
        ({"id2label": CONFIG["id2label"]}, "has no 'attribute_id2label' such as"),
        ({"id2label": {"one": "dog"}}, "has no 'id2label' such as"),
        (["dog"], "has no 'id2label'"),
    ],
)
def test_configs_of_another_detector(store: Path, detector: Path, config: Any, message: str) -> None:
    (detector / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=message):
        captions(store, detector=detector)
