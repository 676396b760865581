"""LMDB: one record per image, with the image's id as key.

`lmdb`: the encoding of a record is recognised by its first bytes:
    .npz bytes (UNITER's compressed databases, ruotianluo's HybridLoader, and the writer below), .npy bytes;
    a msgpack map of arrays by `msgpack_numpy` (UNITER, scripts/convert_imgdir.py: features, norm_bb, conf,
        soft_labels; keys `ID.npz`);
    a JSON object with num_boxes, and boxes and features in base64 (VL-BERT's records);
    or base64 of any of these.
The names of the arrays are those of the format `npz`. Pickled records (ViLBERT, MMF, VL-T5) are refused with the cure.
The lmdb library trusts its file, so lmdb_pages.py reads it without that library.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from training.regions.formats.arrays import (
    NPY_MAGIC,
    NPZ_MAGIC,
    PICKLE_CURE,
    PICKLE_MAGIC,
    array_of_npy,
    arrays_of_json,
    arrays_of_msgpack,
    arrays_of_npz,
    base64_array,
    base64_bytes,
    base64_numbers,
)
from training.regions.formats.base import Entry, RegionFile, StoreImages
from training.regions.formats.folders import NAMES, WANTED, image_of_arrays, npz_of_image, read_bytes
from training.regions.formats.lmdb_pages import LmdbPages, Place
from training.regions.formats.record import LONGEST_ROW, ImageRecord, checked_count
from training.regions.formats.sidecar import Sidecar

BOOKKEEPING = frozenset({b"__keys__", b"__len__", b"keys", b"length", b"num_samples"})
IMAGES_A_COMMIT = 256
OVERHEAD_BYTES = 2**13  # per record: the headers of its arrays, and the unused part of its last page


class LmdbFile(RegionFile):
    """The format `lmdb`: a folder with data.mdb, or that file itself."""

    def __init__(self, path: Path, sidecar: Sidecar) -> None:
        super().__init__(path, sidecar)
        self._pages = LmdbPages(path / "data.mdb" if path.is_dir() else path)
        self.size = len(self._pages)

    def close(self) -> None:
        self._pages.close()

    def entries(self) -> Iterator[Entry]:
        """Yield every record except those of `BOOKKEEPING`."""
        for number, (key, place) in enumerate(self._pages.records(), start=1):
            if key in BOOKKEEPING:
                continue
            image_id = key.decode("utf-8", "backslashreplace").removesuffix(".npz")
            fault = None if isinstance(place, Place) else str(place)
            yield Entry(image_id, f"{self.path}, record {image_id!r}", place, number, fault)

    def decode(self, entry: Entry) -> ImageRecord:
        arrays = self._decoded(arrays_of_record(self._pages.value(entry.key)))
        if self.sidecar.boxes and not {"bbox", "boxes", "norm_bb"} & set(arrays):
            arrays["boxes"] = array_of_npy(read_bytes(self.sidecar.boxes / f"{entry.image_id}.npy"))
        return image_of_arrays(arrays, size=self.image_size(entry.image_id))

    def _decoded(self, fields: dict[str, Any]) -> dict[str, Any]:
        """A record's fields, with base64 decoded to arrays of one row per box."""
        count = fields.get("num_boxes", fields.get("num_bbox"))
        texts = [name for name, value in fields.items() if isinstance(value, str)]
        if texts and count is None:
            raise ValueError(f"it holds base64 ({', '.join(texts)}) but no num_boxes")
        arrays: dict[str, Any] = {}
        for name in texts:
            rows = checked_count(count)
            if name in NAMES["region_features"]:
                arrays[name] = self.features(fields[name], rows=rows, name=name)
            elif name in NAMES["region_boxes"]:
                arrays[name] = base64_numbers(fields[name], name=name, rows=rows, width=4)
            else:
                arrays[name] = base64_array(fields[name], name=name, dtype="<f4", rows=rows)
        return {name: np.asarray(value) for name, value in fields.items() if name not in arrays} | arrays


def arrays_of_record(record: bytes, *, unwrapped: bool = False) -> dict[str, Any]:
    """A record's arrays by name, or the fields of a JSON object.

    Raises `ValueError` for a pickle, a damaged record and an unknown encoding.
    """
    if len(record) > LONGEST_ROW:
        raise ValueError(f"it is longer than {LONGEST_ROW} bytes, more than an image takes")
    if record.startswith(NPZ_MAGIC):
        return arrays_of_npz(record, wanted=WANTED)
    if record.startswith(NPY_MAGIC):
        return {"features": array_of_npy(record)}
    if record.startswith(PICKLE_MAGIC):
        raise ValueError(PICKLE_CURE)
    if record.startswith(b"{"):
        return arrays_of_json(record, wanted=WANTED)
    if record[:1] and (0x81 <= record[0] <= 0x8F or record[0] in (0xDE, 0xDF)):  # a msgpack map
        return arrays_of_msgpack(record, wanted=WANTED)
    if unwrapped:
        raise ValueError("it is base64 of an unknown encoding")
    try:
        content = base64_bytes(record, name="bytes")
    except ValueError:
        raise ValueError("it is not a .npz, .npy, msgpack map, JSON object or base64 of one of them") from None
    return arrays_of_record(content, unwrapped=True)


def import_lmdb() -> Any:
    """`lmdb`; raises `ImportError` with the extra to install."""
    try:
        import lmdb
    except ImportError as error:
        raise ImportError("LMDB files need lmdb: pip install 'modeling-updown[features]'") from error
    return lmdb


def write_lmdb(images: StoreImages, output: Path) -> None:
    """Images -> a folder with an LMDB of the format `lmdb`, whose records are .npz bytes with the names of `npz`."""
    lmdb = import_lmdb()
    numbers = int(images.num_regions.sum()) * images.numbers_per_region
    most_bytes = 4 * numbers + OVERHEAD_BYTES * len(images)
    environment = lmdb.open(str(output), map_size=2 * most_bytes + 2**26)  # an upper bound on the file's size
    writing = environment.begin(write=True)
    for number, (image_id, image) in enumerate(images, start=1):
        key = image_id.encode("utf-8")
        if not 0 < len(key) <= environment.max_key_size():
            raise ValueError(f"the id {image_id[:60]!r} is too long for a key of LMDB")
        writing.put(key, npz_of_image(image))
        if number % IMAGES_A_COMMIT == 0:
            writing.commit()
            writing = environment.begin(write=True)
    writing.commit()
    environment.close()
    (output / "lock.mdb").unlink(missing_ok=True)
