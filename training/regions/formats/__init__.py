"""Region features as other projects keep them: one file a family of formats, and the dict that names the formats.

open_region_file(path) -> RegionFile: images one by one, as columns of a region store
FORMATS[name].write(StoreImages(store), output): a store's images as another project reads them
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from training.regions.formats.base import RegionFile, StoreFile, StoreImages
from training.regions.formats.folders import SUFFIXES, FolderFile, write_att_box, write_npz
from training.regions.formats.hdf5 import write_hdf5
from training.regions.formats.hdf5_images import open_hdf5
from training.regions.formats.lmdb import LmdbFile, write_lmdb
from training.regions.formats.sidecar import Beside
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
    """How to read a format, how to write it, and what it keeps of a store beside features, boxes and ids."""

    read: Callable[[Path, Beside], RegionFile]
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


def open_region_file(path: str | Path, *, format: str | None = None, beside: Beside | None = None) -> RegionFile:
    """A reader for a file or folder of regions, or for a region store.

    Args:
        format: a key of `FORMATS`; None: told by the content.
        beside: what the user gives beside the file.

    Raises:
        ValueError: where the path does not exist, or is of no known or another format.
        ImportError: where the format needs a library that is not installed; it names the extra.
    """
    path = Path(path)
    format = format or guess_format(path)
    if format == STORE:
        return StoreFile(path, beside or Beside())
    if format not in FORMATS:
        raise ValueError(f"unknown format {format!r} of region files; known are {', '.join(FORMATS)}")
    return FORMATS[format].read(path, beside or Beside())


def guess_format(path: Path) -> str:
    """The name of a format by what is there, `store` for a region store; `ValueError` where it is none."""
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
