"""The region store: numbers against a plain dict of arrays, ugly inputs, kills at every moment of a write."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from training.regions import store as region_store
from training.regions.store import RegionStore, RegionStoreWriter

REPOSITORY = Path(__file__).resolve().parents[3]
FINGERPRINT = {"model_type": "updown_detector", "backbone": "resnet101", "image_size": [600, 1000]}
COUNTS = [3, 1, 4, 4, 4, 2, 5]
WIDTH = 6


def image(index: int, *, num_regions: int) -> dict[str, torch.Tensor]:
    """One image's regions, (R, ...), whose numbers follow from its index."""
    generator = torch.Generator().manual_seed(index)
    corners = torch.rand(num_regions, 4, generator=generator)
    return {
        "region_features": torch.randn(num_regions, WIDTH, generator=generator),
        "region_boxes": torch.cat([corners[:, :2] / 2, 0.5 + corners[:, 2:] / 2], dim=1),
        "region_scores": torch.rand(num_regions, generator=generator),
    }


def batch_of(indices: list[int], counts: list[int] = COUNTS) -> tuple[list[str], dict[str, torch.Tensor]]:
    """Ids and padded regions; the padding is NaN, so that any number of it that is kept or checked shows."""
    images = [image(i, num_regions=counts[i]) for i in indices]
    longest = max(counts[i] for i in indices)
    regions = {name: torch.full((len(images), longest, *images[0][name].shape[1:]), torch.nan) for name in images[0]}
    for row, one in enumerate(images):
        for name, value in one.items():
            regions[name][row, : len(value)] = value
    regions["region_mask"] = torch.arange(longest) < torch.tensor([counts[i] for i in indices])[:, None]
    return [f"image {i}" for i in indices], regions


def write_store(folder: Path, *, batches: list[list[int]], **options: Any) -> RegionStore:
    with RegionStoreWriter(folder, fingerprint=FINGERPRINT, **options) as writer:
        for indices in batches:
            writer.append(*batch_of(indices))
    return RegionStore(folder)


@pytest.fixture
def store(tmp_path: Path) -> RegionStore:
    """Seven images of unlike sizes in three shards: images 0-2, 3-5, 6."""
    return write_store(tmp_path / "store", batches=[[0, 1, 2], [3, 4], [5], [6]], images_per_shard=3)


def assert_is_image(values: dict[str, torch.Tensor], index: int) -> None:
    expected = image(index, num_regions=COUNTS[index])
    assert torch.equal(values["region_features"], expected["region_features"].half())
    assert torch.equal(values["region_boxes"], expected["region_boxes"])
    assert torch.equal(values["region_scores"], expected["region_scores"])


def test_every_image_comes_back(store: RegionStore) -> None:
    assert len(store) == 7
    assert store.image_ids == [f"image {i}" for i in range(7)]
    assert sorted(path.name for path in store.folder.glob("*.arrow")) == [f"shard-0-0000{i}.arrow" for i in range(3)]
    assert store.feature_width == WIDTH
    assert store.column_names == ["region_features", "region_boxes", "region_scores"]
    assert "image 3" in store and "image 7" not in store
    for index in range(7):
        assert_is_image(store[f"image {index}"], index)


@pytest.mark.parametrize(
    "positions",
    [[6, 0, 3], [0], [1, 1, 2], list(range(7)), [2, 3], [3, 4], [4, 3], [0, 1, 2]],
    ids=[
        "mixed",
        "one",
        "repeated",
        "all",
        "even, two shards",
        "even, touching",
        "even, backwards",
        "uneven, touching",
    ],
)
def test_a_batch_is_its_images_padded_with_zeros(store: RegionStore, positions: list[int]) -> None:
    batch = store.batch(positions, columns=store.column_names)
    longest = max(COUNTS[i] for i in positions)
    assert batch["region_features"].shape == (len(positions), longest, WIDTH)
    for row, position in enumerate(positions):
        real = batch["region_mask"][row]
        assert real.tolist() == [True] * COUNTS[position] + [False] * (longest - COUNTS[position])
        assert_is_image({name: value[row, real] for name, value in batch.items()}, position)
        assert not batch["region_features"][row, ~real].any() and not batch["region_boxes"][row, ~real].any()


def test_images_are_asked_for_by_id_position_range_slice_array_or_tensor(store: RegionStore) -> None:
    expected = store.batch([3, 4, 5])["region_features"]
    ids = ["image 3", "image 4", "image 5"]
    for images in (ids, range(3, 6), slice(3, 6), np.array([3, 4, 5]), torch.tensor([3, 4, 5])):
        assert torch.equal(store.batch(images)["region_features"], expected)


def test_dtype_is_of_the_features_only(store: RegionStore) -> None:
    batch = store.batch([0, 6], dtype=torch.float32)
    assert batch["region_features"].dtype == torch.float32
    assert torch.equal(batch["region_features"], store.batch([0, 6])["region_features"].float())
    assert batch["region_boxes"].dtype == torch.float32 and batch["region_mask"].dtype == torch.bool


def test_neighbours_of_one_size_are_views_and_writing_into_them_spares_the_file(store: RegionStore) -> None:
    first, again = store.batch([3, 4])["region_features"], store.batch([3, 4])["region_features"]
    assert first.data_ptr() == again.data_ptr()
    first.zero_()
    assert_is_image(RegionStore(store.folder)["image 3"], 3)


def test_a_shard_is_a_plain_arrow_file(store: RegionStore) -> None:
    table = pa.ipc.open_file(store.folder / "shard-0-00000.arrow").read_all()
    assert table.column("image_id").to_pylist() == ["image 0", "image 1", "image 2"]
    features = np.array(table.column("region_features").to_pylist()[1])
    assert np.array_equal(features, image(1, num_regions=1)["region_features"].half().numpy())


def test_a_pickled_store_reads_the_same(store: RegionStore) -> None:
    content = pickle.dumps(store)
    assert len(content) < 1000
    assert torch.equal(pickle.loads(content).batch([5, 1])["region_features"], store.batch([5, 1])["region_features"])


def test_data_loader_workers_read_the_store(store: RegionStore) -> None:
    loader = torch.utils.data.DataLoader(range(7), batch_size=2, num_workers=2, collate_fn=store.batch, timeout=60)
    read = [batch["region_features"] for batch in loader]
    assert [len(features) for features in read] == [2, 2, 2, 1]
    for number, features in enumerate(read):  # the second batch is mixed, the fourth is a view outside workers
        assert torch.equal(features, store.batch(range(2 * number, min(2 * number + 2, 7)))["region_features"])


def test_regions_without_a_mask_are_all_real(tmp_path: Path) -> None:
    ids, regions = batch_of([2, 3])
    with RegionStoreWriter(tmp_path, fingerprint=FINGERPRINT) as writer:
        writer.append(ids, {name: value.numpy() for name, value in regions.items() if name != "region_mask"})
    assert_is_image(RegionStore(tmp_path)["image 3"], 3)


def test_wide_columns_are_kept_and_only_read_when_asked_for(tmp_path: Path) -> None:
    ids, regions = batch_of([2, 3])
    probs = torch.rand(2, 4, 11).softmax(dim=-1)
    with RegionStoreWriter(tmp_path, fingerprint=FINGERPRINT) as writer:
        writer.append(ids, {**regions, "object_probs": probs})
    store = RegionStore(tmp_path)
    assert set(store.batch([0])) == {"region_features", "region_boxes", "region_mask"}
    assert torch.equal(store.batch([0, 1], columns=["object_probs"])["object_probs"], probs.half())
    with pytest.raises(KeyError, match="holds no attribute_probs"):
        store.batch([0], columns=["attribute_probs"])


def with_classes(indices: list[int]) -> tuple[list[str], dict[str, torch.Tensor]]:
    """A batch with ids, scores and sizes, whose padding is nonsense."""
    ids, regions = batch_of(indices)
    shape = regions["region_scores"].shape
    real = regions["region_mask"]
    object_ids = torch.where(real, torch.arange(real.numel()).reshape(shape), torch.tensor(-7))
    classes = {
        "object_ids": object_ids,
        "attribute_ids": object_ids * 2,
        "attribute_scores": regions["region_scores"] / 2,
    }
    return ids, {**regions, **classes, "image_size": torch.tensor([[300 + i, 400 + i] for i in indices])}


def test_ids_and_sizes_are_kept(tmp_path: Path) -> None:
    with RegionStoreWriter(tmp_path, fingerprint=FINGERPRINT, images_per_shard=2) as writer:
        writer.append(*with_classes([0, 1]))
        writer.append(*with_classes([5, 6]))
    store = RegionStore(tmp_path)
    assert store.column_names[-3:] == ["object_ids", "attribute_ids", "attribute_scores"]
    assert store.image_sizes.tolist() == [[300, 400], [301, 401], [305, 405], [306, 406]]
    assert store.num_regions.tolist() == [3, 1, 2, 5]
    one = store["image 5"]
    assert one["object_ids"].tolist() == [0, 1] and one["object_ids"].dtype == torch.int32
    assert one["attribute_ids"].tolist() == [0, 2] and one["image_size"].tolist() == [305, 405]
    assert torch.equal(one["attribute_scores"], one["region_scores"] / 2)
    batch = store.batch(["image 1", "image 0"], columns=["object_ids", "region_boxes"])
    assert batch["object_ids"].tolist() == [[3, 0, 0], [0, 1, 2]]
    with RegionStoreWriter(tmp_path, fingerprint=FINGERPRINT) as writer:  # sizes may be unknown, columns may not
        ids, regions = with_classes([3])
        writer.append(ids, {name: value for name, value in regions.items() if name != "image_size"})
        with pytest.raises(ValueError, match="another detector"):
            writer.append(*batch_of([4]))
    store = RegionStore(tmp_path)
    assert store.image_sizes[4].tolist() == [0, 0] and "image_size" not in store["image 3"]


def test_a_store_of_before_has_no_sizes(store: RegionStore) -> None:
    assert store.image_sizes.tolist() == [[0, 0]] * 7
    assert "image_size" not in pa.ipc.open_file(store.folder / "shard-0-00000.arrow").read_all().column_names


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"object_ids": torch.full((2, 5), -1)}, "'image 5' has object_ids below 0, which is background or none"),
        ({"image_size": torch.tensor([300, 400])}, r"image_size should hold a height and a width .* got \[300, 400\]"),
        ({"image_size": torch.tensor([[300, 400], [-1, 5]])}, "image_size should hold"),
        ({"image_size": torch.tensor([[300, 400], [2**40, 5]])}, "image_size should hold"),
    ],
)
def test_bad_ids_and_sizes_are_refused(tmp_path: Path, changes: dict[str, torch.Tensor], message: str) -> None:
    ids, regions = batch_of([5, 6])
    with (
        RegionStoreWriter(tmp_path, fingerprint=FINGERPRINT) as writer,
        pytest.raises(ValueError, match=message),
    ):
        writer.append(ids, {**regions, **changes})


def test_features_in_float32_keep_every_bit(tmp_path: Path) -> None:
    ids, regions = batch_of([2, 3])
    regions["region_features"][0, 0, 0] = 1e6  # beyond float16
    with RegionStoreWriter(tmp_path, fingerprint=FINGERPRINT, feature_dtype=torch.float32) as writer:
        writer.append(ids, regions)
    store = RegionStore(tmp_path)
    assert store.feature_dtype == torch.float32
    assert torch.equal(store.batch([0, 1])["region_features"], regions["region_features"])
    assert store.batch([1], dtype=torch.float16)["region_features"].dtype == torch.float16
    with pytest.raises(ValueError, match="keeps its features in torch.float32, not torch.float16; use the same type"):
        RegionStoreWriter(tmp_path, fingerprint=FINGERPRINT)


def test_waiting_images_are_bounded_in_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(region_store, "MOST_WAITING_BYTES", 100)  # a region takes 32
    with RegionStoreWriter(tmp_path, fingerprint=FINGERPRINT) as writer:
        writer.append(*batch_of([0]))
        assert not list(tmp_path.glob("*.arrow"))
        writer.append(*batch_of([1]))
        assert len(list(tmp_path.glob("*.arrow"))) == 1


def test_writing_goes_on_where_it_ended(tmp_path: Path) -> None:
    write_store(tmp_path, batches=[[0, 1], [2]], images_per_shard=2)
    with RegionStoreWriter(tmp_path, fingerprint=FINGERPRINT, images_per_shard=2) as writer:
        assert writer.done_ids == {"image 0", "image 1", "image 2"}
        writer.append(*batch_of([3, 4, 5]))
    store = RegionStore(tmp_path)
    assert store.image_ids == [f"image {i}" for i in range(6)]
    for index in range(6):
        assert_is_image(store[f"image {index}"], index)


def test_an_error_in_the_block_keeps_what_was_appended(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), RegionStoreWriter(tmp_path, fingerprint=FINGERPRINT) as writer:
        writer.append(*batch_of([0]))
        raise RuntimeError("the detector fell over")
    assert RegionStore(tmp_path).image_ids == ["image 0"]


def test_several_processes_write_one_store(tmp_path: Path) -> None:
    writers = [RegionStoreWriter(tmp_path, fingerprint=FINGERPRINT, process_index=p) for p in range(3)]
    for p, writer in enumerate(writers):
        writer.append(*batch_of([p, p + 3]))
    for writer in writers:
        writer.close()
    store = RegionStore(tmp_path)
    assert store.image_ids == ["image 0", "image 3", "image 1", "image 4", "image 2", "image 5"]
    assert_is_image(store["image 4"], 4)
    with RegionStoreWriter(tmp_path, fingerprint=FINGERPRINT) as writer:
        assert len(writer.done_ids) == 6


def test_two_writers_of_one_process_index_are_refused(tmp_path: Path) -> None:
    first = RegionStoreWriter(tmp_path, fingerprint=FINGERPRINT)
    with pytest.raises(RuntimeError, match="give every process its own process_index"):
        RegionStoreWriter(tmp_path, fingerprint=FINGERPRINT)
    first.close()
    RegionStoreWriter(tmp_path, fingerprint=FINGERPRINT).close()


def test_an_image_written_by_two_processes_is_refused(tmp_path: Path) -> None:
    writers = [RegionStoreWriter(tmp_path, fingerprint=FINGERPRINT, process_index=p) for p in range(2)]
    for writer in writers:
        writer.append(*batch_of([0]))
        writer.close()
    with pytest.raises(ValueError, match="'image 0' is twice"):
        RegionStore(tmp_path)


def test_a_differing_fingerprint_is_told_field_by_field(store: RegionStore) -> None:
    assert store.fingerprint == FINGERPRINT
    assert store.check_fingerprint({"backbone": "resnet101", "image_size": (600, 1000)}) == []
    expected = {"backbone": "resnet50", "revision": "abc", "model_type": "updown_detector"}
    with pytest.warns(UserWarning, match="backbone: stored 'resnet101', expected 'resnet50'; revision: not recorded"):
        assert len(store.check_fingerprint(expected)) == 2
    with pytest.raises(ValueError, match="extract them again"):
        store.check_fingerprint(expected, on_mismatch="error")


@pytest.mark.parametrize("changed", [{"backbone": "resnet50"}, {"revision": "abc"}])
def test_a_store_is_not_continued_with_another_fingerprint(store: RegionStore, changed: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=f"has another fingerprint.*{next(iter(changed))}"):
        RegionStoreWriter(store.folder, fingerprint={**FINGERPRINT, **changed})
    fewer = {"backbone": "resnet101"}
    with pytest.raises(ValueError, match="has another fingerprint.*model_type"):
        RegionStoreWriter(store.folder, fingerprint=fewer)


def spoil(name: str, place: tuple[int, ...], value: float) -> dict[str, torch.Tensor]:
    regions = batch_of([5, 6])[1]
    regions[name][place] = value
    return regions


@pytest.mark.parametrize(
    ("regions", "message"),
    [
        (spoil("region_features", (1, 2, 3), torch.nan), "'image 6' has region_features that are NaN"),
        (spoil("region_features", (0, 1, 0), 1e6), "'image 5' has region_features .* beyond float16"),
        (spoil("region_boxes", (1, 0, 2), 334.0), "'image 6' has region_boxes outside 0..1 .divide them"),
        (spoil("region_boxes", (0, 0, 0), 0.999), "'image 5' has region_boxes that are not xyxy"),
        (spoil("region_scores", (0, 0), torch.inf), "'image 5' has region_scores"),
        (spoil("region_mask", (1,), False), "'image 6' has no region"),
        ({"region_boxes": torch.zeros(2, 5, 4)}, "hold no region_features; they hold region_boxes"),
        ({**batch_of([5, 6])[1], "region_boxes": torch.zeros(2, 4, 4)}, r"'region_boxes': \(2, 4, 4\)"),
        ({**batch_of([5, 6])[1], "region_features": torch.ones(2, 5, 7)}, "'region_features': 7.*'region_features': 6"),
        ({**batch_of([5, 6])[1], "region_scores": None}, "another detector"),
        (batch_of([6])[1], "2 images came with region_features of shape"),
    ],
)
def test_a_bad_batch_is_refused_whole_and_its_image_is_named(
    tmp_path: Path, regions: dict[str, torch.Tensor], message: str
) -> None:
    with RegionStoreWriter(tmp_path, fingerprint=FINGERPRINT) as writer:
        writer.append(*batch_of([0]))
        with pytest.raises(ValueError, match=message):
            writer.append(["image 5", "image 6"], regions)
        writer.append(*batch_of([5, 6]))
    assert RegionStore(tmp_path).image_ids == ["image 0", "image 5", "image 6"]


def test_an_id_that_is_there_or_twice_or_no_string_is_refused(store: RegionStore) -> None:
    with RegionStoreWriter(store.folder, fingerprint=FINGERPRINT) as writer:
        regions = batch_of([3, 4])[1]
        with pytest.raises(ValueError, match="'image 3' is already in it"):
            writer.append(["new", "image 3"], regions)
        with pytest.raises(ValueError, match="'new' is twice in this batch"):
            writer.append(["new", "new"], regions)
        with pytest.raises(ValueError, match="must be a list of strings"):
            writer.append([17, 18], regions)  # type: ignore[list-item]
    assert len(RegionStore(store.folder)) == 7


def test_unknown_images_are_named(store: RegionStore) -> None:
    with pytest.raises(KeyError, match="'dog.jpg' is not in the store .* look like 'image 0'"):
        store.batch(["image 1", "dog.jpg"])
    for position in (7, -1):
        with pytest.raises(IndexError, match=f"position {position} is outside"):
            store.batch([0, position])
    with pytest.raises(IndexError, match="empty batch"):
        store.batch([])


def test_folders_that_are_no_store(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is not a region store"):
        RegionStore(tmp_path / "absent")
    (tmp_path / "holiday.jpg").touch()
    with pytest.raises(ValueError, match="holiday.jpg"):
        RegionStoreWriter(tmp_path, fingerprint=FINGERPRINT)
    RegionStoreWriter(tmp_path / "new", fingerprint=FINGERPRINT).close()
    with pytest.raises(ValueError, match="holds no image yet"):
        RegionStore(tmp_path / "new")


def test_a_shard_cut_short_absent_or_overwritten_is_refused(store: RegionStore) -> None:
    shard = store.folder / "shard-0-00001.arrow"
    content = shard.read_bytes()
    shard.write_bytes(content[:-7])
    with pytest.raises(ValueError, match=f"is {len(content) - 7} bytes long, not {len(content)}: it was cut short"):
        RegionStore(store.folder)
    shard.write_bytes(b"x" * len(content))
    with pytest.raises(ValueError, match="is damaged .its checksum differs"):
        RegionStore(store.folder)
    shard.unlink()
    with pytest.raises(ValueError, match="is absent"):
        RegionStore(store.folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "its format is 'other'"),
        ({"shards": [{"file": "../../secret", "photos": 1, "regions": 1, "bytes": 9}]}, "invalid shard"),
        ({"shards": 3}, "not a manifest"),
        ({"fingerprint": "resnet"}, "fingerprint is not an object"),
    ],
)
def test_a_spoiled_manifest_is_refused(store: RegionStore, change: dict[str, Any], message: str) -> None:
    path = store.folder / "store.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ValueError, match=message):
        RegionStore(store.folder)


def test_a_broken_manifest_is_refused(store: RegionStore) -> None:
    (store.folder / "store.json").write_text('{"format": ')
    with pytest.raises(ValueError, match="store.json is not a manifest of a region store"):
        RegionStore(store.folder)


EVERY_IMAGE: dict[str, Any] = {"images_per_shard": 1}
SMALL_SHARDS: dict[str, Any] = {"images_per_shard": 3, "images_at_risk": 1}


def write_and_die(folder: Path, options: dict[str, Any], *, call: int, after: bool) -> None:
    """In a child process: appends images 0..6, each saved at once, and is killed at the given renaming of a file."""
    replace, calls = os.replace, 0

    def replace_and_die(source: Path, target: Path) -> None:
        nonlocal calls
        calls += 1
        if calls == call and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(source, target)
        if calls == call:
            os.kill(os.getpid(), signal.SIGKILL)

    os.replace = replace_and_die  # type: ignore[assignment]
    append_the_rest(folder, **options)


def append_the_rest(folder: Path, **options: Any) -> None:
    with RegionStoreWriter(folder, fingerprint=FINGERPRINT, **options) as writer:
        for index in range(7):
            if f"image {index}" not in writer.done_ids:
                writer.append(*batch_of([index]))


def in_a_child(function: Any, *arguments: Any, **options: Any) -> int:
    """The exit code of a forked process that calls a function."""
    child = os.fork()
    if child == 0:
        try:
            function(*arguments, **options)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize(
    ("options", "call"),
    [*((EVERY_IMAGE, call) for call in range(1, 6)), *((SMALL_SHARDS, call) for call in range(2, 15))],
)
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_kill_at_any_renaming_loses_and_doubles_nothing(
    tmp_path: Path, options: dict[str, Any], call: int, after: bool
) -> None:
    assert in_a_child(write_and_die, tmp_path, options, call=call, after=after) == -signal.SIGKILL
    renamed = call if after else call - 1  # store.json, then shard and store.json for each image
    num_whole = max(0, (renamed - 1) // 2)
    if num_whole:
        assert RegionStore(tmp_path).image_ids == [f"image {i}" for i in range(num_whole)]
    with RegionStoreWriter(tmp_path, fingerprint=FINGERPRINT) as writer:
        assert writer.done_ids == {f"image {i}" for i in range(num_whole)}
    append_the_rest(tmp_path, images_per_shard=2)
    assert_whole(tmp_path)


def assert_whole(folder: Path) -> None:
    """Images 0..6 in their order, and no file that the manifest does not name."""
    store = RegionStore(folder)
    assert store.image_ids == [f"image {i}" for i in range(7)]
    for index in range(7):
        assert_is_image(store[f"image {index}"], index)
    named = {shard["file"] for shard in json.loads((folder / "store.json").read_text())["shards"]}
    assert {path.name for path in folder.iterdir()} == {"store.json", ".writer-0.lock", *named}


@pytest.mark.parametrize("images_at_risk", [1, 2, 3])
def test_waiting_images_stand_in_small_shards_until_the_full_one_is_written(
    tmp_path: Path, images_at_risk: int
) -> None:
    with RegionStoreWriter(
        tmp_path, fingerprint=FINGERPRINT, images_per_shard=5, images_at_risk=images_at_risk
    ) as writer:
        for index in range(7):
            writer.append(*batch_of([index]))
            waiting = (index + 1) % 5
            saved = index + 1 - (waiting % images_at_risk if waiting else 0)
            held = (
                RegionStore(tmp_path).image_ids if saved else []
            )  # as a reader finds it, or the next run after a kill
            assert held == [f"image {i}" for i in range(saved)]
            num_small = waiting // images_at_risk
            assert len(list(tmp_path.glob("*.arrow"))) == (index + 1) // 5 + num_small
    assert_whole(tmp_path)
    assert [len(shard.image_ids) for shard in RegionStore(tmp_path)._shards] == [5, 2]


def test_a_batch_is_never_split_over_small_shards(tmp_path: Path) -> None:
    with RegionStoreWriter(tmp_path, fingerprint=FINGERPRINT, images_per_shard=6, images_at_risk=2) as writer:
        for indices in ([0, 1, 2], [3], [4], [5, 6]):
            writer.append(*batch_of(indices))
        assert len(list(tmp_path.glob("*.arrow"))) == 1
    assert_whole(tmp_path)


def remove_and_die(folder: Path, *, call: int) -> None:
    """In a child process: appends images 0..6 and is killed before the given removal of a small shard."""
    unlink, calls = Path.unlink, 0

    def unlink_and_die(path: Path, **options: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == call:
            os.kill(os.getpid(), signal.SIGKILL)
        unlink(path, **options)

    Path.unlink = unlink_and_die  # type: ignore
    append_the_rest(folder, images_per_shard=4, images_at_risk=1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("call", range(1, 6))
def test_a_kill_among_the_small_shards_leaves_none_behind(tmp_path: Path, call: int) -> None:
    assert in_a_child(remove_and_die, tmp_path, call=call) == -signal.SIGKILL
    assert len(RegionStore(tmp_path)) == (4 if call <= 3 else 7)  # three small ones make way for a full one, twice
    append_the_rest(tmp_path, **SMALL_SHARDS)
    assert_whole(tmp_path)


ENDLESS_WRITER = """
import sys, torch
from training.regions.store import RegionStoreWriter
with RegionStoreWriter(sys.argv[1], fingerprint={"backbone": "none"}, images_per_shard=3) as writer:
    while True:
        number = len(writer.done_ids)
        regions = {"region_features": torch.full((1, 8, 512), number % 1000), "region_boxes": torch.zeros(1, 8, 4)}
        writer.append([str(number)], regions)
        print(number, flush=True)
"""


def test_a_kill_from_outside_loses_at_most_the_unfinished_shard(tmp_path: Path) -> None:
    command = [sys.executable, "-c", ENDLESS_WRITER, str(tmp_path)]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        while int(child.stdout.readline()) < 8:
            pass
        time.sleep(0.05)
        child.kill()
        last = max([8, *map(int, child.stdout.read().split())])
    store = RegionStore(tmp_path)
    assert last - 3 <= len(store) <= last + 4
    assert store.image_ids == [str(number) for number in range(len(store))]
    for number in range(len(store)):
        assert (store.batch([number])["region_features"] == number % 1000).all()
    with RegionStoreWriter(tmp_path, fingerprint={"backbone": "none"}) as writer:
        assert len(writer.done_ids) == len(store)
