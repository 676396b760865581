"""The files of a region store: shards in Arrow and the manifests that list them, written atomically.

    ShardImages --write_shard--> shard-<process>-<number>.arrow --open_shard--> ShardImages on mapped memory

A shard is one Arrow file of one record batch: `image_id` (string), where they are known `image_size` (height and width
in pixels, int32), `photo_mark` (of the image's content, int64, see `image_marks.py`) and `clip_ids` (string) and, a
list for each image, `region_features` (float16, or float32 where that was asked for), `region_boxes` (float32) and what
else the region source gave. All features of a shard thus lie in one flat buffer, and an image is a slice of it. A shard
counts only once a manifest (`store.json`, and `store-<process>.json` of further processes) names it; both are written
under another name and renamed, so a kill at any moment leaves what was there before. The manifest holds two checksums
of each shard (CRC-32): of the whole file, and of what says which regions are whose (`index_crc32`), checked at every
opening.
"""

import json
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import torch

from training.console import one_line
from training.data.files import write_atomically

try:
    import fcntl
except ImportError:  # Windows: two writers with the same process index are not detected there
    fcntl = None  # type: ignore[assignment]

FORMAT = "updown-regions-1"
MANIFEST_NAME = re.compile(r"store(?:-(\d+))?\.json")
SHARD_NAME = re.compile(r"shard-\d+-\d+\.arrow")
# What a store may keep of a region and in which numbers: the wide columns in float16 (of features it may also be
# float32), the narrow ones in float32, ids in int32, masks in 255ths of 1.
STORED_DTYPES = {
    "region_features": torch.float16,
    "region_boxes": torch.float32,
    "region_scores": torch.float32,
    "object_probs": torch.float16,
    "attribute_probs": torch.float16,
    "region_seconds": torch.float32,
    "object_ids": torch.int32,
    "attribute_ids": torch.int32,
    "attribute_scores": torch.float32,
    "region_masks": torch.uint8,
}
TEXTS, CLIPS = "region_texts", "clip_ids"  # strings: one of each region, one of each image
ARROW_DTYPES = {
    torch.float16: pa.float16(),
    torch.float32: pa.float32(),
    torch.int32: pa.int32(),
    torch.uint8: pa.uint8(),
}
CURE = "copy the store again, or delete its folder and extract again"
# What Arrow, torch and Python raise for a file that is not a shard; an OSError of Arrow does not name the file.
LAYOUT_FAULTS = (
    *(pa.ArrowException, KeyError, IndexError, AttributeError, RuntimeError, OSError, TypeError, MemoryError),
    UnicodeDecodeError,
)
TORCH_DTYPES = {arrow: dtype for dtype, arrow in ARROW_DTYPES.items()} | {pa.int64(): torch.int64}


@dataclass
class ShardImages:
    """N images and their regions, concatenated without padding.

    `starts` (N + 1) int64: image i has the regions `starts[i]:starts[i + 1]`; `columns`: name -> (all regions, width),
    or (all regions,) for scores, seconds and ids; `strings`: where they are known, `region_texts` (all regions,) and
    `clip_ids` (N,); `image_sizes` (N, 2) int32: height and width in pixels, and `image_marks` (N,) int64, both 0 where
    they are not known.
    """

    image_ids: list[str]
    starts: torch.Tensor
    columns: dict[str, torch.Tensor]
    strings: dict[str, pa.Array]
    image_sizes: torch.Tensor
    image_marks: torch.Tensor

    @property
    def widths(self) -> dict[str, int]:
        """Numbers a region in each column, in the columns' order; strings count as 1."""
        return {name: column[:1].numel() for name, column in self.columns.items()} | dict.fromkeys(self.strings, 1)

    @property
    def nbytes(self) -> int:
        """Bytes of all columns."""
        return sum(column.nbytes for column in (*self.columns.values(), *self.strings.values()))

    @property
    def index_crc32(self) -> int:
        """The checksum of ids, starts, sizes and marks."""
        ids = json.dumps(self.image_ids).encode()
        numbers = (self.starts, self.image_sizes, self.image_marks)
        return zlib.crc32(b"".join([ids, *(part.contiguous().numpy().tobytes() for part in numbers)]))

    def cloned(self) -> "ShardImages":
        """A copy that does not share memory."""
        return ShardImages(
            image_ids=list(self.image_ids),
            starts=self.starts.clone(),
            columns={name: column.clone() for name, column in self.columns.items()},
            strings={name: pa.array(texts.to_pylist(), pa.string()) for name, texts in self.strings.items()},
            image_sizes=self.image_sizes.clone(),
            image_marks=self.image_marks.clone(),
        )


def join_images(parts: Sequence[ShardImages]) -> ShardImages:
    """Several batches of images as one."""
    counts = torch.cat([part.starts.diff() for part in parts])
    return ShardImages(
        image_ids=[image_id for part in parts for image_id in part.image_ids],
        starts=starts_of_counts(counts),
        columns={name: torch.cat([part.columns[name] for part in parts]) for name in parts[0].columns},
        strings={name: pa.concat_arrays([part.strings[name] for part in parts]) for name in parts[0].strings},
        image_sizes=torch.cat([part.image_sizes for part in parts]),
        image_marks=torch.cat([part.image_marks for part in parts]),
    )


def starts_of_counts(counts: torch.Tensor) -> torch.Tensor:
    """(N,) regions per image -> (N + 1,) the start of each image, and the end."""
    return torch.nn.functional.pad(counts.cumsum(dim=0), (1, 0))


def write_shard(path: Path, images: ShardImages) -> dict[str, Any]:
    """Writes one shard and returns its entry for the manifest."""
    arrays: dict[str, pa.Array] = {"image_id": pa.array(images.image_ids, pa.string())}
    if images.image_sizes.any():
        arrays["image_size"] = pa.FixedSizeListArray.from_arrays(pa.array(images.image_sizes.reshape(-1).numpy()), 2)
    if images.image_marks.any():
        arrays["photo_mark"] = pa.array(images.image_marks.numpy())
    starts = pa.array(images.starts.numpy())
    for name, column in images.columns.items():
        numbers = pa.array(column.reshape(-1).numpy(), ARROW_DTYPES[column.dtype])
        regions = pa.FixedSizeListArray.from_arrays(numbers, column.shape[1]) if column.dim() == 2 else numbers
        arrays[name] = pa.LargeListArray.from_arrays(starts, regions)
    for name, texts in images.strings.items():
        arrays[name] = pa.LargeListArray.from_arrays(starts, texts) if name == TEXTS else texts
    batch = pa.RecordBatch.from_pydict(arrays)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)
    content = sink.getvalue()
    write_atomically(path, content)
    return {
        "file": path.name,
        "photos": len(images.image_ids),
        "regions": int(starts[-1].as_py()),
        "bytes": content.size,
        "crc32": zlib.crc32(content),
        "index_crc32": images.index_crc32,
    }


def open_shard(path: Path, entry: Mapping[str, Any], *, verified: bool = False) -> ShardImages:
    """Maps a shard into memory; its features are read only if `verified`, for their checksum.

    The mapping is private: writing into a tensor changes this process' memory, never the file.

    Raises:
        ValueError: if the file is absent, has another length than its manifest entry, another layout, or a checksum
            that differs.
    """
    try:
        size = path.stat().st_size if path.exists() else None
        if size != entry["bytes"]:
            fault = (
                "is absent"
                if size is None
                else f"is {size} bytes long, not {entry['bytes']}: it was cut short or replaced"
            )
            raise ValueError(f"the shard {path} {fault}; {CURE}")
        mapped = torch.from_file(str(path), shared=False, size=size, dtype=torch.uint8)
        if verified:
            check_content(path, mapped, entry)
        images = _images_in(mapped)
    except LAYOUT_FAULTS as error:
        fault = one_line(error, limit=200)
        raise ValueError(
            f"the shard {path} is not a region shard ({fault}); delete its folder and extract again"
        ) from error
    _check_shapes(path, images, entry)
    return images


def check_content(path: Path, mapped: torch.Tensor, entry: Mapping[str, Any]) -> None:
    """Raises `ValueError` if a shard's checksum differs; shards of earlier versions have none."""
    if "crc32" in entry and zlib.crc32(mapped.numpy().data) != entry["crc32"]:
        raise ValueError(f"the shard {path} is damaged (its checksum differs); {CURE}")


def _images_in(mapped: torch.Tensor) -> ShardImages:
    """The images of a mapped shard; raises one of `LAYOUT_FAULTS` if it is not a shard."""
    batch = pa.ipc.open_file(pa.py_buffer(mapped.numpy())).get_batch(0)
    batch.validate(full=True)  # before any text is read: an offset outside the file crashes the interpreter
    image_ids = batch.column("image_id").to_pylist()
    if None in image_ids or any(batch.column(name).null_count for name in batch.schema.names):
        raise KeyError("an image or a region has no value")
    known = batch.schema.names
    strings = {name: batch.column(name) for name in (TEXTS, CLIPS) if name in known}
    if TEXTS in strings:
        strings[TEXTS] = strings[TEXTS].values
    if any(texts.null_count for texts in strings.values()):
        raise KeyError("a region has no text")
    return ShardImages(
        image_ids=image_ids,
        starts=_mapped_tensor(batch.column("region_features").offsets, mapped),
        columns={name: _mapped_tensor(batch.column(name).values, mapped) for name in STORED_DTYPES if name in known},
        strings=strings,
        image_sizes=(
            _mapped_tensor(batch.column("image_size"), mapped)
            if "image_size" in known
            else torch.zeros(len(image_ids), 2, dtype=torch.int32)
        ),
        image_marks=(
            _mapped_tensor(batch.column("photo_mark"), mapped)
            if "photo_mark" in known
            else torch.zeros(len(image_ids), dtype=torch.int64)
        ),
    )


def _check_shapes(path: Path, images: ShardImages, entry: Mapping[str, Any]) -> None:
    """Raises `ValueError` if a shard's shapes, types or counts contradict each other or the manifest."""
    num_images = len(images.image_ids)
    regions = {len(column) for column in images.columns.values()} | {int(images.starts[-1]), entry["regions"]}
    regions |= {len(images.strings[TEXTS])} if TEXTS in images.strings else set()
    shapes_fit = (
        len(regions) == 1
        and images.image_sizes.shape == (num_images, 2)
        and images.image_marks.shape == (num_images,)
        and images.starts.shape == (num_images + 1,)
        and num_images == entry["photos"] == len(images.strings.get(CLIPS, images.image_ids))
        and {"region_features", "region_boxes"} <= set(images.columns)
        and images.columns["region_features"].dim() == 2
        and images.columns["region_boxes"].shape[1:] == (4,)
    )
    features_in = (torch.float16, torch.float32)
    kinds_fit = all(
        column.dtype in (features_in if name == "region_features" else (STORED_DTYPES[name],))
        for name, column in images.columns.items()
    )
    kinds_fit = kinds_fit and all(texts.type == pa.string() for texts in images.strings.values())
    starts_fit = shapes_fit and images.starts[0] == 0 and bool((images.starts.diff() >= 1).all())
    if not (starts_fit and kinds_fit):
        raise ValueError(f"the shard {path} contradicts itself or its manifest; {CURE}")
    if "index_crc32" in entry and images.index_crc32 != entry["index_crc32"]:
        raise ValueError(f"the shard {path} is damaged (its ids or counts differ); {CURE}")


def holds_no_damage(name: str, column: torch.Tensor) -> bool:
    """Whether a column holds only valid numbers: finite ones, boxes in 0..1 whose sides are not negative, ids from 0.
    The bits of the numbers are compared, which takes a fiftieth of the time of `torch.isfinite` in float16.

    >>> [holds_no_damage("region_scores", torch.tensor([number])) for number in (0.5, -torch.inf, torch.nan)]
    [True, False, False]
    """
    if not column.numel() or column.dtype == torch.uint8:
        return True
    if column.dtype == torch.int32:
        return bool(column.min() >= 0)
    if name == "region_boxes":
        ordered = bool((column[..., 2:] >= column[..., :2]).all())  # False for NaN
        return ordered and bool((column.min() >= 0) & (column.max() <= 1))
    bits = column.contiguous().numpy().view({2: np.uint16, 4: np.uint32}[column.dtype.itemsize])
    infinity = np.array(np.inf, dtype={2: np.float16, 4: np.float32}[column.dtype.itemsize]).view(bits.dtype)
    signed = bits.view({2: np.int16, 4: np.int32}[bits.itemsize])
    return bool(signed.max() < infinity) and bool(bits.max() < infinity + (1 << (8 * bits.itemsize - 1)))


def read_manifests(folder: Path) -> dict[str, dict[str, Any]]:
    """The manifests of a folder by file name, the main process' first; {} if there is none.

    Raises:
        ValueError: for a manifest that is broken, of another format, or names files outside the folder.
    """
    names = sorted(
        (path.name for path in folder.glob("store*.json") if MANIFEST_NAME.fullmatch(path.name)),
        key=lambda name: int(MANIFEST_NAME.fullmatch(name).group(1) or 0),  # type: ignore[union-attr]
    )
    return {name: _read_manifest(folder / name) for name in names}


def fingerprint_differences(stored: Mapping[str, Any], expected: Mapping[str, Any]) -> list[str]:
    """One phrase for each field of `expected` that is absent or different in the stored fingerprint.

    None stands for what is off, and need not be recorded: a fingerprint may be older than the field.
    """
    phrases = []
    for field, wanted in expected.items():
        if field not in stored and wanted is not None:
            phrases.append(f"{field}: not recorded, expected {wanted!r}")
        elif stored.get(field) != wanted:
            phrases.append(f"{field}: stored {stored[field]!r}, expected {wanted!r}")
    return phrases


def lock_file(process_index: int) -> str:
    """The name of the file that `lock_writer` locks; it is not deleted."""
    return f".writer-{process_index}.lock"


def lock_writer(folder: Path, process_index: int) -> BinaryIO:
    """Locks the folder for a process index until the returned file is closed or the process ends.

    Raises `RuntimeError` if another writer holds the lock.
    """
    file = open(folder / lock_file(process_index), "wb")  # noqa: SIM115
    if fcntl is not None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.close()
            raise RuntimeError(
                f"another process writes into {folder} as process {process_index}: wait for its end, or "
                "give every process its own process_index"
            ) from error
    return file


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if manifest["format"] != FORMAT:
            raise ValueError(f"its format is {manifest['format']!r}, not {FORMAT!r}")
        if not isinstance(manifest["fingerprint"], dict):
            raise ValueError("its fingerprint is not an object")
        for shard in manifest["shards"]:
            counts = [shard[key] for key in ("photos", "regions", "bytes")]
            checksums = [shard[key] for key in ("crc32", "index_crc32") if key in shard]  # absent in older stores
            if not SHARD_NAME.fullmatch(shard["file"]) or not all(
                type(number) is int and number >= 0 for number in counts + checksums
            ):
                raise ValueError(f"it lists an invalid shard {str(shard)[:80]}")
    except (ValueError, KeyError, TypeError, RecursionError, OSError) as error:
        raise ValueError(f"{path} is not a manifest of a region store: {str(error)[:200]}") from error
    return manifest


def _mapped_tensor(array: pa.Array, mapped: torch.Tensor) -> torch.Tensor:
    """A view of the mapped file with an Arrow array's numbers: (length,), or (length, width) for fixed-size lists."""
    width = array.type.list_size if pa.types.is_fixed_size_list(array.type) else None
    numbers = array.values if width is not None else array
    dtype = TORCH_DTYPES[numbers.type]
    start = numbers.buffers()[1].address - mapped.data_ptr()
    if start < 0:
        raise IndexError("its numbers are compressed")
    tensor = mapped[start : start + len(numbers) * dtype.itemsize].view(dtype)
    return tensor if width is None else tensor.view(-1, width)
