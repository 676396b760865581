"""Other projects' region features <-> a region store: `updown convert-regions`.

    updown convert-regions trainval_36.tsv --output regions/
    updown convert-regions regions/ --to lxmert-tsv --output val_obj36.tsv

Only one image is in memory at a time, so a file may be larger than the memory. A conversion that was killed resumes
where it stopped. A broken row is listed with its file and line, and the rest is converted. The formats are those of
`training/regions/formats`.
"""

import contextlib
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm

from training.data.files import PathLike
from training.regions.formats import FORMATS, STORE, StoreImages, guess_format, open_region_file
from training.regions.formats.base import Entry, RegionFile
from training.regions.formats.record import ImageRecord
from training.regions.formats.sidecar import Sidecar
from training.regions.store import RegionStore, RegionStoreWriter

BAR = "{desc}: {percentage:3.0f}%|{bar}|{postfix} [{elapsed}<{remaining}]"


@dataclass
class Conversion:
    """The result of a conversion: images added, images that the store held before, and a line for each broken row."""

    num_added: int = 0
    num_existing: int = 0
    broken: list[str] = field(default_factory=list)

    @property
    def num_images(self) -> int:
        """The number of rows read."""
        return self.num_added + self.num_existing + len(self.broken)


def convert_region_files(
    source: PathLike | Sequence[PathLike],
    *,
    output: PathLike,
    format: str | None = None,
    sidecar: Sidecar | None = None,
    fingerprint: Mapping[str, Any] | None = None,
    feature_dtype: torch.dtype = torch.float16,
    images_per_shard: int = 256,
    id_prefix: str = "",
) -> Conversion:
    """Add the images of files or folders of one format to the region store `output`, which is created if absent.

    Args:
        source: one path or several, such as the four parts of the adaptive trainval features.
        format: a key of `FORMATS`; None: guessed from the content.
        sidecar: data that the files lack: sizes of images, an index, boxes, labels.
        fingerprint: what made the features, as far as known; the store records it with the format.
        feature_dtype: float16 halves the disk space and rounds features by at most 1 in 2,048, far less than two ports
            of one detector differ; float32 keeps every bit, for reference features and for values beyond 65,504.
        images_per_shard: a kill loses at most this number of images.
        id_prefix: stands before every id in the store, so that two data sets which call different images by one id
            share it, as the parts of a mixture do (`visual_genome-4` beside COCO's image 4).

    Returns:
        The counts, and one line for each broken row: cut short, not decodable, contradicting its number of boxes, not
        finite, with boxes outside the image, or with an id that occurred before.

    Raises:
        ValueError: for an unknown format, sources of several formats, or a store of another fingerprint.
        ImportError: if the format needs a library that is not installed.
    """
    paths = [Path(source)] if isinstance(source, str | os.PathLike) else [Path(path) for path in source]
    formats = {format or guess_format(path) for path in paths}
    if len(formats) > 1:
        raise ValueError(f"these files are of several formats ({', '.join(sorted(formats))}): convert them one by one")
    name = formats.pop()
    if name == STORE:
        raise ValueError(f"{paths[0]} is a region store already; to write it in another format, name that with --to")
    made_of = {"converted_from": name, **(fingerprint or {})}
    with contextlib.ExitStack() as opened:
        files = [opened.enter_context(open_region_file(path, format=name, sidecar=sidecar)) for path in paths]
        writer = RegionStoreWriter(
            output, fingerprint=made_of, images_per_shard=images_per_shard, feature_dtype=feature_dtype
        )
        return add_images(files, opened.enter_context(writer), id_prefix=id_prefix)


def add_images(files: Sequence[RegionFile], writer: RegionStoreWriter, *, id_prefix: str = "") -> Conversion:
    """Write every image of the files that the writer's store lacks, with a progress bar.

    id_prefix: stands before every id in the store.
    """
    conversion, before = Conversion(), frozenset(writer.done_ids)
    first_place: dict[str, str] = {}
    for entry, file in with_progress(files, conversion, goal=writer.folder):
        try:
            if entry.fault is None and entry.image_id in first_place:
                raise ValueError(f"image {entry.image_id!r} occurred before, at {first_place[entry.image_id]}")
            stored_id = f"{id_prefix}{entry.image_id}"
            if stored_id in before:
                conversion.num_existing += 1
            else:
                writer.append([stored_id], batch_of_one(file.image(entry)))
                conversion.num_added += 1
            first_place[entry.image_id] = entry.place
        except ValueError as error:
            conversion.broken.append(f"{entry.place}: {error}")
    return conversion


def batch_of_one(image: ImageRecord) -> dict[str, torch.Tensor]:
    """An image's columns as tensors (copies) with a leading batch dimension of 1."""
    return {
        name: torch.from_numpy(column.astype(column.dtype.newbyteorder("=")))[None] for name, column in image.items()
    }


def with_progress(
    files: Sequence[RegionFile], conversion: Conversion, *, goal: Path
) -> Iterator[tuple[Entry, RegionFile]]:
    """Yield every entry with its file; a bar shows the share read, images per second and the time left."""
    started = time.monotonic()
    with tqdm(total=sum(file.size for file in files), desc=f"regions -> {goal}", bar_format=BAR) as bar:
        read_before = 0
        for file in files:
            for entry in file.entries():
                yield entry, file
                rate = (conversion.num_images - conversion.num_existing) / max(time.monotonic() - started, 1e-3)
                bar.set_postfix_str(f"{conversion.num_images:,} images, {rate:,.0f} images/s", refresh=False)
                bar.update(read_before + entry.end - bar.n)
            read_before += file.size


def export_region_files(
    store: PathLike, *, output: PathLike, format: str, sidecar: Sidecar | None = None
) -> tuple[str, ...]:
    """Write all images of a region store in another format.

    Args:
        output: the file, or for formats of several files the folder, to write; it must not exist. It is written under
            another name and renamed when complete.
        format: a key of `FORMATS`.
        sidecar: sizes of images that the store does not have, and labels for VinVL's names.

    Returns:
        The columns of the store that the format cannot hold.

    Raises:
        ValueError: for an unknown format, an output that exists, and an image that the format cannot hold.
    """
    if format not in FORMATS:
        raise ValueError(f"unknown format {format!r} of region files; known are {', '.join(FORMATS)}")
    output = Path(output)
    if output.exists():
        raise ValueError(f"{output} exists: remove it, or write to another place")
    regions = RegionStore(store)
    images = StoreImages(regions, sidecar or Sidecar())
    partial = output.with_name(f".{output.name}.partial")
    remove(partial)
    output.parent.mkdir(parents=True, exist_ok=True)
    try:
        FORMATS[format].write(images, partial)
        partial.rename(output)
    except ValueError as error:
        raise ValueError(f"{store}, image {images.current!r}: {error}") from error
    finally:
        remove(partial)
    kept = {"region_features", "region_boxes", *FORMATS[format].keeps}
    return tuple(name for name in regions.column_names if name not in kept)


def remove(partial: Path) -> None:
    """Delete what an interrupted export left."""
    if partial.is_dir():
        shutil.rmtree(partial)
    else:
        partial.unlink(missing_ok=True)
