"""HDF5 files that hold image ids: those of Meshed-Memory Transformer, DLCT and Visual Dialog.

One data set per image (aimagelab/meshed-memory-transformer, data/field.py; luo3300612/image-captioning-DLCT):
    ID_features (R, D), ID_boxes (R, 4) in pixels, ID_cls_prob (R, 1601), probabilities with the background first, or
    (R,), the best one; ID_size (2,) or (1, 2), height and width; ID_grids (H H, D), the cells of a square map, read if
    there are no ID_features. Meshed-Memory's file has no ID_size: give --sizes, for example COCO's instance files.

One row per image (batra-mlp-lab/visdial-challenge-starter-pytorch, visdialch/data/readers.py):
    image_id (N,), features (N, R, D), boxes (N, R, 4), scores (N, R); rows of zeros at an image's end are padding.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from training.data.files import id_text
from training.regions.formats.arrays import array_of_npy
from training.regions.formats.base import Entry
from training.regions.formats.folders import image_of_arrays, read_bytes
from training.regions.formats.hdf5 import HDF5_ERRORS, Hdf5File, OpenHdf5, import_h5py
from training.regions.formats.record import LONGEST_ROW, ImageRecord, checked_count
from training.regions.formats.sidecar import Sidecar

IMAGE_ENDINGS = ("_features", "_grids")
ID_COLUMNS = ("image_id", "image_ids")
# our name -> the file's, in the layout with one row per image
COLUMNS = {"features": "features", "boxes": "boxes", "conf": "scores", "num_boxes": "num_boxes"}


class ImagesHdf5(OpenHdf5):
    """The base class of both layouts, whose `arrays` are named as in `image_of_arrays`."""

    def decode(self, entry: Entry) -> ImageRecord:
        """An image's arrays under the names of a store."""
        try:
            arrays = self.arrays(entry)
        except HDF5_ERRORS as error:
            raise ValueError(f"its data are damaged ({str(error)[:80]})") from None
        if self.sidecar.boxes and "boxes" not in arrays:
            arrays["boxes"] = array_of_npy(read_bytes(self.sidecar.boxes / f"{entry.image_id}.npy"))
        return image_of_arrays(arrays, size=self.image_size(entry.image_id))

    def arrays(self, entry: Entry) -> dict[str, np.ndarray]:
        """The arrays of one image."""
        raise NotImplementedError


class ImageDatasets(ImagesHdf5):
    """The layout with one data set per image."""

    def read_layout(self) -> None:
        """Find the images by the names of the data sets."""
        names = (name for name in self._file if isinstance(name, str) and name.endswith(IMAGE_ENDINGS))
        self.image_ids = list(dict.fromkeys(name.rpartition("_")[0] for name in names))
        self.size = len(self.image_ids)

    def entries(self) -> Iterator[Entry]:
        for number, image_id in enumerate(self.image_ids, start=1):
            yield Entry(image_id, f"{self.path}, image {image_id!r}", image_id, number)

    def arrays(self, entry: Entry) -> dict[str, np.ndarray]:
        """The data sets named after the image."""
        found = {
            name: self._whole(f"{entry.key}_{name}")
            for name in ("features", "boxes", "cls_prob", "size")
            if f"{entry.key}_{name}" in self._file
        }
        if "features" not in found:
            grid = self._whole(f"{entry.key}_grids")
            return {"features": square_map(grid)}
        if "cls_prob" in found and found["cls_prob"].ndim == 1:
            found["conf"] = found.pop("cls_prob")
        if "size" in found:
            found["image_h"], found["image_w"] = found.pop("size").reshape(-1)[:2]
        return found

    def _whole(self, name: str) -> np.ndarray:
        data = self.dataset(name)
        if data.size * data.dtype.itemsize > LONGEST_ROW:
            raise ValueError(f"its {name} of shape {data.shape} are more than an image takes")
        return data[()]


class ImageRows(ImagesHdf5):
    """The layout with one row per image."""

    def read_layout(self) -> None:
        """Read the ids and check that every column has one row per id."""
        names = {ours: theirs for ours, theirs in COLUMNS.items() if theirs in self._file}
        self.columns = {ours: self.dataset(theirs) for ours, theirs in names.items()}
        ids = self.dataset(ID_COLUMNS[0] if ID_COLUMNS[0] in self._file else ID_COLUMNS[1], text=True)
        shapes = {name: column.shape for name, column in self.columns.items()}
        fits = ids.ndim == 1 and all(shape[0] == len(ids) for shape in shapes.values())
        if not fits or len(shapes.get("features", ())) < 3:
            raise ValueError(f"{self.path}: the shapes {shapes} do not fit the {ids.shape} image ids")
        widest = max(math.prod(column.shape[1:]) * column.dtype.itemsize for column in self.columns.values())
        if widest > LONGEST_ROW or len(ids) * ids.dtype.itemsize > LONGEST_ROW:
            raise ValueError(f"{self.path}: the shapes {shapes} are more than images take")
        self.image_ids = [_decoded(image_id) for image_id in ids[()].tolist()]
        self.size = len(self.image_ids)

    def entries(self) -> Iterator[Entry]:
        for row, image_id in enumerate(self.image_ids):
            yield Entry(image_id, f"{self.path}, row {row}", row, row + 1)

    def arrays(self, entry: Entry) -> dict[str, np.ndarray]:
        """The image's row of every column, without padding."""
        found = {name: np.asarray(column[entry.key]) for name, column in self.columns.items()}
        features = found["features"]
        if features.ndim == 2 and "num_boxes" not in found:
            real = np.flatnonzero((features != 0).any(axis=1))
            count = checked_count(int(real[-1]) + 1 if len(real) else 0)
            found = {name: column[:count] for name, column in found.items()}
        return found


def open_hdf5(path: Path, sidecar: Sidecar) -> OpenHdf5:
    """The reader for the file's layout; raises `ValueError` for an unknown one."""
    try:
        with import_h5py().File(path, "r") as file:
            names = [name for name in file if isinstance(name, str)]  # a name that is not text is bytes
    except HDF5_ERRORS as error:
        raise ValueError(f"{path} is not a complete HDF5 file: {error}") from error
    if "image_features" in names:
        return Hdf5File(path, sidecar)
    if "features" in names and not {*ID_COLUMNS}.isdisjoint(names):
        return ImageRows(path, sidecar)
    if any(name.endswith(IMAGE_ENDINGS) for name in names):
        return ImageDatasets(path, sidecar)
    raise ValueError(
        f"{path} should hold image_features and image_bb or spatial_features (with an index file), ID_features and "
        f"ID_boxes of each image, or image_id, features and boxes; it holds {', '.join(names[:8]) or 'nothing'}"
    )


def square_map(cells: np.ndarray) -> np.ndarray:
    """Cells (H H, D) of a square map -> (H, H, D)."""
    side = math.isqrt(len(cells))
    if cells.ndim != 2 or side * side != len(cells):
        raise ValueError(f"its grids of shape {cells.shape} are not a square map")
    return cells.reshape(side, side, -1)


def _decoded(image_id: Any) -> str:
    return image_id.decode("utf-8", "replace") if isinstance(image_id, bytes) else id_text(image_id)
