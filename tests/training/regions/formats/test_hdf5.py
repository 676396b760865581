"""HDF5 of hengyuan-hu's and ban-vqa's converters, made by hand with h5py, and files that are spoiled."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.training.regions.formats.foreign import (
    assert_image,
    damaged,
    every_image_or_value_error,
    foreign_images,
    write_hdf5,
)
from training.regions.formats import open_region_file
from training.regions.formats.base import RegionFile
from training.regions.formats.record import ImageRecord
from training.regions.formats.sidecar import Sidecar

h5py = pytest.importorskip("h5py", reason="HDF5 files need h5py")
EVEN, UNEVEN = (3, 3, 3, 3), (3, 1, 5, 2)


def images_of(file: RegionFile) -> dict[str, ImageRecord]:
    return {entry.image_id: file.image(entry) for entry in file.entries()}


@pytest.mark.parametrize("counts", [EVEN, UNEVEN], ids=["36 boxes", "pos_boxes"])
def test_files_of_the_converters(tmp_path: Path, counts: tuple[int, ...]) -> None:
    images = foreign_images(counts)
    file = open_region_file(write_hdf5(tmp_path / "train36.hdf5", images))
    assert file.size == 4
    read = images_of(file)
    for image in images:
        assert_image(read[image.image_id], image)


def test_boxes_of_either_kind_alone(tmp_path: Path) -> None:
    images = foreign_images(EVEN)
    path = write_hdf5(tmp_path / "val36.hdf5", images)
    with h5py.File(path, "a") as file:
        del file["spatial_features"]
    with pytest.raises(ValueError, match="whose size is not known: give --sizes"):
        images_of(open_region_file(path))
    sizes = {image.image_id: (image.height, image.width) for image in images}
    for image in images:
        assert_image(images_of(open_region_file(path, sidecar=Sidecar(sizes=sizes)))[image.image_id], image)
    path = write_hdf5(tmp_path / "test36.hdf5", images)
    with h5py.File(path, "a") as file:
        del file["image_bb"]
    read = images_of(open_region_file(path))["1000"]
    assert "image_size" not in read and np.abs(read["region_boxes"] - images[0].scaled_boxes).max() < 2e-7


def test_the_pickled_index_is_not_opened_and_the_way_out_works(tmp_path: Path) -> None:
    """The command of the message, run as it stands, makes the index that is then read."""
    import pickle
    import shlex
    import subprocess
    import sys

    path = write_hdf5(tmp_path / "train36.hdf5", foreign_images(EVEN))
    index = tmp_path / "train36_imgid2idx.json"
    rows = {int(image_id): row for image_id, row in json.loads(index.read_text()).items()}
    index.unlink()
    (tmp_path / "train36_imgid2idx.pkl").write_bytes(pickle.dumps(rows, protocol=2))
    with pytest.raises(ValueError, match="a pickle is never opened, so if you trust it convert it to JSON") as refused:
        open_region_file(path)
    _, *arguments = shlex.split(str(refused.value)[str(refused.value).index("python -c") :])
    subprocess.run([sys.executable, *arguments], check=True, cwd=tmp_path)
    assert list(images_of(open_region_file(path))) == ["1000", "1001", "1002", "1003"]
    with pytest.raises(ValueError, match="a pickle is never opened"):
        open_region_file(path, sidecar=Sidecar(index=tmp_path / "train36_imgid2idx.pkl"))


@pytest.mark.parametrize("content", ['{"1000": "0"}', "[1, 2]", '{"1000": true}'])
def test_an_index_of_another_layout(tmp_path: Path, content: str) -> None:
    path = write_hdf5(tmp_path / "train36.hdf5", foreign_images(EVEN))
    (tmp_path / "train36_imgid2idx.json").write_text(content)
    with pytest.raises(ValueError, match="should hold {.image id.: row"):
        open_region_file(path)


def test_rows_that_are_not_there(tmp_path: Path) -> None:
    path = write_hdf5(tmp_path / "train36.hdf5", foreign_images(UNEVEN))
    (tmp_path / "train36_imgid2idx.json").write_text('{"a": 7, "b": -1, "c": 0, "d": 1}')
    with h5py.File(path, "a") as file:
        file["pos_boxes"][0] = [5, 3]
        file["pos_boxes"][1] = [0, 2**30]
    file = open_region_file(path)
    messages = {}
    for entry in file.entries():
        with pytest.raises(ValueError) as refused:
            file.image(entry)
        messages[entry.image_id] = str(refused.value)
    assert messages["a"] == "the index names row 7, but the file has 4: is it another file's index?"
    assert messages["b"].startswith("the index names row -1")
    assert messages["c"] == "pos_boxes says that its boxes are 5 to 3"
    assert messages["d"] == f"pos_boxes says that its boxes are 0 to {2**30}"


def replace(path: Path, name: str, **options: Any) -> None:
    with h5py.File(path, "a") as file:
        del file[name]
        file.create_dataset(name, **options)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("image_bb", {"data": np.zeros((4, 3, 5))}, "do not fit together"),
        ("image_bb", {"data": np.zeros((4, 2, 4))}, "do not fit together"),
        ("image_features", {"data": np.zeros((4, 3))}, "do not fit together"),
        ("image_features", {"shape": (4, 3, 2**30), "dtype": "f4", "chunks": (1, 1, 2**10)}, "do not fit together"),
        (
            "image_features",
            {"shape": (4, 3, 2**26), "dtype": "f4", "chunks": (4, 3, 2**26)},
            "write it with smaller chunks",
        ),
        ("image_features", {"data": [b"a", b"b"]}, "image_features is not an array of numbers inside the file"),
    ],
)
def test_shapes_that_do_not_fit(tmp_path: Path, name: str, options: dict[str, Any], message: str) -> None:
    path = write_hdf5(tmp_path / "train36.hdf5", foreign_images(EVEN))
    replace(path, name, **options)
    with pytest.raises(ValueError, match=message):
        open_region_file(path)


def test_links_to_other_files_are_not_followed(tmp_path: Path) -> None:
    write_hdf5(tmp_path / "secret.hdf5", foreign_images(EVEN))
    path = write_hdf5(tmp_path / "train36.hdf5", foreign_images(EVEN))
    with h5py.File(path, "a") as file:
        del file["image_features"]
        file["image_features"] = h5py.ExternalLink("secret.hdf5", "/image_features")
    with pytest.raises(ValueError, match="not an array of numbers inside the file"):
        open_region_file(path)
    (tmp_path / "passwords").write_bytes(bytes(4 * 3 * 8 * 4))
    with h5py.File(path, "a") as file:
        del file["image_features"]
        file.create_dataset("image_features", (4, 3, 8), "f4", external=[(str(tmp_path / "passwords"), 0, 384)])
    with pytest.raises(ValueError, match="not an array of numbers inside the file"):
        open_region_file(path)


def test_files_cut_short_and_without_features(tmp_path: Path) -> None:
    path = write_hdf5(tmp_path / "train36.hdf5", foreign_images(EVEN))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="train36.hdf5 is not a complete HDF5 file"):
        open_region_file(path)
    with h5py.File(path, "w") as file:
        file["features"] = np.zeros(3)
    with pytest.raises(
        ValueError, match="should hold image_features and image_bb or spatial_features .*; it holds features"
    ):
        open_region_file(path)


def test_damaged_bytes_are_named_not_fatal(tmp_path: Path) -> None:
    path = write_hdf5(tmp_path / "train36.hdf5", foreign_images(UNEVEN))
    content = path.read_bytes()
    for seed in range(200):
        path.write_bytes(damaged(content, seed))
        try:
            file = open_region_file(path, format="hdf5")
        except ValueError as error:
            assert "train36.hdf5" in str(error)
        else:
            every_image_or_value_error(file)


def test_without_the_library_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_hdf5(tmp_path / "train36.hdf5", foreign_images(EVEN))
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(ImportError, match=r"pip install 'modeling-updown\[features\]'"):
        open_region_file(path)
