"""Other projects' formats of region features: one module per family of formats, and `FORMATS`, the dict of them all.

open_region_file(path) -> RegionFile: yields images one by one, as columns of a region store
FORMATS[name].write(StoreImages(store), output): writes a store's images in another project's format
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from training.regions.formats.base import RegionFile, StoreFile, StoreImages
from training.regions.formats.folders import SUFFIXES, FolderFile, write_att_box, write_npz
from training.regions.formats.hdf5 import write_hdf5
from training.regions.formats.hdf5_images import open_hdf5
from training.regions.formats.lmdb import LmdbFile, write_lmdb
from training.regions.formats.sidecar import Sidecar
from training.regions.formats.tsv import (
    BUA_COLUMNS,
    LXMERT_COLUMNS,
    BuaTsv,
    LxmertTsv,
    lines_of,
    write_bua_tsv,
    write_lxmert_tsv,
)
from training.regions.formats.vinvl import FEATURES, PREDICTIONS, VinvlTsv, write_vinvl

HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
CLASSES = ("region_scores", "object_ids", "attribute_ids", "attribute_scores")


@dataclass(frozen=True)
class RegionFormat:
    """A format's reader and writer, and the columns of a store that it keeps besides features, boxes and ids."""

    read: Callable[[Path, Sidecar], RegionFile]
    write: Callable[[StoreImages, Path], None]
    keeps: tuple[str, ...]


# The names that `updown convert-regions` takes.
FORMATS = {
    "tsv": RegionFormat(BuaTsv, write_bua_tsv, ("image_size",)),
    "lxmert-tsv": RegionFormat(LxmertTsv, write_lxmert_tsv, ("image_size", *CLASSES)),
    "vinvl-tsv": RegionFormat(VinvlTsv, write_vinvl, ("image_size", *CLASSES)),
    "npz": RegionFormat(FolderFile, write_npz, ("image_size", *CLASSES, "object_probs", "attribute_probs")),
    "att-box": RegionFormat(FolderFile, write_att_box, ("image_size",)),
    "hdf5": RegionFormat(open_hdf5, write_hdf5, ("image_size",)),
    "lmdb": RegionFormat(LmdbFile, write_lmdb, ("image_size", *CLASSES, "object_probs", "attribute_probs")),
}
STORE = "store"


def open_region_file(path: str | Path, *, format: str | None = None, sidecar: Sidecar | None = None) -> RegionFile:
    """A reader for a file or folder of regions, or for a region store.

    Args:
        format: a key of `FORMATS`; None: guessed from the content.
        sidecar: data that the file lacks.

    Raises:
        ValueError: if the path does not exist, or is not of the given format or of any known one.
        ImportError: if the format needs a library that is not installed; it names the extra.
    """
    path = Path(path)
    format = format or guess_format(path)
    if format == STORE:
        return StoreFile(path, sidecar or Sidecar())
    if format not in FORMATS:
        raise ValueError(f"unknown format {format!r} of region files; known are {', '.join(FORMATS)}")
    return FORMATS[format].read(path, sidecar or Sidecar())


def guess_format(path: Path) -> str:
    """The name of a path's format, `store` for a region store; raises `ValueError` if it has none of them."""
    if not path.exists():
        raise ValueError(f"there is no file or folder {path}")
    found = _format_of_folder(path) if path.is_dir() else _format_of_file(path)
    if found is None:
        raise ValueError(f"{path} is of no format of region files known here ({', '.join(FORMATS)}): give --format")
    return found


def _format_of_folder(folder: Path) -> str | None:
    if (folder / "store.json").is_file():
        return STORE
    if (folder / "data.mdb").is_file():
        return "lmdb"
    if any((folder / name).is_file() for name in (FEATURES, PREDICTIONS)):
        return "vinvl-tsv"
    if (folder / "att").is_dir() or folder.name.endswith("_att"):
        return "att-box"
    return "npz" if any(name.name.endswith(SUFFIXES) for name in folder.iterdir()) else None


def _format_of_file(path: Path) -> str | None:
    with open(path, "rb") as file:
        if file.read(len(HDF5_MAGIC)) == HDF5_MAGIC:
            return "hdf5"
    if path.suffix in (".mdb", ".lmdb"):
        return "lmdb"
    _, _, first = next(lines_of(path), (0, 0, b""))
    columns = {len(BUA_COLUMNS): "tsv", len(LXMERT_COLUMNS): "lxmert-tsv", 2: "vinvl-tsv", 3: "vinvl-tsv"}
    return columns.get(first.count(b"\t") + 1)
