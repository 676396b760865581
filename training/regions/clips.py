"""Clips of a region store: the frames of each, batches of clips as models take them, and the store as tasks read it.

store of `updown extract clips/` --clips_in_store--> frames of each clip --batch_of_clips--> Regions (B, F x R)
                                 --task_store----> ClipStore: an image of the store is a clip with all its regions
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from modeling_updown import Regions
from training.data.clips.rows import without_suffix
from training.regions.store import RegionStore

CLIP_FIELDS = ("region_features", "region_boxes", "region_seconds")
FRAMES_OF_CLIPS = "frames_of_clips"  # in the fingerprint of a store whose images are frames: how they were chosen
OFFICIAL_PREFIX = "v_"  # before the ids of ActivityNet's videos in some files and not in others


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


class ClipStore:
    """A store of clips as tasks read a `RegionStore`: what that calls an image is a clip, with the regions of all its
    frames.

    A clip is found by its id, else by its name without the ending of a video and ActivityNet's `v_`, so that
    `video7010` of an annotation file is `video7010.mp4` of the store.

    Args:
        store: whose images are frames with `clip_ids` and `region_seconds`.

    Attributes:
        image_ids: the ids of the clips.
        marks: none, since rows of clips have no image to compare with.
        cure: for clips that it lacks.

    Raises:
        ValueError: for a store of images.
    """

    marks: Mapping[str, int] = {}
    cure = "extract the clips under these names, or with a table of clip and clip_id (`updown extract TABLE.csv`)"

    def __init__(self, store: RegionStore):
        self.store, self.frames = store, clips_in_store(store)
        self.folder, self.column_names, self.fingerprint = store.folder, store.column_names, store.fingerprint
        self.image_ids = list(self.frames)
        self._by_name: dict[str, list[str]] = {}
        for clip_id in self.image_ids:
            self._by_name.setdefault(bare_name(clip_id), []).append(clip_id)

    def __len__(self) -> int:
        return len(self.image_ids)

    def __contains__(self, clip_id: object) -> bool:
        return isinstance(clip_id, str) and self.held_as(clip_id) is not None

    def held_as(self, clip_id: str) -> str | None:
        """The id under which the store holds a clip; None where it lacks it, `ValueError` where several fit."""
        if clip_id in self.frames:
            return clip_id
        fitting = self._by_name.get(bare_name(clip_id), [])
        if len(fitting) > 1:
            raise ValueError(
                f"the clip {clip_id!r} may be any of {', '.join(map(repr, fitting[:3]))} in the region store "
                f"{self.folder}: extract them with a table of clip and clip_id (`updown extract TABLE.csv`)"
            )
        return fitting[0] if fitting else None

    def batch(
        self, clip_ids: Sequence[str], *, dtype: torch.dtype | None = None, columns: Sequence[str] = CLIP_FIELDS
    ) -> dict[str, torch.Tensor]:
        """As `RegionStore.batch`, of clips: `columns` of Regions (B, F x R, ...) and `region_mask`.

        Raises `KeyError` for a clip that is not there.
        """
        names = [self.held_as(clip_id) or clip_id for clip_id in clip_ids]
        regions = batch_of_clips(self.store, names, clips=self.frames, columns=columns, dtype=dtype)
        return {name: regions[name] for name in (*columns, "region_mask")}

    def check_classes(self, column: str, names: Sequence[str] | None, *, number: int) -> None:
        """As `RegionStore.check_classes`."""
        self.store.check_classes(column, names, number=number)

    def check_fingerprint(self, expected: Mapping[str, Any], *, on_mismatch: Any = "warn") -> list[str]:
        """As `RegionStore.check_fingerprint`."""
        return self.store.check_fingerprint(expected, on_mismatch=on_mismatch)


def task_store(folder: str | Path) -> RegionStore | ClipStore:
    """The store of a folder as tasks read it; `ValueError` as `RegionStore`."""
    store = RegionStore(folder)
    return ClipStore(store) if FRAMES_OF_CLIPS in store.fingerprint else store


def bare_name(clip_id: str) -> str:
    """A clip's name without what differs between annotations and files.

    >>> bare_name("v_1QIUV7WYKXg.mp4"), bare_name("1QIUV7WYKXg"), bare_name("a_60.0_210.0")
    ('1QIUV7WYKXg', '1QIUV7WYKXg', 'a_60.0_210.0')
    """
    return without_suffix(clip_id).removeprefix(OFFICIAL_PREFIX)
