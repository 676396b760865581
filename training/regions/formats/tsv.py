"""The TSV files of bottom-up attention, one image per line, no header, arrays as base64 of raw numbers.

`tsv` (peteanderson80/bottom-up-attention, tools/generate_tsv.py; the published 10-100 adaptive and 36 fixed features):
    image_id, image_w, image_h, num_boxes, boxes (float32, x1 y1 x2 y2 in pixels), features (float32)

`lxmert-tsv` (airsplay/lxmert and py-bottom-up-attention, FIELDNAMES of src/utils.py):
    img_id, img_h, img_w, objects_id, objects_conf, attrs_id, attrs_conf, num_boxes, boxes, features
    ids are int64 from 0 (airsplay removed the background), which are 1.. here; the rest is float32; boxes are in
    pixels, which are divided by img_w and img_h, as LXMERT does.

Variants that are read too: lines that end in CR LF (csv's default), a first line that names the columns, float64 boxes,
base64 wrapped in `b'...'` (Python 2 code run by Python 3), and features of half or double precision.
"""

import codecs
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np

from training.regions.formats.arrays import base64_array, base64_numbers, base64_text
from training.regions.formats.base import Entry, RegionFile
from training.regions.formats.record import (
    LONGEST_ROW,
    ImageRecord,
    checked_count,
    checked_ids,
    checked_size,
    image_size,
    normalised_boxes,
    pixel_boxes,
    with_classes,
)
from training.regions.formats.sidecar import Sidecar

BUA_COLUMNS = ("image_id", "image_w", "image_h", "num_boxes", "boxes", "features")
LXMERT_COLUMNS = (
    "img_id",
    "img_h",
    "img_w",
    "objects_id",
    "objects_conf",
    "attrs_id",
    "attrs_conf",
    "num_boxes",
    "boxes",
    "features",
)


class TsvFile(RegionFile):
    """One image per line, its id in the first column; the rest is read on request."""

    columns: ClassVar[tuple[str, ...]]

    def __init__(self, path: Path, sidecar: Sidecar) -> None:
        super().__init__(path, sidecar)
        self.size = path.stat().st_size
        self._file = open(path, "rb")  # noqa: SIM115  open as long as the reader lives

    def close(self) -> None:
        self._file.close()

    def entries(self) -> Iterator[Entry]:
        """Yield every line, of which only the id is decoded."""
        for number, start, line in lines_of(self.path):
            end = start + len(line)
            place = f"{self.path}, line {number}"
            if len(line) > LONGEST_ROW:
                too_long = f"the line is longer than {LONGEST_ROW} bytes, more than an image takes"
                yield Entry("", place, start, end, too_long)
                continue
            image_id = unquoted(line.partition(b"\t")[0]).decode("utf-8", "replace").strip()
            if number == 1 and image_id == self.columns[0]:
                continue  # a header
            fault = None if image_id else "it has no image id"
            yield Entry(image_id, place, (start, len(line)), end, fault)

    def fields(self, entry: Entry) -> list[bytes]:
        """The columns of an entry's line; raises `ValueError` for another number of columns."""
        start, length = entry.key
        self._file.seek(start)
        fields = [unquoted(field) for field in self._file.read(length).rstrip(b"\r\n").split(b"\t")]
        if len(fields) != len(self.columns):
            raise ValueError(
                f"it has {len(fields)} columns, not the {len(self.columns)} of {', '.join(self.columns)}; "
                "is the row cut short?"
            )
        return fields


class BuaTsv(TsvFile):
    """The format `tsv`."""

    columns = BUA_COLUMNS

    def decode(self, entry: Entry) -> ImageRecord:
        """Features, boxes and the image's size."""
        _, width, height, count, boxes, features = self.fields(entry)
        num_boxes = checked_count(count)
        size = checked_size(height.decode("ascii", "replace"), width.decode("ascii", "replace"))
        return {
            "region_features": self.features(features, rows=num_boxes),
            "region_boxes": normalised_boxes(base64_numbers(boxes, name="boxes", rows=num_boxes, width=4), size),
            "image_size": np.array(size, dtype=np.int32),
        }


class LxmertTsv(TsvFile):
    """The format `lxmert-tsv`."""

    columns = LXMERT_COLUMNS

    def decode(self, entry: Entry) -> ImageRecord:
        """All columns; ids are increased by 1, since 0 is background and "no attribute" here."""
        fields = dict(zip(self.columns, self.fields(entry), strict=True))
        num_boxes = checked_count(fields["num_boxes"])
        size = checked_size(fields["img_h"].decode("ascii", "replace"), fields["img_w"].decode("ascii", "replace"))
        boxes = base64_numbers(fields["boxes"], name="boxes", rows=num_boxes, width=4)
        ids = {
            name: base64_array(fields[name], name=name, dtype="<i8", rows=num_boxes, width=1)[:, 0]
            for name in ("objects_id", "attrs_id")
        }
        scores = {
            name: base64_numbers(fields[name], name=name, rows=num_boxes, width=1)[:, 0]
            for name in ("objects_conf", "attrs_conf")
        }
        return {
            "region_features": self.features(fields["features"], rows=num_boxes),
            "region_boxes": normalised_boxes(boxes, size),
            "region_scores": scores["objects_conf"],
            "object_ids": checked_ids(ids["objects_id"], name="objects_id") + 1,
            "attribute_ids": checked_ids(ids["attrs_id"], name="attrs_id") + 1,
            "attribute_scores": scores["attrs_conf"],
            "image_size": np.array(size, dtype=np.int32),
        }


def lines_of(path: Path) -> Iterator[tuple[int, int, bytes]]:
    """Yield (number from 1, start byte, line) of every line that is not blank.

    A byte order mark is skipped. A line longer than `LONGEST_ROW` is cut one byte after that length.
    """
    with open(path, "rb") as file:
        number, start = 0, 0
        while line := file.readline(LONGEST_ROW + 1):
            number += 1
            if number == 1 and line.startswith(codecs.BOM_UTF8):
                start, line = len(codecs.BOM_UTF8), line.removeprefix(codecs.BOM_UTF8)
            if line and not line.isspace():
                yield number, start, line
            while line[-1:] != b"\n" and (rest := file.readline(LONGEST_ROW)):
                line = rest
            start = file.tell()


def unquoted(field: bytes) -> bytes:
    """A field without csv's quotation marks."""
    return field[1:-1].replace(b'""', b'"') if field[:1] == field[-1:] == b'"' and len(field) > 1 else field


def write_bua_tsv(images: Iterable[tuple[str, ImageRecord]], output: Path) -> None:
    """Images -> one file of the format `tsv`."""
    with open(output, "w", encoding="utf-8", newline="") as file:
        for image_id, image in images:
            height, width = image_size(image)
            file.write(f"{tsv_id(image_id)}\t{width}\t{height}\t{len(image['region_boxes'])}\t")
            file.write(f"{base64_text(pixel_boxes(image), '<f4')}\t{base64_text(image['region_features'], '<f4')}\r\n")


def write_lxmert_tsv(images: Iterable[tuple[str, ImageRecord]], output: Path) -> None:
    """Images -> one file of the format `lxmert-tsv`; raises `ValueError` for regions without classes and attributes."""
    with open(output, "w", encoding="utf-8", newline="") as file:
        for image_id, image in images:
            height, width = image_size(image)
            classes = lxmert_classes(image)
            columns = [tsv_id(image_id), str(height), str(width), *classes, str(len(image["region_boxes"]))]
            columns += [base64_text(pixel_boxes(image), "<f4"), base64_text(image["region_features"], "<f4")]
            file.write("\t".join(columns) + "\r\n")


def lxmert_classes(image: ImageRecord) -> list[str]:
    """objects_id, objects_conf, attrs_id and attrs_conf in base64."""
    image = with_classes(image)
    needed = ("object_ids", "region_scores", "attribute_ids", "attribute_scores")
    lacking = [name for name in needed if name not in image]
    if lacking:
        raise ValueError(f"the store holds no {', '.join(lacking)}, which lxmert-tsv needs; write the format tsv")
    for name in ("object_ids", "attribute_ids"):
        if (image[name] < 1).any():
            none = {"object_ids": "background", "attribute_ids": "without an attribute"}[name]
            region = int((image[name] < 1).argmax())
            raise ValueError(f"region {region} is {none}, for which lxmert-tsv has no number")
    return [
        base64_text(image[name] - 1, "<i8") if name.endswith("_ids") else base64_text(image[name], "<f4")
        for name in needed
    ]


def tsv_id(image_id: str) -> str:
    """An id as a TSV field; raises `ValueError` for one that cannot be written unquoted."""
    if not image_id.strip() or set(image_id) & set("\t\r\n") or image_id != image_id.strip() or image_id[0] == '"':
        raise ValueError(f"image {image_id!r} cannot be the first field of a line")
    return image_id
