"""Clips of a region store: the frames of each, and batches of clips as models take them.

store of `updown extract clips/` --clips_in_store--> frames of each clip --batch_of_clips--> Regions (B, F x R)
"""

from collections.abc import Sequence

import torch

from modeling_updown import Regions
from training.regions.store import RegionStore

CLIP_FIELDS = ("region_features", "region_boxes", "region_seconds")


def clips_in_store(store: RegionStore) -> dict[str, list[int]]:
    """The positions of each clip's frames in the store, in the order of their seconds, by the clip's id.

    Raises `ValueError` for a store of images.
    """
    if not store.clip_ids or "region_seconds" not in store.column_names:
        raise ValueError(f"{store.folder} holds no clips: make them with `updown extract CLIPS --output FOLDER`")
    found: dict[str, list[int]] = {}
    for position, clip_id in sorted(enumerate(store.clip_ids), key=lambda place: store.image_ids[place[0]]):
        found.setdefault(clip_id, []).append(position)
    return found


def batch_of_clips(
    store: RegionStore,
    clip_ids: Sequence[str],
    *,
    clips: dict[str, list[int]] | None = None,
    columns: Sequence[str] = CLIP_FIELDS,
    dtype: torch.dtype | None = torch.float32,
) -> Regions:
    """The regions of B clips: a row of all regions of its frames each, padded with zeros, False in `region_mask`.

    Args:
        store: of clips.
        clip_ids: B ids.
        clips: what `clips_in_store` returns, where it is known.
        columns: of the store.
        dtype: of the features.

    Raises:
        ValueError: for a store of images.
        KeyError: for a clip that is not in the store.
    """
    clips = clips_in_store(store) if clips is None else clips
    absent = next((clip_id for clip_id in clip_ids if clip_id not in clips), None)
    if absent is not None:
        raise KeyError(f"clip {absent!r} is not in the store {store.folder} of {len(clips)} clips; extract it too")
    frames = [clips[clip_id] for clip_id in clip_ids]
    most = max(map(len, frames))
    places = torch.full((len(frames), most), -1)
    flat: list[int] = []
    for row, own in enumerate(frames):
        places[row, : len(own)] = torch.arange(len(flat), len(flat) + len(own))
        flat += own
    return Regions(**store.batch(flat, dtype=dtype, columns=columns)).of_rows(places)
