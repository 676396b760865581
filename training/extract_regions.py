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
from datasets import Dataset, Image
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from modeling_updown import load_photo
from training.data.region_store import RegionStore, RegionStoreWriter
from training.recipe import Recipe


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
    """Add the regions of every photo of the rows (columns image_id, image) to the store `output`.

    Several processes share the photos out. Returns one line for each photo that could not be read.
    """
    accelerator = accelerator or Accelerator()
    source = source.to(accelerator.device).eval()
    rows = photos.cast_column("image", Image(decode=False))
    broken: list[str] = []
    fingerprint = source_fingerprint(source, flipped=flipped)
    with RegionStoreWriter(output, fingerprint=fingerprint, process_index=accelerator.process_index) as writer:
        waiting = [i for i, image_id in enumerate(rows["image_id"]) if image_id not in writer.done_ids]
        mine = waiting[accelerator.process_index :: accelerator.num_processes]
        bar = tqdm(total=len(mine), desc=f"regions -> {output}", unit="photo", disable=not mine)
        for start in range(0, len(mine), batch_size):
            batch = list(readable_photos(rows, mine[start : start + batch_size], broken))
            bar.update(len(mine[start : start + batch_size]))
            if not batch:
                continue
            ids, images = zip(*batch, strict=True)
            pixels = image_processor(list(images), return_tensors="pt").pixel_values.to(accelerator.device)
            writer.append(list(ids), source(pixels.flip(-1) if flipped else pixels))
        bar.close()
    accelerator.wait_for_everyone()
    if broken:
        print(f"{len(broken)} photos could not be read and were skipped:", *broken, sep="\n  ", file=sys.stderr)
    return broken


def readable_photos(rows: Dataset, indices: list[int], broken: list[str]) -> Iterator[tuple[str, Any]]:
    """(image_id, photo) of the rows that can be read; what is wrong with the others goes into `broken`."""
    for index in indices:
        row = rows[index]
        try:
            yield row["image_id"], load_photo(row["image"]["bytes"] or row["image"]["path"])
        except (OSError, ValueError) as error:
            broken.append(f"{row['image_id']}: {error}")


class PhotoRegions:
    """A task's photos as the model takes them: from a region store (made where it lacks photos), or as pixels."""

    def __init__(self, recipe: Recipe, model: PreTrainedModel, image_processor: Any, accelerator: Accelerator):
        self.store_folder = recipe.regions.store
        self.model, self.image_processor, self.accelerator = model, image_processor, accelerator
        self.stores: dict[bool, RegionStore] = {}
        self.covered: set[tuple[str, bool]] = set()
        if self.store_folder and recipe.regions.trained:
            raise ValueError("regions.trained needs pixels at every step: leave regions.store empty")

    def batch(self, rows: Dataset, indices: np.ndarray, *, flipped: np.ndarray) -> dict[str, torch.Tensor]:
        """Photos by row number, mirrored where `flipped` (P,) says so: `pixel_values`, or the regions' tensors."""
        if not self.store_folder:
            photos = [load_photo(image) for image in rows[indices.tolist()]["image"]]
            pixels = self.image_processor(photos, return_tensors="pt").pixel_values  # (P, 3, height, width)
            pixels[torch.from_numpy(flipped)] = pixels[torch.from_numpy(flipped)].flip(-1)
            return {"pixel_values": pixels}
        ids = rows[indices.tolist()]["image_id"] if "image_id" in rows.column_names else []
        parts, order = [], []
        for side in (False, True):
            chosen = np.flatnonzero(flipped == side)
            if len(chosen):
                parts.append(self.store(rows, side).batch([ids[i] for i in chosen], dtype=torch.float32))
                order.append(chosen)
        back = torch.from_numpy(np.argsort(np.concatenate(order)))
        return {name: join_padded([part[name] for part in parts])[back] for name in parts[0]}

    def store(self, rows: Dataset, flipped: bool) -> RegionStore:
        """The store that holds these rows' photos, extracting those it lacks first."""
        key = (rows._fingerprint, flipped)
        if key not in self.covered:
            self.cover(rows, flipped)
            self.covered.add(key)
        return self.stores[flipped]

    def cover(self, rows: Dataset, flipped: bool) -> None:
        """Extract what the store lacks of these rows, then open it."""
        folder = Path(self.store_folder + ("-flipped" if flipped else ""))
        source = self.model.region_source
        extract_regions(
            rows,
            source=source,
            image_processor=self.image_processor,
            output=folder,
            flipped=flipped,
            accelerator=self.accelerator,
        )
        self.stores[flipped] = RegionStore(folder)
        self.stores[flipped].check_fingerprint(source_fingerprint(source, flipped=flipped), on_mismatch="error")


def join_padded(parts: list[torch.Tensor]) -> torch.Tensor:
    """Batches of different region counts (P_i, R_i, ...) -> one (sum of P_i, max R_i, ...), padded with zeros."""
    longest = max(part.shape[1] for part in parts)
    padded = [
        torch.cat([part, part.new_zeros(len(part), longest - part.shape[1], *part.shape[2:])], dim=1) for part in parts
    ]
    return torch.cat(padded)
