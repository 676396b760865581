"""Region stores that were damaged, cut short or killed, and what a store knows of its images' content."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.training.regions.test_store import (
    FINGERPRINT,
    append_the_rest,
    assert_is_image,
    batch_of,
    image,
    write_store,
)
from training.regions import store as region_store
from training.regions.store import RegionStore, RegionStoreWriter, verified_shards


@pytest.fixture
def store(tmp_path: Path) -> RegionStore:
    """Seven images of unlike sizes in three shards: images 0-2, 3-5, 6."""
    return write_store(tmp_path / "store", batches=[[0, 1, 2], [3, 4], [5], [6]], images_per_shard=3)


def flipped(path: Path, place: int, *, bits: int = 1) -> None:
    """One byte of a file changed."""
    content = bytearray(path.read_bytes())
    content[place] ^= bits
    path.write_bytes(content)


def as_of_before(folder: Path) -> None:
    """Take the checksums out of the manifest: a store as it was written before there were any."""
    manifest = json.loads((folder / "store.json").read_text())
    manifest["shards"] = [
        {key: entry[key] for key in ("file", "photos", "regions", "bytes")} for entry in manifest["shards"]
    ]
    (folder / "store.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0])
def test_a_changed_byte_is_refused(store: RegionStore, share: float) -> None:
    shard = store.folder / "shard-0-00001.arrow"
    flipped(shard, round(share * (shard.stat().st_size - 1)), bits=4)
    with pytest.raises(ValueError, match=r"shard-0-00001.arrow is damaged .*copy the store"):
        RegionStore(store.folder)


def test_a_large_store_is_checked_where_it_says_whose_regions_are_whose_and_on_request(
    store: RegionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(region_store, "VERIFIED_BYTES", 100)
    shard = store.folder / "shard-0-00000.arrow"
    whole = shard.read_bytes()
    flipped(shard, whole.index(b"image 1") + 6, bits=2)  # now "image 3"
    with pytest.raises(ValueError, match=r"is damaged .its ids or counts differ"):
        RegionStore(store.folder)
    shard.write_bytes(whole)
    features = image(2, num_regions=4)["region_features"].half().numpy().tobytes()
    flipped(shard, whole.index(features) + 20)
    RegionStore(store.folder)
    found = list(verified_shards(store.folder))
    assert [entry["file"] for entry, _, _ in found] == [f"shard-0-0000{number}.arrow" for number in range(3)]
    assert [None if images is None else len(images.image_ids) for _, images, _ in found] == [None, 3, 1]
    assert "shard-0-00000.arrow is damaged (its checksum differs)" in found[0][2]
    shard.write_bytes(whole)
    assert [fault for _, _, fault in verified_shards(store.folder)] == ["", "", ""]


def test_a_worker_does_not_read_the_store_anew(store: RegionStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*arguments: Any) -> None:
        raise AssertionError

    content = pickle.dumps(store)
    monkeypatch.setattr("training.regions.shards.check_content", never)
    assert len(pickle.loads(content)) == 7


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("region_features", np.float16("nan")),
        ("region_features", np.float16("-inf")),
        ("region_boxes", np.float32(1.5)),
        ("region_boxes", np.float32("nan")),
        ("region_scores", np.float32("inf")),
    ],
)
def test_what_no_writer_takes_is_refused_where_it_is_read(store: RegionStore, name: str, number: Any) -> None:
    """Also where there is no checksum: in stores of before, and in large ones."""
    as_of_before(store.folder)
    shard = store.folder / "shard-0-00001.arrow"
    values = image(4, num_regions=4)[name]
    values = values.half() if name == "region_features" else values
    content = shard.read_bytes()
    place = content.index(values.numpy().tobytes())
    shard.write_bytes(content[:place] + number.tobytes() + content[place + number.nbytes :])
    damaged = RegionStore(store.folder)
    assert_is_image(damaged["image 3"], 3)
    message = (
        f"{name} of image 'image 4' in the store .* are not finite, or outside of their range: its shard was damaged"
    )
    with pytest.raises(ValueError, match=message):
        damaged.batch([3, 4], columns=[name])
    fault = next(fault for _, _, fault in verified_shards(store.folder) if fault)
    assert f"shard-0-00001.arrow is damaged: image 'image 4' has {name}" in fault and "nothing of this" not in fault


def test_an_offset_that_leads_out_of_the_file_ends_in_a_sentence(store: RegionStore) -> None:
    """Arrow follows it wherever it leads, and the interpreter dies, unless it is checked before."""
    as_of_before(store.folder)
    shard = store.folder / "shard-0-00000.arrow"
    content = shard.read_bytes()
    place = content.index(np.array([0, 7, 14, 21], dtype=np.int32).tobytes())  # of the ids
    shard.write_bytes(content[: place + 8] + np.int32(2**30).tobytes() + content[place + 12 :])
    with pytest.raises(ValueError, match=r"shard-0-00000.arrow is not a region shard .*delete its folder and extract"):
        RegionStore(store.folder)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
@pytest.mark.parametrize("images_at_risk", [1, None])
def test_a_last_shard_that_was_cut_short_is_made_anew(tmp_path: Path, share: float, images_at_risk: int | None) -> None:
    options: dict[str, Any] = {"images_per_shard": 3, "images_at_risk": images_at_risk}
    for name in ("whole", "cut"):
        append_the_rest(tmp_path / name, **options)
    last = json.loads((tmp_path / "cut" / "store.json").read_text())["shards"][-1]["file"]
    content = (tmp_path / "cut" / last).read_bytes()
    (tmp_path / "cut" / last).write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=f"{last} is .* bytes long, not {len(content)}: it was cut short"):
        RegionStore(tmp_path / "cut")
    with pytest.warns(UserWarning, match=f"{last} was cut short: its 1 images are added again"):
        append_the_rest(tmp_path / "cut", **options)
    for path in (tmp_path / "whole").iterdir():
        assert path.read_bytes() == (tmp_path / "cut" / path.name).read_bytes(), path.name
    first = tmp_path / "cut" / "shard-0-00000.arrow"
    if first.exists():
        first.write_bytes(first.read_bytes()[:-1])
        with pytest.raises(ValueError, match="it was cut short or replaced; copy the store again, or delete"):
            RegionStoreWriter(tmp_path / "cut", fingerprint=FINGERPRINT)


def test_images_are_known_by_their_content(tmp_path: Path) -> None:
    ids, regions = batch_of([2, 3])
    with RegionStoreWriter(tmp_path, fingerprint=FINGERPRINT) as writer:
        writer.append(ids, {**regions, "photo_mark": torch.tensor([7, 2**62])})
        writer.append(*batch_of([4]))  # of which nothing is known
    assert RegionStore(tmp_path).image_marks.tolist() == [7, 2**62, 0]
    with RegionStoreWriter(tmp_path, fingerprint=FINGERPRINT) as writer:
        assert writer.done_marks == {"image 2": 7, "image 3": 2**62, "image 4": 0}
        with pytest.raises(ValueError, match="photo_mark should hold an int64 for each of 2 images, got"):
            writer.append(*batch_of([0, 1])[:1], {**batch_of([0, 1])[1], "photo_mark": torch.tensor([7.0, 1.0])})


def test_files_do_not_tell_how_often_their_writer_was_killed(tmp_path: Path) -> None:
    """A kill leaves small shards; who goes on joins them as if nothing had happened."""
    options: dict[str, Any] = {"fingerprint": FINGERPRINT, "images_per_shard": 4, "images_at_risk": 1}
    with RegionStoreWriter(tmp_path / "whole", **options) as writer:
        for index in range(7):
            writer.append(*batch_of([index]))
    for index in range(7):
        writer = RegionStoreWriter(tmp_path / "killed", **options)
        writer.append(*batch_of([index]))
        if index < 6:
            writer._lock.close()  # what a kill leaves: nothing was closed in good order
        else:
            writer.close()
    names = sorted(path.name for path in (tmp_path / "whole").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "killed").iterdir())
    for name in names:
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "killed" / name).read_bytes()
