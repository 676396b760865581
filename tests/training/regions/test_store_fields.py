"""Every field of `Regions` in a store: words, masks, seconds and clips come back beside the regions they are of."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from torch.utils.data import DataLoader

from modeling_updown import Regions
from training.regions.convert import export_region_files
from training.regions.formats.sidecar import Sidecar
from training.regions.store import RegionStore, RegionStoreWriter, verified_shards
from training.regions.unpadding import unpadded

COUNTS, WIDTH, SIDE = [2, 3, 3, 1], 4, 3
FIELDS = ("region_seconds", "region_texts", "region_masks", "clip_ids")


def regions_of(indices: list[int], *, longest: int = 3) -> Regions:
    """Padded regions with every field, whose numbers and words follow from the image's index."""
    shape = (len(indices), longest)
    chance = [torch.Generator().manual_seed(index) for index in indices]
    masks = torch.stack([torch.randint(0, 256, (longest, SIDE, SIDE), generator=one) for one in chance])
    return Regions(
        region_features=torch.stack([torch.randn(longest, WIDTH, generator=one) for one in chance]).half().float(),
        region_boxes=torch.tensor([0.0, 0.0, 0.5, 1.0]).expand(*shape, 4).clone(),
        region_mask=torch.arange(longest) < torch.tensor([COUNTS[index] for index in indices])[:, None],
        region_seconds=torch.tensor(indices)[:, None].expand(shape) * 0.25,
        region_texts=[[f"word {index}.{place} é" for place in range(longest)] for index in indices],
        region_masks=masks / 255,
        clip_ids=[f"clip {index // 2}" for index in indices],
    )


def ids_of(indices: list[int]) -> list[str]:
    return [f"frame {index}" for index in indices]


@pytest.fixture
def store(tmp_path: Path) -> RegionStore:
    """Four images in two shards, of which the first was written in two batches."""
    with RegionStoreWriter(tmp_path / "store", fingerprint={"backbone": "x"}, images_per_shard=3) as writer:
        for indices in ([0], [1, 2], [3]):
            writer.append(ids_of(indices), regions_of(indices))
    return RegionStore(tmp_path / "store")


@pytest.mark.parametrize("indices", [[0, 1, 2, 3], [3, 0], [1, 2], [2]])
def test_fields_come_back_beside_their_regions(store: RegionStore, indices: list[int]) -> None:
    assert set(FIELDS) < set(store.column_names) and store.clip_ids == ["clip 0", "clip 0", "clip 1", "clip 1"]
    batch, expected = store.batch(ids_of(indices), columns=store.column_names), regions_of(indices)
    most = max(COUNTS[index] for index in indices)
    for row, index in enumerate(indices):
        count = COUNTS[index]
        for name in ("region_seconds", "region_masks", "region_boxes"):
            torch.testing.assert_close(batch[name][row, :count], expected[name][row, :count], rtol=0, atol=1e-6)
            assert not batch[name][row, count:].any()
        assert batch["region_texts"][row] == expected["region_texts"][row][:count] + [""] * (most - count)
        assert batch["clip_ids"][row] == expected["clip_ids"][row]
    regions = Regions(**batch)  # as a model takes them
    assert regions.region_masks.shape == (len(indices), most, SIDE, SIDE)


def test_some_fields_and_one_image(store: RegionStore) -> None:
    assert set(store.batch([0, 1], columns=["region_texts", "clip_ids"])) == {"region_texts", "clip_ids", "region_mask"}
    assert set(store.batch([0])) == {"region_features", "region_boxes", "region_mask"}
    one = store["frame 2"]
    assert one["region_texts"] == regions_of([2])["region_texts"][0] and one["clip_ids"] == "clip 1"
    assert one["region_masks"].shape == (3, SIDE, SIDE)


def test_levels_and_numbers_of_clips(tmp_path: Path) -> None:
    """Masks of 0 and 1 are kept as they are, others in 255ths; clips given as numbers come back as their digits."""
    regions = regions_of([0, 1])
    exact = (regions.region_masks > 0.5, torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)))
    for place, masks in enumerate(exact):
        with RegionStoreWriter(tmp_path / str(place), fingerprint={}) as writer:
            writer.append(ids_of([0, 1]), {**regions, "region_masks": masks, "clip_ids": torch.tensor([7, 12])})
        batch = RegionStore(tmp_path / str(place)).batch([0, 1], columns=["region_masks", "clip_ids"])
        assert batch["clip_ids"] == ["7", "12"]
        real = regions.region_mask
        error = (batch["region_masks"] - masks.float())[real].abs().max()
        assert error <= (0 if place == 0 else 0.5 / 255 + 1e-7)


def read_fields(store: RegionStore) -> list[Any]:
    return [store.batch([place], columns=["region_texts", "clip_ids"]) for place in range(len(store))]


def texts_of(batches: list[Any]) -> list[Any]:
    return [(batch["region_texts"], batch["clip_ids"]) for batch in batches]


def test_data_loader_workers_and_writers_that_go_on(store: RegionStore, tmp_path: Path) -> None:
    expected = texts_of(read_fields(store))
    loaded = DataLoader(
        range(4),  # type: ignore[arg-type]
        batch_size=1,
        num_workers=1,
        collate_fn=lambda places: store.batch(places, columns=["region_texts", "clip_ids", "region_masks"]),
    )
    assert texts_of(list(loaded)) == expected
    for indices in ([0], [1, 2], [3]):  # each by a writer of its own, which takes up the small shard before it
        with RegionStoreWriter(tmp_path / "again", fingerprint={"backbone": "x"}, images_per_shard=3) as writer:
            writer.append(ids_of(indices), regions_of(indices))
    again = RegionStore(tmp_path / "again")
    assert texts_of(read_fields(again)) == expected
    names = ["shard-0-00000.arrow", "shard-0-00001.arrow"]
    assert sorted(path.read_bytes() for path in again.folder.glob("*.arrow")) == sorted(
        (store.folder / name).read_bytes() for name in names
    )
    assert all(fault == "" for _, _, fault in verified_shards(store.folder))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"region_texts": [["a"] * 3]}, "region_texts should be 2 lists of 3 strings"),
        ({"region_texts": [["a"] * 3, ["a"] * 2]}, "region_texts should be 2 lists of 3 strings"),
        ({"region_texts": [["a"] * 3, ["a", None, "b"]]}, "region_texts should be 2 lists of 3 strings"),
        ({"clip_ids": ["a"]}, "clip_ids name the clip of 1 images, but there are 2"),
        ({"region_masks": torch.zeros(2, 3, 4, 5)}, r"region_masks of shape \(4, 5\) a region should be"),
        ({"region_masks": torch.full((2, 3, 2, 2), 1.5)}, "and in 0..1"),
        ({"region_masks": torch.full((2, 3, 2, 2), torch.nan)}, "and in 0..1"),
        ({"region_seconds": torch.tensor([[0.0, 0, 0], [0, torch.inf, 0]])}, "image 'frame 1' has region_seconds that"),
        ({"region_texts": None}, "numbers per region, but the store"),
        ({"clip_ids": None}, "numbers per region, but the store"),
        ({"region_masks": torch.zeros(2, 3, 5, 5)}, "numbers per region, but the store"),
    ],
)
def test_fields_that_do_not_fit_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with RegionStoreWriter(tmp_path / "store", fingerprint={}) as writer:
        writer.append(["frame 3"], regions_of([3]))
        with pytest.raises(ValueError, match=message):
            writer.append(ids_of([0, 1]), {**regions_of([0, 1]), **changes})
    assert RegionStore(tmp_path / "store").image_ids == ["frame 3"]


def test_a_store_without_the_fields_is_written_as_before(tmp_path: Path) -> None:
    """Nothing is said of fields that nobody gave, and what a newer writer added is passed over by name."""
    slim = {name: regions_of([0, 1])[name] for name in ("region_features", "region_boxes", "region_mask")}
    with RegionStoreWriter(tmp_path / "store", fingerprint={}) as writer:
        writer.append(ids_of([0, 1]), slim)
    path = tmp_path / "store" / "shard-0-00000.arrow"
    batch = pa.ipc.open_file(str(path)).get_batch(0)
    assert batch.schema.names == ["image_id", "region_features", "region_boxes"]
    store = RegionStore(tmp_path / "store")
    assert store.column_names == ["region_features", "region_boxes"] and store.clip_ids == []
    with pytest.raises(KeyError, match="holds no region_texts, clip_ids; it holds region_features"):
        store.batch([0], columns=["region_texts", "clip_ids"])


def test_damaged_words_are_noticed(store: RegionStore) -> None:
    """A word less than regions, as a shard of another hand could hold."""
    path = store.folder / "shard-0-00001.arrow"
    batch = pa.ipc.open_file(str(path)).get_batch(0)
    texts = pa.LargeListArray.from_arrays(pa.array([0, 2]), pa.array(["a", "b"]))
    columns = {name: batch.column(name) for name in batch.schema.names} | {"region_texts": texts}
    changed = pa.RecordBatch.from_pydict(columns)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, changed.schema) as writer:
        writer.write_batch(changed)
    manifest = json.loads((store.folder / "store.json").read_text())
    manifest["shards"][1] |= {"bytes": path.stat().st_size}
    del manifest["shards"][1]["crc32"]
    (store.folder / "store.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match="contradicts itself or its manifest"):
        RegionStore(store.folder)


def test_fields_without_a_place_in_another_format_are_said(store: RegionStore, tmp_path: Path) -> None:
    sizes = Sidecar(sizes=dict.fromkeys(store.image_ids, (480, 640)))
    left_out = export_region_files(store.folder, output=tmp_path / "folder", format="npz", sidecar=sizes)
    assert set(left_out) == set(FIELDS)


def test_words_of_padding_are_left_out() -> None:
    made = unpadded(ids_of([0]), regions_of([0]), feature_dtype=torch.float16)
    assert made.strings["region_texts"].to_pylist() == ["word 0.0 é", "word 0.1 é"]
    assert made.columns["region_masks"].dtype == torch.uint8 and made.columns["region_masks"].shape == (2, SIDE * SIDE)
