"""HDF5 files that name their photos: a data set a photo, and a row a photo with its id."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.training.regions.formats.foreign import assert_photo, foreign_photos
from training.regions.convert import convert_region_files
from training.regions.formats import open_region_file
from training.regions.formats.base import RegionFile
from training.regions.formats.record import Photo
from training.regions.formats.sidecar import Beside

h5py = pytest.importorskip("h5py", reason="HDF5 files need h5py")

PHOTOS = foreign_photos()
SIZES = Beside(sizes={photo.image_id: (photo.height, photo.width) for photo in PHOTOS})


def photos_of(file: RegionFile) -> dict[str, Photo]:
    return {entry.image_id: file.photo(entry) for entry in file.entries()}


def write_datasets(path: Path, *, sizes: bool = False) -> Path:
    """As Meshed-Memory's coco_detections.hdf5 is; with sizes, as DLCT's and VinVL's for it are."""
    with h5py.File(path, "w") as file:
        for photo in PHOTOS:
            count = len(photo.boxes)
            file[f"{photo.image_id}_features"] = photo.features
            file[f"{photo.image_id}_boxes"] = photo.boxes
            file[f"{photo.image_id}_cls_prob"] = np.full((count, 4), 0.25, dtype=np.float32)
            if sizes:
                file[f"{photo.image_id}_size"] = np.array([[photo.height, photo.width]])
                file[f"{photo.image_id}_grids"] = np.zeros((49, 8))
    return path


def test_a_data_set_a_photo(tmp_path: Path) -> None:
    path = write_datasets(tmp_path / "coco_detections.hdf5")
    read = photos_of(open_region_file(path, beside=SIZES))
    assert list(read) == ["1000", "1001", "1002", "1003"]
    for photo in PHOTOS:
        assert_photo(read[photo.image_id], photo)
        assert read[photo.image_id]["object_probs"].shape == (len(photo.boxes), 4)
    with pytest.raises(ValueError, match="its boxes are in pixels of a photo whose size is not known: give --sizes"):
        photos_of(open_region_file(path))
    read = photos_of(open_region_file(write_datasets(tmp_path / "with_sizes.hdf5", sizes=True)))
    for photo in PHOTOS:
        assert_photo(read[photo.image_id], photo)


def test_confidences_and_grids(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "vinvl.hdf5", "w") as file:
        file["7_features"], file["7_boxes"] = PHOTOS[0].features, PHOTOS[0].boxes
        file["7_size"], file["7_cls_prob"] = [PHOTOS[0].height, PHOTOS[0].width], PHOTOS[0].object_scores
        file["8_grids"] = np.arange(4 * 6, dtype=np.float32).reshape(4, 6)
        file["9_grids"] = np.zeros((5, 6), dtype=np.float32)
        file["10_features"] = np.zeros((2, 3), dtype=np.float32)
    done = convert_region_files(tmp_path / "vinvl.hdf5", output=tmp_path / "store")
    assert done.num_added == 1 and len(done.broken) == 3  # the grid is of another width than the regions
    assert "10_features" not in done.broken[0] and "it holds no boxes" in done.broken[0]
    assert "its grids of shape (5, 6) are no square map" in done.broken[2]
    file = open_region_file(tmp_path / "vinvl.hdf5")
    photos = {entry.image_id: entry for entry in file.entries()}
    assert np.array_equal(file.photo(photos["7"])["region_scores"], PHOTOS[0].object_scores)
    cells = file.photo(photos["8"])
    assert cells["region_features"][2].tolist() == [12, 13, 14, 15, 16, 17]
    assert cells["region_boxes"].tolist() == [[0, 0, 0.5, 0.5], [0.5, 0, 1, 0.5], [0, 0.5, 0.5, 1], [0.5, 0.5, 1, 1]]


@pytest.mark.parametrize("ids", [np.array([1000, 1001, 1002, 1003]), np.array([b"1000", b"1001", b"1002", b"1003"])])
def test_a_row_a_photo(tmp_path: Path, ids: Any) -> None:
    with h5py.File(tmp_path / "features_faster_rcnn_x101_val.h5", "w") as file:
        file["image_id"] = ids
        for name, width, kind in (
            ("features", (8,), "features"),
            ("boxes", (4,), "boxes"),
            ("scores", (), "object_scores"),
        ):
            padded = np.zeros((4, 6, *width), dtype=np.float32)
            for row, photo in enumerate(PHOTOS):
                padded[row, : len(photo.boxes)] = getattr(photo, kind)
            file[name] = padded
        file.attrs["split"] = "val"
    read = photos_of(open_region_file(tmp_path / "features_faster_rcnn_x101_val.h5", beside=SIZES))
    assert list(read) == ["1000", "1001", "1002", "1003"]
    for photo in PHOTOS:
        assert_photo(read[photo.image_id], photo)
        assert np.array_equal(read[photo.image_id]["region_scores"], photo.object_scores)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"image_id": [1, 2], "features": np.zeros((3, 2, 4))}, "do not fit the"),
        ({"image_id": [1, 2], "features": np.zeros((2, 4))}, "do not fit the"),
        ({"image_id": 5, "features": np.zeros((1, 2, 4))}, "image_id is no array"),
        ({"image_id": [1], "features": h5py.ExternalLink("x.h5", "/a")}, "features is no array of numbers inside"),
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


def test_a_photos_data_that_are_none(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["1_features"] = "text"
        file.create_dataset("2_features", (2**20, 2**20), "f4", chunks=(2**10, 2**10))
        file.create_group("3_features")
    file = open_region_file(tmp_path / "a.h5")
    for entry, message in zip(
        file.entries(), ("no array of numbers", "more than a photo takes", "no array"), strict=True
    ):
        with pytest.raises(ValueError, match=message):
            file.photo(entry)
