"""HDF5 files of regions: those of hengyuan-hu/bottom-up-attention-vqa and jnhwkim/ban-vqa, and the base class of all.

`hdf5`, N images (tools/detection_features_converter.py of both projects; other layouts are in hdf5_images.py):
    image_features (N, 36, D), image_bb (N, 36, 4) x1 y1 x2 y2 in pixels, spatial_features (N, 36, 6): x1, y1, x2, y2,
    width, height in 0..1; or, with 10 to 100 boxes per image, pos_boxes (N, 2), the first and last row of an image, and
    image_features (all boxes, D), image_bb (all boxes, 4), spatial_features (all boxes, 6).

The images' sizes are computed from the two kinds of boxes. These projects keep the row of each image in a pickle,
train36_imgid2idx.pkl, which is never opened: train36_imgid2idx.json with the same content is read instead.
"""

import json
import math
from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from training.data.files import read_json
from training.regions.formats.base import Entry, RegionFile, StoreImages
from training.regions.formats.record import (
    LONGEST_ROW,
    MOST_REGIONS,
    ImageRecord,
    box_numbers,
    checked_count,
    normalised_boxes,
    pixel_boxes,
    size_of_boxes,
)
from training.regions.formats.sidecar import Sidecar

WIDTHS = {"image_features": None, "image_bb": 4, "spatial_features": 6}
INDEX_ENDING = "_imgid2idx"
HDF5_ERRORS = (OSError, RuntimeError, LookupError, TypeError, UnicodeError)  # raised by h5py for damaged files


class OpenHdf5(RegionFile):
    """An HDF5 file of any layout; its data sets are checked before they are read."""

    def __init__(self, path: Path, sidecar: Sidecar) -> None:
        super().__init__(path, sidecar)
        try:
            self._file = import_h5py().File(path, "r")
        except HDF5_ERRORS as error:
            raise ValueError(f"{path} is not a complete HDF5 file: {error}") from error
        try:
            self.read_layout()
        except (*HDF5_ERRORS, ValueError) as error:
            self._file.close()
            if type(error) is ValueError and str(path.stem) in str(error):
                raise
            raise ValueError(f"{path} is not a complete HDF5 file: {error}") from error

    @abstractmethod
    def read_layout(self) -> None:
        """Find the images and data sets; raises `ValueError` or one of `HDF5_ERRORS` if they cannot be used."""

    def close(self) -> None:
        self._file.close()

    def dataset(self, name: str, *, text: bool = False) -> Any:
        """A data set inside this file, in chunks that fit into memory; raises `ValueError` for others.

        text: whether it may hold text.
        """
        dataset = self._file.get(name)
        h5py = import_h5py()
        inside = isinstance(self._file.get(name, getlink=True), h5py.HardLink) and isinstance(dataset, h5py.Dataset)
        kinds = "fiuSO" if text else "fiu"
        if not inside or dataset.external or dataset.is_virtual or dataset.dtype.kind not in kinds or not dataset.ndim:
            raise ValueError(f"{self.path}: {name} is not an array of numbers inside the file")
        if math.prod(dataset.chunks or (1,)) * dataset.dtype.itemsize > LONGEST_ROW:
            raise ValueError(f"{self.path}: {name} is in chunks of {dataset.chunks}; write it with smaller chunks")
        return dataset


class Hdf5File(OpenHdf5):
    """The layout with one row per image, whose ids are in a separate index."""

    def read_layout(self) -> None:
        """Read the images from the index."""
        self.rows = read_index(self.sidecar.index or self.path.with_name(f"{self.path.stem}{INDEX_ENDING}.json"))
        self.size = len(self.rows)
        self.columns = {name: self.dataset(name) for name in (*WIDTHS, "pos_boxes") if name in self._file}
        self._check_shapes()

    def entries(self) -> Iterator[Entry]:
        for number, (image_id, row) in enumerate(sorted(self.rows.items(), key=lambda item: item[1]), start=1):
            yield Entry(image_id, f"{self.path}, row {row}", row, number)

    def decode(self, entry: Entry) -> ImageRecord:
        """An image's rows of every data set; its size is computed from the boxes in pixels and in 0..1."""
        try:
            rows = self._rows_of(entry.key)
            arrays = {name: self.columns[name][rows] for name in WIDTHS if name in self.columns}
        except HDF5_ERRORS as error:
            raise ValueError(f"its rows are damaged ({str(error)[:80]})") from None
        checked_count(len(arrays["image_features"]))
        size = self.image_size(entry.image_id)
        if "spatial_features" in arrays:
            boxes = normalised_boxes(arrays["spatial_features"][:, :4], None)
            if size is None and "image_bb" in arrays:
                size = size_of_boxes(arrays["image_bb"], boxes)
        else:
            boxes = normalised_boxes(arrays["image_bb"], size)
        image = {"region_features": arrays["image_features"], "region_boxes": boxes}
        return image | ({"image_size": np.array(size, dtype=np.int32)} if size else {})

    def _rows_of(self, row: int) -> Any:
        """The index of an image's regions in every data set; raises `ValueError` for rows that do not exist."""
        images = self.columns.get("pos_boxes", self.columns["image_features"])
        if not 0 <= row < len(images):
            raise ValueError(f"the index names row {row}, but the file has {len(images)}: is it another file's index?")
        if "pos_boxes" not in self.columns:
            return row
        start, end = (int(bound) for bound in self.columns["pos_boxes"][row])
        if not 0 <= start < end <= len(self.columns["image_features"]) or end - start > MOST_REGIONS:
            raise ValueError(f"pos_boxes says that its boxes are {start} to {end}")
        return slice(start, end)

    def _check_shapes(self) -> None:
        if "image_features" not in self.columns or not {"image_bb", "spatial_features"} & set(self.columns):
            raise ValueError(
                f"{self.path} should hold image_features and image_bb or spatial_features, it holds "
                f"{', '.join(map(str, self._file)) or 'nothing'}"
            )
        adaptive = "pos_boxes" in self.columns
        shape = self.columns["image_features"].shape
        wrong = [name for name, data in self.columns.items() if data.ndim != (2 if adaptive else 3)]
        for name, width in WIDTHS.items():
            if name in self.columns and name not in wrong:
                data = self.columns[name]
                fits = data.shape[:-1] == shape[:-1] and data.shape[-1] == (width or shape[-1])
                wrong += [] if fits else [name]
        if adaptive and self.columns["pos_boxes"].shape[-1:] != (2,):
            wrong.append("pos_boxes")
        if wrong or math.prod(shape[1:]) * self.columns["image_features"].dtype.itemsize > LONGEST_ROW:
            shapes = {name: data.shape for name, data in self.columns.items()}
            raise ValueError(f"{self.path}: the shapes {shapes} do not fit together")


def import_h5py() -> Any:
    """`h5py`; raises `ImportError` with the extra to install."""
    try:
        import h5py
    except ImportError as error:
        raise ImportError("HDF5 files need h5py: pip install 'modeling-updown[features]'") from error
    return h5py


def read_index(path: Path) -> dict[str, int]:
    """Row by image id, from JSON; the `ValueError` of a missing file says how to make it from the pickle."""
    pickled = path.with_suffix(".pkl")
    if path.suffix == ".pkl" or not path.is_file():
        raise ValueError(
            f"the row of each image should be in {path.with_suffix('.json')}, or in the file of --index; a pickle is "
            "never opened, so if you trust it convert it to JSON in its folder: "
            """python -c "import json, pickle; json.dump({str(k): v for k, v in """
            f"""pickle.load(open('{pickled.name}', 'rb'), encoding='latin1').items()}}, """
            f"""open('{pickled.with_suffix(".json").name}', 'w'))\""""
        )
    index = read_json(path)
    if not isinstance(index, dict) or not all(type(row) is int for row in index.values()):
        raise ValueError(f'{path} should hold {{"image id": row, ...}}')
    return index


def write_hdf5(images: StoreImages, output: Path) -> None:
    """Images -> `output` of the format `hdf5`, and the JSON index `NAME_imgid2idx.json` in the same folder.

    The layout is that of 36 boxes if all images have equally many, else that of pos_boxes.
    """
    counts = images.num_regions
    even = len(set(counts.tolist())) == 1
    ends = counts.cumsum()
    leading = (len(images), int(counts[0])) if even else (int(ends[-1]),)
    index: dict[str, int] = {}
    with import_h5py().File(output, "w") as file:
        columns = {
            name: file.create_dataset(name, (*leading, width or images.feature_width), "f4")
            for name, width in WIDTHS.items()
        }
        if not even:
            file["pos_boxes"] = np.stack([ends - counts, ends], axis=1).astype(np.int32)
        for row, (image_id, image) in enumerate(images):
            rows = row if even else slice(int(ends[row] - counts[row]), int(ends[row]))
            columns["image_features"][rows] = image["region_features"]
            columns["image_bb"][rows] = pixel_boxes(image)
            columns["spatial_features"][rows] = box_numbers(image["region_boxes"])
            index[image_id] = row
    name = output.name.removeprefix(".").removesuffix(".partial")
    output.with_name(f"{Path(name).stem}{INDEX_ENDING}.json").write_text(json.dumps(index), encoding="utf-8")
