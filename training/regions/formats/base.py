"""Base classes of the readers and writers of other projects' region files.

    file --RegionFile.entries--> Entry --RegionFile.image--> ImageRecord --RegionStoreWriter--> region store
    region store --StoreImages--> (image id, ImageRecord) --a format's writer--> file

A reader first lists its images, which is cheap, and decodes an image only on request. So a conversion can skip the
images that it has, a comparison can look up an image by id, and only one image is in memory at a time.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm

from training.regions.formats.arrays import base64_bytes
from training.regions.formats.floats import FLOATS, float_array
from training.regions.formats.record import ImageRecord, check_image
from training.regions.formats.sidecar import Sidecar
from training.regions.store import RegionStore


@dataclass(frozen=True)
class Entry:
    """The position of an image in a file.

    place: for messages, such as `val.tsv, line 12`.
    key: what the reader needs to decode it.
    end: how much of the file is read after it, in the units of `RegionFile.size`.
    fault: why the image cannot be read, if that is known before decoding.
    """

    image_id: str
    place: str
    key: Any
    end: int
    fault: str | None = None


class RegionFile(ABC):
    """A file or folder of regions that is listed and read image by image; a context manager that closes it at exit.

    Attributes:
        size: the total length in the reader's unit (bytes or images), for the progress bar.
    """

    size: int

    def __init__(self, path: Path, sidecar: Sidecar) -> None:
        self.path, self.sidecar = path, sidecar
        self.feature_type = "float32"

    @abstractmethod
    def entries(self) -> Iterator[Entry]:
        """Yield every image in the order of the file."""

    @abstractmethod
    def decode(self, entry: Entry) -> ImageRecord:
        """One image, unchecked; raises `ValueError` if it cannot be decoded."""

    def __enter__(self) -> "RegionFile":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:  # noqa: B027  a folder has nothing to close
        """Close the open files."""

    def image(self, entry: Entry) -> ImageRecord:
        """One image, checked; raises `ValueError` with its fault, without its place."""
        if entry.fault is not None:
            raise ValueError(entry.fault)
        if not entry.image_id.strip() or entry.image_id.encode("utf-8", "replace").decode() != entry.image_id:
            raise ValueError(f"its image id is {entry.image_id!a:.60}, which is not text")
        try:
            image = self.decode(entry)
            check_image(image)
        except (ArithmeticError, AttributeError, LookupError, TypeError) as error:  # a value of another type
            raise ValueError(f"it holds a value of another type than its format has ({str(error)[:80]})") from error
        return image

    def features(self, field: bytes | str, *, rows: int, name: str = "features") -> np.ndarray:
        """Base64 -> features (rows, D), of the given type, or of the one that fits the bytes.

        Where several types fit, the type of the image before is preferred.
        """
        content = base64_bytes(field, name=name)
        given = self.sidecar.feature_type
        types = [given] if given else sorted(FLOATS, key=lambda kind: kind != self.feature_type)
        array, found = float_array(content, name=name, rows=rows, types=types, given=given is not None)
        self.feature_type = found
        return array

    def image_size(self, image_id: str) -> tuple[int, int] | None:
        """The image's height and width, if the user gave them."""
        return self.sidecar.sizes.get(image_id)


class StoreFile(RegionFile):
    """A region store as a `RegionFile`."""

    def __init__(self, path: Path, sidecar: Sidecar) -> None:
        super().__init__(path, sidecar)
        self.store = RegionStore(path)
        self.size = len(self.store)

    def entries(self) -> Iterator[Entry]:
        for position, image_id in enumerate(self.store.image_ids):
            yield Entry(image_id, f"{self.path}, image {image_id!r}", image_id, position + 1)

    def decode(self, entry: Entry) -> ImageRecord:
        columns = numbers_of(self.store[entry.key])
        image = {name: value.numpy() for name, value in columns.items() if name != "region_mask"}
        size = self.image_size(entry.image_id)
        return image | ({"image_size": np.array(size)} if size and "image_size" not in image else {})


class StoreImages:
    """Iterates over the images of a store for the writers of other formats; features and probabilities in float32.

    Attributes:
        num_regions: (N,) regions of each image.
        feature_width: D.
        numbers_per_region: the total width of all columns.
        current: the id of the image that is being written.
        labels: names of ids, if the user gave them.
    """

    def __init__(self, store: RegionStore, sidecar: Sidecar) -> None:
        self.file = StoreFile(store.folder, sidecar)
        self.num_regions, self.feature_width = store.num_regions, store.feature_width
        self.labels = sidecar.labels
        self.current = store.image_ids[0]
        columns = numbers_of(store[store.image_ids[0]])
        self.numbers_per_region = sum(column[0].numel() for name, column in columns.items() if name != "image_size")

    def __len__(self) -> int:
        return len(self.num_regions)

    def __iter__(self) -> Iterator[tuple[str, ImageRecord]]:
        for entry in tqdm(self.file.entries(), total=len(self), desc=f"{self.file.path} ->", unit="image"):
            self.current = entry.image_id
            image = self.file.decode(entry)
            yield (
                entry.image_id,
                {
                    name: value.astype(np.float32) if value.dtype == np.float16 else value
                    for name, value in image.items()
                },
            )


def numbers_of(columns: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """An image's columns of numbers: no other format has a place for words and clips."""
    return {name: column for name, column in columns.items() if isinstance(column, torch.Tensor)}
