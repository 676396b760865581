"""Folders of one file an image: MILVLG's, UNITER's and plain .npz, ruotianluo's three folders, and broken ones."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.training.regions.formats.foreign import ForeignImage, assert_image, foreign_images, six_numbers
from training.regions.formats import open_region_file
from training.regions.formats.base import RegionFile
from training.regions.formats.record import ImageRecord, file_name
from training.regions.formats.sidecar import Sidecar

IMAGES = foreign_images()


def images_of(file: RegionFile) -> dict[str, ImageRecord]:
    return {entry.image_id: file.image(entry) for entry in file.entries()}


def milvlg(image: ForeignImage) -> dict[str, Any]:
    """What bottom-up-attention.pytorch saves, its pickled `info` included."""
    sides = {"image_h": image.height, "image_w": image.width}
    info = {"objects_id": image.objects, **sides}
    return {"x": image.features, "bbox": image.boxes, "num_bbox": len(image.boxes), "info": info, **sides}


def openvqa(image: ForeignImage) -> dict[str, Any]:
    """Features on their side."""
    return milvlg(image) | {"x": image.features.T}


def padded(image: ForeignImage) -> dict[str, Any]:
    """Rows of zeros behind the real ones."""
    return milvlg(image) | {
        "x": np.pad(image.features, ((0, 9), (0, 0))),
        "bbox": np.pad(image.boxes, ((0, 9), (0, 0))),
    }


def plain(image: ForeignImage) -> dict[str, Any]:
    return {"features": image.features.astype(np.float64), "boxes": image.boxes}


SIZES = Sidecar(sizes={image.image_id: (image.height, image.width) for image in IMAGES})


@pytest.mark.parametrize(
    ("arrays", "sidecar"), [(milvlg, Sidecar()), (openvqa, Sidecar()), (padded, Sidecar()), (plain, SIZES)]
)
def test_npz_of_other_projects(tmp_path: Path, arrays: Any, sidecar: Sidecar) -> None:
    for image in IMAGES:
        np.savez_compressed(tmp_path / f"{image.image_id}.npz", **arrays(image))
    (tmp_path / "1000_info.npy").write_bytes(b"a pickle of MMF, never opened")
    (tmp_path / "README").touch()
    read = images_of(open_region_file(tmp_path, sidecar=sidecar))
    assert list(read) == [image.image_id for image in IMAGES]
    for image in IMAGES:
        assert_image(read[image.image_id], image)


def test_uniters_npz_holds_boxes_in_0_1_and_soft_labels(tmp_path: Path) -> None:
    image = IMAGES[0]
    probs = np.random.default_rng(1).dirichlet(np.ones(5), 3).astype(np.float16)
    np.savez(
        tmp_path / "nlvr2_1000.npz",
        norm_bb=six_numbers(image).astype(np.float16),
        features=image.features.astype(np.float16),
        conf=image.object_scores,
        soft_labels=probs,
    )
    read = images_of(open_region_file(tmp_path))["nlvr2_1000"]
    assert np.array_equal(read["region_features"], image.features.astype(np.float16))
    assert np.array_equal(read["region_boxes"], six_numbers(image)[:, :4].astype(np.float16).astype(np.float32))
    assert np.array_equal(read["object_probs"], probs) and np.array_equal(read["region_scores"], image.object_scores)
    assert "image_size" not in read


@pytest.mark.parametrize("suffix", [".npz", ".npy"])
def test_ruotianluos_folders(tmp_path: Path, suffix: str) -> None:
    for name in ("att", "box", "fc"):
        (tmp_path / f"cocobu_{name}").mkdir()
    for image in IMAGES:
        if suffix == ".npz":
            np.savez_compressed(tmp_path / "cocobu_att" / image.image_id, feat=image.features)
        else:
            np.save(tmp_path / "cocobu_att" / image.image_id, image.features)
        np.save(tmp_path / "cocobu_box" / image.image_id, image.boxes)
        np.save(tmp_path / "cocobu_fc" / image.image_id, image.features.mean(0))
    read = images_of(open_region_file(tmp_path / "cocobu_att", sidecar=SIZES))
    for image in IMAGES:
        assert_image(read[image.image_id], image)
    with pytest.raises(ValueError, match="in pixels of an image whose size is not known: give --sizes"):
        images_of(open_region_file(tmp_path / "cocobu_att"))
    (tmp_path / "cocobu_box").rename(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="it holds no boxes, only .*; name the folder of their ID.npy with --boxes"):
        images_of(open_region_file(tmp_path / "cocobu_att", sidecar=SIZES))
    named = Sidecar(sizes=SIZES.sizes, boxes=tmp_path / "elsewhere")
    assert_image(images_of(open_region_file(tmp_path / "cocobu_att", sidecar=named))["1002"], IMAGES[2])


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".npz", ".npy"])
@pytest.mark.parametrize("shape", [(1, 6, 2, 3), (6, 2, 3), (2, 3, 6)])
def test_a_map_becomes_its_cells(tmp_path: Path, suffix: str, shape: tuple[int, ...]) -> None:
    """As grid-feats-vqa saves them: `torch.save(outputs.cpu(), "ID.pth")`."""
    grid = np.arange(36, dtype=np.float32).reshape(6, 2, 3)  # D, H, W
    grid = grid.transpose(1, 2, 0) if shape == (2, 3, 6) else grid.reshape(shape)
    path = tmp_path / f"42{suffix}"
    if suffix == ".npz":
        np.savez(path, feat=grid)
    elif suffix == ".npy":
        np.save(path, grid)
    else:
        torch.save(torch.from_numpy(grid.copy()), path)
    (read,) = images_of(open_region_file(tmp_path)).items()
    assert read[0] == "42"
    assert read[1]["region_features"][4].tolist() == [4, 10, 16, 22, 28, 34]  # row 1, column 1
    assert np.allclose(read[1]["region_boxes"][4], [1 / 3, 1 / 2, 2 / 3, 1])


def test_tensors_by_name_in_a_pth(tmp_path: Path) -> None:
    image = IMAGES[0]
    tensors = {"x": torch.from_numpy(image.features), "bbox": torch.from_numpy(image.boxes), "image_w": image.width}
    torch.save({**tensors, "image_h": torch.tensor(image.height), "other": "text"}, tmp_path / "1000.pth")
    torch.save(torch.ones(1, 4, 1, 2, dtype=torch.bfloat16), tmp_path / "b.pth")
    read = images_of(open_region_file(tmp_path))
    assert_image(read["1000"], image)
    assert read["b"]["region_features"].tolist() == [[1] * 4] * 2


class Loud:
    """Unpickling it fails the test."""

    def __reduce__(self) -> tuple[Any, ...]:
        return pytest.fail, ("a pickle was opened",)


def test_a_pth_that_is_no_tensor_is_not_opened(tmp_path: Path) -> None:
    torch.save(Loud(), tmp_path / "a.pth")
    torch.save(torch.zeros(1).expand(2**14, 2**14), tmp_path / "b.pth")
    torch.save(torch.zeros(4, 4, 4), tmp_path / "c.pth")
    torch.save([1, 2], tmp_path / "d.pth")
    (tmp_path / "e.pth").write_bytes(b"PK\x03\x04 cut short")
    file = open_region_file(tmp_path)
    messages = (
        "not a complete file of only tensors",
        "more than an image takes",
        "are not a map",
        "shape|boxes",
        "not a complete file",
    )
    for entry, message in zip(file.entries(), messages, strict=True):
        with pytest.raises(ValueError, match=message):
            file.image(entry)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": IMAGES[0].features[:2]}, r"features of shape \(2, 8\) .* do not fit 3 boxes"),
        ({"x": np.ones((7, 7, 8))}, r"features of shape \(7, 7, 8\)"),
        ({"x": np.array([["a"] * 8] * 3)}, "of type|type <U1"),
        ({"bbox": IMAGES[0].boxes[:2]}, r"it has 3 boxes but 2 region_boxes|2 boxes"),
        ({"bbox": IMAGES[0].boxes.ravel()}, r"its boxes have the shape \(3,\)"),
        ({"num_bbox": 4}, r"do not fit 4 boxes"),
        ({"num_bbox": "x"}, "its number of boxes is"),
        ({"image_w": 10}, "reaches outside an image of 10 x 300 pixels"),
        ({"image_w": 0}, "0 x 300 pixels are not the size"),
        ({"image_w": np.array([1, 2])}, "are not the size of an image"),
        ({"conf": np.ones(2)}, "it has 3 boxes but 2 region_scores"),
        ({"object_ids": np.array([1, -1, 2])}, "its object_ids go from -1 to 2"),
    ],
)
def test_arrays_that_contradict_each_other(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    np.savez(tmp_path / "a.npz", **(milvlg(IMAGES[0]) | changes))
    with pytest.raises(ValueError, match=message):
        images_of(open_region_file(tmp_path))


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"PK\x03\x04 cut short")
    (tmp_path / "b.npz").write_bytes(b"<html>not found</html>")
    (tmp_path / "c.npz").mkdir()
    file = open_region_file(tmp_path)
    faults = []
    for entry in file.entries():
        with pytest.raises(ValueError) as fault:
            file.image(entry)
        faults.append(str(fault.value).split(" (")[0])
    assert faults[:2] == ["it is not a complete .npz file", "it is neither a .npz nor a .npy file"]
    assert faults[2].startswith("cannot read")


@pytest.mark.parametrize("image_id", ["../a", "a/b", "", ".", "..", ".hidden", "a\0"])
def test_ids_that_are_no_file_names(image_id: str) -> None:
    with pytest.raises(ValueError, match="cannot be a file's name"):
        file_name(image_id, ".npz")
    assert file_name("dog.jpg", ".npz") == "dog.jpg.npz"
