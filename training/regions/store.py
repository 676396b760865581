"""A folder of region features on disk: float16, memory-mapped, resumable, with the fingerprint of their source.

    Regions --RegionStoreWriter.append--> folder --RegionStore.batch--> region_features, region_boxes, region_mask

The files are those of `training/regions/shards.py`. One image of 36 regions of width 2048 takes 148 kB, the 123,287
images of COCO 18 GB on disk and next to nothing in memory; `tests/benchmarks/region_store.py` prints images per second.
"""

import json
import math
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import get_worker_info

from training.data.files import PathLike, write_atomically
from training.regions.shards import (
    CLIPS,
    CURE,
    FORMAT,
    MANIFEST_NAME,
    SHARD_NAME,
    STORED_DTYPES,
    TEXTS,
    ShardImages,
    fingerprint_differences,
    holds_no_damage,
    join_images,
    lock_writer,
    open_shard,
    read_manifests,
    write_shard,
)
from training.regions.unpadding import NOTHING_STORED, check_numbers, unpadded

Images = Sequence[str] | Sequence[int] | slice | range | np.ndarray | torch.Tensor
VERIFIED_BYTES = 2**28  # stores up to this size are checked whole at opening, in 0.2 s; larger ones on request
MOST_WAITING_BYTES = 2**28


class RegionStoreWriter:
    """Writes regions image by image; opening an existing store continues it.

    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> regions = {"region_features": torch.ones(1, 3, 8), "region_boxes": torch.tensor([[[0.0, 0.0, 1.0, 1.0]] * 3])}
    >>> with RegionStoreWriter(folder, fingerprint={"backbone": "resnet101"}) as writer:
    ...     writer.append(["dog.jpg"], regions)
    >>> RegionStore(folder)["dog.jpg"]["region_features"].shape
    torch.Size([3, 8])

    Args:
        folder: created if absent; must be empty or a store.
        fingerprint: what made the features (model type, backbone, hash of the weights, revision, image size, kind of
            regions, ...), as JSON values.
        images_per_shard: images are collected in memory up to this number (or 256 MiB) and then written as one shard
            (256 images of 36 regions of width 2048 are 38 MB). A kill loses only the images in memory.
            A last shard that was cut short is written again.
        images_at_risk: the images in memory are also written after this number of images (at the end of their batch),
            as a small shard that the full one replaces later; by default only full shards are written.
        process_index: from 0; different for each process that writes into the folder at the same time.
        feature_dtype: float16, or float32 for exact values in twice the space.
        class_names: what the detector calls the classes 1 .. C of `object_probs` and `attribute_probs`, by column.

    Attributes:
        done_ids: the ids appended so far; on opening, those on disk, written by any process.
        done_marks: the mark of each one's content (`image_marks.py`), 0 if it is not known.

    Raises:
        ValueError: for a folder with other files, and for a fingerprint, names or `feature_dtype` other than the
            store's.
        RuntimeError: while another writer holds the same `process_index`.
    """

    def __init__(
        self,
        folder: PathLike,
        *,
        fingerprint: Mapping[str, Any],
        images_per_shard: int = 256,
        images_at_risk: int | None = None,
        process_index: int = 0,
        feature_dtype: torch.dtype = torch.float16,
        class_names: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.class_names = {column: list(names) for column, names in (class_names or {}).items() if names}
        self.images_per_shard = images_per_shard
        self.images_at_risk = images_at_risk or images_per_shard
        self.process_index = process_index
        self.feature_dtype = feature_dtype
        self._manifest_name = f"store-{process_index}.json" if process_index else "store.json"
        self._waiting: list[ShardImages] = []
        self._waiting_bytes = 0
        self._num_saved = 0  # number of waiting batches that are already in small shards
        self._small_shards: list[dict[str, Any]] = []
        _check_folder_is_free(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = lock_writer(self.folder, process_index)
        try:
            self._continue(json.loads(json.dumps(dict(fingerprint))))
        except BaseException:
            self._lock.close()
            raise

    def __enter__(self) -> "RegionStoreWriter":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def append(self, image_ids: Sequence[str], regions: Mapping[str, Any]) -> None:
        """Adds a batch of images; on an error nothing of it is added.

        Args:
            image_ids: B ids not yet in the store.
            regions: `region_features` (B, R, D) and `region_boxes` (B, R, 4) xyxy 0..1, optionally `region_mask`
                (B, R) bool (absent: every region is real), `region_scores` and `region_seconds` (B, R),
                `object_probs` and `attribute_probs` (B, R, classes), `object_ids` (0 = background) and `attribute_ids`
                (0 = none) with `attribute_scores` (B, R), `region_masks` (B, R, M, M) in 0..1, kept in 255ths,
                `region_texts` (B lists of R strings) and `clip_ids` (B,), kept as strings; and `image_size` (B, 2)
                height and width in pixels (0, 0 where they are not known) and `photo_mark` (B,) of the images' content
                (0: not known); a `Regions` or any mapping of tensors or arrays. Padding is not kept.

        Raises:
            ValueError: for an id that is in the store already, an image without regions, numbers that are not finite in
                float16, boxes that are not xyxy in 0..1, and widths other than the store's; it names the image.
        """
        self._check_ids(image_ids)
        images = unpadded(image_ids, regions, feature_dtype=self.feature_dtype)
        check_numbers(images)
        self._check_widths(images.widths)
        self._widths = images.widths
        self.done_ids.update(image_ids)
        self.done_marks.update(zip(image_ids, images.image_marks.tolist(), strict=True))
        self._waiting.append(images)
        self._waiting_bytes += images.nbytes
        num_waiting, num_unsaved = (
            sum(len(part.image_ids) for part in parts) for parts in (self._waiting, self._waiting[self._num_saved :])
        )
        if num_waiting >= self.images_per_shard or self._waiting_bytes >= MOST_WAITING_BYTES:
            self.flush()
        elif num_unsaved >= self.images_at_risk:
            self._small_shards.append(self._write_shard(self._waiting[self._num_saved :], replaced=[]))
            self._num_saved = len(self._waiting)

    def flush(self) -> None:
        """Writes the waiting images as one shard; after it returns, a kill does not lose them."""
        if not self._waiting:
            return
        if len(self._small_shards) != 1 or self._num_saved < len(self._waiting):
            self._write_shard(self._waiting, replaced=self._small_shards)
        self._waiting, self._waiting_bytes, self._num_saved, self._small_shards = [], 0, 0, []

    def _write_shard(self, parts: Sequence[ShardImages], *, replaced: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Writes batches as one shard, which takes the place of `replaced` when the manifest is written."""
        path = self.folder / f"shard-{self.process_index}-{self._next_number:05d}.arrow"
        self._next_number += 1
        entry = write_shard(path, join_images(parts))
        kept = [shard for shard in self._manifest["shards"] if shard not in replaced]
        self._write_manifest({**self._manifest, "shards": [*kept, entry]})
        for shard in replaced:
            (self.folder / shard["file"]).unlink()
        return entry

    def close(self) -> None:
        """Writes the waiting images and releases the folder's lock."""
        try:
            self.flush()
        finally:
            self._lock.close()

    def _continue(self, fingerprint: dict[str, Any]) -> None:
        manifests = read_manifests(self.folder)
        for manifest in manifests.values():
            stored = manifest["fingerprint"]
            differences = fingerprint_differences(stored, {**dict.fromkeys(stored), **fingerprint})
            if differences:
                raise ValueError(
                    f"the store {self.folder} has another fingerprint ({'; '.join(differences)}); use another folder"
                )
            known = _class_names({"": manifest})
            other = next(
                (column for column in known if self.class_names.get(column, known[column]) != known[column]), ""
            )
            if other:
                raise ValueError(f"the store {self.folder} names the classes of {other} otherwise; use another folder")
        self._manifest = self._without_a_cut_shard(manifests.get(self._manifest_name, {}))
        manifests |= {self._manifest_name: self._manifest} if self._manifest else {}
        shards = _open_shards(self.folder, manifests)
        self.done_marks = {
            image_id: mark
            for shard in shards
            for image_id, mark in zip(shard.image_ids, shard.image_marks.tolist(), strict=True)
        }
        self.done_ids = set(self.done_marks)
        self._widths = shards[0].widths if shards else {}
        if shards and shards[0].columns["region_features"].dtype != self.feature_dtype:
            raise ValueError(
                f"the store {self.folder} keeps its features in {shards[0].columns['region_features'].dtype}, not "
                f"{self.feature_dtype}; use the same type, or another folder"
            )
        files = {shard["file"] for shard in self._manifest.get("shards", [])}
        for pattern in (f".{self._manifest_name}.partial", f"*shard-{self.process_index}-*"):
            for leftover in self.folder.glob(pattern):
                if leftover.name not in files:
                    leftover.unlink()
        self._next_number = 1 + max((int(name[:-6].rpartition("-")[2]) for name in files), default=-1)
        if not self._manifest:
            named = {"class_names": self.class_names} if self.class_names else {}
            self._write_manifest({"format": FORMAT, "fingerprint": fingerprint, **named, "shards": []})
        self._take_up_small_shards()

    def _without_a_cut_shard(self, manifest: dict[str, Any]) -> dict[str, Any]:
        """The manifest without its last shard if that was cut short (a power cut, a full disk), with a warning."""
        last = next(iter(manifest.get("shards", [])[::-1]), None)
        path = self.folder / last["file"] if last else None
        if last is None or path is None or not path.is_file() or path.stat().st_size >= last["bytes"]:
            return manifest
        warnings.warn(f"the shard {path} was cut short: its {last['photos']} images are added again", stacklevel=2)
        self._write_manifest({**manifest, "shards": manifest["shards"][:-1]})
        return self._manifest

    def _take_up_small_shards(self) -> None:
        """Read the last shards back into memory if together they are not a full one, so that one shard replaces them.

        So the files of a store do not depend on how often its writer was killed.
        """
        count = size = 0
        for entry in reversed(self._manifest["shards"]):
            count, size = count + entry["photos"], size + entry["bytes"]
            if count >= self.images_per_shard or size >= MOST_WAITING_BYTES:
                break
            images = open_shard(self.folder / entry["file"], entry, verified=True).cloned()
            self._waiting.insert(0, images)
            self._small_shards.insert(0, entry)
        self._num_saved = len(self._waiting)
        self._waiting_bytes = sum(images.nbytes for images in self._waiting)

    def _write_manifest(self, manifest: dict[str, Any]) -> None:
        write_atomically(self.folder / self._manifest_name, json.dumps(manifest, indent=1).encode())
        self._manifest = manifest

    def _check_ids(self, image_ids: Sequence[str]) -> None:
        if isinstance(image_ids, str) or not all(isinstance(image_id, str) for image_id in image_ids):
            raise ValueError(f"image_ids must be a list of strings, got {str(image_ids)[:80]}")
        twice = next((image_id for image_id, times in Counter(image_ids).items() if times > 1), None)
        there = next((image_id for image_id in image_ids if image_id in self.done_ids), None)
        if twice is not None or there is not None:
            fault = f"{twice!r} is twice in this batch" if twice is not None else f"{there!r} is already in it"
            raise ValueError(f"cannot add to the store {self.folder}: image {fault}; skip the ids in writer.done_ids")

    def _check_widths(self, widths: dict[str, int]) -> None:
        if self._widths and widths != self._widths:
            raise ValueError(
                f"these images have {widths} numbers per region, but the store {self.folder} has {self._widths}; "
                "were they made by another detector? Give it another folder"
            )


class RegionStore:
    """Reads a store; safe in several processes at once, and picklable for data loader workers (each maps the files).

    Args:
        folder: written by a `RegionStoreWriter`; images added later are visible after opening it again.

    Attributes:
        image_ids: every id, in the order of positions.
        fingerprint: what made the features.
        column_names: what it holds of a region.
        class_names: what its detector calls the classes 1 .. C of `object_probs` and `attribute_probs`, by column;
            empty where it does not say.
        image_sizes: (N, 2) int32, each image's height and width in pixels; 0 where they are not known.
        clip_ids: the clip that each image is a frame of; empty where that is not known.
        image_marks: (N,) int64, of each image's content (`image_marks.py`); 0 where it is not known: stores that were
            converted from feature files, or written before images were marked.
        num_regions: (N,) how many regions each image has.

    Raises:
        ValueError: for a folder that is not a store or holds no image, a shard that is absent, cut short or foreign,
            an id that two processes wrote, processes that recorded different fingerprints. Damage to a shard's ids and
            counts is detected at every opening, damage to its features if the store is no larger than `VERIFIED_BYTES`;
            `verified_shards` checks any store.
    """

    def __init__(self, folder: PathLike) -> None:
        self._open(folder, verified=None)

    def _open(self, folder: PathLike, *, verified: bool | None) -> None:
        self.folder = Path(folder)
        manifests = _manifests(self.folder)
        if verified is None:
            verified = sum(entry["bytes"] for entry in _entries(manifests)) <= VERIFIED_BYTES
        self._shards = _open_shards(self.folder, manifests, verified=verified)
        self.fingerprint: dict[str, Any] = next(iter(manifests.values()))["fingerprint"]
        _check_agreement(self.folder, manifests, self._shards)
        self.class_names = _class_names(manifests)
        self.image_ids = [image_id for shard in self._shards for image_id in shard.image_ids]
        self._position_of = {image_id: position for position, image_id in enumerate(self.image_ids)}
        if len(self._position_of) < len(self.image_ids):
            twice = Counter(self.image_ids).most_common(1)[0][0]
            raise ValueError(
                f"image {twice!r} is twice in the store {folder}; were its processes given the same images?"
            )
        images_per_shard = torch.tensor([len(shard.image_ids) for shard in self._shards])
        self._shard_of = torch.arange(len(self._shards)).repeat_interleave(images_per_shard).numpy()
        self._starts = torch.cat([shard.starts[:-1] for shard in self._shards]).numpy()
        self._ends = torch.cat([shard.starts[1:] for shard in self._shards]).numpy()
        self.num_regions: np.ndarray = self._ends - self._starts
        self.image_sizes = torch.cat([shard.image_sizes for shard in self._shards])
        self.image_marks = torch.cat([shard.image_marks for shard in self._shards])
        clips = (shard.strings[CLIPS].to_pylist() for shard in self._shards if CLIPS in shard.strings)
        self.clip_ids: list[str] = [clip for part in clips for clip in part]

    def __len__(self) -> int:
        return len(self.image_ids)

    def __contains__(self, image_id: object) -> bool:
        return image_id in self._position_of

    def __getitem__(self, image_id: str) -> dict[str, Any]:
        """Every column of one image, without a batch dimension: `region_features` (R, D), `region_boxes` (R, 4), ...

        Also `image_size` (2,), height and width in pixels, if known.
        """
        batch = self.batch([image_id], columns=self.column_names)
        size = self.image_sizes[self._position(image_id)]
        return {name: value[0] for name, value in batch.items()} | ({"image_size": size} if size.all() else {})

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._open(state["folder"], verified=False)  # it was verified before it was pickled

    @property
    def marks(self) -> dict[str, int]:
        """The mark of each image's content by its id, 0 if it is not known."""
        return dict(zip(self.image_ids, self.image_marks.tolist(), strict=True))

    @property
    def feature_width(self) -> int:
        """D, the numbers in a region's feature vector."""
        return self._shards[0].widths["region_features"]

    @property
    def feature_dtype(self) -> torch.dtype:
        """The type of the stored features: float16 or float32."""
        return self._shards[0].columns["region_features"].dtype

    @property
    def column_names(self) -> list[str]:
        return list(self._shards[0].widths)

    def num_classes(self, column: str) -> int:
        """C, the classes without background of `object_probs` or `attribute_probs`; 0 where it holds none."""
        return max(0, self._shards[0].widths.get(column, 1) - 1)

    def check_classes(self, column: str, names: Sequence[str] | None, *, number: int) -> None:
        """`ValueError` where a column's classes are not so many, or have other names where both are known."""
        known, count = self.class_names.get(column), self.num_classes(column)
        if count != number:
            fault = f"of {count} classes, where the model reads {number}"
        elif known and names and known != list(names):
            ours, theirs = next((a, b) for a, b in zip(known, names, strict=True) if a != b)
            fault = f"of other classes than the model reads, such as {ours!r} in the place of {theirs!r}"
        else:
            return
        raise ValueError(f"{column} in {self.folder} are {fault}: extract the regions with the model's own detector")

    def batch(
        self,
        images: Images,
        *,
        dtype: torch.dtype | None = None,
        columns: Sequence[str] = ("region_features", "region_boxes"),
    ) -> dict[str, Any]:
        """The regions of some images, padded with zeros to the longest of them.

        Args:
            images: B ids, or B positions (list, range, slice, array or tensor of int). Ids are always strings: the
                int 42 is the 43rd image, the string "42" the image of that id.
            dtype: of the wide columns (features and probabilities; None: as they are stored); boxes, scores, seconds
                and masks are float32, ids int32.
            columns: of `column_names`.

        Returns:
            The columns, for example `region_features` (B, R, D) and `region_boxes` (B, R, 4) xyxy 0..1, and
            `region_mask` (B, R) bool; `region_masks` (B, R, M, M), `region_texts` as B lists of R strings, "" on
            padding, `clip_ids` as B strings. Outside data loader workers, neighbouring images of one shard with equally
            many regions come as a view of the mapped file: treat it as read-only, or clone it.

        Raises:
            KeyError: for an id that is not in the store, or a column that it does not hold.
            IndexError: for a position outside the store, or an empty batch.
            ValueError: for features that are not finite and boxes outside of 0..1: the store is damaged.
        """
        absent = [name for name in columns if name not in self.column_names]
        if absent:
            raise KeyError(
                f"the store {self.folder} holds no {', '.join(absent)}; it holds {', '.join(self.column_names)}"
            )
        positions = self._positions(images)
        shards, starts, ends = self._shard_of[positions], self._starts[positions], self._ends[positions]
        counts = ends - starts
        num_regions = int(counts.max())
        even = bool((counts == num_regions).all())
        touching = even and bool((shards == shards[0]).all() and (starts[1:] == ends[:-1]).all())
        out: dict[str, Any] = {}
        for name in columns:
            if name in (TEXTS, CLIPS):
                out[name] = self._strings(name, positions, num_regions)
                continue
            if touching:
                flat = self._shards[shards[0]].columns[name][int(starts[0]) : int(ends[-1])]
                if get_worker_info() is not None:  # torch cannot send a mapped file to the main process
                    flat = flat.clone()
            else:
                pieces = self._pieces(name, shards, starts, ends)
                flat = torch.cat(pieces) if even else pad_sequence(pieces, batch_first=True).flatten(0, 1)
            self._check_read(name, flat, positions)
            value = flat.unflatten(0, (len(positions), num_regions))  # (B, R, width)
            if name == "region_masks":
                value = value.unflatten(2, (math.isqrt(value.shape[2]), -1)) / 255
            out[name] = value.to(dtype) if dtype and STORED_DTYPES[name] == torch.float16 else value
        out["region_mask"] = torch.arange(num_regions) < torch.from_numpy(counts)[:, None]  # (B, R)
        return out

    def check_fingerprint(
        self, expected: Mapping[str, Any], *, on_mismatch: Literal["warn", "error"] = "warn"
    ) -> list[str]:
        """Compares the store's fingerprint with the one that a model expects; returns one phrase per differing field.

        Args:
            expected: only its fields are compared.
            on_mismatch: warn, or raise ValueError, with a list of the differing fields.
        """
        differences = fingerprint_differences(self.fingerprint, json.loads(json.dumps(dict(expected))))
        if differences:
            message = (
                f"the features in {self.folder} were not made as expected ({'; '.join(differences)}); "
                "scores may fall silently: extract them again with this model's detector"
            )
            if on_mismatch == "error":
                raise ValueError(message)
            warnings.warn(message, stacklevel=2)
        return differences

    def _positions(self, images: Images) -> np.ndarray:
        if isinstance(images, slice):
            images = range(*images.indices(len(self)))
        if len(images) == 0:
            raise IndexError("an empty batch: give at least one image id or position")
        if isinstance(images[0], str):
            return np.array([self._position(str(image_id)) for image_id in images])
        positions = np.asarray(images)
        outside = positions[(positions < 0) | (positions >= len(self))]
        if len(outside):
            raise IndexError(f"position {outside[0]} is outside the store {self.folder} of {len(self)} images")
        return positions

    def _position(self, image_id: str) -> int:
        if image_id not in self._position_of:
            raise KeyError(
                f"image {image_id!r} is not in the store {self.folder} of {len(self)} images (its ids look like "
                f"{self.image_ids[0]!r}); extract it too"
            )
        return self._position_of[image_id]

    def _check_read(self, name: str, flat: torch.Tensor, positions: np.ndarray) -> None:
        """Raises `ValueError` if read numbers are out of their range; `flat` holds all regions of the images."""
        if holds_no_damage(name, flat):
            return
        each = flat.unflatten(0, (len(positions), -1))
        image = next((i for i, one in enumerate(each) if not holds_no_damage(name, one)), 0)
        raise ValueError(
            f"{name} of image {self.image_ids[positions[image]]!r} in the store {self.folder} are not finite, or "
            f"outside of their range: its shard was damaged; {CURE}"
        )

    def _strings(self, name: str, positions: np.ndarray, num_regions: int) -> list[Any]:
        """The clip of each image, or the words of its regions, padded with ""."""
        if name == CLIPS:
            return [self.clip_ids[position] for position in positions.tolist()]
        places = zip(*(where[positions].tolist() for where in (self._shard_of, self._starts, self._ends)), strict=True)
        texts = [self._shards[shard].strings[TEXTS][start:end].to_pylist() for shard, start, end in places]
        return [row + [""] * (num_regions - len(row)) for row in texts]

    def _pieces(self, name: str, shards: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> list[torch.Tensor]:
        """One view (R_i, width) an image."""
        columns = [shard.columns[name] for shard in self._shards]
        return [
            columns[shard][start:end]
            for shard, start, end in zip(shards.tolist(), starts.tolist(), ends.tolist(), strict=True)
        ]


def _entries(manifests: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The manifests' entries of all shards."""
    return [entry for manifest in manifests.values() for entry in manifest["shards"]]


def _class_names(manifests: Mapping[str, Mapping[str, Any]]) -> dict[str, list[str]]:
    """The names of classes by column that the manifests have; stores of earlier versions have none."""
    return next((dict(manifest["class_names"]) for manifest in manifests.values() if manifest.get("class_names")), {})


def _open_shards(
    folder: Path, manifests: Mapping[str, Mapping[str, Any]], *, verified: bool = False
) -> list[ShardImages]:
    return [open_shard(folder / entry["file"], entry, verified=verified) for entry in _entries(manifests)]


def verified_shards(folder: PathLike) -> Iterator[tuple[dict[str, Any], ShardImages | None, str]]:
    """Reads every byte of a store; yields for each shard its manifest entry, its images and "", or None and the fault.

    A fault is a checksum that differs or, in stores of earlier versions without checksums, numbers that are not finite,
    boxes outside of 0..1 or ids below 0. Raises `ValueError` for a folder that is not a store.
    """
    for entry in _entries(_manifests(Path(folder))):
        path = Path(folder) / entry["file"]
        try:
            images = open_shard(path, entry, verified=True)
            check_numbers(images)
        except ValueError as error:
            message = str(error).removesuffix(NOTHING_STORED)
            yield entry, None, message if str(path) in message else f"the shard {path} is damaged: {message}; {CURE}"
        else:
            yield entry, images, ""


def _manifests(folder: Path) -> dict[str, dict[str, Any]]:
    """The manifests of a store; raises `ValueError` for a folder that holds no image."""
    manifests = read_manifests(folder)
    if not _entries(manifests):
        fault = "holds no image yet" if manifests else "is not a region store (it has no store.json)"
        raise ValueError(f"{folder} {fault}; make one with `updown extract IMAGES --output {folder}`")
    return manifests


def _check_agreement(folder: Path, manifests: Mapping[str, Mapping[str, Any]], shards: Sequence[ShardImages]) -> None:
    first, *others = [manifest["fingerprint"] for manifest in manifests.values()]
    if any(other != first for other in others):
        raise ValueError(f"the processes that wrote {folder} recorded different fingerprints; extract again")
    dtypes = {shard.columns["region_features"].dtype for shard in shards}
    if len(dtypes) > 1 or any(shard.widths != shards[0].widths for shard in shards):
        raise ValueError(f"the shards of {folder} hold different columns or widths; extract again")


def _check_folder_is_free(folder: Path) -> None:
    names = [path.name for path in folder.iterdir() if not path.name.startswith(".")] if folder.is_dir() else []
    foreign = [name for name in names if not MANIFEST_NAME.fullmatch(name) and not SHARD_NAME.fullmatch(name)]
    if foreign:
        raise ValueError(f"{folder} holds other files ({foreign[0]}); give an empty folder or a region store")
