"""Region files as other projects write them, made by hand: the referee of the readers, which shares no code with them.

Images have 3, 1, 5 and 2 regions of width 8 (or equally many), boxes in pixels, LXMERT's class ids from 0.
"""

import base64
import contextlib
import csv
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from training.regions.formats.base import RegionFile

COUNTS = (3, 1, 5, 2)
WIDTH = 8


@dataclass
class ForeignImage:
    """An image as the detector's script has it before it writes."""

    image_id: str
    height: int
    width: int
    boxes: np.ndarray  # (R, 4) float32, pixels
    features: np.ndarray  # (R, D) float32
    objects: np.ndarray  # (R,) int64 from 0
    object_scores: np.ndarray
    attributes: np.ndarray
    attribute_scores: np.ndarray

    @property
    def scaled_boxes(self) -> np.ndarray:
        return self.boxes / np.array([self.width, self.height, self.width, self.height], dtype=np.float32)


def foreign_images(counts: tuple[int, ...] = COUNTS, *, width: int = WIDTH) -> list[ForeignImage]:
    """One image a count, of unlike sizes; every number follows from a seed."""
    draw = np.random.default_rng(0)
    images = []
    for number, count in enumerate(counts):
        height, image_width = 300 + number, 400 - number
        corners = draw.random((count, 4), dtype=np.float32) / 2 + np.array([0, 0, 0.5, 0.5], dtype=np.float32)
        images.append(
            ForeignImage(
                image_id=str(1000 + number),
                height=height,
                width=image_width,
                boxes=corners * np.array([image_width, height] * 2, dtype=np.float32),
                features=draw.standard_normal((count, width)).astype(np.float32),
                objects=draw.integers(0, 1600, count),
                object_scores=draw.random(count, dtype=np.float32),
                attributes=draw.integers(0, 400, count),
                attribute_scores=draw.random(count, dtype=np.float32),
            )
        )
    return images


def in_base64(array: np.ndarray) -> str:
    return base64.b64encode(array.tobytes()).decode()


def bua_row(image: ForeignImage) -> list[Any]:
    return [
        image.image_id,
        image.width,
        image.height,
        len(image.boxes),
        in_base64(image.boxes),
        in_base64(image.features),
    ]


def lxmert_row(image: ForeignImage) -> list[Any]:
    ids = [image.objects, image.object_scores, image.attributes, image.attribute_scores]
    start = [image.image_id, image.height, image.width, *map(in_base64, ids), len(image.boxes)]
    return [*start, in_base64(image.boxes), in_base64(image.features)]


def write_rows(path: Path, rows: list[list[Any]]) -> Path:
    """As csv.DictWriter does it in the original scripts: tabs, CR LF, no header."""
    with open(path, "w", newline="") as file:
        csv.writer(file, delimiter="\t").writerows(rows)
    return path


def six_numbers(image: ForeignImage) -> np.ndarray:
    boxes = image.scaled_boxes
    return np.concatenate([boxes, boxes[:, 2:] - boxes[:, :2]], axis=1)


def prediction(image: ForeignImage) -> dict[str, Any]:
    objects = [
        {
            "rect": image.boxes[region].tolist(),
            "bbox_id": region,
            "class": f"object {image.objects[region] + 1}",
            "conf": float(image.object_scores[region]),
            "attributes": ["weak", f"attribute {image.attributes[region] + 1}"],
            "attr_scores": [0.0, float(image.attribute_scores[region])],
        }
        for region in range(len(image.boxes))
    ]
    return {"image_h": image.height, "image_w": image.width, "num_boxes": len(objects), "objects": objects}


def vinvl_labels(path: Path) -> Path:
    """A label file in which every id of 1,600 objects and 400 attributes has a name."""
    objects = {f"object {index}": index for index in range(1, 1601)}
    attributes = {f"attribute {index}": index for index in range(1, 401)} | {"weak": 401}
    path.write_text(json.dumps({"label_to_idx": objects, "attribute_to_idx": attributes}))
    return path


def write_lines(path: Path, rows: Sequence[tuple[str, ...]]) -> None:
    """A TSV and the byte offsets of its lines."""
    lines = ["\t".join(row) + "\n" for row in rows]
    path.write_text("".join(lines))
    offsets = np.cumsum([0, *(len(line.encode()) for line in lines[:-1])])
    path.with_suffix(".lineidx").write_text("".join(f"{offset}\n" for offset in offsets))


def write_vinvl(folder: Path, images: list[ForeignImage], *, columns: int = 2, box_numbers: bool = True) -> Path:
    folder.mkdir()
    rows = []
    for image in images:
        features = np.concatenate([image.features, six_numbers(image)], axis=1) if box_numbers else image.features
        record = {"num_boxes": len(image.boxes), "features": in_base64(features)}
        last = (json.dumps(record),) if columns == 2 else (str(record["num_boxes"]), str(record["features"]))
        rows.append((image.image_id, *last))
    write_lines(folder / "features.tsv", rows)
    # another order than the features', as two runs may leave it
    write_lines(folder / "predictions.tsv", [(one.image_id, json.dumps(prediction(one))) for one in images[::-1]])
    return folder


def write_hdf5(path: Path, images: list[ForeignImage]) -> Path:
    """hengyuan-hu's layout for equal counts, ban-vqa's with pos_boxes else; with the JSON twin of the index."""
    import h5py

    even = len({len(image.boxes) for image in images}) == 1
    join = np.stack if even else np.concatenate
    with h5py.File(path, "w") as file:
        file["image_features"] = join([image.features for image in images])
        file["image_bb"] = join([image.boxes for image in images])
        file["spatial_features"] = join([six_numbers(image) for image in images])
        if not even:
            ends = np.cumsum([len(image.boxes) for image in images])
            starts = np.concatenate([[0], ends[:-1]])
            file["pos_boxes"] = np.stack([starts, ends], axis=1).astype(np.int32)
    index = {image.image_id: row for row, image in enumerate(images)}
    path.with_name(f"{path.stem}_imgid2idx.json").write_text(json.dumps(index))
    return path


def write_lmdb(folder: Path, records: dict[str, bytes]) -> Path:
    import lmdb

    environment = lmdb.open(str(folder), map_size=2**24)
    with environment.begin(write=True) as writing:
        for key, value in records.items():
            writing.put(key.encode(), value)
    environment.close()
    return folder


def damaged(content: bytes, seed: int) -> bytes:
    """The bytes with a few of them changed, cut out, put in or moved."""
    draw = random.Random(seed)
    changed = bytearray(content)
    for _ in range(draw.choice([1, 1, 2, 5, 20])):
        place, kind = draw.randrange(len(changed)), draw.randrange(4)
        if kind == 0:
            changed[place] = draw.randrange(256)
        elif kind == 1:
            del changed[place : place + draw.randrange(1, 30)]
        elif kind == 2:
            changed[place:place] = draw.choice([b"9", b"(", b"{", b"\t", b"-1", b"1e9", b"null", b"\0", b"[]", b"nan"])
        else:
            changed[place : place + 8] = changed[-8:]
    return bytes(changed)


def every_image_or_value_error(file: RegionFile) -> None:
    """Any other exception fails the test."""
    for entry in file.entries():
        with contextlib.suppress(ValueError):
            file.image(entry)


def assert_image(image: dict[str, np.ndarray], expected: ForeignImage, *, classes: bool = False) -> None:
    """What was read is what was written: features to the bit, boxes to float32, LXMERT's ids plus 1."""
    assert np.array_equal(image["region_features"], expected.features)
    assert np.abs(image["region_boxes"] - expected.scaled_boxes).max() < 2e-7
    assert image["image_size"].tolist() == [expected.height, expected.width]
    if classes:
        assert np.array_equal(image["object_ids"], expected.objects + 1)
        assert np.array_equal(image["attribute_ids"], expected.attributes + 1)
        assert np.abs(image["region_scores"] - expected.object_scores).max() < 1e-7
        assert np.abs(image["attribute_scores"] - expected.attribute_scores).max() < 1e-7
