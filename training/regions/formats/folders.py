"""Folders with one .npz or .npy file per image, and the names that other projects give to the arrays in them.

`npz`: ID.npz with features and boxes. Arrays are found under the names of MILVLG/bottom-up-attention.pytorch and
    OpenVQA (x, bbox, num_bbox, image_h, image_w; x may be D x R; `info` is a pickle and is not read), of UNITER
    (features, norm_bb in 0..1, conf, soft_labels), as plain features / feat and boxes, and as columns of a region
    store. They are written under MILVLG's names, the other columns under the store's own.

    Also ID.pth (or .pt) of tensors, as facebookresearch/grid-feats-vqa, extract_grid_feature.py, writes them: a map
    (1, D, H, W), whose H x W cells are the regions. A map in any of these files, (H, W, D) too, is read so if there are
    no boxes.

`att-box`: the folders of ruotianluo/self-critical.pytorch, scripts/make_bu_data.py: NAME_att/ID.npz with `feat` (R, D),
    NAME_box/ID.npy (R, 4) in pixels, NAME_fc/ID.npy, the mean of the features. The source is the folder NAME_att; the
    sizes of the images, which these files lack, come from `Sidecar.sizes`. Features may be ID.npy too. The writer makes
    the folders att, box and fc inside the output, and sizes.json, which the reader finds there.
"""

import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from modeling_updown.boxes_updown import grid_boxes
from training.regions.formats.arrays import NPY_MAGIC, NPZ_MAGIC, array_of_npy, arrays_of_npz, arrays_of_torch
from training.regions.formats.base import Entry, RegionFile
from training.regions.formats.record import (
    LONGEST_ROW,
    ImageRecord,
    checked_count,
    checked_ids,
    checked_size,
    file_name,
    image_size,
    normalised_boxes,
    pixel_boxes,
)
from training.regions.formats.sidecar import Sidecar, read_sizes

TENSOR_SUFFIXES = (".pth", ".pt")
SUFFIXES = (".npz", ".npy", *TENSOR_SUFFIXES)
SIZES_NAME = "sizes.json"
PICKLED_SUFFIX = "_info.npy"  # in folders of MMF
# a region store's column -> its names in other projects; the first one found is read
NAMES = {
    "region_features": ("region_features", "x", "features", "feature", "feat", "image_features"),
    "region_boxes": ("region_boxes", "bbox", "boxes", "norm_bb", "image_bb"),
    "region_scores": ("region_scores", "conf", "objects_conf"),
    "object_probs": ("object_probs", "soft_labels", "cls_prob"),
    "attribute_probs": ("attribute_probs", "attr_prob"),
    "object_ids": ("object_ids",),
    "attribute_ids": ("attribute_ids",),
    "attribute_scores": ("attribute_scores",),
    "num_boxes": ("num_bbox", "num_boxes"),
    "height": ("image_h", "img_h"),
    "width": ("image_w", "img_w"),
}
WANTED = frozenset(name for names in NAMES.values() for name in names)


class FolderFile(RegionFile):
    """The formats `npz` and `att-box`: one file per image, named by the image's id."""

    def __init__(self, path: Path, sidecar: Sidecar) -> None:
        super().__init__(path / "att" if (path / "att").is_dir() else path, sidecar)
        with os.scandir(self.path) as found:
            names = [file.name for file in found if file.name.endswith(SUFFIXES)]
        self.names = sorted(name for name in names if not name.endswith(PICKLED_SUFFIX))
        self.size = len(self.names)
        self.boxes_folder = sidecar.boxes or self._sibling_boxes()
        sizes = self.path.parent / SIZES_NAME
        self.sidecar_sizes = read_sizes(sizes) if self.path.name == "att" and sizes.is_file() else {}

    def entries(self) -> Iterator[Entry]:
        for number, name in enumerate(self.names, start=1):
            yield Entry(os.path.splitext(name)[0], str(self.path / name), self.path / name, number)

    def decode(self, entry: Entry) -> ImageRecord:
        is_tensors = entry.key.suffix in TENSOR_SUFFIXES
        arrays = (arrays_of_tensors if is_tensors else arrays_of_bytes)(read_bytes(entry.key))
        if self.boxes_folder and not any(name in arrays for name in NAMES["region_boxes"]):
            arrays["boxes"] = array_of_npy(read_bytes(self.boxes_folder / f"{entry.image_id}.npy"))
        return image_of_arrays(arrays, size=self.image_size(entry.image_id))

    def image_size(self, image_id: str) -> tuple[int, int] | None:
        return super().image_size(image_id) or self.sidecar_sizes.get(image_id)

    def _sibling_boxes(self) -> Path | None:
        """The folder NAME_box next to NAME_att, if it exists."""
        folder = self.path.with_name(self.path.name[: -len("att")] + "box")
        return folder if self.path.name.endswith("att") and folder.is_dir() else None


def read_bytes(path: Path) -> bytes:
    """An image's file; raises `ValueError` if it is absent or larger than an image can be."""
    try:
        with open(path, "rb") as file:
            content = file.read(LONGEST_ROW + 1)
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    if len(content) > LONGEST_ROW:
        raise ValueError(f"it is longer than {LONGEST_ROW} bytes, more than an image takes")
    return content


def arrays_of_bytes(content: bytes) -> dict[str, np.ndarray]:
    """The arrays of an .npz by name, or the array of an .npy as the features."""
    if content.startswith(NPY_MAGIC):
        return {"features": array_of_npy(content)}
    if content.startswith(NPZ_MAGIC):
        return arrays_of_npz(content, wanted=WANTED)
    raise ValueError("it is neither a .npz nor a .npy file")


def arrays_of_tensors(content: bytes) -> dict[str, np.ndarray]:
    """The arrays of a .pth by name, or its single tensor as the features."""
    return arrays_of_torch(content, wanted=WANTED)


def image_of_arrays(arrays: Mapping[str, Any], *, size: tuple[int, int] | None) -> ImageRecord:
    """Arrays under any of `NAMES` -> one image.

    Args:
        size: height and width in pixels, used if the arrays do not hold them.

    Raises:
        ValueError: if features or boxes are absent or do not fit each other.
    """
    names = {ours: next((name for name in foreign if name in arrays), None) for ours, foreign in NAMES.items()}
    found = {ours: np.asarray(arrays[name]) for ours, name in names.items() if name is not None}
    if "region_boxes" not in found and "region_features" in found and found["region_features"].ndim > 2:
        found["region_features"], found["region_boxes"] = cells_of_map(found["region_features"])
    if "region_features" not in found or "region_boxes" not in found:
        missing = "features" if "region_features" not in found else "boxes"
        cure = "; name the folder of their ID.npy with --boxes" if missing == "boxes" else ""
        raise ValueError(f"it holds no {missing}, only {', '.join(sorted(arrays)) or 'no known array'}{cure}")
    if {"height", "width"} <= set(found):
        size = checked_size(found.pop("height"), found.pop("width"))
    boxes = found["region_boxes"]
    if not boxes.ndim:
        raise ValueError(f"its boxes are {boxes.item()!r:.40}, not (regions, 4) numbers")
    boxes = boxes[:, :4] if names["region_boxes"] == "norm_bb" and boxes.ndim == 2 else boxes
    count = checked_count(found.pop("num_boxes", len(boxes)))
    image = {name: value[:count] for name, value in found.items() if name in NAMES and value.ndim}
    image["region_features"] = regions_first(found["region_features"], count)
    image["region_boxes"] = normalised_boxes(boxes[:count], size)
    for name in ("object_ids", "attribute_ids"):
        if name in image:
            image[name] = checked_ids(image[name], name=name)
    short = next((name for name, value in image.items() if len(value) < count), None)
    if short is not None:
        raise ValueError(f"it has {count} boxes but {len(image[short])} {short}")
    return image | ({"image_size": np.array(size, dtype=np.int32)} if size is not None else {})


def cells_of_map(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A map (1, D, H, W), (D, H, W) or (H, W, D), D the largest -> cells (H W, D) row by row, and boxes 0..1."""
    shape = features.shape
    cells = features[0] if features.ndim == 4 and len(features) == 1 else features
    if cells.ndim != 3 or sorted(cells.shape)[-1] == sorted(cells.shape)[-2] or cells.shape[1] == max(cells.shape):
        raise ValueError(f"its features {shape} are not a map (1, D, H, W) or (H, W, D), and it holds no boxes")
    if cells.shape[0] == max(cells.shape):
        cells = cells.transpose(1, 2, 0)
    height, width, channels = cells.shape
    checked_count(height * width)
    return cells.reshape(height * width, channels), grid_boxes(height, width).numpy()


def regions_first(features: np.ndarray, num_boxes: int) -> np.ndarray:
    """Features (R, D) of the first `num_boxes` boxes, transposed if given as (D, R); raises `ValueError` otherwise."""
    if features.ndim == 2 and len(features) != num_boxes and features.shape[1] == num_boxes:
        features = features.T
    if features.ndim != 2 or features.dtype.kind not in "fiu" or len(features) < num_boxes:
        raise ValueError(
            f"its features of shape {features.shape} and type {features.dtype} do not fit {num_boxes} boxes"
        )
    features = features[:num_boxes]
    return features if features.dtype in (np.float16, np.float32) else features.astype(np.float32)


def npz_of_image(image: ImageRecord) -> bytes:
    """One image as the bytes of an .npz with the names of the format `npz`."""
    height, width = image_size(image)
    others: dict[str, Any] = {
        name: image[name] for name in NAMES if name in image and name not in ("region_features", "region_boxes")
    }
    content = io.BytesIO()
    np.savez(
        content,
        x=image["region_features"].astype(np.float32),
        bbox=pixel_boxes(image),
        num_bbox=np.int64(len(image["region_boxes"])),
        image_h=np.int64(height),
        image_w=np.int64(width),
        **others,
    )
    return content.getvalue()


def write_npz(images: Iterable[tuple[str, ImageRecord]], output: Path) -> None:
    """Images -> a folder of the format `npz`."""
    output.mkdir()
    for image_id, image in images:
        (output / file_name(image_id, ".npz")).write_bytes(npz_of_image(image))


def write_att_box(images: Iterable[tuple[str, ImageRecord]], output: Path) -> None:
    """Images -> the folders att, box and fc of the format `att-box`."""
    folders = [output / name for name in ("att", "box", "fc")]
    for folder in folders:
        folder.mkdir(parents=True)
    att, box, fc = folders
    sizes: dict[str, tuple[int, int]] = {}
    for image_id, image in images:
        np.savez(att / file_name(image_id, ".npz"), feat=image["region_features"])
        np.save(box / file_name(image_id, ".npy"), pixel_boxes(image), allow_pickle=False)
        np.save(fc / file_name(image_id, ".npy"), image["region_features"].mean(axis=0), allow_pickle=False)
        sizes[image_id] = image_size(image)
    (output / SIZES_NAME).write_text(json.dumps(sizes), encoding="utf-8")
