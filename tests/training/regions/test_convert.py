"""Files of other projects into a region store and out again: every format both ways, resuming, broken rows."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from tests.shared_files import shared
from tests.training.regions.formats import foreign
from tests.training.regions.formats.foreign import (
    ForeignImage,
    bua_row,
    foreign_images,
    in_base64,
    lxmert_row,
    write_rows,
)
from training.regions.convert import Conversion, convert_region_files, export_region_files
from training.regions.formats import FORMATS, guess_format, open_region_file
from training.regions.formats.sidecar import Sidecar, read_labels
from training.regions.store import RegionStore, RegionStoreWriter

REPOSITORY = Path(__file__).resolve().parents[3]
IMAGES = foreign_images()
FLOAT_TYPES = [torch.float16, torch.float32]


def full_store(folder: Path, *, dtype: torch.dtype, counts: tuple[int, ...] = foreign.COUNTS) -> RegionStore:
    """A store with every column, of images whose numbers follow from a seed."""
    with RegionStoreWriter(folder, fingerprint={"backbone": "none"}, feature_dtype=dtype) as writer:
        for image in foreign_images(counts):
            probs = np.random.default_rng(len(image.boxes)).dirichlet(np.ones(4), len(image.boxes))
            columns = {
                "region_features": image.features,
                "region_boxes": image.scaled_boxes,
                "region_scores": image.object_scores,
                "object_probs": probs,
                "object_ids": image.objects + 1,
                "attribute_ids": image.attributes + 1,
                "attribute_scores": image.attribute_scores,
                "image_size": np.array([image.height, image.width]),
            }
            writer.append([image.image_id], {name: value[None] for name, value in columns.items()})
    return RegionStore(folder)


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Sidecar:
    """Names of all ids, for VinVL."""
    return Sidecar(labels=read_labels(foreign.vinvl_labels(tmp_path_factory.mktemp("labels") / "labels.json")))


@pytest.mark.parametrize("dtype", FLOAT_TYPES, ids=str)
@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("counts", [foreign.COUNTS, (3, 3, 3)], ids=["uneven", "even"])
def test_out_of_a_store_and_in_again(
    tmp_path: Path, labels: Sidecar, name: str, dtype: torch.dtype, counts: tuple[int, ...]
) -> None:
    """Features come back to the bit, boxes to float32, and every column that the format says it keeps."""
    store = full_store(tmp_path / "store", dtype=dtype, counts=counts)
    output = tmp_path / f"out.{name}"
    lost = export_region_files(store.folder, output=output, format=name, sidecar=labels)
    assert set(lost) == set(store.column_names) - {"region_features", "region_boxes", *FORMATS[name].keeps}
    assert guess_format(output) == name
    done = convert_region_files(output, output=tmp_path / "again", sidecar=labels, feature_dtype=dtype)
    assert (done.num_added, done.broken) == (len(counts), [])
    again = RegionStore(tmp_path / "again")
    assert again.image_ids == store.image_ids
    assert set(again.column_names) == set(store.column_names) - set(lost)
    for image_id in store.image_ids:
        before, after = store[image_id], again[image_id]
        assert torch.equal(after["region_features"], before["region_features"])
        assert torch.allclose(after["region_boxes"], before["region_boxes"], atol=1e-6, rtol=0)
        assert after["image_size"].tolist() == before["image_size"].tolist()
        for column in set(after) - {"region_features", "region_boxes", "region_mask"}:
            assert torch.equal(after[column], before[column]), column


def write_npz_folder(folder: Path, images: list[ForeignImage]) -> Path:
    folder.mkdir()
    for image in images:
        sides: dict[str, Any] = {"image_h": image.height, "image_w": image.width}
        np.savez(folder / image.image_id, x=image.features, bbox=image.boxes, num_bbox=len(image.boxes), **sides)
    return folder


def write_foreign(name: str, path: Path) -> Path:
    """All images in a format, as the other project would have written them."""
    rows = {"tsv": bua_row, "lxmert-tsv": lxmert_row}
    if name in rows:
        return write_rows(path, [rows[name](image) for image in IMAGES])
    writers = {"vinvl-tsv": foreign.write_vinvl, "npz": write_npz_folder, "hdf5": foreign.write_hdf5}
    return writers[name](path, IMAGES)


@pytest.mark.parametrize("name", ["tsv", "lxmert-tsv", "vinvl-tsv", "npz", "hdf5"])
def test_into_a_store_and_out_again(tmp_path: Path, labels: Sidecar, name: str) -> None:
    """Through a store in float32, a foreign file comes out with the numbers it went in with."""
    source = write_foreign(name, tmp_path / "source")
    convert_region_files(source, output=tmp_path / "store", sidecar=labels, feature_dtype=torch.float32)
    export_region_files(tmp_path / "store", output=tmp_path / "out", format=name, sidecar=labels)
    files = [open_region_file(path, format=name, sidecar=labels) for path in (source, tmp_path / "out")]
    for before, after in zip(*(file.entries() for file in files), strict=True):
        assert before.image_id == after.image_id
        images = [files[0].image(before), files[1].image(after)]
        assert set(images[0]) == set(images[1])
        for column in images[0]:
            tolerance = 1e-6 if column == "region_boxes" else 0
            assert np.abs(images[0][column] - images[1][column]).max() <= tolerance, column


@pytest.mark.parametrize(("name", "prefix"), [("features_bua.tsv", "tsv."), ("features_lxmert.tsv", "tsv_lxmert.")])
@pytest.mark.parametrize("dtype", FLOAT_TYPES, ids=str)
def test_the_references_files_come_out_of_the_store(tmp_path: Path, name: str, prefix: str, dtype: torch.dtype) -> None:
    golden = load_file(shared("golden/reference/bua_caffe.safetensors"))
    convert_region_files(shared(f"golden/reference/{name}"), output=tmp_path, feature_dtype=dtype)
    store = RegionStore(tmp_path)
    for number, image_id in enumerate(store.image_ids):
        image = store[image_id]
        height, width = image["image_size"].tolist()
        expected = torch.from_numpy(golden[f"{prefix}{number}.features"])
        assert torch.equal(image["region_features"], expected.to(dtype))
        pixels = image["region_boxes"] * torch.tensor([width, height] * 2)
        assert torch.allclose(pixels, torch.from_numpy(golden[f"{prefix}{number}.boxes"]), atol=1e-4, rtol=0)
        if prefix == "tsv_lxmert.":
            assert np.array_equal(image["object_ids"] - 1, golden[f"{prefix}{number}.objects_id"])


def test_broken_rows_are_listed_and_the_rest_converted(tmp_path: Path) -> None:
    nan = IMAGES[1].features * np.float32(np.nan)
    rows = [
        bua_row(IMAGES[0]),
        bua_row(IMAGES[1])[:5],
        [*bua_row(IMAGES[1])[:5], in_base64(nan)],
        bua_row(IMAGES[1]),
        bua_row(IMAGES[0]),
        [*bua_row(IMAGES[2])[:5], in_base64(IMAGES[2].features[:, :7])],
        [*bua_row(IMAGES[2])[:5], in_base64(IMAGES[2].features * np.float32(1e6))],
        bua_row(IMAGES[3]),
    ]
    first = write_rows(tmp_path / "a.tsv", rows)
    second = write_rows(tmp_path / "b.tsv", [bua_row(IMAGES[3]), bua_row(IMAGES[2])])
    done = convert_region_files([first, second], output=tmp_path / "store")
    assert [line.split(": ")[0].removeprefix(f"{tmp_path}/") for line in done.broken] == [
        *(f"a.tsv, line {line}" for line in (2, 3, 5, 6, 7)),
        "b.tsv, line 1",
    ]
    for line, message in zip(
        done.broken,
        [
            "it has 5 columns",
            "region_features of region 0 hold NaN",
            f"image '1000' occurred before, at {first}, line 1",
            "these images have {'region_features': 7,",
            "beyond float16",
            f"image '1003' occurred before, at {first}, line 8",
        ],
        strict=True,
    ):
        assert message in line
    assert (done.num_added, done.num_existing, done.num_images) == (4, 0, 10)
    assert RegionStore(tmp_path / "store").image_ids == ["1000", "1001", "1003", "1002"]


def odd_npz(folder: Path, name: bytes, **changes: Any) -> None:
    image = IMAGES[0]
    arrays = {"x": image.features, "bbox": image.boxes, "image_h": image.height, "image_w": image.width} | changes
    with open(os.path.join(os.fsencode(folder), name), "wb") as file:
        np.savez(file, **arrays)


def test_odd_records_are_listed_in_every_format(tmp_path: Path) -> None:
    """Numbers of another kind, nothing where a number belongs, an id that is no text."""
    folder = tmp_path / "npz"
    folder.mkdir()
    odd_npz(folder, b"good.npz")
    odd_npz(folder, b"boxes.npz", bbox=np.float32(3))
    odd_npz(folder, b"ids.npz", object_ids=np.array(["a", "b", "c"]))
    odd_npz(folder, b"scores.npz", conf=np.ones(3, dtype=np.longdouble))
    odd_npz(folder, b"times.npz", conf=np.array([1, 2, 3], dtype="M8[s]"))
    odd_npz(folder, b"count.npz", num_bbox=np.inf)
    odd_npz(folder, b"name\xff.npz")
    vinvl = foreign.write_vinvl(tmp_path / "vinvl", IMAGES)
    lines = (vinvl / "features.tsv").read_text().splitlines(keepends=True)
    odd = ['x\t{"num_boxes": 1, "features": null}\n', 'y\t{"num_boxes": Infinity, "features": "AAAA"}\n', "z\t[]\n"]
    (vinvl / "features.tsv").write_text("".join([*lines[:1], *odd, *lines[1:]]))
    for source, num_good, num_odd in ((folder, 1, 6), (vinvl, 4, 3)):
        done = convert_region_files(source, output=tmp_path / f"{source.name}-store")
        assert (done.num_added, len(done.broken)) == (num_good, num_odd), done.broken


def test_it_goes_on_where_it_stopped_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [bua_row(image) for image in IMAGES]
    path = write_rows(tmp_path / "val.tsv", rows[:2])
    assert convert_region_files(path, output=tmp_path / "store") == Conversion(num_added=2)
    write_rows(path, rows)
    assert convert_region_files(path, output=tmp_path / "store") == Conversion(num_added=2, num_existing=2)
    assert RegionStore(tmp_path / "store").fingerprint == {"converted_from": "tsv"}
    shown = capsys.readouterr().err
    assert f"regions -> {tmp_path / 'store'}: 100%" in shown and "4 images, " in shown and " images/s" in shown
    with pytest.raises(ValueError, match="has another fingerprint .*made_by"):
        convert_region_files(path, output=tmp_path / "store", fingerprint={"made_by": "resnet101"})


KILLED = """
import sys
import training.regions.convert as conversion

append = conversion.batch_of_one

def append_when_told(image):
    sys.stdin.readline()
    return append(image)

conversion.batch_of_one = append_when_told
conversion.convert_region_files(sys.argv[1], output=sys.argv[2], images_per_shard=3)
"""


def test_a_killed_conversion_loses_only_what_was_waiting(tmp_path: Path) -> None:
    """SIGKILL in the middle; the next run ends with the store of a run that was never killed."""
    path = write_rows(tmp_path / "train.tsv", [bua_row(image) for image in foreign_images((4,) * 60)])
    command = [sys.executable, "-c", KILLED, str(path), str(tmp_path / "store")]
    with subprocess.Popen(command, cwd=REPOSITORY, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        assert child.stdin is not None
        child.stdin.write(b"\n" * 20)
        child.stdin.flush()
        while not (tmp_path / "store" / "shard-0-00005.arrow").exists():  # the sixth: 18 images
            assert child.poll() is None
            time.sleep(0.01)
        os.kill(child.pid, signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL
    num_existing = len(RegionStore(tmp_path / "store"))
    assert num_existing in (15, 18)  # the manifest may not have named the sixth shard yet
    done = convert_region_files(path, output=tmp_path / "store")
    assert done == Conversion(num_added=60 - num_existing, num_existing=num_existing)
    convert_region_files(path, output=tmp_path / "whole")
    killed, whole = RegionStore(tmp_path / "store"), RegionStore(tmp_path / "whole")
    assert killed.image_ids == whole.image_ids
    assert torch.equal(killed.batch(range(60))["region_features"], whole.batch(range(60))["region_features"])


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """Of a file of 16 MB no more than a few images are ever held."""
    import tracemalloc

    images = foreign_images((30,) * 4, width=2048)
    rows = [[f"{number}", *bua_row(images[number % 4])[1:]] for number in range(48)]
    path = write_rows(tmp_path / "train.tsv", rows)
    del rows
    assert path.stat().st_size > 15e6
    tracemalloc.start()
    convert_region_files(path, output=tmp_path / "store", images_per_shard=8)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5e6


def test_a_last_row_cut_at_any_byte_is_no_image(tmp_path: Path) -> None:
    """Either it cannot be decoded or its features are too narrow, which the store refuses."""
    path = write_rows(tmp_path / "val.tsv", [bua_row(image) for image in foreign_images((2, 3))])
    content = path.read_bytes()
    narrow = []
    for length in range(content.index(b"\n") + 2, len(content) - 2):
        path.write_bytes(content[:length])
        file = open_region_file(path, format="tsv")
        first, last = file.entries()
        assert file.image(first)["region_features"].shape == (2, 8)
        try:
            width = file.image(last)["region_features"].shape[1]
        except ValueError:
            continue
        assert width < 8
        narrow.append(length)
    assert narrow
    path.write_bytes(content[: narrow[-1]])
    done = convert_region_files(path, output=tmp_path / "store")
    assert done.num_added == 1 and len(done.broken) == 1 and "val.tsv, line 2: these images have" in done.broken[0]


def test_several_files_of_one_format_only(tmp_path: Path) -> None:
    paths = [write_foreign(name, tmp_path / f"val.{name}") for name in ("tsv", "lxmert-tsv")]
    with pytest.raises(ValueError, match=r"these files are of several formats \(lxmert-tsv, tsv\)"):
        convert_region_files(paths, output=tmp_path / "store")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: folder / "none.tsv", "there is no file or folder"),
        (lambda folder: folder, "is of no format of region files known here"),
        (lambda folder: folder / "notes.txt", "is of no format of region files known here"),
    ],
)
def test_sources_of_no_known_format(tmp_path: Path, make: Any, message: str) -> None:
    (tmp_path / "notes.txt").write_text("no regions")
    with pytest.raises(ValueError, match=message):
        convert_region_files(make(tmp_path), output=tmp_path / "store")
    with pytest.raises(ValueError, match="unknown format 'caffe' of region files; known are tsv, lxmert-tsv"):
        convert_region_files(tmp_path, output=tmp_path / "store", format="caffe")
    assert not (tmp_path / "store").exists()


def test_an_export_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    with RegionStoreWriter(tmp_path / "store", fingerprint={}) as writer:
        for image in IMAGES:
            regions = {"region_features": image.features[None], "region_boxes": image.scaled_boxes[None]}
            size = {} if image is IMAGES[2] else {"image_size": np.array([[image.height, image.width]])}
            writer.append([image.image_id], regions | size)
    for name in FORMATS:
        output = tmp_path / "out"
        with pytest.raises(ValueError, match=r"store, image '100.': the store (does not have the image's|holds no)"):
            export_region_files(tmp_path / "store", output=output, format=name)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["store"], name
    sizes = Sidecar(sizes={"1002": (IMAGES[2].height, IMAGES[2].width)})
    (tmp_path / ".out.partial").write_text("of an export that was killed")
    export_region_files(tmp_path / "store", output=tmp_path / "out", format="tsv", sidecar=sizes)
    convert_region_files(tmp_path / "out", output=tmp_path / "again")
    assert RegionStore(tmp_path / "again").image_sizes.tolist() == [[p.height, p.width] for p in IMAGES]
    with pytest.raises(ValueError, match="out exists: remove it, or write to another place"):
        export_region_files(tmp_path / "store", output=tmp_path / "out", format="tsv")
    with pytest.raises(ValueError, match="unknown format 'caffe'"):
        export_region_files(tmp_path / "store", output=tmp_path / "other", format="caffe")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "holds no object_ids, region_scores, attribute_ids, attribute_scores, which lxmert-tsv needs"),
        ({"object_ids": 0, "attribute_ids": 1}, "region 0 is background, for which lxmert-tsv has no number"),
        ({"object_ids": 1, "attribute_ids": 0}, "region 0 is without an attribute"),
    ],
)
def test_what_lxmerts_file_cannot_say(tmp_path: Path, changes: dict[str, int], message: str) -> None:
    image = IMAGES[0]
    columns = {"region_features": image.features, "region_boxes": image.scaled_boxes}
    if changes:
        columns |= {name: np.full(3, value) for name, value in changes.items()}
        columns |= {"region_scores": image.object_scores, "attribute_scores": image.attribute_scores}
    with RegionStoreWriter(tmp_path / "store", fingerprint={}) as writer:
        size = {"image_size": np.array([[image.height, image.width]])}
        writer.append(["a"], {name: value[None] for name, value in columns.items()} | size)
    with pytest.raises(ValueError, match=f"image 'a': .*{message}"):
        export_region_files(tmp_path / "store", output=tmp_path / "out.tsv", format="lxmert-tsv")


def test_classes_follow_from_probabilities(tmp_path: Path) -> None:
    """What a detector's own store holds is enough for LXMERT's file: the best class beside background."""
    image = IMAGES[0]
    object_probs = np.array([[0.7, 0.1, 0.2], [0.0, 0.9, 0.1], [0.2, 0.3, 0.5]], dtype=np.float32)
    attribute_probs = np.array([[0.9, 0.1], [0.5, 0.5], [0.0, 1.0]], dtype=np.float32)
    columns = {
        "region_features": image.features,
        "region_boxes": image.scaled_boxes,
        "object_probs": object_probs,
        "attribute_probs": attribute_probs,
        "image_size": np.array([image.height, image.width]),
    }
    with RegionStoreWriter(tmp_path / "store", fingerprint={}) as writer:
        writer.append(["a"], {name: value[None] for name, value in columns.items()})
    export_region_files(tmp_path / "store", output=tmp_path / "out.tsv", format="lxmert-tsv")
    file = open_region_file(tmp_path / "out.tsv")
    read = file.image(next(file.entries()))
    assert read["object_ids"].tolist() == [2, 1, 2] and read["attribute_ids"].tolist() == [1, 1, 1]
    assert np.allclose(read["region_scores"], [0.2, 0.9, 0.5], atol=1e-3)


def test_vinvls_index_files_point_at_their_lines(tmp_path: Path) -> None:
    store = full_store(tmp_path / "store", dtype=torch.float32)
    export_region_files(store.folder, output=tmp_path / "out", format="vinvl-tsv")
    rows = json.loads((tmp_path / "out" / "imageid2idx.json").read_text())
    for name in ("features", "predictions"):
        content = (tmp_path / "out" / f"{name}.tsv").read_bytes()
        offsets = [int(line) for line in (tmp_path / "out" / f"{name}.lineidx").read_text().splitlines()]
        for image_id, row in rows.items():
            assert content[offsets[row] :].split(b"\t")[0].decode() == image_id
