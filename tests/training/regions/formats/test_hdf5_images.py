"""HDF5 files that name their images: a data set an image, and a row an image with its id."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.training.regions.formats.foreign import assert_image, foreign_images
from training.regions.convert import convert_region_files
from training.regions.formats import open_region_file
from training.regions.formats.base import RegionFile
from training.regions.formats.record import ImageRecord
from training.regions.formats.sidecar import Sidecar

h5py = pytest.importorskip("h5py", reason="HDF5 files need h5py")

IMAGES = foreign_images()
SIZES = Sidecar(sizes={image.image_id: (image.height, image.width) for image in IMAGES})


def images_of(file: RegionFile) -> dict[str, ImageRecord]:
    return {entry.image_id: file.image(entry) for entry in file.entries()}


def write_datasets(path: Path, *, sizes: bool = False) -> Path:
    """As Meshed-Memory's coco_detections.hdf5 is; with sizes, as DLCT's and VinVL's for it are."""
    with h5py.File(path, "w") as file:
        for image in IMAGES:
            count = len(image.boxes)
            file[f"{image.image_id}_features"] = image.features
            file[f"{image.image_id}_boxes"] = image.boxes
            file[f"{image.image_id}_cls_prob"] = np.full((count, 4), 0.25, dtype=np.float32)
            if sizes:
                file[f"{image.image_id}_size"] = np.array([[image.height, image.width]])
                file[f"{image.image_id}_grids"] = np.zeros((49, 8))
    return path


def test_a_data_set_an_image(tmp_path: Path) -> None:
    path = write_datasets(tmp_path / "coco_detections.hdf5")
    read = images_of(open_region_file(path, sidecar=SIZES))
    assert list(read) == ["1000", "1001", "1002", "1003"]
    for image in IMAGES:
        assert_image(read[image.image_id], image)
        assert read[image.image_id]["object_probs"].shape == (len(image.boxes), 4)
    with pytest.raises(ValueError, match="its boxes are in pixels of an image whose size is not known: give --sizes"):
        images_of(open_region_file(path))
    read = images_of(open_region_file(write_datasets(tmp_path / "with_sizes.hdf5", sizes=True)))
    for image in IMAGES:
        assert_image(read[image.image_id], image)


def test_confidences_and_grids(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "vinvl.hdf5", "w") as file:
        file["7_features"], file["7_boxes"] = IMAGES[0].features, IMAGES[0].boxes
        file["7_size"], file["7_cls_prob"] = [IMAGES[0].height, IMAGES[0].width], IMAGES[0].object_scores
        file["8_grids"] = np.arange(4 * 6, dtype=np.float32).reshape(4, 6)
        file["9_grids"] = np.zeros((5, 6), dtype=np.float32)
        file["10_features"] = np.zeros((2, 3), dtype=np.float32)
    done = convert_region_files(tmp_path / "vinvl.hdf5", output=tmp_path / "store")
    assert done.num_added == 1 and len(done.broken) == 3  # the grid is of another width than the regions
    assert "10_features" not in done.broken[0] and "it holds no boxes" in done.broken[0]
    assert "its grids of shape (5, 6) are not a square map" in done.broken[2]
    file = open_region_file(tmp_path / "vinvl.hdf5")
    images = {entry.image_id: entry for entry in file.entries()}
    assert np.array_equal(file.image(images["7"])["region_scores"], IMAGES[0].object_scores)
    cells = file.image(images["8"])
    assert cells["region_features"][2].tolist() == [12, 13, 14, 15, 16, 17]
    assert cells["region_boxes"].tolist() == [[0, 0, 0.5, 0.5], [0.5, 0, 1, 0.5], [0, 0.5, 0.5, 1], [0.5, 0.5, 1, 1]]


@pytest.mark.parametrize("ids", [np.array([1000, 1001, 1002, 1003]), np.array([b"1000", b"1001", b"1002", b"1003"])])
def test_a_row_an_image(tmp_path: Path, ids: Any) -> None:
    with h5py.File(tmp_path / "features_faster_rcnn_x101_val.h5", "w") as file:
        file["image_id"] = ids
        for name, width, kind in (
            ("features", (8,), "features"),
            ("boxes", (4,), "boxes"),
            ("scores", (), "object_scores"),
        ):
            padded = np.zeros((4, 6, *width), dtype=np.float32)
            for row, image in enumerate(IMAGES):
                padded[row, : len(image.boxes)] = getattr(image, kind)
            file[name] = padded
        file.attrs["split"] = "val"
    read = images_of(open_region_file(tmp_path / "features_faster_rcnn_x101_val.h5", sidecar=SIZES))
    assert list(read) == ["1000", "1001", "1002", "1003"]
    for image in IMAGES:
        assert_image(read[image.image_id], image)
        assert np.array_equal(read[image.image_id]["region_scores"], image.object_scores)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"image_id": [1, 2], "features": np.zeros((3, 2, 4))}, "do not fit the"),
        ({"image_id": [1, 2], "features": np.zeros((2, 4))}, "do not fit the"),
        ({"image_id": 5, "features": np.zeros((1, 2, 4))}, "image_id is not an array"),
        ({"image_id": [1], "features": h5py.ExternalLink("x.h5", "/a")}, "features is not an array of numbers inside"),
        (
            {"labels": [1]},
            "should hold image_features .* ID_features .* or image_id, .*; it holds labels",
        ),
    ],
)
def test_layouts_that_are_refused(tmp_path: Path, columns: dict[str, Any], message: str) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name, value in columns.items():
            file[name] = value
    with pytest.raises(ValueError, match=message):
        open_region_file(tmp_path / "a.h5")


def test_an_images_data_that_are_none(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["1_features"] = "text"
        file.create_dataset("2_features", (2**20, 2**20), "f4", chunks=(2**10, 2**10))
        file.create_group("3_features")
    file = open_region_file(tmp_path / "a.h5")
    for entry, message in zip(
        file.entries(), ("not an array of numbers", "more than an image takes", "not an array"), strict=True
    ):
        with pytest.raises(ValueError, match=message):
            file.image(entry)
