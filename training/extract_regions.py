"""Photos -> region source -> region store: `updown extract`, and what training does at start where a store is named.

Resumable: photos whose id is in the store are passed over. A broken photo is listed and skipped, the rest extracted.
"""

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from datasets import Dataset, Image
from PIL.Image import Image as PilImage
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from modeling_updown import load_photo
from training.data.region_store import RegionStore, RegionStoreWriter
from training.recipe import RegionsRecipe


def source_fingerprint(source: PreTrainedModel, *, flipped: bool) -> dict[str, Any]:
    """What makes a region source's features: its config, and a hash of its weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(source.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    config = source.config
    fields = ("backbone", "image_size", "regions", "grid_size", "pyramid_levels", "joined_levels")
    described = {name: getattr(config, name) for name in fields if hasattr(config, name)}
    return {"model_type": config.model_type, **described, "weights": digest.hexdigest()[:16], "flipped": flipped}


@torch.no_grad()
def extract_regions(
    photos: Dataset,
    *,
    source: PreTrainedModel,
    image_processor: Any,
    output: str | Path,
    batch_size: int = 32,
    flipped: bool = False,
    accelerator: Accelerator | None = None,
) -> list[str]:
    """Add the regions of every photo of the rows to the store `output`, which is made if absent.

    Args:
        photos: columns image_id (string) and image (a path, or `datasets.Image`).
        source, image_processor: what makes regions of photos; it is written down in the store.
        batch_size: photos at a time.
        flipped: mirror every photo first.
        accelerator: its device is used and, where there are several processes, every one takes its share of the rows.

    Returns:
        One line for each photo that could not be read; it is skipped, and tried again by the next call.

    Raises:
        ValueError: where the store was made otherwise, or `output` holds something else.
    """
    accelerator = accelerator or Accelerator()
    source = source.to(accelerator.device).eval()
    rows = undecoded(photos)
    broken: list[str] = []
    fingerprint = source_fingerprint(source, flipped=flipped)
    share = range(accelerator.process_index, len(rows), accelerator.num_processes)
    with RegionStoreWriter(output, fingerprint=fingerprint, process_index=accelerator.process_index) as writer:
        ids = rows["image_id"][:]
        mine = [row for row in share if ids[row] not in writer.done_ids]
        with tqdm(total=len(mine), desc=f"regions -> {output}", unit="photo", disable=not mine) as bar:
            for start in range(0, len(mine), batch_size):
                indices = mine[start : start + batch_size]
                batch = list(readable_photos(rows, indices, broken))
                if batch:
                    batch_ids, images = zip(*batch, strict=True)
                    pixels = image_processor(list(images), return_tensors="pt").pixel_values.to(accelerator.device)
                    writer.append(list(batch_ids), source(pixels.flip(-1) if flipped else pixels))
                bar.update(len(indices))
    broken = gather_object(broken)  # every process waits here for the others
    if broken and accelerator.is_main_process:
        print(f"{len(broken)} photos could not be read and were skipped:", *broken, sep="\n  ", file=sys.stderr)
    return broken


def undecoded(rows: Dataset) -> Dataset:
    """The rows with `image` as `{"path", "bytes"}`, so that a broken photo is met where it is loaded, by its name."""
    return rows.cast_column("image", Image(decode=False))


def readable_photos(rows: Dataset, indices: list[int], broken: list[str]) -> Iterator[tuple[str, PilImage]]:
    """(image_id, photo) of the undecoded rows that can be read; what is wrong with the others goes into `broken`."""
    for index in indices:
        row = rows[index]
        try:
            photo = photo_of(row)
        except (OSError, ValueError) as error:
            broken.append(f"{row['image_id']}: {error}")
        else:
            yield row["image_id"], photo


def photo_of(row: dict[str, Any]) -> PilImage:
    """The photo of an undecoded row; `OSError` or `ValueError` where it cannot be read."""
    if row["image"] is None:
        raise ValueError("the row has no photo: name the photo folder in data.images")
    return load_photo(row["image"]["bytes"] or row["image"]["path"])


class PhotoRegions:
    """A task's photos as the model takes them: from a region store, made where it lacks photos, or as pixels.

    Raises `ValueError` where the recipe leaves no way to regions.
    """

    def __init__(
        self, regions: RegionsRecipe, source: PreTrainedModel | None, image_processor: Any, accelerator: Accelerator
    ):
        self.store_folder, self.source = regions.store, source
        self.image_processor, self.accelerator = image_processor, accelerator
        self.stores: dict[bool, RegionStore] = {}
        if self.store_folder and regions.trained:
            raise ValueError("regions.trained needs pixels at every step: leave regions.store empty")
        if self.store_folder and regions.crops < 1:
            raise ValueError("regions.crops needs pixels at every step: leave regions.store empty")
        if not self.store_folder and source is None:
            raise ValueError("the model owns no region source: name the folder of its region features in regions.store")

    def prepare(self, rows: Dataset, *, flips: bool = False) -> Dataset:
        """The rows that `batch` can serve: with a store, those whose photos it holds once the others were extracted.

        Every process calls it at the same time. Raises `ValueError` where no photo is left.
        """
        rows = undecoded(rows)
        if not self.store_folder:
            return rows
        stores = {side: self.open_store(rows, flipped=side) for side in ((False, True) if flips else (False,))}
        self.stores |= stores
        held = [all(image_id in store for store in stores.values()) for image_id in rows["image_id"]]
        if not any(held):
            raise ValueError(f"none of the {len(rows)} photos is in the region store {self.store_folder}")
        return rows if all(held) else rows.select(np.flatnonzero(held))

    def open_store(self, rows: Dataset, *, flipped: bool) -> RegionStore:
        """The store (of mirrored photos: `...-flipped`), extracting what it lacks of the rows first."""
        folder = Path(self.store_folder + ("-flipped" if flipped else ""))
        complete = set(rows["image_id"]) <= stored_ids(folder)
        self.accelerator.wait_for_everyone()  # all have looked before one of them writes
        if self.source is None:
            return RegionStore(folder)
        if not complete:
            extract_regions(
                rows,
                source=self.source,
                image_processor=self.image_processor,
                output=folder,
                flipped=flipped,
                accelerator=self.accelerator,
            )
        store = RegionStore(folder)
        store.check_fingerprint(source_fingerprint(self.source, flipped=flipped), on_mismatch="error")
        return store

    def batch(
        self, rows: Dataset, indices: np.ndarray, *, flipped: np.ndarray, crops: np.ndarray | None = None
    ) -> dict[str, torch.Tensor]:
        """Photos by number in prepared rows: `pixel_values`, or regions.

        Mirrored where `flipped` (P,) says so; with `crops` (P, 4), xyxy in 0..1, those parts of them.
        """
        if not self.store_folder:
            return {"pixel_values": self.pixels(rows, indices, flipped=torch.from_numpy(flipped), crops=crops)}
        ids = rows[indices.tolist()]["image_id"]
        sides = [side for side in (False, True) if (flipped == side).any()]
        chosen = [np.flatnonzero(flipped == side) for side in sides]
        parts = [
            self.stores[side].batch([ids[i] for i in photos], dtype=torch.float32)
            for side, photos in zip(sides, chosen, strict=True)
        ]
        back = torch.from_numpy(np.argsort(np.concatenate(chosen)))
        return {name: join_padded([part[name] for part in parts])[back] for name in parts[0]}

    def pixels(
        self, rows: Dataset, indices: np.ndarray, *, flipped: torch.Tensor, crops: np.ndarray | None = None
    ) -> torch.Tensor:
        """(P, 3, height, width); `ValueError` naming a photo that cannot be read, and the cure."""
        photos = []
        for row in map(rows.__getitem__, indices.tolist()):
            try:
                photos.append(photo_of(row))
            except (OSError, ValueError) as error:
                raise ValueError(
                    f"photo {row['image_id']!r} cannot be read ({error}): take it out of the data, "
                    "or set regions.store, which lists such photos and leaves them out"
                ) from error
        if crops is not None:
            photos = [crop(photo, box) for photo, box in zip(photos, crops, strict=True)]
        pixels = self.image_processor(photos, return_tensors="pt").pixel_values
        pixels[flipped] = pixels[flipped].flip(-1)
        return pixels


def crop(photo: PilImage, box: np.ndarray) -> PilImage:
    """The part of a photo inside a box xyxy in 0..1."""
    width, height = photo.size
    left, top, right, bottom = (box * (width, height, width, height)).round().astype(int).tolist()
    return photo.crop((left, top, max(right, left + 1), max(bottom, top + 1)))


def random_crop(draw: np.random.Generator, smallest: float) -> np.ndarray:
    """A box of `smallest` to 1 of the photo's area, 3:4 to 4:3 of its shape: xyxy in 0..1, (4,)."""
    area, shape = draw.uniform(smallest, 1.0), np.exp(draw.uniform(np.log(3 / 4), np.log(4 / 3)))
    side = np.minimum(1.0, np.sqrt([area * shape, area / shape]))  # width, height
    corner = draw.uniform(0, 1 - side)
    return np.concatenate([corner, corner + side])


def stored_ids(folder: Path) -> set[str]:
    """The photos in a store; none where there is no store yet, or a broken one, which its writer will name."""
    try:
        return set(RegionStore(folder).image_ids)
    except ValueError:
        return set()


def join_padded(parts: list[torch.Tensor]) -> torch.Tensor:
    """Batches of different region counts (P_i, R_i, ...) -> one (sum of P_i, max R_i, ...), padded with zeros.

    >>> join_padded([torch.ones(1, 2), torch.ones(1, 3)]).tolist()
    [[1.0, 1.0, 0.0], [1.0, 1.0, 1.0]]
    """
    longest = max(part.shape[1] for part in parts)
    padded = [
        torch.cat([part, part.new_zeros(len(part), longest - part.shape[1], *part.shape[2:])], dim=1) for part in parts
    ]
    return torch.cat(padded)
